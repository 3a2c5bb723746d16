"""The log of a run: what became of it, when, by which worker, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import F, OuterRef
from django.db.models.functions import JSONObject
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from certification.models.jobs import CertificationRun, State


class RunEventQuerySet(models.QuerySet["RunEvent"]):
    def before(self, moment: datetime) -> RunEventQuerySet:
        """Return the events from before then of runs that have ended."""
        return self.filter(at__lt=moment, run__completed_at__isnull=False)

    def of_outer_run(self) -> ArraySubquery:
        """Return an expression for a query of runs: the events of each, as `read` takes them."""
        fields = JSONObject(**{name: F(name) for name in FIELDS})
        rows = self.filter(run=OuterRef("pk")).order_by("pk")
        return ArraySubquery(rows.values(json=fields))

    def read(self, run: CertificationRun, stored: Iterable[Mapping[str, Any]]) -> list[RunEvent]:
        """Return the events of a run that `of_outer_run` read."""
        return [
            RunEvent(**{**fields, "run": run, "at": parse_datetime(fields["at"])})
            for fields in stored
        ]


FIELDS = ("id", "before", "after", "at", "worker", "attempt", "reason", "message")


class RunEvent(models.Model):
    """One change of a run's state. The database writes it, in the statement that changes the run,
    whichever way that is done; nobody can change it. Creation is no event: the run's row tells it.
    """

    # `reason` of a run that went back to the queue; else a reason of an error, or a verdict
    HANDED_BACK: ClassVar = "handed_back"  # the worker stopped, and the attempt does not count
    WORKER_LOST: ClassVar = "worker_lost"  # the worker gave no sign of life
    PROGRAM_ERROR: ClassVar = "program_error"  # our own program failed

    run = models.ForeignKey(
        CertificationRun, on_delete=models.CASCADE, related_name="events", verbose_name=_("run")
    )
    before = models.CharField(_("before"), max_length=12, choices=State.choices)
    after = models.CharField(_("after"), max_length=12, choices=State.choices)
    at = models.DateTimeField(_("at"))
    worker = models.CharField(_("worker"), max_length=100, blank=True)
    attempt = models.PositiveSmallIntegerField(_("attempt"))
    reason = models.CharField(_("reason"), max_length=32, blank=True)
    message = models.CharField(_("message"), max_length=300, blank=True)

    objects = RunEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("run event")
        verbose_name_plural = _("run events")
        ordering = ["pk"]
        indexes = [models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"
