"""A WSGI application that counts its requests as the site does, without the rest of the site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from certification.lib.counters import counters
from tests import wsgi_app

NAME = "test_requests_total"
QuickWorker = wsgi_app.QuickWorker


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    counters.add(NAME, {})
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
