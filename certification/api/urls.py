"""The addresses of the JSON API, without a trailing slash because the frontends send none."""

from django.urls import path

from certification.api import (
    accounts,
    catalogue,
    certifications,
    docs,
    events,
    history,
    jobs,
    matrix,
    stats,
    usable,
)

urlpatterns = [
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
    path("certification-queue/jobs/<uuid:job_id>", jobs.JobDetail.as_view()),
    path("certification-queue/jobs/<uuid:job_id>/retry", jobs.RetryJob.as_view()),
    path("certification-queue/jobs/<uuid:job_id>/events", events.JobEvents.as_view()),
    path("certification-queue/certifications", certifications.Certifications.as_view()),
    path(
        "certification-queue/certifications/<path:certification_id>",
        certifications.CertificationById.as_view(),
    ),
    path("certification-queue/stats", stats.QueueStatus.as_view()),
    path("certification-queue/aws-status", stats.AwsReach.as_view()),
    path("certification-queue/history", history.History.as_view()),
    path("certification-queue/regions", history.Regions.as_view()),
    path("models", catalogue.ModelList.as_view()),
    path("models/<path:model_id>", catalogue.ModelById.as_view()),
    path("matrix", matrix.MatrixView.as_view()),
    path("usable", usable.UsableView.as_view()),
    path("providers", catalogue.Providers.as_view()),
    path("vendors", catalogue.Vendors.as_view()),
]
