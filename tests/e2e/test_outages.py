"""What the web server and workers do while PostgreSQL or Redis is away, silent or full."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client

from certification.api import tokens
from certification.lib import redis_client
from certification.lib.redis_client import Purpose
from certification.models import ACTIVE, State, User
from certification.stack import embedded
from tests import pgbouncer, processes
from tests.e2e.test_reliability import (
    assert_in_order,
    finish,
    in_the_middle,
    reconciled_every_second,
    run_states,
    start,
)
from tests.processes import LiveStack, wait_until
from tests.sentinels import Replicated, broker
from tests.streams import Web

pytestmark = pytest.mark.processes


def frozen(name: str) -> AbstractContextManager[None]:
    """One of the servers, stopped for the block."""
    [server] = [s for s in embedded.status(django_settings.MYIA_ROOT) if s.name == name]
    return processes.frozen(server.pid)


def fetch(port: int, path: str, token: str, session: str) -> tuple[int, str]:
    """Status and body of a page of the web server, for somebody who is logged in."""
    http_connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"sessionid={session}"}
        http_connection.request("GET", path, headers=headers)
        response = http_connection.getresponse()
        return response.status, response.read().decode()
    finally:
        http_connection.close()


@pytest.fixture
def web(transactional_db: None, tmp_path: Path) -> Iterator[Web]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Web(port, tmp_path / "web.log", workers=1, BADGE_CACHE_SECONDS="60")
    yield server
    server.stop()
    embedded.ensure(django_settings.MYIA_ROOT, durable=False)
    connection.close()


def test_pages_say_that_the_database_is_away_and_come_back(
    web: Web, viewer: User, as_viewer: Client
) -> None:
    session = as_viewer.cookies["sessionid"].value
    token = tokens.issue(viewer)
    cached, other = "/badges/amazon.nova-lite-v1:0.svg", "/badges/amazon.nova-pro-v1:0.svg"
    paths = ["/api/auth/me", "/api/matrix", "/", "/matrix/", other]

    def get(path: str) -> tuple[int, str]:
        return fetch(web.port, path, token, session)

    assert get(cached)[0] == 200

    def answers() -> bool:
        return get("/api/auth/me")[0] == 200

    def assert_unavailable() -> None:
        for path in paths:
            status, body = get(path)
            assert status == 503, path
            assert "Traceback" not in body
        assert get(cached)[0] == 200

    assert answers()
    with frozen("postgres"):
        assert_unavailable()
    wait_until(answers, "the web server goes on after the freeze")
    [postgres] = [s for s in embedded.status(django_settings.MYIA_ROOT) if s.name == "postgres"]
    os.kill(postgres.pid or 0, signal.SIGQUIT)
    wait_until(
        lambda: not embedded.running(django_settings.MYIA_ROOT, redis=False), "PostgreSQL is away"
    )
    assert_unavailable()
    embedded.ensure(django_settings.MYIA_ROOT, durable=False)
    wait_until(answers, "the web server goes on after the restart")


def test_a_redis_that_takes_no_writes_is_waited_for(live_stack: LiveStack) -> None:
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    worker = live_stack.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    client.config_set("maxmemory", 1)
    try:
        wait_until(lambda: live_stack.events("broker_unavailable"), "the worker waits")
        time.sleep(2)
        assert worker.poll() is None
    finally:
        client.config_set("maxmemory", 0)
    wait_until(lambda: run_states(job)[State.COMPLETED] >= 3, "runs go on")
    client.replicaof("127.0.0.1", "9")
    try:
        time.sleep(3)
        assert worker.poll() is None
    finally:
        client.replicaof("NO", "ONE")
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
    assert set(job.runs.values_list("attempt", flat=True)) == {1}


def test_a_failover_of_redis_loses_nothing(
    live_stack: LiveStack, tmp_path: Path, settings: Any
) -> None:
    with Replicated(tmp_path / "replicated") as servers, broker(servers.url):
        settings.REDIS_URL = servers.url
        worker = live_stack.worker()
        job = start()
        wait_until(lambda: in_the_middle(job), "runs are at work")
        servers.master.kill()
        servers.master.wait()
        wait_until(
            lambda: servers.replication(servers.replica_port)["role"] == "master",
            "the replica is the master",
        )
        finish(job)
        assert job.status == State.COMPLETED
        assert worker.poll() is None
        assert_in_order(job, live_stack)
        # what limits calls and wakes followers is at the new master too
        assert redis_client.client(Purpose.LIMITS).ping()
        again = start(("amazon.nova-pro-v1:0",), ("us-east-1", "us-west-2"))
        again.refresh_from_db()
        assert again.status != State.PENDING  # its messages are out
        finish(again)
        assert again.status == State.COMPLETED


def test_sessions_that_change_with_each_transaction_lose_nothing(
    live_stack: LiveStack, tmp_path: Path
) -> None:
    """Workers and beat reach PostgreSQL through PgBouncer; one is killed, and beat has its runs
    taken up again.
    """
    if not pgbouncer.program():
        pytest.skip("there is no PgBouncer here (Debian: apt install pgbouncer)")
    live_stack.database_url = pgbouncer.start(live_stack, tmp_path / "pgbouncer")
    live_stack.pooler = "transaction"
    first = live_stack.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    first.kill()
    first.wait()
    with reconciled_every_second():
        live_stack.worker()
        live_stack.beat()
        wait_until(lambda: not job.runs.filter(status__in=ACTIVE).exists(), "the job is finished")
    job.refresh_from_db()
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
    faults = ("prepared statement", "cursor", "not owned by", "unsupported startup parameter")
    logs = "".join(log.read_text() for log in live_stack.logs.glob("*.log"))
    assert not [fault for fault in faults if fault in logs]


def test_a_second_beat_goes_on_when_the_first_one_is_killed(live_stack: LiveStack) -> None:
    def works(name: str) -> bool:
        return "beat_works" in (live_stack.logs / f"{name}.log").read_text()

    first = live_stack.beat("beat-1")
    wait_until(lambda: works("beat-1"), "the first beat works")
    live_stack.beat("beat-2")
    wait_until(
        lambda: "beat_waits" in (live_stack.logs / "beat-2.log").read_text(), "the second waits"
    )
    assert not works("beat-2")
    first.kill()
    first.wait()
    wait_until(lambda: works("beat-2"), "the second beat works")
