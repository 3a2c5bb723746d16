"""The Operations page, what operators do on it, and the runbooks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.functional import Promise

from certification.engine import backend
from certification.lib import clock
from certification.models import (
    AIModel,
    AlertEpisode,
    AlertSilence,
    Backend,
    CertificationRun,
    RoutineMark,
    State,
    User,
)
from certification.monitoring import queue_stats, site_health
from certification.monitoring.alert_rules import RULES
from certification.monitoring.bedrock_status import bedrock_status
from certification.monitoring.queue_stats import WorkerReply
from certification.monitoring.runbooks import BY_NAME
from certification.stack import control
from certification.stack.control import ProcessStatus
from certification.web import operations
from tests.factories import start_job

pytestmark = pytest.mark.django_db
FRAGMENT = {"HX-Request": "true"}
SESSION_USER_AND_ROLE = 3


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with a web process, and no worker that is asked."""
    shared = (queue_stats.workers, queue_stats.workers_seen, bedrock_status, site_health.everything)
    processes = [ProcessStatus("web", control.RUNNING, pid=7, memory_bytes=90_000_000)]
    monkeypatch.setattr(control, "status", lambda: processes)
    monkeypatch.setattr(queue_stats.workers_seen, "get_soon", list)
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    for each in shared:
        each.forget()
    yield
    for each in shared:
        each.forget()


def open_alert(rule: str = "queue_waiting", **fields: Any) -> AlertEpisode:
    values = {"severity": "critical", "subject": "<b>now</b>", "opened_at": clock.now()}
    return AlertEpisode.objects.create(rule=rule, **values | fields)


def html_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


