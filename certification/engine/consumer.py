"""Celery's consumer of messages, for a broker that comes and goes."""

from __future__ import annotations

import time
from typing import Any, Literal

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest
from celery.worker.state import maybe_shutdown, revoked

from certification.engine import queue
from certification.lib import clock
from certification.lib.redis_client import UNAVAILABLE

log = structlog.get_logger(__name__)

RETRY_S = 1.0
# Its loop turns at least every ten seconds, and much more often where messages arrive.
STALE_S = 30.0
SILENT_S = 60.0  # it asks for messages every second: after that it has stopped to


class Consumer(CeleryConsumer):
    """Waits for a broker that is away or takes no writes (full, read-only, its disk full) before it
    connects: connecting writes, and a message taken then would be lost until `reconcile` sends it
    again.
    """

    hub: Any
    task_consumer: Any

    def connect(self) -> Any:
        logged = ""
        while fault := broker_fault():
            if fault != logged:
                log.warning("broker_unavailable", error=fault)
            logged = fault
            loop.excuse()
            maybe_shutdown()
            time.sleep(RETRY_S)
        return super().connect()

    def on_ready(self) -> None:
        super().on_ready()
        loop.channel = self.task_consumer.channel
        self.hub.on_tick.add(loop.turned)

    def on_close(self) -> None:
        loop.stopped()
        super().on_close()


class Request(CeleryRequest):
    """A message that expires by the database's clock: that of this machine may differ from beat's,
    and no message of beat would ever be in time.
    """

    def maybe_expire(self) -> Literal[True] | None:
        if self.expires and clock.now() > self.expires:
            revoked.add(self.id)
            return True
        return None


class Loop:
    """Whether this process takes messages: when its event loop turned last, and when it last asked
    the broker for one. A loop that turns proves nothing: after an outage of the broker, workers are
    known to be up and to ask for nothing any more.
    """

    def __init__(self) -> None:
        self.channel: Any = None  # kombu's, on which the messages arrive
        self._turned_at: float | None = None
        self._polled_at = time.monotonic()

    def turned(self) -> None:
        self._turned_at = time.monotonic()
        if self.channel is not None:
            # a worker that has as many runs as it may have asks for no more
            is_full = not self.channel.qos.can_consume()
            moment = self._turned_at if is_full else self.channel._brpop_sent_at or 0.0
            self._polled_at = max(self._polled_at, moment)

    def stopped(self) -> None:
        self._turned_at = None
        self._polled_at = time.monotonic()

    def excuse(self) -> None:
        """Note that nothing could be asked: the broker is away."""
        self._polled_at = time.monotonic()

    @property
    def is_turning(self) -> bool:
        return self._turned_at is not None and time.monotonic() - self._turned_at < STALE_S

    @property
    def silent_s(self) -> float:
        """For how many seconds the broker was not asked, although it could have been."""
        return time.monotonic() - self._polled_at


loop = Loop()


def broker_fault() -> str:
    """Return what keeps the broker from taking messages, empty when nothing does."""
    try:
        return queue.broker_fault()
    except UNAVAILABLE as error:
        return f"redis does not answer ({type(error).__name__})"
