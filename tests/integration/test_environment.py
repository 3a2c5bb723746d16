"""A setting that is none is told by its name, with what is expected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from myia.environment import Environment
from tests.paths import PROJECT
from tests.processes import management_command

env = Environment()


@pytest.mark.parametrize("text", ["abc", "1.5", "1e5", "-1", "65536", "99999999999", "0x10"])
def test_an_invalid_port_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PORT", text)
    with pytest.raises(
        ImproperlyConfigured,
        match=rf"^PORT is '{text}'; it must be a whole number between 0 and 65535.$",
    ):
        env.port("PORT", 3001)


@pytest.mark.parametrize("text", ["fast", "nan", "inf", "-0.5"])
def test_an_invalid_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SCALE", text)
    with pytest.raises(
        ImproperlyConfigured, match=r"SCALE is .* it must be a number of at least 0."
    ):
        env.float("SCALE", 1.0, minimum=0)


def test_a_switch_is_on_or_off_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, meant in {
        "1": True,
        "True": True,
        "on": True,
        "0": False,
        "no": False,
        "FALSE": False,
    }.items():
        monkeypatch.setenv("DEBUG", text)
        assert env.bool("DEBUG", default=False) is meant
    monkeypatch.setenv("DEBUG", "maybe")
    with pytest.raises(ImproperlyConfigured, match="DEBUG is 'maybe'; it must be 1 or 0"):
        env.bool("DEBUG", default=False)


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WHOLE", "REAL", "SWITCH"):
        monkeypatch.setenv(name, " ")
    assert (
        env.int("WHOLE", default=7),
        env.float("REAL", default=0.5),
        env.bool("SWITCH", default=True),
    ) == (
        7,
        0.5,
        True,
    )


def test_an_invalid_address_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for port in ("abc", "99999"):
        monkeypatch.setenv("DATABASE_URL", f"postgres://me:hidden@host:{port}/name")
        with pytest.raises(
            ImproperlyConfigured, match=r"DATABASE_URL is not a valid address"
        ) as caught:
            env.address("DATABASE_URL")
        assert "hidden" not in str(caught.value)


def test_a_secret_comes_from_its_variable_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("of the file\n")
    monkeypatch.setenv("METRICS_TOKEN_FILE", str(file))
    assert env.secret("METRICS_TOKEN") == "of the file"
    # a command that starts another with a value of its own
    monkeypatch.setenv("METRICS_TOKEN", "of the variable")
    assert env.secret("METRICS_TOKEN") == "of the variable"
    monkeypatch.setenv("METRICS_TOKEN", "")
    file.write_bytes(b"\xff\xfe")
    for path, reason in ((str(file), "it is no text"), ("/nowhere", "No such file or directory")):
        monkeypatch.setenv("METRICS_TOKEN_FILE", path)
        with pytest.raises(ImproperlyConfigured, match=f"METRICS_TOKEN_FILE is .*: {reason}"):
            env.secret("METRICS_TOKEN")


def test_an_address_may_have_several_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "redis+sentinel://:hidden@one:26379,two:26379,[::1]:26379/main"
    monkeypatch.setenv("REDIS_URL", address)
    assert env.redis("REDIS_URL") == address
    for right, wrong in (
        ("two:26379", "two:x"),
        ("/main", ""),
        ("/main", "/main/x"),
        ("/", "?a=1/"),
    ):
        monkeypatch.setenv("REDIS_URL", address.replace(right, wrong))
        with pytest.raises(ImproperlyConfigured, match="REDIS_URL is not a valid") as caught:
            env.redis("REDIS_URL")
        assert "hidden" not in str(caught.value)


def test_limits_of_alerts_are_one_number_or_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_DISK_SPACE", "25,5")
    monkeypatch.setenv("ALERT_REDIS_MEMORY", "70")
    monkeypatch.setenv("ALERT_EMPTY", "")
    monkeypatch.setenv("ALERT_URLS", "mailto://x")
    others = ("ALERT_URLS",)
    limits = Environment().limits("ALERT_", others)
    assert limits == {"disk_space": (25.0, 5.0), "redis_memory": (70.0,)}
    for wrong in ("x", "1,2,3", "nan"):
        monkeypatch.setenv("ALERT_DISK_SPACE", wrong)
        with pytest.raises(ImproperlyConfigured, match=f"ALERT_DISK_SPACE is '{wrong}'"):
            Environment().limits("ALERT_", others)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "abc", "PORT is 'abc'; it must be a whole number between 0 and 65535."),
        (
            "EMULATOR_TIME_SCALE",
            "fast",
            "EMULATOR_TIME_SCALE is 'fast'; it must be a number of at least 0.",
        ),
        (
            "HTTPS",
            "perhaps",
            "HTTPS is 'perhaps'; it must be 1 or 0 (true or false, yes or no, on or off).",
        ),
        (
            "LOG_LEVEL",
            "LOUD",
            "LOG_LEVEL is 'LOUD'; it must be DEBUG, INFO, WARNING, ERROR or CRITICAL.",
        ),
        (
            "LOG_DIR",
            "/dev/null/logs",
            "LOG_DIR is '/dev/null/logs', and this folder cannot be created: Not a directory.",
        ),
    ],
)
@pytest.mark.parametrize("command", ["status", "migrate"])
def test_a_command_says_so_in_a_sentence(
    tmp_path: Path, name: str, value: str, expected: str, command: str
) -> None:
    servers = {
        "DATABASE_URL": "postgres://me@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": "x" * 40,
    }
    ran = subprocess.run(
        management_command(command),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            **os.environ,
            **servers,
            "MYIA_ROOT": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "myia.settings",
            name: value,
        },
    )
    assert (ran.returncode, ran.stdout, ran.stderr.strip()) == (2, "", expected)


READ_SETTINGS = """
import json, sys
sys.argv = sys.argv[1:]
from myia import settings
default = settings.DATABASES["default"]
print(json.dumps([
    default["HOST"],
    default["OPTIONS"]["prepare_threshold"],
    default.get("DISABLE_SERVER_SIDE_CURSORS", False),
]))
"""


@pytest.mark.parametrize(
    ("command", "environment", "expected"),
    [
        ("run", {}, ["pooler", None, True]),
        ("migrate", {}, ["direct", 0, False]),
        ("run", {"DATABASE_POOLER": "none"}, ["pooler", 0, False]),
        (
            "run",
            {"DATABASE_URL": "postgresql://a@pooler:5432/b", "DATABASE_POOLER": "transaction"},
            ["pooler", None, True],
        ),
    ],
)
def test_a_pooler_is_known_by_its_port_and_passed_by_for_migrations(
    tmp_path: Path, command: str, environment: dict[str, str], expected: list[object]
) -> None:
    read = subprocess.run(
        [sys.executable, "-c", READ_SETTINGS, "manage.py", command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "DATABASE_URL": "postgresql://a@pooler:6432/b",
            "DATABASE_DIRECT_URL": "postgresql://a@direct:5432/b",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "SECRET_KEY": "x" * 40,
            "MYIA_ROOT": str(tmp_path),
            **environment,
        },
    )
    assert json.loads(read.stdout) == expected
