"""What the chat product reads besides certifications: settings, models, ratings, capabilities."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from certification.api import ratings
from certification.bedrock.errors import NotAuthenticated
from certification.engine import backend
from certification.models import (
    AIModel,
    ModelCertification,
    ParameterSupport,
    Preference,
    Region,
    User,
)
from certification.monitoring import bedrock_status
from certification.monitoring.bedrock_status import BedrockStatus, ListedModel
from certification.reasons import Reason, Status
from tests.api import Api
from tests.factories import certify

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"


@pytest.fixture
def api(viewer: User) -> Api:
    return Api(viewer)


@pytest.fixture(autouse=True)
def reach(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is known of Bedrock, which these tests do not call."""

    def know(status: BedrockStatus) -> None:
        monkeypatch.setattr(bedrock_status.bedrock_status, "get", lambda: status)

    know(BedrockStatus("emulator", "us-east-1", True, True, 181))
    return know


def model(name: str = NOVA) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


# Settings


def test_settings_are_stored_for_each_user(api: Api, viewer: User, operator: User) -> None:
    assert api.get("settings") == {
        "id": str(viewer.pk),
        "theme": "light",
        "awsAccessKey": "EMUL",
        "awsRegion": "us-east-1",
        "awsEnabledModels": [],
    }
    # as the screens do: the theme alone, then the form with the key that was shown
    assert api.put("settings", {"theme": "dark"})["theme"] == "dark"
    form = {
        "awsAccessKey": "EMUL",
        "awsSecretKey": "",
        "awsRegion": "sa-east-1",
        "awsEnabledModels": [NOVA, NOVA, "new.model-v1:0"],
    }
    stored = api.put("settings", form)
    assert stored == api.get("settings")
    assert (stored["theme"], stored["awsRegion"]) == ("dark", "sa-east-1")
    assert stored["awsEnabledModels"] == [NOVA, "new.model-v1:0"]
    assert Api(operator).get("settings")["theme"] == "light"
    assert Preference.objects.count() == 1


