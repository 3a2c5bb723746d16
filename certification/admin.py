"""The Django admin: edit the catalogue and users; read jobs, runs and results. Actions call the
same functions as the API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django_celery_beat.admin import PeriodicTaskAdmin, PeriodicTaskForm
from django_celery_beat.models import PeriodicTask
from django_celery_results.admin import GroupResultAdmin, TaskResultAdmin
from django_celery_results.models import GroupResult, TaskResult

from certification import labels
from certification.admin_site import CheckedValues, asks_first
from certification.engine import dispatch
from certification.lib import clock, csv_text, shared_cache
from certification.models import (
    AIModel,
    ApiKey,
    AuditEntry,
    Backend,
    Certificate,
    CertificationJob,
    CertificationRun,
    Contact,
    CustomCase,
    ErrorGroup,
    ModelAlias,
    ModelCertification,
    ParameterSupport,
    Provider,
    QueuePause,
    Region,
    Role,
    Route,
    RunJudgement,
    State,
    TestResult,
    Tier,
    User,
    WebhookDelivery,
    WebhookEvent,
    WebhookSubscription,
)

MAX_CERTIFIED = 60  # models that the address of a page can name


def as_evidence(value: Any) -> SafeString:
    """Return JSON as indented, escaped text."""
    return format_html(
        '<pre class="evidence">{}</pre>',
        json.dumps(value, indent=2, ensure_ascii=False, default=str),
    )


def status_badge(status: str) -> SafeString | str:
    """Return a status as its sign and word, in its colours."""
    sign = labels.STATUSES.get(status)
    if sign is None:
        return status
    return format_html('<span class="badge s-{}">{} {}</span>', status, sign.symbol, sign.label)


def backend_badge(backend: str) -> SafeString | str:
    """Return where results came from; the emulator's are marked."""
    label = labels.of_choice(Backend, backend)
    is_real = backend != Backend.EMULATOR
    return label if is_real else format_html('<span class="badge emulated">{}</span>', label)


def grade(row: CertificationRun | ModelCertification) -> SafeString | str:
    if row.score is None:
        return ""
    return format_html('<span class="grade">{} {}</span>', row.rating, f"{row.score:g}")


class LabelledChoicesFilter(admin.ChoicesFieldListFilter):
    """A filter whose choices carry the labels of the pages."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        statuses = {
            str(status).replace("_", " "): sign.label for status, sign in labels.STATUSES.items()
        }
        words = {**statuses, **labels.CATEGORIES}
        for choice in super().choices(changelist):
            yield {**choice, "display": words.get(str(choice["display"]), choice["display"])}


class ReadOnly:
    """For rows that the engine writes: no adding, changing or deleting by hand."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CatalogueAdmin(admin.ModelAdmin):
    """Rows that cached API responses are made of: saving or deleting one invalidates the cache."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        shared_cache.invalidate()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        shared_cache.invalidate()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        shared_cache.invalidate()


class EmailUserCreationForm(AdminUserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name", "groups", "is_staff")

    def clean_email(self) -> str:
        return unused_email(self.cleaned_data["email"])


class EmailUserChangeForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"

    def clean_email(self) -> str:
        return unused_email(self.cleaned_data["email"], self.instance.pk or 0)


def unused_email(email: str, own: int = 0) -> str:
    """Return the address in lower case, as it is stored. Raises ValidationError when taken."""
    email = email.strip().lower()
    if User.objects.filter(email__iexact=email).exclude(pk=own).exists():
        raise forms.ValidationError(_("Another user has this e-mail address."), code="taken")
    return email


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    form = EmailUserChangeForm
    add_form = EmailUserCreationForm
    ordering = ("email",)
    list_display = ("email", "name", "role", "is_staff", "is_active", "last_login")
    list_filter = ("groups", "is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name")
    filter_horizontal = ()  # its script names what no name is allowed on; groups are few
    list_per_page = 50
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("email", "password", "name")}),
        (
            _("Permissions"),
            {"fields": ("groups", "is_staff", "is_active", "is_superuser", "user_permissions")},
        ),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": (
                    "email",
                    "name",
                    "groups",
                    "is_staff",
                    "usable_password",
                    "password1",
                    "password2",
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description=_("role"))
    def role(self, user: User) -> str:
        return str(Role(user.role).label) if user.role else ""

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Only a superuser may make others superusers."""
        fields = tuple(super().get_readonly_fields(request, obj))
        return (
            fields if request.user.is_superuser else (*fields, "is_superuser", "user_permissions")
        )

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and self.may_edit(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and self.may_edit(request, obj)

    @staticmethod
    def may_edit(request: HttpRequest, obj: User | None) -> bool:
        """Only superusers change a superuser's account (and password)."""
        return obj is None or not obj.is_superuser or request.user.is_superuser


@admin.register(Provider)
class ProviderAdmin(CatalogueAdmin):
    list_display = ("slug", "name")
    search_fields = ("slug", "name")


@admin.register(Region)
class RegionAdmin(CatalogueAdmin):
    list_display = ("code", "name", "enabled", "opt_in", "models_offered")
    list_filter = ("enabled", "opt_in")
    search_fields = ("code", "name")
    list_per_page = 50
    actions = ("enable", "disable")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Region]:
        return super().get_queryset(request).annotate(offered=Count("routes__model", distinct=True))

    def get_readonly_fields(
        self, request: HttpRequest, obj: Region | None = None
    ) -> tuple[str, ...]:
        return ("code",) if obj else ()

    @admin.display(description=_("models offered"), ordering="offered")
    def models_offered(self, region: Region) -> int:
        return int(region.offered)  # type: ignore[attr-defined]

    @admin.action(description=_("Enable the selected regions"), permissions=["change"])
    @asks_first
    def enable(self, request: HttpRequest, queryset: QuerySet[Region]) -> None:
        self.report_changed(request, queryset.update(enabled=True))

    @admin.action(description=_("Disable the selected regions"), permissions=["change"])
    @asks_first
    def disable(self, request: HttpRequest, queryset: QuerySet[Region]) -> None:
        self.report_changed(request, queryset.update(enabled=False))

    def report_changed(self, request: HttpRequest, changed: int) -> None:
        shared_cache.invalidate()
        text = ngettext("%(n)d region changed.", "%(n)d regions changed.", changed) % {"n": changed}
        self.message_user(request, text, messages.SUCCESS)


