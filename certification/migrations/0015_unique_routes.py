"""What 0014 made true of routes holds from now on."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0014_one_row_per_model'),
    ]

    operations = [
        migrations.AlterField(
            model_name='route',
            name='kind',
            field=models.CharField(choices=[('ON_DEMAND', 'on demand'), ('INFERENCE_PROFILE', 'inference profile'), ('PROVISIONED', 'provisioned')], max_length=20, verbose_name='kind'),
        ),
        migrations.AddConstraint(
            model_name='route',
            constraint=models.UniqueConstraint(fields=('model', 'region', 'endpoint', 'api', 'target_id'), name='route_unique'),
        ),
    ]
