"""/maintenance/..., for cron without a shell, and /health/detailed, for operators."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.test import Client

from certification.api import health
from certification.engine import pauses, schedules
from certification.lib import clock
from certification.models import (
    AIModel,
    AlertEpisode,
    AlertNotification,
    AlertSilence,
    AuditEntry,
    CertificationJob,
    ModelCertification,
    PauseCause,
    QueuePause,
    User,
)
from certification.monitoring import (
    alerts,
    checks,
    detailed_health,
    queue_stats,
    received_alerts,
    site_health,
)
from certification.monitoring.alert_rules import describe, find_rule
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
OTHERS = ("/maintenance/alerts", "/maintenance/queue/pause", "/maintenance/queue/resume")
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


@pytest.mark.parametrize("path", [*POSTS, *OTHERS, "/maintenance/queue-stats"])
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


BAD_BODIES = [
    b"", b"null", b"[]", b"7", b'"x"', b"{", b"\xff", b"{}", b"[" * 100_000, b'{"alerts": 7}',
    b'{"alerts": {}}', b'{"alerts": [null]}', b'{"alerts": [[]]}', b'{"alerts": ["x"]}',
    b'{"alerts": [{}]}', b'{"alerts": [{"status": "firing"}]}',
    b'{"alerts": [{"status": ["firing"], "labels": {"alertname": "A"}}]}',
    b'{"alerts": [{"status": "firing", "labels": []}]}',
    b'{"alerts": [{"status": "firing", "labels": {"alertname": 7}}]}',
    b'{"alerts": [{"status": "firing", "labels": {"alertname": " "}}]}',
    b'{"alerts": [{"status": "firing", "labels": {"alertname": "A", "a": {"b": []}}}]}',
    b'{"alerts": [{"status": "firing", "labels": {"alertname": "A"}, "annotations": [1]}]}',
    b'{"alerts": [{"status": "firing", "labels": {"alertname": "A\\ud800"}}]}',
    b'{"alerts": [{"status": "firing", "labels": {"alertname": "A"}, "x": NaN}]}',
    b'{"alerts": [], "alerts": []}', b'{"alerts": [' + b"9" * 5000 + b"]}",
]  # fmt: skip


class TestAlertmanager:
    """What an Alertmanager sends comes into the list of alerts."""

    PATH = "/maintenance/alerts"

    def send(self, client: Client, *alerts: dict[str, Any]) -> Any:
        body = {"version": "4", "status": "firing", "groupKey": "{}", "alerts": list(alerts)}
        answer = client.post(self.PATH, body, "application/json", headers=BEARER)
        assert answer.status_code == 200, answer.content
        return answer.json()["data"]

    def alert(self, name: str, status: str = "firing", **labels: str) -> dict[str, Any]:
        return {
            "status": status,
            "labels": {"alertname": name, "severity": "critical", **labels},
            "annotations": {"summary": "The disk of db-1 is full, password=hunter2."},
            "startsAt": "2026-05-01T12:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "c0ffee",
        }

    def test_it_opens_once_and_ends(self, client: Client, as_viewer: Client) -> None:
        firing = self.alert("HostDiskFull", instance="db-1:9100", job="node")
        for opened in (["HostDiskFull instance=db-1:9100, job=node"], []):
            assert self.send(client, firing)["opened"] == opened
        episode = AlertEpisode.objects.open().get()
        assert (episode.severity, episode.rule) == ("critical", "HostDiskFull")
        html = as_viewer.get("/operations/?tab=alerts").content.decode()
        assert "The disk of db-1 is full" in html
        assert "hunter2" not in html
        alerts.run_round([])  # which measures nothing of it
        assert AlertEpisode.objects.open().exists()
        other = self.alert("HostDiskFull", "resolved", instance="db-2:9100", job="node")
        assert self.send(client, other)["resolved"] == []
        ended = firing | {"status": "resolved"}
        assert self.send(client, ended)["resolved"] == [str(episode)]
        assert not AlertEpisode.objects.open().exists()
        self.send(client, firing)  # soon after: the same episode
        assert AlertEpisode.objects.get().pk == episode.pk

    def test_people_are_notified_of_it_unless_it_is_silenced(
        self, client: Client, settings: Any
    ) -> None:
        settings.ALERT_SECRET_URLS = {"": ["json://example.invalid/"]}
        AlertSilence.objects.create(
            rule="Quiet", reason="known", until=clock.now() + timedelta(hours=1)
        )
        self.send(client, self.alert("HostDiskFull"), self.alert("Quiet"))
        [note] = AlertNotification.objects.select_related("episode")
        assert note.episode.rule == "HostDiskFull"

    def test_what_we_measure_is_one_episode_that_we_decide(self, client: Client) -> None:
        firing = self.alert("disk_space", severity="warning")
        self.send(client, firing)
        episode = AlertEpisode.objects.open().get()
        assert (episode.subject, describe(episode)[:8]) == ("", "The disk")
        rule = find_rule("disk_space")
        assert rule is not None
        full = replace(rule, measure=lambda _facts: {"": 2.0})
        alerts.run_round([full])
        episode = AlertEpisode.objects.open().get()
        assert (episode.severity, describe(episode)) == ("critical", "Free disk space: 2 %.")
        self.send(client, firing, firing | {"status": "resolved"})  # we know better
        assert AlertEpisode.objects.open().get().severity == "critical"
        assert alerts.run_round([replace(rule, measure=lambda _facts: {})]).resolved

    def test_an_alertmanager_that_fell_silent_leaves_nothing_open(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.send(client, self.alert("HostDiskFull"))
        later = clock.now() + timedelta(hours=25)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert alerts.run_round([]).resolved == ["HostDiskFull"]

    def test_long_and_foreign_texts_are_stored(self, client: Client) -> None:
        long = {f"label{n}": "x" * 50 for n in range(20)}
        self.send(
            client,
            self.alert("A" * 300, **long),
            self.alert("A" * 300, **long, more="y"),
            self.alert("\x00\x1b[31mred"),
        )
        assert AlertEpisode.objects.open().count() == 3

    @pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
    def test_any_other_document_is_400(self, client: Client, body: bytes) -> None:
        answer = client.post(self.PATH, body, "application/json", headers=BEARER)
        assert answer.status_code == 400
        assert answer.json()["message"]
        assert not AlertEpisode.objects.exists()

    def test_too_many_at_once_are_refused(self, client: Client) -> None:
        body = {"alerts": [self.alert("A")] * (received_alerts.MAX_ALERTS + 1)}
        answer = client.post(self.PATH, body, "application/json", headers=BEARER)
        assert answer.status_code == 400

    def test_read_only_mode_does_not_keep_it_out(self, client: Client) -> None:
        pauses.begin(PauseCause.READ_ONLY, "ann", "the disk is full")
        self.send(client, self.alert("HostDiskFull"))
        assert AlertEpisode.objects.open().exists()


class TestPauses:
    def post(self, client: Client, action: str, body: Any = None) -> Any:
        path = f"/maintenance/queue/{action}"
        return client.post(path, body or {}, "application/json", headers=BEARER)

    def test_the_queue_is_paused_and_resumed(self, client: Client) -> None:
        answer = self.post(client, "pause", {"reason": "the nightly copy", "for": "2h"})
        assert (answer.status_code, answer.json()["data"]["until"] is None) == (201, False)
        pause = QueuePause.objects.open().get()
        assert (pause.cause, pause.message) == (PauseCause.PERSON, "the nightly copy")
        assert self.post(client, "pause", {"reason": "again"}).status_code == 409
        assert self.post(client, "resume").status_code == 200
        assert self.post(client, "resume").status_code == 409
        actions = AuditEntry.objects.values_list("actor", "via", "action").order_by("pk")
        who = ("MAINTENANCE_SECRET", "api")
        assert list(actions) == [(*who, "pause queue"), (*who, "resume queue")]

    @pytest.mark.parametrize(
        "body", [{}, {"reason": 7}, {"reason": " "}, {"reason": "x", "for": "2"},
                 {"reason": "x", "for": ["1h"]}, [], "x"],
    )  # fmt: skip
    def test_a_reason_is_required(self, client: Client, body: Any) -> None:
        answer = client.post(
            "/maintenance/queue/pause", json.dumps(body), "application/json", headers=BEARER
        )
        assert answer.status_code == 400
        assert not QueuePause.objects.exists()


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
