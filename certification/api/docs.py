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


def read_only(
    view: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Let everybody GET and HEAD; other methods get the API's own 405, not a page about CSRF."""

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
    """Return the OpenAPI document as JSON, and its ETag. Built once per process: only the code
    changes it.
    """
    document = SchemaGenerator().get_schema(public=True)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@read_only
def schema_json(request: HttpRequest) -> HttpResponse:
    """Return OpenAPI 3.1, without an envelope: tools read it."""
    body, etag = schema()
    response = HttpResponse(
        body,
        "application/vnd.oai.openapi+json",
        headers={"ETag": etag, "Cache-Control": "no-cache"},
    )
    return get_conditional_response(request, etag=etag, response=response) or response


@read_only
def browse(request: HttpRequest) -> HttpResponse:
    """Show every call with its responses, to read and to try, with our own scripts."""
    return render(request, "api_docs.html")
