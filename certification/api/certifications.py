"""Where models stand: certifications as a list, and one with what proves it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet, UUIDField, Value
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import caching, filters, representations, views
from certification.api.caching import CacheableResponse
from certification.api.envelope import not_found_error
from certification.api.filters import ChoiceListField, Paged
from certification.api.representations import CertificationDetail, CertificationPage, ModelRegion
from certification.api.views import View
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
Blank: TypeAlias = tuple[UUID, str, str, bool, dict[str, Any] | None]
ORDER = ("model__vendor", "model__name", "model__api_model_id", "region")
VERDICTS = (
    Status.CERTIFIED, Status.QUALITY_WARNING, Status.FAILED, Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED,
)  # fmt: skip
# Words of runs that are no statuses of certifications: the standings or the states of active runs
# that they stand for. A cancelled run leaves no mark on a certification.
RUN_WORDS: Mapping[str, tuple[str, ...]] = {
    State.COMPLETED: VERDICTS,
    State.QUEUED: (State.PENDING, State.QUEUED),
    State.PROCESSING: (State.PROCESSING,),
    State.CANCELLED: (),
}
RUNS_MOVE = timedelta(seconds=2)
ABOUT_RUNS = (State.QUEUED, State.PROCESSING)
STATUS_HELP = """One or several words, separated by commas, in any case. A status of certifications means just that, \
so FAILED lists what failed its tests and nothing else; what cannot be used for another reason is PERMISSION_REQUIRED or \
CONFIGURATION_REQUIRED. The words of runs: COMPLETED is whatever has a verdict now, good or bad; QUEUED and PROCESSING \
are pairs whose next run waits or is under way, whatever their standing; CANCELLED is nothing."""


class CertificationFilters(Paged):
    modelId = serializers.CharField(
        max_length=200,
        required=False,
        help_text="Our UUID or the API model id. Regions where it was never tested are then listed as `not_tested`.",
    )
    region = serializers.CharField(max_length=32, required=False)
    status = ChoiceListField([*(s.value for s in Status), *RUN_WORDS], help_text=STATUS_HELP)
    rating = ChoiceListField("ABCDEF", help_text="Letters, separated by commas.")
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
        """Where models stand in regions now."""
        given = views.query(request, CertificationFilters)
        return caching.cached_response(
            request, "certifications", given, lambda: _said(given, timezone.now())
        )


def _said(given: Mapping[str, Any], now: datetime) -> CacheableResponse:
    """A page, and until when it holds. What runs do between their first and last moment is told to
    nobody: it is read again.
    """
    answer = page(given, now)
    pairs = answer["certifications"]
    coming = [pair["expiresAt"] for pair in pairs if pair["expiresAt"] and pair["expiresAt"] > now]
    if any(pair["activeRun"] for pair in pairs) or not set(ABOUT_RUNS).isdisjoint(
        given.get("status", ())
    ):
        coming.append(now + RUNS_MOVE)
    return CacheableResponse(answer, until=min(coming, default=None))


@dataclass(frozen=True)
class Asked:
    """The filters with their names looked up and their words taken apart. `statuses` None: any."""

    model: AIModel | None = None
    region: Region | None = None
    statuses: frozenset[str] | None = None
    states: frozenset[str] = frozenset()
    ratings: Sequence[str] = ()
    vendor: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Asked:
        """Raises 404 for an unknown model, 400 for an unknown region."""
        words = given.get("status", ())
        meant = {word: RUN_WORDS.get(word, (word,)) for word in words}
        return cls(
            model=filters.find_model(given["modelId"]) if "modelId" in given else None,
            region=filters.find_region(given["region"]) if "region" in given else None,
            statuses=frozenset(s for w in words for s in meant[w] if w not in ABOUT_RUNS)
            if words
            else None,
            states=frozenset(s for w in words for s in meant[w] if w in ABOUT_RUNS),
            ratings=given.get("rating", ()),
            vendor=given.get("vendor", ""),
        )


def page(given: Mapping[str, Any], now: datetime) -> CertificationPage:
    """The answer to these checked filters, whoever asks. Raises 404 for an unknown model, 400 for
    an unknown region.
    """
    asked = Asked.of(given)
    rows = rows_for(asked, now)
    start, end = (given["page"] - 1) * given["limit"], given["page"] * given["limit"]
    tested, untested = rows.count(), untested_for(asked)
    pairs = read(rows.order_by(*ORDER), start, end) if start < tested else []
    if end > tested:
        pairs += _blanks(untested[max(0, start - tested) : end - tested], asked.model)
    return {
        "certifications": [representations.certification(pair, now) for pair in pairs],
        "pagination": filters.pagination(given["page"], given["limit"], tested + untested.count()),
    }


def rows_for(asked: Asked, now: datetime) -> ModelCertificationQuerySet:
    """The certifications that are asked for."""
    rows = ModelCertification.objects.all()
    if asked.model:
        rows = rows.filter(model=asked.model)
    if asked.region:
        rows = rows.filter(region=asked.region)
    if asked.statuses is not None:
        wanted = rows.standing(asked.statuses, now)
        rows = wanted | rows.with_active_run(asked.states) if asked.states else wanted
    if asked.ratings:
        rows = rows.filter(rating__in=asked.ratings)
    if asked.vendor:
        rows = rows.filter(model__vendor__iexact=asked.vendor)
    return rows


def read(rows: ModelCertificationQuerySet, start: int, end: int) -> list[ModelRegion]:
    """These certifications with all that is told of them, in two queries."""
    # first which, then all about them
    page = ModelCertification.objects.filter(pk__in=rows.values("pk")[start:end])
    found = list(page.told().order_by(*rows.query.order_by))
    tallies = TestResult.objects.tallies(row.run_id for row in found if row.run_id)
    return [_pair(row, tallies.get(row.run_id, (0, 0)) if row.run_id else (0, 0)) for row in found]


def _pair(row: Any, tally: tuple[int, int]) -> ModelRegion:
    return ModelRegion(row.model, row.region, row.offered, row.active_run, row, tally)


def untested_for(asked: Asked) -> QuerySet[Any, Blank]:
    """Pairs without a certification: with a model, wherever it was never tested; else those that a
    first run is for.
    """
    if asked.model:
        return _never_tested(asked, asked.model)
    return _first_runs(asked)


def _never_tested(asked: Asked, model: AIModel) -> QuerySet[Any, Blank]:
    regions = (
        Region.objects.filter(pk=asked.region.pk) if asked.region else Region.objects.enabled()
    )
    regions = regions.exclude(
        Exists(ModelCertification.objects.filter(model=model, region=OuterRef("pk")))
    )
    if asked.statuses is not None and Status.NOT_TESTED not in asked.statuses:
        running = CertificationRun.objects.filter(
            model=model, region=OuterRef("pk"), status__in=asked.states
        )
        regions = regions.filter(Exists(running)) if asked.states else regions.none()
    if asked.ratings or asked.vendor.lower() not in ("", model.vendor.lower()):
        regions = regions.none()
    return regions.order_by("pk").values_list(
        Value(model.pk, UUIDField()),
        "pk",
        "name",
        Exists(Route.objects.filter(model=model, region=OuterRef("pk"))),
        active_run(model, OuterRef("pk")),
    )


def _first_runs(asked: Asked) -> QuerySet[Any, Blank]:
    runs = CertificationRun.objects.filter(status__in=asked.states)
    pair = {"model": OuterRef("model"), "region": OuterRef("region")}
    runs = runs.exclude(Exists(ModelCertification.objects.filter(**pair)))
    if asked.region:
        runs = runs.filter(region=asked.region)
    if asked.vendor:
        runs = runs.filter(model__vendor__iexact=asked.vendor)
    if asked.ratings or not asked.states:
        runs = runs.none()
    return runs.order_by(*ORDER).values_list(
        "model_id",
        "region_id",
        "region__name",
        Exists(Route.objects.filter(**pair)),
        active_run(OuterRef("model"), OuterRef("region")),
    )


def _blanks(found: Collection[Blank], model: AIModel | None) -> list[ModelRegion]:
    models = {model.pk: model} if model else AIModel.objects.in_bulk({entry[0] for entry in found})
    return [
        ModelRegion(models[model_id], Region(code=code, name=name), offered, active)
        for model_id, code, name, offered, active in found
    ]


class DetailOptions(Paged):
    """Pages are those of the history."""

    transcripts = serializers.BooleanField(
        default=False,
        help_text="With the requests and replies of each trial, as far as they are kept and fit.",
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
                description="A certification's `id`, or `<model>:<region>` with our UUID or the API model id.",
            ),
        ],
    )
    def get(self, request: Request, certification_id: str) -> Response:
        """One model in one region: where it stands, the run that says so, its results per case, and
        every run so far.
        """
        given = views.query(request, DetailOptions)
        return Response(detail(find_pair(certification_id), given, timezone.now()))


def find_pair(name: str) -> ModelRegion:
    """By a certification's number or `<model>:<region>`. Raises 404 `certification_not_found`."""
    if name.isascii() and name.isdigit():
        found = read(ModelCertification.objects.filter(pk=int(name[:20])), 0, 1)
    else:
        found = [] if "\0" in name else _named(*name.rpartition(":")[::2])
    if not found:
        raise not_found_error(
            "certification_not_found",
            _(
                "There is no such certification. GET /api/certification-queue/certifications lists them."
            ),
        )
    return found[0]


