"""Follow a job to its end from a terminal or a script."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from certification.engine import backend, queue, reconcile
from certification.management import terminal
from certification.management.guard import BROKER_ERRORS
from certification.models import (
    TERMINAL,
    CertificationJob,
    CertificationRun,
    QueuePause,
    State,
)
from certification.stack import temporary

POLL_S = 0.5
RECONCILE_S = 10
AWAY_S = 60


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment. `pause` is set while a pause of the queue holds its runs."""

    job: CertificationJob
    counts: dict[str, int]
    verdicts: dict[str, int]
    pause: QueuePause | None

    @property
    def is_over(self) -> bool:
        return self.job.status in TERMINAL

    @classmethod
    def read(cls, job_id: uuid.UUID) -> Snapshot:
        """Read the job as it is now."""
        job = CertificationJob.objects.get(pk=job_id)
        pause = QueuePause.objects.current(job.backend)
        held = pause if pause and pause.holds(job.priority) else None
        return cls(job, job.counts(), job.verdict_counts(), held)


def follow(job_id: uuid.UUID, poll_s: float = POLL_S) -> Iterator[Snapshot]:
    """Yield snapshots until the job has ended; reconcile on the way, so that it ends even where no
    beat runs.

    A database that is away is waited for, AWAY_S at most; then its OperationalError is raised.
    """
    reconciled = answered = time.monotonic()
    while True:
        try:
            snapshot = Snapshot.read(job_id)
            if time.monotonic() - reconciled > RECONCILE_S and not snapshot.is_over:
                reconcile.reconcile()
                reconciled = time.monotonic()
                snapshot = Snapshot.read(job_id)
            answered = time.monotonic()
        except (OperationalError, InterfaceError):
            close_old_connections()
            if time.monotonic() - answered > AWAY_S:
                raise
        else:
            yield snapshot
            if snapshot.is_over:
                return
        time.sleep(poll_s)


def follow_job(job: CertificationJob, out: Console, *, quiet: bool = False) -> CertificationJob:
    """Show a job's progress until it has ended, and return it as it ended. Ctrl-C cancels it, and
    so does a closed output (`| head`).
    """
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[verdicts]}"),
    )
    last, printed_step = job, -1
    try:
        with Progress(*columns, console=out, disable=quiet or not out.is_terminal) as progress:
            task = progress.add_task("Certifying", total=job.total_runs, verdicts="")
            for snapshot in follow(job.pk):
                last = snapshot.job
                if snapshot.pause and not snapshot.pause.is_by_itself:
                    raise CommandError(
                        f"{snapshot.pause.sentence} The job waits. Go on with: "
                        f"{resume_command(snapshot.pause)}; cancel it with: "
                        f"manage.py job cancel {job.pk}"
                    )
                if snapshot.pause:
                    raise CommandError(
                        f"The queue is paused: {snapshot.pause.message} "
                        f"({snapshot.pause.error_reason}). Correct the AWS credentials; the job "
                        "continues within a minute where manage.py up runs. To cancel it: "
                        f"manage.py job cancel {job.pk}"
                    )
                counts = sorted(snapshot.verdicts.items())
                signs = ((terminal.symbol(verdict), n) for verdict, n in counts)
                markup = "  ".join(f"[{colour}]{sign} {n}[/]" for (sign, colour), n in signs)
                progress.update(task, completed=last.processed_runs, verdicts=markup)
                step = last.progress // 10
                if not quiet and not out.is_terminal and step != printed_step:
                    printed_step = step
                    text = "  ".join(f"{verdict.replace('_', ' ')} {n}" for verdict, n in counts)
                    runs = terminal.pluralize(last.total_runs, "run")
                    out.print(f"{last.processed_runs}/{runs}  {text}")
    except BrokenPipeError:
        cancel(job, "Cancelled: the command that followed it ended.")
        raise
    except KeyboardInterrupt:
        cancelled = cancel(job, "Cancelled from the terminal with Ctrl-C.") or 0
        runs = terminal.pluralize(cancelled, "run")
        out.print(f"\nCancelled job {job.pk}: {runs} had not finished.")
        raise SystemExit(130) from None
    return last


def resume_command(pause: QueuePause) -> str:
    """Return the command that ends a pause by a person."""
    return "manage.py readonly off" if pause.is_read_only else "manage.py queue resume"


def cancel(job: CertificationJob, message: str) -> int | None:
    """Cancel a job after an interruption, over a fresh connection: the old one may be in the middle
    of a query.
    """
    if not connection.in_atomic_block:
        connection.close()
    return job.cancel(message)


def resume_queue() -> None:
    """Resume a paused queue if the credentials work by now, so that a new job does not meet a pause
    that is over.
    """
    if QueuePause.objects.current(backend.name()):
        reconcile.reconcile()


def workers_for(priority: str) -> int | None:
    """Return how many workers there are for a job of that priority; None when Redis cannot be
    reached.

    Raises NotReady when those that run use another backend: they would leave the job lying.
    """
    try:
        queue.ping_broker()
        return temporary.alive_workers(queue.name_for(priority))
    except BROKER_ERRORS:
        return None


def queued_hint(job: CertificationJob, workers: int | None) -> str:
    """Say what happens to a job that was left to that many workers, and how to look at it."""
    if workers is None:
        return (
            "Redis cannot be reached: the job waits in the database and is sent when Redis is back."
        )
    hint = f"See it with: manage.py job show {job.pk}"
    if not workers:
        return f"No worker is running: the job waits. Start the stack with: manage.py up\n{hint}"
    return hint


def summary(job: CertificationJob) -> dict[str, Any]:
    """Return a job and its runs as the commands print them with --json."""
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
        "routes": [
            {"endpoint": endpoint or None, "api": api or None, "runs": runs}
            for (endpoint, api), runs in job.route_counts().items()
        ],
        "runs": [run_summary(run) for run in runs],
        "comparison": job.config.get("comparison"),
    }


def run_summary(run: CertificationRun) -> dict[str, Any]:
    """Return one run as the commands print it with --json."""
    values = run.to_dict()
    names = (
        "region", "status", "verdict", "score", "rating", "route",
        "endpoint", "api", "errorCategory", "errorReason", "errorMessage", "fix",
    )  # fmt: skip
    return {"model": run.model.api_model_id, **{name: values[name] for name in names}}


def unmet(job: CertificationJob, required: str) -> list[CertificationRun]:
    """Return the runs of a job whose verdict is below `required` ("certified", or
    "quality_warning", which certified meets too).
    """
    good = {"certified", required}
    return [
        run
        for run in job.runs.select_related("model")
        if run.status != State.COMPLETED or run.verdict not in good
    ]
