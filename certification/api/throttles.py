"""How often somebody may ask: so many requests in a minute, counted where all processes see it."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from certification.lib.shared_cache import breaker, client

MINUTE = 60


class PerMinute(BaseThrottle):
    """Reads and writes are counted apart, per user or, without one, per address; a view may name a
    count of its own.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        kind = view.rate_for(request.method)
        most = settings.API_RATES[kind]
        if not most:
            return True
        caller = (
            f"u{request.user.pk}"
            if request.user and kind != "login"
            else f"a{self.get_ident(request)}"
        )
        return within_a_minute(f"myia:rate:{kind}:{caller}", time.time()) <= most

    def wait(self) -> float:
        """Seconds until the next minute of the clock begins."""
        return MINUTE - time.time() % MINUTE + 1


def caller_ip(request: HttpRequest) -> str | None:
    """For the lock-out: the address that the outermost of our proxies saw, as the rates count it.
    None: it named none.

    What stands further left in X-Forwarded-For was written by the caller.
    """
    told = PerMinute().get_ident(request)  # type: ignore[arg-type]  # reads headers and META only
    try:
        return str(ipaddress.ip_address(told or ""))
    except ValueError:
        return None


def within_a_minute(name: str, now: float) -> float:
    """How often `name` was counted in the last minute, this time included: this minute of the
    clock, and the last one's share.

    0 when nobody can tell: without Redis nobody is turned away.
    """
    minute, passed = divmod(now, MINUTE)
    this, last = f"{name}:{minute:.0f}", f"{name}:{minute - 1:.0f}"
    if breaker.is_open:
        return 0
    try:  # one round trip: this stands before every answer
        with client().pipeline(transaction=False) as together:
            together.incr(this)
            together.expire(this, 3 * MINUTE)
            together.get(last)
            count, _lives, before = together.execute()
    except (RedisError, OSError) as error:
        breaker.record_failure(error)
        return 0
    return float(count + int(before or 0) * (1 - passed / MINUTE))
