"""The shipped catalogue: what models, regions and routes Bedrock offered on one day, and how fast
models answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import median
from typing import Any

from certification.inference import API, Endpoint, RouteTarget

DATA = Path(__file__).parent / "data"

# Kinds of route target, as Bedrock's listings and models.RouteKind write them.
ON_DEMAND = "ON_DEMAND"
INFERENCE_PROFILE = "INFERENCE_PROFILE"
PROVISIONED = "PROVISIONED"

OPENAI_PATH = "/openai/v1"
ANTHROPIC_PATH = "/anthropic/v1"
# Where bedrock-runtime serves each API; the native paths have no prefix.
RUNTIME_PATHS = {
    API.CONVERSE: "",
    API.INVOKE: "",
    API.CHAT_COMPLETIONS: OPENAI_PATH,
    API.RESPONSES: OPENAI_PATH,
    API.MESSAGES: ANTHROPIC_PATH,
}

# Converse first: every capability that we test has a form there. Responses before Chat Completions:
# GPT-5.6 and later refuse tools with reasoning in the latter.
API_ORDER = (API.CONVERSE, API.MESSAGES, API.RESPONSES, API.CHAT_COMPLETIONS, API.INVOKE)
MANTLE_PATH = "/v1"
# The families that bedrock-mantle serves below /openai/v1, by the beginnings of their ids.
ON_OPENAI_PATH = ("openai.gpt-5", "openai.gpt-6", "google.gemma-4", "xai.")
# The Responses API of these takes no tool_choice but "auto": theirs is the last to be tried.
WITHOUT_TOOL_CHOICE_IN_RESPONSES = "openai.gpt-oss"


def order_of_trial(target: RouteTarget) -> tuple[int, int, int, str]:
    """Return the key by which a model's routes in a region are sorted before they are tried.

    bedrock-runtime before bedrock-mantle; there Converse before the other APIs; of one API the bare
    id, then the profile of the geography, the global profile, provisioned capacity.
    """
    api = API_ORDER.index(target.api)
    if target.api == API.RESPONSES and WITHOUT_TOOL_CHOICE_IN_RESPONSES in target.target_id:
        api = len(API_ORDER)
    kind = {ON_DEMAND: 0, INFERENCE_PROFILE: 1, PROVISIONED: 3}.get(target.kind, 3)
    if target.kind == INFERENCE_PROFILE and target.target_id.startswith("global."):
        kind = 2
    return int(target.endpoint == Endpoint.MANTLE), api, kind, target.target_id


def kind_of(target: str) -> str:
    """Return the kind of a target as the catalogue and Bedrock's listings write it."""
    if target in (ON_DEMAND, PROVISIONED):
        return target
    return PROVISIONED if target.startswith("arn:") else INFERENCE_PROFILE


@dataclass(frozen=True)
class CatalogueRegion:
    code: str
    name: str
    opt_in: bool


@dataclass(frozen=True)
class MantleOffer:
    """How bedrock-mantle serves a model: its id there, its path prefix, its APIs, its regions."""

    model_id: str
    path_prefix: str
    apis: tuple[API, ...]
    regions: frozenset[str]