class RouteInline(CheckedValues, admin.TabularInline):
    model = Route
    extra = 0
    autocomplete_fields = ("region",)
    readonly_fields = ("last_seen_at",)


class ModelAliasInline(admin.TabularInline):
    model = ModelAlias
    extra = 0
    readonly_fields = ("former_id",)


class ParameterSupportInline(ReadOnly, admin.TabularInline):
    model = ParameterSupport
    extra = 0
    fields = ("operation", "feature", "accepted", "refusal", "region", "seen_at")


@admin.register(AIModel)
class AIModelAdmin(CatalogueAdmin):
    list_display = (
        "api_model_id",
        "name",
        "vendor",
        "kind",
        "lifecycle",
        "is_active",
        "regions_offered",
        "page",
    )
    list_filter = ("is_active", "kind", "lifecycle", "vendor")
    list_select_related = ("provider",)
    search_fields = ("api_model_id", "name", "vendor", "aliases__alias")
    autocomplete_fields = ("provider",)
    readonly_fields = ("facts_as_of", "created_at", "updated_at")
    list_per_page = 50
    inlines = (ModelAliasInline, RouteInline, ParameterSupportInline)
    actions = ("certify",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AIModel]:
        return (
            super().get_queryset(request).annotate(offered=Count("routes__region", distinct=True))
        )

    @admin.display(description=_("regions offered"), ordering="offered")
    def regions_offered(self, model: AIModel) -> int:
        return int(model.offered)  # type: ignore[attr-defined]

    def has_certify_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("certification.add_certificationjob")

    @admin.action(description=_("Certify wherever they are offered…"), permissions=["certify"])
    def certify(self, request: HttpRequest, queryset: QuerySet[AIModel]) -> HttpResponse | None:
        """Go to the page that says what this takes, and starts it."""
        names = list(queryset.values_list("api_model_id", flat=True)[: MAX_CERTIFIED + 1])
        if len(names) > MAX_CERTIFIED:
            text = _("More than %(n)d models are selected. The page for new jobs takes them all.")
            self.message_user(request, text % {"n": MAX_CERTIFIED}, messages.WARNING)
            return None
        query = urlencode([*(("model", name) for name in names), ("tier", Tier.QUICK)])
        return redirect(f"{reverse('job-new')}?{query}")

    @admin.display(description=_("page"))
    def page(self, model: AIModel) -> SafeString:
        address = f"{reverse('matrix')}?{urlencode({'q': model.api_model_id})}"
        return format_html('<a href="{}">{}</a>', address, _("matrix"))


