"""Drills: what they break, what they tell, when they are passed."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from certification.engine import backend, pauses, queue, runner
from certification.engine.worker import get_worker
from certification.models import (
    AuditEntry,
    Backend,
    CertificationRun,
    Drill,
    PauseCause,
    QueuePause,
    TrainingTick,
    User,
)
from certification.operations import practice
from certification.operations.documents import DRILLS_OF
from certification.operations.practice import CAUSES, SCENARIOS

pytestmark = pytest.mark.django_db


@pytest.fixture
def _installation(
    emulator: str, catalogue: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """An installation with the session's emulator, which is as it was afterwards."""
    settings.EMULATOR_SCENARIO = "healthy"
    monkeypatch.setattr(queue, "publish", lambda *_: True)
    yield
    practice.switch_emulator("healthy")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = 0
    try:
        call_command("practice", *arguments, "--json")
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def work() -> CertificationRun:
    """Have the newest run executed, as a worker would."""
    newest = CertificationRun.objects.latest("created_at")
    assert runner.run(newest.pk, get_worker())
    newest.refresh_from_db()
    return newest


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_installation")
def test_a_drill_from_its_fault_to_its_tick(
    capsys: pytest.CaptureFixture[str], operator: User
) -> None:
    for name in ("quota", "outage", "credentials"):  # passed before
        Drill.objects.create(scenario=name, person=operator.email, passed=True).end(passed=True)
    code, started = run(capsys, "start", "access", "--user", operator.email)
    assert code == 0
    assert "manage.py job list" in started["look"]
    assert work().error_reason == "iam_denied"
    with pytest.raises(CommandError, match="A drill is on already"):
        call_command("practice", "start", "quota", "--user", operator.email)
    assert run(capsys, "check")[1]["missing"] == "The cause is not named yet."
    assert run(capsys, "answer", "throttled") == (
        1,
        run(capsys, "list")[1]["current"] | {"right": False},
    )
    code, answered = run(capsys, "answer", "access_denied")
    assert (code, answered["right"], answered["wrongAnswers"]) == (0, True, 1)
    assert run(capsys, "answer", "access_denied")[0] == 0
    code, checked = run(capsys, "check")
    assert code == 1
    assert "has gone through since then" in checked["missing"]
    practice.certify()
    assert work().verdict == "certified"
    code, passed = run(capsys, "check")
    assert (code, passed["passed"]) == (0, True)
    ticked = set(TrainingTick.objects.filter(person=operator.email).values_list("step", flat=True))
    assert ticked == set(DRILLS_OF)
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {
        "practice start", "practice answer", "practice check",
    }  # fmt: skip


@pytest.mark.usefixtures("_installation")
def test_a_paused_queue_is_resumed_by_the_operator(
    capsys: pytest.CaptureFixture[str], operator: User
) -> None:
    run(capsys, "start", "paused", "--user", operator.email)
    assert QueuePause.objects.open().count() == 1
    run(capsys, "answer", "queue_paused")
    assert run(capsys, "check")[1]["missing"] == "The queue is still paused."
    pauses.end(PauseCause.PERSON, "me")
    assert "has gone through" in run(capsys, "check")[1]["missing"]
    assert run(capsys, "stop")[1]["passed"] is False
    assert Drill.current() is None


@pytest.mark.usefixtures("_installation")
@pytest.mark.parametrize("name", [name for name, drill in SCENARIOS.items() if drill.rules])
def test_the_emulator_takes_each_scenario_and_stop_takes_it_back(
    name: str, operator: User, capsys: pytest.CaptureFixture[str], emulator: str
) -> None:
    run(capsys, "start", name, "--user", operator.email)
    assert scenario_of(emulator) == "practice"
    run(capsys, "stop")
    assert scenario_of(emulator) == "healthy"


def scenario_of(url: str) -> str:
    with urllib.request.urlopen(f"{url}/_emulator/health") as answer:
        name: str = json.load(answer)["scenario"]
    return name


def test_each_cause_is_known_and_has_words() -> None:
    for scenario in SCENARIOS.values():
        assert scenario.cause in CAUSES
        assert scenario.commands
        assert scenario.left


def test_it_refuses_where_aws_is_called(
    monkeypatch: pytest.MonkeyPatch, operator: User, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backend, "name", lambda: Backend.AWS)
    call_command("practice")
    assert "access" in capsys.readouterr().out
    for arguments in (["start", "access", "--user", operator.email], ["check"], ["stop"]):
        with pytest.raises(CommandError, match="This installation calls AWS") as refused:
            call_command("practice", *arguments)
        assert refused.value.returncode == 2
    assert not Drill.objects.exists()


def test_it_refuses_who_is_no_operator_and_an_emulator_that_is_away(
    settings: Any, viewer: User, operator: User, monkeypatch: pytest.MonkeyPatch, catalogue: None
) -> None:
    monkeypatch.setattr(backend, "name", lambda: Backend.EMULATOR)
    settings.BEDROCK_ENDPOINT_URL = "http://127.0.0.1:9"
    with pytest.raises(CommandError, match="is no operator"):
        call_command("practice", "start", "access", "--user", viewer.email)
    with pytest.raises(CommandError, match="does not answer"):
        call_command("practice", "start", "access", "--user", operator.email)
    with pytest.raises(CommandError, match="No drill is on"):
        call_command("practice", "check")
