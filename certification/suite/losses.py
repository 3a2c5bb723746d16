"""Account for every point that a run did not get: which part, category and case cost it, what caps
the score, and what the verdict would be with one of these fixed. Conditions of a certificate, met
and unmet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from certification.suite import scoring
from certification.suite.case import Grade, Kind
from certification.suite.policy import POLICY, TARGETS
from certification.suite.scoring import Calls, CaseOutcome, CaseStatus, Judgement, Run

FULL = 100.0


class Part(StrEnum):
    """The parts of a score."""

    QUALITY = "quality"
    CONTRACT = "contract"
    PERFORMANCE = "performance"
    RELIABILITY = "reliability"


@dataclass(frozen=True)
class Loss:
    """What one thing cost. `name` is a category of quality, "gates", a measured figure or "calls".

    `weight` is how many points it is worth, `value` (0..1) how much of that the run got; `cases`
    are those to blame with the points that each cost, worst first; `fixed` is the judgement with
    this alone put right.
    """

    part: Part
    name: str
    weight: float
    value: float
    fixed: Judgement
    cases: tuple[tuple[str, float], ...] = ()

    @property
    def points(self) -> float:
        return self.weight * (1.0 - self.value)


@dataclass(frozen=True)
class Cap:
    """A rule that keeps a score at `limit` or below, and the points that it took. `name` is
    "quick_tier", "flaky_gate", "parity", "failed_gate", or "whole_points": scores are given in
    whole points, never rounded up. `fixed` is the judgement without the rule's cause, None where
    nothing can be fixed.
    """

    name: str
    limit: float
    points: float
    cases: tuple[str, ...] = ()
    fixed: Judgement | None = None


@dataclass(frozen=True)
class Account:
    """A judged run's score, and what it lost on the way from 100: the points of losses and caps,
    and the score, add up to 100.
    """

    judgement: Judgement
    score: int
    losses: tuple[Loss, ...]
    caps: tuple[Cap, ...]
    # the score if the quality were at its lower bound; None without quality
    low: float | None = None

    @property
    def lost(self) -> float:
        return FULL - self.score

    @property
    def by_case(self) -> dict[str, float]:
        """Points that each case cost, before caps."""
        return {case: points for loss in self.losses for case, points in loss.cases}


def account_for(run: Run) -> Account | None:
    """Return where the run's points went; None where its verdict carries no score."""
    judgement = scoring.judge(run)
    if judgement.score is None:
        return None
    losses = tuple(sorted(losses_of(run, judgement), key=lambda loss: -loss.points))
    score = int(judgement.score)
    exact = FULL - sum(loss.points for loss in losses)
    quality = [loss.weight for loss in losses if loss.part == Part.QUALITY]
    low = None
    if quality and judgement.quality is not None and judgement.lower_bound is not None:
        low = max(0.0, score - sum(quality) * (judgement.quality - judgement.lower_bound))
    return Account(judgement, score, losses, tuple(caps_of(run, exact, score)), low)


def losses_of(run: Run, figures: Judgement) -> Iterator[Loss]:
    """Yield every thing that is worth points in this run, also those that lost none."""
    shares = part_weights(run, figures)
    if weight := shares.get(Part.QUALITY):
        yield from quality_losses(run, weight)
    if weight := shares.get(Part.CONTRACT):
        yield gate_loss(run, weight, figures.contract or 0.0)
    if weight := shares.get(Part.PERFORMANCE):
        yield from speed_losses(run, figures, weight)
    if weight := shares.get(Part.RELIABILITY):
        reliable = replace(run, calls=Calls(run.calls.total))
        value = figures.reliability or 0.0
        yield Loss(Part.RELIABILITY, "calls", weight, value, scoring.judge(reliable))


def part_weights(run: Run, figures: Judgement) -> dict[Part, float]:
    """Return how many points each part is worth: those without a figure leave theirs to the
    others, but for a quick run, whose gates always count.
    """
    if run.tier == "quick":
        return {Part.CONTRACT: POLICY.quick_contract, Part.RELIABILITY: POLICY.quick_reliability}
    shares = {
        Part.QUALITY: (POLICY.share_quality, figures.quality),
        Part.CONTRACT: (POLICY.share_contract, figures.contract),
        Part.PERFORMANCE: (POLICY.share_performance, figures.performance),
        Part.RELIABILITY: (POLICY.share_reliability, figures.reliability),
    }
    total = sum(share for share, figure in shares.values() if figure is not None)
    return {
        part: FULL * share / total for part, (share, figure) in shares.items() if figure is not None
    }


