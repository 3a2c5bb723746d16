"""Every SQL statement of the project that is written by hand, with why, and what that gained.

Where a gain is given it is from docs/performance.md. A certification run took 26 - 28 ms of its own
thread with 15 statements of the ORM, nearly all of it Python building queries and rows; with
CLAIM_RUN, FINISH_RUN and COUNT_FINISHED_RUNS it takes 8 - 9 ms. Nobody measured these three one by
one. tests/integration/test_sql.py holds each statement to what the ORM gives.

Parameters are named. `{...}` is filled with column names of our own models, once per process.
What every run or request needs is `prepared`: the server plans it once per connection (half of its
time for such statements), and Python quotes no parameter. Its `%(now)s` need a type that the server
can infer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar

import psycopg
from django.db import connection, models

from certification.lib.postgresql import patience, replica

M = TypeVar("M", bound=models.Model)

# Claim a waiting run and bring its model, its job and the routes with it, in one round trip. Of its
# backend only, and none that a pause holds (`QueuePause.holds`). Part of the 26 -> 8 ms.
CLAIM_RUN = """
UPDATE certification_certificationrun AS run
SET status = 'PROCESSING', claimed_by = %(worker)s, heartbeat_at = statement_timestamp(),
    started_at = COALESCE(run.started_at, statement_timestamp()), attempt = run.attempt + 1
FROM certification_certificationjob AS job, certification_aimodel AS model
WHERE run.id = %(run)s AND run.status IN ('PENDING', 'QUEUED')
  AND job.id = run.job_id AND model.id = run.model_id
  AND (%(backend)s = '' OR run.backend = %(backend)s AND NOT EXISTS (
    SELECT FROM certification_queuepause AS pause
    WHERE pause.resumed_at IS NULL AND (pause.until IS NULL OR pause.until > statement_timestamp())
      AND (pause.backend = run.backend OR pause.cause = 'read_only')
      AND (pause.cause <> 'credentials' OR job.priority = 'bulk')))
RETURNING {columns}, (
    SELECT COALESCE(jsonb_agg(jsonb_build_array(
        route.kind, route.target_id, route.endpoint, route.api, route.path_prefix,
        route.last_refusal)), '[]')
    FROM certification_route AS route
    WHERE route.model_id = run.model_id AND route.region_id = run.region_id) AS routes, (
    SELECT COALESCE(jsonb_agg(jsonb_build_array(support.operation, support.feature,
        support.accepted, support.refusal, support.seen_at)), '[]')
    FROM certification_acceptance AS support WHERE support.model_id = run.model_id) AS support
"""

# Write a run's outcome and all its results, unless the run is no longer this claimant's. Each comes
# as one JSON text: dozens of parameters have other types in each run, and the server would plan the
# statement anew for each set of types. Part of the 26 -> 8 ms.
FINISH_RUN = """
WITH finished AS (
    UPDATE certification_certificationrun AS run SET {assignments}
    FROM jsonb_to_record(%(outcome)s) AS outcome({outcome_types})
    WHERE run.id = %(run)s AND run.status = 'PROCESSING' AND run.claimed_by = %(worker)s
    RETURNING run.id, run.completed_at
), results AS (
    INSERT INTO certification_testresult (run_id, {result_columns})
    SELECT finished.id, result.*
    FROM finished, jsonb_to_recordset(%(results)s) AS result({result_types})
)
SELECT id, completed_at FROM finished
"""

# Count finished runs and say whether they were the last ones of a job that is still open. The row
# lock serialises the runs of a job, so it must be one statement. Part of the 26 -> 8 ms.
COUNT_FINISHED_RUNS = """
UPDATE certification_certificationjob
SET succeeded_runs = succeeded_runs + %(certified)s, failed_runs = failed_runs + %(others)s,
    cancelled_runs = cancelled_runs + %(cancelled)s,
    cost_usd = cost_usd + %(cost_usd)s::numeric, updated_at = %(now)s
WHERE id = %(job)s
RETURNING total_runs = succeeded_runs + failed_runs + cancelled_runs
    AND status IN ('PENDING', 'QUEUED', 'PROCESSING') AS was_last
"""

# Statements of many runs. Through the ORM they were a third of a run's own thread: building the
# query costs more than running it.
RECORD_SUPPORT = """
INSERT INTO certification_acceptance
    (model_id, region_id, seen_at, operation, feature, accepted, refusal)
