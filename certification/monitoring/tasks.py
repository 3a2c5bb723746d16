"""The tasks of the monitoring."""

from __future__ import annotations

import structlog
from celery import shared_task

from certification.lib.database import returning_connection
from certification.models import sql
from certification.monitoring import alerts, notifications

log = structlog.get_logger(__name__)


@shared_task(ignore_result=True)
def check_alerts() -> None:
    """Look at every alert rule and notify people, unless another worker does."""
    try:
        with returning_connection(), sql.advisory_lock(alerts.ADVISORY_LOCK) as is_ours:
            if is_ours:
                alerts.run_round()
                notifications.deliver()
    except Exception:  # the next round is a minute away
        log.exception("alerts_crashed")
