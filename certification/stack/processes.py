"""Start processes of our own and end them: the one way for commands, tests and benches.

Each process has a log file and a session of its own. Ctrl-C therefore reaches only the command
that started it, which ends its processes in order. Knows nothing of Django.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PROJECT = Path(__file__).resolve().parents[2]
READY_SECONDS = 30  # for a process to answer after its start
# For processes to end after a block that broke off. Bounded, because a celery worker that is asked
# to end while it still starts may never notice.
BROKEN_OFF_SECONDS = 15
EMULATOR_URL = re.compile(r"^Emulator ready at (http://\S+)", re.MULTILINE)


class NotReady(Exception):
    """Something that was needed could not be started; the text says what to do."""


@dataclass(frozen=True)
class Program:
    """What a process runs. In a stack, starts go by ascending stage and stops by descending stage;
    the programs of stage 0 are called by the others.
    """

    name: str
    argv: tuple[str, ...]
    stage: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    port_setting: str = ""
    page: str = ""  # path to open in a browser
    # path that answers 200 while the process lives; without one an open port is enough
    health: str = ""
    drain_seconds: int = 10
    on_kill: str = ""  # what being killed means for the work it had
    reload: str = ""  # the signal on which it replaces its own children one by one

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.page}" if self.port else ""


class Processes:
    """Processes that live as long as a `with` block; their logs are `<logs>/<program name>.log`.

    At the end of the block all are asked to end, and those that have not ended after the longest
    `drain_seconds` are killed. After a block that broke off they have BROKEN_OFF_SECONDS: other
    workers take up what they leave unfinished.
    """

    def __init__(self, logs: Path, env: Mapping[str, str] | None = None) -> None:
        self.logs = logs
        self.env = env or {}
        self.running: list[subprocess.Popen[bytes]] = []
        self._drain_seconds = 0

    def start(self, program: Program) -> subprocess.Popen[bytes]:
        """Start a program; its `env` and then ours are added to the environment."""
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a signal between the birth of a process and the note of it would leave it running
        with uninterrupted(), (self.logs / f"{program.name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                program.argv,
                cwd=PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **program.env, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.running.append(process)
        self._drain_seconds = max(self._drain_seconds, program.drain_seconds)
        return process

    def start_emulator(
        self,
        *,
        scenario: str = "healthy",
        seed: int = 0,
        time_scale: float = 0.0,
        fixed_latency_ms: float | None = None,
        port: int = 0,
    ) -> tuple[str, subprocess.Popen[bytes]]:
        """Start an emulator of Bedrock and return (URL, process) once it answers.

        Port 0 takes a free one. Raises NotReady with what the emulator printed.
        """
        argv = [sys.executable, "-m", "certification.emulator", "--port", str(port)]
        argv += ["--scenario", scenario, "--seed", str(seed), "--time-scale", str(time_scale)]
        if fixed_latency_ms is not None:
            argv += ["--fixed-latency-ms", str(fixed_latency_ms)]
        name = f"emulator-{len(self.running) + 1}"
        log = self.logs / f"{name}.log"
        log.unlink(missing_ok=True)  # an earlier command's emulator had another URL
        process = self.start(Program(name, tuple(argv), stage=0))
        with contextlib.suppress(NotReady):
            self.wait_until(lambda: bool(EMULATOR_URL.search(log.read_text())), name, process)
        output = log.read_text()
        if match := EMULATOR_URL.search(output):
            return match[1], process
        raise NotReady(f"The emulator did not start: {output.strip() or 'it printed nothing'}")

    def wait_until(
        self,
        is_ready: Callable[[], bool],
        name: str,
        *processes: subprocess.Popen[bytes],
        seconds: float = READY_SECONDS,
    ) -> None:
        """Wait until `is_ready()`. Raises NotReady when one of the processes (default: any of
        ours) ends first, or after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            has_ended = any(each.poll() is not None for each in processes or self.running)
            if has_ended or time.monotonic() > deadline:
                raise NotReady(f"The {name} did not start. Its log is in {self.logs}.")
            time.sleep(0.05)

    def stop(self, seconds: float) -> None:
        """Ask all processes to end and kill those that still run after `seconds`.

        A second Ctrl-C kills at once, so that none of them is left.
        """
        with uninterrupted() as signals:
            for process in self.running:
                process.terminate()
            deadline = time.monotonic() + seconds
            for process in self.running:
                while process.poll() is None and not signals and time.monotonic() < deadline:
                    time.sleep(0.05)
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop(BROKEN_OFF_SECONDS if error else self._drain_seconds)


@contextlib.contextmanager
def emulator(
    *,
    scenario: str = "healthy",
    seed: int = 0,
    time_scale: float = 0.0,
    fixed_latency_ms: float | None = None,
    port: int = 0,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run one emulator for the block; yield (URL, process). Raises NotReady."""
    with tempfile.TemporaryDirectory(prefix="myia-") as logs, Processes(Path(logs)) as processes:
        yield processes.start_emulator(
            scenario=scenario,
            seed=seed,
            time_scale=time_scale,
            fixed_latency_ms=fixed_latency_ms,
            port=port,
        )


@contextlib.contextmanager
def uninterrupted() -> Iterator[list[int]]:
    """Hold Ctrl-C and SIGTERM back until the block has ended; yield the list of those received.

    Only in the main thread, where Python handles signals.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda arrived, _frame: received.append(arrived))
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if received:
            signal.raise_signal(received[0])


def is_free(port: int) -> bool:
    """Whether no program listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # as the servers do: TIME_WAIT is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def kill_group(pid: int) -> None:
    """Kill a process that leads its own session, and its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def find(pid: int, created: float) -> psutil.Process | None:
    """Return the process if it is alive and still the one that was started."""
    try:
        process = psutil.Process(pid)
        is_ours = abs(process.create_time() - created) < 0.02
    except psutil.NoSuchProcess:
        return None
    return process if is_ours and is_alive(process) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether the process runs. A zombie that nobody reaps (no init in a container) does not."""
    try:
        return process.is_running() and process.status() not in {
            psutil.STATUS_ZOMBIE,
            psutil.STATUS_DEAD,
        }
    except psutil.NoSuchProcess:
        return False