def _named(model_name: str, region_code: str) -> list[ModelRegion]:
    model = AIModel.objects.named([model_name]).get(model_name)
    region = Region.objects.filter(pk=region_code).first()
    if model is None or region is None:
        return []
    asked = Asked(model, region)
    return read(rows_for(asked, timezone.now()), 0, 1) or _blanks(untested_for(asked), model)


def detail(pair: ModelRegion, given: Mapping[str, Any], now: datetime) -> CertificationDetail:
    """Everything about a pair; `given` are checked DetailOptions."""
    runs = CertificationRun.objects.filter(model=pair.model, region=pair.region)
    proof = (
        runs.filter(pk=pair.row.run_id).first()
        if pair.row and pair.row.run_id
        else _last_finished(runs)
    )
    if proof:
        proof.model = pair.model
    # active ones first
    newest = (
        runs.select_related("model")
        .only(*representations.RUN_FIELDS)
        .order_by("-completed_at", "pk")
    )
    kept = (
        TestResult.objects.filter(run=proof).order_by("pk") if proof else TestResult.objects.none()
    )
    transcripts = given["transcripts"]
    return {
        **representations.certification(pair, now),
        "run": representations.run_detail(proof) if proof else None,
        "results": representations.results(
            kept if transcripts else kept.without_transcripts(), transcripts=transcripts
        ),
        "history": representations.runs(filters.slice_of(newest, given["page"], given["limit"])),
        "pagination": filters.pagination(given["page"], given["limit"], runs.count()),
    }


def _last_finished(runs: QuerySet[CertificationRun]) -> CertificationRun | None:
    finished = runs.filter(completed_at__isnull=False).exclude(status=State.CANCELLED)
    return finished.order_by("-completed_at").first()
