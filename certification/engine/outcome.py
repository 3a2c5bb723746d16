"""Build what a run's rows store, from what it did and how it was judged. No database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from certification.engine import evidence
from certification.engine.calls import Attempt, NoVerdict, unexpected
from certification.engine.trials import TrialRecord
from certification.inference import Failure, Operation, Reply, RouteTarget, failure_of
from certification.models import CertificationRun, Route, RunOutcome, State, TestResult
from certification.reasons import Owner, Reason, Status
from certification.suite import policy, registry, scoring, versions
from certification.suite.case import Feature, Kind
from certification.suite.scoring import CaseOutcome, CaseStatus, Judgement

MIN_SPEED_TOKENS, MIN_SPEED_S = 40, 0.05  # a shorter answer says nothing about output speed


@dataclass(frozen=True)
class RunRecord:
    """What one run did and how it was judged: all that its rows are built from.

    `judged` is what the judgement looked at; `trials` are those of each case, by case id; `route`
    is the one that calls took in the end, `refusals` the answers of the routes before it.
    """

    judged: scoring.Run
    judgement: Judgement
    route: RouteTarget
    suite_version: str
    attempts: Sequence[Attempt] = ()
    retries: int = 0
    refusals: Mapping[RouteTarget, Failure] = field(default_factory=dict)
    trials: Mapping[str, Sequence[TrialRecord]] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_publishable(self) -> bool:
        """Whether the run says something about its model or the account, and not only about us."""
        reason = self.judgement.reason
        return self.judgement.verdict != Status.PENDING or (
            reason is not None and reason.facts.owner not in (Owner.OURS, Owner.GATEWAY)
        )


def route_news(
    record: RunRecord, routes: Iterable[Route]
) -> dict[RouteTarget, tuple[str, str] | None]:
    """Return what is new of the routes that were tried: (reason, message) of a refusal, None for an
    answer of one that refused before.
    """
    answers: dict[RouteTarget, tuple[str, str] | None] = {
        route: (failure.reason.value, evidence.cut(failure.message))
        for route, failure in record.refusals.items()
    }
    refused_before = {route.target() for route in routes if route.last_refusal}
    if record.route in refused_before and any(
        not isinstance(attempt.outcome, Failure) for attempt in record.attempts
    ):
        answers[record.route] = None
    return answers


def judged_run(
    run: CertificationRun,
    outcomes: tuple[CaseOutcome, ...],
    attempts: Iterable[Attempt],
    *,
    interrupted: Reason | None = None,
    access: Failure | None = None,
) -> scoring.Run:
    """Collect what a judgement looks at. `access` is the refusal that ended the run, if any."""
    price = run.model.output_price
    capabilities = frozenset(run.model.capabilities)
    return scoring.Run(
        tier=run.tier,
        outcomes=outcomes,
        calls=scoring.Calls.of(a.outcome for a in attempts),
        model_class=policy.model_class(capabilities, None if price is None else float(price)),
        access=access,
        interrupted=interrupted,
        declared=capabilities,
    )


def build(run: CertificationRun, record: RunRecord) -> RunOutcome:
    """Build what the run's row stores."""
    judgement, reason = record.judgement, record.judgement.reason
    outcomes = [attempt.outcome for attempt in record.attempts]
    answers = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    usages = [answer.usage for answer in answers if answer.usage]
    tokens_in = sum(usage.input_tokens for usage in usages)
    tokens_out = sum(usage.output_tokens for usage in usages)
    failure = failure_behind(record)
    certified = judgement.verdict == Status.CERTIFIED
    latency = {"ttft_ms": judgement.ttft, "tokens_per_second": judgement.speed}
    figures = {name: asdict(summary) for name, summary in latency.items() if summary}
    return RunOutcome(
        status=State.FAILED if judgement.verdict == Status.PENDING else State.COMPLETED,
        verdict=judgement.verdict,
        passed=certified,
        # never rounded up over a line
        score=None if judgement.score is None else int(judgement.score),
        rating=judgement.rating,
        lower_bound=judgement.lower_bound,
        quality=judgement.quality,
        contract=judgement.contract,
        performance=judgement.performance,
        reliability=judgement.reliability,
        ttft_ms=judgement.ttft.median
        if judgement.ttft
        else median_of(reply.timing.ttft_ms for reply in replies),
        latency_p50_ms=median_of(answer.timing.total_ms for answer in answers),
        output_tps=judgement.speed.median
        if judgement.speed
        else median_of(map(tokens_per_second, replies)),
        calls=len(outcomes),
        retries=record.retries,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=run.model.cost_usd(tokens_in, tokens_out),
        route=record.route.target_id if outcomes else "",
        route_kind=record.route.kind if outcomes else "",
        endpoint=record.route.endpoint.value if outcomes else "",
        api=record.route.api.value if outcomes else "",
        error_category=reason.category if reason else "",
        error_reason=reason or "",
        error_message="" if certified else evidence.cut(judgement.message),
        error_code=evidence.identifier(failure.code) if failure else "",
        request_id=evidence.identifier(failure.request_id) if failure else "",
        fix=evidence.fix(
            failure, reason=reason, model_id=record.route.target_id, region=run.region_id
        ),
        suite_version=record.suite_version,
        policy_version=versions.POLICY_VERSION,
        environment={
            **record.environment,
            "unmet": list(judgement.unmet),
            "lacks": list(judgement.lacks),
            "judged": evidence.basis(record.judged),
            **({"latency": figures} if figures else {}),
        },
    )


