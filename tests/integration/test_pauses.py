"""Pauses of the queue by persons, and read-only mode: by page, API and command."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import get_resolver

from certification.api import read_only
from certification.engine import backend, dispatch, pauses, reconcile
from certification.engine.dispatch import CertifyOptions
from certification.lib import clock
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    PauseCause,
    Priority,
    QueuePause,
    Region,
    User,
)
from certification.monitoring import queue_stats
from certification.monitoring.alert_rules import RULES, Facts
from certification.web import waiting
from tests.api import Api
from tests.factories import start_job

pytestmark = pytest.mark.django_db
NOVA = "amazon.nova-lite-v1:0"
PERSON, READ_ONLY = PauseCause.PERSON, PauseCause.READ_ONLY


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(queue_stats.workers_seen, "get_soon", list)


@pytest.fixture
def model(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


@pytest.fixture
def api(operator: User) -> Api:
    return Api(operator)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    now = clock.now

    def later(duration: timedelta) -> None:
        monkeypatch.setattr(clock, "now", lambda: now() + duration)

    return later


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = 0
    try:
        call_command(*arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def claim(run: CertificationRun) -> CertificationRun | None:
    return CertificationRun.objects.claim(run.pk, "w:1", backend.name())


class TestWhatWaits:
    @pytest.mark.parametrize("cause", [PERSON, READ_ONLY])
    def test_a_persons_pause_holds_every_run_until_it_ends(
        self, model: AIModel, cause: PauseCause
    ) -> None:
        job = start_job([model], ["us-east-1"])
        assert pauses.begin(cause, "ann", "a migration")
        assert pauses.begin(cause, "ben", "another") is None
        assert claim(job.runs.get()) is None
        assert reconcile.resend_undelivered(Priority.INTERACTIVE) == 0
        assert pauses.end(cause, "ben")
        assert pauses.end(cause, "ben") is None
        assert claim(job.runs.get())

    def test_a_pause_with_an_end_ends_by_itself(
        self, model: AIModel, wait: Callable[[timedelta], None]
    ) -> None:
        pauses.begin(PERSON, "ann", "a migration", timedelta(hours=1))
        assert "It ends by itself at" in QueuePause.objects.get().sentence
        wait(timedelta(minutes=61))
        assert QueuePause.objects.current(backend.name()) is None
        assert pauses.begin(PERSON, "ben", "another")
        lapsed = QueuePause.objects.get(opened_by="ann")
        assert lapsed.resumed_at == lapsed.until

    def test_the_database_ends_it_too(self, model: AIModel) -> None:
        job = start_job([model], ["us-east-1"])
        pause = pauses.begin(PERSON, "ann", "a migration", timedelta(hours=1))
        assert pause
        assert claim(job.runs.get()) is None
        QueuePause.objects.update(until=clock.now() - timedelta(seconds=1))
        assert claim(job.runs.get())

    def test_reconcile_leaves_a_persons_pause_and_closes_lapsed_ones(self, model: AIModel) -> None:
        pauses.begin(PERSON, "ann", "a migration", timedelta(hours=1))
        assert reconcile.check_pause() == reconcile.PauseCheck(paused=True)
        QueuePause.objects.update(until=clock.now() - timedelta(seconds=1))
        assert reconcile.check_pause() == reconcile.PauseCheck(paused=False)
        assert QueuePause.objects.get().resumed_at

    def test_its_runs_count_as_paused_and_say_why(self, model: AIModel) -> None:
        job = start_job([model], ["us-east-1"])
        job.runs.update(status="QUEUED")
        pauses.begin(PERSON, "ann", "a migration")
        counts = queue_stats.active_counts(QueuePause.objects.current(backend.name()))
        assert (counts.waiting, counts.paused) == (0, 1)
        [cause] = waiting.causes(job, list(job.runs.all()), None, clock.now())
        assert "ann: a migration" in cause.sentence

    def test_one_alert_names_the_pause_and_stands_for_what_follows(self) -> None:
        pauses.begin(PERSON, "ann", "a migration")
        rules = {rule.name: rule for rule in RULES}
        assert list(rules["queue_paused"].measure(Facts())) == ["person"]
        assert rules["credentials_invalid"].measure(Facts()) == {}
        for name in ("queue_waiting", "queue_oldest", "nothing_completed"):
            assert {"queue_paused", "credentials_invalid"} <= set(rules[name].because_of)


class TestPage:
    def test_an_operator_pauses_and_resumes(self, as_operator: Client, operator: User) -> None:
        form = {"cause": "person", "reason": "a <b>migration", "for": "2h"}
        html = as_operator.post("/operations/pauses/", form, follow=True).content.decode()
        pause = QueuePause.objects.get()
        assert (pause.message, pause.opened_by) == ("a <b>migration", operator.email)
        assert "a &lt;b&gt;migration" in html
        assert "Pause the queue" not in html
        html = as_operator.post("/operations/pauses/person/end/", follow=True).content.decode()
        assert "runs go on within a minute" in html
        assert QueuePause.objects.current(backend.name()) is None
        html = as_operator.post("/operations/pauses/person/end/", follow=True).content.decode()
        assert "It had ended already" in html

    @pytest.mark.parametrize(
        "form",
        [
            {"cause": "person"},
            {"cause": "credentials", "reason": "x"},
            {"cause": "person", "reason": "x", "for": "soon"},
            {"reason": "x"},
        ],
    )
    def test_what_is_no_pause_is_refused(self, as_operator: Client, form: dict[str, str]) -> None:
        assert as_operator.post("/operations/pauses/", form).status_code == 302
        assert not QueuePause.objects.exists()
        assert as_operator.post("/operations/pauses/credentials/end/").status_code == 404

    def test_a_viewer_may_not(self, as_viewer: Client) -> None:
        form = {"cause": "person", "reason": "x"}
        assert as_viewer.post("/operations/pauses/", form).status_code == 403
        html = as_viewer.get("/operations/?tab=queue").content.decode()
        assert "/operations/pauses/" not in html

    def test_the_first_page_says_who_paused_it(self, as_viewer: Client) -> None:
        pauses.begin(PERSON, "ann", "a migration")
        html = as_viewer.get("/").content.decode()
        assert "ann: a migration" in html
        assert "/operations/?tab=queue" in html


class TestReadOnlyMode:
    def test_pages_refuse_what_writes_and_say_why(
        self, as_operator: Client, model: AIModel
    ) -> None:
        job = start_job([model], ["us-east-1"])
        pauses.begin(READ_ONLY, "ann", "the disk is full", timedelta(minutes=10))
        for path in (f"/jobs/{job.pk}/cancel/", "/jobs/new/", "/account/", "/dismiss/"):
            answer = as_operator.post(path)
            assert answer.status_code == 503, path
            assert 590 <= int(answer["Retry-After"]) <= 600
            assert "ann: the disk is full" in answer.content.decode()
        job.refresh_from_db()
        assert job.status != "CANCELLED"
        html = as_operator.get("/jobs/").content.decode()
        assert html.count("Read-only mode is on (ann: the disk is full)") == 2  # strip and note

    def test_the_api_refuses_and_goes_on_reading(self, api: Api, model: AIModel) -> None:
        pauses.begin(READ_ONLY, "ann", "the disk is full")
        body = {"modelId": NOVA, "region": "us-east-1"}
        answer = api.post("certification-queue/certify-model", body, status=503)
        assert answer["status"] == "error"
        assert "the disk is full" in answer["message"]
        assert api.get("models")
        assert not CertificationJob.objects.exists()

    def test_who_logs_in_and_who_ends_it_is_not_refused(
        self, client: Client, operator: User
    ) -> None:
        pauses.begin(READ_ONLY, "ann", "the disk is full")
        form = {"username": operator.email, "password": "a-long-test-password"}
        assert client.post("/login/", form).status_code == 302
        assert client.post("/operations/pauses/read_only/end/").status_code == 302
        assert QueuePause.objects.read_only() is None

    def test_no_way_leads_around_it(self, model: AIModel) -> None:
        pauses.begin(READ_ONLY, "ann", "the disk is full")
        pairs = [(model, Region.objects.get(code="us-east-1"))]
        with pytest.raises(dispatch.ReadOnly, match="the disk is full"):
            dispatch.certify(pairs, CertifyOptions())
        for command in (
            ["certify", NOVA, "--regions", "us-east-1"],
            ["sync_catalogue"],
            ["rescore"],
        ):
            with pytest.raises(CommandError, match="readonly off"):
                call_command(*command)
        assert not CertificationJob.objects.exists()

    def test_what_goes_on_exists(self) -> None:
        names = {key for key in get_resolver().reverse_dict if isinstance(key, str)}
        assert names >= read_only.PAGES
        routes = {
            f"api/{pattern.pattern}"
            for pattern in get_resolver("certification.api.urls").url_patterns
        }
        routes |= {str(pattern.pattern) for pattern in get_resolver().url_patterns}
        assert routes >= read_only.ENDPOINTS


class TestCommands:
    def test_the_queue_is_paused_and_resumed(self, capsys: Any) -> None:
        pause = ("queue", "pause", "--reason", "a migration", "--for", "2h")
        assert run(capsys, *pause, "--dry-run") == (0, "Would pause the queue.\n")
        assert not QueuePause.objects.exists()
        code, text = run(capsys, *pause, "--json")
        assert (code, json.loads(text)["changed"]) == (0, True)
        assert "a migration" in json.loads(text)["paused"]
        assert run(capsys, *pause)[0] == 1
        code, text = run(capsys, "queue")
        assert code == 1
        assert "a migration" in text
        assert run(capsys, "queue", "resume", "--dry-run") == (0, "Would resume the queue.\n")
        assert QueuePause.objects.open().count() == 1
        assert run(capsys, "queue", "resume") == (0, "The queue is not paused.\n")
        assert run(capsys, "queue", "resume", "--json")[0] == 1

    def test_read_only_mode_is_begun_and_ended(self, capsys: Any) -> None:
        on = ("readonly", "on", "--reason", "the disk is full", "--for", "1h")
        assert run(capsys, "readonly", "status") == (0, "Read-only mode is off.\n")
        assert run(capsys, *on, "--dry-run") == (0, "Would turn it on.\n")
        assert not QueuePause.objects.exists()
        code, text = run(capsys, *on)
        assert code == 0
        assert "the disk is full" in text
        assert run(capsys, *on)[0] == 1
        code, text = run(capsys, "readonly", "status", "--json")
        assert (code, json.loads(text)["readOnly"]["reason"]) == (1, "the disk is full")
        assert run(capsys, "readonly", "off", "--dry-run") == (0, "Would turn it off.\n")
        assert json.loads(run(capsys, "readonly", "off", "--json")[1]) == {
            "readOnly": None,
            "changed": True,
        }
        assert run(capsys, "readonly", "off")[0] == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            ("queue", "pause", "--reason", " "),
            ("queue", "pause", "--reason", "x", "--for", "soon"),
            ("queue", "pause"),
            ("readonly", "on", "--reason", ""),
            ("readonly", "on", "--reason", "x", "--for", "0h"),
            ("readonly",),
        ],
    )
    def test_what_they_cannot_do_is_a_sentence(self, arguments: tuple[str, ...]) -> None:
        with pytest.raises(CommandError) as refused:
            call_command(*arguments)
        assert refused.value.returncode in (1, 2)
        assert not QueuePause.objects.exists()
