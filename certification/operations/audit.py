"""Who acts: the middleware that notes it for requests, and a block that does for commands."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse

from certification.lib import actor, redaction
from certification.lib.actor import Actor
from certification.lib.request_rates import caller_ip
from certification.models import audit

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
# What people set for themselves alone, and what only asks.
NOT_RECORDED = frozenset(
    {"theme", "set_language", "dismiss", "view-save", "view-delete", "matrix-selection", "account"}
)


class AuditTrail:
    """Middleware: records each request that writes and was not refused, by whom it was."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method in SAFE:
            return self.get_response(request)
        with actor.acting(actor_of(request)):
            response = self.get_response(request)
            route = request.resolver_match
            name = (route.url_name or route.route) if route else ""
            is_done = response.status_code < 400 and name not in NOT_RECORDED
            # the API leaves None where nobody logged in
            if is_done and request.user is not None and request.user.is_authenticated:
                audit.record(str(name))
        return response


def actor_of(request: HttpRequest) -> Actor:
    def identify() -> tuple[int | None, str]:
        user = request.user
        return (user.pk, str(user)) if user is not None and user.pk else (None, "")

    start = request.path_info.split("/", 2)[1]
    return Actor(
        identify=identify,
        via={"api": actor.API, "admin": actor.ADMIN}.get(start, actor.PAGE),
        place=request.path_info,
        address=caller_ip(request) or "",
        request_id=request.META.get("HTTP_X_REQUEST_ID", ""),
    )


@contextlib.contextmanager
def by_command(name: str) -> Iterator[None]:
    """Have what a command does in the block recorded as done by the account that runs it."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "manage.py" else [name]
    account = f"{getpass.getuser()} (account of the machine)"
    line = str(redaction.redact_quoted(" ".join(words)))
    with actor.acting(Actor(lambda: (None, account), actor.COMMAND, line)):
        yield
