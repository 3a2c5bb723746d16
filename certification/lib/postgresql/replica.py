"""Reading from a replica (DATABASE_REPLICA_URL) without ever reading what is too old.

A replica cannot tell by itself how old its rows are: one that is cut off believes to have all that
there is. So this process notes, once a second, how far the primary's log was at that moment; what
the replica has replayed then says up to which moment it has everything. No clock of another machine
takes part.

Whoever reads says up to which moment it must see what was written: that of a value's generation in
the cache (lib/shared_cache.py), or that of the reader's own last write. Then the replica answers if
it has everything up to that moment and is not more than MAX_LAG_S behind; else the primary does.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connections, models

from certification.lib import clock

log = structlog.get_logger(__name__)

PRIMARY, REPLICA = "default", "replica"
MAX_LAG_S = 5.0
MEASURE_EVERY_S = 1.0
# for who must see what was written a moment ago
MEASURE_AGAIN_S = 0.1
AWAY_S = 5.0  # until a replica that failed is measured again
MARGIN_S = 0.25  # by which two processes' measures of the database's clock may differ
FAULTS = (OperationalError, InterfaceError)
# What is written comes after this place in the log, and what is replayed before it.
WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
REPLAYED = "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint"

T = TypeVar("T")


class Freshness:
    """Up to which moment the replica has everything, as one thread measures it for all."""

    def __init__(self) -> None:
        self.complete_until = -math.inf  # seconds since the epoch, by the database's clock
        self._written: deque[tuple[float, int]] = deque(maxlen=16)
        self._measured = self._failed = -math.inf
        self._lock = threading.Lock()

    def covers(self, moment: float) -> bool:
        """Whether the replica has what was written until `moment`, and is not too far behind."""
        if math.isinf(moment):
            return False
        needed = moment + MARGIN_S
        with self._lock:
            age = time.monotonic() - self._measured
            if age > MEASURE_EVERY_S or (age > MEASURE_AGAIN_S and self.complete_until < needed):
                self._measure()
        return self.complete_until >= needed and self.behind_s() <= MAX_LAG_S

    def behind_s(self) -> float:
        """Return by how many seconds the replica may be behind; infinite when it is away."""
        return clock.now().timestamp() - self.complete_until

    def lost(self) -> None:
        """Note that the replica failed."""
        log.warning("replica_unavailable")
        self.complete_until, self._failed = -math.inf, time.monotonic()

    def _measure(self) -> None:
        if time.monotonic() - self._failed < AWAY_S:
            return
        now = clock.now().timestamp()
        written = position(PRIMARY, WRITTEN)
        try:
            replayed = position(REPLICA, REPLAYED)
        except FAULTS:
            self.lost()
            return
        if written is None or replayed is None:  # it replicates nothing
            self.lost()
            return
        self._measured = time.monotonic()
        self._written.append((now, written))
        self.complete_until = max(
            (moment for moment, place in self._written if place <= replayed),
            default=self.complete_until,
        )


def position(alias: str, statement: str) -> int | None:
    """Return a place in the log of a server. Raises what a database that is away raises."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        place: int | None = cursor.fetchone()[0]
        return place


freshness = Freshness()
_alias: ContextVar[str] = ContextVar("alias", default=PRIMARY)


def exists() -> bool:
    return REPLICA in connections.settings


def is_read() -> bool:
    """Whether reads of this context go to the replica."""
    return _alias.get() == REPLICA and not connections[PRIMARY].in_atomic_block


def reader() -> Any:
    """Return the connection that reads of this context use."""
    return connections[REPLICA if is_read() else PRIMARY]


@contextlib.contextmanager
def reading(since: float) -> Iterator[bool]:
    """Have the block read from the replica if that has what was written until `since`; yield
    whether it does. Writes, and reads within transactions, go to the primary.
    """
    is_fresh = exists() and freshness.covers(since)
    token = _alias.set(REPLICA if is_fresh else PRIMARY)
    try:
        yield is_fresh
    finally:
        _alias.reset(token)
        if is_fresh:
            connections[REPLICA].close()  # back to its pool


def read(since: float, function: Callable[[], T]) -> T:
    """Return what a function reads, on the replica as `reading` does; on the primary when the
    replica fails while it does.
    """
    with reading(since) as is_fresh:
        try:
            return function()
        except FAULTS:
            if not is_fresh:
                raise
            freshness.lost()
    return function()


class Router:
    """Django's question which database to use."""

    def db_for_read(self, model: type[models.Model], **_hints: Any) -> str:
        return REPLICA if is_read() else PRIMARY

    def db_for_write(self, model: type[models.Model], **_hints: Any) -> str:
        return PRIMARY

    def allow_relation(self, *_rows: Any, **_hints: Any) -> bool:
        return True  # the rows are the same

    def allow_migrate(self, db: str, *_args: Any, **_hints: Any) -> bool:
        return db == PRIMARY