def current_user(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def report_job_started(
    model_admin: admin.ModelAdmin, request: HttpRequest, result: dispatch.DispatchResult
) -> None:
    """Show a message that links to the job."""
    address = reverse("job", args=[result.job.pk])
    n = result.job.total_runs
    text = ngettext(
        "A job with %(n)d run was started:", "A job with %(n)d runs was started:", n
    ) % {"n": n}
    model_admin.message_user(
        request, format_html('{} <a href="{}">{}</a>', text, address, result.job), messages.SUCCESS
    )


@admin.register(Route)
class RouteAdmin(CatalogueAdmin):
    list_display = (
        "target_id",
        "model",
        "region",
        "endpoint",
        "api",
        "kind",
        "source",
        "last_refused",
    )
    list_filter = ("endpoint", "api", "kind", "source", "region")
    list_select_related = ("model", "region")
    search_fields = ("target_id", "model__name", "model__api_model_id", "region__code")
    autocomplete_fields = ("model", "region")
    readonly_fields = ("last_seen_at", "last_refused")
    list_per_page = 50

    @admin.display(description=_("last refusal"))
    def last_refused(self, route: Route) -> str:
        refusal = route.last_refusal or {}
        return str(labels.REASONS.get(refusal.get("reason", ""), refusal.get("reason", "")))


@admin.register(CertificationJob)
class CertificationJobAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "created_at",
        "type",
        "tier",
        "status",
        "runs_done",
        "emulated",
        "created_by",
        "page",
    )
    list_display_links = ("created_at", "type")
    list_filter = ("status", "type", "tier", "backend", "priority", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("id__exact", "idempotency_key", "created_by__email")
    date_hierarchy = "created_at"
    list_per_page = 50
    actions = ("cancel", "retry")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("certification.change_certificationjob")

    @admin.display(description=_("backend"), ordering="backend")
    def emulated(self, job: CertificationJob) -> SafeString | str:
        return backend_badge(job.backend)

    @admin.display(description=_("finished runs"))
    def runs_done(self, job: CertificationJob) -> str:
        return f"{job.processed_runs} / {job.total_runs}"

    @admin.display(description=_("page"))
    def page(self, job: CertificationJob) -> SafeString:
        return format_html('<a href="{}">{}</a>', reverse("job", args=[job.pk]), _("runs"))

    @admin.action(description=_("Cancel the selected jobs"), permissions=["operate"])
    @asks_first
    def cancel(self, request: HttpRequest, queryset: QuerySet[CertificationJob]) -> None:
        cancelled = sum(job.cancel() is not None for job in queryset)
        text = ngettext("%(n)d job cancelled.", "%(n)d jobs cancelled.", cancelled) % {
            "n": cancelled
        }
        self.message_user(request, text, messages.SUCCESS if cancelled else messages.WARNING)

    @admin.action(
        description=_("Retry the failed runs of the selected jobs"), permissions=["operate"]
    )
    @asks_first
    def retry(self, request: HttpRequest, queryset: QuerySet[CertificationJob]) -> None:
        for job in queryset:
            try:
                report_job_started(self, request, dispatch.retry(job, current_user(request)))
            except dispatch.DispatchError as error:
                self.message_user(request, f"{job}: {error}", messages.ERROR)


class TestResultInline(ReadOnly, admin.TabularInline):
    __test__ = False
    model = TestResult
    fields = ("case_id", "category", "verdict", "passes", "trials_valid", "sentence")
    show_change_link = True
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[TestResult]:
        return super().get_queryset(request).defer("trials").order_by("pk")


@admin.register(CertificationRun)
class CertificationRunAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "model",
        "region",
        "outcome",
        "grade",
        "reason",
        "emulated",
        "created_at",
        "page",
    )
    list_filter = (
        "status",
        ("verdict", LabelledChoicesFilter),
        "tier",
        "backend",
        ("error_category", LabelledChoicesFilter),
        "region",
    )
    list_select_related = ("model", "region")
    search_fields = (
        "id__exact",
        "job__id__exact",
        "model__name",
        "model__api_model_id",
        "region__code",
        "error_message",
    )
    date_hierarchy = "created_at"
    list_per_page = 50
    show_full_result_count = False
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "job",
                    "model",
                    "region",
                    "status",
                    "outcome",
                    "grade",
                    "backend",
                    "tier",
                )
            },
        ),
        (_("Why"), {"fields": ("reason", "error_message", "error_code", "request_id", "fix_json")}),
        (
            _("Scores"),
            {"fields": ("lower_bound", "quality", "contract", "performance", "reliability")},
        ),
        (
            _("Speed and cost"),
            {
                "fields": (
                    "ttft_ms",
                    "latency_p50_ms",
                    "output_tps",
                    "calls",
                    "retries",
                    "tokens_in",
                    "tokens_out",
                    "cost_usd",
                )
            },
        ),
        (
            _("Execution"),
            {
                "fields": (
                    "route",
                    "route_kind",
                    "endpoint",
                    "api",
                    "attempt",
                    "claimed_by",
                    "created_at",
                    "enqueued_at",
                    "started_at",
                    "heartbeat_at",
                    "completed_at",
                    "suite_version",
                    "policy_version",
                    "variant_seed",
                    "environment_json",
                )
            },
        ),
    )
    readonly_fields = ("outcome", "grade", "reason", "fix_json", "environment_json")
    inlines = (TestResultInline,)

    @admin.display(description=_("verdict"), ordering="verdict")
    def outcome(self, run: CertificationRun) -> SafeString | str:
        """Return the verdict; without one, the state."""
        return status_badge(run.verdict) or labels.of_choice(State, run.status)

    @admin.display(description=_("score"), ordering="score")
    def grade(self, run: CertificationRun) -> SafeString | str:
        return grade(run)

    @admin.display(description=_("backend"), ordering="backend")
    def emulated(self, run: CertificationRun) -> SafeString | str:
        return backend_badge(run.backend)

    @admin.display(description=_("page"))
    def page(self, run: CertificationRun) -> SafeString:
        return format_html('<a href="{}">{}</a>', reverse("run", args=[run.pk]), _("evidence"))

    @admin.display(description=_("error reason"), ordering="error_reason")
    def reason(self, run: CertificationRun) -> str:
        return str(labels.REASONS.get(run.error_reason, run.error_reason))

    @admin.display(description=_("fix"))
    def fix_json(self, run: CertificationRun) -> SafeString:
        return as_evidence(run.fix)

    @admin.display(description=_("environment"))
    def environment_json(self, run: CertificationRun) -> SafeString:
        return as_evidence(run.environment)


