"""A cell of the matrix: what is known of a model in a region, in words and as HTML.

A page has thousands of cells, but few different ones: each part of one is put into words and
escaped once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from django.urls import reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from certification import labels
from certification.models import AIModel, Backend, Lifecycle, ModelKind, Tier
from certification.reasons import Status
from certification.web import measures
from certification.web.matrix_filters import BETTER, EXPIRED, EXPIRING, RUNNING, WORSE, Filters
from certification.web.measures import CAPABILITIES, RESIDENCIES, ROUTES, STATUS, Scale

EXPIRES_SOON = timedelta(days=7)
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


class MatrixCell(NamedTuple):
    """One model in one region. `status` is "" where the catalogue has no route. After the region
    stand the fields that a cell looks like, up to VISIBLE_END.
    """

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
    age_days: int | None = None  # whole days since it was tested
    before: str = ""  # the status at the time that `since` names
    dimmed: bool = False  # does not match the filters on cells
    route: str = ""
    route_kind: str = ""
    reason: str = ""
    tested_at: datetime | None = None
    expires_at: datetime | None = None
    expiring: bool = False  # within EXPIRES_SOON
    ttft_ms: float | None = None
    output_tps: float | None = None
    cost_usd: Decimal | float | None = None
    capability: bool | None = None  # of the one that is shown: whether its cases passed
    run_id: UUID | None = None

    @property
    def is_certified(self) -> bool:
        return self.status == Status.CERTIFIED and not self.expired

    @property
    def has_grade(self) -> bool:
        """Whether the rating is about quality: a quick run tests the gates only."""
        return bool(self.rating) and self.tier != Tier.QUICK

    @property
    def keys(self) -> tuple[str, ...]:
        """The statuses under which the cell is counted and filtered."""
        keys = [EXPIRED if self.expired else self.status]
        if self.running:
            keys.append(RUNNING)
        if self.expiring:
            keys.append(EXPIRING)
        if self.before and is_worse(self.before, self.status):
            keys.append(WORSE)
        if self.before and is_worse(self.status, self.before):
            keys.append(BETTER)
        return tuple(keys)

    def matches(self, filters: Filters) -> bool:
        """Return whether the cell passes the filters on cells."""
        return (
            filters.allows("status", *self.keys)
            and filters.allows("reason", self.reason)
            and filters.allows("route", self.route_kind)
            and filters.allows("backend", self.backend)
            and (filters.min_score is None or (self.score or -1) >= filters.min_score)
            and (
                filters.tested_days is None
                or (self.age_days is not None and self.age_days < filters.tested_days)
            )
        )

    @property
    def residency(self) -> str:
        return measures.residency(self.route_kind, self.route)

    @property
    def label(self) -> str:
        """The cell in words, for screen readers."""
        return f"{self.region}: {self.words(get_language())}"

    def words(self, language: str | None) -> str:
        """Return the cell in words of the active language, without its region."""
        parts = [status_words(language, self.status, self.expired)]
        if self.rating:
            rating = self.rating if self.has_grade else ""
            parts.append(score_words(language, rating, self.score))
        if self.tier:
            parts.append(age_words(language, self.age_days or 0))
        if self.api:
            parts.append(route_words(language, self.api, self.endpoint))
        if self.held_back:
            parts.append(_("a later run was held back"))
        if self.before and self.before != self.status:
            parts.append(_("before: %(status)s") % {"status": labels.STATUSES[self.before].label})
        if self.running:
            parts.append(str(labels.RUNNING.label))
        return ", ".join(parts)


VISIBLE_END = 1 + MatrixCell._fields.index("dimmed")


@lru_cache(maxsize=100)
def status_words(_language: str | None, status: str, expired: bool) -> str:
    label = str(labels.STATUSES[status].label)
    return _("expired, was: %(status)s") % {"status": label} if expired else label


@lru_cache(maxsize=2000)
def score_words(_language: str | None, rating: str, score: int | None) -> str:
    """Return a score in words; without a rating it is of the gates alone."""
    if not rating:
        return _("gates only, score %(score)s") % {"score": score}
    return _("rating %(rating)s, score %(score)s") % {"rating": rating, "score": score}


@lru_cache(maxsize=1000)
def age_words(_language: str | None, days: int) -> str:
    if not days:
        return _("tested today")
    words = ngettext("tested %(days)d day ago", "tested %(days)d days ago", days)
    return words % {"days": days}


@lru_cache(maxsize=100)
def route_words(_language: str | None, api: str, endpoint: str) -> str:
    return _("by %(api)s on %(endpoint)s") % {"api": labels.APIS[api], "endpoint": endpoint}


class CellView(NamedTuple):
    """What a cell with anything in it shows besides its region: its class, its words, its sign and
    what follows it. All of it is escaped.
    """

    css: str
    words: str
    sign: str
    content: str


@lru_cache(maxsize=4000)
def escaped(text: str) -> str:
    return str(escape(text))


@lru_cache(maxsize=2000)
def content_html(main: str, small: str) -> str:
    """Return what a cell shows in large and in small letters."""
    large = f"<i>{escape(main)}</i>" if main else ""
    return f"{large}<small>{escape(small)}</small>" if small else large


@dataclass(frozen=True)
class CellRenderer:
    """Put the rows of one page together as HTML; a template would take ten times as long.

    Cells show what the parameter `show` names, a quantity in the colours of `scale`, and with
    `has_boxes` a box to tick.
    """

    show: str
    scale: Scale | None
    has_boxes: bool
    language: str | None = field(default_factory=get_language)
    views: dict[tuple[object, ...], CellView] = field(default_factory=dict)  # by what cells show

    def row(self, model: AIModel, cells: Sequence[MatrixCell], share: str) -> SafeString:
        """Return the row of a model; `share` says how many of its pairs are certified."""
        marks = [model.get_kind_display()] if model.kind != ModelKind.TEXT else []
        if model.lifecycle == Lifecycle.LEGACY:
            marks.append(model.get_lifecycle_display())
        return format_html(
            '<tr role="row" data-model="{}"><th scope="row" role="rowheader">{}'
            '<span class="name">{}</span> {}<span class="id">{}</span></th>{}'
            '<td role="cell" class="sum">{}</td></tr>',
            model.api_model_id,
            self.row_box(model) if self.has_boxes else "",
            model.name,
            format_html_join("", '<span class="kind">{}</span> ', ((mark,) for mark in marks)),
            model.api_model_id,
            self.cells(model, cells),
            share,
        )

    def cells(self, model: AIModel, cells: Sequence[MatrixCell]) -> SafeString:
        """Return the cells of a model's row."""
        base = escaped(reverse("certification", args=[model.pk, "-"]).removesuffix("-/"))
        not_offered = (
            f'<td role="cell" class="none"><span class="sr">{_("not offered")}</span></td>'
        )
        parts = []
        for cell in cells:
            if not cell.status:
                parts.append(not_offered)
                continue
            visible = cell[1:VISIBLE_END] if self.show == STATUS else cell
            view = self.views.get(visible)
            if view is None:
                self.views[visible] = view = self.view(cell)
            css, words, sign, content = view
            region = escaped(cell.region)
            box = self.box(cell, model) if self.has_boxes else ""
            parts.append(
                f'<td role="cell">{box}<a class="{css}" href="{base}{region}/" '
                f'aria-label="{region}: {words}"><b>{sign}</b><em>{region}</em>{content}</a></td>'
            )
        return SafeString("".join(parts))

    @staticmethod
    def row_box(model: AIModel) -> SafeString:
        return format_html(
            '<input type="checkbox" form="selection" name="model" value="{}" aria-label="{}"> ',
            model.api_model_id,
            _("all of %(model)s") % {"model": model.name},
        )

    @staticmethod
    def box(cell: MatrixCell, model: AIModel) -> SafeString:
        return format_html(
            '<input type="checkbox" form="selection" name="pair" value="{0}@{1}" '
            'aria-label="{2} {1}">',
            model.api_model_id,
            cell.region,
            model.name,
        )

    def view(self, cell: MatrixCell) -> CellView:
        colour, main, small = self.shown(cell)
        css = colour
        if cell.expired:
            css += " expired"
        if cell.running:
            css += " running"
        if cell.held_back:
            css += " held-back"
        if cell.backend == Backend.EMULATOR:
            css += " emulated"
        if cell.before:
            css += " worse" if is_worse(cell.before, cell.status) else ""
            css += " better" if is_worse(cell.status, cell.before) else ""
        if cell.dimmed:
            css += " dimmed"
        words = cell.words(self.language)
        if spoken := self.spoken(cell):
            words += f", {measures.SHOWS[self.show]}: {spoken}"
        sign = labels.STATUSES[cell.status].symbol if self.show == STATUS else ""
        return CellView(escape(css), escape(words), sign, content_html(main, small))

    def shown(self, cell: MatrixCell) -> tuple[str, str, str]:
        """Return (class, large text, small text) of what the parameter `show` asks for."""
        if self.show == STATUS:
            score = str(cell.score) if cell.rating else ""
            return f"s-{cell.status}", cell.rating if cell.has_grade else "", score
        nothing = "○" if cell.status == Status.NOT_TESTED else "–"
        if self.scale is not None:
            value = self.scale.measure.value(cell)
            if value is None:
                return "s-none", "", nothing
            return f"q{self.scale.step(value)}", "", self.scale.measure.text(value)
        if self.show in CAPABILITIES:
            sign = {True: "✓", False: "✕", None: nothing}[cell.capability]
            colours = {True: "s-certified", False: "s-failed", None: "s-none"}
            return colours[cell.capability], sign, ""
        kinds = {"route": (ROUTES, cell.route_kind), "residency": (RESIDENCIES, cell.residency)}
        words, key = kinds[self.show]
        return f"k-{key}" if key else "s-none", words[key][0] if key in words else nothing, ""

    def spoken(self, cell: MatrixCell) -> str:
        """Return in words what a cell shows besides its status; "" where that is nothing."""
        if self.show == STATUS:
            return ""
        if self.scale is not None:
            value = self.scale.measure.value(cell)
            measure = self.scale.measure
            return "" if value is None else f"{measure.text(value)} {measure.unit}"
        if self.show in CAPABILITIES:
            return {True: _("passed"), False: _("failed"), None: ""}[cell.capability]
        key = {"route": cell.route_kind, "residency": cell.residency}.get(self.show, "")
        words = ROUTES if self.show == "route" else RESIDENCIES
        return str(words[key][1]) if key in words else ""
