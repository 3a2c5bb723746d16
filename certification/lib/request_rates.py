"""Count how often a caller calls in a minute, where all processes see it.

Minutes are those of the one clock: hosts that disagree on them would each count by themselves.
"""

from __future__ import annotations

import ipaddress

from django.http import HttpRequest
from rest_framework.throttling import BaseThrottle

from certification.lib import clock, shared_cache

MINUTE_S = 60


def address_of(request: HttpRequest) -> str:
    """Return the address that the outermost of our proxies saw: addresses further left in
    X-Forwarded-For were written by the caller.
    """
    ident = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # reads headers and META
    return str(ident or "")


def caller_ip(request: HttpRequest) -> str | None:
    """Return the address for the lock-out, as the rates count it; None when a proxy named none."""
    try:
        return str(ipaddress.ip_address(address_of(request)))
    except ValueError:
        return None


def count_request(kind: str, caller: str) -> float:
    """Count a request of this kind, and return how many the caller had in the last minute: those of
    this minute of the clock, and a share of those of the minute before.

    0 without Redis: nobody is turned away then.
    """
    minute, passed_s = divmod(clock.now().timestamp(), MINUTE_S)
    name = f"myia:rate:{kind}:{caller}"
    this, last = f"{name}:{minute:.0f}", f"{name}:{minute - 1:.0f}"

    def count() -> float:
        with shared_cache.client().pipeline(transaction=False) as pipeline:  # one round trip
            pipeline.incr(this)
            pipeline.expire(this, 3 * MINUTE_S)
            pipeline.get(last)
            requests, _expires, before = pipeline.execute()
        return float(requests + int(before or 0) * (1 - passed_s / MINUTE_S))

    return shared_cache.breaker.call(count, 0.0)


def seconds_to_wait() -> float:
    """Return the seconds until the next minute of the clock begins."""
    return MINUTE_S - clock.now().timestamp() % MINUTE_S + 1
