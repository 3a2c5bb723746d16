"""Judge stored evidence again under the current policy, without a call. Earlier judgements stay."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction

from certification.engine import evidence
from certification.models import (
    CertificationRun,
    ModelCertification,
    RunJudgement,
    State,
    TestResult,
    User,
)
from certification.reasons import Reason
from certification.suite import scoring, versions
from certification.suite.scoring import Judgement

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
        score = None if new.score is None else int(new.score)
        return (new.verdict, score, new.rating) != (
            self.run.verdict,
            self.run.score,
            self.run.rating,
        )


def runs_to_judge(runs: Iterable[CertificationRun]) -> Iterator[Change]:
    """Judge these runs (with `results` prefetched) under the current policy; nothing is written."""
    for run in runs:
        try:
            yield Change(run, scoring.judge(restore(run, list(run.results.all()))))
        except LookupError as error:
            yield Change(run, None, f"Its evidence is incomplete: {error}")


def restore(run: CertificationRun, results: Sequence[TestResult]) -> scoring.Run:
    """The judgement's input as it was, from what the run stored. LookupError when something is
    missing.
    """
    judged: Mapping[str, Any] = run.environment["judged"]
    if not results:
        raise LookupError("no results")
    interrupted = judged["interrupted"]
    return scoring.Run(
        tier=run.tier,
        outcomes=evidence.outcomes_of(results, judged.get("own_cases")),
        calls=scoring.Calls(**judged["calls"]),
        model_class=judged["model_class"],
        access=evidence.failure_from(judged["access"]) if judged["access"] else None,
        interrupted=Reason(interrupted) if interrupted else None,
        declared=frozenset(judged["declared"]),
        parity_losses=frozenset(judged["parity_losses"]),
        parity_alarm=judged["parity_alarm"],
    )


def finished(job_id: uuid.UUID | None = None) -> list[Iterable[CertificationRun]]:
    """Return the runs with a verdict (of one job, or those that certifications which have not
    expired rest on), in batches with their results.
    """
    runs = CertificationRun.objects.filter(status=State.COMPLETED).exclude(
        environment__judged__isnull=True
    )
    if job_id is not None:
        runs = runs.filter(job_id=job_id)
    else:
        runs = runs.filter(pk__in=ModelCertification.objects.valid().values("run_id"))
    ids = list(runs.order_by("completed_at").values_list("pk", flat=True))
    chunks = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
    related = CertificationRun.objects.select_related("model", "region").prefetch_related("results")
    return [related.filter(pk__in=chunk) for chunk in chunks]


@transaction.atomic
def write(
    changes: Sequence[Change], by: User | None = None, version: str = versions.POLICY_VERSION
) -> int:
    """Store the new judgements next to the old ones and update the certifications.

    Returns the number of runs judged.
    """
    rows = [row for change in changes if (row := judgement_row(change, by, version))]
    RunJudgement.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["run", "policy_version"],
        update_fields=[
            "verdict",
            "score",
            "rating",
            "lower_bound",
            "reason",
            "message",
            "judged_by",
        ],
    )
    for change in changes:
        if change.judgement is not None and change.differs:
            score = None if change.judgement.score is None else int(change.judgement.score)
            ModelCertification.rejudge(
                change.run, change.judgement.verdict, score, change.judgement.rating
            )
    log.info("rescored", runs=len(rows), changed=sum(c.differs for c in changes), policy=version)
    return len(rows)


def judgement_row(change: Change, by: User | None, version: str) -> RunJudgement | None:
    """Return the row of a new judgement, unsaved; None without one."""
    new = change.judgement
    if new is None:
        return None
    return RunJudgement(
        run=change.run,
        policy_version=version,
        verdict=new.verdict,
        score=None if new.score is None else int(new.score),
        rating=new.rating,
        lower_bound=new.lower_bound,
        reason=new.reason or "",
        message=evidence.cut(new.message),
        judged_by=by,
    )
