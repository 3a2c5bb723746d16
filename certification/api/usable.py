"""Tell an application or a router, before it calls, whether a model works here, for this, now.

Only a certificate makes a pair usable: passed, not expired, and without proof that a requested
capability is missing. A `quality_warning` works below the promised quality, so it is not usable;
its `status` and `route` let a caller decide otherwise. Results of the emulator have it in
`backend`: they say nothing about AWS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, TypedDict

from django.db.models import F, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification import labels
from certification.api import filters, views
from certification.api.catalogue import RouteKindName
from certification.api.representations import (
    APIName,
    BackendName,
    EndpointName,
    FixJSON,
    RatingName,
    VerdictName,
    fix,
)
from certification.api.views import View
from certification.bedrock import catalogue
from certification.inference import API, Endpoint, RouteTarget
from certification.lib import clock
from certification.models import AIModel, Backend, ModelCertification, Region, Route
from certification.reasons import Status

MAX_ALTERNATIVES = 10
# What runs test although the catalogue declares it for no model: only proof that it is missing
# makes a model unusable.
UNDECLARED = frozenset({"stop_sequences", "structured_output", "shown_reasoning"})


class UsableParams(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200, help_text="Our UUID or the API model id.")
    region = serializers.CharField(
        max_length=32,
        required=False,
        help_text="Default: the region with the best certification.",
    )
    capability = serializers.CharField(
        max_length=40, required=False, help_text="Such as `tools` or `vision`."
    )
    api = serializers.ChoiceField(
        [api.value for api in API],
        required=False,
        help_text="Only a certification by this API makes it usable. Default: by any.",
    )
    maxAgeDays = serializers.FloatField(
        min_value=0, max_value=36_500, required=False, help_text="Maximum age of the certification."
    )


class CallRoute(TypedDict):
    kind: RouteKindName
    targetId: Annotated[str, "The model id to pass in a call."]
    endpoint: EndpointName
    api: APIName
    pathPrefix: Annotated[str, "Of the request's path; empty for `converse` and `invoke`."]


class CertifiedBy(TypedDict):
    endpoint: EndpointName
    api: APIName


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
    """`usable` is true only for a valid certification; otherwise `status` says why not."""

    usable: bool
    status: VerdictName
    model: Annotated[str, "API model id."]
    region: Annotated[
        str | None,
        "The requested region, or the best one; null: none was tested.",
    ]
    route: Annotated[
        CallRoute | None,
        "What to call. Also given for pairs that are not usable, where a route is known.",
    ]
    score: int | None
    rating: RatingName | None
    reason: Annotated[str, "One sentence."]
    errorReason: str | None
    fix: FixJSON | None
    certifiedAt: datetime | None
    validUntil: Annotated[datetime | None, "Check again after this. null when not usable."]
    backend: Annotated[
        BackendName | None,
        "Where the calls went. Results from the `emulator` say nothing about AWS.",
    ]
    certifiedBy: Annotated[
        CertifiedBy | None,
        "How the model was called for `status`, which says nothing about other APIs.",
    ]
    alternatives: Annotated[
        list[Alternative], "Best first: AWS before the emulator, then by score. At most 10."
    ]


class UsableView(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="isUsable",
        parameters=[UsableParams],
        responses={200: Usable},
        tags=["reading"],
    )
    def get(self, request: Request) -> Response:
        """Return whether a model can be called in a region now.

        With the route to call, and other models and regions that could serve.
        """
        params = views.query(request, UsableParams)
        requirements = Requirements(
            model=filters.find_model(params["model"]),
            region=filters.find_region(params["region"]) if "region" in params else None,
            capability=params.get("capability", ""),
            api=params.get("api", ""),
            max_age=timedelta(days=params["maxAgeDays"]) if "maxAgeDays" in params else None,
            now=clock.now(),
        )
        return Response(check(requirements))


@dataclass(frozen=True)
class Requirements:
    """What a caller needs, `now`."""

    model: AIModel
    region: Region | None
    capability: str
    api: str
    max_age: timedelta | None
    now: datetime

    def reason_not_usable(self, row: ModelCertification) -> str:
        """Return why this pair is not usable, as a sentence; '' when it is. Needs `run` loaded."""
        if row.is_expired(self.now):
            return _("The certification expired. Certify the model again.")
        if row.status != Status.CERTIFIED:
            message = row.run.error_message.strip() if row.run else ""
            return message or _("The last run ended as: %s.") % labels.STATUSES[row.status].label
        if self.api and row.run and row.run.api != self.api:
            return _(
                "The model is certified by %(certified)s, not by %(requested)s. "
                "Call it by %(certified)s."
            ) % {
                "certified": labels.APIS.get(row.run.api, row.run.api or "?"),
                "requested": labels.APIS[self.api],
            }
        missing = row.run.environment.get("lacks", ()) if row.run else ()
        if self.capability and isinstance(missing, list) and self.capability in missing:
            return _("The model is certified, but %s does not work here.") % self.capability
        declared = {*row.model.capabilities, *(["streaming"] if row.model.streaming else [])}
        if self.capability and self.capability not in UNDECLARED | declared:
            return _("The catalogue does not list %s for this model.") % self.capability
        until = self.valid_until(row)
        if until is not None and until <= self.now:
            day = f"{row.certified_at:%Y-%m-%d}"
            return _("The certification of %s is older than the requested maximum age.") % day
        return ""

    def valid_until(self, row: ModelCertification) -> datetime | None:
        """Return when the certificate expires or exceeds the maximum age, whichever is first."""
        ends = [row.expires_at]
        if self.max_age is not None:
            ends.append(row.certified_at + self.max_age if row.certified_at else self.now)
        return min(filter(None, ends), default=None)


def check(requirements: Requirements) -> Usable:
    """Check the model's certifications, in at most four queries."""
    model, region, now = requirements.model, requirements.region, requirements.now
    rows = list(with_details(ModelCertification.objects.filter(model=model)))
    candidates = [row for row in rows if region is None or row.region_id == region.pk]
    best = min(
        candidates,
        key=lambda row: (bool(requirements.reason_not_usable(row)), *rank(row)),
        default=None,
    )
    if region is not None and not region.enabled:
        problem = _("Region %s is disabled.") % region.pk
    elif best is not None:
        problem = requirements.reason_not_usable(best)
    elif region is not None:
        problem = _("The model was never tested in %s.") % region.pk
    else:
        problem = _("The model was never tested in any region.")
    run, region_code = best.run if best else None, region.pk if region else None
    if best:
        region_code = best.region_id
    return {
        "usable": not problem,
        "status": best.current(now) if best else Status.NOT_TESTED,
        "model": model.api_model_id,
        "region": region_code,
        "route": route_to_call(requirements, region_code, best) if region_code else None,
        "score": best.score if best else None,
        "rating": (best.rating or None) if best else None,
        "reason": problem or success_message(best),
        "errorReason": (run.error_reason or None) if run else None,
        "fix": fix(run.fix) if run else None,
        "certifiedAt": best.certified_at if best else None,
        "validUntil": requirements.valid_until(best) if best and not problem else None,
        "backend": (best.backend or None) if best else None,
        "certifiedBy": certified_by(best) if best else None,
        "alternatives": find_alternatives(
            requirements, region_code, [row for row in rows if row is not best]
        ),
    }


