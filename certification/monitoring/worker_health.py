"""How a worker shows from outside that it is well: a small HTTP server beside the task threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overdue
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from certification.engine import queue, runner
from certification.lib.database import returning_connection
from certification.models import CertificationRun, Priority, State

log = structlog.get_logger(__name__)

CUT_S = 1.0  # a dependency that takes longer is reported, not waited for


@cache
def _checks() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="health")


def broker() -> str:
    """'ok', or what keeps the broker from answering within CUT_S."""
    return _cut(_ask_broker)


def _ask_broker() -> str:
    queue.waiting(Priority.INTERACTIVE)
    return "ok"


def _cut(check: Callable[[], str]) -> str:
    future = _checks().submit(check)
    try:
        return future.result(CUT_S)
    except Overdue:
        return f"error: no answer within {CUT_S:g} s"
    except (redis.RedisError, OSError, DatabaseError, InterfaceError) as error:
        return f"error: {type(error).__name__}"


def worker_health() -> tuple[int, dict[str, Any]]:
    """HTTP status and body of a worker's /health. 503 without a broker, or once it takes no more
    work.
    """
    worker, reachable = runner.worker(), broker()
    well = reachable == "ok" and not worker.draining.is_set()
    beat = (
        datetime.fromtimestamp(time.time() - (time.monotonic() - worker.last_heartbeat), UTC)
        if worker.last_heartbeat
        else None
    )
    body = {
        "status": "healthy" if well else "degraded",
        "worker": {
            "isRunning": not worker.draining.is_set(),
            "queueName": settings.CERTIFICATION_QUEUE_NAME,
            "concurrency": settings.CERTIFICATION_CONCURRENCY,
            "activeRuns": worker.active,
            "lastHeartbeat": beat.isoformat() if beat else None,
        },
        "checks": {"broker": reachable},
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return (200 if well else 503), body


def queue_figures() -> dict[str, int]:
    """How many runs wait, are worked on, and ended in each way. Raises what database or broker
    raise.
    """
    with returning_connection():
        runs = CertificationRun.objects
        return {
            "waiting": sum(queue.waiting(priority) for priority in Priority.values),
            "active": runs.filter(status=State.PROCESSING).count(),
            "completed": runs.filter(status=State.COMPLETED).count(),
            "failed": runs.filter(status=State.FAILED).count(),
            "delayed": runs.filter(status=State.PENDING).count(),
        }


def prometheus(figures: dict[str, int], active: int) -> bytes:
    """The worker's figures as Prometheus text."""
    registry = CollectorRegistry()
    Gauge("queue_waiting", "Messages that no worker has taken yet", registry=registry).set(
        figures["waiting"]
    )
    Gauge("worker_active_runs", "Runs this worker is working on", registry=registry).set(active)
    by_state = Gauge("certification_runs", "Runs by state", ["state"], registry=registry)
    for state in ("active", "completed", "failed", "delayed"):
        by_state.labels(state).set(figures[state])
    return generate_latest(registry)


class _Pages(BaseHTTPRequestHandler):
    server_version = "myia-worker"
    sys_version = ""

    def do_GET(self) -> None:
        page = {
            "/live": self._live,
            "/ready": self._ready,
            "/health": self._health,
            "/metrics": self._metrics,
        }.get(self.path.split("?", 1)[0])
        if page is None:
            self._json(
                404, {"status": "fail", "message": "Known here: /health /ready /live /metrics"}
            )
            return
        try:
            page()
        except (redis.RedisError, OSError, DatabaseError, InterfaceError) as error:
            self._json(503, {"status": "degraded", "message": f"{type(error).__name__}"})

    def _live(self) -> None:
        self._json(200, {"status": "ok"})

    def _ready(self) -> None:
        status, body = worker_health()
        self._json(
            status, {"status": "ready" if status == 200 else "not ready", "checks": body["checks"]}
        )

    def _health(self) -> None:
        self._json(*worker_health())

    def _metrics(self) -> None:
        status, body = worker_health()
        figures = queue_figures()
        if "text/plain" in self.headers.get("Accept", "") or "openmetrics" in self.headers.get(
            "Accept", ""
        ):
            self._send(
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                prometheus(figures, body["worker"]["activeRuns"]),
            )
        else:
            self._json(status, body | {"queue": figures})

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes every few seconds are not worth a line."""


def serve(host: str, port: int) -> ThreadingHTTPServer:
    """Answer on this address from a thread of its own until `shutdown()`. OSError when the port is
    taken.
    """
    server = ThreadingHTTPServer((host, port), _Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health-server", daemon=True).start()
    return server
