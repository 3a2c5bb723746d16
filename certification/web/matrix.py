"""The model x region matrix page, read in four queries and put together in memory.

A catalogue has a few hundred models and some thirty regions, so everything that is active is read
and filtered here: that keeps the filters' choices, the counts and the page in one pass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import chain, compress, groupby
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.db.models import Count, Max, Q
from django.http import QueryDict
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.models import (
    AIModel,
    Backend,
    CertificationRun,
    Lifecycle,
    ModelCertification,
    ModelKind,
    Region,
    RouteKind,
    TestResult,
    validity,
)
from certification.reasons import Status
from certification.web import matrix_filters, measures, polling
from certification.web.matrix_cells import EXPIRES_SOON, CellRenderer, MatrixCell
from certification.web.matrix_filters import (
    BETTER,
    RUNNING,
    STATUSES,
    WORSE,
    Field,
    Filters,
    Known,
)
from certification.web.measures import CAPABILITIES, MEASURES, RESIDENCIES, ROUTES, STATUS, Scale
from certification.web.start import GEOGRAPHIES, geography, order_of

MODELS_PER_PAGE = 250
ROWS_UNFOLDED = 12  # on a narrow screen; of more, only the groups that the reader opens
MODEL_FIELDS = (
    "id", "name", "vendor", "api_model_id", "kind", "lifecycle", "updated_at", "capabilities",
    "streaming",
)  # fmt: skip
# The order of `sort=worst`; what is not named comes last.
WORST_FIRST = [
    Status.FAILED, Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED, Status.PENDING,
    Status.QUALITY_WARNING, Status.CERTIFIED,
]  # fmt: skip


Newest = tuple[int, datetime | None]  # how many rows, and the time of the newest


class CertificationRow(NamedTuple):
    """The columns of a ModelCertification that the matrix needs, in the order of its query. Those
    that have a default are read where something asks for them.
    """

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
    updated_at: datetime
    run__endpoint: str | None
    run__api: str | None
    run_id: UUID | None = None
    run__route: str | None = None
    run__route_kind: str | None = None
    run__error_reason: str | None = None
    run__ttft_ms: float | None = None
    run__output_tps: float | None = None
    run__cost_usd: Decimal | float | None = None

    @classmethod
    def columns(cls, filters: Filters, with_details: bool) -> Sequence[str]:
        """Return the columns to read for an address; of thousands of pairs each counts."""
        is_plain = filters.show in (STATUS, "score", "age")
        if with_details or not is_plain or filters.of("reason") or filters.of("route"):
            return cls._fields
        return cls._fields[: -len(cls._field_defaults)]


# What `at` reads of a run, by the column of the row that it stands for.
RUN_COLUMNS = (
    "id", "verdict", "score", "rating", "tier", "backend", "completed_at", "endpoint", "api",
    "route", "route_kind", "error_reason", "ttft_ms", "output_tps", "cost_usd",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A model with one cell for each region of the page."""

    model: AIModel
    cells: Sequence[MatrixCell]
    offered_in: Collection[str]  # its regions with a route; it may have been tested in others too

    @property
    def offered(self) -> int:
        return len(self.offered_in)

    @cached_property
    def certified(self) -> int:
        """How many of the offered pairs are certified."""
        return sum(cell.is_certified and cell.region in self.offered_in for cell in self.cells)

    @property
    def family(self) -> str:
        """The first word of the name: Claude, Nova, Llama."""
        return self.model.name.split(maxsplit=1)[0] if self.model.name.strip() else ""

    def has(self, filters: Filters) -> bool:
        return any(cell.matches(filters) for cell in self.cells if cell.status)

    def narrowed_to(self, filters: Filters) -> Row:
        """Return the row with the cells that do not match dimmed."""
        return Row(
            self.model,
            [c if c.matches(filters) else c._replace(dimmed=True) for c in self.cells],
            self.offered_in,
        )


class Group(NamedTuple):
    """The rows of a vendor or a family, and how many of their pairs are certified."""

    name: str
    models: int
    certified: int
    offered: int
    rows: SafeString


def n_days(days: int) -> str:
    return ngettext("%(days)d day", "%(days)d days", days) % {"days": days}


