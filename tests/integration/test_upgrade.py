"""An installation of the version before keeps every row when it is upgraded.

`demo-0.1.sql.gz` is a dump of version 0.1 (migration 0010): its demo cut down to 44 runs with their
results, and a few rows in every other table. A new migration that changes rows on purpose names the
columns in CHANGED.
"""

from __future__ import annotations

import gzip
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests import database
from tests.paths import PROJECT
from tests.processes import management_command

DUMP = PROJECT / "tests" / "data" / "demo-0.1.sql.gz"
# Django's own books: they follow the models' names
CHANGED = {"django_migrations", "django_content_type", "auth_permission", "auth_group_permissions"}
# 0014 merged the rows of models with two ids: 13 became aliases, and what pointed to them moved.
MERGED = {"certification_aimodel", "certification_route", "certification_modelcertification"}
MOVED = {"model_id", "model_ids"}
# 0016 renamed the reason of runs that were judged without a call.
RENAMED = {"error_reason", "error_category"}
REASONS = (
    "SELECT replace(error_reason, 'not_on_bedrock_runtime', 'api_not_supported'), count(*) "
    "FROM certification_certificationrun GROUP BY 1 ORDER BY 1"
)


def server() -> dict[str, Any]:
    database = settings.DATABASES["default"]
    return {
        "host": database["HOST"],
        "port": database["PORT"],
        "user": database["USER"],
        "password": database["PASSWORD"],
    }


@pytest.fixture
def old_database() -> Iterator[str]:
    """The name of a database of its own with the rows of the version before."""
    name = f"upgrade_{secrets.token_hex(6)}"
    admin = psycopg.connect(make_conninfo(dbname="postgres", **server()), autocommit=True)
    with admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        with psycopg.connect(make_conninfo(dbname=name, **server())) as connection:
            connection.execute(gzip.decompress(DUMP.read_bytes()))  # type: ignore[arg-type]
        yield name
    finally:
        admin = psycopg.connect(make_conninfo(dbname="postgres", **server()), autocommit=True)
        with admin:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(name)))


def columns(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """{table: its columns}."""
    rows = connection.execute(
        "SELECT table_name, array_agg(column_name::text ORDER BY column_name) "
        "FROM information_schema.columns WHERE table_schema = 'public' GROUP BY table_name"
    )
    return dict(rows.fetchall())


def schema(connection: psycopg.Connection[Any]) -> set[tuple[str, ...]]:
    """Everything that the database knows of our tables but rows, order, and the names of keys."""
    statements = (
        "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), "
        "attnotnull::text, coalesce(pg_get_expr(adbin, adrelid), ''), attidentity::text "
        "FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum) "
        "WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)",
        "SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid), "
        "CASE WHEN contype = 'f' THEN '' ELSE conname END "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "SELECT regexp_replace(indexdef, ' INDEX [^ ]+ ', ' ') FROM pg_indexes "
        "WHERE schemaname = 'public'",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    )
    rows = [row for statement in statements for row in connection.execute(statement)]
    # a condition that was loaded from a dump has other casts and parentheses than a new one
    dress = re.compile(r"::character varying|::text|\[\]|[()]")
    return {tuple(dress.sub("", part) for part in row) for row in rows}


def grants(connection: psycopg.Connection[Any]) -> set[tuple[str, ...]]:
    """What the members of each group may do: (group, permission)."""
    return set(
        connection.execute(
            "SELECT auth_group.name, codename FROM auth_group_permissions "
            "JOIN auth_group ON auth_group.id = group_id "
            "JOIN auth_permission ON auth_permission.id = permission_id"
        )
    )


def checksum(connection: psycopg.Connection[Any], table: str, names: list[str]) -> tuple[int, str]:
    """The number of rows of a table and a checksum of these columns of all of them."""
    statement = sql.SQL(
        "SELECT count(*), md5(coalesce(string_agg(one, '' ORDER BY one), '')) "
        "FROM (SELECT md5(row({})::text) AS one FROM public.{}) AS rows"
    ).format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table))
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row


