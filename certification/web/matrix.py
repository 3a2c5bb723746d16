"""The model x region matrix: what the page shows, read in three queries and put together in memory.

A catalogue has a few hundred models and some thirty regions, so everything that is active is read
and filtered here: that keeps the filters' choices, the counts and the page in one pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.core.paginator import Page, Paginator
from django.db.models import OuterRef
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from certification import labels
from certification.models import (
    AIModel,
    Backend,
    CertificationRun,
    ModelCertification,
    ModelKind,
    Region,
    Route,
)
from certification.reasons import Status

MODELS_PER_PAGE = 60
RUNNING, EXPIRED = "running", "expired"
STATUS_LOOKS = {**labels.STATUSES, RUNNING: labels.RUNNING, EXPIRED: labels.EXPIRED}


@dataclass(frozen=True)
class Filters:
    """What the page is narrowed to; empty members narrow nothing. `status` may also be "running" or
    "expired".
    """

    search: str = ""
    vendor: str = ""
    region: str = ""
    kind: str = ""
    status: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> Filters:
        """The filters in GET parameters; a kind or status that nobody knows is ignored."""
        kind, status = query.get("kind", ""), query.get("status", "")
        return cls(
            search=query.get("q", "").strip()[:200],
            vendor=query.get("vendor", ""),
            region=query.get("region", ""),
            kind=kind if kind in ModelKind.values else "",
            status=status if status in STATUS_LOOKS else "",
        )

    @property
    def any(self) -> bool:
        return self != Filters()

    def matches(self, model: AIModel) -> bool:
        """Whether a model passes all filters but those on cells."""
        text = f"{model.name} {model.api_model_id} {model.vendor}".casefold()
        return (
            all(word in text for word in self.search.casefold().split())
            and self.vendor in ("", model.vendor)
            and self.kind in ("", model.kind)
        )


class Standing(NamedTuple):
    """A ModelCertification as the matrix needs it, in the order of its query."""

    model_id: UUID
    region_id: str
    status: str
    previous_status: str
    score: int | None
    rating: str
    backend: str
    expires_at: datetime | None
    expired_at: datetime | None
    held_back: str

    def is_expired(self, now: datetime) -> bool:
        """Past its date, whether or not reconcile has taken the standing away already."""
        if self.status == Status.NOT_TESTED:
            return self.expired_at is not None
        return self.expires_at is not None and self.expires_at <= now

    @property
    def shown(self) -> str:
        """The status to show: an expired one keeps showing what it was."""
        return (
            self.previous_status
            if self.status == Status.NOT_TESTED and self.expired_at
            else self.status
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One model in one region. `kind` names its colour; `status` is "" where the catalogue offers
    no route.
    """

    region: str
    status: str = ""
    rating: str = ""
    score: int | None = None
    backend: str = ""
    running: bool = False
    expired: bool = False
    doubted: bool = False  # a later run said otherwise, and a second one decides
    aside: bool = False  # does not match the status that the page is narrowed to

    @property
    def keys(self) -> tuple[str, ...]:
        """Under which statuses the cell is counted and found."""
        state = EXPIRED if self.expired else self.status
        return (state, RUNNING) if self.running else (state,)

    @property
    def css(self) -> str:
        marks = {
            "expired": self.expired,
            "running": self.running,
            "doubted": self.doubted,
            "aside": self.aside,
        }
        return " ".join([f"s-{self.status}", *(name for name, is_set in marks.items() if is_set)])

    @property
    def symbol(self) -> str:
        return labels.STATUSES[self.status].symbol

    @property
    def label(self) -> str:
        """The cell in words, for those who do not see colours and signs."""
        return f"{self.region}: {_in_words(get_language(), self)}"


def _in_words(language: str | None, cell: Cell) -> str:
    return _words(
        language, cell.status, cell.rating, cell.score, (cell.running, cell.expired, cell.doubted)
    )


