"""The model x region matrix page, read in four queries and put together in memory.

A catalogue has a few hundred models and some thirty regions, so everything that is active is read
and filtered here: that keeps the filters' choices, the counts and the page in one pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, Max
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from certification import labels
from certification.models import (
    AIModel,
    Backend,
    CertificationRun,
    ModelCertification,
    ModelKind,
    Region,
    Tier,
    validity,
)
from certification.reasons import Status
from certification.web import polling

MODELS_PER_PAGE = 60
# The parameters of its address.
PARAMETERS = frozenset({"q", "vendor", "region", "kind", "status", "reason", "page"})
EXPIRES_SOON = timedelta(days=7)
RUNNING, EXPIRED, EXPIRING = "running", "expired", "expiring"
STATUS_LABELS = {**labels.STATUSES, RUNNING: labels.RUNNING, EXPIRED: labels.EXPIRED}
# What the filter `status` takes besides what the legend shows.
FILTER_STATUSES = {**STATUS_LABELS, EXPIRING: labels.EXPIRING}
# How good a status is, for "better" and "worse"; the others are no verdict on the model.
RANKS: dict[str, int] = {
    Status.CERTIFIED: 2,
    Status.QUALITY_WARNING: 1,
    Status.FAILED: 0,
    Status.PERMISSION_REQUIRED: 0,
    Status.CONFIGURATION_REQUIRED: 0,
}


def is_worse(before: str, after: str) -> bool:
    """Return whether a status is worse than an earlier one; False where either is no verdict."""
    return before in RANKS and after in RANKS and RANKS[after] < RANKS[before]


@dataclass(frozen=True)
class Filters:
    """The page's filters; empty members filter nothing. `status` may also be "running", "expired"
    or "expiring".
    """

    search: str = ""
    vendor: str = ""
    region: str = ""
    kind: str = ""
    status: str = ""
    reason: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> Filters:
        """Read the filters from GET parameters; unknown ones of a closed list are ignored."""
        kind, status, reason = (query.get(name, "") for name in ("kind", "status", "reason"))
        return cls(
            search=query.get("q", "").strip()[:200],
            vendor=query.get("vendor", ""),
            region=query.get("region", ""),
            kind=kind if kind in ModelKind.values else "",
            status=status if status in FILTER_STATUSES else "",
            reason=reason if reason in labels.REASONS else "",
        )

    @property
    def any(self) -> bool:
        return self != Filters()

    @property
    def on_cells(self) -> bool:
        """Whether a filter is about cells and not about their model."""
        return bool(self.status or self.reason)

    def matches(self, model: AIModel) -> bool:
        """Return whether a model passes the filters on models (not those on cells). It comes with
        its `other_ids`.
        """
        ids = " ".join([model.api_model_id, *model.other_ids])  # type: ignore[attr-defined]
        text = f"{model.name} {ids} {model.vendor}".casefold()
        return (
            all(word in text for word in self.search.casefold().split())
            and self.vendor in ("", model.vendor)
            and self.kind in ("", model.kind)
        )


class CertificationRow(NamedTuple):
    """The columns of a ModelCertification that the matrix needs, in the order of its query."""

    model_id: UUID
    region_id: str
    status: str
    previous_status: str
    score: int | None
    rating: str
    tier: str
    backend: str
    expires_at: datetime | None
    expired_at: datetime | None
    held_back: str
    last_tested_at: datetime | None
    run__endpoint: str | None
    run__api: str | None
    run__error_reason: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One model in one region. `status` is "" where the catalogue has no route."""

    region: str
    status: str = ""
    rating: str = ""
    score: int | None = None
    backend: str = ""
    running: bool = False
    expired: bool = False
    held_back: bool = False  # a later run disagreed, and a second one will decide
    endpoint: str = ""  # where and by which API the run called that the status is from
    api: str = ""
    tier: str = ""
    days: int = 0  # whole days since it was tested
    reason: str = ""
    expiring: bool = False  # within EXPIRES_SOON
    dimmed: bool = False  # does not match the status filter

    @property
    def has_grade(self) -> bool:
        """Whether the rating is about quality: a quick run tests the gates only."""
        return bool(self.rating) and self.tier != Tier.QUICK

    @property
    def keys(self) -> tuple[str, ...]:
        """The statuses under which the cell is counted and filtered."""
        state = EXPIRED if self.expired else self.status
        return (
            state,
            *([RUNNING] if self.running else []),
            *([EXPIRING] if self.expiring else []),
        )

    def matches(self, filters: Filters) -> bool:
        """Return whether the cell passes the filters on cells."""
        return filters.status in ("", *self.keys) and filters.reason in ("", self.reason)

    @property
    def css(self) -> str:
        marks = {
            "expired": self.expired,
            "running": self.running,
            "held-back": self.held_back,
            "dimmed": self.dimmed,
        }
        return " ".join([f"s-{self.status}", *(name for name, is_set in marks.items() if is_set)])

    @property
    def symbol(self) -> str:
        return labels.STATUSES[self.status].symbol

    @property
    def label(self) -> str:
        """The cell in words, for screen readers."""
        return f"{self.region}: {describe_cell(get_language(), replace(self, region=''))}"