def with_details(rows: QuerySet[ModelCertification]) -> QuerySet[ModelCertification]:
    """Load what is shown of certifications in enabled regions, and little of their runs."""
    # fmt: off
    fields = (
        "model__api_model_id", "model__name", "model__capabilities", "model__streaming",
        "region_id", "status", "score", "rating", "backend", "certified_at", "expires_at",
        "expired_at", "run__environment", "run__route", "run__route_kind", "run__endpoint",
        "run__api", "run__error_message", "run__error_reason", "run__fix",
    )
    # fmt: on
    return rows.filter(region__enabled=True).select_related("model", "run").only(*fields)


def rank(row: ModelCertification) -> tuple[Any, ...]:
    """Return a sort key that puts the best first: certified, really called, by score."""
    return (
        row.status != Status.CERTIFIED,
        row.backend != Backend.AWS,
        1 if row.score is None else -row.score,
        row.region_id,
        row.model.api_model_id,
    )


def success_message(best: ModelCertification | None) -> str:
    if best is None or best.certified_at is None:
        return _("The model is certified.")
    facts = {"date": f"{best.certified_at:%Y-%m-%d}", "score": best.score, "rating": best.rating}
    if best.backend == Backend.EMULATOR:
        return (
            _("Certified on %(date)s against the emulator with score %(score)s (%(rating)s).")
            % facts
        )
    return _("Certified on %(date)s with score %(score)s (%(rating)s).") % facts


