"""Each run bears the transaction that last changed its state, so that a reader can ask what changed since it last looked.
That a message is out for a waiting run is no change: a sweep's thousands of runs would all be told of at once.

Django does not know the column: the database alone writes it, whichever way a row is changed. See models/changes.py.
"""

from django.db import migrations

ADD = """
ALTER TABLE certification_certificationrun ADD COLUMN changed_in xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE FUNCTION certification_run_changed() RETURNS trigger AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_run_changed BEFORE UPDATE OF status ON certification_certificationrun
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'QUEUED') EXECUTE FUNCTION certification_run_changed();

CREATE INDEX certification_run_changed_idx ON certification_certificationrun (job_id, changed_in);
"""

REMOVE = """
DROP TRIGGER certification_run_changed ON certification_certificationrun;
DROP FUNCTION certification_run_changed();
ALTER TABLE certification_certificationrun DROP COLUMN changed_in;
"""


class Migration(migrations.Migration):
    dependencies = [("certification", "0009_indexes_for_the_api")]

    operations = [migrations.RunSQL(ADD, REMOVE)]
