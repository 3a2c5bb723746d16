"""The release before works on the tables of this one, and its migrations wait for nobody long.

Expand in one release, contract in a later one. A migration that removes what the last release still
uses is refused here; one that removes what that release uses no more says so in its class:
`unused_since = "0.1.0"`.
"""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from certification.operations import migrations
from tests import release_statements

RELEASE = release_statements.load()
# Migrations of other packages, which cannot carry `unused_since`: by app and name, and why the last
# release can do without what they remove.
ALLOWED: dict[tuple[str, str], str] = {}


def test_no_migration_since_the_last_release_breaks_it() -> None:
    loader = MigrationLoader(None)
    new = {
        key: migration
        for key, migration in loader.disk_migrations.items()
        if key not in RELEASE.migrations | ALLOWED.keys() and not migration.replaces
    }
    breaks = [
        f"{app}.{name}: {finding.operation}: {finding.breaks} {finding.advice}"
        for (app, name), migration in sorted(new.items())
        if not migrations.is_contraction_of(migration, RELEASE.version)
        for finding in migrations.judge(migration)
        if finding.breaks
    ]
    assert breaks == []


@pytest.mark.django_db
def test_the_last_release_can_send_all_its_statements() -> None:
    assert len(RELEASE.statements) > 100
    faults = [
        f"{fault.strip()}: {statement[:300]}"
        for statement in RELEASE.statements
        if (fault := release_statements.fault(statement))
    ]
    assert faults == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DROP COLUMN query", 'column "query"'),
        ("RENAME COLUMN query TO address", 'column "query"'),
        ("ADD COLUMN color text NOT NULL", 'null value in column "color"'),
        ("ADD CHECK (name = '')", "violates check constraint"),
        ("ALTER COLUMN name TYPE integer USING 0", "invalid input syntax for type integer"),
    ],
)
def test_a_change_that_breaks_the_last_release_is_seen(change: str, words: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE certification_savedview {change}")
    statements = [s for s in RELEASE.statements if "certification_savedview" in s]
    assert any(words in release_statements.fault(statement) for statement in statements)