@dataclass(frozen=True)
class CatalogueModel:
    """One model as the sources describe it.

    `api_model_id` is its id on bedrock-runtime (on bedrock-mantle when it is only there), `aliases`
    are its other ids. Prices are in USD per million tokens; None where no source knows. `targets`
    maps a region code to what bedrock-runtime offers there: ON_DEMAND, PROVISIONED or inference
    profile ids; `apis` are the APIs that answer there, `unproven` those that nobody has seen answer
    or refuse. `mantle` is None for a model that no source names on bedrock-mantle. `destinations`
    maps a profile prefix to {source region: destination regions}; the key "" stands for any source.
    """

    api_model_id: str
    aliases: tuple[str, ...]
    name: str
    vendor: str
    kind: str
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    streaming: bool
    capabilities: frozenset[str]
    context_window: int | None
    max_output_tokens: int | None
    input_price: float | None
    output_price: float | None
    lifecycle: str
    dimensions: int | None
    confidence: str
    targets: Mapping[str, tuple[str, ...]]
    apis: tuple[API, ...]
    unproven: tuple[API, ...]
    mantle: MantleOffer | None
    destinations: Mapping[str, Mapping[str, tuple[str, ...]]]

    @property
    def regions(self) -> frozenset[str]:
        """The regions with at least one route."""
        return frozenset(self.targets) | (self.mantle.regions if self.mantle else frozenset())

    def routes_in(self, region: str) -> tuple[RouteTarget, ...]:
        """Return the ways to call the model in a region, in the order to try them."""
        routes = [
            runtime_route(self.api_model_id, target, api)
            for target in self.targets.get(region, ())
            if target != PROVISIONED  # callable only by the ARN of an account's own capacity
            for api in (*self.apis, *self.unproven)
            if is_callable_by(self.kind, api)
        ]
        mantle = self.mantle
        if mantle and region in mantle.regions:
            routes += [mantle_route(mantle.model_id, mantle.path_prefix, a) for a in mantle.apis]
        return tuple(sorted(routes, key=order_of_trial))

    def destinations_of(self, profile_id: str, source_region: str) -> tuple[str, ...]:
        """Return where a profile may send a call made in `source_region`; empty when unknown."""
        by_source = self.destinations.get(profile_id.split(".", 1)[0], {})
        return by_source.get(source_region) or by_source.get("", ())

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> CatalogueModel:
        runtime, mantle = raw.get("runtime", {}), raw.get("mantle")
        targets: dict[str, list[str]] = {}
        for target, codes in runtime.get("targets", {}).items():
            for code in codes:
                targets.setdefault(code, []).append(target)
        destinations = {
            prefix: {source: tuple(to) for sources, to in groups for source in (sources or [""])}
            for prefix, groups in raw.get("destinations", {}).items()
        }
        return cls(
            api_model_id=raw["id"],
            aliases=tuple(raw.get("aliases", ())),
            name=raw["name"],
            vendor=raw["vendor"],
            kind=raw["kind"],
            input_modalities=tuple(raw.get("in", ())),
            output_modalities=tuple(raw.get("out", ())),
            streaming=bool(raw.get("streaming")),
            capabilities=frozenset(raw.get("capabilities", ())),
            context_window=raw.get("context_window"),
            max_output_tokens=raw.get("max_output_tokens"),
            input_price=raw.get("input_usd_per_1m"),
            output_price=raw.get("output_usd_per_1m"),
            lifecycle=raw["lifecycle"],
            dimensions=raw.get("dimensions"),
            confidence=raw.get("confidence", ""),
            targets={code: tuple(names) for code, names in targets.items()},
            apis=tuple(API(name) for name in runtime.get("apis", ())),
            unproven=tuple(API(name) for name in runtime.get("unproven", ())),
            mantle=MantleOffer(
                model_id=mantle.get("id", raw["id"]),
                path_prefix=mantle["path"],
                apis=tuple(API(name) for name in mantle["apis"]),
                regions=frozenset(mantle["regions"]),
            )
            if mantle
            else None,
            destinations=destinations,
        )


def path_prefix(endpoint: Endpoint, api: API, target_id: str) -> str:
    """Return where an endpoint serves an API for a model."""
    if endpoint == Endpoint.RUNTIME:
        return RUNTIME_PATHS[api]
    if api == API.MESSAGES:
        return ANTHROPIC_PATH
    return OPENAI_PATH if target_id.startswith(ON_OPENAI_PATH) else MANTLE_PATH


def is_callable_by(kind: str, api: API) -> bool:
    """Tell whether models of a kind are called through an API: text models through every one but
    InvokeModel, whose body is each vendor's own, all others only through that.
    """
    return (kind == "text") == (api != API.INVOKE)


def runtime_route(model_id: str, target: str, api: API) -> RouteTarget:
    """Return the route to a target of bedrock-runtime, as the catalogue or a listing names it."""
    kind = kind_of(target)
    target_id = model_id if target in (ON_DEMAND, PROVISIONED) else target
    return RouteTarget(target_id, kind, Endpoint.RUNTIME, api, RUNTIME_PATHS[api])


def mantle_route(model_id: str, path_prefix: str, api: API) -> RouteTarget:
    """Return a route of bedrock-mantle, which knows bare ids only."""
    return RouteTarget(model_id, ON_DEMAND, Endpoint.MANTLE, api, path_prefix)


@dataclass(frozen=True)
class LatencyProfile:
    """How fast a model answered in recorded calls.

    `total_ms` is p10, median and p90; `measured` is False for the medians of similar models.
    """

    ttft_ms: float
    total_ms: tuple[float, float, float]
    output_tps: float
    measured: bool


