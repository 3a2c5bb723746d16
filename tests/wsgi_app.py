"""A small WSGI application and a worker class with short limits, for tests of the web server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from gunicorn.workers import gthread

from certification.stack import web_worker
from certification.stack.web_worker import ReadingWorker

web_worker.READ_S = 1.0
web_worker.LINGER_S = 0.5
web_worker.MAX_REQUEST = 100_000
web_worker.STOP_S = gthread.STOP_KEEPALIVE_LINGER = float(os.environ.get("STOP_S", "1"))


class QuickWorker(ReadingWorker):
    """Waits a second where the site's waits 30."""


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        environ["gunicorn.socket"].fileno()
        yield b"first\n"
        environ["gunicorn.socket"].settimeout(5)
        # the client answers on no other way than by closing
        environ["gunicorn.socket"].recv(1)
        return
    body = environ["wsgi.input"].read() if path != "/unread" else b""
    content = f"{environ['REQUEST_METHOD']} {path} {len(body)}".encode()
    start_response("200 OK", [("Content-Length", str(len(content)))])
    yield content
