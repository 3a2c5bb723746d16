"""Jobs, finished runs and certifications for tests, made by the models' own methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from certification.engine import dispatch, outcome
from certification.engine.trials import TrialRecord
from certification.inference import RouteTarget
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    Region,
    RunOutcome,
    State,
    TestResult,
    Tier,
    User,
)
from certification.reasons import Reason, Status
from certification.suite import registry, scoring, versions
from certification.suite.case import Grade, ProbeCache, Ref
from certification.suite.scoring import CaseOutcome

TTL = timedelta(days=30)


def start_job(
    models: Iterable[AIModel],
    regions: Sequence[str],
    by: User | None = None,
    tier: str = Tier.QUICK,
) -> CertificationJob:
    """A job that nobody works on: no worker belongs to these tests."""
    options = dispatch.CertifyOptions(tier=tier, by=by)
    return dispatch.certify(
        dispatch.pairs_of(models, list(Region.objects.filter(code__in=regions))), options
    ).job


def finish(
    run: CertificationRun,
    verdict: str,
    *,
    score: int | None = None,
    rating: str = "",
    reason: Reason | None = None,
    message: str = "",
    fix: dict[str, str] | None = None,
    results: Sequence[tuple[str, str, str]] = (),
    trials: Mapping[str, Sequence[Any]] | None = None,
    by: RouteTarget | None = None,
    took: timedelta = timedelta(),
    calls: int = 12,
    cost_usd: float | None = None,
) -> CertificationRun:
    """Claim a run and end it with this verdict (none when ""), called by a route (default: its own
    id), begun `took` ago; results are (case id, verdict, sentence), `trials` their evidence by
    case id.
    """
    by = by or RouteTarget(run.model.api_model_id, "ON_DEMAND")
    claimed = CertificationRun.objects.claim(run.pk, "a test")
    assert claimed is not None
    if took:
        claimed.started_at = timezone.now() - took
        claimed.save(update_fields=["started_at"])
    outcome = RunOutcome(
        status=State.COMPLETED if verdict not in ("", Status.PENDING) else State.FAILED,
        verdict=verdict,
        passed=verdict == Status.CERTIFIED,
        score=score,
        rating=rating,
        error_category=reason.category if reason else "",
        error_reason=reason or "",
        error_message=message,
        fix=fix or {},
        route=by.target_id,
        route_kind=by.kind,
        endpoint=by.endpoint.value,
        api=by.api.value,
        calls=calls,
        cost_usd=cost_usd,
    )
    rows = [
        TestResult(
            run=claimed,
            case_id=case,
            category="contract",
            kind="gate",
            verdict=verdict,
            sentence=sentence,
            trials=list((trials or {}).get(case, ())),
            trials_valid=len((trials or {}).get(case, ())),
        )
        for case, verdict, sentence in results
    ]
    with transaction.atomic():
        assert record_outcome(claimed, outcome, rows)
        ModelCertification.lock(claimed).record(claimed, timezone.now() + TTL)
    return claimed


@transaction.atomic
def record_outcome(
    run: CertificationRun, outcome: RunOutcome, results: Sequence[TestResult] = ()
) -> bool:
    """End a claimed run and count it in its job, as the runner does."""
    won = run.finish(outcome, results)
    if won:
        run.job.record_finished_runs(1, int(outcome.passed), outcome.cost_usd or 0)
    return won


def certify(
    model: AIModel,
    region: str,
    verdict: str = Status.CERTIFIED,
    tier: str = Tier.QUICK,
    **result: object,
) -> CertificationRun:
    """One finished run in a job of its own, with the certification it gives."""
    if verdict == Status.CERTIFIED:
        result = {"score": 89, "rating": "B", **result}
    return finish(start_job([model], [region], tier=tier).runs.get(), verdict, **result)  # type: ignore[arg-type]


def earlier_run(run: CertificationRun, verdict: str, days: int) -> CertificationRun:
    """A finished run of the same pair that ended so many days ago."""
    past = timezone.now() - timedelta(days=days)
    return CertificationRun.objects.create(
        job=run.job, model=run.model, region_id=run.region_id, tier=run.tier, backend=run.backend,
        status=State.COMPLETED, verdict=verdict, passed=verdict == Status.CERTIFIED,
        score=81 if verdict == Status.CERTIFIED else None, variant_seed=1,
        started_at=past, completed_at=past,
    )  # fmt: skip


def judged_run(tier: str, trials: Mapping[str, Sequence[Grade]], **more: Any) -> scoring.Run:
    """What a judgement looks at: every case of the tier passed, but for these, by case id. Cases of
    speed measured figures that are on target.
    """
    quick = {"ttft_ms": 400.0, "tokens_per_second": 95.0}
    outcomes = [
        CaseOutcome(
            case, tuple(trials.get(case.id, [Grade(True, "It passed.", quick)] * case.repeats))
        )
        for case in registry.cases("text", tier)
    ]
    return scoring.Run(tier, tuple(outcomes), **{"calls": scoring.Calls(60), **more})


def certify_judged(model: AIModel, region: str, judged: scoring.Run) -> CertificationRun:
    """One finished run that stored what it was judged by, as the runner stores it."""
    run = start_job([model], [region], tier=judged.tier).runs.get()
    claimed = CertificationRun.objects.claim(run.pk, "a test")
    assert claimed is not None
    trials = {
        o.case.id: [
            TrialRecord(o.case.script(Ref(1, o.case.id, number)), grade, [], ProbeCache())
            for number, grade in enumerate(o.trials)
        ]
        for o in judged.outcomes
    }
    route = RouteTarget(model.api_model_id, "ON_DEMAND")
    judgement = scoring.judge(judged)
    record = outcome.RunRecord(judged, judgement, route, versions.SUITE_VERSION, trials=trials)
    with transaction.atomic():
        results = outcome.build_results(claimed, record)
        assert record_outcome(claimed, outcome.build(claimed, record), results)
        ModelCertification.lock(claimed).record(claimed, timezone.now() + TTL)
    return claimed
