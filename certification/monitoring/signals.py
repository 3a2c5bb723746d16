"""What workers and beat do first: check the settings, start the health server, count the start."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import Any

import structlog
from celery.signals import beat_init, worker_init
from django.conf import settings
from django.core.checks import run_checks

from certification.checks import TAG
from certification.lib import process_counts
from certification.monitoring import worker_health

log = structlog.get_logger(__name__)

MAX_PORTS = 20  # that are tried


@worker_init.connect
def check_settings(**_kwargs: Any) -> None:
    """End a worker whose settings cannot work. Celery itself would run every check and ignore what
    they find; those of the URLs would load all pages and the API for it, 27 MB.
    """
    errors = [str(issue) for issue in run_checks(tags=[TAG]) if issue.is_serious()]
    if errors:
        raise SystemExit("\n".join(errors))


@worker_init.connect
@beat_init.connect
def count_start(**_kwargs: Any) -> None:
    process_counts.begin()


@worker_init.connect
def serve_health(**_kwargs: Any) -> ThreadingHTTPServer | None:
    """Serve the health pages before the worker takes messages: it may have to wait for Redis. A
    second worker of a machine takes the next port that is free, and says so; `queue` lists it.
    """
    first: int = settings.WORKER_HEALTH_PORT
    if not first:
        return None
    for port in range(first, min(first + MAX_PORTS, 65536)):
        try:
            server = worker_health.serve(settings.WORKER_HEALTH_HOST, port)
        except OSError as error:
            fault = str(error)
        else:
            if port != first:
                log.warning("health_port_in_use", port=first, used_instead=port)
            return server
    log.error("health_port_in_use", port=first, tried=MAX_PORTS, error=fault)
    return None


@worker_init.connect
def begin_watchdog(**_kwargs: Any) -> threading.Thread | None:
    """Have systemd hear of this worker for as long as it takes messages, where systemd listens: it
    replaces one that has fallen silent.
    """
    if not settings.WATCHDOG_SECONDS:
        return None
    thread = threading.Thread(target=worker_health.feed_watchdog, name="watchdog", daemon=True)
    thread.start()
    return thread
