"""What somebody has to do after a routine: written by its report or by hand, open until it is
ticked.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from certification.lib import clock

MAX_TEXT = 1000


class NextActionQuerySet(models.QuerySet["NextAction"]):
    def open(self) -> NextActionQuerySet:
        return self.filter(done_at=None)

    def carry_over(self, routine: str, report: str, faults: Iterable[tuple[str, str]]) -> None:
        """Have an open action for each fault of a report, (step, text): the one that is open
        already, with the new text, or a new one.
        """
        for step, text in faults:
            values = {"text": text[:MAX_TEXT], "report": report}
            if not self.open().filter(routine=routine, step=step).update(**values):
                row = self.model(routine=routine, step=step, **values)
                self.bulk_create([row], ignore_conflicts=True)


class NextAction(models.Model):
    """`step` is the step that failed, empty for an action that a person wrote; `report` is the id
    of the task whose report named it last. Persons are named by their e-mail addresses: a row
    outlives its user.
    """

    routine = models.CharField(_("routine"), max_length=40)
    step = models.CharField(_("step"), max_length=100, blank=True)
    text = models.CharField(_("action"), max_length=MAX_TEXT)
    report = models.CharField(max_length=255, db_index=True)
    opened_at = models.DateTimeField(_("opened"), db_default=Now(), editable=False)
    assigned_to = models.CharField(_("assigned to"), max_length=254, blank=True)
    done_at = models.DateTimeField(_("done"), null=True, blank=True)
    done_by = models.CharField(_("done by"), max_length=254, blank=True)
    note = models.CharField(_("note"), max_length=MAX_TEXT, blank=True)

    objects = NextActionQuerySet.as_manager()

    class Meta:
        verbose_name = _("next action")
        verbose_name_plural = _("next actions")
        ordering = ["opened_at", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["routine", "step"],
                condition=Q(done_at=None) & ~Q(step=""),
                name="one_open_action_per_step",
            )
        ]

    def __str__(self) -> str:
        return self.text

    def assign(self, email: str) -> bool:
        """Name who does it, "" for nobody. False when it is done already."""
        return bool(NextAction.objects.open().filter(pk=self.pk).update(assigned_to=email))

    def tick(self, email: str, note: str = "") -> bool:
        """Note that it is done. False when it was done already."""
        values = {"done_at": clock.now(), "done_by": email, "note": note[:MAX_TEXT]}
        return bool(NextAction.objects.open().filter(pk=self.pk).update(**values))
