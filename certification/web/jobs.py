"""Jobs as the pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import CharField, Q
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
    State,
    Tier,
    User,
)
from certification.monitoring.queue_stats import QueueCounts, queue_counts
from certification.templatetags.certification import span

JOBS_PER_PAGE = 50
RUNS_PER_PAGE = 50


@dataclass(frozen=True)
class FilteredJobs:
    """A page of jobs, active ones first, then the newest; the filters, and what the queue does."""

    page: Page[Any]
    search: str
    status: str
    tier: str
    backend: str
    queue: QueueCounts

    @cached_property
    def rows(self) -> list[tuple[CertificationJob, str]]:
        """The page's jobs, each with what it certifies."""
        single = [job.model_ids[0] for job in self.page if len(job.model_ids) == 1]
        names = {str(pk): row.name for pk, row in AIModel.objects.in_bulk(single).items()}
        return [(job, what_of(job, names)) for job in self.page]

    @property
    def any_filter(self) -> bool:
        return bool(self.search or self.status or self.tier or self.backend)

    @property
    def sentence(self) -> str:
        """What goes on, in a sentence."""
        counts = self.queue
        if not counts.active and not counts.waiting and not counts.delayed and not counts.paused:
            return _("Nothing runs and nothing waits.")
        waiting = counts.waiting + counts.delayed + counts.paused
        return _("Running: %(active)d. Waiting: %(waiting)d, the oldest for %(oldest)s.") % {
            "active": counts.active,
            "waiting": waiting,
            "oldest": span(counts.oldest_waiting_s),
        }


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


def filtered_jobs(query: QueryDict) -> FilteredJobs:
    """Return the jobs, filtered by the GET parameters `q` (part of an id, an e-mail address, or a
    model's id), `status`, `tier`, `backend` and `page`; unknown values are ignored.
    """
    search = query.get("q", "").strip().replace("\0", "")[:200]
    status, tier, backend = (query.get(name, "") for name in ("status", "tier", "backend"))
    jobs = CertificationJob.objects.select_related("created_by").annotate(
        is_active=Q(status__in=ACTIVE)
    )
    if status in State.values:
        jobs = jobs.filter(status=status)
    if tier in Tier.values:
        jobs = jobs.filter(tier=tier)
    if backend in Backend.values:
        jobs = jobs.filter(backend=backend)
    if search:
        models = AIModel.objects.filter(api_model_id__icontains=search).values_list("pk", flat=True)
        names = [str(pk) for pk in models]
        jobs = jobs.annotate(text_id=Cast("pk", CharField())).filter(
            Q(text_id__startswith=search.lower())
            | Q(created_by__email__icontains=search)
            | Q(model_ids__has_any_keys=names)
        )
    ordered = jobs.order_by("-is_active", "-created_at", "pk")
    return FilteredJobs(
        Paginator(ordered, JOBS_PER_PAGE).get_page(query.get("page")),
        search,
        status if status in State.values else "",
        tier if tier in Tier.values else "",
        backend if backend in Backend.values else "",
        queue_counts(),
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
