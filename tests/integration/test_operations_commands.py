"""The commands for operators: what they say, and their exit codes."""

from __future__ import annotations

import io
import json
import socket
import sys
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import ProgrammingError

from certification.lib import clock, redis_client
from certification.lib.postgresql import patience
from certification.lib.redis_client import Purpose
from certification.management.guard import LOOK_S, cannot_look
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    RoutineMark,
    RunTotal,
    State,
)
from certification.monitoring import doctor, queue_stats, redis_report, site_health
from certification.monitoring.bedrock_status import BedrockStatus
from certification.monitoring.checks import Check
from certification.monitoring.checks import run as run_checks
from tests.factories import certify, start_job
from tests.sleeping import replace_sleep

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


@pytest.fixture
def broken(settings: Any, tmp_path: Path, model: AIModel) -> Path:
    """A file that others can read, and a run whose worker died long ago."""
    settings.MYIA_DIR = settings.PRIVATE_FOLDER = settings.CERTIFICATE_FOLDER = tmp_path
    secret = tmp_path / "secret_key"
    secret.write_text("x")
    secret.chmod(0o644)
    run = start_job([model], ["us-east-1"]).runs.get()
    CertificationRun.objects.claim(run.pk, "a dead worker")
    CertificationRun.objects.update(heartbeat_at=clock.now() - timedelta(hours=1))
    return secret


def rows() -> list[Any]:
    tables = (CertificationRun, CertificationJob, RoutineMark, AIModel)
    return [list(table.objects.order_by("pk").values()) for table in tables]


@pytest.mark.usefixtures("_well")
def test_a_dry_run_of_the_repairs_changes_nothing(
    capsys: pytest.CaptureFixture[str], broken: Path
) -> None:
    before = rows()
    code, text = run(capsys, "doctor", "--fix", "--dry-run", "--json")
    repairs = json.loads(text)["repairs"]
    assert code == 1
    assert [(repair["check"], repair["done"]) for repair in repairs] == [
        ("runs", False), ("files", False),
    ]  # fmt: skip
    assert (rows(), broken.stat().st_mode & 0o777) == (before, 0o644)


@pytest.mark.usefixtures("_well")
def test_safe_repairs_are_made_and_what_they_mended_is_looked_at_again(
    capsys: pytest.CaptureFixture[str], broken: Path
) -> None:
    code, text = run(capsys, "doctor")
    assert code == 1
    assert "manage.py doctor --fix" in text
    code, text = run(capsys, "doctor", "--fix", "--yes", "--json")
    body = json.loads(text)
    assert (code, body["well"]) == (0, True), body
    assert [(repair["check"], repair["done"]) for repair in body["repairs"]] == [
        ("runs", True), ("files", True),
    ]  # fmt: skip
    assert "Retried: 1." in body["repairs"][0]["result"]
    assert broken.stat().st_mode & 0o777 == 0o600
    assert CertificationRun.objects.get().status != State.PROCESSING
    assert json.loads(run(capsys, "doctor", "--fix", "--yes", "--json")[1])["repairs"] == []


@pytest.mark.usefixtures("_well")
def test_each_repair_is_asked_for(
    capsys: pytest.CaptureFixture[str], broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["n", "y"])
    monkeypatch.setattr("builtins.input", lambda _question: next(answers))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    code, text = run(capsys, "doctor", "--fix")
    assert code == 1  # the run still stands still
    assert "It was not made." in text
    assert broken.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("_well")
def test_a_repair_that_fails_is_said_and_the_others_are_made(
    capsys: pytest.CaptureFixture[str], broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuses)
    code, text = run(capsys, "doctor", "--fix", "--yes", "--json")
    results = {repair["check"]: repair for repair in json.loads(text)["repairs"]}
    assert code == 1
    assert results["files"]["result"] == "It failed (Operation not permitted)."
    assert (results["files"]["done"], results["runs"]["done"]) == (False, True)