def quality_losses(run: Run, weight: float) -> Iterator[Loss]:
    """Yield what each category cost; a case costs by its weight within its category."""
    outcomes = scoring.weighted_outcomes(run.applying)
    case_weights = scoring.weights_of(outcomes)
    means = scoring.category_scores(outcomes)
    total = sum(POLICY.weights[category] for category in means)
    for category, mean in means.items():
        worth = weight * POLICY.weights[category] / total
        cases = [
            (o.case.id, worth * o.case.weight / case_weights[category] * (1.0 - (o.score or 0.0)))
            for o in outcomes
            if o.case.category == category
        ]
        blamed = costly(cases)
        fixed = with_cases_passed(run, {case for case, _points in blamed})
        yield Loss(Part.QUALITY, category.value, worth, mean, scoring.judge(fixed), blamed)


def gate_loss(run: Run, weight: float, value: float) -> Loss:
    """Return what the gates cost."""
    counted = [o for o in run.gates if o.status != CaseStatus.OPEN]
    worth = {CaseStatus.PASSED: 1.0, CaseStatus.FLAKY: POLICY.flaky_gate}
    blamed = costly(
        (o.case.id, weight / len(counted) * (1.0 - worth.get(o.status, 0.0))) for o in counted
    )
    fixed = with_cases_passed(run, {case for case, _points in blamed})
    return Loss(Part.CONTRACT, "gates", weight, value, scoring.judge(fixed), blamed)


def speed_losses(run: Run, figures: Judgement, weight: float) -> Iterator[Loss]:
    """Yield what each measured figure of speed cost against its target."""
    target = TARGETS[run.model_class]
    measured: dict[str, tuple[float | None, float | None, float]] = {
        "ttft_ms": (figures.ttft.median if figures.ttft else None, None, target.ttft_target_ms),
        "tokens_per_second": (
            None,
            figures.speed.median if figures.speed else None,
            target.tps_target,
        ),
    }
    present = {
        name: scoring.performance(run.model_class, ttft, speed)
        for name, (ttft, speed, _target) in measured.items()
    }
    count = sum(value is not None for value in present.values())
    for name, value in present.items():
        if value is not None:
            worth, fixed = weight / count, with_figure(run, name, measured[name][2])
            case = scoring.MEASURED_BY[name]
            is_run = any(o.case.id == case for o in run.applying)
            blamed = costly([(case, worth * (1.0 - value))] if is_run else [])
            yield Loss(Part.PERFORMANCE, name, worth, value, scoring.judge(fixed), blamed)


