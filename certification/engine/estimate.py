"""Estimate what a job will take before it starts: calls, cost, time.

A pair that was judged before costs about what it cost then; one that never was, what the same model
cost in other regions; a model that never was, what the suite's expected answers cost at list
prices.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification.engine import backend
from certification.models import AIModel, CustomCase, ModelCertification, Region, Tier
from certification.reasons import Status
from certification.suite import custom, registry

# The verdicts of runs that went through the whole suite: a refused one costs next to nothing.
JUDGED = (Status.CERTIFIED, Status.QUALITY_WARNING, Status.FAILED)


@dataclass(frozen=True)
class JobEstimate:
    """What a job will take. `usd` and `usd_at_most` cover the pairs with a known price; `unpriced`
    counts the others.

    `usd_at_most` is the cost if every answer is as long as it may be, without retries. `measured`
    counts the pairs whose figures are from earlier runs. `seconds` is the sum of the pairs' times,
    `longest` the longest one; both None where no time was ever measured.
    """

    pairs: int
    calls: int
    usd: float
    usd_at_most: float
    unpriced: int
    measured: int = 0
    seconds: float | None = None
    longest: float | None = None

    @property
    def basis(self) -> str:
        """A sentence about what the figures rest on."""
        if not self.measured:
            return _("From the suite's expected answers and list prices.")
        if self.measured == self.pairs:
            return _("From the last runs here.")
        return ngettext(
            "From the last runs here for %(measured)d of %(pairs)d pair, from list prices for the "
            "others.",
            "From the last runs here for %(measured)d of %(pairs)d pairs, from list prices for the "
            "others.",
            self.pairs,
        ) % {"measured": self.measured, "pairs": self.pairs}

    def seconds_with(self, slots: int) -> float | None:
        """Return how long the job takes when `slots` of its runs are worked on at once."""
        if self.seconds is None or self.longest is None:
            return None
        return max(self.longest, self.seconds / max(1, slots))


class Measured(NamedTuple):
    """What one run took, or the mean of several."""

    calls: float
    usd: float | None
    seconds: float


class Planned(NamedTuple):
    """What a run of a model takes by the suite's own figures."""

    calls: int
    usd: float | None
    usd_at_most: float | None


def estimate_pairs(pairs: Sequence[tuple[AIModel, Region]], tier: str) -> JobEstimate:
    """Return what these pairs take in this tier, in at most two queries."""
    own = CustomCase.objects.specs() if tier != Tier.QUICK else ()
    models = {model.pk: model for model, _region in pairs}
    plans = {pk: plan(model, tier, own) for pk, model in models.items()}
    by_pair = last_runs(models, tier)
    by_model: dict[uuid.UUID, list[Measured]] = defaultdict(list)
    for (pk, _code), took in by_pair.items():
        by_model[pk].append(took)
    means = {pk: mean(runs) for pk, runs in by_model.items()}
    typical = fmean(run.seconds for run in means.values()) if means else None

    calls = usd = usd_at_most = seconds = 0.0
    longest, unpriced, measured = None, 0, 0
    for model, region in pairs:
        planned = plans[model.pk]
        run: Measured | None = by_pair.get((model.pk, region.code)) or means.get(model.pk)
        cost = planned.usd if run is None or run.usd is None else run.usd
        calls += planned.calls if run is None else run.calls
        usd += cost or 0.0
        usd_at_most += max(cost or 0.0, planned.usd_at_most or 0.0)
        unpriced += planned.calls > 0 and planned.usd is None
        measured += run is not None
        expected = (run.seconds if run else typical) if planned.calls else 0.0
        if expected is not None:
            seconds += expected
            longest = max(longest or 0.0, expected)
    return JobEstimate(
        pairs=len(pairs),
        calls=round(calls),
        usd=usd,
        usd_at_most=usd_at_most,
        unpriced=unpriced,
        measured=measured,
        seconds=None if typical is None else seconds,
        longest=None if typical is None else longest,
    )


def plan(model: AIModel, tier: str, own: Sequence[custom.Spec]) -> Planned:
    """Return what a run of this model takes by the suite's figures and the catalogue's prices."""
    size = registry.estimate(model.kind, tier, frozenset(model.capabilities), own)
    at_most = max(size.output_tokens, size.reserved_tokens - size.input_tokens)
    return Planned(
        size.calls,
        model.cost_usd(size.input_tokens, size.output_tokens),
        model.cost_usd(size.input_tokens, at_most),
    )


def last_runs(models: Iterable[uuid.UUID], tier: str) -> dict[tuple[uuid.UUID, str], Measured]:
    """Return what the run took that each pair of these models was last judged by, on our backend
    and in this tier.
    """
    rows = ModelCertification.objects.filter(
        model__in=list(models),
        tier=tier,
        backend=backend.name(),
        run__verdict__in=JUDGED,
        run__completed_at__gte=F("run__started_at"),
    ).values_list(
        "model_id",
        "region_id",
        "run__calls",
        "run__cost_usd",
        F("run__completed_at") - F("run__started_at"),
    )
    return {
        (model, region): Measured(calls, None if usd is None else float(usd), took.total_seconds())
        for model, region, calls, usd, took in rows
    }


def mean(runs: Sequence[Measured]) -> Measured:
    """Return the mean of some runs of one model."""
    prices = [run.usd for run in runs if run.usd is not None]
    return Measured(
        fmean(run.calls for run in runs),
        fmean(prices) if prices else None,
        fmean(run.seconds for run in runs),
    )