SELECT %(model)s, %(region)s, %(now)s, observed.*
FROM jsonb_to_recordset(%(observed)s)
    AS observed(operation text, feature text, accepted boolean, refusal jsonb)
ORDER BY operation, feature
ON CONFLICT (model_id, operation, feature) DO UPDATE
SET region_id = EXCLUDED.region_id, seen_at = EXCLUDED.seen_at, accepted = EXCLUDED.accepted,
    refusal = EXCLUDED.refusal
"""
# The ORM cannot add to a row that it may have to create.
RECORD_ERROR = """
INSERT INTO certification_errorgroup AS known
    (fingerprint, logger, event, error, place, process, release, count, first_seen, last_seen,
     example)
VALUES (%(fingerprint)s, %(logger)s, %(event)s, %(error)s, %(place)s, %(process)s, %(release)s,
        %(count)s, %(first_seen)s, %(last_seen)s, %(example)s)
ON CONFLICT (fingerprint) DO UPDATE
SET count = known.count + EXCLUDED.count, last_seen = greatest(known.last_seen, EXCLUDED.last_seen),
    process = EXCLUDED.process, release = EXCLUDED.release, example = EXCLUDED.example
"""
LOCK_CERTIFICATION = """
SELECT {columns} FROM certification_modelcertification AS pair
WHERE pair.model_id = %(model)s AND pair.region_id = %(region)s FOR UPDATE
"""
# Of a row that was just locked.
UPDATE_ROW = "UPDATE {table} SET {assignments} WHERE id = %(pk)s"

# Create a job's runs and return the pairs that got one. `bulk_create(ignore_conflicts=True)` does
# not say which rows it wrote. A sweep has thousands of pairs and its caller waits; the gain was not
# measured by itself.
CREATE_PENDING_RUNS = """
INSERT INTO certification_certificationrun (id, model_id, region_id, {columns})
SELECT gen_random_uuid(), pair.model, pair.region, {values}
FROM unnest(%(models)s::uuid[], %(regions)s::text[]) AS pair (model, region)
ON CONFLICT DO NOTHING RETURNING model_id, region_id
"""

# Drop requests and replies of old results inside the database: they are nearly all of its bytes,
# and through the ORM each would travel to Python and back. Not measured; runs once a day.
DROP_TRANSCRIPTS = """
UPDATE certification_testresult AS result
SET trials = (
    SELECT jsonb_agg(trial - 'calls' || '{"calls": [], "has_transcript": false}'::jsonb
                     ORDER BY position)
    FROM jsonb_array_elements(result.trials) WITH ORDINALITY AS t(trial, position)
)
FROM certification_certificationrun AS run
WHERE run.id = result.run_id AND run.completed_at > %(after)s AND run.completed_at <= %(until)s
  AND result.trials @> '[{"has_transcript": true}]'::jsonb
"""

# An expression (django.db.models.Func): trials without their calls, which stay in the database.
# What is no list of objects, as nothing of ours has ever stored, passes as it is.
TRIALS_WITHOUT_CALLS = (
    "(SELECT coalesce(jsonb_agg(CASE jsonb_typeof(trial) WHEN 'object' THEN trial - 'calls' "
    "ELSE trial END ORDER BY position), '[]'::jsonb) FROM jsonb_array_elements("
    "CASE jsonb_typeof(%(expressions)s) WHEN 'array' THEN %(expressions)s ELSE '[]' END"
    ") WITH ORDINALITY AS t(trial, position))"
)

# An expression: whether any call of the trials took so long. Nearly all bytes of a result are its
# calls, and this way they stay in the database. The ORM has no JSON paths.
HAS_CALL_LASTING = (
    "jsonb_path_exists(%(expressions)s, '$[*].calls[*].timing.total ? (@ >= $ms)', "
    "jsonb_build_object('ms', %(ms)s))"
)

# The active user of a login token with the names of their groups: every API request asks it. The
# ORM took two queries, which were 40 % of the time of a cached response.
LOGIN_HOLDER = """
SELECT {columns}, ARRAY(
    SELECT name FROM auth_group
    JOIN certification_user_groups AS member ON member.group_id = auth_group.id
    WHERE member.user_id = holder.id
) AS group_names
FROM certification_user AS holder
WHERE id = %(user)s AND is_active
  AND NOT EXISTS (
    SELECT FROM certification_revokedtoken AS revoked WHERE revoked.id IN (%(token)s, %(family)s)
  )
