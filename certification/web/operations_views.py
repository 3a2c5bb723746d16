"""The Operations page, what operators do on it, and the runbooks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from kombu.exceptions import OperationalError
from markdown_it import MarkdownIt

from certification.engine import backend, pauses, queue
from certification.lib import clock, durations
from certification.lib.redis_client import UNAVAILABLE
from certification.models import AlertEpisode, AlertSilence, NextAction, PauseCause
from certification.models.next_actions import MAX_TEXT
from certification.monitoring.runbooks import BY_NAME, RUNBOOKS
from certification.operations import reports
from certification.operations.routines import ROUTINES
from certification.operations.tasks import run_routine
from certification.web import audit, exports, jobs, operations, polling, routines
from certification.web.views import OPERATE, address_of, viewer_required

log = structlog.get_logger(__name__)
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def operations_page(request: HttpRequest) -> HttpResponse:
    """Show one tab of the Operations page: a page, or the part that it polls."""
    tab = operations.tab_of(request.GET)
    if tab == operations.AUDIT and not request.user.has_perm(audit.PERMISSION):
        raise PermissionDenied
    content = operations.load(tab, request.GET)
    context: dict[str, Any] = {"tab": tab, "tabs": operations.TABS, "content": content}
    context |= {"rules": operations.BY_NAME, "durations": operations.DURATIONS}
    return polling.response(
        request,
        "certification/operations.html",
        "certification/_operations.html",
        context,
        content.version,
    )


def tab_address(tab: str) -> str:
    return f"{reverse('operations')}?tab={tab}"


def reason_of(request: HttpRequest) -> str:
    """Return the reason that a form gives, '' for none."""
    return pauses.one_line(request.POST.get("reason", ""))


def name_of(request: HttpRequest) -> str:
    user = jobs.user_of(request)
    return user.email if user else ""


@require_POST
@permission_required(OPERATE, raise_exception=True)
def acknowledge(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Note that the user looks after an alert."""
    episode = get_object_or_404(AlertEpisode, pk=pk)
    if episode.acknowledge(name_of(request)):
        log.info("alert_acknowledged", rule=episode.rule, by=request.user.pk)
        messages.success(request, _("You have acknowledged it: %s.") % episode)
    else:
        messages.warning(request, _("It has ended or was acknowledged already."))
    return redirect(tab_address(operations.ALERTS))


@require_POST
@permission_required(OPERATE, raise_exception=True)
def silence(request: HttpRequest) -> HttpResponse:
    """Have nobody notified of a rule, or of any, for some time and with a reason."""
    rule, reason = request.POST.get("rule", ""), reason_of(request)
    try:
        until = clock.now() + durations.parse(request.POST.get("for", ""))
    except ValueError as error:
        messages.error(request, str(error))
        return redirect(tab_address(operations.ALERTS))
    if not reason or rule not in {"all", *operations.BY_NAME}:
        messages.error(request, _("Choose a rule and say why it is silenced."))
        return redirect(tab_address(operations.ALERTS))
    AlertSilence.objects.create(
        rule="" if rule == "all" else rule,
        reason=reason,
        until=until,
        created_by=jobs.user_of(request),
    )
    log.info("alert_silenced", rule=rule, until=until.isoformat(), by=request.user.pk)
    messages.success(request, _("Nobody is notified of it until then; it is still listed."))
    return redirect(tab_address(operations.ALERTS))


