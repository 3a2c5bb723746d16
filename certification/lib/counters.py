"""Counters of all processes, of those that have ended too: in one hash of Redis.

A process adds up in memory and writes every FLUSH_S; one that is killed loses so much. Without
Redis it goes on adding up. A Redis that lost its data begins at 0 again, which Prometheus knows
from any process that is restarted.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import structlog

from certification.lib import redis_client
from certification.lib.circuit_breaker import CircuitBreaker
from certification.lib.redis_client import Purpose

log = structlog.get_logger(__name__)

KEY = "myia:counters"
FLUSH_S = 2.0
MAX_SERIES = 20_000  # in memory: labels are bounded, and a mistake must not fill it
INFINITE = "+Inf"
# All fields and values in turn, a line each. The client needs 20 us for each value that it reads,
# and there are thousands.
AS_ONE_TEXT = "return table.concat(redis.call('HGETALL', KEYS[1]), '\\n')"


class Series(NamedTuple):
    """A counter by name and labels; `le` is a bucket of a histogram, "" for what is none, "sum" for
    a histogram's sum.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    le: str = ""


class Histogram(NamedTuple):
    """A distribution of seconds with these upper edges of its buckets."""

    name: str
    edges: tuple[float, ...]


class Counters:
    """The counters that this process has not written yet."""

    def __init__(self) -> None:
        self._pending: defaultdict[Series, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._pid = 0
        self._breaker = CircuitBreaker(Purpose.COUNTERS, open_s=5.0)

    def add(self, name: str, labels: Mapping[str, str]) -> None:
        """Add one to a counter."""
        self.increase({Series(name, tuple(sorted(labels.items()))): 1.0})

    def observe(self, histogram: Histogram, seconds: float, labels: Mapping[str, str]) -> None:
        """Count a duration in its bucket, and add it to the sum."""
        index = bisect_left(histogram.edges, seconds)
        le = f"{histogram.edges[index]:g}" if index < len(histogram.edges) else INFINITE
        pairs = tuple(sorted(labels.items()))
        self.increase(
            {Series(histogram.name, pairs, le): 1.0, Series(histogram.name, pairs, "sum"): seconds}
        )

    def increase(self, amounts: Mapping[Series, float]) -> None:
        with self._lock:
            if self._pid != os.getpid():  # a process that was forked counts its own
                self._pending.clear()
                self._pid = os.getpid()
                threading.Thread(target=self.flush_always, name="counters", daemon=True).start()
                atexit.register(self.flush)
            for series, amount in amounts.items():
                if series in self._pending or len(self._pending) < MAX_SERIES:
                    self._pending[series] += amount

    def flush_always(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(FLUSH_S)
            try:
                self.flush()
            except Exception:  # whatever it is: without this thread nothing is counted any more
                log.exception("counters_not_written")

    def flush(self) -> None:
        """Write what was added since the last time; what cannot be written stays."""
        with self._lock:
            pending, self._pending = self._pending, defaultdict(float)
        written = not pending
        try:
            written = written or self._breaker.call(lambda: write(pending), otherwise=False)
        finally:
            if not written:
                with self._lock:
                    for series, amount in pending.items():
                        self._pending[series] += amount


def write(amounts: Mapping[Series, float]) -> bool:
    """Add to the hash. Raises UNAVAILABLE."""
    with redis_client.client(Purpose.COUNTERS).pipeline(transaction=False) as pipeline:
        for series, amount in amounts.items():
            pipeline.hincrbyfloat(KEY, json.dumps(series), amount)
        pipeline.execute()
    return True


def read() -> Iterator[tuple[Series, float]]:
    """Yield what all processes counted. Raises UNAVAILABLE."""
    text: bytes = redis_client.client(Purpose.COUNTERS).eval(AS_ONE_TEXT, 1, KEY)
    lines = iter(text.split(b"\n") if text else ())
    for field, value in zip(lines, lines, strict=True):
        yield series_of(field), float(value)


@lru_cache(MAX_SERIES)  # the same thousands of names at each scrape
def series_of(field: bytes) -> Series:
    """Return the counter that a field of the hash names."""
    name, labels, le = json.loads(field)
    return Series(name, tuple((key, text) for key, text in labels), le)


counters = Counters()
