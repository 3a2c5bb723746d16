"""A database as it looks after years: a million finished runs of every active model in every
enabled region, ten thousand jobs, and the certifications that rest on the last runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from django.db import connection, models, transaction

from bench.environment import MARK
from certification.models import (
    CertificationJob,
    CertificationRun,
    ModelCertification,
    RunTotal,
    TestResult,
)

RUNS_PER_JOB = 100
SWEEP_RUNS = 4000  # of the newest job, which is by itself as large as they get
DEFAULTS = {
    "CharField": "''",
    "TextField": "''",
    "JSONField": "'{}'",
    "BooleanField": "false",
    "DecimalField": "0",
    "PositiveIntegerField": "0",
    "PositiveSmallIntegerField": "0",
    "PositiveBigIntegerField": "0",
}
PAIRS = """
CREATE TEMPORARY TABLE pair ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY model.id, region.code) - 1 AS n, model.id AS model_id,
    region.code AS region_id, COALESCE((
        SELECT min(target_id) FROM certification_route AS route
        WHERE route.model_id = model.id AND route.region_id = region.code
    ), model.api_model_id) AS target_id
FROM certification_aimodel AS model, certification_region AS region
WHERE model.is_active AND region.enabled
"""
JOBS = """
CREATE TEMPORARY TABLE job ON COMMIT DROP AS
SELECT n, gen_random_uuid() AS id, now() - (%s - n) * interval '3 hours' AS at
FROM generate_series(0, %s - 1) AS n
"""
RUNS = """
FROM generate_series(0, %d - 1) AS s(n)
JOIN job ON job.n = CASE WHEN s.n < %d THEN %d ELSE s.n %% %d END
JOIN pair ON pair.n = s.n %% %d
"""
CURRENT = """
FROM (
    SELECT DISTINCT ON (model_id, region_id) * FROM certification_certificationrun
    ORDER BY model_id, region_id, completed_at DESC
) AS last
"""
RESULTS = (
    "FROM certification_modelcertification, generate_series(1, 14) AS n WHERE run_id IS NOT NULL"
)
# expressions for the columns of the rows; the others get NULL or their type's default
JOB_COLUMNS = {
    "id": "id",
    "type": "'ALL_MODELS'",
    "tier": "'quick'",
    "status": "'COMPLETED'",
    "priority": "'bulk'",
    "backend": "'aws'",
    "regions": "'[]'",
    "model_ids": "'[]'",
    "created_at": "at",
    "updated_at": "at",
    "started_at": "at",
    "completed_at": "at + interval '1 hour'",
}
RUN_COLUMNS = {
    "id": "gen_random_uuid()",
    "job_id": "job.id",
    "model_id": "pair.model_id",
    "region_id": "pair.region_id",
    "tier": "'quick'",
    "backend": "'aws'",
    "status": "'COMPLETED'",
    "route": "target_id",
    "route_kind": "'ON_DEMAND'",
    "endpoint": "'bedrock-runtime'",
    "api": "'converse'",
    "attempt": "1",
    "verdict": "'certified'",
    "passed": "true",
    "score": "60 + s.n % 41",
    "rating": "'B'",
    "lower_bound": "71.5",
    "ttft_ms": "420",
    "latency_p50_ms": "810",
    "output_tps": "64",
    "calls": "14",
    "tokens_in": "2400",
    "tokens_out": "900",
    "cost_usd": "0.0012",
    "suite_version": "'bench'",
    "policy_version": "'bench'",
    "environment": "'{\"lacks\": []}'",
    "created_at": "at",
    "started_at": "at",
    "completed_at": "at + s.n * interval '1 millisecond'",
}
CERTIFICATION_COLUMNS = {
    "model_id": "model_id",
    "region_id": "region_id",
    "status": "'certified'",
    "score": "score",
    "rating": "rating",
    "tier": "tier",
    "backend": "backend",
    "run_id": "id",
    "attempts": "200",
    "completed_attempts": "200",
    "certified_attempts": "190",
    "certified_at": "completed_at",
    "expires_at": "now() + interval '30 days'",
    "last_tested_at": "completed_at",
    "status_since": "completed_at - CASE WHEN score % 20 > 0 THEN interval '1 year' ELSE '0' END",
    "created_at": "created_at",
    "updated_at": "completed_at",
}
RESULT_COLUMNS = {
    "run_id": "run_id",
    "case_id": "'G' || lpad(n::text, 2, '0')",
    "category": "'gate'",
    "kind": "'gate'",
    "verdict": "'passed'",
    "passes": "1",
    "trials_valid": "1",
    "trials": "'[]'",
}


def fill(runs: int) -> float:
    """Store that many finished runs, of every pair in turn, unless they are there already; return
    the seconds it took.

    Everything that was certified before is deleted. SystemExit where the database was not created
    by a benchmark.
    """
    key = f"bench.pairs.{runs}"
    if CertificationJob.objects.filter(idempotency_key=f"{key}.0").exists():
        return 0.0
    if not MARK.exists():
        raise SystemExit(
            "The database under MYIA_ROOT was not created by a benchmark, and this one replaces "
            "what is stored. Name an empty folder."
        )
    started, jobs = time.perf_counter(), max(1, runs // RUNS_PER_JOB)
    with transaction.atomic(), connection.cursor() as cursor:
        tables = (
            *(TestResult, ModelCertification, CertificationRun, CertificationJob),
            RunTotal,  # the database counts what is inserted
        )
        names = ", ".join(table._meta.db_table for table in tables)
        cursor.execute(f"TRUNCATE {names} CASCADE")
        cursor.execute(PAIRS)
        cursor.execute("SELECT count(*) FROM pair")
        [pairs] = cursor.fetchone()
        cursor.execute(JOBS, [jobs, jobs])
        total = f"CASE WHEN n = {jobs - 1} THEN {min(SWEEP_RUNS, runs)} ELSE {runs // jobs} END"
        insert(
            cursor,
            CertificationJob,
            "FROM job",
            {
                **JOB_COLUMNS,
                "total_runs": total,
                "succeeded_runs": total,
                "idempotency_key": f"'{key}.' || n",
            },
        )
        insert(
            cursor,
            CertificationRun,
            RUNS % (runs, min(SWEEP_RUNS, runs), jobs - 1, jobs, pairs),
            RUN_COLUMNS,
        )
        insert(
            cursor,
            ModelCertification,
            CURRENT,
            CERTIFICATION_COLUMNS,
        )
        insert(
            cursor,
            TestResult,
            RESULTS,
            RESULT_COLUMNS,
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return time.perf_counter() - started


def insert(
    cursor: object, table: type[models.Model], source: str, values: Mapping[str, str]
) -> None:
    """Insert rows of these expressions; every other column gets NULL or its type's default."""
    fields = [f for f in table._meta.local_concrete_fields if not isinstance(f, models.AutoField)]
    columns = ", ".join(str(f.column) for f in fields)
    expressions = ", ".join(
        values.get(str(f.column)) or ("NULL" if f.null else DEFAULTS[f.get_internal_type()])
        for f in fields
    )
    sql = f"INSERT INTO {table._meta.db_table} ({columns}) SELECT {expressions} {source}"
    cursor.execute(sql)  # type: ignore[attr-defined]
