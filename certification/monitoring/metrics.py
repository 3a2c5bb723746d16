"""The metrics of the installation as Prometheus text: counters of all processes, and figures from
small tables. Nothing here counts a table that grows.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from itertools import accumulate, groupby
from typing import Any

import psutil
from django.conf import settings
from django.db.models import Count
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from certification.engine import calls
from certification.lib import (
    clock,
    counters,
    process_counts,
    request_metrics,
    shared_cache,
    slow_log,
)
from certification.lib.counters import INFINITE, Histogram, Series
from certification.lib.redis_client import UNAVAILABLE
from certification.models import (
    AlertEpisode,
    ModelCertification,
    PauseCause,
    QueuePause,
    RunTotal,
    Session,
    run_totals,
    sql,
)
from certification.models.routines import BACKUP, RESTORE_DRILL
from certification.models.validity import current_status_expression
from certification.monitoring import alert_rules, channels, machine, queue_stats, targets
from certification.monitoring.alert_rules import Facts
from certification.reasons import Status

SLOW_QUERY_S = 60.0  # a query that runs longer has a series of its own
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = {
    "http_requests_total": "Requests answered, by route",
    "bedrock_calls_total": "Calls of models, by how they ended",
    "alert_messages_total": "Messages about alerts, by channel and outcome",
    "bedrock_throttles_total": "Calls that Bedrock refused for their rate",
    process_counts.ERRORS: "Error lines of the log",
    process_counts.RESTARTS: "Starts that replaced a process which ended without being told to",
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


STATUS = "certification_status"
STATUS_NUMBERS = {
    Status.NOT_TESTED: 0,
    Status.CERTIFIED: 1,
    Status.QUALITY_WARNING: 2,
    Status.FAILED: 3,
    Status.PERMISSION_REQUIRED: 4,
    Status.CONFIGURATION_REQUIRED: 5,
    Status.PENDING: 6,
}


def render() -> bytes:
    """Return every metric. Raises DatabaseError; without Redis its figures are left out.

    What has thousands of series is written here: as objects of the client library they take ten
    times as long.
    """
    lines = list(counted())
    statuses = certification_statuses() if settings.METRICS_CERTIFICATION_STATUS else ""
    many = "".join(f"{line}\n" for line in lines) + statuses
    return generate_latest(Metrics()) + many.encode()


def counted() -> Iterator[str]:
    """Yield the lines of what all processes counted; none without Redis."""
    by_name: defaultdict[str, list[tuple[Series, float]]] = defaultdict(list)
    with suppress(*UNAVAILABLE):
        for series, value in counters.read():
            by_name[series.name].append((series, value))
    for name, text in COUNTERS.items():
        if by_name[name]:
            yield from (f"# HELP {name} {text}", f"# TYPE {name} counter")
            for series, value in by_name[name]:
                yield f"{start_of_line(name, series.labels)} {value}"
    for histogram, text in HISTOGRAMS.items():
        if by_name[histogram.name]:
            yield from (f"# HELP {histogram.name} {text}", f"# TYPE {histogram.name} histogram")
            yield from distribution(histogram, by_name[histogram.name])


def distribution(histogram: Histogram, rows: Iterable[tuple[Series, float]]) -> Iterator[str]:
    """Yield the lines of a histogram, whose buckets were counted one by one."""
    by_labels: defaultdict[Any, dict[str, float]] = defaultdict(dict)
    for series, value in rows:
        by_labels[series.labels][series.le] = value
    edges = (*(f"{edge:g}" for edge in histogram.edges), INFINITE)
    for labels, cells in by_labels.items():
        *buckets, count, total = starts_of_lines(histogram.name, labels, edges)
        numbers = list(accumulate(cells.get(le, 0.0) for le in edges))
        yield from map("{} {}".format, buckets, numbers)
        yield f"{count} {numbers[-1]}"
        yield f"{total} {cells.get('sum', 0.0)}"


@lru_cache(counters.MAX_SERIES)
def starts_of_lines(
    name: str, labels: Sequence[tuple[str, str]], edges: Sequence[str]
) -> list[str]:
    """Return the lines of a histogram up to their values: its buckets, its count and its sum."""
    buckets = [start_of_line(f"{name}_bucket", (*labels, ("le", edge))) for edge in edges]
    return [*buckets, *(start_of_line(f"{name}_{part}", labels) for part in ("count", "sum"))]


@lru_cache(counters.MAX_SERIES)  # the same at each scrape
def start_of_line(name: str, labels: Sequence[tuple[str, str]]) -> str:
    """Return a line up to its value."""
    text = ",".join(f'{label}="{escaped(value)}"' for label, value in labels)
    return f"{name}{{{text}}}" if text else name


def certification_statuses() -> str:
    """Return the lines of the status of each pair of model and region: shared until a certification
    changes, or for API_CACHE_SECONDS, in which one may expire.
    """
    entry = shared_cache.get(STATUS, str)
    if entry.value is not None:
        return entry.value
    status_now = current_status_expression(clock.now())
    pairs = ModelCertification.objects.order_by()
    rows = pairs.values_list("model__api_model_id", "region_id", status_now)
    names = " ".join(f"{number} {status}" for status, number in STATUS_NUMBERS.items())
    lines = [f"# HELP {STATUS} Status of a model in a region: {names}", f"# TYPE {STATUS} gauge"]
    for model, region, status in rows:
        labels = (("model", model), ("region", region))
        lines.append(f"{start_of_line(STATUS, labels)} {STATUS_NUMBERS[status]}")
    text = "\n".join(lines) + "\n"
    shared_cache.set(STATUS, entry.generation, text, settings.API_CACHE_SECONDS)
    return text


def escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Metrics:
    """What a scrape collects."""

    def collect(self) -> Iterator[Metric]:
        facts = Facts()
        yield gauge("build_info", "The release that answers", 1, version=settings.VERSION)
        yield from run_metrics()
        yield from queue_metrics(facts)
        yield from alert_metrics(facts)
        yield from target_metrics(facts)
        yield from recent_metrics(facts)
        yield from server_metrics(facts)
        yield from database_metrics(facts)
        yield from machine_metrics()
        try:
            yield from redis_metrics(facts)
        except UNAVAILABLE:
            yield gauge("redis_up", "Whether Redis answers", 0)


def gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge that has a value for each of a label."""
    result = GaugeMetricFamily(name, text, labels=(label,))
    for subject, value in values.items():
        result.add_metric([subject], value)
    return result


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
        places = workers * settings.CERTIFICATION_CONCURRENCY
        busy = counts.active / places if places else 0
        yield gauge("worker_busy_ratio", "Part of the workers' places that are taken", busy)
    if (taken := queue_stats.workers_by_queue.get_soon()) is not None:
        text, unserved = (
            "Whether a pinned region has no worker",
            queue_stats.unserved_regions(taken),
        )
        family = GaugeMetricFamily("region_unserved", text, labels=("region",))
        for region in settings.PINNED_REGIONS:
            family.add_metric([region], region in unserved)
        yield family


