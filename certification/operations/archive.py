"""The file of a backup: what it says of itself, then its content in encrypted pieces.

    MYIA-BACKUP <format>\n
    <header: one line of JSON>\n
    pieces, each: 1 byte (1: the last one), 4 bytes with its length (big-endian), its bytes
    SHA-256 of everything before

The content is a line of JSON (`Manifest`) and the archive that pg_dump wrote. Each piece is sealed
with AES-256-GCM under a key that HKDF-SHA256 derives from the backup key and the file's salt; its
nonce is its number and whether it is the last, and the header is authenticated with each. So a
piece that is changed, left out, moved, or comes from another file is noticed, and so is an end that
is missing. Without encryption the pieces are plain. The SHA-256 at the end finds damage without the
key. Foreign files give a `BackupFault`, never another error.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT = 1
MAGIC = b"MYIA-BACKUP "
SEALED, PLAIN = "aes-256-gcm", "none"
KEY_BYTES = 32
PIECE_BYTES = 1 << 20
TAG_BYTES, DIGEST_BYTES = 16, 32
MAX_LINE = 1 << 16  # of a header
MAX_MANIFEST = 1 << 24
PIECE = struct.Struct("!BI")


class BackupFault(Exception):
    """A backup that cannot be made or used; the text says why and what to do."""


class Foreign(BackupFault):
    """Not a file of ours."""


class Newer(BackupFault):
    """Written by a later release or server."""


class Damaged(BackupFault):
    """Truncated or changed."""


class WrongKey(BackupFault):
    """Sealed with another key."""


class Header(msgspec.Struct, frozen=True):
    """What a backup says without its key. `key` is the id of the key it is sealed with."""

    created_at: str  # ISO 8601, UTC
    version: str  # of the release that made it
    database: str
    encryption: str
    key: str = ""
    salt: str = ""


class Table(msgspec.Struct, frozen=True):
    """A table's number of rows, and a checksum that does not depend on their order."""

    rows: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True):
    """What must be there after a restore. `migrations` are `app.name`; `server` and `program` are
    the major versions of PostgreSQL and of the pg_dump that wrote it.
    """

    migrations: list[str]
    tables: dict[str, Table]
    server: int
    program: int
    size_bytes: int


def key_id(key: bytes) -> str:
    """Return what tells a key from others without revealing it."""
    return hashlib.sha256(b"myia backup key\0" + key).hexdigest()[:16]


def cipher(key: bytes, salt: str) -> AESGCM:
    info = b"myia backup 1"
    return AESGCM(HKDF(SHA256(), KEY_BYTES, bytes.fromhex(salt), info).derive(key))


def nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


class Writer:
    """Writes a backup; `finish` must end it, otherwise it is a truncated one."""

    def __init__(self, file: BinaryIO, header: Header, key: bytes | None) -> None:
        self.file, self._digest = file, hashlib.sha256()
        self._cipher = cipher(key, header.salt) if key else None
        line = msgspec.json.encode(header) + b"\n"
        self._header = hashlib.sha256(line).digest()
        self._buffer, self._number = bytearray(), 0
        self._put(MAGIC + f"{FORMAT}\n".encode() + line)

    def write(self, content: bytes) -> None:
        self._buffer += content
        while len(self._buffer) > PIECE_BYTES:
            self._piece(bytes(self._buffer[:PIECE_BYTES]), is_last=False)
            del self._buffer[:PIECE_BYTES]

    def finish(self) -> None:
        """Write what is left and the checksum, down to the disk."""
        self._piece(bytes(self._buffer), is_last=True)
        self.file.write(self._digest.digest())
        self.file.flush()
        os.fsync(self.file.fileno())

    def _piece(self, content: bytes, *, is_last: bool) -> None:
        if self._cipher:
            content = self._cipher.encrypt(nonce(self._number, is_last), content, self._header)
        self._number += 1
        self._put(PIECE.pack(is_last, len(content)) + content)

    def _put(self, content: bytes) -> None:
        self._digest.update(content)
        self.file.write(content)


