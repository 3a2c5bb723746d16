"""Pages that only show lists are read from the replica, where there is one.

What somebody changed is on their next page, whichever process shows it: the moment of a session's
last change is in Redis, and the replica is read only when it has what was written until then.
Without Redis that is not known, and the primary is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from certification.lib import clock, redis_client
from certification.lib.postgresql import replica
from certification.lib.redis_client import UNAVAILABLE, Purpose

PAGES = frozenset(
    {"matrix", "matrix-csv", "matrix-json", "matrix-svg", "matrix-png", "search", "compare"}
    | {"compare-csv", "compare-json", "jobs", "jobs-csv", "jobs-json", "certification"}
    | {"certification-csv", "certification-json"}
)
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
REMEMBER_S = 60  # far longer than a replica that is read may be behind


class ReadReplica:
    """Middleware: has the views of PAGES read from the replica, and notes who writes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not replica.exists():
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with contextlib.ExitStack() as scope:
            request.replica_scope = scope  # type: ignore[attr-defined]
            response = self.get_response(request)
        if request.method not in SAFE:
            note_write(request)
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        match = request.resolver_match
        if request.method in SAFE and match and match.url_name in PAGES:
            scope: contextlib.ExitStack = request.replica_scope  # type: ignore[attr-defined]
            scope.enter_context(replica.reading(last_write(request)))

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Show a page from the primary when the replica failed while it was read."""
        if not isinstance(error, replica.FAULTS) or not replica.is_read():
            return None
        replica.freshness.lost()
        request.replica_scope.close()  # type: ignore[attr-defined]
        match = request.resolver_match
        assert match  # noqa: S101 - its view raised
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response


def key_of(request: HttpRequest) -> str:
    """Return where a session's last change is noted; "" without a session."""
    session = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return session and f"myia:wrote:{hashlib.sha256(session.encode()).hexdigest()[:32]}"


def note_write(request: HttpRequest) -> None:
    if key := key_of(request):
        with contextlib.suppress(*UNAVAILABLE):
            cache = redis_client.client(Purpose.CACHE)
            cache.set(key, f"{clock.now().timestamp():.3f}", ex=REMEMBER_S)


def last_write(request: HttpRequest) -> float:
    """Return when the session wrote last, in seconds since the epoch; 0 when it did not lately,
    infinite when that is not known.
    """
    if not (key := key_of(request)):
        return 0.0
    try:
        noted: Any = redis_client.client(Purpose.CACHE).get(key)
        return float(noted or 0)
    except (*UNAVAILABLE, ValueError):
        return math.inf