def alert_metrics(facts: Facts) -> Iterator[Metric]:
    family = GaugeMetricFamily("alerts_open", "Open alerts", labels=("rule", "severity"))
    rows = AlertEpisode.objects.open().order_by().values_list("rule", "severity")
    for rule, severity, n in rows.annotate(n=Count("pk")):
        family.add_metric([rule, severity], n)
    yield family
    name = "routine_last_success_timestamp_seconds"
    family = GaugeMetricFamily(name, "When a routine ended well last", labels=("routine",))
    text = "Whether a routine's last end was a failure"
    failures = GaugeMetricFamily("routine_failed", text, labels=("routine",))
    for mark in facts.marks.values():
        family.add_metric([mark.name], mark.ended_at.timestamp())
        failures.add_metric([mark.name], mark.has_failed)
    yield family
    yield failures
    if (backup := facts.marks.get(BACKUP)) is not None:
        at = backup.ended_at.timestamp()
        yield gauge("backup_last_success_timestamp_seconds", "When a backup was made last", at)
    for routine, text in (
        (BACKUP, "How long ago the last backup was made"),
        (RESTORE_DRILL, "How long ago a backup was restored last"),
    ):
        for age in alert_rules.seconds_since(facts, routine).values():
            yield gauge(f"{routine.replace(' ', '_')}_age_seconds", text, age)

    text = "Attempts in a row that failed on a channel of alerts"
    family = GaugeMetricFamily("alert_channel_failures", text, labels=("channel",))
    for channel in channels.configured():
        family.add_metric([channel.name], channel.row.failures)
    yield family
    expiring = alert_rules.expiring(facts)[""]
    yield gauge("certifications_expiring", "Certifications that expire in three days", expiring)
    given_up = alert_rules.deliveries_given_up(facts)[""]
    text = "Webhook deliveries that were given up in the last hour"
    yield gauge("webhook_deliveries_given_up", text, given_up)


def server_metrics(facts: Facts) -> Iterator[Metric]:
    """Yield how full the database and this machine's disk are, and whether its clock is right."""
    [row] = sql.fetch_all(sql.CONNECTIONS)
    yield gauge("database_connections", "Database connections in use", row["used"])
    text = "Connections that the database allows"
    yield gauge("database_connections_allowed", text, row["allowed"])
    text = f"How long queries run that have run for {SLOW_QUERY_S:g} s"
    queries = GaugeMetricFamily("database_query_seconds", text, labels=("query",))
    for query, seconds in alert_rules.long_queries(facts).items():
        if seconds >= SLOW_QUERY_S:
            queries.add_metric([query], seconds)
    yield queries
    disk = shutil.disk_usage(settings.MYIA_ROOT)
    yield gauge("disk_free_bytes", "Free disk space", disk.free)
    yield gauge("disk_size_bytes", "Size of the disk", disk.total)
    text = "By how much the database's clock is ahead of this process's"
    yield gauge("clock_offset_seconds", text, clock.offset_s())