def read_header(file: BinaryIO, name: str) -> tuple[Header, bytes]:
    """Return the header and its line. Raises Foreign, Newer, Damaged."""
    first = file.readline(len(MAGIC) + 8)
    if not first.startswith(MAGIC):
        raise Foreign(f"{name} is no backup of MyIA. List yours with: manage.py backup list")
    number = first.removeprefix(MAGIC).strip()
    if not number.isdigit() or not first.endswith(b"\n"):
        raise damaged(name, "its first line is broken")
    if int(number) != FORMAT:
        raise Newer(f"{name} has format {int(number)}, of a later release. Restore it with that.")
    line = file.readline(MAX_LINE)
    try:
        header = msgspec.json.decode(line, type=Header)
        known = header.encryption in (SEALED, PLAIN) and line.endswith(b"\n")
        bytes.fromhex(header.salt)
    except (msgspec.MsgspecError, ValueError):
        known = False
    if not known:
        raise damaged(name, "its header is broken")
    return header, line


def inspect(path: Path) -> Header:
    """Return what a file says of itself; nothing of it is proven. Raises BackupFault."""
    with open_file(path) as file:
        return read_header(file, path.name)[0]


def check(path: Path) -> Header:
    """Compare a whole file with its checksum; needs no key. Raises BackupFault."""
    with open_file(path) as file:
        header, _line = read_header(file, path.name)
        left = path.stat().st_size - DIGEST_BYTES
        file.seek(0)
        digest = hashlib.sha256()
        while left > 0 and (content := file.read(min(left, PIECE_BYTES))):
            digest.update(content)
            left -= len(content)
        if left or file.read(DIGEST_BYTES + 1) != digest.digest():
            raise damaged(path.name, "it is truncated or was changed")
    return header


def open_file(path: Path) -> BinaryIO:
    """Open a backup. Raises BackupFault."""
    try:
        return path.open("rb")
    except OSError as error:
        raise BackupFault(f"{path} cannot be read ({error.strerror}).") from error


def damaged(name: str, why: str) -> Damaged:
    return Damaged(f"{name} is damaged: {why}. Use another one: manage.py backup list")


def content(path: Path, key: bytes | None) -> Iterator[bytes]:
    """Yield the content piece by piece, each proven before it is yielded. Raises BackupFault; a
    truncated file only at its end, so read it whole before you use any of it.
    """
    with open_file(path) as file:
        header, line = read_header(file, path.name)
        opener = opener_of(header, key, path.name)
        authenticated, number, is_last = hashlib.sha256(line).digest(), 0, False
        while not is_last:
            start = file.read(PIECE.size)
            is_last, length = PIECE.unpack(start) if len(start) == PIECE.size else (False, 0)
            piece = file.read(length) if length <= PIECE_BYTES + TAG_BYTES else b""
            if len(start) != PIECE.size or len(piece) != length:
                raise damaged(path.name, "it is truncated or was changed")
            if opener:
                try:
                    piece = opener.decrypt(nonce(number, bool(is_last)), piece, authenticated)
                except InvalidTag:
                    raise damaged(path.name, f"piece {number + 1} was changed") from None
            number += 1
            yield piece


def opener_of(header: Header, key: bytes | None, name: str) -> AESGCM | None:
    """Return what opens the pieces, None for plain ones. Raises WrongKey."""
    if header.encryption == PLAIN:
        return None
    if key is None or key_id(key) != header.key:
        ours = f"the one here is {key_id(key)}" if key else "there is none here"
        raise WrongKey(
            f"{name} is sealed with the backup key {header.key}; {ours}. Set BACKUP_KEY_FILE to "
            "the file of that key."
        )
    return cipher(key, header.salt)


def split_manifest(pieces: Iterator[bytes], name: str) -> tuple[Manifest, Iterator[bytes]]:
    """Return the manifest, and the pieces of the dump. Raises BackupFault."""
    start = bytearray()
    for piece in pieces:
        start += piece
        if b"\n" in piece or len(start) > MAX_MANIFEST:
            break
    line, _newline, rest = bytes(start).partition(b"\n")
    try:
        manifest = msgspec.json.decode(line, type=Manifest)
    except msgspec.MsgspecError:
        raise damaged(name, "its list of tables is broken") from None
    return manifest, prepend(rest, pieces)


def prepend(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from pieces
