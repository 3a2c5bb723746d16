"""Bedrock's own listings into our catalogue: what appeared, what vanished, what went legacy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime

import structlog
from django.db import transaction
from django.utils import timezone

from certification.bedrock.client import Bedrock, ListedModel, ListedProfile
from certification.bedrock.errors import BedrockError
from certification.lib import shared_cache
from certification.models import AIModel, Lifecycle, ModelKind, Provider, Region, Route, RouteKind
from certification.models.catalogue import RouteSource

log = structlog.get_logger(__name__)

AT_ONCE = 8  # regions asked in parallel


@dataclass(frozen=True)
class RegionListing:
    """What one region answered; `problem` is the error that kept it from answering."""

    region: str
    models: tuple[ListedModel, ...] = ()
    profiles: tuple[ListedProfile, ...] = ()
    problem: BedrockError | None = None


@dataclass
class Changes:
    """What a sync found, as (region, what) pairs where a region matters."""

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


def ask(bedrock: Bedrock, regions: Iterable[str]) -> Iterable[RegionListing]:
    """The listings of these regions, several at a time, in the order they were named."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda region: _ask(bedrock, region), list(regions))


def _ask(bedrock: Bedrock, region: str) -> RegionListing:
    try:
        return RegionListing(
            region, bedrock.foundation_models(region), bedrock.inference_profiles(region)
        )
    except BedrockError as error:
        return RegionListing(region, problem=error)


def apply(listings: Iterable[RegionListing], *, dry_run: bool = False) -> Changes:
    """Bring listings into the catalogue. A region that did not answer, or listed nothing, changes
    nothing.
    """
    listings, changes = list(listings), Changes()
    lives = _lives(entry for listing in listings for entry in listing.models)
    try:
        with transaction.atomic():
            for listing in listings:
                _apply_region(listing, lives, changes)
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
class _Life:
    """Where a model stands in its life, as the regions say together."""

    lifecycle: str = Lifecycle.UNKNOWN
    end: date | None = None


def _lives(entries: Iterable[ListedModel]) -> dict[str, _Life]:
    """By model id. Regions retire a model at different times: it is ACTIVE while any of them says
    so, and ends last.
    """
    lives: dict[str, _Life] = {}
    for entry in entries:
        life = lives.setdefault(entry.model_id, _Life())
        if life.lifecycle != Lifecycle.ACTIVE and _lifecycle(entry) != Lifecycle.UNKNOWN:
            life.lifecycle = _lifecycle(entry)
        life.end = max(filter(None, (life.end, _date(entry.end_of_life))), default=None)
    return lives


def _apply_region(listing: RegionListing, lives: Mapping[str, _Life], changes: Changes) -> None:
    if listing.problem is not None:
        changes.problems.append((listing.region, listing.problem.reason, listing.problem.message))
        return
    if not listing.models:
        changes.problems.append(
            (listing.region, "bad_response", "The region listed no model; nothing was changed.")
        )
        return
    changes.regions += 1
    region = Region.objects.get(pk=listing.region)
    now = timezone.now()
    models = _models(listing.models, lives, changes)
    wanted = _routes(listing, models)
    existing = {
        (r.model_id, r.target_id): r
        for r in Route.objects.filter(
            region=region, kind__in=[RouteKind.ON_DEMAND, RouteKind.INFERENCE_PROFILE]
        )
    }
    other_endpoint = set(
        Route.objects.filter(region=region, kind=RouteKind.MANTLE).values_list(
            "model_id", flat=True
        )
    )
    new = [
        Route(
            model=m,
            region=region,
            kind=kind,
            target_id=target,
            source=RouteSource.SYNC,
            last_seen_at=now,
        )
        for (m, target), kind in wanted.items()
        if (m.pk, target) not in existing
        and not (m.pk in other_endpoint and kind == RouteKind.ON_DEMAND)
    ]
    Route.objects.bulk_create(new)
    changes.appeared += [(listing.region, route.target_id) for route in new]
    seen = {(m.pk, target) for m, target in wanted}
    gone = [route for key, route in existing.items() if key not in seen]
    Route.objects.filter(pk__in=[route.pk for route in gone]).delete()
    changes.vanished += [(listing.region, route.target_id) for route in gone]
    Route.objects.filter(pk__in=[r.pk for key, r in existing.items() if key in seen]).update(
        last_seen_at=now
    )


