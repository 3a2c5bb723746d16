"""New credentials are tried before workers take them; every secret has an age."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from certification.engine import backend
from certification.lib import clock
from certification.models import ApiKey, AuditEntry, User
from certification.operations import credentials

pytestmark = pytest.mark.django_db
REGION = "us-east-1"
IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/certifier</Arn>"
    "<UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult>"
    "</GetCallerIdentityResponse>"
)
REFUSED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>"
    "<Message>The security token included in the request is invalid.</Message></Error>"
    "</ErrorResponse>"
)


class Sts(BaseHTTPRequestHandler):
    """Knows one key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_known = "Credential=AKIANEW" in self.headers.get("Authorization", "")
        body = (IDENTITY if is_known else REFUSED).encode()
        self.send_response(200 if is_known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def workers_file(
    emulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """The file that workers read; AWS is the emulator, and one key is known."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = write(tmp_path / "aws" / "credentials", "AKIAOLD")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
    settings.BEDROCK_BACKEND = "aws"
    backend.name.cache_clear()
    yield file
    server.shutdown()
    server.server_close()


def write(path: Path, key: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=secret\n")
    return path


def rotate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = 0
    try:
        call_command("rotate_credentials", *arguments, "--json", "--region", REGION)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_the_emulator_takes_any_key_and_says_so(
    catalogue: None, emulator: str, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.BEDROCK_BACKEND = "emulator"
    backend.name.cache_clear()
    code, report = rotate(capsys, "--check")
    [region] = report["verification"]["regions"]
    assert (code, region["called"], region["fault"]) == (0, True, "")
    assert "takes any key" in report["verification"]["note"]
    assert not AuditEntry.objects.exists()


def test_new_credentials_are_tried_and_put_in_place(
    catalogue: None, workers_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(write(tmp_path / "new", "AKIANEW"))
    old = workers_file.read_text()
    code, report = rotate(capsys, new, "--check")
    verification = report["verification"]
    assert (code, report["rotated"], verification["well"]) == (0, False, True)
    assert (verification["caller"], verification["keyPreview"]) == (
        "arn:aws:iam:::user/certifier",
        "AKIA",
    )
    assert verification["regions"][0]["called"] is True
    assert workers_file.read_text() == old
    assert report["proof"] is None
    code, report = rotate(capsys, new)
    assert (code, report["rotated"]) == (0, True)
    assert "AKIANEW" in workers_file.read_text()
    assert workers_file.stat().st_mode & 0o777 == 0o600
    _code, report = rotate(capsys, "--check", "--no-calls")
    assert (report["proof"]["runs"], report["proof"]["refused"]) == (0, 0)
    assert [r["called"] for r in report["verification"]["regions"]] == [None]
    assert "123456789012" not in json.dumps(report)


def test_credentials_that_are_refused_stay_out(
    catalogue: None, workers_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = workers_file.read_text()
    code, report = rotate(capsys, str(write(tmp_path / "new", "AKIABAD")))
    assert (code, report["rotated"], report["verification"]["well"]) == (1, False, False)
    assert "invalid" in report["verification"]["fault"]
    assert workers_file.read_text() == old


@pytest.mark.parametrize("text", ["", "no file of keys", "[default]\nregion=x\n", "\x00\xff"])
def test_what_is_no_file_of_credentials_is_a_sentence(
    workers_file: Path, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "new"
    file.write_text(text)
    for name in (file, tmp_path / "missing"):
        with pytest.raises(CommandError) as refused:
            call_command("rotate_credentials", str(name))
        assert refused.value.returncode == 2


def test_keys_of_the_environment_are_changed_there(
    workers_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(CommandError, match="AWS_ACCESS_KEY_ID of their environment"):
        call_command("rotate_credentials", str(write(tmp_path / "new", "AKIANEW")))


def test_each_secret_has_an_age_where_somebody_knows_it(
    workers_file: Path, viewer: User, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "maintenance"
    secret.write_text("x")
    long_ago = (clock.now() - timedelta(days=400)).timestamp()
    os.utime(secret, (long_ago, long_ago))
    os.utime(workers_file, (long_ago, long_ago))
    settings.MAINTENANCE_SECRET = settings.METRICS_TOKEN = "x"
    settings.SECRET_KEY_FALLBACKS = ["old"]
    monkeypatch.setenv("MAINTENANCE_SECRET_FILE", str(secret))
    monkeypatch.delenv("MAINTENANCE_SECRET", raising=False)
    ApiKey(user=viewer, name="ci").issue()
    rows = {row.name: row for row in credentials.secrets()}
    assert rows["MAINTENANCE_SECRET"].is_due
    assert rows["AWS credentials"].is_due
    assert rows["METRICS_TOKEN"].age is None
    assert "1 old keys verify" in rows["SECRET_KEY_FALLBACKS"].note
    [key] = [row for name, row in rows.items() if name.startswith("API key ci")]
    assert not key.is_due
