"""The rules of the alert engine, as data: what is measured, from which value on it is an alert and
after how long, and what to do first. docs/runbooks.md has a section for each, and
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
from certification.monitoring import channels, queue_stats
from certification.monitoring.queue_stats import QueueCounts
from certification.reasons import Status

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MIN_RUNS = 20  # shares of fewer runs say nothing
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


def routine_late(_facts: Facts) -> Values:
    return {
        name: age.total_seconds() for name, age in RoutineMark.ages().items() if name == RECONCILE
    }


def seconds_since(name: str) -> Values:
    """Return how long ago a routine ended well; one that never did is as old as the installation's
    first routine.
    """
    marks = {mark.name: mark for mark in RoutineMark.objects.filter(name__in=(name, RECONCILE))}
    mark, first = marks.get(name), marks.get(RECONCILE)
    if mark and mark.ended_well:
        return one((clock.now() - mark.ended_at).total_seconds())
    return one((clock.now() - first.since).total_seconds()) if first else {}


def routine_failed(_facts: Facts) -> Values:
    """Return 1 for each routine whose last end was a failure; the drill has a rule of its own."""
    marks = RoutineMark.objects.exclude(name=RESTORE_DRILL).exclude(failed_at=None)
    return {mark.name: 1 for mark in marks if mark.has_failed}


def restore_drill_failed(_facts: Facts) -> Values:
    mark = RoutineMark.objects.filter(name=RESTORE_DRILL).first()
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
    open, this one is its consequence and nobody is notified of it.
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
        lambda _facts: seconds_since(BACKUP),
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
        lambda _facts: seconds_since(RESTORE_DRILL),
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
)


def find_rule(name: str) -> Rule | None:
    return next((rule for rule in RULES if rule.name == name), None)


def describe(episode: AlertEpisode) -> str:
    """Return what is wrong, in the language that is active."""
    rule = find_rule(episode.rule)
    return rule.describe(episode.value, episode.subject) if rule else episode.message
