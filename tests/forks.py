"""Start the product's processes as forks of one that has the libraries loaded: most of the CPU of a
process that does little goes into importing them.

After `install()`, `subprocess` starts `python manage.py ...` and `python -m ...` in the project's
folder by way of a fork server (`tests.forkserver`). To its starter and to the machine such a fork
is what a process of its own would be: a child of its starter, with its own pid, session, streams,
arguments and environment. Whatever else is started (`python -c`, a PYTHONPATH, another folder, a
program that is not Python) starts as ever, and so does everything where there is no Linux or
Python starts processes in another way.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certification.stack.embedded.privileges import STEP_DOWN_SCRIPT
from tests.paths import PROJECT

SIZE, PID = struct.Struct("I"), struct.Struct("i")
PR_SET_CHILD_SUBREAPER = 36
# of the arguments of `_posixsubprocess.fork_exec`, by position
ARGUMENTS, PASSED, FOLDER, ENVIRONMENT, NEW_SESSION = 0, 3, 4, 5, 15
STREAMS = (6, 9, 11)  # the child's ends of its standard streams, -1 where it inherits ours
NEVER_SET = {16: -1, 17: None, 18: None, 19: None, 20: -1, 21: None}  # group, user, umask, ...
ERROR_PIPE = 13
STEPS_DOWN = ["-I", "-S", "-c", STEP_DOWN_SCRIPT]

# What a server is started with, for its forks to show their own arguments and environment there.
ROOM = "x" * 3000

lock = threading.Lock()


@dataclass(frozen=True)
class Request:
    """What a fork is to run: `arguments` are those after `python`; `starter` becomes its parent."""

    arguments: list[str]
    environ: list[str]
    new_session: bool
    starter: int

    @classmethod
    def of(cls, options: Sequence[Any]) -> Request | None:
        """Return what `subprocess` was told to start, None when it cannot be a fork."""
        if any(options[position] != value for position, value in NEVER_SET.items()):
            return None
        if Path(os.fsdecode(options[FOLDER] or os.getcwd())) != PROJECT:
            return None
        python, *arguments = (os.fsdecode(word) for word in options[ARGUMENTS])
        program = without_step_down(arguments)
        is_ours = program[:1] == ["-m"] and not program[1].startswith("tests.")
        if python != sys.executable or not (is_ours or program[:1] == ["manage.py"]):
            return None
        entries = options[ENVIRONMENT] or [b"%b=%b" % item for item in os.environb.items()]
        environ = [os.fsdecode(entry) for entry in entries]
        has_path = any(entry.startswith("PYTHONPATH=") for entry in environ)
        if has_path or options[PASSED] != (options[ERROR_PIPE],):
            return None
        return cls(arguments, environ, bool(options[NEW_SESSION]), os.getpid())

    def send(self, server: socket.socket, streams: Sequence[int]) -> None:
        """Ask the server for a fork with these standard streams."""
        message = json.dumps(asdict(self)).encode()
        socket.send_fds(server, [SIZE.pack(len(message))], streams)
        server.sendall(message)

    @classmethod
    def receive(cls, starter: socket.socket) -> tuple[Request, list[int]] | None:
        """Return the next request and its streams, None when the starter has ended."""
        header, streams, _, _ = socket.recv_fds(starter, SIZE.size, 3)
        if not header:
            return None
        message = starter.recv(SIZE.unpack(header)[0], socket.MSG_WAITALL)
        return cls(**json.loads(message)), streams


def without_step_down(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the program that steps down from root first, if it does."""
    if list(arguments[:4]) == STEPS_DOWN and arguments[7] == sys.executable:
        return list(arguments[8:])
    return list(arguments)


def install(connect: Callable[[], socket.socket]) -> None:
    """Have `subprocess` start forks by the server that `connect` connects to at the first one."""
    # Python's own, and may be renamed
    start_process: Callable[..., int] | None = getattr(subprocess, "_fork_exec", None)
    if sys.platform != "linux" or start_process is None:
        return
    servers: list[socket.socket] = []

    def fork_exec(*options: Any) -> int:
        request = Request.of(options)
        if request is None:
            return int(start_process(*options))
        streams = [ours if options[i] == -1 else options[i] for ours, i in enumerate(STREAMS)]
        with lock:
            if not servers:
                servers.append(connect())
            with child_subreaper():
                request.send(servers[0], streams)
                answer = servers[0].recv(PID.size, socket.MSG_WAITALL)
        if len(answer) < PID.size:
            raise RuntimeError("The fork server of the tests ended.")
        return int(PID.unpack(answer)[0])

    subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]


@contextlib.contextmanager
def child_subreaper() -> Iterator[None]:
    """Become, for the block, the parent of those among our descendants whose parent ends."""
    control = ctypes.CDLL(None).prctl
    control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        control(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def start_server() -> socket.socket:
    """Start the fork server of this process, which ends with it; return our connection to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver", str(theirs.fileno()), ROOM],
            cwd=PROJECT,
            env={**os.environ, "ROOM": ROOM * 10},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )

    def stop() -> None:
        ours.close()
        server.wait()

    atexit.register(stop)
    return ours
