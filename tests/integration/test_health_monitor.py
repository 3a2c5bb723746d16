"""`manage.py health_monitor`: what it prints, whom it alerts, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from certification.lib import safe_http
from certification.lib.safe_http import ReceiverUnreachable
from certification.management.commands import health_monitor
from certification.models import WebhookSubscription
from certification.monitoring import channels, checks, site_health
from tests.sleeping import replace_sleep

pytestmark = pytest.mark.django_db
WELL = {"database": "ok", "redis": "ok", "web": "ok"}
AWAY = WELL | {"redis": "error: ConnectionError"}
LATE = WELL | {"redis": checks.OVERDUE}
HOOK = "https://hooks.example/services/canary-path"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the monitor see these states, one after the other, until Ctrl-C."""

    def are(*states: dict[str, str]) -> None:
        rest: Iterator[dict[str, str]] = iter(states)
        count = iter(range(len(states) - 1))

        def sleep(_seconds: float) -> None:
            if next(count, None) is None:
                raise KeyboardInterrupt

        monkeypatch.setattr(health_monitor, "read_states", lambda _web: next(rest))
        replace_sleep(monkeypatch, sleep)

    return are


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        call_command("health_monitor", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_only_changes_are_printed_after_the_first_look(
    capsys: pytest.CaptureFixture[str], looks: Callable[..., None]
) -> None:
    looks(WELL, WELL, AWAY, AWAY, WELL)
    code, output, _errors = run(capsys)
    assert code == 0
    assert [line.split(None, 1)[1] for line in output.strip().splitlines()[-2:]] == [
        "redis: ok -> error: ConnectionError",
        "redis: error: ConnectionError -> ok",
    ]
    assert output.count("database") == 1  # of the table


def test_its_exit_code_is_that_of_the_last_look(
    capsys: pytest.CaptureFixture[str], looks: Callable[..., None]
) -> None:
    looks(AWAY)
    code, output, _errors = run(capsys, "--once", "--json")
    [document] = [json.loads(line) for line in output.splitlines()]
    assert (code, document["healthy"], document["checks"]) == (1, False, AWAY)
    looks(WELL)
    assert run(capsys, "--once")[0] == 0
    looks(WELL, AWAY)
    assert run(capsys)[0] == 1
    looks(WELL, AWAY)
    _code, output, _errors = run(capsys, "--json")
    assert json.loads(output.splitlines()[1])["changed"] == {
        "redis": {"from": "ok", "to": AWAY["redis"]}
    }


def test_it_alerts_from_here_when_two_looks_agree_though_the_database_is_away(
    capsys: pytest.CaptureFixture[str],
    looks: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    WebhookSubscription.objects.create(url=HOOK, events=["alert.raised"])
    WebhookSubscription.objects.create(url="https://x.example/", events=["job.completed"])
    sent: list[dict[str, Any]] = []

    def post(url: str, body: bytes, headers: dict[str, str]) -> safe_http.ReceiverResponse:
        assert url == HOOK
        assert headers["X-MyIA-Signature"].startswith("v1=")
        sent.append(json.loads(body)["data"]["alert"])
        return safe_http.ReceiverResponse(204, "")

    monkeypatch.setattr(safe_http, "post", post)
    looks(WELL, AWAY, WELL, AWAY, AWAY, AWAY, WELL, WELL)
    _code, output, errors = run(capsys, "--alert")
    assert [(alert["severity"], alert["message"]) for alert in sent] == [
        ("critical", "redis: error: ConnectionError"),
        ("info", "All is well."),
    ]
    assert errors.count("hooks.example: sent") == 2
    assert "canary-path" not in output + errors

    def away(*_args: Any, **_options: Any) -> None:
        raise OperationalError("away")

    def refuses(*_args: Any) -> None:
        raise ReceiverUnreachable("The receiver cannot be reached.")

    first = iter([WebhookSubscription.objects.filter])

    def read_once(**options: Any) -> Any:
        return next(first, away)(**options)

    monkeypatch.setattr(WebhookSubscription.objects, "filter", read_once)
    monkeypatch.setattr(safe_http, "post", refuses)
    looks(WELL, AWAY, AWAY)
    assert "hooks.example: The receiver cannot be reached." in run(capsys, "--alert")[2]


def test_what_is_late_when_the_monitor_starts_is_asked_once_more(
    capsys: pytest.CaptureFixture[str], looks: Callable[..., None]
) -> None:
    looks(LATE, WELL)
    assert run(capsys, "--once")[0] == 0


def test_without_a_receiver_it_says_that_nothing_was_sent(
    capsys: pytest.CaptureFixture[str], looks: Callable[..., None]
) -> None:
    looks(AWAY, AWAY)
    assert "Nobody is to be notified" in run(capsys, "--alert")[2]


def test_it_writes_to_the_channels_of_the_settings(
    capsys: pytest.CaptureFixture[str],
    looks: Callable[..., None],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.ALERT_SECRET_URLS = {
        "": ["json://hooks.example/canary-path"],
        "CRITICAL": ["json://phone.example/x"],
        "L2": ["json://later.example/x"],
    }
    sent = []

    def attempt(channel: channels.Channel, _title: str, body: str) -> str:
        sent.append((channel.host, body))
        return ""

    monkeypatch.setattr(channels, "attempt", attempt)
    looks(AWAY, AWAY, WELL, WELL)
    errors = run(capsys, "--alert")[2]
    fault = "redis: error: ConnectionError"
    assert sent == [
        ("hooks.example", fault), ("phone.example", fault), ("hooks.example", "All is well."),
    ]  # fmt: skip
    assert "canary-path" not in errors


def test_it_asks_the_web_server_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {"database": "ok", "storage": "error: \x1b[31m3% of the disk is free"}
    monkeypatch.setattr(site_health.everything, "compute", lambda: states)
    code, output, _errors = run(capsys, "--once", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "It does not answer" in output
    assert "\x1b" not in output
    site_health.everything.forget()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--interval", "0.5"),
        ("--interval", "nan"),
        ("--url", "ftp://x"),
        ("--url", "http://user:hunter22@x/"),
        ("--url", "http://x:99999"),
        ("--url", "http://x/?token=hunter22"),
    ],
)
def test_a_bad_option_is_a_sentence_without_the_value(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as refusal:
        call_command("health_monitor", "--once", *arguments)
    assert refusal.value.returncode == 2
    assert "hunter22" not in str(refusal.value)
