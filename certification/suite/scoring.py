"""From graded trials to a verdict: case scores, quality, contract, performance, reliability, rating
and the reason why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from certification.inference import Failure, Outcome, Reply
from certification.reasons import ErrorCategory, Reason, Status
from certification.suite import statistics
from certification.suite.case import Case, Category, Grade, Kind


@dataclass(frozen=True)
class Policy:
    """Every number of the judgement. Another policy is another POLICY_VERSION."""

    weights: Mapping[Category, float] = field(
        default_factory=lambda: {
            Category.TOOLS: 25.0,
            Category.JSON: 15.0,
            Category.INSTRUCTIONS: 15.0,
            Category.PORTUGUESE: 20.0,
            Category.STREAMING: 10.0,
            Category.CONTEXT: 5.0,
            Category.REASONING: 5.0,
            Category.VISION: 5.0,
        }
    )
    core: tuple[Category, ...] = (
        Category.TOOLS,
        Category.JSON,
        Category.STREAMING,
        Category.INSTRUCTIONS,
        Category.PORTUGUESE,
    )
    share_quality: float = 45.0
    share_contract: float = 25.0
    share_performance: float = 15.0
    share_reliability: float = 15.0
    quick_contract: float = 75.0
    quick_reliability: float = 25.0
    quick_cap: float = 89.0
    flaky_gate: float = 0.5
    gate_tries: int = 3  # the first and two more
    invalid_tries: int = 2  # trials in place of those that infrastructure ended, per case
    min_valid: float = 0.95
    z: float = 1.645
    fail_quality: float = 0.50
    fail_core: float = 0.30
    line: float = 80.0
    min_bound: float = 0.75
    min_core: float = 0.80
    min_category: float = 0.60
    max_flaky: int = 1
    # of gates that passed on the first, where more of them are flaky than allowed
    second_retry: bool = True
    ladder: tuple[int, ...] = (3, 5, 9)
    near_line: float = 5.0
    near_floor: float = 0.10
    # on the first rung, where one trial of a category moves its mean by 0.07 or 0.11
    near_floor_first: float = 0.15
    # USD per million output tokens from which a model is expected to be of medium speed
    medium_price: float = 1.0
    large_price: float = 6.0
    ratings: tuple[tuple[float, str], ...] = (
        (90.0, "A"),
        (80.0, "B"),
        (70.0, "C"),
        (60.0, "D"),
        (-math.inf, "F"),
    )


POLICY = Policy()


@dataclass(frozen=True)
class Target:
    """What is expected of a class of models: milliseconds to the first token and output tokens per
    second.

    At its `target` or better a figure counts 1, at its `limit` or worse 0.
    """

    ttft_target_ms: float
    ttft_limit_ms: float
    tps_target: float
    tps_limit: float


TARGETS = {
    "small": Target(600.0, 3000.0, 80.0, 15.0),
    "medium": Target(1000.0, 5000.0, 45.0, 10.0),
    "large": Target(1800.0, 8000.0, 25.0, 6.0),
    "reasoning": Target(4000.0, 20000.0, 30.0, 6.0),
}


def model_class(capabilities: Collection[str], output_price: float | None) -> str:
    """Which row of TARGETS a model is measured by, told from facts, never from its name.

    Models that reason, whatever they cost, are "reasoning"; the others by USD per million output
    tokens, which follows the size of what is served: below 1 "small", below 6 "medium", else
    "large". An unknown price is "medium".
    """
    if "reasoning" in capabilities:
        return "reasoning"
    if output_price is None:
        return "medium"
    return (
        "small"
        if output_price < POLICY.medium_price
        else "medium"
        if output_price < POLICY.large_price
        else "large"
    )


# a short prompt and a short answer; a long of both
MEASURED_BY = {"ttft_ms": "L1", "tokens_per_second": "L2"}


def measured(outcomes: Iterable[CaseOutcome], name: str) -> statistics.Summary | None:
    """What the performance trials measured under this name of their evidence; None if nothing.

    The trials of the case that is made to measure it are pooled; where that case has none, those of
    all the others are.
    """
    timed = [o for o in outcomes if o.case.kind == Kind.PERFORMANCE]
    own = [o for o in timed if o.case.id == MEASURED_BY.get(name)]
    return _pooled(own, name) or _pooled(timed, name)


def _pooled(outcomes: Iterable[CaseOutcome], name: str) -> statistics.Summary | None:
    values = [_measure(t.evidence.get(name)) for o in outcomes for t in o.valid if t.passed]
    return statistics.summarise([v for v in values if v is not None])


def _measure(value: object) -> float | None:
    """A stored figure if it is one: JSON that was stored long ago may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if value > 0 else None


