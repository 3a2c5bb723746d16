"""Temporary servers, emulator and workers for a command, for as long as it runs."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from celery import current_app
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from certification.engine import backend, queue
from certification.models import AIModel
from certification.models.catalogue import load_shipped
from certification.stack import embedded, programs
from certification.stack.control import ensure_servers, files
from certification.stack.processes import NotReady, Processes


def database(write: Callable[[str], None] = lambda _line: None) -> None:
    """Start the embedded servers, bring the tables up to date and load the catalogue. A database
    of the operator's own (DATABASE_URL) is not migrated.

    Raises NotReady and EmbeddedError.
    """
    ensure_servers()
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        if not settings.EMBEDDED_POSTGRES:
            raise NotReady("The database's tables are not up to date. Run: manage.py migrate")
        write("Creating the database's tables")
        call_command("migrate", interactive=False, verbosity=0)
    if not AIModel.objects.exists():
        write("Loading the shipped catalogue")
        load_shipped()


def alive_workers(queue_name: str) -> int:
    """Return how many workers take our backend's runs from this queue now. Takes about a second.

    Raises NotReady when all who take from it use another backend, which leaves our runs waiting.
    """
    replies = current_app.control.broadcast("work_taken", reply=True, timeout=1.0) or []
    takers = [
        worker
        for reply in replies
        for worker in reply.values()
        if queue_name in worker.get("queues", ())
    ]
    ours = [worker for worker in takers if worker["backend"] == backend.name()]
    if takers and not ours:
        other = takers[0]["backend"]
        raise NotReady(
            f"The running workers use the backend {other}, this command {backend.name()}. Restart "
            "them with this environment (manage.py down, then up), or set "
            f"BEDROCK_BACKEND={other}."
        )
    return len(ours)


def wait_for_workers(queue_name: str, processes: Processes, count: int = 1) -> None:
    """Return once `count` workers take this queue's messages. Raises NotReady when one of the
    processes ends first, or after READY_SECONDS.
    """
    processes.wait_until(lambda: alive_workers(queue_name) >= count, "worker")


@contextlib.contextmanager
def workers(priority: str, write: Callable[[str], None]) -> Iterator[None]:
    """Have workers on the queue of this priority for the block: the running ones, or our own when
    none runs.

    The local emulator is started too where it is the backend and does not run. Raises NotReady.
    """
    name = queue.name_for(priority)
    with emulator(), Processes(files().logs) as own:
        if not alive_workers(name):
            write(
                "No worker is running: starting one for this command (manage.py up keeps workers "
                "running)."
            )
            for program in programs.workers_for(priority):
                own.start(program)
            wait_for_workers(name, own)
        yield


@contextlib.contextmanager
def emulator() -> Iterator[None]:
    """Have the local emulator for the block, where it is the backend: the running one, or our own.
    Raises NotReady.
    """
    with Processes(files().logs) as own:
        for program in programs.programs():
            if program.name == "emulator" and not listens(program.port):
                own.start(program)
                own.wait_until(functools.partial(listens, program.port), "emulator")
        yield


def listens(port: int | None) -> bool:
    """Whether a program accepts connections at this port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port or 0), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """Stop the embedded servers after the block, unless they ran before it or a stack uses them."""
    root = Path(settings.MYIA_ROOT)
    was_running = embedded.running(root)
    try:
        yield
    finally:
        supervisor, _records = files().read()
        if not was_running and supervisor is None:
            connections.close_all()
            embedded.stop(root)
