"""The content of a badge: a model's status in one region or in all, read in one query and cached
for a few seconds.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.badges import svg
from certification.lib import shared_cache
from certification.lib.postgresql import replica
from certification.models import Backend, sql, validity
from certification.reasons import Status

UNKNOWN = "unknown"
# An address is a model's id (200 characters at most), a slash and a region's code (32).
MAX_ADDRESS = 240

# The worst status decides the colour of a badge for all regions.
WORST_FIRST = (
    Status.FAILED, Status.QUALITY_WARNING, Status.PERMISSION_REQUIRED,
    Status.CONFIGURATION_REQUIRED, Status.PENDING, Status.CERTIFIED, Status.NOT_TESTED,
)  # fmt: skip


@dataclass(frozen=True)
class RegionStatus:
    """A model in one region."""

    region: str
    status: str = Status.NOT_TESTED
    previous_status: str = ""
    score: int | None = None
    rating: str = ""
    backend: str = ""
    certified_at: datetime | None = None
    expires_at: datetime | None = None
    expired_at: datetime | None = None
    endpoint: str = ""
    api: str = ""

    def is_expired(self, now: datetime) -> bool:
        """Return whether it is past its date, whether or not reconcile has expired it already."""
        return validity.is_expired(self, now)

    def current(self, now: datetime) -> str:
        """Return the status now; an expired one is not tested."""
        return validity.current_status(self, now)

    def message(self, now: datetime) -> str:
        """Return what the badge says, in the active language."""
        parts = [str(labels.EXPIRED.label)]
        if not self.is_expired(now):
            grade = f"{self.rating} {self.score}" if self.score is not None else self.rating
            parts = [str(labels.STATUSES[self.status].label), *([grade] if self.rating else [])]
        if self.backend == Backend.EMULATOR:
            parts.append(_("emulated"))
        return " · ".join(parts)


@dataclass(frozen=True)
class BadgeContent:
    """A model of the catalogue, in one region or (`region` None) in all where it has a route or was
    tested.
    """

    model_id: str
    name: str
    region: str | None
    regions: tuple[RegionStatus, ...]
    offered: bool

    @property
    def label(self) -> str:
        name = svg.clean(self.name) or svg.clean(self.model_id)
        return f"{name} · {self.region}" if self.region else name

    def certified(self, now: datetime) -> int:
        return sum(region.current(now) == Status.CERTIFIED for region in self.regions)

    def message(self, now: datetime) -> str:
        if self.region:
            return self.regions[0].message(now)
        total = len(self.regions)
        if not total:
            return _("not offered")
        share = {"certified": self.certified(now), "total": total}
        count = ngettext("%(certified)s/%(total)s region", "%(certified)s/%(total)s regions", total)
        source = {"emulator": _("emulated"), "mixed": _("partly emulated")}
        return " · ".join(filter(None, (count % share, source.get(self.backend or ""))))

    def color(self, now: datetime) -> str:
        """Return the status's colour; for all regions green when each is certified, yellow when
        some are, else the worst.
        """
        statuses = {region.current(now) for region in self.regions}
        if Status.CERTIFIED in statuses and len(statuses) > 1:
            return "yellow"
        worst = next((status for status in WORST_FIRST if status in statuses), Status.NOT_TESTED)
        return labels.STATUSES[worst].colour

    @property
    def backend(self) -> str | None:
        """Return where the calls behind this went: aws, emulator, mixed; None without any call."""
        backends = {region.backend for region in self.regions} - {""}
        return "mixed" if len(backends) > 1 else next(iter(backends), None)

    def expires_in_s(self, now: datetime) -> float | None:
        """Return the seconds until the next of the regions expires; None when none will."""
        expiries = [r.expires_at for r in self.regions if r.expires_at and not r.is_expired(now)]
        return (min(expiries) - now).total_seconds() if expiries else None


def find(address: str) -> BadgeContent | None:
    """Return the content for `<apiModelId>` or `<apiModelId>/<region>`; None when the model or the
    region is unknown.
    """
    if len(address) > MAX_ADDRESS or any(
        unicodedata.category(character) in ("Cc", "Cs") for character in address
    ):
        return None
    if settings.BADGE_CACHE_SECONDS <= 0:
        return read(address)
    key = cache_key(address)
    entry = shared_cache.get(key, BadgeContent)
    if entry.value is not None:
        return entry.value
    badge = replica.read(entry.began, lambda: read(address))
    if badge is not None:  # unknown names are not cached: anybody can invent them without end
        shared_cache.set(key, entry.generation, badge, settings.BADGE_CACHE_SECONDS)
    return badge


def cache_key(address: str) -> str:
    return f"badge:4:{hashlib.sha256(address.encode()).hexdigest()[:40]}"


class BadgeRow(NamedTuple):
    """A model in a region, as `sql.BADGE` selects it; without regions, `region` is None."""

    called: str
    model_id: str
    name: str
    region: str | None
    enabled: bool | None
    offered: bool
    status: str | None
    previous_status: str | None
    score: int | None
    rating: str | None
    backend: str | None
    certified_at: datetime | None
    expires_at: datetime | None
    expired_at: datetime | None
    endpoint: str | None
    api: str | None

    @property
    def region_status(self) -> RegionStatus:
        if self.status is None:
            return RegionStatus(self.region or "")
        return RegionStatus(
            self.region or "",
            self.status,
            self.previous_status or "",
            self.score,
            self.rating or "",
            self.backend or "",
            self.certified_at,
            self.expires_at,
            self.expired_at,
            self.endpoint or "",
            self.api or "",
        )


def read(address: str) -> BadgeContent | None:
    """Read in one query. An id with slashes (an ARN) looks like an id and a region."""
    head, slash, tail = address.rpartition("/")
    head = head if slash else address
    rows = [
        BadgeRow(**row) for row in sql.fetch_all(sql.BADGE, address=address, head=head, tail=tail)
    ]
    for row in rows:
        if slash and row.called == head and row.region == tail:
            return BadgeContent(row.model_id, row.name, tail, (row.region_status,), row.offered)
    of_model = [row for row in rows if row.called == address]
    if not of_model:
        return None
    regions = tuple(
        row.region_status for row in of_model if row.enabled and (row.offered or row.status)
    )
    offered = any(row.offered for row in of_model)
    return BadgeContent(of_model[0].model_id, of_model[0].name, None, regions, offered)
