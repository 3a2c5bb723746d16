"""One run from claim to verdict, for every fault that the emulator can make."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import (
    DatabaseError,
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)

from certification.bedrock import errors
from certification.bedrock.client import Bedrock
from certification.engine import calls, dispatch, evidence, outcome, runner, trials
from certification.engine import worker as worker_module
from certification.engine.calls import Attempt
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import Worker, get_worker, reset_worker
from certification.inference import Reply, Request, RouteTarget, Text, Timing, ToolUse, user
from certification.models import (
    Backend,
    CertificationRun,
    ModelCertification,
    Priority,
    QueuePause,
    RouteKind,
    RunOutcome,
    State,
    TestResult,
)
from certification.reasons import ErrorCategory, Reason, Status
from certification.suite import registry
from certification.suite.case import Grade, Ref
from tests import factories
from tests.emulators import MICRO, Probe

NOVA = "amazon.nova-lite-v1:0"
ROUTE = RouteTarget(NOVA, "ON_DEMAND")
PRO = "amazon.nova-pro-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bedrock(
    transactional_db: None, emulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Probe]:
    """The session's emulator, healthy again afterwards; pauses between attempts are short; no route
    is slowed down.
    """
    settings.CERTIFICATION_QUEUE_NAME = "runner-tests"
    monkeypatch.setattr(calls, "BACKOFF_S", (0.01, 0.01, 0.01))
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    probe = Probe(emulator)
    yield probe
    probe.page("/_emulator/scenario", b'{"name": "healthy"}')
    get_worker().bedrock.close()


def queue_run(model: str = NOVA, region: str = "us-east-1", **options: Any) -> CertificationRun:
    """A queued quick run."""
    pairs = dispatch.pairs_of(dispatch.find_models([model]), dispatch.find_regions([region]))
    return dispatch.certify(pairs, CertifyOptions(tier="quick", **options)).job.runs.get()


async def unlimited(*_args: Any) -> None:
    """Slow no route down."""


def certify(model: str = NOVA, region: str = "us-east-1", **options: Any) -> CertificationRun:
    """A quick run as it ended."""
    run = queue_run(model, region, **options)
    assert runner.run(run.pk, get_worker())
    return CertificationRun.objects.select_related("job", "model").get(pk=run.pk)


def certification_of(run: CertificationRun) -> ModelCertification | None:
    return ModelCertification.objects.filter(model=run.model, region=run.region).first()


# Verdicts


def test_a_healthy_model_is_certified(bedrock: Probe) -> None:
    run = certify()
    assert (run.status, run.verdict, run.passed, run.score, run.rating) == (
        "COMPLETED",
        "certified",
        True,
        89,
        "B",
    )
    assert run.route == NOVA
    assert run.route_kind == RouteKind.ON_DEMAND
    assert (run.error_reason, run.error_message, run.fix) == ("", "", {})
    assert run.backend == Backend.EMULATOR
    assert run.tokens_in > 0
    assert run.tokens_out > 0
    assert run.cost_usd
    assert run.suite_version
    assert run.policy_version
    assert run.environment["preflight"]["listed"] is True
    assert set(run.results.values_list("verdict", flat=True)) == {"passed"}
    assert run.calls == sum(len(t["calls"]) for r in run.results.all() for t in r.trials)
    now = certification_of(run)
    assert now is not None
    assert (now.status, now.score, now.run_id) == (Status.CERTIFIED, 89, run.pk)
    assert now.expires_at == run.completed_at + timedelta(days=30)
    assert (run.job.status, run.job.succeeded_runs, run.job.cost_usd) == (
        "COMPLETED",
        1,
        run.cost_usd,
    )


def test_tools_that_break_only_when_streaming_fail_the_model_and_are_named(
    bedrock: Probe,
) -> None:
    bedrock.scenario("[[rule]]\ntools_broken_streaming = true")
    run = certify()
    assert (run.status, run.verdict, run.rating) == (State.COMPLETED, Status.FAILED, "F")
    assert run.error_reason == Reason.GATE_FAILED
    assert "Streaming tools (they work without streaming)" in run.error_message
    assert list(run.results.filter(verdict="failed").values_list("case_id", flat=True)) == ["G11"]
    assert certification_of(run).status == Status.FAILED  # type: ignore[union-attr]


REFUSALS = [
    ('access = "iam"', Status.PERMISSION_REQUIRED, Reason.IAM_DENIED, "InvokeModel"),
    ('access = "iam_deny"', Status.PERMISSION_REQUIRED, Reason.IAM_DENIED, "InvokeModel"),
    ('access = "scp"', Status.PERMISSION_REQUIRED, Reason.SCP_DENIED, "SERVICE_CONTROL_POLICY"),
    (
        'access = "api_key"',
        Status.PERMISSION_REQUIRED,
        Reason.API_KEY_DENIED,
        "CallWithBearerToken",
    ),
    (
        'access = "marketplace"',
        Status.PERMISSION_REQUIRED,
        Reason.MARKETPLACE_SUBSCRIPTION,
        "agreement",
    ),
    ('access = "payment"', Status.PERMISSION_REQUIRED, Reason.PAYMENT_INSTRUMENT, ""),
    (
        'access = "use_case_form"',
        Status.PERMISSION_REQUIRED,
        Reason.USE_CASE_FORM,
        "put-use-case-for-model-access",
    ),
    (
        'access = "not_granted"',
        Status.PERMISSION_REQUIRED,
        Reason.MODEL_ACCESS_NOT_GRANTED,
        "availability",
    ),
    (
        'access = "agreement"',
        Status.PERMISSION_REQUIRED,
        Reason.MARKETPLACE_SUBSCRIPTION,
        "agreement",
    ),
    ('access = "account_blocked"', Status.PERMISSION_REQUIRED, Reason.ACCOUNT_BLOCKED, ""),
    ('access = "country"', Status.PERMISSION_REQUIRED, Reason.COUNTRY_NOT_SUPPORTED, ""),
    (
        "legacy = true",
        Status.CONFIGURATION_REQUIRED,
        Reason.LEGACY_BLOCKED,
        "list-foundation-models",
    ),
    (
        "end_of_life = true",
        Status.CONFIGURATION_REQUIRED,
        Reason.END_OF_LIFE,
        "list-foundation-models",
    ),
    (
        "not_in_region = true",
        Status.CONFIGURATION_REQUIRED,
        Reason.NOT_IN_REGION,
        "list-inference-profiles",
    ),
]


@pytest.mark.parametrize(
    ("fault", "verdict", "reason", "command"), REFUSALS, ids=[r[0] for r in REFUSALS]
)
def test_refused_access_ends_the_run_at_its_gate_with_reason_and_fix(
    bedrock: Probe, fault: str, verdict: str, reason: str, command: str
) -> None:
    bedrock.scenario(f'[[rule]]\nmodel = "{NOVA}"\n{fault}')
    run = certify()
    assert (run.status, run.verdict, run.error_reason) == (State.COMPLETED, verdict, reason)
    assert run.error_category == Reason(reason).category
    assert run.calls <= 2  # the gate, on the routes there are
    assert run.error_message
    assert run.request_id
    assert run.fix["text"]
    assert run.fix["who"]
    assert command in run.fix.get("command", "")
    assert certification_of(run).status == verdict  # type: ignore[union-attr]
    if run.error_category in (ErrorCategory.PERMISSION_ERROR, ErrorCategory.MODEL_ACCESS):
        assert run.environment["canary"] == {"answered": True, "reason": ""}


def test_an_on_demand_id_that_needs_a_profile_moves_to_the_next_route(bedrock: Probe) -> None:
    bedrock.scenario("[[rule]]\nneeds_profile = true")
    run = certify(PRO)
    assert (run.verdict, run.route, run.route_kind) == (
        Status.CERTIFIED,
        f"us.{PRO}",
        RouteKind.INFERENCE_PROFILE,
    )
    routes = [
        call["route"] for trial in run.results.get(case_id="G01").trials for call in trial["calls"]
    ]
    assert routes == [PRO, f"us.{PRO}"]


def test_an_embedding_model_gets_the_embedding_suite(bedrock: Probe) -> None:
    run = certify(TITAN)
    assert (run.status, run.verdict) == (State.COMPLETED, Status.CERTIFIED)
    assert {
        c["request"]["operation"] for r in run.results.all() for t in r.trials for c in t["calls"]
    } == {"InvokeModel"}


def test_a_kind_without_a_suite_is_not_tested_and_not_called(bedrock: Probe) -> None:
    run = certify("amazon.nova-canvas-v1:0")
    assert (run.status, run.verdict, run.calls) == (State.COMPLETED, Status.NOT_TESTED, 0)
    assert "image" in run.error_message
    assert bedrock.page("/_emulator/stats")["total"] == 0


@pytest.mark.parametrize(
    ("model", "region", "endpoint", "api"),
    [
        ("zai.glm-4.6", "us-east-1", "bedrock-mantle", "chat_completions"),
        ("google.gemma-4-31b", "us-east-1", "bedrock-mantle", "responses"),
        ("anthropic.claude-mythos-5", "us-east-1", "bedrock-mantle", "messages"),
    ],
)
def test_a_model_that_only_the_other_endpoint_serves_is_called_there(
    bedrock: Probe, model: str, region: str, endpoint: str, api: str
) -> None:
    run = certify(model, region)
    assert (run.status, run.verdict) == (State.COMPLETED, Status.CERTIFIED), run.error_message
    assert (run.endpoint, run.api) == (endpoint, api)


def test_a_model_without_a_known_route_is_called_by_its_own_id(
    bedrock: Probe,
) -> None:
    run = certify(MICRO, "sa-east-1")
    assert (run.verdict, run.error_reason) == (Status.CONFIGURATION_REQUIRED, Reason.NOT_IN_REGION)


# Infrastructure says nothing about a model

NO_VERDICTS = [
    ('throttle = "requests"', Reason.THROTTLED_REQUESTS),
    ('throttle = "tokens"', Reason.THROTTLED_TOKENS),
    ('throttle = "daily"', Reason.DAILY_TOKENS),
    ("error = 500", Reason.INTERNAL_ERROR),
    ("error = 503", Reason.SERVICE_UNAVAILABLE),
    ("html_503 = true", Reason.SERVICE_UNAVAILABLE),
    ("reset = true", Reason.CONNECTION_REFUSED),
]


@pytest.mark.parametrize(("fault", "reason"), NO_VERDICTS, ids=[r[0] for r in NO_VERDICTS])
def test_infrastructure_errors_give_no_verdict_and_leave_the_certification_alone(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    before = certify()
    # its pauses are tested elsewhere
    monkeypatch.setattr(get_worker().limiter, "throttled", unlimited)
    bedrock.scenario(f"[[rule]]\n{fault}")
    run = certify()
    assert (run.status, run.verdict, run.score, run.error_reason) == (
        State.FAILED,
        Status.PENDING,
        None,
        reason,
    )
    assert "nothing about the model" in run.error_message
    assert run.fix["text"]
    assert run.job.status == State.FAILED
    now = certification_of(run)
    assert now is not None
    assert (now.status, now.score, now.run_id) == (Status.CERTIFIED, before.score, before.pk)
    assert set(run.results.values_list("verdict", flat=True)) == {"invalid"}


def test_a_pair_that_was_never_judged_is_pending_after_throttling(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_worker().limiter, "throttled", unlimited)
    bedrock.scenario('[[rule]]\nthrottle = "requests"')
    run = certify()
    now = certification_of(run)
    assert now is not None
    assert (now.status, now.expires_at, now.certified_at) == (Status.PENDING, None, None)


def test_retries_survive_a_burst_of_errors(bedrock: Probe) -> None:
    bedrock.scenario(
        "[[rule]]\ntimes = 3\nerror = 503\n"
        '[[rule]]\noperation = "ConverseStream"\nreset = true\ntimes = 2'
    )
    run = certify()
    assert run.verdict == Status.CERTIFIED
    assert run.retries >= 3
    assert run.calls == 14 + run.retries
    assert run.reliability < 1


def test_a_dead_endpoint_fails_the_run_within_seconds_and_certifies_nothing(
    bedrock: Probe, settings: Any
) -> None:
    settings.BEDROCK_ENDPOINT_URL = "http://127.0.0.1:9"
    reset_worker()
    run = certify()
    assert (run.status, run.verdict, run.error_category) == (
        "FAILED",
        "pending",
        ErrorCategory.NETWORK_ERROR,
    )
    # one call with retries, two more trials of the gate with one attempt
    assert run.calls == calls.MAX_ATTEMPTS + 2
    assert run.environment["preflight"]["listed"] is None
    assert certification_of(run) is None


# Credentials


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("invalid_credentials = true", Reason.CREDENTIALS_INVALID),
        ("expired_credentials = true", Reason.CREDENTIALS_EXPIRED),
        ("clock_skew = true", Reason.CLOCK_SKEW),
    ],
)
def test_credentials_that_do_not_work_fail_a_click_at_once_and_say_nothing_about_the_model(
    bedrock: Probe, fault: str, reason: str
) -> None:
    bedrock.scenario(f"[[rule]]\n{fault}")
    run = certify()
    assert (run.status, run.verdict, run.error_category) == (
        "FAILED",
        "",
        ErrorCategory.AUTHENTICATION_ERROR,
    )
    assert run.error_reason == reason
    assert run.error_message
    assert run.fix["text"]
    assert (run.job.status, run.job.failed_runs) == (State.FAILED, 1)
    assert not run.results.exists()
    assert not ModelCertification.objects.exists()
    assert not QueuePause.objects.exists()


def test_credentials_that_stop_working_mid_run_discard_its_results(bedrock: Probe) -> None:
    bedrock.scenario("[[rule]]\nafter = 5\nexpired_credentials = true")
    run = certify()
    assert (run.status, run.verdict, run.error_reason) == (
        State.FAILED,
        "",
        Reason.CREDENTIALS_EXPIRED,
    )
    assert not run.results.exists()
    assert not ModelCertification.objects.exists()


def test_refused_credentials_pause_a_sweep_and_its_run_waits(bedrock: Probe) -> None:
    bedrock.scenario("[[rule]]\ninvalid_credentials = true")
    run = queue_run(priority=Priority.BULK)
    assert not runner.run(run.pk, get_worker())
    run.refresh_from_db()
    assert (run.status, run.attempt, run.claimed_by, run.enqueued_at) == (
        State.PENDING,
        0,
        "",
        None,
    )
    pause = QueuePause.objects.get()
    assert (pause.backend, pause.error_reason, pause.resumed_at) == (
        "emulator",
        Reason.CREDENTIALS_INVALID,
        None,
    )
    assert not ModelCertification.objects.exists()


# Who may work on a run


def test_a_run_for_another_backend_is_not_claimed(bedrock: Probe) -> None:
    run = queue_run()
    CertificationRun.objects.filter(pk=run.pk).update(backend=Backend.AWS)
    assert not runner.run(run.pk, get_worker())
    run.refresh_from_db()
    assert (run.status, run.attempt) == (State.QUEUED, 0)
    assert bedrock.page("/_emulator/stats")["total"] == 0


def test_a_deadline_ends_the_run_without_a_verdict(bedrock: Probe, settings: Any) -> None:
    settings.CERTIFICATION_TIMEOUT = 1500
    bedrock.scenario(f'[[rule]]\nmodel = "{NOVA}"\nafter = 4\nhang = true')
    run = certify()
    assert (run.status, run.verdict) == (State.FAILED, Status.PENDING)
    assert run.error_category == ErrorCategory.TIMEOUT
    assert certification_of(run) is None or certification_of(run).status == Status.PENDING  # type: ignore[union-attr]


UNAVAILABLE = f'[[rule]]\nmodel = "{NOVA}"\nafter = 3\nerror = 503'


def started(run: CertificationRun) -> threading.Thread:
    """The run at work in a thread, as in a worker, with some calls behind it."""

    def work() -> None:
        results.append(runner.run(run.pk, get_worker()))
        connection.close()

    results: list[bool] = []
    thread = threading.Thread(target=work)
    thread.results = results  # type: ignore[attr-defined]
    thread.start()
    deadline = time.monotonic() + 30
    while not get_worker().active and time.monotonic() < deadline:
        time.sleep(0.01)
    return thread


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts that only a stop ends, and frequent heartbeats."""
    monkeypatch.setattr(calls, "BACKOFF_S", (60.0,))
    monkeypatch.setattr(worker_module, "HEARTBEAT_INTERVAL_S", 0.05)


