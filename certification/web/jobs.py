"""Jobs as the pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import CharField, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Cast
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification.engine.dispatch import DispatchResult
from certification.models import (
    ACTIVE,
    AIModel,
    Backend,
    CertificationJob,
    CertificationRun,
    JobType,
    Priority,
    State,
    Tier,
    User,
)
from certification.monitoring.queue_stats import QueueCounts, queue_counts
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


@dataclass(frozen=True)
class FilteredJobs:
    """A page of jobs, active ones first, then the newest; the filters, and what the queue does.
    `ended_without` counts the jobs that ended today (UTC) without any verdict.
    """

    page: Page[Any]
    filters: JobFilters
    queue: QueueCounts
    ended_without: int

    @property
    def version(self) -> str:
        """A value that changes when the list shows something else, but for times."""
        shown = [(job.pk, job.status, job.processed_runs) for job in self.page]
        counts = replace(self.queue, oldest_waiting_s=0.0)
        return polling.fingerprint(shown, counts, self.ended_without)

    @cached_property
    def rows(self) -> list[tuple[CertificationJob, str]]:
        """The page's jobs, each with what it certifies."""
        single = [job.model_ids[0] for job in self.page if len(job.model_ids) == 1]
        names = {str(pk): row.name for pk, row in AIModel.objects.in_bulk(single).items()}
        return [(job, what_of(job, names)) for job in self.page]

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


def what_of(job: CertificationJob, names: Mapping[str, str]) -> str:
    """Return what a job certifies: its model and region where it has one, else how many."""
    models, regions = len(job.model_ids), len(job.regions)
    model = names.get(job.model_ids[0], "") if models == 1 else ""
    what = model or ngettext("%(n)d model", "%(n)d models", models) % {"n": models}
    where = (
        job.regions[0]
        if regions == 1
        else ngettext("%(n)d region", "%(n)d regions", regions) % {"n": regions}
    )
    return f"{what} × {where}"


def filtered_jobs(query: QueryDict, now: datetime) -> FilteredJobs:
    """Return the page of jobs for the GET parameters of JobFilters and `page`."""
    filters = JobFilters.from_query(query)
    jobs = filters.apply(CertificationJob.objects.select_related("created_by"))
    ordered = jobs.annotate(is_active=Q(status__in=ACTIVE)).order_by(
        "-is_active", "-created_at", "pk"
    )
    return FilteredJobs(
        Paginator(ordered, JOBS_PER_PAGE).get_page(query.get("page")),
        filters,
        queue_counts(),
        CertificationJob.objects.filter(
            status=State.FAILED, completed_at__gte=start_of(now.date())
        ).count(),
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
