"""What the health addresses of the web server answer: whether the installation works."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any, Generic, TypeVar

import psutil
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from certification.engine import queue
from certification.lib import clock
from certification.lib.database import returning_connection
from certification.models import RoutineMark
from certification.models.routines import ALERTS, RECONCILE
from certification.monitoring import checks, queue_stats
from certification.monitoring.bedrock_status import bedrock_status
from certification.monitoring.checks import Check

T = TypeVar("T")
SHARED_S = 2.0  # so long one answer is for everybody
MAX_AGES = {RECONCILE: timedelta(minutes=3), ALERTS: timedelta(minutes=5)}
MIN_FREE_SHARE = 0.05  # of the disk


def worker_fault() -> str:
    """Return that no worker takes runs, empty when one does. Raises UNAVAILABLE."""
    return "" if queue_stats.workers.get() else "no worker answers"


def routine_fault(name: str) -> str:
    """Return that a routine of beat is late, empty when it is not. Raises DatabaseError."""
    with returning_connection():
        age = RoutineMark.ages().get(name)
    if age is None:
        return f"the routine {name} has never ended"
    late = age > MAX_AGES[name]
    return f"the routine {name} ended {age.total_seconds():.0f} s ago" if late else ""


@cache
def web_server_started() -> float | None:
    """Return when the web server of this process began, in seconds since the epoch; None of other
    processes, such as commands. A worker that gunicorn replaces belongs to the same server.
    """
    parent = psutil.Process().parent()
    with suppress(psutil.Error):
        if parent and any("gunicorn" in word for word in parent.cmdline()):
            return parent.create_time()
    return None


def routine_fault_after_start(name: str) -> str:
    """As `routine_fault`; empty as long as beat had no time to end it since the start."""
    started = web_server_started()
    if started is not None and time.time() - started < MAX_AGES[name].total_seconds():
        return ""
    return routine_fault(name)


def storage_fault() -> str:
    """Return that the disk of the installation's files is nearly full."""
    usage = shutil.disk_usage(settings.MYIA_ROOT)
    share = usage.free / usage.total
    return f"{share:.0%} of the disk is free" if share < MIN_FREE_SHARE else ""


def bedrock_fault() -> str:
    """Return why Bedrock cannot be called, as the last call showed it."""
    status = bedrock_status.get()
    return "" if status.valid else str(status.reason or status.error)


DATABASE = Check("database", checks.database_fault)
REDIS = Check("redis", queue.broker_fault)
CHECKS = (
    DATABASE,
    REDIS,
    Check("worker", worker_fault),
    Check("beat", lambda: routine_fault_after_start(RECONCILE)),
    Check("alerts", lambda: routine_fault_after_start(ALERTS)),
    Check("storage", storage_fault),
    Check("bedrock", bedrock_fault),
)


class Shared(Generic[T]):
    """A result that all threads of the process share for SHARED_S."""

    def __init__(self, compute: Callable[[], T]) -> None:
        self.compute = compute
        self._lock = threading.Lock()
        self._until = 0.0
        self._value: T

    def get(self) -> T:
        with self._lock:
            if time.monotonic() >= self._until:
                self._value = self.compute()
                self._until = time.monotonic() + SHARED_S
            return self._value

    def forget(self) -> None:
        self._until = 0.0


everything = Shared(lambda: checks.run(CHECKS))
servers = Shared(lambda: checks.run((DATABASE, REDIS)))


def health() -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and body of /health: everything that the installation needs."""
    states = dict(everything.get())
    healthy = set(states.values()) == {"ok"}
    if states["bedrock"] == "ok" and settings.BEDROCK_BACKEND != "aws":
        states["bedrock"] += f" ({bedrock_status.get().backend})"
    return (200 if healthy else 503), {
        "status": "healthy" if healthy else "degraded",
        "timestamp": clock.now().isoformat(),
        "version": settings.VERSION,
        "checks": states,
    }


def api_health() -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and body of /api/health: this process and its database."""
    connected = servers.get()["database"] == "ok"
    process = psutil.Process()
    return (200 if connected else 503), {
        "status": "ok" if connected else "error",
        "database": "connected" if connected else "disconnected",
        "uptime": round(time.time() - process.create_time(), 1),
        "memoryMb": round(process.memory_info().rss / 1_000_000, 1),
        "version": settings.VERSION,
    }


class Migrations:
    """Whether the tables are those of this release: looked up until they are."""

    is_current = False

    def fault(self) -> str:
        """Return that migrations are missing. Raises DatabaseError."""
        if not self.is_current:
            with returning_connection():
                executor = MigrationExecutor(connection)
                plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
            self.is_current = not plan
        return "" if self.is_current else "migrations are missing: manage.py migrate"


MIGRATIONS = Check("migrations", Migrations().fault)
readiness = Shared(lambda: checks.run((DATABASE, REDIS, MIGRATIONS)))


def ready() -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and body of /ready: whether this process can serve requests."""
    states = readiness.get()
    is_ready = set(states.values()) == {"ok"}
    status = "ready" if is_ready else "not ready"
    return (200 if is_ready else 503), {"status": status, "checks": states}
