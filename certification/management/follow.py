"""Following a job to its end from a terminal or a script."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError, close_old_connections

from certification.engine import backend, reconcile
from certification.models import (
    TERMINAL,
    CertificationJob,
    CertificationRun,
    Priority,
    QueuePause,
    State,
)

POLL_S = 0.5
RECONCILE_S = 10
AWAY_S = 60


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment. `pause` is set while the queue waits for working credentials."""

    job: CertificationJob
    counts: dict[str, int]
    verdicts: dict[str, int]
    pause: QueuePause | None

    @property
    def is_over(self) -> bool:
        return self.job.status in TERMINAL


def follow(job_id: uuid.UUID, poll_s: float = POLL_S) -> Iterator[Snapshot]:
    """Snapshots until the job has ended; reconciles on the way, so that it ends even where no beat
    runs.

    A database that is away is waited for, AWAY_S at most; then its OperationalError is raised.
    """
    reconciled = seen = time.monotonic()
    while True:
        try:
            snapshot = _snapshot(job_id)
            if time.monotonic() - reconciled > RECONCILE_S and not snapshot.is_over:
                reconcile.reconcile()
                reconciled = time.monotonic()
                snapshot = _snapshot(job_id)
            seen = time.monotonic()
        except (OperationalError, InterfaceError):
            close_old_connections()
            if time.monotonic() - seen > AWAY_S:
                raise
        else:
            yield snapshot
            if snapshot.is_over:
                return
        time.sleep(poll_s)


def _snapshot(job_id: uuid.UUID) -> Snapshot:
    job = CertificationJob.objects.get(pk=job_id)
    # clicks do not wait
    pause = QueuePause.objects.current(job.backend) if job.priority == Priority.BULK else None
    return Snapshot(job, job.counts(), job.verdict_counts(), pause)


def resume_queue() -> None:
    """Let a paused queue go on if the credentials work by now, so that a new job does not meet a
    pause that is over.
    """
    if QueuePause.objects.current(backend.name()):
        reconcile.reconcile()


def summary(job: CertificationJob) -> dict[str, Any]:
    """A job and its runs as the commands print it with --json."""
    totals = job.totals()
    runs = job.runs.select_related("model").order_by("model__api_model_id", "region_id")
    return {
        "jobId": str(job.pk),
        "status": job.status,
        "backend": job.backend,
        "seconds": round(job.duration.total_seconds(), 3) if job.duration else 0.0,
        "calls": totals["calls"],
        "retries": totals["retries"],
        "costUsd": float(job.cost_usd),
        "runs": [run_summary(run) for run in runs],
        "comparison": job.config.get("comparison"),
    }


def run_summary(run: CertificationRun) -> dict[str, Any]:
    """One run as the commands print it with --json."""
    return {
        "model": run.model.api_model_id,
        "region": run.region_id,
        "status": run.status,
        "verdict": run.verdict or None,
        "score": run.score,
        "rating": run.rating or None,
        "route": run.route or None,
        "errorCategory": run.error_category or None,
        "errorReason": run.error_reason or None,
        "errorMessage": run.error_message or None,
        "fix": run.fix or None,
    }


def unmet(job: CertificationJob, required: str) -> list[CertificationRun]:
    """The runs of a job whose verdict is below `required` ("certified", or "quality_warning" which
    certified meets too).
    """
    good = {"certified"} if required == "certified" else {"certified", "quality_warning"}
    return [
        run
        for run in job.runs.select_related("model")
        if run.status != State.COMPLETED or run.verdict not in good
    ]
