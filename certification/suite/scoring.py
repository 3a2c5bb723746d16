"""From graded trials to a verdict: case scores, quality, contract, performance, reliability, rating
and the reason why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeGuard

from certification.inference import Failure, Outcome, Reply
from certification.reasons import ErrorCategory, Reason, Status
from certification.suite import statistics
from certification.suite.case import Case, Category, Grade, Kind
from certification.suite.policy import MEASURED_BY, POLICY, TARGETS
from certification.suite.sentences import wording


def measured(outcomes: Iterable[CaseOutcome], name: str) -> statistics.Summary | None:
    """Summarise what performance trials measured under a name of their evidence; None if nothing.

    The trials of the case that is made to measure it are pooled; where that case has none, those of
    all the others are.
    """
    timed = [o for o in outcomes if o.case.kind == Kind.PERFORMANCE]
    own = [o for o in timed if o.case.id == MEASURED_BY.get(name)]
    for pool in (own, timed):
        values = [t.evidence.get(name) for o in pool for t in o.valid if t.passed]
        summary = statistics.summarise([float(v) for v in values if is_measurement(v)])
        if summary:
            return summary
    return None


def is_measurement(value: object) -> TypeGuard[float]:
    """Check that a stored figure is a positive number: JSON stored long ago may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0


def performance(
    model_class: str, ttft_ms: float | None, tokens_per_second: float | None
) -> float | None:
    """Compute P: half time to first token, half output tokens per second, against the targets of
    the model's class.

    None where both were not measured; one of them alone counts whole. KeyError for an unknown
    class.
    """
    t = TARGETS[model_class]
    parts = []
    if ttft_ms is not None:
        parts.append((t.ttft_limit_ms - ttft_ms) / (t.ttft_limit_ms - t.ttft_target_ms))
    if tokens_per_second is not None:
        parts.append((tokens_per_second - t.tps_limit) / (t.tps_target - t.tps_limit))
    return sum(min(1.0, max(0.0, p)) for p in parts) / len(parts) if parts else None


STREAM_REASONS = {Reason.STREAM_ERROR, Reason.STREAM_TRUNCATED, Reason.STREAM_CORRUPT}


@dataclass(frozen=True)
class Calls:
    """How the calls of a run went, every attempt counted."""

    total: int = 0
    server_errors: int = 0
    timeouts: int = 0
    broken_streams: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Calls:
        """Count these outcomes: include those of every attempt, also of retried ones."""
        total = server_errors = timeouts = broken_streams = 0
        for outcome in outcomes:
            total += 1
            if isinstance(outcome, Reply):
                broken_streams += not outcome.complete
            elif isinstance(outcome, Failure):
                reason, status = outcome.reason, outcome.http_status or 0
                if reason in STREAM_REASONS:
                    broken_streams += 1
                elif reason in (Reason.READ_TIMEOUT, Reason.MODEL_TIMEOUT):
                    timeouts += 1
                elif reason.category == ErrorCategory.SERVICE_ERROR or status >= 500:
                    server_errors += 1
        return cls(total, server_errors, timeouts, broken_streams)

    def __add__(self, other: Calls) -> Calls:
        return Calls(
            self.total + other.total,
            self.server_errors + other.server_errors,
            self.timeouts + other.timeouts,
            self.broken_streams + other.broken_streams,
        )

    @property
    def reliability(self) -> float:
        """R = 1 - (5xx + timeouts + broken streams) / calls; 1 where nothing was called."""
        broken = self.server_errors + self.timeouts + self.broken_streams
        return 1.0 - broken / self.total if self.total else 1.0


class CaseStatus(StrEnum):
    """How far a case is in a run."""

    SKIPPED = "skipped"  # does not apply to this model
    OPEN = "open"  # too few valid trials to say
    PASSED = "passed"
    FLAKY = "flaky"  # a gate that failed and passed on a clean retry
    FAILED = "failed"


