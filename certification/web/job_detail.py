"""One job as its page shows it: how far it is, what came out, why it waits, how long it takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from itertools import groupby
from statistics import fmean
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Sum
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from certification import labels
from certification.engine import estimate
from certification.models import (
    ACTIVE,
    TERMINAL,
    WAITING,
    CertificationJob,
    CertificationRun,
    RunEvent,
    State,
)
from certification.reasons import Status
from certification.templatetags.certification import minutes
from certification.web import charts, polling, run_log, waiting
from certification.web.waiting import Cause

RUNS_PER_PAGE = 50
GRID_RUNS = 300  # a job of more is drawn by vendor
BARS = 30
REFRESH_S = 15  # of a page whose runs are as they were
MINUTES_FROM_S = 600  # where a Gantt counts in minutes
GROUPS: dict[str, str | Promise] = {
    "attention": gettext_lazy("Need attention"),
    "running": gettext_lazy("Running"),
    "waiting": gettext_lazy("Waiting"),
    "fine": gettext_lazy("Certified"),
    "cancelled": gettext_lazy("Cancelled"),
}


@cache
def group_of(status: str, verdict: str) -> str:
    """Return the key of GROUPS that runs of a status and verdict belong to."""
    if status in WAITING:
        return "waiting"
    if status == State.PROCESSING:
        return "running"
    if status == State.CANCELLED:
        return "cancelled"
    return "fine" if verdict == Status.CERTIFIED else "attention"


def sign_of(status: str, verdict: str) -> labels.Sign:
    known = labels.STATUSES.get(verdict) if status == State.COMPLETED else None
    return known or labels.RUN_STATES[status]


class Row(NamedTuple):
    """The columns of a run that are read of every one, in the order of their query."""

    pk: UUID
    model_id: UUID
    name: str
    vendor: str
    api_model_id: str
    region_id: str
    status: str
    verdict: str
    rating: str
    score: int | None
    attempt: int
    took: timedelta | None

    @property
    def group(self) -> str:
        return group_of(self.status, self.verdict)

    @property
    def sign(self) -> labels.Sign:
        return sign_of(self.status, self.verdict)

    @property
    def css(self) -> str:
        is_judged = self.status == State.COMPLETED and self.verdict in labels.STATUSES
        return f"s-{self.verdict}" if is_judged else f"j-{self.status}"


ROW_COLUMNS = (
    "pk", "model_id", "model__name", "model__vendor", "model__api_model_id", "region_id", "status",
    "verdict", "rating", "score", "attempt", F("completed_at") - F("started_at"),
)  # fmt: skip


class Cell(NamedTuple):
    """One cell of the grid: a run, or the counts of a vendor's runs in a region."""

    href: str
    css: str
    symbol: str
    label: str
    text: str


@dataclass(frozen=True)
class RunFilters:
    """The GET parameters `status`, `verdict`, `region`, `vendor`, `model` and `q`; unknown statuses
    and verdicts filter nothing.
    """

    status: str = ""
    verdict: str = ""
    region: str = ""
    vendor: str = ""
    model: str = ""
    search: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> RunFilters:
        status, verdict = query.get("status", ""), query.get("verdict", "")
        return cls(
            status if status in State.values else "",
            verdict if verdict in set(Status) else "",
            query.get("region", "")[:40],
            query.get("vendor", "")[:200],
            query.get("model", "")[:300],
            query.get("q", "").strip()[:200],
        )

    @property
    def any(self) -> bool:
        return self != RunFilters()

    def match(self, row: Row) -> bool:
        """Return whether a run passes the filters."""
        if not self.any:
            return True
        text = f"{row.name} {row.api_model_id} {row.vendor} {row.region_id} {row.pk}".casefold()
        return (
            self.status in ("", row.status)
            and self.verdict in ("", row.verdict)
            and self.region in ("", row.region_id)
            and self.vendor in ("", row.vendor)
            and self.model in ("", row.api_model_id, str(row.model_id))
            and all(word in text for word in self.search.casefold().split())
        )


def summed(numbers: Iterable[tuple[str, int]]) -> Counter[str]:
    """Add up the numbers of each key."""
    total: Counter[str] = Counter()
    for key, number in numbers:
        total[key] += number
    return total


