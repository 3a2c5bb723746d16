"""The history of jobs, and the regions that can be asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from certification.api import filters
from certification.models import AIModel, CertificationJob, Region, User
from tests.api import Api
from tests.factories import start_job

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"
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


def test_jobs_come_newest_first_and_without_their_runs(
    api: Api, jobs: list[CertificationJob]
) -> None:
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
        "progress",
        "tier",
        "priority",
        "backend",
        "startedAt",
        "completedAt",
        "duration",
        "createdAt",
        "updatedAt",
        "createdBy",
        "estimatedCostUsd",
        "costUsd",
    }
    assert (newest["totalModels"], newest["createdBy"]) == (4, "operator@example.org")
    assert newest["modelIds"] == [str(model(NOVA).pk), str(model(CLAUDE).pk)]
    assert (oldest["status"], oldest["failureCount"], oldest["progress"]) == ("CANCELLED", 1, 100)


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
    with django_assert_num_queries(3):  # user, total, jobs with who started them
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
