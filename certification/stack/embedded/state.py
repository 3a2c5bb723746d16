"""The folders of the embedded servers, and the passwords generated for them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict
from urllib.parse import quote

from certification.stack.embedded.accounts import account, give_to_account
from certification.stack.embedded.errors import EmbeddedError

START_SECONDS = 60
STOP_SECONDS = 30
POSTGRES_SOCKET, VALKEY_SOCKET = ".s.PGSQL.5432", "valkey.sock"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing NUL included
MAX_SOCKET_PATH = 103
# PostgreSQL takes a list of folders: a path with other characters would have to be quoted
PLAIN_PATH = re.compile(r"[\w/.+@-]+", re.ASCII)


class ServerAccess(TypedDict):
    """How a server is reached."""

    password: str


class EmbeddedState(TypedDict):
    """The content of `.myia/embedded.json`. `sockets` is the folder of the sockets where the path
    of the project is too long for one, else empty.
    """

    sockets: str
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
        owner = root.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


def socket_folder(root: Path, state: EmbeddedState) -> Path:
    """Return the folder of both sockets. Only the account of the servers may enter it."""
    return Path(state["sockets"]) if state["sockets"] else home(root) / "sockets"


def fits(folder: Path) -> bool:
    """Whether sockets in this folder have paths that every system and PostgreSQL accept."""
    path = str(folder / POSTGRES_SOCKET)
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH and bool(PLAIN_PATH.fullmatch(path))


def is_private(root: Path, folder: Path) -> bool:
    """Whether the folder is a real one that nobody else can enter or replace: what listens in it
    is ours. In /tmp another user could have made one of the same name.
    """
    try:
        info = folder.lstat()
    except OSError:
        return False
    user = account(root)
    owners = {os.geteuid(), user.pw_uid} if user else {os.geteuid()}
    return stat.S_ISDIR(info.st_mode) and not info.st_mode & 0o077 and info.st_uid in owners


def temporary_folder(root: Path) -> str:
    """Create a private folder with a short path for the sockets; return it."""
    parents = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108 - only mkdtemp writes there
    parent = next((path for path in parents if fits(path / "myia-12345678")), parents[-1])
    folder = tempfile.mkdtemp(prefix="myia-", dir=parent)
    give_to_account(root, Path(folder))
    return folder


def to_urls(root: Path, state: EmbeddedState | None) -> Servers:
    """Return the URLs that a state describes; without one, addresses where nobody can listen."""
    folder = socket_folder(root, state) if state else home(root) / "sockets"
    user, password = "myia", ""
    if state:
        user, password = f"myia:{state['postgres']['password']}", state["valkey"]["password"]
    return Servers(
        f"postgres://{user}@/myia?host={quote(str(folder))}",
        f"unix://:{password}@{quote(str(folder / VALKEY_SOCKET))}?db=0",
    )


def read(root: Path) -> EmbeddedState | None:
    """Return the stored state, None when there is none, it is damaged, or its folder of sockets is
    no longer ours.
    """
    state = stored(root)
    if state is None or bool(state["sockets"]) == fits(home(root) / "sockets"):
        return None
    return state if not state["sockets"] or is_private(root, Path(state["sockets"])) else None


def stored(root: Path) -> EmbeddedState | None:
    """Return what the state file holds, None when there is none or it is damaged."""
    try:
        content = json.loads((home(root) / "embedded.json").read_text())
        return {
            "sockets": str(content.get("sockets", "")),
            "postgres": {"password": str(content["postgres"]["password"])},
            "valkey": {"password": str(content["valkey"]["password"])},
        }
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None


def write(root: Path, state: EmbeddedState) -> None:
    """Store the state, readable by its owner only."""
    path = home(root) / "embedded.json"
    draft = path.with_suffix(f".{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)
    give_to_account(root, draft)
    draft.replace(path)


def read_or_create(root: Path) -> EmbeddedState:
    """Return the state; the first caller generates passwords. A lost state file is harmless:
    passwords are set at every start.
    """
    if state := read(root):
        return state
    with lock(root):
        state = read(root)
        if state is None:
            state = stored(root) or {
                "sockets": "",
                "postgres": {"password": secrets.token_urlsafe(32)},
                "valkey": {"password": secrets.token_urlsafe(32)},
            }
            state["sockets"] = "" if fits(home(root) / "sockets") else temporary_folder(root)
            write(root, state)
    return state


@contextlib.contextmanager
def lock(root: Path) -> Iterator[None]:
    """Let one process at a time start or stop servers or generate passwords. The kernel releases
    the lock when its holder dies.
    """
    path = make_home(root) / "embedded.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        give_to_account(root, path)
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
