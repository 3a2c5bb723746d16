"""A log of every change of a run's state, written by the database in the statement that makes the change: no statement
more, and none is missing, whichever way a run is changed. Only rows whose state changes cost anything; creating runs,
which a sweep does by the thousand, does not.

A worker sends a heartbeat every second. A run that goes back to the queue after a longer silence was taken from it.
"""

import django.db.models.deletion
from django.db import migrations, models

LOG = """
CREATE FUNCTION certification_run_logged() RETURNS trigger AS $$
BEGIN
    INSERT INTO certification_runevent (run_id, before, after, at, worker, attempt, reason, message)
    VALUES (
        NEW.id, OLD.status, NEW.status, clock_timestamp(),
        COALESCE(NULLIF(NEW.claimed_by, ''), OLD.claimed_by), GREATEST(OLD.attempt, NEW.attempt),
        CASE
            WHEN OLD.status = 'PROCESSING' AND NEW.status = 'PENDING' THEN CASE
                WHEN NEW.attempt < OLD.attempt THEN 'handed_back'
                WHEN OLD.heartbeat_at < statement_timestamp() - interval '5 seconds' THEN 'worker_lost'
                ELSE 'program_error'
            END
            ELSE COALESCE(NULLIF(NEW.error_reason, ''), NEW.verdict)
        END,
        left(NEW.error_message, 300)
    );
    RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_run_logged AFTER UPDATE OF status ON certification_certificationrun
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION certification_run_logged();

CREATE FUNCTION certification_runevent_is_final() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'Event % of run % cannot be changed.', OLD.id, OLD.run_id USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_runevent_is_final BEFORE UPDATE ON certification_runevent
FOR EACH ROW EXECUTE FUNCTION certification_runevent_is_final();
"""

FORGET = """
DROP TRIGGER certification_runevent_is_final ON certification_runevent;
DROP FUNCTION certification_runevent_is_final();
DROP TRIGGER certification_run_logged ON certification_certificationrun;
DROP FUNCTION certification_run_logged();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('certification', '0027_alert_channels'),
    ]

    operations = [
        migrations.CreateModel(
            name='RunEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('before', models.CharField(choices=[('PENDING', 'pending'), ('QUEUED', 'queued'), ('PROCESSING', 'processing'), ('COMPLETED', 'completed'), ('FAILED', 'failed'), ('CANCELLED', 'cancelled')], max_length=12, verbose_name='before')),
                ('after', models.CharField(choices=[('PENDING', 'pending'), ('QUEUED', 'queued'), ('PROCESSING', 'processing'), ('COMPLETED', 'completed'), ('FAILED', 'failed'), ('CANCELLED', 'cancelled')], max_length=12, verbose_name='after')),
                ('at', models.DateTimeField(verbose_name='at')),
                ('worker', models.CharField(blank=True, max_length=100, verbose_name='worker')),
                ('attempt', models.PositiveSmallIntegerField(verbose_name='attempt')),
                ('reason', models.CharField(blank=True, max_length=32, verbose_name='reason')),
                ('message', models.CharField(blank=True, max_length=300, verbose_name='message')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='certification.certificationrun', verbose_name='run')),
            ],
            options={
                'verbose_name': 'run event',
                'verbose_name_plural': 'run events',
                'ordering': ['pk'],
                'indexes': [models.Index(fields=['at'], name='certificati_at_982de8_idx')],
            },
        ),
        migrations.RunSQL(LOG, FORGET),
    ]
