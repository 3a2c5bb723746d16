"""Read-only mode: pages and API go on answering, and refuse what writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render

from certification.api.envelope import API, error_body
from certification.lib import clock
from certification.models import QueuePause

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
RETRY_S = 60  # for a mode that somebody must end
# Addresses that go on: who logs in and how pages look, what only reads, and what operators need to
# end the mode and the trouble.
PAGES = frozenset(
    {"login", "logout", "theme", "set_language", "verify", "matrix-selection"}
    | {"alert-acknowledge", "alert-silence", "silence-end", "pause-begin", "pause-end"}
)
ENDPOINTS = frozenset(
    {"api/auth/login", "api/auth/refresh", "api/auth/logout"}
    | {"api/logs", "api/providers/bedrock/validate"}
    | {"maintenance/housekeeping", "maintenance/routine/<str:name>", "maintenance/alerts"}
    | {"maintenance/queue/pause", "maintenance/queue/resume"}
)


class ReadOnlyMode:
    """Middleware: 503 with the reason for a request that would write, while the mode is on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        if request.method in SAFE or match is None:
            return None
        if match.url_name in PAGES or match.route in ENDPOINTS:
            return None
        pause = QueuePause.objects.read_only()
        return refuse(request, pause) if pause else None


def refuse(request: HttpRequest, pause: QueuePause) -> HttpResponse:
    """Return the 503 that says why, as page or as JSON."""
    left_s = (pause.until - clock.now()).total_seconds() if pause.until else RETRY_S
    response: HttpResponse
    if request.path.startswith(API):
        response = JsonResponse(error_body(503, pause.sentence), status=503)
    else:
        response = render(request, "read_only.html", {"pause": pause}, status=503)
    response["Retry-After"] = str(max(1, math.ceil(left_s)))
    return response