@require_POST
@permission_required(OPERATE, raise_exception=True)
def end_silence(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End a silence now."""
    now = clock.now()
    if AlertSilence.objects.filter(pk=pk, until__gt=now).update(until=now):
        log.info("silence_ended", silence=str(pk), by=request.user.pk)
        messages.success(request, _("The silence has ended."))
    else:
        messages.warning(request, _("The silence had ended already."))
    return redirect(tab_address(operations.ALERTS))


BY_PERSONS = (PauseCause.PERSON, PauseCause.READ_ONLY)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def begin_pause(request: HttpRequest) -> HttpResponse:
    """Pause the queue or begin read-only mode, with a reason and, if chosen, an end."""
    cause, reason = request.POST.get("cause", ""), reason_of(request)
    back = redirect(tab_address(operations.QUEUE))
    try:
        text = request.POST.get("for", "")
        duration = durations.parse(text) if text else None
    except ValueError as error:
        messages.error(request, str(error))
        return back
    if not reason or cause not in BY_PERSONS:
        messages.error(request, _("Say why, and what is to be paused."))
        return back
    pause = pauses.begin(PauseCause(cause), name_of(request), reason, duration)
    if pause is None:
        messages.warning(request, _("It is on already; nothing was changed."))
    else:
        messages.success(request, pause.sentence)
    return back


@require_POST
@permission_required(OPERATE, raise_exception=True)
def end_pause(request: HttpRequest, cause: str) -> HttpResponse:
    """Resume the queue, or end read-only mode."""
    if cause not in BY_PERSONS:
        raise Http404
    if pauses.end(PauseCause(cause), name_of(request)):
        messages.success(request, _("It has ended: runs go on within a minute."))
    else:
        messages.warning(request, _("It had ended already."))
    return redirect(tab_address(operations.QUEUE))


@require_POST
@permission_required(OPERATE, raise_exception=True)
def run_routine_now(request: HttpRequest, name: str) -> HttpResponse:
    """Have a worker run a routine now."""
    if name not in ROUTINES:
        raise Http404
    try:
        queue.ping_broker()
        run_routine.apply_async((name,), retry=False)
    except (OperationalError, *UNAVAILABLE):
        messages.error(request, _("Redis does not answer. Try again."))
    else:
        log.info("routine_requested", routine=name, by=request.user.pk)
        messages.success(request, _("A worker runs it; its report will be listed here."))
    return redirect(tab_address(operations.ROUTINES_TAB))


def report_or_404(task_id: str) -> Any:
    return get_object_or_404(reports.stored(), task_id=task_id.replace("\0", ""))


@require_safe
@viewer_required
def routine_report(request: HttpRequest, task_id: str) -> HttpResponse:
    """Show how a routine went, against the time before, and what is to do."""
    page = routines.load_report(report_or_404(task_id))
    return render(request, "certification/routine_report.html", {"page": page})


def back_from(action: NextAction, request: HttpRequest) -> HttpResponse:
    """Return to where a form about an action stood: its report, or the list."""
    if "report" in request.POST and reports.stored().filter(task_id=action.report).exists():
        return redirect("routine-report", action.report)
    return redirect(tab_address(operations.ROUTINES_TAB))


@require_POST
@permission_required(OPERATE, raise_exception=True)
def add_action(request: HttpRequest, task_id: str) -> HttpResponse:
    """Add an action of one's own to those of a report."""
    row = report_or_404(task_id)
    text = pauses.one_line(request.POST.get("text", ""))[:MAX_TEXT]
    if text:
        routines.add_action(reports.read(row), text)
        messages.success(request, _("It is open until somebody ticks it."))
    else:
        messages.error(request, _("Say what is to do."))
    return redirect("routine-report", row.task_id)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def assign_action(request: HttpRequest, pk: int) -> HttpResponse:
    """Name who does an action: whom the form names, else oneself."""
    action = get_object_or_404(NextAction, pk=pk)
    email = routines.assignee(request.POST, name_of(request))
    if email is None:
        messages.error(request, _("Choose an operator."))
    elif action.assign(email):
        messages.success(request, _("It is assigned to %s.") % (email or _("nobody")))
    else:
        messages.warning(request, _("It was done already."))
    return back_from(action, request)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def tick_action(request: HttpRequest, pk: int) -> HttpResponse:
    """Note that an action is done."""
    action = get_object_or_404(NextAction, pk=pk)
    note = pauses.one_line(request.POST.get("note", ""))
    if action.tick(name_of(request), note):
        messages.success(request, _("Done: %s") % action)
    else:
        messages.warning(request, _("It was done already."))
    return back_from(action, request)


@require_safe
@permission_required(audit.PERMISSION, raise_exception=True)
def audit_export(request: HttpRequest) -> HttpResponse:
    """Download all entries of the audit trail that the address chooses."""
    table = audit.table(request.GET, clock.now())
    return exports.response(table, "csv", address_of(request, "operations"), backend.name())


@require_safe
@viewer_required
def runbooks_page(request: HttpRequest) -> HttpResponse:
    """List the runbooks, those of open alerts first."""
    open_rules = set(AlertEpisode.objects.open().values_list("rule", flat=True))
    books = sorted(RUNBOOKS, key=lambda book: book.name not in open_rules)
    context = {"runbooks": books, "open_rules": open_rules}
    return render(request, "certification/runbooks.html", context)


@require_safe
@viewer_required
def runbook_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show what to do about one alert, with how it stands now."""
    book = BY_NAME.get(name)
    if book is None:
        raise Http404
    rule = operations.BY_NAME.get(name)
    episodes = AlertEpisode.objects.open().filter(rule=name)
    context = {
        "runbook": book,
        "body": rendered(str(book.text)),
        "rule": rule,
        "sentence": str(rule.sentence).format(value="N", subject="…") if rule else "",
        "alerts": [operations.AlertRow(episode) for episode in episodes],
    }
    return render(request, "certification/runbook.html", context)


def rendered(text: str) -> SafeString:
    """Return the HTML of Markdown; HTML in it is shown as it is written."""
    return mark_safe(MARKDOWN.render(text))  # noqa: S308 - it escapes what is no Markdown
