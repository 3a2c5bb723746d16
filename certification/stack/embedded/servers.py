"""Start, stop and look at the two embedded servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certification.stack.embedded import postgres, valkey
from certification.stack.embedded.errors import os_errors_as_embedded_error
from certification.stack.embedded.probes import read_pid
from certification.stack.embedded.state import (
    HOST,
    Servers,
    first_port,
    home,
    lock,
    read,
    read_or_create,
    to_urls,
)


@dataclass(frozen=True)
class ServerStatus:
    """One embedded server as it is now; `pid` is None when it does not run."""

    name: str
    running: bool
    pid: int | None
    port: int | None
    folder: Path


def urls(root: Path) -> Servers:
    """Return the URLs of the embedded servers of the project at `root`, whether they run or not.
    Starts nothing; ~0.1 ms.

    The first call chooses ports, generates passwords and stores both. Where they cannot be stored
    (a read-only image being built) the URLs lead nowhere: whoever needs the servers calls `ensure`,
    which says why.
    """
    try:
        return to_urls(read_or_create(root))
    except OSError:
        port = first_port(root)
        return Servers(f"postgres://myia@{HOST}:{port}/myia", f"redis://{HOST}:{port + 1}/0")


def running(root: Path, *, database: bool = True, redis: bool = True) -> bool:
    """Whether the chosen servers answer at their ports. Needs no lock and about 1 ms."""
    try:
        state = read(root)
    except OSError:
        return False
    if state is None:
        return False
    return (not database or postgres.is_ready(root, state)) and (
        not redis or valkey.is_ready(state)
    )


@os_errors_as_embedded_error
def ensure(
    root: Path, *, database: bool = True, redis: bool = True, durable: bool = True
) -> Servers:
    """Start what does not run yet and return the URLs; about 1 ms when everything runs, 1 s at the
    very first start.

    Safe to call from several processes at once. The servers outlive the caller; `stop` ends them.
    Without `durable` a PostgreSQL that is started here waits for no disk, and a crash of the
    machine may destroy its data: for data that is thrown away, such as that of tests. What was
    committed survives a crash of the server alone, as it does in production.
    Call it before the settings are read: when a port was taken meanwhile by another program the
    server moves, and its URL with it. Raises EmbeddedError.
    """
    if running(root, database=database, redis=redis):
        return urls(root)
    state = read_or_create(root)
    with lock(root):
        state = read(root) or state
        if database and not postgres.is_ready(root, state):
            postgres.start(root, state, durable=durable)
        if redis and not valkey.is_ready(state):
            valkey.start(root, state)
    return to_urls(state)


@os_errors_as_embedded_error
def stop(root: Path) -> list[str]:
    """Stop both servers cleanly and return the names of those that ran. Raises EmbeddedError."""
    state = read(root)
    if state is None:
        return []
    with lock(root):
        ran = {"valkey": valkey.stop(root, state), "postgres": postgres.stop(root)}
    return [name for name, was_running in ran.items() if was_running]


@os_errors_as_embedded_error
def status(root: Path) -> list[ServerStatus]:
    """Return the state of both servers. Starts nothing."""
    ready, ports = dict[str, bool](), dict[str, int]()
    if state := read(root):
        ready = {"postgres": postgres.is_ready(root, state), "valkey": valkey.is_ready(state)}
        ports = {"postgres": state["postgres"]["port"], "valkey": state["valkey"]["port"]}
    pid_files = {
        "postgres": postgres.data_folder(root) / "postmaster.pid",
        "valkey": home(root) / "valkey" / "valkey.pid",
    }
    return [
        ServerStatus(
            name=name,
            running=ready.get(name, False),
            pid=read_pid(pid_file) if ready.get(name) else None,
            port=ports.get(name),
            folder=pid_file.parent,
        )
        for name, pid_file in pid_files.items()
    ]