@pytest.mark.parametrize("how", ["cancelled", "taken over"])
def test_a_run_that_is_no_longer_ours_stops_and_writes_nothing(
    bedrock: Probe, patient: None, how: str
) -> None:
    bedrock.scenario(UNAVAILABLE)
    run = queue_run()
    thread = started(run)
    if how == "cancelled":
        run.job.cancel()
    else:
        CertificationRun.objects.filter(pk=run.pk).update(claimed_by="somebody else")
    thread.join(30)
    assert thread.results == [None]  # type: ignore[attr-defined]
    run.refresh_from_db()
    assert (run.status, run.verdict) == (
        State.CANCELLED if how == "cancelled" else State.PROCESSING,
        "",
    )
    assert not run.results.exists()
    assert not ModelCertification.objects.exists()


def test_a_drained_worker_hands_its_run_back_and_claims_no_other(
    bedrock: Probe, patient: None
) -> None:
    bedrock.scenario(UNAVAILABLE)
    run = queue_run()
    thread = started(run)
    get_worker().drain()
    thread.join(30)
    assert thread.results == [None]  # type: ignore[attr-defined]
    run.refresh_from_db()
    assert (run.status, run.attempt, run.claimed_by) == (State.PENDING, 0, "")
    assert not runner.run(run.pk, get_worker())
    run.refresh_from_db()
    assert run.status == State.PENDING


