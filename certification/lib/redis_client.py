"""The Redis clients of this process: the one place that knows how to connect.

Each purpose has its own connections and timeouts. An address names one server, or Sentinels, which
say at each new connection which server is the master (lib/redis_address.py).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import Any

from django.conf import settings
from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis import asyncio as redis_asyncio
from redis.asyncio import sentinel as sentinel_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from certification.lib import redis_address

UNAVAILABLE = (RedisError, OSError)  # what a call raises while Redis cannot be used


class Purpose(StrEnum):
    BROKER = "broker"
    CACHE = "cache"
    COUNTERS = "counters"
    LIMITS = "limits"
    NOTIFICATIONS = "notifications"
    JOURNAL = "journal"


# seconds to connect, and to wait for a reply
TIMEOUTS = {
    Purpose.BROKER: (2.0, 5.0),
    Purpose.CACHE: (0.5, 0.5),  # it is read before every answer, which must not wait for it
    Purpose.COUNTERS: (0.5, 0.5),
    Purpose.LIMITS: (1.0, 2.0),
    Purpose.NOTIFICATIONS: (1.0, 2.0),
    Purpose.JOURNAL: (1.0, 2.0),
}
WAIT_FOR_CONNECTION_S = 2
_longest_s = math.inf


class BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master, of which a thread waits for one when all are in use."""


class AsyncBlockingSentinelPool(
    sentinel_asyncio.SentinelConnectionPool, redis_asyncio.BlockingConnectionPool
):
    """As BlockingSentinelPool, on an event loop."""


def address(purpose: Purpose) -> str:
    """Return where the settings have a purpose's data. What is cached may be on a server that
    drops what it has no room for; nothing else may.
    """
    if purpose == Purpose.CACHE and settings.CACHE_URL:
        return str(settings.CACHE_URL)
    return str(settings.REDIS_URL)


def client(purpose: Purpose, *, url: str = "", max_connections: int = 0) -> Redis:
    """Return this process's client for a purpose. It connects when it is first used, and never
    retries.

    Connects to `url`, else to where the settings say. Beyond `max_connections` a thread waits up to
    WAIT_FOR_CONNECTION_S for one to become free; without, each thread opens its own.
    """
    return _connect(url or address(purpose), purpose, max_connections, _longest_s)


@contextlib.contextmanager
def limited(longest_s: float) -> Iterator[None]:
    """Limit every wait of `client` to so many seconds for the block."""
    global _longest_s  # noqa: PLW0603 - one process is one kind of program
    before, _longest_s = _longest_s, longest_s
    try:
        yield
    finally:
        _longest_s = before


@cache
def _connect(url: str, purpose: Purpose, max_connections: int, longest_s: float) -> Redis:
    options = pool_options(purpose, max_connections, longest_s)
    if redis_address.is_sentinel(url):
        known = redis_address.sentinels(url)
        once = {"retry": Retry(NoBackoff(), 0)}
        sentinel = Sentinel(list(known.hosts), sentinel_kwargs=known.sentinel_options | once)
        kind = BlockingSentinelPool if max_connections else SentinelConnectionPool
        return Redis(
            connection_pool=kind(known.service, sentinel, **known.server_options, **options)
        )
    pool_class = BlockingConnectionPool if max_connections else ConnectionPool
    return Redis(connection_pool=pool_class.from_url(url, **options))


@cache
def async_client(purpose: Purpose, *, url: str, max_connections: int) -> redis_asyncio.Redis:
    """Return this process's client for a purpose on its event loop; otherwise as `client`."""
    options = pool_options(purpose, max_connections)
    pool: redis_asyncio.ConnectionPool
    if redis_address.is_sentinel(url):
        known = redis_address.sentinels(url)
        once = {"retry": AsyncRetry(NoBackoff(), 0)}
        sentinel = sentinel_asyncio.Sentinel(
            list(known.hosts), sentinel_kwargs=known.sentinel_options | once
        )
        pool = AsyncBlockingSentinelPool(known.service, sentinel, **known.server_options, **options)
    else:
        pool = redis_asyncio.BlockingConnectionPool.from_url(url, **options)
    return redis_asyncio.Redis(connection_pool=pool)


def pool_options(
    purpose: Purpose, max_connections: int, longest_s: float = math.inf
) -> dict[str, Any]:
    """Return the timeouts of a purpose and, where connections are limited, how many and how long
    to wait for one.
    """
    connect_s, reply_s = (min(seconds, longest_s) for seconds in TIMEOUTS[purpose])
    options: dict[str, Any] = {"socket_connect_timeout": connect_s, "socket_timeout": reply_s}
    if max_connections:
        options |= {"max_connections": max_connections, "timeout": WAIT_FOR_CONNECTION_S}
    return options