@dataclass(frozen=True)
class JobDetail:
    """A job, all its runs in few columns, the page of those that pass the filters, why some wait,
    and the mean seconds of a run where any is known.
    """

    job: CertificationJob
    rows: Sequence[Row]
    filters: RunFilters
    page: Page[UUID]
    runs: Sequence[CertificationRun]  # of the page
    causes: Sequence[Cause]
    seconds_per_run: float | None

    @cached_property
    def log(self) -> list[run_log.Entry]:
        """What happened to the page's runs, the newest first."""
        return run_log.of_runs(self.runs)

    @cached_property
    def states(self) -> Counter[tuple[str, str]]:
        """How many runs have each (status, verdict)."""
        return Counter((row.status, row.verdict) for row in self.rows)

    @cached_property
    def statuses(self) -> Counter[str]:
        return summed((status, n) for (status, _verdict), n in self.states.items())

    @cached_property
    def verdicts(self) -> Counter[str]:
        return summed((verdict, n) for (_status, verdict), n in self.states.items() if verdict)

    @property
    def status_counts(self) -> list[tuple[str, str, int]]:
        """(value, label, count) of each status that occurs."""
        return [(s.value, str(s.label), self.statuses[s]) for s in State if self.statuses[s]]

    @property
    def verdict_counts(self) -> list[tuple[str, int]]:
        return [(v.value, self.verdicts[v]) for v in Status if self.verdicts[v]]

    @property
    def retryable(self) -> int:
        return self.statuses[State.FAILED]

    @cached_property
    def done(self) -> int:
        return sum(self.statuses[state] for state in TERMINAL)

    @property
    def sentence(self) -> str:
        """How far the job is and what came out."""
        total = len(self.rows)
        progress = ngettext(
            "%(done)d of %(total)d run finished", "%(done)d of %(total)d runs finished", total
        ) % {"done": self.done, "total": total}
        outcomes = [labels.counted(verdict, n) for verdict, n in self.verdict_counts]
        if without := self.statuses[State.FAILED] - self.verdicts[Status.PENDING]:
            outcomes.append(_("%d without a verdict") % without)
        if cancelled := self.statuses[State.CANCELLED]:
            outcomes.append(_("%d cancelled") % cancelled)
        sentence = f"{progress}: {', '.join(outcomes)}." if outcomes else f"{progress}."
        if self.seconds_left is None:
            return sentence
        left = _("About %s left.") % minutes(self.seconds_left)
        return f"{sentence} {left}"

    @property
    def seconds_left(self) -> float | None:
        """How long the job takes until its end, if as many of its runs are worked on as now; None
        where none is, or nothing is known of how long runs take.
        """
        running = self.statuses[State.PROCESSING]
        if not running or not self.seconds_per_run:
            return None
        to_come = sum(self.statuses[state] for state in WAITING)
        return self.seconds_per_run * (0.5 + to_come / running)

    @property
    def milestone(self) -> str:
        """The last thing worth saying aloud: a quarter, the end, a run without a verdict."""
        if self.job.completed_at:
            return _("The job has ended. %s") % self.sentence
        quarter = 4 * self.done // max(1, len(self.rows)) * 25
        words = _("%d per cent of the runs are finished.") % quarter if quarter else ""
        if self.statuses[State.FAILED]:
            without_verdict = _("A run ended without a verdict.")
            words = f"{words} {without_verdict}"
        return words.strip()

    def version(self, now: datetime) -> str:
        """Return what the function `version` returns, without a query."""
        attempts: Counter[tuple[str, str]] = Counter()
        for row in self.rows:
            attempts[row.status, row.verdict] += row.attempt
        counts = [(*key, n, attempts[key]) for key, n in self.states.items()]
        return version_of(self.job, counts, now)

    @property
    def groups(self) -> list[tuple[str | Promise, list[CertificationRun]]]:
        """The page's runs by group, those that need attention first."""
        return [
            (GROUPS[key], list(runs))
            for key, runs in groupby(self.runs, key=lambda r: group_of(r.status, r.verdict))
        ]

    @cached_property
    def regions(self) -> list[str]:
        return sorted({row.region_id for row in self.rows})

    @cached_property
    def vendors(self) -> list[str]:
        return sorted({row.vendor for row in self.rows})

    @property
    def is_by_vendor(self) -> bool:
        return len(self.rows) > GRID_RUNS

    @property
    def grid(self) -> list[tuple[str, str, SafeString]]:
        """(name, id, HTML of its cells) of each model, or of each vendor of a large job."""
        rows = self.vendor_grid if self.is_by_vendor else self.model_grid
        return [(name, model_id, cells_html(cells)) for name, model_id, cells in rows]

    @property
    def model_grid(self) -> list[tuple[str, str, list[Cell | None]]]:
        """(name, id, cells by region) of each model."""
        models: dict[UUID, dict[str, Row]] = {}
        for row in sorted(self.rows, key=lambda row: (row.vendor, row.name, row.api_model_id)):
            models.setdefault(row.model_id, {})[row.region_id] = row
        result = []
        for runs in models.values():
            first = next(iter(runs.values()))
            cells = [run_cell(runs[r]) if r in runs else None for r in self.regions]
            result.append((first.name, first.api_model_id, cells))
        return result

    @property
    def vendor_grid(self) -> list[tuple[str, str, list[Cell | None]]]:
        """The grid of a large job: a cell counts the runs of a vendor in a region."""
        counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for row in self.rows:
            counts[row.vendor, row.region_id][row.group] += 1
        return [
            (vendor, "", [vendor_cell(vendor, r, counts.get((vendor, r))) for r in self.regions])
            for vendor in self.vendors
        ]

    @property
    def gantt(self) -> SafeString | str:
        """How long the page's runs waited and worked; "" before any was begun."""
        runs = sorted(self.runs, key=begun_at)[:BARS]
        if not any(run.started_at for run in runs):
            return ""
        origin = self.job.created_at
        moments = [run.completed_at or run.started_at or origin for run in runs]
        end = max((moment - origin).total_seconds() for moment in moments)
        unit, factor = (_("min"), 60.0) if end > MINUTES_FROM_S else ("s", 1.0)
        bars = [bar_of(run, origin, factor) for run in runs]
        return charts.gantt(_("When each run waited and worked"), bars, end / factor, unit)


