"""The key that signs certificates: from the settings, or made on first use in the private folder.

There is no default key, and no log, error or `repr` holds one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings

from certification.certificates import envelopes

MAX_FILE = 10_000  # bytes; a key has some hundred
FILE_NAME = "signing_key.pem"


class KeyFault(Exception):
    """The key cannot be used; the text says why and what to do."""


def signing_key() -> Ed25519PrivateKey:
    """Return the private key. KeyFault where it cannot be used.

    CERTIFICATE_KEY (PEM) comes first, then CERTIFICATE_KEY_FILE, which must exist; without either
    the private folder has one, made on first use.
    """
    if settings.CERTIFICATE_KEY:
        return private_key(settings.CERTIFICATE_KEY.encode(), "CERTIFICATE_KEY")
    if settings.CERTIFICATE_KEY_FILE:
        return read_file(Path(settings.CERTIFICATE_KEY_FILE))
    path = own_file()
    try:
        if not path.exists():
            create(path)
    except OSError as error:
        raise KeyFault(
            f"No key for certificates could be made in {path.parent} ({error.strerror}). Set "
            "CERTIFICATE_KEY_FILE to a key of your own, or make the folder writable."
        ) from error
    return read_file(path)


def own_file() -> Path:
    return Path(settings.CERTIFICATE_FOLDER) / FILE_NAME


def private_key(pem: bytes, source: str) -> Ed25519PrivateKey:
    """Decode a private key. KeyFault, which never repeats it, where it is not one of Ed25519."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # `from None`: the library's error may quote what it read
        raise KeyFault(
            f"{source} is not a private Ed25519 key in PEM form without a password. Make one with: "
            "openssl genpkey -algorithm ed25519"
        ) from None
    return key


def public_key(pem: bytes, source: str) -> Ed25519PublicKey:
    """Decode a public key. KeyFault where it is not one of Ed25519."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFault(f"{source} is not a public Ed25519 key in PEM form.") from None
    return key


def public_pem(key: Ed25519PublicKey) -> str:
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode()


def read_file(path: Path) -> Ed25519PrivateKey:
    """Read a key that only we can read. KeyFault for any other file."""
    try:
        # not through a link: its target may be changed between a look and the read
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            if fault := exposure(os.fstat(file.fileno())):
                raise KeyFault(f"The key {path} is not used: {fault}")
            return private_key(file.read(MAX_FILE), str(path))
    except OSError as error:
        raise KeyFault(f"The key {path} cannot be read ({error.strerror}).") from error


def exposure(info: os.stat_result) -> str:
    """Return why others may know or replace a key file, and what to do; "" when they cannot."""
    if not stat.S_ISREG(info.st_mode):
        return "it is no plain file. Name the key's file itself."
    owner = settings.PRIVATE_FILES_OWNER
    trusted = {os.geteuid(), 0, *((owner[0],) if owner else ())}
    if info.st_uid not in trusted:
        return f"it belongs to user {info.st_uid}. Make it yours (chown), or make a new key."
    if info.st_mode & 0o077:
        return "others may read it. Close it with chmod 600; if others had access, make a new key."
    return ""


def create(path: Path) -> None:
    """Make a new key, unless another process just did."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        give_to_owner(path.parent, draft)
        os.link(draft, path)  # atomic: two processes that start together agree on one key
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def give_to_owner(folder: Path, file: Path) -> None:
    """Give what root makes to the account that the services run as."""
    owner = settings.PRIVATE_FILES_OWNER
    if owner and os.geteuid() == 0:
        os.chown(folder, *owner)
        os.chown(file, *owner)


def rotate() -> Ed25519PrivateKey:
    """Replace our own key by a new one. KeyFault where the key comes from the settings.

    The old private key is deleted: nothing is signed with it any more, and its public half, which
    checks what it signed, stays in the database.
    """
    if settings.CERTIFICATE_KEY or settings.CERTIFICATE_KEY_FILE:
        raise KeyFault(
            "The key comes from CERTIFICATE_KEY or CERTIFICATE_KEY_FILE: put a new one there and "
            "restart the services."
        )
    own_file().unlink(missing_ok=True)
    return signing_key()


def by_id(pems: Mapping[str, str]) -> dict[str, Ed25519PublicKey]:
    """Decode public keys by the name that each has by its content."""
    decoded = [public_key(pem.encode(), f"The key {name}") for name, pem in pems.items()]
    return {envelopes.key_id(key): key for key in decoded}
