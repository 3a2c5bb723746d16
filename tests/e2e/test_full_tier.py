"""The full tier from the order to the verdict: dispatch, runner, database, and an emulator that
makes one kind of fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from certification.engine import calls, dispatch, queue, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import get_worker
from certification.models import CertificationRun, ModelCertification, State, TestResult
from certification.reasons import Reason, Status
from tests.emulators import Probe

NOVA = "amazon.nova-lite-v1:0"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
SEED = 11

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bedrock(
    transactional_db: None, emulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Probe]:
    """The session's emulator, healthy again afterwards; pauses between attempts are short; no
    worker but this test.
    """
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    monkeypatch.setattr(calls, "BACKOFF_S", (0.0,))
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    probe = Probe(emulator)
    yield probe
    probe.page("/_emulator/scenario", b'{"name": "healthy"}')
    get_worker().bedrock.close()


async def unlimited(*_args: Any) -> None:
    """Slow no route down."""


def certify(
    model: str = NOVA, region: str = "us-east-1", tier: str = "full", seed: int = SEED
) -> CertificationRun:
    """One run as it ended."""
    pairs = dispatch.pairs_of(dispatch.find_models([model]), dispatch.find_regions([region]))
    run = dispatch.certify(pairs, CertifyOptions(tier=tier, seed=seed)).job.runs.get()
    assert runner.run(run.pk, get_worker())
    return CertificationRun.objects.select_related("job", "model").get(pk=run.pk)


def certification_of(run: CertificationRun) -> ModelCertification:
    return ModelCertification.objects.get(model=run.model, region=run.region)


def failed_cases(run: CertificationRun) -> set[str]:
    return set(
        run.results.filter(verdict__in=["failed", "flaky"]).values_list("case_id", flat=True)
    )


def mean(run: CertificationRun, category: str) -> float:
    scores = [
        r.score for r in run.results.filter(category=category, kind="scored") if r.score is not None
    ]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("model", [NOVA, SONNET])
def test_healthy_is_certified(bedrock: Probe, model: str) -> None:
    run = certify(model)
    assert (run.status, run.verdict, run.rating) == (State.COMPLETED, Status.CERTIFIED, "A"), (
        run.error_message
    )
    assert run.environment["unmet"] == []
    assert failed_cases(run) == set()
    assert certification_of(run).status == Status.CERTIFIED


def test_tools_broken_when_streaming_is_not_certified_and_the_reason_names_streaming_tools(
    bedrock: Probe,
) -> None:
    bedrock.scenario("[[rule]]\ntools_broken_streaming = true")
    run = certify()
    assert (run.status, run.verdict, run.rating, run.error_reason) == (
        "COMPLETED",
        "failed",
        "F",
        Reason.GATE_FAILED,
    )
    assert "Streaming tools (they work without streaming)" in run.error_message
    assert failed_cases(run) == {"G11", "T4"}
    assert run.fix["text"]
    assert certification_of(run).status == Status.FAILED


def test_portuguese_at_60_percent_is_a_quality_warning_that_names_portuguese(
    bedrock: Probe,
) -> None:
    bedrock.scenario('[[rule]]\nweak = {category = "portuguese", accuracy = 0.6}')
    run = certify()
    assert (run.status, run.verdict, run.passed) == (State.COMPLETED, Status.QUALITY_WARNING, False)
    assert any("portuguese" in line.lower() for line in run.environment["unmet"]), run.environment[
        "unmet"
    ]
    assert "ortuguese" in run.error_message
    assert 0.3 <= mean(run, "portuguese") < 0.8
    assert failed_cases(run) <= {"P1", "P2", "P3", "P4", "P5"}


DEAD = {
    gate: f'weak = {{case = "{gate}", accuracy = 0}}'
    for gate in ("G03", "G04", "G05", "G06", "G07", "G08", "G11")
} | {
    "G04 unbounded": "ignores_max_tokens = true",
    "G12": "leaks_template_tokens = true",
}


@pytest.mark.parametrize("dead", DEAD)
def test_one_dead_gate_fails_the_run_and_is_named(bedrock: Probe, dead: str) -> None:
    bedrock.scenario(f"[[rule]]\n{DEAD[dead]}")
    run = certify()
    gate = dead.split(maxsplit=1)[0]
    assert (run.status, run.verdict, run.rating) == (State.COMPLETED, Status.FAILED, "F")
    assert run.error_reason == Reason.GATE_FAILED
    assert gate in run.error_message
    result = run.results.get(case_id=gate)
    assert result.verdict == "failed"
    assert len(result.trials) == (1 if gate == "G12" else 3)
    assert run.score is not None
    assert run.score < 60
    assert set(
        run.results.filter(kind="gate", verdict="failed").values_list("case_id", flat=True)
    ) == {gate}


def test_streams_that_are_cut_fail_the_streaming_gate_and_the_reason_is_the_cut(
    bedrock: Probe,
) -> None:
    bedrock.scenario('[[rule]]\noperation = "ConverseStream"\nstream = "truncated"')
    run = certify()
    assert (run.verdict, run.rating, run.error_reason) == (
        Status.FAILED,
        "F",
        Reason.STREAM_TRUNCATED,
    )
    assert {"G02", "G11"} <= failed_cases(run)


@pytest.fixture
def unhurried(bedrock: Probe, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Throttles do not slow the route down: its pauses are tested elsewhere."""
    monkeypatch.setattr(get_worker().limiter, "throttled", unlimited)
    return bedrock