"""

# Active subscriptions to an event, locked against deletion. Django has no FOR KEY SHARE, and with
# what it has finishing runs would wait for each other.
SUBSCRIPTIONS_TO = """
SELECT id FROM certification_webhooksubscription
WHERE is_active AND events @> %(events)s::jsonb FOR KEY SHARE
"""

# What a badge shows, for `<model>` or `<model>/<region>`; `called` is the id or alias it came by.
# Through the ORM the same query costs three milliseconds of Python, and a badge should cost less
# than one.
BADGE = """
SELECT m.called, m.api_model_id AS model_id, m.name, r.code AS region, r.enabled,
       EXISTS (SELECT FROM certification_route t
               WHERE t.model_id = m.id AND t.region_id = r.code AND r.enabled) AS offered,
       c.status, c.previous_status, c.score, c.rating, c.backend, c.certified_at, c.expires_at,
       c.expired_at, run.endpoint, run.api
FROM (
    SELECT id, name, api_model_id, api_model_id AS called FROM certification_aimodel
    WHERE api_model_id IN (%(address)s, %(head)s)
    UNION ALL
    SELECT model.id, model.name, model.api_model_id, alias.alias
    FROM certification_modelalias AS alias
    JOIN certification_aimodel AS model ON model.id = alias.model_id
    WHERE alias.alias IN (%(address)s, %(head)s)
) AS m
LEFT JOIN certification_region r ON m.called = %(address)s OR r.code = %(tail)s
LEFT JOIN certification_modelcertification c ON c.model_id = m.id AND c.region_id = r.code
LEFT JOIN certification_certificationrun run ON run.id = c.run_id
ORDER BY r.code
"""

# Expressions (RawSQL, whose parameters have no names) for the change feed: the ORM knows neither
# transaction ids nor snapshots.
SNAPSHOT = "pg_current_snapshot()::text"
CHANGED_IN = "certification_certificationrun.changed_in::text::bigint"
# Parameters: the lowest unseen transaction, the snapshot, the transaction that was read in part,
# the last run read of it. The last line: marks from a dump of another server mean nothing here.
CHANGED_SINCE = """(
    certification_certificationrun.changed_in >= %s::text::xid8
    AND NOT pg_visible_in_snapshot(certification_certificationrun.changed_in, %s::text::pg_snapshot)
    AND NOT (certification_certificationrun.changed_in = %s::text::xid8
             AND certification_certificationrun.id <= %s::uuid)
    AND certification_certificationrun.changed_in < pg_snapshot_xmax(pg_current_snapshot())
)"""

# One certificate at a time is added to the chain. Locking its newest row would not do: who waited
# for it would still see that row as the newest.
LOCK_CHAIN = "SELECT pg_advisory_xact_lock(%(key)s)::text"
# How many connections are in use of those that there may be, and queries that take long: from the
# server's own views, which the ORM does not know.
CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
    current_setting('max_connections')::int AS allowed
"""
LONG_QUERIES = """
SELECT pid, extract(epoch FROM clock_timestamp() - query_start)::float AS seconds
FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

# Runs that ended after `start`, by whether they ended after `middle`, and by nothing else, by tier,
# by model, by region, in one pass over the index of finished runs; times in seconds. The ORM has no
# grouping sets, and would read the same runs four times.
PERFORMANCE = """
WITH finished AS (
    SELECT completed_at > %(middle)s AS is_recent, tier, model_id, region_id, status, verdict,
        attempt, calls, retries, error_category, error_reason, ttft_ms, latency_p50_ms,
        extract(epoch FROM completed_at - started_at)::float AS seconds,
        extract(epoch FROM started_at - created_at)::float AS waited
    FROM certification_certificationrun
    WHERE completed_at > %(start)s AND completed_at <= %(end)s AND status <> 'CANCELLED'
)
SELECT is_recent, tier, model.api_model_id AS model, region_id AS region, count(*) AS runs,
    count(*) FILTER (WHERE verdict = 'certified') AS certified,
    count(*) FILTER (WHERE status = 'FAILED') AS failed,
    count(*) FILTER (WHERE attempt > 1) AS retried,
    count(*) FILTER (WHERE error_category = 'RATE_LIMIT' OR error_reason = 'gateway_throttled')
        AS throttled,
    sum(calls)::bigint AS calls, sum(retries)::bigint AS call_retries,
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds) AS seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY waited) AS waited_p95,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / NULLIF(finished.calls, 0))
        AS seconds_per_call,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_p50_ms) AS latency_ms,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY ttft_ms) AS ttft_ms
