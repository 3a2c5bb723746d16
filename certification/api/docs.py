"""The API's own description: OpenAPI 3.1 at /api/schema, and pages to browse it."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator


@cache
def schema() -> tuple[bytes, str]:
    """The OpenAPI document as JSON, and its ETag. Made once per process: it changes with the code only."""
    document = SchemaGenerator().get_schema(public=True)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@login_not_required
@require_safe
def schema_json(request: HttpRequest) -> HttpResponse:
    """OpenAPI 3.1, without an envelope: it is read by tools."""
    body, etag = schema()
    response = HttpResponse(
        body, "application/vnd.oai.openapi+json", headers={"ETag": etag, "Cache-Control": "no-cache"}
    )
    return get_conditional_response(request, etag=etag, response=response) or response


@login_not_required
@require_safe
def browse(request: HttpRequest) -> HttpResponse:
    """Every call with its answers, to read and to try; its scripts come from here."""
    return render(request, "api_docs.html")
