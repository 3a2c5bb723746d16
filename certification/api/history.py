"""Jobs so far, newest first, and the regions."""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import filters, representations, views
from certification.api.filters import ChoiceListField, DateTimeOrDateField, Paged
from certification.api.representations import JobPage, RegionName
from certification.api.views import View
from certification.models import CertificationJob, JobType, Region, State
from certification.models.jobs import CertificationJobQuerySet

MAX_RUNS = 100  # of a job in the list


class HistoryFilters(Paged):
    """`from` and `to` are added by name: `from` is a keyword of Python."""

    status = ChoiceListField(
        State.values, help_text="States of jobs, separated by commas, in any case."
    )
    type = ChoiceListField(
        JobType.values, help_text="Types of jobs, separated by commas, in any case."
    )
    region = serializers.CharField(
        max_length=32, required=False, help_text="Jobs that certify in this region."
    )
    modelId = serializers.CharField(
        max_length=200,
        required=False,
        help_text="Jobs that certify this model: our UUID or the API model id.",
    )

    def get_fields(self) -> dict[str, Any]:
        return {
            **super().get_fields(),
            "from": DateTimeOrDateField(
                help_text="Created at this time or later: ISO 8601, or a day."
            ),
            "to": DateTimeOrDateField(
                end_of_day=True,
                help_text="Created at this time or earlier: ISO 8601, or a day, which is included.",
            ),
        }

    def validate(self, params: dict[str, Any]) -> dict[str, Any]:
        if "from" in params and "to" in params and params["from"] > params["to"]:
            raise serializers.ValidationError({"to": _("`to` is before `from`.")}, "before_from")
        return params


def filter_jobs(params: dict[str, Any]) -> CertificationJobQuerySet:
    """Return the jobs that checked parameters select. Raises 404 for an unknown model, 400 for an
    unknown region.
    """
    jobs: CertificationJobQuerySet = CertificationJob.objects.all()
    if "status" in params:
        jobs = jobs.filter(status__in=params["status"])
    if "type" in params:
        jobs = jobs.filter(type__in=params["type"])
    if "modelId" in params:
        jobs = jobs.filter(model_ids__contains=[str(filters.find_model(params["modelId"]).pk)])
    if "region" in params:
        jobs = jobs.filter(regions__contains=[filters.find_region(params["region"]).pk])
    if "from" in params:
        jobs = jobs.filter(created_at__gte=params["from"])
    if "to" in params:
        jobs = jobs.filter(created_at__lte=params["to"])
    return jobs


class History(View):
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"GET": (404,)}

    @extend_schema(
        operation_id="getHistory",
        parameters=[HistoryFilters],
        responses={200: JobPage},
        tags=["certification queue"],
    )
    def get(self, request: Request) -> Response:
        """List jobs, newest first, each with its first runs."""
        params = views.query(request, HistoryFilters)
        page, limit = params["page"], params["limit"]
        jobs = filter_jobs(params)
        pagination = filters.long_pagination(jobs, page, limit, by="created_at")
        whole = jobs.select_related("created_by").defer("config").with_first_runs(MAX_RUNS)
        body: JobPage = {
            "jobs": [
                representations.job_with_runs(job)
                for job in filters.page_newest_first(whole, page, limit, by="created_at")
            ],
            "pagination": pagination,
        }
        return Response(body)


class Regions(View):
    @extend_schema(
        operation_id="getRegions", responses={200: list[RegionName]}, tags=["certification queue"]
    )
    def get(self, request: Request) -> Response:
        """List the regions that models can be certified in."""
        body: list[RegionName] = [
            {"id": code, "name": name}
            for code, name in Region.objects.enabled().values_list("code", "name")
        ]
        return Response(body)
