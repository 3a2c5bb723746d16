"""Pauses of the queue: since when, why, and what waits because of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certification.lib import clock
from certification.models.jobs import CATEGORIES, REASONS, Backend, Priority

if TYPE_CHECKING:
    from certification.inference import Failure


class PauseCause(models.TextChoices):
    """Why there is a pause, from what holds least to what holds most.

    Without working credentials the runs of large jobs wait, and single ones say what is wrong. A
    person's pause holds every run that has not begun. In read-only mode nothing new is accepted
    either.
    """

    CREDENTIALS = "credentials", gettext_lazy("credentials that do not work")
    PERSON = "person", gettext_lazy("a person")
    READ_ONLY = "read_only", gettext_lazy("read-only mode")


class QueuePauseQuerySet(models.QuerySet["QueuePause"]):
    def open(self) -> QueuePauseQuerySet:
        """Those that have not ended, by somebody or by themselves."""
        return self.filter(Q(until=None) | Q(until__gt=clock.now()), resumed_at=None)

    def current(self, backend: str) -> QueuePause | None:
        """The open pause of this backend that holds most, or None. Read-only mode is for all."""
        return QueuePause.strictest(self.open(), backend)

    def read_only(self) -> QueuePause | None:
        """The pause that is read-only mode, or None."""
        return self.open().filter(cause=PauseCause.READ_ONLY).first()

    def create_open(self, **fields: Any) -> QueuePause | None:
        """Begin a pause now. None when one of its backend and cause is open."""
        try:
            with transaction.atomic():
                self.end_lapsed()
                return self.create(opened_at=clock.now(), **fields)
        except IntegrityError:
            return None

    def end_lapsed(self) -> int:
        """Close the pauses whose time is over, and return how many."""
        lapsed = self.filter(until__lte=clock.now(), resumed_at=None)
        return lapsed.update(resumed_at=F("until"))


class QueuePause(models.Model):
    """One period in which runs wait. `message` is why: what AWS answered, or a person's reason.
    `error_*` are of bad credentials only, `opened_by` of persons. It ends by itself at `until`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    backend = models.CharField(gettext_lazy("backend"), max_length=10, choices=Backend.choices)
    # defaults of the database, for processes of the release before
    cause = models.CharField(
        gettext_lazy("cause"),
        max_length=12,
        choices=PauseCause.choices,
        default=PauseCause.CREDENTIALS,
        db_default=PauseCause.CREDENTIALS,
    )
    error_category = models.CharField(
        gettext_lazy("error category"), max_length=24, choices=CATEGORIES, blank=True
    )
    error_reason = models.CharField(
        gettext_lazy("error reason"), max_length=32, choices=REASONS, blank=True
    )
    message = models.TextField(gettext_lazy("message"))
    opened_at = models.DateTimeField(gettext_lazy("opened"), default=timezone.now)
    opened_by = models.CharField(
        gettext_lazy("opened by"), max_length=254, blank=True, db_default=""
    )
    until = models.DateTimeField(gettext_lazy("until"), null=True, blank=True)
    resumed_at = models.DateTimeField(gettext_lazy("resumed"), null=True, blank=True)

    objects = QueuePauseQuerySet.as_manager()

    class Meta:
        verbose_name = gettext_lazy("queue pause")
        verbose_name_plural = gettext_lazy("queue pauses")
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "cause"],
                condition=Q(resumed_at__isnull=True),
                name="one_open_pause_per_cause",
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.error_reason or self.cause}"

    @property
    def is_by_itself(self) -> bool:
        """Whether it began, and ends, with the credentials."""
        return self.cause == PauseCause.CREDENTIALS

    @property
    def is_read_only(self) -> bool:
        return self.cause == PauseCause.READ_ONLY

    @property
    def sentence(self) -> str:
        """What is paused, by whom and why, and how it ends."""
        words = {"who": self.opened_by, "why": self.message}
        match self.cause:
            case PauseCause.READ_ONLY:
                text = _("Read-only mode is on (%(who)s: %(why)s): nothing new is accepted.")
            case PauseCause.PERSON:
                text = _("The queue is paused (%(who)s: %(why)s): no run begins.")
            case _:
                text = _("AWS does not accept the credentials: runs of large jobs wait.")
        if self.until:
            ends = _("It ends by itself at %s UTC.") % self.until.strftime("%Y-%m-%d %H:%M")
            return f"{text % words} {ends}"
        return text % words

    def holds(self, priority: str) -> bool:
        """Whether runs of jobs with this priority wait."""
        return not self.is_by_itself or priority == Priority.BULK

    @staticmethod
    def strictest(pauses: Iterable[QueuePause], backend: str) -> QueuePause | None:
        """Return the one of open pauses that holds most of a backend's queue, None of none."""
        ours = (pause for pause in pauses if pause.backend == backend or pause.is_read_only)
        return max(ours, key=lambda pause: PauseCause.values.index(pause.cause), default=None)

    @classmethod
    def begin(cls, backend: str, failure: Failure) -> bool:
        """Open a pause because of credentials. False when one is open already."""
        pause = cls.objects.create_open(
            backend=backend,
            error_category=failure.reason.category,
            error_reason=failure.reason,
            message=failure.message,
        )
        return pause is not None

    def end(self) -> bool:
        """Close the pause. True if this call won."""
        open_row = type(self).objects.filter(pk=self.pk, resumed_at__isnull=True)
        return open_row.update(resumed_at=clock.now()) == 1
