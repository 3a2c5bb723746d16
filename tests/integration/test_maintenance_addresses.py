"""/maintenance/..., for cron without a shell, and /health/detailed, for operators."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import current_app
from django.test import Client

from certification.api import health
from certification.engine import pauses, schedules
from certification.models import AIModel, CertificationJob, ModelCertification, PauseCause, User
from certification.monitoring import checks, detailed_health, queue_stats, site_health
from certification.monitoring.detailed_health import quantile
from tests.api import Api
from tests.factories import certify

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "a-secret-of-cron-and-nobody-else"
POSTS = {
    "/maintenance/housekeeping": ("certification.operations.tasks.run_routine", ("hourly",)),
    "/maintenance/routine/daily": ("certification.operations.tasks.run_routine", ("daily",)),
    "/maintenance/recertify-stale": ("certification.engine.schedules.recertify_stale", ()),
}
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.MAINTENANCE_SECRET = SECRET
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)


@pytest.mark.parametrize("path", POSTS)
def test_the_work_goes_to_the_queue(
    client: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, Any]] = []

    class Sent:
        id = "7"

    def send_task(name: str, arguments: Any, **_options: Any) -> Sent:
        sent.append((name, arguments))
        return Sent()

    monkeypatch.setattr(current_app, "send_task", send_task)
    answer = client.post(path, headers=BEARER)
    assert (answer.status_code, answer.json()["data"]) == (202, {"task": "7"})
    assert sent == [POSTS[path]]
    assert sent[0][0] in current_app.tasks
    assert client.get(path, headers=BEARER).status_code == 405


@pytest.mark.parametrize("path", [*POSTS, "/maintenance/queue-stats"])
def test_who_does_not_send_the_secret_is_refused(client: Client, path: str, settings: Any) -> None:
    method = client.get if path.endswith("stats") else client.post
    for header in ("", SECRET, "Bearer wrong", f"Basic {SECRET}", "Bearer é"):
        answer = method(path, headers={"Authorization": header} if header else {})
        assert answer.status_code == 401, header
        assert SECRET not in answer.content.decode()
    assert method(f"{path}?secret={SECRET}&token={SECRET}").status_code == 401
    settings.MAINTENANCE_SECRET = ""
    for headers in ({}, {"Authorization": "Bearer "}, BEARER):
        assert method(path, headers=headers).status_code == 404


def test_a_routine_that_there_is_not(client: Client) -> None:
    answer = client.post("/maintenance/routine/yearly", headers=BEARER)
    assert (answer.status_code, answer.json()["errorCode"]) == (404, "routine_not_found")


def test_the_queue_can_be_asked(client: Client) -> None:
    data = client.get("/maintenance/queue-stats", headers=BEARER).json()["data"]
    assert (data["waiting"], data["active"], data["pause"]) == (0, 0, None)


def test_without_redis_it_says_so(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    answer = client.post("/maintenance/housekeeping", headers=BEARER)
    assert (answer.status_code, answer.json()["status"]) == (503, "error")


def test_read_only_mode_refuses_it(client: Client) -> None:
    pauses.begin(PauseCause.READ_ONLY, "ann", "the disk is full")
    assert client.post("/maintenance/recertify-stale", headers=BEARER).status_code == 503


def test_the_tasks_do_it(catalogue: None) -> None:
    certify(AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0"), "us-east-1")
    schedules.recertify_stale()
    assert not CertificationJob.objects.filter(type="RECERTIFY").exists()  # nothing is stale
    ModelCertification.objects.update(expires_at="2020-01-01T00:00:00Z")
    schedules.recertify_stale()
    assert CertificationJob.objects.get(type="RECERTIFY").total_runs == 1


class TestDetailedHealth:
    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health.PROCESSES, "read", lambda: [{"name": "web"}])

    def test_an_operator_sees_every_part(self, as_operator: Client, operator: User) -> None:
        data = as_operator.get("/health/detailed").json()["data"]
        assert set(data) == {"database", "redis", "workers", "api", "machine", "processes"}
        assert data["database"]["max_connections"] > 0
        assert sum(data["database"]["connections"].values()) >= 1
        assert len(data["database"]["tables"]) == 10
        assert data["redis"]["memory_used"] > 0
        assert data["workers"]["active"] == []
        assert data["machine"]["memory_total"] > 0
        assert Api(operator).headers  # and by a token:
        answer = Client().get("/health/detailed", headers=Api(operator).headers)
        assert answer.status_code == 200

    def test_others_are_refused(self, client: Client, as_viewer: Client) -> None:
        assert client.get("/health/detailed").status_code == 401
        assert as_viewer.get("/health/detailed").status_code == 403

    def test_a_part_that_fails_or_hangs_leaves_the_others(
        self, as_operator: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checks, "CHECK_TIMEOUT_S", 0.0)
        slow = detailed_health.SECTIONS[0]
        monkeypatch.setattr(slow, "start", checks.Future)
        data = as_operator.get("/health/detailed").json()["data"]
        assert data["database"].startswith("error: no answer within")

    def test_percentiles_are_upper_edges(self) -> None:
        assert quantile({0.1: 90.0, 0.5: 9.0, float("inf"): 1.0}, 0.95) == 0.5
        assert quantile({0.1: 1.0, float("inf"): 99.0}, 0.95) is None
        assert quantile({}, 0.5) is None


def test_beat_has_its_time_after_a_start_of_the_web_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = [time.time() - 10]
    monkeypatch.setattr(site_health, "web_server_started", lambda: started[0])
    for name in site_health.MAX_AGES:
        assert site_health.routine_fault_after_start(name) == ""
        assert "has never ended" in site_health.routine_fault(name)
    started[0] = time.time() - 600
    for name in site_health.MAX_AGES:
        assert "has never ended" in site_health.routine_fault_after_start(name)


def test_a_command_has_no_time_after_a_start() -> None:
    assert site_health.web_server_started() is None
