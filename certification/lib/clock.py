"""The one clock of an installation: the database's.

Machines' clocks differ. What one process writes and another compares is the time of the database,
in SQL (`Now()`) or, where Python needs it, `now()`: the database's clock as this process last
measured it, carried on by the monotonic clock, which nobody sets.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import structlog
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

log = structlog.get_logger(__name__)

MEASURE_EVERY_S = 60.0
TOLERANCE_S = 10.0  # AWS refuses signatures that are 300 s off


class Measurement(NamedTuple):
    """What the database's clock said, and when that was on this process's monotonic clock; `ahead`
    is how much later the database's time is than this machine's.
    """

    time: datetime
    at: float
    ahead: timedelta


_last: Measurement | None = None


def now() -> datetime:
    """Return the database's time. This machine's, as long as it could not be measured."""
    if _last is None:
        return timezone.now()
    return _last.time + timedelta(seconds=time.monotonic() - _last.at)


def offset_s() -> float:
    """Return by how many seconds the database's clock was ahead of this machine's, negative when it
    was behind.
    """
    return _last.ahead.total_seconds() if _last else 0.0


def fault() -> str:
    """Return what is wrong with this machine's clock and what to do; "" when it is right."""
    seconds = offset_s()
    if abs(seconds) <= TOLERANCE_S:
        return ""
    return (
        f"This machine's clock is {abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} "
        "the database's. Work goes on by the database's clock, but AWS refuses calls from 300 s: "
        "set the clock, for example with `timedatectl set-ntp true`."
    )


def measure(connection: psycopg.Connection[Any]) -> None:
    """Read the database's clock through an open connection. One that does not answer changes
    nothing.
    """
    global _last  # noqa: PLW0603 - a process has one clock
    before, started = timezone.now(), time.monotonic()
    try:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    except psycopg.Error as error:
        log.info("clock_not_measured", error=str(error).strip())
        return
    if row is None:
        return
    half = timedelta(seconds=(time.monotonic() - started) / 2)
    was_wrong = bool(fault())
    _last = Measurement(row[0], started + half.total_seconds(), row[0] - before - half)
    if fault() and not was_wrong:
        log.warning("clock_wrong", seconds=round(offset_s(), 1), fix=fault())


def measure_at_connect(connection: BaseDatabaseWrapper, **_kwargs: object) -> None:
    """Measure with a connection that is opened or taken from the pool, at most once in
    MEASURE_EVERY_S: no statement waits for it, and processes measure while they work.
    """
    if _last is None or time.monotonic() - _last.at >= MEASURE_EVERY_S:
        measure(connection.connection)
