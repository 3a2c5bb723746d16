"""Totals over all finished runs, each counted once: a million of them are never counted again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from certification.lib import clock
from certification.models.jobs import CertificationRun
from certification.models.routines import RUN_TOTALS, RoutineMark

# Runs become visible when their transactions commit, up to so much after the time they carry.
MARGIN = timedelta(minutes=5)
LATE = timedelta(minutes=15)  # beat counts every minute; without it, whoever asks
KIND = ("status", "verdict", "tier", "backend")
FIGURES = ("runs", "retried", "calls", "cost_usd", "seconds")


class RunTotal(models.Model):
    """How many runs of one kind had finished when they were counted last, what they called and
    cost, and how long they took.
    """

    status = models.CharField(max_length=12)
    verdict = models.CharField(max_length=24, blank=True)
    tier = models.CharField(max_length=10)
    backend = models.CharField(max_length=10)
    runs = models.BigIntegerField(default=0)
    retried = models.BigIntegerField(default=0)
    calls = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=16, decimal_places=6, default=0)
    seconds = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=KIND, name="one_total_per_kind_of_run")]

    def __str__(self) -> str:
        return f"{self.runs} {self.status} {self.verdict}"

    @classmethod
    def count_new(cls) -> datetime:
        """Add what finished since the last time. Return until when runs are counted."""
        until = clock.now() - MARGIN
        with transaction.atomic():
            mark = RoutineMark.lock(RUN_TOTALS)
            if mark.ended_at < until:
                for row in totals_of(mark.ended_at, until):
                    kind = {name: row[name] for name in KIND}
                    cls.objects.get_or_create(**kind)
                    cls.objects.filter(**kind).update(**{n: F(n) + row[n] for n in FIGURES})
                mark.ended_at = until
                mark.save(update_fields=["ended_at"])
        return mark.ended_at

    @classmethod
    def of_all_runs(cls) -> list[Mapping[str, Any]]:
        """Return the totals by kind of all finished runs, also of those since the last count."""
        mark = RoutineMark.objects.filter(name=RUN_TOTALS).first()
        if mark is None or clock.now() - mark.ended_at > LATE:
            until = cls.count_new()
        else:
            until = mark.ended_at
        totals = {kind_of(row): row for row in cls.objects.values(*KIND, *FIGURES)}
        for row in totals_of(until, None):
            total = totals.setdefault(kind_of(row), row)
            if total is not row:
                total.update({name: total[name] + row[name] for name in FIGURES})
        return list(totals.values())


def kind_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in KIND)


def totals_of(since: datetime, until: datetime | None) -> list[dict[str, Any]]:
    """Count the runs that finished after one moment, up to another, by kind."""
    runs = CertificationRun.objects.filter(completed_at__gt=since).order_by()
    if until is not None:
        runs = runs.filter(completed_at__lte=until)
    rows = runs.values(*KIND).annotate(
        runs=Count("pk"),
        retried=Count("pk", filter=Q(attempt__gt=1)),
        calls=Sum("calls"),
        cost_usd=Coalesce(Sum("cost_usd"), 0, output_field=models.DecimalField()),
        seconds=Coalesce(Sum(F("completed_at") - F("started_at")), timedelta()),
    )
    return [dict(row) | {"seconds": row["seconds"].total_seconds()} for row in rows]
