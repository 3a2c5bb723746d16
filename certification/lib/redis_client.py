"""The Redis clients of this process: the one place that knows how to connect.

Each purpose has its own connections and timeouts. To connect in another way (Sentinel, a cluster),
change `_connect` and nothing else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from enum import StrEnum
from functools import cache

from django.conf import settings
from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis import asyncio as redis_asyncio
from redis.exceptions import RedisError

UNAVAILABLE = (RedisError, OSError)  # what a call raises while Redis cannot be used


class Purpose(StrEnum):
    BROKER = "broker"
    CACHE = "cache"
    LIMITS = "limits"
    NOTIFICATIONS = "notifications"
    JOURNAL = "journal"


# seconds to connect, and to wait for a reply
TIMEOUTS = {
    Purpose.BROKER: (2.0, 5.0),
    Purpose.CACHE: (0.5, 0.5),  # it is read before every answer, which must not wait for it
    Purpose.LIMITS: (1.0, 2.0),
    Purpose.NOTIFICATIONS: (1.0, 2.0),
    Purpose.JOURNAL: (1.0, 2.0),
}
WAIT_FOR_CONNECTION_S = 2
_longest_s = math.inf


def client(purpose: Purpose, *, url: str = "", max_connections: int = 0) -> Redis:
    """Return this process's client for a purpose. It connects when it is first used, and never
    retries.

    Connects to `url`, else to where the settings say. Beyond `max_connections` a thread waits up to
    WAIT_FOR_CONNECTION_S for one to become free; without, each thread opens its own.
    """
    return _connect(url or settings.REDIS_URL, purpose, max_connections, _longest_s)


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
    connect_s, reply_s = (min(seconds, longest_s) for seconds in TIMEOUTS[purpose])
    pool: ConnectionPool
    if max_connections:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=WAIT_FOR_CONNECTION_S,
            socket_connect_timeout=connect_s,
            socket_timeout=reply_s,
        )
    else:
        pool = ConnectionPool.from_url(
            url, socket_connect_timeout=connect_s, socket_timeout=reply_s
        )
    return Redis(connection_pool=pool)


@cache
def async_client(purpose: Purpose, *, url: str, max_connections: int) -> redis_asyncio.Redis:
    """Return this process's client for a purpose on its event loop; otherwise as `client`."""
    connect_s, reply_s = TIMEOUTS[purpose]
    pool = redis_asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=WAIT_FOR_CONNECTION_S,
        socket_connect_timeout=connect_s,
        socket_timeout=reply_s,
    )
    return redis_asyncio.Redis(connection_pool=pool)