@lru_cache(maxsize=2000)
def describe_cell(_language: str | None, cell: MatrixCell) -> str:
    """Describe a cell without its region in the active language (cached: a page has thousands of
    cells, but few different ones).
    """
    parts = [str(labels.STATUSES[cell.status].label)]
    if cell.expired:
        parts = [_("expired, was: %(status)s") % {"status": parts[0]}]
    if cell.has_grade:
        parts.append(
            _("rating %(rating)s, score %(score)s") % {"rating": cell.rating, "score": cell.score}
        )
    elif cell.rating:
        parts.append(_("gates only, score %(score)s") % {"score": cell.score})
    if cell.tier:
        parts.append(
            ngettext("tested %(days)d day ago", "tested %(days)d days ago", cell.days)
            % {"days": cell.days}
            if cell.days
            else _("tested today")
        )
    if cell.api:
        parts.append(
            _("by %(api)s on %(endpoint)s")
            % {"api": labels.APIS[cell.api], "endpoint": cell.endpoint}
        )
    if cell.held_back:
        parts.append(_("a later run was held back"))
    if cell.running:
        parts.append(str(labels.RUNNING.label))
    return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    model: AIModel
    cells: Sequence[MatrixCell]

    @cached_property
    def base(self) -> str:
        """The URL prefix of the row's cells; the region code follows."""
        return reverse("certification", args=[self.model.pk, "-"]).removesuffix("-/")

    def has(self, filters: Filters) -> bool:
        return any(cell.matches(filters) for cell in self.cells if cell.status)

    def narrowed_to(self, filters: Filters) -> Row:
        """Return the row with the cells that do not match dimmed."""
        return Row(
            self.model,
            [cell if cell.matches(filters) else replace(cell, dimmed=True) for cell in self.cells],
        )


@dataclass(frozen=True)
class LegendEntry:
    key: str
    symbol: str
    label: str | Promise
    count: int


@dataclass(frozen=True)
class Matrix:
    """What the page shows. `known` counts all active models and `tested` the pairs that have a
    certification, both before any filter.
    """

    filters: Filters
    vendors: Sequence[str]
    all_regions: Sequence[Region]
    regions: Sequence[Region]
    page: Page[Row]
    counts: Counter[str]
    known: int
    tested: int
    version: str

    @cached_property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The page's rows by vendor."""
        return [
            (vendor, list(rows))
            for vendor, rows in groupby(self.page, key=lambda row: row.model.vendor)
        ]

    @property
    def status_choices(self) -> list[tuple[str, str | Promise]]:
        return [(key, sign.label) for key, sign in FILTER_STATUSES.items()]

    @property
    def has_running(self) -> bool:
        return bool(self.counts[RUNNING])

    @property
    def legend(self) -> list[LegendEntry]:
        return [
            LegendEntry(key, sign.symbol, sign.label, self.counts[key])
            for key, sign in STATUS_LABELS.items()
        ]

    @property
    def emulated(self) -> bool:
        """Return whether any row on the page has a result from the emulator."""
        return any(cell.backend == Backend.EMULATOR for row in self.page for cell in row.cells)


