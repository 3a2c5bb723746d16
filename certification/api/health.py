"""The addresses that probes, load balancers and people ask whether this installation works."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import asdict
from typing import Any, ClassVar

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api.authentication import BearerAuthentication, PagesAuthentication
from certification.api.docs import read_only
from certification.api.envelope import DATABASE_AWAY_RETRY_S
from certification.api.views import View
from certification.lib import request_rates
from certification.models import Role
from certification.monitoring import checks, detailed_health, metrics, site_health
from certification.monitoring.checks import Reading
from certification.stack import control, embedded


def respond(answer: tuple[int, dict[str, Any]]) -> HttpResponse:
    status, body = answer
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})


@read_only
def health(request: HttpRequest) -> HttpResponse:
    """Say what works of all that the installation needs, 503 unless everything does."""
    return respond(site_health.health())


class DetailedHealth(View):
    """Figures of database, Redis, workers, API, machine and processes, for operators: who is logged
    in at the pages, or sends a token.
    """

    authentication_classes = (BearerAuthentication, PagesAuthentication)
    roles: ClassVar[dict[str, str]] = {"GET": Role.OPERATOR}
    schema = None

    def get(self, request: Request) -> Response:
        return Response(checks.read_all((*detailed_health.SECTIONS, PROCESSES)))


def read_processes() -> list[dict[str, Any]]:
    """Return the processes of this machine as `status` shows them."""
    try:
        return [asdict(process) for process in control.status()]
    except embedded.EmbeddedError:  # this account may not look at its servers
        return []


PROCESSES = Reading[Any]("processes", read_processes)


@read_only
def api_health(request: HttpRequest) -> HttpResponse:
    """Say whether this process and its database work."""
    return respond(site_health.api_health())


@read_only
def live(request: HttpRequest) -> HttpResponse:
    """Say that this process answers, and nothing of what it needs: a lost database must not have
    every process restarted.
    """
    return respond((200, {"status": "ok"}))


@read_only
def ready(request: HttpRequest) -> HttpResponse:
    """Say whether this process can serve requests: database, Redis, current tables."""
    return respond(site_health.ready())


@read_only
def prometheus(request: HttpRequest) -> HttpResponse:
    """Return the metrics as Prometheus text to those who may read them."""
    if not may_read_metrics(request):
        sentence = "Only METRICS_NETWORKS and holders of METRICS_TOKEN may read the metrics.\n"
        return HttpResponse(sentence, "text/plain; charset=utf-8", status=403)
    try:
        return HttpResponse(metrics.render(), metrics.CONTENT_TYPE)
    except (OperationalError, InterfaceError):
        headers = {"Retry-After": str(DATABASE_AWAY_RETRY_S)}
        sentence = "The database does not answer.\n"
        return HttpResponse(sentence, "text/plain; charset=utf-8", status=503, headers=headers)


def may_read_metrics(request: HttpRequest) -> bool:
    """Whether the request has the token, or comes from one of the networks."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = settings.METRICS_TOKEN.encode()
    if expected and scheme == "Bearer" and hmac.compare_digest(token.encode(), expected):
        return True
    ip = request_rates.caller_ip(request)
    networks = map(ipaddress.ip_network, settings.METRICS_NETWORKS)  # a system check reads them
    return ip is not None and any(ipaddress.ip_address(ip) in network for network in networks)
