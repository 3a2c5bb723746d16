"""Errors of the log are kept, the same ones in one row."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
import structlog
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse

from certification.lib import clock, error_log
from certification.lib.error_log import ErrorLog
from certification.models import ErrorGroup, User
from certification.models import errors as error_models
from certification.operations import retention
from myia import logs

pytestmark = pytest.mark.django_db


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> ErrorLog:
    """The handler as a worker has it, without its thread: tests write by themselves."""
    monkeypatch.setattr(ErrorLog, "flush_always", lambda self: None)
    handler = ErrorLog("worker-bulk")
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(**formatter()))
    return handler


def formatter() -> dict[str, Any]:
    configuration = logs.formatter(structlog.processors.JSONRenderer())
    return {key: value for key, value in configuration.items() if key != "()"}


def record(message: object, *args: object, error: Exception | None = None) -> logging.LogRecord:
    try:
        if error:
            raise error
    except Exception as raised:  # noqa: BLE001 - with its traceback
        info: Any = (type(raised), raised, raised.__traceback__)
    else:
        info = None
    return logging.LogRecord("certification.x", logging.ERROR, "", 0, message, args, info)


def test_the_same_error_is_one_row_that_counts(handler: ErrorLog) -> None:
    for number in range(3):
        handler.emit(record("Run %s broke", number, error=ValueError(f"no {number}")))
    handler.emit(record("Run %s broke", 1, error=KeyError("other")))
    assert handler.write_pending()
    handler.emit(record("Run %s broke", 7, error=ValueError("no 7")))
    assert handler.write_pending()
    assert ErrorGroup.objects.count() == 2
    group = ErrorGroup.objects.get(error="ValueError")
    assert (group.count, group.event, group.process) == (4, "Run %s broke", "worker-bulk")
    assert group.first_seen < group.last_seen
    assert group.example["event"] == "Run 7 broke"
    assert "no 7" in group.example["exception"]


def test_secrets_and_what_the_database_cannot_hold_are_no_part_of_it(handler: ErrorLog) -> None:
    logger = logging.getLogger("certification.test_error_groups")
    logger.addHandler(handler)
    try:
        structlog.get_logger(logger.name).error(
            "refused\0",
            password="hunter2-hunter2",
            text="a\0b \ud800 \\u0000",
            more={"c\0": ["\0"]},
        )
    finally:
        logger.removeHandler(handler)
    assert handler.write_pending()
    group = ErrorGroup.objects.get()
    assert group.event == "refused"
    assert "hunter2" not in str(group.example)
    assert (group.example["text"], group.example["more"]) == ("ab ? \\u0000", {"c": [""]})


def test_a_database_that_is_away_loses_no_error(
    handler: ErrorLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_reports: object) -> None:
        handler.emit(record("broke"))  # meanwhile it happens again
        raise DatabaseError("away")

    handler.emit(record("broke"))
    with monkeypatch.context() as patch:
        patch.setattr(ErrorLog, "writer", away)
        assert not handler.write_pending()
    assert handler.write_pending()
    assert ErrorGroup.objects.get().count == 2


def test_memory_is_bounded(handler: ErrorLog) -> None:
    for number in range(error_log.MAX_PENDING + 10):
        handler.emit(record(f"broke {number}"))
    handler.emit(record("broke 0"))
    assert handler.write_pending()
    assert ErrorGroup.objects.count() == error_log.MAX_PENDING
    assert ErrorGroup.objects.get(event="broke 0").count == 2


def test_the_oldest_ones_are_deleted(handler: ErrorLog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        handler.emit(record(f"broke {number}"))
    handler.write_pending()
    now = clock.now()
    for number in range(4):
        last_seen = now - timedelta(days=100 if number == 3 else number)
        ErrorGroup.objects.filter(event=f"broke {number}").update(last_seen=last_seen)
    monkeypatch.setattr(error_models, "MAX_GROUPS", 2)
    [errors] = [one for one in retention.RETENTION if one.name == "errors"]
    assert errors.count(errors.before()) == 2
    assert errors.batch(errors.before()) == 2
    assert set(ErrorGroup.objects.values_list("event", flat=True)) == {"broke 0", "broke 1"}


def test_only_servers_report_and_the_admin_shows_it_escaped(
    handler: ErrorLog, superuser_client: Client
) -> None:
    assert "errors" in logs.configuration("json", "INFO", process="worker-bulk")["handlers"]
    assert "errors" not in logs.configuration("json", "INFO", process="certify")["handlers"]
    handler.emit(record("<b>bold</b>", error=ValueError("<script>alert(1)</script>")))
    handler.write_pending()
    group = ErrorGroup.objects.get()
    pages = [
        superuser_client.get(reverse("admin:certification_errorgroup_changelist")),
        superuser_client.get(reverse("admin:certification_errorgroup_change", args=[group.pk])),
    ]
    for page in pages:
        assert page.status_code == 200
        assert b"<script>alert" not in page.content
        assert b"<b>bold" not in page.content
    assert b"ValueError: &lt;script&gt;" in pages[1].content


@pytest.fixture
def superuser_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.org", "a-long-test-password"))
    return client
