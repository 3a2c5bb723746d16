"""What an application or a router asks before it calls: does this model work here, for this, now?

Only a certificate makes a pair usable: passed, not past its date, and no capability asked for that
the run proved absent. A `quality_warning` works and falls short of the quality that is promised, so
it is not usable; its `status` and `route` let a caller decide otherwise. Results of the emulator
say so in `backend`: they tell nothing of AWS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, TypedDict

from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification import labels
from certification.api import filters, views
from certification.api.catalogue import RouteKindName
from certification.api.representations import BackendName, FixJSON, RatingName, VerdictName, fix
from certification.api.views import View
from certification.models import AIModel, Backend, ModelCertification, Region, Route, RouteKind
from certification.reasons import Status

MOST_ALTERNATIVES = 10
# What runs test although the catalogue declares it of no model: only a proof to the contrary speaks
# against it.
UNDECLARED = frozenset({"stop_sequences", "structured_output", "shown_reasoning"})
CALLABLE = frozenset(RouteKind.values) - {RouteKind.MANTLE}


class Question(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200, help_text="Our UUID or the API model id.")
    region = serializers.CharField(
        max_length=32,
        required=False,
        help_text="Without one the region with the best certificate is told.",
    )
    capability = serializers.CharField(
        max_length=40, required=False, help_text="Such as `tools` or `vision`."
    )
    maxAgeDays = serializers.FloatField(
        min_value=0, max_value=36_500, required=False, help_text="How old the certificate may be."
    )


class CallRoute(TypedDict):
    kind: RouteKindName
    targetId: Annotated[str, "What to pass as the model id of a call."]


class Alternative(TypedDict):
    """A certified pair that could serve instead: another region of the model, or another model."""

    model: Annotated[str, "API model id."]
    modelName: str
    region: str
    score: int | None
    rating: RatingName | None
    route: CallRoute | None
    validUntil: datetime | None
    backend: BackendName | None


class Usable(TypedDict):
    """The answer. `usable` only for a certificate that holds; `status` says what there is instead."""

    usable: bool
    status: VerdictName
    model: Annotated[str, "API model id."]
    region: Annotated[
        str | None,
        "The region that was asked for, or that the answer is about; null: none was tested.",
    ]
    route: Annotated[
        CallRoute | None, "What to call. Also told of what is not usable, where a route is known."
    ]
    score: int | None
    rating: RatingName | None
    reason: Annotated[str, "One sentence."]
    errorReason: str | None
    fix: FixJSON | None
    certifiedAt: datetime | None
    validUntil: Annotated[datetime | None, "Ask again after this. null when not usable."]
    backend: Annotated[
        BackendName | None, "Where the calls behind this went. `emulator` tells nothing of AWS."
    ]
    alternatives: Annotated[
        list[Alternative], "Best first: AWS before the emulator, then by score. At most 10."
    ]


class UsableView(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="isUsable", parameters=[Question], responses={200: Usable}, tags=["reading"]
    )
    def get(self, request: Request) -> Response:
        """Whether a model can be called in a region now, with which route, and what else could
        serve.
        """
        given = views.query(request, Question)
        model = filters.find_model(given["model"])
        region = filters.find_region(given["region"]) if "region" in given else None
        age = timedelta(days=given["maxAgeDays"]) if "maxAgeDays" in given else None
        return Response(
            answer(Asked(model, region, given.get("capability", ""), age, timezone.now()))
        )


@dataclass(frozen=True)
class Asked:
    """What must hold, `now`."""

    model: AIModel
    region: Region | None
    capability: str
    age: timedelta | None
    now: datetime

    def reason_not_usable(self, row: ModelCertification) -> str:
        """Why this pair is not usable, as a sentence; '' when it is. Wants `run` loaded."""
        if row.is_expired(self.now):
            return _("Its certification expired. Certify it again.")
        if row.status != Status.CERTIFIED:
            return _why(row)
        if self.capability and self.capability in self.lacks(row):
            return _("It is certified, but was seen to lack %s here.") % self.capability
        if not self.declares(row.model):
            return _("The catalogue does not declare %s of this model.") % self.capability
        until = self.valid_until(row)
        if until is not None and until <= self.now:
            return (
                _("It was certified on %s, which is longer ago than you ask for.")
                % f"{row.certified_at:%Y-%m-%d}"
            )
        return ""

    def declares(self, model: AIModel) -> bool:
        """Whether the catalogue says that the model has the capability, or nothing about it."""
        has = {*model.capabilities, *(["streaming"] if model.streaming else [])}
        return not self.capability or self.capability in UNDECLARED or self.capability in has

    @staticmethod
    def lacks(row: ModelCertification) -> Sequence[str]:
        """Capabilities that the run behind the certificate proved absent."""
        found = row.run.environment.get("lacks", ()) if row.run else ()
        return found if isinstance(found, list) else ()

    def valid_until(self, row: ModelCertification) -> datetime | None:
        """When the certificate expires or is older than asked for, whichever is first."""
        ends = [row.expires_at]
        if self.age is not None:
            ends.append(row.certified_at + self.age if row.certified_at else self.now)
        return min(filter(None, ends), default=None)


def answer(asked: Asked) -> Usable:
    """In at most four queries."""
    standings = list(_told(ModelCertification.objects.filter(model=asked.model)))
    mine = [row for row in standings if asked.region is None or row.region_id == asked.region.pk]
    best = min(
        mine, key=lambda row: (bool(asked.reason_not_usable(row)), *_rank(row)), default=None
    )
    reason_not_usable = _objection(asked, best)
    others = [row for row in standings if row is not best]
    return {
        "usable": not reason_not_usable,
        "status": best.current(asked.now) if best else Status.NOT_TESTED,
        "model": asked.model.api_model_id,
        "region": best.region_id if best else asked.region.pk if asked.region else None,
        "route": _route(asked, best),
        "score": best.score if best else None,
        "rating": (best.rating or None) if best else None,
        "reason": reason_not_usable or _success_message(best),
        "errorReason": (best.run.error_reason or None) if best and best.run else None,
        "fix": fix(best.run.fix) if best and best.run else None,
        "certifiedAt": best.certified_at if best else None,
        "validUntil": asked.valid_until(best) if best and not reason_not_usable else None,
        "backend": (best.backend or None) if best else None,
        "alternatives": _alternatives(asked, best, others),
    }


def _told(rows: QuerySet[ModelCertification]) -> QuerySet[ModelCertification]:
    """With what is told of them, and nothing else of their runs."""
    told = rows.filter(region__enabled=True).select_related("model", "run")
    return told.only(
        "model__api_model_id",
        "model__name",
        "model__capabilities",
        "model__streaming",
        "region_id",
        "status",
        "score",
        "rating",
        "backend",
        "certified_at",
        "expires_at",
        "expired_at",
        "run__environment",
        "run__route",
        "run__route_kind",
        "run__error_message",
        "run__error_reason",
        "run__fix",
    )


def _rank(row: ModelCertification) -> tuple[Any, ...]:
    """The best first: certified, really called, by score."""
    score = -1 if row.score is None else row.score
    return (
        row.status != Status.CERTIFIED,
        row.backend != Backend.AWS,
        -score,
        row.region_id,
        row.model.api_model_id,
    )


def _objection(asked: Asked, best: ModelCertification | None) -> str:
    if asked.region is not None and not asked.region.enabled:
        return _("The region %s is switched off.") % asked.region.pk
    if best is not None:
        return asked.reason_not_usable(best)
    if asked.region is not None:
        return _("It was never tested in %s.") % asked.region.pk
    return _("It was never tested anywhere.")


def _why(row: ModelCertification) -> str:
    said = row.run.error_message.strip() if row.run else ""
    return said or _("Its last run ended as: %s.") % labels.STATUSES[row.status].label


def _success_message(best: ModelCertification | None) -> str:
    if best is None or best.certified_at is None:
        return _("It is certified.")
    said = {"date": f"{best.certified_at:%Y-%m-%d}", "score": best.score, "rating": best.rating}
    if best.backend == Backend.EMULATOR:
        return (
            _("Certified on %(date)s against the emulator with score %(score)s (%(rating)s).")
            % said
        )
    return _("Certified on %(date)s with score %(score)s (%(rating)s).") % said


def _route(asked: Asked, best: ModelCertification | None) -> CallRoute | None:
    """The route that the certificate was won by while it is there, else the one that would be tried
    first.
    """
    region = best.region_id if best else asked.region.pk if asked.region else None
    if region is None:
        return None
    known = [
        row
        for row in Route.objects.filter(model=asked.model, region=region)
        if row.kind in CALLABLE
    ]
    proven = _proven(best) if best else None
    if not known or (proven and proven["targetId"] in {row.target_id for row in known}):
        return proven
    first = min(known, key=lambda row: row.preference)
    return _call(first.kind, first.target_id)


def _proven(row: ModelCertification) -> CallRoute | None:
    if not row.run or not row.run.route or row.run.route_kind not in CALLABLE:
        return None
    return _call(row.run.route_kind, row.run.route)


def _call(kind: str, target: str) -> CallRoute:
    return {"kind": kind, "targetId": target}


def _alternatives(
    asked: Asked, best: ModelCertification | None, others: Sequence[ModelCertification]
) -> list[Alternative]:
    """Usable pairs: other regions of the model; other models of its kind in the region (without
    one: anywhere).
    """
    region = asked.region.pk if asked.region else best.region_id if best else None
    rows = ModelCertification.objects.live(asked.now).filter(
        status=Status.CERTIFIED, model__kind=asked.model.kind
    )
    if region is not None:
        rows = rows.filter(region=region)
    if asked.age is not None:
        rows = rows.filter(certified_at__gt=asked.now - asked.age)
    if asked.capability == "streaming":
        rows = rows.filter(model__streaming=True)
    elif asked.capability and asked.capability not in UNDECLARED:
        rows = rows.filter(model__capabilities__contains=[asked.capability])
    if asked.capability:
        rows = rows.exclude(run__environment__contains={"lacks": [asked.capability]})
    ordered = rows.exclude(model=asked.model).order_by(
        "backend", F("score").desc(nulls_last=True), "pk"
    )
    found = [
        row
        for row in (*others, *_told(ordered)[:MOST_ALTERNATIVES])
        if not asked.reason_not_usable(row)
    ]
    return [_alternative(asked, row) for row in sorted(found, key=_rank)[:MOST_ALTERNATIVES]]


def _alternative(asked: Asked, row: ModelCertification) -> Alternative:
    return {
        "model": row.model.api_model_id,
        "modelName": row.model.name,
        "region": row.region_id,
        "score": row.score,
        "rating": row.rating or None,
        "route": _proven(row),
        "validUntil": asked.valid_until(row),
        "backend": row.backend or None,
    }
