"""The metrics of the installation as Prometheus text: counters of all processes, and figures from
small tables. Nothing here counts a table that grows.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db.models import Count
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from certification.engine import calls
from certification.lib import clock, counters, request_metrics, slow_log
from certification.lib.counters import INFINITE, Histogram, Series
from certification.lib.redis_client import UNAVAILABLE
from certification.models import (
    AlertEpisode,
    PauseCause,
    QueuePause,
    RoutineMark,
    RunTotal,
    run_totals,
    sql,
)
from certification.models.routines import BACKUP, RESTORE_DRILL
from certification.monitoring import alert_rules, channels, queue_stats, targets
from certification.monitoring.alert_rules import Facts

SLOW_QUERY_S = 60.0  # a query that runs longer has a series of its own
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = {
    "http_requests_total": "Requests answered, by route",
    "bedrock_calls_total": "Calls of models, by how they ended",
    "alert_messages_total": "Messages about alerts, by channel and outcome",
    "bedrock_throttles_total": "Calls that Bedrock refused for their rate",
}
HISTOGRAMS = {
    slow_log.DURATION: "Time until a query of a web request was answered",
    request_metrics.DURATION: "Time until a request was answered, by route",
    calls.DURATION: "Time until a call of a model ended",
    calls.FIRST_TOKEN: "Time until a model wrote its first word",
}
TOTALS = {  # of ended runs, by the columns of RunTotal
    "certification_runs_total": ("Runs that ended", "runs"),
    "run_retries_total": ("Ended runs that had more than one worker", "retried"),
    "certification_calls_total": ("Calls that ended runs made", "calls"),
    "certification_cost_usd_total": ("What ended runs cost", "cost_usd"),
    "certification_run_seconds_total": ("Time that ended runs took", "seconds"),
}


def render() -> bytes:
    """Return every metric. Raises DatabaseError; without Redis its figures are left out."""
    return generate_latest(Metrics())


class Metrics:
    """What a scrape collects."""

    def collect(self) -> Iterator[Metric]:
        facts = Facts()
        yield gauge("build_info", "The release that answers", 1, version=settings.VERSION)
        yield from run_metrics()
        yield from queue_metrics(facts)
        yield from alert_metrics()
        yield from target_metrics()
        yield from server_metrics()
        try:
            yield from redis_metrics(facts)
        except UNAVAILABLE:
            yield gauge("redis_up", "Whether Redis answers", 0)


def gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def run_metrics() -> Iterator[Metric]:
    rows = RunTotal.of_all_runs()
    for name, (text, column) in TOTALS.items():
        family = CounterMetricFamily(name, text, labels=run_totals.KIND)
        for row in rows:
            family.add_metric([row[label] for label in run_totals.KIND], float(row[column]))
        yield family


def queue_metrics(facts: Facts) -> Iterator[Metric]:
    counts = facts.queue
    waiting = counts.waiting + counts.delayed
    yield gauge("queue_waiting", "Runs that wait for a worker", waiting)
    yield gauge("queue_active", "Runs that are worked on", counts.active)
    yield gauge("queue_oldest_seconds", "How long the oldest run waits", counts.oldest_waiting_s)
    idle_s = alert_rules.nothing_completed(facts).get("", 0)
    yield gauge("queue_idle_seconds", "How long runs wait and none ends", idle_s)
    open_now = set(QueuePause.objects.open().values_list("cause", flat=True))
    family = GaugeMetricFamily("queue_paused", "Whether runs wait, by why", labels=("cause",))
    for cause in PauseCause.values:
        family.add_metric([cause], cause in open_now)
    yield family
    if (workers := queue_stats.workers.get_soon()) is not None:
        yield gauge("workers_alive", "Workers that answer", workers)


def alert_metrics() -> Iterator[Metric]:
    family = GaugeMetricFamily("alerts_open", "Open alerts", labels=("rule", "severity"))
    rows = AlertEpisode.objects.open().order_by().values_list("rule", "severity")
    for rule, severity, n in rows.annotate(n=Count("pk")):
        family.add_metric([rule, severity], n)
    yield family
    name = "routine_last_success_timestamp_seconds"
    family = GaugeMetricFamily(name, "When a routine ended well last", labels=("routine",))
    text = "Whether a routine's last end was a failure"
    failures = GaugeMetricFamily("routine_failed", text, labels=("routine",))
    for mark in RoutineMark.objects.all():
        family.add_metric([mark.name], mark.ended_at.timestamp())
        failures.add_metric([mark.name], mark.has_failed)
    yield family
    yield failures
    for routine, text in (
        (BACKUP, "How long ago the last backup was made"),
        (RESTORE_DRILL, "How long ago a backup was restored last"),
    ):
        for age in alert_rules.seconds_since(routine).values():
            yield gauge(f"{routine.replace(' ', '_')}_age_seconds", text, age)

    text = "Attempts in a row that failed on a channel of alerts"
    family = GaugeMetricFamily("alert_channel_failures", text, labels=("channel",))
    for channel in channels.configured():
        family.add_metric([channel.name], channel.row.failures)
    yield family
    expiring = alert_rules.expiring(Facts())[""]
    yield gauge("certifications_expiring", "Certifications that expire in three days", expiring)
    given_up = alert_rules.deliveries_given_up(Facts())[""]
    text = "Webhook deliveries that were given up in the last hour"
    yield gauge("webhook_deliveries_given_up", text, given_up)


def server_metrics() -> Iterator[Metric]:
    """Yield how full the database and this machine's disk are, and whether its clock is right."""
    [row] = sql.fetch_all(sql.CONNECTIONS)
    yield gauge("database_connections", "Database connections in use", row["used"])
    text = "Connections that the database allows"
    yield gauge("database_connections_allowed", text, row["allowed"])
    text = f"How long queries run that have run for {SLOW_QUERY_S:g} s"
    queries = GaugeMetricFamily("database_query_seconds", text, labels=("query",))
    for query, seconds in alert_rules.long_queries(Facts()).items():
        if seconds >= SLOW_QUERY_S:
            queries.add_metric([query], seconds)
    yield queries
    disk = shutil.disk_usage(settings.MYIA_ROOT)
    yield gauge("disk_free_bytes", "Free disk space", disk.free)
    yield gauge("disk_size_bytes", "Size of the disk", disk.total)
    text = "By how much the database's clock is ahead of this process's"
    yield gauge("clock_offset_seconds", text, clock.offset_s())


