"""What the installation used, day by day: one row for each figure and day (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from django.db import models
from django.db.models.functions import Greatest

ROWS_PER_STATEMENT = 1000


class CapacityDay(models.Model):
    """`value` is what was counted on that day, the figure at the last look of the day, or the
    highest of its looks: monitoring/capacity.py says which, by `name`.
    """

    name = models.CharField(max_length=80)
    day = models.DateField()
    value = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "day"], name="one_row_per_figure_and_day")
        ]
        indexes = [models.Index(fields=["day"])]

    def __str__(self) -> str:
        return f"{self.name} {self.day}"

    @classmethod
    def write(cls, day: date, values: Mapping[str, float]) -> None:
        """Set figures of a day."""
        cls.write_days({day: values})

    @classmethod
    def write_days(cls, days: Mapping[date, Mapping[str, float]]) -> None:
        """Set figures of many days at once."""
        CapacityDay.objects.bulk_create(
            [
                CapacityDay(name=name, day=day, value=value)
                for day, values in days.items()
                for name, value in values.items()
            ],
            batch_size=ROWS_PER_STATEMENT,
            update_conflicts=True,
            unique_fields=["name", "day"],
            update_fields=["value"],
        )

    @classmethod
    def raise_to(cls, day: date, values: Mapping[str, float]) -> None:
        """Set figures of a day where they are higher than what is stored."""
        for name, value in values.items():
            row, is_new = cls.objects.get_or_create(name=name, day=day, defaults={"value": value})
            if not is_new:
                cls.objects.filter(pk=row.pk).update(value=Greatest("value", value))
