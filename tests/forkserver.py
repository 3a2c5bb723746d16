"""The process that `tests.forks` forks from. It loads what reads no settings, then forks for each
request of its starter: `python -m tests.forkserver SOCKET`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import os
import runpy
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from certification.stack.embedded.privileges import STEP_DOWN_SCRIPT
from tests import forks
from tests.forks import PID, Request, without_step_down

# Neither the settings nor the environment decides what they are; the rest a process imports itself.
PRELOADED = """
    aiohttp asgiref.local boto3 botocore.session celery.app.control celery.app.task
    celery.app.trace celery.apps.worker celery.bin.celery celery.concurrency.thread
    celery.fixups.django celery.local celery.worker.components cron_descriptor
    cryptography.fernet dateutil.rrule django.contrib.messages django.core.checks
    django.core.management.base django.db.backends.postgresql.base
    django.db.migrations.executor django.db.models django.forms django.template.engine
    django.test.signals django.urls django.utils.translation
    gzip jsonschema kombu.transport.redis
    logging.handlers msgspec psutil psycopg_pool redis.asyncio regex rich.console rich.live
    rich.progress rich.table sqlparse structlog tomllib yaml
    certification.bedrock.diagnosis certification.emulator certification.inference
    certification.reasons certification.stack.processes certification.suite.registry
    certification.suite.scoring certification.suite.versions
"""
PR_SET_DUMPABLE = 4
ADOPTION_S = 30


class SteppedDown(BaseException):
    """The script that gives up root's powers has come to its end, where it starts the program."""


def main(descriptor: int) -> None:
    """Load and serve."""
    for name in PRELOADED.split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    serve(socket.socket(fileno=descriptor))


def serve(starter: socket.socket) -> None:
    """Fork for each request of our starter until it ends. Returns in a fork, once its program has
    ended.
    """
    while received := Request.receive(starter):
        request, streams = received
        if (between := os.fork()) == 0:
            if os.fork() == 0:
                become(request, streams, starter)
                run(request)
                return
            os._exit(0)  # whose parent ends becomes a child of our starter
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)
    os._exit(0)


def become(request: Request, streams: Sequence[int], starter: socket.socket) -> None:
    """Be the starter's child, with the streams and the environment of the request; tell it our
    pid.
    """
    deadline = time.monotonic() + ADOPTION_S
    while os.getppid() != request.starter:
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(0.0005)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if request.new_session:
        os.setsid()
    starter.send(PID.pack(os.getpid()))
    starter.close()


def run(request: Request) -> None:
    """Run a program of the project as Python itself would."""
    program = without_step_down(request.arguments)
    if program[0] == "manage.py" or program[1].startswith("bench"):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:  # a server for what the program starts, from before it loads anything
            ours.close()
            silence()
            serve(theirs)
            return
        theirs.close()
        forks.install(lambda: ours)
    show([sys.executable, *program], request.environ)
    os.environ.clear()
    os.environ.update(dict(entry.split("=", 1) for entry in request.environ))
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout, sys.stderr = unbuffered(1, sys.stdout), unbuffered(2, sys.stderr)
    if program != request.arguments:
        step_down(request.arguments[4:])
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


def silence() -> None:
    """Hold no stream of anybody's open."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def show(arguments: Sequence[str], environ: Sequence[str]) -> None:
    """Have the system show these, which other programs look for, in place of the server's."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    first, first_end, second, second_end = (int(field) for field in fields[45:49])
    title = os.fsencode(" ".join(arguments))[: first_end - first - 2]
    # an end that is not zero says that a program wrote it, who ends it with a zero of its own
    ctypes.memmove(first, title.ljust(first_end - first - 1, b"\0") + b".", first_end - first)
    size = second_end - second
    entries = b"".join(os.fsencode(entry) + b"\0" for entry in environ)[: size - 1]
    ctypes.memmove(second, entries.ljust(size, b"\0"), size)


def unbuffered(number: int, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that passes on at once, as with PYTHONUNBUFFERED."""
    raw = io.FileIO(number, "w", closefd=False)
    encoding, errors = stream.encoding, stream.errors
    return io.TextIOWrapper(raw, encoding=encoding, errors=errors, write_through=True)


def step_down(arguments: Sequence[str]) -> None:
    """Give up root's powers by the product's own script, which ends with starting the program."""
    sys.argv = ["-c", *arguments]
    with mock.patch.object(os, "execv", side_effect=SteppedDown), contextlib.suppress(SteppedDown):
        exec(STEP_DOWN_SCRIPT, {"__name__": "__main__"})
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after a start


if __name__ == "__main__":
    main(int(sys.argv[1]))