def target_metrics() -> Iterator[Metric]:
    """Yield how well the targets are met over 30 days, 0 to 1; nothing where not measured."""
    ratio = GaugeMetricFamily("target_ratio", "Part that was good in 30 days", labels=("target",))
    goal = GaugeMetricFamily("target_goal_ratio", "Part that must be good", labels=("target",))
    left = GaugeMetricFamily(
        "target_budget_left_ratio", "Part of the error budget that is left", labels=("target",)
    )
    for report in targets.reports(clock.now().date()):
        goal.add_metric([report.target.name], report.target.goal / 100)
        value, budget = report.month.per_cent, report.budget_left
        if value is not None and budget is not None:
            ratio.add_metric([report.target.name], value / 100)
            left.add_metric([report.target.name], budget / 100)
    yield from (ratio, goal, left)


def redis_metrics(facts: Facts) -> Iterator[Metric]:
    """Yield what is in Redis: the counters of all processes. Raises UNAVAILABLE."""
    info = facts.redis
    yield gauge("redis_up", "Whether Redis answers", 1)
    yield gauge("redis_memory_bytes", "Memory that Redis uses", info["used_memory"])
    limit = alert_rules.redis_memory_limit(facts)
    yield gauge("redis_memory_limit_bytes", "Memory that Redis should not exceed", limit)
    evicted = CounterMetricFamily("redis_evicted_keys", "Keys that Redis dropped to make room")
    evicted.add_metric([], info["evicted_keys"])
    yield evicted
    by_name: defaultdict[str, list[tuple[Series, float]]] = defaultdict(list)
    for series, value in counters.read():
        by_name[series.name].append((series, value))
    for name, text in COUNTERS.items():
        rows = by_name[name]
        family = CounterMetricFamily(name, text, labels=label_names(rows))
        for series, value in rows:
            family.add_metric([value for _, value in series.labels], value)
        yield family
    for histogram, text in HISTOGRAMS.items():
        yield distribution(histogram, text, by_name[histogram.name])


def label_names(rows: Sequence[tuple[Series, float]]) -> list[str]:
    return [name for name, _ in rows[0][0].labels] if rows else []


def distribution(
    histogram: Histogram, text: str, rows: Sequence[tuple[Series, float]]
) -> HistogramMetricFamily:
    """Return one histogram, whose buckets were counted one by one."""
    family = HistogramMetricFamily(histogram.name, text, labels=label_names(rows))
    by_labels: defaultdict[Any, dict[str, float]] = defaultdict(dict)
    for series, value in rows:
        by_labels[series.labels][series.le] = value
    for labels, cells in by_labels.items():
        family.add_metric(
            [value for _, value in labels], cumulative(histogram, cells), cells.get("sum", 0.0)
        )
    return family


def cumulative(histogram: Histogram, cells: Mapping[str, float]) -> list[tuple[str, float]]:
    buckets, count = [], 0.0
    for le in (*(f"{edge:g}" for edge in histogram.edges), INFINITE):
        count += cells.get(le, 0.0)
        buckets.append((le, count))
    return buckets
