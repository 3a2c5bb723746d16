"""Cancel or retry several jobs at once: the confirmation, and the act."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from certification.engine import dispatch
from certification.models import ACTIVE, CertificationJob, State
from certification.web import jobs
from certification.web.views import OPERATE

log = structlog.get_logger(__name__)
MAX_JOBS = 200  # at once; the confirmation lists each
# The runs of a job that an action concerns.
CONCERNED = {"cancel": Q(runs__status__in=ACTIVE), "retry": Q(runs__status=State.FAILED)}


@dataclass(frozen=True)
class Selection:
    """The jobs that an action concerns, each with its number of `concerned` runs, and how many of
    those chosen it does not concern.
    """

    action: str
    jobs: Sequence[CertificationJob]
    others: int

    @property
    def runs(self) -> int:
        return sum(job.__dict__["concerned"] for job in self.jobs)


def select(data: QueryDict) -> Selection:
    """Return what `action` concerns of the jobs that `job` names, or with `all` of those that pass
    the filters of the list; MAX_JOBS at most.
    """
    action = data.get("action", "")
    action = action if action in CONCERNED else "cancel"
    matching = jobs.matching_jobs(data)
    if data.get("all") != "1":
        matching = CertificationJob.objects.filter(pk__in=uuids(data.getlist("job")))
    keys = list(matching.values_list("pk", flat=True)[:MAX_JOBS])
    rows = (
        CertificationJob.objects.filter(pk__in=keys)
        .annotate(concerned=Count("runs", filter=CONCERNED[action]))
        .filter(concerned__gt=0)
        .order_by("-created_at", "pk")
    )
    concerned = list(jobs.named(rows))
    return Selection(action, concerned, len(keys) - len(concerned))


def uuids(texts: Sequence[str]) -> list[UUID]:
    """Return the ids among the texts."""
    ids = []
    for text in texts:
        try:
            ids.append(UUID(text))
        except ValueError:
            continue
    return ids


@permission_required(OPERATE, raise_exception=True)
@require_http_methods(["GET", "HEAD", "POST"])
def selection(request: HttpRequest) -> HttpResponse:
    """Show what would be done (GET), or do it to the jobs that were shown (POST)."""
    chosen = select(request.POST if request.method == "POST" else request.GET)
    if not chosen.jobs:
        messages.warning(request, _("None of these jobs has such a run."))
        return redirect("jobs")
    if request.method != "POST":
        rows = [(job, jobs.what_of(job)) for job in chosen.jobs]
        context = {"selection": chosen, "rows": rows}
        return render(request, "certification/job_selection.html", context)
    act: Callable[[HttpRequest, Selection], None] = cancel if chosen.action == "cancel" else retry
    act(request, chosen)
    return redirect("jobs")


def cancel(request: HttpRequest, chosen: Selection) -> None:
    message = f"The job was cancelled by {request.user}."
    counts = [n for job in chosen.jobs if (n := job.cancel(message)) is not None]
    log.info("jobs_cancelled", jobs=len(counts), runs=sum(counts), by=request.user.pk)
    words = ngettext("%(n)d job was cancelled.", "%(n)d jobs were cancelled.", len(counts))
    messages.success(request, words % {"n": len(counts)})


def retry(request: HttpRequest, chosen: Selection) -> None:
    """Start a job for each one's runs without a verdict; each that cannot be is said."""
    started = 0
    for job in chosen.jobs:
        try:
            dispatch.retry(job, jobs.user_of(request))
        except dispatch.DispatchError as error:
            messages.error(request, f"{job}: {error}")
        else:
            started += 1
    log.info("jobs_retried", jobs=started, by=request.user.pk)
    if started:
        words = ngettext("%(n)d new job was started.", "%(n)d new jobs were started.", started)
        messages.success(request, words % {"n": started})
