"""The addresses below /badges/: a picture, its facts, and the same for shields.io. Public,
cacheable, without cookies.
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
from django.urls import Resolver404, resolve
from django.utils import timezone
from django.utils.cache import get_conditional_response
from psycopg_pool import PoolTimeout

from certification.badges import content, svg
from certification.badges.content import Known, Standing

log = structlog.get_logger(__name__)

PREFIX = "/badges/"
SHIELDS, FACTS, PICTURE = ".shields.json", ".json", ".svg"  # the longer ending first
METHODS = ("GET", "HEAD", "OPTIONS")
LONGEST_LABEL = 200
UNKNOWN_MAX_AGE_S = 60
SHIELDS_LEAST_CACHE_S = 300  # shields.io keeps an answer no shorter
SHIELDS_COLORS = {"grey": "lightgrey"}  # its "grey" is that of the label


class Shortcut:
    """Middleware: answers badges before sessions, languages and CSRF are looked at, so that no
    cookie can matter.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(PREFIX):
            return self.get_response(request)
        try:
            request.resolver_match = match = resolve(request.path_info)
        except Resolver404:
            return self.get_response(request)
        answer: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return answer


@login_not_required
def badge(request: HttpRequest, address: str) -> HttpResponseBase:
    """`<apiModelId>[/<region>]` with the ending .svg, .json or .shields.json; `?label=` and
    `?style=` change how it looks.
    """
    if request.method == "OPTIONS":
        return _public(HttpResponse(status=204, headers=PREFLIGHT))
    if request.method not in METHODS:
        return _public(HttpResponseNotAllowed(METHODS))
    now = timezone.now()
    ending = next((ending for ending in (SHIELDS, FACTS, PICTURE) if address.endswith(ending)), "")
    name = address.removesuffix(ending)
    try:
        known = content.find(name) if ending else None
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        log.error("database_away", error=str(error).strip())
        return _answer(request, ending, _nothing(name, "unavailable"), 503, max_age=0)
    if known is None:
        return _answer(
            request,
            ending,
            _nothing(name, content.UNKNOWN),
            404,
            min(UNKNOWN_MAX_AGE_S, settings.BADGE_MAX_AGE),
        )
    return _answer(request, ending, _facts(known, now), 200, _max_age(known, now))


def _max_age(known: Known, now: datetime) -> int:
    """As long as configured, yet never past the moment when what the badge says expires."""
    holds = known.holds_s(now)
    return (
        settings.BADGE_MAX_AGE if holds is None else max(0, min(settings.BADGE_MAX_AGE, int(holds)))
    )


# What it says


def _facts(known: Known, now: datetime) -> dict[str, Any]:
    said = {"label": known.label, "message": known.message(now), "color": known.color(now)}
    about = {
        "modelId": known.model_id,
        "modelName": known.name,
        "region": known.region,
        "offered": known.offered,
    }
    if known.region:
        return {**about, **_standing_facts(known.standings[0], now), **said}
    regions = [_standing_facts(each, now) for each in known.standings]
    counts = {
        "regionsCertified": known.certified(now),
        "regionsTotal": len(regions),
        "backend": known.backend,
    }
    return {**about, **counts, "regions": regions, **said}


def _standing_facts(row: Standing, now: datetime) -> dict[str, Any]:
    return {
        "region": row.region,
        "status": row.current(now),
        "score": row.score,
        "rating": row.rating or None,
        "certifiedAt": _iso(row.certified_at),
        "expiresAt": _iso(row.expires_at),
        "isExpired": row.is_expired(now),
        "backend": row.backend or None,
    }


def _iso(at: datetime | None) -> str | None:
    return (
        at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
    )


def _nothing(name: str, status: str) -> dict[str, Any]:
    """A grey badge that says `status`. It does not repeat the name asked for: a picture of ours
    says nothing of others' making.
    """
    return {
        "modelId": None,
        "region": None,
        "status": status,
        "label": "certification",
        "message": status,
        "color": "grey",
    }


# How it is said


def _answer(
    request: HttpRequest, ending: str, facts: dict[str, Any], status: int, max_age: int
) -> HttpResponse:
    asked = request.GET.get("label")
    if asked is not None:
        facts = {**facts, "label": svg.clean(asked[:LONGEST_LABEL])}
    region = facts["region"] if asked is None else None
    short = svg.shorten(facts["label"], keep=f" · {region}" if region else "")
    if ending == SHIELDS:
        body, kind = (
            _json(_for_shields({**facts, "label": short}, status, max_age)),
            "application/json",
        )
    elif ending == FACTS:
        body, kind = _json(facts), "application/json"
    else:
        body, kind = (
            _picture(facts, short, request.GET.get("style", "")),
            "image/svg+xml; charset=utf-8",
        )
    content = body.encode()
    response = HttpResponse(
        content if request.method == "GET" else b"", content_type=kind, status=status
    )
    response["Content-Length"] = str(len(content))
    if status >= 500:
        response["Cache-Control"] = "no-store"
        return _public(response)
    response["Cache-Control"] = f"public, max-age={max_age}"
    response["ETag"] = etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _public(get_conditional_response(request, etag, response=response) or response)


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False)


def _picture(facts: dict[str, Any], label: str, style: str) -> str:
    """The drawing. Its title has the whole label where the picture has a shorter one."""
    title = ": ".join(filter(None, (facts["label"], facts["message"])))
    return svg.draw(
        label, facts["message"], facts["color"], style if style in svg.STYLES else "flat", title
    )


def _for_shields(facts: dict[str, Any], status: int, max_age: int) -> dict[str, Any]:
    """The endpoint schema of shields.io, version 1."""
    return {
        "schemaVersion": 1,
        "label": facts["label"],
        "message": facts["message"],
        "color": SHIELDS_COLORS.get(facts["color"], facts["color"]),
        "isError": status >= 400,
        "cacheSeconds": max(SHIELDS_LEAST_CACHE_S, max_age),
    }


PREFLIGHT = {
    "Allow": ", ".join(METHODS),
    "Access-Control-Allow-Methods": ", ".join(METHODS),
    "Access-Control-Allow-Headers": "If-None-Match",
    "Access-Control-Max-Age": "86400",
}


def _public(response: HttpResponse) -> HttpResponse:
    """Any page may show and read it; opened by itself, the picture may load and run nothing."""
    response["Access-Control-Allow-Origin"] = "*"
    response["Access-Control-Expose-Headers"] = "ETag"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    return response
