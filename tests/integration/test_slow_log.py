"""Warnings of slow requests, slow queries and repeated ones."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from certification.lib import slow_log

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def repeating(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        for number in range(int(request.GET["times"])):
            cursor.execute("SELECT  %s\n AS repeated", [f"value-{number}"])
    return HttpResponse("done")


def failing(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [0.002])
    raise ValueError("a defect")


urlpatterns = [path("live/repeating", repeating), path("live/failing", failing)]


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    logged = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [line for line in logged if line.get("event") == event]


@pytest.fixture
def viewer_client(viewer: Any) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(viewer)
    return client


@pytest.fixture(autouse=True)
def limits(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.SLOW_REQUEST_MS = settings.SLOW_QUERY_MS = 3_600_000
    caplog.set_level(logging.INFO)


def test_a_query_that_is_repeated_is_named_without_values(
    viewer_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    viewer_client.get(f"/live/repeating?times={slow_log.MAX_REPEATS}")
    assert lines(caplog, "repeated_query") == []
    viewer_client.get(f"/live/repeating?times={slow_log.MAX_REPEATS + 1}")
    [line] = lines(caplog, "repeated_query")
    assert line["statement"] == "SELECT %s AS repeated"
    assert (line["count"], line["path"]) == (slow_log.MAX_REPEATS + 1, "/live/repeating")
    assert line["request_id"]
    finished = lines(caplog, "request_finished")[-1]
    assert finished["queries"] > slow_log.MAX_REPEATS
    assert finished["duration_ms"] >= 0


def test_a_slow_query_and_a_slow_request_are_warnings(
    viewer_client: Client, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.SLOW_REQUEST_MS = settings.SLOW_QUERY_MS = 1
    viewer_client.get("/live/failing")
    statements = [line["statement"] for line in lines(caplog, "slow_query")]
    assert "SELECT pg_sleep(%s)" in statements
    [line] = lines(caplog, "slow_request")
    assert (line["method"], line["path"], line["level"]) == ("GET", "/live/failing", "warning")
    assert line["duration_ms"] >= 2
    assert lines(caplog, "request_failed")[0]["duration_ms"] >= 2


def test_zero_switches_the_warnings_off(
    viewer_client: Client, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.SLOW_REQUEST_MS = settings.SLOW_QUERY_MS = 0
    viewer_client.get("/live/repeating?times=50")
    viewer_client.get("/live/failing")
    events = {record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)}
    assert not events & {"slow_query", "slow_request", "repeated_query"}