def costly(cases: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Return the cases that cost something, the most costly first."""
    return tuple(sorted((c for c in cases if c[1] > 1e-9), key=lambda c: (-c[1], c[0])))


def caps_of(run: Run, exact: float, score: int) -> Iterator[Cap]:
    """Yield what took points from the sum of the parts `exact` until `score`, which was given."""
    flaky = tuple(o.case.id for o in run.flaky_gates)
    failed = tuple(o.case.id for o in run.failed_gates)
    level = exact
    rules: list[tuple[str, float, tuple[str, ...], bool, Callable[[], Run] | None]] = [
        ("quick_tier", POLICY.quick_cap, (), run.tier == "quick", None),
        ("flaky_gate", best_with("B"), flaky, bool(flaky), lambda: with_cases_passed(run, flaky)),
        (
            "parity",
            best_with("C"),
            (),
            bool(run.parity_losses or run.parity_alarm),
            lambda: replace(run, parity_losses=frozenset(), parity_alarm=""),
        ),
        (
            "failed_gate",
            best_with("F"),
            failed,
            bool(failed),
            lambda: with_cases_passed(run, failed),
        ),
    ]
    for name, limit, cases, holds, fix in rules:
        if holds and limit < level:
            fixed = scoring.judge(fix()) if fix else None
            yield Cap(name, limit, level - limit, cases, fixed)
            level = limit
    if abs(level - score) > 1e-9:
        yield Cap("whole_points", float(score), level - score)


def best_with(letter: str) -> float:
    """Return the highest score that has this rating."""
    return min(floor for floor, name in POLICY.ratings if name < letter) - 1


def with_cases_passed(run: Run, cases: Collection[str]) -> Run:
    """Return the run as if every trial of these cases that counts had passed."""

    def passed(grade: Grade) -> Grade:
        counts = grade.valid and not grade.skipped and not grade.lacks
        return replace(grade, passed=True, cause=None) if counts else grade

    def fixed(outcome: CaseOutcome) -> CaseOutcome:
        if outcome.case.id not in cases:
            return outcome
        return replace(outcome, trials=tuple(map(passed, outcome.trials)))

    return replace(run, outcomes=tuple(map(fixed, run.outcomes)))


def with_figure(run: Run, name: str, value: float) -> Run:
    """Return the run as if every measurement of this name had been `value`."""

    def fixed(outcome: CaseOutcome) -> CaseOutcome:
        if outcome.case.kind != Kind.PERFORMANCE:
            return outcome
        trials = tuple(
            replace(t, evidence={**t.evidence, name: value})
            if scoring.is_measurement(t.evidence.get(name))
            else t
            for t in outcome.trials
        )
        return replace(outcome, trials=trials)

    return replace(run, outcomes=tuple(map(fixed, run.outcomes)))


@dataclass(frozen=True)
class Condition:
    """One condition of a certificate. `figure` stands against `line`, of which it must be at least
    as much, or at most where `at_most`; `cases` are those that keep it from being met.
    """

    name: str
    is_met: bool
    figure: float
    line: float
    subject: str = ""
    cases: tuple[str, ...] = ()
    at_most: bool = False


def conditions(run: Run) -> tuple[Condition, ...]:
    """Return every condition of a certificate for this run: it is certified if all are met. Those
    that nothing is known of yet are left out while too little could be judged.
    """
    judged = Condition(
        "judged", run.judgeable, run.valid_share, POLICY.min_valid, cases=run.unknown
    )
    if not run.judgeable:
        return (judged,)
    figures = scoring.figures_of(run)
    failed = tuple(o.case.id for o in run.failed_gates)
    score = figures.score or 0.0
    rows = [
        judged,
        Condition("gates", not failed, float(len(failed)), 0.0, cases=failed, at_most=True),
        Condition("score", not scoring.below(score, POLICY.line), score, POLICY.line),
        *capability_conditions(run, figures),
    ]
    if run.tier == "quick":
        return (*rows, *usable_conditions(figures))
    bound = figures.lower_bound
    if bound is not None:
        holds = not scoring.below(bound, POLICY.min_bound)
        rows.append(Condition("lower_bound", holds, bound, POLICY.min_bound))
    rows += category_conditions(run, figures)
    flaky = tuple(o.case.id for o in run.unrecovered_gates)
    few = len(flaky) <= POLICY.max_flaky
    count, limit = float(len(flaky)), float(POLICY.max_flaky)
    rows.append(Condition("flaky_gates", few, count, limit, cases=flaky, at_most=True))
    return (*rows, *usable_conditions(figures))


def category_conditions(run: Run, figures: Judgement) -> Iterator[Condition]:
    """Yield a condition for each category with trials: its mean is not below its floor."""
    for name, mean in figures.categories.items():
        floor = scoring.category_floor(name)
        cases = tuple(
            o.case.id
            for o in scoring.weighted_outcomes(run.applying)
            if o.case.category == name and (o.score or 0.0) < 1.0
        )
        holds = not scoring.below(mean, floor)
        yield Condition("category", holds, mean, floor, name, () if holds else cases)


def capability_conditions(run: Run, figures: Judgement) -> Iterator[Condition]:
    """Yield the conditions about capabilities that this region lacks and another, or the catalogue,
    has.
    """
    lost = sorted(run.parity_losses)
    refused = [c for c in figures.lacks if c in run.declared]
    differing = float(len(lost) + bool(run.parity_alarm))
    yield Condition("parity", not differing, differing, 0.0, ", ".join(lost), at_most=True)
    count = float(len(refused))
    yield Condition("declared", not refused, count, 0.0, ", ".join(refused), at_most=True)


def usable_conditions(figures: Judgement) -> Iterator[Condition]:
    """Yield the lines below which a model is of no use at all, where one is not met: they are far
    below those of a certificate.
    """
    if figures.quality is not None and scoring.below(figures.quality, POLICY.fail_quality):
        yield Condition("usable_quality", False, figures.quality, POLICY.fail_quality)
    for category in POLICY.core:
        mean = figures.categories.get(category.value)
        if mean is not None and scoring.below(mean, POLICY.fail_core):
            yield Condition("usable_category", False, mean, POLICY.fail_core, category.value)


def is_certified(rows: Iterable[Condition]) -> bool:
    """Return whether conditions make a certificate."""
    return all(row.is_met for row in rows)
