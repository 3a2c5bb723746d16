"""The audit trail on a page: what its address chooses, in pages and as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification.models import AuditEntry
from certification.web import exports, polling

ENTRIES_PER_PAGE = 50
LONGEST_WORD = 200
PERMISSION = "certification.view_auditentry"
COLUMNS = (
    "at", "actor", "via", "place", "address", "request_id", "action", "kind", "key", "subject",
    "changes",
)  # fmt: skip
SUBJECT = ("subject", "kind", "key", "place")  # where the filter `object` looks


@dataclass(frozen=True)
class AuditFilters:
    """The parameters `by`, `verb`, `object`, `from` and `to` of the address; the days are UTC's.
    `refused` says which are no days: they filter nothing.
    """

    by: str = ""
    verb: str = ""
    object: str = ""
    since: date | None = None
    until: date | None = None
    refused: tuple[str, ...] = field(default=())

    @classmethod
    def from_query(cls, query: QueryDict) -> AuditFilters:
        words = {
            name: query.get(name, "").replace("\0", "").strip()[:LONGEST_WORD]
            for name in ("by", "verb", "object", "from", "to")
        }
        days, refused = {}, []
        for name in ("from", "to"):
            text = words.pop(name)
            try:
                days[name] = date.fromisoformat(text) if text else None
            except ValueError:
                refused.append(text)
        return cls(**words, since=days.get("from"), until=days.get("to"), refused=tuple(refused))

    def entries(self) -> QuerySet[AuditEntry]:
        """Return what passes, newest first."""
        entries = AuditEntry.objects.all()
        if self.by:
            entries = entries.filter(actor__icontains=self.by)
        if self.verb:
            entries = entries.filter(action__icontains=self.verb)
        if self.object:
            names = [Q(**{f"{name}__icontains": self.object}) for name in SUBJECT]
            entries = entries.filter(names[0] | names[1] | names[2] | names[3])
        if self.since:
            entries = entries.filter(at__gte=start_of(self.since))
        if self.until and self.until < date.max:
            entries = entries.filter(at__lt=start_of(self.until + timedelta(days=1)))
        return entries

    @property
    def is_set(self) -> bool:
        return self != AuditFilters(refused=self.refused)


def start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


@dataclass(frozen=True)
class Change:
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class EntryRow:
    entry: AuditEntry

    @property
    def changes(self) -> list[Change]:
        stored = self.entry.changes
        pairs = stored.items() if isinstance(stored, dict) else ()
        return [
            Change(name, text_of(pair[0]), text_of(pair[1]))
            for name, pair in pairs
            if isinstance(pair, list) and len(pair) == 2
        ]


def text_of(value: Any) -> str:
    """Return a stored value as words, a dash for none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value)


@dataclass(frozen=True)
class AuditTab:
    filters: AuditFilters
    entries: Page[AuditEntry]

    @cached_property
    def rows(self) -> list[EntryRow]:
        return [EntryRow(entry) for entry in self.entries]

    @property
    def sentence(self) -> str:
        total = self.entries.paginator.count
        if not total:
            return _("No entry passes the filters.") if self.filters.is_set else _("No entry yet.")
        return ngettext("%(n)d entry.", "%(n)d entries.", total) % {"n": total}

    @property
    def version(self) -> str:
        return polling.fingerprint(self.entries.paginator.count, [e.pk for e in self.entries])


def load(query: QueryDict) -> AuditTab:
    """Read a page of the entries that the address chooses, in two queries."""
    filters = AuditFilters.from_query(query)
    pages = Paginator(filters.entries(), ENTRIES_PER_PAGE)
    return AuditTab(filters, pages.get_page(query.get("page")))


def table(query: QueryDict, now: datetime) -> exports.Table:
    """Return all entries that the address chooses, as a file has them."""
    entries = AuditFilters.from_query(query).entries()
    return exports.Table("audit", "entries", COLUMNS, rows_of(entries), now)


def rows_of(entries: QuerySet[AuditEntry]) -> Iterator[Mapping[str, Any]]:
    yield from entries.values(*COLUMNS).iterator()
