"""The care of the database, on the real one."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command

from certification.models import AuditEntry
from certification.operations import maintenance, routines, server
from certification.operations.maintenance import without_values

pytestmark = pytest.mark.django_db
TABLE, INDEX = "maintenance_example", "maintenance_example_by_n"


@pytest.fixture
def _bloat(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A table with dead rows, an index that is much larger than its rows, and what a reindex that
    was interrupted leaves.
    """
    monkeypatch.setattr(maintenance, "MIN_DEAD", 500)
    monkeypatch.setattr(maintenance, "MIN_BLOATED", 100_000)
    with server.connect() as own:
        own.execute(f"DROP TABLE IF EXISTS {TABLE}")
        own.execute(f"CREATE TABLE {TABLE} (n int)")
        own.execute(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = off)")
        own.execute(f"CREATE INDEX {INDEX} ON {TABLE} (n)")
        own.execute(f"INSERT INTO {TABLE} SELECT generate_series(1, 20000)")
        own.execute(f"INSERT INTO {TABLE} VALUES (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            own.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {INDEX}_ccnew ON {TABLE} (n)")
        own.execute(f"DELETE FROM {TABLE} WHERE n > 1000")
        own.execute(f"ANALYZE {TABLE}")
        own.execute("SELECT pg_stat_force_next_flush()")
    yield
    with server.connect() as own:
        own.execute(f"DROP TABLE {TABLE}")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    with contextlib.suppress(SystemExit):  # other tables of the tests may have findings
        call_command("db_maintenance", "--json", *arguments)
    return json.loads(capsys.readouterr().out)


def ours(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    pairs = [(row["kind"], row["name"]) for row in rows]
    return sorted(pair for pair in pairs if pair[1].startswith(TABLE))


@pytest.mark.usefixtures("_bloat")
def test_it_cleans_what_is_bloated_and_leaves_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = [("drop", f"{INDEX}_ccnew"), ("reindex", INDEX), ("vacuum", TABLE)]
    assert ours(run(capsys, "--dry-run")["actions"]) == expected
    with server.connect() as other:
        size = "SELECT pg_relation_size(%s::regclass)"
        [before] = other.execute(size, [INDEX]).fetchone() or [0]
        report = run(capsys)
        [after] = other.execute(size, [INDEX]).fetchone() or [0]
    done = [row for row in report["done"] if not row["fault"]]
    assert ours([row["action"] for row in done]) == expected
    assert after < before / 2
    assert ours(run(capsys, "--dry-run")["actions"]) == []
    assert AuditEntry.objects.filter(action="db_maintenance").count() == 1


@pytest.mark.usefixtures("_bloat")
def test_what_somebody_holds_is_left_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance.sql, "IMPATIENT", "SET lock_timeout = '20ms'")
    with server.connect() as other, other.transaction():
        other.execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        done = {each.action.name: each for each in maintenance.work()}
    assert "somebody holds" in done[INDEX].fault
    late = {each.action.name: each.fault for each in maintenance.work(deadline=0)}
    assert "the time was over" in late[INDEX]


def test_one_at_a_time() -> None:
    with server.connect() as other, server.hold_lock(other, maintenance.LOCK):
        with pytest.raises(CommandError, match="Another db_maintenance") as refused:
            call_command("db_maintenance")
        assert refused.value.returncode == 2
        report = routines.attempt(routines.Step("x", routines.maintain), float("inf"))
        assert "Another db_maintenance" in report["text"]


def test_activity_shows_statements_without_values_and_cancels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server.connect() as other:
        other.execute("SELECT 'a secret', 42")
        pid = other.info.backend_pid
        sessions = run(capsys, "--activity")["sessions"]
        [row] = [session for session in sessions if session["pid"] == pid]
        assert (row["statement"], row["state"]) == ("SELECT ?, ?", "idle")
        report = run(capsys, "--activity", "--cancel", str(pid), "--dry-run")
        assert (report["cancelled"], report["dryRun"]) == (None, True)
        assert not AuditEntry.objects.exists()
        assert run(capsys, "--activity", "--cancel", str(pid))["cancelled"] == pid
    assert AuditEntry.objects.get().action == "db_maintenance"
    for arguments in (["--cancel", "1"], ["--activity", "--cancel", "1"]):
        with pytest.raises(CommandError) as refused:
            call_command("db_maintenance", *arguments)
        assert refused.value.returncode == 2


def test_a_statement_without_its_values() -> None:
    text = "UPDATE a1 SET b = 'it''s', c = 3.5\nWHERE d IN (1, 2)"
    assert without_values(text) == "UPDATE a1 SET b = ?, c = ? WHERE d IN (?, ?)"
    assert len(without_values("x" * 500)) == maintenance.MAX_STATEMENT
