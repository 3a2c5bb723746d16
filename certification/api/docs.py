"""The API's own description: OpenAPI 3.1 at /api/schema, and pages to browse it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache, wraps

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.generators import SchemaGenerator

from certification.api.envelope import fail_body


def _for_reading(
    view: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """For everybody, with GET and HEAD; other methods get the API's own 405 and not a page about
    CSRF.
    """

    @csrf_exempt
    @login_not_required
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if request.method in {"GET", "HEAD"}:
            return view(request)
        body = fail_body(405, "method_not_allowed", _('Method "%s" not allowed.') % request.method)
        return JsonResponse(body, status=405, headers={"Allow": "GET, HEAD"})

    return guarded


@cache
def schema() -> tuple[bytes, str]:
    """The OpenAPI document as JSON, and its ETag. Made once per process: it changes with the code
    only.
    """
    document = SchemaGenerator().get_schema(public=True)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@_for_reading
def schema_json(request: HttpRequest) -> HttpResponse:
    """OpenAPI 3.1, without an envelope: it is read by tools."""
    body, etag = schema()
    response = HttpResponse(
        body,
        "application/vnd.oai.openapi+json",
        headers={"ETag": etag, "Cache-Control": "no-cache"},
    )
    return get_conditional_response(request, etag=etag, response=response) or response


@_for_reading
def browse(request: HttpRequest) -> HttpResponse:
    """Every call with its answers, to read and to try; its scripts come from here."""
    return render(request, "api_docs.html")