THROTTLES = {
    "requests": Reason.THROTTLED_REQUESTS,
    "tokens": Reason.THROTTLED_TOKENS,
    "daily": Reason.DAILY_TOKENS,
    "connections": Reason.THROTTLED_REQUESTS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "after"),
    [*((kind, 0) for kind in THROTTLES), ("requests", 1), ("tokens", 40), ("daily", 40)],
)
def test_throttled_is_pending_and_never_failed(unhurried: Probe, kind: str, after: int) -> None:
    unhurried.scenario(f'[[rule]]\nafter = {after}\nthrottle = "{kind}"')
    run = certify()
    assert (run.status, run.verdict, run.score, run.rating) == (
        State.FAILED,
        Status.PENDING,
        None,
        "",
    )
    assert run.error_reason == THROTTLES[kind]
    assert "nothing about the model" in run.error_message
    assert run.fix["text"]
    assert certification_of(run).status == Status.PENDING


@pytest.mark.parametrize(("share", "verdict"), [(0.3, Status.CERTIFIED), (0.8, Status.PENDING)])
def test_single_throttles_are_retried_and_many_give_pending(
    unhurried: Probe, share: float, verdict: str
) -> None:
    unhurried.scenario(f'[[rule]]\nprobability = {share}\nthrottle = "requests"')
    run = certify()
    assert run.verdict == verdict
    assert run.retries > 0


ACCESS = {
    'access = "iam"': (Status.PERMISSION_REQUIRED, Reason.IAM_DENIED, "InvokeModel"),
    'access = "iam_deny"': (Status.PERMISSION_REQUIRED, Reason.IAM_DENIED, "InvokeModel"),
    'access = "scp"': (Status.PERMISSION_REQUIRED, Reason.SCP_DENIED, "SERVICE_CONTROL_POLICY"),
    'access = "api_key"': (
        Status.PERMISSION_REQUIRED,
        Reason.API_KEY_DENIED,
        "CallWithBearerToken",
    ),
    'access = "marketplace"': (
        Status.PERMISSION_REQUIRED,
        Reason.MARKETPLACE_SUBSCRIPTION,
        "agreement",
    ),
    'access = "payment"': (Status.PERMISSION_REQUIRED, Reason.PAYMENT_INSTRUMENT, "payment"),
    'access = "use_case_form"': (Status.PERMISSION_REQUIRED, Reason.USE_CASE_FORM, "use-case"),
    'access = "not_granted"': (
        Status.PERMISSION_REQUIRED,
        Reason.MODEL_ACCESS_NOT_GRANTED,
        "access",
    ),
    'access = "agreement"': (
        Status.PERMISSION_REQUIRED,
        Reason.MARKETPLACE_SUBSCRIPTION,
        "agreement",
    ),
    'access = "account_blocked"': (Status.PERMISSION_REQUIRED, Reason.ACCOUNT_BLOCKED, "Support"),
    'access = "country"': (Status.PERMISSION_REQUIRED, Reason.COUNTRY_NOT_SUPPORTED, "countr"),
    "legacy = true": (
        Status.CONFIGURATION_REQUIRED,
        Reason.LEGACY_BLOCKED,
        "list-foundation-models",
    ),
    "end_of_life = true": (
        Status.CONFIGURATION_REQUIRED,
        Reason.END_OF_LIFE,
        "list-foundation-models",
    ),
    "not_in_region = true": (
        Status.CONFIGURATION_REQUIRED,
        Reason.NOT_IN_REGION,
        "list-inference-profiles",
    ),
    'throttle = "zero_quota"': (Status.PENDING, Reason.DAILY_TOKENS, "quota"),
}


