"""The catalogue as the chat product reads it: who offers which models, and how good they are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from django.db.models import Case, F, Value, When
from django.http.response import HttpResponseBase
from django.utils.text import slugify
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import caching, ratings, stats, views
from certification.api.caching import CacheableResponse
from certification.api.envelope import ApiError
from certification.api.ratings import BadgeWord, Metrics, Scores
from certification.api.representations import OneOf, VerdictName, rounded
from certification.api.views import View
from certification.bedrock import fixes
from certification.bedrock.errors import BedrockError
from certification.lib import clock
from certification.models import (
    AIModel,
    ModelCertification,
    ModelKind,
    Preference,
    Provider,
    Role,
    TestResult,
    Tier,
    User,
)
from certification.monitoring import bedrock_status
from certification.reasons import Status


class ChatModel(TypedDict):
    """Prices are in USD per thousand tokens; 0 where the catalogue has none."""

    id: str
    name: str
    apiModelId: str
    contextWindow: Annotated[int, "0 where the catalogue has none."]
    costPer1kInput: float
    costPer1kOutput: float


class OfferedModel(ChatModel):
    isActive: bool


class ProviderModels(TypedDict):
    id: str
    slug: str
    name: str
    isActive: bool
    models: list[OfferedModel]


class ProviderModelsList(TypedDict):
    providers: list[ProviderModels]


class ListedModelJSON(ChatModel):
    """A model of AWS's own list."""

    providerName: str
    inputModalities: list[str]
    outputModalities: list[str]
    responseStreamingSupported: bool
    isInDatabase: Annotated[bool, "Whether the catalogue has it: only then it can be certified."]


class AvailableModelList(TypedDict):
    models: list[ListedModelJSON]
    totalCount: int


class Validation(TypedDict):
    """Whether Bedrock answers with the server's own credentials."""

    status: Annotated[str, OneOf("valid", "invalid")]
    message: str
    modelsCount: int


class ShortCertification(TypedDict):
    status: VerdictName
    successRate: Annotated[float | None, "Per cent of the verdicts so far that were `certified`."]
    lastChecked: datetime | None


class Availability(TypedDict):
    provider: str
    providerSlug: str
    providerName: str
    isConfigured: Annotated[bool, "Whether there are credentials, and the user offers the model."]
    certification: Annotated[ShortCertification | None, "Of the region where it is best."]


class CapabilityFlags(TypedDict):
    supportsVision: bool
    supportsPromptCache: bool
    supportsFunctionCalling: bool


class Pricing(TypedDict):
    """USD per million tokens."""

    inputPer1M: float | None
    outputPer1M: float | None


class VendorModel(TypedDict):
    id: UUID
    name: str
    apiModelId: str
    contextWindow: int
    maxOutputTokens: int | None
    availableOn: list[Availability]
    capabilities: CapabilityFlags
    pricing: Pricing


class VendorModels(TypedDict):
    id: str
    name: str
    slug: str
    logo: Annotated[str, "Always '': this server has no logos of vendors."]
    models: list[VendorModel]


class VendorModelsList(TypedDict):
    vendors: list[VendorModels]


class RatedModelBase(TypedDict):
    id: UUID
    name: str
    apiModelId: str
    provider: str
    providerName: str
    isAvailable: bool
    contextWindow: int
    capabilities: list[str]


class RatedModel(RatedModelBase, total=False):
    """The fields below are absent for a model that has no verdict now."""

    rating: Annotated[float, "0-5."]
    badge: BadgeWord
    region: Annotated[str, "Where it is best: the rating is that of this region."]
    metrics: Metrics
    scores: Scores
    ratingUpdatedAt: datetime | None


class RatedModelList(TypedDict):
    data: list[RatedModel]


class AllProviders(View):
    @extend_schema(
        operation_id="listProvidersWithModels",
        responses={200: ProviderModelsList},
        tags=["chat product"],
    )
    def get(self, request: Request) -> Response:
        """List who hosts models, with their active text models, those that read most first."""
        return Response(providers_of(chat_models()))


class ConfiguredProviders(View):
    @extend_schema(
        operation_id="listConfiguredProviders",
        responses={200: ProviderModelsList},
        tags=["chat product"],
    )
    def get(self, request: Request) -> Response:
        """List the providers that can be called, with the models that the user offers."""
        if not bedrock_status.bedrock_status.get().configured:
            return Response({"providers": []})
        enabled = enabled_models(views.current_user(request))
        models = [row for row in chat_models() if not enabled or row.api_model_id in enabled]
        return Response(providers_of(models))