def database_metrics(facts: Facts) -> Iterator[Metric]:
    """Yield what tells of a database that will be slow or stop."""
    by_state = "Database connections by what they do"
    states = GaugeMetricFamily("database_connections_by_state", by_state, labels=("state",))
    for row in sql.fetch_all(sql.CONNECTION_STATES):
        states.add_metric([row["state"]], row["n"])
    yield states
    for name, column, text in (
        ("database_replication_lag_seconds", "replication_lag_seconds", "Of the slowest replica"),
        ("database_wraparound_percent", "wraparound_percent", "Transaction ids that are used up"),
        ("database_cache_hit_ratio", "cache_hit_ratio", "Blocks that were in memory"),
    ):
        if (value := facts.database.get(column)) is not None:
            yield gauge(name, text, value)
    text = f"Dead rows of tables with {alert_rules.MIN_DEAD_ROWS} of them"
    yield by_label("database_dead_rows_percent", text, "table", alert_rules.dead_rows(facts))


def machine_metrics() -> Iterator[Metric]:
    """Yield what this machine has left, and what our processes take."""
    text = "Connections that wait for a web process"
    if (backlog := machine.accept_backlog()) is not None:
        yield gauge("http_accept_backlog", text, backlog)
    yield gauge("machine_cpu_percent", "How busy the CPUs are", machine.cpu_percent())
    free = machine.memory_free_percent()
    yield gauge("machine_memory_free_percent", "Free memory of the machine", free)
    memory = machine.process_memory()
    yield by_label("process_memory_bytes", "Resident memory of a process", "process", memory)
    network, disk = psutil.net_io_counters(), psutil.disk_io_counters()
    directions = (
        ("machine_network_bytes", "received", network and network.bytes_recv),
        ("machine_network_bytes", "sent", network and network.bytes_sent),
        ("machine_disk_bytes", "read", disk and disk.read_bytes),
        ("machine_disk_bytes", "written", disk and disk.write_bytes),
    )
    for name, group in groupby(directions, key=lambda row: row[0]):
        counter = CounterMetricFamily(name, "Bytes of the machine", labels=("direction",))
        for _name, direction, value in group:
            counter.add_metric([direction], value or 0)
        yield counter
    if (days := machine.certificate_days_left()) is not None:
        yield gauge("tls_certificate_days", "For how long it is valid", days)


def recent_metrics(facts: Facts) -> Iterator[Metric]:
    """Yield what went wrong lately with runs, certifications and models."""
    text = "Runs of the last hour that reached no verdict"
    by_reason = alert_rules.runs_without_verdict(facts)
    yield by_label("runs_given_up_recently", text, "reason", by_reason)
    text = "Certifications that got worse in the last 24 hours"
    by_region = alert_rules.certifications_worse(facts)
    yield by_label("certifications_worse_recently", text, "region", by_region)
    for days in alert_rules.models_end(facts).values():
        yield gauge("model_end_of_life_days", "Days until a certified model ends", days)
    users = Session.objects.filter(seen_at__gte=clock.now() - timedelta(days=1))
    active = users.values("user").distinct().count()
    yield gauge("active_users", "People who were logged in at the pages in a day", active)


def target_metrics(facts: Facts) -> Iterator[Metric]:
    """Yield how well the targets are met over 30 days, 0 to 1, and what they counted; nothing where
    not measured.
    """
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
    text = "What a target counted: requests, or minutes"
    every = CounterMetricFamily("target_events", text, labels=("target",))
    good = CounterMetricFamily("target_good_events", "Those that were good", labels=("target",))
    for name, all_good, all_total in targets.counters_of_all_time():
        every.add_metric([name], all_total)
        good.add_metric([name], all_good)
    yield from (every, good)
    text = "Events that should not be, in the last hour and day"
    recently = GaugeMetricFamily("target_events_recently", text, labels=("target", "window"))
    for name in sorted({"error_lines", "stops"} & set(facts.recent)):
        for window, length in (("1h", timedelta(hours=1)), ("1d", timedelta(days=1))):
            recently.add_metric([name, window], facts.recent[name][length][1])
    yield recently


def redis_metrics(facts: Facts) -> Iterator[Metric]:
    """Yield how much Redis holds. Raises UNAVAILABLE."""
    info = facts.redis
    yield gauge("redis_up", "Whether Redis answers", 1)
    yield gauge("redis_memory_bytes", "Memory that Redis uses", info["used_memory"])
    limit = alert_rules.redis_memory_limit(facts)
    yield gauge("redis_memory_limit_bytes", "Memory that Redis should not exceed", limit)
    for keys in alert_rules.redis_keys(facts).values():
        yield gauge("redis_keys", "Keys that are no messages of waiting runs", keys)
    evicted = CounterMetricFamily("redis_evicted_keys", "Keys that Redis dropped to make room")
    evicted.add_metric([], info["evicted_keys"])
    yield evicted
