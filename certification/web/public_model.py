"""What people outside may know of a model: where it works and for what, and none of the reasons."""

from __future__ import annotations

import difflib
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from django.conf import settings

from certification.lib import foreign_text, shared_cache
from certification.lib.postgresql import replica
from certification.models import (
    AIModel,
    Backend,
    ModelCertification,
    ModelKind,
    Route,
    Tier,
    validity,
)
from certification.reasons import Status
from certification.web.start import GEOGRAPHIES, geography

MAX_ID = 200  # characters of a model's id
NEAR_NAMES = 5
FAST, MODERATE = 0.8, 0.4  # of the performance figure, 0..1


class PublicState(StrEnum):
    """A status in the words of people outside."""

    WORKS = "works"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


PUBLIC_STATES = {
    Status.CERTIFIED: PublicState.WORKS,
    Status.QUALITY_WARNING: PublicState.LIMITED,
    Status.FAILED: PublicState.UNAVAILABLE,
    Status.PERMISSION_REQUIRED: PublicState.UNAVAILABLE,
    Status.CONFIGURATION_REQUIRED: PublicState.UNAVAILABLE,
    Status.PENDING: PublicState.UNKNOWN,
    Status.NOT_TESTED: PublicState.UNKNOWN,
}
# capabilities that people outside may ask for and that the suite tries where a model declares them
TRIED = ("tools", "vision", "documents", "reasoning")
USABLE = (PublicState.WORKS, PublicState.LIMITED)


@dataclass(frozen=True)
class PublicRegion:
    """A model in one region, as it is stored: `state_at` says what holds at a time."""

    code: str
    name: str
    status: str = Status.NOT_TESTED.value
    expires_at: datetime | None = None
    expired_at: datetime | None = None
    checked_at: datetime | None = None
    is_emulated: bool = False
    is_quick: bool = False
    lacks: tuple[str, ...] = ()
    performance: float | None = None

    def state_at(self, now: datetime) -> PublicState:
        return PUBLIC_STATES[Status(validity.current_status(self, now))]

    def is_expired(self, now: datetime) -> bool:
        return validity.is_expired(self, now)


@dataclass(frozen=True)
class PublicModel:
    """A model and its regions, by their codes."""

    api_model_id: str
    name: str
    vendor: str
    kind: str
    capabilities: tuple[str, ...]
    regions: tuple[PublicRegion, ...]


@dataclass(frozen=True)
class ShownRegion:
    """A region on the page. `speed` is fast, moderate, slow or "" when it is not known."""

    region: PublicRegion
    state: PublicState
    is_expired: bool
    speed: str


@dataclass(frozen=True)
class PublicPage:
    """The page at a time. `chosen` is the region of the address, None without one; `unknown_region`
    is one that the model does not have.
    """

    model: PublicModel
    shown: Sequence[ShownRegion]
    chosen: ShownRegion | None
    unknown_region: str

    @property
    def usable(self) -> int:
        return sum(row.state in USABLE for row in self.shown)

    @property
    def is_emulated(self) -> bool:
        return any(row.region.is_emulated for row in self.shown)

    @property
    def usable_for(self) -> list[str]:
        """What the model can do in a region where it works: in the chosen one, else in any."""
        rows = [self.chosen] if self.chosen else self.shown
        usable = [row.region for row in rows if row.state in USABLE]
        if not usable:
            return []
        basis = "embedding" if self.model.kind == ModelKind.EMBEDDING else "chat"
        lacks = set(usable[0].lacks).intersection(*(region.lacks for region in usable))
        tried = [name for name in TRIED if name in self.model.capabilities]
        return [basis, *(name for name in tried if name not in lacks)]

    @property
    def checked_at(self) -> datetime | None:
        rows = [self.chosen] if self.chosen else self.shown
        return max((row.region.checked_at for row in rows if row.region.checked_at), default=None)

    @property
    def geographies(self) -> list[tuple[str, list[ShownRegion]]]:
        """The regions by part of the world."""
        order = list(GEOGRAPHIES)

        def place(row: ShownRegion) -> tuple[int, str, str]:
            key = geography(row.region.code)
            return order.index(key) if key in order else len(order), key, row.region.code

        rows = sorted(self.shown, key=place)
        return [
            (str(GEOGRAPHIES.get(key, key)), list(group))
            for key, group in groupby(rows, key=lambda row: geography(row.region.code))
        ]


