"""Certifications: the list, and one with the run and the results that prove it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, UUIDField, Value, When
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import caching, filters, representations, views
from certification.api.caching import CacheableResponse
from certification.api.envelope import not_found_error
from certification.api.filters import ChoiceListField, Paged
from certification.api.representations import (
    RATINGS,
    CertificationDetail,
    CertificationPage,
    ModelRegion,
)
from certification.api.views import View
from certification.lib import clock
from certification.models import (
    AIModel,
    CertificationRun,
    ModelCertification,
    Region,
    Route,
    State,
    TestResult,
)
from certification.models.certifications import ModelCertificationQuerySet, active_run
from certification.reasons import Status

# A pair without a certification: model id, region code and name, whether a route is known, its
# active run.
UntestedPair: TypeAlias = tuple[UUID, str, str, bool, dict[str, Any] | None]
ORDER = ("model__vendor", "model__name", "model__api_model_id", "region")
VERDICTS = (
    Status.CERTIFIED,
    Status.QUALITY_WARNING,
    Status.FAILED,
    Status.PERMISSION_REQUIRED,
    Status.CONFIGURATION_REQUIRED,
)
# States of runs that are no statuses of certifications, with the statuses or the states of active
# runs that they select. A cancelled run changes no certification.
RUN_STATES: Mapping[str, tuple[str, ...]] = {
    State.COMPLETED: VERDICTS,
    State.QUEUED: (State.PENDING, State.QUEUED),
    State.PROCESSING: (State.PROCESSING,),
    State.CANCELLED: (),
}
ACTIVE_RUN_STATES = (State.QUEUED, State.PROCESSING)
MAX_PER_PAGE = 1000  # the chat product reads all of them at once
ACTIVE_RUN_TTL = timedelta(seconds=2)
STATUS_HELP = """\
One or more words, separated by commas, in any case. A status of certifications selects just \
that, so FAILED lists what failed its tests and nothing else; what cannot be used for another \
reason is PERMISSION_REQUIRED or CONFIGURATION_REQUIRED. The states of runs: COMPLETED selects \
whatever has a verdict now, good or bad; QUEUED and PROCESSING select pairs whose next run waits \
or is active, whatever their status; CANCELLED selects nothing."""


class CertificationFilters(Paged):
    modelId = serializers.CharField(
        max_length=200,
        required=False,
        help_text="Our UUID or the API model id. Regions where it was never tested are then listed "
        "as `not_tested`.",
    )
    region = serializers.CharField(max_length=32, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PER_PAGE, default=20)
    status = ChoiceListField([*(s.value for s in Status), *RUN_STATES], help_text=STATUS_HELP)
    rating = ChoiceListField(RATINGS, help_text="Letters, separated by commas.")
    vendor = serializers.CharField(max_length=100, required=False, help_text="In any case.")


class Certifications(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="getCertifications",
        parameters=[CertificationFilters, *caching.CONDITIONAL],
        responses={200: CertificationPage, 304: caching.NOT_MODIFIED},
        tags=["certification queue"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """List the certifications of models in regions as they are now."""
        params = views.query(request, CertificationFilters)
        return caching.cached_response(
            request, "certifications", params, lambda: cacheable_page(params, clock.now())
        )


def cacheable_page(params: Mapping[str, Any], now: datetime) -> CacheableResponse:
    """Return a page, and until when it is true: nothing announces that something expires, or what
    runs do before they end.
    """
    data = page(params, now)
    pairs = data["certifications"]
    changes = [pair["expiresAt"] for pair in pairs if pair["expiresAt"] and pair["expiresAt"] > now]
    has_active_run = any(pair["activeRun"] for pair in pairs)
    if has_active_run or not set(ACTIVE_RUN_STATES).isdisjoint(params.get("status", ())):
        changes.append(now + ACTIVE_RUN_TTL)
    return CacheableResponse(data, until=min(changes, default=None))


@dataclass(frozen=True)
class Selection:
    """The checked parameters with names looked up and statuses resolved. `statuses` None: any."""

    model: AIModel | None = None
    region: Region | None = None
    statuses: frozenset[str] | None = None
    run_states: frozenset[str] = frozenset()
    ratings: Sequence[str] = ()
    vendor: str = ""

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Selection:
        """Raises 404 for an unknown model, 400 for an unknown region."""
        words = params.get("status", ())
        selected = {word: RUN_STATES.get(word, (word,)) for word in words}
        statuses = [s for word in words if word not in ACTIVE_RUN_STATES for s in selected[word]]
        return cls(
            model=filters.find_model(params["modelId"]) if "modelId" in params else None,
            region=filters.find_region(params["region"]) if "region" in params else None,
            statuses=frozenset(statuses) if words else None,
            run_states=frozenset(
                state for word in words if word in ACTIVE_RUN_STATES for state in selected[word]
            ),
            ratings=params.get("rating", ()),
            vendor=params.get("vendor", ""),
        )


def page(params: Mapping[str, Any], now: datetime) -> CertificationPage:
    """Read a page by checked parameters. Raises 404 for an unknown model, 400 for an unknown
    region.
    """
    selection = Selection.from_params(params)
    rows = rows_for(selection, now)
    start, end = (params["page"] - 1) * params["limit"], params["page"] * params["limit"]
    tested, untested = rows.count(), untested_for(selection)
    pairs = read(rows.order_by(*order_of(selection, rows)), start, end) if start < tested else []
    if end > tested:
        more = untested[max(0, start - tested) : end - tested]
        pairs += untested_pairs(more, selection.model)
    total = tested + untested.count()
    return {
        "certifications": [representations.certification(pair, now) for pair in pairs],
        "pagination": filters.pagination(params["page"], params["limit"], total),
    }


def order_of(selection: Selection, rows: ModelCertificationQuerySet) -> tuple[Any, ...]:
    """Return the order of a list. Without a model and a region the newest certification of each
    model comes first, so that a page that is shorter than the list leaves no model out.
    """
    if selection.model or selection.region:
        return ORDER
    newest = rows.order_by("model_id", F("last_tested_at").desc(nulls_last=True), "-pk")
    is_newest = Q(pk__in=newest.distinct("model_id").values("pk"))
    return (Case(When(is_newest, then=Value(0)), default=Value(1)), *ORDER)


def rows_for(selection: Selection, now: datetime) -> ModelCertificationQuerySet:
    """Return the certifications that the filters select."""
    rows = ModelCertification.objects.all()
    if selection.model:
        rows = rows.filter(model=selection.model)
    if selection.region:
        rows = rows.filter(region=selection.region)
    if selection.statuses is not None:
        with_status = rows.with_current_status(selection.statuses, now)
        rows = (
            with_status | rows.with_active_run(selection.run_states)
            if selection.run_states
            else with_status
        )
    if selection.ratings:
        rows = rows.filter(rating__in=selection.ratings)
    if selection.vendor:
        rows = rows.filter(model__vendor__iexact=selection.vendor)
    return rows


def read(rows: ModelCertificationQuerySet, start: int, end: int) -> list[ModelRegion]:
    """Read a slice of these certifications with all their details, in two queries."""
    # first which rows, then their details
    page = ModelCertification.objects.filter(pk__in=rows.values("pk")[start:end])
    certifications: list[Any] = list(page.with_details().order_by(*rows.query.order_by))
    tallies = TestResult.objects.tallies(row.run_id for row in certifications if row.run_id)
    return [
        ModelRegion(
            row.model, row.region, row.offered, row.active_run, row, tallies.get(row.run_id, (0, 0))
        )
        for row in certifications
    ]


def untested_for(selection: Selection) -> QuerySet[Any, UntestedPair]:
    """Return pairs without a certification: of one model, in each region where it was never tested;
    else those with a first run.
    """
    pair = {"model": OuterRef("model"), "region": OuterRef("region")}
    if selection.model is None:
        runs = CertificationRun.objects.filter(status__in=selection.run_states)
        runs = runs.exclude(Exists(ModelCertification.objects.filter(**pair)))
        if selection.region:
            runs = runs.filter(region=selection.region)
        if selection.vendor:
            runs = runs.filter(model__vendor__iexact=selection.vendor)
        if selection.ratings or not selection.run_states:
            runs = runs.none()
        return runs.order_by(*ORDER).values_list(
            "model_id",
            "region_id",
            "region__name",
            Exists(Route.objects.filter(**pair)),
            active_run(OuterRef("model"), OuterRef("region")),
        )
    model = selection.model
    regions = Region.objects.enabled()
    if selection.region:
        regions = Region.objects.filter(pk=selection.region.pk)
    tested = ModelCertification.objects.filter(model=model, region=OuterRef("pk"))
    regions = regions.exclude(Exists(tested))
    if selection.statuses is not None and Status.NOT_TESTED not in selection.statuses:
        active = CertificationRun.objects.filter(
            model=model, region=OuterRef("pk"), status__in=selection.run_states
        )
        regions = regions.filter(Exists(active)) if selection.run_states else regions.none()
    if selection.ratings or selection.vendor.lower() not in ("", model.vendor.lower()):
        regions = regions.none()
    return regions.order_by("pk").values_list(
        Value(model.pk, UUIDField()),
        "pk",
        "name",
        Exists(Route.objects.filter(model=model, region=OuterRef("pk"))),
        active_run(model, OuterRef("pk")),
    )


def untested_pairs(pairs: Collection[UntestedPair], model: AIModel | None) -> list[ModelRegion]:
    """Load the models of pairs without a certification."""
    models = {model.pk: model} if model else AIModel.objects.in_bulk({pair[0] for pair in pairs})
    return [
        ModelRegion(models[model_id], Region(code=code, name=name), offered, active)
        for model_id, code, name, offered, active in pairs
    ]


class DetailOptions(Paged):
    """Pages are those of the history."""

    transcripts = serializers.BooleanField(
        default=False,
        help_text="With the requests and replies of each trial, as far as they are stored and fit.",
    )


class CertificationById(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="getCertification",
        responses={200: CertificationDetail},
        tags=["certification queue"],
        parameters=[
            DetailOptions,
            OpenApiParameter(
                "certification_id",
                str,
                OpenApiParameter.PATH,
                description="A certification's `id`, or `<model>:<region>` with our UUID or the "
                "API model id.",
            ),
        ],
    )
    def get(self, request: Request, certification_id: str) -> Response:
        """Return one model in one region.

        With its status, the run that decided it, that run's results per case, and every run so far.
        """
        params = views.query(request, DetailOptions)
        return Response(detail(find_pair(certification_id), params, clock.now()))


def find_pair(name: str) -> ModelRegion:
    """Find a pair by a certification's number or `<model>:<region>`. Raises 404
    `certification_not_found`, 400 for what is neither.
    """
    pairs: list[ModelRegion] = []
    if ":" not in name and not name.removeprefix("-").isdigit():
        message = _("%s is not an id. Take one from the list.") % name[:60]
        raise views.invalid("path.certificationId", message)
    if name.isascii() and name.isdigit():
        pairs = read(ModelCertification.objects.filter(pk=int(name[:20])), 0, 1)
    elif "\0" not in name:
        model_name, _colon, region_code = name.rpartition(":")
        model = AIModel.objects.named([model_name]).get(model_name)
        region = Region.objects.filter(pk=region_code).first()
        if model and region:
            selection = Selection(model, region)
            pairs = read(rows_for(selection, clock.now()), 0, 1)
            pairs = pairs or untested_pairs(untested_for(selection), model)
    if not pairs:
        raise not_found_error(
            "certification_not_found",
            _(
                "There is no such certification. "
                "GET /api/certification-queue/certifications lists them."
            ),
        )
    return pairs[0]


def detail(pair: ModelRegion, params: Mapping[str, Any], now: datetime) -> CertificationDetail:
    """Represent everything about a pair; `params` are checked DetailOptions."""
    runs = CertificationRun.objects.filter(model=pair.model, region=pair.region)
    if pair.row and pair.row.run_id:
        proof = runs.filter(pk=pair.row.run_id).first()
    else:
        finished = runs.filter(completed_at__isnull=False).exclude(status=State.CANCELLED)
        proof = finished.order_by("-completed_at").first()
    results = TestResult.objects.none()
    if proof:
        proof.model = pair.model
        results = TestResult.objects.filter(run=proof).order_by("pk")
    transcripts = params["transcripts"]
    newest = (  # active ones first
        runs.select_related("model")
        .only(*representations.RUN_FIELDS)
        .order_by("-completed_at", "pk")
    )
    return {
        **representations.certification(pair, now),
        "run": representations.run_detail(proof) if proof else None,
        "results": representations.results(
            results if transcripts else results.without_transcripts(), transcripts=transcripts
        ),
        "history": representations.runs(filters.slice_of(newest, params["page"], params["limit"])),
        "pagination": filters.pagination(params["page"], params["limit"], runs.count()),
    }
