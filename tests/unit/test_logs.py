"""What a log line may say."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from certification.lib import redaction
from myia import logs


def logged(**fields: Any) -> dict[str, Any]:
    return dict(logs.redact(None, "info", dict(fields)))


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "new_password",
        "SECRET_KEY",
        "Authorization",
        "api_key",
        "apiKey",
        "aws_access_key_id",
        "session_token",
        "csrfmiddlewaretoken",
        "AWS_BEARER_TOKEN_BEDROCK",
        "tokens",
        "set-cookie",
        "credentials",
        "X-Api-Key",
        "private-key",
        "basic_auth",
        "passphrase",
    ],
)
def test_secrets_are_hidden(key: str) -> None:
    assert logged(**{key: "abc123"}) == {key: redaction.HIDDEN}
    assert logged(request={"headers": [{key: "abc123"}]}) == {
        "request": {"headers": [{key: redaction.HIDDEN}]}
    }


def test_a_password_of_digits_is_hidden_too() -> None:
    assert logged(password=123456) == {"password": redaction.HIDDEN}


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens_per_second": 41.5},
        {"max_tokens": 64},
        {"maxTokens": 64},
        {"input_tokens": 7},
        {"reserved_tokens": 900},
        {"tokens_in": None},
        {"token_price": Decimal("0.25")},
        {"usage": {"tokens": {"input": 5, "output": 7}}},
        {"has_password": False},
        {"key": "G01", "reason": "credentials_invalid"},
    ],
)
def test_what_is_counted_is_no_secret(fields: dict[str, Any]) -> None:
    assert logged(**fields) == fields


def test_account_ids_are_hidden_in_arns_only() -> None:
    entry = logged(event="x", arn="arn:aws:iam::123456789012:user/me", run="123456789012")
    assert entry == {
        "event": "x",
        "arn": "arn:aws:iam::************:user/me",
        "run": "123456789012",
    }


@pytest.mark.parametrize(
    "credential",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiIxIn0.c2ln-_",
        "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiIxIn0",
        "myia_" + "aB3-_" * 9,
    ],
)
def test_our_credentials_are_hidden_wherever_they_are(credential: str) -> None:
    entry = logged(
        event=f"Invalid HTTP request line: 'GET /events?TOKEN={credential}&x=1 HTTP/9'",
        request=[credential],
    )
    assert entry == {
        "event": f"Invalid HTTP request line: 'GET /events?TOKEN={redaction.HIDDEN}&x=1 HTTP/9'",
        "request": [redaction.HIDDEN],
    }
    assert logged(event=f"/login/?next=/%3Ftoken%3D{credential}") == {
        "event": f"/login/?next=/%3Ftoken%3D{redaction.HIDDEN}"
    }
    assert logged(event="myia_certification started") == {"event": "myia_certification started"}


@pytest.mark.parametrize(
    "text",
    [
        "postgres://myia:{}@db/myia does not answer",
        "redis://:{}@redis:6379/0 does not answer",
        "login failed: password={}",
        "{{'aws_secret_access_key': '{}'}}",
        'GET /x with "Authorization": "Bearer {}"',
        "sent Authorization: Basic {}",
        "X-Amz-Security-Token={}&x=1",
        "api_key = {}",
        "the key AKIA{} is not active",
    ],
)
def test_what_is_shown_of_a_line_quotes_no_secret(text: str) -> None:
    secret = "Hunter2Hunter2Hunter2"
    shown = redaction.redact_quoted({"event": [text.format(secret)]})["event"][0]
    assert secret not in shown
    assert redaction.HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    ["max_tokens=64", "tokens: 12 in, 3 out", "token: null", "the password was wrong", "a b c"],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redaction.redact_quoted(text) == text


@pytest.mark.parametrize(
    "name", ["password", "old%5Fpassword", "API_KEY", "client_secret", "tokens"]
)
def test_secrets_in_an_address_are_hidden(name: str) -> None:
    entry = logged(request=f"GET /login/?a=1&{name}=hunter2%20x&next=/jobs/")
    assert entry == {"request": f"GET /login/?a=1&{name}={redaction.HIDDEN}&next=/jobs/"}


def write_lines(path: Path, writer: int, count: int) -> None:
    """Write numbered lines of up to 20,000 characters, as one process of several."""
    handler = logs.SharedLogFile(path)
    handler.max_bytes, handler.backups = 200_000, 50
    for number in range(count):
        text = f"{writer} {number} " + "x" * (20_000 if number % 50 == 0 else 200)
        handler.emit(logging.LogRecord("test", logging.INFO, "", 0, text, None, None))


def test_several_processes_rotate_one_file_and_lose_no_line(tmp_path: Path) -> None:
    path, children, count = tmp_path / "combined.log", [], 2000
    for writer in range(3):
        if not (child := os.fork()):
            try:
                write_lines(path, writer, count)
            finally:
                os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    files = [file for file in tmp_path.iterdir() if file.suffix != ".lock"]
    assert len(files) > 3
    lines = [line.split(" ") for file in files for line in file.read_text().splitlines()]
    assert sorted((int(w), int(n)) for w, n, _ in lines) == [
        (writer, number) for writer in range(3) for number in range(count)
    ]
    assert {len(text) for _, _, text in lines} == {200, 20_000}


def test_a_file_that_was_moved_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    handler = logs.SharedLogFile(path)
    for text in ("before", "after"):
        handler.emit(logging.LogRecord("test", logging.INFO, "", 0, text, None, None))
        if text == "before":
            path.rename(tmp_path / "moved")
    handler.close()
    assert ((tmp_path / "moved").read_text(), path.read_text()) == ("before\n", "after\n")


@pytest.mark.parametrize(
    ("request_line", "code", "is_written"),
    [("GET /live", 200, False), ("GET /health", 503, True), ("GET /jobs/", 200, True)],
)
def test_probes_that_found_all_well_leave_no_line(
    request_line: str, code: int, is_written: bool
) -> None:
    event = {"event": "request_finished", "request": request_line, "code": code}
    record = logging.makeLogRecord({"msg": event})
    assert logs.NoProbes().filter(record) is is_written


def test_levels_of_single_loggers(tmp_path: Path) -> None:
    levels = logs.parse_levels(["certification.engine = debug", "", "apprise=ERROR"])
    loggers = logs.configuration("json", "INFO", levels=levels)["loggers"]
    assert loggers["certification.engine"] == {"level": "DEBUG"}
    assert loggers["apprise"] == {**logs.LOGGERS["apprise"], "level": "ERROR"}
    assert loggers["certification"] == {"level": "INFO"}


@pytest.mark.parametrize("entry", ["certification", "=DEBUG", "certification=LOUD", "a=b=c"])
def test_an_invalid_level_is_named_with_what_is_expected(entry: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"LOG_LEVELS has .* Expected: <logger>=<level>"):
        logs.parse_levels([entry])


@pytest.fixture
def syslog_socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(30)
        yield listener


@pytest.mark.parametrize("prefix", ["", "udp://"])
def test_lines_are_sent_to_syslog(syslog_socket: socket.socket, prefix: str) -> None:
    host, port = syslog_socket.getsockname()
    options = logs.syslog_handler(f"{prefix}{host}:{port}")["syslog"]
    handler = logs.Syslog(options["address"])
    handler.emit(logging.LogRecord("a", logging.ERROR, "", 0, '{"event": "é"}', (), None))
    handler.close()
    priority = (logs.SysLogHandler.LOG_DAEMON << 3) | logs.SysLogHandler.LOG_ERR
    assert syslog_socket.recv(1000) == f'<{priority}>myia: {{"event": "é"}}\0'.encode()


def test_a_syslog_that_is_away_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logs.Syslog(str(tmp_path / "nothing"))
    for _ in range(2):
        handler.emit(logging.LogRecord("a", logging.ERROR, "", 0, "lost", (), None))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("LOG_SYSLOG: a line was not sent: ")


@pytest.mark.parametrize("address", ["localhost", "localhost:0", ":514", "tcp://x:y", "h:70000"])
def test_an_invalid_syslog_is_named_with_what_is_expected(address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="Expected: the path of a socket"):
        logs.syslog_handler(address)
