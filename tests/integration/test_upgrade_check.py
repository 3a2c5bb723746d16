"""Whether a release may follow the one that runs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, migrations, models
from django.db.migrations.recorder import MigrationRecorder

from certification.lib import clock
from certification.operations import backups, upgrades
from certification.operations.migrations import Lock
from certification.operations.upgrades import Step, skips

pytestmark = pytest.mark.django_db
RUNS = "certification_certificationrun"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    """A release that runs, and a fresh backup."""
    settings.BACKUP_DIR = tmp_path
    settings.VERSION = "0.2.0"
    monkeypatch.setattr(upgrades, "running_versions", lambda: ["0.1.4"])
    backup = type("Fresh", (), {"created_at": clock.now()})
    monkeypatch.setattr(backups, "stored", lambda: [backup])
    monkeypatch.setattr(upgrades, "SPARE_BYTES", 0)


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = 0
    try:
        call_command("upgrade", "--check", "--json", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def plan(monkeypatch: pytest.MonkeyPatch, *operations: Any, unused_since: str = "") -> None:
    """Have one migration to apply."""
    migration = migrations.Migration("0099_next", "certification")
    migration.operations = list(operations)
    if unused_since:
        migration.unused_since = unused_since  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "django.db.migrations.executor.MigrationExecutor.migration_plan",
        lambda *_args: [(migration, False)],
    )


def test_a_release_without_migrations_may_follow(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = check(capsys)
    assert (code, report["allowed"], report["migrations"]) == (0, True, [])
    assert (report["from"], report["to"]) == (["0.1.4"], "0.2.0")


def test_each_operation_is_listed_with_its_lock_and_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = models.Index(fields=["attempt"], name="by_attempt")
    plan(
        monkeypatch,
        migrations.AddField("certificationrun", "extra", models.IntegerField(null=True)),
        migrations.AddIndex("certificationrun", index),
        migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))]),
    )
    monkeypatch.setattr(upgrades, "SLOW_S", -1)
    code, report = check(capsys)
    [step] = report["migrations"]
    assert (code, step["migration"]) == (0, "certification.0099_next")
    assert [(row["table"], row["lock"]) for row in step["operations"]] == [
        (RUNS, Lock.ACCESS_EXCLUSIVE.label),
        (RUNS, Lock.SHARE.label),
    ]
    assert all(row["rows"] >= 0 and row["bytes"] >= 0 for row in step["operations"])
    [warning] = report["warnings"]
    assert "writes of certification_certificationrun" in warning["what"]
    call_command("upgrade", "--check")
    assert "The upgrade may begin." in capsys.readouterr().out


def test_what_breaks_the_release_that_runs_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    removal = migrations.RemoveField("certificationrun", "attempt")
    plan(monkeypatch, removal)
    code, report = check(capsys)
    assert (code, report["allowed"]) == (1, False)
    assert "attempt" in report["refusals"][0]["what"]
    assert check(capsys, "--stopped")[0] == 0
    plan(monkeypatch, removal, unused_since="0.1.3")
    assert check(capsys)[0] == 0
    plan(monkeypatch, removal, unused_since="0.2.0")
    assert check(capsys)[0] == 1
    monkeypatch.setattr(upgrades, "running_versions", list)
    assert check(capsys)[0] == 1  # nobody knows what runs


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((0, 1, 0), (0, 1, 9), False),
        ((0, 1), (0, 2, 0), False),
        ((0, 1), (0, 3), True),
        ((1, 9), (2, 0), False),
        ((1, 9), (2, 1), True),
        ((1, 0), (3, 0), True),
    ],
)
def test_one_release_after_the_other(
    old: tuple[int, ...], new: tuple[int, ...], expected: bool
) -> None:
    assert skips(old, new) is expected


def test_what_else_keeps_an_upgrade_from_being_begun(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    MigrationRecorder(connection).record_applied("certification", "0999_later")
    settings.VERSION = "0.1.0"
    old = type("Old", (), {"created_at": clock.now() - timedelta(hours=30)})
    monkeypatch.setattr(backups, "stored", lambda: [old])
    monkeypatch.setattr(upgrades, "SPARE_BYTES", 10**18)
    code, report = check(capsys)
    refusals = " ".join(row["what"] for row in report["refusals"])
    assert code == 1
    for part in ("0.1.4 runs, this is 0.1.0", "0999_later", "30 hours old", "MB are free"):
        assert part in refusals
    monkeypatch.setattr(backups, "stored", list)
    monkeypatch.setattr(upgrades, "running_versions", lambda: ["nonsense"])
    refusals = " ".join(row["what"] for row in check(capsys)[1]["refusals"])
    assert "There is no backup." in refusals
    assert "no release" in refusals


def test_without_check_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="--check") as refused:
        call_command("upgrade")
    assert refused.value.returncode == 2
    assert Step("x", []).faults == []