FROM finished JOIN certification_aimodel AS model ON model.id = model_id
GROUP BY GROUPING SETS (
    (is_recent), (is_recent, tier), (is_recent, model.api_model_id), (is_recent, region_id))
"""
# The statements that took the server longest, without their values, where the extension is there.
HAS_STATEMENTS = "SELECT to_regclass('pg_stat_statements') IS NOT NULL AS has_statements"
STATEMENTS = """
SELECT left(query, 200) AS statement, calls, total_exec_time / 1000 AS seconds,
    mean_exec_time AS mean_ms
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY total_exec_time DESC LIMIT %(limit)s
"""
# What operators look at when the database is slow or full: figures that only its catalogue has.
CONNECTION_STATES = """
SELECT COALESCE(state, 'unknown') AS state, count(*) AS n FROM pg_stat_activity
WHERE backend_type = 'client backend' GROUP BY 1 ORDER BY 1
"""
DATABASE_FACTS = """
SELECT current_setting('max_connections')::int AS max_connections,
    pg_database_size(current_database()) AS bytes,
    (SELECT round(100.0 * blks_hit / NULLIF(blks_hit + blks_read, 0), 2)::float
     FROM pg_stat_database WHERE datname = current_database()) AS cache_hit_percent,
    (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float
     FROM pg_stat_activity WHERE backend_type = 'client backend') AS oldest_transaction_seconds,
    (SELECT round(100.0 * age(datfrozenxid) / 2000000000, 2)::float
     FROM pg_database WHERE datname = current_database()) AS wraparound_percent,
    (SELECT max(extract(epoch FROM replay_lag))::float FROM pg_stat_replication)
        AS replication_lag_seconds,
    (SELECT count(*) FROM pg_stat_user_indexes
     WHERE idx_scan = 0 AND schemaname = 'public') AS unused_indexes
"""
# What tells of a database that will be slow or stop: tables with many dead rows, a replica that is
# behind, transaction ids that run out, and whether the memory suffices.
DATABASE_STATE = """
SELECT (SELECT COALESCE(max(extract(epoch FROM replay_lag)), 0)::float FROM pg_stat_replication)
        AS replication_lag_seconds,
    (SELECT (100.0 * age(datfrozenxid) / 2000000000)::float
     FROM pg_database WHERE datname = current_database()) AS wraparound_percent,
    (SELECT (1.0 * blks_hit / NULLIF(blks_hit + blks_read, 0))::float
     FROM pg_stat_database WHERE datname = current_database()) AS cache_hit_ratio
"""
DEAD_SHARES = """
SELECT relname AS name, (100.0 * n_dead_tup / (n_live_tup + n_dead_tup))::float AS percent
FROM pg_stat_user_tables WHERE schemaname = 'public' AND n_dead_tup >= %(least)s
"""
LARGEST_TABLES = """
SELECT relname AS name, pg_table_size(relid) AS bytes, pg_indexes_size(relid) AS index_bytes,
    n_live_tup AS rows, n_dead_tup AS dead_rows
FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC LIMIT 10
"""

# What the header of each page shows: two figures for one round trip.
SITE_STATE = """
SELECT (SELECT count(*) FROM certification_alertepisode
        WHERE opened_at IS NOT NULL AND resolved_at IS NULL) AS alerts,
    (SELECT id FROM certification_queuepause
     WHERE cause = 'read_only' AND resumed_at IS NULL
       AND (until IS NULL OR until > statement_timestamp()) LIMIT 1) AS read_only
"""

# Our tables with the most dead rows, and the largest ones: from the server's own figures.
DEAD_ROWS = """
SELECT relname AS name FROM pg_stat_user_tables
WHERE schemaname = 'public' AND n_dead_tup > 0 ORDER BY n_dead_tup DESC, relname LIMIT %(number)s
"""
TABLE_SIZES = """
SELECT relname AS name, pg_total_relation_size(relid) AS bytes FROM pg_stat_user_tables
WHERE schemaname = 'public' ORDER BY bytes DESC, relname LIMIT %(number)s
"""

# Every table with the server's own estimate of its rows: none is counted.
ALL_TABLES = """
SELECT c.relname AS name, greatest(c.reltuples, s.n_live_tup, 0)::bigint AS rows,
    pg_table_size(c.oid) AS bytes
