from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0036_people'),
    ]

    operations = [
        migrations.CreateModel(
            name='TargetMinute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40)),
                ('at', models.DateTimeField()),
                ('good', models.FloatField(default=0)),
                ('total', models.FloatField(default=0)),
            ],
            options={
                'indexes': [
                    models.Index(fields=['name', 'at'], include=('good', 'total'), name='target_minutes'),
                    models.Index(fields=['at'], name='target_minutes_by_age'),
                ],
            },
        ),
        migrations.AddField(
            model_name='targetday',
            name='events',
            field=models.FloatField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='alertepisode',
            name='received_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='last received'),
        ),
    ]
