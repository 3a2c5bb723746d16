"""Pause the queue, resume it, begin and end read-only mode: for pages, API and commands."""

from __future__ import annotations

from datetime import timedelta

import structlog

from certification.engine import backend
from certification.lib import clock
from certification.models import PauseCause, QueuePause

log = structlog.get_logger(__name__)

MAX_REASON = 500  # characters


def begin(
    cause: PauseCause, who: str, reason: str, duration: timedelta | None = None
) -> QueuePause | None:
    """Begin a pause; it ends by itself after `duration`. None when one of this cause is open."""
    until = clock.now() + duration if duration else None
    pause = QueuePause.objects.create_open(
        backend=backend.name(), cause=cause, message=reason, opened_by=who, until=until
    )
    if pause is not None:
        log.warning("pause_begun", cause=cause, by=who, reason=reason)
    return pause


def end(cause: PauseCause, who: str) -> QueuePause | None:
    """End the open pause of this cause and return it. None without one."""
    pauses = QueuePause.objects.open().filter(cause=cause)
    if cause != PauseCause.READ_ONLY:
        pauses = pauses.filter(backend=backend.name())
    pause = pauses.first()
    if pause is None or not pause.end():
        return None
    log.warning("pause_ended", cause=cause, by=who)
    return pause


def one_line(reason: str) -> str:
    """Return a person's reason as it is stored."""
    return " ".join(reason.replace("\0", "").split())[:MAX_REASON]
