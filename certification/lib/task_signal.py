"""Ask the workers to do work that a table lists, with one message at a time.

Whoever adds a row asks for the task; while a message is out that no worker has taken, asking again
sends nothing. A message is a hint: beat runs the same task at intervals anyway.
"""

from __future__ import annotations

import contextlib

import structlog
from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError

from certification.lib import redis_client
from certification.lib.redis_client import UNAVAILABLE, Purpose

log = structlog.get_logger(__name__)


def request(task: str, expires_s: int) -> None:
    """Have a worker run the task, unless it is asked for already. Never fails without a broker.

    The message and the mark that it is out expire after `expires_s` seconds.
    """
    try:
        # Redis is asked first: it fails at once where kombu would try for seconds
        if redis_client.client(Purpose.BROKER).set(_key(task), 1, nx=True, ex=expires_s):
            current_app.send_task(task, retry=False, expires=expires_s)
    except (OperationalError, *UNAVAILABLE) as error:
        log.warning("broker_unreachable", task=task, error=str(error))


def begin(task: str) -> None:
    """Note that the task has begun: rows added from now on need a message of their own.

    Call before reading the rows.
    """
    with contextlib.suppress(*UNAVAILABLE):  # the mark expires by itself
        redis_client.client(Purpose.BROKER).delete(_key(task))


def _key(task: str) -> str:
    return f"{settings.CERTIFICATION_QUEUE_NAME}.requested.{task}"
