"""Pauses of the bulk queue: since when and why."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from certification.lib import clock
from certification.models import webhooks
from certification.models.jobs import CATEGORIES, REASONS, Backend

if TYPE_CHECKING:
    from certification.inference import Failure


class QueuePauseQuerySet(models.QuerySet["QueuePause"]):
    def current(self, backend: str) -> QueuePause | None:
        """The open pause of this backend, or None."""
        return self.filter(backend=backend, resumed_at__isnull=True).first()


class QueuePause(models.Model):
    """One period in which bulk runs wait because our credentials do not work."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    backend = models.CharField(_("backend"), max_length=10, choices=Backend.choices)
    error_category = models.CharField(_("error category"), max_length=24, choices=CATEGORIES)
    error_reason = models.CharField(_("error reason"), max_length=32, choices=REASONS)
    message = models.TextField(_("message"))
    opened_at = models.DateTimeField(_("opened"), default=timezone.now)
    resumed_at = models.DateTimeField(_("resumed"), null=True, blank=True)

    objects = QueuePauseQuerySet.as_manager()

    class Meta:
        verbose_name = _("queue pause")
        verbose_name_plural = _("queue pauses")
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["backend"],
                condition=Q(resumed_at__isnull=True),
                name="one_open_pause_per_backend",
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.error_reason}"

    @classmethod
    def begin(cls, backend: str, failure: Failure) -> bool:
        """Open a pause. False when one is open already."""
        try:
            with transaction.atomic():
                pause = cls.objects.create(
                    backend=backend,
                    error_category=failure.reason.category,
                    error_reason=failure.reason,
                    message=failure.message,
                    opened_at=clock.now(),
                )
                webhooks.raise_alert(
                    "queue_paused",
                    "critical",
                    f"The queue is paused: {failure.message}",
                    subject={"backend": backend, "reason": failure.reason},
                    once=str(pause.pk),
                )
        except IntegrityError:
            return False
        return True

    def end(self) -> bool:
        """Close the pause. True if this call won."""
        open_row = type(self).objects.filter(pk=self.pk, resumed_at__isnull=True)
        return open_row.update(resumed_at=clock.now()) == 1
