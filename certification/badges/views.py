"""The views below /badges/: a picture, its facts as JSON, and the same for shields.io. Public,
cacheable, without cookies. And the page that helps to show them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import render
from django.urls import Resolver404, resolve
from django.utils import translation
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from certification.badges import builder, content, svg
from certification.badges.content import BadgeContent, RegionStatus
from certification.lib import clock

log = structlog.get_logger(__name__)

PREFIX = "/badges/"
SHIELDS, FACTS, PICTURE = ".shields.json", ".json", ".svg"  # the longer ending first
METHODS = ("GET", "HEAD", "OPTIONS")
MAX_LABEL = 200
UNKNOWN_MAX_AGE_S = 60
MIN_SHIELDS_CACHE_S = 300  # shields.io caches no shorter
SHIELDS_COLORS = {"grey": "lightgrey"}  # its "grey" is that of the label


class BadgeMiddleware:
    """Respond to badge requests before sessions, languages and CSRF, so that no cookie matters."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(PREFIX) or request.path_info == PREFIX:
            return self.get_response(request)
        try:
            request.resolver_match = match = resolve(request.path_info)
        except Resolver404:
            return self.get_response(request)
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response


@login_not_required
def badge(request: HttpRequest, address: str) -> HttpResponseBase:
    """`<apiModelId>[/<region>]` with the ending .svg, .json or .shields.json; `?label=` and
    `?style=` change the picture, `?lang=` its words: English without it, so that one picture can be
    shared by all.
    """
    language = request.GET.get("lang", "")
    known = language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
    with translation.override(known):
        return answer(request, address)


@require_safe
@login_not_required
def builder_page(request: HttpRequest) -> HttpResponse:
    """Show how to show a badge: the choice, its preview, texts to copy, and every state."""
    language = request.GET.get("lang", "")
    page = builder.load(builder.Choice.from_query(request.GET), clock.now())
    if language not in dict(settings.LANGUAGES):
        return render(request, "public/badges.html", {"page": page})
    with translation.override(language):
        response = render(request, "public/badges.html", {"page": page})
    response["Content-Language"] = language
    return response


def answer(request: HttpRequest, address: str) -> HttpResponseBase:
    """Respond in the active language."""
    if request.method == "OPTIONS":
        return allow_everywhere(HttpResponse(status=204, headers=PREFLIGHT))
    if request.method not in METHODS:
        return allow_everywhere(HttpResponseNotAllowed(METHODS))
    now = clock.now()
    ending = next((ending for ending in (SHIELDS, FACTS, PICTURE) if address.endswith(ending)), "")
    try:
        model_badge = content.find(address.removesuffix(ending)) if ending else None
    except (OperationalError, InterfaceError) as error:
        log.error("database_unavailable", error=str(error).strip())
        return respond(request, ending, placeholder("unavailable"), 503, max_age=0)
    max_age = settings.BADGE_MAX_AGE
    if model_badge is None:
        max_age = min(UNKNOWN_MAX_AGE_S, max_age)
        return respond(request, ending, placeholder(content.UNKNOWN), 404, max_age)
    expires_in_s = model_badge.expires_in_s(now)
    if expires_in_s is not None:  # never past the moment when the badge changes by itself
        max_age = max(0, min(max_age, int(expires_in_s)))
    return respond(request, ending, facts_of(model_badge, now), 200, max_age)


# The facts


def facts_of(badge: BadgeContent, now: datetime) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "modelId": badge.model_id,
        "modelName": badge.name,
        "region": badge.region,
        "offered": badge.offered,
    }
    if badge.region:
        facts |= region_facts(badge.regions[0], now)
    else:
        facts |= {
            "regionsCertified": badge.certified(now),
            "regionsTotal": len(badge.regions),
            "backend": badge.backend,
            "regions": [region_facts(region, now) for region in badge.regions],
        }
    shown = {"label": badge.label, "message": badge.message(now), "color": badge.color(now)}
    return {**facts, **shown}


def iso(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def region_facts(region: RegionStatus, now: datetime) -> dict[str, Any]:
    return {
        "region": region.region,
        "status": region.current(now),
        "score": region.score,
        "rating": region.rating or None,
        "certifiedAt": iso(region.certified_at),
        "expiresAt": iso(region.expires_at),
        "isExpired": region.is_expired(now),
        "backend": region.backend or None,
        "endpoint": region.endpoint or None,
        "api": region.api or None,
    }


def placeholder(status: str) -> dict[str, Any]:
    """Return the facts of a grey badge with only a status. It does not repeat the requested name:
    a badge must not show text that others made up.
    """
    return {
        "modelId": None,
        "region": None,
        "status": status,
        "label": "certification",
        "message": status,
        "color": "grey",
    }


# The response


def respond(
    request: HttpRequest, ending: str, facts: dict[str, Any], status: int, max_age: int
) -> HttpResponse:
    """Respond with the facts in the form that the ending asks for."""
    label, suffix = facts["label"], f" · {facts['region']}" if facts["region"] else ""
    if "label" in request.GET:
        label, suffix = svg.clean(request.GET["label"][:MAX_LABEL]), ""
    facts = {**facts, "label": label}
    short = svg.shorten(label, suffix)
    content_type = "application/json"
    if ending == SHIELDS:  # the endpoint schema of shields.io, version 1
        shields = {
            "schemaVersion": 1,
            "label": short,
            "message": facts["message"],
            "color": SHIELDS_COLORS.get(facts["color"], facts["color"]),
            "isError": status >= 400,
            "cacheSeconds": max(MIN_SHIELDS_CACHE_S, max_age),
        }
        body = json.dumps(shields, ensure_ascii=False)
    elif ending == FACTS:
        body = json.dumps(facts, ensure_ascii=False)
    else:
        content_type = "image/svg+xml; charset=utf-8"
        style = request.GET.get("style", "")
        style = style if style in svg.STYLES else "flat"
        title = ": ".join(filter(None, (label, facts["message"])))  # with the whole label
        body = svg.draw(short, facts["message"], facts["color"], style, title)
    data = body.encode()
    response = HttpResponse(
        data if request.method == "GET" else b"", content_type=content_type, status=status
    )
    response["Content-Length"] = str(len(data))
    if status >= 500:
        response["Cache-Control"] = "no-store"
        return allow_everywhere(response)
    response["Cache-Control"] = f"public, max-age={max_age}"
    response["ETag"] = etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    conditional = get_conditional_response(request, etag, response=response)
    return allow_everywhere(conditional or response)


PREFLIGHT = {
    "Allow": ", ".join(METHODS),
    "Access-Control-Allow-Methods": ", ".join(METHODS),
    "Access-Control-Allow-Headers": "If-None-Match",
    "Access-Control-Max-Age": "86400",
}


def allow_everywhere(response: HttpResponse) -> HttpResponse:
    """Let any page show and read it; opened by itself, the picture may load and run nothing."""
    response["Access-Control-Allow-Origin"] = "*"
    response["Access-Control-Expose-Headers"] = "ETag"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    return response
