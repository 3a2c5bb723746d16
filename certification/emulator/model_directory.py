"""Find a model: what an id means in a region, by which route, and what that model accepts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from certification.bedrock.catalogue import (
    INFERENCE_PROFILE,
    ON_DEMAND,
    PROVISIONED,
    Catalogue,
    CatalogueModel,
)
from certification.emulator import refusals
from certification.inference import API

ARN = re.compile(r"arn:aws(?:-[a-z-]+)?:bedrock:([a-z0-9-]*):(\d{12})?:([a-z-]+)/(.+)")
DATED = re.compile(r"openai\..+-\d{4}-\d{2}-\d{2}")  # OpenAI ids that mean the undated model
ARN_KINDS = ("foundation-model", "inference-profile")


# Refused by the Responses API of bedrock-runtime with 400, all others with 404.
BAD_REQUEST_BY_RESPONSES = ("deepseek.v3.2", "zai.glm-5")


class Traits:
    """What a model accepts beyond the catalogue's capabilities, as the real service did in 2026."""

    def __init__(self, model: CatalogueModel) -> None:
        self.model = model
        self._id = model.api_model_id

    def _is(self, pattern: str) -> bool:
        return re.search(pattern, self._id) is not None

    @cached_property
    def newest_claude(self) -> bool:
        """Claude models that dropped the sampling parameters and manual thinking."""
        return self._is(r"claude-(opus-4-[78]|(opus|sonnet|haiku)-5|fable|mythos)")

    @cached_property
    def adaptive_thinking(self) -> bool:
        """Claude models that may choose how long they think: from 4.6 on."""
        return self.newest_claude or self._is(r"claude-(opus|sonnet)-4-6")

    @cached_property
    def one_sampling_parameter(self) -> bool:
        """Claude models that take temperature or top_p, not both."""
        return self._is(r"claude-(opus-4-[156]|(sonnet|haiku)-4-[56])")

    @cached_property
    def no_temperature(self) -> bool:
        """Models whose Converse has no sampling parameters at all."""
        return self._is(r"^openai\.gpt-[56]")

    @cached_property
    def no_stop_sequences(self) -> bool:
        return self._is(r"^(openai\.|google\.gemma|deepseek\.v3\.2|zai\.|qwen\.)")

    @cached_property
    def no_prefill(self) -> bool:
        return self.newest_claude or self._is(r"claude-(opus|sonnet)-4-6")

    @cached_property
    def refused_tool_choices(self) -> frozenset[str]:
        """Forms of toolChoice that the model's Converse refuses."""
        if self._is(r"^meta\."):
            return frozenset(("any", "tool"))
        if self._is(r"^(mistral\.mistral-(large|small)-24|openai\.gpt-oss)"):
            return frozenset(("tool",))
        return frozenset()

    @cached_property
    def structured_output(self) -> bool:
        if self._is(r"^anthropic\."):
            return self._is(
                r"claude-(opus-4-[1-8]$|opus-4-[5678]|(sonnet|haiku)-4-[56]|opus-5|sonnet-5"
                r"|haiku-5)"
            )
        return self._is(
            r"^(qwen|openai|google|minimax|moonshot|moonshotai|nvidia|deepseek\.v3|zai|"
            r"mistral\.(mistral-large-3|ministral|magistral|devstral|voxtral))"
        )

    @cached_property
    def always_reasons(self) -> bool:
        """Models that put a reasoning block before every answer."""
        return self._is(
            r"^(deepseek\.r1|openai\.gpt-oss|moonshot(ai)?\.kimi-k2-thinking|minimax\."
            r"|mistral\.magistral)"
        )

    @cached_property
    def gpt_oss(self) -> bool:
        return self._is(r"^openai\.gpt-oss")

    @cached_property
    def hidden_reasoning(self) -> bool:
        """Models that think without showing it: they count the tokens, or send them encrypted."""
        return self._is(r"^(openai\.gpt-[5-9]|xai\.)")

    @cached_property
    def efforts(self) -> frozenset[str]:
        """The reasoning efforts that the model takes by the OpenAI APIs."""
        usual = frozenset(("low", "medium", "high"))
        if self._is(r"^openai\.gpt-6"):
            return usual | {"none", "xhigh", "max"}
        if self._is(r"^xai\."):
            return usual | {"none", "xhigh"}
        return usual | {"none"} if self._is(r"^openai\.gpt-5") else usual

    @cached_property
    def no_max_tokens(self) -> bool:
        """Models whose Chat Completions takes only `max_completion_tokens`."""
        return self._is(r"^(openai\.gpt-(5\.[6-9]|[6-9])|google\.gemma-4)")

    @cached_property
    def tools_by_responses(self) -> bool:
        """Models that take tools in Chat Completions only without reasoning."""
        return self._is(r"^openai\.gpt-(5\.[6-9]|[6-9])")

    @cached_property
    def default_temperature_only(self) -> bool:
        return self._is(r"^openai\.gpt-(5\.[5-9]|[6-9])")

    @cached_property
    def refused_chat_parameters(self) -> tuple[str, ...]:
        """Parameters that the model's Chat Completions refuses, whatever their value."""
        penalties = ("frequency_penalty", "presence_penalty")
        if self.default_temperature_only:
            return ("top_p", "stop", "n", "logprobs", "top_logprobs", *penalties)
        if self._is(r"^xai\."):
            return penalties
        return ("logit_bias",) if self.gpt_oss else ()

    @cached_property
    def counts_on_mantle(self) -> bool:
        """Claude models whose tokens bedrock-mantle counts: the fifth generation."""
        return self._is(r"claude-((opus|sonnet|haiku)-5|fable|mythos)")

    @cached_property
    def counts_tokens(self) -> bool:
        return (
            self._is(r"claude-(3-5|3-7|(opus|sonnet|haiku)-4(-[156])?(-|$))")
            and not self.newest_claude
        )


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The model that a call is for, the route, and the id as it was called."""

    model: CatalogueModel
    traits: Traits
    route: str
    called: str

    def reasons(self, effort: str | None) -> bool:
        """Tell whether the model thinks before it answers a call by one of the OpenAI APIs."""
        if self.traits.always_reasons:
            return True
        if "reasoning" not in self.model.capabilities or effort == "none":
            return False
        return effort is not None or self.traits.hidden_reasoning

    def speaks(self, api: API) -> bool:
        """Tell whether the model answers by an API of bedrock-runtime."""
        return api in self.model.apis or api in self.model.unproven


class ModelDirectory:
    """The catalogue, indexed by what Bedrock calls name: ids, profiles and ARNs in a region."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._traits = {model_id: Traits(model) for model_id, model in catalogue.models.items()}
        self._by_profile: dict[tuple[str, str], CatalogueModel] = {}
        self._profiles_anywhere: set[str] = set()
        for model in catalogue.models.values():
            for region, routes in model.targets.items():
                for route in routes:
                    if "." in route:
                        self._by_profile[region, route] = model
                        self._profiles_anywhere.add(route)
        self._on_mantle: dict[str, CatalogueModel] = {}
        self.mantle_regions: set[str] = set()
        for model in catalogue.models.values():
            if model.mantle and model.lifecycle != "EOL":
                self.mantle_regions |= model.mantle.regions
                self._on_mantle[model.mantle.model_id] = model
                dated = (name for name in model.aliases if DATED.fullmatch(name))
                self._on_mantle.update(dict.fromkeys(dated, model))
        self.resolve = lru_cache(maxsize=16384)(self.find)

    def find(self, called: str, region: str) -> ResolvedModel:
        """Return the model of an id or ARN in a region.

        Refuses, with the service's message, whatever cannot be called. `resolve` is this with a
        cache.
        """
        model_id = called
        if called.startswith("arn:"):
            match = ARN.fullmatch(called)
            # an ARN of another region names nothing here
            if match is None or match[1] not in ("", region) or match[3] not in ARN_KINDS:
                raise refusals.unknown_model()
            model_id = match[4]
        model = self._by_profile.get((region, model_id))
        if model is not None:
            traits = self._traits[model.api_model_id]
            return ResolvedModel(model, traits, INFERENCE_PROFILE, model_id)
        model = self.catalogue.models.get(model_id)
        if model is None:
            if model_id not in self._profiles_anywhere and "." in model_id:
                behind = self.catalogue.models.get(model_id.split(".", 1)[1])
                if behind is not None and behind.lifecycle == "EOL":
                    raise refusals.end_of_life()
            raise refusals.unknown_model()
        if model.lifecycle == "EOL":
            raise refusals.end_of_life()
        routes = model.targets.get(region, ())
        if ON_DEMAND in routes:
            return ResolvedModel(model, self._traits[model_id], ON_DEMAND, model_id)
        if PROVISIONED in routes or any("." in route for route in routes):
            raise refusals.needs_profile(model_id)
        raise refusals.unknown_model()

    def resolve_to_count(self, called: str, region: str) -> ResolvedModel:
        """Return the model of a CountTokens call.

        It takes bare ids, also of models that are callable only through a profile.
        """
        model = self.catalogue.models.get(called)
        if model is not None and model.targets.get(region):
            return ResolvedModel(model, self._traits[called], ON_DEMAND, called)
        return self.resolve(called, region)

    def resolve_for_api(self, called: str, region: str, api: API) -> ResolvedModel:
        """Return the model of a call by an OpenAI-shaped API or Messages on bedrock-runtime.

        Refuses a model that is there and does not speak the API with 404, two of them with 400.
        """
        if called.startswith("arn:") and ":application-inference-profile/" in called:
            raise refusals.invalid("Application inference profiles are not supported by this API.")
        target = self.resolve(called, region)
        if not target.speaks(api):
            if api is API.RESPONSES and target.model.api_model_id in BAD_REQUEST_BY_RESPONSES:
                raise refusals.api_not_supported(called, "/v1/responses")
            raise refusals.model_without_api()
        return target

    def resolve_on_mantle(self, called: str, region: str, api: API, path: str) -> ResolvedModel:
        """Return the model of a call on bedrock-mantle, which knows bare ids only.

        Refuses absent models, APIs that the model does not speak there, and wrong path prefixes.
        """
        target = self.find_on_mantle(called, region)
        offer = target.model.mantle
        if offer is None or api not in offer.apis:
            raise refusals.api_not_supported(called, path)
        if not path.startswith(offer.path_prefix + "/"):
            # GPT says of the wrong prefix what it says of the wrong API
            if target.traits.hidden_reasoning and called.startswith("openai."):
                raise refusals.api_not_supported(called, path)
            raise refusals.wrong_prefix(called)
        return target

    def find_on_mantle(self, called: str, region: str) -> ResolvedModel:
        """Return a model that bedrock-mantle has in a region. Refuses all others."""
        model = self._on_mantle.get(called)
        if model is None or model.mantle is None or region not in model.mantle.regions:
            raise refusals.absent_from_mantle(called)
        return ResolvedModel(model, self._traits[model.api_model_id], ON_DEMAND, called)

    def mantle_models(self, region: str) -> list[CatalogueModel]:
        """Return the models that bedrock-mantle has in a region, by their id there."""
        models = {m.api_model_id: m for m in self._on_mantle.values()}.values()
        return sorted(
            (m for m in models if m.mantle and region in m.mantle.regions),
            key=lambda m: m.mantle.model_id if m.mantle else "",
        )