def cells_html(cells: Sequence[Cell | None]) -> SafeString:
    """Return a row of the grid; it has thousands of cells, so that a template would take longer."""
    nothing = escape(_("not in this job"))
    empty = (
        f'<td><span class="quiet" aria-hidden="true">·</span><span class="sr">{nothing}</span></td>'
    )
    parts = []
    for cell in cells:
        if cell is None:
            parts.append(empty)
            continue
        href, css, symbol, label, text = map(escape, cell)
        parts.append(
            f'<td><a class="cell {css}" href="{href}" aria-label="{label}" title="{label}">'
            f'<b aria-hidden="true">{symbol}</b> {text}</a></td>'
        )
    return SafeString("".join(parts))


def begun_at(run: CertificationRun) -> tuple[bool, datetime]:
    """Sort runs by when they were begun, those that were not last."""
    return (run.started_at is None, run.started_at or run.created_at)


def bar_of(run: CertificationRun, origin: datetime, factor: float) -> charts.Bar:
    """Return a run's bar, in seconds over `factor` since `origin`."""

    def place(moment: datetime | None) -> float | None:
        return None if moment is None else max(0.0, (moment - origin).total_seconds()) / factor

    group, name = group_of(run.status, run.verdict), f"{run.model.name}, {run.region_id}"
    css = {"fine": "work good", "attention": "work bad"}.get(group, "work")
    return charts.Bar(
        name,
        place(run.created_at) or 0.0,
        place(run.started_at),
        place(run.completed_at),
        css,
        f"{name}: {sign_of(run.status, run.verdict).label}",
    )


def run_cell(row: Row) -> Cell:
    """Return the cell of one run."""
    label = f"{row.name}, {row.region_id}: {row.sign.label}"
    if row.score is not None:
        label += f", {row.rating} {row.score}"
    text = "" if row.score is None else str(row.score)
    return Cell(reverse("run", args=[row.pk]), row.css, row.sign.symbol, label, text)


