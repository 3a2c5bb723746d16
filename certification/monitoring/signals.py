"""What a worker does first: check the settings, start its health server."""

from __future__ import annotations

from typing import Any

import structlog
from celery.signals import worker_init
from django.conf import settings
from django.core.checks import run_checks

from certification.checks import TAG
from certification.monitoring import worker_health

log = structlog.get_logger(__name__)


@worker_init.connect
def check_settings(**_kwargs: Any) -> None:
    """End a worker whose settings cannot work. Celery itself would run every check and ignore what
    they find; those of the URLs would load all pages and the API for it, 27 MB.
    """
    errors = [str(issue) for issue in run_checks(tags=[TAG]) if issue.is_serious()]
    if errors:
        raise SystemExit("\n".join(errors))


@worker_init.connect
def serve_health(**_kwargs: Any) -> None:
    """Serve the health pages before the worker takes messages: it may have to wait for Redis. A
    port in use is logged, and the
    worker goes on without them.
    """
    if not settings.WORKER_HEALTH_PORT:
        return
    try:
        worker_health.serve(settings.WORKER_HEALTH_HOST, settings.WORKER_HEALTH_PORT)
    except OSError as error:
        log.error("health_port_in_use", port=settings.WORKER_HEALTH_PORT, error=str(error))
