"""Bring Bedrock's own listings into our catalogue: what appeared, vanished, or went legacy."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime

import structlog
from django.db import transaction
from django.utils import timezone

from certification.bedrock import catalogue
from certification.bedrock.client import Bedrock, ListedModel, ListedProfile
from certification.bedrock.errors import BedrockError
from certification.inference import Endpoint, RouteTarget
from certification.lib import shared_cache
from certification.models import AIModel, Lifecycle, ModelKind, Provider, Route, RouteKind
from certification.models.catalogue import RouteSource

log = structlog.get_logger(__name__)

MAX_PARALLEL = 8  # regions


@dataclass(frozen=True)
class RegionListing:
    """What one region listed; `problem` is the error when it did not answer."""

    region: str
    models: tuple[ListedModel, ...] = ()
    profiles: tuple[ListedProfile, ...] = ()
    problem: BedrockError | None = None


@dataclass
class Changes:
    """What a sync changed, as tuples that begin with the region where one matters."""

    new_models: list[str] = field(default_factory=list)
    lifecycle: list[tuple[str, str, str]] = field(default_factory=list)  # model, before, after
    appeared: list[tuple[str, str]] = field(default_factory=list)  # region, target id
    vanished: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)  # region, reason, message
    regions: int = 0

    @property
    def is_empty(self) -> bool:
        return not (self.new_models or self.lifecycle or self.appeared or self.vanished)


class _DryRun(Exception):
    pass


def fetch_listings(bedrock: Bedrock, regions: Iterable[str]) -> Iterable[RegionListing]:
    """Yield the listings of these regions in their order; several are fetched at a time."""
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        yield from pool.map(lambda region: fetch_listing(bedrock, region), list(regions))


def fetch_listing(bedrock: Bedrock, region: str) -> RegionListing:
    """Fetch one region's listings. Does not raise: an error is the listing's `problem`."""
    try:
        models, profiles = bedrock.foundation_models(region), bedrock.inference_profiles(region)
    except BedrockError as error:
        return RegionListing(region, problem=error)
    return RegionListing(region, models, profiles)


def apply(listings: Iterable[RegionListing], *, dry_run: bool = False) -> Changes:
    """Bring listings into the catalogue. A region that did not answer, or listed nothing, changes
    nothing.
    """
    listings, changes = list(listings), Changes()
    lifecycles = lifecycles_of(entry for listing in listings for entry in listing.models)
    try:
        with transaction.atomic():
            for listing in listings:
                apply_region(listing, lifecycles, changes)
            if dry_run:
                raise _DryRun
            shared_cache.invalidate()
    except _DryRun:
        pass
    log.info(
        "catalogue_synced",
        regions=changes.regions,
        appeared=len(changes.appeared),
        vanished=len(changes.vanished),
        new_models=len(changes.new_models),
        problems=len(changes.problems),
        dry_run=dry_run,
    )
    return changes


@dataclass
class LifecycleFacts:
    """A model's lifecycle and end of life, as all regions together say."""

    lifecycle: str = Lifecycle.UNKNOWN
    end_of_life_on: date | None = None


def lifecycles_of(entries: Iterable[ListedModel]) -> dict[str, LifecycleFacts]:
    """Merge what regions say of each model, by model id. Regions retire a model at different times:
    it is ACTIVE while any of them says so, and its end is the last one.
    """
    merged: dict[str, LifecycleFacts] = {}
    for entry in entries:
        facts = merged.setdefault(entry.model_id, LifecycleFacts())
        is_known = entry.lifecycle in Lifecycle.values and entry.lifecycle != Lifecycle.UNKNOWN
        if is_known and facts.lifecycle != Lifecycle.ACTIVE:
            facts.lifecycle = entry.lifecycle
        with contextlib.suppress(ValueError):  # no date
            end = datetime.fromisoformat(entry.end_of_life).date()
            facts.end_of_life_on = max(end, facts.end_of_life_on or end)
    return merged


def apply_region(
    listing: RegionListing, lifecycles: Mapping[str, LifecycleFacts], changes: Changes
) -> None:
    """Bring one region's listing into the catalogue and add what changed to `changes`."""
    if listing.problem is not None:
        changes.problems.append((listing.region, listing.problem.reason, listing.problem.message))
        return
    if not listing.models:
        message = "The region listed no model; nothing was changed."
        changes.problems.append((listing.region, "bad_response", message))
        return
    changes.regions += 1
    models = update_models(listing.models, lifecycles, changes)
    update_routes(listing.region, Endpoint.RUNTIME, runtime_routes(listing, models), changes)


def update_routes(
    region: str,
    endpoint: Endpoint,
    listed: Mapping[tuple[uuid.UUID, RouteTarget], AIModel],
    changes: Changes,
) -> None:
    """Make a region's routes of an endpoint those that it lists. Provisioned capacity, which no
    listing has, stays.
    """
    routes = Route.objects.filter(region=region, endpoint=endpoint)
    existing = {(r.model_id, r.target()): r for r in routes.exclude(kind=RouteKind.PROVISIONED)}
    now = timezone.now()
    new = [
        Route.of(target, model, region, source=RouteSource.SYNC, last_seen_at=now)
        for (pk, target), model in listed.items()
        if (pk, target) not in existing
    ]
    vanished = [route for key, route in existing.items() if key not in listed]
    confirmed = [route.pk for key, route in existing.items() if key in listed]
    routes.filter(pk__in=[route.pk for route in vanished]).delete()
    Route.objects.bulk_create(new)
    routes.filter(pk__in=confirmed).update(last_seen_at=now)
    # One target has a route for each API.
    before = {(route.model_id, route.target_id) for route in existing.values()}
    after = {(pk, target.target_id): target.target_id for pk, target in listed}
    changes.appeared += [(region, name) for key, name in after.items() if key not in before]
    changes.vanished += [(region, name) for pk, name in sorted(before - set(after), key=str)]


