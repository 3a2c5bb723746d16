"""What was asked for so far: jobs, newest first."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
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


class HistoryFilters(Paged):
    """`from` and `to` are words of Python, so they join the other fields by name."""

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
                ends=True,
                help_text="Created at this time or earlier: ISO 8601, or a day, which is included.",
            ),
        }

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if "from" in given and "to" in given and given["from"] > given["to"]:
            raise serializers.ValidationError({"to": _("It is before `from`.")}, "before_from")
        return given


def jobs_asked_for(given: dict[str, Any]) -> QuerySet[CertificationJob]:
    """Raises 404 for an unknown model, 400 for an unknown region."""
    jobs = CertificationJob.objects.all()
    if "status" in given:
        jobs = jobs.filter(status__in=given["status"])
    if "type" in given:
        jobs = jobs.filter(type__in=given["type"])
    if "modelId" in given:
        jobs = jobs.filter(model_ids__contains=[str(filters.find_model(given["modelId"]).pk)])
    if "region" in given:
        jobs = jobs.filter(regions__contains=[filters.find_region(given["region"]).pk])
    if "from" in given:
        jobs = jobs.filter(created_at__gte=given["from"])
    if "to" in given:
        jobs = jobs.filter(created_at__lte=given["to"])
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
        """Jobs, newest first, without their runs."""
        given = views.query(request, HistoryFilters)
        page, limit = given["page"], given["limit"]
        jobs = jobs_asked_for(given)
        pagination = filters.long_pagination(jobs, page, limit, by="created_at")
        whole = jobs.select_related("created_by").defer("config")
        answer: JobPage = {
            "jobs": [
                representations.job_summary(job)
                for job in filters.page_newest_first(whole, page, limit, by="created_at")
            ],
            "pagination": pagination,
        }
        return Response(answer)


class Regions(View):
    @extend_schema(
        operation_id="getRegions", responses={200: list[RegionName]}, tags=["certification queue"]
    )
    def get(self, request: Request) -> Response:
        """The regions that models can be certified in."""
        answer: list[RegionName] = [
            {"id": code, "name": name}
            for code, name in Region.objects.enabled().values_list("code", "name")
        ]
        return Response(answer)
