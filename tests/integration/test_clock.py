"""Whatever a machine's clock says, times are compared by the clock of the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from celery import current_app
from django.conf import settings
from django.db import connection
from django.utils import timezone

from certification import tasks
from certification.api import tokens
from certification.engine import calls, reconcile
from certification.engine.consumer import Request
from certification.engine.limits import CLOCK
from certification.lib import clock, request_rates, shared_cache
from certification.models import (
    AIModel,
    ApiKey,
    CertificationRun,
    ModelCertification,
    RevokedToken,
    State,
    User,
    WebhookSubscription,
)
from certification.monitoring import worker_health
from certification.reasons import Status
from myia import celery
from tests.factories import certify, start_job

REGION = "us-east-1"
OFF_S = 240.0


@pytest.fixture
def model(catalogue: None) -> AIModel:
    return AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")


@pytest.fixture(params=[-OFF_S, OFF_S], ids=["behind", "ahead"])
def shift_s(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, db: None
) -> Iterator[float]:
    """Shift this process's clock; the database's stays right."""
    now, seconds = timezone.now, time.time
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=request.param))
    monkeypatch.setattr(time, "time", lambda: seconds() + request.param)
    connection.ensure_connection()
    clock.measure(connection.connection)
    yield request.param
    monkeypatch.undo()
    clock.measure(connection.connection)


@pytest.fixture(params=[-OFF_S, OFF_S], ids=["earlier", "later"])
def database_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Have the database's clock so many seconds after this process's, also after `datetime.now`."""
    ahead = timedelta(seconds=request.param)
    last = clock.Measurement(timezone.now() + ahead, time.monotonic(), ahead)
    monkeypatch.setattr(clock, "_last", last)
    return float(request.param)


def test_runs_of_a_worker_with_a_wrong_clock_are_alive(shift_s: float, model: AIModel) -> None:
    [run] = start_job([model], [REGION]).runs.all()
    claimed = CertificationRun.objects.claim(run.pk, "w1")
    assert claimed is not None
    assert reconcile.retry_stalled_runs() == (0, 0)
    assert CertificationRun.objects.heartbeat({run.pk: "w1"}) == {run.pk}
    assert reconcile.retry_stalled_runs() == (0, 0)
    stopped = clock.now() - timedelta(seconds=settings.CERTIFICATION_HEARTBEAT_TIMEOUT + 1)
    CertificationRun.objects.filter(pk=run.pk).update(heartbeat_at=stopped)
    assert reconcile.retry_stalled_runs() == (1, 0)


def test_messages_are_not_taken_for_lost(shift_s: float, model: AIModel) -> None:
    job = start_job([model], [REGION])
    CertificationRun.objects.mark_queued(job.runs.values_list("pk", flat=True))
    assert reconcile.resend_undelivered(job.priority) == 0


def test_a_certification_expires_by_the_clock_of_the_database(
    shift_s: float, model: AIModel
) -> None:
    certify(model, REGION)
    pairs = ModelCertification.objects.filter(model=model)
    pairs.update(expires_at=clock.now() + timedelta(seconds=30))
    assert ModelCertification.objects.expire() == 0
    pairs.update(expires_at=clock.now() - timedelta(seconds=30))
    assert ModelCertification.objects.expire() == 1
    assert pairs.get().status == Status.NOT_TESTED


def test_a_finished_run_has_the_time_of_the_database(shift_s: float, model: AIModel) -> None:
    run = certify(model, REGION)
    assert run.status == State.COMPLETED
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [true_time] = cursor.fetchone()
    for at in (run.started_at, run.completed_at, clock.now()):
        assert abs(true_time - at) < timedelta(seconds=60)


def test_a_worker_is_told_that_its_clock_is_wrong(shift_s: float) -> None:
    _, body = worker_health.worker_health()
    assert "clock" not in body["checks"]  # it keeps the worker from nothing
    assert body["worker"]["clockOffsetSeconds"] == pytest.approx(-shift_s, abs=5)
    assert "timedatectl" in body["worker"]["clock"]
    assert ("behind" if shift_s < 0 else "ahead of") in body["worker"]["clock"]


