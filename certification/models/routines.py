"""When the routines of the installation ended well last: what beat has done lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from certification.lib import clock

RECONCILE, ALERTS = "reconcile", "alerts"
BACKUP, RESTORE_DRILL = "backup", "restore drill"
TRANSCRIPTS = "transcripts"  # until when runs have none any more
RUNS = "runs"  # until when some runs are deleted
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class RoutineMark(models.Model):
    """The last good end of one routine, NEVER of one that never ended well, and its last failure.
    `since` is when it was first tried.
    """

    name = models.CharField(_("routine"), max_length=40, primary_key=True)
    ended_at = models.DateTimeField(_("ended"))
    since = models.DateTimeField(db_default=Now(), editable=False)
    failed_at = models.DateTimeField(_("failed"), null=True, blank=True)
    fault = models.TextField(_("fault"), blank=True, db_default="")

    class Meta:
        verbose_name = _("routine")
        verbose_name_plural = _("routines")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def record(cls, name: str) -> None:
        """Note that a routine ended well now."""
        cls.objects.update_or_create(name=name, defaults={"ended_at": clock.now()})

    @classmethod
    def record_failure(cls, name: str, fault: str) -> None:
        """Note that a routine failed now, and why."""
        values = {"failed_at": clock.now(), "fault": fault}
        cls.objects.update_or_create(
            name=name, defaults=values, create_defaults={**values, "ended_at": NEVER}
        )

    @property
    def ended_well(self) -> bool:
        """Whether it ever ended well."""
        return self.ended_at != NEVER

    @property
    def has_failed(self) -> bool:
        """Whether its last end was a failure."""
        return self.failed_at is not None and self.failed_at > self.ended_at

    @classmethod
    def ages(cls) -> dict[str, timedelta]:
        """Return how long ago each routine ended well."""
        now = clock.now()
        return {mark.name: now - mark.ended_at for mark in cls.objects.all()}

    @classmethod
    def lock(cls, name: str) -> RoutineMark:
        """Return a routine's mark, locked until the transaction ends; the first one is of NEVER.
        Call inside a transaction.
        """
        cls.objects.get_or_create(name=name, defaults={"ended_at": NEVER})
        return cls.objects.select_for_update().get(name=name)
