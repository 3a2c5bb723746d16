"""The health pages of a worker, over a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pytest
import redis
from django.db import OperationalError, connection
from django.utils import timezone

from certification.engine import consumer
from certification.engine.worker import get_worker
from certification.lib import clock, service_manager
from certification.lib.shared_cache import ComputedValue
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    RunEvent,
    TestResult,
    User,
)
from certification.monitoring import alerts, metrics, queue_stats, signals, worker_health
from tests.api import Api
from tests.factories import certify, start_job

NOVA = "amazon.nova-lite-v1:0"
CACHED: tuple[ComputedValue[Any], ...] = (
    queue_stats.totals,
    queue_stats.finished_runs,
    queue_stats.workers,
)
STATS = "certification-queue/stats"


@pytest.fixture(autouse=True)
def _no_cached_values(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)  # no worker belongs to these tests
    for value in CACHED:
        value.forget()
    yield
    for value in CACHED:
        value.forget()


HISTORY = 1000


TABLES = {m._meta.db_table for m in (CertificationJob, CertificationRun, RunEvent, TestResult)}


def rows_read(function: Callable[[], Any]) -> int:
    """Count the rows of the history that the statements of a call read."""
    plans: list[dict[str, Any]] = []

    def explain(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if str(sql).lstrip().upper().startswith("SELECT"):
            with connection.cursor().cursor as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                plans.append(cursor.fetchone()[0][0]["Plan"])
        return execute(sql, params, many, context)

    def scanned(plan: dict[str, Any]) -> int:
        below = sum(scanned(child) for child in plan.get("Plans", []))
        if plan.get("Relation Name") not in TABLES:
            return below
        per_loop = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        return below + int(per_loop * plan["Actual Loops"])

    with connection.cursor() as cursor:
        # Else the planner goes by what autovacuum last saw: rows of some earlier test.
        cursor.execute("ANALYZE certification_certificationrun, certification_certificationjob")
        cursor.execute("SET LOCAL enable_seqscan = off")  # as on a table of a million rows
    with connection.execute_wrapper(explain):
        function()
    for plan in plans:
        if scanned(plan) > HISTORY / 10:
            print(json.dumps(plan, indent=1))
    return sum(scanned(plan) for plan in plans)


@pytest.fixture
def history(catalogue: None) -> None:
    """HISTORY runs that ended an hour ago, and two that wait."""
    model = AIModel.objects.get(api_model_id=NOVA)
    run = CertificationRun.objects.get(pk=certify(model, "us-east-1").pk)
    past = timezone.now() - timedelta(hours=1)
    fields = {field.attname: getattr(run, field.attname) for field in run._meta.concrete_fields}
    fields |= {"started_at": past, "completed_at": past}
    CertificationRun.objects.bulk_create(
        CertificationRun(**fields | {"id": uuid.uuid4()}) for _ in range(HISTORY - 1)
    )
    start_job([model], ["us-west-2", "eu-west-1"])


def test_systemd_hears_of_a_worker_for_as_long_as_it_takes_messages(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    settings.NOTIFY_SOCKET, settings.WATCHDOG_SECONDS = str(tmp_path / "notify"), 0.02
    answers = iter([(200, {}), (503, {"message": "silent"}), (200, {})])

    def liveness() -> tuple[int, dict[str, str]]:
        try:
            return next(answers)
        except StopIteration:
            raise SystemExit from None

    monkeypatch.setattr(worker_health, "liveness", liveness)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(settings.NOTIFY_SOCKET)
        systemd.settimeout(60)
        with pytest.raises(SystemExit):
            worker_health.feed_watchdog()
        assert [systemd.recv(100), systemd.recv(100)] == [b"WATCHDOG=1"] * 2
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
    service_manager.notify("READY=1")  # nobody listens any more


@pytest.mark.django_db
@pytest.mark.usefixtures("history")
def test_figures_do_not_scan_the_history() -> None:
    queue_stats.finished_runs.forget()
    assert rows_read(worker_health.queue_figures) < HISTORY / 2


@pytest.mark.django_db
@pytest.mark.usefixtures("history")
def test_a_scrape_does_not_scan_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    later = clock.now() + timedelta(days=3)  # rules look at the last day
    monkeypatch.setattr(clock, "now", lambda: later)
    assert rows_read(metrics.render) < HISTORY / 2
    assert rows_read(alerts.run_round) < HISTORY / 2


@pytest.mark.django_db
@pytest.mark.usefixtures("history")
def test_a_worker_and_the_api_count_alike(viewer: User) -> None:
    ours = worker_health.queue_figures()
    theirs = Api(viewer).get(STATS)["queue"]["queue"]
    assert {name: ours[name] for name in theirs} == theirs
    assert theirs["completed"] == HISTORY
    assert theirs["waiting"] + theirs["delayed"] == 2


@pytest.fixture
def address(
    emulator: str, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setattr(consumer, "loop", consumer.Loop())
    consumer.loop.turned()
    server = worker_health.serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def fetch(url: str, accept: str = "application/json") -> tuple[int, str, str]:
    """Return status, content type and text of a page."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with closing(urllib.request.urlopen(request, timeout=10)) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except HTTPError as error:
        with closing(error):
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_pages_are_json(address: str) -> None:
    status, content_type, text = fetch(f"{address}/metrics?x=1")
    assert (status, content_type) == (200, "application/json")
    body = json.loads(text)
    assert (body["status"], body["checks"]) == (
        "healthy",
        {"broker": "ok", "database": "ok", "consumer": "ok"},
    )
    assert body["worker"]["isRunning"] is True
    assert body["queue"].keys() == {
        "waiting", "active", "completed", "failed", "delayed", "paused", "queuedMessages",
    }  # fmt: skip
    assert "queue" not in json.loads(fetch(f"{address}/health")[2])
    assert json.loads(fetch(f"{address}/ready")[2])["status"] == "ready"
    assert json.loads(fetch(f"{address}/live")[2]) == {"status": "ok"}
    assert fetch(f"{address}/elsewhere")[0] == 404


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_prometheus_gets_text(address: str, accept: str) -> None:
    status, content_type, text = fetch(f"{address}/metrics", accept)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["queue_waiting"] == values["worker_active_runs"] == "0.0"
    assert {"queue_messages", 'certification_runs{state="completed"}'} <= values.keys()


