"""The pool's connections are looked at before use, without a question to the server."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection

from certification.lib.postgresql.base import is_lost

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def idle() -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(**connection.get_connection_params(), autocommit=True)


def test_a_connection_that_the_server_ended_is_replaced(
    idle: psycopg.Connection[tuple[object, ...]],
) -> None:
    assert not is_lost(idle)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 1000)", [idle.info.backend_pid])
    assert is_lost(idle)
    assert idle.closed


def test_one_that_only_has_a_message_to_read_is_kept(
    idle: psycopg.Connection[tuple[object, ...]],
) -> None:
    idle.execute("LISTEN looked_at")
    with connection.cursor() as cursor:
        cursor.execute("NOTIFY looked_at")
    assert not is_lost(idle)
    assert not is_lost(idle)
    idle.close()
    assert is_lost(idle)


def test_a_request_never_gets_a_connection_that_ended() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    connection.close()  # back to the pool
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