def sort_key(row: Row, sort: str) -> tuple[float, ...]:
    """Return the place of a row under `sort`; rows of the same place stay in the order of names."""
    cells = [cell for cell in row.cells if cell.status and not cell.dimmed]
    if sort == "worst":
        ranks = [WORST_FIRST.index(Status(c.status)) for c in cells if c.status in WORST_FIRST]
        return (min(ranks, default=len(WORST_FIRST)),)
    if sort == "score":
        scores = [cell.score for cell in cells if cell.score is not None]
        return (-(sum(scores) / len(scores)) if scores else 1,)
    if sort == "tested":
        times = [cell.tested_at.timestamp() for cell in cells if cell.tested_at]
        return (-max(times, default=0),)
    return (0,)


@dataclass(frozen=True)
class LegendEntry:
    key: str
    symbol: str
    label: str | Promise
    count: int
    chosen: bool
    query: str  # of the address that shows these alone, or all again


@dataclass(frozen=True)
class Matrix:
    """What the page shows. `rows` are all that match, `page` some of them. `known` counts all
    active models and `tested` the pairs that have a certification, both before any filter.
    """

    query: QueryDict
    filters: Filters
    vendors: Sequence[str]
    capabilities: Sequence[str]
    all_regions: Sequence[Region]
    regions: Sequence[Region]
    rows: Sequence[Row]
    page: Page[Row]
    counts: Counter[str]
    known: int
    tested: int
    removes_most: str
    version: str
    now: datetime

    @cached_property
    def groups(self) -> list[Group]:
        """The page's rows by vendor or family."""
        name = {
            "vendor": lambda row: row.model.vendor,
            "family": lambda row: row.family,
            "none": lambda row: "",
        }[self.filters.group]
        return [self.group_of(group, list(rows)) for group, rows in groupby(self.page, key=name)]

    @cached_property
    def scale(self) -> Scale | None:
        """The colours of the quantity that cells show; None when they show something else."""
        measure = MEASURES.get(self.filters.show)
        if measure is None:
            return None
        return Scale.of(measure, (cell for row in self.rows for cell in row.cells))

    def group_of(self, name: str, rows: Sequence[Row]) -> Group:
        certified, offered = (
            sum(getattr(row, n) for row in rows) for n in ("certified", "offered")
        )
        html = format_html_join(
            "",
            "{}",
            ((self.renderer.row(r.model, r.cells, f"{r.certified}/{r.offered}"),) for r in rows),
        )
        return Group(name, len(rows), certified, offered, html)

    @property
    def is_unfolded(self) -> bool:
        """Whether a narrow screen shows the rows of all groups at once."""
        return len(self.page.object_list) <= ROWS_UNFOLDED

    @cached_property
    def renderer(self) -> CellRenderer:
        return CellRenderer(self.filters.show, self.scale, self.filters.select)

    @property
    def scale_ends(self) -> tuple[str, str]:
        """The smallest and the largest value of the quantity that is shown."""
        scale = self.scale
        if scale is None or scale.smallest is None or scale.largest is None:
            return "", ""
        return scale.measure.text(scale.smallest), scale.measure.text(scale.largest)

    @property
    def letters(self) -> list[tuple[str, str | Promise]]:
        """(letter, meaning) of what cells show where that is a letter."""
        words = {"route": ROUTES, "residency": RESIDENCIES}.get(self.filters.show, {})
        return list(words.values())

    @property
    def matching(self) -> int:
        """How many pairs match."""
        return sum(bool(c.status) and not c.dimmed for row in self.rows for c in row.cells)

    @property
    def has_more(self) -> bool:
        """Whether a field that is folded away has a value."""
        names = {field.name for field in (*self.more_fields, *self.view_fields)}
        return any(self.query.get(name) for name in (*names, "min_score", "at", "empty"))

    @property
    def geographies(self) -> list[tuple[str | Promise, int]]:
        """(name, columns) of the second head row; pinned regions stand before, without a name."""
        pins = set(self.filters.pins)
        groups = groupby(self.regions, key=lambda r: "" if r.code in pins else geography(r.code))
        return [(GEOGRAPHIES.get(key, key), len(list(regions))) for key, regions in groups]

    @property
    def totals(self) -> list[tuple[str, int, int]]:
        """(region, certified, offered) of each column, over all rows that match."""
        certified: Counter[str] = Counter()
        offered: Counter[str] = Counter()
        for row in self.rows:
            offered.update(row.offered_in)
            certified.update(
                c.region for c in row.cells if c.is_certified and c.region in row.offered_in
            )
        codes = [region.code for region in self.regions] if self.rows else []
        return [(code, certified[code], offered[code]) for code in codes]

    @cached_property
    def sentence(self) -> str:
        """What the matrix says, in a sentence."""
        offered = sum(row.offered for row in self.rows)
        certified = sum(row.certified for row in self.rows)
        text = _("%(certified)d of %(offered)d offered pairs are certified") % {
            "certified": certified,
            "offered": offered,
        }
        if self.filters.since_days is None:
            return f"{text}."
        changes = Counter(key for row in self.rows for c in row.cells for key in c.keys)
        days = self.filters.since_days
        compared = ngettext(
            "%(worse)d got worse and %(better)d better in %(days)d day",
            "%(worse)d got worse and %(better)d better in %(days)d days",
            days,
        ) % {"worse": changes[WORSE], "better": changes[BETTER], "days": days}
        return f"{text}, {compared}."

    @property
    def status_choices(self) -> list[tuple[str, str | Promise]]:
        """What the filter `status` offers; better and worse need a time to compare with."""
        hidden = (BETTER, WORSE) if self.filters.since_days is None else ()
        return [(k, v) for k, v in matrix_filters.FILTER_STATUSES.items() if k not in hidden]

    @property
    def fields(self) -> list[Field]:
        """The lists of the form that filters, those used most."""
        regions = [(r.code, f"{r.code} · {r.name}") for r in self.all_regions]
        return [
            self.field("vendor", [(vendor, vendor) for vendor in self.vendors]),
            self.field("region", regions),
            self.field("status", self.status_choices),
            self.field("kind", ModelKind.choices),
        ]

    @property
    def more_fields(self) -> list[Field]:
        places = {geography(region.code) for region in self.all_regions}
        return [
            self.field("capability", [(c, c.replace("_", " ")) for c in self.capabilities]),
            self.field("geo", [(k, v) for k, v in GEOGRAPHIES.items() if k in places]),
            self.field("reason", labels.REASONS.items()),
            self.field("lifecycle", Lifecycle.choices),
            self.field("route", RouteKind.choices),
            self.field("backend", Backend.choices),
            self.field("tested", [(f"{n}d", n_days(n)) for n in (1, 7, 30)]),
        ]

    @property
    def view_fields(self) -> list[Field]:
        """The lists of the form that choose how the matrix is shown."""
        return [
            self.field("show", measures.SHOWS.items()),
            self.field("since", [(f"{n}d", n_days(n)) for n in (1, 7, 30, 90)]),
            self.field("size", matrix_filters.SIZES.items()),
            self.field("group", matrix_filters.GROUPS.items()),
            self.field("sort", matrix_filters.SORTS.items()),
        ]

    def field(self, name: str, choices: Iterable[tuple[str, str | Promise]]) -> Field:
        return matrix_filters.make_field(name, choices, self.query.getlist(name))

    @property
    def chips(self) -> list[matrix_filters.Chip]:
        return matrix_filters.chips(self.query, self.filters)

    @property
    def dropped(self) -> list[str]:
        return matrix_filters.dropped_sentences(self.filters)

    @property
    def has_running(self) -> bool:
        return bool(self.counts[RUNNING])

    @property
    def legend(self) -> list[LegendEntry]:
        chosen = self.filters.of("status")
        entries = []
        for key, sign in STATUSES.items():
            query = self.query.copy()
            query.pop("page", None)
            query.setlist("status", [] if key in chosen else [key])
            entries.append(
                LegendEntry(
                    key, sign.symbol, sign.label, self.counts[key], key in chosen, query.urlencode()
                )
            )
        return entries

    @property
    def emulated(self) -> bool:
        """Return whether any row on the page has a result from the emulator."""
        return any(cell.backend == Backend.EMULATOR for row in self.page for cell in row.cells)