@dataclass(frozen=True)
class CaseOutcome:
    """The trials of one case, in the order of their index. `skipped` says why the case does not
    apply; "" = it does.
    """

    case: Case
    trials: tuple[Grade, ...] = ()
    skipped: str = ""

    @cached_property
    def valid(self) -> tuple[Grade, ...]:
        """The trials that say something about the model."""
        return tuple(
            t for t in self.trials if t.valid and not t.skipped and (t.passed or not t.lacks)
        )

    @cached_property
    def passes(self) -> int:
        return sum(t.passed for t in self.valid)

    @property
    def lacks(self) -> str:
        """A capability that a trial proved absent; empty if none."""
        return next((t.lacks for t in self.trials if t.lacks), "")

    @property
    def skip_reason(self) -> str:
        """Why the case does not apply to the model, or to the API that it was called by."""
        return self.skipped or next((t.skipped for t in self.trials if t.skipped), "")

    @property
    def score(self) -> float | None:
        """Passes / valid trials; None without any."""
        return self.passes / len(self.valid) if self.valid else None

    @property
    def planned(self) -> int:
        """How many valid trials are planned so far: the repeats, or the rung that was begun."""
        if self.case.kind == Kind.GATE:
            return 1
        done = len(self.valid)
        if done <= self.case.repeats:
            return self.case.repeats
        return next((r for r in POLICY.rungs(self.case.category) if r >= done), done)

    @cached_property
    def status(self) -> CaseStatus:
        """How far the case is. A gate that failed once is open until it passes or uses up its
        retries.
        """
        if self.skip_reason or any(t.lacks and not t.passed for t in self.trials):
            return CaseStatus.SKIPPED
        if not self.valid:
            return CaseStatus.OPEN
        if self.case.kind != Kind.GATE:
            return CaseStatus.PASSED if self.passes == len(self.valid) else CaseStatus.FAILED
        if self.valid[0].passed:
            return CaseStatus.PASSED
        if self.passes:
            return CaseStatus.FLAKY
        tries = 1 if self.case.whole_run else POLICY.gate_tries
        return CaseStatus.FAILED if len(self.valid) >= tries else CaseStatus.OPEN

    @property
    def recovered(self) -> bool:
        """A gate that failed its first try and passed both retries: a slip, as far as one run can
        tell.
        """
        return self.status == CaseStatus.FLAKY and self.passes == POLICY.gate_tries - 1

    @property
    def valid_of_planned(self) -> int:
        """How many of the planned trials count as valid."""
        if self.case.kind == Kind.GATE:
            return int(self.status != CaseStatus.OPEN)
        return min(len(self.valid), self.planned)

    @property
    def sentence(self) -> str:
        """The sentence of the last trial that counts; of the last failed one where one failed."""
        trials = self.valid or self.trials
        failed = [t for t in self.valid if not t.passed]
        return (failed or trials)[-1].sentence if trials else "It was not run."


@dataclass(frozen=True)
class Judgement:
    """The verdict of a run and why. Figures are 0..1, `score` 0..100; None = there is nothing to
    compute it from.

    `failed_gates` and `flaky_gates` are case ids; `skipped` maps a case id to why; `lacks` are
    capabilities that the run proved absent; `categories` the mean of each scored category. `ttft`
    in milliseconds and `speed` in output tokens per second are what `performance` was computed
    from.
    """

    verdict: Status
    message: str
    reason: Reason | None = None
    score: float | None = None
    rating: str = ""
    lower_bound: float | None = None
    quality: float | None = None
    contract: float | None = None
    performance: float | None = None
    reliability: float | None = None
    unmet: tuple[str, ...] = ()
    failed_gates: tuple[str, ...] = ()
    flaky_gates: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    categories: Mapping[str, float] = field(default_factory=dict)
    ttft: statistics.Summary | None = None
    speed: statistics.Summary | None = None

    @property
    def passed(self) -> bool:
        return self.verdict == Status.CERTIFIED


def category_scores(outcomes: Iterable[CaseOutcome]) -> dict[Category, float]:
    """Return the weighted mean case score of each category with weight and a valid trial."""
    scored = weighted_outcomes(outcomes)
    totals = weights_of(scored)
    scores = dict.fromkeys(totals, 0.0)
    for o in scored:
        scores[o.case.category] += o.case.weight * (o.score or 0.0)
    return {category: total / totals[category] for category, total in scores.items()}


def quality(outcomes: Iterable[CaseOutcome]) -> float | None:
    """Compute Q: the weighted mean of the category means, over the categories that apply."""
    means = category_scores(outcomes)
    weight = sum(POLICY.weights[c] for c in means)
    return sum(POLICY.weights[c] * mean for c, mean in means.items()) / weight if weight else None


