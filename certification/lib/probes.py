"""The addresses that probes, supervisors and scrapers ask: a middleware.

They call a process by its own address, which no list of allowed hosts has. What these pages answer
does not depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

HOST = "localhost"  # always allowed


class Probes:
    """Answer PROBED_ADDRESSES whatever the request's Host is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.probed = re.compile(settings.PROBED_ADDRESSES)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if self.probed.match(request.path_info.removeprefix("/")):
            request.META["HTTP_HOST"] = HOST
        return self.get_response(request)
