import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("certification", "0033_error_groups")]

    operations = [
        migrations.CreateModel(
            name="NextAction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("routine", models.CharField(max_length=40, verbose_name="routine")),
                ("step", models.CharField(blank=True, max_length=100, verbose_name="step")),
                ("text", models.CharField(max_length=1000, verbose_name="action")),
                ("report", models.CharField(db_index=True, max_length=255)),
                ("opened_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="opened")),
                ("assigned_to", models.CharField(blank=True, max_length=254, verbose_name="assigned to")),
                ("done_at", models.DateTimeField(blank=True, null=True, verbose_name="done")),
                ("done_by", models.CharField(blank=True, max_length=254, verbose_name="done by")),
                ("note", models.CharField(blank=True, max_length=1000, verbose_name="note")),
            ],
            options={"verbose_name": "next action", "verbose_name_plural": "next actions", "ordering": ["opened_at", "pk"]},
        ),
        migrations.AddConstraint(
            model_name="nextaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("done_at", None), models.Q(("step", ""), _negated=True)),
                fields=("routine", "step"),
                name="one_open_action_per_step",
            ),
        ),
    ]