def performance(
    model_class: str, ttft_ms: float | None, tokens_per_second: float | None
) -> float | None:
    """P: half time to first token, half output tokens per second, against the targets of the
    model's class.

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


@dataclass(frozen=True)
class Calls:
    """How the calls of a run went, every attempt counted."""

    total: int = 0
    server_errors: int = 0
    timeouts: int = 0
    broken_streams: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Calls:
        """Count these outcomes: hand over those of every attempt, also of the ones that were tried
        again.
        """
        kinds = Counter(_trouble(outcome) for outcome in outcomes)
        return cls(kinds.total(), kinds["server_error"], kinds["timeout"], kinds["broken_stream"])

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


_STREAM_TROUBLES = {Reason.STREAM_ERROR, Reason.STREAM_TRUNCATED, Reason.STREAM_CORRUPT}


def _trouble(outcome: Outcome) -> str:
    if isinstance(outcome, Reply):
        return "" if outcome.complete else "broken_stream"
    if not isinstance(outcome, Failure):
        return ""
    if outcome.reason in _STREAM_TROUBLES:
        return "broken_stream"
    if outcome.reason in (Reason.READ_TIMEOUT, Reason.MODEL_TIMEOUT):
        return "timeout"
    is_server_error = (
        outcome.reason.category == ErrorCategory.SERVICE_ERROR or (outcome.http_status or 0) >= 500
    )
    return "server_error" if is_server_error else ""


class CaseStatus(StrEnum):
    """Where a case stands in a run."""

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
        return tuple(t for t in self.trials if t.valid and (t.passed or not t.lacks))

    @cached_property
    def passes(self) -> int:
        return sum(t.passed for t in self.valid)

    @property
    def lacks(self) -> str:
        """A capability that a trial proved absent; "" if none."""
        return next((t.lacks for t in self.trials if t.lacks), "")

    @property
    def score(self) -> float | None:
        """Passes / valid trials; None without any."""
        return self.passes / len(self.valid) if self.valid else None

    @property
    def planned(self) -> int:
        """How many valid trials were wanted, as far as this case got: its repeats, or the rung of
        the ladder it began.
        """
        if self.case.kind == Kind.GATE:
            return 1
        done = len(self.valid)
        return self.case.repeats if done <= self.case.repeats else rung_from(done)

    @cached_property
    def standing(self) -> CaseStatus:
        """Where the case stands. A gate that failed once is open until it has passed or used up its
        retries.
        """
        if self.skipped or any(t.lacks and not t.passed for t in self.trials):
            return CaseStatus.SKIPPED
        if self.case.kind != Kind.GATE:
            return (
                CaseStatus.PASSED if self.valid and self.passes == len(self.valid) else _weak(self)
            )
        if not self.valid:
            return CaseStatus.OPEN
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
        return self.standing == CaseStatus.FLAKY and self.passes == POLICY.gate_tries - 1

    @property
    def valid_of_planned(self) -> int:
        """How many of the planned trials count as valid."""
        if self.case.kind == Kind.GATE:
            return int(self.standing != CaseStatus.OPEN)
        return min(len(self.valid), self.planned)

    @property
    def sentence(self) -> str:
        """What the last trial that counts said."""
        trials = self.valid or self.trials
        return trials[-1].sentence if trials else "It was not run."


def rung_from(done: int) -> int:
    """The lowest rung of the ladder that has room for so many valid trials; beyond the ladder, as
    many as there are.
    """
    return next((rung for rung in POLICY.ladder if rung >= done), done)


def _weak(outcome: CaseOutcome) -> CaseStatus:
    return CaseStatus.FAILED if outcome.valid else CaseStatus.OPEN


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


# The figures.


def category_scores(outcomes: Iterable[CaseOutcome]) -> dict[Category, float]:
    """The mean case score of every category that carries weight and has a valid trial; cases count
    by their weight.
    """
    scored = _scored(outcomes)
    totals = _weights(scored)
    scores = dict.fromkeys(totals, 0.0)
    for o in scored:
        scores[o.case.category] += o.case.weight * (o.score or 0.0)
    return {category: total / totals[category] for category, total in scores.items()}


def quality(outcomes: Iterable[CaseOutcome]) -> float | None:
    """Q: the weighted mean of the category means, over the categories that apply."""
    means = category_scores(outcomes)
    weight = sum(POLICY.weights[c] for c in means)
    return sum(POLICY.weights[c] * mean for c, mean in means.items()) / weight if weight else None


def lower_bound(outcomes: Iterable[CaseOutcome]) -> float | None:
    """Q less 1.645 standard errors (one-sided 95 %), each case's share of success drawn half a
    trial to the middle.
    """
    scored = _scored(outcomes)
    q = quality(scored)
    if q is None:
        return None
    totals = _weights(scored)
    weight = sum(POLICY.weights[c] for c in totals)
    variance = 0.0
    for o in scored:
        u = POLICY.weights[o.case.category] / weight * o.case.weight / totals[o.case.category]
        k = len(o.valid)
        p = (o.passes + 0.5) / (k + 1)
        variance += u * u * p * (1 - p) / k
    return max(0.0, q - POLICY.z * math.sqrt(variance))


def _weights(scored: Iterable[CaseOutcome]) -> dict[Category, float]:
    """The sum of the cases' weights by category."""
    totals: dict[Category, float] = {}
    for o in scored:
        totals[o.case.category] = totals.get(o.case.category, 0.0) + o.case.weight
    return totals


