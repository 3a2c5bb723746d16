"""What the one line that is logged of a request says besides its address and status."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse
from django_structlog import signals
from django_structlog.middlewares import RequestMiddleware

from certification.lib import slow_log

FRONTEND_LINES = "/api/logs"
MAX_ADDRESS = 64  # characters


class RequestLog(RequestMiddleware):
    """Middleware: one line for each request, but for those that bring a frontend's own line.

    They come by the thousands; the view writes one at level debug.
    """

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if request.method == "POST" and request.path_info == FRONTEND_LINES:
            return self.get_response(request)
        return super().__call__(request)


def connect() -> None:
    """Have every request's line carry who calls."""
    signals.bind_extra_request_metadata.connect(bind_address, dispatch_uid="certification.address")
    for signal in (
        signals.bind_extra_request_finished_metadata,
        signals.bind_extra_request_failed_metadata,
    ):
        signal.connect(add_figures, dispatch_uid="certification.figures")


def bind_address(request: HttpRequest, **_kwargs: Any) -> None:
    """Bind the caller's address as `ip`: the first that proxies forwarded, which anybody can make
    up, else that of the connection. For readers of logs: no decision rests on it.

    Not by ipware, which looks at a dozen headers for a twentieth of a cached answer.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").partition(",")[0].strip()
    address = forwarded or request.META.get("REMOTE_ADDR", "")
    structlog.contextvars.bind_contextvars(ip=address[:MAX_ADDRESS])


def add_figures(request: HttpRequest, log_kwargs: dict[str, Any], **_kwargs: Any) -> None:
    """Add the caller's program, how long the request took and how many queries it made."""
    log_kwargs["user_agent"] = request.META.get("HTTP_USER_AGENT")
    log_kwargs.update(slow_log.report(request))
