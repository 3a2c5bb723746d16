"""What a badge says: a model's standing in one region or in all, read in one query and shared for a
few seconds.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.db import connection

from certification.badges import svg
from certification.lib import shared_cache
from certification.models import Backend
from certification.reasons import Status

UNKNOWN = "unknown"
# An address is a model's id (200 characters at most), a slash and a region's code (32).
LONGEST_ADDRESS = 240

# The first that is seen colours a badge for all regions.
COLORS: Mapping[str, str] = {
    Status.FAILED: "red",
    Status.QUALITY_WARNING: "yellow",
    Status.PERMISSION_REQUIRED: "orange",
    Status.CONFIGURATION_REQUIRED: "orange",
    Status.PENDING: "blue",
    Status.CERTIFIED: "green",
    Status.NOT_TESTED: "grey",
}


@dataclass(frozen=True)
class Standing:
    """A model in one region. Badges are in English wherever they are shown, so that one picture can
    be shared by all.
    """

    region: str
    status: str = Status.NOT_TESTED
    previous_status: str = ""
    score: int | None = None
    rating: str = ""
    backend: str = ""
    certified_at: datetime | None = None
    expires_at: datetime | None = None
    expired_at: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Past its date, whether or not reconcile has taken the standing away already."""
        return self.expired_at is not None or (
            self.expires_at is not None and self.expires_at <= now
        )

    def current(self, now: datetime) -> str:
        """The status that holds now: an expired standing is none."""
        return str(Status.NOT_TESTED) if self.is_expired(now) else self.status

    def words(self, now: datetime) -> str:
        if self.is_expired(now):
            words = ["expired"]
        else:
            words = [self.status.replace("_", " "), *self._grade]
        return " · ".join([*words, "emulated"] if self.backend == Backend.EMULATOR else words)

    @property
    def _grade(self) -> list[str]:
        if self.rating and self.score is not None:
            return [f"{self.rating} {self.score}"]
        return [self.rating] if self.rating else []


@dataclass(frozen=True)
class Known:
    """A model that the catalogue knows, in one region or (`region` None) in all where it has a
    route or was tested.
    """

    model_id: str
    name: str
    region: str | None
    standings: tuple[Standing, ...]
    offered: bool

    @property
    def label(self) -> str:
        name = svg.clean(self.name) or svg.clean(self.model_id)
        return f"{name} · {self.region}" if self.region else name

    def certified(self, now: datetime) -> int:
        return sum(standing.current(now) == Status.CERTIFIED for standing in self.standings)

    def message(self, now: datetime) -> str:
        if self.region:
            return self.standings[0].words(now)
        total = len(self.standings)
        if not total:
            return "not offered"
        counted = f"{self.certified(now)}/{total} region{'s' * (total != 1)}"
        source = {"emulator": ["emulated"], "mixed": ["partly emulated"]}.get(
            self.backend or "", []
        )
        return " · ".join([counted, *source])

    def color(self, now: datetime) -> str:
        """The colour of the standing; for all regions green when every one is certified, yellow
        when some are, else the worst.
        """
        seen = {standing.current(now) for standing in self.standings}
        if Status.CERTIFIED in seen and len(seen) > 1:
            return "yellow"
        return next((color for status, color in COLORS.items() if status in seen), "grey")

    @property
    def backend(self) -> str | None:
        """Where the calls behind these standings went: aws, emulator, mixed; None where nothing was
        called.
        """
        seen = {standing.backend for standing in self.standings} - {""}
        return "mixed" if len(seen) > 1 else next(iter(seen), None)

    def holds_s(self, now: datetime) -> float | None:
        """Seconds until the next of these standings expires; None when none will."""
        coming = [s.expires_at for s in self.standings if s.expires_at and not s.is_expired(now)]
        return (min(coming) - now).total_seconds() if coming else None


def find(address: str) -> Known | None:
    """What stands behind `<apiModelId>` or `<apiModelId>/<region>`; None when the model or the
    region is not known.
    """
    if len(address) > LONGEST_ADDRESS or any(
        unicodedata.category(c) in ("Cc", "Cs") for c in address
    ):
        return None
    if settings.BADGE_CACHE_SECONDS <= 0:
        return _read(address)
    key = cache_key(address)
    found = shared_cache.get(key)
    if isinstance(found.value, Known):
        return found.value
    known = _read(address)
    if known is not None:  # what is unknown is not kept: anybody can think of names without end
        shared_cache.set(key, found.generation, known, settings.BADGE_CACHE_SECONDS)
    return known


def cache_key(address: str) -> str:
    """Where the shared cache keeps what `find` read."""
    return f"badge:2:{hashlib.sha256(address.encode()).hexdigest()[:40]}"


class _Row(NamedTuple):
    """A model in a region, as SQL below says it; `region` is None for a model of which no region is
    asked.
    """

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

    @property
    def standing(self) -> Standing:
        if self.status is None:
            return Standing(self.region or "")
        return Standing(
            self.region or "",
            self.status,
            self.previous_status or "",
            self.score,
            self.rating or "",
            self.backend or "",
            self.certified_at,
            self.expires_at,
            self.expired_at,
        )


# Written out: through the ORM the same question costs three milliseconds of Python, and a badge
# should cost less than one.
SQL = """
SELECT m.api_model_id, m.name, r.code, r.enabled,
       EXISTS (SELECT FROM certification_route t WHERE t.model_id = m.id AND t.region_id = r.code AND r.enabled),
       c.status, c.previous_status, c.score, c.rating, c.backend, c.certified_at, c.expires_at, c.expired_at
FROM certification_aimodel m
LEFT JOIN certification_region r ON m.api_model_id = %(address)s OR r.code = %(tail)s
LEFT JOIN certification_modelcertification c ON c.model_id = m.id AND c.region_id = r.code
WHERE m.api_model_id IN (%(address)s, %(head)s)
ORDER BY r.code
"""


def _read(address: str) -> Known | None:
    """One query, also for an id with slashes in it (an ARN), which looks like an id and a region."""
    head, slash, tail = address.rpartition("/")
    with connection.cursor() as cursor:
        cursor.execute(SQL, {"address": address, "head": head if slash else address, "tail": tail})
        rows = [_Row(*row) for row in cursor.fetchall()]
    for row in rows:
        if slash and row.model_id == head and row.region == tail:
            return Known(row.model_id, row.name, tail, (row.standing,), row.offered)
    regions = [row for row in rows if row.model_id == address]
    if not regions:
        return None
    counted = tuple(row.standing for row in regions if row.enabled and (row.offered or row.status))
    return Known(address, regions[0].name, None, counted, any(row.offered for row in regions))
