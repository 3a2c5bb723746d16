"""The addresses of the JSON API, without a trailing slash because the frontends send none."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from certification.api import (
    accounts,
    capabilities,
    catalogue,
    certifications,
    docs,
    events,
    health,
    history,
    jobs,
    logs,
    matrix,
    preferences,
    providers,
    stats,
    usable,
)


class ModelIdConverter(StringConverter):
    """An id that may hold slashes, as an ARN does, but begins with none: else the address of a
    part of a model without its id would be the address of a model.
    """

    regex = "[^/].*"


register_converter(ModelIdConverter, "model")

urlpatterns = [
    path("health", health.api_health, name="api-health"),
    path("schema", docs.schema_json, name="api-schema"),
    path("docs", docs.browse, name="api-docs"),
    path("auth/login", accounts.LoginView.as_view()),
    path("auth/refresh", accounts.RefreshView.as_view()),
    path("auth/me", accounts.MeView.as_view()),
    path("auth/change-password", accounts.ChangePasswordView.as_view()),
    path("auth/logout", accounts.LogoutView.as_view()),
    path("certification-queue/certify-model", jobs.CertifyModel.as_view()),
    path("certification-queue/certify-multiple", jobs.CertifyMultiple.as_view()),
    path("certification-queue/certify-all", jobs.CertifyAll.as_view()),
    path("certification-queue/jobs/<str:job_id>", jobs.JobDetail.as_view()),
    path("certification-queue/jobs/<str:job_id>/retry", jobs.RetryJob.as_view()),
    path("certification-queue/jobs/<str:job_id>/events", events.JobEvents.as_view()),
    path("certification-queue/certifications", certifications.Certifications.as_view()),
    path(
        "certification-queue/certifications/<path:certification_id>",
        certifications.CertificationById.as_view(),
    ),
    path("certification-queue/stats", stats.QueueStatus.as_view()),
    path("certification-queue/aws-status", stats.AwsReach.as_view()),
    path("certification-queue/history", history.History.as_view()),
    path("certification-queue/regions", history.Regions.as_view()),
    path("logs", logs.Logs.as_view()),
    path("logs/stats", logs.LogStatistics.as_view()),
    path("logs/errors/recent", logs.LogErrors.as_view()),
    path("logs/<str:request_id>", logs.LogsOfRequest.as_view()),
    path("settings", preferences.SettingsView.as_view()),
    path("models", catalogue.ModelList.as_view()),
    path("models/capabilities", capabilities.AllCapabilities.as_view()),
    path("models/<model:model_id>/capabilities", capabilities.CapabilitiesOfModel.as_view()),
    path("models/<model:model_id>", catalogue.ModelById.as_view()),
    path("matrix", matrix.MatrixView.as_view()),
    path("usable", usable.UsableView.as_view()),
    path("providers", catalogue.Providers.as_view()),
    path("providers/configured", providers.ConfiguredProviders.as_view()),
    path("providers/models", providers.RatedModels.as_view()),
    path("providers/by-vendor", providers.ModelsByVendor.as_view()),
    path("providers/bedrock/available-models", providers.AvailableModels.as_view()),
    path("providers/bedrock/validate", providers.ValidateCredentials.as_view()),
    path("ai/providers", providers.AllProviders.as_view()),
    path("vendors", catalogue.Vendors.as_view()),
]