@pytest.mark.parametrize(
    "arguments",
    [("--yes",), ("--dry-run",), ("--fix",), ("--fix", "--json"), ("--fix", "--support")],
)
def test_options_of_the_doctor_that_do_not_fit_are_a_sentence(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(CommandError) as refusal:
        call_command("doctor", *arguments)
    assert refusal.value.returncode == 2


def test_missing_tables_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Iterator[Any]:
        raise ProgrammingError('relation "x" does not exist')
        yield

    [result] = doctor.examine({"runs": missing})
    assert [(f.what, f.fix) for f in result.findings] == [
        ("Tables or columns are missing.", "manage.py migrate"),
    ]
    check = Check("runs", lambda: next(missing()))
    assert run_checks([check]) == {
        "runs": "error: tables or columns are missing: manage.py migrate"
    }


def test_routines_and_an_empty_catalogue_can_be_repaired(
    empty_catalogue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for examination in (doctor.routines_end, doctor.catalogue_is_there):
        findings = list(examination())
        assert findings
        for finding in findings:
            assert finding.repair
            assert finding.repair.run()
        assert list(examination()) == []
    assert AIModel.objects.exists()


def test_only_our_own_redis_is_set_right(settings: Any) -> None:
    bad = {"maxmemory_policy": "allkeys-lru", "aof_enabled": 0}
    settings.EMBEDDED_VALKEY = False
    assert [finding.repair for finding in redis_report.safety_faults(bad)] == [None, None]
    settings.EMBEDDED_VALKEY = True
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.config_set("maxmemory-policy", "allkeys-lru")
    [policy, _saving] = redis_report.safety_faults(bad)
    assert policy.repair
    assert policy.repair.run() == "maxmemory-policy is noeviction."
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    client.close()


def test_the_archive_for_who_helps_is_whole_and_private(
    capsys: pytest.CaptureFixture[str], model: AIModel, tmp_path: Path, settings: Any
) -> None:
    settings.LOG_DIR = str(tmp_path)
    stored = {"timestamp": "2026-11-30T12:00:00Z", "level": "error", "event": "broken"}
    (tmp_path / "combined.log").write_text(json.dumps(stored) + "\n")
    file = tmp_path / "help.zip"
    code, text = run(capsys, "doctor", "--support", str(file), "--dry-run", "--json")
    assert (code, file.exists()) == (0, False)
    plan = json.loads(text)["files"]
    code, text = run(capsys, "doctor", "--support", str(file))
    assert (code, file.stat().st_mode & 0o777) == (0, 0o600)
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == plan
        texts = {name: archive.read(name).decode() for name in plan}
    assert set(plan) == {line.split()[0] for line in texts["README.txt"].splitlines()
                         if ".json" in line} | {"README.txt"}  # fmt: skip
    contents = {name: json.loads(text) for name, text in texts.items() if name.endswith(".json")}
    assert not [name for name, value in contents.items() if "error" in value]
    assert contents["versions.json"]["packages"]["Django"]
    assert contents["settings.json"]["SECRET_KEY"] == "set"
    assert contents["migrations.json"]["missing"] == []
    assert json.loads(texts["logs.jsonl"])["event"] == "broken"
    with pytest.raises(CommandError, match="exists already"):
        call_command("doctor", "--support", str(file))
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("doctor", "--support", str(tmp_path / "nowhere" / "x.zip"))


def test_the_archive_says_which_server_was_away(
    capsys: pytest.CaptureFixture[str], model: AIModel, tmp_path: Path, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    file = tmp_path / "help.zip"
    assert run(capsys, "doctor", "--support", str(file))[0] == 0
    with zipfile.ZipFile(file) as archive:
        assert (
            "could not be read: ConnectionError" in json.loads(archive.read("redis.json"))["error"]
        )
        assert json.loads(archive.read("migrations.json"))["missing"] == []


def test_the_doctor_sees_files_that_others_can_read(settings: Any, tmp_path: Any) -> None:
    settings.MYIA_DIR = settings.PRIVATE_FOLDER = settings.CERTIFICATE_FOLDER = tmp_path
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

    replace_sleep(monkeypatch, sleep)
    assert run(capsys, "status", "--watch", "--interval", "3")[0] == 0
    assert pauses == [3.0, 3.0]


def test_who_watches_waits_a_second_for_a_silent_server(settings: Any) -> None:
    waits = []

    @cannot_look
    def handle() -> None:
        options = redis_client.client(Purpose.BROKER).connection_pool.connection_kwargs
        waits.append((patience.is_limited(), options["socket_timeout"]))
        raise CommandError("a sentence")

    with pytest.raises(CommandError) as refusal:
        handle()
    assert (waits, refusal.value.returncode) == ([(True, LOOK_S)], 2)
    usual = redis_client.client(Purpose.BROKER).connection_pool.connection_kwargs
    assert (patience.is_limited(), usual["socket_timeout"]) == (False, 5.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with pytest.raises(CommandError, match="Timeout reading from"):
            call_command("redis_report")


@pytest.mark.parametrize(
    "command",
    [
        "alerts", "queue", "doctor", "status", "logs", "health_monitor", "smoke", "restart",
        "analyze_performance", "redis_report", "readonly", "targets", "security_audit",
        "dependencies", "upgrade", "loadtest", "rotate_credentials", "db_maintenance", "cleanup",
    ],
)  # fmt: skip
def test_commands_describe_themselves(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, command, "--help")
    assert code == 0
    assert "xit code" in " ".join(text.split())  # argparse breaks lines
    assert "--json" in text
