"""The address of the matrix: which models, regions and pairs it shows, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from certification import labels
from certification.models import AIModel, Backend, Lifecycle, ModelKind, RouteKind
from certification.web.measures import SHOWS, STATUS
from certification.web.start import GEOGRAPHIES

RUNNING, EXPIRED, EXPIRING = "running", "expired", "expiring"
BETTER, WORSE = "better", "worse"
STATUSES = {**labels.STATUSES, RUNNING: labels.RUNNING, EXPIRED: labels.EXPIRED}
# What `status` takes; the last two compare with the time that `since` names.
FILTER_STATUSES: dict[str, str | Promise] = {
    **{key: sign.label for key, sign in STATUSES.items()},
    EXPIRING: labels.EXPIRING.label,
    BETTER: pgettext_lazy("status", "better than before"),
    WORSE: pgettext_lazy("status", "worse than before"),
}
SIZES: dict[str, str | Promise] = {
    "normal": pgettext_lazy("size", "normal"),
    "compact": pgettext_lazy("size", "compact"),
    "map": pgettext_lazy("size", "map"),
}
GROUPS: dict[str, str | Promise] = {
    "vendor": gettext_lazy("vendor"),
    "family": gettext_lazy("family"),
    "none": gettext_lazy("no groups"),
}
SORTS: dict[str, str | Promise] = {
    "name": gettext_lazy("name"),
    "worst": gettext_lazy("worst first"),
    "score": gettext_lazy("best score first"),
    "tested": gettext_lazy("tested last first"),
}
MAX_SEARCH, MAX_VALUES, MAX_DAYS = 200, 100, 365
NAMES: dict[str, str | Promise] = {
    "q": gettext_lazy("model"),
    "vendor": gettext_lazy("vendor"),
    "kind": gettext_lazy("kind"),
    "lifecycle": gettext_lazy("lifecycle"),
    "capability": gettext_lazy("capability"),
    "status": gettext_lazy("status"),
    "reason": gettext_lazy("reason"),
    "geo": gettext_lazy("part of the world"),
    "region": gettext_lazy("region"),
    "route": gettext_lazy("route"),
    "backend": gettext_lazy("backend"),
    "min_score": gettext_lazy("score at least"),
    "tested": gettext_lazy("tested in the last"),
    "since": gettext_lazy("compared with"),
    "at": gettext_lazy("as it stood on"),
    "show": gettext_lazy("cells show"),
    "size": gettext_lazy("size"),
    "group": gettext_lazy("groups"),
    "sort": gettext_lazy("order"),
    "empty": gettext_lazy("columns without a route"),
    "pin": gettext_lazy("first regions"),
    "select": gettext_lazy("boxes to tick"),
    "page": gettext_lazy("page"),
}
PARAMETERS = frozenset(NAMES)
MULTIPLE = (
    "vendor", "kind", "lifecycle", "capability", "status", "reason", "geo", "region", "route",
    "backend",
)  # fmt: skip
DEFAULTS = ("show", "size", "group", "sort")
FILTERING = ("q", *MULTIPLE, "min_score", "tested")


@dataclass(frozen=True)
class Known:
    """What the catalogue has, for the values of `vendor`, `capability`, `region` and `geo`."""

    vendors: Collection[str]
    capabilities: Collection[str]
    regions: Collection[str]
    geographies: Collection[str]


@dataclass(frozen=True)
class Filters:
    """The checked address; empty members filter nothing. `chosen` has the values of MULTIPLE.

    `dropped` are (parameter, value) that there are not, and which the page says it left out.
    """

    search: str = ""
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_score: int | None = None
    tested_days: int | None = None
    since_days: int | None = None
    at: datetime | None = None  # the end of that day
    show: str = STATUS
    size: str = "normal"
    group: str = "vendor"
    sort: str = "name"
    hide_empty: bool = False
    pins: tuple[str, ...] = ()
    select: bool = False
    dropped: tuple[tuple[str, str], ...] = ()

    def of(self, parameter: str) -> tuple[str, ...]:
        return self.chosen.get(parameter, ())

    def allows(self, parameter: str, *values: str) -> bool:
        """Return whether one of the values is chosen, or nothing is."""
        chosen = self.of(parameter)
        return not chosen or not set(chosen).isdisjoint(values)

    def without(self, name: str, value: str) -> Filters:
        """Return the filters without a value of a parameter."""
        if name == "q":
            return replace(self, search="")
        if name == "min_score":
            return replace(self, min_score=None)
        if name == "tested":
            return replace(self, tested_days=None)
        rest = tuple(other for other in self.of(name) if other != value)
        return replace(self, chosen={**self.chosen, name: rest})

    @property
    def on_cells(self) -> bool:
        """Whether a filter is about cells and not about their model."""
        on_lists = ("status", "reason", "route", "backend")
        return (
            any(self.of(name) for name in on_lists)
            or self.min_score is not None
            or self.tested_days is not None
        )

    def matches(self, model: AIModel) -> bool:
        """Return whether a model passes the filters on models (not those on cells). It comes with
        its `other_ids`.
        """
        ids = " ".join([model.api_model_id, *model.other_ids])  # type: ignore[attr-defined]
        text = f"{model.name} {ids} {model.vendor}".casefold()
        return (
            all(word in text for word in self.search.casefold().split())
            and self.allows("vendor", model.vendor)
            and self.allows("kind", model.kind)
            and self.allows("lifecycle", model.lifecycle)
            and set(self.of("capability")) <= set(capabilities_of(model))
        )


def capabilities_of(model: AIModel) -> list[str]:
    """Return the declared capabilities of a model, whatever its row holds."""
    declared = (
        [c for c in model.capabilities if isinstance(c, str)]
        if isinstance(model.capabilities, list)
        else []
    )
    return [*declared, *(["streaming"] if model.streaming else [])]


class Address:
    """Read the parameters of one address, and collect those of which there is no such value."""

    def __init__(self, query: QueryDict) -> None:
        self.query = query
        self.dropped: list[tuple[str, str]] = []

    def many(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        """Return the values that are allowed, each once, in their order."""
        values = [v for v in dict.fromkeys(self.query.getlist(name)) if v][:MAX_VALUES]
        self.dropped += [(name, value) for value in values if value not in allowed]
        return tuple(value for value in values if value in allowed)

    def one(self, name: str, allowed: Collection[str], default: str = "") -> str:
        value = self.query.get(name, "")
        if value and value not in allowed:
            self.dropped.append((name, value))
        return value if value in allowed else default

    def read(self, name: str, parse: Callable[[str], Any]) -> Any:
        """Return what `parse` makes of the value; None without one and where it gives None."""
        text = self.query.get(name, "").strip()
        value = parse(text) if text else None
        if text and value is None:
            self.dropped.append((name, text))
        return value


def whole_number(text: str, largest: int) -> int | None:
    """Return a number from 0 to `largest`; None for any other text."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 9
    return int(text) if is_number and int(text) <= largest else None


