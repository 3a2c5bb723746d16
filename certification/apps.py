"""The app: registers the system checks and creates the groups after a migration."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class CertificationConfig(AppConfig):
    name = "certification"
    verbose_name = _("Certification")

    def ready(self) -> None:
        from certification import checks  # noqa: F401, PLC0415 - registers the system checks
        from certification.lib import clock, error_log, request_log, slow_log  # noqa: PLC0415
        from certification.models import ErrorGroup, audit  # noqa: PLC0415 - models exist only now
        from certification.models.accounts import sync_groups  # noqa: PLC0415

        connection_created.connect(clock.measure_at_connect, dispatch_uid="certification.clock")
        connection_created.connect(slow_log.watch_queries, dispatch_uid="certification.slow_log")
        request_log.connect()
        error_log.connect(ErrorGroup.record)
        audit.connect()
        post_migrate.connect(sync_groups, sender=self, dispatch_uid="certification.sync_groups")
