"""Checks of what a process depends on: side by side, cut in time, never waited for twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overdue
from typing import Generic, TypeVar

from django.db import Error as DatabaseError
from django.db import ProgrammingError

from certification.lib.database import returning_connection
from certification.lib.redis_client import UNAVAILABLE
from certification.models import QueuePause

CHECK_TIMEOUT_S = 1.0  # a dependency that takes longer is reported, not waited for
OVERDUE = f"error: no answer within {CHECK_TIMEOUT_S:g} s"
FAILURES = (*UNAVAILABLE, DatabaseError)
T = TypeVar("T")


class Reading(Generic[T]):
    """Something that is read from outside. One thread at a time reads it: what hangs is reported,
    not read again. `seconds` is how long it took last.
    """

    def __init__(self, name: str, read: Callable[[], T]) -> None:
        self.name, self.read = name, read
        self.seconds = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"health-{name}")
        self._running: Future[T] | None = None
        self._lock = threading.Lock()

    def start(self) -> Future[T]:
        with self._lock:
            if self._running is None or self._running.done():
                self._running = self._executor.submit(self.measure)
            return self._running

    def measure(self) -> T:
        started = time.perf_counter()
        try:
            return self.read()
        finally:
            self.seconds = time.perf_counter() - started


class Check(Reading[str]):
    """One dependency, read as what is wrong with it, '' when nothing is."""

    @staticmethod
    def result(running: Future[str], deadline: float) -> str:
        """Return 'ok', or what keeps the dependency from being used, by `deadline`."""
        try:
            fault = running.result(max(0.0, deadline - time.monotonic()))
        except Overdue:
            return OVERDUE
        except FAILURES as error:
            return f"error: {sentence(error)}"
        return f"error: {fault}" if fault else "ok"


def run(checks: Sequence[Check]) -> dict[str, str]:
    """Return the state of each dependency within CHECK_TIMEOUT_S."""
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    running = [(check, check.start()) for check in checks]
    return {check.name: check.result(future, deadline) for check, future in running}


def read_all(readings: Sequence[Reading[T]]) -> dict[str, T | str]:
    """Read all within CHECK_TIMEOUT_S, by name; "error: ..." for what could not be read."""
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    running = [(reading, reading.start()) for reading in readings]
    result: dict[str, T | str] = {}
    for reading, future in running:
        try:
            result[reading.name] = future.result(max(0.0, deadline - time.monotonic()))
        except Overdue:
            result[reading.name] = OVERDUE
        except FAILURES as error:
            result[reading.name] = f"error: {sentence(error)}"
    return result


def sentence(error: Exception) -> str:
    """Return what one of FAILURES is, without what it quotes."""
    if isinstance(error, ProgrammingError):  # of our own statements: the tables are others
        return "tables or columns are missing: manage.py migrate"
    return type(error).__name__


def database_fault() -> str:
    """Read a small table. Raises DatabaseError."""
    with returning_connection():
        QueuePause.objects.exists()
    return ""
