"""The targets: what is counted, and how well they are met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from certification.lib import clock, counters, process_counts, redis_client, safe_http
from certification.lib.counters import Counters, Series
from certification.lib.redis_client import Purpose
from certification.lib.safe_http import ReceiverResponse, ReceiverUnreachable
from certification.models import (
    AIModel,
    AlertEpisode,
    CertificationRun,
    RoutineMark,
    TargetDay,
)
from certification.models.routines import BACKUP
from certification.monitoring import alerts, heartbeat, metrics, queue_stats, targets, tasks
from certification.monitoring.targets import TARGETS
from certification.reasons import Status
from tests.factories import certify

pytestmark = pytest.mark.django_db
TODAY = date(2026, 5, 31)


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A web server that answers, a worker, and no request counted yet."""
    monkeypatch.setattr(targets, "web_answers", lambda: True)
    monkeypatch.setattr(queue_stats.workers, "get", lambda: 1)
    redis_client.client(Purpose.CACHE).delete(counters.KEY)
    yield
    redis_client.client(Purpose.CACHE).delete(counters.KEY)


def report_of(name: str, today: date = TODAY) -> targets.Report:
    return next(report for report in targets.reports(today) if report.target.name == name)


def requests(endpoint: str, statuses: list[int], seconds: float = 0.1) -> None:
    process = Counters()
    for status in statuses:
        labels = {"endpoint": endpoint, "method": "GET"}
        process.add("http_requests_total", {**labels, "status": str(status)})
        process.observe(targets.request_metrics.DURATION, seconds, labels)
    process.flush()


def test_minutes_are_counted_and_unknown_ones_are_in_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = clock.now()
    targets.measure(now)
    monkeypatch.setattr(targets, "web_answers", lambda: False)
    monkeypatch.setattr(queue_stats.workers, "get", lambda: None)
    targets.measure(now)
    minutes = {row.name: (row.good, row.total) for row in TargetDay.objects.filter(day=now.date())}
    assert minutes["availability"] == (1, 2)
    assert minutes["workers"] == (1, 1)


def test_requests_of_the_api_are_counted_since_the_last_look() -> None:
    requests("api/models", [200] * 10)
    now = clock.now()
    targets.measure(now)  # the first look only notes the counters
    requests("api/models", [200] * 8 + [404, 500])
    requests("api/matrix", [200] * 10, seconds=0.3)
    requests("operations/", [500] * 5)
    targets.measure(now)
    assert report_of("api_errors", now.date()).today == targets.Share(19, 20)
    assert report_of("api_latency", now.date()).today == targets.Share(10, 20)
    redis_client.client(Purpose.CACHE).delete(counters.KEY)  # Redis lost them
    requests("api/models", [200] * 3)
    targets.measure(now)
    assert report_of("api_errors", now.date()).today == targets.Share(22, 23)


def test_a_new_day_goes_on_from_the_counters_of_the_last() -> None:
    yesterday = TODAY - timedelta(days=1)
    TargetDay.add_counter("api_errors", yesterday, good=90, total=100)
    TargetDay.add_counter("api_errors", TODAY, good=99, total=110)
    assert report_of("api_errors").today == targets.Share(9, 10)


def test_runs_and_recoveries_are_read_again_from_their_rows(catalogue: None) -> None:
    nova, micro = AIModel.objects.filter(api_model_id__contains="nova")[:2]
    certify(nova, "us-east-1")
    certify(micro, "us-east-1", Status.FAILED, took=timedelta(seconds=60))
    now = clock.now()
    for minutes in (1, 30):
        AlertEpisode.objects.create(
            rule=f"r{minutes}",
            severity="critical",
            opened_at=now - timedelta(minutes=minutes),
            resolved_at=now,
        )
    for _ in range(2):  # however often
        targets.measure(now)
    day = now.date()
    ended_on = CertificationRun.objects.filter(completed_at__date=day).count()
    assert report_of("success", day).today.total == ended_on
    assert report_of("recovery", day).today == targets.Share(1, 2)


def fill(name: str, bad_per_day: float, total: float = 1000, days: int = 30) -> None:
    TargetDay.objects.bulk_create(
        TargetDay(name=name, day=TODAY - timedelta(days=age), good=total - bad_per_day, total=total)
        for age in range(days)
    )


def test_the_budget_of_a_month_and_how_fast_it_is_spent() -> None:
    fill("availability", bad_per_day=0.5)  # of 1 that is allowed
    report = report_of("availability")
    assert report.month.per_cent == pytest.approx(99.95)
    assert (report.is_met, report.budget_left, report.burn) == (True, 50.0, 0.5)
    assert report.days_left is None
    TargetDay.objects.filter(day=TODAY).update(good=996)
    report = report_of("availability")
    assert report.burn == 4.0
    assert report.days_left == pytest.approx(30 * 0.383 / 4, abs=0.1)
    assert len(report.days) == 30
    assert report.days[-1] == (TODAY, pytest.approx(99.6))


def test_what_was_never_measured_is_not_met_and_not_missed() -> None:
    report = report_of("availability")
    assert (report.is_met, report.budget_left, report.burn, report.month.per_cent) == (None,) * 4


def test_all_are_read_in_one_query(django_assert_num_queries: Any) -> None:
    for target in TARGETS:
        fill(target.name, 1)
    with django_assert_num_queries(1):
        assert len(targets.reports(TODAY)) == len(TARGETS)


