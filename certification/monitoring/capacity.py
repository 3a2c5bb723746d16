"""How much the installation grows and uses, and when that reaches a limit: all of it computed from
stored rows, one a figure and day (`CapacityDay`), which the hourly routine writes.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Sum
from django.db.models.functions import TruncDate
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from certification.lib import clock, counters, redis_client, request_metrics
from certification.lib.counters import INFINITE
from certification.lib.redis_client import UNAVAILABLE, Purpose
from certification.models import (
    ACTIVE,
    TERMINAL,
    CapacityDay,
    CertificationJob,
    CertificationRun,
    RunTotal,
    sql,
)
from certification.monitoring.detailed_health import quantile

log = structlog.get_logger(__name__)

# Counted from rows: how many on that day.
RUNS, JOBS, CALLS, COST = "runs", "jobs", "calls", "cost_usd"
# At the last look of the day.
DATABASE, TABLE, REQUESTS = "database_bytes", "table_bytes:", "requests_within:"
# The highest of the looks of the day.
DISK, REDIS, CONNECTIONS, LOAD, WAITING = (
    "disk_percent", "redis_percent", "connections_percent", "load_percent", "runs_waiting",
)  # fmt: skip
RESPONSE = "response_p95_ms"  # computed from REQUESTS of the day and the day before
TABLES = 20  # the largest, whose sizes are stored
REDIS_LIMIT = 500_000_000  # where it has no limit of its own, as the alert `redis_memory`
DAYS_OF_FIT, MIN_DAYS = 90, 7
DAYS_SHOWN, MONTHS_SHOWN = 30, 12
LAST_DAY = date.max - timedelta(days=1)


@dataclass(frozen=True)
class Trigger:
    """A figure from which on more is needed: warning, critical, and what to do."""

    name: str
    label: str | Promise
    unit: str
    warning: float
    critical: float
    action: str | Promise
    command: str


TRIGGERS = (
    Trigger(
        RESPONSE,
        _("Response time of 95 % of the requests"),
        "ms",
        500,
        1000,
        _("Start more web processes, or another web host."),
        "manage.py analyze_performance",
    ),
    Trigger(
        LOAD,
        _("Load of this machine's processors"),
        "%",
        70,
        85,
        _("Move the database to its own machine, or to a larger one."),
        "manage.py health_monitor --once",
    ),
    Trigger(
        CONNECTIONS,
        _("Connections of the database"),
        "%",
        80,
        95,
        _("Raise max_connections, or put PgBouncer in front of it."),
        "manage.py doctor",
    ),
    Trigger(
        REDIS,
        _("Memory of Redis"),
        "%",
        80,
        90,
        _("Give Redis more memory; never let it evict."),
        "manage.py redis_report",
    ),
    Trigger(
        DISK,
        _("Disk"),
        "%",
        70,
        85,
        _("Enlarge the disk, or keep less: look at the table of retention."),
        "manage.py cleanup --dry-run",
    ),
    Trigger(
        WAITING,
        _("Runs that wait"),
        "",
        500,
        1000,
        _("Start more workers (CERTIFICATION_BULK_WORKERS, or another host)."),
        "manage.py queue show",
    ),
)


# --- What is stored


def record() -> list[str]:
    """Store the figures of today, and count the days since the last time from their rows. Returns
    the names of the figures that could not be measured.
    """
    now = clock.now()
    count_days(now)
    unknown = []
    for name, read in LEVELS.items():
        try:
            CapacityDay.write(now.date(), read())
        except (DatabaseError, OSError, *UNAVAILABLE):
            log.warning("capacity_not_measured", figure=name)
            unknown.append(name)
    for name, measure in PEAKS.items():
        try:
            CapacityDay.raise_to(now.date(), {name: measure()})
        except (DatabaseError, OSError, *UNAVAILABLE):
            log.warning("capacity_not_measured", figure=name)
            unknown.append(name)
    return unknown


def count_days(now: datetime) -> None:
    """Count what ended and began on the last stored day and since; all days the first time."""
    last = CapacityDay.objects.filter(name=RUNS).order_by("-day").first()
    start = datetime.combine(last.day, time.min, UTC) if last else None
    days: dict[date, dict[str, float]] = defaultdict(dict)
    days[now.date()] = {RUNS: 0, JOBS: 0, CALLS: 0, COST: 0}
    for row in runs_by_day(start):
        days[row["day"]] |= {
            RUNS: row["n"],
            CALLS: row["calls"] or 0,
            COST: float(row["cost"] or 0),
        }
    jobs = CertificationJob.objects.filter(**{"created_at__gte": start} if start else {})
    for row in by_day(jobs, "created_at").annotate(n=Count("pk")):
        days[row["day"]][JOBS] = row["n"]
    CapacityDay.write_days(days)


def runs_by_day(start: datetime | None) -> Iterable[dict[str, Any]]:
    """Return how many runs ended on each day, with their calls and what they cost."""
    ended = {"completed_at__gte": start} if start else {"completed_at__isnull": False}
    runs = CertificationRun.objects.filter(status__in=TERMINAL, **ended)
    figures: Iterable[dict[str, Any]] = by_day(runs, "completed_at").annotate(
        n=Count("pk"), calls=Sum("calls"), cost=Sum("cost_usd")
    )
    return figures


def by_day(rows: Any, column: str) -> Any:
    """Return a query of rows by the day (UTC) of a column, for `annotate`."""
    return rows.order_by().annotate(day=TruncDate(column, tzinfo=UTC)).values("day")


def database_bytes() -> dict[str, float]:
    facts = sql.fetch_one(sql.DATABASE_FACTS) or {}
    return {DATABASE: float(facts["bytes"])}


def table_bytes() -> dict[str, float]:
    rows = sql.fetch_all(sql.TABLE_SIZES, number=TABLES)
    return {f"{TABLE}{row['name']}": float(row["bytes"]) for row in rows}


def request_buckets() -> dict[str, float]:
    """Return how many requests since counting began took as long as each bucket holds, by its upper
    edge in seconds. Raises UNAVAILABLE.
    """
    buckets: dict[str, float] = defaultdict(float)
    for series, value in counters.read():
        if series.name == request_metrics.DURATION.name and series.le != "sum":
            buckets[f"{REQUESTS}{series.le}"] += value
    return buckets


def disk_percent() -> float:
    usage = shutil.disk_usage(settings.MYIA_ROOT)
    return 100 * usage.used / usage.total


def redis_percent() -> float:
    """Raises UNAVAILABLE."""
    memory = redis_client.client(Purpose.BROKER).info("memory")
    return float(100 * memory["used_memory"] / (memory["maxmemory"] or REDIS_LIMIT))


def connections_percent() -> float:
    row = sql.fetch_one(sql.CONNECTIONS) or {"used": 0, "allowed": 1}
    return float(100 * row["used"] / row["allowed"])


def load_percent() -> float:
    """Return the load of the last 15 minutes; 100: as much as the processors can do."""
    return 100 * os.getloadavg()[2] / (os.cpu_count() or 1)


def runs_waiting() -> float:
    return float(CertificationRun.objects.filter(status__in=ACTIVE, started_at=None).count())


LEVELS: dict[str, Callable[[], Mapping[str, float]]] = {
    DATABASE: database_bytes,
    TABLE: table_bytes,
    REQUESTS: request_buckets,
}
PEAKS: dict[str, Callable[[], float]] = {
    DISK: disk_percent,
    REDIS: redis_percent,
    CONNECTIONS: connections_percent,
    LOAD: load_percent,
    WAITING: runs_waiting,
}


# --- What follows from it


@dataclass(frozen=True)
class Line:
    """A line through figures by day: value = at_zero + slope * day, day as its ordinal."""

    at_zero: float
    slope: float

    def day_of(self, value: float, after: date) -> date | None:
        """Return the first day from `after` on with this value; None when it never comes."""
        if self.at_zero + self.slope * after.toordinal() >= value:
            return after
        if self.slope <= 0:
            return None
        ordinal = math.ceil((value - self.at_zero) / self.slope)
        return date.fromordinal(min(max(ordinal, after.toordinal()), LAST_DAY.toordinal()))


def fit(points: Mapping[date, float]) -> Line | None:
    """Return the line with the least squares; None with fewer than MIN_DAYS days."""
    if len(points) < MIN_DAYS:
        return None
    mean_day = sum(day.toordinal() for day in points) / len(points)
    mean = sum(points.values()) / len(points)
    spread = sum((day.toordinal() - mean_day) ** 2 for day in points)
    covariance = sum((d.toordinal() - mean_day) * (value - mean) for d, value in points.items())
    slope = covariance / spread
    return Line(mean - slope * mean_day, slope)


State = Literal["ok", "warning", "critical", "unknown"]


@dataclass(frozen=True)
class Limit:
    """A trigger with its last stored value, and when each of its limits is reached at the pace of
    the stored days. `slope` is None with too little data.
    """

    trigger: Trigger
    value: float | None
    days: int
    slope: float | None
    warning_on: date | None
    critical_on: date | None

    @property
    def state(self) -> State:
        if self.value is None:
            return "unknown"
        if self.value >= self.trigger.critical:
            return "critical"
        return "warning" if self.value >= self.trigger.warning else "ok"

    @property
    def missing_days(self) -> int:
        """How many days more must be stored before there is a forecast."""
        return max(0, MIN_DAYS - self.days)


@dataclass(frozen=True)
class Month:
    """What a month had; `database_bytes` at its end, None where nobody looked."""

    month: date
    runs: int
    jobs: int
    calls: int
    cost_usd: float
    database_bytes: float | None


@dataclass(frozen=True)
class Day:
    day: date
    runs: int
    jobs: int
    calls: int
    cost_usd: float
    database_bytes: float | None


@dataclass(frozen=True)
class Table:
    """`before` is its size DAYS_SHOWN days ago, None where nobody looked."""

    name: str
    bytes: float
    before: float | None


@dataclass(frozen=True)
class Report:
    today: date
    forecast_days: int
    total: Mapping[str, float]  # of all finished runs
    months: Sequence[Month]  # newest first
    days: Sequence[Day]  # newest first
    tables: Sequence[Table]  # largest first
    limits: Sequence[Limit]

    @property
    def stored_days(self) -> int:
        return max((limit.days for limit in self.limits), default=0)

    @property
    def reached(self) -> list[Limit]:
        return [limit for limit in self.limits if limit.state in ("warning", "critical")]

    @property
    def soon(self) -> list[Limit]:
        """Those whose critical value comes within the days of the forecast."""
        until = self.today + timedelta(days=self.forecast_days)
        return [
            limit
            for limit in self.limits
            if limit.state != "critical" and limit.critical_on and limit.critical_on <= until
        ]


Figures = Mapping[str, Mapping[date, float]]  # name -> day -> value


def stored(since: date | None = None) -> Figures:
    """Return the stored figures by name and day, oldest first."""
    rows = CapacityDay.objects.order_by("day").values_list("name", "day", "value")
    figures: dict[str, dict[date, float]] = defaultdict(dict)
    for name, day, value in rows.filter(day__gte=since) if since else rows:
        figures[name][day] = value
    return figures


def report(forecast_days: int = 90) -> Report:
    """Compute the report from the stored rows, in two queries."""
    today = clock.now().date()
    figures = stored(today - timedelta(days=31 * (MONTHS_SHOWN + 1)))
    return Report(
        today=today,
        forecast_days=forecast_days,
        total=totals(),
        months=months(figures),
        days=days(figures, today),
        tables=tables(figures, today),
        limits=[limit(trigger, figures, today) for trigger in TRIGGERS],
    )


def totals() -> dict[str, float]:
    rows = RunTotal.of_all_runs()
    return {
        name: float(sum(row[column] for row in rows))
        for name, column in ((RUNS, "runs"), (CALLS, "calls"), (COST, "cost_usd"))
    }


def months(figures: Figures) -> list[Month]:
    """Return the last months, newest first."""
    starts = {day.replace(day=1) for name in (RUNS, DATABASE) for day in figures.get(name, {})}
    return [month(start, figures) for start in sorted(starts, reverse=True)[:MONTHS_SHOWN]]


def month(start: date, figures: Figures) -> Month:
    def of_month(name: str) -> list[float]:
        values = figures.get(name, {})
        return [value for day, value in values.items() if day.replace(day=1) == start]

    sizes = of_month(DATABASE)
    return Month(
        start,
        runs=round(sum(of_month(RUNS))),
        jobs=round(sum(of_month(JOBS))),
        calls=round(sum(of_month(CALLS))),
        cost_usd=sum(of_month(COST)),
        database_bytes=sizes[-1] if sizes else None,
    )


def days(figures: Figures, today: date) -> list[Day]:
    """Return the last DAYS_SHOWN days of which something is stored, newest first."""
    first = today - timedelta(days=DAYS_SHOWN - 1)
    stored_days = {day for name in (RUNS, DATABASE) for day in figures.get(name, {})}
    return [
        Day(
            day,
            runs=round(figures.get(RUNS, {}).get(day, 0)),
            jobs=round(figures.get(JOBS, {}).get(day, 0)),
            calls=round(figures.get(CALLS, {}).get(day, 0)),
            cost_usd=figures.get(COST, {}).get(day, 0.0),
            database_bytes=figures.get(DATABASE, {}).get(day),
        )
        for day in sorted(stored_days, reverse=True)
        if day >= first
    ]


def tables(figures: Figures, today: date) -> list[Table]:
    """Return the tables by their last stored sizes, largest first."""
    first = today - timedelta(days=DAYS_SHOWN)
    rows = []
    for name, values in figures.items():
        if name.startswith(TABLE):
            old = [value for day, value in values.items() if day <= first]
            last = values[max(values)]
            rows.append(Table(name.removeprefix(TABLE), last, old[-1] if old else None))
    return sorted(rows, key=lambda table: -table.bytes)


def limit(trigger: Trigger, figures: Figures, today: date) -> Limit:
    """Compare a trigger with its stored values, and fit a line through those of DAYS_OF_FIT."""
    is_response = trigger.name == RESPONSE
    values = response_times(figures) if is_response else figures.get(trigger.name, {})
    first = today - timedelta(days=DAYS_OF_FIT - 1)
    recent = {day: value for day, value in values.items() if day >= first}
    line = fit(recent)
    return Limit(
        trigger,
        value=recent[max(recent)] if recent else None,
        days=len(recent),
        slope=line.slope if line else None,
        warning_on=line.day_of(trigger.warning, today) if line else None,
        critical_on=line.day_of(trigger.critical, today) if line else None,
    )


def response_times(figures: Figures) -> dict[date, float]:
    """Return the time in milliseconds within which 95 % of a day's requests were answered, by day:
    from what the buckets have more than the day before. Buckets that have less began anew.
    """
    buckets: dict[date, dict[float, float]] = defaultdict(dict)
    for name, values in figures.items():
        if name.startswith(REQUESTS):
            text = name.removeprefix(REQUESTS)
            edge = math.inf if text == INFINITE else float(text)
            for day, value in values.items():
                buckets[day][edge] = value
    times: dict[date, float] = {}
    for before, day in zip(sorted(buckets), sorted(buckets)[1:], strict=False):
        old, new = buckets[before], buckets[day]
        is_new = any(value < old.get(edge, 0) for edge, value in new.items())
        counts = {edge: n - (0 if is_new else old.get(edge, 0)) for edge, n in new.items()}
        seconds = quantile(counts, 0.95) if sum(counts.values()) else None
        if seconds is not None:
            times[day] = 1000 * seconds
    return times
