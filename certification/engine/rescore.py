"""Stored evidence judged again under today's policy, without a call. What was judged before stays beside it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction

from certification.engine import evidence
from certification.exchange import Failure
from certification.models import CertificationRun, ModelCertification, RunJudgement, State, TestResult, User
from certification.reasons import Reason
from certification.suite import registry, scoring
from certification.suite.case import Case, Category, Grade, Kind, Ref, Script
from certification.suite.scoring import CaseOutcome, Judgement

log = structlog.get_logger(__name__)
BATCH = 200


@dataclass(frozen=True)
class Change:
    """One run judged again. `judgement` is None when its evidence is gone or was never enough."""

    run: CertificationRun
    judgement: Judgement | None
    problem: str = ""

    @property
    def differs(self) -> bool:
        """Whether verdict, score or rating would be others."""
        new = self.judgement
        if new is None:
            return False
        score = None if new.score is None else round(new.score)
        return (new.verdict, score, new.rating) != (self.run.verdict, self.run.score, self.run.rating)


def runs_to_judge(runs: Iterable[CertificationRun]) -> Iterator[Change]:
    """Judge these runs (with `results` prefetched) under the current policy; nothing is written."""
    for run in runs:
        try:
            yield Change(run, scoring.judge(restore(run, list(run.results.all()))))
        except LookupError as error:
            yield Change(run, None, f"Its evidence is not complete: {error}")


def restore(run: CertificationRun, results: Sequence[TestResult]) -> scoring.Run:
    """The judgement's input as it was, from what the run stored. LookupError when something is missing."""
    kept: Mapping[str, Any] = run.environment["judged"]
    if not results:
        raise LookupError("no results")
    interrupted = kept["interrupted"]
    return scoring.Run(
        tier=run.tier,
        outcomes=tuple(_outcome(result) for result in results),
        calls=scoring.Calls(**kept["calls"]),
        model_class=kept["model_class"],
        access=evidence.failure_from(kept["access"]) if kept["access"] else None,
        interrupted=Reason(interrupted) if interrupted else None,
        declared=frozenset(kept["declared"]),
        parity_losses=frozenset(kept["parity_losses"]),
        parity_alarm=kept["parity_alarm"],
    )


def _outcome(result: TestResult) -> CaseOutcome:
    case = registry.BY_ID.get(result.case_id) or _retired(result)
    if result.verdict == "skipped" and not result.trials:
        return CaseOutcome(case, skipped=result.sentence or "It did not apply.")
    if not result.trials and result.trials_valid:
        raise LookupError(f"the trials of {result.case_id} were dropped")
    return CaseOutcome(case, tuple(grade_from(trial) for trial in result.trials))


def _retired(result: TestResult) -> Case:
    """A stand-in for a case that the suite no longer has: enough to be judged, not to be asked."""

    def script(_ref: Ref) -> Script:
        raise LookupError(f"{result.case_id} is no longer part of the suite")

    return Case(result.case_id, result.case_id, Kind(result.kind), Category(result.category), script)


def grade_from(trial: Mapping[str, Any]) -> Grade:
    """A stored trial's grade. KeyError when it lacks what a judgement needs."""
    cause: Failure | None = evidence.failure_from(trial["cause"]) if trial.get("cause") else None
    return Grade(
        passed=trial["passed"], sentence=trial["sentence"], evidence=trial["evidence"], valid=trial["valid"],
        cause=cause, lacks=trial.get("lacks", ""),
    )  # fmt: skip


def finished(job_id: uuid.UUID | None = None) -> list[Iterable[CertificationRun]]:
    """The runs with a verdict (of one job, or those that certifications stand on), in batches with their results."""
    runs = CertificationRun.objects.filter(status=State.COMPLETED).exclude(environment__judged__isnull=True)
    if job_id is not None:
        runs = runs.filter(job_id=job_id)
    else:
        runs = runs.filter(pk__in=ModelCertification.objects.values("run_id"))
    ids = list(runs.order_by("completed_at").values_list("pk", flat=True))
    chunks = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
    related = CertificationRun.objects.select_related("model", "region").prefetch_related("results")
    return [related.filter(pk__in=chunk) for chunk in chunks]


@transaction.atomic
def write(changes: Sequence[Change], by: User | None = None) -> int:
    """Keep the new judgements beside the old ones and let certifications follow. The number of runs judged."""
    rows = [row for change in changes if (row := _row(change, by))]
    RunJudgement.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["run", "policy_version"],
        update_fields=["verdict", "score", "rating", "lower_bound", "reason", "message", "judged_by"],
    )  # fmt: skip
    for change in changes:
        if change.judgement is not None and change.differs:
            score = None if change.judgement.score is None else round(change.judgement.score)
            ModelCertification.rejudge(change.run, change.judgement.verdict, score, change.judgement.rating)
    log.info("rescored", runs=len(rows), changed=sum(c.differs for c in changes), policy=registry.POLICY_VERSION)
    return len(rows)


def _row(change: Change, by: User | None) -> RunJudgement | None:
    new = change.judgement
    if new is None:
        return None
    return RunJudgement(
        run=change.run,
        policy_version=registry.POLICY_VERSION,
        verdict=new.verdict,
        score=None if new.score is None else round(new.score),
        rating=new.rating,
        lower_bound=new.lower_bound,
        reason=new.reason or "",
        message=evidence.cut(new.message),
        judged_by=by,
    )