@pytest.mark.parametrize("fault", ACCESS)
def test_each_way_of_being_refused_has_its_status_reason_and_fix(
    bedrock: Probe, fault: str
) -> None:
    bedrock.scenario(f'[[rule]]\nmodel = "{NOVA}"\n{fault}')
    run = certify()
    verdict, reason, hint = ACCESS[fault]
    assert (run.verdict, run.error_reason) == (verdict, reason)
    assert run.calls <= 2  # the access gate, on the routes there are: nothing is spent
    assert run.fix["text"]
    assert run.fix["who"]
    assert hint in f"{run.fix['text']} {run.fix.get('command', '')}"
    assert certification_of(run).status == verdict


@pytest.mark.parametrize("after", [1, 60])
def test_access_that_ends_within_a_run_is_reported(bedrock: Probe, after: int) -> None:
    bedrock.scenario(f'[[rule]]\nmodel = "{NOVA}"\nafter = {after}\naccess = "marketplace"')
    run = certify()
    assert (run.verdict, run.error_reason) == (
        Status.PERMISSION_REQUIRED,
        Reason.MARKETPLACE_SUBSCRIPTION,
    )
    assert run.fix["who"]


def test_when_only_streaming_is_denied_the_missing_action_is_named(bedrock: Probe) -> None:
    bedrock.scenario(f'[[rule]]\nmodel = "{NOVA}"\noperation = "ConverseStream"\naccess = "iam"')
    run = certify()
    assert (run.verdict, run.error_reason) == (Status.PERMISSION_REQUIRED, Reason.IAM_DENIED)
    assert "InvokeModelWithResponseStream" in run.fix["command"]


TIMEOUT_FACTOR = re.compile(r"[\d.]+ m?s\b")


def conversation(run: CertificationRun) -> list[tuple[Any, ...]]:
    """Every trial of the run: what was answered to what, in order, and how it was judged, measured
    times aside.

    Refused requests are left out: a form that the first run saw refused the second one knows better
    than to send.
    """
    return [
        (
            row.case_id,
            trial["trial"],
            trial["passed"],
            row.category == "latency" or TIMEOUT_FACTOR.sub("?", trial["sentence"]),
            str([call["request"] for call in trial["calls"] if "reply" in call]),
        )
        for row in TestResult.objects.filter(run=run).order_by("case_id")
        for trial in row.trials
    ]


def test_the_same_seed_gives_the_same_prompts_and_verdict(bedrock: Probe) -> None:
    bedrock.scenario('[[rule]]\nweak = {category = "*", accuracy = 0.85}')
    first, second, other = certify(seed=5), certify(seed=5), certify(seed=6)
    judged = (
        "verdict",
        "rating",
        "quality",
        "contract",
        "lower_bound",
        "error_message",
        "suite_version",
    )
    assert [getattr(first, name) for name in judged] == [getattr(second, name) for name in judged]
    assert conversation(first) == conversation(second)
    prompts, others = ({line[4] for line in conversation(run)} - {"[]"} for run in (first, other))
    assert not prompts & others
