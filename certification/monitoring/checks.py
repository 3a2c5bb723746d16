"""Checks of what a process depends on: side by side, cut in time, never waited for twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overdue

from django.db import Error as DatabaseError

from certification.lib.database import returning_connection
from certification.lib.redis_client import UNAVAILABLE
from certification.models import QueuePause

CHECK_TIMEOUT_S = 1.0  # a dependency that takes longer is reported, not waited for
FAILURES = (*UNAVAILABLE, DatabaseError)


class Check:
    """One dependency. One thread at a time asks it: one that hangs is reported, not asked again."""

    def __init__(self, name: str, find_fault: Callable[[], str]) -> None:
        self.name, self.find_fault = name, find_fault
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"health-{name}")
        self._running: Future[str] | None = None
        self._lock = threading.Lock()

    def start(self) -> Future[str]:
        with self._lock:
            if self._running is None or self._running.done():
                self._running = self._executor.submit(self.find_fault)
            return self._running

    @staticmethod
    def result(running: Future[str], deadline: float) -> str:
        """Return 'ok', or what keeps the dependency from being used, by `deadline`."""
        try:
            fault = running.result(max(0.0, deadline - time.monotonic()))
        except Overdue:
            return f"error: no answer within {CHECK_TIMEOUT_S:g} s"
        except FAILURES as error:
            return f"error: {type(error).__name__}"
        return f"error: {fault}" if fault else "ok"


def run(checks: Sequence[Check]) -> dict[str, str]:
    """Return the state of each dependency within CHECK_TIMEOUT_S."""
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    running = [(check, check.start()) for check in checks]
    return {check.name: check.result(future, deadline) for check, future in running}


def database_fault() -> str:
    """Read a small table. Raises DatabaseError."""
    with returning_connection():
        QueuePause.objects.exists()
    return ""
