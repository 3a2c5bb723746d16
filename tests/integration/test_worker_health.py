"""The health pages of a worker, over a real socket."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError

import pytest
from django.db import connection
from django.utils import timezone

from certification.engine.worker import get_worker
from certification.lib.shared_cache import ComputedValue
from certification.models import AIModel, CertificationRun, User
from certification.monitoring import queue_stats, worker_health
from tests.api import Api
from tests.factories import certify, start_job

NOVA = "amazon.nova-lite-v1:0"
CACHED: tuple[ComputedValue[Any], ...] = (
    queue_stats.totals,
    queue_stats.finished_runs,
    queue_stats.history,
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


def rows_read(function: Callable[[], Any]) -> int:
    """Count the rows that the statements of a call read from tables and indexes."""
    plans: list[dict[str, Any]] = []

    def explain(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if str(sql).lstrip().upper().startswith("SELECT"):
            with connection.cursor().cursor as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                plans.append(cursor.fetchone()[0][0]["Plan"])
        return execute(sql, params, many, context)

    def scanned(plan: dict[str, Any]) -> int:
        below = sum(scanned(child) for child in plan.get("Plans", []))
        if "Scan" not in plan["Node Type"]:
            return below
        per_loop = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        return below + int(per_loop * plan["Actual Loops"])

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # as on a table of a million rows
    with connection.execute_wrapper(explain):
        function()
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


@pytest.mark.django_db
@pytest.mark.usefixtures("history")
def test_figures_do_not_scan_the_history() -> None:
    worker_health.queue_figures()  # counts the past once, for an hour
    queue_stats.finished_runs.forget()
    assert rows_read(worker_health.queue_figures) < HISTORY / 2


@pytest.mark.django_db
@pytest.mark.usefixtures("history")
def test_a_worker_and_the_api_count_alike(viewer: User) -> None:
    ours = worker_health.queue_figures()
    theirs = Api(viewer).get(STATS)["queue"]["queue"]
    assert {name: ours[name] for name in theirs} == theirs
    assert theirs["completed"] == HISTORY
    assert theirs["waiting"] + theirs["delayed"] == 2


@pytest.fixture
def address(emulator: str, transactional_db: None) -> Iterator[str]:
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
    assert (body["status"], body["checks"]) == ("healthy", {"broker": "ok"})
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


def test_a_worker_that_drains_is_not_ready(address: str) -> None:
    get_worker().draining.set()
    assert fetch(f"{address}/ready")[0] == 503
    assert json.loads(fetch(f"{address}/health")[2])["worker"]["isRunning"] is False
