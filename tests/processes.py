"""Real workers and an emulator for a test that starts and kills them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import psycopg
import redis
from celery import current_app
from django.conf import settings
from django.db import OperationalError, connection

from certification.stack import programs
from certification.stack.processes import Processes, Program
from tests import database
from tests.emulators import CONTROL

QUEUE = "live-stack"
LATENCY_MS = 120
SHIFTED_CLOCK = Path(__file__).parent / "shifted_clock"  # its sitecustomize shifts the clock
PATIENCE_S = 90  # a limit for what must happen, never a measure of how fast


def wait_until(condition: Callable[[], Any], what: str, pause_s: float = 0.1) -> Any:
    """Return the first true value of `condition()`. A database or Redis that is away counts as not
    yet.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if value := condition():
                return value
        except (OperationalError, psycopg.OperationalError, redis.RedisError):
            connection.close()
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(pause_s)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and its children, as by SIGSTOP, for the block."""
    members = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for member in members:
        member.suspend()
    try:
        yield
    finally:
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()


def management_command(*arguments: str) -> list[str]:
    """Return the command that runs `manage.py`."""
    return [sys.executable, "manage.py", *arguments]


class LiveStack(Processes):
    """An emulator with some latency, and the workers that a test starts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.workers = 0
        self.url = ""
        self.database_url = database.url(settings.DATABASES["default"]["NAME"])
        self.pooler = "none"
        self.restart_emulator()

    def restart_emulator(self, latency_ms: float = LATENCY_MS) -> None:
        """Start the emulator; after its first start, at the same address again."""
        port = int(self.url.rsplit(":", 1)[1]) if self.url else 0
        self.url, self.emulator = self.start_emulator(fixed_latency_ms=latency_ms, port=port)

    def stop_emulator(self) -> None:
        self.emulator.terminate()
        self.emulator.wait(15)

    def worker(self, *, concurrency: int = 3, clock_shift_s: float = 0) -> subprocess.Popen[bytes]:
        """Start a worker that takes every queue, and return it once it is ready. Its clock is so
        far off.
        """
        self.workers += 1
        name = f"worker-{self.workers}"
        queues = [QUEUE, f"{QUEUE}.bulk", "maintenance"]
        env = self.environment()
        if clock_shift_s:
            env |= {"PYTHONPATH": str(SHIFTED_CLOCK), "CLOCK_SHIFT_S": str(clock_shift_s)}
        process = self.start(programs.worker(name, queues, concurrency=concurrency, env=env))

        def answers() -> bool:
            assert process.poll() is None, (self.logs / f"{name}.log").read_text()
            replies = current_app.control.inspect(timeout=0.3).ping() or {}
            return any(node.startswith(f"{name}-") for node in replies)

        wait_until(answers, f"{name} takes work")
        return process

    def beat(self, name: str = "beat") -> subprocess.Popen[bytes]:
        """Start a beat with the schedule in the database."""
        argv = programs.run_module("celery --quiet -A myia beat --max-interval 1 --pidfile=")
        return self.start(Program(name, argv, env=self.environment()))

    def environment(self) -> dict[str, str]:
        """Return the variables that give a process this test's database, queue and emulator."""
        return {
            "DJANGO_SETTINGS_MODULE": "myia.settings",
            "DATABASE_URL": self.database_url,
            "DATABASE_POOLER": self.pooler,
            "REDIS_URL": settings.REDIS_URL,
            "SECRET_KEY": settings.SECRET_KEY,
            "BEDROCK_BACKEND": "emulator",
            "BEDROCK_ENDPOINT_URL": self.url,
            "CERTIFICATION_QUEUE_NAME": QUEUE,
            "CERTIFICATION_HEARTBEAT_TIMEOUT": str(settings.CERTIFICATION_HEARTBEAT_TIMEOUT),
            "CERTIFICATION_RESEND_AFTER": str(settings.CERTIFICATION_RESEND_AFTER),
            "WORKER_HEALTH_PORT": "0",
            "LOG_FORMAT": "json",
        }

    def set_scenario(self, toml: str) -> None:
        """Make the emulator follow this scenario from now on."""
        with urlopen(Request(f"{self.url}/_emulator/scenario", toml.encode(), CONTROL), timeout=10):
            pass

    def emulator_calls(self) -> int:
        """Count the runtime calls that the emulator answered since it started."""
        with urlopen(f"{self.url}/_emulator/stats", timeout=10) as response:
            calls = json.loads(response.read())["calls"]
        runtime = ("Converse", "ConverseStream", "InvokeModel")
        return sum(call["calls"] for call in calls if call["operation"] in runtime)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of this event from all workers."""
        lines = [
            json.loads(line)
            for log in self.logs.glob("worker-*.log")
            for line in log.read_text().splitlines()
            if line.startswith("{")
        ]
        return [line for line in lines if line.get("event") == name]
