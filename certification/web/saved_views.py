"""Addresses of the matrix that users save under a name."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from certification.lib import foreign_text
from certification.models import SavedView
from certification.models.preferences import (
    MAX_VIEW_NAME,
    MAX_VIEW_QUERY,
    MAX_VIEWS,
    TooManyViews,
)
from certification.web import matrix_filters
from certification.web.jobs import user_of
from certification.web.views import viewer_required

PAGE = "matrix"
# Of the address, what belongs to one visit and not to a view.
PASSING = ("page", "select")


def query_of(query: QueryDict) -> str:
    """Return the parameters of an address that a view saves."""
    saved = QueryDict(mutable=True)
    for name, values in query.lists():
        if name in matrix_filters.PARAMETERS and name not in PASSING:
            saved.setlist(name, [value for value in values if value and "\0" not in value])
    return saved.urlencode(safe=":/")


@require_POST
@viewer_required
def save(request: HttpRequest) -> HttpResponse:
    """Save what the address shows, under a name; only operators share it with others."""
    user, query = user_of(request), query_of(request.GET)
    name = " ".join(foreign_text.clean(request.POST.get("name", "")).split())[:MAX_VIEW_NAME]
    shown = redirect(f"{reverse('matrix')}?{query}" if query else f"{reverse('matrix')}?view=all")
    if user is None:
        raise PermissionDenied
    if not name:
        messages.error(request, _("Give the view a name."))
    elif len(query) > MAX_VIEW_QUERY:
        messages.error(request, _("This view has too many filters to be saved. Remove some."))
    else:
        try:
            SavedView.store(
                user,
                PAGE,
                name,
                query,
                default="default" in request.POST,
                shared="shared" in request.POST and user.is_operator,
            )
            messages.success(request, _("The view “%s” was saved.") % name)
        except TooManyViews:
            words = _("You have %d saved views. Delete one before you save another.")
            messages.error(request, words % MAX_VIEWS)
    return shown


@require_POST
@viewer_required
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete one of the user's own views."""
    view = get_object_or_404(SavedView, pk=pk, user=user_of(request))
    view.delete()
    messages.success(request, _("The view “%s” was deleted.") % view.name)
    return redirect(f"{reverse('matrix')}?view=all")
