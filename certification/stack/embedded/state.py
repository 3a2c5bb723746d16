"""The folders of the embedded servers, and the ports and passwords generated for them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

from certification.stack.embedded.errors import EmbeddedError

HOST = "127.0.0.1"
# Below the range that Linux (32768-60999) and macOS (49152-65535) hand to outgoing connections: a
# port from that range may be in use by one of them at the next start.
FIRST_PORT, PORTS = 15000, 15000
START_SECONDS = 60
STOP_SECONDS = 30


class ServerAccess(TypedDict):
    """How a server is reached."""

    port: int
    password: str


class EmbeddedState(TypedDict):
    """The content of `.myia/embedded.json`."""

    postgres: ServerAccess
    valkey: ServerAccess


class Servers(NamedTuple):
    """The URLs of the two servers."""

    database_url: str
    redis_url: str


def home(root: Path) -> Path:
    """Return the folder of everything embedded."""
    return root.resolve() / ".myia"


def make_home(root: Path) -> Path:
    """Create the folder if needed and return it."""
    folder = home(root)
    if not folder.exists():
        # As root the servers run as another user, who must pass through here; what is secret inside
        # is closed itself.
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        give_to_owner(root, folder)
    return folder


def give_to_owner(root: Path, path: Path) -> None:
    """Give a file that root made in somebody's project to that person."""
    owner = root.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def to_urls(state: EmbeddedState) -> Servers:
    """Return the URLs that a state describes."""
    postgres, valkey = state["postgres"], state["valkey"]
    return Servers(
        f"postgres://myia:{postgres['password']}@{HOST}:{postgres['port']}/myia",
        f"redis://:{valkey['password']}@{HOST}:{valkey['port']}/0",
    )


def read(root: Path) -> EmbeddedState | None:
    """Return the stored state, None when there is none or it is damaged."""
    try:
        state: EmbeddedState = json.loads((home(root) / "embedded.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state


def write(root: Path, state: EmbeddedState) -> None:
    """Store the state, readable by its owner only."""
    path = home(root) / "embedded.json"
    draft = path.with_suffix(f".{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)
    give_to_owner(root, draft)
    draft.replace(path)


def read_or_create(root: Path) -> EmbeddedState:
    """Return the state; the first caller chooses ports and generates passwords. A lost state file
    is harmless: passwords are set at every start.
    """
    if state := read(root):
        return state
    with lock(root):
        state = read(root)
        if state is None:
            port = free_port(first_port(root))
            state = {
                "postgres": {"port": port, "password": secrets.token_urlsafe(32)},
                "valkey": {"port": free_port(port + 1), "password": secrets.token_urlsafe(32)},
            }
            write(root, state)
    return state


@contextlib.contextmanager
def lock(root: Path) -> Iterator[None]:
    """Let one process at a time start, stop or choose ports. The kernel releases the lock when its
    holder dies.
    """
    path = make_home(root) / "embedded.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        give_to_owner(root, path)
        deadline = time.monotonic() + 2 * START_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"Another process has held {path} for {2 * START_SECONDS} s while starting "
                        "or stopping the embedded servers. Look for a hanging manage.py and end "
                        "it, then try again."
                    ) from None
                time.sleep(0.02)
        yield


def first_port(root: Path) -> int:
    """Return the port to try first, which differs between installations."""
    digest = hashlib.sha256(os.fsencode(home(root))).digest()
    return FIRST_PORT + int.from_bytes(digest[:4], "big") % PORTS


def free_port(first: int) -> int:
    """Return the first free port from `first` on. Raises EmbeddedError after 500."""
    for port in range(first, first + 500):
        if is_free(port):
            return port
    raise EmbeddedError(
        f"No port is free on {HOST} from {first} to {first + 499}. End the programs that use them, "
        "or set DATABASE_URL and REDIS_URL to servers of your own."
    )


def is_free(port: int) -> bool:
    """Whether no program listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # as the servers do: TIME_WAIT is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def settle_port(root: Path, state: EmbeddedState, access: ServerAccess) -> int:
    """Return a server's stored port, or choose and store another when it was taken meanwhile."""
    if not is_free(access["port"]):
        access["port"] = free_port(access["port"] + 1)
        write(root, state)
    return access["port"]
