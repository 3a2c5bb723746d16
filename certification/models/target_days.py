"""How well the targets were met, day by day, and minute by minute for the last days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

from django.db import models, transaction
from django.db.models import F, Q, Sum

Sums = Mapping[timedelta, tuple[float, float]]  # (good, total) of the last time, by its length


class TargetDay(models.Model):
    """What was counted of one target on one day (UTC): `good` of `total`. What was not measured is
    in neither.

    `seen_good` and `seen_total` are counters of all time as they were counted last, so that the
    next look adds what came since. Of a target that allows a day a number of events, `events` are
    those of the day.
    """

    name = models.CharField(max_length=40)
    day = models.DateField()
    good = models.FloatField(default=0)
    total = models.FloatField(default=0)
    seen_good = models.FloatField(default=0)
    seen_total = models.FloatField(default=0)
    events = models.FloatField(default=0, db_default=0)

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
    def add_counter(cls, name: str, day: date, *, good: float, total: float) -> tuple[float, float]:
        """Count what a counter of all time has more than at the last look, and return it: (good,
        total). One that is lower than then began anew. The first look only notes it.
        """
        row, more_good, more = cls.newer(name, day, good, total)
        row.good += more_good
        row.total += more
        row.save(update_fields=["good", "total", "seen_good", "seen_total"])
        return more_good, more

    @classmethod
    @transaction.atomic
    def add_events(cls, name: str, day: date, *, counted: float, allowed: float) -> float:
        """Count the events of a day by their counter of all time, and return how many are new. The
        day is good while they are no more than allowed.
        """
        row, _good, more = cls.newer(name, day, 0, counted)
        row.events += more
        row.good, row.total = float(row.events <= allowed), 1
        row.save(update_fields=["good", "total", "events", "seen_good", "seen_total"])
        return more

    @classmethod
    def newer(
        cls, name: str, day: date, good: float, total: float
    ) -> tuple[TargetDay, float, float]:
        """Return the row of a day, with these counters noted in it, and what they have more."""
        last = cls.objects.filter(name=name, day__lte=day).order_by("-day").first()
        row, _created = cls.objects.get_or_create(name=name, day=day)
        row.seen_good, row.seen_total = good, total
        if last is None:
            return row, 0.0, 0.0
        if total < last.seen_total or good < last.seen_good:
            return row, good, total
        return row, good - last.seen_good, total - last.seen_total


class TargetMinute(models.Model):
    """What one look added to a target, `good` of `total`: for the pace of the last minutes to days.
    Of events that should not be, `total` are the new ones.
    """

    name = models.CharField(max_length=40)
    at = models.DateTimeField()
    good = models.FloatField(default=0)
    total = models.FloatField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["name", "at"], include=["good", "total"], name="target_minutes"),
            models.Index(fields=["at"], name="target_minutes_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.at}"

    @classmethod
    def sums(cls, now: datetime, windows: Iterable[timedelta]) -> dict[str, Sums]:
        """Return what each target has had in the last time, by name and length of that time, in
        one query.
        """
        lengths = sorted(windows)
        rows = cls.objects.filter(at__gt=now - lengths[-1], at__lte=now).values("name")
        sums = {}
        for number, length in enumerate(lengths):
            is_in = Q(at__gt=now - length)
            for column in ("good", "total"):
                sums[f"{column}_{number}"] = Sum(column, filter=is_in, default=0.0)
        return {
            row["name"]: {
                length: (row[f"good_{number}"], row[f"total_{number}"])
                for number, length in enumerate(lengths)
            }
            for row in rows.annotate(**sums)
        }