@dataclass(frozen=True)
class Pairs:
    """What is known of the pairs, by model and region: their certifications, the statuses that they
    had before, and the regions of each model with an active run. `capability` is by run.
    """

    certifications: Mapping[UUID, Mapping[str, CertificationRow]]
    before: Mapping[tuple[UUID, str], str]
    running: Mapping[UUID, Collection[str]]
    newest_run: Newest  # of the active ones
    capability: Mapping[UUID, bool]

    @property
    def rows(self) -> Iterator[CertificationRow]:
        return chain.from_iterable(rows.values() for rows in self.certifications.values())


def read_pairs(filters: Filters, now: datetime, with_details: bool) -> Pairs:
    """Read the pairs as they are, or as they were at `at`, in two queries; and a third where a
    capability is shown.
    """
    certifications, before = read_certifications(filters, now, with_details)
    active = CertificationRun.objects.active().order_by()
    active_runs = list(active.values_list("model_id", "region_id", "created_at"))
    running: dict[UUID, set[str]] = defaultdict(set)
    for model_id, region_id, _created in active_runs if filters.at is None else ():
        running[model_id].add(region_id)
    runs = [row.run_id for rows in certifications.values() for row in rows.values() if row.run_id]
    return Pairs(
        certifications,
        before,
        running,
        newest(created for _model, _region, created in active_runs),
        read_capability(filters.show, runs) if filters.show in CAPABILITIES else {},
    )