def _models(
    listed: Sequence[ListedModel], lives: Mapping[str, _Life], changes: Changes
) -> dict[str, AIModel]:
    """The catalogue's rows for what is listed, new ones made and lifecycles brought up to date."""
    provider = Provider.objects.get_or_create(slug="bedrock", defaults={"name": "AWS Bedrock"})[0]
    rows = AIModel.objects.in_bulk([m.model_id for m in listed], field_name="api_model_id")
    for entry in listed:
        row = rows.get(entry.model_id)
        if row is None and _is_variant(entry, rows):
            continue
        if row is None:
            row = rows[entry.model_id] = _new_model(entry, lives[entry.model_id], provider)
            changes.new_models.append(entry.model_id)
            continue
        _update_lifecycle(row, lives[entry.model_id], changes)
    return rows


def _is_variant(entry: ListedModel, rows: dict[str, AIModel]) -> bool:
    """A provisioned size of a known model, such as `...-v1:0:200k`: not a model of its own."""
    base = entry.model_id.rsplit(":", 1)[0]
    callable_here = {"ON_DEMAND", "INFERENCE_PROFILE"} & set(entry.inference_types)
    return not callable_here and (
        base in rows or AIModel.objects.filter(api_model_id=base).exists()
    )


def _new_model(entry: ListedModel, life: _Life, provider: Provider) -> AIModel:
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
        lifecycle=life.lifecycle,
        end_of_life_on=life.end,
        facts_as_of=timezone.now().date(),
    )


def kind_of(entry: ListedModel) -> ModelKind:
    """A listed model's kind, from what it puts out."""
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


def _lifecycle(entry: ListedModel) -> str:
    return entry.lifecycle if entry.lifecycle in Lifecycle.values else Lifecycle.UNKNOWN


def _date(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        return None


def _update_lifecycle(row: AIModel, life: _Life, changes: Changes) -> None:
    after, end = life.lifecycle, life.end or row.end_of_life_on
    if after == Lifecycle.ACTIVE and row.lifecycle == Lifecycle.PREVIEW:
        after = row.lifecycle  # the listing knows no previews
    if after in (row.lifecycle, Lifecycle.UNKNOWN) and end == row.end_of_life_on:
        return
    if after not in (row.lifecycle, Lifecycle.UNKNOWN):
        changes.lifecycle.append((row.api_model_id, row.lifecycle, after))
        row.lifecycle = after
    row.end_of_life_on = end
    row.save(update_fields=["lifecycle", "end_of_life_on", "updated_at"])


def _routes(
    listing: RegionListing, models: dict[str, AIModel]
) -> dict[tuple[AIModel, str], RouteKind]:
    """(model, target id) -> kind for every way the region offers now."""
    routes: dict[tuple[AIModel, str], RouteKind] = {}
    for entry in listing.models:
        if "ON_DEMAND" in entry.inference_types and entry.model_id in models:
            routes[models[entry.model_id], entry.model_id] = RouteKind.ON_DEMAND
    behind = {m for p in listing.profiles for m in p.model_ids} - set(models)
    models = models | AIModel.objects.in_bulk(sorted(behind), field_name="api_model_id")
    for profile in listing.profiles:
        for model_id in profile.model_ids:
            if model_id in models and profile.status in ("", "ACTIVE"):
                routes[models[model_id], profile.profile_id] = RouteKind.INFERENCE_PROFILE
    return routes
