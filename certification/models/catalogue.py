"""The catalogue: providers, regions, models, and the routes to them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models, transaction
from django.db.models import OuterRef, Q
from django.utils.translation import gettext_lazy as _

from certification.bedrock import catalogue as shipped
from certification.lib import shared_cache


class Provider(models.Model):
    slug = models.SlugField(_("slug"), primary_key=True)
    name = models.CharField(_("name"), max_length=100)

    class Meta:
        verbose_name = _("provider")
        verbose_name_plural = _("providers")
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class RegionQuerySet(models.QuerySet["Region"]):
    def enabled(self) -> RegionQuerySet:
        return self.filter(enabled=True)


class Region(models.Model):
    code = models.CharField(_("code"), max_length=32, primary_key=True)
    name = models.CharField(_("name"), max_length=100)
    enabled = models.BooleanField(_("enabled"), default=True)
    opt_in = models.BooleanField(
        _("opt-in"), default=False, help_text=_("Accounts must enable this region first.")
    )

    objects = RegionQuerySet.as_manager()

    class Meta:
        verbose_name = _("region")
        verbose_name_plural = _("regions")
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code


class ModelKind(models.TextChoices):
    TEXT = "text", _("text")
    EMBEDDING = "embedding", _("embedding")
    IMAGE = "image", _("image")
    VIDEO = "video", _("video")
    SPEECH = "speech", _("speech")
    RERANK = "rerank", _("rerank")


class Lifecycle(models.TextChoices):
    ACTIVE = "ACTIVE", _("active")
    LEGACY = "LEGACY", _("legacy")
    PREVIEW = "PREVIEW", _("preview")
    EOL = "EOL", _("end of life")
    UNKNOWN = "UNKNOWN", _("unknown")


class AIModelQuerySet(models.QuerySet["AIModel"]):
    def active(self) -> AIModelQuerySet:
        return self.filter(is_active=True)

    def with_offered_in(self) -> Any:
        """Add `offered_in`, the codes of the regions where each model has a route."""
        routes = Route.objects.filter(model=OuterRef("pk")).order_by().values("region_id")
        return self.annotate(offered_in=ArraySubquery(routes.distinct()))

    def named(self, names: Iterable[str]) -> dict[str, AIModel]:
        """Return {name: model} for these names, each a UUID or an api_model_id, without unknown
        ones.
        """
        names = list(dict.fromkeys(names))
        ids: dict[str, uuid.UUID] = {}
        for name in names:
            with contextlib.suppress(ValueError):
                ids[name] = uuid.UUID(name)
        by_key: dict[str, AIModel] = {}
        for model in self.filter(Q(api_model_id__in=names) | Q(pk__in=ids.values())):
            by_key[model.api_model_id] = by_key[str(model.pk)] = model
        return {n: by_key[k] for n in names if (k := str(ids.get(n, n))) in by_key}


class AIModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(
        Provider, on_delete=models.PROTECT, related_name="models", verbose_name=_("provider")
    )
    name = models.CharField(_("name"), max_length=200)
    vendor = models.CharField(_("vendor"), max_length=100, db_index=True)
    api_model_id = models.CharField(_("API model id"), max_length=200, unique=True)
    kind = models.CharField(
        _("kind"), max_length=20, choices=ModelKind.choices, default=ModelKind.TEXT
    )
    input_modalities = models.JSONField(_("input modalities"), default=list, blank=True)
    output_modalities = models.JSONField(_("output modalities"), default=list, blank=True)
    capabilities = models.JSONField(_("capabilities"), default=list, blank=True)
    streaming = models.BooleanField(_("streaming"), default=False)
    context_window = models.PositiveIntegerField(_("context window"), null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(_("max output tokens"), null=True, blank=True)
    dimensions = models.PositiveIntegerField(_("vector dimensions"), null=True, blank=True)
    input_price = models.DecimalField(
        _("USD per million input tokens"), max_digits=12, decimal_places=6, null=True, blank=True
    )
    output_price = models.DecimalField(
        _("USD per million output tokens"), max_digits=12, decimal_places=6, null=True, blank=True
    )
    lifecycle = models.CharField(
        _("lifecycle"), max_length=10, choices=Lifecycle.choices, default=Lifecycle.UNKNOWN
    )
    end_of_life_on = models.DateField(_("end of life on"), null=True, blank=True)
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Only active models are certified in sweeps.")
    )
    facts_as_of = models.DateField(_("facts as of"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = AIModelQuerySet.as_manager()

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ["vendor", "name", "api_model_id"]

    def __str__(self) -> str:
        return self.api_model_id

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the cost of so many tokens; None when a price that it takes is unknown."""
        if self.input_price is None or (output_tokens and self.output_price is None):
            return None
        output_price = self.output_price or 0  # embeddings have no output to pay for
        return (
            float(self.input_price) * input_tokens + float(output_price) * output_tokens
        ) / 1_000_000


class RouteKind(models.TextChoices):
    ON_DEMAND = "ON_DEMAND", _("on demand")
    INFERENCE_PROFILE = "INFERENCE_PROFILE", _("inference profile")
    PROVISIONED = "PROVISIONED", _("provisioned")
    # Listed in the region, yet not reachable through bedrock-runtime: kept so that the matrix can
    # say why.
    MANTLE = "MANTLE", _("other endpoint")