def load(filters: Filters, page: str | int, now: datetime) -> Matrix:
    """Load the matrix in four queries: models with the regions that offer them, certifications,
    active runs, regions.
    """
    models = list(
        AIModel.objects.active()
        .only("id", "name", "vendor", "api_model_id", "kind", "lifecycle", "updated_at")
        .with_offered_in()
        .with_other_ids()
    )
    values = ModelCertification.objects.in_matrix().values_list(*CertificationRow._fields)
    certifications = {
        (row.model_id, row.region_id): row for row in map(CertificationRow._make, values)
    }
    active = CertificationRun.objects.active().order_by()
    active_runs = list(active.values_list("model_id", "region_id", "created_at"))
    running = {(model, region) for model, region, _created in active_runs}
    offered = {(m.pk, code) for m in models for code in m.offered_in}

    used_regions = {code for _pk, code in offered} | {code for _pk, code in certifications}
    all_regions = [region for region in Region.objects.enabled() if region.code in used_regions]
    regions = [region for region in all_regions if filters.region in ("", region.code)]

    def cell(pair: tuple[UUID, str]) -> MatrixCell:
        row, is_running = certifications.get(pair), pair in running
        if row is None:
            status = Status.NOT_TESTED if pair in offered or is_running else ""
            return MatrixCell(pair[1], status, running=is_running)
        return MatrixCell(
            region=pair[1],
            status=validity.shown_status(row, now) or Status.NOT_TESTED,
            rating=row.rating,
            score=row.score,
            backend=row.backend,
            running=is_running,
            expired=validity.is_expired(row, now),
            held_back=bool(row.held_back),
            endpoint=row.run__endpoint or "",
            api=row.run__api or "",
            tier=row.tier,
            days=(now - row.last_tested_at).days if row.last_tested_at else 0,
            reason=row.run__error_reason or "",
            expiring=row.expires_at is not None and now < row.expires_at <= now + EXPIRES_SOON,
        )

    rows = [
        Row(model, [cell((model.pk, region.code)) for region in regions])
        for model in models
        if filters.matches(model)
    ]
    counts = Counter(key for row in rows for cell in row.cells if cell.status for key in cell.keys)
    if filters.on_cells:
        rows = [row.narrowed_to(filters) for row in rows if row.has(filters)]
    elif filters.region:
        rows = [row for row in rows if any(cell.status for cell in row.cells)]
    return Matrix(
        filters=filters,
        vendors=sorted({model.vendor for model in models}, key=str.casefold),
        all_regions=all_regions,
        regions=regions,
        page=Paginator(rows, MODELS_PER_PAGE).get_page(page),
        counts=counts,
        known=len(models),
        tested=len(certifications),
        version=version_of(
            (
                len(certifications),
                max((r.updated_at for r in certifications.values()), default=None),
            ),
            max((r.expired_at for r in certifications.values() if r.expired_at), default=None),
            (len(active_runs), max((created for _m, _r, created in active_runs), default=None)),
            (len(models), max((model.updated_at for model in models), default=None)),
        ),
    )


Newest = tuple[int, datetime | None]  # how many rows, and the time of the newest


def version_of(pairs: Newest, expired: datetime | None, runs: Newest, models: Newest) -> str:
    """Return a text that changes when anything that the matrix shows does."""
    return polling.fingerprint(pairs, expired, runs, models)


def current_version() -> str:
    """Return the version of the matrix without loading it, in three small queries."""
    pairs = ModelCertification.objects.in_matrix().aggregate(
        n=Count("pk"), updated=Max("updated_at"), expired=Max("expired_at")
    )
    runs = CertificationRun.objects.active().aggregate(n=Count("pk"), newest=Max("created_at"))
    models = AIModel.objects.active().aggregate(n=Count("pk"), updated=Max("updated_at"))
    return version_of(
        (pairs["n"], pairs["updated"]),
        pairs["expired"],
        (runs["n"], runs["newest"]),
        (models["n"], models["updated"]),
    )
