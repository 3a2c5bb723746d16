"""The figures of the console's first page, and whether Bedrock can be reached."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from certification.bedrock import client, connection
from certification.bedrock.connection import Identity
from certification.engine import backend
from certification.lib import shared_cache
from certification.models import (
    AIModel,
    CertificationRun,
    ModelCertification,
    QueuePause,
    RunTotal,
    User,
)
from certification.monitoring import bedrock_status, queue_stats
from certification.reasons import Reason, Status
from tests.api import Api
from tests.factories import certify, start_job

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"
CACHED: tuple[shared_cache.ComputedValue[Any], ...] = (
    queue_stats.totals,
    queue_stats.finished_runs,
    queue_stats.workers,
    bedrock_status.bedrock_status,
)
STATS, AWS = "certification-queue/stats", "certification-queue/aws-status"


@pytest.fixture(autouse=True)
def _nothing_cached(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)  # no worker belongs to these tests
    for value in CACHED:
        value.forget()
    yield
    for value in CACHED:
        value.forget()


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


def model() -> AIModel:
    return AIModel.objects.get(api_model_id=NOVA)


def test_stats_count_the_queue_jobs_and_certifications(api: Api) -> None:
    certify(model(), "us-east-1")
    certify(
        model(), "us-west-2", Status.FAILED, reason=Reason.GATE_FAILED, message="A gate failed."
    )
    certify(
        model(), "eu-west-1", Status.PENDING, reason=Reason.DEADLINE, message="The time was over."
    )
    start_job([model()], ["sa-east-1"]).cancel()
    certify(model(), "ap-southeast-2")
    ModelCertification.objects.filter(region="ap-southeast-2").update(expires_at=timezone.now())
    waiting = start_job([model()], ["us-east-1"])
    CertificationRun.objects.filter(job=waiting).update(
        created_at=timezone.now() - timedelta(minutes=2)
    )
    CertificationRun.objects.claim(start_job([model()], ["us-west-2"]).runs.get().pk, "a test")

    data = api.get(STATS)
    queue = data["queue"]
    counts = queue["queue"]
    assert counts["waiting"] + counts["delayed"] == 1
    assert {name: counts[name] for name in ("active", "completed", "failed", "paused")} == {
        "active": 1,
        "completed": 3,
        "failed": 1,
        "paused": 0,
    }
    jobs = {entry["status"]: entry["count"] for entry in queue["database"]}
    assert (jobs["COMPLETED"], jobs["FAILED"], jobs["CANCELLED"], jobs["PROCESSING"]) == (
        3,
        1,
        1,
        1,
    )
    assert (queue["workers"], queue["note"]) == (0, None)
    assert 120 <= queue["oldestWaitingSeconds"] < 200
    assert data["certificationsByStatus"] == [
        {"status": "certified", "count": 1},
        {"status": "failed", "count": 1},
        {"status": "not_tested", "count": 1},
        {"status": "pending", "count": 1},
    ]
    assert {"region": "us-west-2", "status": "failed", "count": 1} in data["certificationsByRegion"]
    newest = [entry["region"] for entry in data["recentCertifications"]]
    assert newest == ["ap-southeast-2", "eu-west-1", "us-west-2", "us-east-1"]
    assert (data["successRate24h"], data["retryRate24h"]) == (50.0, 0.0)
    assert data["averageDurationSeconds24h"] >= 0


def test_stats_of_an_empty_system_are_zeros_and_nulls(api: Api) -> None:
    data = api.get(STATS)
    assert data["queue"]["queue"] == dict.fromkeys(
        ("waiting", "active", "completed", "failed", "delayed", "paused"), 0
    )
    assert data["queue"]["oldestWaitingSeconds"] == 0
    assert [entry["count"] for entry in data["queue"]["database"]] == [0] * 6
    assert (data["successRate24h"], data["averageDurationSeconds24h"], data["retryRate24h"]) == (
        None,
        None,
        None,
    )


def test_runs_that_took_two_attempts_are_retries(api: Api) -> None:
    run = start_job([model()], ["us-east-1"]).runs.get()
    claimed = CertificationRun.objects.claim(run.pk, "a test")
    assert claimed is not None
    assert claimed.retry_stalled(timezone.now() + timedelta(hours=1))
    again = CertificationRun.objects.claim(run.pk, "a test")
    assert again is not None
    again.mark_failed(Reason.DEADLINE, "The time was over.")
    assert queue_stats.count_totals().retry_rate == 100.0


def test_runs_of_the_past_are_counted_once(api: Api, django_assert_num_queries: Any) -> None:
    certify(model(), "us-east-1")
    RunTotal.fold()
    assert queue_stats.count_finished_runs()["COMPLETED"] == 1
    certify(model(), "us-west-2")
    with django_assert_num_queries(1):
        assert queue_stats.count_finished_runs()["COMPLETED"] == 2


def test_bulk_runs_are_paused_while_credentials_do_not_work(api: Api) -> None:
    job = start_job([model()], ["us-east-1"])
    type(job).objects.filter(pk=job.pk).update(priority="bulk")
    job.runs.update(status="QUEUED")
    QueuePause.objects.create(
        backend=backend.name(), message="No.", error_category="", error_reason=""
    )
    counts = api.get(STATS)["queue"]["queue"]
    assert (counts["waiting"], counts["paused"]) == (0, 1)


def test_stats_cost_few_queries(api: Api, django_assert_num_queries: Any) -> None:
    certify(model(), "us-east-1")
    # user; runs, jobs and 24 h; active, pause; by region; recent and its results
    with django_assert_num_queries(9):
        api.get(STATS)
    with django_assert_num_queries(6):  # the first three are cached for seconds
        api.get(STATS)


@pytest.fixture
def _redis_away(settings: Any) -> Iterator[None]:
    """The cache and the broker at an address where nobody listens."""
    nobody = "redis://127.0.0.1:9/0"
    settings.REDIS_URL = nobody
    yield
    shared_cache.breaker.close()


@pytest.mark.usefixtures("_redis_away")
def test_stats_answer_without_redis_and_say_what_is_not_known(api: Api) -> None:
    certify(model(), "us-east-1")
    queue = api.get(STATS)["queue"]
    assert queue["workers"] is None
    assert "does not answer" in queue["note"]
    assert queue["queue"]["completed"] == 1


def test_the_emulator_is_called_what_it_is(api: Api, emulator: str) -> None:
    data = api.get(AWS)
    assert (data["backend"], data["configured"], data["valid"], data["error"]) == (
        "emulator",
        True,
        True,
        None,
    )
    assert data["modelsAvailable"] > 50
    assert (data["region"], data["accessKeyPreview"]) == ("us-east-1", None)
    assert "emulator" in data["message"]


def test_an_emulator_that_does_not_answer_is_reported(api: Api, settings: Any) -> None:
    settings.BEDROCK_ENDPOINT_URL = "http://127.0.0.1:9"
    data = api.get(AWS)
    assert (data["valid"], data["modelsAvailable"], data["errorReason"]) == (
        False,
        0,
        "connection_refused",
    )
    assert "manage.py up" in data["message"]


def test_many_requests_at_once_make_one_call(
    emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return listing(*args, **kwargs)

    listing = client.Bedrock.foundation_models
    monkeypatch.setattr(client.Bedrock, "foundation_models", counted)
    ready, statuses = threading.Barrier(16), []

    def ask_once() -> None:
        ready.wait()
        statuses.append(bedrock_status.bedrock_status.get())

    threads = [threading.Thread(target=ask_once) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(set(statuses)) == 1
    assert bedrock_status.bedrock_status.get().valid
    assert len(calls) == 1


@pytest.fixture
def on_aws(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The backend is AWS; credentials are what the test says."""
    settings.BEDROCK_BACKEND = "aws"
    backend.name.cache_clear()
    yield monkeypatch
    backend.name.cache_clear()


