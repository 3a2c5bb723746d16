"""Jobs as the pages show them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Window
from django.db.models.functions import RowNumber
from django.db.models.lookups import IsNull
from django.http import HttpRequest, QueryDict
from django.utils.translation import ngettext

from certification.models import ACTIVE, CertificationJob, CertificationRun, State, User
from certification.reasons import Status

JOBS_SHOWN = 6  # of the running jobs, and of the finished ones
RUNS_PER_PAGE = 50


@dataclass(frozen=True)
class RecentJobs:
    """The newest running and the last finished jobs."""

    running: Sequence[CertificationJob]
    finished: Sequence[CertificationJob]

    @property
    def fingerprint(self) -> str:
        """A value that changes when a run of a listed job finishes."""
        states = [
            (str(job.pk), job.status, job.processed_runs) for job in (*self.running, *self.finished)
        ]
        return hashlib.blake2s(repr(states).encode(), digest_size=6).hexdigest()


def recent() -> RecentJobs:
    """Return running jobs and the last finished ones, JOBS_SHOWN of each, in one query."""
    position = Window(
        RowNumber(),
        partition_by=[IsNull(F("completed_at"), True)],
        order_by=[F("completed_at").desc(nulls_first=True), F("created_at").desc()],
    )
    jobs = list(
        CertificationJob.objects.select_related("created_by")
        .annotate(position=position)
        .filter(position__lte=JOBS_SHOWN)
        .order_by("position")
    )
    return RecentJobs(
        [job for job in jobs if job.status in ACTIVE],
        [job for job in jobs if job.status not in ACTIVE],
    )


@dataclass(frozen=True)
class FilteredRuns:
    """A page of a job's runs, and the counts of all its runs by status and by verdict."""

    page: Page[CertificationRun]
    status: str
    verdict: str
    statuses: Counter[str]
    verdicts: Counter[str]

    @cached_property
    def status_counts(self) -> list[tuple[str, str, int]]:
        """(value, label, count) of each status that occurs."""
        return [(s.value, str(s.label), self.statuses[s]) for s in State if self.statuses[s]]

    @cached_property
    def verdict_counts(self) -> list[tuple[str, int]]:
        return [(v.value, self.verdicts[v]) for v in Status if self.verdicts[v]]

    @property
    def retryable(self) -> int:
        return self.statuses[State.FAILED]


def filtered_runs(job: CertificationJob, query: QueryDict) -> FilteredRuns:
    """Return the runs of a job, filtered by the GET parameters `status`, `verdict` and `page`."""
    statuses: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for row in job.runs.order_by().values("status", "verdict").annotate(n=Count("pk")):
        statuses[row["status"]] += row["n"]
        verdicts[row["verdict"]] += row["n"]
    status, verdict = query.get("status", ""), query.get("verdict", "")
    runs = job.runs.select_related("model").order_by(
        "model__vendor", "model__name", "model__api_model_id", "region"
    )
    if status in State.values:
        runs = runs.filter(status=status)
    if verdict in set(Status):
        runs = runs.filter(verdict=verdict)
    page = Paginator(runs, RUNS_PER_PAGE).get_page(query.get("page"))
    return FilteredRuns(page, status, verdict, statuses, verdicts)


def cancelled_sentence(runs: int) -> str:
    """Return the message shown after a job was cancelled."""
    return ngettext(
        "The job was cancelled with %(runs)d unfinished run.",
        "The job was cancelled with %(runs)d unfinished runs.",
        runs,
    ) % {"runs": runs}


def user_of(request: HttpRequest) -> User | None:
    """Return the logged-in user; None for an anonymous one."""
    return request.user if isinstance(request.user, User) else None
