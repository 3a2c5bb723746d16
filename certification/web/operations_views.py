"""The Operations page, what operators do on it, and the runbooks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from markdown_it import MarkdownIt

from certification.engine import pauses
from certification.lib import clock, durations
from certification.models import AlertEpisode, AlertSilence, PauseCause
from certification.monitoring.runbooks import all_runbooks
from certification.web import jobs, operations, polling
from certification.web.views import OPERATE, viewer_required

log = structlog.get_logger(__name__)
MARKDOWN = MarkdownIt("commonmark", {"html": False})


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def operations_page(request: HttpRequest) -> HttpResponse:
    """Show one tab of the Operations page: a page, or the part that it polls."""
    tab = operations.tab_of(request.GET)
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


@require_safe
@viewer_required
def runbooks_page(request: HttpRequest) -> HttpResponse:
    """List the runbooks, those of open alerts first."""
    open_rules = set(AlertEpisode.objects.open().values_list("rule", flat=True))
    books = sorted(all_runbooks().values(), key=lambda book: book.name not in open_rules)
    context = {"runbooks": books, "open_rules": open_rules}
    return render(request, "certification/runbooks.html", context)


@require_safe
@viewer_required
def runbook_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show what to do about one alert, with how it stands now."""
    book = all_runbooks().get(name)
    if book is None:
        raise Http404
    rule = operations.BY_NAME.get(name)
    episodes = AlertEpisode.objects.open().filter(rule=name)
    context = {
        "runbook": book,
        "body": rendered(book.text),
        "rule": rule,
        "sentence": str(rule.sentence).format(value="N", subject="…") if rule else "",
        "alerts": [operations.AlertRow(episode) for episode in episodes],
    }
    return render(request, "certification/runbook.html", context)


def rendered(text: str) -> SafeString:
    """Return the HTML of Markdown; HTML in it is shown as it is written."""
    return mark_safe(MARKDOWN.render(text))  # noqa: S308 - it escapes what is no Markdown
