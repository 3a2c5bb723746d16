from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("certification", "0034_next_actions")]

    operations = [
        migrations.CreateModel(
            name="CapacityDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=80)),
                ("day", models.DateField()),
                ("value", models.FloatField()),
            ],
            options={
                "indexes": [models.Index(fields=["day"], name="certificati_day_fce0f9_idx")],
                "constraints": [models.UniqueConstraint(fields=("name", "day"), name="one_row_per_figure_and_day")],
            },
        ),
    ]
