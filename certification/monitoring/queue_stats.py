"""Count what waits, runs and has ended: the one definition of these numbers.

Everything comes from indexes over few rows or small tables, so that a million runs do not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db.models import Avg, Count, F, Min, Q
from kombu.exceptions import OperationalError

from certification.engine import backend, queue
from certification.lib import clock
from certification.lib.redis_client import UNAVAILABLE
from certification.lib.shared_cache import ComputedValue
from certification.models import (
    TERMINAL,
    CertificationJob,
    CertificationRun,
    Priority,
    QueuePause,
    RunTotal,
    State,
)
from certification.reasons import Status

log = structlog.get_logger(__name__)

TOTALS_TTL_S = 5
WORKERS_TTL_S, WORKERS_STALE_S = 10, 60
IN_PROGRESS = Q(status=State.PROCESSING)
REPLY_TIMEOUT_S = 0.8  # how long workers have to answer


@dataclass(frozen=True)
class ActiveCounts:
    """Unfinished runs by what happens to them, the same for the pages, the API, the workers' pages
    and the commands.

    `waiting` runs have a message out and no worker yet; `delayed` runs have no message out yet;
    `paused` runs have one and are held by a pause; `active` runs are being worked on.
    """

    waiting: int
    active: int
    delayed: int
    paused: int
    oldest_waiting_s: float


@dataclass(frozen=True)
class QueueCounts(ActiveCounts):
    """With those that have ended, `completed` and `failed`."""

    completed: int
    failed: int


def active_counts(pause: QueuePause | None) -> ActiveCounts:
    """Count the unfinished runs in one query; `pause` is that of our backend's queue."""
    bulk = Q(job__priority=Priority.BULK)
    active = CertificationRun.objects.active().aggregate(
        waiting=Count("pk", filter=Q(status=State.QUEUED)),
        bulk=Count("pk", filter=bulk & Q(status=State.QUEUED)),
        active=Count("pk", filter=IN_PROGRESS),
        delayed=Count("pk", filter=Q(status=State.PENDING)),
        oldest=Min("created_at", filter=~IN_PROGRESS),
    )
    paused = 0
    if pause is not None:
        paused = active["bulk" if pause.is_by_itself else "waiting"]
    oldest = (clock.now() - active["oldest"]).total_seconds() if active["oldest"] else 0.0
    return ActiveCounts(
        waiting=active["waiting"] - paused,
        active=active["active"],
        delayed=active["delayed"],
        paused=paused,
        oldest_waiting_s=max(0.0, round(oldest, 1)),
    )


def queue_counts() -> QueueCounts:
    """Count the runs: two queries over the few that are active, the finished ones as cached."""
    active = active_counts(QueuePause.objects.current(backend.name()))
    finished = finished_runs.get()
    return QueueCounts(
        **asdict(active),
        completed=finished.get(State.COMPLETED, 0),
        failed=finished.get(State.FAILED, 0),
    )


def count_by_status(rows: Any) -> dict[str, int]:
    """Count the rows of a queryset by their status."""
    return dict(rows.order_by().values_list("status").annotate(n=Count("pk")))


def count_finished_runs() -> dict[str, int]:
    """Count finished runs by state: those counted before, and those since."""
    counts: dict[str, int] = dict.fromkeys(TERMINAL, 0)
    for total in RunTotal.of_all_runs():
        counts[total["status"]] += total["runs"]
    return counts


finished_runs = ComputedValue(
    "finished-runs", dict[str, int], lambda _: TOTALS_TTL_S, count_finished_runs
)


@dataclass(frozen=True)
class Totals:
    """All jobs by state, and of the runs that finished in the last 24 hours: per cent certified and
    retried, mean seconds.

    Cancelled runs are left out of the latter; None where nothing finished.
    """

    jobs: Mapping[str, int]
    success_rate: float | None
    average_s: float | None
    retry_rate: float | None


def count_totals() -> Totals:
    day = CertificationRun.objects.filter(completed_at__gte=clock.now() - timedelta(days=1))
    runs = day.exclude(status=State.CANCELLED).aggregate(
        n=Count("pk"),
        certified=Count("pk", filter=Q(verdict=Status.CERTIFIED)),
        retried=Count("pk", filter=Q(attempt__gt=1)),
        average=Avg(F("completed_at") - F("started_at")),
    )
    n, average = runs["n"], runs["average"]
    return Totals(
        jobs=count_by_status(CertificationJob.objects.all()),
        success_rate=round(100 * runs["certified"] / n, 1) if n else None,
        average_s=round(average.total_seconds(), 1) if average is not None else None,
        retry_rate=round(100 * runs["retried"] / n, 1) if n else None,
    )


totals = ComputedValue("totals", Totals, lambda _: TOTALS_TTL_S, count_totals)


@dataclass(frozen=True)
class WorkerReply:
    """What a worker says of itself: `claimant` begins the names by which it claims runs."""

    name: str
    backend: str = ""
    queues: tuple[str, ...] = ()
    active: int = 0
    healthPort: int | None = None
    claimant: str = ""
    version: str = ""
    draining: bool = False


def ask_workers() -> list[WorkerReply] | None:
    """Ask the workers, for REPLY_TIMEOUT_S, what they do; None while the broker is unavailable."""
    try:
        queue.ping_broker()  # fails at once where kombu would try for seconds
        replies: Sequence[Mapping[str, Any]] = (
            current_app.control.broadcast("work_taken", reply=True, timeout=REPLY_TIMEOUT_S) or ()
        )
    except (OperationalError, *UNAVAILABLE) as error:
        log.warning("broker_unreachable", error=str(error))
        return None
    known = {field.name for field in fields(WorkerReply)} - {"name"}
    return [
        WorkerReply(name, **{key: value for key, value in answer.items() if key in known})
        for reply in replies
        for name, answer in sorted(reply.items())
        if isinstance(answer, Mapping)
    ]


def queues_taken() -> list[set[str]] | None:
    """Return which queues each worker takes our backend's runs from; None while the broker is
    unavailable.
    """
    replies = ask_workers()
    if replies is None:
        return None
    return [set(worker.queues) for worker in replies if worker.backend == backend.name()]


def count_workers() -> int | None:
    """Count the workers that take runs; None while the broker is unavailable."""
    names = {queue.name_for(priority) for priority in Priority.values}
    names |= {f"{name}.{region}" for name in names for region in settings.PINNED_REGIONS}
    taken = queues_taken()
    return None if taken is None else sum(not names.isdisjoint(queues) for queues in taken)


def unserved_regions(workers: Mapping[str, int]) -> list[str]:
    """Return the pinned regions of which a queue has no worker, by the workers of each queue."""
    return [
        region
        for region in settings.PINNED_REGIONS
        if not all(workers.get(queue.name_for(priority, region)) for priority in Priority.values)
    ]


def count_by_queue() -> dict[str, int] | None:
    """Count the workers of each queue; None while the broker is unavailable."""
    taken = queues_taken()
    return None if taken is None else dict(Counter(name for queues in taken for name in queues))


workers = ComputedValue(
    "workers", int | None, lambda _: WORKERS_TTL_S, count_workers, stale_s=WORKERS_STALE_S
)
workers_by_queue = ComputedValue(
    "workers-by-queue",
    dict[str, int] | None,
    lambda _: WORKERS_TTL_S,
    count_by_queue,
    stale_s=WORKERS_STALE_S,
)
workers_seen = ComputedValue(
    "workers-seen",
    list[WorkerReply] | None,
    lambda _: WORKERS_TTL_S,
    ask_workers,
    stale_s=WORKERS_STALE_S,
)
