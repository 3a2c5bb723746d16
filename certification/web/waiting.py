"""Why runs of a job wait or are slow: the few causes there are, each with its numbers and the way
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.engine import limits, queue
from certification.models import (
    WAITING,
    CertificationJob,
    CertificationRun,
    QueuePause,
    Route,
    State,
)
from certification.monitoring import queue_stats
from certification.templatetags.certification import minutes

UNSENT_S = 5  # from when a message that is not out yet is worth a sentence
ROUTES_CHECKED = 50


class Cause(NamedTuple):
    """Why some runs wait: a stable code, a sentence, and a command that helps, if one does."""

    code: str
    sentence: str
    command: str = ""


class RunRow(Protocol):
    """What is looked at of a run."""

    @property
    def model_id(self) -> UUID: ...
    @property
    def region_id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def causes(
    job: CertificationJob, rows: Sequence[RunRow], seconds_per_run: float | None, now: datetime
) -> list[Cause]:
    """Return why runs of a job wait, the most fundamental cause first; in three queries at most."""
    waiting = [row for row in rows if row.status in WAITING]
    running = [row for row in rows if row.status == State.PROCESSING]
    result = slowed_routes(running)
    if not waiting:
        return result
    pause = QueuePause.objects.current(job.backend)
    if pause and pause.holds(job.priority):
        return [paused(pause, len(waiting)), *result]
    if hindrance := without_worker(job, waiting):
        return [hindrance, *result]
    if retried := [row for row in waiting if row.attempt]:
        result.append(tried_again(retried))
    unsent = [row for row in waiting if row.status == State.PENDING]
    if unsent and now - job.created_at > timedelta(seconds=UNSENT_S):
        result.append(not_sent(len(unsent)))
    return [*result, *behind_others(job, len(waiting), seconds_per_run)]


def paused(pause: QueuePause, waiting: int) -> Cause:
    if not pause.is_by_itself:
        sentence = ngettext("%(n)d run waits. %(pause)s", "%(n)d runs wait. %(pause)s", waiting)
        return Cause("paused", sentence % {"n": waiting, "pause": pause.sentence})
    reason: str | Promise = labels.REASONS.get(pause.error_reason, pause.error_reason)
    sentence = ngettext(
        "%(n)d run waits: the queue is paused (%(reason)s). It goes on by itself once the "
        "credentials work.",
        "%(n)d runs wait: the queue is paused (%(reason)s). They go on by themselves once the "
        "credentials work.",
        waiting,
    )
    return Cause("paused", sentence % {"n": waiting, "reason": reason})


def without_worker(job: CertificationJob, waiting: Sequence[RunRow]) -> Cause | None:
    """Return that nobody takes these runs, if so."""
    workers = queue_stats.workers.get()
    if workers is None:
        sentence = _(
            "Redis cannot be reached: the runs wait in the database and are sent within 30 seconds "
            "once Redis is back."
        )
        return Cause("broker", sentence)
    if workers == 0:
        sentence = _("No worker is running: an operator starts one with this command.")
        return Cause("no_worker", sentence, "manage.py up")
    pinned = sorted({row.region_id for row in waiting} & set(settings.PINNED_REGIONS))
    if not pinned:
        return None
    by_queue = queue_stats.workers_by_queue.get() or {}
    unserved = [r for r in pinned if not by_queue.get(queue.name_for(job.priority, r))]
    if not unserved:
        return None
    sentence = _("No worker serves %(regions)s: an operator starts one for it.")
    command = f"WORKER_REGIONS={','.join(unserved)} manage.py run worker"
    return Cause("region_not_served", sentence % {"regions": ", ".join(unserved)}, command)


def tried_again(rows: Sequence[RunRow]) -> Cause:
    sentence = ngettext(
        "%(n)d run is tried again after its worker stopped, for at most %(limit)d times.",
        "%(n)d runs are tried again after their workers stopped, for at most %(limit)d times.",
        len(rows),
    )
    figures = {"n": len(rows), "limit": settings.CERTIFICATION_MAX_RETRIES}
    return Cause("retry", sentence % figures)


def not_sent(runs: int) -> Cause:
    sentence = ngettext(
        "%(n)d run has not reached the queue yet; it is sent again within 30 seconds.",
        "%(n)d runs have not reached the queue yet; they are sent again within 30 seconds.",
        runs,
    )
    return Cause("not_sent", sentence % {"n": runs})


def behind_others(
    job: CertificationJob, waiting: int, seconds_per_run: float | None
) -> list[Cause]:
    """Return how many runs of other jobs come first, else that the workers are busy with some."""
    earlier = Q(status__in=WAITING, job__priority=job.priority, created_at__lt=job.created_at)
    counts = CertificationRun.objects.active().aggregate(
        ahead=Count("pk", filter=earlier & ~Q(job=job)),
        busy=Count("pk", filter=Q(status=State.PROCESSING)),
    )
    ahead, busy = counts["ahead"], counts["busy"]
    if ahead:
        sentence = ngettext(
            "It waits behind %(n)d run of other jobs",
            "It waits behind %(n)d runs of other jobs",
            ahead,
        ) % {"n": ahead}
        if seconds_per_run:
            about = minutes(ahead * seconds_per_run / max(1, busy))
            sentence = _("%(sentence)s (about %(time)s)") % {"sentence": sentence, "time": about}
        return [Cause("behind", f"{sentence}.")]
    if busy:
        sentence = ngettext(
            "%(waiting)d of its runs wait: the workers are busy with %(n)d run.",
            "%(waiting)d of its runs wait: the workers are busy with %(n)d runs.",
            busy,
        )
        return [Cause("busy", sentence % {"waiting": waiting, "n": busy})]
    return []


def slowed_routes(running: Sequence[RunRow]) -> list[Cause]:
    """Return which regions answer slowly, because Bedrock throttled the routes of running runs."""
    pairs = {(row.model_id, row.region_id) for row in running[:ROUTES_CHECKED]}
    if not pairs:
        return []
    routes = Route.objects.filter(
        model__in={model for model, _region in pairs}, region__in={region for _m, region in pairs}
    ).values_list("model_id", "region_id", "target_id")
    slowed = limits.slowed(
        (region, target) for model, region, target in routes if (model, region) in pairs
    )
    rates: dict[str, float] = {}
    for (region, _target), rate in slowed.items():
        rates[region] = min(rate, rates.get(region, rate))
    sentence = _(
        "Bedrock throttles calls in %(region)s: they go on at %(rate)s tokens per second, and "
        "faster by themselves while it does not throttle again."
    )
    return [
        Cause("throttled", sentence % {"region": region, "rate": number_format(round(rate), 0)})
        for region, rate in sorted(rates.items())
    ]
