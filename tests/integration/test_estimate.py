"""What a job will take: by earlier runs here, else by the suite's figures and list prices."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certification.engine import dispatch
from certification.engine.estimate import JobEstimate, estimate_pairs
from certification.management.terminal import describe_estimate
from certification.models import AIModel, Backend, ModelCertification
from certification.reasons import Reason, Status
from tests.factories import certify

pytestmark = pytest.mark.django_db

NOVA, HAIKU = "amazon.nova-lite-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"


def estimate(model_ids: list[str], regions: list[str], tier: str = "quick") -> JobEstimate:
    models = dispatch.find_models(model_ids)
    return estimate_pairs(dispatch.pairs_of(models, dispatch.find_regions(regions)), tier)


def judged(region: str, seconds: float, usd: float, calls: int = 20, verdict: str = "") -> None:
    """A certification of Nova in a region, whose run took this."""
    row = AIModel.objects.get(api_model_id=NOVA)
    certify(
        row,
        region,
        verdict or Status.CERTIFIED,
        reason=Reason.IAM_DENIED if verdict else None,
        took=timedelta(seconds=seconds),
        calls=calls,
        cost_usd=usd,
    )


def test_without_earlier_runs_the_suite_and_list_prices_count() -> None:
    figures = estimate([NOVA], ["us-east-1"])
    assert (figures.pairs, figures.measured, figures.seconds) == (1, 0, None)
    assert figures.calls > 0
    assert 0 < figures.usd < figures.usd_at_most
    assert figures.basis == "From the suite's expected answers and list prices."
    assert figures.seconds_with(4) is None


def test_a_pair_costs_what_it_cost_last() -> None:
    judged("us-east-1", seconds=30, usd=0.5)
    figures = estimate([NOVA], ["us-east-1"])
    assert (figures.calls, figures.usd) == (20, 0.5)
    assert figures.seconds == pytest.approx(30, abs=2)
    assert figures.usd_at_most >= figures.usd
    assert figures.basis == "From the last runs here."


def test_another_region_costs_the_mean_of_the_models_regions() -> None:
    judged("us-east-1", seconds=30, usd=0.5)
    judged("us-west-2", seconds=50, usd=0.7, calls=22)
    figures = estimate([NOVA], ["eu-west-1"])
    assert (figures.calls, round(figures.usd, 6)) == (21, 0.6)
    assert figures.seconds == pytest.approx(40, abs=2)
    both = estimate([NOVA, HAIKU], ["eu-west-1"])
    assert (both.pairs, both.measured) == (2, 1)
    assert both.seconds == pytest.approx(80, abs=4)  # of a model that never ran: the typical time
    assert "for 1 of 2 pairs" in both.basis
    assert both.seconds_with(1) == both.seconds
    assert both.seconds_with(16) == both.longest


def test_refused_runs_other_tiers_and_backends_say_nothing() -> None:
    judged("us-east-1", seconds=1, usd=0, calls=1, verdict=Status.PERMISSION_REQUIRED)
    judged("us-west-2", seconds=30, usd=0.5)
    assert estimate([NOVA], ["us-west-2"], tier="full").measured == 0
    ModelCertification.objects.update(backend=Backend.AWS)
    assert estimate([NOVA], ["us-west-2"]).measured == 0
    ModelCertification.objects.filter(region="us-west-2").update(backend=Backend.EMULATOR)
    assert estimate([NOVA], ["us-east-1"]).usd == 0.5


def test_the_number_of_pairs_changes_no_number_of_queries(django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    models = dispatch.find_models([NOVA, HAIKU])
    regions = dispatch.find_regions(["us-east-1", "us-west-2", "eu-west-1"])
    with django_assert_max_num_queries(2):
        estimate_pairs(dispatch.pairs_of(models, regions), "full")


def test_a_refusal_names_the_cost_that_the_plan_shows() -> None:
    figures = JobEstimate(1, 10, 3.756, 5.0, 0)
    with pytest.raises(dispatch.TooExpensive, match=r"is 3\.76 USD .* limit of 0\.10 USD"):
        dispatch.CertifyOptions(max_cost_usd=0.099).check_cost(figures, 1)


def test_the_sentence_of_the_commands() -> None:
    figures = JobEstimate(3, 42, 0.0123, 0.5, 1)
    assert describe_estimate(figures) == (
        "3 runs, about 42 calls and 0.0123 USD, at most 0.5000 USD. From the suite's expected "
        "answers and list prices. 1 run without a known price."
    )