def update_models(
    entries: Sequence[ListedModel], lifecycles: Mapping[str, LifecycleFacts], changes: Changes
) -> dict[str, AIModel]:
    """Return the catalogue's rows for what is listed, by model id, new ones created and lifecycles
    brought up to date.
    """
    provider = Provider.objects.get_or_create(slug="bedrock", defaults={"name": "AWS Bedrock"})[0]
    models = AIModel.objects.in_bulk([e.model_id for e in entries], field_name="api_model_id")
    for entry in entries:
        model = models.get(entry.model_id)
        if model is not None:
            update_lifecycle(model, lifecycles[entry.model_id], changes)
        elif not is_variant(entry, models):
            models[entry.model_id] = create_model(entry, lifecycles[entry.model_id], provider)
            changes.new_models.append(entry.model_id)
    return models


def is_variant(entry: ListedModel, models: Mapping[str, AIModel]) -> bool:
    """Tell a provisioned size of a known model, such as `...-v1:0:200k`, from a model."""
    base = entry.model_id.rsplit(":", 1)[0]
    callable_here = {"ON_DEMAND", "INFERENCE_PROFILE"} & set(entry.inference_types)
    return not callable_here and (
        base in models or AIModel.objects.filter(api_model_id=base).exists()
    )


def create_model(entry: ListedModel, facts: LifecycleFacts, provider: Provider) -> AIModel:
    """Create a model with the capabilities that its listing shows."""
    kind = kind_of(entry)
    capabilities = {"chat", "converse", "system", "tools"} if kind == ModelKind.TEXT else set()
    if kind == ModelKind.TEXT and entry.streaming:
        capabilities.add("streaming_tools")
    if kind == ModelKind.TEXT and "IMAGE" in entry.input_modalities:
        capabilities.add("vision")
    if kind == ModelKind.EMBEDDING:
        capabilities.add("embeddings")
    return AIModel.objects.create(
        provider=provider,
        name=entry.name or entry.model_id,
        vendor=entry.vendor,
        api_model_id=entry.model_id,
        kind=kind,
        input_modalities=sorted(entry.input_modalities),
        output_modalities=sorted(entry.output_modalities),
        capabilities=sorted(capabilities),
        streaming=entry.streaming,
        lifecycle=facts.lifecycle,
        end_of_life_on=facts.end_of_life_on,
        facts_as_of=timezone.now().date(),
    )


def kind_of(entry: ListedModel) -> ModelKind:
    """Derive a listed model's kind from its output."""
    out = set(entry.output_modalities)
    if "rerank" in entry.model_id:
        return ModelKind.RERANK
    for modality, kind in (
        ("EMBEDDING", ModelKind.EMBEDDING),
        ("IMAGE", ModelKind.IMAGE),
        ("VIDEO", ModelKind.VIDEO),
        ("SPEECH", ModelKind.SPEECH),
        ("AUDIO", ModelKind.SPEECH),
    ):
        if modality in out:
            return kind
    only_video = "VIDEO" in entry.input_modalities and "IMAGE" not in entry.input_modalities
    return ModelKind.VIDEO if only_video else ModelKind.TEXT


def update_lifecycle(model: AIModel, facts: LifecycleFacts, changes: Changes) -> None:
    """Bring a model's lifecycle and end of life up to date."""
    lifecycle, end = facts.lifecycle, facts.end_of_life_on or model.end_of_life_on
    if lifecycle == Lifecycle.ACTIVE and model.lifecycle == Lifecycle.PREVIEW:
        lifecycle = model.lifecycle  # the listing knows no previews
    is_same = lifecycle in (model.lifecycle, Lifecycle.UNKNOWN)
    if is_same and end == model.end_of_life_on:
        return
    if not is_same:
        changes.lifecycle.append((model.api_model_id, model.lifecycle, lifecycle))
        model.lifecycle = lifecycle
    model.end_of_life_on = end
    model.save(update_fields=["lifecycle", "end_of_life_on", "updated_at"])


def runtime_routes(
    listing: RegionListing, models: dict[str, AIModel]
) -> dict[tuple[uuid.UUID, RouteTarget], AIModel]:
    """Return every route that bedrock-runtime offers in the region now: each bare id and profile by
    each API that may serve the model.
    """
    routes: dict[tuple[uuid.UUID, RouteTarget], AIModel] = {}
    unlisted = {m for p in listing.profiles for m in p.model_ids} - set(models)
    models = models | AIModel.objects.in_bulk(sorted(unlisted), field_name="api_model_id")
    targets = [
        (entry.model_id, catalogue.ON_DEMAND)
        for entry in listing.models
        if "ON_DEMAND" in entry.inference_types
    ] + [
        (model_id, profile.profile_id)
        for profile in listing.profiles
        if profile.status in ("", "ACTIVE")
        for model_id in profile.model_ids
    ]
    for model_id, target in targets:
        model = models.get(model_id)
        if model is None:
            continue
        for api in catalogue.load().runtime_apis(model.api_model_id, model.kind):
            route = catalogue.runtime_route(model.api_model_id, target, api)
            routes[model.pk, route] = model
    return routes
