"""Free control-plane checks before paid calls: each region's listings, cached for a quarter of an
hour. They never make a verdict by themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from certification.bedrock.client import CANARY_MODEL, Bedrock, ListedModel, ListedProfile
from certification.bedrock.errors import BedrockError
from certification.inference import Request, RouteTarget, user
from certification.lib import event_loop

TTL_S = 15 * 60
FAILURE_TTL_S = 30
T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """What one region lists. `problem` is the error when the control plane did not answer."""

    models: Mapping[str, ListedModel]
    profiles: tuple[ListedProfile, ...]
    problem: str = ""

    def profiles_of(self, api_model_id: str) -> tuple[str, ...]:
        """Return the ids of the active profiles that lead to this model."""
        return tuple(p.profile_id for p in self.profiles if api_model_id in p.model_ids)

    def facts(self, api_model_id: str) -> dict[str, Any]:
        """Encode what the region lists about one model, for a run's environment."""
        if self.problem:
            return {"listed": None, "problem": self.problem}
        listed = self.models.get(api_model_id)
        facts: dict[str, Any] = {
            "listed": listed is not None,
            "profiles": list(self.profiles_of(api_model_id)),
        }
        if listed:
            facts |= {
                "lifecycle": listed.lifecycle,
                "streaming": listed.streaming,
                "inference_types": list(listed.inference_types),
            }
        return facts


@dataclass(frozen=True)
class Canary:
    """Whether a cheap model that surely works answers in this region, and so the account can call
    models there at all.
    """

    answered: bool
    reason: str = ""


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    expires_at: float = 0.0


class Preflight:
    """Caches listings and canaries per region for one process; concurrent runs share a look-up."""

    def __init__(self, bedrock: Bedrock) -> None:
        self.bedrock = bedrock
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._lock = threading.Lock()

    def listing(self, region: str) -> Listing:
        """Return the region's listing, at most TTL_S old. Does not raise: an error is the listing's
        `problem`.
        """
        return self.cached("listing", region, lambda: self.fetch_listing(region))

    def canary(self, region: str) -> Canary:
        """Return whether the canary model answers, by a call at most TTL_S ago."""
        return self.cached("canary", region, lambda: self.call_canary(region))

    def fetch_listing(self, region: str) -> tuple[Listing, bool]:
        """Ask the control plane. Returns the listing and whether it succeeded."""
        try:
            models = self.bedrock.foundation_models(region)
            profiles = self.bedrock.inference_profiles(region)
        except BedrockError as error:
            return Listing({}, (), str(error.reason)), False
        return Listing({m.model_id: m for m in models}, profiles), True

    def call_canary(self, region: str) -> tuple[Canary, bool]:
        """Call the canary model once, briefly. Returns its answer and whether it succeeded."""
        routes = (*self.listing(region).profiles_of(CANARY_MODEL), CANARY_MODEL)
        probe = Request((user("Answer with one word: are you there?"),), max_tokens=20)
        try:
            target = RouteTarget(routes[0], kind="")
            event_loop.run(self.bedrock.send(region, target, probe, remaining_s=20))
        except BedrockError as error:
            return Canary(False, error.reason), False
        return Canary(True), True

    def cached(self, kind: str, region: str, fetch: Callable[[], tuple[T, bool]]) -> T:
        """Return a value from the cache, or fetch it, once for all who wait; `fetch` also says
        whether it succeeded.
        """
        with self._lock:
            slot = self._slots.setdefault((kind, region), _Slot())
        with slot.lock:
            if time.monotonic() >= slot.expires_at:
                slot.value, succeeded = fetch()
                slot.expires_at = time.monotonic() + (TTL_S if succeeded else FAILURE_TTL_S)
            value: T = slot.value
            return value