def test_missing_credentials_are_reported_with_what_to_do(
    api: Api, on_aws: pytest.MonkeyPatch
) -> None:
    data = api.get(AWS)
    assert (data["backend"], data["configured"], data["valid"]) == ("aws", False, False)
    assert (data["errorReason"], data["accessKeyPreview"]) == ("credentials_missing", None)
    assert data["message"]


def test_of_a_key_four_characters_are_shown_and_of_an_account_nothing(
    api: Api, on_aws: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BEDROCK_ENDPOINT_URL = "http://127.0.0.1:9"
    on_aws.setattr(connection, "find_credentials", lambda: Identity(True, "env", "AKIA"))
    on_aws.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE123456789")
    on_aws.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    data = api.get(AWS)
    assert (data["configured"], data["valid"], data["accessKeyPreview"]) == (True, False, "AKIA...")
    assert "EXAMPLE123456789" not in str(data)
    assert "secret-of-ours" not in str(data)


def test_account_ids_in_an_error_are_hidden(on_aws: pytest.MonkeyPatch) -> None:
    from certification.bedrock import errors  # noqa: PLC0415

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise errors.error(
            Reason.IAM_DENIED, "User: arn:aws:iam::123456789012:user/ana is not authorized."
        )

    on_aws.setattr(connection, "find_credentials", lambda: Identity(True, "env", "AKIA"))
    on_aws.setattr(client.Bedrock, "foundation_models", refuse)
    assert "123456789012" not in bedrock_status.check_bedrock().error
    assert "is not authorized" in bedrock_status.check_bedrock().error


@pytest.mark.parametrize("path", [STATS, AWS])
def test_reading_requires_a_login_with_a_role_and_get(
    operator: User, emulator: str, path: str
) -> None:
    Api().get(path, status=401)
    Api(User.objects.create_user("nobody@example.org", "a-long-test-password")).get(
        path, status=403
    )
    Api(operator).get(path)
    Api(operator).post(path, {}, status=405)
