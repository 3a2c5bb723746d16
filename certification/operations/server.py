"""The database server from outside Django: its databases, and the programs pg_dump and pg_restore.

Connections here are opened and closed one by one: the pool belongs to one database, and what is
done here may rename that one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import psycopg
from django.db import connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import Identifier

from certification.operations import sql
from certification.operations.archive import BackupFault
from certification.stack.embedded import EmbeddedError, postgres

MAINTENANCE = ("postgres", "template1")  # databases to connect to while ours is renamed
# One restore, drill or verification at a time: a scratch database that nobody works on can then be
# told from one in use. Held in the maintenance database.
RESTORE_LOCK = 5_870_340
LOCK_WAIT = "60s"
# Sessions that are idle end first; after these seconds those that were idle just now, then all.
PATIENT_S, GENTLE_S = 2.0, 3.5
SWAP_ATTEMPTS = 6
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


def parameters(database: str = "") -> dict[str, Any]:
    """Return libpq's parameters of our database, or of another one of its cluster."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    options = connection.get_connection_params()
    values = {name: value for name, value in options.items() if name in known and value != ""}
    return values | {"dbname": database or our_database()}


def our_database() -> str:
    return str(connection.settings_dict["NAME"])


def connect(database: str = "") -> psycopg.Connection[Any]:
    """Open a connection in autocommit. Raises psycopg.Error."""
    return psycopg.connect(**parameters(database), autocommit=True, prepare_threshold=None)


def connect_cluster() -> psycopg.Connection[Any]:
    """Connect to another database of the cluster than ours. Raises BackupFault."""
    fault = ""
    for name in MAINTENANCE:
        try:
            return connect(name)
        except psycopg.OperationalError as error:
            fault = str(error).strip()
    raise BackupFault(
        f"Neither the database {' nor '.join(MAINTENANCE)} can be used ({fault}). The role needs "
        "to connect to one of them and to create databases: ALTER ROLE ... CREATEDB"
    )


@contextlib.contextmanager
def hold_lock(holder: psycopg.Connection[Any], kind: int, number: int = 0) -> Iterator[bool]:
    """Hold a lock of the holder's database for the block; yield False when somebody else does. It
    is given back by name: the end of a session takes the server a moment.
    """
    row = holder.execute(sql.TRY_LOCK, [kind, number]).fetchone()
    is_ours = bool(row and row[0])
    try:
        yield is_ours
    finally:
        if is_ours and not holder.closed:
            holder.execute(sql.UNLOCK, [kind, number])


@contextlib.contextmanager
def one_restore_at_a_time() -> Iterator[psycopg.Connection[Any]]:
    """Hold the lock of restores; yield a connection to the cluster. Raises BackupFault."""
    with connect_cluster() as cluster, hold_lock(cluster, RESTORE_LOCK) as is_ours:
        if not is_ours:
            raise BackupFault("Another restore, drill or verification is at work. Wait for it.")
        yield cluster


def names(cluster: psycopg.Connection[Any], prefix: str) -> list[str]:
    """Return the databases whose names begin so, oldest first by name."""
    return [str(name) for (name,) in cluster.execute(sql.DATABASES, [prefix])]