def days(text: str) -> int | None:
    """Return the days of "7d"; None for any other text and for more than MAX_DAYS."""
    match = re.fullmatch(r"([1-9]\d{0,2})d", text, re.ASCII)
    return int(match[1]) if match and int(match[1]) <= MAX_DAYS else None


def end_of_day(text: str, now: datetime) -> datetime | None:
    """Return the end of the day "2026-11-01" (UTC), now for today; None for a day to come and for
    any other text.
    """
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else None
    except ValueError:
        return None
    if day is None or day > now.date():
        return None
    return min(now, datetime.combine(day, time(23, 59, 59), UTC))


def read_filters(query: QueryDict, known: Known, now: datetime) -> Filters:
    """Read the address. What there is not is dropped, and the filters say so."""
    address = Address(query)
    since = address.read("since", days)
    statuses = set(FILTER_STATUSES) - ({BETTER, WORSE} if since is None else set())
    allowed: dict[str, Collection[str]] = {
        "vendor": known.vendors,
        "kind": ModelKind.values,
        "lifecycle": Lifecycle.values,
        "capability": known.capabilities,
        "status": statuses,
        "reason": labels.REASONS,
        "geo": known.geographies,
        "region": known.regions,
        "route": RouteKind.values,
        "backend": Backend.values,
    }
    return Filters(
        search=query.get("q", "").strip()[:MAX_SEARCH],
        chosen={name: address.many(name, allowed[name]) for name in MULTIPLE},
        min_score=address.read("min_score", lambda text: whole_number(text, 100)),
        tested_days=address.read("tested", days),
        since_days=since,
        at=address.read("at", lambda text: end_of_day(text, now)),
        show=address.one("show", SHOWS, STATUS),
        size=address.one("size", SIZES, "normal"),
        group=address.one("group", GROUPS, "vendor"),
        sort=address.one("sort", SORTS, "name"),
        hide_empty=address.one("empty", ("hide",)) == "hide",
        pins=address.many("pin", known.regions),
        select=address.one("select", ("1",)) == "1",
        dropped=tuple(address.dropped),
    )


