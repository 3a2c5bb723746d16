"""The pages: each view takes its arguments, makes one call and renders the answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, permission_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views import i18n
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from django_htmx.http import HttpResponseClientRefresh

from certification.engine import backend, dispatch
from certification.lib import clock, request_rates
from certification.models import (
    Backend,
    CertificationJob,
    CertificationRun,
    Dismissal,
    JobType,
    Preference,
    Priority,
    SavedView,
    State,
    Theme,
    Tier,
)
from certification.web import (
    certifications,
    compare,
    exports,
    goto,
    job_detail,
    jobs,
    looks,
    matrix,
    matrix_filters,
    overview,
    polling,
    runs,
    start,
)
from certification.web import matrix_picture as picture
from certification.web.forms import EmailLoginForm
from certification.web.matrix_map import MatrixMap

log = structlog.get_logger(__name__)
OPERATE = "certification.change_certificationjob"


def viewer_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Show a page to users with a role; others learn whom to ask (403), as the API refuses them."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = jobs.user_of(request)
        if user is None:
            raise PermissionDenied
        user.read_groups()  # once for the page: its header looks at the role too
        if not user.role:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


class LoginPage(LoginView):
    """The login page. A fragment request that ends here (the session is over) reloads its page."""

    authentication_form = EmailLoginForm

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.headers.get("HX-Request"):
            return HttpResponseClientRefresh()
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Log in; as many tries in a minute from one address as the API has."""
        limit = settings.API_RATES["login"]
        caller = f"a{request_rates.address_of(request)}"
        if limit and request_rates.count_request("login", caller) > limit:
            response = render(request, "429.html", status=429)
            response["Retry-After"] = str(int(request_rates.seconds_to_wait()))
            return response
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Log in, and give the browser what the user prefers."""
        response = super().form_valid(form)
        if preference := Preference.objects.filter(user=form.get_user()).first():
            looks.store(response, preference)
        return response

    def get_default_redirect_url(self) -> str:
        """Return the address of the page that the user wants first."""
        user = jobs.user_of(self.request)
        page = Preference.objects.filter(user=user).values_list("start_page", flat=True).first()
        return reverse(page or "overview")


@login_not_required
@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    return redirect(static("img/favicon.svg"), permanent=True)


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def overview_page(request: HttpRequest) -> HttpResponse:
    """Show what needs somebody now: a page, or the part that it polls. An old address of the matrix
    leads to its new one.
    """
    if not matrix_filters.PARAMETERS.isdisjoint(request.GET):
        return redirect(f"{reverse('matrix')}?{request.GET.urlencode()}", permanent=True)
    page = overview.load(overview.days_of(request.GET), clock.now(), jobs.user_of(request))
    return polling.response(
        request,
        "certification/overview.html",
        "certification/_overview.html",
        {"page": page},
        page.version,
    )


@require_POST
@viewer_required
def dismiss(request: HttpRequest) -> HttpResponse:
    """Set a cause aside for the user until it changes, or (`again`) show it again."""
    user, key = jobs.user_of(request), request.POST.get("key", "")[:100].replace("\0", "")
    if "again" in request.POST:
        Dismissal.objects.filter(user=user, key=key).delete()
    elif key:
        state = request.POST.get("state", "")[:20].replace("\0", "")
        Dismissal.objects.update_or_create(user=user, key=key, defaults={"state": state})
    return redirect("overview")


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def matrix_page(request: HttpRequest) -> HttpResponse:
    """Show the model x region matrix: a page, or the results alone, which it polls. Without any
    parameter it begins with the view that the user chose for that; `view=all` shows everything.
    """
    if polling.is_poll(request) and polling.shows(request, matrix.current_version()):
        return polling.unchanged()
    context: dict[str, Any] = {}
    if not polling.is_poll(request):
        context["views"] = views = list(
            SavedView.objects.visible_to(jobs.user_of(request), "matrix")
        )
        default = next((view for view in views if view.is_default_of(request.user)), None)
        if default and not request.GET:
            return redirect(f"{reverse('matrix')}?{default.query or 'view=all'}")
    page = matrix.load(request.GET, clock.now())
    context |= {"matrix": page, "map": MatrixMap(page)}
    return polling.response(
        request,
        "certification/matrix.html",
        "certification/_results.html",
        context,
        page.version,
    )


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def search_page(request: HttpRequest) -> HttpResponse:
    """Show where a few words lead: a page, or the results alone for the dialog."""
    user = jobs.user_of(request)
    is_operator = user is not None and user.is_operator
    results = goto.search(request.GET.get("q", ""), is_operator=is_operator)
    template = "_hits.html" if request.headers.get("HX-Request") else "search.html"
    return render(request, f"certification/{template}", {"results": results})


@require_safe
@viewer_required
def export(request: HttpRequest, page: str, form: str, **place: Any) -> HttpResponse:
    """Download what an address of a page shows, all rows of it, as CSV or JSON."""
    table = exports.TABLES[page](request.GET, clock.now(), **place)
    return exports.response(table, form, address_of(request, page, place), backend.name())


@require_safe
@viewer_required
def matrix_picture(request: HttpRequest, form: str) -> HttpResponse:
    """Download what an address of the matrix shows as a drawing, SVG or PNG."""
    page = matrix.load(request.GET, clock.now())
    return picture.response(page, form, address_of(request, "matrix"), backend.name())


def address_of(request: HttpRequest, page: str, place: dict[str, Any] | None = None) -> str:
    """Return the address of the page that shows what is downloaded."""
    query = request.GET.urlencode()
    path = reverse(page, kwargs=place)
    return request.build_absolute_uri(f"{path}?{query}" if query else path)


@require_POST
@viewer_required
def matrix_selection(request: HttpRequest) -> HttpResponse:
    """Compare the chosen pairs, or show what starting exactly these takes."""
    pairs = matrix.selected_pairs(matrix.load(request.GET, clock.now()), request.POST)
    if request.POST.get("action") == "compare":
        if not 2 <= len(pairs) <= compare.MAX_OTHERS + 1:
            messages.warning(request, _("Choose two to four pairs to compare."))
            return redirect(f"{reverse('matrix')}?{request.GET.urlencode()}")
        first, *others = pairs
        query = urlencode([("a", first), *(("b", pair) for pair in others)])
        return redirect(f"{reverse('compare')}?{query}")
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    if not pairs:
        messages.warning(request, _("Choose at least one pair."))
        return redirect(f"{reverse('matrix')}?{request.GET.urlencode()}")
    choice = start.Choice(pairs=tuple(pairs))
    if choice.is_long:
        return show_start(request, choice)
    query = urlencode([("pair", pair) for pair in pairs])
    return redirect(f"{reverse('job-new')}?{query}")


@login_not_required
@require_POST
def set_theme(request: HttpRequest) -> HttpResponse:
    """Remember the theme, and return to the page that the form was on."""
    theme = request.POST.get("theme", "")
    theme = theme if theme in Theme.values else Theme.AUTO
    target = request.POST.get("next", "")
    is_ours = target.startswith("/") and url_has_allowed_host_and_scheme(
        target, {request.get_host()}, request.is_secure()
    )
    response = HttpResponseRedirect(target if is_ours else reverse("overview"))
    looks.set_cookie(response, looks.THEME, theme)
    if user := jobs.user_of(request):
        Preference.objects.update_or_create(user=user, defaults={"theme": theme})
    return response


@login_not_required
@require_POST
def set_language(request: HttpRequest) -> HttpResponse:
    """Remember the language, and return to the page that the form was on."""
    language, user = request.POST.get("language", ""), jobs.user_of(request)
    if user and language in dict(settings.LANGUAGES):
        Preference.objects.update_or_create(user=user, defaults={"language": language})
    return i18n.set_language(request)


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def jobs_page(request: HttpRequest) -> HttpResponse:
    """Show the jobs: a page, or the list alone, which it polls."""
    page = jobs.filtered_jobs(request.GET, clock.now())
    context = {
        "jobs": page,
        "pauses": page.pauses,
        "choices": {
            "status": (_("Status"), _("any status"), State.choices, page.filters.status),
            "type": (_("Kind"), _("any kind"), JobType.choices, page.filters.type),
            "tier": (_("Tier"), _("any tier"), Tier.choices, page.filters.tier),
            "priority": (_("Priority"), _("any"), Priority.choices, page.filters.priority),
            "backend": (_("Backend"), _("any backend"), Backend.choices, page.filters.backend),
            "has": (
                _("Runs"),
                _("any"),
                [("no_verdict", _("without a verdict"))],
                page.filters.has,
            ),
        },
    }
    return polling.response(
        request,
        "certification/jobs.html",
        "certification/_job_list.html",
        context,
        page.version,
    )


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def certification(request: HttpRequest, model_id: str, region: str) -> HttpResponse:
    """Show one model's status in one region and why: a page, or the fragment the matrix opens."""
    context = {"detail": certifications.load(model_id, region, request.GET, clock.now())}
    template = "_certification.html" if request.headers.get("HX-Request") else "certification.html"
    return render(request, f"certification/{template}", context)


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def run(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one run with its cases, and what was asked and answered in the case that is open: a
    page, or the open case alone.
    """
    rows = CertificationRun.objects.select_related("job", "model", "region")
    context = {"detail": runs.load(get_object_or_404(rows, pk=pk), request.GET)}
    template = "_run_case.html" if request.headers.get("HX-Request") else "run.html"
    return render(request, f"certification/{template}", context)


@require_safe
@viewer_required
def compare_page(request: HttpRequest) -> HttpResponse:
    """Compare runs with a reference, or ask which."""
    context = {"page": compare.load(request.GET)}
    return render(request, "certification/compare.html", context)


@require_safe
@viewer_required
@vary_on_headers("HX-Request")
def job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one job with its runs: a page, or the fragment that it polls while the job runs."""
    row = get_object_or_404(CertificationJob.objects.select_related("created_by"), pk=pk)
    now = clock.now()
    if polling.is_poll(request) and polling.shows(request, job_detail.version(row, now)):
        return polling.unchanged()
    detail = job_detail.load(row, request.GET, now)
    context = {"job": row, "detail": detail}
    page, part = "certification/job.html", "certification/_job.html"
    return polling.response(request, page, part, context, detail.version(now))


@permission_required(OPERATE, raise_exception=True)
def cancel_job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the confirmation (GET) or cancel the job (POST)."""
    row = get_object_or_404(CertificationJob, pk=pk)
    if request.method != "POST":
        return render(request, "certification/job_cancel.html", {"job": row})
    cancelled_runs = row.cancel(f"The job was cancelled by {request.user}.")
    if cancelled_runs is None:
        messages.warning(request, _("The job had already finished; nothing was cancelled."))
    else:
        log.info("job_cancelled", job=str(pk), runs=cancelled_runs, by=request.user.pk)
        messages.success(request, jobs.cancelled_sentence(cancelled_runs))
    return redirect("job", pk=pk)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def retry_job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Start a new job for the runs that ended without a verdict, and open it."""
    row = get_object_or_404(CertificationJob, pk=pk)
    try:
        new = dispatch.retry(row, jobs.user_of(request)).job
    except dispatch.DispatchError as error:
        messages.error(request, str(error))
        return redirect("job", pk=pk)
    log.info("job_retried", job=str(pk), new_job=str(new.pk), by=request.user.pk)
    messages.success(request, _("A new job retries the runs that ended without a verdict."))
    return redirect("job", pk=new.pk)


@permission_required(OPERATE, raise_exception=True)
def cancel_run(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the confirmation (GET) or cancel one run of a job (POST)."""
    row = get_object_or_404(CertificationRun.objects.select_related("job", "model"), pk=pk)
    if request.method != "POST":
        return render(request, "certification/run_cancel.html", {"run": row})
    if row.cancel(f"The run was cancelled by {request.user}."):
        log.info("run_cancelled", run=str(pk), job=str(row.job_id), by=request.user.pk)
        messages.success(request, _("The run was cancelled; the others of its job go on."))
    else:
        messages.warning(request, _("The run had already ended; nothing was cancelled."))
    return redirect("job", pk=row.job_id)


@require_POST
@permission_required(OPERATE, raise_exception=True)
def retry_run(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Start a new job for one run that was cancelled or ended without a verdict, and open it."""
    row = get_object_or_404(CertificationRun.objects.select_related("model", "region"), pk=pk)
    try:
        new = dispatch.retry_run(row, jobs.user_of(request)).job
    except dispatch.DispatchError as error:
        messages.error(request, str(error))
        return redirect("job", pk=row.job_id)
    log.info("run_retried", run=str(pk), new_job=str(new.pk), by=request.user.pk)
    messages.success(request, _("A new job retries this run."))
    return redirect("job", pk=new.pk)


@permission_required(OPERATE, raise_exception=True)
@vary_on_headers("HX-Request")
def start_job(request: HttpRequest) -> HttpResponse:
    """Show the form and what its choice takes (GET: a page, or the plan alone), or start the plan
    that was shown (POST).
    """
    if request.method != "POST":
        return show_start(request, start.Choice.from_query(request.GET))
    choice = start.Choice.from_query(request.POST)
    if "prefill" in request.POST:  # a choice too long for an address
        return show_start(request, choice)
    try:
        result = start.start(request.POST, jobs.user_of(request))
    except dispatch.DispatchError as problem:
        return show_start(request, choice, str(problem), status=409)
    messages.success(request, jobs.started_sentence(result))
    return redirect("job", pk=result.job.pk)


def show_start(
    request: HttpRequest, choice: start.Choice, error: str = "", status: int = 200
) -> HttpResponse:
    """Show the form with this choice and what it takes: a page, or the plan alone."""
    plan = start.make_plan(choice)
    context = {"plan": plan, "error": error}
    if request.headers.get("HX-Request"):
        return render(request, "certification/_plan.html", context)
    context |= {"choice": choice, **start.boxes(plan)}
    return render(request, "certification/start.html", context, status=status)
