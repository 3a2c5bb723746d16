"""What a badge says: a model's standing in one region or in all, read in one query and shared for a few seconds."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.core.cache import cache
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import JSONObject
from redis.exceptions import RedisError

from certification.badges import drawing
from certification.models import AIModel, Backend, ModelCertification, Region, Route
from certification.reasons import Status

log = structlog.get_logger(__name__)

UNKNOWN = "unknown"
# An address is a model's id (200 characters at most), a slash and a region's code (32).
LONGEST_ADDRESS = 240
CACHE_AWAY_S = 5.0  # how long a process asks the database alone after the cache did not answer

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
    """A model in one region. Badges are in English wherever they are shown, so that one picture can be shared by all."""

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
        return self.expired_at is not None or (self.expires_at is not None and self.expires_at <= now)

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
    """A model that the catalogue knows, in one region or (`region` None) in all where it has a route or was tested."""

    model_id: str
    name: str
    region: str | None
    standings: tuple[Standing, ...]
    offered: bool

    @property
    def label(self) -> str:
        name = drawing.clean(self.name) or drawing.clean(self.model_id)
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
        source = {"emulator": ["emulated"], "mixed": ["partly emulated"]}.get(self.backend or "", [])
        return " · ".join([counted, *source])

    def color(self, now: datetime) -> str:
        """The colour of the standing; for all regions green when every one is certified, yellow when some are, else the worst."""
        seen = {standing.current(now) for standing in self.standings}
        if Status.CERTIFIED in seen and len(seen) > 1:
            return "yellow"
        return next((color for status, color in COLORS.items() if status in seen), "grey")

    @property
    def backend(self) -> str | None:
        """Where the calls behind these standings went: aws, emulator, mixed; None where nothing was called."""
        seen = {standing.backend for standing in self.standings} - {""}
        return "mixed" if len(seen) > 1 else next(iter(seen), None)

    def holds_s(self, now: datetime) -> float | None:
        """Seconds until the next of these standings expires; None when none will."""
        coming = [s.expires_at for s in self.standings if s.expires_at and not s.is_expired(now)]
        return (min(coming) - now).total_seconds() if coming else None


@dataclass
class _Outage:
    """Since when this process leaves the cache alone. A race between threads costs one more failed call."""

    until: float = field(default=0.0)


_outage = _Outage()


def find(address: str) -> Known | None:
    """What stands behind `<apiModelId>` or `<apiModelId>/<region>`; None when the model or the region is not known."""
    if len(address) > LONGEST_ADDRESS or any(unicodedata.category(c) in ("Cc", "Cs") for c in address):
        return None
    key = cache_key(address)
    known = _cached(key)
    if known is None:
        known = _read(address)
        if known is not None:  # what is unknown is not kept: anybody can think of names without end
            _keep(key, known)
    return known


def cache_key(address: str) -> str:
    """Where the shared cache keeps what `find` read. Everything that shall end its life early is joined here."""
    return f"badge:1:{hashlib.sha256(address.encode()).hexdigest()[:40]}"


def _cached(key: str) -> Known | None:
    if settings.BADGE_CACHE_SECONDS <= 0 or time.monotonic() < _outage.until:
        return None
    try:
        found = cache.get(key)
    except (RedisError, OSError) as error:
        _note_outage(error)
        return None
    return found if isinstance(found, Known) else None


def _keep(key: str, known: Known) -> None:
    if settings.BADGE_CACHE_SECONDS <= 0 or time.monotonic() < _outage.until:
        return
    try:
        cache.set(key, known, settings.BADGE_CACHE_SECONDS)
    except (RedisError, OSError) as error:
        _note_outage(error)


def _note_outage(error: Exception) -> None:
    log.warning("badge_cache_away", error=str(error))
    _outage.until = time.monotonic() + CACHE_AWAY_S


def _read(address: str) -> Known | None:
    """One query, also for an id with slashes in it (an ARN), which looks like an id and a region."""
    head, slash, tail = address.rpartition("/")
    names = [address, head] if slash else [address]
    whole = Q(model__api_model_id=address)
    rows = ModelCertification.objects.filter(whole | Q(region=tail), model=OuterRef("pk"))
    routes = Route.objects.filter(whole | Q(region=tail), model=OuterRef("pk"))
    found = AIModel.objects.filter(api_model_id__in=names).values_list(
        "api_model_id",
        "name",
        ArraySubquery(rows.order_by().values(row=JSONObject(enabled="region__enabled", **{f: f for f in FIELDS}))),
        ArraySubquery(routes.filter(region__enabled=True).order_by().values("region").distinct()),
        Exists(Region.objects.filter(code=tail)),
    )
    by_id = {entry[0]: entry for entry in found}
    if slash and head in by_id and by_id[head][4]:
        return _in_region(tail, *by_id[head][:4])
    return _everywhere(*by_id[address][:4]) if address in by_id else None


FIELDS = (
    "region", "status", "previous_status", "score", "rating", "backend", "certified_at", "expires_at", "expired_at",
)  # fmt: skip


def _in_region(region: str, model_id: str, name: str, rows: list[dict[str, Any]], routes: list[str]) -> Known:
    standing = next((_standing(row) for row in rows if row["region"] == region), Standing(region))
    return Known(model_id, name, region, (standing,), offered=region in routes)


def _everywhere(model_id: str, name: str, rows: list[dict[str, Any]], routes: list[str]) -> Known:
    by_region = {region: Standing(region) for region in routes}
    by_region |= {row["region"]: _standing(row) for row in rows if row["enabled"]}
    standings = tuple(by_region[region] for region in sorted(by_region))
    return Known(model_id, name, None, standings, offered=bool(routes))


def _standing(row: Mapping[str, Any]) -> Standing:
    values = {name: row[name] for name in FIELDS}
    for name in ("certified_at", "expires_at", "expired_at"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    return Standing(**values)