def read_certifications(
    filters: Filters, now: datetime, with_details: bool
) -> tuple[dict[UUID, dict[str, CertificationRow]], dict[tuple[UUID, str], str]]:
    """Return {model: {region: certification}} and {(model, region): status before}, the latter
    where the address compares with a time.
    """
    pairs = ModelCertification.objects.in_matrix()
    extra = []
    if filters.at:
        pairs = pairs.with_run_at(filters.at, "run_at", RUN_COLUMNS)
        extra.append("run_at")
    if begin := matrix_filters.begin_of(filters, now):
        pairs = pairs.with_run_at(begin, "run_before")
        extra.append("run_before")
    certifications: dict[UUID, dict[str, CertificationRow]] = defaultdict(dict)
    before = {}
    columns = CertificationRow.columns(filters, with_details)
    for values in pairs.values_list(*columns, *extra):
        row = CertificationRow(*values[: len(columns)])
        more = dict(zip(extra, values[len(columns) :], strict=True)) if extra else {}
        if more.get("run_before"):
            before[row.model_id, row.region_id] = more["run_before"]["verdict"]
        if "run_at" in more:
            if more["run_at"] is None:
                continue
            row = row_at(row, more["run_at"])
        certifications[row.model_id][row.region_id] = row
    return certifications, before


def row_at(row: CertificationRow, run: Mapping[str, Any]) -> CertificationRow:
    """Return a certification as this run left it. It holds as long as one would now."""
    completed_at = parse_datetime(run["completed_at"])
    assert completed_at is not None  # noqa: S101 - a finished run has ended
    return row._replace(
        status=run["verdict"],
        previous_status="",
        score=run["score"],
        rating=run["rating"],
        tier=run["tier"],
        backend=run["backend"],
        expires_at=completed_at + timedelta(days=settings.CERTIFICATION_TTL_DAYS),
        expired_at=None,
        held_back="",
        last_tested_at=completed_at,
        run_id=UUID(run["id"]),
        run__endpoint=run["endpoint"],
        run__api=run["api"],
        run__route=run["route"],
        run__route_kind=run["route_kind"],
        run__error_reason=run["error_reason"],
        run__ttft_ms=run["ttft_ms"],
        run__output_tps=run["output_tps"],
        run__cost_usd=run["cost_usd"],
    )


def read_capability(category: str, runs: Sequence[UUID]) -> dict[UUID, bool]:
    """Return {run: whether all its cases of this category passed}, without runs that had none."""
    counted = (
        TestResult.objects.filter(run__in=runs, category=category)
        .order_by()
        .values_list("run_id")
        .annotate(
            passed=Count("pk", filter=Q(verdict__in=("passed", "flaky"))),
            failed=Count("pk", filter=Q(verdict="failed")),
        )
    )
    return {run: not failed for run, passed, failed in counted if passed or failed}