def route_to_call(
    requirements: Requirements, region_code: str, best: ModelCertification | None
) -> CallRoute | None:
    """Return the route that the certificate was achieved with while it exists, else the one that
    would be tried first; of the requested API only.
    """
    routes = Route.objects.filter(model=requirements.model, region=region_code)
    if requirements.api:
        routes = routes.filter(api=requirements.api)
    offered = [call_route(route.target()) for route in sorted(routes, key=lambda r: r.preference)]
    proven = proven_route(best) if best else None
    if proven and requirements.api not in ("", proven["api"]):
        proven = None
    if not offered or (proven and key_of(proven) in {key_of(route) for route in offered}):
        return proven
    return offered[0]


def key_of(route: CallRoute) -> tuple[str, str, str]:
    return route["endpoint"], route["api"], route["targetId"]


def proven_route(row: ModelCertification) -> CallRoute | None:
    """Return the route that the certification's run called."""
    run = row.run
    if not run or not run.route or not run.endpoint:
        return None
    endpoint, api = Endpoint(run.endpoint), API(run.api)
    prefix = catalogue.path_prefix(endpoint, api, run.route)
    return call_route(RouteTarget(run.route, run.route_kind, endpoint, api, prefix))


def call_route(target: RouteTarget) -> CallRoute:
    return {
        "kind": target.kind,
        "targetId": target.target_id,
        "endpoint": target.endpoint.value,
        "api": target.api.value,
        "pathPrefix": target.path_prefix,
    }


def certified_by(row: ModelCertification) -> CertifiedBy | None:
    """Return the endpoint and API that the certification's run called; None without calls."""
    if not row.run or not row.run.endpoint:
        return None
    return {"endpoint": row.run.endpoint, "api": row.run.api}


def find_alternatives(
    requirements: Requirements, region_code: str | None, others: Sequence[ModelCertification]
) -> list[Alternative]:
    """Return usable pairs: the model in `others`, its other regions; and other models of its kind
    in the region (without one: anywhere).
    """
    model, capability, now = requirements.model, requirements.capability, requirements.now
    rows = ModelCertification.objects.valid(now).filter(
        status=Status.CERTIFIED, model__kind=model.kind
    )
    if region_code is not None:
        rows = rows.filter(region=region_code)
    if requirements.api:
        rows = rows.filter(run__api=requirements.api)
    if requirements.max_age is not None:
        rows = rows.filter(certified_at__gt=now - requirements.max_age)
    if capability == "streaming":
        rows = rows.filter(model__streaming=True)
    elif capability and capability not in UNDECLARED:
        rows = rows.filter(model__capabilities__contains=[capability])
    if capability:
        rows = rows.exclude(run__environment__contains={"lacks": [capability]})
    ordered = rows.exclude(model=model).order_by("backend", F("score").desc(nulls_last=True), "pk")
    usable = [
        row
        for row in (*others, *with_details(ordered)[:MAX_ALTERNATIVES])
        if not requirements.reason_not_usable(row)
    ]
    return [
        {
            "model": row.model.api_model_id,
            "modelName": row.model.name,
            "region": row.region_id,
            "score": row.score,
            "rating": row.rating or None,
            "route": proven_route(row),
            "validUntil": requirements.valid_until(row),
            "backend": row.backend or None,
        }
        for row in sorted(usable, key=rank)[:MAX_ALTERNATIVES]
    ]
