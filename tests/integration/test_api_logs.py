"""The log through the API: what operators read of our files, and what frontends send."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.test import Client

from certification.lib import shared_cache
from certification.models import User
from certification.monitoring import log_files
from tests.api import Api

pytestmark = pytest.mark.django_db

ID = "5f1e2b7a-0000-4000-8000-000000000001"


@pytest.fixture
def api(operator: User) -> Api:
    return Api(operator)


def line(minute: int, event: str, level: str = "info", **fields: Any) -> str:
    values = {"timestamp": f"2026-11-30T12:{minute:02}:00.000000Z", "level": level, "event": event}
    return json.dumps({**fields, **values}) + "\n"


@pytest.fixture
def write(settings: Any, tmp_path: Path) -> Callable[..., Path]:
    """Write a file of the installation's log folder; the later call has the later lines."""
    settings.LOG_DIR = ""
    settings.MYIA_DIR = tmp_path
    (tmp_path / "logs").mkdir()
    times = iter(range(1_700_000_000, 1_700_001_000))

    def file(name: str, *lines: str) -> Path:
        path = tmp_path / "logs" / name
        path.write_text("".join(lines))
        os.utime(path, (at := next(times), at))
        return path

    return file


def messages(answer: Any) -> list[str]:
    return [entry["message"] for entry in answer["logs"]]


def test_lines_of_all_processes_and_rotated_files_come_newest_first(
    api: Api, write: Callable[..., Path]
) -> None:
    write("web.log.1", line(1, "first"), line(4, "fourth"))
    write("worker.log", line(2, "second", logger="certification.engine.runner"))
    write("web.log", line(3, "third", "error", request_id=ID, code=500), "{half a li")
    answer = api.get("logs")
    assert messages(answer) == ["fourth", "third", "second", "first"]
    assert answer["pagination"] == {"page": 1, "limit": 20, "total": 4, "totalPages": 1}
    assert answer["complete"] is True
    assert answer["logs"][1] == {
        "timestamp": "2026-11-30T12:03:00Z",
        "level": "error",
        "message": "third",
        "requestId": ID,
        "logger": None,
        "source": "web",
        "metadata": {"code": 500},
    }
    assert messages(api.get("logs?limit=1&page=2")) == ["third"]
    assert messages(api.get("logs?sort=asc&limit=2")) == ["first", "second"]