def test_a_run_that_is_claimed_while_the_worker_drains_is_handed_back(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM arrives after the worker looked for it and before the run is watched."""
    worker = get_worker()
    claim = CertificationRun.objects.claim

    def claim_and_drain(*args: Any) -> Any:
        claimed = claim(*args)
        worker.drain()
        return claimed

    monkeypatch.setattr(CertificationRun.objects, "claim", claim_and_drain)
    run = queue_run()
    assert not runner.run(run.pk, worker)
    run.refresh_from_db()
    assert (run.status, run.attempt) == (State.PENDING, 0)


def test_the_heartbeat_survives_every_error(
    bedrock: Probe, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose heartbeats have stopped loses every run that it works on."""
    failures = iter(
        [
            OperationalError("away"),
            InterfaceError("closed"),
            InternalError("read-only"),
            DataError("odd"),
            RuntimeError("can't start new thread"),
        ]
    )
    beat = CertificationRun.objects.heartbeat

    def failing(claims: Any) -> Any:
        if failure := next(failures, None):
            raise failure
        return beat(claims)

    monkeypatch.setattr(CertificationRun.objects, "heartbeat", failing)
    bedrock.scenario(UNAVAILABLE)
    run = queue_run()
    thread = started(run)
    deadline = time.monotonic() + 30
    while not get_worker().last_heartbeat and time.monotonic() < deadline:
        time.sleep(0.01)
    assert get_worker().last_heartbeat
    run.job.cancel()
    thread.join(30)


def test_a_heartbeat_thread_that_ended_is_started_again_with_the_next_run(
    bedrock: Probe, patient: None
) -> None:
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    get_worker()._heartbeat = ended
    bedrock.scenario(UNAVAILABLE)
    run = queue_run()
    thread = started(run)
    deadline = time.monotonic() + 30
    while not get_worker().last_heartbeat and time.monotonic() < deadline:
        time.sleep(0.01)
    assert get_worker().last_heartbeat
    run.job.cancel()
    thread.join(30)


def test_a_run_without_a_heartbeat_thread_is_not_kept_alive_by_a_later_one(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "heartbeat":
            raise RuntimeError("can't start new thread")
        start(thread)

    run = queue_run()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            runner.run(run.pk, get_worker())
    assert get_worker().active == 0
    run.refresh_from_db()
    assert run.status == State.PROCESSING  # stalled soon, and retried then


def test_a_run_whose_trials_never_start_ends_as_our_fault(
    bedrock: Probe, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be alive for ever otherwise: its heartbeat goes on, so nobody takes it over."""
    settings.CERTIFICATION_TIMEOUT = 300
    monkeypatch.setattr(runner, "GRACE_S", 0.2, raising=False)
    monkeypatch.setattr(get_worker(), "slots", asyncio.Semaphore(0))
    run = queue_run()
    thread = started(run)
    thread.join(10)
    assert not thread.is_alive()
    run.refresh_from_db()
    assert (run.status, run.verdict, run.error_reason) == (State.FAILED, "", Reason.DEADLINE)
    assert "nothing about the model" in run.error_message
    assert run.job.status == State.FAILED
    assert certification_of(run) is None


# Evidence


def test_evidence_has_request_reply_and_timing(bedrock: Probe) -> None:
    run = certify()
    [trial] = run.results.get(case_id="G01").trials
    [call] = trial["calls"]
    assert (trial["passed"], trial["valid"], call["attempt"], call["route"]) == (
        True,
        True,
        1,
        NOVA,
    )
    assert call["request"]["messages"][0]["content"][0]["text"]
    assert call["reply"]["content"][0]["text"]
    assert call["reply"]["usage"]["output_tokens"] > 0
    assert call["timing"]["total"] > 0
    assert call["request_id"]


def test_evidence_carries_no_account_id(bedrock: Probe) -> None:
    bedrock.scenario('[[rule]]\naccess = "iam"')
    run = certify()
    stored = json.dumps(
        [run.error_message, run.fix, run.environment, [r.trials for r in run.results.all()]]
    )
    assert "not authorized to perform" in stored
    assert not re.search(r"(?<!\d)\d{12}(?!\d)", stored)


SECRETS = [
    "AKIAIOSFODNN7EXAMPLE",
    "http://user:hunter2@proxy.example:8080",
    "arn:aws:iam::123456789012:user/x",
    "Bearer ABSKQmVkcm9ja0FQSUtleS1leGFtcGxl",
    "X-Amz-Security-Token=IQoJb3JpZ2luX2VjEXAMPLE&x=1",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_texts_are_stored_without_secrets(secret: str) -> None:
    text = evidence.cut(f"Failed to connect: {secret} said no.")
    assert secret not in text
    assert not any(
        part in text for part in ("hunter2", "123456789012", "FODNN7", "ABSKQm", "IQoJb3")
    )
    assert text.startswith("Failed to connect: ")
    assert text.endswith(" said no.")


ODD = ["a\x00b", "half an emoji \ud83d", "\udc80 first", "𝒳 and 日本語", "x" * 20_000]


@pytest.mark.parametrize("text", ODD, ids=["null", "lone high", "lone low", "fine", "long"])
def test_whatever_a_model_says_can_be_stored(bedrock: Probe, text: str) -> None:
    run = queue_run()
    claimed = CertificationRun.objects.claim(run.pk, "w")
    assert claimed
    reply = Reply(
        (Text(text), ToolUse("id", "tool", {text: [text, float("nan"), float("inf")]})),
        "end_turn",
        None,
        Timing(1),
    )
    attempt = Attempt(Request((user(text),), max_tokens=5), reply, 1, "2026-01-01T00:00:00Z", ROUTE)
    script = registry.cases("text", "quick")[0].script(Ref(1, "G01", 0))
    grade = Grade(passed=False, sentence=text, evidence={"seen": text})
    row = TestResult(
        run=claimed,
        case_id="G01",
        category="contract",
        kind="gate",
        verdict="failed",
        sentence=evidence.cut(text),
        trials=[evidence.trial(script, grade, [attempt])],
    )
    outcome = RunOutcome(
        status=State.COMPLETED, verdict=Status.FAILED, error_message=evidence.cut(text)
    )
    assert factories.record_outcome(claimed, outcome, [row])
    [stored] = run.results.get().trials
    reply_text = stored["calls"][0]["reply"]["content"][0]["text"]
    assert reply_text.startswith(text[:1] if text[0].isalpha() else "\N{REPLACEMENT CHARACTER}")
    assert len(reply_text) <= evidence.MAX_TEXT + 60


def test_identifiers_longer_than_their_columns_are_cut(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in between may invent error codes and request ids of any length."""

    async def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise errors.error(
            Reason.IAM_DENIED, "No.", code="C" * 300, request_id="r" * 300, http_status=403
        )

    monkeypatch.setattr(Bedrock, "send", refuse)
    run = certify()
    assert run.error_reason == Reason.IAM_DENIED
    assert (len(run.error_code), len(run.request_id)) == (100, 100)


# What the database itself refuses


def test_the_database_refuses_to_change_finished_runs_and_results(bedrock: Probe) -> None:
    run = certify()
    with pytest.raises(DatabaseError, match="finished"), transaction.atomic():
        CertificationRun.objects.filter(pk=run.pk).update(score=1)
    with pytest.raises(DatabaseError, match="cannot be changed"), transaction.atomic():
        run.results.update(verdict="failed")
    run.results.update(trials=[])  # evidence may be dropped when it is old
    assert certify().pk != run.pk  # and the pair can run again


def test_all_threads_get_the_same_worker(emulator: str) -> None:
    """A second one would have call threads of its own, and SIGTERM would not reach it."""
    concurrent = threading.Barrier(16)

    def get_it() -> Worker:
        concurrent.wait()
        return get_worker()

    with ThreadPoolExecutor(16) as pool:
        assert len({id(f.result()) for f in [pool.submit(get_it) for _ in range(16)]}) == 1


# Faults of our own program


def runtime_calls(bedrock: Probe) -> int:
    """Count the calls that the emulator answered."""
    calls = bedrock.page("/_emulator/stats")["calls"]
    return sum(call["calls"] for call in calls if "onverse" in call["operation"])


@pytest.mark.parametrize(("times", "verdict"), [(1, Status.CERTIFIED), (9, Status.PENDING)])
def test_a_trial_that_our_program_fails_on_is_tried_once_more_and_ends_as_our_fault(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch, times: int, verdict: str
) -> None:
    play_once, left = trials.play_once, [times]

    async def failing(trial: Any, *args: Any, **named: Any) -> Any:
        if trial.case.id == "G03" and left[0]:
            left[0] -= 1
            raise RuntimeError("nobody foresaw this")
        return await play_once(trial, *args, **named)

    monkeypatch.setattr(trials, "play_once", failing)
    run = certify()
    assert run.verdict == verdict
    if verdict == Status.CERTIFIED:
        return
    assert left == [times - trials.MAX_UNEXPECTED]  # one retry, and no other trial in its place
    assert run.error_reason == Reason.UNEXPECTED_EXCEPTION
    assert "nothing is known about G03" in run.error_message
    [trial] = run.results.get(case_id="G03").trials
    assert not trial["valid"]
    assert "in failing" in trial["cause"]["traceback"]
    assert run.results.exclude(case_id="G03").filter(verdict="passed").count() >= 9
    assert certification_of(run) is None or certification_of(run).status != Status.FAILED  # type: ignore[union-attr]


def test_a_run_that_our_program_fails_on_is_not_laid_to_a_worker_that_died(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: Any) -> Any:
        raise LookupError("arn:aws:iam::123456789012:role/x")

    monkeypatch.setattr(outcome, "build_results", failing)
    run = queue_run(NOVA, "us-east-1")
    assert runner.run(run.pk, get_worker()) is None
    run.refresh_from_db()
    assert (run.status, run.attempt) == (State.PENDING, 1)
    paid = runtime_calls(bedrock)
    assert runner.run(run.pk, get_worker())
    run.refresh_from_db()
    assert (run.status, run.attempt) == (State.FAILED, 2)
    assert (run.error_category, run.error_reason) == (
        ErrorCategory.INTERNAL_ERROR,
        Reason.UNEXPECTED_EXCEPTION,
    )
    assert "LookupError" in run.error_message
    assert "in failing" in run.environment["traceback"]
    assert "123456789012" not in run.environment["traceback"] + run.error_message
    assert runtime_calls(bedrock) == paid  # the second claim took the calls of the first over
    run.job.refresh_from_db()
    assert run.job.status == State.FAILED


def test_a_run_that_is_taken_up_again_is_judged_as_if_it_had_not_been_interrupted(
    bedrock: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = certify(MICRO)
    build_results = outcome.build_results
    monkeypatch.setattr(outcome, "build_results", lambda *_args: 1 / 0)
    run = queue_run(NOVA, "us-east-1")
    assert runner.run(run.pk, get_worker()) is None
    monkeypatch.setattr(outcome, "build_results", build_results)
    paid = runtime_calls(bedrock)
    assert runner.run(run.pk, get_worker())
    run.refresh_from_db()
    assert (run.verdict, run.calls) == (Status.CERTIFIED, whole.calls)
    assert runtime_calls(bedrock) == paid
    for result in run.results.all():
        other = whole.results.get(case_id=result.case_id)
        assert (result.verdict, result.passes) == (other.verdict, other.passes)
        assert [len(t["calls"]) for t in result.trials] == [len(t["calls"]) for t in other.trials]