def test_without_a_broker_only_live_is_well(address: str, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert fetch(f"{address}/live")[0] == 200
    for page in ("health", "ready", "metrics"):
        assert fetch(f"{address}/{page}")[0] == 503
    assert json.loads(fetch(f"{address}/ready")[2])["checks"]["broker"].startswith("error:")


@pytest.fixture
def redis_with(settings: Any) -> Iterator[Callable[[str, object], None]]:
    """Change settings of Redis for the test."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    before: dict[str, Any] = {}

    def change(name: str, value: object) -> None:
        before[name] = client.config_get(name)[name]
        client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)
    client.replicaof("NO", "ONE")


def test_a_full_redis_is_named(address: str, redis_with: Callable[[str, object], None]) -> None:
    redis_with("maxmemory", 1)
    status, _type, text = fetch(f"{address}/health")
    assert (status, json.loads(text)["checks"]["broker"]) == (
        503,
        "error: redis is full: it has reached its maxmemory",
    )


def test_a_read_only_redis_is_named(
    address: str, redis_with: Callable[[str, object], None], settings: Any
) -> None:
    redis.Redis.from_url(settings.REDIS_URL).replicaof("127.0.0.1", "9")
    checks = json.loads(fetch(f"{address}/health")[2])["checks"]
    assert checks["broker"] == "error: redis is a read-only replica"


def test_a_database_that_fails_or_hangs_is_told_within_a_second(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _broker, database = worker_health.CHECKS

    def fails() -> str:
        raise OperationalError("gone")

    monkeypatch.setattr(database, "read", fails)
    status, _type, text = fetch(f"{address}/health")
    assert (status, json.loads(text)["checks"]["database"]) == (503, "error: OperationalError")
    over, calls = threading.Event(), []

    def hangs() -> str:
        calls.append(1)
        over.wait(60)
        return ""

    monkeypatch.setattr(database, "read", hangs)
    for page in ("health", "ready", "metrics"):
        status, _type, text = fetch(f"{address}/{page}")
        checks = json.loads(text)["checks"]
        assert (status, checks["database"]) == (503, "error: no answer within 1 s")
        assert checks["broker"] == "ok"
    over.set()
    assert len(calls) == 1  # a thread for each question would be many in an hour


def test_a_worker_whose_loop_stands_still_is_not_healthy(address: str) -> None:
    consumer.loop.stopped()
    status, _type, text = fetch(f"{address}/health")
    assert (status, json.loads(text)["checks"]["consumer"]) == (
        503,
        "error: the worker takes no messages",
    )


def test_a_worker_that_asks_for_nothing_is_not_alive(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop turns: after an outage of the broker, Celery's has been seen to ask no more."""
    loop = consumer.Loop()
    monkeypatch.setattr(consumer, "loop", loop)
    is_full = False
    qos = SimpleNamespace(can_consume=lambda: not is_full)
    loop.channel = SimpleNamespace(qos=qos, _brpop_sent_at=time.monotonic() - 61)
    loop._polled_at -= 61
    loop.turned()
    status, _type, text = fetch(f"{address}/live")
    assert (status, loop.is_turning) == (503, True)
    assert "has not asked the broker for messages for 61 s" in json.loads(text)["message"]
    is_full = True  # a worker that has all the runs it may have needs no more
    loop.turned()
    assert fetch(f"{address}/live")[0] == 200


def test_a_worker_is_not_replaced_for_a_broker_that_is_away(
    address: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    loop = consumer.Loop()
    monkeypatch.setattr(consumer, "loop", loop)
    loop._polled_at -= 300
    right, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:9/0"
    assert fetch(f"{address}/live")[0] == 200
    settings.REDIS_URL = right  # and it has a minute from then on
    assert fetch(f"{address}/live")[0] == 200


def test_a_second_worker_takes_the_next_port_and_says_so(
    address: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WORKER_HEALTH_PORT = first = int(address.rsplit(":", 1)[1])
    server = signals.serve_health()
    assert server is not None
    port = get_worker().health_port
    assert port is not None
    assert first < port < first + signals.MAX_PORTS
    body = json.loads(fetch(f"http://127.0.0.1:{port}/health")[2])
    assert body["worker"]["healthPort"] == port
    assert f"{port}" in caplog.text
    server.shutdown()
    server.server_close()


def test_a_worker_that_drains_is_not_ready(address: str) -> None:
    get_worker().draining.set()
    assert fetch(f"{address}/ready")[0] == 503
    assert json.loads(fetch(f"{address}/health")[2])["worker"]["isRunning"] is False


def test_a_worker_whose_settings_cannot_work_says_so_and_ends(settings: Any) -> None:
    settings.CERTIFICATION_CONCURRENCY = 0
    with pytest.raises(SystemExit, match="CERTIFICATION_CONCURRENCY must be at least 1"):
        signals.check_settings()
    settings.CERTIFICATION_CONCURRENCY = 1
    signals.check_settings()
