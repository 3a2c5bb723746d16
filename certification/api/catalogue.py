"""The catalogue: models with their routes and certifications, providers, vendors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import filters, views
from certification.api.envelope import not_found_error
from certification.api.filters import ChoiceListField, Paged
from certification.api.representations import (
    APIName,
    BackendName,
    EndpointName,
    OneOf,
    Pagination,
    RatingName,
    VerdictName,
)
from certification.api.views import View
from certification.lib import clock
from certification.models import (
    AIModel,
    Lifecycle,
    ModelAlias,
    ModelCertification,
    ModelKind,
    Provider,
    Route,
    RouteKind,
)
from certification.models.catalogue import RouteSource
from certification.reasons import Status

MAX_MODELS = 500
KindName = Annotated[str, OneOf(*ModelKind.values)]
LifecycleName = Annotated[str, OneOf(*Lifecycle.values)]
RouteKindName = Annotated[str, OneOf(*RouteKind.values)]


class ModelFilters(Paged):
    vendor = serializers.CharField(
        max_length=100, required=False, help_text="As GET /vendors names it, in any case."
    )
    kind = ChoiceListField(ModelKind.values, help_text="Kinds, separated by commas.")
    region = serializers.CharField(
        max_length=32, required=False, help_text="Only models with a route there."
    )
    capability = serializers.CharField(
        max_length=40, required=False, help_text="Such as `tools` or `vision`."
    )
    status = ChoiceListField(
        [status.value for status in Status],
        help_text="Statuses, separated by commas: in any region, or in `region` if given.",
    )
    search = serializers.CharField(
        max_length=200, required=False, help_text="Words in the name, id or vendor."
    )
    active = serializers.BooleanField(required=False, allow_null=True, default=None)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_MODELS, default=100)


class ModelJSON(TypedDict):
    """One model of the catalogue. Prices are in USD per million tokens."""

    id: UUID
    apiModelId: str
    aliases: Annotated[list[str], "Other ids that name it here, such as its id on bedrock-mantle."]
    name: str
    vendor: str
    providerId: str
    kind: KindName
    capabilities: list[str]
    inputModalities: list[str]
    outputModalities: list[str]
    streaming: bool
    contextWindow: int | None
    maxOutputTokens: int | None
    dimensions: Annotated[int | None, "Default length of an embedding model's vectors."]
    inputPrice: float | None
    outputPrice: float | None
    lifecycle: LifecycleName
    endOfLifeOn: Annotated[str | None, "YYYY-MM-DD."]
    isActive: Annotated[bool, "Only active models are certified in sweeps."]
    regions: Annotated[list[str], "Enabled regions in which the catalogue has a route."]
    certifiedIn: Annotated[list[str], "Enabled regions in which it is certified now."]
    createdAt: datetime
    updatedAt: datetime


class ModelPage(TypedDict):
    models: list[ModelJSON]
    pagination: Pagination


class RouteRefusal(TypedDict):
    reason: str
    message: Annotated[str, "What Bedrock answered."]
    at: datetime


class CatalogueRoute(TypedDict):
    """One way to call a model."""

    region: str
    regionName: str
    kind: RouteKindName
    targetId: Annotated[str, "The model id to pass in a call."]
    endpoint: EndpointName
    api: APIName
    pathPrefix: Annotated[str, "Of the request's path; empty for `converse` and `invoke`."]
    lastRefusal: Annotated[RouteRefusal | None, "null: it answered last, or was never refused."]
    source: Annotated[str, OneOf(*RouteSource.values)]
    lastSeenAt: datetime | None


class RegionCertification(TypedDict):
    """The model's status in a region. An expired one is `not_tested` and has its last score."""

    region: str
    regionName: str
    status: VerdictName
    passed: bool
    score: int | None
    rating: RatingName | None
    isExpired: bool
    certifiedAt: datetime | None
    expiresAt: datetime | None
    lastTestedAt: datetime | None
    backend: BackendName | None
    runId: UUID | None