def test_lines_are_found_by_level_time_request_and_text(
    api: Api, write: Callable[..., Path]
) -> None:
    write(
        "web.log",
        line(1, "request_finished", request_id=ID),
        line(2, "slow", "warning"),
        line(3, "broken", "error", request_id=ID, exception="Traceback: KeyError"),
    )
    expected = {
        "level=error": ["broken"],
        "level=WARN,error": ["broken", "slow"],
        f"requestId={ID}": ["broken", "request_finished"],
        "search=keyerror": ["broken"],
        "startDate=2026-11-30T12:02:00Z": ["broken", "slow"],
        "endDate=2026-11-30T12:01:30Z": ["request_finished"],
        "startDate=2026-12-01": [],
    }
    assert {query: messages(api.get(f"logs?{query}")) for query in expected} == expected
    assert messages(api.get(f"logs/{ID}")) == ["request_finished", "broken"]
    assert api.get("logs/errors/recent")["count"] == 1
    counts = {entry["level"]: entry["count"] for entry in api.get("logs/stats")["stats"]}
    assert counts == {"debug": 0, "info": 1, "warning": 1, "error": 1, "critical": 0}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("logs?level=loud", "query.level"),
        ("logs?limit=101", "query.limit"),
        ("logs?startDate=2026-12-02&endDate=2026-12-01", "query.endDate"),
        ("logs/stats?endDate=soon", "query.endDate"),
        ("logs/errors/recent?limit=0", "query.limit"),
        ("logs/a%20b", "path.requestId"),
        (f"logs/{'x' * 65}", "path.requestId"),
    ],
)
def test_a_bad_question_is_refused_with_its_place(
    api: Api, write: Callable[..., Path], path: str, place: str
) -> None:
    refusal = api.get(path, status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [place]


def test_secrets_and_what_acts_on_a_terminal_are_not_shown(
    api: Api, write: Callable[..., Path]
) -> None:
    write(
        "web.log",
        line(1, "login \x1b[31mpassword=hunter22", token="eyJabc.eyJdef.x", user="ana"),
        line(2, "x", nested={"aws_secret_access_key": "hunter22"}),
        line(3, "postgres://myia:hunter22@db is away", args=["Authorization: Bearer hunter22"]),
    )
    api.get("logs")
    shown = api.response.content.decode()
    assert "hunter22" not in shown
    assert "eyJabc" not in shown
    assert "u001b" not in shown
    assert '"user":"ana"' in shown


def test_any_line_of_any_shape_is_survived(api: Api, write: Callable[..., Path]) -> None:
    odd = [
        "{}",
        "[]",
        '{"timestamp": 5, "level": "info"}',
        '{"timestamp": "2026-11-30T12:00:00Z", "level": ["info"]}',
        '{"timestamp": "0001-01-01T00:00:00+14:00", "level": "info", "event": {"a": [1]}}',
        '{"timestamp": "2026-11-30T12:00:00", "level": "info", "event": null, "request_id": 7}',
        '{"timestamp": "2026-11-30T12:00:00Z", "level": "info", "event": "\\ud800\\u0000"}',
        '{"a":' * 20_000,
        '{"n":' + "9" * 5000 + "}",
        "\x00\xff",
        "Booting worker with pid: 12",
    ]
    write("web.log", *(f"{text}\n" for text in odd))
    answer = api.get("logs?sort=asc")
    assert answer["pagination"]["total"] == 3
    assert api.get("logs?level=info&search=a&endDate=2026-12-01")


def test_only_the_newest_lines_are_searched_and_the_answer_says_so(
    api: Api, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("web.log.1", *(line(m, f"old {m}") for m in range(10)))
    newest = write("web.log", *(line(m, f"new {m}") for m in range(10, 20)))
    monkeypatch.setattr(log_files, "MAX_READ", newest.stat().st_size + 150)
    answer = api.get("logs?limit=100")
    assert answer["complete"] is False
    assert messages(answer) == [f"new {m}" for m in range(19, 9, -1)] + ["old 9"]


def test_a_file_that_is_renamed_meanwhile_is_read_once(
    api: Api, write: Callable[..., Path]
) -> None:
    web = write("web.log", line(1, "only"))
    os.link(web, web.with_name("web.log.1"))
    assert messages(api.get("logs")) == ["only"]


def test_the_log_folder_that_was_chosen_is_read(api: Api, settings: Any, tmp_path: Path) -> None:
    settings.LOG_DIR = str(tmp_path)
    assert api.get("logs")["logs"] == []
    (tmp_path / "combined.log").write_text(line(1, "all"))
    (tmp_path / "error.log").write_text(line(1, "twice", "error"))
    (tmp_path / "combined.log.2").mkdir()
    assert messages(api.get("logs")) == ["all"]


def test_a_viewer_reads_no_log(viewer: User) -> None:
    for path in ("logs", "logs/stats", "logs/errors/recent", f"logs/{ID}"):
        Api(viewer).get(path, status=403)


LINE = {
    "timestamp": "2026-11-30T12:00:00.000Z",
    "level": "debug",
    "message": "Token added to request header",
    "component": "certificationApi",
    "url": "/stats",
}


def test_a_line_of_a_frontend_is_one_debug_line_and_no_other(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    api = Api(credential="expired")
    with structlog.testing.capture_logs() as logged:
        assert api.post("logs", LINE, status=204) is None
    [entry] = logged
    assert (entry["log_level"], entry["message"]) == ("debug", LINE["message"])
    assert json.loads(entry["context"])["component"] == "certificationApi"
    assert caplog.records == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 204),
        ({"level": "error", "message": "x" * 9000, "context": {"a": [1]}}, 204),
        ({"message": "\x1b[31m\u202e\n"}, 204),
        ({"message": {"a": 1}}, 400),
        ("[]", 400),
        ("{", 400),
        ({"message": "x" * 70_000}, 413),
    ],
)
def test_a_line_is_bounded_and_a_refused_one_is_not_logged_either(
    body: Any, status: int, caplog: Any
) -> None:
    with structlog.testing.capture_logs() as logged:
        Api().post("logs", body, status=status)
    assert len(logged) == (status == 204)
    assert all(len(json.dumps(entry)) < 4000 for entry in logged)
    assert caplog.records == []


def test_lines_are_limited_per_address(settings: Any, viewer: User, caplog: Any) -> None:
    shared_cache.client().flushall()
    settings.API_RATES = {**settings.API_RATES, "log": 2}
    for api in (Api(), Api(viewer)):
        api.post("logs", LINE, status=204)
    assert Api().post("logs", LINE, status=429)["errorCode"] == "throttled"
    assert caplog.records == []
    other = Client(REMOTE_ADDR="192.0.2.7")
    assert other.post("/api/logs", LINE, "application/json").status_code == 204
