"""The targets of the installation as data, and how well they are met: counted every minute into one
row a day and target, so that a report of a month reads some hundred rows.

Time in which nobody measured counts as unknown, never as good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import structlog
import urllib3
from django.conf import settings
from django.db.models import Count, F, Q, Sum
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from urllib3.exceptions import HTTPError

from certification.lib import clock, counters, process_counts, request_metrics
from certification.lib.counters import Series
from certification.lib.redis_client import UNAVAILABLE
from certification.models import (
    AlertEpisode,
    CertificationRun,
    RoutineMark,
    State,
    TargetDay,
    TargetMinute,
    Tier,
)
from certification.models.alerts import Severity
from certification.models.routines import BACKUP, RESTORE_DRILL
from certification.monitoring import queue_stats
from certification.reasons import Status

log = structlog.get_logger(__name__)

PROBE_S = 3.0
RECOVERY, QUICK_RUN = timedelta(minutes=5), timedelta(seconds=10)
FAST_S = 0.2  # an edge of request_metrics.EDGES
SLOW_S, WITHIN_2_S = 2.0, "api_within_2s"  # counted for an alert, and no target
API = "api/"
DAY, WEEK, MONTH = 1, 7, 30  # days
ERRORS_A_DAY = 9  # lines of the log
SELF_TESTS = (RESTORE_DRILL, "weekly")  # routines that examine what is stored
# Targets whose error budget is watched while it burns: what people feel at once.
BURNING = ("availability", "api_latency", "api_errors")
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
    Target(
        "error_lines",
        _("Few errors in the log"),
        _("days on which web server, workers and beat wrote fewer than 10 error lines"),
        100.0,
        _("See which reason is most frequent: each has what to do."),
        "manage.py logs --errors --by reason",
    ),
    Target(
        "backups",
        _("Backups"),
        _("days on which a backup was made"),
        100.0,
        _("Make one now, then see why beat did not."),
        "manage.py backup",
    ),
    Target(
        "self_tests",
        _("Self-tests"),
        _("restore drills and weekly routines that ended well"),
        100.0,
        _("See which step failed, and run it again."),
        "manage.py routine list",
    ),
    Target(
        "stops",
        _("No unplanned stops"),
        _("days on which the supervisor had to replace no process"),
        100.0,
        _("Look in the log for why it ended: memory, a full disk, an error."),
        "manage.py logs --errors",
    ),
)
BY_NAME = {target.name: target for target in TARGETS}


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
        """Per cent of the month's error budget that are left, negative when it is overspent. Of a
        target that allows nothing it is all or none.
        """
        if not self.month.total:
            return None
        if not self.allowed_share:
            return 100.0 if self.month.good == self.month.total else 0.0
        spent = (self.month.total - self.month.good) / self.month.total / self.allowed_share
        return round(100 * (1 - spent), 1)

    @property
    def burn(self) -> float | None:
        """How many times faster than allowed today spends the budget; None where there is none."""
        if not self.today.total or not self.allowed_share:
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
    counted = dict(checks_of_this_minute())
    for name, share in counted.items():
        TargetDay.add(name, today, good=share.good, total=share.total)
    try:
        counted |= since_last_look(today)
    except UNAVAILABLE as error:
        log.info("targets_without_redis", error=type(error).__name__)
    TargetMinute.objects.bulk_create(
        TargetMinute(name=name, at=now, good=share.good, total=share.total)
        for name, share in counted.items()
        if share.total
    )
    for day in {today, (now - REVISED).date()}:
        TargetDay.write(day, counts_of(day) | routines_of(day))


def checks_of_this_minute() -> Iterator[tuple[str, Share]]:
    """Yield what can only be known by looking now."""
    yield "availability", Share(float(web_answers()), 1)
    workers = queue_stats.workers.get()
    if workers is not None:
        yield "workers", Share(float(workers > 0), 1)


def since_last_look(today: date) -> dict[str, Share]:
    """Count what the counters of all processes have more than a minute ago. Raises UNAVAILABLE."""
    series = list(counters.read())
    shares = {}
    for name, good, total in request_counts(series):
        shares[name] = Share(*TargetDay.add_counter(name, today, good=good, total=total))
    for name, counter, allowed in (
        ("error_lines", process_counts.ERRORS, ERRORS_A_DAY),
        ("stops", process_counts.RESTARTS, 0),
    ):
        values = [value for one, value in series if one.name == counter]
        if values:  # otherwise nobody counts them here
            new = TargetDay.add_events(name, today, counted=sum(values), allowed=allowed)
            shares[name] = Share(0, new)
    return shares


def web_answers() -> bool:
    """Whether the web server says that it is ready, at the address that people use."""
    url = f"{settings.PUBLIC_URL}/ready"
    try:
        answer = urllib3.request("GET", url, timeout=PROBE_S, retries=False, redirect=False)
        return answer.status == 200
    except (HTTPError, OSError, ValueError):
        return False


def request_counts(
    counted: Iterable[tuple[Series, float]],
) -> Iterator[tuple[str, float, float]]:
    """Yield (target, good, total) of all requests of the API so far."""
    requests = errors = timed = fast = slow = 0.0
    for series, value in counted:
        labels = dict(series.labels)
        if not labels.get("endpoint", "").startswith(API):
            continue
        if series.name == request_metrics.REQUESTS:
            requests += value
            errors += value if labels.get("status", "").startswith("5") else 0.0
        elif series.name == request_metrics.DURATION.name and series.le != "sum":
            timed += value
            fast += value if float(series.le) <= FAST_S else 0.0
            slow += value if float(series.le) > SLOW_S else 0.0
    yield "api_errors", requests - errors, requests
    yield "api_latency", fast, timed
    yield WITHIN_2_S, timed - slow, timed


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


def routines_of(day: date) -> dict[str, tuple[float, float]]:
    """Return what the routines' marks say of a day, (good, total) by name. A mark has only the last
    good end and the last failure, so what was written of the day before them stays.
    """
    marks = {mark.name: mark for mark in RoutineMark.objects.filter(name__in=(BACKUP, *SELF_TESTS))}
    ends = {name: ends_on(day, mark) for name, mark in marks.items()}
    good, bad = ends.get(BACKUP, (False, False))
    counts: dict[str, tuple[float, float]] = {}
    if good or bad or (BACKUP in marks and has_none(marks[BACKUP], day)):
        counts["backups"] = (float(good), 1.0)
    tests = [ends[name] for name in SELF_TESTS if name in ends]
    well, failed = sum(one for one, _bad in tests), sum(bad for _one, bad in tests)
    if well + failed:
        counts["self_tests"] = (float(well), float(well + failed))
    before = TargetDay.objects.filter(day=day, name__in=counts).values_list("name", "good", "total")
    for name, known_good, known_total in before:
        if (known_total, known_good) > (counts[name][1], counts[name][0]):
            del counts[name]
    return counts


def ends_on(day: date, mark: RoutineMark) -> tuple[bool, bool]:
    """Whether a routine ended well on a day, and whether it failed on that day."""
    failed = mark.failed_at is not None and mark.failed_at.date() == day
    return mark.ended_at.date() == day, failed


def has_none(mark: RoutineMark, day: date) -> bool:
    """Whether a day has ended without a good end of a routine that was tried before it."""
    return day < clock.now().date() and mark.since.date() < day and mark.ended_at.date() < day


# The pace at which error budgets burn


@dataclass(frozen=True)
class Window:
    """A time by its length, with the name that Prometheus has for it. Too few events say nothing,
    but in the short windows, which only show that it still goes on.
    """

    name: str
    length: timedelta
    least: int = 0

    def is_known(self, total: float) -> bool:
        return total > 0 and total >= self.least


LEAST = 20  # requests, or minutes
WINDOWS = {
    window.name: window
    for window in (
        Window("5m", timedelta(minutes=5)),
        Window("30m", timedelta(minutes=30)),
        Window("1h", timedelta(hours=1), LEAST),
        Window("6h", timedelta(hours=6), LEAST),
        Window("3d", timedelta(days=3), LEAST),
    )
}


def pace(target: Target, window: Window, sums: Mapping[timedelta, tuple[float, float]]) -> float:
    """Return how many times faster than allowed a target's budget was spent; 0 where not known."""
    good, total = sums[window.length]
    if not window.is_known(total):
        return 0.0
    return (1 - good / total) / (1 - target.goal / 100)


def recent(now: datetime) -> dict[str, Mapping[timedelta, tuple[float, float]]]:
    """Return (good, total) of each target over each window and over a day, in one query."""
    lengths = {window.length for window in WINDOWS.values()} | {timedelta(days=1)}
    return TargetMinute.sums(now, lengths)


def counters_of_all_time() -> Iterator[tuple[str, float, float]]:
    """Yield (name, good, total) of all time, of what alerts look at by the minute."""
    rows = TargetDay.objects.filter(name__in=(*BURNING, WITHIN_2_S)).values("name").order_by("name")
    for row in rows.annotate(all_good=Sum("good"), all_total=Sum("total")):
        yield row["name"], row["all_good"], row["all_total"]
