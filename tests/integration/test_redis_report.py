"""`manage.py redis_report`: what Redis holds, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from redis.exceptions import NoPermissionError

from certification.monitoring import redis_report

QUEUE = "redis-report"
WELL = {
    "used_memory": 1_000_000, "maxmemory": 0, "maxmemory_policy": "noeviction", "aof_enabled": 1,
    "role": "master", "evicted_keys": 0, "aof_last_write_status": "ok",
}  # fmt: skip


@pytest.fixture
def server(settings: Any) -> Iterator[redis.Redis]:
    settings.CERTIFICATION_QUEUE_NAME = QUEUE
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushall()
    yield client
    client.flushall()
    client.close()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = 0
    try:
        call_command("redis_report", *arguments, "--json")
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_keys_are_counted_by_their_kind(
    server: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    server.rpush(QUEUE, "m", "n")
    server.rpush(f"{QUEUE}.bulk", "m")
    server.set(f"{QUEUE}.probe", 1)
    for n in range(30):
        server.set(f"myia:cache:{n}", "x" * 1000, ex=60)
    server.hset("myia:counters", "a", 1)
    server.set("myia:rate:read:x", 1, ex=60)
    server.set("myia:limit:us-east-1:x", 1, ex=60)
    server.set("_kombu.binding.x", 1)
    server.set("canary-key-of-others", 1)
    _code, body = run(capsys)
    kinds = {kind["name"]: (kind["keys"], kind["withoutTtl"]) for kind in body["kinds"]}
    assert kinds == {
        "cache": (30, 0),
        "messages": (3, 3),
        "counters": (1, 1),
        "requests per minute": (1, 0),
        "rate limits of Bedrock": (1, 0),
        "Celery": (1, 1),
        "others": (1, 1),
    }
    assert body["queues"] == {QUEUE: 2, f"{QUEUE}.bulk": 1, "maintenance": 0}
    assert body["kinds"][0]["bytes"] > 30_000
    assert (body["keys"], body["complete"]) == (38, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_report.RedisReport, "findings", [])
        call_command("redis_report")
    text = capsys.readouterr().out
    assert f"{QUEUE}: 2 messages" in text
    assert "canary" not in text + json.dumps(body)


def test_only_so_many_keys_are_looked_at(
    server: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    server.mset({f"myia:cache:{n}": 1 for n in range(2000)})
    _code, body = run(capsys, "--keys", "100")
    assert (sum(kind["keys"] for kind in body["kinds"]), body["complete"]) == (100, False)
    assert body["keys"] == 2000


def test_slow_commands_are_shown_without_what_they_were_about(
    server: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    server.config_set("slowlog-log-slower-than", 0)
    try:
        server.set("myia:x", "canary-value")
    finally:
        server.config_set("slowlog-log-slower-than", 10_000)
    _code, body = run(capsys)
    assert "SET" in {slow["command"] for slow in body["slow"]}
    assert "canary" not in json.dumps(body)
    server.slowlog_reset()


def test_what_a_user_may_not_read_is_left_out_and_named(
    server: redis.Redis, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any) -> None:
        raise NoPermissionError("this user has no permissions")

    monkeypatch.setattr(redis.Redis, "slowlog_get", refuse)
    monkeypatch.setattr(redis_report, "measure", refuse)
    server.set("myia:cache:x", 1)
    assert run(capsys)[1]["denied"] == ["MEMORY USAGE", "SLOWLOG"]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({}, ""),
        ({"used_memory": 85, "maxmemory": 100}, "85 % of the maxmemory"),
        ({"used_memory": 600_000_000}, "has no maxmemory"),
        ({"evicted_keys": 3}, "has evicted 3 keys"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy of Redis is allkeys-lru"),
        ({"role": "slave"}, "Redis is a replica"),
        ({"aof_enabled": 0}, "Redis saves nothing"),
        ({"aof_enabled": 0, "rdb_last_save_time": 1}, ""),
        ({"aof_last_write_status": "err"}, "aof_last_write_status of Redis is err"),
    ],
)
def test_what_is_wrong_is_a_finding(info: dict[str, Any], words: str) -> None:
    report = redis_report.RedisReport("Valkey", WELL | info, 0, True, (), {}, (), ())
    assert [finding.what for finding in report.findings if words not in finding.what] == []
    assert len(report.findings) == bool(words)


def test_keys_that_pile_up_are_findings() -> None:
    kinds = (
        redis_report.KeyKind("others", keys=10_001, without_ttl=10_001),
        redis_report.KeyKind("journals of runs", keys=5, without_ttl=2, needs_ttl=True),
    )
    report = redis_report.RedisReport("Valkey", WELL, 0, True, kinds, {}, (), ())
    assert [finding.what for finding in report.findings] == [
        "10001 keys are not ours.",
        "2 keys of the kind 'journals of runs' never expire.",
    ]
    assert not replace(report, kinds=()).findings


def test_a_redis_that_is_down_is_a_sentence(settings: Any) -> None:
    settings.REDIS_URL = "redis://:hunter22@127.0.0.1:9/0"
    with pytest.raises(CommandError, match="Redis cannot be reached") as refusal:
        call_command("redis_report")
    assert refusal.value.returncode == 2
    assert "hunter22" not in str(refusal.value)
    with pytest.raises(CommandError, match="--keys"):
        call_command("redis_report", "--keys", "0")
