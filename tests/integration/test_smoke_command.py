"""`manage.py smoke`: the steps on a working installation, and what fails where it does not work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from certification.management.commands import doctor as doctor_command
from certification.management.commands import smoke as smoke_command
from certification.models import (
    Backend,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    State,
    User,
)
from certification.models.access import ApiKey
from certification.monitoring import doctor, queue_stats, site_health
from certification.operations.site import Answer, NotAnswered, Site
from tests import factories
from tests.sleeping import replace_sleep

pytestmark = pytest.mark.django_db
NOVA = "amazon.nova-micro-v1:0"
PAGES = ["live", "ready", "health", "pages", "api"]
CALL = Site.call
ALL = [*PAGES, "start", "certification", "evidence", "badge"]


@pytest.fixture(autouse=True)
def _site(catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The views themselves answer, and say that all is well."""

    def call(
        self: Site, method: str, path: str, body: bytes = b"", *, signed: bool = False, **_: Any
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self.key}"} if signed and self.key else {}
        client = Client(raise_request_exception=False)
        answer: Any = client.generic(method, path, body, "application/json", headers=headers)
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        return Answer(answer.status_code, answer["Content-Type"].partition(";")[0], content)

    monkeypatch.setattr(Site, "call", call)
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    for shared in (site_health.everything, site_health.readiness):
        shared.forget()
        monkeypatch.setattr(shared, "compute", lambda: {"database": "ok", "bedrock": "ok"})


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the run end while the command waits."""

    def ends(verdict: str = "certified", **result: Any) -> None:
        def sleep(_seconds: float) -> None:
            run = CertificationRun.objects.active().get()
            factories.finish(run, verdict, results=[("G01", "passed", "It answered.")], **result)

        replace_sleep(monkeypatch, sleep)

    return ends


@pytest.fixture
def key_file(operator: User, tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text(ApiKey(user=operator, name="smoke", role="operator").issue() + "\n")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = 0
    try:
        call_command("smoke", *arguments, "--json")
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def failed(body: Any) -> dict[str, str]:
    return {step["name"]: step["detail"] for step in body["steps"] if not step["ok"]}


def test_it_certifies_the_cheapest_model_end_to_end(
    capsys: pytest.CaptureFixture[str], worker: Callable[..., None]
) -> None:
    worker()
    code, body = run(capsys)
    assert (code, failed(body), body["well"]) == (0, {}, True)
    assert [step["name"] for step in body["steps"]] == ALL
    assert body["verdict"] == "certified"
    job = CertificationJob.objects.get()
    assert (job.note, job.tier, str(job.pk)) == ("smoke test", "quick", body["jobId"])
    assert ModelCertification.objects.get().model.api_model_id == body["model"]


def test_it_works_on_another_installation_by_its_api_and_an_api_key(
    capsys: pytest.CaptureFixture[str], worker: Callable[..., None], key_file: str
) -> None:
    worker("quality_warning", score=70, rating="C")
    arguments = (
        NOVA,
        "--region",
        "us-east-1",
        "--url",
        "https://x.example",
        "--key-file",
        key_file,
    )
    code, body = run(capsys, *arguments)
    assert (code, failed(body)) == (0, {})
    assert [step["name"] for step in body["steps"]] == ALL
    assert (body["verdict"], body["model"]) == ("quality_warning", NOVA)
    assert CertificationJob.objects.get().note == "smoke test"


def test_without_a_key_another_installation_is_read_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, body = run(capsys, "--url", "https://x.example")
    assert (code, [step["name"] for step in body["steps"]]) == (0, PAGES)
    call_command("smoke", "--url", "https://x.example")
    assert "Nothing was certified" in capsys.readouterr().out
    assert not CertificationJob.objects.exists()


def test_a_dry_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = run(capsys, NOVA, "--dry-run")
    assert (code, body["steps"], body["model"]) == (0, ALL, NOVA)
    call_command("smoke", "--dry-run")
    assert "at most 0.05 USD" in capsys.readouterr().out
    assert not CertificationJob.objects.exists()


def test_a_run_without_a_verdict_fails_with_its_reason(
    capsys: pytest.CaptureFixture[str], worker: Callable[..., None]
) -> None:
    worker("", message="The network \x1b[31mis gone.")
    code, body = run(capsys)
    assert code == 1
    assert failed(body).keys() == {"certification"}
    assert "FAILED: The network" in failed(body)["certification"]
    assert "\x1b" not in failed(body)["certification"]
    assert [step["name"] for step in body["steps"]] == ALL[:-2]


def test_a_job_that_nobody_takes_fails_after_the_timeout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_sleep(monkeypatch, lambda _seconds: None)
    code, body = run(capsys, "--timeout", "0")
    assert code == 1
    assert "has not ended within 0 s" in failed(body)["certification"]


def test_a_pair_that_is_already_certified_just_now_is_waited_for(
    capsys: pytest.CaptureFixture[str], worker: Callable[..., None]
) -> None:
    call_command("certify", NOVA, "--regions", "us-east-1", "--tier", "quick", "--json")
    job = json.loads(capsys.readouterr().out)["jobId"]
    worker()
    code, body = run(capsys, NOVA, "--region", "us-east-1")
    assert (code, failed(body), body["jobId"]) == (0, {}, job)


def test_ctrl_c_cancels_the_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    replace_sleep(monkeypatch, interrupt)
    with pytest.raises(SystemExit) as end:
        call_command("smoke", "--json")
    assert end.value.code == 130
    assert CertificationJob.objects.get().status == State.CANCELLED
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no.such-model",), "Unknown model"),
        ((NOVA, "--region", "xx-1"), "Unknown region"),
        (("--key-file", "x"), "belongs to --url"),
        (("--url", "https://x.example", "--key-file", "/no/such/file"), "has one API key"),
        (("--url", "https://user:hunter22@x.example"), "without user"),
    ],
)
def test_what_cannot_be_examined_is_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words) as refusal:
        call_command("smoke", *arguments)
    assert refusal.value.returncode == 2
    assert "hunter22" not in str(refusal.value)
    assert not CertificationJob.objects.exists()


def test_calls_that_cost_money_need_a_named_model(
    monkeypatch: pytest.MonkeyPatch, key_file: str
) -> None:
    with pytest.raises(CommandError, match="Name a cheap model"):
        call_command("smoke", "--url", "https://x.example", "--key-file", key_file)
    monkeypatch.setattr(smoke_command, "backend", SimpleNamespace(name=lambda: Backend.AWS))
    with pytest.raises(CommandError, match="Name a cheap model"):
        call_command("smoke")


def test_a_cap_that_is_too_low_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = run(capsys, NOVA, "--max-cost", "0")
    assert code == 1
    assert "over the limit" in failed(body)["start"]
    assert not CertificationJob.objects.exists()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, "text/html", b"<form> of somebody else"),
        Answer(200, "application/json", b"[]"),
        Answer(503, "application/json", b'{"checks": {"redis": "error: away", "x": 7}}'),
        Answer(503, "application/json", b'{"checks": 5}'),
        Answer(302, "", b""),
        Answer(401, "application/json", b"[" * 100_000),
        Answer(200, "text/html", b"\xff\x00"),
    ],
)
def test_any_answer_of_any_shape_is_a_failed_step(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    key_file: str,
) -> None:
    monkeypatch.setattr(Site, "call", lambda *_args, **_options: answer)
    arguments = (
        NOVA,
        "--region",
        "us-east-1",
        "--url",
        "https://x.example",
        "--key-file",
        key_file,
    )
    code, body = run(capsys, *arguments)
    assert code == 1
    assert {"pages", "api", "start"} <= failed(body).keys()


def test_an_address_where_nobody_listens_is_a_sentence() -> None:
    with pytest.raises(NotAnswered, match="does not answer"):
        CALL(Site("http://127.0.0.1:9"), "GET", "/live")


def test_the_doctor_does_it_after_a_deployment(
    worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"tables": lambda: iter(())})
    worker()
    call_command("doctor", "--after-deploy", "--json")
    body = json.loads(capsys.readouterr().out)
    assert [row["check"] for row in body["checks"]] == ["tables", *(f"smoke: {n}" for n in ALL)]
    assert body["well"]
    aws = SimpleNamespace(name=lambda: Backend.AWS)  # whose calls cost money
    monkeypatch.setattr(doctor_command, "backend", aws)
    monkeypatch.setattr(Site, "get", lambda *_: Answer(500, "text/html", b""))
    with pytest.raises(SystemExit) as end:
        call_command("doctor", "--after-deploy", "--json")
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert end.value.code == 1
    assert [row["check"] for row in checks] == ["tables", *(f"smoke: {name}" for name in PAGES)]
    assert checks[1]["findings"]
    for options in (["--model", NOVA], ["--after-deploy", "--dry-run", "--fix"]):
        with pytest.raises(CommandError):
            call_command("doctor", *options)
