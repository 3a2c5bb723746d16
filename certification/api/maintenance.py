"""Maintenance for who has cron and no shell: with MAINTENANCE_SECRET as a Bearer. Each answers at
once; the work goes to the queue.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
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

from certification.api.envelope import error_body, fail_body
from certification.engine import backend, queue, schedules
from certification.lib.redis_client import UNAVAILABLE
from certification.models import QueuePause
from certification.monitoring import queue_stats as figures
from certification.operations.routines import ROUTINES
from certification.operations.tasks import run_routine

log = structlog.get_logger(__name__)
Page = Callable[..., HttpResponse]
RUN_ROUTINE = run_routine.name


def guarded(method: str) -> Callable[[Page], Page]:
    """Let a view answer who sends the secret, in the header and nowhere else. Without a secret in
    the settings there is no such address.
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
            return view(request, **parts)

        return answer

    return decorate


def accepted(task: str, *arguments: str) -> HttpResponse:
    """Send a task; 503 when the queue does not take it."""
    try:
        queue.ping_broker()
        sent = current_app.send_task(task, arguments, retry=False)
    except (OperationalError, *UNAVAILABLE):
        return JsonResponse(error_body(503, _("Redis does not answer. Try again.")), status=503)
    log.info("maintenance_requested", task=task)
    return JsonResponse({"status": "success", "data": {"task": sent.id}}, status=202)


@guarded("POST")
def housekeeping(request: HttpRequest) -> HttpResponse:
    """Have the hourly routine run: repairs, and what has expired."""
    return accepted(RUN_ROUTINE, "hourly")


@guarded("POST")
def routine(request: HttpRequest, name: str) -> HttpResponse:
    """Have a routine run; 404 for one that there is not."""
    if name not in ROUTINES:
        message = _("There is no such routine. There are: %s.") % ", ".join(ROUTINES)
        return JsonResponse(fail_body(404, "routine_not_found", message), status=404)
    return accepted(RUN_ROUTINE, name)


@guarded("POST")
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
