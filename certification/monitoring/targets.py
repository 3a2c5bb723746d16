"""The targets of the installation as data, and how well they are met: counted every minute into one
row a day and target, so that a report of a month reads some hundred rows.

Time in which nobody measured counts as unknown, never as good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import structlog
import urllib3
from django.conf import settings
from django.db.models import Count, F, Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from urllib3.exceptions import HTTPError

from certification.lib import clock, counters, request_metrics
from certification.lib.redis_client import UNAVAILABLE
from certification.models import AlertEpisode, CertificationRun, State, TargetDay, Tier
from certification.models.alerts import Severity
from certification.monitoring import queue_stats
from certification.reasons import Status

log = structlog.get_logger(__name__)

PROBE_S = 3.0
RECOVERY, QUICK_RUN = timedelta(minutes=5), timedelta(seconds=10)
FAST_S = 0.2  # an edge of request_metrics.EDGES
API = "api/"
DAY, WEEK, MONTH = 1, 7, 30  # days
REVISED = timedelta(hours=1)  # so long a day's runs may still be written after its end


@dataclass(frozen=True)
class Target:
    """What is promised: `goal` per cent of what `definition` counts, over 30 days."""

    name: str
    label: str | Promise
    definition: str | Promise
    goal: float
    action: str | Promise  # when it is not met
    command: str


TARGETS = (
    Target(
        "availability",
        _("Availability"),
        _("minutes in which the web server said that it is ready, asked at PUBLIC_URL by a worker"),
        99.9,
        _("Find out why it was down: the supervisor restarts it by itself."),
        "manage.py status",
    ),
    Target(
        "workers",
        _("Workers available"),
        _("minutes in which a worker answered"),
        99.9,
        _("Look at the end of the worker's log for why it stopped."),
        "manage.py queue",
    ),
    Target(
        "api_latency",
        _("Fast answers of the API"),
        _("requests below /api/ that were answered within 200 ms"),
        95.0,
        _("See which routes are slow and whether the machine is busy."),
        "manage.py analyze_performance",
    ),
    Target(
        "api_errors",
        _("API without errors"),
        _("requests below /api/ that were not answered with 5xx"),
        99.9,
        _("Look at the errors in the log: each has its request id."),
        "manage.py logs --errors",
    ),
    Target(
        "recovery",
        _("Recovery within 5 minutes"),
        _("critical alerts that ended within 5 minutes"),
        95.0,
        _("See which alerts lasted, and whether their runbooks helped."),
        "manage.py alerts list --all",
    ),
    Target(
        "success",
        _("Success"),
        _("runs that ended, cancelled ones left out, with a certification"),
        95.0,
        _("Look for what they have in common: a region, a vendor, a permission."),
        "manage.py list_uncertified",
    ),
    Target(
        "quick_runs",
        _("Quick runs within 10 seconds"),
        _("quick runs that ended within 10 seconds of their start"),
        95.0,
        _("Compare AWS's latency with ours."),
        "manage.py analyze_performance",
    ),
    Target(
        "retries",
        _("Runs by one worker"),
        _("runs that ended on the worker that started them"),
        90.0,
        _("Find out why workers stop: memory, a full disk, somebody who ends them."),
        "manage.py status",
    ),
)


@dataclass(frozen=True)
class Share:
    """How much was counted, and how much of it was good."""

    good: float = 0.0
    total: float = 0.0

    @property
    def per_cent(self) -> float | None:
        """Return the part that is good; None where nothing was measured."""
        return 100 * self.good / self.total if self.total else None


@dataclass(frozen=True)
class Report:
    """How well one target is met today, in 7 and in 30 days, and in each of these days."""

    target: Target
    today: Share
    week: Share
    month: Share
    days: Sequence[tuple[date, float | None]]

    @property
    def is_met(self) -> bool | None:
        value = self.month.per_cent
        return None if value is None else value >= self.target.goal

    @property
    def allowed_share(self) -> float:
        """The part that may be bad, 0 to 1."""
        return 1 - self.target.goal / 100

    @property
    def budget_left(self) -> float | None:
        """Per cent of the month's error budget that are left, negative when it is overspent."""
        if not self.month.total:
            return None
        spent = (self.month.total - self.month.good) / self.month.total / self.allowed_share
        return round(100 * (1 - spent), 1)

    @property
    def burn(self) -> float | None:
        """How many times faster than allowed today spends the budget."""
        if not self.today.total:
            return None
        return round((1 - self.today.good / self.today.total) / self.allowed_share, 2)

    @property
    def days_left(self) -> float | None:
        """After how many days at today's pace the budget is spent; None when it is not."""
        left = self.budget_left
        if not self.burn or self.burn <= 1 or left is None or left <= 0:
            return None
        return round(left / 100 * MONTH / self.burn, 1)


