"""Finished runs and their results are evidence: the database refuses to change them."""

from django.db import migrations

FORBID = """
CREATE FUNCTION certification_run_is_final() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'Run % is finished and cannot be changed.', OLD.id USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_run_is_final BEFORE UPDATE ON certification_certificationrun
FOR EACH ROW WHEN (OLD.completed_at IS NOT NULL) EXECUTE FUNCTION certification_run_is_final();

CREATE FUNCTION certification_result_is_final() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'Result % of run % cannot be changed; only its evidence may be dropped.', OLD.case_id, OLD.run_id
    USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE TRIGGER certification_result_is_final BEFORE UPDATE ON certification_testresult
FOR EACH ROW WHEN (to_jsonb(OLD) - 'trials' IS DISTINCT FROM to_jsonb(NEW) - 'trials')
EXECUTE FUNCTION certification_result_is_final();
"""

ALLOW = """
DROP TRIGGER certification_result_is_final ON certification_testresult;
DROP FUNCTION certification_result_is_final();
DROP TRIGGER certification_run_is_final ON certification_certificationrun;
DROP FUNCTION certification_run_is_final();
"""


class Migration(migrations.Migration):
    dependencies = [("certification", "0001_initial")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
