"""What probes, load balancers and Prometheus are told."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families

from certification.api import health
from certification.engine import calls
from certification.inference import Failure, Operation, Reply, Timing
from certification.lib import clock, counters, probes, process_counts, redis_client
from certification.lib.counters import Counters
from certification.lib.redis_client import Purpose
from certification.models import AIModel, CertificationRun, RoutineMark, RunTotal, run_totals
from certification.monitoring import machine, queue_stats, site_health
from certification.monitoring.bedrock_status import BedrockStatus, bedrock_status
from certification.reasons import Reason, Status
from tests.factories import certify, finish, start_job
from tests.paths import PROJECT
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
NOVA = "amazon.nova-lite-v1:0"


@pytest.fixture(autouse=True)
def _nothing_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    shared = (site_health.everything, site_health.servers, site_health.readiness)
    for each in (*shared, queue_stats.workers, queue_stats.finished_runs, bedrock_status):
        each.forget()
    counters.counters.flush()
    redis_client.client(Purpose.COUNTERS).delete(counters.KEY)
    yield
    for each in (queue_stats.workers, queue_stats.finished_runs, bedrock_status):
        each.forget()


def test_live_asks_nobody(client: Client, django_assert_num_queries: Any, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    with django_assert_num_queries(0):
        assert client.get("/live").json() == {"status": "ok"}
    assert client.post("/live").status_code == 405


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/api/health", "/metrics"])
def test_a_probe_needs_neither_tls_nor_a_name_of_ours(
    client: Client, settings: Any, path: str
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["certification.example.org", probes.HOST]
    by_address = client.get(path, headers={"host": "10.1.2.3:3001"})
    assert by_address.status_code == client.get(path, secure=True).status_code
    assert by_address.status_code in (200, 503)
    by_name = client.get("/login/", headers={"host": "certification.example.org"})
    assert by_name.status_code == 301
    assert client.get("/login/", headers={"host": "10.1.2.3:3001"}).status_code == 400


def test_an_installation_that_works_is_healthy(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_stats.workers, "compute", lambda: 1)
    status = BedrockStatus("emulator", "us-east-1", True, True, 3)
    monkeypatch.setattr(bedrock_status, "compute", lambda: status)
    monkeypatch.setattr(site_health, "MIN_FREE_SHARE", 0.0)
    for name in site_health.MAX_AGES:
        RoutineMark.record(name)
    answer = client.get("/health")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "healthy"), body
    assert body["checks"] == {
        "database": "ok", "redis": "ok", "worker": "ok", "beat": "ok", "alerts": "ok",
        "storage": "ok", "bedrock": "ok (emulator)",
    }  # fmt: skip
    assert answer["Cache-Control"] == "no-store"
    assert client.get("/ready").json()["status"] == "ready"


def test_what_is_down_is_named(client: Client, settings: Any) -> None:
    late = clock.now() - timedelta(minutes=4)
    RoutineMark.objects.create(name="reconcile", ended_at=late)
    answer = client.get("/health")
    states = answer.json()["checks"]
    assert answer.status_code == 503
    assert states["worker"] == "error: no worker answers"
    assert states["beat"].startswith("error: the routine reconcile ended 24")
    assert states["alerts"] == "error: the routine alerts has never ended"
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    site_health.readiness.forget()
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()["checks"]["redis"]) == (503, "error: ConnectionError")


def test_a_database_that_hangs_is_cut_and_asked_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, begun = threading.Event(), []

    def hangs() -> str:
        begun.append(1)
        over.wait(30)
        return ""

    monkeypatch.setattr(site_health.DATABASE, "read", hangs)
    for _ in range(3):
        answer = client.get("/api/health")
        assert answer.status_code == 503
        assert answer.json()["database"] == "disconnected"
    over.set()
    assert len(begun) == 1


def test_the_api_says_how_its_process_is(client: Client) -> None:
    body = client.get("/api/health").json()
    assert (body["status"], body["database"]) == ("ok", "connected")
    assert body["memoryMb"] > 10
    assert body["uptime"] > 0


def test_missing_migrations_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "django.db.migrations.executor.MigrationExecutor.migration_plan", lambda *_: [1]
    )
    assert "manage.py migrate" in site_health.Migrations().fault()


THROTTLES = "bedrock_throttles_total"


def samples(client: Client, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    counters.counters.flush()
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_not_by_path(client: Client) -> None:
    for _ in range(3):
        client.get("/live")
        client.get(f"/nowhere/{uuid.uuid4()}")
    result = samples(client)
    labels = {"endpoint": "live", "method": "GET"}
    assert result["http_requests_total", frozenset({**labels, "status": "200"}.items())] == 3
    assert result["http_request_duration_seconds_count", frozenset(labels.items())] == 3
    endpoints = {dict(labels).get("endpoint") for _, labels in result}
    assert endpoints - {None} == {"live", "other"}


def test_the_status_of_each_pair_is_a_series(
    client: Client, catalogue: None, settings: Any
) -> None:
    nova = AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")
    certify(nova, "us-east-1")
    AIModel.objects.filter(pk=nova.pk).update(api_model_id='odd "name"\\')
    key = frozenset({"model": 'odd "name"\\', "region": "us-east-1"}.items())
    assert samples(client)["certification_status", key] == 1
    nova.certifications.update(expires_at="2020-01-01T00:00:00Z")
    assert samples(client)["certification_status", key] == 0
    settings.METRICS_CERTIFICATION_STATUS = False
    assert "certification_status" not in {name for name, _labels in samples(client)}


def test_a_process_counts_its_errors_and_whom_it_replaces(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PROCESS_NAME, settings.SUPERVISED_PROCESS = "worker", "worker"
    monkeypatch.setattr(process_counts, "counters", Counters())
    process_counts.begin()
    for replaces in (True, False):
        settings.SUPERVISED_REPLACES = replaces
        process_counts.begin()
    record = logging.LogRecord("x", logging.ERROR, "", 0, "it failed", (), None)
    process_counts.CountedErrors("worker").emit(record)
    process_counts.counters.flush()
    result, labels = samples(client), frozenset({("process", "worker")})
    assert result["process_restarts_total", labels] == 1
    assert result["log_errors_total", labels] == 1


def test_the_backlog_is_that_of_our_port(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as server:
        settings.PORT = server.getsockname()[1]
        assert machine.accept_backlog() == 0
        with socket.create_connection(server.getsockname()):
            wait_until(lambda: machine.accept_backlog() == 1, "it waits to be accepted")
    assert machine.accept_backlog() is None


def test_counters_add_up_over_processes_that_have_ended(client: Client) -> None:
    for _ in range(2):  # two processes, the first of which is gone
        process = Counters()
        for _ in range(5):
            process.add("http_requests_total", {"endpoint": "x", "method": "GET", "status": "200"})
        process.flush()
    key = frozenset({"endpoint": "x", "method": "GET", "status": "200"}.items())
    assert samples(client)["http_requests_total", key] == 10


PROCESSES = """
import os, django
django.setup()
from certification.lib.counters import counters
for _ in range(3):
    pid = os.fork()
    if not pid:
        for _ in range(5):
            counters.add("bedrock_throttles_total", {"region": "us-east-1"})
        raise SystemExit  # as gunicorn and Celery end a process
    os.waitpid(pid, 0)
