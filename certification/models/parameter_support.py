"""Which optional parameters and features a model accepts, as observed by runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db import models
from django.utils.translation import gettext_lazy as _

from certification.models import sql
from certification.models.catalogue import AIModel, Region


class Observation(NamedTuple):
    """What was last observed of a feature; `refusal` is the response to a refused one."""

    accepted: bool
    refusal: Mapping[str, Any]
    seen_at: datetime


class ParameterSupport(models.Model):
    """Whether a model accepts a feature of an operation; the last observation counts.

    `refusal` is the service's response to a refused one. For REFUSAL_TTL later runs do not probe
    it again. An observation that says nothing new is written every REFRESH: the runs of a sweep
    would wait for each other's rows.
    """

    REFUSAL_TTL = timedelta(days=7)
    REFRESH = timedelta(hours=1)

    model = models.ForeignKey(
        AIModel,
        on_delete=models.CASCADE,
        related_name="parameter_support",
        verbose_name=_("model"),
    )
    operation = models.CharField(_("operation"), max_length=40)
    feature = models.CharField(_("feature"), max_length=40)
    accepted = models.BooleanField(_("accepted"))
    refusal = models.JSONField(_("refusal"), default=dict, blank=True)
    region = models.ForeignKey(
        Region, on_delete=models.CASCADE, related_name="+", verbose_name=_("observed in")
    )
    seen_at = models.DateTimeField(_("observed"))

    class Meta:
        db_table = "certification_acceptance"
        verbose_name = _("parameter support")
        verbose_name_plural = _("parameter support")
        ordering = ["model", "operation", "feature"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "operation", "feature"], name="one_acceptance_per_feature"
            )
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.feature}: {self.accepted}"

    @staticmethod
    def record(
        model_id: uuid.UUID,
        region_id: str,
        observed: Mapping[tuple[str, str], Mapping[str, Any] | None],
        at: datetime,
        known: Mapping[tuple[str, str], Observation] = MappingProxyType({}),
    ) -> None:
        """Store what a run observed, as {(operation, feature): the refusal, or None if accepted},
        unless it is `known`.

        In key order, so that two runs never lock crosswise.
        """
        recently = at - ParameterSupport.REFRESH
        news = {
            feature: Observation(refusal is None, dict(refusal or {}), at)
            for feature, refusal in observed.items()
        }
        rows = [
            {
                "operation": key[0],
                "feature": key[1],
                "accepted": new.accepted,
                "refusal": new.refusal,
            }
            for key, new in news.items()
            if not (old := known.get(key))
            or old.seen_at < recently
            or (old.accepted, old.refusal) != (new.accepted, new.refusal)
        ]
        if rows:
            sql.execute(
                sql.RECORD_SUPPORT,
                model=model_id,
                region=region_id,
                now=at,
                observed=json.dumps(rows),
            )

    @staticmethod
    def refusals(
        known: Mapping[tuple[str, str], Observation], now: datetime
    ) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Return the refusals that are fresh enough to be believed, as {(operation, feature): the
        service's response}.
        """
        since = now - ParameterSupport.REFUSAL_TTL
        return {
            feature: last.refusal
            for feature, last in known.items()
            if not last.accepted and last.refusal and last.seen_at > since
        }

    @staticmethod
    def forget(model: AIModel, features: Iterable[tuple[str, str]]) -> None:
        """Delete what a response contradicted, so that the next run probes again."""
        for operation, feature in sorted(features):
            ParameterSupport.objects.filter(
                model=model, operation=operation, feature=feature
            ).delete()