class ModelsByVendor(View):
    @extend_schema(
        operation_id="listModelsByVendor",
        responses={200: VendorModelsList},
        tags=["chat product"],
    )
    def get(self, request: Request) -> Response:
        """List the active text models by vendor, each with how it is certified."""
        now, enabled = clock.now(), enabled_models(views.current_user(request))
        configured = bedrock_status.bedrock_status.get().configured
        best = best_certifications(now)
        models = chat_models().select_related("provider").order_by("vendor", "name", "pk")
        body: VendorModelsList = {
            "vendors": [
                {
                    "id": slugify(vendor),
                    "name": vendor,
                    "slug": slugify(vendor),
                    "logo": "",
                    "models": [
                        vendor_model(
                            row,
                            best.get(row.pk),
                            configured and (not enabled or row.api_model_id in enabled),
                        )
                        for row in rows
                    ],
                }
                for vendor, rows in groupby(models, key=lambda row: row.vendor)
            ]
        }
        return Response(body)


class RatedModels(View):
    @extend_schema(
        operation_id="listRatedModels",
        parameters=caching.CONDITIONAL,
        responses={200: RatedModelList, 304: caching.NOT_MODIFIED},
        tags=["chat product"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """List the active models with their rating in the region where they are best."""
        return caching.cached_response(request, "rated-models", {}, lambda: rated(clock.now()))


class AvailableModels(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (409,)}

    @extend_schema(
        operation_id="listAvailableModels",
        responses={200: AvailableModelList},
        tags=["chat product"],
    )
    def get(self, request: Request) -> Response:
        """List the models that AWS lists in the user's region. The list is a minute old at most."""
        preference = Preference.objects.filter(user=views.current_user(request)).first()
        region = (preference and preference.region_id) or bedrock_status.bedrock_status.get().region
        try:
            listed = bedrock_status.listed_models(region).get()
        except BedrockError as error:
            fix = fixes.fix_for(error.reason, region=region, operation="ListFoundationModels")
            raise ApiError(409, str(error.reason), fix.text) from error
        known = AIModel.objects.named([model.model_id for model in listed])
        models = [listed_model(model, known.get(model.model_id)) for model in listed]
        body: AvailableModelList = {"models": models, "totalCount": len(models)}
        return Response(body)


class ValidateCredentials(View):
    roles: ClassVar[dict[str, str]] = {"POST": Role.VIEWER}

    @extend_schema(
        operation_id="validateCredentials",
        request=OpenApiTypes.OBJECT,
        responses={200: Validation},
        tags=["chat product"],
    )
    def post(self, request: Request) -> Response:
        """Return whether Bedrock answers with the server's own credentials.

        It is a real call, at most a minute old. Keys in the body are neither used nor stored.
        """
        views.json_body(request)  # read only to refuse a malformed one, as everywhere
        status = bedrock_status.bedrock_status.get()
        body: Validation = {
            "status": "valid" if status.valid else "invalid",
            "message": stats.message_of(status),
            "modelsCount": status.models,
        }
        return Response(body)


def chat_models() -> Any:
    """Return the active text models, those with the largest context first."""
    models = AIModel.objects.active().filter(kind=ModelKind.TEXT)
    return models.order_by(F("context_window").desc(nulls_last=True), "name", "pk")


def enabled_models(user: User) -> frozenset[str]:
    """Return the API ids of the models that a user offers; none: all."""
    names = Preference.objects.filter(user=user).values_list("enabled_models", flat=True).first()
    return frozenset(names or ())


def best_certifications(now: datetime) -> dict[UUID, ModelCertification]:
    """Return each active model's best certification that is valid now: certified before others, by
    a full run before a quick one, then by score and date. With its run, in one query.
    """
    rows = ModelCertification.objects.valid(now).in_matrix().select_related("run")
    best = rows.order_by(
        "model_id",
        Case(When(status=Status.CERTIFIED, then=Value(0)), default=Value(1)),
        Case(When(tier=Tier.QUICK, then=Value(1)), default=Value(0)),
        F("score").desc(nulls_last=True),
        F("last_tested_at").desc(nulls_last=True),
        "pk",
    ).distinct("model_id")
    return {row.model_id: row for row in best.defer("run__environment")}


def providers_of(models: Iterable[AIModel]) -> ProviderModelsList:
    """Represent the providers with these models."""
    by_provider: dict[str, list[OfferedModel]] = {}
    for row in models:
        offered: OfferedModel = {**chat_model(row), "isActive": row.is_active}
        by_provider.setdefault(row.provider_id, []).append(offered)
    return {
        "providers": [
            {
                "id": row.slug,
                "slug": row.slug,
                "name": row.name,
                "isActive": True,
                "models": by_provider.get(row.slug, []),
            }
            for row in Provider.objects.order_by("slug")
        ]
    }


def chat_model(row: AIModel) -> ChatModel:
    return {
        "id": str(row.pk),
        "name": row.name,
        "apiModelId": row.api_model_id,
        "contextWindow": row.context_window or 0,
        "costPer1kInput": float(row.input_price or 0) / 1000,
        "costPer1kOutput": float(row.output_price or 0) / 1000,
    }


def listed_model(listed: bedrock_status.ListedModel, row: AIModel | None) -> ListedModelJSON:
    """Represent a model of AWS's list, with the facts of the catalogue where it is in it."""
    facts: ChatModel = (
        chat_model(row)
        if row
        else {
            "id": listed.model_id,
            "name": listed.name or listed.model_id,
            "apiModelId": listed.model_id,
            "contextWindow": 0,
            "costPer1kInput": 0.0,
            "costPer1kOutput": 0.0,
        }
    )
    return {
        **facts,
        "apiModelId": listed.model_id,
        "providerName": row.vendor if row else listed.vendor,
        "inputModalities": list(listed.input_modalities),
        "outputModalities": list(listed.output_modalities),
        "responseStreamingSupported": listed.streaming,
        "isInDatabase": row is not None,
    }


def vendor_model(
    row: AIModel, certification: ModelCertification | None, is_configured: bool
) -> VendorModel:
    """Represent a model whose provider is loaded."""
    short: ShortCertification | None = None
    if certification:
        short = {
            "status": certification.status,
            "successRate": rounded(certification.success_rate),
            "lastChecked": certification.last_tested_at,
        }
    return {
        "id": row.pk,
        "name": row.name,
        "apiModelId": row.api_model_id,
        "contextWindow": row.context_window or 0,
        "maxOutputTokens": row.max_output_tokens,
        "availableOn": [
            {
                "provider": row.provider_id,
                "providerSlug": row.provider_id,
                "providerName": row.provider.name,
                "isConfigured": is_configured,
                "certification": short,
            }
        ],
        "capabilities": {
            "supportsVision": "vision" in row.capabilities,
            "supportsPromptCache": "prompt_caching" in row.capabilities,
            "supportsFunctionCalling": "tools" in row.capabilities,
        },
        "pricing": {
            "inputPer1M": None if row.input_price is None else float(row.input_price),
            "outputPer1M": None if row.output_price is None else float(row.output_price),
        },
    }


def rated(now: datetime) -> CacheableResponse:
    """Read every active model with its rating, and when the next of them expires."""
    best = best_certifications(now)
    tallies = TestResult.objects.tallies(row.run_id for row in best.values() if row.run_id)
    models = AIModel.objects.active().select_related("provider").order_by("vendor", "name", "pk")
    data: RatedModelList = {"data": [rated_model(row, best.get(row.pk), tallies) for row in models]}
    expiries = [row.expires_at for row in best.values() if row.expires_at]
    return CacheableResponse(data, until=min(expiries, default=None))


def rated_model(
    row: AIModel, certification: ModelCertification | None, tallies: dict[UUID, tuple[int, int]]
) -> RatedModel:
    model: RatedModel = {
        "id": row.pk,
        "name": row.name,
        "apiModelId": row.api_model_id,
        "provider": row.provider_id,
        "providerName": row.provider.name,
        "isAvailable": row.is_active,
        "contextWindow": row.context_window or 0,
        "capabilities": [*row.capabilities, *(["streaming"] if row.streaming else [])],
    }
    rating = ratings.rating_of(certification.status, certification.score) if certification else None
    if certification is None or rating is None:
        return model
    passed, failed = tallies.get(certification.run_id, (0, 0)) if certification.run_id else (0, 0)
    figures = ratings.metrics(certification.run, passed, failed)
    return {
        **model,
        "rating": rating,
        "badge": ratings.word_of(rating),
        "region": certification.region_id,
        "metrics": figures,
        "scores": ratings.scores(certification.run, figures),
        "ratingUpdatedAt": certification.last_tested_at,
    }