@pytest.mark.parametrize(
    "body",
    [
        {"awsAccessKey": "AKIAABCDEFGHIJKLMNOP"},
        {"awsAccessKey": "EMUL", "awsSecretKey": "x" * 40},
        {"openaiApiKey": "sk-1234"},
        {"theme": "dark", "password": ["x"]},
    ],
)
def test_a_secret_is_refused_with_a_sentence_and_nothing_is_stored(api: Api, body: Any) -> None:
    refusal = api.put("settings", body, status=400)
    assert "the server calls AWS with its own credentials" in refusal["message"]
    assert refusal["data"]["validation"][0]["code"] == "secret_refused"
    assert "AKIAABCDEFGHIJKLMNOP" not in str(refusal)
    assert not Preference.objects.exists()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"theme": "pink"}, "body.theme"),
        ({"awsRegion": "mars-1"}, "body.awsRegion"),
        ({"awsEnabledModels": "all"}, "body.awsEnabledModels"),
        ({"awsEnabledModels": [{"a": 1}]}, "body.awsEnabledModels.0"),
        ({"awsEnabledModels": ["m"] * 1001}, "body.awsEnabledModels"),
    ],
)
def test_bad_settings_are_refused_with_their_place(api: Api, body: Any, path: str) -> None:
    refusal = api.put("settings", body, status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [path]


def test_at_most_four_characters_of_the_servers_key_are_shown(api: Api, reach: Any) -> None:
    reach(BedrockStatus("aws", "eu-west-1", True, True, 90, "AKIAXYZ"))
    assert api.get("settings")["awsAccessKey"] == "AKIA"
    assert api.get("settings")["awsRegion"] == "eu-west-1"
    reach(BedrockStatus("aws", "eu-west-1", False, reason=Reason.CREDENTIALS_MISSING))
    assert api.get("settings")["awsAccessKey"] == ""
    api.put("settings", {"awsAccessKey": "AKIA"}, status=400)


# Credentials and AWS's list


def test_the_servers_own_credentials_are_validated_whatever_is_sent(api: Api, reach: Any) -> None:
    sent = {"useStoredCredentials": True, "region": "us-east-1"}
    answer = api.post("providers/bedrock/validate", sent)
    assert (answer["status"], answer["modelsCount"]) == ("valid", 181)
    assert answer["message"]
    reach(BedrockStatus("aws", "us-east-1", True, reason=Reason.CREDENTIALS_INVALID))
    sent = {"accessKey": "AKIAABCDEFGHIJKLMNOP", "secretKey": "x" * 40, "region": "us-east-1"}
    answer = api.post("providers/bedrock/validate", sent)
    assert answer["status"] == "invalid"
    assert answer["message"]
    assert "AKIA" not in str(answer)


def test_the_models_that_aws_lists_in_ones_region(
    api: Api, viewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = []

    class Listing:
        def get(self) -> list[ListedModel]:
            return [
                ListedModel(NOVA, "Nova Lite", "Amazon", ["TEXT", "IMAGE"], ["TEXT"], True),
                ListedModel("new.model-v1:0", "", "New", ["TEXT"], ["TEXT"], False),
            ]

    def listed(region: str) -> Listing:
        regions.append(region)
        return Listing()

    monkeypatch.setattr(bedrock_status, "listed_models", listed)
    Preference.objects.create(user=viewer, region_id="sa-east-1")
    answer = api.get("providers/bedrock/available-models")
    nova, new = answer["models"]
    assert (regions, answer["totalCount"]) == (["sa-east-1"], 2)
    row = model()
    assert nova == {
        "id": str(row.pk),
        "name": "Nova Lite",
        "apiModelId": NOVA,
        "contextWindow": row.context_window,
        "providerName": "Amazon",
        "costPer1kInput": float(row.input_price or 0) / 1000,
        "costPer1kOutput": float(row.output_price or 0) / 1000,
        "inputModalities": ["TEXT", "IMAGE"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "isInDatabase": True,
    }
    assert (new["id"], new["name"], new["isInDatabase"]) == (
        "new.model-v1:0",
        "new.model-v1:0",
        False,
    )


def test_a_list_that_aws_refuses_says_what_to_do(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def foundation_models(self, *_: Any, **__: Any) -> Any:
            raise NotAuthenticated(Reason.CREDENTIALS_INVALID, "No.")

    monkeypatch.setattr(backend, "bedrock", Refusing)
    refusal = api.get("providers/bedrock/available-models", status=409)
    assert refusal["errorCode"] == "credentials_invalid"


# Providers, vendors, ratings


def test_providers_have_their_active_text_models(api: Api, viewer: User, reach: Any) -> None:
    AIModel.objects.filter(api_model_id=CLAUDE).update(is_active=False)
    [bedrock] = api.get("ai/providers")["providers"]
    assert (bedrock["slug"], bedrock["name"], bedrock["isActive"]) == (
        "bedrock",
        "AWS Bedrock",
        True,
    )
    names = [entry["apiModelId"] for entry in bedrock["models"]]
    assert NOVA in names
    assert not {CLAUDE, TITAN} & set(names)
    windows = [entry["contextWindow"] for entry in bedrock["models"]]
    assert windows == sorted(windows, reverse=True)
    assert api.get("providers/configured") == {"providers": [bedrock]}
    Preference.objects.create(user=viewer, enabled_models=[NOVA, "new.model-v1:0"])
    [configured] = api.get("providers/configured")["providers"]
    assert [entry["apiModelId"] for entry in configured["models"]] == [NOVA]
    reach(BedrockStatus("aws", "us-east-1", False))
    assert api.get("providers/configured") == {"providers": []}


def test_models_by_vendor_say_how_they_are_certified(
    api: Api, viewer: User, django_assert_num_queries: Any
) -> None:
    certify(model(), "us-east-1")
    certify(model(), "us-west-2", Status.FAILED, score=31, reason=Reason.GATE_FAILED)
    Preference.objects.create(user=viewer, enabled_models=[CLAUDE])
    with django_assert_num_queries(4):  # user, preference, certifications, models
        vendors = api.get("providers/by-vendor")["vendors"]
    assert [vendor["name"] for vendor in vendors] == sorted(vendor["name"] for vendor in vendors)
    amazon = next(vendor for vendor in vendors if vendor["slug"] == "amazon")
    assert (amazon["id"], amazon["name"], amazon["logo"]) == ("amazon", "Amazon", "")
    nova = next(entry for entry in amazon["models"] if entry["apiModelId"] == NOVA)
    [offer] = nova["availableOn"]
    assert (offer["provider"], offer["providerSlug"], offer["isConfigured"]) == (
        "bedrock",
        "bedrock",
        False,
    )
    assert offer["certification"].keys() == {"status", "successRate", "lastChecked"}
    assert (offer["certification"]["status"], offer["certification"]["successRate"]) == (
        "certified",
        100.0,
    )
    others = [entry for entry in amazon["models"] if entry is not nova]
    assert {entry["availableOn"][0]["certification"] for entry in others} == {None}
    claude = next(
        entry for vendor in vendors for entry in vendor["models"] if entry["apiModelId"] == CLAUDE
    )
    assert claude["availableOn"][0]["isConfigured"] is True


def test_models_are_rated_in_the_region_where_they_are_best(
    api: Api, django_assert_num_queries: Any
) -> None:
    certify(model(), "us-east-1", Status.FAILED, score=31, reason=Reason.GATE_FAILED)
    certify(
        model(),
        "us-west-2",
        tier="full",
        score=92,
        results=[("G01", "passed", ""), ("G02", "flaky", ""), ("G03", "failed", "")],
    )
    certify(model(CLAUDE), "us-east-1")
    ModelCertification.objects.filter(model__api_model_id=CLAUDE).update(
        expires_at=timezone.now() - timedelta(days=1)
    )
    with django_assert_num_queries(4):  # user, certifications, cases, models
        models = {entry["apiModelId"]: entry for entry in api.get("providers/models")["data"]}
    nova = models[NOVA]
    assert (nova["rating"], nova["badge"], nova["region"]) == (4.6, "RECOMENDADO", "us-west-2")
    assert nova["metrics"] == {
        "successRate": 66.7,
        "averageRetries": 0.0,
        "averageLatency": 0.0,
        "errorCount": 1,
        "totalTests": 3,
        "testsPassed": 2,
    }
    assert nova["scores"] == {
        "success": 2.67,
        "resilience": 1.0,
        "performance": 0.67,
        "stability": 0.67,
    }
    assert {"id", "name", "provider", "isAvailable", "ratingUpdatedAt"} <= nova.keys()
    assert not {"rating", "badge", "metrics", "scores"} & models[CLAUDE].keys(), "it has expired"
    etag = api.response["ETag"]
    api.get("providers/models", status=304, If_None_Match=etag)


@pytest.mark.parametrize(
    ("status", "score", "rating", "word"),
    [
        ("certified", 100, 5.0, "PREMIUM"),
        ("certified", 96, 4.8, "PREMIUM"),
        ("certified", 95, 4.8, "PREMIUM"),
        ("certified", 94, 4.7, "RECOMENDADO"),
        ("certified", 60, 4.0, "RECOMENDADO"),
        ("quality_warning", 95, 3.9, "FUNCIONAL"),
        ("quality_warning", 60, 3.0, "FUNCIONAL"),
        ("quality_warning", 58, 2.9, "LIMITADO"),
        ("quality_warning", None, 2.0, "LIMITADO"),
        ("failed", 79, 1.9, "NAO_RECOMENDADO"),
        ("failed", 0, 1.0, "NAO_RECOMENDADO"),
        ("permission_required", 90, 0.0, "INDISPONIVEL"),
        ("configuration_required", None, 0.0, "INDISPONIVEL"),
    ],
)
def test_the_rating_follows_one_table(
    status: str, score: int | None, rating: float, word: str
) -> None:
    assert ratings.rating_of(status, score) == rating
    assert ratings.word_of(rating) == word


def test_what_says_nothing_of_a_model_gives_no_rating() -> None:
    rated = {status for status in Status if ratings.rating_of(status, 90) is not None}
    assert set(Status) - rated == {Status.PENDING, Status.NOT_TESTED}


# Capabilities


@pytest.mark.parametrize("address", ["models//capabilities", "models//", "models//a/capabilities"])
def test_an_address_without_its_id_is_no_other_call(address: str) -> None:
    """The capabilities are public: their address never leads to what needs a role."""
    assert Api().get(address, status=404)["code"] == 404


def test_capabilities_are_public_and_complete(django_assert_num_queries: Any) -> None:
    public = Api(credential="expired")
    with django_assert_num_queries(4):
        everything = public.get("models/capabilities")
    assert public.response["Cache-Control"] == "public, max-age=60"
    assert NOVA in everything
    assert TITAN not in everything
    row, nova = model(), everything[NOVA]
    assert nova == public.get("models/amazon.nova-lite-v1%3A0/capabilities")
    assert nova == public.get(f"models/{row.pk}/capabilities")
    assert nova.keys() == {
        "temperature",
        "topP",
        "topK",
        "maxTokens",
        "stopSequences",
        "streaming",
        "vision",
        "functionCalling",
        "systemPrompt",
        "maxContextWindow",
        "maxOutputTokens",
        "requiresInferenceProfile",
        "measured",
    }
    assert nova["temperature"] == {"enabled": True, "min": 0.0, "max": 1.0, "default": 0.7}
    assert nova["maxTokens"]["max"] == nova["maxOutputTokens"] == row.max_output_tokens
    assert (nova["vision"], nova["measured"]) == ({"enabled": True}, [])
    for name in ("temperature", "topP", "topK", "maxTokens"):
        for entry in everything.values():
            assert entry[name]["min"] <= entry[name]["default"] <= entry[name]["max"]


def test_what_runs_observed_goes_before_the_catalogue() -> None:
    row, region = model(), Region.objects.get(pk="us-east-1")
    now = timezone.now()
    for operation, feature, accepted in (
        ("converse", "tools", False),
        ("converse", "temperature", False),
        ("converse", "stop_sequences", False),
        ("converse_stream", "stop_sequences", True),
    ):
        ParameterSupport.objects.create(
            model=row,
            operation=operation,
            feature=feature,
            accepted=accepted,
            region=region,
            seen_at=now,
        )
    nova = Api().get(f"models/{NOVA}/capabilities")
    assert nova["functionCalling"] == {"enabled": False}
    assert nova["temperature"]["enabled"] is False
    assert nova["topP"]["enabled"] is False
    assert nova["stopSequences"]["enabled"] is True
    assert nova["measured"] == ["functionCalling", "stopSequences", "temperature"]


@pytest.mark.parametrize("name", ["nobody", "a%00b", "x" * 3000, "a/b"])
def test_capabilities_of_an_unknown_model_are_not_found(name: str) -> None:
    refusal = Api().get(f"models/{name}/capabilities", status=404)
    assert refusal["errorCode"] == "model_not_found"


# What is another system's


@pytest.mark.parametrize(
    "path",
    ["chat/send", "chat-history", "audit", "prompt-trace/1", "auth/register", "user/profile"],
)
def test_calls_of_another_system_are_not_found(api: Api, path: str) -> None:
    assert api.get(path, status=404)["errorCode"] == "not_found"
