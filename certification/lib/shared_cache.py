"""Values that processes share for seconds, in Redis.

`get` and `set` hold what was read from the database, in the generation in which it was read;
`invalidate` begins a new generation, which outdates all of it at once. A generation is drawn, not
counted: one that Redis lost never comes back. A `ComputedValue` is slow to compute and outdated by
age alone; one process computes it for all.

Without Redis nothing is found and nothing is stored: everybody asks the database, and each process
computes its own values. So it is for an answer that is not of the type that was asked for: what
comes from Redis is data, checked against that type, and never a pickle, which could run code.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

import msgspec
from django.db import transaction
from redis import Redis

from certification.lib import clock, redis_client
from certification.lib.circuit_breaker import CircuitBreaker
from certification.lib.redis_client import Purpose

PREFIX = "myia:cache:"
GENERATION_KEY = PREFIX + "generation"
# longer than computing takes; a process that died while computing holds up the others that long
COMPUTE_TIMEOUT_S = 15
POLL_S = 0.05
SCAN_STEP = 500
T = TypeVar("T")

breaker = CircuitBreaker(Purpose.CACHE, open_s=5.0)


def client() -> Redis:
    """Return the client for small things before every answer: Django's cache makes one for each
    call.
    """
    return redis_client.client(Purpose.CACHE)


# Values that a change outdates


@dataclass(frozen=True)
class CacheEntry(Generic[T]):
    """What `get` returns. `generation` is '' when nothing can be stored."""

    generation: str = ""
    value: T | None = None

    @property
    def began(self) -> float:
        """When the generation began by the database's clock, in seconds since the epoch: a value
        for it must hold what was written until then. Infinite when that is not known.
        """
        try:
            return float(self.generation.partition("@")[2])
        except ValueError:
            return math.inf


def invalidate() -> None:
    """Outdate every stored value once the running transaction commits (now, without one). Call it
    after changing what the values show.
    """
    transaction.on_commit(begin_generation)


def begin_generation() -> None:
    """Outdate every stored value now. Never raises: without Redis, values live until their seconds
    are over.
    """
    breaker.call(lambda: client().set(GENERATION_KEY, new_generation()), None)


def new_generation() -> str:
    return f"{secrets.token_hex(8)}@{clock.now().timestamp():.3f}"


def count() -> int:
    """Count what is stored. Raises `redis_client.UNAVAILABLE`."""
    return sum(1 for _key in client().scan_iter(match=f"{PREFIX}*", count=SCAN_STEP))


def clear() -> int:
    """Delete all that is stored, ours alone, in small steps; return how many keys. Raises
    `redis_client.UNAVAILABLE`.
    """
    keys = list(client().scan_iter(match=f"{PREFIX}*", count=SCAN_STEP))
    for start in range(0, len(keys), SCAN_STEP):
        client().unlink(*keys[start : start + SCAN_STEP])
    return len(keys)


def get(key: str, kind: type[T]) -> CacheEntry[T]:
    """Return the stored value of this type if it is not outdated (else None), and the generation to
    store a new one in.

    Call it before reading the database: a value read in one generation and stored in the next would
    be believed wrongly.
    """

    def read() -> CacheEntry[T]:
        generation, stored = cast(
            "list[bytes | None]", client().mget((GENERATION_KEY, PREFIX + key))
        )
        if generation is None:  # the first of two processes that find none draws it
            client().set(GENERATION_KEY, new_generation(), nx=True)
            generation = cast("bytes | None", client().get(GENERATION_KEY)) or b""
        now = generation.decode(errors="replace")
        stored_in, value = _load(stored, tuple[str, kind]) or ("", None)  # type: ignore[valid-type]
        return CacheEntry(now, value if stored_in == now else None)

    return breaker.call(read, CacheEntry[T]())


def set(key: str, generation: str, value: Any, seconds: float) -> None:
    """Store a value that was read in `generation`, for at most so long. One of '' is not stored."""
    if generation and seconds > 0:
        breaker.call(lambda: _store(key, (generation, value), seconds), None)


# Values that age


@dataclass(frozen=True)
class Computed(Generic[T]):
    value: T
    fresh_until: float  # seconds since the epoch


class ComputedValue(Generic[T]):
    """A value that is slow to compute and that processes share. However many ask at once, one
    computes and the others wait for it.

    A value lasts `ttl_s(value)` seconds. For `stale_s` beyond that the older value is returned
    while a thread computes anew, in which case `compute` must not use the database.
    """

    def __init__(
        self,
        name: str,
        kind: Any,  # the type T
        ttl_s: Callable[[T], float],
        compute: Callable[[], T],
        *,
        stale_s: float = 0,
    ) -> None:
        self.kind = Computed[kind]
        self.key, self.claim = f"computed:{name}", f"computed:{name}:claim"
        self.ttl_s, self.compute, self.stale_s = ttl_s, compute, stale_s
        self._own: Computed[T] | None = None  # for when Redis is unavailable
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the shared value, or compute it. Raises what `compute` raises."""
        computed = self.read()
        if computed is not None:
            is_stale = computed.fresh_until < clock.now().timestamp()
            if self.stale_s and is_stale and self.claim_computation():
                threading.Thread(target=self.refresh, name=self.key, daemon=True).start()
            return computed.value
        with self._lock:
            deadline = time.monotonic() + COMPUTE_TIMEOUT_S
            while True:
                computed = self.read()
                if computed is not None:
                    return computed.value
                if self.claim_computation() or time.monotonic() > deadline:
                    return self.refresh()
                time.sleep(POLL_S)

    def get_soon(self) -> T | None:
        """Return the shared value; None while a thread computes the first one, in which case
        `compute` must not use the database.
        """
        if self.read() is not None:
            return self.get()
        if self.claim_computation():
            threading.Thread(target=self.refresh, name=self.key, daemon=True).start()
        return None

    def read(self) -> Computed[T] | None:
        """Return what is shared; without Redis, this process's own value while it is fresh."""
        own = self._own if self._own and self._own.fresh_until > clock.now().timestamp() else None
        return breaker.call(
            lambda: cast("Computed[T] | None", _load(client().get(PREFIX + self.key), self.kind)),
            own,
        )

    def claim_computation(self) -> bool:
        """Return whether this caller is to compute, of all processes; without Redis each is."""
        return breaker.call(
            lambda: bool(client().set(PREFIX + self.claim, 1, nx=True, ex=COMPUTE_TIMEOUT_S)), True
        )

    def refresh(self) -> T:
        """Compute now, and share the result."""
        try:
            value = self.compute()
            seconds = self.ttl_s(value)
            self._own = computed = Computed(value, clock.now().timestamp() + seconds)
            breaker.call(lambda: _store(self.key, computed, seconds + self.stale_s), None)
            return value
        finally:
            breaker.call(lambda: client().delete(PREFIX + self.claim), None)

    def forget(self) -> None:
        """Have the value computed anew when it is next needed."""
        self._own = None
        breaker.call(lambda: client().delete(PREFIX + self.key), None)


def _store(key: str, value: Any, seconds: float) -> None:
    client().set(PREFIX + key, msgspec.msgpack.encode(value), px=max(1, int(seconds * 1000)))


def _load(stored: Any, kind: Any) -> Any:
    """Return the value, None when there is none or it is not of the type."""
    try:
        return _decoder(kind).decode(stored) if stored else None
    except (msgspec.DecodeError, ValueError):  # ValueError: an integer or date beyond all limits
        return None


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)
