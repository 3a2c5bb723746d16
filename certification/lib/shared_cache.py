"""What processes share for seconds: answers kept in Valkey that a change of what they tell outdates
at once.

Everything kept carries the generation in which it was read; `bump` begins a new one. A generation
is drawn, not counted: one that Valkey lost never comes back. Without Valkey nothing is found and
nothing is kept, so that everybody asks the database.
"""

from __future__ import annotations

import pickle
import secrets
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import structlog
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

PREFIX = "myia:kept:"
KEY = PREFIX + "generation"
AWAY_S = 5.0  # how long a process leaves Valkey alone after it did not answer


@dataclass
class _Outage:
    """Until when this process does without. A race between threads costs one more failed call."""

    until: float = field(default=0.0)

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self.until

    def record_failure(self, error: Exception) -> None:
        log.warning("shared_cache_away", error=str(error))
        self.until = time.monotonic() + AWAY_S


breaker = _Outage()


def client() -> Redis:
    """This process's client for what is small and stands before every answer: Django's cache makes
    one for each call.
    """
    return _client(settings.REDIS_URL)


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)


def invalidate() -> None:
    """Outdate everything kept once the running transaction commits (now, without one). Call after
    changing what is told.
    """
    transaction.on_commit(_begin)


def _begin() -> None:
    """Never raises: what was kept then lives until its seconds are over."""
    if breaker.is_open:
        return
    try:
        client().set(KEY, secrets.token_hex(8))
    except (RedisError, OSError) as error:
        breaker.record_failure(error)


@dataclass(frozen=True)
class CacheEntry:
    """What `look` brought. `generation` is '' when nothing can be kept."""

    generation: str = ""
    value: Any = None


def get(key: str) -> CacheEntry:
    """What is kept under a key and not outdated (`value` None: nothing), and the generation to keep
    a new value in.

    Look before reading the database: a value read in one generation and kept in the next would be
    believed wrongly.
    """
    if breaker.is_open:
        return CacheEntry()
    try:
        generation, stored = cast("list[bytes | None]", client().mget((KEY, PREFIX + key)))
        if generation is None:  # the first of two processes that find none draws it
            client().set(KEY, secrets.token_hex(8), nx=True)
            generation = cast("bytes | None", client().get(KEY)) or b""
    except (RedisError, OSError) as error:
        breaker.record_failure(error)
        return CacheEntry()
    kept_in, value = pickle.loads(stored) if stored else ("", None)  # noqa: S301 - written by us, as Django's cache does
    now = generation.decode()
    return CacheEntry(now, value if kept_in == now else None)


def set(key: str, generation: str, value: Any, seconds: float) -> None:
    """Keep a value that was read in `generation`, for at most so long. One of '' is not kept."""
    if not generation or seconds <= 0 or breaker.is_open:
        return
    try:
        client().set(
            PREFIX + key, pickle.dumps((generation, value)), px=max(1, int(seconds * 1000))
        )
    except (RedisError, OSError) as error:
        breaker.record_failure(error)
