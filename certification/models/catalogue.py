"""The catalogue: providers, regions, models with their ids, and the routes to them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models, transaction
from django.db.models import OuterRef, Q
from django.utils.translation import gettext_lazy as _

from certification import labels
from certification.bedrock import catalogue as shipped
from certification.inference import API, Endpoint, RouteTarget
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

    def with_other_ids(self) -> Any:
        """Add `other_ids`, the aliases of each model."""
        aliases = ModelAlias.objects.filter(model=OuterRef("pk")).order_by("alias")
        return self.annotate(other_ids=ArraySubquery(aliases.values("alias")))

    def named(self, names: Iterable[str]) -> dict[str, AIModel]:
        """Return {name: model} for these names, each a UUID, an api_model_id or an alias, without
        unknown ones.
        """
        names = list(dict.fromkeys(names))
        ids: dict[str, uuid.UUID] = {}
        for name in names:
            with contextlib.suppress(ValueError):
                ids[name] = uuid.UUID(name)
        by_key: dict[str, AIModel] = {}
        for model in self.filter(Q(api_model_id__in=names) | Q(pk__in=ids.values())):
            by_key[model.api_model_id] = by_key[str(model.pk)] = model
        others = [key for name in names if (key := str(ids.get(name, name))) not in by_key]
        if others:
            merged = [ids[name] for name in names if name in ids]
            aliases = ModelAlias.objects.filter(Q(alias__in=others) | Q(former_id__in=merged))
            models = self.in_bulk([alias.model_id for alias in aliases])
            for alias in aliases:
                if alias.model_id in models:
                    by_key.setdefault(alias.alias, models[alias.model_id])
                    by_key.setdefault(str(alias.former_id), models[alias.model_id])
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


class ModelAlias(models.Model):
    """Another id of a model: on the other endpoint, or with a date.

    `former_id` is the UUID of the row that the id had before it was merged into the model's.
    """

    alias = models.CharField(_("alias"), max_length=200, unique=True)
    model = models.ForeignKey(
        AIModel, on_delete=models.CASCADE, related_name="aliases", verbose_name=_("model")
    )
    former_id = models.UUIDField(
        _("former UUID"), null=True, blank=True, unique=True, editable=False
    )

    class Meta:
        verbose_name = _("model alias")
        verbose_name_plural = _("model aliases")
        ordering = ["alias"]

    def __str__(self) -> str:
        return self.alias


class RouteKind(models.TextChoices):
    ON_DEMAND = "ON_DEMAND", _("on demand")
    INFERENCE_PROFILE = "INFERENCE_PROFILE", _("inference profile")
    PROVISIONED = "PROVISIONED", _("provisioned")


ENDPOINTS = [(endpoint.value, endpoint.value) for endpoint in Endpoint]
APIS = [(api.value, labels.APIS[api]) for api in API]


class RouteSource(models.TextChoices):
    CATALOGUE = "catalogue", _("catalogue")
    SYNC = "sync", _("sync")


class RouteQuerySet(models.QuerySet["Route"]):
    def record_refusals(
        self,
        model_id: uuid.UUID,
        region: str,
        refusals: Mapping[RouteTarget, tuple[str, str] | None],
        at: datetime,
    ) -> None:
        """Note what each of these routes said at `at`: (reason, message) of a refusal, None for an
        answer. Routes that the catalogue does not know are left out.
        """
        for target, refusal in refusals.items():
            route = self.filter(
                model_id=model_id,
                region_id=region,
                endpoint=target.endpoint,
                api=target.api,
                target_id=target.target_id,
            )
            if refusal is None:
                route.exclude(last_refusal=None).update(last_refusal=None)
            else:
                reason, message = refusal
                route.update(
                    last_refusal={"reason": reason, "message": message, "at": at.isoformat()}
                )


class Route(models.Model):
    """One way to call a model in a region.

    `last_refusal` is what the way itself was last refused with, {reason, message, at (ISO 8601)};
    None when it answered since, or was never refused.
    """

    model = models.ForeignKey(
        AIModel, on_delete=models.CASCADE, related_name="routes", verbose_name=_("model")
    )
    region = models.ForeignKey(
        Region, on_delete=models.CASCADE, related_name="routes", verbose_name=_("region")
    )
    kind = models.CharField(_("kind"), max_length=20, choices=RouteKind.choices)
    target_id = models.CharField(_("target id"), max_length=300)
    endpoint = models.CharField(
        _("endpoint"), max_length=20, choices=ENDPOINTS, default=Endpoint.RUNTIME.value
    )
    api = models.CharField(_("API"), max_length=20, choices=APIS, default=API.CONVERSE.value)
    path_prefix = models.CharField(_("path prefix"), max_length=40, blank=True)
    source = models.CharField(
        _("source"), max_length=10, choices=RouteSource.choices, default=RouteSource.CATALOGUE
    )
    last_seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)
    last_refusal = models.JSONField(_("last refusal"), null=True, blank=True, editable=False)

    objects = RouteQuerySet.as_manager()

    class Meta:
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        ordering = ["model", "region", "endpoint", "api", "kind", "target_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "region", "endpoint", "api", "target_id"], name="route_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.target()} @ {self.region_id}"

    @classmethod
    def of(cls, target: RouteTarget, model: AIModel, region: str, **values: Any) -> Route:
        """Return an unsaved route to a target; `values` are further fields."""
        return cls(
            model=model,
            region_id=region,
            kind=target.kind,
            target_id=target.target_id,
            endpoint=target.endpoint,
            api=target.api,
            path_prefix=target.path_prefix,
            **values,
        )

    def target(self) -> RouteTarget:
        """Return what to call."""
        return RouteTarget(
            self.target_id, self.kind, Endpoint(self.endpoint), API(self.api), self.path_prefix
        )

    @property
    def preference(self) -> tuple[int, int, int, str]:
        """The key by which routes are sorted before they are tried."""
        return shipped.order_of_trial(self.target())


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
    add_aliases(facts, known)
    routes_before = Route.objects.count()
    add_routes(facts, (*created, *updated))
    shared_cache.invalidate()
    return Loaded(
        models_created=len(created),
        models_updated=len(updated),
        routes_created=max(0, Route.objects.count() - routes_before),
        regions_created=Region.objects.count() - regions_before,
    )


def add_aliases(facts: shipped.Catalogue, known: Mapping[str, AIModel]) -> None:
    """Add the catalogue's aliases, but for ids that have a row of their own: a sync created it, and
    only an operator can say that both are one model.
    """
    ModelAlias.objects.bulk_create(
        [
            ModelAlias(alias=alias, model=known[entry.api_model_id])
            for entry in facts.models.values()
            for alias in entry.aliases
            if alias not in known
        ],
        ignore_conflicts=True,
    )


def add_routes(facts: shipped.Catalogue, rows: Iterable[AIModel]) -> None:
    """Replace the routes that these models have from an older catalogue by those of this one.

    Only for models whose facts came from here just now: a later sync may have removed some on
    purpose. What a listing confirmed stays.
    """
    rows = list(rows)
    stale = Route.objects.filter(model__in=rows, source=RouteSource.CATALOGUE, last_seen_at=None)
    stale.delete()
    Route.objects.bulk_create(
        [
            Route.of(target, row, region)
            for row in rows
            for region in facts.models[row.api_model_id].regions
            for target in facts.models[row.api_model_id].routes_in(region)
        ],
        ignore_conflicts=True,
        batch_size=1000,
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