@admin.register(TestResult)
class TestResultAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("case_id", "run", "verdict", "passes", "trials_valid", "sentence")
    list_filter = ("verdict", "category", "case_id")
    list_select_related = ("run__model", "run__region")
    search_fields = ("case_id", "run__id__exact", "run__model__api_model_id", "sentence")
    list_per_page = 50
    show_full_result_count = False
    exclude = ("trials",)
    readonly_fields = ("evidence",)

    @admin.display(description=_("evidence"))
    def evidence(self, result: TestResult) -> SafeString:
        return as_evidence(result.trials)


@admin.register(ModelCertification)
class ModelCertificationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "model",
        "region",
        "status_badge",
        "grade",
        "emulated",
        "last_tested_at",
        "expires_at",
        "page",
    )
    list_filter = (
        ("status", LabelledChoicesFilter),
        ("confirm_after", admin.EmptyFieldListFilter),
        "rating",
        "backend",
        "region",
    )
    list_select_related = ("model", "region")
    search_fields = ("model__name", "model__api_model_id", "region__code")
    list_per_page = 50

    @admin.display(description=_("status"), ordering="status")
    def status_badge(self, row: ModelCertification) -> SafeString | str:
        return status_badge(row.status)

    @admin.display(description=_("score"), ordering="score")
    def grade(self, row: ModelCertification) -> SafeString | str:
        return grade(row)

    @admin.display(description=_("backend"), ordering="backend")
    def emulated(self, row: ModelCertification) -> SafeString | str:
        return backend_badge(row.backend)

    @admin.display(description=_("page"))
    def page(self, row: ModelCertification) -> SafeString:
        address = reverse("certification", args=[row.model_id, row.region_id])
        return format_html('<a href="{}">{}</a>', address, _("why"))


@admin.register(QueuePause)
class QueuePauseAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        *("opened_at", "backend", "cause", "error_reason", "opened_by"),
        *("until", "resumed_at", "message"),
    )
    list_filter = ("backend", "cause", ("error_category", LabelledChoicesFilter))
    search_fields = ("message",)
    list_per_page = 50


