"""What people who keep the system have done: checklists, steps of their training, drills, reviews
of documents; and whom to call. Persons are named by their e-mail addresses: a row outlives its
user.
"""

from __future__ import annotations

from datetime import date

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from certification.lib import clock

MAX_NOTE = 1000


class Contact(models.Model):
    """Whom to call on a level of the escalation matrix."""

    level = models.PositiveSmallIntegerField(
        _("level"), validators=[MinValueValidator(1), MaxValueValidator(4)]
    )
    name = models.CharField(_("name"), max_length=100)
    reach = models.CharField(
        _("reached by"), max_length=200, help_text=_("A telephone number, an address, a channel.")
    )
    hours = models.CharField(_("when"), max_length=100, blank=True)
    order = models.PositiveSmallIntegerField(_("order"), default=0)

    class Meta:
        verbose_name = _("contact")
        verbose_name_plural = _("contacts")
        ordering = ["level", "order", "name"]

    def __str__(self) -> str:
        return f"L{self.level} {self.name}"


class ChecklistRecord(models.Model):
    """A checklist of one period, which begins on `period`: open until somebody signs it."""

    checklist = models.CharField(max_length=20)
    period = models.DateField(_("period"))
    note = models.CharField(_("note"), max_length=MAX_NOTE, blank=True)
    signed_by = models.CharField(_("signed by"), max_length=254, blank=True)
    signed_at = models.DateTimeField(_("signed"), null=True, blank=True)

    class Meta:
        ordering = ["-period"]
        constraints = [
            models.UniqueConstraint(fields=["checklist", "period"], name="one_record_per_period")
        ]

    def __str__(self) -> str:
        return f"{self.checklist} {self.period}"

    @classmethod
    def begin(cls, checklist: str, period: date) -> ChecklistRecord:
        """Return the record of a period, a new one the first time."""
        return cls.objects.get_or_create(checklist=checklist, period=period)[0]

    def tick(self, item: str, email: str, note: str) -> bool:
        """Note that an item is done. False when it was, or the record is signed."""
        if ChecklistRecord.objects.filter(pk=self.pk, signed_at=None).exists():
            values = {"by": email, "note": note[:MAX_NOTE]}
            return self.ticks.get_or_create(item=item, defaults=values)[1]
        return False

    def sign(self, email: str, note: str) -> bool:
        """Close the record. False when it was closed already."""
        values = {"signed_at": clock.now(), "signed_by": email, "note": note[:MAX_NOTE]}
        return bool(ChecklistRecord.objects.filter(pk=self.pk, signed_at=None).update(**values))


class ChecklistTick(models.Model):
    record = models.ForeignKey(ChecklistRecord, on_delete=models.CASCADE, related_name="ticks")
    item = models.CharField(max_length=40)
    by = models.CharField(max_length=254)
    at = models.DateTimeField(db_default=Now(), editable=False)
    note = models.CharField(max_length=MAX_NOTE, blank=True)

    class Meta:
        ordering = ["at", "pk"]
        constraints = [models.UniqueConstraint(fields=["record", "item"], name="one_tick_per_item")]

    def __str__(self) -> str:
        return f"{self.item}: {self.by}"


class TrainingTick(models.Model):
    """A step of an operator's training that a person has done, or a point of the certificate that
    somebody else confirms. `by` is empty where the system knows it: of drills that were passed.
    """

    person = models.CharField(_("person"), max_length=254)
    step = models.CharField(max_length=40)
    by = models.CharField(max_length=254, blank=True)
    at = models.DateTimeField(db_default=Now(), editable=False)
    note = models.CharField(max_length=MAX_NOTE, blank=True)

    class Meta:
        ordering = ["at", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["person", "step"], name="one_tick_per_person_and_step")
        ]

    def __str__(self) -> str:
        return f"{self.person}: {self.step}"

    @classmethod
    def add(cls, person: str, step: str, by: str = "", note: str = "") -> bool:
        """Note a step. False when it was noted already."""
        values = {"by": by, "note": note[:MAX_NOTE]}
        return cls.objects.get_or_create(person=person, step=step, defaults=values)[1]


class DocumentReview(models.Model):
    """Somebody has read a document and found it right."""

    document = models.CharField(max_length=40)
    version = models.CharField(max_length=20)
    by = models.CharField(max_length=254)
    at = models.DateTimeField(db_default=Now(), editable=False)
    note = models.CharField(max_length=MAX_NOTE, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["document", "-at"], name="document_review_idx")]

    def __str__(self) -> str:
        return f"{self.document} {self.version}"


class Drill(models.Model):
    """A failure that was started for an operator to find and mend. `fixed_at` is when the cause was
    named, `passed` whether the system was well again at the end.
    """

    scenario = models.CharField(max_length=40)
    person = models.CharField(max_length=254)
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    fixed_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    wrong_answers = models.PositiveSmallIntegerField(default=0)
    passed = models.BooleanField(default=False)

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                models.Value(1), condition=Q(ended_at=None), name="one_drill_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.scenario}: {self.person}"

    @classmethod
    def current(cls) -> Drill | None:
        """Return the drill that is on, or None."""
        return cls.objects.filter(ended_at=None).first()

    def end(self, *, passed: bool) -> None:
        self.ended_at, self.passed = clock.now(), passed
        self.save(update_fields=["ended_at", "passed"])