def create(cluster: psycopg.Connection[Any], name: str) -> None:
    """Create an empty database. Raises BackupFault where the role may not."""
    try:
        cluster.execute(sql.CREATE_DATABASE.format(Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise BackupFault(
            "The database role may not create databases, which a restore needs: "
            "ALTER ROLE ... CREATEDB"
        ) from error


def drop(cluster: psycopg.Connection[Any], name: str) -> None:
    """Drop a database with whoever is connected to it.

    Not WITH (FORCE): where an autovacuum is at work, that asks for the right to end a superuser's
    process; without it, PostgreSQL itself has the autovacuum make way.
    """
    statement = sql.DROP_DATABASE.format(Identifier(name))
    for attempt in range(SWAP_ATTEMPTS):
        cluster.execute(sql.END_SESSIONS, {"name": name, "idle": "0 s", "force": True})
        try:
            cluster.execute(statement)
            return
        except psycopg.errors.ObjectInUse:
            if attempt == SWAP_ATTEMPTS - 1:
                raise


def swap(cluster: psycopg.Connection[Any], restored: str, current: str, replaced: str) -> None:
    """Rename the current database to `replaced` and the restored one to `current`, in one
    transaction: whoever looks finds one or the other. Raises BackupFault, with nothing changed.

    A rename waits up to 5 s for the database's sessions to end, and whoever connects meanwhile
    waits for it. So sessions are ended while it waits, those in the middle of something last.
    """
    for _attempt in range(SWAP_ATTEMPTS):
        with connect_cluster() as renaming, ThreadPoolExecutor(1) as executor:
            renames = executor.submit(rename, renaming, restored, current, replaced)
            waited = 0.0
            while not renames.done():
                idle = "0 s" if waited > PATIENT_S else "0.1 s"
                force = waited > GENTLE_S
                cluster.execute(sql.END_SESSIONS, {"name": current, "idle": idle, "force": force})
                with contextlib.suppress(TimeoutError):
                    renames.exception(timeout=0.02)
                waited += 0.02
            fault = renames.exception()
        if fault is None:
            return
        if not isinstance(fault, psycopg.errors.ObjectInUse):
            raise fault
    raise BackupFault(
        f"Sessions of other roles hold the database {current}: end them (pg_stat_activity lists "
        "them) and try again."
    )


def rename(renaming: psycopg.Connection[Any], restored: str, current: str, replaced: str) -> None:
    pairs = [(restored, current)]
    if current in names(renaming, current):  # else it was dropped
        pairs.insert(0, (current, replaced))
    with renaming.transaction():
        for old, new in pairs:
            renaming.execute(sql.RENAME_DATABASE.format(Identifier(old), Identifier(new)))


@dataclass(frozen=True)
class Program:
    """One of PostgreSQL's programs. `preload`: a libpq with TLS for one whose own has none."""

    path: str
    major: int
    preload: str = ""


def find_program(name: str, major: int) -> Program:
    """Return the program of the lowest version that is not below `major`: later ones write what
    that server does not know. Raises BackupFault.
    """
    programs = sorted(candidates(name), key=lambda program: program.major)
    for program in programs:
        if program.major >= major:
            return program
    versions = ", ".join(str(program.major) for program in programs) or "none"
    raise BackupFault(
        f"{name} of PostgreSQL {major} or later is needed, and there is {versions}. Install "
        f"PostgreSQL's client programs (Debian: postgresql-client-{major})."
    )


def candidates(name: str) -> Iterator[Program]:
    """Yield the programs of this name on this machine."""
    with contextlib.suppress(EmbeddedError):
        path = postgres.program(name)
        yield Program(path, int(postgres.MAJOR_VERSION), libpq_with_tls())
    paths = {path for folder in FOLDERS for path in Path("/").glob(f"{folder[1:]}/{name}")}
    if on_path := shutil.which(name):
        paths.add(Path(on_path))
    for installed in sorted(map(str, paths)):
        answer = subprocess.run(  # noqa: S603 - a program of the system
            [installed, "--version"], capture_output=True, text=True, check=False
        )
        if match := re.search(r"(\d+)(?:\.\d+)", answer.stdout):
            yield Program(installed, int(match[1]))


def libpq_with_tls() -> str:
    """Return psycopg's own libpq, which knows TLS, for a server across the network; "" for a socket
    of this machine. The embedded wheel's libpq knows none.
    """
    options = parameters()
    is_local = str(options.get("host", "")).startswith("/") or options.get("sslmode") == "disable"
    spec = find_spec("psycopg_binary")
    if is_local or not sys.platform.startswith("linux") or not spec or not spec.origin:
        return ""
    folder = Path(spec.origin).parent.with_name("psycopg_binary.libs")
    return next((str(path) for path in sorted(folder.glob("libpq-*.so*"))), "")


def start(program: Program, arguments: Iterable[str], database: str, **pipes: Any) -> Any:
    """Start a program on a database. The password goes by the environment, which other accounts
    cannot read.
    """
    options = parameters(database)
    password = str(options.pop("password", ""))
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("PG", "LC_", "LANG"))}
    environment |= {"PGPASSWORD": password, "LC_ALL": "C"}
    if program.preload:
        environment["LD_PRELOAD"] = program.preload
    command = [program.path, *arguments, f"--dbname={make_conninfo(**options)}"]
    return subprocess.Popen(command, env=environment, **pipes)  # noqa: S603


def dump(program: Program, snapshot: str, database: str) -> Iterator[bytes]:
    """Yield what pg_dump writes of a snapshot: its own compressed format. Raises BackupFault."""
    arguments = ["--format=custom", "--compress=6", f"--snapshot={snapshot}"]
    arguments += [f"--lock-wait-timeout={LOCK_WAIT}"]
    with tempfile.TemporaryFile() as errors:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
        with start(program, arguments, database, **pipes) as process:
            try:
                while piece := process.stdout.read(1 << 20):
                    yield piece
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise BackupFault(f"pg_dump failed: {last_lines(errors)}")


def load(program: Program, pieces: Iterable[bytes], database: str) -> None:
    """Fill an empty database with what `dump` yielded. Raises BackupFault."""
    arguments = ["--exit-on-error", "--no-owner", "--no-privileges"]
    with tempfile.TemporaryFile() as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": errors}
        with start(program, arguments, database, **pipes) as process:
            try:
                for piece in pieces:
                    process.stdin.write(piece)
                process.stdin.close()
            except BrokenPipeError:  # it has ended, and said why
                process.stdin = None
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise BackupFault(f"pg_restore failed: {last_lines(errors)}")


def last_lines(file: IO[bytes]) -> str:
    """Return the end of what a program reported, in one line."""
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines()
    return " ".join(line.strip() for line in lines[-3:])[:1000] or "it said nothing"
