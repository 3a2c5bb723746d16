"""What lists are asked with: pages, words in any case, moments, names of models and regions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _
from rest_framework import serializers

from certification.api import views
from certification.api.envelope import not_found_error
from certification.api.representations import LongPagination, Pagination
from certification.models import AIModel, Region

MOST_PER_PAGE = 100
# Rows that are counted, and that can be reached by page number; beyond, totals are the planner's
# estimate.
COUNTED = 100_000
DEEP = 1_000  # rows before a page
T = TypeVar("T", bound=Model)


class Paged(serializers.Serializer[Any]):
    """`page` and `limit`."""

    page = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)
    limit = serializers.IntegerField(min_value=1, max_value=MOST_PER_PAGE, default=20)


class ChoiceListField(serializers.CharField):
    """One or several of these words, separated by commas, in any case. The checked value is a list
    of them.
    """

    def __init__(self, words: Iterable[str], **options: Any) -> None:
        self.words = {word.lower(): word for word in words}
        super().__init__(max_length=400, required=False, **options)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        given = super().run_validation(data)
        return list(dict.fromkeys(self._word(word.strip()) for word in given.split(",")))

    def _word(self, word: str) -> str:
        known = self.words.get(word.lower())
        if known is None:
            message = _("%(word)s is not one of: %(words)s.") % {
                "word": word[:40] or "''",
                "words": ", ".join(self.words.values()),
            }
            raise serializers.ValidationError(message, "invalid_choice")
        return known


class DateTimeOrDateField(serializers.CharField):
    """A time as ISO 8601 (UTC without an offset), or a day, which is its first moment; with `ends`
    its last.
    """

    def __init__(self, *, ends: bool = False, **options: Any) -> None:
        self.ends = ends
        super().__init__(max_length=40, required=False, **options)

    def run_validation(self, data: Any = serializers.empty) -> datetime:
        # A plus sign in an address means a space to those who read it.
        text = (
            str(super().run_validation(data)).strip().replace(" ", "+" if "T" in str(data) else "T")
        )
        try:
            found = parse_date(text) or parse_datetime(text)
            if found is None:
                raise ValueError(text)
            return self._moment(found)
        except (ValueError, OverflowError):
            message = _("This is not a time. Write it as 2026-01-31T12:00:00Z or as 2026-01-31.")
            raise serializers.ValidationError(message, "invalid") from None

    def _moment(self, found: date) -> datetime:
        if isinstance(found, datetime):
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        start = datetime.combine(found, time(), UTC)
        return start + timedelta(days=1, microseconds=-1) if self.ends else start


def find_model(name: str) -> AIModel:
    """The model known by its UUID or apiModelId. Raises 404 `model_not_found`."""
    found = AIModel.objects.named([name]).get(name)
    if found is None:
        raise not_found_error(
            "model_not_found", _("Unknown model: %s. GET /api/models lists them.") % name[:200]
        )
    return found


def find_region(code: str) -> Region:
    """A region that we know, switched on or not: its past can be read. Raises 400
    `region_not_found`.
    """
    region = Region.objects.filter(pk=code).first()
    if region is None:
        message = _("Unknown region: %s. GET /api/certification-queue/regions lists them.") % code
        raise views.invalid("query.region", message, "region_not_found")
    return region


def pagination(page: int, limit: int, total: int) -> Pagination:
    return {"page": page, "limit": limit, "total": total, "totalPages": -(-total // limit)}


def slice_of(rows: QuerySet[T], page: int, limit: int) -> list[T]:
    return list(rows[(page - 1) * limit : page * limit])


def page_newest_first(rows: QuerySet[T], page: int, limit: int, by: str) -> list[T]:
    """A page of rows, newest first. Where a deep one begins is read from the index of `by`, not by
    going through the rows.
    """
    start = (page - 1) * limit
    if start >= DEEP:
        first = rows.order_by(f"-{by}").values_list(by, flat=True)[start : start + 1].first()
        if first is None:
            return []
        start -= (
            rows.filter(**{f"{by}__gt": first}).order_by().count()
        )  # what is left are those of the very same moment
        rows = rows.filter(**{f"{by}__lte": first})
    return list(rows.order_by(f"-{by}", "-pk")[start : start + limit])


def long_pagination(rows: QuerySet[Any], page: int, limit: int, by: str) -> LongPagination:
    """Pages of a table that may have millions of rows, of which never more than COUNTED are gone
    through.

    `by` is the indexed column that the rows are ordered by. Raises 400 for a page beyond what can
    be reached.
    """
    if page * limit > COUNTED:
        message = (
            _("Only the newest %d entries have pages. Narrow the list with `from` and `to`.")
            % COUNTED
        )
        raise views.invalid("query.page", message, "max_value")
    total = rows.order_by().values(by)[: COUNTED + 1].count()
    if total <= COUNTED:
        return {**pagination(page, limit, total)}
    return {
        **pagination(page, limit, COUNTED),
        "total": max(total, _estimate(rows)),
        "estimated": True,
    }


def _estimate(rows: QuerySet[Any]) -> int:
    plan = json.loads(rows.order_by().explain(format="json"))
    return int(plan[0]["Plan"]["Plan Rows"])
