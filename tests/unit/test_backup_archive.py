"""The file of a backup: what was written comes back, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certification.operations import archive
from certification.operations.archive import (
    BackupFault,
    Damaged,
    Foreign,
    Header,
    Manifest,
    Newer,
    Table,
    Writer,
    WrongKey,
)

KEY, OTHER = b"k" * 32, b"o" * 32
SEALED = Header(
    "2026-11-30T04:00:00+00:00", "1.0", "myia", archive.SEALED, archive.key_id(KEY), "ab" * 16
)
PLAIN = Header("2026-11-30T04:00:00+00:00", "1.0", "myia", archive.PLAIN)
SHORT = b"rows, rows and rows"
LONG = b"0123456789abcdef" * (archive.PIECE_BYTES // 8) + b"the end"


def write(path: Path, header: Header, content: bytes) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, header, KEY if header.key else None)
        writer.write(content)
        writer.finish()
    return path


def read(path: Path, key: bytes | None = KEY) -> bytes:
    archive.check(path)
    return b"".join(archive.content(path, key))


@pytest.mark.parametrize("header", [SEALED, PLAIN], ids=["sealed", "plain"])
@pytest.mark.parametrize("content", [b"", SHORT, LONG], ids=["empty", "short", "long"])
def test_it_comes_back_as_it_was(tmp_path: Path, header: Header, content: bytes) -> None:
    path = write(tmp_path / "b", header, content)
    assert archive.inspect(path) == header
    assert read(path) == content
    assert (SHORT in path.read_bytes()) == (header is PLAIN and content == SHORT)


@pytest.mark.parametrize("header", [SEALED, PLAIN], ids=["sealed", "plain"])
def test_no_truncated_file_passes(tmp_path: Path, header: Header) -> None:
    whole = write(tmp_path / "b", header, SHORT).read_bytes()
    for length in range(len(whole)):
        part = tmp_path / "part"
        part.write_bytes(whole[:length])
        with pytest.raises(BackupFault):
            archive.check(part)
    (tmp_path / "more").write_bytes(whole + b"x")
    with pytest.raises(Damaged):
        archive.check(tmp_path / "more")


@pytest.mark.parametrize("header", [SEALED, PLAIN], ids=["sealed", "plain"])
def test_no_flipped_bit_passes(tmp_path: Path, header: Header) -> None:
    whole = write(tmp_path / "b", header, SHORT).read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path = tmp_path / "changed"
        path.write_bytes(changed)
        with pytest.raises(BackupFault):
            archive.check(path)


def rechecked(whole: bytes) -> bytes:
    """Give changed bytes the checksum that fits them, as a forger would."""
    return whole + hashlib.sha256(whole).digest()


def test_a_forger_without_the_key_is_noticed(tmp_path: Path) -> None:
    whole = write(tmp_path / "b", SEALED, LONG).read_bytes()[: -archive.DIGEST_BYTES]
    start = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    size = archive.PIECE.size + archive.PIECE_BYTES + archive.TAG_BYTES
    pieces = [whole[start : start + size], whole[start + size : start + 2 * size]]
    rest = whole[start + 2 * size :]
    forged = {
        "swapped": whole[:start] + pieces[1] + pieces[0] + rest,
        "one left out": whole[:start] + pieces[0] + rest,
        "the last left out": whole[:start] + pieces[0] + b"\1" + pieces[1][1:],
        "another time": whole.replace(b"T04:00", b"T05:00"),
        "another salt": whole.replace(b"abab", b"baba", 1),
    }
    for name, content in forged.items():
        path = tmp_path / name
        path.write_bytes(rechecked(content))
        archive.check(path)
        with pytest.raises(Damaged, match=name):
            list(archive.content(path, KEY))


@pytest.mark.parametrize("key", [OTHER, None])
def test_another_key_is_named(tmp_path: Path, key: bytes | None) -> None:
    path = write(tmp_path / "b", SEALED, SHORT)
    with pytest.raises(WrongKey, match=archive.key_id(KEY)):
        read(path, key)


@pytest.mark.parametrize(
    "content",
    [b"", b"PGDMP\1\2", b"SQLite format 3\0", b"-- PostgreSQL database dump\n", b"\0" * 99],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    for refuse in (archive.inspect, archive.check):
        with pytest.raises(Foreign):
            refuse(path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "b", SEALED, SHORT)
    path.write_bytes(path.read_bytes().replace(b"BACKUP 1\n", b"BACKUP 2\n", 1))
    with pytest.raises(Newer, match="later release"):
        archive.check(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackupFault, match="cannot be read"):
        archive.inspect(tmp_path / "none")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=9,
)
FIELDS = ["created_at", "version", "database", "encryption", "key", "salt"]


@settings(max_examples=50)
@given(ANY_JSON | st.fixed_dictionaries(dict.fromkeys(FIELDS, ANY_JSON)))
def test_a_header_of_any_shape_is_a_fault_of_ours(tmp_path_factory: Any, header: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "b"
    path.write_bytes(archive.MAGIC + b"1\n" + json.dumps(header).encode() + b"\n" + b"\1\0\0\0\0")
    with pytest.raises(BackupFault):
        list(archive.content(path, KEY))


@settings(max_examples=50)
@given(ANY_JSON | st.fixed_dictionaries(dict.fromkeys(Manifest.__struct_fields__, ANY_JSON)))
def test_a_manifest_of_any_shape_is_a_fault_of_ours(value: Any) -> None:
    with pytest.raises(BackupFault):
        archive.split_manifest(iter([json.dumps(value).encode(), b"\n"]), "b")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_manifest_and_dump_are_told_apart_wherever_pieces_end(size: int) -> None:
    manifest = Manifest(["a.0001"], {"public.t": Table(3, "-12")}, 18, 18, 9)
    whole = msgspec.json.encode(manifest) + b"\nPGDMP\n\n\0"
    pieces = (whole[i : i + size] for i in range(0, len(whole), size))
    read_manifest, dump = archive.split_manifest(pieces, "b")
    assert read_manifest == manifest
    assert b"".join(dump) == b"PGDMP\n\n\0"
