"""Start, stop and look at the two embedded servers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from certification.stack.embedded import postgres, valkey
from certification.stack.embedded.errors import os_errors_as_embedded_error
from certification.stack.embedded.state import (
    POSTGRES_SOCKET,
    START_SECONDS,
    VALKEY_SOCKET,
    Servers,
    home,
    is_private,
    lock,
    read,
    read_or_create,
    socket_folder,
    stored,
    to_urls,
)


@dataclass(frozen=True)
class ServerStatus:
    """One embedded server as it is now: `running` when it answers; `pid` is that of its process,
    which may live without answering.
    """

    name: str
    running: bool
    pid: int | None
    socket: Path | None
    folder: Path


def urls(root: Path) -> Servers:
    """Return the URLs of the embedded servers of the project at `root`, whether they run or not.
    Starts nothing; ~0.1 ms.

    The first call generates passwords and stores them. Where they cannot be stored (a read-only
    image being built) the URLs lead nowhere: whoever needs the servers calls `ensure`, which says
    why.
    """
    try:
        state = read_or_create(root)
    except OSError:
        state = None
    return to_urls(root, state)


def running(root: Path, *, database: bool = True, redis: bool = True) -> bool:
    """Whether the chosen servers answer. Needs no lock and about 1 ms."""
    try:
        state = read(root)
    except OSError:
        return False
    if state is None:
        return False
    return (not database or postgres.is_ready(root, state)) and (
        not redis or valkey.is_ready(root, state)
    )


@os_errors_as_embedded_error
def ensure(
    root: Path,
    *,
    database: bool = True,
    redis: bool = True,
    durable: bool = True,
    patience_s: float = START_SECONDS,
) -> Servers:
    """Start what does not run yet and return the URLs; about 1 ms when everything runs, 1 s at the
    very first start.

    Safe to call from several processes at once. The servers outlive the caller; `stop` ends them.
    Without `durable` a PostgreSQL that is started here waits for no disk, and a crash of the
    machine may destroy its data: for data that is thrown away, such as that of tests. What was
    committed survives a crash of the server alone, as it does in production.
    A server that lives and does not answer is waited for `patience_s`. Raises EmbeddedError, or
    Silent when it did not answer until then.
    """
    if running(root, database=database, redis=redis):
        return urls(root)
    state = read_or_create(root)
    with lock(root):
        state = read(root) or state
        if database and not postgres.is_ready(root, state):
            postgres.start(root, state, durable=durable, patience_s=patience_s)
        if redis and not valkey.is_ready(root, state):
            valkey.start(root, state, patience_s=patience_s)
    return to_urls(root, state)


@os_errors_as_embedded_error
def stop(root: Path) -> list[str]:
    """Stop both servers cleanly and return the names of those that ran. Raises EmbeddedError."""
    if not home(root).exists():
        return []
    with lock(root):
        ran = {"valkey": valkey.stop(root), "postgres": postgres.stop(root)}
    return [name for name, was_running in ran.items() if was_running]


def discard(root: Path) -> None:
    """Stop both servers of an installation that is not used again, and remove the folder of their
    sockets where that is not below it. Raises EmbeddedError.
    """
    stop(root)
    state = stored(root)
    if state and state["sockets"] and is_private(root, Path(state["sockets"])):
        shutil.rmtree(state["sockets"], ignore_errors=True)


@os_errors_as_embedded_error
def status(root: Path) -> list[ServerStatus]:
    """Return the state of both servers. Starts nothing."""
    state = read(root)
    sockets = socket_folder(root, state) if state else None
    processes = {"postgres": postgres.find(root), "valkey": valkey.find(root)}
    ready = {
        "postgres": bool(state and postgres.is_ready(root, state)),
        "valkey": bool(state and valkey.is_ready(root, state)),
    }
    return [
        ServerStatus(
            name=name,
            running=ready[name],
            pid=process.pid if process else None,
            socket=sockets / {"postgres": POSTGRES_SOCKET, "valkey": VALKEY_SOCKET}[name]
            if sockets
            else None,
            folder=home(root) / name,
        )
        for name, process in processes.items()
    ]
