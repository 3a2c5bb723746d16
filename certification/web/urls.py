"""Pages for people."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from certification.web import (
    account_views,
    job_selection,
    operations_views,
    people_views,
    public,
    saved_views,
    views,
)

EXPORTED = {
    "matrix": "matrix/",
    "jobs": "jobs/",
    "job": "jobs/<uuid:pk>/",
    "run": "runs/<uuid:pk>/",
    "certification": "certifications/<path:model_id>/<str:region>/",
    "compare": "compare/",
}
exports = [
    path(f"{prefix}export.{form}", views.export, {"page": page, "form": form}, f"{page}-{form}")
    for page, prefix in EXPORTED.items()
    for form in ("csv", "json")
]
urlpatterns = [
    *exports,
    path("", views.overview_page, name="overview"),
    path("dismiss/", views.dismiss, name="dismiss"),
    path("matrix/", views.matrix_page, name="matrix"),
    path("matrix/export.svg", views.matrix_picture, {"form": "svg"}, name="matrix-svg"),
    path("matrix/export.png", views.matrix_picture, {"form": "png"}, name="matrix-png"),
    path("matrix/views/", saved_views.save, name="view-save"),
    path("matrix/views/<int:pk>/delete/", saved_views.delete, name="view-delete"),
    path("matrix/selection/", views.matrix_selection, name="matrix-selection"),
    path("search/", views.search_page, name="search"),
    path("login/", views.LoginPage.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("theme/", views.set_theme, name="theme"),
    path("i18n/setlang/", views.set_language, name="set_language"),
    path("account/", account_views.account, name="account"),
    path("account/password/", account_views.PasswordPage.as_view(), name="password"),
    path("account/end-session/", account_views.end_session, name="end-session"),
    path("account/end-other-sessions/", account_views.end_others, name="end-other-sessions"),
    path("account/keys/", account_views.issue_key, name="key-issue"),
    path("account/keys/<int:pk>/revoke/", account_views.revoke_key, name="key-revoke"),
    path("account/export.json", account_views.export, name="account-export"),
    path("favicon.ico", views.favicon, name="favicon"),
    path("certifications/<path:model_id>/<str:region>/", views.certification, name="certification"),
    path("jobs/", views.jobs_page, name="jobs"),
    path("jobs/new/", views.start_job, name="job-new"),
    path("jobs/<uuid:pk>/", views.job, name="job"),
    path("compare/", views.compare_page, name="compare"),
    path("runs/<uuid:pk>/", views.run, name="run"),
    path("jobs/selection/", job_selection.selection, name="job-selection"),
    path("jobs/<uuid:pk>/cancel/", views.cancel_job, name="job-cancel"),
    path("jobs/<uuid:pk>/retry/", views.retry_job, name="job-retry"),
    path("runs/<uuid:pk>/cancel/", views.cancel_run, name="run-cancel"),
    path("runs/<uuid:pk>/retry/", views.retry_run, name="run-retry"),
    path("operations/", operations_views.operations_page, name="operations"),
    path(
        "operations/alerts/<uuid:pk>/acknowledge/",
        operations_views.acknowledge,
        name="alert-acknowledge",
    ),
    path("operations/silences/", operations_views.silence, name="alert-silence"),
    path("operations/silences/<uuid:pk>/end/", operations_views.end_silence, name="silence-end"),
    path("operations/pauses/", operations_views.begin_pause, name="pause-begin"),
    path("operations/pauses/<str:cause>/end/", operations_views.end_pause, name="pause-end"),
    path(
        "operations/routines/<str:name>/run/", operations_views.run_routine_now, name="routine-run"
    ),
    path(
        "operations/reports/<str:task_id>/", operations_views.routine_report, name="routine-report"
    ),
    path(
        "operations/reports/<str:task_id>/actions/", operations_views.add_action, name="action-add"
    ),
    path(
        "operations/actions/<int:pk>/assign/", operations_views.assign_action, name="action-assign"
    ),
    path("operations/actions/<int:pk>/tick/", operations_views.tick_action, name="action-tick"),
    path("operations/audit/export.csv", operations_views.audit_export, name="audit-export"),
    path("operations/people/", people_views.people_page, name="people"),
    path("operations/checklists/<str:name>/", people_views.checklist_page, name="checklist"),
    path(
        "operations/checklists/<str:name>/tick/", people_views.tick_checklist, name="checklist-tick"
    ),
    path(
        "operations/checklists/<str:name>/sign/", people_views.sign_checklist, name="checklist-sign"
    ),
    path("operations/training/", people_views.training_page, name="training"),
    path("operations/training/tick/", people_views.tick_training, name="training-tick"),
    path("operations/training/confirm/", people_views.confirm_training, name="training-confirm"),
    path(
        "operations/documents/<str:name>/review/",
        people_views.review_document,
        name="document-review",
    ),
    path("operations/guides/<str:name>/", people_views.guide_page, name="guide"),
    path("operations/runbooks/", operations_views.runbooks_page, name="runbooks"),
    path("operations/runbooks/<str:name>/", operations_views.runbook_page, name="runbook"),
    path("certificates/keys.pem", public.certificate_keys, name="certificate-keys"),
    path("certificates/<str:code>.json", public.certificate_json, name="certificate-json"),
    path("certificates/<str:code>.pdf", public.certificate_pdf, name="certificate-pdf"),
    path("certificates/<str:code>/", public.certificate, name="certificate"),
    path("certificates/<str:code>/withdraw/", public.withdraw, name="certificate-withdraw"),
    path("verify/", public.verify, name="verify"),
    # an id may hold dots, colons and slashes (an ARN)
    path("m/<path:api_model_id>/", public.model, name="public-model"),
]
