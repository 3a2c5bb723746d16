"""How well the targets were met, day by day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from django.db import models, transaction
from django.db.models import F


class TargetDay(models.Model):
    """What was counted of one target on one day (UTC): `good` of `total`. What was not measured is
    in neither.

    `seen_good` and `seen_total` are counters of all time as they were counted last, so that the
    next look adds what came since.
    """

    name = models.CharField(max_length=40)
    day = models.DateField()
    good = models.FloatField(default=0)
    total = models.FloatField(default=0)
    seen_good = models.FloatField(default=0)
    seen_total = models.FloatField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "day"], name="one_row_per_target_and_day")
        ]
        indexes = [models.Index(fields=["day"])]

    def __str__(self) -> str:
        return f"{self.name} {self.day}"

    @classmethod
    def add(cls, name: str, day: date, *, good: float, total: float) -> None:
        """Count more of a target."""
        cls.objects.get_or_create(name=name, day=day)
        row = cls.objects.filter(name=name, day=day)
        row.update(good=F("good") + good, total=F("total") + total)

    @classmethod
    def write(cls, day: date, counts: Mapping[str, tuple[float, float]]) -> None:
        """Set what a day has of some targets, (good, total) by name: rows are read again."""
        TargetDay.objects.bulk_create(
            [
                TargetDay(name=name, day=day, good=good, total=total)
                for name, (good, total) in counts.items()
            ],
            update_conflicts=True,
            unique_fields=["name", "day"],
            update_fields=["good", "total"],
        )

    @classmethod
    @transaction.atomic
    def add_counter(cls, name: str, day: date, *, good: float, total: float) -> None:
        """Count what a counter of all time has more than at the last look. One that is lower than
        then began anew. The first look only notes it.
        """
        last = cls.objects.filter(name=name, day__lte=day).order_by("-day").first()
        row, _created = cls.objects.get_or_create(name=name, day=day)
        if last is not None:
            is_new = total < last.seen_total or good < last.seen_good
            row.good += good if is_new else good - last.seen_good
            row.total += total if is_new else total - last.seen_total
        row.seen_good, row.seen_total = good, total
        row.save(update_fields=["good", "total", "seen_good", "seen_total"])
