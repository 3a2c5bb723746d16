"""The shipped catalogue: what models, regions and routes Bedrock offered on one day, and how fast
models answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

DATA = Path(__file__).parent / "data"

ON_DEMAND = "ON_DEMAND"
PROVISIONED = "PROVISIONED"
MANTLE = "MANTLE"  # listed in the region, but served only on the bedrock-mantle endpoint


@dataclass(frozen=True)
class CatalogueRegion:
    code: str
    name: str
    opt_in: bool


@dataclass(frozen=True)
class CatalogueModel:
    """One model as the sources describe it.

    Prices are in USD per million tokens; None where no source knows. `routes` maps a region code to
    what the region offers: ON_DEMAND, PROVISIONED, MANTLE or inference profile ids. `destinations`
    maps a profile prefix to {source region: destination regions}; the key "" stands for any source.
    """

    api_model_id: str
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
    routes: Mapping[str, tuple[str, ...]]
    destinations: Mapping[str, Mapping[str, tuple[str, ...]]]

    def destinations_of(self, profile_id: str, source_region: str) -> tuple[str, ...]:
        """Return where a profile may send a call made in `source_region`; empty when unknown."""
        by_source = self.destinations.get(profile_id.split(".", 1)[0], {})
        return by_source.get(source_region) or by_source.get("", ())

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> CatalogueModel:
        routes: dict[str, list[str]] = {}
        for target, codes in raw.get("routes", {}).items():
            for code in codes:
                routes.setdefault(code, []).append(target)
        destinations = {
            prefix: {source: tuple(to) for sources, to in groups for source in (sources or [""])}
            for prefix, groups in raw.get("destinations", {}).items()
        }
        return cls(
            api_model_id=raw["id"],
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
            routes={code: tuple(targets) for code, targets in routes.items()},
            destinations=destinations,
        )


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
