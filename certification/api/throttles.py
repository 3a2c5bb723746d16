"""Limit how often a caller may call the API."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from certification.lib import request_rates

PER_ADDRESS = ("login", "log")


class PerMinute(BaseThrottle):
    """Reads and writes are counted separately, per user or, without one, per address; a view may
    name a count of its own.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        kind = view.rate_for(request.method)
        limit = settings.API_RATES[kind]
        if not limit:
            return True
        by_user = request.user and kind not in PER_ADDRESS
        caller = f"u{request.user.pk}" if by_user else f"a{self.get_ident(request)}"
        return request_rates.count_request(kind, caller) <= limit

    def wait(self) -> float:
        return request_rates.seconds_to_wait()
