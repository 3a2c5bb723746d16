"""Start certifications, and follow, cancel and retry the jobs that they become."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import caching, representations, views
from certification.api.caching import CacheableResponse
from certification.api.envelope import ApiError, not_found_error
from certification.api.representations import JobJSON, OneOf
from certification.api.views import View
from certification.engine import dispatch
from certification.engine.dispatch import MAX_IDEMPOTENCY_KEY, CertifyOptions, DispatchResult
from certification.lib import clock
from certification.models import AIModel, CertificationJob, Priority, Region, State, Tier
from certification.models.jobs import MAX_NOTE

MAX_MODELS, MAX_REGIONS = 1000, 100
JOB_TTL = timedelta(seconds=1)
JOB_ID = OpenApiParameter("job_id", OpenApiTypes.UUID, OpenApiParameter.PATH)

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key and body give the same job, however often they are sent.",
)


class StartOptions(serializers.Serializer[Any]):
    """The fields besides models and regions, the same for each way to start."""

    tier = serializers.ChoiceField(Tier.values, default=Tier.FULL)
    priority = serializers.ChoiceField(
        Priority.values, required=False, help_text="Default: chosen by the job's size."
    )
    maxCostUsd = serializers.FloatField(
        min_value=0,
        max_value=dispatch.MAX_COST_USD - 1,
        required=False,
        help_text="Refuse when it is estimated to cost more, or when a model's price is unknown.",
    )
    allowUnpriced = serializers.BooleanField(
        default=False,
        help_text="With `maxCostUsd`: also start models without a known price, whatever they cost.",
    )
    note = serializers.CharField(
        max_length=MAX_NOTE, required=False, allow_blank=True, help_text="What it is for."
    )


class NameListField(serializers.ListField):
    """A list of one to `max_length` names."""

    def __init__(self, max_length: int, name_length: int, **options: Any) -> None:
        name = serializers.CharField(max_length=name_length)
        super().__init__(child=name, min_length=1, max_length=max_length, **options)


class One(StartOptions):
    modelId = serializers.CharField(max_length=200, help_text="Our UUID or the API model id.")
    region = serializers.CharField(max_length=32)


class Several(StartOptions):
    modelIds = NameListField(MAX_MODELS, 200, help_text="UUIDs or API model ids.")
    regions = NameListField(MAX_REGIONS, 32)


class Everything(StartOptions):
    regions = NameListField(MAX_REGIONS, 32)
    includeUnlisted = serializers.BooleanField(
        default=False,
        help_text="Also call models for which the catalogue has no route.",
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
    """What the ways to start a job share: checks of names, options, and refusals."""

    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"POST": (404, 409)}

    def models(self, names: Sequence[str], path: str) -> list[AIModel]:
        """Raises 400 on a duplicate, 404 `model_not_found`."""
        self.check_no_duplicates(names, path)
        try:
            models = dispatch.find_models(names)
        except dispatch.ModelNotFound as error:
            unknown = ", ".join(error.names[:5])
            raise not_found_error(
                error.code, _("Unknown model: %s. GET /api/models lists them.") % unknown
            ) from error
        if len(models) < len(names):
            message = _("The same model is listed twice (by UUID and by API id).")
            raise views.invalid(path, message, "duplicate")
        return models

    def regions(self, codes: Sequence[str], path: str) -> list[Region]:
        """Raises 400 on a duplicate, an unknown or a disabled region."""
        self.check_no_duplicates(codes, path)
        try:
            return dispatch.find_regions(codes)
        except dispatch.RegionNotFound as error:
            raise views.invalid(path, str(error), error.code) from error

    def check_no_duplicates(self, names: Sequence[str], path: str) -> None:
        [(name, count), *_others] = Counter(names).most_common(1)
        if count > 1:
            raise views.invalid(path, _("Duplicate entry: %s.") % name[:100], "duplicate")

    def certify_options(self, request: Request, fields: dict[str, Any]) -> CertifyOptions:
        """Return the options of a request whose body was checked."""
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > MAX_IDEMPOTENCY_KEY or not key.isprintable():
            raise views.invalid(
                "header.Idempotency-Key",
                _("A key can have at most %d printable characters.") % MAX_IDEMPOTENCY_KEY,
                "max_length",
            )
        content = json.dumps([request.path, fields], sort_keys=True)
        return CertifyOptions(
            tier=fields["tier"],
            by=views.current_user(request),
            priority=fields.get("priority", ""),
            idempotency_key=key,
            max_cost_usd=fields.get("maxCostUsd"),
            allow_unpriced=fields["allowUnpriced"],
            note=fields.get("note", ""),
            config={"request": hashlib.sha256(content.encode()).hexdigest()} if key else {},
        )

    def dispatch_job(
        self, start: Callable[[], DispatchResult], options: CertifyOptions | None = None
    ) -> DispatchResult:
        """Start a job. Raises 409 when it is refused, or when the options' idempotency key was used
        for another request.
        """
        try:
            result = start()
        except dispatch.ReadOnly as error:
            raise ApiError(503, error.code, str(error)) from error
        except dispatch.DispatchError as error:
            job = error.job if isinstance(error, dispatch.AlreadyRunning) else None
            facts = {"jobId": str(job.pk)} if job else None
            raise ApiError(409, error.code, str(error), facts) from error
        if options is None or result.created:
            return result
        if result.job.config.get("request") != options.config.get("request"):
            raise ApiError(
                409,
                "idempotency_key_reused",
                _("This Idempotency-Key was used for another request. Send a new key."),
                {"jobId": str(result.job.pk)},
            )
        return result


def skipped_pairs(result: DispatchResult) -> list[PairJSON]:
    return [{"modelId": model, "region": region} for model, region in result.skipped]


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
        fields = views.body(request, One)
        [model] = self.models([fields["modelId"]], "body.modelId")
        [region] = self.regions([fields["region"]], "body.region")
        options = self.certify_options(request, fields)
        job = self.dispatch_job(lambda: dispatch.certify([(model, region)], options), options).job
        body: StartedOne = {
            "jobId": job.pk,
            "bullJobId": str(job.pk),
            "modelId": fields["modelId"],
            "region": region.code,
            "status": "QUEUED",
        }
        return Response(body, status=201)


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
        fields = views.body(request, Several)
        regions = self.regions(fields["regions"], "body.regions")
        models = self.models(fields["modelIds"], "body.modelIds")
        options = self.certify_options(request, fields)
        pairs = dispatch.pairs_of(models, regions)
        result = self.dispatch_job(lambda: dispatch.certify(pairs, options), options)
        body: StartedSeveral = {
            "jobId": result.job.pk,
            "totalJobs": result.job.total_runs,
            "modelIds": fields["modelIds"],
            "regions": fields["regions"],
            "status": "QUEUED",
            "skipped": skipped_pairs(result),
        }
        return Response(body, status=201)


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
        fields = views.body(request, Everything)
        regions = self.regions(fields["regions"], "body.regions")
        options, unlisted = self.certify_options(request, fields), fields["includeUnlisted"]
        result = self.dispatch_job(
            lambda: dispatch.certify_all(regions, options, include_unlisted=unlisted), options
        )
        body: StartedAll = {
            "jobId": result.job.pk,
            "totalJobs": result.job.total_runs,
            "regions": fields["regions"],
            "status": "QUEUED",
            "skipped": skipped_pairs(result),
            "notOffered": result.not_offered,
        }
        return Response(body, status=201)


def find_job(job_id: str) -> CertificationJob:
    """Return the job with its creator. Raises 404 `job_not_found`, 400 for what is no id."""
    pk = views.path_uuid(job_id, "jobId")
    job = CertificationJob.objects.select_related("created_by").filter(pk=pk).first()
    if job is None:
        raise not_found_error(
            "job_not_found", _("There is no job with this id. GET /history lists them.")
        )
    return job


@lru_cache(maxsize=4096)
def creator_of(job_id: str) -> int | None:
    """Return the key of the user who started a job, which nothing changes; None for nobody.

    Raises CertificationJob.DoesNotExist, and ValueError for what is no id.
    """
    jobs = CertificationJob.objects.values_list("created_by", flat=True)
    return jobs.get(pk=UUID(job_id))


class JobDetail(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,), "DELETE": (404, 409)}

    def rate_for(self, method: str | None) -> str:
        """Count the reads of one's own job by themselves: the console polls it without a pause."""
        usual = super().rate_for(method)
        with suppress(CertificationJob.DoesNotExist, ValueError):
            if usual == "read" and creator_of(self.kwargs["job_id"]) == self.request.user.pk:
                return "job"
        return usual

    @extend_schema(
        operation_id="getJob",
        parameters=[JOB_ID, *caching.CONDITIONAL],
        responses={200: JobJSON, 304: caching.NOT_MODIFIED},
        tags=["certification queue"],
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Return a job with its runs, ordered by status, then creation."""
        key = str(views.path_uuid(job_id, "jobId"))
        return caching.cached_response(
            request, "job", {"job": key}, lambda: cacheable_job(key), is_announced=False
        )

    @extend_schema(
        operation_id="cancelJob",
        parameters=[JOB_ID],
        responses={200: Cancelled},
        tags=["certification queue"],
    )
    def delete(self, request: Request, job_id: str) -> Response:
        """Cancel a job. Finished runs stay; runs that wait or are active end as CANCELLED."""
        job = find_job(job_id)
        cancelled = job.cancel()
        if cancelled is None:
            raise ApiError(
                409,
                "already_finished",
                _("This job has already ended. There is nothing to cancel."),
            )
        body: Cancelled = {"jobId": job.pk, "status": "CANCELLED", "cancelled": cancelled}
        return Response(body)


def cacheable_job(job_id: str) -> CacheableResponse:
    """Return a job with its runs, and until when that is believed: nothing announces what runs do
    before they end.
    """
    now, job = clock.now(), find_job(job_id)
    rows = (
        job.runs.select_related("model")
        .only(*representations.RUN_FIELDS)
        .order_by("created_at", "pk")
    )
    ordered = sorted(rows, key=lambda run: State.values.index(run.status))
    body: JobJSON = {
        **representations.job_summary(job),
        "certifications": representations.runs(ordered),
    }
    return CacheableResponse(body, until=now + JOB_TTL)


class RetryJob(Start):
    @extend_schema(
        operation_id="retryJob",
        request=None,
        parameters=[JOB_ID],
        responses={200: StartedSeveral},
        tags=["certification queue"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        """Start a new job for the failed runs of this one."""
        job = find_job(job_id)
        result = self.dispatch_job(lambda: dispatch.retry(job, views.current_user(request)))
        body: StartedSeveral = {
            "jobId": result.job.pk,
            "totalJobs": result.job.total_runs,
            "modelIds": result.job.model_ids,
            "regions": result.job.regions,
            "status": "QUEUED",
            "skipped": skipped_pairs(result),
        }
        return Response(body)
