"""What Redis holds and how it is: memory, keys by kind, queues, slow commands, safety.

Keys are scanned in small steps, never listed at once, and only so many. Names of keys that are not
ours, and arguments of commands, are shown to nobody: they may hold anything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from certification.engine import queue
from certification.lib import counters, redis_client, shared_cache
from certification.lib.redis_client import Purpose
from certification.models import Priority
from certification.monitoring.findings import Finding, Repair

SCAN_STEP, SCAN_S = 500, 5.0
SAMPLE = 20  # keys of a kind whose memory is measured
MAX_SLOW = 10
MEMORY_PERCENT, MAX_MEMORY = 80.0, 500_000_000  # of maxmemory; bytes without one
MAX_OTHERS = 10_000  # keys beyond the runs that wait
MESSAGES, OTHERS = "messages", "others"
# The kinds of our keys, the first that matches; what every one of a kind needs is a time to live.
KINDS: tuple[tuple[str, str, bool], ...] = (
    ("cache", re.escape(shared_cache.PREFIX), False),
    ("rate limits of Bedrock", r"myia:limit", False),
    ("journals of runs", r"myia:journal:", True),
    ("requests per minute", r"myia:rate:", True),
    ("counters", rf"{re.escape(counters.KEY)}$", False),
    ("Celery", r"_kombu\.|unacked|.*\.pidbox|celery|.*\.celeryd?|flower", False),
)


# What is reported of `INFO`, by our names.
FIGURES = {
    "usedMemory": "used_memory",
    "maxMemory": "maxmemory",
    "policy": "maxmemory_policy",
    "fragmentation": "mem_fragmentation_ratio",
    "clients": "connected_clients",
    "commandsPerSecond": "instantaneous_ops_per_sec",
    "evictedKeys": "evicted_keys",
    "expiredKeys": "expired_keys",
    "hits": "keyspace_hits",
    "misses": "keyspace_misses",
    "appendOnly": "aof_enabled",
    "lastSave": "rdb_last_save_time",
    "uptimeSeconds": "uptime_in_seconds",
    "role": "role",
}


@dataclass
class KeyKind:
    """The keys of one kind, of those that were scanned; `memory`, in bytes, is estimated from a
    few of them.
    """

    name: str
    keys: int = 0
    without_ttl: int = 0
    memory: int = 0
    needs_ttl: bool = False
    sample: list[bytes] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class SlowCommand:
    """A command that took long, by its first word alone."""

    at: datetime
    ms: float
    command: str


@dataclass(frozen=True)
class RedisReport:
    """`complete`: whether all keys were scanned. What this user may not read is in `denied`."""

    server: str
    info: Mapping[str, Any]
    keys: int
    complete: bool
    kinds: Sequence[KeyKind]
    queues: Mapping[str, int]
    slow: Sequence[SlowCommand]
    denied: Sequence[str]

    @property
    def findings(self) -> list[Finding]:
        return [*memory_faults(self.info), *safety_faults(self.info), *key_faults(self.kinds)]

    def to_json(self) -> dict[str, Any]:
        kinds = [
            {
                "name": kind.name,
                "keys": kind.keys,
                "withoutTtl": kind.without_ttl,
                "bytes": kind.memory,
            }
            for kind in self.kinds
        ]
        return {
            "server": self.server,
            **{name: self.info.get(field) for name, field in FIGURES.items()},
            "keys": self.keys,
            "complete": self.complete,
            "kinds": kinds,
            "queues": self.queues,
            "slow": [asdict(slow) for slow in self.slow],
            "denied": self.denied,
            "findings": [finding.to_json() for finding in self.findings],
        }


def read(max_keys: int) -> RedisReport:
    """Ask Redis; at most so many keys are looked at. Raises `redis_client.UNAVAILABLE`."""
    client = redis_client.client(Purpose.BROKER)
    info = client.info()
    denied: list[str] = []
    kinds, complete = scan(client, max_keys, denied)
    return RedisReport(
        server="Valkey" if "valkey_version" in info else "Redis",
        info=info,
        keys=client.dbsize(),
        complete=complete,
        kinds=kinds,
        queues={name: int(client.llen(name)) for name in queue_names()},
        slow=slow_commands(client, denied),
        denied=denied,
    )


def queue_names() -> list[str]:
    """Return the queues of this installation, those of pinned regions too."""
    regions = ["", *settings.PINNED_REGIONS]
    names = [queue.name_for(priority, region) for priority in Priority.values for region in regions]
    return list(dict.fromkeys([*names, settings.CELERY_TASK_DEFAULT_QUEUE]))


def scan(client: Redis, max_keys: int, denied: list[str]) -> tuple[list[KeyKind], bool]:
    """Count keys by kind, for SCAN_S at most, and measure a few of each."""
    kinds = {name: KeyKind(name, needs_ttl=needs) for name, _pattern, needs in KINDS}
    kinds |= {name: KeyKind(name) for name in (MESSAGES, OTHERS)}
    own = set(queue_names())
    cursor, scanned, deadline = 0, 0, time.monotonic() + SCAN_S
    while True:
        cursor, page = client.scan(cursor, count=min(SCAN_STEP, max_keys))
        names = [to_bytes(name) for name in page[: max_keys - scanned]]
        for name, ttl in zip(names, ttls(client, names), strict=True):
            kind = kinds[kind_of(name, own)]
            kind.keys += 1
            kind.without_ttl += ttl == -1
            if len(kind.sample) < SAMPLE:
                kind.sample.append(name)
        scanned += len(names)
        if cursor == 0 or scanned >= max_keys or time.monotonic() > deadline:
            break
    try:
        for kind in kinds.values():
            measure(client, kind)
    except (NoPermissionError, ResponseError):
        denied.append("MEMORY USAGE")
    used = [kind for kind in kinds.values() if kind.keys]
    return sorted(used, key=lambda kind: -kind.keys), cursor == 0


def to_bytes(name: bytes | str) -> bytes:
    """Return a name as our clients get it: they decode nothing."""
    return name if isinstance(name, bytes) else name.encode()


def ttls(client: Redis, names: Sequence[bytes]) -> list[int]:
    """Return the seconds to live of each key; -1: for ever, -2: it is gone."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.ttl(name)
        return [int(ttl) for ttl in pipeline.execute()]


