"""The statements of the last release: what its web server and workers send to the database.

While tables are upgraded, the release before still runs on them. It is not there to be started in a
clean clone, so what it sends is stored as data: one example, with its values, of each statement
that tests of pages, API and engine made the product send. `scripts/record_statements.py` records
them anew; do that when a release is cut, with that release, and never to make a test pass.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.migrations.recorder import MigrationRecorder

from tests.paths import PROJECT

FILE = PROJECT / "tests" / "data" / "statements-of-last-release.json"
PRODUCT, TESTS = f"{PROJECT}/certification/", f"{PROJECT}/tests/"
KINDS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
# They act on the server or wait, whatever the tables are.
OTHERS = re.compile(r"pg_(sleep|terminate|cancel|try_advisory|advisory)|pg_stat|nextval|set_config")
MAX_CHARS = 60_000  # of one statement with its values


@dataclass(frozen=True)
class Release:
    """A release: its version, the migrations that made its tables, and its statements."""

    version: str
    migrations: frozenset[tuple[str, str]]
    statements: tuple[str, ...]


def load() -> Release:
    """Read the last release from its file."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    migrations = {(app, name) for app, names in stored["migrations"].items() for name in names}
    return Release(stored["version"], frozenset(migrations), tuple(stored["statements"]))


def fault(statement: str) -> str:
    """Run a statement and take it back; return what the database has against it, "" for nothing.

    That a row is there already is no fault of the statement.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
            transaction.set_rollback(True)
    except IntegrityError as error:
        is_there = isinstance(error.__cause__, psycopg.errors.UniqueViolation)
        return "" if is_there else str(error)
    except DatabaseError as error:
        return str(error)
    return ""


def shape(statement: str) -> str:
    """Return what statements have in common that differ in how many values they list."""
    one_list = re.sub(r"\(%s(?:, %s)*\)", "(%s)", statement)
    return re.sub(r"\(%s\)(?:, \(%s\))+", "(%s)", one_list)


def is_of_the_product() -> bool:
    """Whether the innermost caller that is ours is the product, not a test."""
    frame = sys._getframe(1)
    while frame := frame.f_back:  # type: ignore[assignment]
        name = frame.f_code.co_filename
        if name.startswith(TESTS) and name != __file__:
            return False
        if name.startswith(PRODUCT) and "/migrations/" not in name:
            return True
    return False


# As a plugin of pytest: -p tests.release_statements


class Recording:
    """The shortest example of each statement."""

    def __init__(self) -> None:
        self.examples: dict[str, str] = {}

    def add(self, cursor: CursorWrapper, statement: Any, params: Any) -> None:
        """Note a statement that was executed."""
        if not isinstance(statement, str) or not KINDS.match(statement):
            return
        if OTHERS.search(statement) or not is_of_the_product():
            return
        raw = cursor.db.connection
        text = psycopg.ClientCursor(raw).mogrify(statement, params) if params else statement
        if len(text) <= MAX_CHARS:
            before = self.examples.get(shape(statement))
            self.examples[shape(statement)] = min(before or text, text, key=len)


@pytest.fixture(scope="session", autouse=True)
def recording(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Record for the session; then write those statements that also work on empty tables."""
    recording = Recording()
    execute = CursorWrapper._execute  # type: ignore[attr-defined]

    def recorded(self: CursorWrapper, sql: Any, params: Any, *ignored: Any) -> Any:
        result = execute(self, sql, params, *ignored)
        recording.add(self, sql, params)
        return result

    CursorWrapper._execute = recorded  # type: ignore[attr-defined]
    yield
    CursorWrapper._execute = execute  # type: ignore[attr-defined]
    with django_db_blocker.unblock():
        write(FILE, sorted(s for s in recording.examples.values() if not fault(s)))


def write(file: Path, statements: list[str]) -> None:
    migrations: dict[str, list[str]] = {}
    for app, name in sorted(MigrationRecorder(connection).applied_migrations()):
        migrations.setdefault(app, []).append(name)
    stored = {
        "version": settings.VERSION,
        "migrations": migrations,
        "statements": statements,
    }
    file.write_text(json.dumps(stored, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