def build_without_verdict(
    run: CertificationRun, ending: NoVerdict, environment: Mapping[str, object]
) -> RunOutcome:
    """Build what the row of a run stores that ended before anything could be judged."""
    failure = ending.failure
    return RunOutcome(
        status=State.FAILED,
        error_category=failure.reason.category,
        error_reason=failure.reason,
        error_message=evidence.cut(failure.message),
        error_code=evidence.identifier(failure.code),
        request_id=evidence.identifier(failure.request_id),
        fix=evidence.fix(failure, model_id=run.model.api_model_id, region=run.region_id),
        calls=ending.calls,
        environment=environment,
    )


def build_unexpected(
    run: CertificationRun, error: Exception, environment: Mapping[str, object]
) -> RunOutcome:
    """Build what the row of a run stores that our own program failed on, with where it failed."""
    failure = unexpected(error, Operation.CONVERSE)
    where = {"traceback": evidence.cut(failure.traceback)}
    return build_without_verdict(run, NoVerdict(failure, run.calls), {**environment, **where})


def build_results(run: CertificationRun, record: RunRecord) -> list[TestResult]:
    """Build one row per case of the run, with its trials as evidence."""
    results = []
    for outcome in record.judged.outcomes:
        case, status = outcome.case, outcome.status
        results.append(
            TestResult(
                run=run,
                case_id=case.id,
                category=case.category,
                kind=case.kind,
                verdict="invalid" if status == CaseStatus.OPEN else str(status),
                sentence=evidence.cut(outcome.skipped or outcome.sentence),
                passes=outcome.passes,
                trials_valid=len(outcome.valid),
                score=outcome.score,
                trials=[evidence.trial(*trial) for trial in record.trials.get(case.id, ())],
            )
        )
    return evidence.fit(results)


def failure_behind(record: RunRecord) -> Failure | None:
    """Find the call that gave the judgement its reason."""
    failures = [f for a in reversed(record.attempts) if (f := failure_of(a.outcome))]
    if record.judged.access:  # its reason may be one that we worked out
        failures.append(record.judged.access)
    return next((f for f in failures if f.reason == record.judgement.reason), None)


def observed_support(
    trials: Mapping[str, Sequence[TrialRecord]],
) -> dict[Feature, dict[str, Any] | None]:
    """Collect what calls showed the model to take (None) or refuse (the refusal)."""
    support: dict[Feature, dict[str, Any] | None] = {}
    for case_id, records in trials.items():
        for _script, grade, attempts, probes in records:
            operation = str(attempts[-1].request.operation) if attempts else ""
            probed = {feature for _operation, feature in (*probes.observed, *probes.skipped)}
            if grade.lacks and grade.lacks not in probed:
                support[operation, grade.lacks] = (
                    evidence.failure(grade.cause) if grade.cause else {}
                )
            elif grade.passed and case_id in registry.PROBES:
                support.setdefault((operation, registry.PROBES[case_id]), None)
            support |= {
                feature: evidence.failure(refusal) if refusal else None
                for feature, refusal in probes.observed.items()
            }
    return support


def stale_support(trials: Mapping[str, Sequence[TrialRecord]]) -> set[Feature]:
    """Collect what we believed refused and had better ask again: the form in its place was refused
    too, or a gate failed without it.
    """
    return {
        feature
        for records in trials.values()
        for record in records
        for feature in record.probes.skipped
        if contradicts_skipped_probe(record, operation=feature[0])
    }


def contradicts_skipped_probe(record: TrialRecord, operation: str) -> bool:
    """Tell whether a trial without a probe of this operation ended as it would if the model took
    the feature after all.
    """
    case = registry.BY_ID[record.script.ref.case_id]
    if record.grade.valid and not record.grade.passed and case.kind == Kind.GATE:
        return True
    return any(
        attempt.outcome.reason.facts.status == Status.CONFIGURATION_REQUIRED
        for attempt in record.attempts
        if isinstance(attempt.outcome, Failure) and attempt.request.operation == operation
    )


def median_of(values: Iterable[float | None]) -> float | None:
    """Return the median of the known values, rounded; None when there are none."""
    known = [value for value in values if value is not None]
    return round(median(known), 1) if known else None


def tokens_per_second(reply: Reply) -> float | None:
    """Return the output speed after the first token, of streamed answers that are long enough."""
    if reply.operation != Operation.STREAM or reply.usage is None or reply.timing.ttft_ms is None:
        return None
    seconds = (reply.timing.total_ms - reply.timing.ttft_ms) / 1000
    if reply.usage.output_tokens < MIN_SPEED_TOKENS or seconds <= MIN_SPEED_S:
        return None
    return reply.usage.output_tokens / seconds
