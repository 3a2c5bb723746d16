"""Who is notified of alerts, when, how often, and that addresses of channels stay secret."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import Client

from certification.lib import clock, counters
from certification.models import AlertChannel, AlertEpisode, AlertNotification, AlertSilence
from certification.monitoring import alert_rules, alerts, channels, notifications, prometheus_files
from certification.monitoring.alert_rules import CRITICAL, WARNING, Level, Rule
from certification.monitoring.channels import Channel
from myia.environment import Environment

pytestmark = pytest.mark.django_db
TOKEN = "tok3n-t0p-s3cret"


class Receiver(ThreadingHTTPServer):
    """A webhook that takes what Apprise sends; `status` is how it answers, by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.messages: list[tuple[str, str, str]] = []  # name, title, text
        self.status: dict[str, int] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"json://operator:{TOKEN}@127.0.0.1:{self.server_port}/{name}?+X-Key={TOKEN}"

    def take(self) -> list[tuple[str, str]]:
        """Return (name, title) of what came since the last time."""
        taken, self.messages = self.messages, []
        return [(name, title) for name, title, _text in taken]


class Page(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.strip("/").partition("?")[0]
        status = receiver.status.get(name, 200)
        if status == 200:
            receiver.messages.append((name, body["title"], body["message"]))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def the_receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


@pytest.fixture
def receiver(the_receiver: Receiver, settings: Any) -> Receiver:
    the_receiver.messages, the_receiver.status = [], {}
    url = the_receiver.url
    settings.ALERT_SECRET_URLS = {
        "": [url("all")],
        "CRITICAL": [url("pager")],
        "L2": [url("second")],
        "L3": [url("third")],
        "L4": [url("fourth")],
    }
    return the_receiver


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let minutes pass."""
    passed, now = [0.0], clock.now

    def later(minutes: float) -> None:
        passed[0] += minutes

    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(minutes=passed[0]))
    return later


values: dict[str, float] = {}
RULE = Rule(
    "queue_waiting",
    "{value} wait{subject}.",
    lambda _facts: dict(values),
    "queue_waiting",
    (Level(CRITICAL, 100), Level(WARNING, 10)),
    "manage.py queue show",
)


@pytest.fixture(autouse=True)
def _well() -> None:
    values.clear()


def run_round(*rules: Rule) -> None:
    """A round as beat has a worker do it."""
    alerts.run_round(rules or [RULE])
    notifications.deliver()


def test_who_is_notified_depends_on_the_severity(
    receiver: Receiver, wait: Callable[[float], None]
) -> None:
    values[""] = 50
    run_round()
    [(name, title, text)] = receiver.messages
    assert (name, title) == ("all", "MyIA: queue_waiting (warning)")
    assert text.startswith("WARNING queue_waiting: 50 runs wait for a worker.")
    assert "manage.py queue show" in text
    assert "/operations/runbooks/queue_waiting/" in text
    receiver.take()
    values[""] = 200
    for _ in range(3):
        run_round()
    critical = "MyIA: queue_waiting (critical)"
    assert receiver.take() == [("all", critical), ("pager", critical)]


def test_what_is_silenced_or_follows_from_another_alert_is_not_sent(receiver: Receiver) -> None:
    values[""] = 50
    until = clock.now() + timedelta(hours=1)
    AlertSilence.objects.create(rule="queue_waiting", reason="a sweep", until=until)
    run_round()
    AlertEpisode.objects.update(notified_at=clock.now() - timedelta(days=1), severity=CRITICAL)
    run_round()
    assert receiver.messages == []


def test_a_storm_is_one_message(receiver: Receiver) -> None:
    values.update({f" in region {n}": 50 for n in range(30)})
    run_round()
    [(_, title, text)] = receiver.messages
    assert title == "MyIA: 30 alerts"
    assert text.count("WARNING queue_waiting") == notifications.MAX_LINES
    assert text.endswith("10 more alerts: manage.py alerts")
    run_round()
    assert len(receiver.messages) == 1


def test_a_channel_is_not_used_too_often_and_nothing_is_lost(
    receiver: Receiver, settings: Any, wait: Callable[[float], None]
) -> None:
    settings.ALERT_MESSAGES_PER_HOUR = 2
    for n in range(13):  # every minute something else happens
        values[f"n{n}"] = 50
        run_round()
        wait(1)
    titles = [title for _, title in receiver.take()]
    singly = [f"MyIA: queue_waiting n{n} (warning)" for n in range(2)]
    assert titles == [*singly, "MyIA: 10 alerts"]


def test_nobody_who_acknowledges_means_the_next_level_and_repetition(
    receiver: Receiver, wait: Callable[[float], None]
) -> None:
    values[""] = 200
    run_round()
    receiver.take()
    escalated, repeated = (f"MyIA: queue_waiting ({w})" for w in ("not acknowledged", "still open"))
    for minutes, expected in (
        (14, []),
        (1, [("second", escalated)]),
        (45, [("third", escalated)]),
        (179, []),
    ):
        wait(minutes)
        run_round()
        run_round()
        assert receiver.take() == expected, minutes
    wait(1)
    run_round()
    names = {"all": repeated, "pager": repeated, "second": repeated, "third": repeated}
    assert dict(receiver.take()) == names | {"fourth": escalated}
    wait(240)
    run_round()
    assert dict(receiver.take()) == names | {"fourth": repeated}
    assert AlertEpisode.objects.get().acknowledge("operator")
    wait(600)
    run_round()
    assert receiver.take() == []


def test_a_warning_is_repeated_and_not_escalated(
    receiver: Receiver, wait: Callable[[float], None]
) -> None:
    values[""] = 50
    run_round()
    wait(300)
    run_round()
    assert [name for name, _ in receiver.take()] == ["all", "all"]


def test_that_it_is_over_is_sent_when_it_has_not_come_back(
    receiver: Receiver, wait: Callable[[float], None]
) -> None:
    values[""] = 50
    run_round()
    receiver.take()
    values[""] = 5
    run_round()
    wait(5)
    values[""] = 50  # the same episode
    run_round()
    values[""] = 5
    run_round()
    wait(9)
    run_round()
    assert receiver.take() == []
    wait(2)
    run_round()
    run_round()
    assert receiver.take() == [("all", "MyIA: queue_waiting (resolved)")]


def test_what_ended_before_it_could_be_sent_is_not_sent(
    receiver: Receiver, wait: Callable[[float], None]
) -> None:
    receiver.status["all"] = 500
    values[""] = 50
    run_round()
    values[""] = 5
    run_round()
    receiver.status.clear()
    wait(20)
    run_round()
    assert receiver.messages == []
    assert not AlertNotification.objects.exists()


def test_a_channel_that_fails_is_tried_again_and_is_an_alert(
    receiver: Receiver, wait: Callable[[float], None], settings: Any
) -> None:
    receiver.status["all"] = 500
    values[""] = 50
    failing = alert_rules.find_rule("channel_failing")
    assert failing is not None
    for _ in range(4):
        run_round(RULE, failing)
        wait(1)
    row = AlertChannel.objects.get()
    assert row.failures > 1
    assert "500" in row.error
    assert AlertEpisode.objects.get(rule="channel_failing").subject == row.name
    receiver.status.clear()
    wait(15)
    run_round(RULE, failing)
    assert receiver.take() == [("all", "MyIA: 2 alerts")]
    run_round(RULE, failing)
    assert not AlertEpisode.objects.open().filter(rule="channel_failing").exists()
    assert AlertChannel.objects.get().error == ""


def test_when_every_channel_of_a_level_fails_the_next_one_is_used(
    receiver: Receiver, wait: Callable[[float], None]
) -> None:
    receiver.status = {"all": 500, "pager": 403}
    values[""] = 200
    for _ in range(3):
        run_round()
        wait(1)
    assert receiver.take() == [("second", "MyIA: queue_waiting (not acknowledged)")]


SECRET_URLS = [
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts",
    "tgram://123456789:AAElcBJKmjnTB0i2d_8UtnaHzGWdxUs6cAs/98765",
    "mailto://somebody:pa55word-x@mail.invalid?to=boss@mail.invalid",
    "json://127.0.0.1:9/hooks/9f8e7d6c5b4a",
    "jsons://name:pa55word-x@127.0.0.1:9/hook?token=9f8e7d6c5b4a",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "nosuchkind://user:pa55word-x@host.invalid/9f8e7d6c5b4a",
    "pa55word-x-without-any-kind",
    "json://[pa55word-x",
    "tgram://",
]
PARTS = ["TIiajkdnlazkcOXrIdevi7FQ", "A1BRTD4JD", "T1JJ3T3L2", "AAElcBJKmjnTB0i2d", "123456789",
         "98765", "pa55word-x", "9f8e7d6c5b4a", "somebody", "boss@", "JHMHI8qBe7bk2ZwO5U711o3dV_js",
         "4174216298"]  # fmt: skip


def test_addresses_appear_nowhere(
    client: Client,
    settings: Any,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for scheme in ("http", "https"):  # nothing leaves this machine: no proxy is there
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("smtplib.SMTP.connect", refuse)
    settings.ALERT_SECRET_URLS = {"": SECRET_URLS}
    values[""] = 50
    run_round()
    for arguments in (["channels"], ["test"], ["channels", "--json"], ["list", "--json"]):
        with suppress(SystemExit):
            call_command("alerts", *arguments)
    counters.counters.flush()
    output = capfd.readouterr()
    rows = [json.dumps(list(m.objects.values()), default=str) for m in
            (AlertChannel, AlertEpisode, AlertNotification)]  # fmt: skip
    logged = [record.getMessage() for record in caplog.records if record.name != "apprise"]
    assert not logging.getLogger("apprise").propagate
    texts = [output.out, output.err, *logged, *rows, client.get("/metrics").content.decode()]
    texts += [repr(channels.configured())]
    assert AlertChannel.objects.filter(failures__gt=0).count() == len(SECRET_URLS)
    for part in PARTS:
        assert not any(part in text for text in texts), part


def refuse(*_: Any, **__: Any) -> None:
    raise ConnectionRefusedError("nobody at mail.invalid for somebody:pa55word-x")


def test_a_reason_is_shown_without_what_is_in_the_address() -> None:
    channel = Channel(f"json://operator:{TOKEN}@hooks.example/a/b%2Fc4nary?key=k3y", 1, False)
    text = f"POST /a/b/c4nary?key=k3y to hooks.example as operator, {TOKEN.upper()} refused: json"
    hidden = channels.hide(channel, text)
    assert "hooks.example" in hidden
    assert "json" in hidden
    for part in ("c4nary", "k3y", "operator", TOKEN.upper()):
        assert part not in hidden


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = 0
    try:
        call_command("alerts", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def test_the_command_proves_each_channel(
    receiver: Receiver, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    code, text = run(capsys, "channels", "--json")
    rows = json.loads(text)["channels"]
    assert (code, [row["level"] for row in rows]) == (0, [1, 1, 2, 3, 4])
    assert rows[0]["severities"] == ["warning", "critical"]
    assert {row["lastSuccessAt"] for row in rows} == {None}
    assert "never" in run(capsys, "channels")[1]
    assert run(capsys, "test")[0] == 0
    assert [name for name, _ in receiver.take()] == ["all", "pager", "second", "third", "fourth"]
    receiver.status["pager"] = 500
    code, text = run(capsys, "test", "--json", "--channel", rows[1]["name"])
    [row] = json.loads(text)["channels"]
    assert (code, row["failures"]) == (1, 1)
    assert row["error"]
    assert row["lastSuccessAt"]
    with pytest.raises(CommandError, match="no channel"):
        call_command("alerts", "test", "--channel", "x")
    settings.ALERT_SECRET_URLS = {}
    with pytest.raises(CommandError, match="Nobody is notified"):
        call_command("alerts", "test")
    assert "No channel" in run(capsys, "channels")[1]


def test_the_settings_are_read_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("json://a.example\n  tgram://b/c\n")
    environment = Environment()
    environment.ENVIRON = {
        "ALERT_URLS": "json://x.example slack://y",
        "ALERT_URLS_L2_FILE": str(file),
        "ALERT_URLS_L3_FILE": str(tmp_path / "none"),
        "ALERT_QUEUE_WAITING": "5",
        "ALERT_ESCALATION_MINUTES": "1, 2,3",
        "WRONG": "1,x,3",
    }
    assert environment.secret_urls("ALERT_URLS") == ["json://x.example", "slack://y"]
    assert environment.secret_urls("ALERT_URLS_L2") == ["json://a.example", "tgram://b/c"]
    assert environment.secret_urls("ALERT_URLS_L4") == []
    with pytest.raises(ImproperlyConfigured, match="ALERT_URLS_L3_FILE"):
        environment.secret_urls("ALERT_URLS_L3")
    assert environment.minutes("ALERT_ESCALATION_MINUTES", (15, 60, 240)) == (1, 2, 3)
    assert environment.minutes("NONE", (15, 60, 240)) == (15, 60, 240)
    with pytest.raises(ImproperlyConfigured, match="3 numbers"):
        environment.minutes("WRONG", (15, 60, 240))
    others = ("ALERT_URLS", "ALERT_ESCALATION")
    assert environment.limits("ALERT_", others) == {"queue_waiting": (5.0,)}


def test_the_panels_of_the_dashboard_know_the_metrics_of_channels() -> None:
    assert "alert_channel_failures" in prometheus_files.files()["dashboard.json"]
