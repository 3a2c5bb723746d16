"""Notify the followers of a job that it changed, through Redis pub/sub. A message is a hint: the
rows are the truth.

A change costs its caller microseconds: one thread of the process sends the messages, many changes
in one, so that a run neither waits for Redis nor fails without it. Subscribers read the rows every
few seconds anyway.
"""

from __future__ import annotations

import atexit
import threading
import time
import uuid
from functools import partial

import structlog
from django.db import transaction
from redis.client import PubSub

from certification.lib import redis_client
from certification.lib.redis_client import UNAVAILABLE, Purpose

log = structlog.get_logger(__name__)

SEND_INTERVAL_S = 0.1  # between two messages of a process about the same job
RECONNECT_S = 5.0  # before Redis is tried again
CLOSE_TIMEOUT_S = 3.0  # for the last message when the process ends
SUBSCRIBE_TIMEOUT_S = 2


def notify(job_id: uuid.UUID) -> None:
    """Wake the subscribers of a job once the current transaction is committed. Never raises."""
    transaction.on_commit(partial(_outbox.put, job_id), robust=True)


def channel(job_id: uuid.UUID) -> str:
    return f"myia:job:{job_id}"


class Outbox:
    """The jobs that changed since the last message, and the thread that sends it."""

    def __init__(self) -> None:
        self._changed: set[uuid.UUID] = set()
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, job_id: uuid.UUID) -> None:
        with self._lock:
            self._changed.add(job_id)
            # the first one, or a fork left it behind
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self.run, name="notifications", daemon=True)
                self._thread.start()
        self._filled.set()

    def close(self) -> None:
        """Send what is left and end the thread, within seconds: a thread that works while Python
        ends can keep it from ending.
        """
        self._closing.set()
        self._filled.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def run(self) -> None:
        """Send until closed: the thread's own work."""
        while not self._closing.is_set() or self._changed:
            self._filled.wait()
            self._filled.clear()
            with self._lock:
                jobs, self._changed = self._changed, set()
            try:
                client = redis_client.client(Purpose.NOTIFICATIONS)
                with client.pipeline(transaction=False) as pipeline:
                    for job_id in jobs:
                        pipeline.publish(channel(job_id), "")
                    pipeline.execute()
            except UNAVAILABLE as error:
                log.warning("notifications_not_sent", jobs=len(jobs), error=str(error))
                self._closing.wait(RECONNECT_S)
            else:
                self._closing.wait(SEND_INTERVAL_S)


_outbox = Outbox()
atexit.register(_outbox.close)


class Subscription:
    """Notifications of one job's changes from now on. Close it: it holds a connection."""

    def __init__(self, job_id: uuid.UUID) -> None:
        self._channel = channel(job_id)
        self._pubsub: PubSub | None = None
        self._reconnect_at = 0.0
        self._subscribe()

    def wait(self, seconds: float) -> bool:
        """Wait until the job changes, for so long at most; return whether it may have changed.

        Without Redis this sleeps and returns False, and True once Redis is back: what happened
        meanwhile went unnoticed.
        """
        if self._pubsub is None and time.monotonic() >= self._reconnect_at and self._subscribe():
            return True
        if self._pubsub is None:
            time.sleep(seconds)
            return False
        try:
            notified = self._pubsub.get_message(timeout=seconds) is not None
            while self._pubsub.get_message(timeout=0) is not None:
                pass
        except UNAVAILABLE as error:
            self._disconnect(error)
            return False
        return notified

    def close(self) -> None:
        """Give the connection back."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def _subscribe(self) -> bool:
        self._pubsub = redis_client.client(Purpose.NOTIFICATIONS).pubsub()
        try:
            self._pubsub.subscribe(self._channel)
            self._pubsub.get_message(timeout=SUBSCRIBE_TIMEOUT_S)  # the confirmation
        except UNAVAILABLE as error:
            self._disconnect(error)
            return False
        return True

    def _disconnect(self, error: Exception) -> None:
        log.warning("subscription_lost", error=str(error))
        self.close()
        self._reconnect_at = time.monotonic() + RECONNECT_S
