"""What the security audit finds, and what is new since the last one."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django_celery_results.models import TaskResult

from certification.lib import clock
from certification.models import ApiKey, AuditEntry, User
from certification.operations import packages, retention, security
from certification.operations.packages import Unchecked
from certification.operations.security import Listener
from certification.operations.site import Answer

pytestmark = pytest.mark.django_db


def offline(*_args: Any) -> Any:
    raise Unchecked("There is no network.")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "run", offline)
    settings.PUBLIC_URL = "http://127.0.0.1:1"
    for name in ("BASE_DIR", "MYIA_DIR", "BACKUP_DIR", "PRIVATE_FOLDER", "CERTIFICATE_FOLDER"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        setattr(settings, name, folder)
    monkeypatch.setattr(security, "named_files", lambda: iter(()))


def audit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = 0
    try:
        call_command("security_audit", "--json", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def texts(name: str) -> list[str]:
    """What a part finds, in one look."""
    section = security.look_at(name, security.PARTS[name])
    assert not section["unchecked"], section
    return [finding["what"] for finding in section["findings"]]


def write(path: Path, mode: int) -> Path:
    path.write_text("x")
    path.chmod(mode)
    return path


def test_the_report_is_stored_and_compared_with_the_last_one(
    capsys: pytest.CaptureFixture[str], settings: Any, viewer: User
) -> None:
    code, first = audit(capsys, "users", "keys")
    assert (code, first["comparedWith"], first["well"]) == (0, None, True)
    key = ApiKey(user=viewer, name="ci")
    key.issue()
    code, second = audit(capsys, "users", "keys")
    [text] = second["new"]
    assert (code, second["comparedWith"]) == (1, first["at"])
    assert "never expires" in text
    key.revoke()
    code, third = audit(capsys, "keys", "headers")
    assert (code, third["gone"], third["new"]) == (0, [text], [])
    assert "does not answer" in third["sections"][0]["unchecked"]
    assert TaskResult.objects.filter(task_name=retention.AUDIT_TASK).count() == 3
    assert AuditEntry.objects.filter(action="security_audit").count() == 3
    assert audit(capsys, "keys", "--dry-run")[0] == 0
    assert TaskResult.objects.count() == 3


def test_the_last_audit_outlives_other_results(capsys: pytest.CaptureFixture[str]) -> None:
    audit(capsys, "keys")
    TaskResult.objects.create(task_id="1", task_name="other", status="SUCCESS")
    TaskResult.objects.update(date_done=clock.now() - timedelta(days=120))
    list(retention.clean(["task_results"]))
    assert [row.task_name for row in TaskResult.objects.all()] == [retention.AUDIT_TASK]
    TaskResult.objects.update(date_done=clock.now() - timedelta(days=401))
    list(retention.clean(["task_results"]))
    assert not TaskResult.objects.exists()


def test_a_stored_report_of_any_shape_is_borne(capsys: pytest.CaptureFixture[str]) -> None:
    for number, result in enumerate(("", "[]", '{"at": "x", "sections": [1, {"name": "keys"}]}')):
        TaskResult.objects.create(
            task_id=str(number), task_name=retention.AUDIT_TASK, status="SUCCESS", result=result
        )
        code, report = audit(capsys, "keys", "--dry-run")
        assert (code, report["new"], report["gone"]) == (0, [], [])


def test_all_parts_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    _code, report = audit(capsys)
    assert [section["name"] for section in report["sections"]] == list(security.PARTS)
    unchecked = {s["name"] for s in report["sections"] if s["unchecked"]}
    assert unchecked == {"dependencies", "headers"}
    call_command("security_audit", "keys", "headers", "--dry-run")
    assert "not checked" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no part 'nosuch'") as refused:
        call_command("security_audit", "nosuch")
    assert refused.value.returncode == 2


def test_files_that_others_may_write_or_read(settings: Any) -> None:
    program, data = Path(settings.BASE_DIR), Path(settings.MYIA_DIR)
    write(program / "manage.py", 0o755)
    write(program / "certificate_key.py", 0o644)
    write(data / "web.log", 0o644)
    write(program / ".env.example", 0o600)
    (program / "certification").mkdir()
    write(program / "certification" / "expired-credentials.toml", 0o644)
    os.symlink("/etc/passwd", data / "secret.key")
    assert texts("files") == []
    exposed = [
        write(program / "settings.py", 0o666),
        write(program / ".env", 0o644),
        write(data / "tls.pem", 0o644),
        write(Path(settings.PRIVATE_FOLDER) / "backup_key", 0o640),
        write(Path(settings.BACKUP_DIR) / "x.backup", 0o604),
    ]
    report = "\n".join(texts("files"))
    assert all(str(path) in report for path in exposed), report
    assert "certificate_key.py" not in report
    settings.MYIA_DIR = program / "data"  # as by default: inside the program
    settings.MYIA_DIR.mkdir()
    exposed = write(settings.MYIA_DIR / "any.log", 0o666)
    assert "\n".join(texts("files")).count(str(exposed)) == 1


def test_whom_a_socket_answers(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Listener("web", "0.0.0.0", 3001),
        Listener("worker", "10.0.0.5", 3002),
        Listener("flower", "127.0.0.1", 5555),
        Listener("emulator", "::", 4599),
    ]
    monkeypatch.setattr(security, "listeners", lambda: rows)
    settings.HTTPS = True
    assert texts("ports") == [
        "worker listens on port 3002 for the network of 10.0.0.5.",
        "emulator listens on port 4599 for every network of this machine.",
    ]
    settings.HTTPS = False
    assert texts("ports")[0].startswith("web listens")


def test_settings_that_are_dangerous(settings: Any) -> None:
    settings.SECRET_KEY = os.urandom(40).hex()
    assert not [text for text in texts("settings") if "guessed" in text]
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["*"]
    settings.METRICS_NETWORKS = ["0.0.0.0/0", "nonsense"]
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.SECRET_KEY = "django-insecure-" + "x" * 50
    settings.MAINTENANCE_SECRET = "short"
    settings.FLOWER_BASIC_AUTH = "admin:changeme-changeme-changeme"
    report = "\n".join(texts("settings"))
    for part in (
        "DEBUG",
        "ALLOWED_HOSTS",
        "METRICS_NETWORKS",
        "WEBHOOK_ALLOW_HTTP",
        "SECRET_KEY can",
    ):
        assert part in report
    assert "MAINTENANCE_SECRET can be guessed" in report
    assert "FLOWER_BASIC_AUTH can be guessed" in report
    assert "short" not in report
    assert "changeme" not in report
    settings.PUBLIC_URL = "https://certification.example.org"
    settings.HTTPS = False
    assert len(texts("settings")) > len(report.splitlines())  # those about TLS too


SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": "default-src 'self'; object-src 'none'",
    "strict-transport-security": "max-age=31536000",
    "set-cookie": "csrftoken=x; Secure; SameSite=Lax",
    "server": "nginx",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-content-type-options", ""),
        ("x-frame-options", "ALLOW-FROM https://a.example"),
        ("referrer-policy", "unsafe-url"),
        ("content-security-policy", "default-src *"),
        ("content-security-policy", "default-src 'self'; script-src 'unsafe-inline'"),
        ("strict-transport-security", ""),
        ("set-cookie", "sessionid=x; HttpOnly"),
        ("server", "nginx/1.22.1"),
    ],
)
def test_headers_as_they_are_answered(name: str, value: str) -> None:
    answer = Answer(200, "text/html", b"", SAFE)
    assert list(security.header_faults(answer, is_https=True)) == []
    answer = Answer(200, "text/html", b"", SAFE | {name: value})
    assert len(list(security.header_faults(answer, is_https=True))) == 1


def test_our_own_pages_have_safe_headers(client: Any) -> None:
    page = client.get("/login/")
    names = {name.lower(): value for name, value in page.headers.items()}
    answer = Answer(200, "text/html", b"", names)
    assert list(security.header_faults(answer, is_https=False)) == []


def test_people_who_need_no_account(viewer: User, operator: User) -> None:
    now = clock.now()
    assert texts("users") == []
    User.objects.filter(pk=viewer.pk).update(date_joined=now - timedelta(days=100))
    [idle] = texts("users")
    assert viewer.email in idle
    User.objects.filter(pk=viewer.pk).update(last_login=now)
    User.objects.create_superuser("root@example.org", "changeme")
    User.objects.create_superuser("boss@example.org", "a-long-test-password", last_login=now)
    report = texts("users")
    assert [text.split(" ", 1)[0] for text in report] == ["root@example.org", "2", "The"]
    assert "root@example.org is one that everybody tries" in report[2]


def test_keys_that_nobody_uses(viewer: User) -> None:
    now = clock.now()
    key = ApiKey(user=viewer, name="ci", expires_at=now + timedelta(days=9))
    key.issue()
    assert texts("keys") == []
    ApiKey.objects.update(created_at=now - timedelta(days=100))
    assert "was not used for 90 days" in texts("keys")[0]
    ApiKey.objects.update(last_used_at=now)
    assert texts("keys") == []


def test_connections_that_leave_the_machine(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts("connections") == []
    settings.CACHE_URL = "redis://:secret@cache.example.org:6379/1"
    own = settings.DATABASES["default"]
    monkeypatch.setitem(own, "HOST", "db.example.org")
    database, cache = texts("connections")
    assert "no TLS" in database
    assert "CACHE_URL" in cache
    assert "secret" not in cache
    monkeypatch.setattr(security.sql, "fetch_one", lambda _statement: {"encrypted": True})
    assert "not verified" in texts("connections")[0]
    settings.CACHE_URL = "rediss://cache.example.org:6379/1"
    monkeypatch.setitem(own, "OPTIONS", {"sslmode": "verify-full"})
    assert texts("connections") == []


def test_backups_that_anybody_can_read(settings: Any) -> None:
    assert texts("backups") == []
    settings.BACKUP_ENCRYPT = False
    settings.BACKUP_KEY_FILE = str(Path(settings.BACKUP_DIR) / "key")
    assert texts("backups") == ["BACKUP_ENCRYPT is off.", "The key of the backups lies among them."]
