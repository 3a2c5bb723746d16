"""What needs somebody now: the first page. Each of its blocks is read by itself, so that one that
cannot be read leaves the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import structlog
from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, F, Max, Min, OuterRef, Q, Sum, TextField, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce, JSONObject
from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.engine import backend
from certification.lib import clock
from certification.lib.shared_cache import ComputedValue
from certification.models import (
    ACTIVE,
    AIModel,
    AlertEpisode,
    Backend,
    CertificationJob,
    CertificationRun,
    Dismissal,
    ModelCertification,
    QueuePause,
    State,
    User,
    validity,
)
from certification.monitoring import queue_stats
from certification.monitoring.bedrock_status import bedrock_status
from certification.monitoring.queue_stats import ActiveCounts
from certification.reasons import Status
from certification.web import attention, polling
from certification.web.attention import Attention, RetiringModel, StatusGroup
from certification.web.matrix_cells import is_worse

log = structlog.get_logger(__name__)
T = TypeVar("T")

MAX_DAYS, DEFAULT_DAYS = 90, 7
CAUSES_SHOWN = 8
JOBS_SHOWN = 6
CHANGES_SHOWN = 8
EXPIRES_SOON, RETIRES_SOON = timedelta(days=7), timedelta(days=30)
FIGURES_TTL_S = 60


@dataclass(frozen=True)
class Block(Generic[T]):
    """A part of the page; without a value where it could not be read."""

    name: str
    value: T | None = None

    @property
    def failed(self) -> bool:
        return self.value is None


def read_block(name: str, read: Callable[[], T]) -> Block[T]:
    """Read one block. What keeps it from being read is logged and costs this block alone."""
    try:
        return Block(name, read())
    except Exception:  # the edge of a block: whatever it is, the others can be read
        log.exception("overview_block_unreadable", block=name)
        return Block(name)


def read_groups(now: datetime) -> list[StatusGroup]:
    """Group the tested pairs by status and reason, in one query. What has expired is not_tested."""
    soon = Q(expires_at__gt=now, expires_at__lte=now + EXPIRES_SOON)
    rows = (
        ModelCertification.objects.in_matrix()
        .values(current=validity.current_status_expression(now), reason=F("run__error_reason"))
        .annotate(
            pairs=Count("pk"),
            models=Count("model", distinct=True),
            regions=Count("region", distinct=True),
            vendors=ArrayAgg("model__vendor", distinct=True),
            since=Min("run__completed_at"),
            expired=Count("pk", filter=validity.expired(now)),
            expire_soon=Count("pk", filter=soon),
            emulated=Count("pk", filter=Q(backend=Backend.EMULATOR)),
        )
        .values_list("current", *StatusGroup._fields[1:])
    )
    return [StatusGroup(row[0], row[1] or "", *row[2:]) for row in rows]


def read_alerts() -> list[AlertEpisode]:
    """Return the open alerts that follow from no other one."""
    return list(AlertEpisode.objects.open().filter(cause=""))


@dataclass(frozen=True)
class RunningJob:
    """An unfinished job with its runs by verdict; a run without one counts under its state."""

    job: CertificationJob
    results: Mapping[str, int]
    now: datetime

    @property
    def bar(self) -> list[tuple[str, float, float]]:
        """(status, start, width) of each part of its bar, in per cent of the runs."""
        parts, start = [], 0.0
        for status in (*Status, State.FAILED):
            width = 100 * self.results.get(status, 0) / max(1, self.job.total_runs)
            if width:
                parts.append((str(status), round(start, 2), round(width, 2)))
            start += width
        return parts

    @property
    def seconds_left(self) -> float | None:
        """Return how long it takes at its present rate; None before its first run has ended."""
        done, begun = self.job.processed_runs, self.job.started_at
        if not done or begun is None:
            return None
        return (self.now - begun).total_seconds() / done * (self.job.total_runs - done)

    @property
    def sentence(self) -> str:
        verdicts = [
            labels.counted(status, n) for status in Status if (n := self.results.get(status, 0))
        ]
        if without := self.results.get(State.FAILED, 0):
            verdicts.append(_("%(n)d without a verdict") % {"n": without})
        done = _("%(done)d of %(total)d runs finished") % {
            "done": self.job.processed_runs,
            "total": self.job.total_runs,
        }
        return f"{done}: {', '.join(verdicts)}" if verdicts else done


def read_running(now: datetime) -> list[RunningJob]:
    """Return the newest unfinished jobs with their ended runs by verdict, in one query."""
    ended = (
        CertificationRun.objects.filter(job=OuterRef("pk"))
        .exclude(status__in=ACTIVE)
        .order_by()
        .values("status", "verdict")
        .annotate(n=Count("pk"))
        .values(json=JSONObject(status="status", verdict="verdict", n="n"))
    )
    jobs = (
        CertificationJob.objects.open()
        .select_related("created_by")
        .defer("model_ids", "config")
        .annotate(ended=ArraySubquery(ended))
        .order_by("-created_at")[:JOBS_SHOWN]
    )
    result = []
    for job in jobs:
        counts: Counter[str] = Counter()
        for row in job.ended:
            counts[row["verdict"] or row["status"]] += row["n"]
        result.append(RunningJob(job, counts, now))
    return result


class ChangeRow(NamedTuple):
    """A certification, its run and what it was before, in the order of its query."""

    model_id: UUID
    model__name: str
    region_id: str
    status: str
    previous_status: str
    expires_at: datetime | None
    expired_at: datetime | None
    run_then: dict[str, str] | None
    run_id: UUID
    run__error_reason: str
    run__completed_at: datetime


@dataclass(frozen=True)
class Change:
    """A pair whose verdict differs from the one that it had when the period began. `before` is ""
    where it had none.
    """

    row: ChangeRow
    before: str
    after: str

    @property
    def is_worse(self) -> bool:
        return is_worse(self.before, self.after)

    @property
    def order(self) -> tuple[int, float]:
        """The worse ones first, then the better, then the new; the newest of each first."""
        kind = 0 if self.is_worse else 1 if self.before else 2
        return (kind, -self.row.run__completed_at.timestamp())


@dataclass(frozen=True)
class Changes:
    rows: Sequence[Change]

    @property
    def worse(self) -> int:
        return sum(change.is_worse for change in self.rows)

    @property
    def first(self) -> Sequence[Change]:
        return self.rows[:CHANGES_SHOWN]


def read_changes(now: datetime, days: int) -> Changes:
    """Return the pairs whose verdict changed in the last days, the worse ones first, in one query.

    What expired is compared by what it was.
    """
    begin = now - timedelta(days=days)
    pairs = ModelCertification.objects.in_matrix().filter(run__completed_at__gt=begin)
    # the database looks into the past of few, and leaves out what is as it was
    pairs = pairs.may_have_changed_since(begin, now)
    then = Coalesce(KT("run_then__verdict"), Value("", TextField()))
    may_differ = ~Q(verdict_then=F("status")) | validity.expired(now)
    pairs = pairs.with_run_at(begin).annotate(verdict_then=then)
    rows = pairs.filter(may_differ).values_list(*ChangeRow._fields)
    changes = [
        Change(row, (row.run_then or {}).get("verdict", ""), validity.shown_status(row, now))
        for row in map(ChangeRow._make, rows)
    ]
    changed = [change for change in changes if change.before != change.after]
    return Changes(sorted(changed, key=lambda change: change.order))


@dataclass(frozen=True)
class Figures:
    """What changes slowly, the same for everybody for FIGURES_TTL_S: how many pairs are offered,
    when that was last read from AWS, and the models that AWS retires soon. Of the last 24 hours:
    runs that ended, those that certified, and those that reached no verdict by their reason.
    """

    offered: int
    synced_at: datetime | None
    retiring: list[RetiringModel]
    finished: int
    certified: int
    without_verdict: dict[str, int] = field(default_factory=dict)
    usd_this_month: float = 0.0
    usd_last_month: float = 0.0

    @property
    def success_rate(self) -> float | None:
        return 100 * self.certified / self.finished if self.finished else None


def read_figures(now: datetime) -> Figures:
    """Read the figures in three queries."""
    is_offered = Q(routes__region__enabled=True)
    models = AIModel.objects.active().annotate(
        offered=Count("routes__region", filter=is_offered, distinct=True),
        seen_at=Max("routes__last_seen_at", filter=is_offered),
    )
    catalogue = list(models.order_by("end_of_life_on", "name"))
    last_day = now.date() + RETIRES_SOON

    day = CertificationRun.objects.filter(completed_at__gte=now - timedelta(days=1)).order_by()
    ended = day.exclude(status=State.CANCELLED).values("status", "verdict", "error_reason")
    rows = list(ended.annotate(n=Count("pk")))
    without: Counter[str] = Counter()
    for row in rows:
        if row["status"] == State.FAILED:
            without[row["error_reason"]] += row["n"]

    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = (month - timedelta(days=1)).replace(day=1)
    cost = CertificationJob.objects.filter(created_at__gte=last_month).aggregate(
        now=Sum("cost_usd", filter=Q(created_at__gte=month)),
        then=Sum("cost_usd", filter=Q(created_at__lt=month)),
    )
    return Figures(
        offered=sum(model.offered for model in catalogue),
        synced_at=max((model.seen_at for model in catalogue if model.seen_at), default=None),
        retiring=[
            RetiringModel(model.name, model.api_model_id, model.end_of_life_on)
            for model in catalogue
            if model.end_of_life_on and model.end_of_life_on <= last_day
        ],
        finished=sum(row["n"] for row in rows),
        certified=sum(row["n"] for row in rows if row["verdict"] == Status.CERTIFIED),
        without_verdict=dict(without),
        usd_this_month=float(cost["now"] or 0),
        usd_last_month=float(cost["then"] or 0),
    )


@dataclass(frozen=True)
class Overview:
    """The page. `workers` is None while it is not known how many there are."""

    days: int
    now: datetime
    groups: Block[list[StatusGroup]]
    pauses: Block[list[QueuePause]]
    alerts: Block[list[AlertEpisode]]
    running: Block[list[RunningJob]]
    changes: Block[Changes]
    queue: Block[ActiveCounts]
    figures: Block[Figures]
    dismissals: Block[dict[str, str]]  # {key: state} of what the reader has set aside
    workers: int | None
    has_models: bool

    @cached_property
    def causes(self) -> list[Attention]:
        """What needs the reader: all causes but those that they set aside as they are."""
        dismissed = self.dismissals.value or {}
        return [cause for cause in self.every_cause if dismissed.get(cause.key) != cause.state]

    @cached_property
    def dismissed(self) -> list[Attention]:
        return [cause for cause in self.every_cause if cause not in self.causes]

    @cached_property
    def every_cause(self) -> list[Attention]:
        """What needs somebody, worst first and then the largest."""
        groups = self.groups.value or []
        items = [attention.of_pause(pause) for pause in self.pauses.value or ()]
        if self.workers == 0:
            items.append(
                Attention(
                    key="no-worker",
                    severity=attention.CRITICAL,
                    title=_("No worker is running"),
                    scope=_("Jobs that are started now would wait."),
                    who=labels.DOERS["operator"],
                    fix=_("Start one with: manage.py up"),
                    url=reverse("runbook", args=["worker_offline"]),
                )
            )
        shown = {"worker_offline"} if self.workers == 0 else set()
        shown |= {"credentials_invalid", "queue_paused"} if self.pauses.value else set()
        items += [attention.of_alert(e) for e in self.alerts.value or () if e.rule not in shown]
        items += [attention.of_group(g) for g in groups if g.status in attention.GROUP_SEVERITIES]
        if self.changes.value and self.changes.value.worse:
            items.append(attention.of_worse(self.changes.value.worse, self.days))
        if self.figures.value and self.figures.value.retiring:
            items.append(attention.of_retiring(self.figures.value.retiring))
        if expiry := attention.of_expiry(groups):
            items.append(expiry)
        if self.figures.value and self.figures.value.without_verdict:
            items.append(attention.without_verdict(self.figures.value.without_verdict))
        return sorted(items, key=lambda item: (item.severity, -item.count))

    @property
    def first_causes(self) -> list[Attention]:
        return self.causes[:CAUSES_SHOWN]

    @property
    def other_causes(self) -> list[Attention]:
        return self.causes[CAUSES_SHOWN:]

    @property
    def unread(self) -> bool:
        """Whether a block that attention is gathered from could not be read."""
        blocks = (
            *(self.groups, self.pauses),
            *(self.alerts, self.figures, self.dismissals),
        )
        return any(block.failed for block in blocks)

    @property
    def usable(self) -> int:
        return sum(g.pairs for g in self.groups.value or () if g.status == Status.CERTIFIED)

    @property
    def waiting(self) -> int:
        queue = self.queue.value
        return queue.waiting + queue.delayed + queue.paused if queue else 0

    @property
    def day_choices(self) -> list[int]:
        return sorted({1, DEFAULT_DAYS, 30, self.days})

    @property
    def tested(self) -> int:
        return sum(group.pairs for group in self.groups.value or ())

    @property
    def is_first_day(self) -> bool:
        """Whether nothing was ever certified here: the page shows the first steps."""
        return not self.groups.failed and not self.tested and not self.running.value

    @property
    def emulated(self) -> bool:
        return any(group.emulated for group in self.groups.value or ())

    @cached_property
    def sentence(self) -> str:
        """What this page says, in a sentence; only of what could be read."""
        parts = [self.attention_words]
        if self.groups.value is not None and self.figures.value is not None:
            parts.append(
                _("%(usable)d of %(offered)d pairs are usable")
                % {"usable": self.usable, "offered": self.figures.value.offered}
            )
        if self.queue.value is not None:
            parts.append(queue_words(self.queue.value))
        return "; ".join(parts) + "."

    @property
    def attention_words(self) -> str:
        n = len(self.causes)
        if n:
            return ngettext("%(n)d thing needs attention", "%(n)d things need attention", n) % {
                "n": n
            }
        if self.unread:
            return _("Part of this page could not be read")
        return _("Nothing needs attention")

    @property
    def version(self) -> str:
        """A text that changes with anything that the page shows, but for ages."""
        jobs = [
            (j.job.pk, j.job.status, sorted(j.results.items())) for j in self.running.value or ()
        ]
        queue = self.queue.value
        counts = (queue.active, queue.waiting, queue.delayed, queue.paused) if queue else None
        changes = self.changes.value.rows if self.changes.value else None
        return polling.fingerprint(
            self.causes,
            len(self.dismissed),
            self.sentence,
            jobs,
            counts,
            changes,
            self.figures.value,
            self.workers,
        )

    @property
    def backend(self) -> Backend:
        return backend.name()

    @property
    def steps(self) -> list[tuple[str, str, bool]]:
        """(what, command, done) of the way to a first certification."""
        status = None if self.backend == Backend.EMULATOR else bedrock_status.get_soon()
        credentials = self.backend == Backend.EMULATOR or bool(status and status.valid)
        return [
            (_("Load the models, regions and routes"), "manage.py load_catalogue", self.has_models),
            (_("Check that AWS answers"), "manage.py status", credentials),
            (
                _("Certify one model in one region"),
                "manage.py certify MODEL --regions us-east-1",
                False,
            ),
        ]


def queue_words(queue: ActiveCounts) -> str:
    waiting = queue.waiting + queue.delayed + queue.paused
    parts = []
    if queue.active:
        parts.append(
            ngettext("%(n)d run in progress", "%(n)d runs in progress", queue.active)
            % {"n": queue.active}
        )
    if waiting:
        parts.append(ngettext("%(n)d run waiting", "%(n)d runs waiting", waiting) % {"n": waiting})
    return ", ".join(parts) if parts else _("nothing is waiting")


def days_of(query: QueryDict) -> int:
    """Read the parameter `days`, 1 to MAX_DAYS; DEFAULT_DAYS for what is no such number."""
    text = query.get("days", "")
    days = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else DEFAULT_DAYS
    return days if 1 <= days <= MAX_DAYS else DEFAULT_DAYS


def load(days: int, now: datetime, user: User | None) -> Overview:
    """Read the page's blocks, in at most ten queries; figures are shared for FIGURES_TTL_S."""
    pauses = read_block("pauses", lambda: list(QueuePause.objects.open()))
    pause = QueuePause.strictest(pauses.value or (), backend.name())
    groups = read_block("groups", lambda: read_groups(now))
    return Overview(
        days=days,
        now=now,
        groups=groups,
        pauses=pauses,
        alerts=read_block("alerts", read_alerts),
        running=read_block("running", lambda: read_running(now)),
        changes=read_block("changes", lambda: read_changes(now, days)),
        queue=read_block("queue", lambda: queue_stats.active_counts(pause)),
        figures=read_block("figures", figures.get),
        dismissals=read_block("dismissals", lambda: read_dismissals(user)),
        workers=queue_stats.workers.get_soon(),
        has_models=bool(groups.value) or AIModel.objects.active().exists(),
    )


def read_dismissals(user: User | None) -> dict[str, str]:
    return dict(Dismissal.objects.filter(user=user).values_list("key", "state"))


def compute_figures() -> Figures:
    return read_figures(clock.now())


figures = ComputedValue("overview-figures", Figures, lambda _: FIGURES_TTL_S, compute_figures)
