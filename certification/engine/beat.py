"""The scheduler of beat, of which any number may run: one works, the others wait.

Who works holds a key in Redis that ends by itself after HOLD_S: a beat that dies, freezes or is cut
off is followed by another one within HOLD_S and one look of it. Redis it is because without Redis
nothing can be sent anyway. That two work for a moment, after a failover of Redis, does no harm:
each routine is done by one worker at a time.
"""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from django.conf import settings
from django_celery_beat.schedulers import DatabaseScheduler

from certification.lib import redis_client
from certification.lib.redis_client import UNAVAILABLE, Purpose

log = structlog.get_logger(__name__)

HOLD_S = 15
LOOK_S = 5  # between two looks of a beat that waits
# Keep or take the key, and give it back, only where it is ours or nobody's.
HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Turn:
    """The key of the beat that works."""

    def __init__(self) -> None:
        self.name = f"{settings.CERTIFICATION_QUEUE_NAME}.beat"
        self.own = secrets.token_hex(8)
        self.is_ours: bool | None = None  # not asked yet

    def take(self) -> bool:
        """Hold the key for HOLD_S from now; False while another beat does, or without Redis."""
        before = self.is_ours
        try:
            reply = redis_client.client(Purpose.BROKER).eval(HOLD, 1, self.name, self.own, HOLD_S)
            self.is_ours = bool(reply)
        except UNAVAILABLE as error:
            self.is_ours = False
            log.warning("broker_unreachable", error=str(error))
        if self.is_ours != before:
            log.info("beat_works" if self.is_ours else "beat_waits")
        return bool(self.is_ours)

    def end(self) -> None:
        """Give the key back, so that the next one need not wait."""
        try:
            redis_client.client(Purpose.BROKER).eval(RELEASE, 1, self.name, self.own)
        except UNAVAILABLE as error:
            log.warning("broker_unreachable", error=str(error))


class Scheduler(DatabaseScheduler):
    """The schedule in the database, as the beat whose turn it is sends it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.turn = Turn()
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; return the seconds until the next look."""
        had_turn = self.turn.is_ours
        if not self.turn.take():
            return float(min(LOOK_S, self.max_interval))
        if not had_turn:  # read anew: what the beat before sent is in the database
            self.schedule_changed()  # and nothing else is a change any more
            self._initial_read, self._heap = True, None
        seconds: float = super().tick(*args, **kwargs)
        return min(seconds, LOOK_S)

    def close(self) -> None:
        super().close()
        self.turn.end()
