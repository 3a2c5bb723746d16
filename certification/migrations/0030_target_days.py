from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0029_failures_of_routines'),
    ]

    operations = [
        migrations.CreateModel(
            name='TargetDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40)),
                ('day', models.DateField()),
                ('good', models.FloatField(default=0)),
                ('total', models.FloatField(default=0)),
                ('seen_good', models.FloatField(default=0)),
                ('seen_total', models.FloatField(default=0)),
            ],
            options={
                'indexes': [models.Index(fields=['day'], name='certificati_day_772e16_idx')],
                'constraints': [models.UniqueConstraint(fields=('name', 'day'), name='one_row_per_target_and_day')],
            },
        ),
    ]
