"""Routines: what they do, what they report, and that a failed one is an alert."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.test import Client
from django_celery_results.models import TaskResult

from certification.lib import clock
from certification.models import AlertEpisode, NextAction, RoutineMark, TargetDay
from certification.models.routines import BACKUP, RECONCILE
from certification.monitoring.alert_rules import RULES, Facts
from certification.monitoring.findings import Finding
from certification.operations import (
    backups,
    inspections,
    packages,
    retention,
    routines,
    security,
    server,
    tasks,
)
from certification.operations.inspections import StepFault
from certification.operations.routines import ROUTINES, Step
from certification.stack.control import ProcessStatus

pytestmark = pytest.mark.django_db
RULE = {rule.name: rule for rule in RULES}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = 0
    try:
        call_command("routine", *arguments, "--json")
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def well(_deadline: float) -> str:
    return "did it"


def fails(_deadline: float) -> str:
    raise StepFault("found something")


def crashes(_deadline: float) -> str:
    raise ZeroDivisionError("by zero")


@pytest.fixture
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (Step("one", well), Step("two", fails), Step("three", crashes), Step("four", well))
    monkeypatch.setitem(ROUTINES, "hourly", replace(ROUTINES["hourly"], steps=steps))


@pytest.mark.usefixtures("_steps")
def test_a_step_that_fails_stops_no_other_and_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, report = run(capsys, "run", "hourly")
    assert (code, report["well"], report["late"]) == (1, False, False)
    assert [(step["step"], step["well"], step["text"]) for step in report["steps"]] == [
        ("one", True, "did it"),
        ("two", False, "found something"),
        ("three", False, "ZeroDivisionError: by zero"),
        ("four", True, "did it"),
    ]
    mark = RoutineMark.objects.get(name="hourly")
    assert (mark.has_failed, mark.ended_well) == (True, False)
    assert "two: found something; three: ZeroDivisionError" in mark.fault
    assert RULE["routine_failed"].measure(Facts()) == {"hourly": 1}
    _code, listed = run(capsys, "list")
    [row] = [row for row in listed["routines"] if row["routine"] == "hourly"]
    assert row["fault"] == mark.fault
    assert run(capsys, "run", "hourly", "--step", "one")[0] == 0
    assert RoutineMark.objects.get(name="hourly").has_failed  # a step is not the routine


def test_the_report_is_the_result_of_the_task_and_shown_in_the_admin(
    capsys: pytest.CaptureFixture[str], as_administrator: Client, administrator: Any
) -> None:
    code, report = run(capsys, "run", "hourly")
    assert (code, report["well"]) == (0, True), report
    result = TaskResult.objects.get()
    assert json.loads(result.result) == report
    assert (result.task_name, result.status) == (tasks.run_routine.name, "SUCCESS")
    assert RoutineMark.objects.get(name="hourly").ended_well
    administrator.is_superuser = True
    administrator.save()
    page = as_administrator.get("/admin/django_celery_results/taskresult/")
    assert tasks.run_routine.name in page.content.decode()


def test_maintenance_stores_results_and_certification_does_not() -> None:
    current_app.loader.import_default_modules()
    stores = {
        name
        for name, task in current_app.tasks.items()
        if name.startswith("certification.") and not task.ignore_result
    }
    assert stores == {
        "certification.operations.tasks.run_routine",
        "certification.operations.tasks.audit_security",
        "certification.engine.schedules.certify_scheduled",
    }


def test_beat_knows_every_routine(settings: Any) -> None:
    entries = settings.CELERY_BEAT_SCHEDULE.values()
    names = [entry["args"][0] for entry in entries if entry["task"] == tasks.run_routine.name]
    assert names == list(ROUTINES)


def test_what_comes_after_its_time_is_left_and_a_late_routine_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = (Step("one", well), Step("two", well))
    monkeypatch.setitem(ROUTINES, "hourly", replace(ROUTINES["hourly"], steps=steps, budget_s=-1))
    report = routines.run("hourly")
    assert [step["well"] for step in report["steps"]] == [False, False]
    assert report["late"]
    assert "of -1 s" in RoutineMark.objects.get(name="hourly").fault


def test_one_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with server.connect() as other, server.hold_lock(other, routines.LOCK):
        assert "at work already" in tasks.run_routine("hourly")["skipped"]
        with pytest.raises(CommandError) as refused:
            call_command("routine", "run", "hourly")
        assert refused.value.returncode == 2
    assert not RoutineMark.objects.filter(name="hourly").exists()


def test_a_dry_run_names_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [step.name for step in ROUTINES["daily"].steps]
    assert run(capsys, "run", "daily", "--dry-run")[1]["steps"] == steps
    with pytest.raises(CommandError, match="no step 'nosuch'"):
        call_command("routine", "run", "daily", "--step", "nosuch")
    assert not TaskResult.objects.exists()


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_arguments: Any) -> Any:
        raise packages.Unchecked("There is no network.")

    monkeypatch.setattr(packages, "run", run)


@pytest.mark.usefixtures("_offline")
def test_the_quarterly_routine_tells_what_it_looked_at(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:1"
    monkeypatch.setattr(security, "PARTS", {"keys": security.keys, "users": security.users})
    report = routines.run("quarterly")
    texts = {step["step"]: step["text"] for step in report["steps"]}
    assert texts["security audit"] == "no findings"
    assert "does not answer" in texts["load test"]
    assert texts["access review"] == "everybody who may log in does"
    assert "secrets" in texts["secrets that are due"]
    assert TaskResult.objects.filter(task_name=retention.AUDIT_TASK).count() == 1
    names = [name for name, _text in routines.OF_PEOPLE]
    assert set(names) <= set(NextAction.objects.open().values_list("step", flat=True))
    routines.run("quarterly", "for people")
    assert NextAction.objects.filter(step=names[0]).count() == 1  # it is still open
    monkeypatch.setattr(packages, "installed", dict)
    with pytest.raises(StepFault, match="is missing, locked"):
        inspections.check_packages(0)


def test_what_is_looked_at_is_told_and_judged(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:1"
    settings.LOG_DIR = str(tmp_path)
    lines = [
        json.dumps({"timestamp": clock.now().isoformat(), "level": "error", "event": "x"})
        for _ in range(11)
    ]
    (tmp_path / "combined.log").write_text("\n".join(lines[:10]) + "\n")
    assert inspections.errors_of_the_day(0).startswith("10 error lines")
    (tmp_path / "combined.log").write_text("\n".join(lines) + "\n")
    with pytest.raises(StepFault, match="11 error lines"):
        inspections.errors_of_the_day(0)
    with pytest.raises(StepFault, match="does not answer"):
        inspections.reachable(0)
    assert "end within 3 days" in inspections.certifications_that_end(0)
    server = ProcessStatus("postgres", "running", 1, clock.now(), memory_bytes=900_000_000)
    monkeypatch.setattr(inspections.control, "status", lambda: [server])
    assert inspections.processes(0) == "1 processes on this machine; restarted: none"
    row = ProcessStatus("web", "running", 1, clock.now(), memory_bytes=500_000_000)
    monkeypatch.setattr(inspections.control, "status", lambda: [row])
    with pytest.raises(StepFault, match="web uses 500 MB"):
        inspections.processes(0)
    assert "web 0.0 days" in inspections.uptime(0)
    settings.BASE_DIR = tmp_path
    assert "not from a repository" in inspections.deployed(0)
    assert inspections.alert_channels(0) == "0 channels accepted a test"
    monkeypatch.setattr(inspections, "HEALTH", {"files": lambda: iter([Finding("Bad.", "", "")])})
    with pytest.raises(StepFault, match=r"files: Bad\."):
        inspections.health(0)


def test_a_target_that_is_missed_fails_its_step() -> None:
    assert "0 targets are met" in inspections.targets_of_the_week(0)
    TargetDay.objects.create(name="availability", day=clock.now().date(), good=1, total=2)
    for inspect in (inspections.targets_of_the_week, inspections.targets_of_the_month):
        with pytest.raises(StepFault, match="availability: 50 %"):
            inspect(0)


@pytest.mark.slow
@pytest.mark.usefixtures("_offline")
def test_backup_and_drill_and_a_drill_that_fails(settings: Any, tmp_path: Path) -> None:
    settings.BACKUP_DIR, settings.PRIVATE_FOLDER = tmp_path, tmp_path / "private"
    report = routines.run("weekly")
    assert "There is no backup" in report["steps"][0]["text"]
    assert RULE["restore_drill_failed"].measure(Facts()) == {"": 1}
    report = routines.run("daily", "backup")
    assert report["well"], report
    assert RoutineMark.objects.get(name=BACKUP).ended_well
    report = routines.run("weekly")
    assert "rows back in" in report["steps"][0]["text"], report
    assert RULE["restore_drill_failed"].measure(Facts()) == {}
    [backup] = backups.stored()
    backup.path.write_bytes(backup.path.read_bytes()[:-100])
    report = routines.run("weekly")
    assert "truncated or was changed" in report["steps"][0]["text"]
    assert RULE["restore_drill_failed"].measure(Facts()) == {"": 1}
    assert RULE["routine_failed"].measure(Facts()).keys() == {"weekly"}


def test_a_missing_backup_is_an_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULE["backup_late"]
    assert rule.measure(Facts()) == {}  # nothing has ever run
    RoutineMark.record(RECONCILE)
    began = clock.now()
    monkeypatch.setattr(clock, "now", lambda: began + timedelta(hours=27))
    [never] = rule.measure(Facts()).values()
    assert [level.severity for level in rule.severities(never)] == ["warning"]
    RoutineMark.record(BACKUP)
    assert not rule.severities(rule.measure(Facts())[""])
    monkeypatch.setattr(clock, "now", lambda: began + timedelta(hours=27 + 51))
    [late] = rule.measure(Facts()).values()
    assert [level.severity for level in rule.severities(late)] == ["critical", "warning"]
    assert not AlertEpisode.objects.exists()