def vendor_cell(vendor: str, region: str, groups: Counter[str] | None) -> Cell | None:
    """Return the cell that counts a vendor's runs in a region by group and leads to them; None
    without any.
    """
    if groups is None:
        return None
    runs = groups.total()
    done = runs - groups["waiting"] - groups["running"]
    css = "j-FAILED" if groups["attention"] else "j-PROCESSING"
    if not groups["attention"] and done == runs:
        css = "j-COMPLETED"
    counts = ", ".join(f"{GROUPS[key]}: {groups[key]}" for key in GROUPS if groups[key])
    symbol = str(groups["attention"] or "")
    return Cell(
        f"?{urlencode({'vendor': vendor, 'region': region})}#runs",
        css,
        f"✕ {symbol}" if symbol else "✓" if done == runs else "…",
        f"{vendor}, {region}: {counts}",
        f"{done}/{runs}",
    )


def version(job: CertificationJob, now: datetime) -> str:
    """Return a value that changes with the states of the job's runs and, while some are to come,
    every REFRESH_S: why they wait may have changed. One query over few columns, since thousands of
    runs are polled every three seconds.
    """
    counts = job.runs.order_by().values_list("status", "verdict")
    return version_of(job, counts.annotate(n=Count("pk"), attempts=Sum("attempt")), now)


def version_of(
    job: CertificationJob, counts: Iterable[tuple[str, str, int, int]], now: datetime
) -> str:
    """Return the version for the runs' (status, verdict, number, sum of attempts)."""
    period = int(now.timestamp() // REFRESH_S) if job.status in ACTIVE else 0
    return polling.fingerprint(job.status, sorted(counts), period)


def load(job: CertificationJob, query: QueryDict, now: datetime) -> JobDetail:
    """Return a job's page for the GET parameters of RunFilters and `page`: in six queries at
    most, two once the job has ended.
    """
    rows = rows_of(job)
    filters = RunFilters.from_query(query)
    matching = [row.pk for row in rows if filters.match(row)]
    page = Paginator(matching, RUNS_PER_PAGE).get_page(query.get("page"))
    runs = CertificationRun.objects.select_related("model").defer("environment", "fix")
    runs = runs.annotate(stored_events=RunEvent.objects.of_outer_run())
    by_pk = runs.in_bulk(list(page.object_list))
    shown = [by_pk[pk] for pk in page.object_list if pk in by_pk]
    is_active = job.status in ACTIVE
    seconds = mean_seconds(job, rows) if is_active else None
    causes = waiting.causes(job, rows, seconds, now) if is_active else []
    return JobDetail(job, rows, filters, page, shown, causes, seconds)


def rows_of(job: CertificationJob) -> list[Row]:
    """Return all runs of a job, as listed: by group, then by name."""
    rows = [Row(*values) for values in job.runs.order_by().values_list(*ROW_COLUMNS)]
    places = {key: place for place, key in enumerate(GROUPS)}
    return sorted(
        rows, key=lambda r: (places[r.group], r.vendor, r.name, r.api_model_id, r.region_id)
    )


def matching_runs(job: CertificationJob, query: QueryDict) -> list[CertificationRun]:
    """Return the runs of a job that pass the GET parameters of RunFilters, as listed."""
    filters = RunFilters.from_query(query)
    matching = [row.pk for row in rows_of(job) if filters.match(row)]
    by_pk = {run.pk: run for run in job.runs.select_related("model").defer("environment")}
    return [by_pk[pk] for pk in matching if pk in by_pk]


def mean_seconds(job: CertificationJob, rows: Sequence[Row]) -> float | None:
    """Return how long a run of this job takes: by those that ended, else by the last runs of its
    models in its tier; None where nothing is known.
    """
    took = [row.took.total_seconds() for row in rows if row.took and row.status == State.COMPLETED]
    if not took:
        models = {row.model_id for row in rows}
        took = [run.seconds for run in estimate.last_runs(models, job.tier).values()]
    return fmean(took) if took else None
