"""Warn of slow requests, slow queries, and queries that one request repeats."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest

from certification.lib.counters import Histogram, counters

log = structlog.get_logger(__name__)

DURATION = Histogram("database_query_duration_seconds", (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0))

MAX_REPEATS = 20  # of one statement in one request
MAX_STATEMENT = 1_000  # characters


@dataclass
class RequestTimes:
    """When a request began, and how often it asked the database each statement."""

    started: float = field(default_factory=time.perf_counter)
    statements: Counter[str] = field(default_factory=Counter)


current: ContextVar[RequestTimes | None] = ContextVar("request_times", default=None)


def begin() -> None:
    """Begin to measure the request that this thread answers."""
    current.set(RequestTimes())


def watch_queries(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    """Measure every query of a connection: a receiver of `connection_created`."""
    if measure_query not in connection.execute_wrappers:
        connection.execute_wrappers.append(measure_query)


def measure_query(
    execute: Callable[..., Any], statement: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Execute a query; warn when it took longer than SLOW_QUERY_MS. Its values are never logged."""
    started = time.perf_counter()
    try:
        return execute(statement, params, many, context)
    finally:
        milliseconds = (time.perf_counter() - started) * 1000
        request = current.get()
        if request is not None:
            request.statements[str(statement)] += 1
            counters.observe(DURATION, milliseconds / 1000, {})
        if 0 < settings.SLOW_QUERY_MS < milliseconds:
            log.warning("slow_query", statement=shorten(statement), duration_ms=round(milliseconds))


def report(request: HttpRequest) -> dict[str, int]:
    """Warn of a request that took longer than SLOW_REQUEST_MS or repeated a query; return its
    milliseconds and number of queries, as its own line says them. {} when it was not measured.
    """
    times = current.get()
    if times is None:
        return {}
    current.set(None)
    figures = {
        "duration_ms": round((time.perf_counter() - times.started) * 1000),
        "queries": times.statements.total(),
    }
    where = {"method": request.method, "path": request.path}
    if 0 < settings.SLOW_REQUEST_MS < figures["duration_ms"]:
        log.warning("slow_request", **where, **figures)
    statement, count = next(iter(times.statements.most_common(1)), ("", 0))
    if settings.SLOW_QUERY_MS and count > MAX_REPEATS:
        log.warning("repeated_query", **where, statement=shorten(statement), count=count)
    return figures


def shorten(statement: Any) -> str:
    return " ".join(str(statement).split())[:MAX_STATEMENT]