class RouteSource(models.TextChoices):
    CATALOGUE = "catalogue", _("catalogue")
    SYNC = "sync", _("sync")


class Route(models.Model):
    model = models.ForeignKey(
        AIModel, on_delete=models.CASCADE, related_name="routes", verbose_name=_("model")
    )
    region = models.ForeignKey(
        Region, on_delete=models.CASCADE, related_name="routes", verbose_name=_("region")
    )
    kind = models.CharField(_("kind"), max_length=20, choices=RouteKind.choices)
    target_id = models.CharField(_("target id"), max_length=300)
    source = models.CharField(
        _("source"), max_length=10, choices=RouteSource.choices, default=RouteSource.CATALOGUE
    )
    last_seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)

    class Meta:
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        ordering = ["model", "region", "kind", "target_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "region", "kind", "target_id"], name="route_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.target_id} @ {self.region_id}"

    @property
    def preference(self) -> tuple[int, str]:
        """The order in which routes are tried: on demand, geographic profile, global profile,
        provisioned.
        """
        is_global = self.target_id.startswith("global.")
        rank = {RouteKind.ON_DEMAND: 0, RouteKind.INFERENCE_PROFILE: 2 if is_global else 1}.get(
            RouteKind(self.kind), 3
        )
        return rank, self.target_id


@dataclass(frozen=True)
class Loaded:
    """What loading the shipped catalogue changed, as counts of rows."""

    models_created: int
    models_updated: int
    routes_created: int
    regions_created: int


ACTIVE_LIFECYCLES = frozenset(
    {Lifecycle.ACTIVE, Lifecycle.LEGACY, Lifecycle.PREVIEW, Lifecycle.UNKNOWN}
)


@transaction.atomic
def load_shipped() -> Loaded:
    """Bring the shipped catalogue into the database. Repeatable: rows with newer facts and
    operators' switches are left alone.
    """
    facts = shipped.load()
    as_of = date.fromisoformat(facts.as_of)
    provider, _created = Provider.objects.get_or_create(
        slug="bedrock", defaults={"name": "AWS Bedrock"}
    )
    regions_before = Region.objects.count()
    Region.objects.bulk_create(
        [Region(code=r.code, name=r.name, opt_in=r.opt_in) for r in facts.regions.values()],
        ignore_conflicts=True,
    )
    known = {m.api_model_id: m for m in AIModel.objects.all()}
    created, updated = [], []
    for entry in facts.models.values():
        row = known.get(entry.api_model_id)
        if row is None:
            row = AIModel(provider=provider, is_active=entry.lifecycle in ACTIVE_LIFECYCLES)
            created.append(row)
        elif row.facts_as_of and row.facts_as_of >= as_of:
            continue
        else:
            updated.append(row)
        copy_facts(entry, row, as_of)
    AIModel.objects.bulk_create(created)
    AIModel.objects.bulk_update(updated, FACT_FIELDS)
    known.update({m.api_model_id: m for m in created})
    # Routes are only added for models whose facts came from here just now: a later sync may have
    # removed some on purpose.
    routes_before = Route.objects.count()
    Route.objects.bulk_create(
        [
            route
            for row in (*created, *updated)
            for route in routes_of(facts.models[row.api_model_id], row)
        ],
        ignore_conflicts=True,
        batch_size=1000,
    )
    shared_cache.invalidate()
    return Loaded(
        models_created=len(created),
        models_updated=len(updated),
        routes_created=Route.objects.count() - routes_before,
        regions_created=Region.objects.count() - regions_before,
    )


FACT_FIELDS = (
    "name", "vendor", "api_model_id", "kind", "input_modalities", "output_modalities",
    "capabilities", "streaming", "context_window", "max_output_tokens", "dimensions",
    "input_price", "output_price", "lifecycle", "facts_as_of",
)  # fmt: skip


def copy_facts(entry: shipped.CatalogueModel, row: AIModel, as_of: date) -> None:
    """Set the catalogue's facts on a row, without saving it."""
    for field in FACT_FIELDS:
        value = as_of if field == "facts_as_of" else getattr(entry, field)
        if isinstance(value, tuple | frozenset):
            value = sorted(value)
        setattr(row, field, value)


def route_kind(target: str) -> RouteKind:
    """The kind of a route target as the catalogue and Bedrock's listings write it."""
    if target in RouteKind.values:
        return RouteKind(target)
    return RouteKind.PROVISIONED if target.startswith("arn:") else RouteKind.INFERENCE_PROFILE


def routes_of(entry: shipped.CatalogueModel, row: AIModel) -> Iterable[Route]:
    """Yield the routes that the shipped catalogue knows for a model."""
    for region in entry.regions:
        for target in entry.targets.get(region, (RouteKind.MANTLE,)):
            kind = route_kind(target)
            target_id = target if kind == RouteKind.INFERENCE_PROFILE else entry.api_model_id
            yield Route(model=row, region_id=region, kind=kind, target_id=target_id)