def test_every_target_has_its_words() -> None:
    for target in TARGETS:
        assert target.label
        assert target.definition
        assert target.action
        assert target.command.startswith("manage.py ")
        assert 0 < target.goal <= 100


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = 0
    try:
        call_command(*arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def test_the_command_ends_with_1_when_one_is_missed(capsys: Any) -> None:
    assert run(capsys, "targets")[0] == 0
    today = clock.now().date()
    TargetDay.objects.create(name="success", day=today, good=1, total=2)
    code, text = run(capsys, "targets", "--json")
    [missed] = [row for row in json.loads(text)["targets"] if row["met"] is False]
    assert (code, missed["name"], missed["month"], missed["goal"]) == (1, "success", 50.0, 95.0)
    code, text = run(capsys, "targets")
    assert "list_uncertified" in "".join(text.split())


def test_the_page_and_the_metrics_show_them(as_viewer: Client) -> None:
    today = clock.now().date()
    TargetDay.objects.create(name="success", day=today, good=1, total=2)
    TargetDay.objects.create(name="workers", day=today, good=5, total=5)
    html = as_viewer.get("/operations/?tab=targets").content.decode()
    assert "Missed: Success." in html
    assert "manage.py list_uncertified" in html
    assert html.count("not measured yet") == len(TARGETS) - 2
    text = metrics.render().decode()
    assert 'target_ratio{target="success"} 0.5' in text
    assert 'target_goal_ratio{target="workers"} 0.999' in text


def count(series: Series, amount: float) -> None:
    process = Counters()
    process.increase({series: amount})
    process.flush()


def test_days_with_error_lines_and_stops_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 5, 30, 12, tzinfo=UTC)
    for name in ("error_lines", "stops"):
        assert report_of(name).is_met is None  # nobody counts them
    errors = process_counts.of_process(process_counts.ERRORS, "web")
    restarts = process_counts.of_process(process_counts.RESTARTS, "worker")
    count(errors, 500)
    count(restarts, 0)
    targets.measure(now)  # the first look only notes the counters
    count(errors, 9)
    targets.measure(now)
    targets.measure(now + timedelta(minutes=1))
    assert report_of("error_lines", now.date()).today == targets.Share(1, 1)
    assert report_of("stops", now.date()).today == targets.Share(1, 1)
    count(errors, 1)
    count(restarts, 1)
    targets.measure(now + timedelta(minutes=2))
    targets.measure(now + timedelta(days=1))
    for name in ("error_lines", "stops"):
        report = report_of(name)
        assert (report.week, report.today) == (targets.Share(1, 2), targets.Share(1, 1))
        assert (report.is_met, report.budget_left, report.burn) == (False, 0.0, None)
    facts = targets.recent(now + timedelta(minutes=30))
    assert facts["error_lines"][timedelta(hours=1)] == (0, 10)
    assert facts["stops"][timedelta(days=1)] == (0, 1)


class TestRoutinesOfADay:
    @pytest.fixture(autouse=True)
    def _now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2026, 5, 30, 12, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def later(self, **time: float) -> date:
        """Look after some time has passed, and return the day."""
        self.now += timedelta(**time)
        targets.measure(self.now)
        return self.now.date()

    def test_backups(self) -> None:
        assert report_of("backups", self.later()).today.total == 0  # not known yet
        RoutineMark.record_failure(BACKUP, "no room")
        assert report_of("backups", self.later(minutes=1)).today == targets.Share(0, 1)
        RoutineMark.record(BACKUP)
        assert report_of("backups", self.later(minutes=1)).today == targets.Share(1, 1)
        RoutineMark.objects.update(since=self.now)
        day = self.later(days=1)
        assert report_of("backups", day).week == targets.Share(1, 1)
        self.later(hours=12, minutes=5)  # nothing was made on that day
        RoutineMark.record(BACKUP)
        assert report_of("backups", self.later(minutes=1)).week == targets.Share(2, 3)

    def test_self_tests(self) -> None:
        RoutineMark.record("restore drill")
        RoutineMark.record_failure("weekly", "stored figures")
        assert report_of("self_tests", self.later()).today == targets.Share(1, 2)
        self.later(hours=12)
        RoutineMark.record("restore drill")  # after midnight: the day before stays as it was
        assert report_of("self_tests", self.later(minutes=1)).week == targets.Share(2, 3)


class TestHeartbeat:
    SECRET = "9f2c-secret-of-the-watcher"

    @pytest.fixture(autouse=True)
    def _url(self, settings: Any) -> None:
        settings.HEARTBEAT_URL = f"https://watch.example/ping/{self.SECRET}"

    def test_a_good_round_calls_the_watcher_and_a_bad_one_does_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[str] = []
        monkeypatch.setattr(heartbeat, "send", lambda: sent.append("now"))
        result = alerts.Round(clock.now(), [])
        monkeypatch.setattr(alerts, "run_round", lambda: result)
        tasks.check_alerts()
        assert sent == ["now"]
        result.unknown.append("redis_memory")
        tasks.check_alerts()
        assert sent == ["now"]

    @pytest.mark.parametrize(
        "answer", [ReceiverResponse(500, ""), ReceiverUnreachable("It did not answer.")]
    )
    def test_a_failure_is_logged_without_the_secret(
        self, answer: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any, capfd: Any
    ) -> None:
        def post(url: str, *_: Any) -> ReceiverResponse:
            assert url.endswith(self.SECRET)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

        monkeypatch.setattr(safe_http, "post", post)
        assert not heartbeat.send()
        logged = caplog.text + "".join(capfd.readouterr())
        assert "heartbeat_not_sent" in logged
        assert "watch.example" in logged
        assert self.SECRET not in logged

    def test_an_address_inside_is_not_called(self, settings: Any, caplog: Any) -> None:
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        settings.HEARTBEAT_URL = f"https://127.0.0.1/{self.SECRET}"
        assert not heartbeat.send()
        assert self.SECRET not in caplog.text

    def test_without_an_address_nothing_is_called(self, settings: Any) -> None:
        settings.HEARTBEAT_URL = ""
        assert not heartbeat.send()