@admin.register(CustomCase)
class CustomCaseAdmin(admin.ModelAdmin):
    """Saving runs the grader on both samples: a case that cannot tell them apart is refused."""

    list_display = (
        "case_id",
        "title",
        "category",
        "grader",
        "weight",
        "repeats",
        "enabled",
        "created_by",
    )
    list_filter = ("enabled", "category", "grader")
    list_select_related = ("created_by",)
    search_fields = ("case_id", "title", "prompt")
    readonly_fields = ("created_by", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("case_id", "title", "category", "enabled")}),
        (_("Request"), {"fields": ("system", "prompt", "max_tokens", "repeats")}),
        (
            _("Grading"),
            {"fields": ("grader", "expected", "weight", "good_sample", "bad_sample")},
        ),
        (None, {"fields": ("created_by", "created_at", "updated_at")}),
    )

    def save_model(self, request: HttpRequest, obj: CustomCase, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = current_user(request)
        super().save_model(request, obj, form, change)


@admin.register(Certificate)
class CertificateAdmin(ReadOnly, admin.ModelAdmin):
    """Certificates, and the way to withdraw one, which is a page of its own."""

    list_display = (
        "number",
        "code",
        "model",
        "region",
        "issued_at",
        "expires_at",
        "lookups",
        "links",
    )
    list_filter = ("region", ("withdrawn_at", admin.EmptyFieldListFilter))
    list_select_related = ("model", "region")
    search_fields = ("code", "model__api_model_id", "model__name")
    date_hierarchy = "issued_at"
    exclude = ("envelope",)

    @admin.display(description=_("pages"))
    def links(self, certificate: Certificate) -> SafeString:
        show = reverse("certificate", args=[certificate.code])
        return format_html(
            '<a href="{}">{}</a> · <a href="{}withdraw/">{}</a>',
            show, _("open"), show, _("withdraw"),
        )  # fmt: skip


@admin.register(RunJudgement)
class RunJudgementAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("run", "verdict", "score", "rating", "policy_version", "judged_at", "judged_by")
    list_filter = (("verdict", LabelledChoicesFilter), "policy_version")
    list_select_related = ("run__model", "run__region", "judged_by")
    search_fields = ("run__model__api_model_id", "run__region__code")
    date_hierarchy = "judged_at"


class WebhookSubscriptionForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        label=capfirst(_("events")),
        choices=WebhookEvent.choices,
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = WebhookSubscription
        fields = ("url", "events")


@admin.register(WebhookSubscription)
class WebhookSubscriptionAdmin(admin.ModelAdmin):
    """The secret is shown once: in the message after it was generated."""

    form = WebhookSubscriptionForm
    list_display = (
        "host",
        "event_names",
        "is_active",
        "last_success_at",
        "consecutive_failures",
        "log",
    )
    list_filter = ("is_active",)
    list_select_related = ("created_by",)
    search_fields = ("url",)
    readonly_fields = (
        "is_active",
        "disabled_reason",
        "consecutive_failures",
        "failing_since",
        "last_success_at",
        "paused_until",
        "log",
        "created_by",
        "created_at",
        "updated_at",
    )
    list_per_page = 50
    actions = ("send_test", "rotate_secret", "switch_on", "switch_off")

    def get_fields(self, request: HttpRequest, obj: WebhookSubscription | None = None) -> Any:
        return ("url", "events", *self.readonly_fields) if obj else ("url", "events")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out bulk deletion: it would not wait for deliveries that are being written."""
        return {
            name: action
            for name, action in super().get_actions(request).items()
            if name != "delete_selected"
        }

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Count a subscription's deliveries, which are deleted with it, instead of listing them."""
        deliveries = WebhookDelivery.objects.filter(subscription__in=objs).count()
        counts = {
            self.opts.verbose_name_plural: len(objs),
            WebhookDelivery._meta.verbose_name_plural: deliveries,
        }
        return [str(subscription) for subscription in objs], counts, set(), []

    def save_model(
        self, request: HttpRequest, obj: WebhookSubscription, form: Any, change: bool
    ) -> None:
        if not change:
            obj.created_by = current_user(request)
        super().save_model(request, obj, form, change)
        if not change:
            self.show_secret(request, obj, obj.secret)

    @admin.display(description=_("receiver"), ordering="url")
    def host(self, subscription: WebhookSubscription) -> str:
        return subscription.host

    @admin.display(description=_("events"))
    def event_names(self, subscription: WebhookSubscription) -> str:
        return ", ".join(subscription.events)

    @admin.display(description=_("deliveries"))
    def log(self, subscription: WebhookSubscription) -> SafeString:
        address = reverse("admin:certification_webhookdelivery_changelist")
        return format_html(
            '<a href="{}?subscription__id__exact={}">{}</a>', address, subscription.pk, _("log")
        )

    @admin.action(description=_("Send a test event"), permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[WebhookSubscription]) -> None:
        sent = len([subscription.send_test() for subscription in queryset])
        text = ngettext(
            "%(n)d test event is on its way.", "%(n)d test events are on their way.", sent
        ) % {"n": sent}
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Generate a new secret"), permissions=["change"])
    @asks_first
    def rotate_secret(self, request: HttpRequest, queryset: QuerySet[WebhookSubscription]) -> None:
        for subscription in queryset:
            self.show_secret(request, subscription, subscription.rotate_secret())
            self.log_change(request, subscription, "A new secret was generated.")

    @admin.action(description=_("Enable"), permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[WebhookSubscription]) -> None:
        self.report_switched(request, sum(subscription.switch_on() for subscription in queryset))

    @admin.action(description=_("Disable"), permissions=["change"])
    @asks_first
    def switch_off(self, request: HttpRequest, queryset: QuerySet[WebhookSubscription]) -> None:
        reason = f"Disabled by {request.user}."
        self.report_switched(
            request, sum(subscription.switch_off(reason) for subscription in queryset)
        )

    def report_switched(self, request: HttpRequest, n: int) -> None:
        text = ngettext("%(n)d subscription changed.", "%(n)d subscriptions changed.", n) % {"n": n}
        self.message_user(request, text, messages.SUCCESS if n else messages.WARNING)

    def show_secret(
        self, request: HttpRequest, subscription: WebhookSubscription, secret: str
    ) -> None:
        text = _("The secret for %(host)s. Save it now, it is not shown again:") % {
            "host": subscription.host
        }
        self.message_user(
            request, format_html("{} <code>{}</code>", text, secret), messages.WARNING
        )


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "created_at",
        "event",
        "status",
        "subscription",
        "attempts",
        "response_status",
        "error",
        "next_attempt_at",
    )
    list_filter = ("status", "event", "subscription")
    list_select_related = ("subscription",)
    search_fields = ("id__exact", "event_id__exact", "error")
    date_hierarchy = "created_at"
    list_per_page = 50
    show_full_result_count = False
    exclude = ("payload", "response_body")
    readonly_fields = ("payload_json", "response_text")
    actions = ("send_again",)

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("certification.change_webhooksubscription")

    @admin.display(description=_("payload"))
    def payload_json(self, delivery: WebhookDelivery) -> SafeString:
        return as_evidence(delivery.payload)

    @admin.display(description=_("response"))
    def response_text(self, delivery: WebhookDelivery) -> SafeString:
        return format_html('<pre class="evidence">{}</pre>', delivery.response_body)

    @admin.action(description=_("Send the selected deliveries again"), permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        n = sum(delivery.send_again() for delivery in queryset)
        text = ngettext(
            "%(n)d delivery will be sent again.", "%(n)d deliveries will be sent again.", n
        ) % {"n": n}
        self.message_user(request, text, messages.SUCCESS if n else messages.WARNING)


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """The key is shown once, when it is issued. It cannot be changed: revoke it instead."""

    list_display = ("name", "shown", "user", "role", "is_working", "last_used_at", "expires_at")
    list_filter = ("role",)
    list_select_related = ("user",)
    search_fields = ("name", "shown", "user__email")
    autocomplete_fields = ("user",)
    list_per_page = 50
    actions = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        fields = ("name", "user", "role", "expires_at")
        return (*fields, "shown", "created_at", "last_used_at", "revoked_at") if obj else fields

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Only a superuser may issue a key that acts as one."""
        if db_field.name == "user" and not request.user.is_superuser:
            options["queryset"] = User.objects.filter(is_superuser=False)
        return super().formfield_for_foreignkey(db_field, request, **options)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key = obj.issue()
        text = _("The key %(name)s. Save it now, it is not shown again:") % {"name": obj.name}
        self.message_user(request, format_html("{} <code>{}</code>", text, key), messages.WARNING)

    @admin.display(description=_("active"), boolean=True)
    def is_working(self, key: ApiKey) -> bool:
        return key.is_working

    @admin.action(description=_("Revoke"), permissions=["change"])
    @asks_first
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = [key for key in queryset if key.revoke()]
        for key in revoked:
            self.log_change(request, key, "Revoked.")
        text = ngettext("%(n)d key revoked.", "%(n)d keys revoked.", len(revoked)) % {
            "n": len(revoked)
        }
        self.message_user(request, text, messages.SUCCESS if revoked else messages.WARNING)


# Of other apps: what their forms do not check themselves


class CheckedTaskForm(PeriodicTaskForm):
    """A schedule's form that also takes a task without a name and arguments of any depth as
    errors.
    """

    def clean(self) -> Any:
        self.cleaned_data.setdefault("task", "")
        return super().clean()

    def _clean_json(self, field: str) -> Any:
        try:
            return super()._clean_json(field)
        except (RecursionError, ValueError) as error:
            raise forms.ValidationError(_("Enter a valid JSON."), code="invalid") from error


admin.site.unregister([PeriodicTask, TaskResult, GroupResult])


@admin.register(PeriodicTask)
class CheckedPeriodicTaskAdmin(PeriodicTaskAdmin):
    form = CheckedTaskForm
    list_display = ("name", "enabled", "schedule_words", "last_run_at", "next_run", "one_off")

    @admin.display(description=_("schedule"))
    def schedule_words(self, task: PeriodicTask) -> str:
        """Return when it runs, in words."""
        return str(task.crontab.human_readable if task.crontab else task.scheduler)

    @admin.display(description=_("next run"))
    def next_run(self, task: PeriodicTask) -> datetime | None:
        """Return when it runs next, at the earliest now; None where only the sun knows."""
        if not task.enabled or task.solar:
            return None
        wait = task.schedule.remaining_estimate(task.last_run_at or task.date_changed)
        return clock.now() + max(wait, timedelta(0))


@admin.register(TaskResult)
class ReadOnlyTaskResultAdmin(ReadOnly, TaskResultAdmin):
    """Workers write results; by hand nobody does."""


@admin.register(GroupResult)
class ReadOnlyGroupResultAdmin(ReadOnly, GroupResultAdmin):
    """As for the results of tasks."""


@admin.register(ErrorGroup)
class ErrorGroupAdmin(ReadOnly, admin.ModelAdmin):
    """The errors that processes logged, the same ones in one row."""

    list_display = ("event", "error", "place", "count", "last_seen", "first_seen", "release")
    list_filter = ("process", "release", "last_seen")
    search_fields = ("event", "error", "place", "logger")
    fields = (
        *("event", "error", "place", "logger", "process", "release"),
        *("count", "first_seen", "last_seen", "line", "traceback"),
    )

    @admin.display(description=_("line of the log"))
    def line(self, group: ErrorGroup) -> SafeString:
        return as_evidence({k: v for k, v in group.example.items() if k != "exception"})

    @admin.display(description=_("traceback"))
    def traceback(self, group: ErrorGroup) -> SafeString:
        return format_html('<pre class="evidence">{}</pre>', group.example.get("exception", ""))


@admin.register(Contact)
class ContactAdmin(admin.ModelAdmin):
    """Whom to call on each level of escalation."""

    list_display = ("level", "name", "reach", "hours", "order")
    list_filter = ("level",)
    search_fields = ("name", "reach")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, admin.ModelAdmin):
    """Who did or changed what; nobody changes an entry."""

    list_display = ("at", "actor", "via", "action", "kind", "subject", "place")
    list_filter = ("via", "kind", "at")
    search_fields = ("actor", "action", "subject", "key", "place", "request_id")
    fields = (
        *("at", "actor", "via", "place", "address", "request_id"),
        *("action", "kind", "key", "subject", "values_changed"),
    )
    actions = ("export",)
    show_full_result_count = False

    @admin.display(description=_("changes"))
    def values_changed(self, entry: AuditEntry) -> SafeString:
        return as_evidence(entry.changes)

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export(self, request: HttpRequest, entries: QuerySet[AuditEntry]) -> HttpResponse:
        columns = [field.name for field in AuditEntry._meta.concrete_fields]
        rows = (
            [
                json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
                for value in row
            ]
            for row in entries.values_list(*columns).iterator()
        )
        response = HttpResponse(csv_text.table(columns, rows), "text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="audit.csv"'
        return response
