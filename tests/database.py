"""Give every test the shipped catalogue without loading it for every test.

It comes with the database (tests/seed.py). Ordinary tests roll back to it. Tests that commit leave
rows, so after each of them the tables that were empty are emptied again, and the others filled
again from copies if anything in them changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.test import TransactionTestCase

COPIES = "baseline"  # the schema that holds them


@dataclass
class Baseline:
    """The tables that are empty before each test, and those that are not with what they hold."""

    empty: list[str]
    filled: dict[str, tuple[int, int]]

    @classmethod
    def take(cls) -> Baseline:
        """What is stored now, which was copied."""
        tables = all_tables()
        filled = [table for table in tables if table in non_empty(tables)]
        return cls(sorted(tables.difference(filled)), fingerprints(filled))

    def restore(self) -> None:
        """Bring every table back to it."""
        written = non_empty(self.empty)
        is_changed = fingerprints(self.filled) != self.filled
        with transaction.atomic(), connection.cursor() as cursor:
            if tables := [*written, *(self.filled if is_changed else ())]:
                names = ", ".join(f'public."{table}"' for table in tables)
                cursor.execute(f"TRUNCATE {names} CASCADE")
            if is_changed:
                for table in self.filled:
                    cursor.execute(f'INSERT INTO public."{table}" SELECT * FROM {COPIES}."{table}"')
        if is_changed:
            self.filled = fingerprints(self.filled)


def all_tables() -> set[str]:
    return {model._meta.db_table for model in apps.get_models(include_auto_created=True)}


def copy_tables() -> None:
    """Copy what is stored now."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {COPIES}")
        for table in non_empty(all_tables()):
            cursor.execute(f'CREATE TABLE {COPIES}."{table}" AS TABLE public."{table}"')


def end_sessions(name: str) -> None:
    """End the sessions of a database, which is copied or dropped next: those that were just closed
    may take a moment, those of threads stay. An autovacuum, which nobody may end, makes way by
    itself.
    """
    with administration() as server:
        server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = %s AND backend_type = 'client backend'",
            [name],
        )


def administration() -> psycopg.Connection[Any]:
    """Connect to the tests' server, to create and drop databases."""
    return psycopg.connect(url("postgres"), autocommit=True)


def non_empty(tables: Iterable[str]) -> list[str]:
    queries = (
        f"SELECT '{table}' WHERE EXISTS (SELECT FROM public.\"{table}\")" for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(queries))
        return [table for (table,) in cursor.fetchall()]


def fingerprints(tables: Iterable[str]) -> dict[str, tuple[int, int]]:
    """By table the number of rows and the sum of the ids of the transactions that wrote them:
    whatever is inserted, updated or deleted changes it.
    """
    queries = (
        f"SELECT '{table}', count(*), coalesce(sum(xmin::text::bigint), 0) FROM public.\"{table}\""
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(queries))
        return {table: (int(count), int(total)) for table, count, total in cursor.fetchall()}


def restore_after_commits(baseline: Baseline) -> None:
    """Tests that commit end with the baseline, where Django would empty every table and fill those
    of content types and permissions anew.
    """

    def restore(test_case: TransactionTestCase) -> None:
        baseline.restore()

    TransactionTestCase._fixture_teardown = restore  # type: ignore[attr-defined]


def url(name: str, server: str = "") -> str:
    """Return the URL of a database of this name on the tests' server, or that of another URL."""
    return urlsplit(server or settings.DATABASE_URL)._replace(path=f"/{name}").geturl()
