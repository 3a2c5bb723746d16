"""Totals over all finished runs: the database counts each run when it ends, so that a million of
them are never counted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.models import Count, Sum

from certification.models import sql

KIND = ("status", "verdict", "tier", "backend")
FIGURES = ("runs", "retried", "calls", "cost_usd", "seconds")
MAX_ROWS = 5_000  # that readers add up; beat folds them every minute


class RunTotal(models.Model):
    """A part of how many runs of one kind have finished, what they called and cost, and how long
    they took. Triggers add rows in the transactions that end runs; the sum over the rows of a kind
    is its total, exact at any time.
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

    def __str__(self) -> str:
        return f"{self.runs} {self.status} {self.verdict}"

    @classmethod
    def fold(cls) -> None:
        """Make one row of the rows of each kind. Whoever reads meanwhile reads the same sums."""
        sql.execute(sql.FOLD_RUN_TOTALS)

    @classmethod
    def of_all_runs(cls) -> list[Mapping[str, Any]]:
        """Return the totals of all finished runs by kind."""
        rows = cls.objects.values(*KIND).annotate(
            rows=Count("pk"), **{f"total_{name}": Sum(name) for name in FIGURES}
        )
        totals: list[Mapping[str, Any]] = [
            {name: row[name] for name in KIND} | {name: row[f"total_{name}"] for name in FIGURES}
            for row in rows
        ]
        if sum(row["rows"] for row in rows) > MAX_ROWS:  # beat is away
            cls.fold()
        return totals
