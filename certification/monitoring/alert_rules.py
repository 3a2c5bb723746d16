"""The rules of the alert engine, as data: what is measured, from which value on it is an alert and
after how long, and what to do first. monitoring/runbooks.py has a runbook for each, and
deploy/monitoring/ the same rules for Prometheus.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from certification.engine import backend
from certification.lib import clock, redis_client
from certification.lib.redis_client import Purpose
from certification.models import (
    AIModel,
    AlertChannel,
    AlertEpisode,
    CertificationRun,
    ModelCertification,
    PauseCause,
    QueuePause,
    RoutineMark,
    Severity,
    State,
    WebhookDelivery,
    sql,
)
from certification.models.routines import BACKUP, RECONCILE, RESTORE_DRILL
from certification.monitoring import channels, machine, queue_stats, targets
from certification.monitoring.queue_stats import QueueCounts
from certification.monitoring.targets import WINDOWS
from certification.reasons import Status

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MIN_RUNS = 20  # shares of fewer runs say nothing
MIN_DEAD_ROWS = 10_000  # a share of small tables says nothing
WORSE = (Status.QUALITY_WARNING, Status.FAILED)  # than certified
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


class Facts:
    """What the rules look at, each read once in a round. Reading raises what servers raise."""

    @cached_property
    def queue(self) -> QueueCounts:
        return queue_stats.queue_counts()

    @cached_property
    def day(self) -> Mapping[str, int]:
        return finished_since(timedelta(days=1))

    @cached_property
    def hour(self) -> Mapping[str, int]:
        return finished_since(timedelta(hours=1))

    @cached_property
    def redis(self) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = redis_client.client(Purpose.BROKER).info()
        return answer

    @cached_property
    def recent(self) -> Mapping[str, Mapping[timedelta, tuple[float, float]]]:
        return targets.recent(clock.now())

    @cached_property
    def marks(self) -> Mapping[str, RoutineMark]:
        return {mark.name: mark for mark in RoutineMark.objects.all()}

    @cached_property
    def database(self) -> Mapping[str, Any]:
        return sql.fetch_one(sql.DATABASE_STATE) or {}

    @cached_property
    def last_end_s(self) -> float:
        """How long ago a run ended last; of none in a day, a day."""
        day = clock.now() - timedelta(days=1)
        runs = CertificationRun.objects.filter(completed_at__gte=day).order_by("-completed_at")
        last = runs.values_list("completed_at", flat=True).first() or day
        return max(0.0, (clock.now() - last).total_seconds())


def finished_since(age: timedelta) -> dict[str, int]:
    """Count the runs that ended in this time, cancelled ones left out."""
    runs = CertificationRun.objects.filter(completed_at__gte=clock.now() - age)
    return runs.exclude(status=State.CANCELLED).aggregate(
        runs=Count("pk"),
        failed=Count("pk", filter=Q(status=State.FAILED)),
        certified=Count("pk", filter=Q(verdict=Status.CERTIFIED)),
        retried=Count("pk", filter=Q(attempt__gt=1)),
    )


Values = Mapping[str, float]  # by subject, "" for the installation; a subject left out is well


def one(value: float) -> Values:
    return {"": value}


def share(counts: Mapping[str, int], part: str) -> Values:
    """Return the per cent of a part of the runs; nothing for too few of them."""
    if counts["runs"] < MIN_RUNS:
        return {}
    return one(100 * counts[part] / counts["runs"])


def redis_unreachable(_facts: Facts) -> Values:
    try:
        redis_client.client(Purpose.BROKER).ping()
    except redis_client.UNAVAILABLE:
        return one(1)
    return {}


def worker_offline(_facts: Facts) -> Values:
    workers = queue_stats.workers.refresh()  # and whoever asks for health need not wait for them
    return one(1) if workers == 0 else {}


def region_unserved(_facts: Facts) -> Values:
    """By pinned region without a worker; nothing while the broker is unavailable."""
    if not settings.PINNED_REGIONS or (taken := queue_stats.workers_by_queue.get()) is None:
        return {}
    return dict.fromkeys(queue_stats.unserved_regions(taken), 1.0)


def nothing_completed(facts: Facts) -> Values:
    """Seconds since a run ended, while runs wait that were there by then."""
    waiting_s = facts.queue.oldest_waiting_s
    is_waiting = facts.queue.waiting or facts.queue.delayed
    return one(min(facts.last_end_s, waiting_s)) if is_waiting else {}


def redis_memory_limit(facts: Facts) -> int:
    """Return the bytes that Redis may use, or should not exceed where it has no limit."""
    return int(facts.redis["maxmemory"] or 500_000_000)


def redis_memory(facts: Facts) -> Values:
    return one(100 * facts.redis["used_memory"] / redis_memory_limit(facts))


def database_connections(_facts: Facts) -> Values:
    row = sql.fetch_one(sql.CONNECTIONS)
    return one(100 * row["used"] / row["allowed"]) if row else {}


def long_queries(_facts: Facts) -> Values:
    return {f"pid {row['pid']}": row["seconds"] for row in sql.fetch_all(sql.LONG_QUERIES)}


def disk_free(_facts: Facts) -> Values:
    usage = shutil.disk_usage(settings.MYIA_ROOT)
    return one(100 * usage.free / usage.total)


def credentials_invalid(_facts: Facts) -> Values:
    pauses = QueuePause.objects.open().filter(backend=backend.name(), cause=PauseCause.CREDENTIALS)
    return one(1) if pauses.exists() else {}


def queue_paused(_facts: Facts) -> Values:
    """By what a person began: a pause of the queue, or read-only mode."""
    pauses = QueuePause.objects.open().exclude(cause=PauseCause.CREDENTIALS)
    return dict.fromkeys(pauses.values_list("cause", flat=True), 1.0)


def routine_late(facts: Facts) -> Values:
    mark = facts.marks.get(RECONCILE)
    return {RECONCILE: (clock.now() - mark.ended_at).total_seconds()} if mark else {}


def seconds_since(facts: Facts, name: str) -> Values:
    """Return how long ago a routine ended well; one that never did is as old as the installation's
    first routine.
    """
    mark, first = facts.marks.get(name), facts.marks.get(RECONCILE)
    if mark and mark.ended_well:
        return one((clock.now() - mark.ended_at).total_seconds())
    return one((clock.now() - first.since).total_seconds()) if first else {}


def routine_failed(facts: Facts) -> Values:
    """Return 1 for each routine whose last end was a failure; the drill has a rule of its own."""
    marks = facts.marks.values()
    return {mark.name: 1 for mark in marks if mark.has_failed and mark.name != RESTORE_DRILL}


def restore_drill_failed(facts: Facts) -> Values:
    mark = facts.marks.get(RESTORE_DRILL)
    return one(1) if mark and mark.has_failed else {}


def expiring(_facts: Facts) -> Values:
    """Certifications that expire within three days and are not being certified again."""
    pairs = ModelCertification.objects.filter(
        status=Status.CERTIFIED,
        expires_at__gt=clock.now(),
        expires_at__lt=clock.now() + timedelta(days=3),
    )
    return one(pairs.count())


def deliveries_given_up(_facts: Facts) -> Values:
    since = clock.now() - timedelta(hours=1)
    given_up = WebhookDelivery.objects.filter(status="given_up", finished_at__gte=since)
    return one(given_up.count())


def channels_failing(_facts: Facts) -> Values:
    """Attempts in a row that failed, by channel, of those that failed more than once."""
    every = {channel.key: channel.name for channel in channels.configured()}
    rows = AlertChannel.objects.filter(pk__in=every, failures__gte=channels.FAILED)
    return {every[row.pk]: row.failures for row in rows}


def known(value: float | None) -> Values:
    """Return a value; nothing where it is not known here."""
    return {} if value is None else one(value)


def bad_share(facts: Facts, name: str) -> Values:
    """Return the per cent of the last five minutes' requests that a target does not count as good;
    nothing for too few of them.
    """
    good, total = facts.recent.get(name, {}).get(WINDOWS["5m"].length, (0.0, 0.0))
    return one(100 * (1 - good / total)) if total >= targets.LEAST else {}


def runs_without_verdict(_facts: Facts) -> Values:
    """Count the runs of the last hour that reached no verdict, by reason."""
    runs = CertificationRun.objects.filter(
        completed_at__gte=clock.now() - timedelta(hours=1), status=State.FAILED
    )
    counts = runs.order_by().values_list("error_reason").annotate(n=Count("pk"))
    return {reason or "unknown": n for reason, n in counts}


def certifications_worse(_facts: Facts) -> Values:
    """Count the pairs that were certified before their run of the last 24 hours, by region."""
    pairs = ModelCertification.objects.filter(
        last_tested_at__gte=clock.now() - timedelta(days=1),
        previous_status=Status.CERTIFIED,
        status__in=WORSE,
    )
    return dict(pairs.order_by().values_list("region_id").annotate(n=Count("pk")))


def models_end(_facts: Facts) -> Values:
    """Days until the next of the models that are certified has its end of life."""
    today = clock.now().date()
    models = AIModel.objects.filter(
        is_active=True, end_of_life_on__gte=today, certifications__status=Status.CERTIFIED
    )
    day = models.order_by("end_of_life_on").values_list("end_of_life_on", flat=True).first()
    return {} if day is None else one((day - today).days)


def dead_rows(_facts: Facts) -> Values:
    rows = sql.fetch_all(sql.DEAD_SHARES, least=MIN_DEAD_ROWS)
    return {row["name"]: row["percent"] for row in rows}


def redis_keys(facts: Facts) -> Values:
    """Count the keys of Redis that are not messages of waiting runs."""
    keys = redis_client.client(Purpose.BROKER).dbsize()
    return one(max(0, keys - facts.queue.waiting - facts.queue.delayed))


def process_memory(_facts: Facts) -> Values:
    """Return the megabytes of each of our processes on this machine."""
    return {name: size / 1e6 for name, size in machine.process_memory().items()}


def budget_burns(long: str, short: str) -> Callable[[Facts], Values]:
    """Return what measures how fast the error budget of each target burns: so fast over the long
    window, and still in the short one.
    """

    def measure(facts: Facts) -> Values:
        paces = {}
        for name in targets.BURNING:
            if sums := facts.recent.get(name):
                target = targets.BY_NAME[name]
                both = (targets.pace(target, WINDOWS[window], sums) for window in (long, short))
                paces[name] = min(both)
        return paces

    return measure


def events_in(facts: Facts, name: str, time: timedelta) -> Values:
    """Return how many events of a kind that should not be there were; nothing where unknown."""
    sums = facts.recent.get(name)
    return one(sums[time][1]) if sums else {}


@dataclass(frozen=True)
class Level:
    """From which value on (beyond it), held for how many seconds, it is how severe."""

    severity: Severity
    beyond: float
    held_s: float = 0.0


@dataclass(frozen=True)
class Rule:
    """`levels` come most severe first. `measure` gives the values by subject; what it does not name
    is well. `promql` is the same value from our metrics, by the label `subject_label`. `sentence`,
    translated when it is shown, takes `{value}` and `{subject}`. While a rule of `because_of` is
    open, this one is its consequence and nobody is notified of it; of a rule with the same
    `subject_label`, while it is open for the same subject.
    """

    name: str
    sentence: str | Promise
    measure: Callable[[Facts], Values]
    promql: str
    levels: tuple[Level, ...]
    command: str  # to try first
    subject_label: str = ""
    is_below: bool = False  # it is an alert below the limits
    because_of: tuple[str, ...] = ()

    def shares_subjects(self, other: Rule) -> bool:
        return self.subject_label != "" and self.subject_label == other.subject_label

    def severities(self, value: float) -> list[Level]:
        """Return the levels whose limit a value is beyond, most severe first."""
        return [
            level
            for level in self.current_levels()
            if (value < level.beyond if self.is_below else value > level.beyond)
        ]

    def current_levels(self) -> tuple[Level, ...]:
        """Return the levels with the limits of the settings: warning, then critical."""
        limits = settings.ALERT_LIMITS.get(self.name, ())
        milder_first = tuple(reversed(self.levels))
        changed = [replace(level, beyond=n) for level, n in zip(milder_first, limits, strict=False)]
        return tuple(reversed((*changed, *milder_first[len(changed) :])))

    def describe(self, value: float, subject: str) -> str:
        """Return the sentence in the language that is active."""
        return str(self.sentence).format(value=f"{value:.4g}", subject=subject)


def share_of(part: str, window: str) -> str:
    """Return the PromQL of `share`: the per cent of a counter of runs over all that ended in a time
    and were not cancelled. Several web hosts give the same counters, which count once.
    """
    runs = f'certification_runs_total{{status!="CANCELLED"}}[{window}]'
    every = f"sum(max without (instance) (increase({runs})))"
    some = f"sum(max without (instance) (increase({part}[{window}])))"
    return f"100 * ({some} or vector(0)) / ({every} >= {MIN_RUNS})"


def burn_rate(window: targets.Window) -> str:
    """Return the PromQL of `targets.pace`."""
    known = f">= {window.least}" if window.least else "> 0"
    good, every = (
        f"sum by (target) (max without (instance) (increase({counter}[{window.name}])))"
        for counter in ("target_good_events_total", "target_events_total")
    )
    allowed = "max by (target) (1 - target_goal_ratio)"
    return f"(1 - {good} / ({every} {known})) / {allowed}"


def recorded(window: str) -> str:
    return f"target:budget_burn:{window}"


def bad_percent(window: str) -> str:
    """Return the PromQL of `bad_share`."""
    good, every = (
        f"sum by (target) (max without (instance) (increase({counter}[{window}])))"
        for counter in ("target_good_events_total", "target_events_total")
    )
    return f"100 * (1 - {good} / ({every} >= {targets.LEAST}))"


BAD_PERCENT = "target:bad_percent:5m"
# What Prometheus computes once for several rules, as its recording rules.
RECORDED = {recorded(name): burn_rate(window) for name, window in WINDOWS.items()} | {
    BAD_PERCENT: bad_percent("5m")
}


def lower_of(long: str, short: str) -> str:
    """Return the PromQL of the lower of two paces, where both are known."""
    first, second = recorded(long), recorded(short)
    return f"({first} <= {second}) or ({second} and {first})"


BURNS_FAST, BURNS = "budget_burns_fast", "budget_burns"
REDIS_DOWN, NO_WORKER, BAD_CREDENTIALS, PAUSED = (
    "redis_unreachable",
    "worker_offline",
    "credentials_invalid",
    "queue_paused",
)
RULES = (
    Rule(
        REDIS_DOWN,
        _("Redis does not answer: jobs wait in the database, limits and caches are off."),
        redis_unreachable,
        "1 - redis_up",
        (Level(CRITICAL, 0, MINUTE),),
        "manage.py status",
    ),
    Rule(
        NO_WORKER,
        _("No worker answers: nothing is certified."),
        worker_offline,
        "workers_alive == bool 0",
        (Level(CRITICAL, 0, 5 * MINUTE), Level(WARNING, 0, MINUTE)),
        "manage.py restart worker",
        because_of=(REDIS_DOWN,),
    ),
    Rule(
        "region_unserved",
        _("No worker takes the runs of the region {subject}."),
        region_unserved,
        "region_unserved",
        (Level(CRITICAL, 0, 5 * MINUTE), Level(WARNING, 0, MINUTE)),
        "WORKER_REGIONS=<region> manage.py run worker",
        subject_label="region",
        because_of=(REDIS_DOWN, NO_WORKER),
    ),
    Rule(
        "nothing_completed",
        _("Runs wait, and none has ended for {value} s."),
        nothing_completed,
        "queue_idle_seconds",
        (Level(CRITICAL, 15 * MINUTE), Level(WARNING, 5 * MINUTE)),
        "manage.py queue show",
        because_of=(REDIS_DOWN, NO_WORKER, BAD_CREDENTIALS, PAUSED),
    ),
    Rule(
        "queue_waiting",
        _("{value} runs wait for a worker."),
        lambda facts: one(facts.queue.waiting + facts.queue.delayed),
        "queue_waiting",
        (Level(CRITICAL, 1000, 15 * MINUTE), Level(WARNING, 100)),
        "manage.py queue show",
        because_of=(REDIS_DOWN, NO_WORKER, BAD_CREDENTIALS, PAUSED),
    ),
    Rule(
        "queue_oldest",
        _("The oldest run has waited for {value} s."),
        lambda facts: one(facts.queue.oldest_waiting_s),
        "queue_oldest_seconds",
        (Level(CRITICAL, HOUR), Level(WARNING, 15 * MINUTE)),
        "manage.py queue show",
        because_of=(REDIS_DOWN, NO_WORKER, BAD_CREDENTIALS, PAUSED),
    ),
    Rule(
        "run_failures",
        _("Runs of the last hour that reached no verdict: {value} %."),
        lambda facts: share(facts.hour, "failed"),
        share_of('certification_runs_total{status="FAILED"}', "1h"),
        (Level(CRITICAL, 10), Level(WARNING, 5)),
        "manage.py job list",
        because_of=(BAD_CREDENTIALS,),
    ),
    Rule(
        "success_rate",
        _("Runs of the last 24 hours that were certified: {value} %."),
        lambda facts: share(facts.day, "certified"),
        share_of('certification_runs_total{verdict="certified"}', "1d"),
        (Level(CRITICAL, 80), Level(WARNING, 95)),
        "manage.py list_uncertified",
        is_below=True,
        because_of=(BAD_CREDENTIALS,),
    ),
    Rule(
        "run_retries",
        _("Runs of the last 24 hours that were handed to another worker: {value} %."),
        lambda facts: share(facts.day, "retried"),
        share_of('run_retries_total{status!="CANCELLED"}', "1d"),
        (Level(WARNING, 10),),
        "manage.py status",
    ),
    Rule(
        BAD_CREDENTIALS,
        _("AWS does not accept the credentials: the bulk queue is paused."),
        credentials_invalid,
        'queue_paused{cause="credentials"}',
        (Level(CRITICAL, 0),),
        "aws sts get-caller-identity",
    ),
    Rule(
        PAUSED,
        _("No run begins: the queue is paused ({subject})."),
        queue_paused,
        'queue_paused{cause!="credentials"}',
        (Level(WARNING, 0),),
        "manage.py queue resume",
        subject_label="cause",
    ),
    Rule(
        "redis_memory",
        _("Redis memory in use: {value} %."),
        redis_memory,
        "100 * redis_memory_bytes / redis_memory_limit_bytes",
        (Level(CRITICAL, 90), Level(WARNING, 80)),
        "manage.py queue show",
    ),
    Rule(
        "redis_evictions",
        _("Redis has evicted {value} keys: messages may be among them."),
        lambda facts: one(facts.redis["evicted_keys"]),
        "redis_evicted_keys_total",
        (Level(WARNING, 0),),
        "manage.py doctor",
    ),
    Rule(
        "database_connections",
        _("Database connections in use: {value} %."),
        database_connections,
        "100 * database_connections / database_connections_allowed",
        (Level(CRITICAL, 95), Level(WARNING, 80)),
        "manage.py doctor",
    ),
    Rule(
        "long_queries",
        _("A query ({subject}) has run for {value} s."),
        long_queries,
        "database_query_seconds",
        (Level(CRITICAL, 30 * MINUTE), Level(WARNING, 5 * MINUTE)),
        "manage.py doctor",
        subject_label="query",
    ),
    Rule(
        "disk_space",
        _("Free disk space: {value} %."),
        disk_free,
        "100 * disk_free_bytes / disk_size_bytes",
        (Level(CRITICAL, 10), Level(WARNING, 30)),
        "manage.py cleanup --dry-run",
        is_below=True,
    ),
    Rule(
        "clock_off",
        _("The clock of a worker differs from the database's by {value} s."),
        lambda _facts: one(abs(clock.offset_s())),
        "abs(clock_offset_seconds)",
        (Level(CRITICAL, 300), Level(WARNING, 60)),
        "timedatectl set-ntp true",
    ),
    Rule(
        "routine_late",
        _("The routine {subject} last succeeded {value} s ago."),
        routine_late,
        'time() - routine_last_success_timestamp_seconds{routine="reconcile"}',
        (Level(CRITICAL, 15 * MINUTE), Level(WARNING, 3 * MINUTE)),
        "manage.py status",
        subject_label="routine",
        because_of=(REDIS_DOWN, NO_WORKER),
    ),
    Rule(
        "routine_failed",
        _("The routine {subject} failed."),
        routine_failed,
        'routine_failed{routine!="restore drill"}',
        (Level(WARNING, 0),),
        "manage.py routine list",
        subject_label="routine",
    ),
    Rule(
        "backup_late",
        _("The last backup was made {value} s ago."),
        lambda facts: seconds_since(facts, BACKUP),
        "backup_age_seconds",
        (Level(CRITICAL, 50 * HOUR), Level(WARNING, 26 * HOUR)),
        "manage.py backup",
    ),
    Rule(
        "restore_drill_failed",
        _("The newest backup could not be restored."),
        restore_drill_failed,
        'routine_failed{routine="restore drill"}',
        (Level(CRITICAL, 0),),
        "manage.py backup verify",
    ),
    Rule(
        "restore_drill_late",
        _("No backup has been restored for {value} s."),
        lambda facts: seconds_since(facts, RESTORE_DRILL),
        "restore_drill_age_seconds",
        (Level(WARNING, 8 * DAY),),
        "manage.py routine run weekly",
        because_of=("restore_drill_failed",),
    ),
    Rule(
        "certifications_expire",
        _("{value} certifications expire within three days."),
        expiring,
        "certifications_expiring",
        (Level(WARNING, 0, HOUR),),
        "manage.py recertify_stale",
    ),
    Rule(
        "deliveries_given_up",
        _("{value} webhook deliveries were given up in the last hour."),
        deliveries_given_up,
        "webhook_deliveries_given_up",
        (Level(WARNING, 0),),
        "manage.py alerts test",
    ),
    Rule(
        "channel_failing",
        _("The alert channel {subject} has failed {value} times in a row."),
        channels_failing,
        "alert_channel_failures",
        (Level(WARNING, channels.FAILED - 1),),
        "manage.py alerts channels",
        subject_label="channel",
    ),
    Rule(
        BURNS_FAST,
        _("The error budget of {subject} was spent {value} times too fast for an hour."),
        budget_burns("1h", "5m"),
        lower_of("1h", "5m"),
        (Level(CRITICAL, 14.4),),
        "manage.py targets",
        subject_label="target",
    ),
    Rule(
        BURNS,
        _("The error budget of {subject} was spent {value} times too fast for six hours."),
        budget_burns("6h", "30m"),
        lower_of("6h", "30m"),
        (Level(WARNING, 6),),
        "manage.py targets",
        subject_label="target",
        because_of=(BURNS_FAST,),
    ),
    Rule(
        "budget_burns_slowly",
        _("The error budget of {subject} was spent {value} times too fast for three days."),
        budget_burns("3d", "6h"),
        lower_of("3d", "6h"),
        (Level(WARNING, 1),),
        "manage.py targets",
        subject_label="target",
        because_of=(BURNS_FAST, BURNS),
    ),
    Rule(
        "error_lines",
        _("The log has {value} error lines of the last 24 hours."),
        lambda facts: events_in(facts, "error_lines", timedelta(days=1)),
        'target_events_recently{target="error_lines", window="1d"}',
        (Level(WARNING, 10),),
        "manage.py logs --errors --by reason",
        because_of=("many_error_lines",),
    ),
    Rule(
        "many_error_lines",
        _("The log has {value} error lines of the last hour."),
        lambda facts: events_in(facts, "error_lines", timedelta(hours=1)),
        'target_events_recently{target="error_lines", window="1h"}',
        (Level(CRITICAL, 100),),
        "manage.py logs --errors --by reason",
    ),
    Rule(
        "process_restarts",
        _("In the last hour, {value} processes ended without being told to."),
        lambda facts: events_in(facts, "stops", timedelta(hours=1)),
        'target_events_recently{target="stops", window="1h"}',
        (Level(CRITICAL, 10), Level(WARNING, 3)),
        "manage.py status",
    ),
    Rule(
        "api_errors",
        _("Requests of the API of the last minutes that failed: {value} %."),
        lambda facts: bad_share(facts, "api_errors"),
        f'{BAD_PERCENT}{{target="api_errors"}}',
        (Level(CRITICAL, 5, 5 * MINUTE), Level(WARNING, 1, 5 * MINUTE)),
        "manage.py logs --errors --by reason",
    ),
    Rule(
        "api_slow",
        _("Requests of the API of the last minutes that took longer than 2 s: {value} %."),
        lambda facts: bad_share(facts, targets.WITHIN_2_S),
        f'{BAD_PERCENT}{{target="{targets.WITHIN_2_S}"}}',
        (Level(WARNING, 5, 10 * MINUTE),),
        "manage.py analyze_performance",
    ),
    Rule(
        "accept_backlog",
        _("{value} connections wait for a web process."),
        lambda _facts: known(machine.accept_backlog()),
        "http_accept_backlog",
        (Level(WARNING, 0, MINUTE),),
        "manage.py status",
    ),
    Rule(
        "runs_given_up",
        _("Runs of the last hour that reached no verdict: {value} ({subject})."),
        runs_without_verdict,
        "runs_given_up_recently",
        (Level(WARNING, 0),),
        "manage.py job list --failed",
        subject_label="reason",
        because_of=(BAD_CREDENTIALS, "run_failures"),
    ),
    Rule(
        "certifications_worse",
        _("Certifications that got worse in {subject} in the last 24 hours: {value}."),
        certifications_worse,
        "certifications_worse_recently",
        (Level(WARNING, 0),),
        "manage.py list_uncertified",
        subject_label="region",
        because_of=(BAD_CREDENTIALS, "success_rate"),
    ),
    Rule(
        "models_end",
        _("The next end of life of a certified model is in {value} days."),
        models_end,
        "model_end_of_life_days",
        (Level(CRITICAL, 7), Level(WARNING, 30)),
        "manage.py sync_catalogue --dry-run",
        is_below=True,
    ),
    Rule(
        "redis_keys",
        _("Redis has {value} keys beside the messages of waiting runs."),
        redis_keys,
        "redis_keys",
        (Level(WARNING, 10_000),),
        "manage.py redis_report",
    ),
    Rule(
        "replication_lag",
        _("A replica of the database is {value} s behind."),
        lambda facts: known(facts.database.get("replication_lag_seconds")),
        "database_replication_lag_seconds",
        (Level(CRITICAL, 5 * MINUTE), Level(WARNING, 30)),
        "manage.py doctor",
    ),
    Rule(
        "dead_rows",
        _("Rows of the table {subject} that are dead: {value} %."),
        dead_rows,
        "database_dead_rows_percent",
        (Level(WARNING, 20, HOUR),),
        "manage.py routine run daily --step vacuum",
        subject_label="table",
    ),
    Rule(
        "transaction_ids",
        _("Transaction ids of the database that are used up: {value} %."),
        lambda facts: known(facts.database.get("wraparound_percent")),
        "database_wraparound_percent",
        (Level(CRITICAL, 75), Level(WARNING, 50)),
        "manage.py routine run daily --step vacuum",
    ),
    Rule(
        "process_memory",
        _("The process {subject} uses {value} MB."),
        process_memory,
        "process_memory_bytes / 1e6",
        (Level(CRITICAL, 500, 5 * MINUTE), Level(WARNING, 400, 5 * MINUTE)),
        "manage.py status",
        subject_label="process",
    ),
    Rule(
        "machine_memory",
        _("Free memory of the machine: {value} %."),
        lambda _facts: one(machine.memory_free_percent()),
        "machine_memory_free_percent",
        (Level(CRITICAL, 5, 5 * MINUTE), Level(WARNING, 15, 5 * MINUTE)),
        "manage.py status",
        is_below=True,
    ),
    Rule(
        "machine_cpu",
        _("The CPUs of the machine are busy: {value} %."),
        lambda _facts: one(machine.cpu_percent()),
        "machine_cpu_percent",
        (Level(WARNING, 80, 10 * MINUTE),),
        "manage.py status",
    ),
    Rule(
        "tls_certificate",
        _("The TLS certificate is valid for {value} more days."),
        lambda _facts: known(machine.certificate_days_left()),
        "tls_certificate_days",
        (Level(CRITICAL, 3), Level(WARNING, 21)),
        "manage.py doctor",
        is_below=True,
    ),
)


def find_rule(name: str) -> Rule | None:
    return next((rule for rule in RULES if rule.name == name), None)


def describe(episode: AlertEpisode) -> str:
    """Return what is wrong, in the language that is active; what an Alertmanager says, as it says
    it.
    """
    rule = find_rule(episode.rule)
    if rule is None or episode.received_at is not None:
        return episode.message
    return rule.describe(episode.value, episode.subject)


def cause_of(rule: Rule, subject: str) -> str:
    """Return the name of an open alert's rule that one of this rule follows from, "" for none."""
    for other in AlertEpisode.objects.open().filter(rule__in=rule.because_of):
        cause = find_rule(other.rule)
        if cause is None or not rule.shares_subjects(cause) or other.subject == subject:
            return other.rule
    return ""
