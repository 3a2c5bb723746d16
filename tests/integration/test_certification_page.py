"""The page of one model in one region: is it usable, why not, and what was lost on the way?"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.models import AIModel, ModelCertification, TestResult
from certification.reasons import Reason, Status
from certification.suite import policy, scoring
from certification.suite.case import Grade
from tests.factories import certify, certify_judged, judged_run, start_job

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"
PASS, FAIL = Grade(True, "It passed."), Grade(False, "The answer is not 7.")
SLOW = Grade(True, "Measured.", {"ttft_ms": 2600.0, "tokens_per_second": 95.0})


@pytest.fixture
def nova(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


def page(client: Client, region: str = "us-east-1", query: str = "", **headers: str) -> str:
    response = client.get(f"/certifications/{NOVA}/{region}/{query}", headers=headers)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_it_says_where_the_points_went(as_viewer: Client, nova: AIModel) -> None:
    trials = {"T1": [PASS, FAIL, FAIL], "L1": [SLOW] * 6}
    run = certify_judged(nova, "us-east-1", judged_run("full", trials))
    html = page(as_viewer)
    assert "Usable" in html
    assert "points lost, most on: " in html
    assert '<h2 id="losses">Where the points went</h2>' in html
    assert '<svg class="chart waterfall" role="img"' in html
    assert f'href="/runs/{run.pk}/?case=T1#T1"' in html
    assert "With this fixed" in html
    assert "By the present policy" not in html
    assert "style=" not in html


def test_conditions_that_are_not_met_come_first_with_their_figures(
    as_viewer: Client, nova: AIModel
) -> None:
    broken = {f"T{n}": [PASS, FAIL, FAIL] for n in range(1, 5)}
    certify_judged(nova, "us-east-1", judged_run("full", broken))
    html = page(as_viewer)
    conditions = html[html.index('id="conditions"') : html.index('id="cases"')]
    assert "Usable with care:" in html
    assert "Of the trials in tools, 0.46 pass; 0.80 are needed." in html
    assert conditions.index("not met") < conditions.index("> met")
    assert "Enough trials pass in: tools" in conditions
    assert "≥ 0.80" in conditions
    assert "No gate failed" in conditions


def test_cases_stand_by_category_worst_first_and_can_be_filtered(
    as_viewer: Client, nova: AIModel
) -> None:
    certify_judged(nova, "us-east-1", judged_run("full", {"J1": [FAIL] * 3, "T1": [FAIL, PASS]}))
    html = page(as_viewer)
    cases = html[html.index('id="cases"') :]
    assert cases.index("<h3> JSON") < cases.index("<h3> Tools") < cases.index("<h3> Vision") or (
        "Vision" not in cases
    )
    failed = page(as_viewer, query="?case_status=failed&category=json")
    failed = failed[failed.index('<ul class="cases">') :]
    assert "<code>J1</code>" in failed
    assert "<code>J2</code>" not in failed
    assert "<code>T1</code>" not in failed
    assert "No case matches" in page(as_viewer, query="?q=nothing-has-this")
    page(as_viewer, query="?case_status=%00&category=x&q=%00")


def test_speed_is_drawn_with_other_regions_in_grey(as_viewer: Client, nova: AIModel) -> None:
    for region in ("us-east-1", "us-west-2"):
        certify_judged(nova, region, judged_run("full", {}))
    html = page(as_viewer)
    assert '<svg class="chart dots"' in html
    assert "median 400 ms of" in html
    assert 'class="dot other hollow"' in html
    assert "us-west-2" in html[html.index('id="others"') :]
    assert "Compare with us-west-2" in html


def test_history_is_drawn_from_two_runs_on(as_viewer: Client, nova: AIModel) -> None:
    certify_judged(nova, "us-east-1", judged_run("quick", {}))
    assert 'id="history"' not in page(as_viewer)
    certify(nova, "us-east-1", Status.PENDING, reason=Reason.THROTTLED_TOKENS)
    html = page(as_viewer)
    assert '<svg class="chart history"' in html
    assert 'class="cross"' in html


@pytest.mark.parametrize(
    ("verdict", "reason", "sentence"),
    [
        (Status.FAILED, Reason.GATE_FAILED, "Not usable: a gate failed."),
        (Status.PERMISSION_REQUIRED, Reason.IAM_DENIED, "Cannot be called now: denied by an IAM"),
        (Status.PENDING, Reason.THROTTLED_TOKENS, "No verdict yet: too many tokens."),
        (Status.QUALITY_WARNING, Reason.QUALITY_BELOW_LINE, "Usable with care."),
        (Status.CERTIFIED, None, "Usable."),
    ],
)
def test_each_status_has_its_sentence_also_without_stored_evidence(
    as_viewer: Client, nova: AIModel, verdict: Status, reason: Reason | None, sentence: str
) -> None:
    certify(nova, "us-east-1", verdict, reason=reason, results=[("T1", "failed", "No.")])
    html = page(as_viewer)
    assert sentence in html
    assert "no longer stored" in html
    assert 'id="losses"' not in html


def test_states_without_a_verdict(as_viewer: Client, as_operator: Client, nova: AIModel) -> None:
    assert "Never certified." in page(as_viewer)
    assert "Operators can start a certification." in page(as_viewer)
    assert "/jobs/new/?pair=amazon.nova-lite-v1%3A0@us-east-1" in page(as_operator)
    nova.routes.filter(region="eu-west-1").delete()
    assert "has no route to this model" in page(as_viewer, "eu-west-1")
    start_job([nova], ["us-east-1"])
    assert "Being certified now:" in page(as_viewer)


def test_an_expired_one_says_until_when_and_can_be_renewed(
    as_operator: Client, nova: AIModel
) -> None:
    certify_judged(nova, "us-east-1", judged_run("quick", {}))
    ModelCertification.objects.update(expires_at=timezone.now() - timedelta(days=1))
    html = page(as_operator)
    assert "Nothing is certain now: this was the status until" in html
    assert "Renew" in html


def test_another_policy_s_score_is_said(as_viewer: Client, nova: AIModel, monkeypatch: Any) -> None:
    certify_judged(nova, "us-east-1", judged_run("quick", {}))
    monkeypatch.setattr(scoring, "POLICY", replace(policy.POLICY, quick_cap=85.0))
    assert "By the present policy the same answers get 85 points; the run got 89" in page(as_viewer)


@pytest.mark.parametrize("odd", [None, 3, {}, {"passed": True}, {"evidence": 3, "passed": []}])
def test_whatever_is_stored_is_shown(as_viewer: Client, nova: AIModel, odd: Any) -> None:
    certify_judged(nova, "us-west-2", judged_run("full", {}))
    run = certify(
        nova,
        "us-east-1",
        Status.FAILED,
        reason=Reason.GATE_FAILED,
        results=[("L1", "failed", "No.")],
        trials={"L1": [odd]},
    )
    assert TestResult.objects.filter(run=run).count() == 1
    page(as_viewer)
    page(as_viewer, "us-west-2")


def test_the_panel_has_the_answer_and_the_losses_only(as_viewer: Client, nova: AIModel) -> None:
    certify_judged(nova, "us-east-1", judged_run("full", {"T1": [FAIL]}))
    html = page(as_viewer, **{"HX-Request": "true"})
    assert 'id="losses"' in html
    assert 'id="cases"' not in html
    assert "Open as a page" in html


def test_it_takes_seven_queries(
    as_viewer: Client, nova: AIModel, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for region in ("us-east-1", "us-west-2", "eu-west-1"):
        certify_judged(nova, region, judged_run("full", {"T1": [FAIL]}))
    with django_assert_max_num_queries(7 + 4):  # session, user, groups and header
        page(as_viewer)
