"""What models can be asked to do: public, as measured by runs, else as the catalogue says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from certification.api import caching, providers
from certification.api.authentication import ANYBODY
from certification.api.caching import CacheableResponse
from certification.api.envelope import not_found_error
from certification.api.views import View
from certification.bedrock.dialects.quirks import quirks_of
from certification.lib import clock
from certification.models import AIModel, ModelCertification, ParameterSupport, Route, RouteKind

MAX_AGE_S = 60
MAX_STOP_SEQUENCES = 4  # that every API takes
DEFAULT_MAX_TOKENS = 4096  # for a model whose limit the catalogue does not have
# The Converse API's limits; top_k has none there, and only these vendors' own APIs document one.
TEMPERATURE, TOP_P = (0.0, 1.0, 0.7), (0.0, 1.0, 0.9)
TOP_K: Mapping[str, tuple[int, int, int]] = {"Anthropic": (0, 500, 250), "Cohere": (0, 500, 50)}
# What a run observes by another name.
OBSERVED_AS: Mapping[str, tuple[str, ...]] = {
    "functionCalling": ("tools",),
    "stopSequences": ("stop_sequences",),
    "systemPrompt": ("system",),
    "temperature": ("temperature",),
    "vision": ("vision",),
    "streaming": ("streaming",),
}


class Switch(TypedDict):
    enabled: bool


class NumberRange(TypedDict):
    enabled: bool
    min: float
    max: float
    default: float


class IntegerRange(TypedDict):
    enabled: bool
    min: int
    max: int
    default: int


class StopSequences(TypedDict):
    enabled: bool
    max: Annotated[int, "How many."]


class Capabilities(TypedDict):
    temperature: NumberRange
    topP: NumberRange
    topK: IntegerRange
    maxTokens: IntegerRange
    stopSequences: StopSequences
    streaming: Switch
    vision: Switch
    functionCalling: Switch
    systemPrompt: Switch
    maxContextWindow: Annotated[int, "0 where the catalogue has none."]
    maxOutputTokens: int
    requiresInferenceProfile: Annotated[bool, "Whether no route calls the bare model id."]
    measured: Annotated[list[str], "The names above that runs have observed."]


class Public(View):
    authentication_classes = ()
    roles: ClassVar[dict[str, str]] = {"GET": ANYBODY}

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Let proxies and browsers store the answer: it is the same for everybody."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if final.status_code in (200, 304):
            final["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
            final["Vary"] = "Accept-Language"
        return final


class AllCapabilities(Public):
    @extend_schema(
        operation_id="getAllCapabilities",
        parameters=caching.CONDITIONAL,
        responses={200: dict[str, Capabilities], 304: caching.NOT_MODIFIED},
        tags=["public"],
        auth=[],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return the capabilities of every active text model, by API model id."""
        return caching.cached_response(
            request, "capabilities", {}, lambda: CacheableResponse(read_capabilities())
        )


class CapabilitiesOfModel(Public):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="getCapabilities",
        parameters=[
            OpenApiParameter(
                "model_id",
                str,
                OpenApiParameter.PATH,
                description="Our UUID or the API model id.",
            ),
            *caching.CONDITIONAL,
        ],
        responses={200: Capabilities, 304: caching.NOT_MODIFIED},
        tags=["public"],
        auth=[],
    )
    def get(self, request: Request, model_id: str) -> HttpResponseBase:
        """Return the capabilities of one model."""
        return caching.cached_response(
            request,
            "capabilities",
            {"model": model_id[:300]},
            lambda: CacheableResponse(capabilities_named(model_id)),
        )


def capabilities_named(name: str) -> Capabilities:
    """Return the capabilities of a model by UUID, API model id or alias. Raises 404."""
    models = AIModel.objects.named([name]) if name.isprintable() else {}
    if name not in models:
        raise not_found_error("model_not_found", _("There is no model %s.") % name[:200])
    model = models[name]
    return capabilities_of(model, observed([model.pk]).get(model.pk, {}), bare_ids([model.pk]))


def read_capabilities() -> dict[str, Capabilities]:
    """Read the capabilities of all active text models, in four queries."""
    models = list(providers.chat_models())
    ids = [model.pk for model in models]
    features, bare = observed(ids), bare_ids(ids)
    return {
        model.api_model_id: capabilities_of(model, features.get(model.pk, {}), bare)
        for model in models
    }


def observed(models: Collection[UUID]) -> dict[UUID, dict[str, bool]]:
    """Return {model: {feature: works}} as runs have observed it: what one operation took, or what
    the run of a valid certification proved missing.
    """
    features: dict[UUID, dict[str, bool]] = {}
    accepted = ParameterSupport.objects.filter(model__in=models).order_by("accepted")
    for model, feature, works in accepted.values_list("model_id", "feature", "accepted"):
        features.setdefault(model, {})[feature] = works
    proven = ModelCertification.objects.valid(clock.now()).filter(model__in=models)
    runs = proven.exclude(run=None).order_by("last_tested_at")
    for model, lacks in runs.values_list("model_id", "run__environment__lacks"):
        names = lacks if isinstance(lacks, list) else []
        features.setdefault(model, {}).update(dict.fromkeys(map(str, names), False))
    return features


def bare_ids(models: Collection[UUID]) -> frozenset[UUID]:
    """Return those of these models that some route calls by the bare id."""
    routes = Route.objects.filter(model__in=models, kind=RouteKind.ON_DEMAND)
    return frozenset(routes.values_list("model_id", flat=True).distinct())


def capabilities_of(
    model: AIModel, features: Mapping[str, bool], bare: Collection[UUID]
) -> Capabilities:
    """Return a model's capabilities: what was observed, else what the catalogue says."""
    observations = {
        name: features[feature]
        for name, names in OBSERVED_AS.items()
        for feature in names
        if feature in features
    }
    quirks, declared = quirks_of(model.api_model_id), set(model.capabilities)
    temperature = observations.get("temperature", quirks.temperature)
    top_k = TOP_K.get(model.vendor)
    low, high, usual = top_k or (0, 0, 0)
    longest = model.max_output_tokens or DEFAULT_MAX_TOKENS
    return {
        "temperature": number_range(temperature, TEMPERATURE),
        "topP": number_range(quirks.top_p and temperature, TOP_P),
        "topK": {
            "enabled": bool(top_k) and temperature,
            "min": low,
            "max": high,
            "default": usual,
        },
        "maxTokens": {
            "enabled": True,
            "min": 1,
            "max": longest,
            "default": min(longest, DEFAULT_MAX_TOKENS),
        },
        "stopSequences": {
            "enabled": observations.get("stopSequences", quirks.stop),
            "max": MAX_STOP_SEQUENCES,
        },
        "streaming": {"enabled": observations.get("streaming", model.streaming)},
        "vision": {"enabled": observations.get("vision", "vision" in declared)},
        "functionCalling": {"enabled": observations.get("functionCalling", "tools" in declared)},
        "systemPrompt": {"enabled": observations.get("systemPrompt", "system" in declared)},
        "maxContextWindow": model.context_window or 0,
        "maxOutputTokens": longest,
        "requiresInferenceProfile": model.pk not in bare,
        "measured": sorted(observations),
    }


def number_range(enabled: bool, limits: tuple[float, float, float]) -> NumberRange:
    """Return a range of (lowest, highest, usual)."""
    low, high, usual = limits
    return {"enabled": enabled, "min": low, "max": high, "default": usual}
