"""Query parameters of lists: pages, choices, times, names of models and regions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _
from rest_framework import serializers

from certification.api import views
from certification.api.envelope import not_found_error
from certification.api.representations import LongPagination, Pagination
from certification.models import AIModel, Region

MAX_PER_PAGE = 100
# Rows that are counted, and that have page numbers; beyond, totals are the planner's estimate.
MAX_COUNTED = 100_000
DEEP_PAGE_START = 1_000  # rows before a page
T = TypeVar("T", bound=Model)


class Paged(serializers.Serializer[Any]):
    """`page` and `limit`."""

    page = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PER_PAGE, default=20)


class ChoiceListField(serializers.CharField):
    """One or several of these words, separated by commas, in any case. The checked value is a list
    of them.
    """

    def __init__(self, words: Iterable[str], **options: Any) -> None:
        self.words = {word.lower(): word for word in words}
        super().__init__(max_length=400, required=False, **options)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        words = [word.strip() for word in super().run_validation(data).split(",")]
        unknown = next((word for word in words if word.lower() not in self.words), None)
        if unknown is not None:
            message = _("%(word)s is not one of: %(words)s.") % {
                "word": unknown[:40] or "''",
                "words": ", ".join(self.words.values()),
            }
            raise serializers.ValidationError(message, "invalid_choice")
        return list(dict.fromkeys(self.words[word.lower()] for word in words))


class DateTimeOrDateField(serializers.CharField):
    """A time as ISO 8601 (UTC without an offset), or a day: its first moment, or its last with
    `end_of_day`.
    """

    def __init__(self, *, end_of_day: bool = False, **options: Any) -> None:
        self.end_of_day = end_of_day
        super().__init__(max_length=40, required=False, **options)

    def run_validation(self, data: Any = serializers.empty) -> datetime:
        # In a query string a plus sign arrives as a space.
        text = str(super().run_validation(data)).strip()
        text = text.replace(" ", "+" if "T" in text else "T")
        try:
            value = parse_date(text) or parse_datetime(text)
            if isinstance(value, datetime):
                return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
            if value is None:
                raise ValueError(text)
            start = datetime.combine(value, time(), UTC)
            return start + timedelta(days=1, microseconds=-1) if self.end_of_day else start
        except (ValueError, OverflowError):
            message = _("This is not a time. Write it as 2026-01-31T12:00:00Z or as 2026-01-31.")
            raise serializers.ValidationError(message, "invalid") from None


def find_model(name: str) -> AIModel:
    """Return the model with this UUID or apiModelId. Raises 404 `model_not_found`."""
    model = AIModel.objects.named([name]).get(name)
    if model is None:
        raise not_found_error(
            "model_not_found", _("Unknown model: %s. GET /api/models lists them.") % name[:200]
        )
    return model


def find_region(code: str, path: str = "query.region") -> Region:
    """Return a region, enabled or not: its past can be read. Raises 400 `region_not_found`, which
    names the place of the code.
    """
    region = Region.objects.filter(pk=code).first()
    if region is None:
        message = _("Unknown region: %s. GET /api/certification-queue/regions lists them.") % code
        raise views.invalid(path, message, "region_not_found")
    return region


def pagination(page: int, limit: int, total: int) -> Pagination:
    return {"page": page, "limit": limit, "total": total, "totalPages": -(-total // limit)}


def slice_of(rows: QuerySet[T], page: int, limit: int) -> list[T]:
    return list(rows[(page - 1) * limit : page * limit])


def page_newest_first(rows: QuerySet[T], page: int, limit: int, by: str) -> list[T]:
    """Return a page of rows, newest first. The start of a deep page is read from the index of `by`,
    without reading the rows before it.
    """
    start = (page - 1) * limit
    if start >= DEEP_PAGE_START:
        first = rows.order_by(f"-{by}").values_list(by, flat=True)[start : start + 1].first()
        if first is None:
            return []
        # rows of the very same moment remain to be skipped
        start -= rows.filter(**{f"{by}__gt": first}).order_by().count()
        rows = rows.filter(**{f"{by}__lte": first})
    return list(rows.order_by(f"-{by}", "-pk")[start : start + limit])


def long_pagination(rows: QuerySet[Any], page: int, limit: int, by: str) -> LongPagination:
    """Return the pagination of a table that may have millions of rows, of which few are read.

    `by` is the indexed column that the rows are ordered by. Raises 400 for a page beyond
    MAX_COUNTED rows.
    """
    if page * limit > MAX_COUNTED:
        message = (
            _(
                "Only the newest %d entries can be paged through. "
                "Narrow the list with `from` and `to`."
            )
            % MAX_COUNTED
        )
        raise views.invalid("query.page", message, "max_value")
    total = rows.order_by().values(by)[: MAX_COUNTED + 1].count()
    if total <= MAX_COUNTED:
        return {**pagination(page, limit, total)}
    plan = json.loads(rows.order_by().explain(format="json"))
    estimate = int(plan[0]["Plan"]["Plan Rows"])
    return {
        **pagination(page, limit, MAX_COUNTED),
        "total": max(total, estimate),
        "estimated": True,
    }
