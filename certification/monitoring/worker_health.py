"""Serve a worker's health and metrics over HTTP, from a thread next to its task threads."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from django.conf import settings
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from certification.engine import consumer, queue
from certification.engine.worker import get_worker
from certification.lib import clock, service_manager
from certification.lib.database import returning_connection
from certification.models import Priority
from certification.monitoring import checks, queue_stats
from certification.monitoring.checks import FAILURES, Check

log = structlog.get_logger(__name__)

PROMETHEUS_TYPES = ("text/plain", "openmetrics")


BROKER = Check("broker", queue.broker_fault)
CHECKS = (BROKER, Check("database", checks.database_fault))


def run_checks() -> dict[str, str]:
    """Return the state of broker and database, within CHECK_TIMEOUT_S, and of the consumer."""
    consumes = "ok" if consumer.loop.is_turning else "error: the worker takes no messages"
    return checks.run(CHECKS) | {"consumer": consumes}


def liveness() -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and body of a worker's /live: 503 when it has stopped to ask for
    messages although the broker answers. Whoever runs the worker replaces it then.
    """
    if checks.run((BROKER,)) != {"broker": "ok"}:
        consumer.loop.excuse()
    seconds = consumer.loop.silent_s
    if seconds < consumer.SILENT_S or get_worker().draining.is_set():
        return 200, {"status": "ok"}
    message = f"The worker has not asked the broker for messages for {seconds:.0f} s. Restart it."
    return 503, {"status": "fail", "message": message}


def feed_watchdog() -> None:
    """Tell systemd twice in each of its periods that the worker is alive, while /live says so."""
    pause = threading.Event()
    while True:
        try:
            status, body = liveness()
        except Exception:  # whatever it is: a look that fails says nothing of the worker
            log.exception("liveness_unknown")
            status, body = 200, {}
        if status == 200:
            service_manager.notify(service_manager.WATCHDOG)
        else:
            log.error("worker_silent", message=body["message"])
        pause.wait(settings.WATCHDOG_SECONDS / 2)


def worker_health() -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and body of a worker's /health: 503 without a broker that takes
    messages or a database, and while the worker takes no work. A wrong clock is said, but keeps it
    from nothing.
    """
    worker, states = get_worker(), run_checks()
    healthy = set(states.values()) == {"ok"} and not worker.draining.is_set()
    heartbeat = (
        clock.now() - timedelta(seconds=time.monotonic() - worker.last_heartbeat)
        if worker.last_heartbeat
        else None
    )
    body = {
        "status": "healthy" if healthy else "degraded",
        "worker": {
            "isRunning": not worker.draining.is_set(),
            "queueName": settings.CERTIFICATION_QUEUE_NAME,
            "concurrency": settings.CERTIFICATION_CONCURRENCY,
            "activeRuns": worker.active,
            "healthPort": worker.health_port,
            "clock": clock.fault() or "ok",
            "clockOffsetSeconds": round(clock.offset_s(), 1),
            "lastHeartbeat": heartbeat.isoformat() if heartbeat else None,
        },
        "checks": states,
        "timestamp": clock.now().isoformat(),
    }
    return (200 if healthy else 503), body


def queue_figures() -> dict[str, int]:
    """Return the runs by what happens to them, as the API counts them, and the messages that no
    worker has taken. Raises what database or broker raise.
    """
    with returning_connection():
        counts = queue_stats.queue_counts()
    return {
        "waiting": counts.waiting,
        "active": counts.active,
        "completed": counts.completed,
        "failed": counts.failed,
        "delayed": counts.delayed,
        "paused": counts.paused,
        "queuedMessages": sum(queue.queued_messages(priority) for priority in Priority.values),
    }


def prometheus(figures: dict[str, int], active: int) -> bytes:
    """Return the worker's figures as Prometheus text."""
    registry = CollectorRegistry()
    Gauge("queue_waiting", "Runs that wait for a worker", registry=registry).set(figures["waiting"])
    Gauge("queue_messages", "Messages that no worker has taken yet", registry=registry).set(
        figures["queuedMessages"]
    )
    Gauge("worker_active_runs", "Runs this worker is working on", registry=registry).set(active)
    by_state = Gauge("certification_runs", "Runs by state", ["state"], registry=registry)
    for state in ("active", "completed", "failed", "delayed"):
        by_state.labels(state).set(figures[state])
    return generate_latest(registry)


class HealthPages(BaseHTTPRequestHandler):
    server_version = "myia-worker"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            status, body = self.page(self.path.split("?", 1)[0])
        except FAILURES as error:
            status, body = 503, {"status": "degraded", "message": type(error).__name__}
        content_type = "application/json"
        if isinstance(body, bytes):
            content_type = "text/plain; version=0.0.4; charset=utf-8"
        else:
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def page(self, path: str) -> tuple[int, dict[str, Any] | bytes]:
        """Return the HTTP status and the body: JSON, or Prometheus text for who accepts it."""
        if path == "/live":
            return liveness()
        if path not in ("/ready", "/health", "/metrics"):
            return 404, {"status": "fail", "message": "Pages: /health /ready /live /metrics"}
        status, body = worker_health()
        if path == "/ready":
            ready = "ready" if status == 200 else "not ready"
            return status, {"status": ready, "checks": body["checks"]}
        if path == "/health":
            return status, body
        if any(body["checks"][name] != "ok" for name in ("broker", "database")):
            return 503, body  # without figures, for which it would be waited
        figures = queue_figures()
        if any(kind in self.headers.get("Accept", "") for kind in PROMETHEUS_TYPES):
            return 200, prometheus(figures, body["worker"]["activeRuns"])
        return status, body | {"queue": figures}

    def log_message(self, format: str, *args: Any) -> None:
        """Probes every few seconds are not worth a line."""


def serve(host: str, port: int) -> ThreadingHTTPServer:
    """Serve the pages from a thread of its own until `shutdown()`. Raises OSError when the port is
    taken.
    """
    server = ThreadingHTTPServer((host, port), HealthPages)
    server.daemon_threads = True
    get_worker().health_port = server.server_address[1]
    threading.Thread(target=server.serve_forever, name="health-server", daemon=True).start()
    return server
