"""Run programs as the right user: PostgreSQL refuses to run as root, and no service needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from certification.stack.embedded.accounts import account
from certification.stack.embedded.errors import EmbeddedError, disk_full
from certification.stack.embedded.state import home, make_home

# Runs before a program when we are root: becomes another user and, where asked, retains one
# capability of root: to pass through folders closed to that user (a clone under /root), which
# spares us from opening them to everybody; and the one to bind a low port.
STEP_DOWN_SCRIPT = """\
import ctypes, os, pwd, sys
uid, alternatives = int(sys.argv[1]), [int(digit) for digit in sys.argv[2]]
more = [int(number) for number in sys.argv[3].split(",") if number]
account = pwd.getpwuid(uid)
try:
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP: changing the user retains the capabilities, and
    # access(2) knows of them
    if (alternatives or more) and libc.prctl(28, 4, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(uid)
    for first in alternatives or [None]:
        numbers = [number for number in (first, *more) if number is not None]
        if not numbers:
            break
        # _LINUX_CAPABILITY_VERSION_3, this process; effective, permitted, inheritable
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)(*(sum(1 << number for number in numbers),) * 3)
        # PR_CAP_AMBIENT, RAISE
        if libc.capset(header, sets) == 0 and not any(
            libc.prctl(47, 2, number, 0, 0) for number in numbers
        ):
            break
    else:
        raise OSError(ctypes.get_errno(), "capset")
    if sys.platform == "linux":
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: no setuid program leads back
    os.execv(sys.argv[4], sys.argv[4:])
except OSError as error:
    advice = "run MyIA as a plain user, or set DATABASE_URL and REDIS_URL to servers of your own"
    sys.exit(f"cannot start as the user {account.pw_name} ({error.strerror}): {advice}")
"""
READ_SEARCH, OVERRIDE, BIND_SERVICE = "2", "1", "10"


def step_down(
    root: Path, command: Sequence[str], folder: Path, files: Sequence[Path] = (), port: int = 0
) -> list[str]:
    """Return the command that runs a program in `folder` as another account, when we are root; else
    the command itself. The program must be able to read `files` and to open `port`.

    Raises EmbeddedError where the account could not even enter the folders.
    """
    user = account(root)
    if user is None:
        return list(command)
    capabilities = required_capabilities(user, Path(command[0]), folder, files)
    more = BIND_SERVICE if 0 < port < 1024 and sys.platform == "linux" else ""
    script = [sys.executable, "-I", "-S", "-c", STEP_DOWN_SCRIPT]
    return [*script, str(user.pw_uid), capabilities, more, *command]


def server_folder(root: Path, name: str) -> Path:
    """Create `.myia/<name>`, closed to everybody but the user that runs the server; return it.
    Raises EmbeddedError where the disk is full.
    """
    folder = private_folder(root, make_home(root) / name)
    # a server that cannot even write its log dies silently
    if shutil.disk_usage(folder).free < 16_000_000:
        raise EmbeddedError(f"The embedded servers did not start: {disk_full(folder)}")
    return folder


def private_folder(root: Path, folder: Path) -> Path:
    """Create a folder closed to everybody but the user that runs the servers; return it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if user := account(root):
        os.chown(folder, user.pw_uid, user.pw_gid)
    elif folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(
            f"{folder} belongs to user {folder.stat().st_uid}, not to you: run MyIA as that user, "
            "or remove the folder (with all its data) as that user."
        )
    folder.chmod(0o700)
    return folder


def write_config(root: Path, path: Path, text: str) -> None:
    """Write a file that only the user of the servers can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if user := account(root):
        os.chown(path, user.pw_uid, user.pw_gid)


def run(root: Path, command: list[str], folder: Path, stdin: str = "") -> tuple[int, str]:
    """Run a server's program as the right user in `folder`; return its exit code and its output.

    Its output goes to a file and not to a pipe: a server started by it would hold the pipe open.
    """
    # Neither PG* variables nor a locale that is not installed here may reach the servers.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    environment |= {"LC_ALL": "C", "TZ": "UTC"}
    path = home(root) / f"embedded.{os.getpid()}.out"
    try:
        private = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(private, "w+") as output:
            result = subprocess.run(  # noqa: S603
                step_down(root, command, folder),
                input=stdin.encode(),
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment,
                check=False,
            )
            output.seek(0)
            return result.returncode, output.read()
    finally:
        path.unlink(missing_ok=True)


def required_capabilities(
    user: pwd.struct_passwd, program: Path, folder: Path, files: Sequence[Path] = ()
) -> str:
    """Return the numbers of the Linux capabilities of which the user needs one, the smallest first;
    empty when it needs none.

    Raises EmbeddedError where there are no such capabilities to give.
    """

    def may(path: Path, bit: int) -> bool:
        info = path.stat()
        shift = 6 if info.st_uid == user.pw_uid else 3 if info.st_gid == user.pw_gid else 0
        return bool(info.st_mode >> shift & bit)

    enter, read = 1, 4
    programs = {program, program.resolve()}
    existing = [file.resolve() for file in files if file.exists()]
    parents = {parent for file in (*programs, folder / "-", *existing) for parent in file.parents}
    closed = [path for path in (*programs, *parents) if not may(path, enter)]
    closed += [file for file in existing if not may(file, read)]
    if not closed:
        return ""
    if sys.platform != "linux":
        raise EmbeddedError(
            f"MyIA does not run its programs as root, and the user {user.pw_name} cannot enter "
            f"{closed[-1]}: start MyIA as a plain user, or set DATABASE_URL to a server of your "
            "own."
        )
    # only the second lets a file run that its owner alone may run (umask 077)
    return OVERRIDE if programs & set(closed) else READ_SEARCH + OVERRIDE
