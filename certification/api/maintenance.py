"""Maintenance for who has cron and no shell, and for an Alertmanager: with MAINTENANCE_SECRET as a
Bearer. Each answers at once; work goes to the queue.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from kombu.exceptions import OperationalError
from rest_framework.exceptions import ParseError

from certification.api import parsing
from certification.api.envelope import error_body, fail_body
from certification.engine import backend, pauses, queue, schedules
from certification.lib import actor, durations
from certification.lib.actor import Actor
from certification.lib.redis_client import UNAVAILABLE
from certification.lib.request_rates import caller_ip
from certification.models import PauseCause, QueuePause, audit
from certification.monitoring import queue_stats as figures
from certification.monitoring import received_alerts
from certification.monitoring.received_alerts import NotAlerts
from certification.operations.routines import ROUTINES
from certification.operations.tasks import run_routine

log = structlog.get_logger(__name__)
Page = Callable[..., HttpResponse]
RUN_ROUTINE = run_routine.name
CALLER = "MAINTENANCE_SECRET"  # who acts, for the audit trail and pauses


def guarded(method: str, *, audited: str = "") -> Callable[[Page], Page]:
    """Let a view answer who sends the secret, in the header and nowhere else. Without a secret in
    the settings there is no such address. What `audited` names is noted in the audit trail.
    """

    def decorate(view: Page) -> Page:
        @csrf_exempt
        @login_not_required
        @wraps(view)
        def answer(request: HttpRequest, **parts: str) -> HttpResponse:
            expected = settings.MAINTENANCE_SECRET.encode()
            if not expected:
                raise Http404
            scheme, _space, secret = request.headers.get("Authorization", "").partition(" ")
            is_right = hmac.compare_digest(secret.encode(), expected)
            if scheme.lower() != "bearer" or not is_right:
                message = _("Send the secret as: Authorization: Bearer <MAINTENANCE_SECRET>.")
                body = fail_body(401, "invalid_credentials", message)
                headers = {"WWW-Authenticate": "Bearer"}
                return JsonResponse(body, status=401, headers=headers)
            if request.method != method:
                message = _('Method "%s" not allowed.') % request.method
                body = fail_body(405, "method_not_allowed", message)
                return JsonResponse(body, status=405, headers={"Allow": method})
            try:
                response = view(request, **parts)
            except Refused as refusal:
                body = fail_body(refusal.status, refusal.code, str(refusal))
                return JsonResponse(body, status=refusal.status)
            if audited and response.status_code < 400:
                with actor.acting(caller_of(request)):
                    audit.record(audited)
            return response

        return answer

    return decorate


class Refused(Exception):
    """A request that cannot be done as it is."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def caller_of(request: HttpRequest) -> Actor:
    return Actor(
        identify=lambda: (None, CALLER),
        via=actor.API,
        place=request.path_info,
        address=caller_ip(request) or "",
        request_id=request.META.get("HTTP_X_REQUEST_ID", ""),
    )


def body_of(request: HttpRequest) -> Mapping[str, Any]:
    """Return the JSON object of a request's body. Raises Refused."""
    try:
        return parsing.parse(request.body)
    except ParseError as error:
        raise Refused(400, "bad_request", str(error.detail)) from error


def accepted(task: str, *arguments: str) -> HttpResponse:
    """Send a task; 503 when the queue does not take it."""
    try:
        queue.ping_broker()
        sent = current_app.send_task(task, arguments, retry=False)
    except (OperationalError, *UNAVAILABLE):
        return JsonResponse(error_body(503, _("Redis does not answer. Try again.")), status=503)
    log.info("maintenance_requested", task=task)
    return JsonResponse({"status": "success", "data": {"task": sent.id}}, status=202)


@guarded("POST", audited="housekeeping")
def housekeeping(request: HttpRequest) -> HttpResponse:
    """Have the hourly routine run: repairs, and what has expired."""
    return accepted(RUN_ROUTINE, "hourly")


@guarded("POST", audited="routine")
def routine(request: HttpRequest, name: str) -> HttpResponse:
    """Have a routine run; 404 for one that there is not."""
    if name not in ROUTINES:
        message = _("There is no such routine. There are: %s.") % ", ".join(ROUTINES)
        raise Refused(404, "routine_not_found", message)
    return accepted(RUN_ROUTINE, name)


@guarded("POST", audited="recertify stale")
def recertify_stale(request: HttpRequest) -> HttpResponse:
    """Have certified again what was last tested over 30 days ago."""
    return accepted(schedules.recertify_stale.name)


@guarded("GET")
def queue_stats(request: HttpRequest) -> HttpResponse:
    """Return what waits, is worked on and has ended."""
    pause = QueuePause.objects.current(backend.name())
    data: dict[str, Any] = asdict(figures.queue_counts()) | {
        "workers": figures.workers.get(),
        "pause": pause and pause.sentence,
    }
    return JsonResponse({"status": "success", "data": data})


@guarded("POST", audited="pause queue")
def pause_queue(request: HttpRequest) -> HttpResponse:
    """Have no run begin: for `reason`, and `for` a duration if it is to end by itself; 409 when the
    queue is paused already.
    """
    body = body_of(request)
    reason, length = body.get("reason"), body.get("for", "")
    if not isinstance(reason, str) or not pauses.one_line(reason):
        raise Refused(400, "validation_error", _("Say why: reason is a text."))
    try:
        duration = durations.parse(str(length)) if length else None
    except ValueError as error:
        raise Refused(400, "validation_error", str(error)) from error
    pause = pauses.begin(PauseCause.PERSON, CALLER, pauses.one_line(reason), duration)
    if pause is None:
        raise Refused(409, "paused_already", _("The queue is paused already."))
    data = {"pause": pause.sentence, "until": pause.until}
    return JsonResponse({"status": "success", "data": data}, status=201)


@guarded("POST", audited="resume queue")
def resume_queue(request: HttpRequest) -> HttpResponse:
    """Have runs begin again that a person held; 409 when nobody did."""
    if pauses.end(PauseCause.PERSON, CALLER) is None:
        raise Refused(409, "not_paused", _("The queue is not paused by a person."))
    return JsonResponse({"status": "success", "data": {"pause": None}})


@guarded("POST")
def alerts(request: HttpRequest) -> HttpResponse:
    """Take what an Alertmanager sends into the list of alerts."""
    try:
        received = received_alerts.parse(body_of(request))
    except NotAlerts as error:
        raise Refused(400, "validation_error", str(error)) from error
    result = received_alerts.take(received)
    data = {"received": len(received), "opened": result.opened, "resolved": result.resolved}
    return JsonResponse({"status": "success", "data": data})