def reports(today: date) -> list[Report]:
    """Read how well each target is met, in one query."""
    begin = today - timedelta(days=MONTH - 1)
    by_name: dict[str, dict[date, Share]] = {target.name: {} for target in TARGETS}
    rows = TargetDay.objects.filter(day__gte=begin, day__lte=today, total__gt=0)
    for name, day, good, total in rows.values_list("name", "day", "good", "total"):
        if name in by_name:
            by_name[name][day] = Share(good, total)
    return [report(target, by_name[target.name], today) for target in TARGETS]


def report(target: Target, counts: dict[date, Share], today: date) -> Report:
    days = [today - timedelta(days=age) for age in range(MONTH)]

    def last(number: int) -> Share:
        chosen = [counts.get(day, Share()) for day in days[:number]]
        return Share(sum(c.good for c in chosen), sum(c.total for c in chosen))

    course = [(day, counts.get(day, Share()).per_cent) for day in reversed(days)]
    return Report(target, last(DAY), last(WEEK), last(MONTH), course)


def measure(now: datetime) -> None:
    """Count this minute. Raises DatabaseError; what another server would tell is left out."""
    today = now.date()
    TargetDay.add("availability", today, good=float(web_answers()), total=1)
    workers = queue_stats.workers.get()
    if workers is not None:
        TargetDay.add("workers", today, good=float(workers > 0), total=1)
    try:
        for name, good, total in request_counts():
            TargetDay.add_counter(name, today, good=good, total=total)
    except UNAVAILABLE as error:
        log.info("targets_without_redis", error=type(error).__name__)
    for day in {today, (now - REVISED).date()}:
        TargetDay.write(day, counts_of(day))


def web_answers() -> bool:
    """Whether the web server says that it is ready, at the address that people use."""
    url = f"{settings.PUBLIC_URL}/ready"
    try:
        answer = urllib3.request("GET", url, timeout=PROBE_S, retries=False, redirect=False)
        return answer.status == 200
    except (HTTPError, OSError, ValueError):
        return False


def request_counts() -> Iterator[tuple[str, float, float]]:
    """Yield (target, good, total) of all requests of the API so far. Raises UNAVAILABLE."""
    requests = errors = timed = fast = 0.0
    for series, value in counters.read():
        labels = dict(series.labels)
        if not labels.get("endpoint", "").startswith(API):
            continue
        if series.name == request_metrics.REQUESTS:
            requests += value
            errors += value if labels.get("status", "").startswith("5") else 0.0
        elif series.name == request_metrics.DURATION.name and series.le != "sum":
            timed += value
            fast += value if float(series.le) <= FAST_S else 0.0
    yield "api_errors", requests - errors, requests
    yield "api_latency", fast, timed


def counts_of(day: date) -> dict[str, tuple[float, float]]:
    """Count what a day's rows say of the targets, in two queries: (good, total) by name."""
    begin = datetime.combine(day, time.min, clock.now().tzinfo)
    end = begin + timedelta(days=1)
    quick = Q(tier=Tier.QUICK)
    ended = CertificationRun.objects.filter(completed_at__gte=begin, completed_at__lt=end)
    runs = ended.exclude(status=State.CANCELLED).aggregate(
        total=Count("pk"),
        certified=Count("pk", filter=Q(verdict=Status.CERTIFIED)),
        once=Count("pk", filter=Q(attempt__lte=1)),
        quick=Count("pk", filter=quick),
        in_time=Count("pk", filter=quick & Q(completed_at__lte=F("started_at") + QUICK_RUN)),
    )
    critical = AlertEpisode.objects.filter(
        severity=Severity.CRITICAL, resolved_at__gte=begin, resolved_at__lt=end
    ).aggregate(
        total=Count("pk"),
        in_time=Count("pk", filter=Q(resolved_at__lte=F("opened_at") + RECOVERY)),
    )
    return {
        "success": (runs["certified"], runs["total"]),
        "retries": (runs["once"], runs["total"]),
        "quick_runs": (runs["in_time"], runs["quick"]),
        "recovery": (critical["in_time"], critical["total"]),
    }