def measure(client: Redis, kind: KeyKind) -> None:
    """Estimate the bytes of a kind from its sample."""
    if not kind.sample:
        return
    with client.pipeline(transaction=False) as pipeline:
        for name in kind.sample:
            pipeline.memory_usage(name)
        sizes = [int(size) for size in pipeline.execute() if size]
    kind.memory = round(sum(sizes) / len(sizes) * kind.keys) if sizes else 0


def kind_of(name: bytes, queues: set[str]) -> str:
    text = name.decode(errors="replace")
    base = str(settings.CERTIFICATION_QUEUE_NAME)
    if text in queues or text.startswith((f"{base}.", f"{base}\x06")):
        return MESSAGES
    return next((kind for kind, pattern, _ttl in KINDS if re.match(pattern, text)), OTHERS)


def slow_commands(client: Redis, denied: list[str]) -> list[SlowCommand]:
    """Return the newest commands of the slow log."""
    try:
        entries = client.slowlog_get(MAX_SLOW)
    except (NoPermissionError, ResponseError):
        denied.append("SLOWLOG")
        return []
    return [
        SlowCommand(
            at=datetime.fromtimestamp(entry["start_time"], UTC),
            ms=round(entry["duration"] / 1000, 1),
            command=first_word(entry["command"]),
        )
        for entry in entries
    ]


def first_word(command: bytes) -> str:
    word = command.split(b" ", 1)[0].decode("ascii", "replace").upper()
    return word if re.fullmatch(r"[A-Z.|_]{1,30}", word) else "?"


def memory_faults(info: Mapping[str, Any]) -> list[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    findings = []
    if limit and used > MEMORY_PERCENT / 100 * limit:
        what = f"{100 * used / limit:.0f} % of the maxmemory of Redis are in use."
        findings.append(Finding(what, "At the limit no message can be sent.", "Raise maxmemory."))
    elif used > MAX_MEMORY:
        what = f"Redis uses {used / 1e6:.0f} MB, and has no maxmemory."
        why = "It may take the memory of everything else."
        findings.append(Finding(what, why, "manage.py redis_report; set maxmemory."))
    if evicted := int(info.get("evicted_keys", 0)):
        what = f"Redis has evicted {evicted} keys since it started."
        fix = "Raise maxmemory; reconcile sends messages again."
        findings.append(Finding(what, "Messages may be among them.", fix))
    return findings


def safety_faults(info: Mapping[str, Any]) -> list[Finding]:
    """Return what may lose messages. Our own server is set right by a repair."""
    findings = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        what, fix = f"maxmemory-policy of Redis is {policy}.", "Set it to noeviction."
        repair = configuration("maxmemory-policy", "noeviction")
        findings.append(Finding(what, "It may drop messages.", fix, repair))
    if info.get("cluster_enabled"):
        what, fix = "REDIS_URL names a Redis Cluster.", "Use one server, or Sentinels."
        findings.append(Finding(what, "Celery cannot send through one.", fix))
    if info.get("role") == "slave":
        what, fix = "Redis is a replica.", "Name the primary in REDIS_URL."
        findings.append(Finding(what, "It takes no messages.", fix))
    if not info.get("aof_enabled") and not info.get("rdb_last_save_time"):
        what, why = "Redis saves nothing.", "A restart sends every message again."
        findings.append(Finding(what, why, "appendonly yes", configuration("appendonly", "yes")))
    for name in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            what = f"{name} of Redis is {info[name]}."
            findings.append(Finding(what, "It cannot write to its disk.", "Free space there."))
    return findings


def configuration(name: str, value: str) -> Repair | None:
    """Return what sets our own server's configuration; None for a server of the operator's own."""
    if not settings.EMBEDDED_VALKEY:
        return None

    def run() -> str:
        redis_client.client(Purpose.BROKER).config_set(name, value)
        return f"{name} is {value}."

    return Repair(f"Set {name} of the embedded Redis to {value}.", run)


def key_faults(kinds: Sequence[KeyKind]) -> list[Finding]:
    findings = []
    for kind in kinds:
        if kind.needs_ttl and kind.without_ttl:
            what = f"{kind.without_ttl} keys of the kind '{kind.name}' never expire."
            findings.append(Finding(what, "They pile up.", "Report it as a fault."))
        if kind.name == OTHERS and kind.keys > MAX_OTHERS:
            what = f"{kind.keys} keys are not ours."
            fix = "Give each program its own server, or its own database."
            findings.append(Finding(what, "Others use this server too.", fix))
    return findings