def test_a_right_clock_is_in_order(db: None) -> None:
    connection.ensure_connection()
    clock.measure(connection.connection)
    assert clock.fault() == ""
    assert abs(clock.now() - timezone.now()) < timedelta(seconds=5)


def test_limits_are_on_the_clock_of_redis() -> None:
    assert "redis.call('TIME')" in CLOCK


def test_webhooks_are_sent_when_they_are_due(shift_s: float) -> None:
    subscription = WebhookSubscription.objects.create(url="https://a.example", events=["x"])
    subscription.deliveries.create(
        event="x", event_id="0" * 32, payload={}, next_attempt_at=clock.now() + timedelta(minutes=1)
    )
    lease = timedelta(seconds=30)
    assert WebhookSubscription.objects.claim_next_due(lease) is None
    subscription.deliveries.update(next_attempt_at=clock.now())
    assert WebhookSubscription.objects.claim_next_due(lease) == subscription
    # another host, whose clock is right, leaves it to this one
    subscription.refresh_from_db()
    assert abs(subscription.busy_until - clock.now() - lease) < timedelta(seconds=5)


def test_keys_end_by_the_clock_of_the_database(
    shift_s: float, django_user_model: type[User]
) -> None:
    user = django_user_model.objects.create_user("ana@example.org", role="viewer")
    for seconds, works in ((60, True), (-60, False)):
        expires_at = clock.now() + timedelta(seconds=seconds)
        row = ApiKey(user=user, name="router", expires_at=expires_at)
        key = row.issue()
        assert (ApiKey.find(key) is not None, row.is_working) == (works, works)


def test_tokens_of_every_host_are_good_on_every_host(
    database_s: float, django_user_model: type[User], db: None
) -> None:
    user = django_user_model.objects.create_user("ana@example.org", role="viewer")
    token = tokens.read(tokens.issue(user))
    assert abs(token.auth_time - clock.now()) < timedelta(seconds=5)
    token.revoke()  # which forgets only what is over for every host
    assert RevokedToken.objects.filter(pk=token.id).exists()


def test_hosts_count_requests_in_the_same_minutes(database_s: float) -> None:
    shared_cache.breaker.close()
    request_rates.count_request("read", "ana")
    minute = int(clock.now().timestamp() // 60)
    with shared_cache.client() as redis:
        counted = [redis.get(f"myia:rate:read:ana:{minute - past}") for past in (0, 1)]
    assert b"1" in counted


def test_a_shared_value_is_fresh_on_every_host(
    database_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = shared_cache.ComputedValue("test-clock", int, lambda _: 60.0, lambda: 1)
    value.forget()
    assert value.get() == 1
    shared = value.read()
    assert shared is not None
    assert shared.fresh_until - clock.now().timestamp() == pytest.approx(60, abs=5)
    value.forget()


def test_messages_expire_by_the_clock_of_the_database(database_s: float) -> None:
    message = current_app.amqp.as_task_v2("1", "certification.tasks.reconcile", expires=30)
    celery.expire_by_the_clock(headers=message.headers)
    task = tasks.reconcile
    assert task.Request == f"{Request.__module__}:{Request.__qualname__}"

    def is_expired() -> bool:
        request = Request(
            task=task, app=current_app, decoded=True, body=message.body, headers=message.headers,
            message=type("Message", (), {"properties": {}, "delivery_info": {}, "headers": {}}),
            on_reject=lambda *_: None,
        )  # fmt: skip
        return bool(request.maybe_expire())

    assert not is_expired()
    message.headers["expires"] = (clock.now() - timedelta(seconds=1)).isoformat()
    assert is_expired()


def test_evidence_has_the_time_of_the_run(database_s: float) -> None:
    assert abs(datetime.fromisoformat(calls.now()) - clock.now()) < timedelta(seconds=5)