def row_of(model: Any, codes: Sequence[str], pairs: Pairs, moment: datetime) -> Row:
    """Return the row of a model, which comes with `offered_in`, over the regions of these codes."""
    rows, running = pairs.certifications.get(model.pk, {}), pairs.running.get(model.pk, ())
    offered = set(model.offered_in)
    cells = []
    for code in codes:
        row, is_running = rows.get(code), code in running
        if row is not None:
            before = pairs.before.get((model.pk, code), "") if pairs.before else ""
            cells.append(make_cell(row, moment, pairs.capability, is_running, before))
        elif is_running or code in offered:
            cells.append(MatrixCell(code, Status.NOT_TESTED, running=is_running))
        else:
            cells.append(MatrixCell(code))
    return Row(model, cells, offered.intersection(codes))


def make_cell(
    row: CertificationRow,
    moment: datetime,
    capability: Mapping[UUID, bool],
    running: bool,
    before: str,
) -> MatrixCell:
    """Return the cell of a pair that has a certification. `before` is its earlier status, or ""."""
    expired = validity.is_expired(row, moment)
    status = validity.previous_status(row, moment) if expired else row.status
    expires = row.expires_at
    return MatrixCell(
        region=row.region_id,
        status=status or Status.NOT_TESTED,
        rating=row.rating,
        score=row.score,
        backend=row.backend,
        running=running,
        expired=expired,
        held_back=bool(row.held_back),
        endpoint=row.run__endpoint or "",
        api=row.run__api or "",
        route=row.run__route or "",
        route_kind=row.run__route_kind or "",
        tier=row.tier,
        reason=row.run__error_reason or "",
        age_days=max(0, (moment - row.last_tested_at).days) if row.last_tested_at else None,
        tested_at=row.last_tested_at,
        expires_at=expires,
        expiring=expires is not None and moment < expires <= moment + EXPIRES_SOON,
        ttft_ms=row.run__ttft_ms,
        output_tps=row.run__output_tps,
        cost_usd=row.run__cost_usd,
        capability=capability.get(row.run_id) if capability and row.run_id else None,
        before=before,
        run_id=row.run_id,
    )


def load(query: QueryDict, now: datetime, *, with_details: bool = False) -> Matrix:
    """Load the matrix that an address names, in four queries: models with the regions that offer
    them, regions, certifications, active runs; and a fifth where a capability is shown. A file has
    all details of the runs, a page those that it shows.
    """
    models = list(AIModel.objects.active().only(*MODEL_FIELDS).with_offered_in().with_other_ids())
    enabled = sorted(Region.objects.enabled(), key=lambda region: order_of(region.code))
    vendors = sorted({model.vendor for model in models}, key=str.casefold)
    capabilities = sorted({c for model in models for c in matrix_filters.capabilities_of(model)})
    filters = matrix_filters.read_filters(
        query,
        Known(
            vendors=vendors,
            capabilities=capabilities,
            regions={region.code for region in enabled},
            geographies={geography(region.code) for region in enabled},
        ),
        now,
    )
    pairs = read_pairs(filters, now, with_details)
    used_regions = {code for model in models for code in model.offered_in}
    used_regions |= {row.region_id for row in pairs.rows}
    all_regions = [region for region in enabled if region.code in used_regions]
    regions = [
        region
        for region in all_regions
        if filters.allows("region", region.code) and filters.allows("geo", geography(region.code))
    ]
    regions.sort(key=lambda region: region.code not in filters.pins)
    codes = [region.code for region in regions]
    all_rows = [row_of(model, codes, pairs, filters.at or now) for model in models]
    rows = [row for row in all_rows if filters.matches(row.model)]
    counts = Counter(key for row in rows for cell in row.cells if cell.status for key in cell.keys)
    if filters.on_cells:
        rows = [row.narrowed_to(filters) for row in rows if row.has(filters)]
    elif filters.of("region") or filters.of("geo"):
        rows = [row for row in rows if any(cell.status for cell in row.cells)]
    rows = arranged(rows, filters)
    rows, regions = without_empty_columns(rows, regions) if filters.hide_empty else (rows, regions)
    return Matrix(
        query=query,
        filters=filters,
        vendors=vendors,
        capabilities=capabilities,
        all_regions=all_regions,
        regions=regions,
        rows=rows,
        page=Paginator(rows, MODELS_PER_PAGE).get_page(query.get("page")),
        counts=counts,
        known=len(models),
        tested=sum(map(len, pairs.certifications.values())),
        removes_most="" if rows else filter_that_removes_most(all_rows, filters),
        version=version_of(
            newest(row.updated_at for row in pairs.rows),
            newest(row.expired_at for row in pairs.rows if row.expired_at),
            pairs.newest_run,
            newest(model.updated_at for model in models),
        ),
        now=now,
    )


