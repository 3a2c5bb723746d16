"""Pages of who keeps the system: escalation, checklists, training, documents, guides."""

from __future__ import annotations

from pathlib import Path

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from certification.models import DocumentReview, TrainingTick
from certification.operations.documents import (
    CHECKLISTS,
    DOCUMENTS,
    DRILLS_OF,
    POINTS,
    STEPS,
    Checklist,
)
from certification.web import operations_views, people
from certification.web.operations_views import name_of
from certification.web.views import OPERATE, viewer_required

log = structlog.get_logger(__name__)


@require_safe
@viewer_required
def people_page(request: HttpRequest) -> HttpResponse:
    """Show whom to call, and what is to be ticked, learnt and read."""
    return render(request, "certification/people.html", {"page": people.load_people()})


def checklist_of(name: str) -> Checklist:
    if name not in CHECKLISTS:
        raise Http404
    return CHECKLISTS[name]


@require_safe
@viewer_required
def checklist_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show a checklist in its period, and its records."""
    page = people.load_checklist(checklist_of(name), request.GET.get("page"))
    context = {"page": page, "checklists": CHECKLISTS}
    return render(request, "certification/checklist.html", context)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def tick_checklist(request: HttpRequest, name: str) -> HttpResponse:
    """Tick points of a checklist."""
    number = people.save_checklist(checklist_of(name), request.POST, name_of(request))
    if number:
        log.info("checklist_ticked", checklist=name, points=number, by=request.user.pk)
        text = ngettext("%(n)d point is ticked.", "%(n)d points are ticked.", number)
        messages.success(request, text % {"n": number})
    else:
        messages.warning(request, _("Nothing new was ticked."))
    return redirect("checklist", name)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def sign_checklist(request: HttpRequest, name: str) -> HttpResponse:
    """Sign a checklist: it is complete, or a note says why it is not."""
    note = people.line_of(request.POST, "note")
    if refusal := people.sign_checklist(checklist_of(name), note, name_of(request)):
        messages.error(request, refusal)
    else:
        log.info("checklist_signed", checklist=name, by=request.user.pk)
        messages.success(request, _("The checklist is signed."))
    return redirect("checklist", name)


@require_safe
@viewer_required
def training_page(request: HttpRequest) -> HttpResponse:
    """Show the training of oneself, or of the operator in the address."""
    page = people.load_training(name_of(request), request.GET.get("person", ""))
    context = {"page": page, "by_drills": DRILLS_OF}
    return render(request, "certification/training.html", context)


def back_to_training(person: str) -> HttpResponse:
    response = redirect("training")
    response["Location"] += f"?{urlencode({'person': person})}"
    return response


@require_POST
@permission_required(OPERATE, raise_exception=True)
def tick_training(request: HttpRequest) -> HttpResponse:
    """Note that oneself has done a step; what drills prove is ticked by them alone."""
    own, step = name_of(request), request.POST.get("step", "")
    if step not in STEPS or step in DRILLS_OF:
        messages.error(request, _("Choose a step; passed drills tick theirs by themselves."))
    elif TrainingTick.add(own, step, own, people.line_of(request.POST, "note")):
        messages.success(request, _("Your answer is recorded."))
    else:
        messages.warning(request, _("It was noted already."))
    return redirect("training")


@require_POST
@permission_required(OPERATE, raise_exception=True)
def confirm_training(request: HttpRequest) -> HttpResponse:
    """Confirm a point of somebody else's certificate."""
    own, point = name_of(request), request.POST.get("point", "")
    person = request.POST.get("person", "")
    known = {row.email for row in people.trainees()}
    if point not in POINTS or point in DRILLS_OF or person not in known:
        messages.error(request, _("Choose an operator and a point."))
        return redirect("training")
    if person == own:
        messages.error(request, _("Another operator confirms your points."))
    elif TrainingTick.add(person, point, own, people.line_of(request.POST, "note")):
        log.info("training_confirmed", person=person, point=point, by=request.user.pk)
        messages.success(request, _("Your answer is recorded."))
    else:
        messages.warning(request, _("It was noted already."))
    return back_to_training(person)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def review_document(request: HttpRequest, name: str) -> HttpResponse:
    """Note that a document was read and is right."""
    document = DOCUMENTS.get(name)
    if document is None:
        raise Http404
    DocumentReview.objects.create(
        document=name,
        version=document.version,
        by=name_of(request),
        note=people.line_of(request.POST, "note")[:1000],
    )
    messages.success(request, _("The review is noted: %s.") % document.title)
    return redirect("people")


GUIDES = {"user": "guide-user", "operations": "guide-operations"}


@require_safe
@viewer_required
def guide_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show a guide in the reader's language."""
    if name not in GUIDES:
        raise Http404
    is_portuguese = (get_language() or "").startswith("pt")
    file = f"docs/{GUIDES[name]}{'.pt' if is_portuguese else ''}.md"
    text = (Path(settings.BASE_DIR) / file).read_text(encoding="utf-8")
    title, _end, body = text.removeprefix("# ").partition("\n")
    context = {
        "document": DOCUMENTS[GUIDES[name]],
        "title": title,
        "body": operations_views.rendered(body),
        "language": "pt-br" if is_portuguese else "en",
    }
    return render(request, "certification/guide.html", context)
