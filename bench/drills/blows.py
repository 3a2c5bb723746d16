"""The drills: each disturbs a running stack, holds that, and lifts it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import redis
from django.conf import settings

from bench.drills.stack import Stack, fill
from certification.stack import programs
from certification.stack.control import files
from certification.stack.processes import Processes

SERVERS = ("postgres", "valkey")
SERVICES = ("web", "worker", "worker-bulk", "beat", "emulator", "supervisor")
HOLD_S = 20.0

Blow = Callable[[Stack], None]


@dataclass(frozen=True)
class Drill:
    """What is done (`blow` returns once it is lifted), and whether it needs small disks."""

    what: str
    blow: Blow
    needs_disks: bool = False


def drills() -> dict[str, Drill]:
    """Return every drill by its name."""
    result = {"none": Drill("nothing", lambda _stack: None)}
    for name in (*SERVERS, *SERVICES):
        result[f"kill-{name}"] = Drill(f"`kill -9` of {name}", kill(name))
        for seconds in (5, 60):
            result[f"freeze-{name}-{seconds}"] = Drill(
                f"{name} stopped (SIGSTOP) for {seconds} s", freeze(name, seconds)
            )
    return result | {
        "kill-workers": Drill("`kill -9` of both workers", kill("worker", "worker-bulk")),
        "kill-everything": Drill("`kill -9` of every process, then `up`", kill_everything),
        "redis-full": Drill(f"Redis full for {HOLD_S:g} s", redis_config("maxmemory", 1, 0)),
        "redis-read-only": Drill(f"Redis a read-only replica for {HOLD_S:g} s", read_only),
        "redis-emptied": Drill("Redis killed, its files deleted", empty),
        "redis-flushed": Drill("FLUSHALL", lambda _stack: valkey().flushall() and None),
        "postgres-exhausted": Drill(f"all connections taken for {HOLD_S:g} s", exhaust),
        "postgres-terminated": Drill("every connection ended, five times", terminate),
        "two-beats": Drill(f"a second beat for {HOLD_S:g} s", second_beat),
        "disk-full-postgres": Drill(
            f"PostgreSQL's disk full for {HOLD_S:g} s", disk("postgres"), True
        ),
        "disk-full-valkey": Drill(f"Redis' disk full for {HOLD_S:g} s", disk("valkey"), True),
    }


def kill(*names: str) -> Blow:
    def blow(stack: Stack) -> None:
        members = [process for name in names for process in stack.processes(name)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            if number == signal.SIGSTOP:
                stack.count_in_flight(names[0])
        if names == ("supervisor",):  # nobody restarts it but an operator
            time.sleep(5)
            stack.up()

    return blow


def freeze(name: str, seconds: float) -> Blow:
    def blow(stack: Stack) -> None:
        with stack.frozen(name):
            time.sleep(seconds)

    return blow


def kill_everything(stack: Stack) -> None:
    stack.kill_everything()
    time.sleep(2)
    stack.up()


def valkey() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL)


def redis_config(name: str, value: object, after: object) -> Blow:
    def blow(_stack: Stack) -> None:
        client = valkey()
        client.config_set(name, value)
        try:
            time.sleep(HOLD_S)
        finally:
            client.config_set(name, after)

    return blow


def read_only(_stack: Stack) -> None:
    client = valkey()
    client.replicaof("127.0.0.1", "9")
    try:
        time.sleep(HOLD_S)
    finally:
        client.replicaof("NO", "ONE")


def empty(stack: Stack) -> None:
    stack.send("valkey", signal.SIGKILL)
    shutil.rmtree(stack.root / ".myia" / "valkey" / "appendonlydir", ignore_errors=True)


def exhaust(_stack: Stack) -> None:
    with contextlib.ExitStack() as connections:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                connections.enter_context(psycopg.connect(settings.DATABASE_URL))
        time.sleep(HOLD_S)


def terminate(_stack: Stack) -> None:
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as connection:
        for _ in range(5):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = current_user AND pid <> pg_backend_pid()"
            )
            time.sleep(3)


def second_beat(stack: Stack) -> None:
    [beat] = [program for program in programs.programs() if program.name == "beat"]
    with Processes(files().logs, stack.environment) as own:
        own.start(beat)
        time.sleep(HOLD_S)


def disk(name: str) -> Blow:
    def blow(stack: Stack) -> None:
        with filled(stack, name):
            time.sleep(HOLD_S)

    return blow


@contextlib.contextmanager
def filled(stack: Stack, name: str) -> Iterator[None]:
    filler = fill(stack.root / ".myia" / name)
    try:
        yield
    finally:
        filler.unlink()