@dataclass(frozen=True)
class Chip:
    """A filter that is on: in words, and the address without it."""

    label: str
    query: str


def chips(query: QueryDict, filters: Filters) -> list[Chip]:
    """Return what of the address filters, each with the address that it is without."""
    return [
        Chip(f"{NAMES[name]}: {value_words(name, value)}", without(query, name, value))
        for name, value in active_values(filters)
    ]


def active_values(filters: Filters) -> Iterator[tuple[str, str]]:
    if filters.search:
        yield "q", filters.search
    for name in MULTIPLE:
        for value in filters.of(name):
            yield name, value
    if filters.min_score is not None:
        yield "min_score", str(filters.min_score)
    if filters.tested_days is not None:
        yield "tested", f"{filters.tested_days}d"


def without(query: QueryDict, name: str, value: str) -> str:
    """Return the query string without a value of a parameter, and on its first page."""
    rest = query.copy()
    is_list = name in MULTIPLE
    rest.setlist(name, [v for v in rest.getlist(name) if v != value] if is_list else [])
    rest.pop("page", None)
    return rest.urlencode()


def value_words(name: str, value: str) -> str:
    """Return a value of a parameter in words."""
    lists: Mapping[str, Mapping[str, str | Promise]] = {
        "status": FILTER_STATUSES,
        "reason": labels.REASONS,
        "kind": dict(ModelKind.choices),
        "lifecycle": dict(Lifecycle.choices),
        "route": dict(RouteKind.choices),
        "backend": dict(Backend.choices),
        "geo": GEOGRAPHIES,
    }
    if name == "tested":
        return _("%(days)s days") % {"days": value.removesuffix("d")}
    return str(lists.get(name, {}).get(value, value))


def dropped_sentences(filters: Filters) -> list[str]:
    """Return a sentence for each value that was left out."""
    return [
        _("There is no %(name)s “%(value)s”: shown without it.")
        % {"name": NAMES[name], "value": value[:80]}
        for name, value in filters.dropped[:5]
    ]


def begin_of(filters: Filters, now: datetime) -> datetime | None:
    """Return the time that `since` compares with; None without it."""
    if filters.since_days is None:
        return None
    return (filters.at or now) - timedelta(days=filters.since_days)


@dataclass(frozen=True)
class Field:
    """A field of the form that filters: its parameter, its choices, and what is chosen.

    More values than one, which a list cannot show, are sent along as `others`.
    """

    name: str
    label: str | Promise
    choices: Sequence[tuple[str, str | Promise]]
    value: str
    others: Sequence[str]
    empty: str | Promise  # what no value means


def make_field(
    name: str, choices: Iterable[tuple[str, str | Promise]], values: Sequence[str]
) -> Field:
    every = list(choices)
    if name in DEFAULTS:  # its first choice is what no value means
        (_value, empty), *every = every
        return Field(name, NAMES[name], every, values[0] if values else "", (), empty)
    return Field(name, NAMES[name], every, values[0] if values else "", values[1:], _("any"))
