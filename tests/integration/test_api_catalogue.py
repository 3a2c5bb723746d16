"""Models, providers and vendors through the API."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.inference import RouteTarget
from certification.models import AIModel, ApiKey, ModelCertification, Region, Route, User
from certification.reasons import Status
from tests.api import Api
from tests.factories import certify

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


def ids(api: Api, query: str = "") -> list[str]:
    return [model["apiModelId"] for model in api.get(f"models?limit=500&{query}")["models"]]


def row(name: str = NOVA) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


def test_models_come_in_pages_ordered_by_vendor(api: Api) -> None:
    data = api.get("models?limit=10&page=2&_t=1&providerId=bedrock")
    assert len(data["models"]) == 10
    total = AIModel.objects.count()
    assert data["pagination"] == {
        "page": 2,
        "limit": 10,
        "total": total,
        "totalPages": -(-total // 10),
    }
    assert ids(api) == [
        model.api_model_id for model in AIModel.objects.order_by("vendor", "name", "api_model_id")
    ]
    assert api.get("models?page=1000")["models"] == []


def test_a_model_says_what_it_is_and_where_it_works(api: Api) -> None:
    certify(row(), "us-east-1")
    [model] = api.get("models?search=amazon nova-lite-v1")["models"]
    assert model["apiModelId"] == NOVA
    assert model["certifiedIn"] == ["us-east-1"]
    assert {"us-east-1", "us-west-2"} <= set(model["regions"])
    assert (model["kind"], model["providerId"], model["isActive"]) == ("text", "bedrock", True)
    assert model["inputPrice"] > 0
    assert "tools" in model["capabilities"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("vendor=amazon", {"vendor": "Amazon"}),
        ("kind=EMBEDDING", {"kind": "embedding"}),
        ("capability=vision", {"capabilities__contains": ["vision"]}),
        ("active=false", {"is_active": False}),
        ("region=sa-east-1", {"routes__region": "sa-east-1"}),
        (
            "vendor=Meta&kind=text&search=llama&status=",
            {"vendor": "Meta", "kind": "text", "name__icontains": "llama"},
        ),
        ("search=no-such-thing", {"pk": uuid.uuid4()}),
    ],
)
def test_filters_narrow_the_list(api: Api, query: str, expected: dict[str, Any]) -> None:
    known = AIModel.objects.filter(**expected).distinct()
    assert sorted(ids(api, query)) == sorted(model.api_model_id for model in known)


def test_models_are_filtered_by_status(api: Api) -> None:
    certify(row(), "us-east-1")
    certify(row(CLAUDE), "us-east-1", Status.FAILED)
    assert ids(api, "status=certified") == [NOVA]
    assert ids(api, "status=FAILED&region=us-east-1") == [CLAUDE]
    assert sorted(ids(api, "status=failed,certified&region=us-east-1")) == [NOVA, CLAUDE]
    assert ids(api, "status=failed&region=us-west-2") == []
    assert NOVA in ids(api, "status=not_tested")
    assert NOVA not in ids(api, "status=not_tested&region=us-east-1")
    ModelCertification.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert ids(api, "status=certified") == []
    assert NOVA in ids(api, "status=not_tested&region=us-east-1")


def test_a_model_has_its_routes_and_certifications_under_both_its_names(api: Api) -> None:
    run = certify(row(), "us-east-1")
    data = api.get(f"models/{NOVA}")
    assert data == api.get(f"models/{row().pk}")
    assert {route["region"] for route in data["routes"]} == set(data["regions"])
    assert data["routes"][0]["regionName"]
    [entry] = data["certifications"]
    assert (entry["region"], entry["status"], entry["score"], entry["passed"]) == (
        "us-east-1",
        "certified",
        89,
        True,
    )
    assert (entry["runId"], entry["backend"], entry["isExpired"]) == (
        str(run.pk),
        "emulator",
        False,
    )


def test_an_expired_certification_is_not_tested(api: Api) -> None:
    certify(row(), "us-east-1")
    for _ in range(2):
        [entry] = api.get(f"models/{NOVA}")["certifications"]
        assert (entry["status"], entry["isExpired"], entry["score"]) == (
            "certified",
            False,
            89,
        )
        ModelCertification.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        [entry] = api.get(f"models/{NOVA}")["certifications"]
        assert (entry["status"], entry["isExpired"], entry["score"]) == (
            "not_tested",
            True,
            89,
        )
        assert ModelCertification.objects.expire() == 1
        [entry] = api.get(f"models/{NOVA}")["certifications"]
        assert (entry["status"], entry["isExpired"]) == ("not_tested", True)
        certify(row(), "us-east-1")


def test_an_id_may_hold_slashes(api: Api) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:imported-model/abc"
    AIModel.objects.create(provider_id="bedrock", name="Ours", vendor="Us", api_model_id=arn)
    assert api.get(f"models/{arn}")["name"] == "Ours"


@pytest.mark.parametrize(
    "name",
    ["nobody", "74ae7ac7-6e2d-4ba7-827e-6e304d5d1f17", "a%00b", "x" * 3000, "%ED%A0%80", "a/b/c"],
)
def test_an_unknown_model_is_not_found(api: Api, name: str) -> None:
    assert api.get(f"models/{name}", status=404)["errorCode"] == "model_not_found"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "query.limit"),
        ("limit=501", "query.limit"),
        ("page=x", "query.page"),
        ("kind=rock", "query.kind"),
        ("status=perfect", "query.status"),
        ("active=perhaps", "query.active"),
        ("region=mars-1", "query.region"),
        ("search=%00", "query.search"),
        (f"vendor={'x' * 101}", "query.vendor"),
    ],
)
def test_what_cannot_be_filtered_by_is_named(api: Api, query: str, path: str) -> None:
    refusal = api.get(f"models?{query}", status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [path]


def test_a_disabled_region_is_not_shown(api: Api) -> None:
    Region.objects.filter(pk="us-east-1").update(enabled=False)
    assert ids(api, "region=us-east-1") == []
    assert "us-east-1" not in {route["region"] for route in api.get(f"models/{NOVA}")["routes"]}


def test_providers_and_vendors_are_counted(api: Api) -> None:
    [bedrock] = api.get("providers")["providers"]
    assert (bedrock["id"], bedrock["name"]) == ("bedrock", "AWS Bedrock")
    assert bedrock["models"] == AIModel.objects.count()
    assert bedrock["activeModels"] == AIModel.objects.active().count()
    vendors = api.get("vendors")["vendors"]
    assert sum(vendor["models"] for vendor in vendors) == AIModel.objects.count()
    assert {"Amazon", "Anthropic"} <= {vendor["name"] for vendor in vendors}


@pytest.mark.parametrize("path", ["models", f"models/{NOVA}", "providers", "vendors"])
def test_the_catalogue_is_for_those_who_may_read(
    catalogue: None, operator: User, path: str
) -> None:
    assert Api().get(path, status=401)["errorCode"] == "not_authenticated"
    nobody = User.objects.create_user("new@example.org", "a-long-test-password")
    assert Api(nobody).get(path, status=403)["errorCode"] == "not_allowed"
    assert Api(operator).call("POST", path, status=405)["errorCode"] == "method_not_allowed"


AUTHENTICATION = 1


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("models?region=us-east-1", 3),
        ("models", 2),
        (f"models/{NOVA}", 3),
        ("providers", 1),
        ("vendors", 1),
    ],
)
def test_it_takes_few_queries(
    api: Api, path: str, queries: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(AUTHENTICATION + queries):
        api.get(path)


def test_an_api_key_takes_one_query_too(
    api: Api, viewer: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    caller = Api(credential=ApiKey(user=viewer, name="router").issue())
    caller.get("vendors")  # notes the use
    with django_assert_num_queries(AUTHENTICATION + 1):
        caller.get("vendors")


def test_routes_name_endpoint_api_and_last_refusal(api: Api) -> None:
    gpt = row("openai.gpt-5.5")
    target = RouteTarget("us.openai.gpt-5.5", "INFERENCE_PROFILE")
    at = timezone.now()
    Route.objects.record_refusals(gpt.pk, "us-east-1", {target: ("wrong_route", "No.")}, at)
    detail = api.get("models/openai.gpt-5.5-2026-04-23")
    assert detail["apiModelId"] == "openai.gpt-5.5"
    assert detail["aliases"] == ["openai.gpt-5.5-2026-04-23"]
    routes = [r for r in detail["routes"] if r["region"] == "us-east-1"]
    assert [(r["endpoint"], r["api"], r["pathPrefix"]) for r in routes[::2]] == [
        ("bedrock-runtime", "converse", ""),
        ("bedrock-runtime", "responses", "/openai/v1"),
        ("bedrock-runtime", "chat_completions", "/openai/v1"),
        ("bedrock-mantle", "responses", "/openai/v1"),
    ]
    refused = [r for r in routes if r["lastRefusal"]]
    assert [(r["targetId"], r["api"]) for r in refused] == [("us.openai.gpt-5.5", "converse")]
    assert refused[0]["lastRefusal"]["reason"] == "wrong_route"


def test_a_search_finds_a_model_by_its_alias(api: Api) -> None:
    result = api.get("models?search=kimi-k2-thinking")["models"]
    assert [m["apiModelId"] for m in result] == ["moonshot.kimi-k2-thinking"]
    result = api.get("models?search=moonshotai.kimi-k2-th")["models"]
    assert [m["apiModelId"] for m in result] == ["moonshot.kimi-k2-thinking"]
