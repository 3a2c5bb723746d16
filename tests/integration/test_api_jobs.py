"""Starting certifications through the API, and following, cancelling and retrying them."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connection

from certification.models import AIModel, CertificationJob, State, User
from tests.api import Api

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"


@pytest.fixture
def api(operator: User, catalogue: None) -> Api:
    return Api(operator)


def start(
    api: Api, model: str = NOVA, region: str = "us-east-1", status: int = 201, **options: Any
) -> Any:
    body = {"modelId": model, "region": region, **options}
    return api.post("certification-queue/certify-model", body, status=status)


def paths(refusal: Any) -> list[str]:
    return [entry["path"] for entry in refusal["data"]["validation"]]


def test_one_model_in_one_region_is_queued_as_a_job(api: Api) -> None:
    data = start(api)
    job = CertificationJob.objects.get(pk=data["jobId"])
    assert data == {
        "jobId": str(job.pk),
        "bullJobId": str(job.pk),
        "modelId": NOVA,
        "region": "us-east-1",
        "status": "QUEUED",
    }
    assert (job.tier, job.type, job.total_runs) == ("full", "SINGLE_MODEL", 1)
    assert job.created_by is not None


def test_a_job_has_a_note(api: Api) -> None:
    job = start(api, note="before go-live")["jobId"]
    assert api.get(f"certification-queue/jobs/{job}")["note"] == "before go-live"
    assert paths(start(api, region="us-west-2", status=400, note="x" * 201)) == ["body.note"]


def test_a_model_is_known_by_our_uuid_too(api: Api) -> None:
    first = start(api)
    model_id = api.get(f"certification-queue/jobs/{first['jobId']}")["modelIds"][0]
    assert start(api, model_id, "us-west-2")["modelId"] == model_id


def test_many_pairs_become_one_job_and_running_ones_are_skipped(api: Api) -> None:
    start(api)
    body = {"modelIds": [NOVA, CLAUDE], "regions": ["us-east-1", "us-west-2"]}
    data = api.post("certification-queue/certify-multiple", body, status=201)
    assert data["totalJobs"] == 3
    assert data["skipped"] == [{"modelId": NOVA, "region": "us-east-1"}]
    assert (data["modelIds"], data["regions"]) == (body["modelIds"], body["regions"])


def test_a_pair_that_already_runs_is_refused_with_its_job(api: Api) -> None:
    first = start(api)
    refusal = start(api, status=409)
    assert refusal["errorCode"] == "already_running"
    assert refusal["data"] == {"jobId": first["jobId"]}


def test_everything_is_each_active_model_where_it_has_a_route(api: Api) -> None:
    data = api.post(
        "certification-queue/certify-all", {"regions": ["us-east-1", "eu-west-1"]}, status=201
    )
    assert data["totalJobs"] > 100
    assert data["notOffered"] > 0
    more = {"regions": ["sa-east-1"], "includeUnlisted": True}
    assert api.post("certification-queue/certify-all", more, status=201)["notOffered"] == 0


def test_a_job_shows_its_runs_with_the_names_of_models(api: Api) -> None:
    job = api.get(f"certification-queue/jobs/{start(api)['jobId']}")
    assert (job["status"], job["progress"], job["totalModels"]) == ("PENDING", 0, 1)
    assert job["createdBy"] == "operator@example.org"
    assert job["createdAt"].endswith("Z")
    [run] = job["certifications"]
    assert run["model"] == {"id": run["modelId"], "name": "Nova Lite", "apiModelId": NOVA}
    assert (run["passed"], run["errorMessage"], run["fix"]) == (None, None, None)


def test_a_job_is_cancelled_once(api: Api) -> None:
    job = start(api)["jobId"]
    assert api.delete(f"certification-queue/jobs/{job}") == {
        "jobId": job,
        "status": "CANCELLED",
        "cancelled": 1,
    }
    assert (
        api.delete(f"certification-queue/jobs/{job}", status=409)["errorCode"] == "already_finished"
    )
    [run] = api.get(f"certification-queue/jobs/{job}")["certifications"]
    assert run["status"] == "CANCELLED"
    assert run["passed"] is False
    assert run["errorMessage"]


def test_failed_runs_are_retried_in_a_new_job(api: Api) -> None:
    job = CertificationJob.objects.get(pk=start(api)["jobId"])
    api.post(f"certification-queue/jobs/{job.pk}/retry", status=409)
    from certification.reasons import Reason  # noqa: PLC0415

    job.runs.get().mark_failed(Reason.DEADLINE, "The time was over.")
    data = api.post(f"certification-queue/jobs/{job.pk}/retry")
    assert (data["totalJobs"], data["regions"]) == (1, ["us-east-1"])
    assert data["jobId"] != str(job.pk)


def test_a_job_that_did_not_change_is_not_sent_again(api: Api) -> None:
    path = f"certification-queue/jobs/{start(api)['jobId']}"
    api.get(path)
    etag = api.response["ETag"]
    assert api.response["Cache-Control"] == "private, no-cache"
    assert api.get(path, status=304, If_None_Match=etag) is None
    api.delete(path)
    assert api.get(path, If_None_Match=etag)["status"] == "CANCELLED"


def test_reads_of_ones_own_job_use_up_nothing_else(
    api: Api, viewer: User, settings: Any, django_assert_num_queries: Any
) -> None:
    """The console polls a job as fast as it is answered, in each of its tabs."""
    path = f"certification-queue/jobs/{start(api)['jobId']}"
    settings.API_RATES = {**settings.API_RATES, "read": 2, "job": 5}
    other = Api(viewer)
    for _ in range(5):
        api.get(path)
    api.get("models")
    assert api.get(path, status=429)["errorCode"] == "throttled"
    other.get(path)
    other.get(path)
    other.get(path, status=429)
    settings.API_RATES = {**settings.API_RATES, "job": 0}
    with django_assert_num_queries(3):  # user, job, runs
        api.get(path)


@pytest.mark.parametrize("what", ["", "/retry"])
def test_an_unknown_job_is_not_found(api: Api, what: str) -> None:
    method = "POST" if what else "GET"
    refusal = api.call(method, f"certification-queue/jobs/{uuid.uuid4()}{what}", status=404)
    assert refusal["errorCode"] == "job_not_found"
    refusal = api.call(method, f"certification-queue/jobs/not-a-uuid{what}", status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == ["path.jobId"]


@pytest.mark.parametrize(
    ("call", "body", "expected"),
    [
        ("certify-model", {}, ["body.modelId", "body.region"]),
        ("certify-model", {"modelId": 7, "region": ["us-east-1"]}, ["body.region"]),
        ("certify-model", {"modelId": NOVA, "region": "mars-1"}, ["body.region"]),
        ("certify-model", {"modelId": NOVA, "region": "us-east-1", "tier": "huge"}, ["body.tier"]),
        (
            "certify-model",
            {"modelId": NOVA, "region": "us-east-1", "maxCostUsd": -1},
            ["body.maxCostUsd"],
        ),
        ("certify-multiple", {"modelIds": [], "regions": []}, ["body.modelIds", "body.regions"]),
        (
            "certify-multiple",
            {"modelIds": [NOVA, NOVA], "regions": ["us-east-1"]},
            ["body.modelIds"],
        ),
        ("certify-multiple", {"modelIds": [NOVA], "regions": ["us-east-1"] * 2}, ["body.regions"]),
        (
            "certify-multiple",
            {"modelIds": ["x"] * 10_000, "regions": ["us-east-1"]},
            ["body.modelIds"],
        ),
        (
            "certify-multiple",
            {"modelIds": [NOVA, {}], "regions": ["us-east-1"]},
            ["body.modelIds.1"],
        ),
        ("certify-all", {"regions": "us-east-1"}, ["body.regions"]),
        ("certify-all", {"regions": ["us-east-1\x00"]}, ["body.regions.0"]),
    ],
)
def test_a_bad_body_is_refused_with_paths(
    api: Api, call: str, body: Any, expected: list[str]
) -> None:
    assert paths(api.post(f"certification-queue/{call}", body, status=400)) == expected
    assert not CertificationJob.objects.exists()


def test_a_model_listed_under_two_names_is_a_duplicate(api: Api) -> None:
    nova = AIModel.objects.get(api_model_id=NOVA)
    for names in ([NOVA, str(nova.pk)], [str(nova.pk), nova.pk.hex]):
        refusal = api.post(
            "certification-queue/certify-multiple",
            {"modelIds": names, "regions": ["us-east-1"]},
            400,
        )
        assert paths(refusal) == ["body.modelIds"]
    assert not CertificationJob.objects.exists()


def test_an_unknown_model_is_not_found(api: Api) -> None:
    refusal = start(api, "nobody.knows-this-v1:0", status=404)
    assert refusal["errorCode"] == "model_not_found"
    assert "nobody.knows-this-v1:0" in refusal["message"]


def test_too_expensive_a_job_is_refused(api: Api) -> None:
    assert start(api, CLAUDE, maxCostUsd=0, status=409)["errorCode"] == "too_expensive"


def test_a_cost_limit_takes_models_without_a_known_price_only_when_allowed(api: Api) -> None:
    unpriced = "zai.glm-4.6"
    refusal = start(api, unpriced, maxCostUsd=999, status=409)
    assert refusal["errorCode"] == "too_expensive"
    assert "1 of 1 pairs have no known price" in refusal["message"]
    assert "manage.py" not in refusal["message"]
    start(api, unpriced, maxCostUsd=999, allowUnpriced=True)


@pytest.mark.parametrize("call", ["certify-model", "certify-multiple", "certify-all"])
def test_a_viewer_may_not_start(viewer: User, call: str) -> None:
    refusal = Api(viewer).post(f"certification-queue/{call}", {}, status=403)
    assert "operator" in refusal["message"]
    Api().post(f"certification-queue/{call}", {}, status=401)


def test_a_viewer_reads_a_job_but_does_not_end_it(api: Api, viewer: User) -> None:
    path = f"certification-queue/jobs/{start(api)['jobId']}"
    Api(viewer).get(path)
    Api(viewer).delete(path, status=403)
    Api(viewer).post(f"{path}/retry", status=403)


def test_the_same_key_gives_the_same_job(api: Api, administrator: User) -> None:
    body = {"modelId": NOVA, "region": "us-east-1"}

    def send(caller: Api, body: Any, status: int = 201) -> Any:
        return caller.post(
            "certification-queue/certify-model", body, status=status, Idempotency_Key="k1"
        )

    first = send(api, body)
    assert send(api, body) == first
    assert send(api, {**body, "region": "us-west-2"}, 409)["errorCode"] == "idempotency_key_reused"
    assert send(Api(administrator), body, 409)["errorCode"] == "already_running"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", ["", "sweep-7"])
def test_two_identical_requests_at_once_create_one_job(operator: User, key: str) -> None:
    ready, answers = threading.Barrier(4), []

    def send() -> None:
        api = Api(operator)
        ready.wait()
        headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
        response = api.client.post(
            "/api/certification-queue/certify-all",
            '{"regions":["us-east-1","eu-west-1"]}',
            "application/json",
            headers=api.headers,
            **headers,
        )
        answers.append((response.status_code, response.json()))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert CertificationJob.objects.count() == 1
    assert sorted(status for status, _body in answers) == (
        [201] * 4 if key else [201, 409, 409, 409]
    )
    CertificationJob.objects.get().cancel()


def test_a_job_of_many_runs_costs_few_queries(api: Api, django_assert_max_num_queries: Any) -> None:
    body = {"modelIds": [NOVA, CLAUDE], "regions": ["us-east-1", "us-west-2", "eu-west-1"]}
    job = api.post("certification-queue/certify-multiple", body, status=201)["jobId"]
    with django_assert_max_num_queries(4):  # user, groups, job, runs
        detail = api.get(f"certification-queue/jobs/{job}")
    assert len(detail["certifications"]) == 6
    assert {run["status"] for run in detail["certifications"]} <= {State.PENDING, State.QUEUED}
