"""Look at the stack of this machine and stop it, from outside its supervisor."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from certification.lib import redis_address
from certification.stack import embedded
from certification.stack.processes import find, is_alive, is_free, kill_group
from certification.stack.programs import is_called, programs
from certification.stack.supervisor import Files, ProcessRecord, StackError

START_SECONDS = 30  # a process that does not answer after that is reported as not answering

RUNNING, STARTING, SILENT, DOWN, EXTERNAL = (
    "running",
    "starting",
    "not answering",
    "down",
    "elsewhere",
)


@dataclass(frozen=True)
class ProcessStatus:
    """One line of `status`. `memory_bytes` is resident memory, that of children included; `fault`
    what is wrong though the process works.
    """

    name: str
    state: str
    pid: int | None = None
    since: datetime | None = None
    port: int | None = None
    memory_bytes: int | None = None
    restarts: int = 0
    url: str = ""
    fault: str = ""

    @property
    def is_up(self) -> bool:
        return self.state in {RUNNING, EXTERNAL}

    def to_json(self) -> dict[str, Any]:
        return {
            "process": self.name,
            "state": self.state,
            "pid": self.pid,
            "since": self.since.isoformat() if self.since else None,
            "port": self.port,
            "memoryBytes": self.memory_bytes,
            "restarts": self.restarts,
            "url": self.url or None,
            "fault": self.fault or None,
        }


def files() -> Files:
    """Return the files of this installation's stack."""
    return Files(Path(settings.MYIA_DIR))


def ensure_servers(patience_s: float = embedded.START_SECONDS) -> bool:
    """Start the embedded servers that are used here and do not run; whether there was one to start.
    One that lives without answering is waited for so long. Raises EmbeddedError, Silent.
    """
    used = {"database": settings.EMBEDDED_POSTGRES, "redis": settings.EMBEDDED_VALKEY}
    root = Path(settings.MYIA_ROOT)
    if not any(used.values()) or embedded.running(root, **used):
        return False
    embedded.ensure(root, **used, patience_s=patience_s)
    return True


class ServerWatch:
    """Restarts embedded servers that died, and reports those that live without answering."""

    def __init__(self) -> None:
        self._silent_since: float | None = None
        self._last = ""

    def check(self) -> str:
        """Look once. Return what happened since the last look, empty when nothing did."""
        message = ""
        try:
            if ensure_servers(patience_s=0) and self._silent_since is None:
                message = "an embedded server had died and was restarted"
        except embedded.Silent as error:
            self._silent_since = self._silent_since or time.monotonic()
            message = str(error)
        except embedded.EmbeddedError as error:
            message = str(error)
        else:
            if self._silent_since is not None:
                seconds = time.monotonic() - self._silent_since
                message = f"the embedded servers answer again, after {seconds:.0f} s"
                self._silent_since = None
        if message == self._last:
            return ""
        self._last = message
        return message


def status() -> list[ProcessStatus]:
    """Return the state of the two servers and of every process of the stack. Starts nothing."""
    supervisor, records = files().read()
    processes = server_status()
    if records:
        processes.append(process_status("supervisor", supervisor, with_children=False))
    for record in records:
        process = find(record.pid, record.created)
        state = DOWN
        if process:
            state = STARTING if time.time() - record.created < START_SECONDS else SILENT
            if record.port is None or answers(record.port, record.health):
                state = RUNNING
        processes.append(
            ProcessStatus(
                name=record.name,
                state=state,
                pid=record.pid if process else None,
                since=datetime.fromtimestamp(record.created, UTC) if process else None,
                port=record.port,
                memory_bytes=memory(process) if process else None,
                restarts=record.restarts,
                url=record.url,
                fault=clock_fault(record.port, record.url) if state == RUNNING else "",
            )
        )
    if supervisor is None:
        known = {process.name for process in processes}
        processes += [
            ProcessStatus(program.name, DOWN, port=program.port, url=program.url)
            for program in programs()
            if program.name not in known
        ]
    return processes


def server_status() -> list[ProcessStatus]:
    """Return the state of PostgreSQL and Valkey; of servers that are not ours only the host."""
    servers = {server.name: server for server in embedded.status(Path(settings.MYIA_ROOT))}
    result = []
    for name, is_embedded, url in (
        ("postgres", settings.EMBEDDED_POSTGRES, settings.DATABASE_URL),
        ("valkey", settings.EMBEDDED_VALKEY, settings.REDIS_URL),
    ):
        if is_embedded:
            server = servers[name]
            state = RUNNING if server.running else SILENT
            result.append(process_status(name, server.pid, state, url=f"unix:{server.socket}"))
        else:
            result.append(ProcessStatus(name, EXTERNAL, url=redis_address.shown(url)))
    return result