def load(api_model_id: str, region: str, now: datetime) -> PublicPage | None:
    """Return the page of a model, by its id or an alias; None for an unknown one."""
    model = find(api_model_id)
    if model is None:
        return None
    shown = [show(row, now) for row in model.regions]
    chosen = next((row for row in shown if row.region.code == region), None)
    return PublicPage(model, shown, chosen, "" if chosen else region)


def show(region: PublicRegion, now: datetime) -> ShownRegion:
    state = region.state_at(now)
    p = region.performance
    speed = ""
    if p is not None and state in USABLE:
        speed = "fast" if p >= FAST else "moderate" if p >= MODERATE else "slow"
    return ShownRegion(region, state, region.is_expired(now), speed)


def find(api_model_id: str) -> PublicModel | None:
    """Return a model as it is cached for PUBLIC_CACHE_SECONDS, or read it."""
    if not is_name(api_model_id):
        return None
    key = f"public-model:1:{hashlib.sha256(api_model_id.encode()).hexdigest()[:40]}"
    entry = shared_cache.get(key, PublicModel)
    if entry.value is not None:
        return entry.value
    model = replica.read(entry.began, lambda: read(api_model_id))
    if model is not None:  # unknown names are not cached: anybody can invent them without end
        shared_cache.set(key, entry.generation, model, settings.PUBLIC_CACHE_SECONDS)
    return model


def is_name(text: str) -> bool:
    """Return whether a text can be a model's id at all."""
    is_clean = all(unicodedata.category(character) not in ("Cc", "Cs") for character in text)
    return is_clean and len(text) <= MAX_ID


def read(api_model_id: str) -> PublicModel | None:
    """Read a model, the regions where it has a route, and its certifications."""
    row = AIModel.objects.named([api_model_id]).get(api_model_id)
    if row is None:
        return None
    routes = Route.objects.filter(model=row, region__enabled=True).order_by()
    regions = {
        code: PublicRegion(code, name)
        for code, name in routes.values_list("region_id", "region__name").distinct()
    }
    pairs = ModelCertification.objects.filter(model=row, region__enabled=True)
    for pair in pairs.select_related("region", "run"):
        regions[pair.region_id] = region_of(pair)
    return PublicModel(
        row.api_model_id,
        foreign_text.clean(row.name),
        foreign_text.clean(row.vendor),
        row.kind,
        tuple(row.capabilities),
        tuple(regions[code] for code in sorted(regions)),
    )


def region_of(pair: ModelCertification) -> PublicRegion:
    run = pair.run
    return PublicRegion(
        pair.region_id,
        pair.region.name,
        pair.status,
        pair.expires_at,
        pair.expired_at,
        pair.last_tested_at,
        pair.backend == Backend.EMULATOR,
        pair.tier == Tier.QUICK,
        tuple(run.environment.get("lacks", ())) if run else (),
        run.performance if run else None,
    )


def near_names(api_model_id: str) -> list[tuple[str, str]]:
    """Return the models, (id, name), whose id or name is most like a text, the nearest first."""
    rows = AIModel.objects.active().values_list("api_model_id", "name")
    by_text = {text.lower(): row for row in rows for text in row}
    matches = difflib.get_close_matches(
        api_model_id[:MAX_ID].lower(), by_text, n=2 * NEAR_NAMES, cutoff=0.5
    )
    near = list(dict.fromkeys(by_text[text] for text in matches))[:NEAR_NAMES]
    return [(name, foreign_text.clean(title)) for name, title in near]