@dataclass(frozen=True)
class Catalogue:
    as_of: str
    sources: tuple[str, ...]
    regions: Mapping[str, CatalogueRegion]
    models: Mapping[str, CatalogueModel]

    @cached_property
    def canonical_ids(self) -> Mapping[str, str]:
        """The id of the model that each id names, its own and its aliases."""
        return {
            name: model.api_model_id
            for model in self.models.values()
            for name in (model.api_model_id, *model.aliases)
        }

    def runtime_apis(self, model_id: str, kind: str) -> tuple[API, ...]:
        """Return the APIs by which a model is tried on bedrock-runtime; of one that is not in the
        catalogue all that its kind and vendor may have.
        """
        model = self.models.get(model_id)
        known = model and (*model.apis, *model.unproven)
        if not known:
            claude = model_id.startswith("anthropic.")
            openai = (API.RESPONSES, API.CHAT_COMPLETIONS)
            known = (API.CONVERSE, *((API.MESSAGES,) if claude else openai), API.INVOKE)
        return tuple(api for api in known if is_callable_by(kind, api))

    def mantle_routes(self, listed_id: str) -> tuple[RouteTarget, ...]:
        """Return the routes of bedrock-mantle to an id that it lists; of one that is not in the
        catalogue by all APIs that its family may have.
        """
        model = self.models.get(self.canonical_ids.get(listed_id, ""))
        if model and model.mantle:
            apis = model.mantle.apis
        elif listed_id.startswith("anthropic."):
            apis = (API.MESSAGES,)
        else:
            apis = (API.RESPONSES, API.CHAT_COMPLETIONS)
        return tuple(
            mantle_route(listed_id, path_prefix(Endpoint.MANTLE, api, listed_id), api)
            for api in apis
        )

    def possible_twin(self, model_id: str) -> str:
        """Return the model whose id differs from this one only in what ids of one model differ in:
        version, date, `-instruct`; "" without one. A guess for people: two models may look alike.
        """
        looks = bare_name(model_id)
        return next((m for m in self.models if m != model_id and bare_name(m) == looks), "")


# What the ids of one model may differ in, from its end inwards.
ENDINGS = re.compile(r"(-v\d+(:\d+)?|-\d+:\d+|-\d{8}|-\d{4}-\d{2}-\d{2}|-instruct)$")


def bare_name(model_id: str) -> str:
    """Strip an id of versions, dates and `-instruct`."""
    name = model_id.replace("moonshotai.", "moonshot.")
    while (shorter := ENDINGS.sub("", name)) != name:
        name = shorter
    return name


@cache
def load() -> Catalogue:
    """Return the catalogue, read once from the file shipped with this module."""
    raw = json.loads((DATA / "catalogue.json").read_text(encoding="utf-8"))
    regions = {
        region["code"]: CatalogueRegion(region["code"], region["name"], region["opt_in"])
        for region in raw["regions"]
    }
    models = {m["id"]: CatalogueModel.from_json(m) for m in raw["models"]}
    return Catalogue(raw["as_of"], tuple(raw["sources"]), regions, models)


@cache
def latencies() -> dict[str, LatencyProfile]:
    """Return the recorded speeds by model id, read once from the file shipped with this module."""
    raw = json.loads((DATA / "latency.json").read_text(encoding="utf-8"))["models"]
    median_ttft = median(f["ttft_ms"] for f in raw.values() if "ttft_ms" in f)
    median_tps = median(f["tokens_per_second"] for f in raw.values() if "tokens_per_second" in f)
    return {
        model: LatencyProfile(
            ttft_ms=min(f.get("ttft_ms", median_ttft), f["total_ms"][1]),
            total_ms=(f["total_ms"][0], f["total_ms"][1], f["total_ms"][2]),
            output_tps=f.get("tokens_per_second", median_tps),
            measured=True,
        )
        for model, f in raw.items()
    }


@cache
def latency(api_model_id: str) -> LatencyProfile:
    """Return a model's speed: recorded, or the median of its vendor's models, else of its kind."""
    recorded = latencies()
    if api_model_id in recorded:
        return recorded[api_model_id]
    embeds = "embed" in api_model_id
    same_kind = {m: p for m, p in recorded.items() if ("embed" in m) == embeds}
    vendor = api_model_id.split(".", 1)[0] + "."
    peers = [p for m, p in same_kind.items() if m.startswith(vendor)] or list(same_kind.values())
    return LatencyProfile(
        ttft_ms=median(p.ttft_ms for p in peers),
        total_ms=(
            median(p.total_ms[0] for p in peers),
            median(p.total_ms[1] for p in peers),
            median(p.total_ms[2] for p in peers),
        ),
        output_tps=median(p.output_tps for p in peers),
        measured=False,
    )