def contract(outcomes: Iterable[CaseOutcome]) -> float | None:
    """C: the mean of the gates: first try 1, passed on a retry 0.5, failed 0. Open and skipped
    gates are left out.
    """
    worth = {CaseStatus.PASSED: 1.0, CaseStatus.FLAKY: POLICY.flaky_gate, CaseStatus.FAILED: 0.0}
    values = [
        worth[o.standing] for o in outcomes if o.case.kind == Kind.GATE and o.standing in worth
    ]
    return sum(values) / len(values) if values else None


def quick_score(c: float, r: float) -> float:
    """100 (0.75 C + 0.25 R), capped: a quick run cannot earn an A."""
    return min(POLICY.quick_cap, POLICY.quick_contract * c + POLICY.quick_reliability * r)


def full_score(q: float | None, c: float | None, p: float | None, r: float | None) -> float:
    """100 (0.45 Q + 0.25 C + 0.15 P + 0.15 R), renormalised over the figures that there are."""
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
    """A to F. A flaky gate caps at B, a proved parity loss at C, a failed gate at F."""
    letter = next(name for floor, name in POLICY.ratings if score >= floor)
    caps = [letter]
    if flaky_gates:
        caps.append("B")
    if parity_loss:
        caps.append("C")
    if failed_gates:
        caps.append("F")
    return max(caps)


def _scored(outcomes: Iterable[CaseOutcome]) -> list[CaseOutcome]:
    return [
        o
        for o in outcomes
        if o.case.kind == Kind.SCORED
        and o.case.category in POLICY.weights
        and o.valid
        and o.standing != CaseStatus.SKIPPED
    ]


