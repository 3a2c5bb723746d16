"""Starting certifications, and following, cancelling and retrying the jobs that they become."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import representations, views
from certification.api.envelope import ApiError, not_found_error
from certification.api.representations import JobJSON, OneOf
from certification.api.views import View
from certification.engine import dispatch
from certification.engine.dispatch import MAX_IDEMPOTENCY_KEY, CertifyOptions, DispatchResult
from certification.models import AIModel, CertificationJob, Priority, Region, State, Tier

MAX_MODELS, MOST_REGIONS = 1000, 100

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key and body give the same job, however often they are sent.",
)


class Options(serializers.Serializer[Any]):
    """What each way of starting takes besides models and regions."""

    tier = serializers.ChoiceField(Tier.values, default=Tier.FULL)
    priority = serializers.ChoiceField(
        Priority.values, required=False, help_text="Chosen by the job's size without it."
    )
    maxCostUsd = serializers.FloatField(
        min_value=0,
        max_value=dispatch.MAX_COST_USD - 1,
        required=False,
        help_text="Refuse when it is estimated to cost more, or when a model's price is unknown.",
    )
    allowUnpriced = serializers.BooleanField(
        default=False,
        help_text="With `maxCostUsd`: start models without a known price too, at whatever they cost.",
    )


def _names(most: int, length: int, **options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=length), min_length=1, max_length=most, **options
    )


class One(Options):
    modelId = serializers.CharField(max_length=200, help_text="Our UUID or the API model id.")
    region = serializers.CharField(max_length=32)


class Several(Options):
    modelIds = _names(MAX_MODELS, 200, help_text="UUIDs or API model ids.")
    regions = _names(MOST_REGIONS, 32)


class Everything(Options):
    regions = _names(MOST_REGIONS, 32)
    includeUnlisted = serializers.BooleanField(
        default=False,
        help_text="Also call models where the catalogue knows no route: only a real call is proof.",
    )


class PairJSON(TypedDict):
    modelId: str
    region: str


class StartedOne(TypedDict):
    jobId: UUID
    bullJobId: str
    modelId: str
    region: str
    status: Annotated[str, OneOf(State.QUEUED)]


class StartedSeveral(TypedDict):
    jobId: UUID
    totalJobs: int
    modelIds: list[str]
    regions: list[str]
    status: Annotated[str, OneOf(State.QUEUED)]
    skipped: list[PairJSON]


class StartedAll(TypedDict):
    jobId: UUID
    totalJobs: int
    regions: list[str]
    status: Annotated[str, OneOf(State.QUEUED)]
    skipped: list[PairJSON]
    notOffered: int


class Cancelled(TypedDict):
    jobId: UUID
    status: Annotated[str, OneOf(State.CANCELLED)]
    cancelled: int


class Start(View):
    """The three ways to start share what they check and how they refuse."""

    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"POST": (404, 409)}

    def models(self, names: Sequence[str], path: str) -> list[AIModel]:
        """Raises 400 on a duplicate, 404 `model_not_found`."""
        _no_duplicates(names, path)
        try:
            found = dispatch.find_models(names)
        except dispatch.ModelNotFound as error:
            unknown = ", ".join(error.names[:5])
            raise not_found_error(
                error.code, _("Unknown model: %s. GET /api/models lists them.") % unknown
            ) from error
        if len(found) < len(names):
            raise views.invalid(
                path, _("A model stands twice in the list, under two of its names."), "duplicate"
            )
        return found

    def regions(self, codes: Sequence[str], path: str) -> list[Region]:
        """Raises 400 on a duplicate, an unknown or a disabled region."""
        _no_duplicates(codes, path)
        try:
            return dispatch.find_regions(codes)
        except dispatch.RegionNotFound as error:
            raise views.invalid(path, str(error), error.code) from error

    def certify_options(self, request: Request, given: dict[str, Any]) -> CertifyOptions:
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > MAX_IDEMPOTENCY_KEY or not key.isprintable():
            raise views.invalid(
                "header.Idempotency-Key",
                _("A key has at most %d printable characters.") % MAX_IDEMPOTENCY_KEY,
                "max_length",
            )
        user = views.current_user(request)
        return CertifyOptions(
            tier=given["tier"],
            by=user,
            priority=given.get("priority", ""),
            idempotency_key=key,
            max_cost_usd=given.get("maxCostUsd"),
            allow_unpriced=given["allowUnpriced"],
            config={"request": _fingerprint(request.path, given)} if key else {},
        )


def _no_duplicates(names: Sequence[str], path: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise views.invalid(path, _("%s stands twice in the list.") % twice[:100], "duplicate")


def _fingerprint(path: str, given: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([path, given], sort_keys=True).encode()).hexdigest()


def _started(options: CertifyOptions, done: DispatchResult) -> DispatchResult:
    """What was dispatched, unless the key belongs to another request."""
    if not done.created and done.job.config.get("request") != options.config.get("request"):
        raise ApiError(
            409,
            "idempotency_key_reused",
            _("This Idempotency-Key was used for another request. Send a new key."),
            {"jobId": str(done.job.pk)},
        )
    return done


def _refused(error: dispatch.DispatchError) -> ApiError:
    facts = {"jobId": str(error.job.pk)} if isinstance(error, dispatch.AlreadyRunning) else None
    return ApiError(409, error.code, str(error), facts)


def _skipped(done: DispatchResult) -> list[PairJSON]:
    return [{"modelId": model, "region": region} for model, region in done.skipped]


class CertifyModel(Start):
    @extend_schema(
        operation_id="certifyModel",
        request=One,
        responses={201: StartedOne},
        parameters=[IDEMPOTENCY_KEY],
        tags=["certification queue"],
    )
    def post(self, request: Request) -> Response:
        """Certify one model in one region."""
        given = views.body(request, One)
        [model], [region] = (
            self.models([given["modelId"]], "body.modelId"),
            self.regions([given["region"]], "body.region"),
        )
        options = self.certify_options(request, given)
        try:
            done = _started(options, dispatch.certify([(model, region)], options))
        except dispatch.DispatchError as error:
            raise _refused(error) from error
        answer: StartedOne = {
            "jobId": done.job.pk,
            "bullJobId": str(done.job.pk),
            "modelId": given["modelId"],
            "region": region.code,
            "status": "QUEUED",
        }
        return Response(answer, status=201)


class CertifyMultiple(Start):
    @extend_schema(
        operation_id="certifyMultiple",
        request=Several,
        responses={201: StartedSeveral},
        parameters=[IDEMPOTENCY_KEY],
        tags=["certification queue"],
    )
    def post(self, request: Request) -> Response:
        """Certify several models in several regions: every pair of the two lists."""
        given = views.body(request, Several)
        regions = self.regions(given["regions"], "body.regions")
        models = self.models(given["modelIds"], "body.modelIds")
        options = self.certify_options(request, given)
        try:
            pairs = dispatch.pairs_of(models, regions)
            done = _started(options, dispatch.certify(pairs, options))
        except dispatch.DispatchError as error:
            raise _refused(error) from error
        answer: StartedSeveral = {
            "jobId": done.job.pk,
            "totalJobs": done.job.total_runs,
            "modelIds": given["modelIds"],
            "regions": given["regions"],
            "status": "QUEUED",
            "skipped": _skipped(done),
        }
        return Response(answer, status=201)


class CertifyAll(Start):
    @extend_schema(
        operation_id="certifyAll",
        request=Everything,
        responses={201: StartedAll},
        parameters=[IDEMPOTENCY_KEY],
        tags=["certification queue"],
    )
    def post(self, request: Request) -> Response:
        """Certify every active model in each of the regions where it has a route."""
        given = views.body(request, Everything)
        regions = self.regions(given["regions"], "body.regions")
        options = self.certify_options(request, given)
        try:
            done = dispatch.certify_all(regions, options, include_unlisted=given["includeUnlisted"])
            _started(options, done)
        except dispatch.DispatchError as error:
            raise _refused(error) from error
        answer: StartedAll = {
            "jobId": done.job.pk,
            "totalJobs": done.job.total_runs,
            "regions": given["regions"],
            "status": "QUEUED",
            "skipped": _skipped(done),
            "notOffered": done.not_offered,
        }
        return Response(answer, status=201)


def find_job(job_id: UUID) -> CertificationJob:
    """Raises 404 `job_not_found`."""
    job = CertificationJob.objects.select_related("created_by").filter(pk=job_id).first()
    if job is None:
        raise not_found_error(
            "job_not_found", _("There is no job with this id. GET /history lists them.")
        )
    return job


class JobDetail(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,), "DELETE": (404, 409)}

    @extend_schema(operation_id="getJob", responses={200: JobJSON}, tags=["certification queue"])
    def get(self, request: Request, job_id: UUID) -> Response:
        """A job with its runs, ordered by status, then creation."""
        job = find_job(job_id)
        rows = (
            job.runs.select_related("model")
            .only(*representations.RUN_FIELDS)
            .order_by("created_at", "pk")
        )
        ordered = sorted(rows, key=lambda run: State.values.index(run.status))
        answer: JobJSON = {
            **representations.job_summary(job),
            "certifications": representations.runs(ordered),
        }
        return Response(answer)

    @extend_schema(
        operation_id="cancelJob", responses={200: Cancelled}, tags=["certification queue"]
    )
    def delete(self, request: Request, job_id: UUID) -> Response:
        """Cancel a job: what has finished stays, what waits or runs ends as CANCELLED."""
        job = find_job(job_id)
        cancelled = job.cancel()
        if cancelled is None:
            raise ApiError(
                409,
                "already_finished",
                _("This job has already ended: there is nothing to cancel."),
            )
        answer: Cancelled = {"jobId": job.pk, "status": "CANCELLED", "cancelled": cancelled}
        return Response(answer)


class RetryJob(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"POST": (404, 409)}

    @extend_schema(
        operation_id="retryJob",
        request=None,
        responses={200: StartedSeveral},
        tags=["certification queue"],
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """A new job for the failed runs of this one."""
        job = find_job(job_id)
        try:
            done = dispatch.retry(job, views.current_user(request))
        except dispatch.DispatchError as error:
            raise _refused(error) from error
        answer: StartedSeveral = {
            "jobId": done.job.pk,
            "totalJobs": done.job.total_runs,
            "modelIds": done.job.model_ids,
            "regions": done.job.regions,
            "status": "QUEUED",
            "skipped": _skipped(done),
        }
        return Response(answer)
