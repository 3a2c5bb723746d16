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
