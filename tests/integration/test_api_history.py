"""The history of jobs, and the regions that can be asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from certification.api import filters, history
from certification.models import AIModel, CertificationJob, Region, User
from certification.reasons import Reason, Status
from tests.api import Api
from tests.factories import finish, start_job

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"
COUNTS = (
    "totalModels", "processedModels", "successCount", "failureCount", "cancelledCount", "progress"
)  # fmt: skip
HISTORY, REGIONS = "certification-queue/history", "certification-queue/regions"


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


def model(name: str) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


@pytest.fixture
def jobs(api: Api, operator: User) -> list[CertificationJob]:
    """One model in one region, yesterday and cancelled; then two models in two regions."""
    first = start_job([model(NOVA)], ["us-east-1"], by=operator)
    first.cancel()
    CertificationJob.objects.filter(pk=first.pk).update(
        created_at=timezone.now() - timedelta(days=1)
    )
    return [first, start_job([model(NOVA), model(CLAUDE)], ["eu-west-1", "us-west-2"], by=operator)]


def listed(api: Api, query: str = "") -> list[str]:
    return [job["id"] for job in api.get(f"{HISTORY}?{query}")["jobs"]]


def test_jobs_come_newest_first(api: Api, jobs: list[CertificationJob]) -> None:
    data = api.get(HISTORY)
    newest, oldest = data["jobs"]
    assert data["pagination"] == {"page": 1, "limit": 20, "total": 2, "totalPages": 1}
    assert [newest["id"], oldest["id"]] == [str(jobs[1].pk), str(jobs[0].pk)]
    assert newest.keys() == {
        "id",
        "type",
        "status",
        "regions",
        "modelIds",
        "totalModels",
        "processedModels",
        "successCount",
        "failureCount",
        "cancelledCount",
        "progress",
        "tier",
        "priority",
        "backend",
        "note",
        "startedAt",
        "completedAt",
        "duration",
        "createdAt",
        "updatedAt",
        "createdBy",
        "estimatedCostUsd",
        "costUsd",
        "certifications",
        "certificationsTotal",
    }
    assert (newest["totalModels"], newest["createdBy"]) == (4, "operator@example.org")
    assert newest["modelIds"] == [str(model(NOVA).pk), str(model(CLAUDE).pk)]
    assert oldest["status"] == "CANCELLED"
    assert [oldest[name] for name in COUNTS] == [1, 0, 0, 0, 1, 0]


def test_each_job_comes_with_its_runs_those_that_need_attention_first(
    api: Api, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_job([model(NOVA), model(CLAUDE)], ["eu-west-1", "us-west-2"], by=operator)
    certified, failed, broken, waiting = job.runs.order_by("model__name", "region")
    finish(certified, Status.CERTIFIED, score=91, rating="A", took=timedelta(seconds=8))
    finish(failed, Status.FAILED, score=31, rating="F", reason=Reason.GATE_FAILED, message="No.")
    finish(broken, "", reason=Reason.THROTTLED_REQUESTS)
    [entry] = api.get(HISTORY)["jobs"]
    assert entry["certificationsTotal"] == 4
    first = entry["certifications"]
    assert [run["id"] for run in first] == [
        str(run.pk) for run in (broken, failed, waiting, certified)
    ]
    assert first[1] == {
        "id": str(failed.pk),
        "modelId": str(failed.model_id),
        "region": failed.region_id,
        "status": "COMPLETED",
        "verdict": "failed",
        "passed": False,
        "score": 31,
        "rating": "F",
        "duration": first[1]["duration"],
        "startedAt": first[1]["startedAt"],
        "completedAt": first[1]["completedAt"],
        "errorMessage": "No.",
        "model": {
            "id": str(failed.model_id),
            "name": failed.model.name,
            "apiModelId": failed.model.api_model_id,
        },
    }
    assert [run["passed"] for run in first] == [False, False, None, True]
    assert [bool(run["errorMessage"]) for run in first] == [True, True, False, False]
    assert 8000 <= first[3]["duration"] < 60_000
    assert first[1]["startedAt"].endswith("Z")
    whole = api.get(f"certification-queue/jobs/{job.pk}")["certifications"]
    by_id = {run["id"]: run for run in whole}
    assert all(run.items() <= by_id[run["id"]].items() for run in first), "the same in both places"
    monkeypatch.setattr(history, "MAX_RUNS", 2)
    [entry] = api.get(HISTORY)["jobs"]
    assert (len(entry["certifications"]), entry["certificationsTotal"]) == (2, 4)


def test_pages_hold_each_job_once(api: Api, jobs: list[CertificationJob]) -> None:
    first, second = (api.get(f"{HISTORY}?limit=1&page={page}") for page in (1, 2))
    assert [first["jobs"][0]["id"], second["jobs"][0]["id"]] == listed(api)
    assert second["pagination"] == {"page": 2, "limit": 1, "total": 2, "totalPages": 2}
    assert api.get(f"{HISTORY}?page=3")["jobs"] == []


def test_jobs_are_filtered(api: Api, jobs: list[CertificationJob]) -> None:
    old, new = ([str(job.pk)] for job in jobs)
    both = new + old
    midnight = timezone.now().replace(microsecond=0) - timedelta(hours=12)
    expected = {
        "status=cancelled": old,
        "status=PENDING,cancelled": both,
        "status=COMPLETED": [],
        "type=single_model": old,
        "type=MULTIPLE_MODELS": new,
        "region=eu-west-1": new,
        "region=us-east-1": old,
        f"modelId={NOVA}": both,
        f"modelId={CLAUDE}": new,
        f"modelId={model(CLAUDE).pk}": new,
        f"modelId={NOVA}&region=us-east-1": old,
        f"from={midnight:%Y-%m-%dT%H:%M:%SZ}": new,
        f"to={midnight:%Y-%m-%dT%H:%M:%S+00:00}": old,
        f"to={timezone.now():%Y-%m-%d}": both,
        f"from={timezone.now() - timedelta(days=2):%Y-%m-%d}": both,
        "status=&type=&_t=1700000000&providerId=bedrock": both,
    }
    assert {query: listed(api, query) for query in expected} == expected


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("page=0", "query.page"),
        ("page=two", "query.page"),
        ("page=99999999999999999999", "query.page"),
        ("page=100001&limit=1", "query.page"),
        ("limit=101", "query.limit"),
        ("limit=0", "query.limit"),
        ("status=DONE", "query.status"),
        ("status=COMPLETED,", "query.status"),
        ("type=SOME", "query.type"),
        ("region=mars-1", "query.region"),
        ("region=us%00", "query.region"),
        ("modelId=a%00", "query.modelId"),
        ("from=yesterday", "query.from"),
        ("from=2026-02-31", "query.from"),
        ("to=0001-01-01T00:00:00%2B14:00", "query.to"),
        ("from=2026-02-01&to=2026-01-31", "query.to"),
    ],
)
def test_a_bad_question_is_refused_with_its_path(api: Api, query: str, path: str) -> None:
    refusal = api.get(f"{HISTORY}?{query}", status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [path]


def test_an_unknown_model_is_not_found(api: Api) -> None:
    assert (
        api.get(f"{HISTORY}?modelId=nobody.knows-this", status=404)["errorCode"]
        == "model_not_found"
    )


@pytest.mark.parametrize("path", [HISTORY, REGIONS])
def test_reading_requires_a_login_with_a_role_and_get(path: str) -> None:
    Api().get(path, status=401)
    Api(User.objects.create_user("nobody@example.org", "a-long-test-password")).get(
        path, status=403
    )
    reader = Api(
        User.objects.create_user("reader@example.org", "a-long-test-password", role="operator")
    )
    reader.get(path)
    reader.post(path, {}, status=405)


def test_a_page_of_jobs_costs_few_queries(
    api: Api, jobs: Any, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(3):  # user, total, jobs with their runs and who started them
        api.get(HISTORY)
    with django_assert_num_queries(5):  # and model, region
        api.get(f"{HISTORY}?modelId={NOVA}&region=us-east-1")


def test_deep_pages_hold_each_job_once(
    api: Api, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "DEEP_PAGE_START", 2)
    for region in ("us-east-1", "us-west-2", "eu-west-1", "sa-east-1", "ap-southeast-2"):
        start_job([model(NOVA)], [region], by=operator)
    CertificationJob.objects.filter(regions__contains=["us-west-2"]).update(
        created_at=timezone.now()
    )
    same = CertificationJob.objects.order_by("created_at")[:3].values("pk")
    CertificationJob.objects.filter(pk__in=list(same.values_list("pk", flat=True))).update(
        created_at=timezone.now()
    )
    whole = listed(api)
    assert [listed(api, f"limit=1&page={page}") for page in range(1, 7)] == [
        *([job] for job in whole),
        [],
    ]


def test_many_jobs_are_estimated_not_counted(
    api: Api, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_COUNTED", 1)
    pagination = api.get(f"{HISTORY}?limit=1")["pagination"]
    assert pagination["estimated"] is True
    assert pagination["total"] >= 2
    assert pagination["totalPages"] == 1
    api.get(f"{HISTORY}?limit=1&page=2", status=400)


def test_only_enabled_regions_are_offered(api: Api) -> None:
    Region.objects.filter(code="us-east-1").update(enabled=False)
    regions = api.get(REGIONS)
    assert {"id": "sa-east-1", "name": "South America (Sao Paulo)"} in regions
    assert "us-east-1" not in [region["id"] for region in regions]
