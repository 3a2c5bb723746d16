"""The addresses of the project."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from certification.api import health, maintenance

# Here and not in every process: only these pages need the admin, and loading it takes time.
admin.autodiscover()

urlpatterns = [
    # One login page for everything, the admin included.
    path(
        "admin/login/",
        login_not_required(RedirectView.as_view(pattern_name="login", query_string=True)),
    ),
    # where the board of the queue was before
    re_path(r"^admin/queues/?$", RedirectView.as_view(url="/operations/?tab=queue")),
    path("admin/", admin.site.urls),
    path("health", health.health, name="health"),
    path("health/detailed", health.DetailedHealth.as_view(), name="health-detailed"),
    path("maintenance/housekeeping", maintenance.housekeeping),
    path("maintenance/routine/<str:name>", maintenance.routine),
    path("maintenance/recertify-stale", maintenance.recertify_stale),
    path("maintenance/queue-stats", maintenance.queue_stats),
    path("maintenance/queue/pause", maintenance.pause_queue),
    path("maintenance/queue/resume", maintenance.resume_queue),
    path("maintenance/alerts", maintenance.alerts),
    path("metrics", health.prometheus, name="metrics"),
    path("live", health.live, name="live"),
    path("ready", health.ready, name="ready"),
    path("api/", include("certification.api.urls")),
    path("badges/", include("certification.badges.urls")),
    path("", include("certification.web.urls")),
]
# What reaches no view is answered in the form that its caller reads.
handler400 = "certification.api.envelope.bad_request"
handler403 = "certification.api.envelope.forbidden"
handler404 = "certification.api.envelope.not_found"
handler500 = "certification.api.envelope.server_error"
