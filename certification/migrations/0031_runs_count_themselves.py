"""The database counts each run when it ends, in the transaction that ends it: totals are exact at any
time, and a million runs are counted once, here.

Each statement that inserts ended runs and each run that ends adds rows, so that no two transactions
wait for each other; a round of alerts folds them into one row of each kind.
"""

from django.db import migrations

KINDS = "status, verdict, tier, backend"
FIGURES = """count(*), count(*) FILTER (WHERE attempt > 1), coalesce(sum(calls), 0),
    coalesce(sum(cost_usd), 0), coalesce(extract(epoch FROM sum(completed_at - started_at)), 0)"""
COLUMNS = f"{KINDS}, runs, retried, calls, cost_usd, seconds"
COUNT = f"""
LOCK TABLE certification_certificationrun IN SHARE ROW EXCLUSIVE MODE;
DELETE FROM certification_runtotal;
INSERT INTO certification_runtotal ({COLUMNS})
SELECT {KINDS}, {FIGURES} FROM certification_certificationrun
WHERE completed_at IS NOT NULL GROUP BY {KINDS};
DELETE FROM certification_routinemark WHERE name = 'run totals';

CREATE FUNCTION certification_count_inserted_runs() RETURNS trigger AS $$
BEGIN
    INSERT INTO certification_runtotal ({COLUMNS})
    SELECT {KINDS}, {FIGURES} FROM inserted WHERE completed_at IS NOT NULL GROUP BY {KINDS};
    RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE FUNCTION certification_count_ended_run() RETURNS trigger AS $$
BEGIN
    INSERT INTO certification_runtotal ({COLUMNS}) VALUES (
        NEW.status, NEW.verdict, NEW.tier, NEW.backend, 1, (NEW.attempt > 1)::int, NEW.calls,
        coalesce(NEW.cost_usd, 0),
        coalesce(extract(epoch FROM NEW.completed_at - NEW.started_at), 0)
    );
    RETURN NULL;
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_count_inserted_runs AFTER INSERT ON certification_certificationrun
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION certification_count_inserted_runs();

CREATE TRIGGER certification_count_ended_run
AFTER UPDATE OF completed_at ON certification_certificationrun
FOR EACH ROW WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL)
EXECUTE FUNCTION certification_count_ended_run();
"""
REMOVE = """
DROP TRIGGER certification_count_ended_run ON certification_certificationrun;
DROP TRIGGER certification_count_inserted_runs ON certification_certificationrun;
DROP FUNCTION certification_count_ended_run();
DROP FUNCTION certification_count_inserted_runs();
DELETE FROM certification_runtotal;
"""


class Migration(migrations.Migration):
    dependencies = [("certification", "0030_target_days")]

    operations = [
        migrations.RemoveConstraint("runtotal", "one_total_per_kind_of_run"),
        migrations.RunSQL(COUNT, REMOVE),
    ]
