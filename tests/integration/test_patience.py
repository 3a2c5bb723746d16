"""How long a web process waits for PostgreSQL."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection as django_connection

from certification.lib.database import returning_connection
from certification.lib.postgresql import patience
from certification.lib.postgresql.patience import PatientConnection


@pytest.fixture
def connection(servers: None) -> Iterator[PatientConnection]:
    with PatientConnection.connect(settings.DATABASE_URL) as connection, patience.limited():
        yield connection


def test_a_statement_that_takes_long_is_waited_for_while_the_server_greets(
    connection: PatientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STATEMENT_S", 0.1)
    assert connection.execute("SELECT pg_sleep(0.5), 1").fetchone() == ("", 1)


def test_a_statement_is_given_up_when_the_server_does_not_greet(
    connection: PatientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STATEMENT_S", 0.1)
    monkeypatch.setattr(patience, "greeting", patience.Greeting())
    monkeypatch.setattr(patience, "greets", lambda _host, _port: False)
    with pytest.raises(psycopg.OperationalError, match="the database server does not answer"):
        connection.execute("SELECT pg_sleep(30)")
    assert connection.closed


def test_a_statement_ends_at_last(servers: None) -> None:
    with (
        PatientConnection.connect(settings.DATABASE_URL) as connection,
        patience.limited(longest_s=0.2),
        pytest.raises(psycopg.OperationalError, match=r"took longer than 0\.2 s"),
    ):
        connection.execute("SELECT pg_sleep(30)")
    assert connection.closed


def test_without_a_limit_a_statement_is_waited_for(
    servers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_STATEMENT_S", 0.1)
    with PatientConnection.connect(settings.DATABASE_URL) as connection:
        assert connection.execute("SELECT pg_sleep(0.5), 1").fetchone() == ("", 1)


@pytest.mark.django_db(transaction=True)
def test_connections_that_broke_together_are_replaced_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = threading.Barrier(4)

    def use() -> None:
        with returning_connection(), django_connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            together.wait()

    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(use) for _ in range(4)]:
            future.result()
    django_connection.close()
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid <> pg_backend_pid()"
        )
    # the pool's pause before it looks at its next connection
    monkeypatch.setattr("psycopg_pool.pool.sleep", lambda _s: pytest.fail("one by one"))
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)


def test_who_listens_and_says_nothing_does_not_greet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "GREETING_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not patience.greets("127.0.0.1", silent.getsockname()[1])
    assert not patience.greets(str(tmp_path), 5432)
    host = settings.DATABASES["default"]["HOST"]
    assert patience.greets(host, 5432)
