"""Every model in every region in one compact answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from certification.api import caching, filters, views
from certification.api.caching import CacheableResponse
from certification.api.representations import RegionName
from certification.api.views import View
from certification.models import AIModel, Backend, ModelCertification, Region, Route
from certification.reasons import Status

STATUSES = [status.value for status in Status]
STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
EXPIRED, EMULATED, NOT_OFFERED = 1, 2, 4  # bits of a cell's flags
Cell = list[int | str | None]  # status, score, rating, flags


class MatrixFilters(serializers.Serializer[Any]):
    vendor = serializers.CharField(
        max_length=100, required=False, help_text="As GET /vendors names it, in any case."
    )
    region = serializers.CharField(max_length=32, required=False, help_text="Only this column.")


class Legend(TypedDict):
    """How to read a cell."""

    cell: Annotated[list[str], "What stands at each place of a cell."]
    statuses: Annotated[list[str], "A cell's first number is a place in this list."]
    flags: Annotated[dict[str, int], "The bits of a cell's last number."]


class MatrixModel(TypedDict):
    id: UUID
    apiModelId: str
    name: str
    vendor: str
    kind: str
    cells: Annotated[
        list[list[int | str | None] | None],
        "One for each of `regions`, as `legend` says. null: never tested, and the catalogue knows no route.",
    ]


class MatrixAnswer(TypedDict):
    """The columns, the rows, and how to read a cell. An expired certification is `not_tested`; its
    score is kept.
    """

    regions: list[RegionName]
    models: list[MatrixModel]
    legend: Legend


LEGEND: Legend = {
    "cell": ["status", "score", "rating", "flags"],
    "statuses": STATUSES,
    "flags": {"expired": EXPIRED, "emulated": EMULATED, "notOffered": NOT_OFFERED},
}


class Matrix(View):
    @extend_schema(
        operation_id="getMatrix",
        parameters=[MatrixFilters, *caching.CONDITIONAL],
        responses={200: MatrixAnswer, 304: caching.NOT_MODIFIED},
        tags=["reading"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Every active model in every enabled region where something is offered or known."""
        asked = views.query(request, MatrixFilters)
        return caching.cached_response(
            request, "matrix", asked, lambda: read(asked, timezone.now())
        )


def read(asked: Mapping[str, Any], now: datetime) -> CacheableResponse:
    """The matrix in three queries, and when the next of its certifications expires. 400 for an
    unknown region.
    """
    models = _models(asked.get("vendor", ""))
    known = _standings(asked)
    regions = list(Region.objects.enabled().order_by("code"))
    if "region" in asked:
        regions = [region for region in regions if region.code == asked["region"]]
        if not regions:
            filters.find_region(
                asked["region"]
            )  # one that is disabled has no column, one that nobody knows is a mistake
    else:
        used_region_codes = {code for row in models for code in row.offered} | {
            region for _model, region in known
        }
        regions = [region for region in regions if region.code in used_region_codes]
    codes = [region.code for region in regions]
    answer: MatrixAnswer = {
        "regions": [{"id": region.code, "name": region.name} for region in regions],
        "models": [_row(row, codes, known, now) for row in models],
        "legend": LEGEND,
    }
    coming = (row.expires_at for row in known.values() if row.expires_at and row.expires_at > now)
    return CacheableResponse(answer, until=min(coming, default=None))


class _Model(NamedTuple):
    id: UUID
    api_model_id: str
    name: str
    vendor: str
    kind: str
    offered: list[str]


class _Standing(NamedTuple):
    """In the order of its query."""

    model_id: UUID
    region_id: str
    status: str
    score: int | None
    rating: str
    backend: str
    expires_at: datetime | None
    expired_at: datetime | None

    def cell(self, offered: bool, now: datetime) -> Cell:
        past = self.expires_at is not None and self.expires_at <= now
        expired = self.expired_at is not None if self.status == Status.NOT_TESTED else past
        status = Status.NOT_TESTED if expired else self.status
        flags = (
            EXPIRED * expired
            | EMULATED * (self.backend == Backend.EMULATOR)
            | NOT_OFFERED * (not offered)
        )
        return [STATUS_INDEX[status], self.score, self.rating or None, flags]


UNTESTED: Cell = [STATUS_INDEX[Status.NOT_TESTED], None, None, 0]


def _models(vendor: str) -> list[_Model]:
    rows = AIModel.objects.active().order_by("vendor", "name", "api_model_id")
    if vendor:
        rows = rows.filter(vendor__iexact=vendor)
    routes = Route.objects.filter(model=OuterRef("pk")).order_by().values("region_id").distinct()
    fields = rows.annotate(offered=ArraySubquery(routes)).values_list(*_Model._fields)
    return [_Model(*values) for values in fields]


def _standings(asked: Mapping[str, Any]) -> dict[tuple[UUID, str], _Standing]:
    rows = ModelCertification.objects.filter(model__is_active=True, region__enabled=True).order_by()
    if "vendor" in asked:
        rows = rows.filter(model__vendor__iexact=asked["vendor"])
    if "region" in asked:
        rows = rows.filter(region=asked["region"])
    found = (_Standing(*values) for values in rows.values_list(*_Standing._fields))
    return {(row.model_id, row.region_id): row for row in found}


def _row(
    row: _Model, regions: Iterable[str], known: Mapping[tuple[UUID, str], _Standing], now: datetime
) -> MatrixModel:
    offered = set(row.offered)
    return {
        "id": row.id,
        "apiModelId": row.api_model_id,
        "name": row.name,
        "vendor": row.vendor,
        "kind": row.kind,
        "cells": [_cell(known.get((row.id, region)), region in offered, now) for region in regions],
    }


def _cell(standing: _Standing | None, offered: bool, now: datetime) -> Cell | None:
    if standing is not None:
        return standing.cell(offered, now)
    return UNTESTED if offered else None
