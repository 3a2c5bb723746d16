"""Telling whoever watches a job that it changed, through Redis pub/sub. A message is a hint: the
rows are the truth.

Whoever changes a job leaves its id and goes on: one thread of the process sends the messages, many
changes in one, so that a run neither waits for Redis nor fails without it. Whoever watches looks at
the rows every few seconds anyway.
"""

from __future__ import annotations

import atexit
import threading
import time
import uuid
from functools import cache, partial

import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.retry import Retry

log = structlog.get_logger(__name__)

GAP_S = 0.1  # between two messages of a process about the same job
AWAY_S = 5.0  # before Redis is tried again
CLOSE_S = 3.0  # for the last message when the process ends


def notify(job_id: uuid.UUID) -> None:
    """Wake the watchers of the job once the current transaction is committed. Never fails, and
    costs microseconds.
    """
    transaction.on_commit(partial(_outbox.put, job_id), robust=True)


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )


def _channel(job_id: uuid.UUID) -> str:
    return f"myia:job:{job_id}"


class Outbox:
    """The jobs that changed since the last message, and the thread that tells of them."""

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
                self._thread = threading.Thread(target=self._send, name="wakeups", daemon=True)
                self._thread.start()
        self._filled.set()

    def close(self) -> None:
        """Send what is left and end the thread, within seconds: one at work while Python ends can
        keep it from ending.
        """
        self._closing.set()
        self._filled.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _send(self) -> None:
        while not self._closing.is_set() or self._changed:
            self._filled.wait()
            self._filled.clear()
            with self._lock:
                jobs, self._changed = self._changed, set()
            try:
                with _client().pipeline(transaction=False) as pipeline:
                    for job_id in jobs:
                        pipeline.publish(_channel(job_id), "")
                    pipeline.execute()
            except (redis.RedisError, OSError) as error:
                log.warning("wakeups_without_redis", error=str(error))
                self._closing.wait(AWAY_S)
            else:
                self._closing.wait(GAP_S)


_outbox = Outbox()
atexit.register(_outbox.close)


class Subscription:
    """Hears of changes of one job, from now on. Close it after use: it holds a connection to Redis."""

    def __init__(self, job_id: uuid.UUID) -> None:
        self._channel = _channel(job_id)
        self._heard: PubSub | None = None
        self._again_at = 0.0
        self._listen()

    def wait(self, seconds: float) -> bool:
        """Whether somebody told of a change within that time; without Redis nobody does."""
        if self._heard is None and time.monotonic() >= self._again_at and self._listen():
            return True  # whatever happened meanwhile was not heard
        if self._heard is None:
            time.sleep(seconds)
            return False
        try:
            told = self._heard.get_message(timeout=seconds) is not None
            while self._heard.get_message(timeout=0) is not None:
                pass
        except (redis.RedisError, OSError) as error:
            self._lose(error)
            return False
        return told

    def close(self) -> None:
        """Give the connection back."""
        if self._heard is not None:
            self._heard.close()
            self._heard = None

    def _listen(self) -> bool:
        self._heard = _client().pubsub()
        try:
            self._heard.subscribe(self._channel)
            self._heard.get_message(timeout=2)  # that the subscription stands
        except (redis.RedisError, OSError) as error:
            self._lose(error)
            return False
        return True

    def _lose(self, error: Exception) -> None:
        log.warning("watch_without_redis", error=str(error))
        self.close()
        self._again_at = time.monotonic() + AWAY_S
