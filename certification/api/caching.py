"""Answers that are read often and change seldom: their bytes are shared for seconds, and not sent
to who has them already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.translation import get_language
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request

from certification.api.envelope import JSendRenderer, as_request
from certification.lib import shared_cache

CONTENT_TYPE = "application/json"

# For the schema of an address that answers through `answer`.
NOT_MODIFIED = OpenApiResponse(description="What `If-None-Match` names is still what there is.")
CONDITIONAL = [
    OpenApiParameter(
        "If-None-Match",
        str,
        OpenApiParameter.HEADER,
        description="The ETag of an earlier answer: 304 while it holds.",
    ),
    OpenApiParameter(
        "ETag",
        str,
        OpenApiParameter.HEADER,
        response=[200],
        description="Changes with the answer, and only then.",
    ),
]


@dataclass(frozen=True)
class CacheableResponse:
    """What a view has to say, and until when it is true (None: until something changes)."""

    data: Any
    until: datetime | None = None


def answer(
    request: Request, name: str, asked: Mapping[str, Any], read: Callable[[], CacheableResponse]
) -> HttpResponseBase:
    """The answer to `name` asked with these checked parameters: kept bytes, or `read` and then
    kept; 304 to who has it.

    It must not depend on who asks. In each process one thread reads while others that ask the same
    wait for it.
    """
    key = _key(name, asked)
    found = shared_cache.get(key) if settings.API_CACHE_SECONDS else shared_cache.CacheEntry()
    if found.value is None and found.generation:
        with _alone(key):
            found = shared_cache.get(key)
            kept = found.value or _read(key, found.generation, read)
    else:
        kept = found.value or _read(key, found.generation, read)
    return _conditional(request, *kept)


def _read(key: str, read_in: str, read: Callable[[], CacheableResponse]) -> tuple[str, bytes]:
    said = read()
    body = JSendRenderer().render(said.data)
    kept = f'"{hashlib.sha256(body).hexdigest()[:32]}"', body
    shared_cache.set(key, read_in, kept, _seconds(said.until))
    return kept


def _key(name: str, asked: Mapping[str, Any]) -> str:
    """Sentences are translated, so the language is part of it."""
    said = json.dumps([name, get_language(), asked], sort_keys=True, default=str)
    return f"answer:1:{hashlib.sha256(said.encode(errors='surrogatepass')).hexdigest()}"


def _seconds(until: datetime | None) -> float:
    most = settings.API_CACHE_SECONDS  # certifications expire by date, which no change announces
    return most if until is None else min(most, (until - timezone.now()).total_seconds())


def _conditional(request: Request, etag: str, body: bytes) -> HttpResponseBase:
    response = HttpResponse(body, content_type=CONTENT_TYPE, headers={"ETag": etag})
    told = get_conditional_response(as_request(request), etag, response=response) or response
    told["Cache-Control"] = "private, no-cache"
    told["Vary"] = "Authorization"
    return told


_locks = tuple(Lock() for _ in range(64))


@contextmanager
def _alone(key: str) -> Iterator[None]:
    """One thread of this process at a time. Keys share locks: some wait for another's answer,
    briefly.
    """
    with _locks[hash(key) % len(_locks)]:
        yield
