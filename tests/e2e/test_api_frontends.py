"""A day of the two frontends in literal JSON, against real workers: what they send, and what they
read in the answers.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from certification.models import AIModel, User
from tests.api import Api
from tests.processes import PATIENCE_S, LiveStack, wait_until

pytestmark = pytest.mark.processes

NOVA = "amazon.nova-lite-v1:0"
PASSWORD = "a long password of Ana's"


@pytest.fixture
def ana(live_stack: LiveStack) -> User:
    """An operator; of all models only a few are active, so that a day does not take one."""
    few = [NOVA, "amazon.nova-micro-v1:0", "openai.gpt-oss-20b-1:0", "amazon.titan-embed-text-v2:0"]
    AIModel.objects.exclude(api_model_id__in=few).update(is_active=False)
    return User.objects.create_user("ana@example.org", PASSWORD, "operator", name="Ana")


def poll(api: Api, job_id: str) -> Any:
    """As the console does, only more often than every three seconds."""
    deadline = time.monotonic() + PATIENCE_S
    progress = []
    while time.monotonic() < deadline:
        job = api.get(f"certification-queue/jobs/{job_id}")
        progress.append(job["progress"])
        assert progress == sorted(progress), "progress never goes back"
        if job["status"] in ("COMPLETED", "FAILED", "CANCELLED"):
            return job
        time.sleep(0.3)
    raise AssertionError(job)


def test_the_days_of_the_console_and_of_the_chat_product(ana: User, live_stack: LiveStack) -> None:
    live_stack.worker()
    login = Api().post("auth/login", {"email": "ana@example.org", "password": PASSWORD})
    assert login.keys() >= {"token", "user"}
    api = Api(credential=login["token"])
    # before its token is stored, the console's logger sends its lines without one
    line = {"timestamp": "2026-11-30T12:00:00.000Z", "level": "warn", "message": "Token not found"}
    Api().post("logs", line, status=204)
    look_around(api)
    job = certify_everything(api)
    read_the_history(api, job)
    cancel_another(api)
    ask_as_the_chat_product(api)


def look_around(api: Api) -> None:
    regions = api.get("certification-queue/regions")
    assert {"id": "us-east-1", "name": "US East (N. Virginia)"}.items() <= regions[
        0
    ].items() or any(
        region["id"] == "us-east-1" and region["name"] == "US East (N. Virginia)"
        for region in regions
    )
    aws = api.get("certification-queue/aws-status")
    assert aws.keys() >= {
        "configured",
        "valid",
        "message",
        "region",
        "modelsAvailable",
        "accessKeyPreview",
        "backend",
        "error",
    }
    assert (aws["configured"], aws["valid"], aws["backend"]) == (True, True, "emulator")
    assert aws["modelsAvailable"] > 0
    stats = api.get("certification-queue/stats")
    counts = stats["queue"]["queue"]
    assert counts.keys() >= {"waiting", "active", "completed", "failed", "delayed", "paused"}
    assert stats["queue"]["workers"] == 1
    assert stats["recentCertifications"] == []


def certify_everything(api: Api) -> Any:
    body = {"regions": ["us-east-1", "us-west-2"], "tier": "quick"}
    started = api.post("certification-queue/certify-all", body, status=201)
    assert started.keys() >= {"jobId", "totalJobs", "regions", "status"}
    assert (started["status"], started["regions"]) == ("QUEUED", ["us-east-1", "us-west-2"])
    job = poll(api, started["jobId"])
    assert job["status"] == "COMPLETED"
    assert (job["type"], job["progress"]) == ("ALL_MODELS", 100)
    assert (
        job["processedModels"]
        == job["totalModels"]
        == started["totalJobs"]
        == len(job["certifications"])
    )
    assert job["successCount"] + job["failureCount"] == job["totalModels"]
    assert job["duration"] > 0
    for run in job["certifications"]:
        assert run["model"]["name"]
        assert run["passed"] is (run["verdict"] == "certified")
        assert run["passed"] or run["errorMessage"]
    assert job["successCount"] >= 3
    return job


def read_the_history(api: Api, job: Any) -> None:
    page = api.get("certification-queue/history?page=1&limit=20")
    assert page["pagination"] == {"page": 1, "limit": 20, "total": 1, "totalPages": 1}
    [entry] = page["jobs"]
    assert entry["id"] == job["id"]
    assert len(entry["certifications"]) == entry["certificationsTotal"] == job["totalModels"]
    expanded = api.get(f"certification-queue/jobs/{entry['id']}")
    assert {run["model"]["apiModelId"] for run in expanded["certifications"]} >= {
        NOVA,
        "amazon.nova-micro-v1:0",
    }
    for run in entry["certifications"]:
        assert run.keys() >= {
            "id",
            "modelId",
            "region",
            "status",
            "passed",
            "score",
            "rating",
            "duration",
            "startedAt",
            "completedAt",
            "errorMessage",
            "model",
        }
        assert run["model"].keys() == {"id", "name", "apiModelId"}
    etag = api.response["ETag"]
    path = f"certification-queue/jobs/{entry['id']}"
    assert api.get(path, status=304, If_None_Match=etag) is None
    refusal = api.get("certification-queue/jobs/not-a-uuid", status=400)
    assert refusal["data"]["validation"][0]["path"] == "path.jobId"
    stats = api.get("certification-queue/stats")
    assert sum(entry["count"] for entry in stats["certificationsByStatus"]) == job["totalModels"]
    assert len(stats["recentCertifications"]) == min(10, job["totalModels"])
    wait_until(
        lambda: api.get("certification-queue/stats")["successRate24h"],
        "the day's figures are seconds old",
    )


def cancel_another(api: Api) -> None:
    body = {"modelIds": [NOVA], "regions": ["eu-west-1", "eu-central-1", "eu-north-1"]}
    job_id = api.post("certification-queue/certify-multiple", body, status=201)["jobId"]
    answer = api.delete(f"certification-queue/jobs/{job_id}")
    assert (answer["jobId"], answer["status"]) == (job_id, "CANCELLED")
    job = poll(api, job_id)
    assert job["status"] == "CANCELLED"
    assert job["cancelledCount"] == answer["cancelled"]
    assert job["processedModels"] == job["successCount"] + job["failureCount"]
    assert job["processedModels"] + job["cancelledCount"] == job["totalModels"]
    assert api.get("certification-queue/history?status=CANCELLED")["pagination"]["total"] == 1


def ask_as_the_chat_product(api: Api) -> None:
    """In the order of its screens: login, model selector, settings, certifications, ratings."""
    open_the_model_selector(api)
    open_the_settings(api)
    read_certifications(api)
    read_ratings(api)


def open_the_model_selector(api: Api) -> None:
    public = Api()
    every = public.get("models/capabilities")
    one = public.get("models/amazon.nova-lite-v1%3A0/capabilities")
    assert every[NOVA] == one
    for name in ("temperature", "topP", "topK", "maxTokens"):
        assert one[name].keys() == {"enabled", "min", "max", "default"}
    assert one["stopSequences"].keys() == {"enabled", "max"}
    for name in ("streaming", "vision", "functionCalling", "systemPrompt"):
        assert one[name].keys() == {"enabled"}
    assert "functionCalling" in one["measured"], "the quick tier has called a tool"
    for path in ("ai/providers", "providers/configured"):
        [provider] = api.get(path)["providers"]
        assert provider["slug"] == "bedrock"
        assert provider["models"][0].keys() >= {"id", "name", "apiModelId", "contextWindow"}
    vendors = api.get("providers/by-vendor")["vendors"]
    assert {vendor["slug"] for vendor in vendors} == {"amazon", "openai"}
    for vendor in vendors:
        assert vendor.keys() >= {"id", "name", "slug", "logo", "models"}
        for entry in vendor["models"]:
            [offer] = entry["availableOn"]
            assert offer["provider"] == "bedrock"
            assert offer["certification"].keys() == {"status", "successRate", "lastChecked"}


def open_the_settings(api: Api) -> None:
    settings = api.get("settings")
    assert settings["theme"] == "light"
    assert 0 < len(settings["awsAccessKey"]) <= 4, "else the screens of certifications stay locked"
    listed = api.get("providers/bedrock/available-models")["models"]
    nova = next(entry for entry in listed if entry["apiModelId"] == NOVA)
    assert nova["isInDatabase"] is True
    assert nova.keys() >= {
        "id",
        "name",
        "apiModelId",
        "contextWindow",
        "providerName",
        "costPer1kInput",
        "costPer1kOutput",
    }
    stored = {"useStoredCredentials": True, "region": "us-east-1"}
    answer = api.post("providers/bedrock/validate", stored)
    assert answer["status"] == "valid"
    assert answer["message"]
    form = {
        "awsAccessKey": settings["awsAccessKey"],
        "awsSecretKey": "",
        "awsRegion": "us-west-2",
        "awsEnabledModels": [NOVA],
    }
    assert api.put("settings", form)["awsRegion"] == "us-west-2"
    assert api.put("settings", {"theme": "dark"})["awsEnabledModels"] == [NOVA]
    [provider] = api.get("providers/configured")["providers"]
    assert [entry["apiModelId"] for entry in provider["models"]] == [NOVA]
    key = {"awsAccessKey": "AKIAABCDEFGHIJKLMNOP", "awsSecretKey": "x" * 40}
    assert api.put("settings", key, status=400)["message"]


def read_certifications(api: Api) -> None:
    now = int(time.time() * 1000)
    page = api.get(
        f"certification-queue/certifications?modelId={NOVA}&limit=100&_t={now}&providerId=bedrock"
    )
    by_region = {entry["region"]: entry for entry in page["certifications"]}
    assert by_region["us-east-1"]["status"] == "certified"
    assert (
        by_region["us-east-1"].items()
        >= {"modelId": NOVA, "passed": True, "isExpired": False, "backend": "emulator"}.items()
    )
    assert 0 <= by_region["us-east-1"]["score"] <= 100
    assert by_region["us-east-1"]["rating"] in "ABCDF"
    assert by_region["us-east-1"]["avgLatencyMs"] > 0
    assert by_region["sa-east-1"]["status"] == "not_tested"
    certified = api.get(f"certification-queue/certifications?status=CERTIFIED&limit=100&_t={now}")[
        "certifications"
    ]
    assert {entry["modelId"] for entry in certified} >= {NOVA}
    assert {entry["status"] for entry in certified} == {"certified"}
    failed = api.get(f"certification-queue/certifications?status=FAILED&limit=100&_t={now}")[
        "certifications"
    ]
    assert all(not entry["passed"] and entry["errorMessage"] for entry in failed)
    whole = api.get(f"certification-queue/certifications?limit=1000&_t={now}")
    assert len(whole["certifications"]) == whole["pagination"]["total"]
    models = {entry["modelId"] for entry in whole["certifications"]}
    first = whole["certifications"][: len(models)]
    assert {entry["modelId"] for entry in first} == models, "no model is left out of a short page"


def read_ratings(api: Api) -> None:
    rated = {entry["apiModelId"]: entry for entry in api.get("providers/models")["data"]}
    nova = rated[NOVA]
    assert 4 <= nova["rating"] <= 5
    assert nova["badge"] in ("PREMIUM", "RECOMENDADO")
    assert nova["metrics"].keys() == {
        "successRate",
        "averageRetries",
        "averageLatency",
        "errorCount",
        "totalTests",
        "testsPassed",
    }
    assert nova["metrics"]["averageLatency"] > 0
    assert nova["scores"].keys() == {"success", "resilience", "performance", "stability"}
