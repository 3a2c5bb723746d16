"""Limit how often a caller may call: requests in a minute, counted where all processes see it."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from certification.lib import shared_cache

MINUTE_S = 60


class PerMinute(BaseThrottle):
    """Reads and writes are counted separately, per user or, without one, per address; a view may
    name a count of its own.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        kind = view.rate_for(request.method)
        limit = settings.API_RATES[kind]
        if not limit:
            return True
        by_user = request.user and kind != "login"
        caller = f"u{request.user.pk}" if by_user else f"a{self.get_ident(request)}"
        return requests_in_a_minute(f"myia:rate:{kind}:{caller}", time.time()) <= limit

    def wait(self) -> float:
        """Return the seconds until the next minute of the clock begins."""
        return MINUTE_S - time.time() % MINUTE_S + 1


def caller_ip(request: HttpRequest) -> str | None:
    """Return the address for the lock-out, as the rates count it: the one that the outermost of our
    proxies saw. None when it named none.

    Addresses further left in X-Forwarded-For were written by the caller.
    """
    address = PerMinute().get_ident(request)  # type: ignore[arg-type]  # reads headers and META only
    try:
        return str(ipaddress.ip_address(address or ""))
    except ValueError:
        return None


def requests_in_a_minute(name: str, now: float) -> float:
    """Count this request, and return how many `name` had in the last minute: those of this minute
    of the clock, and a share of those of the minute before.

    0 without Redis: nobody is turned away then.
    """
    minute, passed_s = divmod(now, MINUTE_S)
    this, last = f"{name}:{minute:.0f}", f"{name}:{minute - 1:.0f}"

    def count() -> float:
        with shared_cache.client().pipeline(transaction=False) as pipeline:  # one round trip
            pipeline.incr(this)
            pipeline.expire(this, 3 * MINUTE_S)
            pipeline.get(last)
            requests, _expires, before = pipeline.execute()
        return float(requests + int(before or 0) * (1 - passed_s / MINUTE_S))

    return shared_cache.breaker.call(count, 0.0)
