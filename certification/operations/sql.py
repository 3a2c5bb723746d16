"""Statements about the database server itself: its databases, sessions and moments.

They go through connections of their own, outside Django's pool (`server.connect`); those about our
rows are in models/sql.py. Names of databases and tables are filled in by psycopg, quoted.
"""

from psycopg import sql

TRY_LOCK = "SELECT pg_try_advisory_lock(%s, %s)"
UNLOCK = "SELECT pg_advisory_unlock(%s, %s)"

DATABASES = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"
CREATE_DATABASE = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
DROP_DATABASE = sql.SQL("DROP DATABASE IF EXISTS {}")
RENAME_DATABASE = sql.SQL("ALTER DATABASE {} RENAME TO {}")

# End the sessions of a database: those idle for some time, or all.
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = %(name)s AND backend_type = 'client backend'
  AND (%(force)s OR state = 'idle' AND state_change < clock_timestamp() - %(idle)s::interval)
"""

# One moment, that others can look at too. What follows does not depend on the session's settings.
FIXED = (
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO, MDY'",
    "SET intervalstyle = 'postgres'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
)
BEGIN_MOMENT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
EXPORT_SNAPSHOT = "SELECT pg_export_snapshot()"
DATABASE_SIZE = "SELECT pg_database_size(current_database())"
MIGRATIONS = "SELECT app, name FROM django_migrations ORDER BY 1, 2"
TABLES = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""
# Rows of a table, and the sum of half an MD5 of each row's text. The sum does not depend on the
# order of the rows; MD5 is the same in every version of PostgreSQL, as its own hashes are not.
COUNT_TABLE = sql.SQL("""
SELECT count(*), coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric), 0)::text
FROM {} AS t
""")

VACUUM = sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}")
ANALYZE = "ANALYZE"

# What the server knows of our tables and indexes. `expected` is what an index of the rows needs:
# the width of its columns and 12 bytes a row, in pages filled to 90 %; equal values need less.
TABLES_TO_VACUUM = """
SELECT relname AS name, n_live_tup AS rows, n_dead_tup AS dead,
    pg_table_size(relid) AS bytes,
    coalesce(greatest(last_vacuum, last_autovacuum), 'epoch') AS vacuumed_at
FROM pg_stat_user_tables WHERE schemaname = 'public' ORDER BY n_dead_tup DESC, relname
"""
INDEXES = """
SELECT c.relname AS name, t.relname AS table, pg_relation_size(c.oid) AS bytes,
    i.indisvalid AS is_valid, i.indisunique AS is_unique, s.idx_scan AS scans,
    (greatest(c.reltuples, 0) * (12 + sum(coalesce(w.avg_width, 16))) / 0.9)::bigint AS expected
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_am AS am ON am.oid = c.relam
JOIN pg_stat_user_indexes AS s ON s.indexrelid = i.indexrelid
CROSS JOIN LATERAL unnest(i.indkey::int2[]) AS key(number)
LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = key.number AND key.number > 0
LEFT JOIN pg_stats AS w
    ON w.schemaname = 'public' AND w.tablename = t.relname AND w.attname = a.attname
WHERE t.relnamespace = 'public'::regnamespace AND am.amname = 'btree'
GROUP BY c.oid, t.relname, i.indisvalid, i.indisunique, s.idx_scan ORDER BY bytes DESC, name
"""
SCANNED_TABLES = """
SELECT relname AS name, seq_scan AS scans, seq_tup_read / greatest(seq_scan, 1) AS rows_each
FROM pg_stat_user_tables
WHERE schemaname = 'public' AND seq_scan > %(scans)s AND seq_tup_read > seq_scan * %(rows)s::bigint
ORDER BY seq_tup_read DESC
"""
COUNTED_SINCE = "SELECT stats_reset AS at FROM pg_stat_database WHERE datname = current_database()"
WRAPAROUND = """
SELECT (100.0 * age(datfrozenxid) / 2000000000)::float AS percent
FROM pg_database WHERE datname = current_database()
"""
REINDEX = sql.SQL("REINDEX INDEX CONCURRENTLY {}")
DROP_INDEX = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}")
IMPATIENT = "SET lock_timeout = '5s'"

# Who is connected to our database, and what they do, the oldest transaction first.
ACTIVITY = """
SELECT pid, usename AS role, application_name AS application, state,
    extract(epoch FROM clock_timestamp() - xact_start)::float AS transaction_seconds,
    extract(epoch FROM clock_timestamp() - state_change)::float AS state_seconds,
    wait_event AS waits_for, pg_blocking_pids(pid) AS blocked_by, query
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
ORDER BY xact_start NULLS LAST, pid
"""
CANCEL = """
SELECT pg_cancel_backend(pid) AS cancelled FROM pg_stat_activity
WHERE pid = %(pid)s AND datname = current_database() AND backend_type = 'client backend'
  AND pid <> pg_backend_pid()
"""
