"""Operators' own cases from the admin's form to a verdict, its price, and the day it is judged
again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from certification.engine import dispatch, queue, rescore, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.estimate import estimate_pairs
from certification.engine.worker import get_worker
from certification.models import CertificationRun, CustomCase
from certification.reasons import Status
from certification.suite import versions
from tests.emulators import Probe

NOVA = "amazon.nova-lite-v1:0"
FORM = {
    "case_id": "XCAPITAL", "title": "Capital", "category": "reasoning",
    "prompt": "What is the capital of France?", "system": "", "grader": "mentions",
    "expected": '"Paris"', "weight": "9", "repeats": "4", "max_tokens": "200",
    "good_sample": "It is Paris.", "bad_sample": "It is Rome.", "enabled": "on",
}  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def engine(
    transactional_db: None, catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Probe]:
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    probe = Probe(emulator)
    yield probe
    probe.scenario("")
    probe.close()


def saved(client: Client, **changes: str) -> str:
    """The admin's answer to the filled form."""
    return client.post(
        "/admin/certification/customcase/add/", FORM | changes, follow=True
    ).content.decode()


def certify(tier: str = "full") -> CertificationRun:
    pair = dispatch.find_models([NOVA]), dispatch.find_regions(["us-east-1"])
    run = dispatch.certify(
        dispatch.pairs_of(*pair), CertifyOptions(tier=tier, seed=4)
    ).job.runs.get()
    assert runner.run(run.pk, get_worker())
    return CertificationRun.objects.prefetch_related("results").get(pk=run.pk)


def test_the_admin_stores_a_case_that_tells_its_samples_apart(as_administrator: Client) -> None:
    assert "was added successfully" in saved(as_administrator)
    row = CustomCase.objects.get()
    assert (row.spec.expected, row.spec.weight, row.spec.repeats) == ("Paris", 9.0, 4)
    assert row.created_by is not None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"good_sample": "It is Rome."}, "The grader does not pass this answer"),
        ({"bad_sample": "Paris, of course."}, "The grader passes this answer"),
        ({"case_id": "capital"}, "The id must be X followed by"),
        ({"grader": "regex", "expected": '"("'}, "regex expects a regular expression"),
        ({"grader": "json_schema"}, "json_schema expects a JSON Schema"),
        ({"expected": "Paris"}, "Enter a valid JSON"),
        ({"category": "contract"}, "Select a valid choice"),
        ({"weight": "0"}, "greater than or equal to 0.1"),
        ({"repeats": "10"}, "less than or equal to 9"),
        ({"prompt": ""}, "This field is required"),
    ],
)
def test_the_admin_says_what_is_wrong_and_stores_nothing(
    as_administrator: Client, changes: dict[str, str], sentence: str
) -> None:
    assert sentence in saved(as_administrator, **changes)
    assert not CustomCase.objects.exists()


def test_an_own_case_is_asked_counts_and_marks_the_version(
    engine: Probe, as_administrator: Client
) -> None:
    before = certify()
    saved(as_administrator)
    run = certify()
    result = run.results.get(case_id="XCAPITAL")
    # the emulator knows no Paris
    assert (result.verdict, result.trials_valid, result.category) == ("failed", 4, "reasoning")
    assert (before.verdict, run.verdict) == (Status.CERTIFIED, Status.QUALITY_WARNING)
    assert run.suite_version.startswith(f"{versions.SUITE_VERSION}+")
    assert before.suite_version == versions.SUITE_VERSION
    assert not certify("quick").results.filter(case_id="XCAPITAL").exists()


def test_its_weight_and_repeats_are_still_known_when_it_is_judged_again(
    engine: Probe, as_administrator: Client
) -> None:
    saved(as_administrator)
    run = certify()
    CustomCase.objects.all().delete()
    [change] = rescore.runs_to_judge([run])
    assert change.judgement
    assert not change.differs
    assert change.judgement.quality == pytest.approx(run.quality)
    assert change.judgement.lower_bound == pytest.approx(run.lower_bound)


def test_it_has_its_share_in_the_estimate(
    catalogue: None, as_administrator: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(dispatch.find_models([NOVA])[0], dispatch.find_regions(["us-east-1"])[0])]
    before = {tier: estimate_pairs(pairs, tier) for tier in ("quick", "full")}
    saved(as_administrator)
    assert estimate_pairs(pairs, "quick") == before["quick"]
    after = estimate_pairs(pairs, "full")
    assert after.calls == before["full"].calls + 4
    assert after.usd > before["full"].usd
    assert json.loads(output_of(capsys, "cost", "--model", NOVA, "--json"))["calls"] == after.calls


def test_the_command_shows_it_and_tries_it(
    engine: Probe, as_administrator: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(as_administrator)
    assert "capital of France" in output_of(capsys, "show", "XCAPITAL")
    tried: dict[str, Any] = json.loads(
        output_of(capsys, "try", "XCAPITAL", "--model", NOVA, "--region", "us-east-1", "--json")
    )
    assert tried["passed"] is False
    assert "Paris" in tried["sentence"]


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    call_command("suite", *words)
    return capsys.readouterr().out
