"""The whole stack on one machine: which processes there are, how they stand, how they are stopped
from outside.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.conf import settings

from certification.engine import backend, queue
from certification.models import Backend, Priority
from certification.stack import embedded
from certification.stack.embedded import is_free
from certification.stack.supervisor import (
    Files,
    ProcessRecord,
    Program,
    StackError,
    find,
    is_alive,
    kill_group,
)

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
    """One line of `status`. `memory_bytes` is the resident memory of the process and its children."""

    name: str
    state: str
    pid: int | None = None
    since: datetime | None = None
    port: int | None = None
    memory_bytes: int | None = None
    restarts: int = 0
    url: str = ""

    @property
    def is_up(self) -> bool:
        return self.state in {RUNNING, EXTERNAL}


# The table


def programs() -> list[Program]:
    """Every process of the stack under the current settings.

    Two worker processes, so that a click never waits behind a sweep: only `worker` takes
    interactive runs (and the short maintenance tasks), only `worker-bulk` takes runs of large jobs.
    The second does not help out with the first queue although it could: a worker reserves more
    messages than it runs, and a click reserved by a worker full of a sweep would wait behind it.
    """
    common = [] if settings.WORKER_REGIONS else ["maintenance"]
    python = sys.executable
    celery = (python, "-m", "celery", "--quiet", "-A", "myia")
    concurrency = str(settings.CERTIFICATION_CONCURRENCY)
    flower_port: int = getattr(settings, "FLOWER_PORT", 5555)

    def worker(name: str, queues: Sequence[str], port: int) -> Program:
        return Program(
            name=name,
            argv=(
                *(
                    *celery,
                    "worker",
                    "--pool",
                    "threads",
                    "--concurrency",
                    concurrency,
                    "--queues",
                    ",".join(queues),
                ),
                *(
                    "--hostname",
                    f"{name}@%h",
                    "--loglevel",
                    "INFO",
                    "--without-gossip",
                    "--without-mingle",
                ),
            ),
            stage=1,
            env={"WORKER_HEALTH_PORT": str(port)},
            port=port,
            port_setting="WORKER_HEALTH_PORT",
            page="/health",
            health="/live",
            drain_seconds=60,
            on_kill="its unfinished runs are taken up again by `reconcile`",
        )

    table = [
        worker(
            "worker",
            [*queue.taken_here(Priority.INTERACTIVE), *common],
            settings.WORKER_HEALTH_PORT,
        ),
        worker("worker-bulk", queue.taken_here(Priority.BULK), settings.WORKER_HEALTH_PORT + 1),
        Program(
            name="web",
            argv=(
                *(python, "-m", "gunicorn", "myia.wsgi", "--bind", f"127.0.0.1:{settings.PORT}"),
                *("--worker-class", "gthread", "--workers", "2", "--threads", "16"),
                *(
                    "--graceful-timeout",
                    "15",
                    "--max-requests",
                    "20000",
                    "--max-requests-jitter",
                    "2000",
                ),
                *("--log-level", "warning", "--no-control-socket"),
            ),
            stage=2,
            port=settings.PORT,
            port_setting="PORT",
            page="/",
            health="/live",
            drain_seconds=20,
            reload="SIGHUP",
        ),
        Program(
            name="beat",
            argv=(
                *(
                    *celery,
                    "beat",
                    "--scheduler",
                    "django_celery_beat.schedulers:DatabaseScheduler",
                ),
                *("--loglevel", "INFO", "--pidfile="),
            ),
            stage=3,
        ),
        Program(
            name="flower",
            argv=(*celery, "flower", "--address=127.0.0.1", f"--port={flower_port}"),
            stage=3,
            port=flower_port,
            port_setting="FLOWER_PORT",
            page="/",
        ),
    ]
    if backend.name() == Backend.EMULATOR and not settings.BEDROCK_ENDPOINT_URL:
        table.insert(0, _emulator())
    return table


def _emulator() -> Program:
    port = settings.EMULATOR_PORT
    argv = [sys.executable, "manage.py", "bedrock_emulator", "--port", str(port)]
    argv += ["--time-scale", str(settings.EMULATOR_TIME_SCALE)]
    if settings.EMULATOR_SCENARIO:
        argv += ["--scenario", settings.EMULATOR_SCENARIO]
    return Program("emulator", tuple(argv), stage=0, port=port, port_setting="EMULATOR_PORT")


def select(table: Sequence[Program], names: Sequence[str]) -> list[Program]:
    """The programs called so; `worker` means both workers. All without names. Raises StackError."""
    unknown = [
        name for name in names if not any(_is_called(program.name, name) for program in table)
    ]
    if unknown:
        raise StackError(
            f"There is no process {unknown[0]!r} here: {', '.join(program.name for program in table)}."
        )
    return [
        program
        for program in table
        if not names or any(_is_called(program.name, name) for name in names)
    ]


def _is_called(process: str, name: str) -> bool:
    return process == name or process.startswith(f"{name}-")


def flower_login() -> str:
    """`user:password` for Flower: FLOWER_BASIC_AUTH, else drawn once and kept in `secrets_file()`."""
    if configured := getattr(settings, "FLOWER_BASIC_AUTH", ""):
        return str(configured)
    path = secrets_file()
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "FLOWER_BASIC_AUTH" and value:
                return value
    login = f"myia:{secrets.token_urlsafe(18)}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
        file.write(f"FLOWER_BASIC_AUTH={login}\n")
    return login


def secrets_file() -> Path:
    """Where passwords drawn for this installation are kept, readable by its owner only."""
    return Path(settings.MYIA_DIR) / "secrets"


# Before the start


def check_ports(table: Sequence[Program]) -> None:
    """Raises StackError naming every port that is taken, by whom, and how to choose another."""
    taken = [
        (program, program.port) for program in table if program.port and not is_free(program.port)
    ]
    if not taken:
        return
    holders = _listeners()
    lines = [
        f"Port {port} ({program.name}) is taken by {holders.get(port, 'a process of another user')}. End it, or choose "
        f"another port: {program.port_setting}={_next_free(port + 10)} manage.py up"
        for program, port in taken
    ]
    raise StackError("\n".join(lines))


def _next_free(port: int) -> int:
    return next((candidate for candidate in range(port, 65536, 10) if is_free(candidate)), port)


def _listeners() -> dict[int, str]:
    """Who listens on each TCP port, as far as this user may see."""
    holders: dict[int, str] = {}
    with contextlib.suppress(psutil.AccessDenied):  # macOS tells only root
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
                with contextlib.suppress(psutil.Error):
                    command = shlex.join(psutil.Process(connection.pid).cmdline())
                    holders[connection.laddr.port] = f"pid {connection.pid}: {command[:200]}"
    return holders


def files() -> Files:
    """The files of this installation's stack."""
    return Files(Path(settings.MYIA_DIR))


