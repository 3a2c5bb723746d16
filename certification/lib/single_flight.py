"""Facts that cost time to learn: kept for seconds in the shared cache, and learnt by one at a time
for all who ask.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from django.core.cache import cache
from redis.exceptions import RedisError

from certification.lib.shared_cache import breaker

# longer than learning takes; a process that died while learning holds up the others so long at most
LEARNING_S = 15
POLL_S = 0.05
T = TypeVar("T")


@dataclass(frozen=True)
class CachedValue(Generic[T]):
    value: T
    fresh_until: float  # seconds since the epoch


_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_mine: dict[str, CachedValue[Any]] = {}  # for when the shared cache is away


def cached(
    name: str, seconds: Callable[[T], float], compute: Callable[[], T], *, stale_s: float = 0
) -> T:
    """What `learn` found, at most `seconds` of it ago. However many ask at once, one learns and the
    others wait for it.

    For `stale_s` beyond that an older value is given while a thread learns anew: that must not use
    the database. Without the shared cache each process learns for itself. Raises what `learn`
    raises.
    """
    found = _look(name)
    if found is None:
        return _compute_once(name, seconds, compute, stale_s)
    if found.fresh_until < time.time() and _claim(name):
        threading.Thread(
            target=_refresh,
            args=(name, seconds, compute, stale_s),
            name=f"learn-{name}",
            daemon=True,
        ).start()
    return cast(T, found.value)


def forget(name: str) -> None:
    """Learn anew when asked next."""
    _mine.pop(name, None)
    _with_fallback(lambda: cache.delete(_key(name)), None)


def _compute_once(
    name: str, seconds: Callable[[T], float], compute: Callable[[], T], stale_s: float
) -> T:
    with _locks[name]:
        deadline = time.monotonic() + LEARNING_S
        while True:
            found = _look(name)
            if found is not None:
                return cast(T, found.value)
            if _claim(name) or time.monotonic() > deadline:
                return _refresh(name, seconds, compute, stale_s)
            time.sleep(POLL_S)


def _refresh(
    name: str, seconds: Callable[[T], float], compute: Callable[[], T], stale_s: float
) -> T:
    try:
        value = compute()
        lasts = seconds(value)
        found = _mine[name] = CachedValue(value, time.time() + lasts)
        _with_fallback(lambda: cache.set(_key(name), found, timeout=lasts + stale_s), None)
        return value
    finally:
        _with_fallback(lambda: cache.delete(f"{_key(name)}:learning"), None)


def _look(name: str) -> CachedValue[Any] | None:
    mine = _mine.get(name)
    fallback = mine if mine and mine.fresh_until > time.time() else None
    return _with_fallback(lambda: cache.get(_key(name)), fallback)


def _claim(name: str) -> bool:
    """Whether this caller is the one to learn, of all processes; True where nobody can tell."""
    return _with_fallback(
        lambda: bool(cache.add(f"{_key(name)}:learning", 1, timeout=LEARNING_S)), True
    )


def _key(name: str) -> str:
    return f"kept:1:{name}"


def _with_fallback(ask: Callable[[], T], otherwise: T) -> T:
    """What the shared cache answers; `otherwise` while it is away."""
    if breaker.is_open:
        return otherwise
    try:
        return ask()
    except (RedisError, OSError) as error:
        breaker.record_failure(error)
        return otherwise