# The verdict.


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
        return tuple(o for o in self.outcomes if o.standing != CaseStatus.SKIPPED)

    @cached_property
    def gates(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.applying if o.case.kind == Kind.GATE)

    @cached_property
    def failed_gates(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.gates if o.standing == CaseStatus.FAILED)

    @cached_property
    def flaky_gates(self) -> tuple[CaseOutcome, ...]:
        return tuple(o for o in self.gates if o.standing == CaseStatus.FLAKY)

    @cached_property
    def unrecovered_gates(self) -> tuple[CaseOutcome, ...]:
        """The flaky gates that did not recover: those that rule 7 counts."""
        return tuple(o for o in self.flaky_gates if not o.recovered)

    @cached_property
    def judged(self) -> tuple[CaseOutcome, ...]:
        """What applies and bears on the verdict: not what is only told, of which the deep tier has
        most.
        """
        return tuple(o for o in self.applying if o.case.kind != Kind.INFORMATION)

    @cached_property
    def valid_share(self) -> float:
        """Valid trials of the planned ones."""
        planned = sum(o.planned for o in self.judged)
        return sum(o.valid_of_planned for o in self.judged) / planned if planned else 0.0

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Gates and categories that apply and about which no trial says anything; a certificate
        would vouch for them.
        """
        open_gates = [o.case.id for o in self.gates if o.standing == CaseStatus.OPEN]
        wanted = (o.case.category for o in self.applying if o.case.kind == Kind.SCORED)
        known = {o.case.category for o in _scored(self.applying)}
        return (
            *open_gates,
            *dict.fromkeys(c.value for c in wanted if c in POLICY.weights and c not in known),
        )

    @cached_property
    def judgeable(self) -> bool:
        """Whether enough of what was planned is valid: 95 % of the trials, every gate, something of
        every category.
        """
        return (
            self.access is None
            and not self.unknown
            and not _below(self.valid_share, POLICY.min_valid)
        )

    @cached_property
    def blocking_failure(self) -> Failure | None:
        """What kept the run from an end: the access gate's own trouble, else what ended most of the
        invalid trials.
        """
        if self.access or not self.gates:
            return self.access
        gate = self.gates[0]
        own = _causes([gate]) if gate.standing == CaseStatus.OPEN else []
        causes = own[-1:] or _causes(self.applying)
        if not causes:
            return None
        commonest = Counter(f.reason for f in causes).most_common(1)[0][0]
        return next(f for f in causes if f.reason == commonest)


def _causes(outcomes: Iterable[CaseOutcome]) -> list[Failure]:
    return [t.cause for o in outcomes for t in o.trials if not t.valid and t.cause is not None]


SHOWN = 4  # names in a sentence

_REFUSED = (Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED)


def without_suite(kind: str) -> Judgement:
    """The verdict for a kind of model that the suite has no cases for."""
    return Judgement(
        Status.NOT_TESTED,
        f"There is no suite for models of the kind {kind} yet: nothing was called.",
    )


def not_on_runtime() -> Judgement:
    """The verdict for a model that Bedrock serves only on another endpoint."""
    message = "Bedrock serves this model only on another endpoint, not on bedrock-runtime: nothing was called."
    return Judgement(Status.CONFIGURATION_REQUIRED, message, Reason.NOT_ON_BEDROCK_RUNTIME)


def judge(run: Run) -> Judgement:
    """The verdict of a run: the first of SUITE.md's rules that matches, with its reason and a
    sentence that says why.
    """
    figures = _figures(run)
    if not run.judgeable:
        return _without_verdict(run, figures)
    if run.failed_gates:
        return _gate_failed(run, figures)
    too_weak = _too_weak(figures)
    if too_weak:
        message = f"The quality is below what can be used: {'; '.join(too_weak)}."
        return _with(figures, Status.FAILED, message, Reason.QUALITY_BELOW_LINE, unmet=too_weak)
    unmet = unmet_conditions(run, figures)
    if unmet:
        message = f"Not certified: {'; '.join(unmet)}."
        return _with(
            figures, Status.QUALITY_WARNING, message, Reason.QUALITY_BELOW_LINE, unmet=unmet
        )
    return _with(figures, Status.CERTIFIED, _success_message(run, figures))


def _figures(run: Run) -> Judgement:
    """Every figure, before there is a verdict."""
    q, c, r = quality(run.applying), contract(run.gates), run.calls.reliability
    ttft, speed = measured(run.applying, "ttft_ms"), measured(run.applying, "tokens_per_second")
    p = performance(run.model_class, ttft.median if ttft else None, speed.median if speed else None)
    score = round(quick_score(c or 0.0, r) if run.tier == "quick" else full_score(q, c, p, r), 2)
    letter = rating(
        score,
        failed_gates=len(run.failed_gates),
        flaky_gates=len(run.flaky_gates),
        parity_loss=bool(run.parity_losses or run.parity_alarm),
    )
    skipped = {
        o.case.id: o.skipped or f"The model lacks {o.lacks}."
        for o in run.outcomes
        if o.standing == CaseStatus.SKIPPED
    }
    return Judgement(
        Status.PENDING,
        "",
        score=score,
        rating=letter,
        lower_bound=lower_bound(run.applying),
        quality=q,
        contract=c,
        performance=p,
        reliability=r,
        failed_gates=tuple(o.case.id for o in run.failed_gates),
        flaky_gates=tuple(o.case.id for o in run.flaky_gates),
        skipped=skipped,
        lacks=tuple(sorted({o.lacks for o in run.outcomes if o.lacks})),
        categories={
            category.value: mean for category, mean in category_scores(run.applying).items()
        },
        ttft=ttft,
        speed=speed,
    )


def _with(
    figures: Judgement,
    verdict: Status,
    message: str,
    reason: Reason | None = None,
    unmet: tuple[str, ...] = (),
) -> Judgement:
    """The judgement with its verdict; score and rating stand only beside verdicts that judge the
    model.
    """
    judged = (
        verdict in (Status.CERTIFIED, Status.QUALITY_WARNING, Status.FAILED)
        and figures.score is not None
    )
    return replace(
        figures,
        verdict=verdict,
        message=message,
        reason=reason,
        unmet=unmet,
        score=min(figures.score or 0.0, _ceiling(figures.rating)) if judged else None,
        rating=figures.rating if judged else "",
    )


def _ceiling(letter: str) -> float:
    """The highest score that a rating lets stand, so that a capped rating never stands beside a
    score that belies it.
    """
    above = [floor for floor, name in POLICY.ratings if name < letter]
    return min(above) - 1 if above else 100.0


def _without_verdict(run: Run, figures: Judgement) -> Judgement:
    """Rules 1 to 4: too little of what was planned could be judged, because of whom?"""
    if (
        run.blocking_failure
        and not run.interrupted
        and run.blocking_failure.reason.facts.status in _REFUSED
    ):
        return _refused(run.blocking_failure, figures)
    reason = run.interrupted or (run.blocking_failure.reason if run.blocking_failure else None)
    if reason is None and not any(o.trials for o in run.applying):
        return _with(figures, Status.NOT_TESTED, "No case was run.")
    planned = sum(o.planned for o in run.judged)
    valid = sum(o.valid_of_planned for o in run.judged)
    why = f" because of {_spoken(reason.value)}" if reason else ""
    nothing = (
        f" and nothing is known of {', '.join(run.unknown)}"
        if 0 < len(run.unknown) <= SHOWN
        else ""
    )
    message = (
        f"No verdict yet: {valid} of {planned} planned trials could be judged{nothing}{why}. "
        "That says nothing about the model."
    )
    return _with(figures, Status.PENDING, message, reason)


def _refused(refusal: Failure, figures: Judgement) -> Judgement:
    """Rules 3 and 4: who may not, or asks wrongly, learns nothing about the model."""
    status = refusal.reason.facts.status
    what = (
        "Access was refused"
        if status == Status.PERMISSION_REQUIRED
        else "The model cannot be called as it is set up"
    )
    return _with(
        figures, status, f"{what} ({refusal.reason.value}): {refusal.message}", refusal.reason
    )


def _gate_failed(run: Run, figures: Judgement) -> Judgement:
    """Rule 5. The reason is the gates' own cause where the service named one, so that a cut stream
    is called that.

    Beside a gate that the model failed by itself, a cut stream is not what must be mended first:
    then that is the reason.
    """
    causes = {_cause(t) for o in run.failed_gates for t in o.valid if not t.passed}
    named = min(causes, key=_GRAVEST_FIRST.index)
    sentences = [f"{o.case.id} {o.case.title}: {o.sentence}" for o in run.failed_gates]
    unmet = tuple(f"gate {o.case.id} ({o.case.title.lower()}) failed" for o in run.failed_gates)
    what = "A gate failed" if len(sentences) == 1 else f"{len(sentences)} gates failed"
    return _with(figures, Status.FAILED, f"{what}. {' '.join(sentences)}", named, unmet)


def _cause(trial: Grade) -> Reason:
    """What the service named as the cause of a failed trial that counts, else the model's own
    failure.
    """
    return (
        trial.cause.reason
        if trial.cause and trial.cause.reason in _GRAVEST_FIRST
        else Reason.GATE_FAILED
    )


# What a failed gate can be put down to: first what no other try mends.
_GRAVEST_FIRST = sorted(
    (reason for reason in Reason if reason.facts.status == Status.FAILED),
    key=lambda reason: (reason is not Reason.GATE_FAILED, reason.retryable),
)


def _too_weak(figures: Judgement) -> tuple[str, ...]:
    """Rule 6, in words."""
    found = []
    if figures.quality is not None and _below(figures.quality, POLICY.fail_quality):
        found.append(f"the quality {_cut(figures.quality)} is below {POLICY.fail_quality:.2f}")
    for category in POLICY.core:
        mean = figures.categories.get(category.value)
        if mean is not None and _below(mean, POLICY.fail_core):
            found.append(f"{category.value} at {_cut(mean)} is below {POLICY.fail_core:.2f}")
    return tuple(found)


def unmet_conditions(run: Run, figures: Judgement) -> tuple[str, ...]:
    """What of rule 7 does not hold, in words; gates apart, which rule 5 has judged. Empty =
    certified.
    """
    unmet = []
    if _below(figures.score or 0.0, POLICY.line):
        unmet.append(f"the score {_cut(figures.score or 0.0, 0)} is below {POLICY.line:.0f}")
    unmet += _unmet_capabilities(run, figures)
    if run.tier != "quick":
        unmet += _unmet_quality(figures) + _unmet_gates(run)
    return tuple(unmet)


def _unmet_capabilities(run: Run, figures: Judgement) -> list[str]:
    unmet = [
        f"{_spoken(c)} work in a reference region and not here" for c in sorted(run.parity_losses)
    ]
    unmet += [run.parity_alarm] if run.parity_alarm else []
    return unmet + [
        f"the catalogue says that the model takes {_spoken(c)}, and the service refused it here"
        for c in figures.lacks
        if c in run.declared
    ]


def _unmet_quality(figures: Judgement) -> list[str]:
    unmet = []
    if figures.lower_bound is not None and _bound_fails(figures):
        unmet.append(
            f"the lower bound {_cut(figures.lower_bound)} of the quality is below {POLICY.min_bound:.2f}"
        )
    for name, mean in figures.categories.items():
        if _below(mean, _floor(name)):
            unmet.append(f"{name} at {_cut(mean)} is below {_floor(name):.2f}")
    return unmet


def _unmet_gates(run: Run) -> list[str]:
    if len(run.unrecovered_gates) <= POLICY.max_flaky:
        return []
    names = ", ".join(o.case.id for o in run.unrecovered_gates)
    return [f"{len(run.unrecovered_gates)} gates passed only on a retry ({names})"]


def _floor(category: str) -> float:
    return POLICY.min_core if category in POLICY.core else POLICY.min_category


def _bound_fails(figures: Judgement) -> bool:
    return figures.lower_bound is not None and _below(figures.lower_bound, POLICY.min_bound)


def _cut(figure: float, digits: int = 2) -> str:
    """A figure for people, never rounded up: 79.6 below 80 must not read "80 is below 80"."""
    return f"{math.floor(figure * 10**digits + 1e-6) / 10**digits:.{digits}f}"


def _below(figure: float, line: float) -> bool:
    """Thirds do not add up exactly: what is on the line to nine digits is on it."""
    return figure < line - 1e-9


def _spoken(capability: str) -> str:
    return capability.replace("_", " ")


def _success_message(run: Run, figures: Judgement) -> str:
    gates = f"all {len(run.gates)} gates passed"
    if figures.flaky_gates:
        gates += f", {', '.join(figures.flaky_gates)} only on a retry"
    tested = f"quality {_cut(figures.quality)}, " if figures.quality is not None else ""
    return f"Certified: {gates}, {tested}score {_cut(figures.score or 0.0, 0)}, rating {figures.rating}."


# When more repeats are worth their cost.


def undecided(run: Run) -> frozenset[Category]:
    """The categories whose further repeats could still decide between certified and not; empty = it
    is decided.

    It is undecided where the score is within 5 of the line, only the lower bound fails, or a
    category is within 0.10 of its floor (0.15 while its cases stand on the first rung), and nothing
    that repeats cannot change stands between the run and rule 7.
    """
    figures = _figures(run)
    if not figures.categories or _settled(run, figures):
        return frozenset()
    near_miss = _near_floors(run)
    open_ones = {
        c for c, mean in figures.categories.items() if _is_near(mean, _floor(c), near_miss[c])
    }
    fail = {c for c, mean in figures.categories.items() if _below(mean, _floor(c))}
    if fail - open_ones:
        return frozenset()
    score = figures.score or 0.0
    only_bound = _bound_fails(figures) and not fail and not _below(score, POLICY.line)
    if only_bound or _is_near(score, POLICY.line, POLICY.near_line):
        open_ones |= {c for c, mean in figures.categories.items() if mean < 1.0} or set(
            figures.categories
        )
    return frozenset(map(Category, open_ones))


def _settled(run: Run, figures: Judgement) -> bool:
    """Whether something stands in the way of a certificate that no repeat of a scored case can
    move.
    """
    return bool(
        not run.judgeable
        or run.failed_gates
        or _too_weak(figures)
        or _unmet_capabilities(run, figures)
        or _unmet_gates(run)
        or _below(figures.score or 0.0, POLICY.line - POLICY.near_line)
    )


def _near_floors(run: Run) -> dict[str, float]:
    """How close to its floor each category is undecided, by the fewest trials of its cases."""
    trials: dict[str, int] = {}
    for o in _scored(run.applying):
        name = o.case.category.value
        trials[name] = min(trials.get(name, len(o.valid)), len(o.valid))
    return {
        c: POLICY.near_floor_first if k <= POLICY.ladder[0] else POLICY.near_floor
        for c, k in trials.items()
    }


def _is_near(figure: float, line: float, distance: float) -> bool:
    return not _below(distance, abs(figure - line))
