"""The tasks of the monitoring."""

from __future__ import annotations

import structlog
from celery import shared_task

from certification.lib import clock
from certification.lib.database import returning_connection
from certification.models import sql
from certification.monitoring import alerts, heartbeat, notifications, targets

log = structlog.get_logger(__name__)


@shared_task(ignore_result=True)
def check_alerts() -> None:
    """Look at every alert rule, notify people and count for the targets, unless another worker
    does; then tell the outside watcher, if everything could be measured.
    """
    is_good = False
    try:
        with returning_connection(), sql.advisory_lock(alerts.ADVISORY_LOCK) as is_ours:
            if is_ours:
                is_good = not alerts.run_round().unknown
                notifications.deliver()
                targets.measure(clock.now())
    except Exception:  # the next round is a minute away
        log.exception("alerts_crashed")
    else:
        if is_good:
            heartbeat.send()