def keep_embedded() -> str:
    """Starts embedded servers that died; what happened in words, or nothing."""
    which = {"database": settings.EMBEDDED_POSTGRES, "redis": settings.EMBEDDED_VALKEY}
    root = Path(settings.MYIA_ROOT)
    if not any(which.values()) or embedded.running(root, **which):
        return ""
    try:
        embedded.ensure(root, **which)
    except embedded.EmbeddedError as error:
        return str(error)
    return "an embedded server had died and was started again"


# Looking at it and stopping it from outside


def status() -> list[ProcessStatus]:
    """The two servers and every process the supervisor was asked to keep. Starts nothing."""
    supervisor, started = files().read()
    processes = [_status_of(process) for process in started]
    if started:
        processes.insert(0, _plain_status("supervisor", supervisor, with_children=False))
    if supervisor is None:
        known = {process.name for process in processes}
        processes += [
            ProcessStatus(program.name, DOWN, port=program.port, url=program.url)
            for program in programs()
            if program.name not in known
        ]
    return [*_server_status(), *processes]


def _status_of(started: ProcessRecord) -> ProcessStatus:
    process = find(started.pid, started.created)
    if process is None:
        return ProcessStatus(
            started.name, DOWN, port=started.port, restarts=started.restarts, url=started.url
        )
    state = STARTING if time.time() - started.created < START_SECONDS else SILENT
    if started.port is None or _answers(started.port, started.health):
        state = RUNNING
    return ProcessStatus(
        name=started.name,
        state=state,
        pid=started.pid,
        since=datetime.fromtimestamp(started.created, UTC),
        port=started.port,
        memory_bytes=_memory(process),
        restarts=started.restarts,
        url=started.url,
    )


def _server_status() -> list[ProcessStatus]:
    ours = {server.name: server for server in embedded.status(Path(settings.MYIA_ROOT))}
    found = []
    for name, is_embedded, url in (
        ("postgres", settings.EMBEDDED_POSTGRES, settings.DATABASE_URL),
        ("valkey", settings.EMBEDDED_VALKEY, settings.REDIS_URL),
    ):
        if not is_embedded:
            parts = urlsplit(url)
            found.append(
                ProcessStatus(
                    name, EXTERNAL, port=parts.port, url=f"{parts.scheme}://{parts.hostname}"
                )
            )
            continue
        found.append(_plain_status(name, ours[name].pid, ours[name].port))
    return found


