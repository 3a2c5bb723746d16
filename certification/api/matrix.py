"""Every model in every region in one compact response."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from certification.api import caching, filters, views
from certification.api.caching import CacheableResponse
from certification.api.representations import RegionName
from certification.api.views import View
from certification.inference import API, Endpoint
from certification.lib import clock
from certification.models import AIModel, Backend, ModelCertification, Region, validity
from certification.reasons import Status

STATUSES = [status.value for status in Status]
STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
ROUTES = [(endpoint.value, api.value) for endpoint in Endpoint for api in API]
ROUTE_INDEX = {route: index for index, route in enumerate(ROUTES)}
EXPIRED, EMULATED, NOT_OFFERED = 1, 2, 4  # bits of a cell's flags
MatrixValues = list[int | str | None]  # status, score, rating, flags, route


class MatrixFilters(serializers.Serializer[Any]):
    vendor = serializers.CharField(
        max_length=100, required=False, help_text="As GET /vendors names it, in any case."
    )
    region = serializers.CharField(max_length=32, required=False, help_text="Only this column.")


class LegendRoute(TypedDict):
    """A way to call a model: certified through one API is not certified for another."""

    endpoint: str
    api: str


class Legend(TypedDict):
    """How to read a cell."""

    cell: Annotated[list[str], "The meaning of each position of a cell."]
    statuses: Annotated[list[str], "A cell's first number is an index into this list."]
    flags: Annotated[dict[str, int], "The bits of a cell's fourth value."]
    routes: Annotated[
        list[LegendRoute],
        "A cell's last number is an index into this list: the way its last run called the model. "
        "null: never called.",
    ]


class MatrixModel(TypedDict):
    id: UUID
    apiModelId: str
    name: str
    vendor: str
    kind: str
    cells: Annotated[
        list[list[int | str | None] | None],
        "One for each of `regions`, as `legend` says. null: never tested, and without a route in "
        "the catalogue.",
    ]


class MatrixAnswer(TypedDict):
    """The columns, the rows, and how to read a cell. An expired certification is `not_tested` and
    has its score.
    """

    regions: list[RegionName]
    models: list[MatrixModel]
    legend: Legend


LEGEND: Legend = {
    "cell": ["status", "score", "rating", "flags", "route"],
    "statuses": STATUSES,
    "flags": {"expired": EXPIRED, "emulated": EMULATED, "notOffered": NOT_OFFERED},
    "routes": [{"endpoint": endpoint, "api": api} for endpoint, api in ROUTES],
}


class MatrixView(View):
    @extend_schema(
        operation_id="getMatrix",
        parameters=[MatrixFilters, *caching.CONDITIONAL],
        responses={200: MatrixAnswer, 304: caching.NOT_MODIFIED},
        tags=["reading"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return every active model in every enabled region where something is offered or known."""
        params = views.query(request, MatrixFilters)
        return caching.cached_response(request, "matrix", params, lambda: read(params, clock.now()))


class ModelRow(NamedTuple):
    """In the order of its query."""

    id: UUID
    api_model_id: str
    name: str
    vendor: str
    kind: str
    offered_in: list[str]


class MatrixRow(NamedTuple):
    """In the order of its query."""

    model_id: UUID
    region_id: str
    status: str
    score: int | None
    rating: str
    backend: str
    expires_at: datetime | None
    expired_at: datetime | None
    run__endpoint: str | None
    run__api: str | None


def read(params: Mapping[str, Any], now: datetime) -> CacheableResponse:
    """Read the matrix in three queries, and when the next of its certifications expires. Raises 400
    for an unknown region.
    """
    models = AIModel.objects.active().order_by("vendor", "name", "api_model_id")
    rows = ModelCertification.objects.in_matrix()
    if "vendor" in params:
        models = models.filter(vendor__iexact=params["vendor"])
        rows = rows.filter(model__vendor__iexact=params["vendor"])
    if "region" in params:
        rows = rows.filter(region=params["region"])
    model_rows = [
        ModelRow(*values) for values in models.with_offered_in().values_list(*ModelRow._fields)
    ]
    certifications = [MatrixRow(*values) for values in rows.values_list(*MatrixRow._fields)]
    regions = list(Region.objects.enabled().order_by("code"))
    if "region" in params:
        regions = [region for region in regions if region.code == params["region"]]
        if not regions:  # a disabled region has no column, an unknown one is an error
            filters.find_region(params["region"])
    else:
        used = {code for row in model_rows for code in row.offered_in}
        used |= {row.region_id for row in certifications}
        regions = [region for region in regions if region.code in used]
    by_pair = {(row.model_id, row.region_id): row for row in certifications}
    data: MatrixAnswer = {
        "regions": [{"id": region.code, "name": region.name} for region in regions],
        "models": [
            {
                "id": row.id,
                "apiModelId": row.api_model_id,
                "name": row.name,
                "vendor": row.vendor,
                "kind": row.kind,
                "cells": [
                    cell(by_pair.get((row.id, region.code)), region.code in row.offered_in, now)
                    for region in regions
                ],
            }
            for row in model_rows
        ],
        "legend": LEGEND,
    }
    expiries = (row.expires_at for row in certifications if row.expires_at and row.expires_at > now)
    return CacheableResponse(data, until=min(expiries, default=None))


def cell(row: MatrixRow | None, offered: bool, now: datetime) -> MatrixValues | None:
    if row is None:
        return [STATUS_INDEX[Status.NOT_TESTED], None, None, 0, None] if offered else None
    expired = validity.is_expired(row, now)
    status = validity.current_status(row, now)
    flags = (
        EXPIRED * expired
        | EMULATED * (row.backend == Backend.EMULATOR)
        | NOT_OFFERED * (not offered)
    )
    route = ROUTE_INDEX.get((row.run__endpoint or "", row.run__api or ""))
    return [STATUS_INDEX[status], row.score, row.rating or None, flags, route]
