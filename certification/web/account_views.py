"""The pages of one's own account."""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from certification.models import ApiKey, User
from certification.web import jobs, logins, looks
from certification.web.forms import KeyForm, PreferenceForm
from certification.web.views import viewer_required

log = structlog.get_logger(__name__)


def own(request: HttpRequest) -> User:
    """Return the logged-in user. PermissionDenied for anybody else."""
    user = jobs.user_of(request)
    if user is None:
        raise PermissionDenied
    return user


@never_cache
@viewer_required
def account(request: HttpRequest) -> HttpResponse:
    """Show the user's own account (GET), or save its preferences (POST)."""
    user = own(request)
    if request.method != "POST":
        return show(request, PreferenceForm.of(user))
    before = PreferenceForm.of(user)["language"].value()
    form = PreferenceForm.of(user, request.POST)
    is_part = bool(request.headers.get("HX-Request"))  # the form alone, which saves by itself
    if not form.is_valid():
        if is_part:
            return render(request, "registration/_preferences.html", {"form": form})
        return show(request, form, status=400)
    preference = form.save()
    response: HttpResponse
    if is_part and preference.language == before:
        context = {"form": form, "saved": form.changed_data, "looks": looks.Looks.of(preference)}
        response = render(request, "registration/_preferences.html", context)
    else:
        messages.success(request, _("Saved."))
        response = HttpResponseClientRefresh() if is_part else redirect("account")
    looks.store(response, preference)
    if not preference.language:
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME)
    return response


def show(
    request: HttpRequest, form: PreferenceForm, key_form: KeyForm | None = None, status: int = 200
) -> HttpResponse:
    user = own(request)
    context = {
        "form": form,
        "logins": logins.logins_of(user, request.session.session_key),
        "keys": logins.keys_of(user),
        "views": user.saved_views.order_by("page", "name"),
        "key_form": key_form or KeyForm(user),
    }
    return render(request, "registration/account.html", context, status=status)


@method_decorator(viewer_required, name="dispatch")
class PasswordPage(PasswordChangeView):
    """Change one's own password, which ends the user's other sessions and API logins."""

    template_name = "registration/password.html"
    success_url = reverse_lazy("account")

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, _("The password was changed; other sessions have ended."))
        return super().form_valid(form)


@require_POST
@viewer_required
def end_session(request: HttpRequest) -> HttpResponse:
    """End one of the user's sessions, by the name that the page has for it."""
    user = own(request)
    if logins.end_session(user, request.POST.get("session", "")):
        log.info("session_ended", user=user.pk)
        messages.success(request, _("The session has ended."))
    else:
        messages.warning(request, _("The session had already ended."))
    return redirect("account")


@require_POST
@viewer_required
def end_others(request: HttpRequest) -> HttpResponse:
    """End the user's sessions in other browsers and their API logins."""
    user = own(request)
    user.end_sessions()
    update_session_auth_hash(request, user)
    messages.success(request, _("All other sessions and API logins have ended."))
    return redirect("account")


@require_POST
@viewer_required
def issue_key(request: HttpRequest) -> HttpResponse:
    """Issue an API key of the user, and show it once."""
    user = own(request)
    form = KeyForm(user, request.POST)
    if not form.is_valid():
        return show(request, PreferenceForm.of(user), form, status=400)
    key = form.issue()
    log.info("api_key_issued", key=form.instance.shown, user=user.pk)
    text = _("The key %(name)s. Save it now, it is not shown again:") % {"name": form.instance.name}
    shown = (
        '{} <code id="new-key">{}</code> <button type="button" class="copy" data-copy="new-key" '
        'data-done="{}" hidden>{}</button>'
    )
    messages.warning(request, format_html(shown, text, key, _("Copied"), _("Copy")))
    return redirect("account")


@viewer_required
def revoke_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the confirmation (GET), or revoke one of the user's own keys (POST)."""
    key = get_object_or_404(ApiKey, pk=pk, user=own(request))
    if request.method != "POST":
        return render(request, "registration/key_revoke.html", {"key": key})
    if key.revoke():
        log.info("api_key_revoked", key=key.shown, user=key.user_id)
        messages.success(request, _("The key was revoked and no longer works."))
    else:
        messages.warning(request, _("The key had been revoked before."))
    return redirect("account")


@require_safe
@never_cache
@viewer_required
def export(request: HttpRequest) -> HttpResponse:
    """Download all that is stored about the user, without secrets."""
    response = JsonResponse(logins.export(own(request)), json_dumps_params={"indent": 2})
    response["Content-Disposition"] = 'attachment; filename="account.json"'
    return response
