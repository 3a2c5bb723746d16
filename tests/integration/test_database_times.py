"""Times as they come from the database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import DataError, connection
from psycopg.pq import Format

from certification.lib.postgresql.times import UtcLoader

pytestmark = pytest.mark.django_db


def read(text: str) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [text])
        value: datetime = cursor.fetchone()[0]
    return value


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-30 19:52:05+00", datetime(2026, 11, 30, 19, 52, 5, tzinfo=UTC)),
        ("2026-11-30 19:52:05.1+00", datetime(2026, 11, 30, 19, 52, 5, 100_000, tzinfo=UTC)),
        ("2026-11-30 19:52:05.000001Z", datetime(2026, 11, 30, 19, 52, 5, 1, tzinfo=UTC)),
        ("2026-11-30 21:30:00-03:30", datetime(2026, 12, 1, 1, tzinfo=UTC)),
        ("0001-01-01 00:00:00+00", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31 23:59:59.999999+00", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_time_is_the_same_in_utc(text: str, time: datetime) -> None:
    assert read(text) == time
    assert read(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["infinity", "10000-01-01 00:00:00+00", "0044-03-15 12:00+00 BC"])
def test_one_that_python_has_not_is_an_error_of_data(text: str) -> None:
    with pytest.raises(DataError):
        read(text)


def test_the_connection_reads_times_this_way() -> None:
    connection.ensure_connection()
    loader = connection.connection.adapters.get_loader(1184, Format.TEXT)
    assert issubclass(loader, UtcLoader)