def lower_bound(outcomes: Iterable[CaseOutcome]) -> float | None:
    """Compute Q less 1.645 standard errors (one-sided 95 %), each case's share of success drawn
    half a trial to the middle.
    """
    scored = weighted_outcomes(outcomes)
    q = quality(scored)
    if q is None:
        return None
    totals = weights_of(scored)
    weight = sum(POLICY.weights[c] for c in totals)
    variance = 0.0
    for o in scored:
        u = POLICY.weights[o.case.category] / weight * o.case.weight / totals[o.case.category]
        k = len(o.valid)
        p = (o.passes + 0.5) / (k + 1)
        variance += u * u * p * (1 - p) / k
    return max(0.0, q - POLICY.z * math.sqrt(variance))


def weights_of(scored: Iterable[CaseOutcome]) -> dict[Category, float]:
    """Sum the cases' weights by category."""
    totals: dict[Category, float] = {}
    for o in scored:
        totals[o.case.category] = totals.get(o.case.category, 0.0) + o.case.weight
    return totals


def contract(outcomes: Iterable[CaseOutcome]) -> float | None:
    """Compute C, the mean of the gates: first try 1, passed on a retry 0.5, failed 0. Open and
    skipped gates are left out.
    """
    worth = {
        CaseStatus.PASSED: 1.0,
        CaseStatus.FLAKY: POLICY.flaky_gate,
        CaseStatus.FAILED: 0.0,
    }
    values = [worth[o.status] for o in outcomes if o.case.kind == Kind.GATE and o.status in worth]
    return sum(values) / len(values) if values else None


def quick_score(c: float, r: float) -> float:
    """Compute 100 (0.75 C + 0.25 R), capped: a quick run cannot earn an A."""
    return min(
        POLICY.quick_cap,
        POLICY.quick_contract * c + POLICY.quick_reliability * r,
    )


def full_score(q: float | None, c: float | None, p: float | None, r: float | None) -> float:
    """Compute 100 (0.45 Q + 0.25 C + 0.15 P + 0.15 R), renormalised over the figures that there
    are.
    """
    parts = [
        (POLICY.share_quality, q),
        (POLICY.share_contract, c),
        (POLICY.share_performance, p),
        (POLICY.share_reliability, r),
    ]
    weight = sum(share for share, figure in parts if figure is not None)
    return (
        100.0 * sum(share * figure for share, figure in parts if figure is not None) / weight
        if weight
        else 0.0
    )


def rating(
    score: float, *, failed_gates: int = 0, flaky_gates: int = 0, parity_loss: bool = False
) -> str:
    """Return A to F. A flaky gate caps at B, a proved parity loss at C, a failed gate at F."""
    letter = next(name for floor, name in POLICY.ratings if score >= floor)
    caps = [letter]
    if flaky_gates:
        caps.append("B")
    if parity_loss:
        caps.append("C")
    if failed_gates:
        caps.append("F")
    return max(caps)


def weighted_outcomes(outcomes: Iterable[CaseOutcome]) -> list[CaseOutcome]:
    return [
        o
        for o in outcomes
        if o.case.kind == Kind.SCORED
        and o.case.category in POLICY.weights
        and o.valid
        and o.status != CaseStatus.SKIPPED
    ]


