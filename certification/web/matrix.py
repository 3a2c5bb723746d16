"""The model x region matrix page, read in four queries and put together in memory.

A catalogue has a few hundred models and some thirty regions, so everything that is active is read
and filtered here: that keeps the filters' choices, the counts and the page in one pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from django.core.paginator import Page, Paginator
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

MODELS_PER_PAGE = 60
RUNNING, EXPIRED = "running", "expired"
STATUS_LABELS = {**labels.STATUSES, RUNNING: labels.RUNNING, EXPIRED: labels.EXPIRED}


@dataclass(frozen=True)
class Filters:
    """The page's filters; empty members filter nothing. `status` may also be "running" or
    "expired".
    """

    search: str = ""
    vendor: str = ""
    region: str = ""
    kind: str = ""
    status: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> Filters:
        """Read the filters from GET parameters; an unknown kind or status is ignored."""
        kind, status = query.get("kind", ""), query.get("status", "")
        return cls(
            search=query.get("q", "").strip()[:200],
            vendor=query.get("vendor", ""),
            region=query.get("region", ""),
            kind=kind if kind in ModelKind.values else "",
            status=status if status in STATUS_LABELS else "",
        )

    @property
    def any(self) -> bool:
        return self != Filters()

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
    dimmed: bool = False  # does not match the status filter

    @property
    def has_grade(self) -> bool:
        """Whether the rating is about quality: a quick run tests the gates only."""
        return bool(self.rating) and self.tier != Tier.QUICK

    @property
    def keys(self) -> tuple[str, ...]:
        """The statuses under which the cell is counted and filtered."""
        state = EXPIRED if self.expired else self.status
        return (state, RUNNING) if self.running else (state,)

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

    def has(self, status: str) -> bool:
        return any(status in cell.keys for cell in self.cells if cell.status)

    def narrowed_to(self, status: str) -> Row:
        """Return the row with the cells of other statuses dimmed."""
        return Row(
            self.model,
            [cell if status in cell.keys else replace(cell, dimmed=True) for cell in self.cells],
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
        .only("id", "name", "vendor", "api_model_id", "kind", "lifecycle")
        .with_offered_in()
        .with_other_ids()
    )
    values = ModelCertification.objects.in_matrix().values_list(*CertificationRow._fields)
    certifications = {
        (row.model_id, row.region_id): row for row in map(CertificationRow._make, values)
    }
    running = set(CertificationRun.objects.active().order_by().values_list("model_id", "region_id"))
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
        )

    rows = [
        Row(model, [cell((model.pk, region.code)) for region in regions])
        for model in models
        if filters.matches(model)
    ]
    counts = Counter(key for row in rows for cell in row.cells if cell.status for key in cell.keys)
    if filters.status:
        rows = [row.narrowed_to(filters.status) for row in rows if row.has(filters.status)]
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
    )
