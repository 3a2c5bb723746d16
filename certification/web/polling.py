"""Parts of pages that are asked for again while the page is open."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

VERSION_HEADER = "Page-Version"  # in which a poll says which version its page shows


def fingerprint(*values: object) -> str:
    """Return a short text that changes when any of the values does."""
    return hashlib.blake2s(repr(values).encode(), digest_size=6).hexdigest()


def is_poll(request: HttpRequest) -> bool:
    return bool(request.headers.get("HX-Request"))


def shows(request: HttpRequest, version: str) -> bool:
    """Return whether the request is a poll of a page that shows this version already."""
    return is_poll(request) and request.headers.get(VERSION_HEADER) == version


def unchanged() -> HttpResponse:
    """Return the response after which a page stays as it is."""
    return HttpResponse(status=204)


def response(
    request: HttpRequest, page: str, part: str, context: Mapping[str, Any], version: str
) -> HttpResponse:
    """Render a page, or to a poll the part alone: nothing when it shows this version already.

    The part sends `version` back in the header VERSION_HEADER.
    """
    if shows(request, version):
        return unchanged()
    template = part if is_poll(request) else page
    return render(request, template, {**context, "version": version})
