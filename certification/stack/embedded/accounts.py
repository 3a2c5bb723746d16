"""Which account runs the servers and the services when MyIA is started as root."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from certification.stack.embedded.errors import EmbeddedError

NAMES = ("myia", "nobody")


def account(root: Path) -> pwd.struct_passwd | None:
    """Return the account to become when we are root; None when we are not root.

    It is the owner of the data, else of the project, else the account `myia` where the machine has
    one, else `nobody`: no account is created.
    """
    if os.geteuid() != 0:
        return None
    for path in (root.resolve() / ".myia" / "postgres" / "data", root):
        if path.exists() and (uid := path.stat().st_uid) != 0:
            with contextlib.suppress(KeyError):
                return pwd.getpwuid(uid)
    for name in NAMES:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedError(
        "MyIA does not run as root and this machine has no user `myia` or `nobody` to run as: "
        "create one (useradd --system myia), or start MyIA as a plain user."
    )


def give_to_account(root: Path, path: Path) -> None:
    """Give a file that root made to the account that the services run as."""
    if user := account(root):
        os.chown(path, user.pw_uid, user.pw_gid)


def let_account_read(root: Path, folder: Path) -> None:
    """Let the account that the services run as read a folder that root made, and change nothing."""
    if user := account(root):
        os.chown(folder, -1, user.pw_gid)
        folder.chmod(0o750)