@lru_cache(maxsize=2000)
def _words(
    _language: str | None,
    status: str,
    rating: str,
    score: int | None,
    marks: tuple[bool, bool, bool],
) -> str:
    """A page has thousands of cells and few different ones; the language is part of what is kept."""
    running, expired, doubted = marks
    parts = [str(labels.STATUSES[status].label)]
    if expired:
        parts = [_("expired, was: %(status)s") % {"status": parts[0]}]
    if rating:
        parts.append(_("rating %(rating)s, score %(score)s") % {"rating": rating, "score": score})
    if doubted:
        parts.append(_("a later run was held back"))
    if running:
        parts.append(str(labels.RUNNING.label))
    return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    model: AIModel
    cells: Sequence[Cell]

    @cached_property
    def base(self) -> str:
        """The address of the row's cells, to which the region's code is added."""
        return reverse("certification", args=[self.model.pk, "-"]).removesuffix("-/")

    def has(self, status: str) -> bool:
        return any(status in cell.keys for cell in self.cells if cell.status)

    def narrowed_to(self, status: str) -> Row:
        """The row with the cells of another status set aside."""
        return Row(
            self.model,
            [cell if status in cell.keys else replace(cell, aside=True) for cell in self.cells],
        )


@dataclass(frozen=True)
class LegendEntry:
    key: str
    symbol: str
    label: str | Promise
    count: int


@dataclass(frozen=True)
class Matrix:
    """What the page shows. `known` counts all active models; `tested` the pairs with a standing,
    before any filter.
    """

    filters: Filters
    vendors: Sequence[str]
    all_regions: Sequence[Region]
    regions: Sequence[Region]
    page: Page[Row]
    counts: Counter[str]
    known: int
    tested: int

    @cached_property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The page's rows by vendor."""
        return [
            (vendor, list(rows))
            for vendor, rows in groupby(self.page, key=lambda row: row.model.vendor)
        ]

    @property
    def legend(self) -> list[LegendEntry]:
        return [
            LegendEntry(k, look.symbol, look.label, self.counts[k])
            for k, look in STATUS_LOOKS.items()
        ]

    @property
    def emulated(self) -> bool:
        """Whether any row shown has a result from the emulator."""
        return any(cell.backend == Backend.EMULATOR for row in self.page for cell in row.cells)


def load(filters: Filters, page: str | int, now: datetime) -> Matrix:
    """The matrix in four queries: models with the regions that offer them, regions, standings,
    active runs.
    """
    models = _models()
    standings = _standings()
    running = set(CertificationRun.objects.active().order_by().values_list("model_id", "region_id"))
    offered = {(m.pk, code) for m in models for code in m.offered_in}  # type: ignore[attr-defined]
    used_region_codes = {code for _pk, code in offered} | {s.region_id for s in standings.values()}
    all_regions = [r for r in Region.objects.enabled() if r.code in used_region_codes]
    regions = [r for r in all_regions if filters.region in ("", r.code)]

    def cells(model: AIModel) -> list[Cell]:
        pairs = ((model.pk, region.code) for region in regions)
        return [
            _cell(pair, standings.get(pair), pair in offered, pair in running, now)
            for pair in pairs
        ]

    rows = [Row(model, cells(model)) for model in models if filters.matches(model)]
    counts = Counter(key for row in rows for cell in row.cells if cell.status for key in cell.keys)
    if filters.status:
        rows = [row.narrowed_to(filters.status) for row in rows if row.has(filters.status)]
    elif filters.region:
        rows = [row for row in rows if any(cell.status for cell in row.cells)]
    return Matrix(
        filters=filters,
        vendors=_vendors(models),
        all_regions=all_regions,
        regions=regions,
        page=Paginator(rows, MODELS_PER_PAGE).get_page(page),
        counts=counts,
        known=len(models),
        tested=len(standings),
    )


def _models() -> list[AIModel]:
    regions = Route.objects.filter(model=OuterRef("pk")).order_by().values("region_id").distinct()
    fields = ("id", "name", "vendor", "api_model_id", "kind", "lifecycle")
    return list(AIModel.objects.active().only(*fields).annotate(offered_in=ArraySubquery(regions)))


def _standings() -> dict[tuple[UUID, str], Standing]:
    rows = ModelCertification.objects.filter(model__is_active=True, region__enabled=True).order_by()
    found = (Standing(*values) for values in rows.values_list(*Standing._fields))
    return {(s.model_id, s.region_id): s for s in found}


def _cell(
    pair: tuple[UUID, str], standing: Standing | None, offered: bool, running: bool, now: datetime
) -> Cell:
    region = pair[1]
    if standing is None:
        return Cell(region, Status.NOT_TESTED if offered or running else "", running=running)
    return Cell(
        region,
        standing.shown or Status.NOT_TESTED,
        standing.rating,
        standing.score,
        standing.backend,
        running,
        standing.is_expired(now),
        bool(standing.held_back),
    )


def _vendors(models: Iterable[AIModel]) -> list[str]:
    return sorted({model.vendor for model in models}, key=str.casefold)
