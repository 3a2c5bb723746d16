"""Whatever a machine's clock says, times are compared by the clock of the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from certification.engine import reconcile
from certification.engine.limits import CLOCK
from certification.lib import clock
from certification.models import AIModel, CertificationRun, ModelCertification, State
from certification.monitoring import worker_health
from certification.reasons import Status
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
