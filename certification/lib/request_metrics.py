"""Count requests and how long they took, by route: a middleware."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from certification.lib import slow_log
from certification.lib.counters import Histogram, counters

REQUESTS = "http_requests_total"
# with an edge at each target
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
DURATION = Histogram("http_request_duration_seconds", EDGES)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"


class RequestMetrics:
    """The first middleware: what it counts is what a client waits for, event streams aside, whose
    answer begins at once.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        slow_log.begin()
        started = time.perf_counter()
        response = self.get_response(request)
        seconds = time.perf_counter() - started
        # the pattern, not the path: labels are bounded
        match = getattr(request, "resolver_match", None)
        labels = {
            "endpoint": str(match.route) if match else OTHER,
            "method": request.method if request.method in METHODS else OTHER,
        }
        counters.add(REQUESTS, {**labels, "status": str(response.status_code)})
        counters.observe(DURATION, seconds, labels)
        return response
