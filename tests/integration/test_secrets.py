"""No secret that was given to the installation comes out of it: pages, API, metrics, health, logs,
commands, errors.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from certification.api import tokens
from certification.engine import webhooks
from certification.lib import safe_http
from certification.lib.counters import counters
from certification.lib.safe_http import ReceiverUnreachable
from certification.models import AIModel, ApiKey, User, WebhookSubscription
from certification.models.webhooks import WebhookEvent
from certification.monitoring import alerts, queue_stats, site_health
from certification.reasons import Reason
from myia import logs
from tests.factories import certify

pytestmark = pytest.mark.django_db
CANARY = "canary"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIACANARY0000000001",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-secret-access-key-0001",
    "AWS_SESSION_TOKEN": "canary-aws-session-token-0002",
    "AWS_BEARER_TOKEN_BEDROCK": "canary-bedrock-bearer-token-0003",
}
PASSWORD, WRONG = "canary-password-0004", "canary-wrong-password-0005"
HEADERS = {
    "Cookie": "sessionid=canary-session-0006; other=canary-cookie-0007",
    "Authorization": "Bearer canary-authorization-0008",
    "X-Api-Key": "canary-api-key-header-0009",
}
HOOK = "https://hooks.example/services/canary-hook-path-0010"
SETTINGS = {
    "METRICS_TOKEN": "canary-metrics-token-0011",
    "FLOWER_BASIC_AUTH": "myia:canary-flower-0012",
}


class Secrets:
    """What must not come out, by what it is."""

    def __init__(self, **values: str) -> None:
        self.values = {name: value for name, value in values.items() if value}

    def in_text(self, text: str, *, but: tuple[str, ...] = ()) -> list[str]:
        return [n for n, value in self.values.items() if value in text and n not in but]


@pytest.fixture
def root_user() -> User:
    return User.objects.create_superuser("root@example.org", PASSWORD)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What goes into the logs of both formats, from DEBUG on."""
    stream = io.StringIO()
    handlers = []
    for renderer in (
        structlog.processors.JSONRenderer(),
        structlog.dev.ConsoleRenderer(colors=False),
    ):
        handler = logging.StreamHandler(stream)
        format_of = logs.formatter(renderer)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=format_of["processors"], foreign_pre_chain=format_of["foreign_pre_chain"]
            )
        )
        handlers.append(handler)
    names = [
        logging.getLogger(name) for name in ("", "django", "certification", "django_structlog")
    ]
    levels = [logger.level for logger in names]
    for logger in names:
        logger.setLevel(logging.DEBUG)
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    yield stream
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
    for logger, level in zip(names, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def secrets(
    root_user: User, monkeypatch: pytest.MonkeyPatch, settings: Any, catalogue: None
) -> Secrets:
    monkeypatch.setattr(queue_stats, "REPLY_TIMEOUT_S", 0.05)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name, value in SETTINGS.items():
        setattr(settings, name, value)
    hook = WebhookSubscription.objects.create(url=HOOK, events=[WebhookEvent.ALERT_RAISED.value])
    certify(AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0"), "us-east-1")
    key = ApiKey(user=root_user, name="router").issue()
    return Secrets(
        **ENVIRONMENT,
        **SETTINGS,
        password=PASSWORD,
        wrong_password=WRONG,
        session="canary-session-0006",
        cookie="canary-cookie-0007",
        authorization="canary-authorization-0008",
        api_key_header="canary-api-key-header-0009",
        hook_path="canary-hook-path-0010",
        hook_secret=hook.secret,
        api_key=key,
        token=tokens.issue(root_user),
        secret_key=django_settings.SECRET_KEY,
        database_password=connection.settings_dict["PASSWORD"],
        redis_password=django_settings.REDIS_URL.split("@")[0].rpartition(":")[2],
    )


def addresses() -> list[str]:
    """Every address that takes no value, and lists of the admin."""
    paths = []

    def walk(resolver: URLResolver, prefix: str) -> None:
        for entry in resolver.url_patterns:
            path = prefix + str(entry.pattern).removeprefix("^").removesuffix("$").removesuffix(
                "\\Z"
            )
            if isinstance(entry, URLResolver):
                walk(entry, path)
            elif isinstance(entry, URLPattern) and not set("<(\\[") & set(path):
                paths.append(f"/{path}")

    walk(get_resolver(), "")
    return sorted(set(paths) - {"/logout/", "/admin/logout/"})


def test_no_page_shows_a_secret(secrets: Secrets, root_user: User, written: io.StringIO) -> None:
    nobody, root = Client(raise_request_exception=False), Client(raise_request_exception=False)
    root.force_login(root_user)
    counters.flush()
    pages = addresses()
    assert {"/metrics", "/health", "/api/health", "/admin/certification/apikey/"} <= set(pages)
    leaks = {}
    for client in (nobody, root):
        for path in pages:
            headers = HEADERS if client is nobody else {"X-Api-Key": HEADERS["X-Api-Key"]}
            answer = client.get(
                path, {"q": "x"} if path.startswith("/admin/") else {}, headers=headers
            )
            body = b"".join(answer.streaming_content) if answer.streaming else answer.content
            # who may edit a webhook sees its address
            but = ("hook_path",) if path.startswith("/admin/certification/webhook") else ()
            if result := secrets.in_text(
                body.decode(errors="replace") + str(answer.headers), but=but
            ):
                leaks[path] = result
    assert leaks == {}
    assert secrets.in_text(written.getvalue()) == []


def test_logins_leave_no_password_anywhere(secrets: Secrets, written: io.StringIO) -> None:
    client = Client()
    for password in (WRONG, PASSWORD):
        form = {"username": "root@example.org", "password": password}
        client.post("/login/", form, headers=HEADERS)
        body = {"email": "root@example.org", "password": password}
        answer = client.post("/api/auth/login", body, "application/json")
        assert WRONG not in answer.content.decode()
    client.get("/api/auth/me", {"token": secrets.values["token"]})
    client.get("/nowhere", {"password": PASSWORD, "token": secrets.values["token"]})
    assert written.getvalue().count("root@example.org") or "request_finished" in written.getvalue()
    assert secrets.in_text(written.getvalue()) == []


def test_our_own_faults_show_no_secret(
    secrets: Secrets, root_user: User, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that breaks with secrets in its variables, and a database that is away."""
    client = Client(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {secrets.values['api_key']}"}

    def broken(*_args: Any) -> None:
        local = dict(secrets.values)
        raise RuntimeError(f"{len(local)} values")

    def away(*_args: Any) -> None:
        raise OperationalError("connection failed")

    for fault, status in ((broken, 500), (away, 503)):
        monkeypatch.setattr("certification.api.representations.account", fault)
        answer = client.get("/api/auth/me", headers=headers)
        assert answer.status_code == status
        assert secrets.in_text(answer.content.decode()) == []
    assert "values" in written.getvalue()
    assert secrets.in_text(written.getvalue()) == []


def test_webhooks_and_alerts_log_no_secret(
    secrets: Secrets, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(url: str, _body: bytes, _headers: dict[str, str]) -> None:
        raise ReceiverUnreachable("The receiver cannot be reached.")

    monkeypatch.setattr(safe_http, "post", refuses)
    hook = WebhookSubscription.objects.get()
    delivery = hook.send_test()
    delivery.claim(webhooks.attempt_lease())
    webhooks.attempt(hook, delivery)
    alerts.run_round()
    assert "webhook_failed" in written.getvalue()
    assert secrets.in_text(written.getvalue()) == []
    assert secrets.in_text(json.dumps(delivery.payload)) == []


ANSWER = "canary-model-answer-0013"
LINES = (
    {"event": "request", "headers": HEADERS, "url": "https://x/?api_key=canary-authorization-0008"},
    {"event": "redis://:canary-redis-0014@redis:6379/0 is away", "level": "error"},
    {"event": "x", "exception": "Traceback\nValueError: password='canary-password-0004'"},
)


@pytest.fixture
def planted(secrets: Secrets, settings: Any, tmp_path: Path) -> Secrets:
    """Secrets also in the log of an earlier release, in Redis, in a model's answer, and in the
    private files.
    """
    settings.LOG_DIR, settings.MYIA_DIR = str(tmp_path), tmp_path
    settings.PRIVATE_FOLDER = settings.CERTIFICATE_FOLDER = tmp_path
    address = "json://myia:canary-channel-0018@hooks.example/canary-room-0019"
    settings.ALERT_SECRET_URLS = {"": [address]}
    (tmp_path / "secrets").write_text("FLOWER_BASIC_AUTH=myia:canary-generated-0015\n")
    at = {"timestamp": "2026-11-30T12:00:00Z", "level": "info"}
    by_themselves = "canary-generated-0015 canary-hook-path-0010 canary-channel-0018"
    bare = {"event": f"{by_themselves} canary-room-0019 stand here by themselves"}
    lines = "".join(json.dumps(at | fields) + "\n" for fields in (*LINES, bare))
    (tmp_path / "combined.log").write_text(lines)
    calls = [{"request": {"prompt": ANSWER}, "reply": ANSWER}]
    model = AIModel.objects.get(api_model_id="amazon.nova-micro-v1:0")
    certify(
        model, "us-east-1", "failed", reason=Reason.GATE_FAILED, message="It failed.",
        results=[("G01", "failed", "It failed.")], trials={"G01": [{"trial": 0, "calls": calls}]},
    )  # fmt: skip
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.set("canary-redis-key-0016", "canary-redis-value-0017", ex=600)
    client.close()
    new = {"answer": ANSWER, "redis": "canary-redis-0014", "generated": "canary-generated-0015"}
    new |= {"redis_key": "canary-redis-key-0016", "redis_value": "canary-redis-value-0017"}
    new |= {"channel": "canary-channel-0018", "room": "canary-room-0019"}
    return Secrets(**secrets.values, **new)


COMMANDS = (
    "status", "alerts", "queue", "reconcile", "list_uncertified", "cleanup", "job list",
    "logs --errors", "health_monitor --once", "analyze_performance", "redis_report", "doctor",
    "security_audit --dry-run", "dependencies --offline", "upgrade --check", "db_maintenance",
    "db_maintenance --activity", "rotate_credentials --no-calls --region us-east-1",
    "loadtest --dry-run", "doctor --fix --dry-run", "smoke --dry-run", "smoke --url http://127.0.0.1:9",
)  # fmt: skip


def test_no_command_prints_a_secret(
    planted: Secrets, capsys: pytest.CaptureFixture[str], written: io.StringIO
) -> None:
    leaks, silent = {}, []
    for command in COMMANDS:
        for form in (["--json"], []):
            site_health.everything.forget()
            out, err = io.StringIO(), io.StringIO()
            with contextlib.suppress(SystemExit):
                call_command(*command.split(), *form, stdout=out, stderr=err)
            printed = capsys.readouterr()
            text = "".join((printed.out, printed.err, out.getvalue(), err.getvalue()))
            if not text.strip():
                silent.append(command)
            if result := planted.in_text(text):
                leaks[command] = result
    assert (leaks, silent) == ({}, [])
    assert planted.in_text(written.getvalue()) == []


def test_logs_hide_what_an_earlier_release_let_through(
    planted: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    """But what stands in a sentence by itself, which no form betrays: nothing of ours writes it."""
    call_command("logs")
    text = capsys.readouterr().out
    assert text.count("\n") > len(LINES)
    assert planted.in_text(text, but=("generated", "hook_path", "channel", "room")) == []


def test_the_archive_for_who_helps_has_no_secret(planted: Secrets, tmp_path: Path) -> None:
    """Whatever the form: all that the installation knows is looked for."""
    file = tmp_path / "help.zip"
    call_command("doctor", "--support", str(file))
    with zipfile.ZipFile(file) as archive:
        text = "\n".join(archive.read(name).decode() for name in archive.namelist())
    assert "stand here by themselves" in text
    assert planted.in_text(text) == []
