"""What the control plane says before any money is spent: listings per region, kept for a quarter of
an hour. Never a verdict alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from certification.bedrock.client import CANARY_MODEL, Bedrock, ListedModel, ListedProfile
from certification.bedrock.errors import BedrockError
from certification.inference import Request, user

KEEP_S = 15 * 60
KEEP_FAILURE_S = 30
T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """What one region lists. `problem` says why when the control plane would not tell."""

    models: Mapping[str, ListedModel]
    profiles: tuple[ListedProfile, ...]
    problem: str = ""

    def profiles_of(self, api_model_id: str) -> tuple[str, ...]:
        """Ids of the active profiles that lead to this model."""
        return tuple(p.profile_id for p in self.profiles if api_model_id in p.model_ids)

    def facts(self, api_model_id: str) -> dict[str, Any]:
        """What the region says about one model, as JSON for a run's environment."""
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
    """Whether a cheap model that surely works answers in this region: the account's own sign of
    life.
    """

    answered: bool
    reason: str = ""


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    until: float = 0.0


class Preflight:
    """Remembers listings and canaries per region for one process; concurrent runs ask once."""

    def __init__(self, bedrock: Bedrock) -> None:
        self.bedrock = bedrock
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._lock = threading.Lock()

    def listing(self, region: str) -> Listing:
        """The region's listing, at most KEEP_S old. Does not raise: a refusal is the listing's
        `problem`.
        """
        return self._kept("listing", region, lambda: self._list(region))

    def canary(self, region: str) -> Canary:
        """One short call of the canary model, at most KEEP_S old."""
        return self._kept("canary", region, lambda: self._call_canary(region))

    def _kept(self, what: str, region: str, make: Callable[[], tuple[T, bool]]) -> T:
        with self._lock:
            slot = self._slots.setdefault((what, region), _Slot())
        with slot.lock:
            if time.monotonic() >= slot.until:
                slot.value, good = make()
                slot.until = time.monotonic() + (KEEP_S if good else KEEP_FAILURE_S)
            value: T = slot.value
            return value

    def _list(self, region: str) -> tuple[Listing, bool]:
        try:
            models = self.bedrock.foundation_models(region)
            profiles = self.bedrock.inference_profiles(region)
        except BedrockError as error:
            return Listing({}, (), str(error.reason)), False
        return Listing({m.model_id: m for m in models}, profiles), True

    def _call_canary(self, region: str) -> tuple[Canary, bool]:
        routes = (*self.listing(region).profiles_of(CANARY_MODEL), CANARY_MODEL)
        probe = Request((user("Answer with one word: are you there?"),), max_tokens=20)
        try:
            self.bedrock.converse(region, routes[0], probe, remaining_s=20)
        except BedrockError as error:
            return Canary(False, error.reason), False
        return Canary(True), True
