"""Jobs as the pages show them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from django.db.models import CharField, Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification.engine import backend
from certification.engine.dispatch import DispatchResult
from certification.models import (
    ACTIVE,
    AIModel,
    Backend,
    CertificationJob,
    CertificationRun,
    JobType,
    Priority,
    QueuePause,
    State,
    Tier,
    User,
)
from certification.monitoring.queue_stats import ActiveCounts, active_counts
from certification.templatetags.certification import span
from certification.web import polling

JOBS_PER_PAGE = 50


@dataclass(frozen=True)
class JobFilters:
    """The GET parameters `q` (part of an id, an e-mail address, or a model's id), `status`, `type`,
    `tier`, `priority`, `backend`, `region`, `from` and `to` (days, UTC) and `has=no_verdict` (runs
    that ended without one); unknown values filter nothing.
    """

    search: str = ""
    status: str = ""
    type: str = ""
    tier: str = ""
    priority: str = ""
    backend: str = ""
    region: str = ""
    first_day: date | None = None
    last_day: date | None = None
    has: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> JobFilters:
        choices: dict[str, list[str]] = {
            "status": State.values,
            "type": JobType.values,
            "tier": Tier.values,
            "priority": Priority.values,
            "backend": Backend.values,
            "has": ["no_verdict"],
        }
        chosen = {
            name: value
            for name, values in choices.items()
            if (value := query.get(name, "")) in values
        }
        return cls(
            search=query.get("q", "").strip().replace("\0", "")[:200],
            region=query.get("region", "").replace("\0", "")[:40],
            first_day=day_of(query.get("from", "")),
            last_day=day_of(query.get("to", "")),
            **chosen,
        )

    @property
    def any(self) -> bool:
        return self != JobFilters()

    def apply(self, jobs: QuerySet[CertificationJob]) -> QuerySet[CertificationJob]:
        """Return the jobs that pass the filters."""
        for name in ("status", "type", "tier", "priority", "backend"):
            if value := getattr(self, name):
                jobs = jobs.filter(**{name: value})
        if self.region:
            jobs = jobs.filter(regions__contains=[self.region])
        if self.first_day:
            jobs = jobs.filter(created_at__gte=start_of(self.first_day))
        if self.last_day:
            jobs = jobs.filter(created_at__lt=start_of(self.last_day) + timedelta(days=1))
        if self.has:
            without = CertificationRun.objects.filter(job=OuterRef("pk"), status=State.FAILED)
            jobs = jobs.filter(Exists(without))
        if not self.search:
            return jobs
        models = AIModel.objects.filter(api_model_id__icontains=self.search)
        names = [str(pk) for pk in models.values_list("pk", flat=True)]
        return jobs.annotate(text_id=Cast("pk", CharField())).filter(
            Q(text_id__startswith=self.search.lower())
            | Q(created_by__email__icontains=self.search)
            | Q(model_ids__has_any_keys=names)
        )


def day_of(text: str) -> date | None:
    """Return the day that a text names as 2026-11-30; None for another text."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def start_of(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


class Place(NamedTuple):
    """A job's place in the list: active ones first, then the newest. In an address, where a page
    begins behind it: "0.1764518400000000.7d3f…".
    """

    is_active: bool
    created_at: datetime
    pk: UUID

    @classmethod
    def of(cls, job: CertificationJob) -> Place:
        return cls(job.status in ACTIVE, job.created_at, job.pk)

    @classmethod
    def from_text(cls, text: str) -> Place | None:
        """Return the place that an address names; None for any other text."""
        match = PLACE.fullmatch(text)
        if match is None:
            return None
        try:
            created_at = EPOCH + timedelta(microseconds=int(match[2]))
        except OverflowError:
            return None
        return cls(match[1] == "1", created_at, UUID(match[3]))

    def __str__(self) -> str:
        microseconds = (self.created_at - EPOCH) // timedelta(microseconds=1)
        return f"{self.is_active:d}.{microseconds}.{self.pk.hex}"

    @property
    def behind(self) -> Q:
        """The jobs behind it."""
        later = Q(created_at__lt=self.created_at) | Q(created_at=self.created_at, pk__gt=self.pk)
        ended = ~Q(status__in=ACTIVE)
        return ended | later if self.is_active else ended & later


PLACE = re.compile(r"([01])\.([0-9]{1,18})\.([0-9a-f]{32})")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FilteredJobs:
    """A page of jobs, active ones first, then the newest; the filters, the pauses, and what the
    queue does. `total` counts all jobs that match, `ended_without` the jobs that ended today (UTC)
    without any verdict; `next` is the Place behind which the next page begins, "" on the last one.
    """

    page: Sequence[CertificationJob]
    filters: JobFilters
    pauses: Sequence[QueuePause]
    queue: ActiveCounts
    total: int
    ended_without: int
    is_first: bool
    next: str

    @property
    def version(self) -> str:
        """A value that changes when the list shows something else, but for times."""
        shown = [(job.pk, job.status, job.processed_runs) for job in self.page]
        counts = replace(self.queue, oldest_waiting_s=0.0)
        pauses = [pause.pk for pause in self.pauses]
        return polling.fingerprint(shown, counts, self.total, self.ended_without, pauses)

    @cached_property
    def rows(self) -> list[tuple[CertificationJob, str]]:
        """The page's jobs, each with what it certifies."""
        return [(job, what_of(job)) for job in self.page]

    @property
    def sentence(self) -> str:
        """What goes on, in a sentence."""
        counts = self.queue
        waiting = counts.waiting + counts.delayed + counts.paused
        sentence = _("Nothing runs and nothing waits.")
        if counts.active or waiting:
            sentence = _(
                "Running: %(active)d. Waiting: %(waiting)d, the oldest for %(oldest)s."
            ) % {
                "active": counts.active,
                "waiting": waiting,
                "oldest": span(counts.oldest_waiting_s),
            }
        if not self.ended_without:
            return sentence
        ended = ngettext(
            "%(n)d job ended without a verdict today.",
            "%(n)d jobs ended without a verdict today.",
            self.ended_without,
        ) % {"n": self.ended_without}
        return f"{sentence} {ended}"


def what_of(job: CertificationJob) -> str:
    """Return what a job certifies: its model and region where it has one, else how many. Reads
    `first_model`, a name that is added to its query.
    """
    models, regions = len(job.model_ids), len(job.regions)
    what = (job.__dict__["first_model"] if models == 1 else "") or ngettext(
        "%(n)d model", "%(n)d models", models
    ) % {"n": models}
    where = (
        job.regions[0]
        if regions == 1
        else ngettext("%(n)d region", "%(n)d regions", regions) % {"n": regions}
    )
    return f"{what} × {where}"


def named(jobs: QuerySet[CertificationJob]) -> QuerySet[CertificationJob]:
    """Add `first_model`, the name of each job's first model, as `what_of` reads it."""
    model = AIModel.objects.annotate(text_id=Cast("pk", CharField()))
    name = model.filter(text_id=OuterRef("first_id")).order_by().values("name")
    return jobs.annotate(first_id=KT("model_ids__0")).annotate(first_model=Subquery(name))


def matching_jobs(query: QueryDict) -> QuerySet[CertificationJob]:
    """Return the jobs that pass the GET parameters of JobFilters, as listed."""
    jobs = JobFilters.from_query(query).apply(CertificationJob.objects.select_related("created_by"))
    active_first = jobs.annotate(is_active=Q(status__in=ACTIVE))
    return active_first.order_by("-is_active", "-created_at", "pk")


def filtered_jobs(query: QueryDict, now: datetime) -> FilteredJobs:
    """Return the page of jobs for the GET parameters of JobFilters and `after` (a Place), in five
    queries.
    """
    filters = JobFilters.from_query(query)
    after = Place.from_text(query.get("after", ""))
    jobs = matching_jobs(query)
    listed = jobs.filter(after.behind) if after else jobs
    rows = list(named(listed)[: JOBS_PER_PAGE + 1])
    page = rows[:JOBS_PER_PAGE]
    ended_today = Q(status=State.FAILED, completed_at__gte=start_of(now.date()))
    is_match = Q(pk__in=jobs.order_by().values("pk")) if filters.any else Q()
    counts = CertificationJob.objects.aggregate(
        total=Count("pk", filter=is_match), ended=Count("pk", filter=ended_today)
    )
    pauses = list(QueuePause.objects.open())
    return FilteredJobs(
        page=page,
        filters=filters,
        pauses=pauses,
        queue=active_counts(QueuePause.strictest(pauses, backend.name())),
        total=counts["total"],
        ended_without=counts["ended"],
        is_first=after is None,
        next=str(Place.of(page[-1])) if len(rows) > len(page) else "",
    )


def cancelled_sentence(runs: int) -> str:
    """Return the message shown after a job was cancelled."""
    return ngettext(
        "The job was cancelled with %(runs)d unfinished run.",
        "The job was cancelled with %(runs)d unfinished runs.",
        runs,
    ) % {"runs": runs}


def started_sentence(result: DispatchResult) -> str:
    """Return the message shown after a job was started."""
    if not result.created:
        return _("This job had already been started.")
    runs = result.job.total_runs
    sentence = ngettext(
        "The job was started with %(runs)d run.", "The job was started with %(runs)d runs.", runs
    ) % {"runs": runs}
    if not result.skipped:
        return sentence
    skipped = len(result.skipped)
    left_out = ngettext(
        "%(skipped)d pair was left out: it runs already.",
        "%(skipped)d pairs were left out: they run already.",
        skipped,
    ) % {"skipped": skipped}
    return f"{sentence} {left_out}"


def user_of(request: HttpRequest) -> User | None:
    """Return the logged-in user; None for an anonymous one."""
    return request.user if isinstance(request.user, User) else None
