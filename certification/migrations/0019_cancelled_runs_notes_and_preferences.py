"""Cancelled runs are counted by themselves; jobs have a note and users preferences."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# Until now they were counted among the other finished runs.
COUNT_CANCELLED = """
UPDATE certification_certificationjob AS job
SET cancelled_runs = cancelled.n, failed_runs = failed_runs - cancelled.n
FROM (
    SELECT job_id, count(*) AS n FROM certification_certificationrun
    WHERE status = 'CANCELLED' GROUP BY job_id
) AS cancelled
WHERE job.id = cancelled.job_id AND job.failed_runs >= cancelled.n;
SET CONSTRAINTS ALL IMMEDIATE;
"""
COUNT_AMONG_OTHERS = """
UPDATE certification_certificationjob
SET failed_runs = failed_runs + cancelled_runs, cancelled_runs = 0 WHERE cancelled_runs > 0;
SET CONSTRAINTS ALL IMMEDIATE;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0018_certificates'),
    ]

    operations = [
        migrations.AddField(
            model_name='certificationjob',
            name='cancelled_runs',
            field=models.PositiveIntegerField(default=0, verbose_name='cancelled runs'),
        ),
        migrations.AddField(
            model_name='certificationjob',
            name='note',
            field=models.CharField(blank=True, max_length=200, verbose_name='note'),
        ),
        migrations.RunSQL(COUNT_CANCELLED, COUNT_AMONG_OTHERS),
        migrations.RemoveConstraint(
            model_name='certificationjob',
            name='job_counts_within_total',
        ),
        migrations.AddConstraint(
            model_name='certificationjob',
            constraint=models.CheckConstraint(condition=models.Q(('total_runs__gte', models.F('succeeded_runs') + models.F('failed_runs') + models.F('cancelled_runs'))), name='job_counts_within_total'),
        ),
        migrations.CreateModel(
            name='Preference',
            fields=[
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='preference', serialize=False, to=settings.AUTH_USER_MODEL, verbose_name='user')),
                ('theme', models.CharField(choices=[('auto', 'as the system'), ('light', 'light'), ('dark', 'dark')], default='auto', max_length=5, verbose_name='theme')),
                ('enabled_models', models.JSONField(blank=True, default=list, verbose_name='enabled models')),
                ('region', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='certification.region', verbose_name='region')),
            ],
            options={
                'verbose_name': 'preference',
                'verbose_name_plural': 'preferences',
            },
        ),
    ]
