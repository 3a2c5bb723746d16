import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("certification", "0028_run_events")]

    operations = [
        migrations.AddField(
            "routinemark", "failed_at", models.DateTimeField("failed", blank=True, null=True)
        ),
        migrations.AddField(
            "routinemark", "fault", models.TextField("fault", blank=True, db_default="")
        ),
        migrations.AddField(
            "routinemark",
            "since",
            models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(), editable=False
            ),
        ),
    ]
