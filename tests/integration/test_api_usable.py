"""Whether a model can be called, where, how, and what else could serve."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.inference import API, Endpoint, RouteTarget
from certification.models import AIModel, CertificationRun, ModelCertification, Region, Route, User
from certification.reasons import Reason, Status
from tests import factories
from tests.api import Api
from tests.factories import certify

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"

ON_RUNTIME = {"endpoint": "bedrock-runtime", "api": "converse", "pathPrefix": ""}
GPT = "openai.gpt-5.5"
BY_RESPONSES = RouteTarget(GPT, "ON_DEMAND", Endpoint.MANTLE, API.RESPONSES, "/openai/v1")


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


def model(name: str = NOVA) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


def usable(api: Api, /, **question: Any) -> Any:
    query = "&".join(f"{name}={value}" for name, value in {"model": NOVA, **question}.items())
    return api.get(f"usable?{query}")


def stands(run: CertificationRun, **values: Any) -> None:
    assert ModelCertification.objects.filter(run=run).update(**values) == 1


def lacking(row: AIModel, region: str, *lacks: str, **outcome: Any) -> CertificationRun:
    """A certificate whose run proved that these capabilities are absent."""
    run = factories.start_job([row], [region]).runs.get()
    CertificationRun.objects.filter(pk=run.pk).update(environment={"lacks": list(lacks)})
    return factories.finish(run, Status.CERTIFIED, **outcome)


def test_a_certified_pair_is_usable_with_the_route_that_proved_it(api: Api) -> None:
    run = certify(model(), "us-east-1")
    answer = usable(api, region="us-east-1", capability="tools", maxAgeDays=1)
    assert (answer["usable"], answer["status"], answer["score"], answer["rating"]) == (
        True,
        "certified",
        89,
        "B",
    )
    assert answer["route"] == {"kind": "ON_DEMAND", "targetId": NOVA, **ON_RUNTIME}
    assert (answer["model"], answer["region"], answer["backend"]) == (NOVA, "us-east-1", "emulator")
    assert "against the emulator with score 89 (B)" in answer["reason"]
    assert (answer["errorReason"], answer["fix"]) == (None, None)
    assert run.completed_at is not None
    tomorrow = (run.completed_at + timedelta(days=1)).isoformat()[:16]
    assert answer["validUntil"].startswith(tomorrow)
    stands(run, backend="aws")
    assert "emulator" not in usable(api, region="us-east-1")["reason"]


def test_a_model_is_known_by_our_uuid_too(api: Api) -> None:
    assert usable(api, model=model().pk)["model"] == NOVA


def test_what_was_never_tested_is_not_usable_and_has_a_route(api: Api) -> None:
    answer = usable(api, region="us-east-1")
    assert (answer["usable"], answer["status"], answer["validUntil"]) == (False, "not_tested", None)
    assert answer["reason"] == "The model was never tested in us-east-1."
    assert answer["route"] == {"kind": "ON_DEMAND", "targetId": NOVA, **ON_RUNTIME}
    anywhere = usable(api)
    assert (anywhere["region"], anywhere["route"]) == (None, None)
    assert anywhere["reason"] == "The model was never tested in any region."


@pytest.mark.parametrize(
    "status", [Status.QUALITY_WARNING, Status.FAILED, Status.PERMISSION_REQUIRED]
)
def test_only_a_certificate_makes_usable(api: Api, status: Status) -> None:
    fix = {"text": "Ask for access.", "who": "somebody"}
    certify(
        model(),
        "us-east-1",
        status,
        reason=Reason.MODEL_ACCESS_NOT_GRANTED,
        message="No access.",
        fix=fix,
        score=60,
    )
    answer = usable(api, region="us-east-1")
    assert (answer["usable"], answer["status"], answer["reason"]) == (False, status, "No access.")
    assert answer["errorReason"] == "model_access_not_granted"
    assert answer["fix"]["text"] == "Ask for access."
    assert answer["route"]["targetId"] == NOVA


def test_an_expired_certificate_is_not_usable(api: Api) -> None:
    run = certify(model(), "us-east-1")
    stands(run, expires_at=timezone.now() - timedelta(seconds=1))
    answer = usable(api, region="us-east-1")
    assert (answer["usable"], answer["status"]) == (False, "not_tested")
    assert "expired" in answer["reason"]
    ModelCertification.objects.expire()
    assert "expired" in usable(api, region="us-east-1")["reason"]


def test_a_certificate_may_be_too_old_for_the_one_who_asks(api: Api) -> None:
    run = certify(model(), "us-east-1")
    stands(run, certified_at=timezone.now() - timedelta(days=3))
    assert usable(api, region="us-east-1", maxAgeDays=4)["usable"]
    answer = usable(api, region="us-east-1", maxAgeDays=2)
    assert (answer["usable"], answer["status"]) == (False, "certified")
    assert "older than the requested" in answer["reason"]
    assert not usable(api, region="us-east-1", maxAgeDays=0)["usable"]


def test_a_capability_must_be_declared_and_not_proved_absent(api: Api) -> None:
    certify(model(), "us-east-1")
    assert usable(api, region="us-east-1", capability="streaming")["usable"]
    assert usable(api, region="us-east-1", capability="structured_output")["usable"]
    answer = usable(api, region="us-east-1", capability="embeddings")
    assert not answer["usable"]
    assert "does not list embeddings" in answer["reason"]
    lacking(model(), "us-east-1", "tools", "structured_output")
    for capability in ("tools", "structured_output"):
        answer = usable(api, region="us-east-1", capability=capability)
        assert (answer["usable"], answer["status"]) == (False, "certified")
        assert f"{capability} does not work" in answer["reason"]
    assert usable(api, region="us-east-1", capability="vision")["usable"]


def test_without_a_region_the_best_one_is_used(api: Api) -> None:
    certify(model(), "us-east-1", score=80)
    certify(model(), "us-west-2", score=95, rating="A")
    certify(model(), "eu-west-1", Status.FAILED, score=99)
    answer = usable(api)
    assert (answer["usable"], answer["region"], answer["score"]) == (True, "us-west-2", 95)
    assert [(other["model"], other["region"]) for other in answer["alternatives"]] == [
        (NOVA, "us-east-1")
    ]


def test_alternatives_are_other_regions_and_other_models_best_first(api: Api) -> None:
    certify(model(), "us-west-2", score=80)
    certify(model(), "eu-west-1", Status.FAILED)
    certify(model(CLAUDE), "us-east-1", score=97, rating="A")
    pro = model("amazon.nova-pro-v1:0")
    certify(pro, "us-east-1", score=90, rating="A")
    certify(pro, "us-west-2", score=99, rating="A")  # another model in another region is no help
    embedding = AIModel.objects.filter(kind="embedding", routes__region="us-east-1").first()
    assert embedding is not None
    certify(embedding, "us-east-1", score=99)

    def others(**question: Any) -> list[tuple[str, str, int]]:
        answer = usable(api, region="us-east-1", **question)
        assert not answer["usable"]
        return [
            (other["model"], other["region"], other["score"]) for other in answer["alternatives"]
        ]

    nova_west, nova_pro, claude = (
        (NOVA, "us-west-2", 80),
        (pro.api_model_id, "us-east-1", 90),
        (CLAUDE, "us-east-1", 97),
    )
    assert others() == [claude, nova_pro, nova_west]
    lacking(model(CLAUDE), "us-east-1", "tools", score=97, rating="A")
    assert others(capability="tools") == [nova_pro, nova_west]
    assert others(capability="vision") == [claude, nova_pro, nova_west]
    stands(
        CertificationRun.objects.get(model=pro, region="us-east-1"),
        certified_at=timezone.now() - timedelta(days=5),
    )
    assert others(maxAgeDays=4) == [claude, nova_west]
    ModelCertification.objects.filter(model=model(), region="us-west-2").update(backend="aws")
    assert others()[0] == nova_west  # what really was called, before the emulator
    [first, *_rest] = usable(api, region="us-east-1")["alternatives"]
    assert (first["backend"], first["route"]["targetId"], first["modelName"]) == (
        "aws",
        NOVA,
        "Nova Lite",
    )
    assert first["validUntil"]


def test_at_most_ten_alternatives_are_listed(api: Api) -> None:
    offered = (
        AIModel.objects.active()
        .filter(kind="text", routes__region="us-east-1")
        .exclude(api_model_id=NOVA)
    )
    for row in offered.distinct()[:12]:
        certify(row, "us-east-1")
    assert len(usable(api, region="us-east-1")["alternatives"]) == 10


def test_the_route_is_one_that_is_there(api: Api) -> None:
    run = certify(model(), "us-east-1")
    Route.objects.filter(model=model(), region="us-east-1").delete()
    assert (
        usable(api, region="us-east-1")["route"]["targetId"] == run.route
    )  # only the call proved it
    Route.objects.create(
        model=model(), region_id="us-east-1", kind="INFERENCE_PROFILE", target_id="us.nova"
    )
    assert usable(api, region="us-east-1")["route"] == {
        "kind": "INFERENCE_PROFILE",
        "targetId": "us.nova",
        **ON_RUNTIME,
    }


def test_a_region_that_is_switched_off_is_not_usable(api: Api) -> None:
    certify(model(), "us-east-1")
    Region.objects.filter(pk="us-east-1").update(enabled=False)
    answer = usable(api, region="us-east-1")
    assert (answer["usable"], answer["reason"]) == (False, "Region us-east-1 is disabled.")
    assert not usable(api)["usable"]


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("", ["query.model"]),
        ("model=", ["query.model"]),
        ("model=%00&region=%00", ["query.model", "query.region"]),
        (f"model={NOVA}&region=mars-1", ["query.region"]),
        (f"model={NOVA}&maxAgeDays=-1", ["query.maxAgeDays"]),
        (f"model={NOVA}&maxAgeDays=nan", ["query.maxAgeDays"]),
        (f"model={NOVA}&maxAgeDays=1e400", ["query.maxAgeDays"]),
        (f"model={NOVA}&capability={'x' * 41}", ["query.capability"]),
    ],
)
def test_invalid_parameters_are_named(api: Api, query: str, paths: list[str]) -> None:
    answer = api.get(f"usable?{query}", status=400)
    assert [entry["path"] for entry in answer["data"]["validation"]] == paths


def test_an_unknown_model_is_not_found(api: Api) -> None:
    assert api.get("usable?model=nobody", status=404)["errorCode"] == "model_not_found"


def test_it_is_for_those_who_may_read(operator: User, catalogue: None) -> None:
    Api().get(f"usable?model={NOVA}", status=401)
    nobody = User.objects.create_user("new@example.org", "a-long-test-password")
    Api(nobody).get(f"usable?model={NOVA}", status=403)
    Api(operator).post("usable", {}, status=405)


def test_it_takes_few_queries(api: Api, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for region in ("us-east-1", "us-west-2", "eu-west-1"):
        certify(model(), region)
    certify(model(CLAUDE), "us-east-1")
    with django_assert_num_queries(6):  # who asks, model, region, standings, routes, other models
        usable(api, region="us-east-1", capability="tools", maxAgeDays=3)


# Endpoints and APIs


def test_it_says_by_which_endpoint_and_api_the_model_was_certified(api: Api) -> None:
    certify(model(GPT), "us-east-1", by=BY_RESPONSES)
    answer = usable(api, model=GPT, region="us-east-1")
    assert answer["usable"]
    assert answer["certifiedBy"] == {"endpoint": "bedrock-mantle", "api": "responses"}
    assert answer["route"] == {
        "kind": "ON_DEMAND",
        "targetId": GPT,
        "endpoint": "bedrock-mantle",
        "api": "responses",
        "pathPrefix": "/openai/v1",
    }


def test_certified_by_one_api_is_not_certified_by_another(api: Api) -> None:
    certify(model(GPT), "us-east-1", by=BY_RESPONSES)
    answer = usable(api, model=GPT, region="us-east-1", api="converse")
    assert (answer["usable"], answer["status"], answer["validUntil"]) == (False, "certified", None)
    assert answer["reason"] == (
        "The model is certified by Responses, not by Converse. Call it by Responses."
    )
    assert (answer["route"]["api"], answer["route"]["targetId"]) == ("converse", f"us.{GPT}")
    assert usable(api, model=GPT, region="us-east-1", api="responses")["usable"]


def test_alternatives_were_certified_by_the_requested_api_too(api: Api) -> None:
    certify(model(GPT), "us-east-1", by=BY_RESPONSES)
    certify(model(CLAUDE), "us-east-1")
    for name, other in (("responses", GPT), ("converse", CLAUDE)):
        answer = usable(api, region="us-east-1", api=name)
        assert [a["model"] for a in answer["alternatives"]] == [other]
        assert answer["alternatives"][0]["route"]["api"] == name


def test_an_unknown_api_is_refused(api: Api) -> None:
    assert "api" in str(api.get(f"usable?model={NOVA}&api=soap", status=400))


def test_an_alias_names_the_model(api: Api) -> None:
    assert usable(api, model="openai.gpt-5.5-2026-04-23")["model"] == GPT