class TestHealth:
    def test_it_says_what_does_not_work_and_what_to_do(
        self, as_viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        states = dict.fromkeys(operations.DEPENDENCIES, "ok")
        states |= {"redis": "error: ConnectionError"}
        monkeypatch.setattr(site_health.everything, "get", lambda: states)
        open_alert("redis_unreachable")
        RoutineMark.record("reconcile")
        html = html_of(as_viewer, "/operations/")
        assert "1 part does not work: Redis." in html
        assert "/operations/runbooks/redis_unreachable/" in html
        assert "Start it, or correct REDIS_URL." in html
        assert "85.8" in html  # megabytes of the web process

    def test_all_well(self, as_viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        states = dict.fromkeys(operations.DEPENDENCIES, "ok")
        monkeypatch.setattr(site_health.everything, "get", lambda: states)
        for routine in site_health.MAX_AGES:
            RoutineMark.record(routine)
        assert "Everything works." in html_of(as_viewer, "/operations/?tab=nonsense")

    def test_a_routine_without_a_sign_of_life_is_not_said_to_work(
        self, as_viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        states = dict.fromkeys(operations.DEPENDENCIES, "ok")  # /health gives beat time to start
        monkeypatch.setattr(site_health.everything, "get", lambda: states)
        RoutineMark.record("alerts")
        RoutineMark.objects.update(ended_at=clock.now() - timedelta(hours=3))  # of the last start
        html = html_of(as_viewer, "/operations/")
        assert "No fault is known. Has not run yet: Beat" in html
        assert html.count("has not run yet") == 2
        assert "beat has 3 minutes to run it" in html
        assert "Everything works." not in html

    @pytest.mark.parametrize(
        ("name", "label"),
        [(Backend.AWS, "AWS Bedrock"), (Backend.EMULATOR, "Bedrock (emulator)")],
    )
    def test_the_row_of_bedrock_says_which_one(
        self, as_viewer: Client, monkeypatch: pytest.MonkeyPatch, name: Backend, label: str
    ) -> None:
        states = dict.fromkeys(operations.DEPENDENCIES, "ok") | {"bedrock": "error: refused"}
        monkeypatch.setattr(site_health.everything, "get", lambda: states)
        monkeypatch.setattr(backend, "name", lambda: name)
        html = html_of(as_viewer, "/operations/")
        assert f"<strong>{label}</strong>" in html
        assert ("manage.py restart emulator" in html) == (name == Backend.EMULATOR)

    def test_every_state_of_a_process_has_a_word_of_its_own(self) -> None:
        states = (control.RUNNING, control.STARTING, control.SILENT, control.DOWN, control.EXTERNAL)
        assert set(operations.PROCESS_STATES) == set(states)
        assert all(isinstance(label, Promise) for label in operations.PROCESS_STATES.values())

    def test_every_check_of_health_has_its_words_and_its_runbook(self) -> None:
        names = {check.name for check in site_health.CHECKS} | {"clock"}
        assert names == set(operations.DEPENDENCIES)
        books = {dependency.runbook for dependency in operations.DEPENDENCIES.values()}
        assert books <= set(BY_NAME)

    def test_processes_nobody_may_look_at_are_not_known(
        self, as_viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations.PROCESSES, "read", lambda: None)
        assert "manage.py status" in html_of(as_viewer, "/operations/")


class TestAlerts:
    def test_open_ones_come_first_worst_first_and_are_escaped(self, as_viewer: Client) -> None:
        open_alert("disk_space", severity="warning")
        open_alert("queue_waiting")
        open_alert("queue_oldest", cause="queue_waiting")
        html = html_of(as_viewer, "/operations/?tab=alerts")
        assert "3 alerts are open, 2 critical." in html
        assert "&lt;b&gt;now" in html
        assert "<b>now" not in html
        shown = re.findall(r"<strong>(\w+)</strong>", html)
        assert shown == ["queue_waiting", "disk_space", "queue_oldest"]
        assert "follows from queue_waiting" in html

    def test_history_has_pages_and_filters(self, as_viewer: Client) -> None:
        now = clock.now()
        AlertEpisode.objects.bulk_create(
            AlertEpisode(
                rule="disk_space" if n % 2 else "redis_memory",
                severity="warning",
                opened_at=now - timedelta(hours=n + 1),
                resolved_at=now - timedelta(hours=n),
            )
            for n in range(60)
        )
        path = "/operations/?tab=alerts"
        assert "1 to 25 of 60" in html_of(as_viewer, path)
        assert "51 to 60 of 60" in html_of(as_viewer, f"{path}&page=99")
        assert "1 to 25 of 30" in html_of(as_viewer, f"{path}&rule=disk_space")
        assert "None has been resolved yet" in html_of(as_viewer, f"{path}&severity=critical")
        assert "1 to 25 of 60" in html_of(as_viewer, f"{path}&rule=no&severity=x&page=x")

    def test_an_operator_acknowledges_once(self, as_operator: Client, operator: User) -> None:
        episode = open_alert()
        path = f"/operations/alerts/{episode.pk}/acknowledge/"
        assert "Acknowledge" in html_of(as_operator, "/operations/?tab=alerts")
        assert as_operator.post(path)["Location"] == "/operations/?tab=alerts"
        episode.refresh_from_db()
        assert episode.acknowledged_by == operator.email
        html = as_operator.post(path, follow=True).content.decode()
        assert "was acknowledged already" in html

    def test_an_operator_silences_with_a_reason_and_ends_it(
        self, as_operator: Client, operator: User
    ) -> None:
        form = {"rule": "queue_waiting", "for": "2h", "reason": "a <i>sweep</i>"}
        html = as_operator.post("/operations/silences/", form, follow=True).content.decode()
        assert "a &lt;i&gt;sweep" in html
        silence = AlertSilence.objects.get()
        assert (silence.rule, silence.created_by) == ("queue_waiting", operator)
        assert timedelta(minutes=119) < silence.until - clock.now() <= timedelta(hours=2)
        as_operator.post("/operations/silences/", {"rule": "all", "for": "1d", "reason": "x"})
        assert AlertSilence.objects.filter(rule="").count() == 1
        as_operator.post(f"/operations/silences/{silence.pk}/end/")
        assert [s.rule for s in AlertSilence.current(clock.now())] == [""]

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"rule": "queue_waiting", "for": "2h"},
            {"rule": "queue_waiting", "for": "2h", "reason": " \0 "},
            {"rule": "nonsense", "for": "2h", "reason": "x"},
            {"rule": "queue_waiting", "for": "٣h", "reason": "x"},
            {"rule": "queue_waiting", "for": "0m", "reason": "x"},
        ],
    )
    def test_a_silence_without_rule_reason_or_end_is_refused(
        self, as_operator: Client, form: dict[str, str]
    ) -> None:
        assert as_operator.post("/operations/silences/", form).status_code == 302
        assert not AlertSilence.objects.exists()

    def test_viewers_see_no_button_and_are_refused(self, as_viewer: Client) -> None:
        episode = open_alert()
        html = html_of(as_viewer, "/operations/?tab=alerts")
        assert "/acknowledge/" not in html
        assert "/operations/silences/" not in html
        for path in (f"alerts/{episode.pk}/acknowledge/", "silences/"):
            assert as_viewer.post(f"/operations/{path}").status_code == 403


