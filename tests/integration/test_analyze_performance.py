"""`manage.py analyze_performance`: figures of the stored runs, compared with the time before."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from certification.lib import clock
from certification.models import AIModel, CertificationJob, CertificationRun, State
from certification.monitoring import performance
from tests.factories import start_job

pytestmark = pytest.mark.django_db
NOVA, MICRO = "amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"


@pytest.fixture
def job(catalogue: None) -> CertificationJob:
    return start_job([AIModel.objects.get(api_model_id=NOVA)], ["us-west-2"])


def ended(
    job: CertificationJob,
    hours_ago: float,
    seconds: float,
    number: int = 1,
    model: str = NOVA,
    **values: Any,
) -> None:
    """Store runs that ended so long ago and took so long, of ten calls each."""
    at = clock.now() - timedelta(hours=hours_ago)
    fields = {"status": State.COMPLETED, "verdict": "certified", "passed": True, "attempt": 1}
    fields |= {"calls": 10, "tier": "quick", "region_id": "us-east-1", "latency_p50_ms": 90.0}
    begun = at - timedelta(seconds=seconds)
    fields |= {"completed_at": at, "started_at": begun, "created_at": begun - timedelta(seconds=1)}
    for _ in range(number):
        waiting = CertificationRun.objects.create(
            job=job,
            model=AIModel.objects.get(api_model_id=model),
            region_id="us-east-1",
            tier="quick",
            backend="emulator",
            variant_seed=1,
        )
        CertificationRun.objects.filter(pk=waiting.pk).update(**fields | values)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = 0
    try:
        call_command("analyze_performance", *arguments, "--json")
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_nothing_to_say_of_no_runs(catalogue: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, body = run(capsys)
    assert (code, body["now"]["runs"], body["models"], body["findings"]) == (0, 0, [], [])
    call_command("analyze_performance")
    assert capsys.readouterr().out.startswith("0 runs ended in the last 24 h, 0 in the 24 h before")


def test_runs_are_compared_with_the_time_before(
    job: CertificationJob, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(job, 1, 4.0, 20)
    ended(job, 30, 2.0, 20)
    ended(job, 2, 1.0, 3, model=MICRO, region_id="eu-west-1")
    ended(job, 90, 60.0)  # neither now nor before
    ended(job, 1, 60.0, status=State.CANCELLED, verdict="", passed=False)
    code, body = run(capsys)
    assert (body["now"]["runs"], body["before"]["runs"]) == (23, 20)
    assert (body["now"]["p50S"], body["before"]["p99S"]) == (4.0, 2.0)
    assert body["now"]["waitedP95S"] == 1.0
    assert [(row["name"], row["slower"]) for row in body["models"]] == [(NOVA, 2.0), (MICRO, None)]
    assert [row["name"] for row in body["regions"]] == ["us-east-1", "eu-west-1"]
    assert [(row["name"], row["now"]["runs"]) for row in body["tiers"]] == [("quick", 23)]
    whats = [finding["what"] for finding in body["findings"]]
    assert whats == [
        f"The model {NOVA} takes 2 times as long per call.",
        "The region us-east-1 takes 2 times as long per call.",
    ]
    assert code == 1


def test_what_is_below_its_target_is_named_with_its_cause(
    job: CertificationJob, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(job, 1, 30.0, 15, calls=0)
    throttled = {"error_category": "RATE_LIMIT", "error_reason": "throttled_requests"}
    ended(job, 1.5, 30.0, 5, verdict="", passed=False, status=State.FAILED, attempt=2, **throttled)
    code, body = run(capsys)
    assert code == 1
    assert [finding["what"] for finding in body["findings"]] == [
        "75 % of the runs were certified; the target is 95 %.",
        "25 % of the runs were tried again; the target is 10 %.",
        "25 % of the runs ended because AWS throttled them.",
        "A quick run takes 30 s (95 %); the target is 10 s.",
    ]
    assert "throttled requests" in body["findings"][0]["why"]
    assert body["causes"] == {"throttled_requests": 5}
    with pytest.raises(SystemExit):
        call_command("analyze_performance", "--top", "1")
    assert "5 runs: throttled requests" in capsys.readouterr().out


def test_it_takes_few_queries_however_many_runs_there_are(job: CertificationJob) -> None:
    for model in (NOVA, MICRO):
        ended(job, 1, 4.0, 2, model=model)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        performance.analyse(timedelta(hours=24), 10)
    assert len(queries) == 3


@pytest.mark.parametrize(
    ("reason", "figures"),
    [
        ("tried again", {"calls": 10, "call_retries": 2}),
        ("Bedrock answers slowly", {"s_per_call": 1.0, "latency_ms": 900.0}),
        ("outside of the calls", {"s_per_call": 1.0, "latency_ms": 100.0}),
    ],
)
def test_a_slow_run_has_a_likely_cause(reason: str, figures: dict[str, Any]) -> None:
    assert reason in performance.slow_because(performance.Figures(**figures))[0]


@pytest.mark.parametrize("arguments", [("--hours", "0"), ("--hours", "2161"), ("--top", "0")])
def test_a_bad_option_is_a_sentence(catalogue: None, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="between") as refusal:
        call_command("analyze_performance", *arguments)
    assert refusal.value.returncode == 2