def manage(name: str, *arguments: str) -> str:
    env = {
        **os.environ,
        "DATABASE_URL": database.url(name),
        "SECRET_KEY": secrets.token_urlsafe(50),
        "BEDROCK_BACKEND": "emulator",
        "DJANGO_SETTINGS_MODULE": "myia.settings",
    }
    done = subprocess.run(
        management_command(*arguments),
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_upgrade_keeps_every_row(db: None, old_database: str) -> None:
    """And its tables are those of a new installation, whose first migration makes all at once."""
    with psycopg.connect(make_conninfo(dbname=old_database, **server())) as connection:
        before = columns(connection)
        sums = {
            table: checksum(
                connection, table, [name for name in names if name not in MOVED | RENAMED]
            )
            for table, names in before.items()
            if table not in CHANGED | MERGED
        }
        models = "SELECT count(*) FROM certification_aimodel"
        model_rows = connection.execute(models).fetchone()
        reasons = connection.execute(REASONS).fetchall()
    filled = {table for table, (rows, _) in sums.items() if rows}
    assert {
        "certification_acceptance",
        "certification_certificationrun",
        "certification_operatorcase",
        "certification_runjudgement",
        "certification_testresult",
        "certification_webhookdelivery",
    } <= filled

    manage(old_database, "migrate", "--no-input")
    assert "No changes detected" in manage(old_database, "makemigrations", "--check", "--dry-run")

    with psycopg.connect(make_conninfo(dbname=old_database, **server())) as connection:
        after = columns(connection)
        for table, expected in sums.items():
            names = [name for name in before[table] if name in after.get(table, ())]
            assert names, f"{table} is gone"
            assert names == before[table], f"{table} lost columns"
            unmoved = [name for name in names if name not in MOVED | RENAMED]
            assert checksum(connection, table, unmoved) == expected, table
        assert connection.execute(REASONS).fetchall() == reasons
        left = connection.execute(models).fetchone()
        aliases = connection.execute("SELECT count(*) FROM certification_modelalias").fetchone()
        assert model_rows == (181,)
        assert (left, aliases) == ((168,), (13,))
        stray = (
            "SELECT count(*) FROM certification_route WHERE kind = 'MANTLE' "
            "OR (endpoint = 'bedrock-runtime') <> (api IN ('converse', 'invoke'))"
        )
        assert connection.execute(stray).fetchone() == (0,)
        permissions = connection.execute(
            "SELECT codename, name FROM auth_permission JOIN django_content_type AS type "
            "ON type.id = content_type_id WHERE app_label = 'certification'"
        ).fetchall()
        upgraded = schema(connection) | grants(connection)
    with psycopg.connect(database.url(settings.DATABASES["default"]["NAME"])) as connection:
        new = schema(connection) | grants(connection)
    assert (upgraded - new, new - upgraded) == (set(), set())
    codenames = dict(permissions)
    assert codenames["change_customcase"] == "Can change custom case"
    assert "view_parametersupport" in codenames
    assert not {name for name in codenames if name.endswith(("_operatorcase", "_acceptance"))}


def test_upgraded_rows_are_read_as_before(old_database: str) -> None:
    manage(old_database, "migrate", "--no-input")
    script = (
        "from certification.models import *\n"
        "print(sorted(CustomCase.objects.values_list('case_id', flat=True)),"
        " ParameterSupport.objects.count(),"
        " len([r for r in CertificationRun.objects.all() if r.to_dict()]),"
        " User.objects.get(email='operator@example.org').has_perm("
        "'certification.change_customcase'))"
    )
    output = manage(old_database, "shell", "--no-imports", "-c", script)
    assert output.split("\n")[-2:][0] == "['XCAPITAL', 'XSUM'] 310 44 True"