def process_status(
    name: str, pid: int | None, state: str = RUNNING, *, url: str = "", with_children: bool = True
) -> ProcessStatus:
    """Return `state` with its details for a pid that lives, else DOWN."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if pid:
            process = psutil.Process(pid)
            since = datetime.fromtimestamp(process.create_time(), UTC)
            used = memory(process, with_children=with_children)
            return ProcessStatus(name, state, pid, since, memory_bytes=used, url=url)
    return ProcessStatus(name, DOWN, url=url)


def answers(port: int, health: str) -> bool:
    """Whether the port is open and, where there is a health path, answers 200 within 1 s."""
    if not health:
        return not is_free(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", health)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def clock_fault(port: int | None, url: str) -> str:
    """Return what a worker says in its health page of its clock; "" when it is right, or from other
    processes.
    """
    if port is None or not url.endswith("/health"):
        return ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        answer = json.load(connection.getresponse())["worker"]["clock"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return ""
    finally:
        connection.close()
    return "" if answer == "ok" else str(answer)


def memory(process: psutil.Process, *, with_children: bool = True) -> int:
    """Return the resident memory of a process (and its children) in bytes."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for member in (process, *(process.children(recursive=True) if with_children else ())):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def wait_until_up(
    names: Sequence[str], seconds: float = 60, is_over: Callable[[], bool] = lambda: False
) -> list[ProcessStatus]:
    """Wait until every process named is up, for `seconds` at most or until `is_over()`; return
    their last state.
    """
    deadline = time.monotonic() + seconds
    while True:
        processes = [process for process in status() if process.name in names]
        is_up = len(processes) == len(names) and all(process.is_up for process in processes)
        if is_up or is_over() or time.monotonic() > deadline:
            return processes
        time.sleep(0.25)


def to_restart(names: Sequence[str]) -> list[ProcessRecord]:
    """Return the processes of the running stack with these names, all without names. Raises
    StackError.
    """
    supervisor, records = files().read()
    if supervisor is None:
        raise StackError("MyIA is not running here. Start it with `manage.py up`.")
    chosen = [record for record in records if is_called(record.name, names)]
    if not chosen:
        running = ", ".join(record.name for record in records)
        raise StackError(f"No such process is running here. Running: {running}.")
    return chosen


def restart(
    names: Sequence[str], write: Callable[[str], Any], *, now: bool = False
) -> list[ProcessStatus]:
    """End the processes one after the other, each drained, or killed `now`, and wait until the
    supervisor has each up again. `write` gets a line for each step. Return how they are then.

    Raises StackError.
    """
    restarted = []
    for record in to_restart(names):
        process = find(record.pid, record.created)
        if now:
            write(f"{record.name}: killing pid {record.pid}")
            kill_group(record.pid)
        else:
            write(
                f"{record.name}: restarting pid {record.pid} "
                f"(up to {record.drain_seconds} s to end its work)"
            )
        if process and now:
            wait_gone(process, 5)
        elif process and record.reload:
            # It replaces its children: the port stays open, so no request is lost.
            children = process.children()
            process.send_signal(signal.Signals[record.reload])
            deadline = time.monotonic() + record.drain_seconds
            for child in children:
                wait_gone(child, max(0.0, deadline - time.monotonic()))
        elif process:
            end(record, process, write)
        [after] = wait_until_up([record.name]) or [ProcessStatus(record.name, DOWN)]
        if not after.is_up:
            log = files().logs / f"{record.name}.log"
            raise StackError(f"{record.name} is {after.state}. Its log: {log}")
        write(f"{record.name}: {after.state}, pid {after.pid}")
        restarted.append(after)
    return restarted


def stop(write: Callable[[str], Any]) -> bool:
    """Stop the supervisor with all it started, or what a killed supervisor left; then the embedded
    servers. `write` gets a line for each step.

    Return False when nothing ran. Raises StackError, EmbeddedError.
    """
    supervisor, records = files().read()
    if supervisor is not None:
        limit = sum(record.drain_seconds for record in records) + 10
        write(f"stopping {', '.join(record.name for record in records)} (up to {limit} s)")
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            process = psutil.Process(supervisor)
            process.terminate()
            wait_gone(process, limit)
            if is_alive(process):
                process.kill()
                write("the supervisor did not end and was killed")
    leftovers = end_leftovers(write)
    return stop_servers(write) or leftovers > 0 or supervisor is not None


def stop_servers(write: Callable[[str], Any]) -> bool:
    """Stop the embedded servers, if they are used here. Return False when none ran. Raises
    EmbeddedError.
    """
    if not (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_VALKEY):
        return False
    names = embedded.stop(Path(settings.MYIA_ROOT))
    for name in names:
        write(f"{name} stopped")
    return bool(names)


def end_leftovers(write: Callable[[str], Any]) -> int:
    """End what a killed supervisor left running; return the number of processes ended."""
    _, records = files().read()
    leftovers = [
        (record, process)
        for record in sorted(records, key=lambda record: -record.stage)
        if (process := find(record.pid, record.created))
    ]
    for record, process in leftovers:
        write(f"{record.name} (pid {record.pid}) was left by a supervisor that died; ending it")
        end(record, process, write)
    files().state.unlink(missing_ok=True)
    return len(leftovers)


def end(record: ProcessRecord, process: psutil.Process, write: Callable[[str], Any]) -> None:
    """Ask a process to end, and kill it with its children after its `drain_seconds`."""
    process.terminate()
    wait_gone(process, record.drain_seconds)
    if is_alive(process):
        write(f"{record.name} did not end within {record.drain_seconds} s and was killed")
        kill_group(record.pid)
        wait_gone(process, 5)


def wait_gone(process: psutil.Process, seconds: float) -> None:
    """Wait until a process has ended, for `seconds` at most."""
    deadline = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