def _plain_status(
    name: str, pid: int | None, port: int | None = None, *, with_children: bool = True
) -> ProcessStatus:
    with contextlib.suppress(psutil.NoSuchProcess):
        if pid:
            process = psutil.Process(pid)
            since = datetime.fromtimestamp(process.create_time(), UTC)
            return ProcessStatus(
                name, RUNNING, pid, since, port, _memory(process, with_children=with_children)
            )
    return ProcessStatus(name, DOWN, port=port)


def _answers(port: int, health: str) -> bool:
    """Whether the port is open and, where there is a health path, answers it within 1 s with less
    than 500.
    """
    if not health:
        return not is_free(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", health)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _memory(process: psutil.Process, *, with_children: bool = True) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        for member in (process, *(process.children(recursive=True) if with_children else ())):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def wait_until_up(
    names: Sequence[str], seconds: float = 60, gave_up: Callable[[], bool] = lambda: False
) -> list[ProcessStatus]:
    """The status once every process named is up, or what it is after `seconds` or once `gave_up()`."""
    deadline = time.monotonic() + seconds
    while True:
        found = [process for process in status() if process.name in names]
        is_up = len(found) == len(names) and all(process.is_up for process in found)
        if is_up or gave_up() or time.monotonic() > deadline:
            return found
        time.sleep(0.25)


def restart(names: Sequence[str], tell: Callable[[str], Any]) -> None:
    """Ends the processes one after the other, each drained, and waits until the supervisor has each
    up again.

    Raises StackError.
    """
    supervisor, started = files().read()
    if supervisor is None:
        raise StackError("MyIA is not running here: start it with `manage.py up`.")
    chosen = [
        process
        for process in started
        if not names or any(_is_called(process.name, name) for name in names)
    ]
    if not chosen:
        raise StackError(
            f"No such process runs here: {', '.join(process.name for process in started)}."
        )
    for process in chosen:
        tell(
            f"{process.name}: restarting pid {process.pid} (up to {process.drain_seconds} s to end its work)"
        )
        if process.reload:
            _replace_children(process)
        else:
            _end(process, tell)
        [now] = wait_until_up([process.name]) or [ProcessStatus(process.name, DOWN)]
        if not now.is_up:
            raise StackError(
                f"{process.name} is {now.state}: see {files().logs / process.name}.log"
            )
        tell(f"{process.name}: {now.state}, pid {now.pid}")


def stop(tell: Callable[[str], Any]) -> bool:
    """Stops the supervisor with all it started, or what a killed supervisor left; then the embedded
    servers.

    False when nothing ran. Raises StackError, EmbeddedError.
    """
    supervisor, started = files().read()
    if supervisor is not None:
        bound = sum(process.drain_seconds for process in started) + 10
        tell(f"stopping {', '.join(process.name for process in started)} (up to {bound} s)")
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            leader = psutil.Process(supervisor)
            leader.terminate()
            _wait_gone(leader, bound)
            if is_alive(leader):
                leader.kill()
                tell("the supervisor did not end and was killed")
    left = end_leftovers(tell)
    return stop_servers(tell) or left > 0 or supervisor is not None


def stop_servers(tell: Callable[[str], Any]) -> bool:
    """Stops the embedded servers, if they are what is used here. False when none ran. Raises
    EmbeddedError.
    """
    if not (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_VALKEY):
        return False
    names = embedded.stop(Path(settings.MYIA_ROOT))
    for name in names:
        tell(f"{name} stopped")
    return bool(names)


def end_leftovers(tell: Callable[[str], Any]) -> int:
    """Ends what a killed supervisor left running; the number of processes ended."""
    _, started = files().read()
    left = [process for process in started if find(process.pid, process.created)]
    for process in sorted(left, key=lambda each: -each.stage):
        tell(f"{process.name} (pid {process.pid}) was left by a supervisor that died; ending it")
        _end(process, tell)
    files().state.unlink(missing_ok=True)
    return len(left)


def _end(started: ProcessRecord, tell: Callable[[str], Any]) -> None:
    process = find(started.pid, started.created)
    if process is None:
        return
    process.terminate()
    _wait_gone(process, started.drain_seconds)
    if is_alive(process):
        tell(f"{started.name} did not end within {started.drain_seconds} s and was killed")
        kill_group(started.pid)
        _wait_gone(process, 5)


def _replace_children(started: ProcessRecord) -> None:
    """Has the process replace its children: the port stays open, so no request is lost."""
    process = find(started.pid, started.created)
    if process is None:
        return
    children = process.children()
    process.send_signal(signal.Signals[started.reload])
    deadline = time.monotonic() + started.drain_seconds
    for child in children:
        _wait_gone(child, max(0.0, deadline - time.monotonic()))


def _wait_gone(process: psutil.Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
