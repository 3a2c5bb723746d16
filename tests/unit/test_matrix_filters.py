"""The address of the matrix, read without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.http import QueryDict

from certification.web import matrix_filters, measures
from certification.web.matrix_filters import Filters, Known

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
KNOWN = Known(
    vendors=["Amazon", "Meta"],
    capabilities=["tools"],
    regions=["us-east-1", "sa-east-1"],
    geographies=["us", "sa"],
)


def read(query: str) -> Filters:
    return matrix_filters.read_filters(QueryDict(query), KNOWN, NOW)


@pytest.mark.parametrize(
    ("query", "name", "values"),
    [
        ("vendor=Amazon&vendor=Meta&vendor=Amazon", "vendor", ("Amazon", "Meta")),
        ("kind=text", "kind", ("text",)),
        ("lifecycle=LEGACY", "lifecycle", ("LEGACY",)),
        ("capability=tools", "capability", ("tools",)),
        ("status=failed&status=running", "status", ("failed", "running")),
        ("status=worse&since=7d", "status", ("worse",)),
        ("reason=iam_denied", "reason", ("iam_denied",)),
        ("geo=sa", "geo", ("sa",)),
        ("region=us-east-1", "region", ("us-east-1",)),
        ("route=INFERENCE_PROFILE", "route", ("INFERENCE_PROFILE",)),
        ("backend=aws", "backend", ("aws",)),
    ],
)
def test_parameters_that_may_repeat(query: str, name: str, values: tuple[str, ...]) -> None:
    filters = read(query)
    assert filters.of(name) == values
    assert filters.dropped == ()


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("q=+nova+", "search", "nova"),
        ("min_score=80", "min_score", 80),
        ("tested=30d", "tested_days", 30),
        ("since=7d", "since_days", 7),
        ("at=2026-11-01", "at", datetime(2026, 11, 1, 23, 59, 59, tzinfo=UTC)),
        ("at=2026-11-30", "at", NOW),
        ("show=ttft", "show", "ttft"),
        ("size=map", "size", "map"),
        ("group=family", "group", "family"),
        ("sort=worst", "sort", "worst"),
        ("empty=hide", "hide_empty", True),
        ("pin=sa-east-1", "pins", ("sa-east-1",)),
        ("select=1", "select", True),
    ],
)
def test_parameters_with_one_value(query: str, name: str, value: Any) -> None:
    filters = read(query)
    assert getattr(filters, name) == value
    assert filters.dropped == ()


@pytest.mark.parametrize(
    "query",
    [
        "vendor=Nobody", "kind=x", "lifecycle=x", "capability=x", "status=x", "reason=x", "geo=x",
        "region=xx-1", "route=x", "backend=x", "min_score=101", "min_score=-1", "min_score=٣",
        "min_score=99999999999999999999", "tested=7", "tested=0d", "tested=999d", "since=x",
        "since=9999999999d", "at=2026-12-01", "at=2026-02-30", "at=x", "at=2026-11-01T00:00:00",
        "show=x", "size=x", "group=x", "sort=x", "empty=x", "pin=xx-1", "select=x",
        "status=worse", "status=better", "region=%00",
    ],
)  # fmt: skip
def test_a_value_that_there_is_not_is_dropped_and_named(query: str) -> None:
    filters = read(query)
    name, value = query.split("=")
    assert filters == Filters(chosen=filters.chosen, dropped=filters.dropped)
    assert not any(filters.chosen.values())
    assert [dropped for dropped, _value in filters.dropped] == [name]
    [sentence] = matrix_filters.dropped_sentences(filters)
    assert sentence.startswith("There is no ")
    assert value.replace("%00", "\0") in sentence


def test_what_is_not_a_parameter_is_ignored() -> None:
    assert read("utm_source=chat&foo=1").dropped == ()


def test_empty_values_say_nothing() -> None:
    assert read("vendor=&status=&at=&since=&show=").dropped == ()


def test_each_chip_leads_to_the_address_without_it() -> None:
    query = QueryDict("q=nova&vendor=Amazon&vendor=Meta&min_score=80&tested=7d&page=3&show=cost")
    chips = matrix_filters.chips(query, matrix_filters.read_filters(query, KNOWN, NOW))
    assert [chip.label for chip in chips] == [
        "model: nova", "vendor: Amazon", "vendor: Meta", "score at least: 80",
        "tested in the last: 7 days",
    ]  # fmt: skip
    assert chips[1].query == "q=nova&vendor=Meta&min_score=80&tested=7d&show=cost"


def test_every_parameter_has_a_name() -> None:
    assert {*matrix_filters.FILTERING, "since", "at", "show"} <= matrix_filters.PARAMETERS


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        ("ON_DEMAND", "amazon.nova", "region"),
        ("PROVISIONED", "arn:aws:...", "region"),
        ("INFERENCE_PROFILE", "us.amazon.nova", "geography"),
        ("INFERENCE_PROFILE", "global.amazon.nova", "global"),
        ("", "", ""),
    ],
)
def test_residency_follows_from_the_route(kind: str, target: str, expected: str) -> None:
    assert measures.residency(kind, target) == expected