FROM pg_class AS c LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
"""

# Whether this connection has TLS, as the server says.
IS_ENCRYPTED = "SELECT ssl AS encrypted FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

# How long this transaction waits for a lock. The ORM has no settings of a transaction.
LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %(wait)s, true)"

# Two that fold at once wait for each other; each row is deleted, and added again, by one of them.
FOLD_RUN_TOTALS = """
WITH parts AS (DELETE FROM certification_runtotal RETURNING *)
INSERT INTO certification_runtotal
    (status, verdict, tier, backend, runs, retried, calls, cost_usd, seconds)
SELECT status, verdict, tier, backend,
    sum(runs), sum(retried), sum(calls), sum(cost_usd), sum(seconds)
FROM parts GROUP BY status, verdict, tier, backend
"""

# One reconcile and one round of alerts at a time. The ORM has no advisory locks.
TRY_ADVISORY_LOCK = "SELECT pg_try_advisory_xact_lock(%(key)s)"


def fetch_all(statement: str, **parameters: Any) -> list[dict[str, Any]]:
    """Run a statement and return its rows by column name. JSON comes as text."""
    with replica.reader().cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def prepared(statement: str, **parameters: Any) -> list[dict[str, Any]]:
    """Run a statement that the server prepares, and return its rows by column name; none for one
    that returns nothing. JSON comes as text.
    """
    connection.ensure_connection()
    own: Any = PreparedCursor(connection.connection)
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with wrap(own) as cursor:
        cursor.execute(statement, parameters)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class PreparedCursor(psycopg.Cursor[Any]):
    """Sends parameters beside the statement, and has it prepared at once where the connection's
    `prepare_threshold` allows it.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        return super().execute(query, params, prepare=True, **options)


def fetch_one(statement: str, **parameters: Any) -> dict[str, Any] | None:
    """Run a statement and return its only row, or None."""
    return next(iter(fetch_all(statement, **parameters)), None)


def update(row: models.Model, **values: Any) -> None:
    """Write these fields of a row. The row itself, in Python, is as the caller left it."""
    parameters = {
        str(field.column): field.get_db_prep_save(
            getattr(values[field.name], "pk", values[field.name]), connection
        )
        for field in row._meta.concrete_fields
        if field.name in values
    }
    prepared(update_statement(row._meta.db_table, tuple(parameters)), pk=row.pk, **parameters)


@lru_cache(maxsize=256)
def update_statement(table: str, columns: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{column} = %({column})s" for column in columns)
    return UPDATE_ROW.format(table=table, assignments=assignments)


@contextmanager
def advisory_lock(key: int) -> Iterator[bool]:
    """Hold a lock of the database for the block; yields False when somebody else holds it.

    A transaction of a connection of its own holds it. A lock of a session would be lost at
    PgBouncer, where each transaction may get another session, and the one that had it would hold it
    for good.
    """
    with connection.wrap_database_errors:
        own = patience.PatientConnection.connect(**connection.get_connection_params())
    try:
        with connection.wrap_database_errors:
            row = own.execute(TRY_ADVISORY_LOCK, {"key": key}).fetchone()
        yield bool(row and row[0])
    finally:
        with contextlib.suppress(psycopg.Error):
            own.rollback()  # the lock is free when this returns; closing would not wait for it
        own.close()


def execute(statement: str, **parameters: Any) -> int:
    """Run a statement and return how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.rowcount


@dataclass(frozen=True)
class Columns(Generic[M]):
    """The columns of a model under an alias of a statement, without the `deferred` fields."""

    model: type[M]
    alias: str
    deferred: frozenset[str] = frozenset()

    @cached_property
    def fields(self) -> list[models.Field[Any, Any]]:
        return [f for f in self.model._meta.concrete_fields if f.name not in self.deferred]

    def __str__(self) -> str:
        """The columns for a SELECT or RETURNING, each named `<alias>.<field>`."""
        return ", ".join(
            f'{self.alias}."{field.column}" AS "{self.alias}.{field.attname}"'
            for field in self.fields
        )

    def instance(self, row: Mapping[str, Any]) -> M:
        """Return the model instance of a row; deferred fields are read when somebody needs them."""
        names = [field.attname for field in self.fields]
        values = []
        for field in self.fields:
            value = row[f"{self.alias}.{field.attname}"]
            is_json = isinstance(field, models.JSONField) and value is not None
            values.append(json.loads(value) if is_json else value)
        return self.model.from_db(connection.alias, names, values)
