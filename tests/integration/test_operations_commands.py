"""The commands for operators: what they say, and their exit codes."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from certification.lib import clock
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    RoutineMark,
    RunTotal,
    State,
)
from certification.monitoring import doctor, queue_stats, site_health
from certification.monitoring.bedrock_status import BedrockStatus
from tests.factories import certify, start_job

pytestmark = pytest.mark.django_db
NOVA = "amazon.nova-lite-v1:0"


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    queue_stats.finished_runs.forget()


@pytest.fixture
def model(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = 0
    try:
        call_command(*arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def test_an_empty_queue_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "queue")
    assert (code, text.splitlines()[0]) == (
        0, "0 wait, 0 active, 0 paused; the oldest waits for 0 s.",
    )  # fmt: skip
    assert "manage.py up" in text


def test_the_queue_shows_who_waits_where_and_for_how_long(
    model: AIModel, capsys: pytest.CaptureFixture[str]
) -> None:
    job = start_job([model], ["us-east-1", "eu-west-1"])
    job.runs.update(created_at=clock.now() - timedelta(minutes=16))
    code, text = run(capsys, "queue", "show", "--json")
    body = json.loads(text)
    assert code == 1  # one waits for over 15 minutes
    assert body["runs"]["waiting"] + body["runs"]["delayed"] == 2
    assert {row["region_id"] for row in body["regions"]} == {"us-east-1", "eu-west-1"}
    _code, text = run(capsys, "queue", "waiting", "--json")
    assert [row["model"] for row in json.loads(text)["runs"]] == [NOVA, NOVA]
    assert json.loads(run(capsys, "queue", "active", "--json")[1]) == {"runs": []}
    assert NOVA in run(capsys, "queue", "waiting")[1]


def test_purging_cancels_large_jobs_only_and_not_in_a_dry_run(
    model: AIModel, capsys: pytest.CaptureFixture[str]
) -> None:
    small = start_job([model], ["us-east-1"])
    large = start_job([model], ["eu-west-1"])
    CertificationJob.objects.filter(pk=large.pk).update(priority="bulk")
    before = list(CertificationRun.objects.order_by("pk").values())
    assert run(capsys, "queue", "purge", "--bulk", "--dry-run") == (
        0,
        "Would cancel 1 runs of 1 job.\n",
    )
    assert list(CertificationRun.objects.order_by("pk").values()) == before
    assert run(capsys, "queue", "purge", "--bulk")[1] == "Cancelled 1 runs of 1 job.\n"
    assert large.runs.get().status == State.CANCELLED
    assert small.runs.get().status != State.CANCELLED
    with pytest.raises(CommandError, match="--bulk"):
        call_command("queue", "purge")


@pytest.fixture
def _well(monkeypatch: pytest.MonkeyPatch, model: AIModel) -> None:
    for name in site_health.MAX_AGES:
        RoutineMark.record(name)
    monkeypatch.setattr(queue_stats.workers, "compute", lambda: 2)
    status = BedrockStatus("emulator", "us-east-1", True, True, 3)
    monkeypatch.setattr(doctor, "check_bedrock", lambda: status)
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 0)
    monkeypatch.setattr(doctor, "MIN_MEMORY_SHARE", 0)
    monkeypatch.setattr(doctor, "run_checks", lambda tags: [])
    monkeypatch.setitem(doctor.CHECKS, "accounts", lambda: iter(()))


@pytest.mark.usefixtures("_well")
def test_the_doctor_finds_nothing_where_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "doctor", "--data", "--json")
    body = json.loads(text)
    assert (code, body["well"]) == (0, True), body
    assert [check["check"] for check in body["checks"]] == [*doctor.CHECKS, *doctor.DATA]


@pytest.mark.usefixtures("_well")
def test_the_doctor_names_what_is_wrong_and_its_fix(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: AIModel,
    settings: Any,
) -> None:
    run_ = certify(model, "us-east-1")
    RunTotal.objects.create(status="COMPLETED", tier="quick", backend="aws", runs=7)
    CertificationJob.objects.filter(pk=run_.job_id).update(succeeded_runs=0)
    RoutineMark.objects.all().delete()
    monkeypatch.setattr(queue_stats.workers, "compute", lambda: 0)
    code, text = run(capsys, "doctor", "--data", "--json")
    checks = json.loads(text)["checks"]
    result = {check["check"]: [f["what"] for f in check["findings"]] for check in checks}
    assert code == 1
    assert result["workers"] == ["No worker answers."]
    assert len(result["routines"]) == 2
    assert result["data"][0] == "1 jobs count other runs than they have."
    assert "runs are counted" in result["data"][1]
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    text = run(capsys, "doctor")[1]
    assert "A server does not answer (ConnectionError)." in text


def test_the_doctor_sees_files_that_others_can_read(settings: Any, tmp_path: Any) -> None:
    settings.MYIA_DIR = tmp_path
    secret = tmp_path / "secret_key"
    secret.write_text("x")
    secret.chmod(0o644)
    [finding] = doctor.files_are_private()
    assert finding.fix == f"chmod 600 {secret}"


def test_status_is_shown_anew_until_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert run(capsys, "status", "--watch", "--interval", "3")[0] == 0
    assert pauses == [3.0, 3.0]


@pytest.mark.parametrize(
    "command",
    [
        "alerts", "queue", "doctor", "status", "logs", "health_monitor", "smoke", "restart",
        "analyze_performance", "redis_report", "readonly",
    ],
)  # fmt: skip
def test_commands_describe_themselves(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, command, "--help")
    assert code == 0
    assert "xit code" in text
    assert "--json" in text