@dataclass(frozen=True)
class Run:
    """All that a judgement looks at.

    `outcomes` holds every case of the run, also those without a trial. `access` is the refusal that
    ended the run early, if any; `interrupted` what stopped it before its end (a deadline, expired
    credentials). `declared` are the capabilities that the catalogue says the model has;
    `parity_losses` those that a reference region was proved to have and this one to lack;
    `parity_alarm` the sentence that says so of trials that flip. `model_class` is a row of TARGETS.
    """

    tier: str
    outcomes: tuple[CaseOutcome, ...]
    calls: Calls = Calls()
    model_class: str = "medium"
    access: Failure | None = None
    interrupted: Reason | None = None
    declared: frozenset[str] = frozenset()
    parity_losses: frozenset[str] = frozenset()
    parity_alarm: str = ""

    @cached_property
    def applying(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.outcomes if o.status != CaseStatus.SKIPPED)

    @cached_property
    def gates(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.applying if o.case.kind == Kind.GATE)

    @cached_property
    def failed_gates(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.gates if o.status == CaseStatus.FAILED)

    @cached_property
    def flaky_gates(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.gates if o.status == CaseStatus.FLAKY)

    @cached_property
    def unrecovered_gates(self) -> tuple[CaseOutcome, ...]:
        """The flaky gates that rule 7 counts: those that did not recover."""
        return tuple(o for o in self.flaky_gates if not o.recovered)

    @cached_property
    def judged(self) -> tuple[CaseOutcome, ...]:
        """The cases that apply and bear on the verdict; informational ones do not."""
        return tuple(o for o in self.applying if o.case.kind != Kind.INFORMATION)

    @cached_property
    def valid_share(self) -> float:
        """Valid trials of the planned ones."""
        planned = sum(o.planned for o in self.judged)
        return sum(o.valid_of_planned for o in self.judged) / planned if planned else 0.0

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Gates and categories that apply but have no valid trial: a certification must not cover
        them.
        """
        open_gates = [o.case.id for o in self.gates if o.status == CaseStatus.OPEN]
        planned = (o.case.category for o in self.applying if o.case.kind == Kind.SCORED)
        known = {o.case.category for o in weighted_outcomes(self.applying)}
        return (
            *open_gates,
            *dict.fromkeys(c.value for c in planned if c in POLICY.weights and c not in known),
        )

    @cached_property
    def judgeable(self) -> bool:
        """Whether enough of what was planned is valid: 95 % of the trials, every gate, something of
        every category.
        """
        return (
            self.access is None
            and not self.unknown
            and not below(self.valid_share, POLICY.min_valid)
        )

    @cached_property
    def blocking_failure(self) -> Failure | None:
        """What kept the run from a verdict: the access gate's own failure, else the commonest cause
        of invalid trials.
        """
        if self.access or not self.gates:
            return self.access
        gate = self.gates[0]
        own = invalid_causes([gate]) if gate.status == CaseStatus.OPEN else []
        causes = own[-1:] or invalid_causes(self.applying)
        if not causes:
            return None
        commonest = Counter(f.reason for f in causes).most_common(1)[0][0]
        return next(f for f in causes if f.reason == commonest)


def invalid_causes(outcomes: Iterable[CaseOutcome]) -> list[Failure]:
    """Return what ended the invalid trials of these cases, in order."""
    return [t.cause for o in outcomes for t in o.trials if not t.valid and t.cause is not None]


SHOWN = 4  # names in a sentence

JUDGING = (Status.CERTIFIED, Status.QUALITY_WARNING, Status.FAILED)
REFUSED = (Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED)


def without_suite(kind: str) -> Judgement:
    """Return the verdict for a kind of model that the suite has no cases for."""
    return Judgement(
        Status.NOT_TESTED,
        f"There is no suite for models of the kind {kind} yet: nothing was called.",
    )


def judge(run: Run) -> Judgement:
    """Judge a run: the first rule of docs/judging.md that matches, with its reason and a sentence
    that says why.
    """
    figures = figures_of(run)
    if not run.judgeable:
        return judge_incomplete(run, figures)
    if run.failed_gates:
        return judge_failed_gates(run, figures)
    if problems := unusable_quality(figures):
        message = f"The quality is too low for any use: {'; '.join(problems)}."
        return with_verdict(figures, Status.FAILED, message, Reason.QUALITY_BELOW_LINE, problems)
    if problems := unmet_conditions(run, figures):
        message = f"Not certified: {'; '.join(problems)}."
        return with_verdict(
            figures, Status.QUALITY_WARNING, message, Reason.QUALITY_BELOW_LINE, problems
        )
    gates = f"all {len(run.gates)} gates passed"
    if figures.flaky_gates:
        gates += f", {', '.join(figures.flaky_gates)} only on a retry"
    tested = "" if figures.quality is None else f"quality {format_floor(figures.quality)}, "
    score = format_floor(figures.score or 0.0, 0)
    message = f"Certified: {gates}, {tested}score {score}, rating {figures.rating}."
    return with_verdict(figures, Status.CERTIFIED, message)


def figures_of(run: Run) -> Judgement:
    """Compute every figure of a run, before there is a verdict."""
    q, c, r = quality(run.applying), contract(run.gates), run.calls.reliability
    ttft, speed = measured(run.applying, "ttft_ms"), measured(run.applying, "tokens_per_second")
    p = performance(run.model_class, ttft.median if ttft else None, speed.median if speed else None)
    score = quick_score(c or 0.0, r) if run.tier == "quick" else full_score(q, c, p, r)
    score = round(score, 2)
    return Judgement(
        Status.PENDING,
        "",
        score=score,
        rating=rating(
            score,
            failed_gates=len(run.failed_gates),
            flaky_gates=len(run.flaky_gates),
            parity_loss=bool(run.parity_losses or run.parity_alarm),
        ),
        lower_bound=lower_bound(run.applying),
        quality=q,
        contract=c,
        performance=p,
        reliability=r,
        failed_gates=tuple(o.case.id for o in run.failed_gates),
        flaky_gates=tuple(o.case.id for o in run.flaky_gates),
        skipped={
            o.case.id: o.skip_reason or wording("not_supported", capabilities=humanize(o.lacks))
            for o in run.outcomes
            if o.status == CaseStatus.SKIPPED
        },
        lacks=tuple(sorted({o.lacks for o in run.outcomes if o.lacks})),
        categories={
            category.value: mean for category, mean in category_scores(run.applying).items()
        },
        ttft=ttft,
        speed=speed,
    )


def with_verdict(
    figures: Judgement,
    verdict: Status,
    message: str,
    reason: Reason | None = None,
    unmet: tuple[str, ...] = (),
) -> Judgement:
    """Return the judgement with its verdict. Score and rating are left out where the verdict does
    not judge the model; a capped rating caps the score too, so that the two always agree.
    """
    score, letter = None, ""
    if figures.score is not None and verdict in JUDGING:
        letter = figures.rating
        better = [floor for floor, name in POLICY.ratings if name < letter]
        score = min(figures.score, min(better) - 1 if better else 100.0)
    return replace(
        figures,
        verdict=verdict,
        message=message,
        reason=reason,
        unmet=unmet,
        score=score,
        rating=letter,
    )


def judge_incomplete(run: Run, figures: Judgement) -> Judgement:
    """Judge by rules 1 to 4: too little of what was planned is valid, and because of whom?"""
    blocking = run.blocking_failure
    if blocking and not run.interrupted and blocking.reason.facts.status in REFUSED:
        status = blocking.reason.facts.status
        what = (
            "Access was refused"
            if status == Status.PERMISSION_REQUIRED
            else "The model cannot be called as it is set up"
        )
        message = f"{what} ({blocking.reason.value}): {blocking.message}"
        return with_verdict(figures, status, message, blocking.reason)
    reason = run.interrupted or (blocking.reason if blocking else None)
    if reason is None and not any(o.trials for o in run.applying):
        return with_verdict(figures, Status.NOT_TESTED, "No case was run.")
    planned = sum(o.planned for o in run.judged)
    valid = sum(o.valid_of_planned for o in run.judged)
    message = f"No verdict yet: {valid} of {planned} planned trials could be judged"
    if 0 < len(run.unknown) <= SHOWN:
        message += f" and nothing is known about {', '.join(run.unknown)}"
    if reason:
        message += f" because of {humanize(reason.value)}"
    message += ". That says nothing about the model."
    return with_verdict(figures, Status.PENDING, message, reason)


def judge_failed_gates(run: Run, figures: Judgement) -> Judgement:
    """Judge by rule 5. The reason is the service's own, such as a cut stream, unless a gate
    failed because of the model's answer, which a retry would not change.
    """
    severity = sorted(
        (reason for reason in Reason if reason.facts.status == Status.FAILED),
        key=lambda reason: (reason is not Reason.GATE_FAILED, reason.retryable),
    )
    failures = [t for o in run.failed_gates for t in o.valid if not t.passed]
    causes = {t.cause.reason if t.cause else Reason.GATE_FAILED for t in failures}
    causes = {cause if cause in severity else Reason.GATE_FAILED for cause in causes}
    sentences = [f"{o.case.id} {o.case.title}: {o.sentence}" for o in run.failed_gates]
    unmet = tuple(f"gate {o.case.id} ({o.case.title.lower()}) failed" for o in run.failed_gates)
    what = "A gate failed" if len(sentences) == 1 else f"{len(sentences)} gates failed"
    message = f"{what}. {' '.join(sentences)}"
    return with_verdict(figures, Status.FAILED, message, min(causes, key=severity.index), unmet)


def unusable_quality(figures: Judgement) -> tuple[str, ...]:
    """Say in words why rule 6 applies; empty where it does not."""
    line, core_line = POLICY.fail_quality, POLICY.fail_core
    problems = []
    if figures.quality is not None and below(figures.quality, line):
        problems.append(f"the quality {format_floor(figures.quality)} is below {line:.2f}")
    for category in POLICY.core:
        mean = figures.categories.get(category.value)
        if mean is not None and below(mean, core_line):
            problems.append(f"{category.value} at {format_floor(mean)} is below {core_line:.2f}")
    return tuple(problems)


def unmet_conditions(run: Run, figures: Judgement) -> tuple[str, ...]:
    """Say in words what of rule 7 does not hold, but for failed gates, which rule 5 judges. Empty
    means certified.
    """
    unmet = []
    score, line, bound = figures.score or 0.0, POLICY.line, POLICY.min_bound
    if below(score, line):
        unmet.append(f"the score {format_floor(score, 0)} is below {line:.0f}")
    unmet += unmet_capabilities(run, figures)
    if run.tier == "quick":
        return tuple(unmet)
    if figures.lower_bound is not None and below(figures.lower_bound, bound):
        lower = format_floor(figures.lower_bound)
        unmet.append(f"the lower bound {lower} of the quality is below {bound:.2f}")
    for name, mean in figures.categories.items():
        floor = category_floor(name)
        if below(mean, floor):
            unmet.append(f"{name} at {format_floor(mean)} is below {floor:.2f}")
    return (*unmet, *unmet_gates(run))


def unmet_capabilities(run: Run, figures: Judgement) -> list[str]:
    """Say which capabilities this region lacks though another or the catalogue has them."""
    unmet = [
        f"the model supports {humanize(c)} in a reference region but not here"
        for c in sorted(run.parity_losses)
    ]
    unmet += [run.parity_alarm] if run.parity_alarm else []
    return unmet + [
        f"the catalogue says that the model supports {humanize(c)}, and the service refused it here"
        for c in figures.lacks
        if c in run.declared
    ]


def unmet_gates(run: Run) -> list[str]:
    """Say which gates are flaky where there are more than a certificate may have."""
    if len(run.unrecovered_gates) <= POLICY.max_flaky:
        return []
    names = ", ".join(o.case.id for o in run.unrecovered_gates)
    return [f"{len(run.unrecovered_gates)} gates passed only on a retry ({names})"]


def category_floor(name: str) -> float:
    """Return the lowest mean that a certificate lets a category have."""
    core = name in POLICY.core
    return POLICY.min_core if core else POLICY.min_category


def format_floor(figure: float, digits: int = 2) -> str:
    """Format a figure, never rounded up: 79.6 below 80 must not read "80 is below 80"."""
    return f"{math.floor(figure * 10**digits + 1e-6) / 10**digits:.{digits}f}"


def below(figure: float, line: float) -> bool:
    """Compare to nine digits: thirds do not add up exactly."""
    return figure < line - 1e-9


def near(figure: float, line: float, distance: float) -> bool:
    """Check that a figure is within a distance of a line, to nine digits."""
    return not below(distance, abs(figure - line))


def humanize(name: str) -> str:
    return "system prompts" if name == "system" else name.replace("_", " ")


def undecided(run: Run) -> frozenset[Category]:
    """Return the categories whose further repeats could still decide between certified and not;
    empty where it is decided.

    It is undecided where the score is within 5 of the line, only the lower bound fails, or a
    category is within 0.10 of its floor (0.15 below 24 trials, 0.20 below 10), unless something
    that no repeat can change rules a certificate out.
    """
    rules = POLICY
    figures = figures_of(run)
    score = figures.score or 0.0
    if (
        not figures.categories
        or not run.judgeable
        or run.failed_gates
        or unusable_quality(figures)
        or unmet_capabilities(run, figures)
        or unmet_gates(run)
        or below(score, rules.line - rules.near_line)
    ):
        return frozenset()
    trials: Counter[str] = Counter()
    for o in weighted_outcomes(run.applying):
        trials[o.case.category.value] += len(o.valid)
    close, failing = set(), set()
    for name, mean in figures.categories.items():
        if near(mean, category_floor(name), rules.undecided_within(trials[name])):
            close.add(name)
        if below(mean, category_floor(name)):
            failing.add(name)
    if failing - close:
        return frozenset()
    bound = figures.lower_bound
    bound_fails = bound is not None and below(bound, rules.min_bound)
    only_bound = bound_fails and not failing and not below(score, rules.line)
    if only_bound or near(score, rules.line, rules.near_line):
        imperfect = {name for name, mean in figures.categories.items() if mean < 1.0}
        close |= imperfect or set(figures.categories)
    return frozenset(map(Category, close))
