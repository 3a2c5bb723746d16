"""The whole matrix in one answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.inference import API, Endpoint, RouteTarget
from certification.models import AIModel, ModelCertification, Region, Route, User
from certification.reasons import Status
from tests.api import Api
from tests.factories import certify

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


def named(name: str) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


def cell(data: Any, model: str, region: str) -> Any:
    """A cell in words: status, score, rating and the names of its flags."""
    column = [entry["id"] for entry in data["regions"]].index(region)
    row = next(row for row in data["models"] if row["apiModelId"] == model)
    values = row["cells"][column]
    if values is None:
        return None
    status, score, rating, flags, _route = values
    legend = data["legend"]
    return (
        legend["statuses"][status],
        score,
        rating,
        {name for name, bit in legend["flags"].items() if flags & bit},
    )


def test_it_has_every_active_model_and_each_region_that_offers_something(api: Api) -> None:
    data = api.get("matrix")
    assert len(data["models"]) == AIModel.objects.active().count()
    offering = Region.objects.filter(enabled=True, routes__model__is_active=True).distinct()
    assert data["regions"] == [
        {"id": region.code, "name": region.name} for region in offering.order_by("code")
    ]
    assert {len(row["cells"]) for row in data["models"]} == {len(data["regions"])}
    offered = sum(values is not None for row in data["models"] for values in row["cells"])
    routes = (
        Route.objects.filter(model__is_active=True).order_by().values("model", "region").distinct()
    )
    assert offered == routes.count()
    assert cell(data, NOVA, "us-east-1") == ("not_tested", None, None, set())


def test_cells_show_status_score_and_rating(api: Api) -> None:
    certify(named(NOVA), "us-east-1")
    certify(named(CLAUDE), "us-east-1", Status.FAILED, score=12, rating="F")
    Route.objects.filter(model__api_model_id=CLAUDE, region="us-east-1").delete()
    data = api.get("matrix")
    assert cell(data, NOVA, "us-east-1") == ("certified", 89, "B", {"emulated"})
    assert cell(data, CLAUDE, "us-east-1") == ("failed", 12, "F", {"emulated", "notOffered"})


def test_a_cell_names_the_endpoint_and_the_api_of_its_last_run(api: Api) -> None:
    route = RouteTarget(NOVA, "ON_DEMAND", Endpoint.MANTLE, API.RESPONSES, "/v1")
    certify(named(NOVA), "us-east-1", by=route)
    data = api.get("matrix?region=us-east-1")
    routes = {row["apiModelId"]: row["cells"][0][4] for row in data["models"] if row["cells"][0]}
    expected = {"endpoint": "bedrock-mantle", "api": "responses"}
    assert data["legend"]["routes"][routes[NOVA]] == expected
    assert {index for name, index in routes.items() if name != NOVA} == {None}


def test_an_expired_cell_keeps_its_score_and_not_its_status(api: Api) -> None:
    certify(named(NOVA), "us-east-1")
    ModelCertification.objects.update(
        expires_at=timezone.now() - timedelta(seconds=1), backend="aws"
    )
    expected = ("not_tested", 89, "B", {"expired"})
    assert cell(api.get("matrix"), NOVA, "us-east-1") == expected
    ModelCertification.objects.expire()
    assert cell(api.get("matrix"), NOVA, "us-east-1") == expected


def test_a_vendor_and_a_region_narrow_it(api: Api) -> None:
    data = api.get("matrix?vendor=amazon&region=us-east-1")
    assert {row["vendor"] for row in data["models"]} == {"Amazon"}
    assert [region["id"] for region in data["regions"]] == ["us-east-1"]
    assert len(data["models"]) == AIModel.objects.active().filter(vendor="Amazon").count()
    assert api.get("matrix?vendor=nobody")["models"] == []


def test_a_disabled_region_is_no_column(api: Api) -> None:
    Region.objects.filter(pk="us-east-1").update(enabled=False)
    assert "us-east-1" not in [region["id"] for region in api.get("matrix")["regions"]]
    assert api.get("matrix?region=us-east-1")["regions"] == []


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("region=mars-1", "query.region"),
        ("vendor=%00", "query.vendor"),
        (f"region={'x' * 33}", "query.region"),
    ],
)
def test_invalid_parameters_are_named(api: Api, query: str, path: str) -> None:
    refusal = api.get(f"matrix?{query}", status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [path]


def test_it_is_for_those_who_may_read(operator: User, catalogue: None) -> None:
    Api().get("matrix", status=401)
    Api(User.objects.create_user("new@example.org", "a-long-test-password")).get(
        "matrix", status=403
    )
    Api(operator).call("DELETE", "matrix", status=405)


def test_four_queries_are_enough(
    api: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for path in ("matrix", "matrix?region=us-east-1&vendor=Amazon"):
        with django_assert_num_queries(4):
            api.get(path)
