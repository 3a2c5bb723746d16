"""Responses that are read often and change seldom: their bytes are shared between processes for
seconds, and not sent to a client that has them already.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.translation import get_language
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request

from certification.api.envelope import JSendRenderer, as_request
from certification.lib import clock, shared_cache
from certification.lib.postgresql import replica
from certification.lib.shared_cache import CacheEntry

CONTENT_TYPE = "application/json"

# For the schema of an address that answers through `cached_response`.
NOT_MODIFIED = OpenApiResponse(
    description="Nothing has changed since the response that `If-None-Match` names."
)
CONDITIONAL = [
    OpenApiParameter(
        "If-None-Match",
        str,
        OpenApiParameter.HEADER,
        description="The ETag of an earlier response; 304 while it is still current.",
    ),
    OpenApiParameter(
        "ETag",
        str,
        OpenApiParameter.HEADER,
        response=[200],
        description="Changes exactly when the response changes.",
    ),
]


@dataclass(frozen=True)
class CacheableResponse:
    """The data of a response, and until when it is true (None: until something changes)."""

    data: Any
    until: datetime | None = None


class Rendered(NamedTuple):
    """A response as it is sent."""

    etag: str
    body: bytes


# Keys share locks: some threads wait for another key's response, briefly.
_locks = tuple(Lock() for _ in range(64))


def cached_response(
    request: Request,
    name: str,
    params: Mapping[str, Any],
    read: Callable[[], CacheableResponse],
    *,
    is_announced: bool = True,
) -> HttpResponseBase:
    """Respond with cached bytes, or with what `read` returns, which is then cached; 304 to a client
    that has them.

    `params` are the checked parameters. The response must not depend on the user. In each process
    one thread reads while others with the same parameters wait for it. It reads from the replica
    where that has everything that the cache's generation stands for; never what changes without a
    new generation (not `is_announced`).
    """
    key = cache_key(name, params)
    if not settings.API_CACHE_SECONDS:
        return conditional_response(request, *render(read().data))

    def read_and_cache_entry(entry: CacheEntry[Rendered]) -> Rendered:
        since = entry.began if is_announced else math.inf
        return read_and_cache(key, entry.generation, lambda: replica.read(since, read))

    entry = shared_cache.get(key, Rendered)
    if entry.value is None and entry.generation:
        with _locks[hash(key) % len(_locks)]:
            entry = shared_cache.get(key, Rendered)
            etag, body = entry.value or read_and_cache_entry(entry)
    else:
        etag, body = entry.value or read_and_cache_entry(entry)
    return conditional_response(request, etag, body)


def cache_key(name: str, params: Mapping[str, Any]) -> str:
    """Return the key of a response. It has the language in it: sentences are translated."""
    text = json.dumps([name, get_language(), params], sort_keys=True, default=str)
    return f"response:1:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def render(data: Any) -> Rendered:
    """Return the ETag and the body of a response."""
    body = JSendRenderer().render(data)
    return Rendered(f'"{hashlib.sha256(body).hexdigest()[:32]}"', body)


def read_and_cache(key: str, generation: str, read: Callable[[], CacheableResponse]) -> Rendered:
    response = read()
    rendered = render(response.data)
    seconds: float = settings.API_CACHE_SECONDS
    if response.until is not None:  # certifications expire by date, which no change announces
        seconds = min(seconds, (response.until - clock.now()).total_seconds())
    shared_cache.set(key, generation, rendered, seconds)
    return rendered


def conditional_response(request: Request, etag: str, body: bytes) -> HttpResponseBase:
    full = HttpResponse(body, content_type=CONTENT_TYPE, headers={"ETag": etag})
    response = get_conditional_response(as_request(request), etag, response=full) or full
    response["Cache-Control"] = "private, no-cache"
    response["Vary"] = "Authorization"
    return response