def arranged(rows: Sequence[Row], filters: Filters) -> list[Row]:
    """Return the rows by group, and in each group in the order that `sort` names."""
    vendors = {vendor: at for at, vendor in enumerate(dict.fromkeys(r.model.vendor for r in rows))}

    def place(row: Row) -> tuple[int | str, ...]:
        if filters.group == "vendor":
            return (vendors[row.model.vendor],)
        return (row.family.casefold(),) if filters.group == "family" else ()

    def name(row: Row) -> str:
        return row.model.name.casefold() if filters.group == "none" else ""

    return sorted(rows, key=lambda row: (place(row), sort_key(row, filters.sort), name(row)))


def without_empty_columns(
    rows: Sequence[Row], regions: Sequence[Region]
) -> tuple[list[Row], list[Region]]:
    """Return rows and regions without the regions in which none of the rows has anything."""
    used = [any(row.cells[at].status for row in rows) for at in range(len(regions))]
    return (
        [replace(row, cells=list(compress(row.cells, used))) for row in rows],
        list(compress(regions, used)),
    )


def filter_that_removes_most(rows: Sequence[Row], filters: Filters) -> str:
    """Return in words the filter without which most models would be left; "" where none helps."""
    best, words = 0, ""
    for name, value in matrix_filters.active_values(filters):
        others = filters.without(name, value)
        left = sum(others.matches(row.model) and row.has(others) for row in rows)
        if left > best:
            best, words = left, f"{matrix_filters.NAMES[name]}: {value}"
    return words


def newest(times: Iterable[datetime]) -> Newest:
    every = list(times)
    return len(every), max(every, default=None)


def version_of(pairs: Newest, expired: Newest, runs: Newest, models: Newest) -> str:
    """Return a text that changes when anything that the matrix shows does."""
    return polling.fingerprint(pairs, expired, runs, models)


def current_version() -> str:
    """Return the version of the matrix without loading it, in three small queries."""
    pairs = ModelCertification.objects.in_matrix().aggregate(
        n=Count("pk"),
        updated=Max("updated_at"),
        n_expired=Count("expired_at"),
        expired=Max("expired_at"),
    )
    runs = CertificationRun.objects.active().aggregate(n=Count("pk"), newest=Max("created_at"))
    models = AIModel.objects.active().aggregate(n=Count("pk"), updated=Max("updated_at"))
    return version_of(
        (pairs["n"], pairs["updated"]),
        (pairs["n_expired"], pairs["expired"]),
        (runs["n"], runs["newest"]),
        (models["n"], models["updated"]),
    )


def selected_pairs(matrix: Matrix, form: QueryDict) -> list[str]:
    """Return the pairs ("model@region") that a form has chosen among those that the matrix shows:
    `pair`s, all of a `model`'s, all of a `region`'s, or `all`.
    """
    pairs, models, regions = (set(form.getlist(name)) for name in ("pair", "model", "region"))
    everything = form.get("all") == "1"
    return [
        pair
        for row in matrix.rows
        for cell in row.cells
        if cell.status and not cell.dimmed
        for pair in [f"{row.model.api_model_id}@{cell.region}"]
        if everything or pair in pairs or row.model.api_model_id in models or cell.region in regions
    ]