class TestQueue:
    def test_it_shows_what_waits_where_and_who_works_on_what(
        self, as_viewer: Client, catalogue: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")
        start_job([model], ["us-east-1", "eu-west-1"])
        working = CertificationRun.objects.get(region_id="eu-west-1")
        CertificationRun.objects.filter(pk=working.pk).update(
            status=State.PROCESSING, claimed_by="host:9:abc", started_at=clock.now()
        )
        worker = WorkerReply("worker@host", "emulator", ("model-certification",), 1, 3002, "host:9")
        monkeypatch.setattr(queue_stats.workers_seen, "get_soon", lambda: [worker])
        html = html_of(as_viewer, "/operations/?tab=queue")
        assert "1 run waits, 1 in progress." in html
        assert f"/runs/{working.pk}/" in html
        assert "worker@host" in html
        assert "health on port 3002" in html

    def test_workers_that_are_not_known_are_not_none(
        self, as_viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "No worker answers" in html_of(as_viewer, "/operations/?tab=queue")
        monkeypatch.setattr(queue_stats.workers_seen, "get_soon", lambda: None)
        html = html_of(as_viewer, "/operations/?tab=queue")
        assert "No worker answers" not in html
        assert "unknown at the moment" in html


class TestRunbooks:
    def test_from_the_overview_to_a_runbook_in_two_clicks(self, as_viewer: Client) -> None:
        episode = open_alert("disk_space")
        [first] = re.findall(r'href="(/operations/[^"]+alert-[^"]+)"', html_of(as_viewer, "/"))
        assert first == f"/operations/?tab=alerts#alert-{episode.pk}"
        [second] = re.findall(r'href="(/operations/runbooks/[^"]+)"', html_of(as_viewer, first))
        html = html_of(as_viewer, second)
        assert "manage.py cleanup --dry-run" in html
        assert "Free disk space: 0 %." in html  # how it stands

    @pytest.mark.parametrize("name", [rule.name for rule in RULES])
    def test_every_rule_has_its_page(self, as_viewer: Client, name: str) -> None:
        html = html_of(as_viewer, f"/operations/runbooks/{name}/")
        assert "<strong>" in html
        assert "This alert is not open now." in html

    def test_the_list_has_those_of_open_alerts_first(self, as_viewer: Client) -> None:
        open_alert("long_queries")
        html = html_of(as_viewer, "/operations/runbooks/")
        names = re.findall(r'href="/operations/runbooks/(\w+)/"', html)
        assert names[0] == "long_queries"
        assert set(names) == set(BY_NAME)

    def test_there_is_none_of_an_unknown_name(self, as_viewer: Client) -> None:
        assert as_viewer.get("/operations/runbooks/no_such/").status_code == 404


@pytest.mark.parametrize("tab", dict(operations.TABS))
def test_a_poll_gets_the_part_or_nothing_in_few_queries(
    as_operator: Client,
    tab: str,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: Any,
) -> None:
    states = dict.fromkeys(operations.DEPENDENCIES, "ok")
    monkeypatch.setattr(site_health.everything, "get", lambda: states)
    path = f"/operations/?tab={tab}"
    response = as_operator.get(path, headers=FRAGMENT)
    assert response.content.decode().lstrip().startswith("<section")
    version = re.search('Page-Version": "([^"]+)"', response.content.decode())
    assert version
    with django_assert_max_num_queries(6 + SESSION_USER_AND_ROLE):
        again = as_operator.get(path, headers=FRAGMENT | {"Page-Version": version[1]})
    assert again.status_code == 204


def test_a_routine_that_never_succeeded_shows_its_failure_and_no_date(as_viewer: Client) -> None:
    RoutineMark.record_failure("backup", "The disk is <full>.")
    html = html_of(as_viewer, "/operations/")
    assert "has not succeeded yet" in html
    assert "The disk is &lt;full&gt;." in html
    assert "1970" not in html
