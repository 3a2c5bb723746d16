"""What a command needs and does not find running, for as long as the command lives: servers,
emulator, workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from celery import current_app
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from certification.engine import backend
from certification.models import AIModel
from certification.models.catalogue import load_shipped
from certification.stack import embedded
from certification.stack.control import Program, files, programs

READY_S = 30
HURRY_S = 15  # a celery worker that is told to end while it begins may not hear it


class NotReady(Exception):
    """Something the command needs could not be started; the text says what to do."""


def database(tell: Callable[[str], None] = lambda _line: None) -> None:
    """Embedded servers running, tables up to date, catalogue loaded. With a DATABASE_URL of one's
    own nothing is migrated.

    Raises NotReady and embedded.EmbeddedError.
    """
    if settings.EMBEDDED_POSTGRES or settings.EMBEDDED_VALKEY:
        embedded.ensure(
            Path(settings.MYIA_ROOT),
            database=settings.EMBEDDED_POSTGRES,
            redis=settings.EMBEDDED_VALKEY,
        )
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        if not settings.EMBEDDED_POSTGRES:
            raise NotReady("The database's tables are not up to date. Run: manage.py migrate")
        tell("Creating the database's tables")
        call_command("migrate", interactive=False, verbosity=0)
    if not AIModel.objects.exists():
        tell("Loading the shipped catalogue")
        load_shipped()


def alive_workers(queue: str) -> int:
    """How many workers take our backend's runs from this queue now. Takes about a second.

    Raises NotReady when all who take from it use another backend: they would leave our runs lying.
    """
    replies = current_app.control.broadcast("work_taken", reply=True, timeout=1.0) or []
    here = [said for reply in replies for said in reply.values() if queue in said.get("queues", ())]
    ours = [said for said in here if said["backend"] == backend.name()]
    if here and not ours:
        raise NotReady(
            f"The running workers use the backend {here[0]['backend']}, this command {backend.name()}. Restart them with "
            f"this environment (manage.py down, then up), or set BEDROCK_BACKEND={here[0]['backend']}."
        )
    return len(ours)


@contextlib.contextmanager
def uninterrupted() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM wait until the block has ended; the list fills with the numbers of those
    that came.

    Only in the main thread, where signals are heard.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda heard, _frame: came.append(heard))
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def processes(
    programs: Sequence[Program], env: Mapping[str, str] | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run these programs while the block runs, their output in the log folder; ended in order
    afterwards.

    After a block that broke off they have HURRY_S to end: what they leave unfinished is taken up
    again elsewhere.
    """
    files().make()
    started: list[tuple[Program, subprocess.Popen[str], IO[str]]] = []
    most: float = HURRY_S
    try:
        for program in programs:
            # else a signal between the birth of a process and the note of it leaves it running
            with uninterrupted():
                started.append(_begin(program, env or {}))
        yield [process for _program, process, _log in started]
        most = max((program.drain_seconds for program in programs), default=0)
    finally:
        _end(started, most)


def _begin(
    program: Program, env: Mapping[str, str]
) -> tuple[Program, subprocess.Popen[str], IO[str]]:
    log = (files().logs / f"{program.name}.log").open("a")
    process = subprocess.Popen(  # noqa: S603 - our own programs
        program.argv,
        cwd=settings.BASE_DIR,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **program.env, **env},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C reaches the command, which ends the rest in order
    )
    return program, process, log


def _end(started: Sequence[tuple[Program, subprocess.Popen[str], IO[str]]], seconds: float) -> None:
    # a second Ctrl-C: do not wait for the rest, and leave none of it
    with uninterrupted() as impatient:
        for _program, process, _log in started:
            process.terminate()
        deadline = time.monotonic() + seconds
        for _program, process, log in started:
            while process.poll() is None and not impatient and time.monotonic() < deadline:
                time.sleep(0.05)
            process.kill()
            process.wait()
            log.close()


def wait_for_workers(queue: str, running: Sequence[subprocess.Popen[str]], count: int = 1) -> None:
    """Return once workers take this queue's messages. Raises NotReady when one dies first, or after
    READY_S.
    """
    deadline = time.monotonic() + READY_S
    while alive_workers(queue) < count:
        dead = [process for process in running if process.poll() is not None]
        if dead or time.monotonic() > deadline:
            raise NotReady(f"The worker did not start. Its log is in {files().logs}.")


@contextlib.contextmanager
def workers(tell: Callable[[str], None]) -> Iterator[None]:
    """Make sure that somebody works on the queues while the block runs: the workers that run
    already, or our own.

    The local emulator comes too where it is the backend and does not run. Raises NotReady.
    """
    queue = settings.CERTIFICATION_QUEUE_NAME
    with emulator(), contextlib.ExitStack() as stack:
        if not alive_workers(queue):
            tell(
                "No worker is running: starting one for this command (manage.py up keeps them running)."
            )
            running = stack.enter_context(processes(own_workers()))
            wait_for_workers(queue, running)
            wait_for_workers(f"{queue}.bulk", running)
        yield


@contextlib.contextmanager
def emulator() -> Iterator[None]:
    """The local emulator while the block runs, where it is the backend and does not run already.
    Raises NotReady.
    """
    table = [
        program
        for program in programs()
        if program.name == "emulator" and not listens(program.port)
    ]
    with processes(table) as running:
        deadline = time.monotonic() + READY_S
        while any(not listens(program.port) for program in table):
            if running[0].poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"The emulator did not start. Its log is in {files().logs}.")
            time.sleep(0.05)
        yield


def own_workers() -> list[Program]:
    """The stack's workers, without their health servers: those ports may belong to a running stack."""
    ours = [program for program in programs() if program.name.startswith("worker")]
    return [_apart(program) for program in ours]


def _apart(program: Program) -> Program:
    """A worker that can run beside the stack's: no health port, and a node name of its own."""
    name = f"{program.name}@%h"
    argv = tuple(
        f"{program.name}-{os.getpid()}@%h" if word == name else word for word in program.argv
    )
    return replace(program, argv=argv, env={**program.env, "WORKER_HEALTH_PORT": "0"})


def listens(port: int | None) -> bool:
    """Whether somebody takes connections at this port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port or 0), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """Embedded servers for the block; those that were not running before are stopped after it,
    unless a stack uses them.
    """
    root = Path(settings.MYIA_ROOT)
    was_running = embedded.running(root)
    try:
        yield
    finally:
        stack, _started = files().read()
        if not was_running and stack is None:
            connections.close_all()
            embedded.stop(root)
