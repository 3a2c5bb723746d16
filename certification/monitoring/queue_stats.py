"""How the queue and the work on it are doing, in figures: from rows and indexes, so that a million
runs do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db.models import Avg, Count, F, Min, Q
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from certification.engine import backend, queue
from certification.lib.single_flight import cached
from certification.models import (
    TERMINAL,
    CertificationJob,
    CertificationRun,
    Priority,
    QueuePause,
    State,
)
from certification.reasons import Status

log = structlog.get_logger(__name__)

TOTALS_KEPT_S = 5
PAST_KEPT_S, PAST_MARGIN = 3600, timedelta(minutes=5)
WORKERS_KEPT_S, WORKERS_STALE_S = 10, 60
ANSWER_S = 0.8  # how long workers have to answer


@dataclass(frozen=True)
class Backlog:
    """Runs that are not finished. `delayed` have no message out yet; `paused` wait for credentials
    that work.
    """

    waiting: int
    active: int
    delayed: int
    paused: int
    oldest_waiting_s: float


def backlog() -> Backlog:
    """In two queries over the few rows that are active."""
    runs = CertificationRun.objects.active()
    bulk = Q(job__priority=Priority.BULK)
    found = runs.aggregate(
        waiting=Count("pk", filter=Q(status=State.QUEUED)),
        bulk=Count("pk", filter=bulk & Q(status=State.QUEUED)),
        active=Count("pk", filter=Q(status=State.PROCESSING)),
        delayed=Count("pk", filter=Q(status=State.PENDING)),
        oldest=Min("created_at", filter=~Q(status=State.PROCESSING)),
    )
    paused = found["bulk"] if QueuePause.objects.current(backend.name()) else 0
    oldest = (timezone.now() - found["oldest"]).total_seconds() if found["oldest"] else 0.0
    return Backlog(
        found["waiting"] - paused,
        found["active"],
        found["delayed"],
        paused,
        max(0.0, round(oldest, 1)),
    )


@dataclass(frozen=True)
class Totals:
    """Finished runs and all jobs by state, and the last 24 hours' finished runs: per cent certified
    and retried, mean seconds.

    Cancelled runs are left out of the latter; None where nothing finished.
    """

    runs: Mapping[str, int]
    jobs: Mapping[str, int]
    success_rate: float | None
    average_s: float | None
    retry_rate: float | None


def totals() -> Totals:
    """At most TOTALS_KEPT_S old."""
    return cached("totals", lambda _: TOTALS_KEPT_S, count)


def count() -> Totals:
    """As `totals`, but counted now, in three queries; once an hour in four."""
    day = CertificationRun.objects.filter(completed_at__gte=timezone.now() - timedelta(days=1))
    seen = day.exclude(status=State.CANCELLED).aggregate(
        n=Count("pk"),
        certified=Count("pk", filter=Q(verdict=Status.CERTIFIED)),
        retried=Count("pk", filter=Q(attempt__gt=1)),
        average=Avg(F("completed_at") - F("started_at")),
    )
    n, average = seen["n"], seen["average"]
    return Totals(
        runs=_finished_runs(),
        jobs=_by_state(CertificationJob.objects.all()),
        success_rate=round(100 * seen["certified"] / n, 1) if n else None,
        average_s=round(average.total_seconds(), 1) if average is not None else None,
        retry_rate=round(100 * seen["retried"] / n, 1) if n else None,
    )


@dataclass(frozen=True)
class Past:
    """Runs that had finished before a moment, by state: they never change, and there may be a
    million.
    """

    before: datetime
    runs: Mapping[str, int]


def _finished_runs() -> dict[str, int]:
    """Finished runs by state. What cleanup removed may be counted for up to PAST_KEPT_S."""
    past = cached("past-runs", lambda _: PAST_KEPT_S, _count_past)
    since = _by_state(CertificationRun.objects.filter(completed_at__gte=past.before))
    return {state: past.runs.get(state, 0) + since.get(state, 0) for state in TERMINAL}


def _count_past() -> Past:
    before = timezone.now() - PAST_MARGIN
    return Past(before, _by_state(CertificationRun.objects.filter(completed_at__lt=before)))


def _by_state(rows: Any) -> dict[str, int]:
    return dict(rows.order_by().values_list("status").annotate(n=Count("pk")))


def workers() -> int | None:
    """How many workers take our backend's runs; None when nobody can be asked. Seconds old, and
    then learnt aside.
    """
    return cached("workers", lambda _: WORKERS_KEPT_S, count_workers, stale_s=WORKERS_STALE_S)


def count_workers() -> int | None:
    """As `workers`, but asked now: takes ANSWER_S."""
    names = {queue.name_for(priority) for priority in Priority.values}
    try:
        # answers at once that the broker is away; kombu would try for seconds
        queue.waiting(Priority.INTERACTIVE)
        replies: Sequence[Mapping[str, Any]] = (
            current_app.control.broadcast("work_taken", reply=True, timeout=ANSWER_S) or ()
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker_unreachable", error=str(error))
        return None
    said = [answer for reply in replies for answer in reply.values()]
    return sum(
        answer.get("backend") == backend.name()
        and any(_is_ours(name, names) for name in answer.get("queues", ()))
        for answer in said
    )


def _is_ours(name: str, names: set[str]) -> bool:
    """A queue of runs, or one of a pinned region."""
    return name in names or any(
        name == f"{base}.{region}" for base in names for region in settings.PINNED_REGIONS
    )