class ModelDetail(ModelJSON):
    routes: Annotated[list[CatalogueRoute], "In the order in which they are tried."]
    certifications: list[RegionCertification]


class ProviderAnswer(TypedDict):
    id: str
    slug: str
    name: str
    models: int
    activeModels: int


class ProviderList(TypedDict):
    providers: list[ProviderAnswer]


class Vendor(TypedDict):
    name: str
    models: int
    activeModels: int


class VendorList(TypedDict):
    vendors: list[Vendor]


def find_model(name: str) -> AIModel:
    """Return a model by UUID or API model id, with its regions. Raises 404 `model_not_found`."""
    models: dict[str, AIModel] = {}
    if name.isprintable():  # PostgreSQL refuses NUL
        models = with_regions(AIModel.objects.all(), clock.now()).named([name])
    if name not in models:
        text = _("There is no model %s. GET /api/models lists them.") % name[:200]
        raise not_found_error("model_not_found", text)
    return models[name]


class ModelList(View):
    @extend_schema(
        operation_id="listModels",
        parameters=[ModelFilters],
        responses={200: ModelPage},
        tags=["catalogue"],
    )
    def get(self, request: Request) -> Response:
        """List models, retired and inactive ones too, ordered by vendor and name."""
        params, now = views.query(request, ModelFilters), clock.now()
        rows = filter_models(params, now)
        page, limit = params["page"], params["limit"]
        body: ModelPage = {
            "pagination": filters.pagination(page, limit, rows.count()),
            "models": [
                model(row) for row in filters.slice_of(with_regions(rows, now), page, limit)
            ],
        }
        return Response(body)


def filter_models(params: Mapping[str, Any], now: datetime) -> QuerySet[AIModel]:
    """Return the models that checked parameters select. Raises 400 for an unknown region."""
    rows: QuerySet[AIModel] = AIModel.objects.all()
    if "vendor" in params:
        rows = rows.filter(vendor__iexact=params["vendor"])
    if "kind" in params:
        rows = rows.filter(kind__in=params["kind"])
    if "capability" in params:
        rows = rows.filter(capabilities__contains=[params["capability"]])
    if params["active"] is not None:
        rows = rows.filter(is_active=params["active"])
    for word in params.get("search", "").split():
        rows = rows.filter(
            Q(name__icontains=word)
            | Q(api_model_id__icontains=word)
            | Q(vendor__icontains=word)
            | Q(pk__in=ModelAlias.objects.filter(alias__icontains=word).values("model"))
        )
    routes = Route.objects.filter(model=OuterRef("pk"), region__enabled=True)
    live = ModelCertification.objects.valid(now)
    certifications = live.filter(model=OuterRef("pk"), region__enabled=True)
    if "region" in params:
        region = filters.find_region(params["region"])
        routes, certifications = routes.filter(region=region), certifications.filter(region=region)
        rows = rows.filter(Exists(routes))
    if "status" in params:
        selected = Q(Exists(certifications.filter(status__in=params["status"])))
        if Status.NOT_TESTED in params["status"]:  # also where it was never tested, or has expired
            tested = live.filter(model=OuterRef("model"), region=OuterRef("region"))
            selected |= Q(Exists(routes.exclude(Exists(tested))))
        rows = rows.filter(selected)
    return rows


def with_regions(rows: Any, now: datetime) -> Any:
    """Add `offered_in`, `certified_in` and `other_ids` to the models, in the same query."""
    offered = Route.objects.filter(model=OuterRef("pk"), region__enabled=True)
    certified = ModelCertification.objects.valid(now).filter(
        model=OuterRef("pk"), region__enabled=True, status=Status.CERTIFIED
    )
    return rows.with_other_ids().annotate(
        offered_in=ArraySubquery(offered.order_by("region_id").values("region_id").distinct()),
        certified_in=ArraySubquery(certified.order_by("region_id").values("region_id")),
    )


