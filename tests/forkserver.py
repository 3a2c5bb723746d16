"""The process that `tests.forked` has its commands run by. It loads what reads no settings, then
forks for each command: `python -m tests.forkserver SOCKET`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence

from tests.forked import STATUS
from tests.paths import PROJECT

# Neither the settings nor the environment decides what they are; the rest a command imports itself.
PRELOADED = """
    aiohttp asgiref.local boto3 botocore.session celery.app.task celery.fixups.django
    celery.local cron_descriptor cryptography.fernet dateutil.rrule django.contrib.messages
    django.core.checks django.core.management.base django.db.backends.postgresql.base
    django.db.migrations.executor django.db.models django.forms django.template.engine
    django.test.signals django.urls django.utils.translation gzip jsonschema
    kombu.transport.redis logging.handlers msgspec psutil psycopg_pool redis.asyncio regex
    rich.console rich.live rich.progress rich.table sqlparse structlog tomllib yaml
    certification.bedrock.diagnosis certification.emulator certification.inference
    certification.reasons certification.stack.processes certification.suite.registry
    certification.suite.scoring certification.suite.versions
"""


def main(path: str) -> None:
    """Serve until our starter ends, who holds the other end of standard input."""
    for name in PRELOADED.split():
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch a command
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run_for(connection)
            return
        connection.close()


def run_for(connection: socket.socket) -> None:
    """Run one command in a fork of ours. Returns in that fork, once the command has ended; the
    process that watches it does not return.
    """
    header, streams, _, _ = socket.recv_fds(connection, STATUS.size, 3)
    size = STATUS.unpack(header)[0]
    message = b""
    while len(message) < size:
        message += connection.recv(size - len(message))
    folder, count, *rest = message.decode(errors="surrogateescape").split("\0")
    child = os.fork()
    for number, stream in enumerate(streams):
        if not child:
            os.dup2(stream, number)
        os.close(stream)
    if child:
        watch(child, connection)
    connection.close()
    os.chdir(folder)
    run(rest[: int(count)], rest[int(count) :])


def watch(child: int, connection: socket.socket) -> None:
    """Pass signals on to a command, kill it when nobody waits for it any more, say how it ended."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended:
        readable, _, _ = select.select([woken, connection], [], [])
        if connection in readable:
            received = connection.recv(1)
            os.kill(child, received[0] if received else signal.SIGKILL)
            if not received:
                os._exit(0)
        ended, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(BrokenPipeError):
        connection.send(STATUS.pack(status))
    os._exit(0)


def run(arguments: Sequence[str], environ: Sequence[str]) -> None:
    """Run a script of the project as Python itself would."""
    os.environ.clear()
    os.environ.update(dict(entry.split("=", 1) for entry in environ))
    sys.argv = [*arguments]
    sys.path[0] = str(PROJECT)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
