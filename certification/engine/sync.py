"""Bring Bedrock's own listings into our catalogue: what appeared, vanished, or went legacy."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import structlog
from django.db import transaction

from certification.bedrock import catalogue
from certification.bedrock.client import Bedrock, ListedModel, ListedProfile, MantleModel
from certification.bedrock.errors import BedrockError
from certification.inference import Endpoint, RouteTarget
from certification.lib import clock, shared_cache
from certification.models import AIModel, Lifecycle, ModelKind, Provider, Route, RouteKind
from certification.models.catalogue import RouteSource
from certification.reasons import Reason

log = structlog.get_logger(__name__)

MAX_PARALLEL = 8  # regions


@dataclass(frozen=True)
class RegionListing:
    """What one region listed; `problem` is the error when it did not answer.

    `mantle` is None when the region has no bedrock-mantle, or `mantle_problem`. `unreadable` and
    `mantle_unreadable` show entries that could not be read.
    """

    region: str
    models: tuple[ListedModel, ...] = ()
    profiles: tuple[ListedProfile, ...] = ()
    mantle: tuple[MantleModel, ...] | None = None
    problem: BedrockError | None = None
    mantle_problem: BedrockError | None = None
    unreadable: tuple[str, ...] = ()
    mantle_unreadable: tuple[str, ...] = ()


@dataclass
class Changes:
    """What a sync changed, as tuples that begin with the region where one matters."""

    new_models: list[str] = field(default_factory=list)
    lifecycle: list[tuple[str, str, str]] = field(default_factory=list)  # model, before, after
    appeared: list[tuple[str, str]] = field(default_factory=list)  # region, target id
    vanished: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)  # region, reason, message
    # Listed by bedrock-mantle, yet closed to this account: region, id, why.
    gated: list[tuple[str, str, str]] = field(default_factory=list)
    # Models of both endpoints that only one of them lists here: region, model, that endpoint.
    disagreements: list[tuple[str, str, str]] = field(default_factory=list)
    # New ids that look like another id of a known model, which only an operator can say: id, model.
    possible_aliases: list[tuple[str, str]] = field(default_factory=list)
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
    unreadable = (*models.unreadable, *profiles.unreadable)
    try:
        mantle = bedrock.mantle_models(region)
    except BedrockError as error:
        return RegionListing(region, models, profiles, mantle_problem=error, unreadable=unreadable)
    return RegionListing(
        region,
        models,
        profiles,
        mantle,
        unreadable=unreadable,
        mantle_unreadable=mantle.unreadable if mantle is not None else (),
    )


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
            note_disagreements(listings, changes)
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
    for entry in (*listing.unreadable, *listing.mantle_unreadable):
        message = f"An entry could not be read and was left out: {entry}"
        changes.problems.append((listing.region, "bad_response", message))
    models = update_models(listing.models, lifecycles, changes)
    update_routes(
        listing.region,
        Endpoint.RUNTIME,
        runtime_routes(listing, models),
        changes,
        is_whole=not listing.unreadable,
    )
    if listing.mantle_problem is not None:
        problem = listing.mantle_problem
        message = f"bedrock-mantle: {problem.message}"
        changes.problems.append((listing.region, problem.reason, message))
    elif listing.mantle == ():
        message = "bedrock-mantle listed no model; its routes were not changed."
        changes.problems.append((listing.region, "bad_response", message))
    else:
        apply_mantle(
            listing.region, listing.mantle or (), changes, is_whole=not listing.mantle_unreadable
        )


def apply_mantle(
    region: str, entries: Sequence[MantleModel], changes: Changes, *, is_whole: bool = True
) -> None:
    """Bring what bedrock-mantle lists in a region into the catalogue; without entries it has no
    such endpoint. Unless the listing `is_whole`, no route vanishes.
    """
    models = AIModel.objects.named(entry.model_id for entry in entries)
    for entry in entries:
        if entry.model_id not in models:
            models[entry.model_id] = create_mantle_model(entry)
            note_new_model(entry.model_id, changes)
    # Of several ids of one model (dated ones) the undated is called.
    ids: dict[uuid.UUID, str] = {}
    for name in sorted(models, key=lambda name: (len(name), name)):
        ids.setdefault(models[name].pk, name)
    listed = {
        (pk, target): models[name]
        for pk, name in ids.items()
        for target in catalogue.load().mantle_routes(name)
    }
    update_routes(region, Endpoint.MANTLE, listed, changes, is_whole=is_whole)
    gates = {e.model_id: e.unavailable for e in entries if e.unavailable}
    changes.gated += [(region, model_id, why) for model_id, why in sorted(gates.items())]
    note_gates(region, gates)


def note_gates(region: str, gates: Mapping[str, str]) -> None:
    """Keep with the routes to these ids of bedrock-mantle why the account cannot call them."""
    gate = Reason.DATA_RETENTION_REQUIRED
    routes = Route.objects.filter(region=region, endpoint=Endpoint.MANTLE)
    opened = routes.filter(last_refusal__reason=gate).exclude(target_id__in=list(gates))
    opened.update(last_refusal=None)
    at = clock.now().isoformat()
    for model_id, why in gates.items():
        refusal = {"reason": gate.value, "message": why, "at": at}
        routes.filter(target_id=model_id).update(last_refusal=refusal)


def note_new_model(model_id: str, changes: Changes) -> None:
    changes.new_models.append(model_id)
    if twin := catalogue.load().possible_twin(model_id):
        changes.possible_aliases.append((model_id, twin))


def note_disagreements(listings: Iterable[RegionListing], changes: Changes) -> None:
    """Report the models that both endpoints serve somewhere and only one of them lists here."""
    names = dict(AIModel.objects.values_list("pk", "api_model_id"))
    offers: dict[tuple[str, str], set[uuid.UUID]] = {}
    routes = Route.objects.order_by().values_list("endpoint", "region_id", "model_id").distinct()
    for endpoint, region, model in routes:
        offers.setdefault((endpoint, region), set()).add(model)
    by_endpoint = {
        endpoint: set().union(*(of for (e, _r), of in offers.items() if e == endpoint))
        for endpoint in Endpoint
    }
    both = by_endpoint[Endpoint.RUNTIME] & by_endpoint[Endpoint.MANTLE]
    for listing in listings:
        if listing.problem is not None or not listing.mantle:
            continue
        here = {e: offers.get((e.value, listing.region), set()) & both for e in Endpoint}
        for endpoint, other in (
            (Endpoint.RUNTIME, Endpoint.MANTLE),
            (Endpoint.MANTLE, Endpoint.RUNTIME),
        ):
            only = sorted(names[pk] for pk in here[endpoint] - here[other])
            changes.disagreements += [(listing.region, name, endpoint.value) for name in only]


def update_routes(
    region: str,
    endpoint: Endpoint,
    listed: Mapping[tuple[uuid.UUID, RouteTarget], AIModel],
    changes: Changes,
    *,
    is_whole: bool = True,
) -> None:
    """Make a region's routes of an endpoint those that it lists. Provisioned capacity, which no
    listing has, stays; where a part of the listing could not be read, all stay.
    """
    routes = Route.objects.filter(region=region, endpoint=endpoint)
    existing = {(r.model_id, r.target()): r for r in routes.exclude(kind=RouteKind.PROVISIONED)}
    now = clock.now()
    new = [
        Route.of(target, model, region, source=RouteSource.SYNC, last_seen_at=now)
        for (pk, target), model in listed.items()
        if (pk, target) not in existing
    ]
    vanished = [route for key, route in existing.items() if is_whole and key not in listed]
    confirmed = [route.pk for key, route in existing.items() if key in listed]
    routes.filter(pk__in=[route.pk for route in vanished]).delete()
    Route.objects.bulk_create(new)
    routes.filter(pk__in=confirmed).update(last_seen_at=now)
    # One target has a route for each API.
    before = {(route.model_id, route.target_id) for route in existing.values()}
    after = {(pk, target.target_id): target.target_id for pk, target in listed}
    changes.appeared += [(region, name) for key, name in after.items() if key not in before]
    gone = before - set(after) if is_whole else set()
    changes.vanished += [(region, name) for pk, name in sorted(gone, key=str)]


def update_models(
    entries: Sequence[ListedModel], lifecycles: Mapping[str, LifecycleFacts], changes: Changes
) -> dict[str, AIModel]:
    """Return the catalogue's rows for what is listed, by model id, new ones created and lifecycles
    brought up to date.
    """
    provider = Provider.objects.get_or_create(slug="bedrock", defaults={"name": "AWS Bedrock"})[0]
    bases = {base for entry in entries for base in bases_of(entry)}
    models = AIModel.objects.named({entry.model_id for entry in entries} | bases)
    # whole models before their sizes, in whatever order they are listed
    for entry in sorted(entries, key=lambda entry: len(bases_of(entry))):
        model = models.get(entry.model_id)
        if model is not None:
            update_lifecycle(model, lifecycles[entry.model_id], changes)
        elif not any(base in models for base in bases_of(entry)):
            # a model of which only sizes are listed goes by the name that they share
            model_id = next(iter(bases_of(entry)), entry.model_id)
            facts = lifecycles[entry.model_id]
            models[model_id] = create_model(replace(entry, model_id=model_id), facts, provider)
            note_new_model(model_id, changes)
    return models


SIZE = re.compile(r":\d+k$")  # of the context, for which capacity is sold


def bases_of(entry: ListedModel) -> tuple[str, ...]:
    """Return the ids, without and with another version, of the model that an entry is only a
    provisioned size of, such as `...-v1:0:200k`; none where it is a model itself.
    """
    callable_here = {"ON_DEMAND", "INFERENCE_PROFILE"} & set(entry.inference_types)
    if callable_here or not SIZE.search(entry.model_id):
        return ()
    base = SIZE.sub("", entry.model_id)
    return tuple(dict.fromkeys((base, base.rsplit(":", 1)[0])))


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
        facts_as_of=clock.now().date(),
    )


def create_mantle_model(entry: MantleModel) -> AIModel:
    """Create a model that only bedrock-mantle lists, with no more than its id; vendor and name are
    those of its family's other models.
    """
    provider = Provider.objects.get_or_create(slug="bedrock", defaults={"name": "AWS Bedrock"})[0]
    prefix = entry.model_id.split(".", 1)[0]
    family = AIModel.objects.filter(api_model_id__startswith=f"{prefix}.").first()
    return AIModel.objects.create(
        provider=provider,
        name=entry.model_id,
        vendor=family.vendor if family else prefix,
        api_model_id=entry.model_id,
        kind=ModelKind.TEXT,
        input_modalities=["TEXT"],
        output_modalities=["TEXT"],
        capabilities=["chat", "system", "tools"],
        facts_as_of=clock.now().date(),
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
    models = models | AIModel.objects.named(sorted(unlisted))
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
            route = catalogue.runtime_route(model_id, target, api)
            routes[model.pk, route] = model
    return routes
