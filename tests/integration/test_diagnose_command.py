"""`manage.py diagnose` answers pasted errors line by line, without database or Redis."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from certification.bedrock.diagnosis import diagnose_json
from tests.paths import PROJECT


def answers(monkeypatch: pytest.MonkeyPatch, text: str, *args: str) -> list[dict]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    out = io.StringIO()
    try:
        call_command("diagnose", *args, stdout=out)
    finally:
        lines = out.getvalue().splitlines()
    return [json.loads(line) for line in lines]


def test_it_answers_each_line_with_category_reason_retryable_and_fix(monkeypatch):
    [answer] = answers(
        monkeypatch,
        '{"message": "Too many tokens", "code": "ThrottlingException", "http_status": 429}\n',
    )
    assert answer["category"] == "RATE_LIMIT"
    assert answer["reason"] == "throttled_tokens"
    assert answer["retryable"] is True
    assert answer["fix"].startswith("The account uses more tokens per minute")
    assert {"command", "who"} <= set(answer)


def test_it_takes_missing_null_and_extra_fields_and_an_error_body_pasted_as_an_object(monkeypatch):
    text = "\n".join(
        [
            '{"message": null, "code": null, "http_status": null, "operation": null, "more": [1]}',
            '{"message": {"Message": "Bearer Token has expired"}, "code": 403, "http_status": '
            "1e999}",
            "",
        ]
    )
    reasons = [answer["reason"] for answer in answers(monkeypatch, text)]
    assert reasons == ["unknown", "credentials_expired"]


def test_it_fills_the_commands_with_the_model_and_region_asked_for(monkeypatch):
    line = '{"message": "You don\'t have access to the model with the specified model ID."}'
    [answer] = answers(
        monkeypatch, line, "--model", "amazon.nova-pro-v1:0", "--region", "sa-east-1"
    )
    assert answer["command"] == (
        "aws bedrock get-foundation-model-availability --region sa-east-1 --model-id "
        "amazon.nova-pro-v1:0"
    )


def test_a_malformed_line_says_what_to_do_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{bad\n{"code": "ExpiredToken"}\n[1]\n{}\n'))
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"3 malformed lines"):
        call_command("diagnose", stdout=out)
    first, second, third, fourth = (json.loads(line) for line in out.getvalue().splitlines())
    assert "Write one object per line" in first["error"]
    assert second["reason"] == "credentials_expired"
    assert "not an object" in third["error"]
    assert "has no message, code, http_status or operation" in fourth["error"]


def test_a_bare_line_is_the_message_itself(monkeypatch):
    text = "\n".join(
        [
            "An error occurred (ExpiredTokenException) when calling the Converse operation: The "
            "security token is expired",
            '"You don\'t have access to the model with the specified model ID."',
            "[ERROR] Too many tokens per day, please wait before trying again.",
        ]
    )
    reasons = [answer["reason"] for answer in answers(monkeypatch, text)]
    assert reasons == ["credentials_expired", "model_access_not_granted", "daily_tokens"]


@pytest.mark.parametrize("line", ["", "[" * 100_000, '" "', "1", "{}", "\x00", '{"message": "a'])
def test_no_line_is_beyond_an_answer(line):
    assert "error" in diagnose_json(line)


def test_it_runs_where_neither_database_nor_redis_nor_utf8_is():
    nowhere = {
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-everybody",
        "LC_ALL": "C",
    }
    ran = subprocess.run(
        [sys.executable, "manage.py", "diagnose"],
        cwd=PROJECT,
        input=b'{"code": "NoCredentialsError"}\n\xff\xfe\n',
        capture_output=True,
        env={**os.environ, **nowhere},
        timeout=60,
        check=False,
    )
    first, second = ran.stdout.decode().splitlines()
    assert json.loads(first)["reason"] == "credentials_missing"
    assert "not JSON" in json.loads(second)["error"]
    assert ran.returncode == 1
    assert b"Traceback" not in ran.stderr
