"""The key that backups are sealed with: from the settings, or made at the first backup.

Without it a backup is worth nothing: copy it to another place than the backups.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from django.conf import settings

from certification.operations.archive import KEY_BYTES, BackupFault

MAX_FILE = 1000  # bytes; a key has 44
FORM = "32 random bytes in base64. Make one with: openssl rand -base64 32"


def current(*, create: bool = False) -> bytes | None:
    """Return the key: BACKUP_KEY, else the file BACKUP_KEY_FILE, else the one of this installation.
    None without one, unless it may be made now. Raises BackupFault where it cannot be used.
    """
    if settings.BACKUP_KEY:
        return decode(settings.BACKUP_KEY, "BACKUP_KEY")
    if settings.BACKUP_KEY_FILE:
        return read(Path(settings.BACKUP_KEY_FILE))
    path = own_file()
    if not path.exists():
        if not create:
            return None
        make(path)
    return read(path)


def own_file() -> Path:
    return Path(settings.PRIVATE_FOLDER) / "backup_key"


def decode(text: str, source: str) -> bytes:
    """Decode a key. The fault never repeats it."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise BackupFault(f"{source} is no backup key; it must be {FORM}") from None
    return key


def read(path: Path) -> bytes:
    """Read a key that nobody else can read. Raises BackupFault."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise BackupFault(f"Others may read the backup key {path}: chmod 600 {path}")
            return decode(file.read(MAX_FILE), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BackupFault(f"The backup key {path} cannot be read ({error}).") from error


def make(path: Path) -> None:
    """Make a new key, unless another process just did. Raises BackupFault."""
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
        give_to_services(draft)
        try:
            os.link(draft, path)  # atomic: two processes agree on one key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise BackupFault(
            f"No backup key could be made in {path.parent} ({error.strerror}). Set BACKUP_KEY_FILE "
            "to a key of your own, or make the folder writable."
        ) from error


def give_to_services(path: Path) -> None:
    """Give a file that root made to the account that the services run as."""
    if settings.PRIVATE_FILES_OWNER and os.geteuid() == 0:
        os.chown(path, *settings.PRIVATE_FILES_OWNER)