"""


@pytest.mark.processes
def test_real_processes_that_end_at_once_lose_nothing(settings: Any) -> None:
    """They end long before the seconds after which they would write."""
    variables = {
        "DJANGO_SETTINGS_MODULE": "myia.settings",
        "DATABASE_URL": settings.DATABASE_URL,
        "REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": settings.SECRET_KEY,
    }
    command = [sys.executable, "-c", PROCESSES]
    subprocess.run(command, cwd=PROJECT, env=os.environ | variables, check=True, timeout=120)
    values = [value for series, value in counters.read() if series.name == THROTTLES]
    assert values == [15]


def test_counters_wait_for_a_redis_that_is_away(settings: Any) -> None:
    process = Counters()
    right, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:9/0"
    process.add("bedrock_throttles_total", {"region": "us-east-1"})
    process.flush()
    settings.REDIS_URL = right
    process._breaker.close()
    process.flush()
    assert [
        value for series, value in counters.read() if series.name == "bedrock_throttles_total"
    ] == [1]


def test_calls_of_models_are_counted(client: Client) -> None:
    reply = Reply((), "end_turn", None, Timing(1500.0, 300.0), Operation.STREAM)
    failure = Failure(Reason.THROTTLED_REQUESTS, "Slow down.", timing=Timing(20.0))
    for outcome in (reply, failure):
        calls.count_call("us-east-1", outcome)
    result = {name: value for (name, _), value in samples(client).items()}
    assert result["bedrock_throttles_total"] == 1
    buckets = samples(client)
    stream = {"region": "us-east-1", "operation": str(Operation.STREAM)}
    assert (
        buckets["bedrock_call_duration_seconds_bucket", frozenset({**stream, "le": "1"}.items())]
        == 0
    )
    assert (
        buckets["bedrock_call_duration_seconds_bucket", frozenset({**stream, "le": "2"}.items())]
        == 1
    )


def test_runs_are_counted_once_and_never_again(client: Client, catalogue: None) -> None:
    model = AIModel.objects.get(api_model_id=NOVA)
    run = certify(model, "us-east-1", cost_usd=0.25)
    past = clock.now() - timedelta(hours=1)
    fields = {field.attname: getattr(run, field.attname) for field in run._meta.concrete_fields}
    fields |= {"started_at": past - timedelta(seconds=10), "completed_at": past}
    CertificationRun.objects.bulk_create(
        CertificationRun(**fields | {"id": uuid.uuid4()}) for _ in range(50)
    )
    for _ in range(3):
        [total] = RunTotal.of_all_runs()
        assert (total["runs"], total["calls"]) == (51, 51 * run.calls)
        assert float(total["cost_usd"]) == 12.75
        assert 500 <= total["seconds"] < 600
        RunTotal.fold()
    assert RunTotal.objects.count() == 1
    with CaptureQueriesContext(
        connection,
    ) as queries:
        result = samples(client)
    [runs] = [value for (name, _), value in result.items() if name == "certification_runs_total"]
    assert runs == 51
    statements = [query["sql"] for query in queries if "certificationrun" in query["sql"]]
    assert all("completed_at" in sql or "'PENDING'" in sql for sql in statements), statements


def test_a_run_that_ends_is_counted_with_the_transaction_that_ends_it(catalogue: None) -> None:
    job = start_job([AIModel.objects.get(api_model_id=NOVA)], ["us-east-1", "us-west-2"])
    first, second = job.runs.all()
    with transaction.atomic():
        finish(first, Status.CERTIFIED)
        assert sum(row["runs"] for row in RunTotal.of_all_runs()) == 1
        transaction.set_rollback(True)
    assert RunTotal.of_all_runs() == []
    finish(second, Status.CERTIFIED)
    job.cancel()
    rows = {(row["status"], row["verdict"]): row["runs"] for row in RunTotal.of_all_runs()}
    assert rows == {("COMPLETED", "certified"): 1, ("CANCELLED", ""): 1}


def test_totals_that_nobody_folds_are_folded_by_who_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_totals, "MAX_ROWS", 3)
    kind = {"status": "COMPLETED", "tier": "quick", "backend": "aws"}
    RunTotal.objects.bulk_create(RunTotal(**kind, runs=1) for _ in range(4))
    assert [row["runs"] for row in RunTotal.of_all_runs()] == [4]
    assert [row["runs"] for row in RunTotal.of_all_runs()] == [4]
    assert RunTotal.objects.count() == 1


def test_only_some_may_read_the_metrics(client: Client, settings: Any) -> None:
    settings.METRICS_NETWORKS = ["10.0.0.0/8"]
    assert client.get("/metrics").status_code == 403
    settings.METRICS_TOKEN = "a-token"
    assert client.get("/metrics", headers={"Authorization": "Bearer other"}).status_code == 403
    assert samples(client, Authorization="Bearer a-token")
    settings.METRICS_NETWORKS = ["127.0.0.1/32"]
    assert samples(client)


def test_without_servers_metrics_say_so(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert samples(client)["redis_up", frozenset()] == 0

    def away() -> None:
        raise OperationalError

    monkeypatch.setattr(health.metrics, "run_metrics", away)
    assert client.get("/metrics").status_code == 503