def model(row: AIModel) -> ModelJSON:
    """Represent a model that `with_regions` read."""
    return {
        "id": row.pk,
        "apiModelId": row.api_model_id,
        "aliases": row.other_ids,  # type: ignore[attr-defined]
        "name": row.name,
        "vendor": row.vendor,
        "providerId": row.provider_id,
        "kind": row.kind,
        "capabilities": row.capabilities,
        "inputModalities": row.input_modalities,
        "outputModalities": row.output_modalities,
        "streaming": row.streaming,
        "contextWindow": row.context_window,
        "maxOutputTokens": row.max_output_tokens,
        "dimensions": row.dimensions,
        "inputPrice": None if row.input_price is None else float(row.input_price),
        "outputPrice": None if row.output_price is None else float(row.output_price),
        "lifecycle": row.lifecycle,
        "endOfLifeOn": row.end_of_life_on.isoformat() if row.end_of_life_on else None,
        "isActive": row.is_active,
        "regions": row.offered_in,  # type: ignore[attr-defined]
        "certifiedIn": row.certified_in,  # type: ignore[attr-defined]
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    }


class ModelById(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(operation_id="getModel", responses={200: ModelDetail}, tags=["catalogue"])
    def get(self, request: Request, model_id: str) -> Response:
        """Return a model by UUID or API model id.

        With its routes and its status in each enabled region.
        """
        row, now = find_model(model_id), clock.now()
        routes = Route.objects.filter(model=row, region__enabled=True).select_related("region")
        certifications = ModelCertification.objects.filter(
            model=row, region__enabled=True
        ).select_related("region")
        body: ModelDetail = {
            **model(row),
            "routes": [
                {
                    "region": route.region_id,
                    "regionName": route.region.name,
                    "kind": route.kind,
                    "targetId": route.target_id,
                    "endpoint": route.endpoint,
                    "api": route.api,
                    "pathPrefix": route.path_prefix,
                    "lastRefusal": route.last_refusal,
                    "source": route.source,
                    "lastSeenAt": route.last_seen_at,
                }
                for route in sorted(routes, key=lambda route: (route.region_id, *route.preference))
            ],
            "certifications": [
                region_certification(entry, now) for entry in certifications.order_by("region_id")
            ],
        }
        return Response(body)


def region_certification(row: ModelCertification, now: datetime) -> RegionCertification:
    """Represent a certification whose region is loaded."""
    status = row.current(now)
    return {
        "region": row.region_id,
        "regionName": row.region.name,
        "status": status,
        "passed": status == Status.CERTIFIED,
        "score": row.score,
        "rating": row.rating or None,
        "isExpired": row.is_expired(now),
        "certifiedAt": row.certified_at,
        "expiresAt": row.expires_at,
        "lastTestedAt": row.last_tested_at,
        "backend": row.backend or None,
        "runId": row.run_id,
    }


class Providers(View):
    @extend_schema(operation_id="listProviders", responses={200: ProviderList}, tags=["catalogue"])
    def get(self, request: Request) -> Response:
        """List who hosts models, and how many."""
        rows = Provider.objects.annotate(
            count=Count("models"), active=Count("models", filter=Q(models__is_active=True))
        ).order_by("slug")
        body: ProviderList = {
            "providers": [
                {
                    "id": row.slug,
                    "slug": row.slug,
                    "name": row.name,
                    "models": row.count,
                    "activeModels": row.active,
                }
                for row in rows
            ]
        }
        return Response(body)


class Vendors(View):
    @extend_schema(operation_id="listVendors", responses={200: VendorList}, tags=["catalogue"])
    def get(self, request: Request) -> Response:
        """List who makes models, and how many."""
        models = AIModel.objects.order_by("vendor").values("vendor")
        rows = models.annotate(count=Count("pk"), active=Count("pk", filter=Q(is_active=True)))
        body: VendorList = {
            "vendors": [
                {"name": name, "models": count, "activeModels": active}
                for name, count, active in rows.values_list("vendor", "count", "active")
            ]
        }
        return Response(body)
