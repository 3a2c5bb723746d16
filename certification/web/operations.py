"""Whether the system is well and, if not, what to do: the tabs of the Operations page.

Each tab is read with few queries, and nothing is waited for longer than a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.core.paginator import Page, Paginator
from django.db.models import Count, Min
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from certification import labels
from certification.engine import backend
from certification.lib import clock
from certification.models import (
    ACTIVE,
    AlertEpisode,
    AlertSilence,
    Backend,
    CertificationRun,
    Priority,
    QueuePause,
    RoutineMark,
    State,
)
from certification.models.routines import ALERTS as ALERT_ENGINE
from certification.models.routines import RECONCILE
from certification.monitoring import checks, queue_stats, runbooks, site_health, targets
from certification.monitoring.alert_rules import RULES, describe
from certification.monitoring.checks import Reading
from certification.monitoring.queue_stats import ActiveCounts, WorkerReply
from certification.monitoring.targets import Report
from certification.stack import control, embedded
from certification.stack.control import ProcessStatus
from certification.web import audit, capacity, polling, routines

HEALTH, TARGETS, ALERTS, QUEUE = "health", "targets", "alerts", "queue"
ROUTINES_TAB, CAPACITY, AUDIT = "routines", "capacity", "audit"
TABS: tuple[tuple[str, Promise], ...] = (
    (HEALTH, gettext_lazy("Health")),
    (TARGETS, gettext_lazy("Targets")),
    (ALERTS, gettext_lazy("Alerts")),
    (QUEUE, gettext_lazy("Queue")),
    (ROUTINES_TAB, gettext_lazy("Routines")),
    (CAPACITY, gettext_lazy("Capacity")),
    (AUDIT, gettext_lazy("Audit")),
)
EPISODES_PER_PAGE = 25
RUNS_SHOWN = 20
DURATIONS = ("30m", "1h", "2h", "8h", "1d", "7d")
BY_NAME = {rule.name: rule for rule in RULES}


class Dependency(NamedTuple):
    """What a check looks at, in words: what to do when it fails, and which runbook tells more."""

    label: str | Promise
    action: str | Promise
    command: str
    runbook: str


DEPENDENCIES = {
    "database": Dependency(
        gettext_lazy("Database"),
        gettext_lazy("Start PostgreSQL, or correct DATABASE_URL."),
        "manage.py status",
        "database_unreachable",
    ),
    "redis": Dependency(
        gettext_lazy("Redis"),
        gettext_lazy("Start it, or correct REDIS_URL."),
        "manage.py status",
        "redis_unreachable",
    ),
    "worker": Dependency(
        gettext_lazy("Workers"),
        gettext_lazy("Start a worker, or restart one that hangs."),
        "manage.py restart worker",
        "worker_offline",
    ),
    "beat": Dependency(
        gettext_lazy("Beat (repairs every 30 seconds)"),
        gettext_lazy("Restart beat."),
        "manage.py restart beat",
        "routine_late",
    ),
    "alerts": Dependency(
        gettext_lazy("Alert engine (every minute)"),
        gettext_lazy("Restart beat; a worker must take its messages."),
        "manage.py restart beat",
        "routine_late",
    ),
    "storage": Dependency(
        gettext_lazy("Disk"),
        gettext_lazy("Make room: look for old logs and backups."),
        "manage.py cleanup --dry-run",
        "disk_space",
    ),
    "bedrock": Dependency(
        gettext_lazy("AWS Bedrock"),
        gettext_lazy("Correct the credentials or the network."),
        "manage.py doctor",
        "credentials_invalid",
    ),
    "clock": Dependency(
        gettext_lazy("Clock"),
        gettext_lazy("Set the clock of this machine."),
        "timedatectl set-ntp true",
        "clock_off",
    ),
}
EMULATOR = Dependency(
    gettext_lazy("Bedrock (emulator)"),
    gettext_lazy("Start the emulator, or correct BEDROCK_ENDPOINT_URL."),
    "manage.py restart emulator",
    "credentials_invalid",
)
ROUTINES = {"beat": RECONCILE, "alerts": ALERT_ENGINE}  # by the check of their marks
NOT_YET = "not yet"  # the state of a routine that beat had no time to end since the start
PROCESS_STATES: dict[str, str | Promise] = {
    control.RUNNING: pgettext_lazy("process", "running"),
    control.STARTING: pgettext_lazy("process", "starting"),
    control.SILENT: pgettext_lazy("process", "not answering"),
    control.DOWN: pgettext_lazy("process", "down"),
    control.EXTERNAL: pgettext_lazy("process", "elsewhere"),
}


@dataclass(frozen=True)
class HealthRow:
    """How one dependency is. `since` is when an alert of it opened."""

    name: str
    dependency: Dependency
    state: str  # ok, NOT_YET, or "error: ..."
    latency_ms: int | None
    since: datetime | None

    @property
    def is_well(self) -> bool:
        return self.state == "ok"

    @property
    def is_awaited(self) -> bool:
        return self.state == NOT_YET

    @property
    def max_minutes(self) -> int:
        """Return within how many minutes of the start a routine has to end."""
        return int(site_health.MAX_AGES[ROUTINES[self.name]].total_seconds() // 60)

    @property
    def fault(self) -> str:
        return self.state.removeprefix("error: ")


class ProcessRow(NamedTuple):
    """A process of this machine, and its state in words."""

    process: ProcessStatus
    state: str | Promise


@dataclass(frozen=True)
class HealthTab:
    rows: Sequence[HealthRow]
    processes: Sequence[ProcessRow] | None  # None: not known
    routines: Sequence[RoutineMark]

    @property
    def faults(self) -> list[HealthRow]:
        return [row for row in self.rows if not row.is_well and not row.is_awaited]

    @property
    def sentence(self) -> str:
        awaited = [row for row in self.rows if row.is_awaited]
        names = ", ".join(str(row.dependency.label) for row in self.faults or awaited)
        if not self.faults and awaited:
            return _("No fault is known. Has not run yet: %(names)s.") % {"names": names}
        if not self.faults:
            return _("Everything works.")
        return ngettext(
            "%(n)d part does not work: %(names)s.",
            "%(n)d parts do not work: %(names)s.",
            len(self.faults),
        ) % {"n": len(self.faults), "names": names}

    @property
    def version(self) -> str:
        processes = [
            (p.name, p.state, p.pid, p.restarts, p.fault) for p, _state in self.processes or ()
        ]
        marks = [(mark.name, mark.ended_at) for mark in self.routines]
        return polling.fingerprint([(r.name, r.state) for r in self.rows], processes, marks)


def read_processes() -> Sequence[ProcessStatus] | None:
    """Return the processes of this machine; None where nobody may look at its servers."""
    try:
        return control.status()
    except embedded.EmbeddedError:
        return None


PROCESSES = Reading("processes", read_processes)


def load_health() -> HealthTab:
    """Read what /health reads, the clock, the processes of this machine and the routines."""
    states = dict(site_health.everything.get()) | {"clock": clock_state()}
    latencies = {check.name: check.seconds for check in site_health.CHECKS}
    opened = dict(AlertEpisode.objects.open().values_list("rule", "opened_at"))
    marks = {mark.name: mark for mark in RoutineMark.objects.all()}
    rows = [
        HealthRow(
            name,
            dependency := dependency_of(name),
            NOT_YET if state == "ok" and is_awaited(name, marks) else state,
            round(1000 * latencies[name]) if name in latencies else None,
            opened.get(dependency.runbook),
        )
        for name, state in states.items()
    ]
    processes = checks.read_all([PROCESSES])["processes"]
    known = None
    if processes is not None and not isinstance(processes, str):
        known = [ProcessRow(process, PROCESS_STATES[process.state]) for process in processes]
    return HealthTab(rows, known, list(marks.values()))


def dependency_of(name: str) -> Dependency:
    is_emulator = name == "bedrock" and backend.name() == Backend.EMULATOR
    return EMULATOR if is_emulator else DEPENDENCIES[name]


def is_awaited(name: str, marks: Mapping[str, RoutineMark]) -> bool:
    """Return whether a check is of a routine that shows no sign of life. /health gives beat some
    time after a start and calls that "ok"; people are not to read it as a success.
    """
    routine = ROUTINES.get(name)
    if routine is None:
        return False
    mark = marks.get(routine)
    return mark is None or clock.now() - mark.ended_at > site_health.MAX_AGES[routine]


def clock_state() -> str:
    fault = clock.fault()
    return f"error: {fault}" if fault else "ok"


@dataclass(frozen=True)
class AlertRow:
    """An episode with what its rule says to try first."""

    episode: AlertEpisode

    @property
    def sign(self) -> labels.Sign:
        return labels.SEVERITIES[self.episode.severity]

    @property
    def command(self) -> str:
        rule = BY_NAME.get(self.episode.rule)
        return rule.command if rule else ""

    @property
    def message(self) -> str:
        return describe(self.episode)

    @property
    def has_runbook(self) -> bool:
        return self.episode.rule in runbooks.BY_NAME

    @property
    def duration(self) -> timedelta | None:
        begun, ended = self.episode.opened_at, self.episode.resolved_at
        return ended - begun if begun and ended else None


@dataclass(frozen=True)
class AlertFilters:
    """The parameters `severity` and `rule` of the address; unknown values filter nothing."""

    severity: str = ""
    rule: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> AlertFilters:
        severity, rule = query.get("severity", ""), query.get("rule", "")
        return cls(
            severity if severity in ("warning", "critical") else "", rule if rule in BY_NAME else ""
        )

    @property
    def columns(self) -> dict[str, str]:
        named = {"severity": self.severity, "rule": self.rule}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class AlertsTab:
    filters: AlertFilters
    open: Sequence[AlertRow]
    history: Page[AlertEpisode]
    silences: Sequence[AlertSilence]

    @property
    def ended(self) -> list[AlertRow]:
        return [AlertRow(episode) for episode in self.history]

    @property
    def sentence(self) -> str:
        if not self.open:
            return _("No alert is open.")
        critical = sum(row.episode.severity == "critical" for row in self.open)
        return ngettext(
            "%(n)d alert is open, %(critical)d critical.",
            "%(n)d alerts are open, %(critical)d critical.",
            len(self.open),
        ) % {"n": len(self.open), "critical": critical}

    @property
    def version(self) -> str:
        episodes = [row.episode for row in self.open]
        return polling.fingerprint(
            [(e.pk, e.severity, e.message, e.acknowledged_by, e.cause) for e in episodes],
            [(e.pk, e.resolved_at) for e in self.history],
            [(s.pk, s.until) for s in self.silences],
        )


def load_alerts(query: QueryDict) -> AlertsTab:
    """Read the open alerts, worst first, a page of those that ended, and the silences, in four
    queries.
    """
    filters = AlertFilters.from_query(query)
    episodes = AlertEpisode.objects.filter(**filters.columns)
    ended = episodes.filter(opened_at__isnull=False, resolved_at__isnull=False)
    pages = Paginator(ended.order_by("-resolved_at", "pk"), EPISODES_PER_PAGE)
    worst_first = sorted(
        episodes.open(), key=lambda e: (bool(e.cause), e.severity != "critical", e.opened_at)
    )
    return AlertsTab(
        filters,
        [AlertRow(episode) for episode in worst_first],
        pages.get_page(query.get("page")),
        list(AlertSilence.objects.filter(until__gt=clock.now()).select_related("created_by")),
    )


@dataclass(frozen=True)
class WorkerRow:
    """A worker and the runs that it is working on."""

    reply: WorkerReply
    runs: Sequence[CertificationRun]


def claimant_of(run: CertificationRun) -> str:
    """Return the name of the worker that has claimed a run."""
    return run.claimed_by.rpartition(":")[0]


@dataclass(frozen=True)
class QueueTab:
    counts: ActiveCounts
    pauses: Sequence[QueuePause]  # the open ones, of all backends
    regions: Sequence[Mapping[str, Any]]
    oldest: Sequence[CertificationRun]
    active: Sequence[CertificationRun]
    replies: Sequence[WorkerReply] | None  # None: not known yet, or Redis is away
    now: datetime

    @cached_property
    def workers(self) -> list[WorkerRow]:
        return [
            WorkerRow(reply, [run for run in self.active if claimant_of(run) == reply.claimant])
            for reply in self.replies or ()
        ]

    @property
    def causes(self) -> set[str]:
        """What is paused: a form to begin it is of no use."""
        return {pause.cause for pause in self.pauses}

    @property
    def waiting(self) -> int:
        return self.counts.waiting + self.counts.delayed + self.counts.paused

    @property
    def sentence(self) -> str:
        if not self.waiting and not self.counts.active:
            return _("Nothing waits and nothing is worked on.")
        waiting = ngettext("%(n)d run waits", "%(n)d runs wait", self.waiting) % {"n": self.waiting}
        return _("%(waiting)s, %(active)d in progress.") % {
            "waiting": waiting,
            "active": self.counts.active,
        }

    @property
    def version(self) -> str:
        counts = self.counts
        figures = (counts.waiting, counts.active, counts.delayed, counts.paused)
        return polling.fingerprint(
            figures,
            [pause.pk for pause in self.pauses],
            [tuple(row.values()) for row in self.regions],
            [run.pk for run in (*self.oldest, *self.active)],
            self.replies,
        )


def load_queue() -> QueueTab:
    """Read what waits and what is worked on, in five queries over the runs that are active."""
    pauses = list(QueuePause.objects.open())
    runs = CertificationRun.objects.filter(status__in=ACTIVE).order_by("created_at")
    runs = runs.select_related("model", "job")
    by_region = (
        CertificationRun.objects.filter(status__in=ACTIVE)
        .order_by("region_id", "job__priority")
        .values("region_id", "job__priority")
        .annotate(
            waiting=Count("pk", filter=~queue_stats.IN_PROGRESS),
            active=Count("pk", filter=queue_stats.IN_PROGRESS),
            oldest=Min("created_at", filter=~queue_stats.IN_PROGRESS),
        )
    )
    return QueueTab(
        counts=queue_stats.active_counts(QueuePause.strictest(pauses, backend.name())),
        pauses=pauses,
        regions=[row | {"priority": Priority(row["job__priority"]).label} for row in by_region],
        oldest=list(runs.exclude(status=State.PROCESSING)[:RUNS_SHOWN]),
        active=list(runs.filter(status=State.PROCESSING)[:RUNS_SHOWN]),
        replies=queue_stats.workers_seen.get_soon(),
        now=clock.now(),
    )


@dataclass(frozen=True)
class TargetsTab:
    reports: Sequence[Report]

    @property
    def sentence(self) -> str:
        missed = [str(r.target.label) for r in self.reports if r.is_met is False]
        known = sum(report.is_met is not None for report in self.reports)
        if not known:
            return _("Nothing was measured yet: beat counts every minute.")
        if not missed:
            return _("All %(n)d targets that were measured are met.") % {"n": known}
        return _("Missed: %(names)s.") % {"names": ", ".join(missed)}

    @property
    def version(self) -> str:
        return polling.fingerprint([(r.today, r.week, r.month) for r in self.reports])


Tab = (
    HealthTab
    | AlertsTab
    | QueueTab
    | TargetsTab
    | routines.RoutinesTab
    | capacity.CapacityTab
    | audit.AuditTab
)


def load(tab: str, query: QueryDict) -> Tab:
    """Read what a tab shows."""
    match tab:
        case "targets":
            return TargetsTab(targets.reports(clock.now().date()))
        case "alerts":
            return load_alerts(query)
        case "queue":
            return load_queue()
        case "routines":
            return routines.load(query)
        case "capacity":
            return capacity.load(query)
        case "audit":
            return audit.load(query)
        case _:
            return load_health()


def tab_of(query: QueryDict) -> str:
    """Read the parameter `tab`; health for what is none."""
    tab = query.get("tab", "")
    return tab if tab in dict(TABS) else HEALTH
