"""Make, list, verify and rotate backups.

A backup is one file: a dump of one moment by pg_dump and the rows and a checksum of every table at
that same moment. It is written under another name and renamed when it is whole and was read again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from django.conf import settings
from psycopg.sql import Identifier

from certification.lib import clock
from certification.operations import archive, backup_key, server, sql
from certification.operations.archive import BackupFault, Header, Manifest, Table

SUFFIX = ".backup"
DRAFT = ".part"
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Backup:
    """A file of the backup folder."""

    path: Path
    header: Header
    size_bytes: int

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.header.created_at)


def folder() -> Path:
    """Return the backup folder, made when it is missing. Raises BackupFault."""
    path = Path(settings.BACKUP_DIR)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackupFault(f"BACKUP_DIR {path} cannot be made ({error.strerror}).") from error
    return path


def make(progress: Callable[[str], None] = lambda _step: None) -> Backup:
    """Make a backup of the database as it is now. Raises BackupFault and psycopg.Error, leaving
    nothing that looks like a backup.
    """
    key = backup_key.current(create=True) if settings.BACKUP_ENCRYPT else None
    now = clock.now().astimezone(UTC)
    database = server.our_database()
    path = folder() / f"{database}-{now:{STAMP}}{SUFFIX}"
    header = Header(
        created_at=now.isoformat(timespec="seconds"),
        version=settings.VERSION,
        database=database,
        encryption=archive.SEALED if key else archive.PLAIN,
        key=archive.key_id(key) if key else "",
        salt=secrets.token_hex(16) if key else "",
    )
    draft = path.with_name(path.name + DRAFT)
    try:
        with snapshot(database) as (moment, snapshot_id):
            program = server.find_program("pg_dump", moment.info.server_version // 10_000)
            progress("reading rows and checksums")
            manifest = read_manifest(moment, program.major)
            progress("dumping")
            write(draft, header, key, manifest, server.dump(program, snapshot_id, database))
        progress("reading it again")
        archive.check(draft)
        if path.exists():
            raise BackupFault(f"{path} exists: another backup was made in this second.")
        draft.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise BackupFault(f"{path.parent} cannot be written ({error.strerror}).") from error
    finally:
        draft.unlink(missing_ok=True)
    return Backup(path, header, path.stat().st_size)


def write(
    draft: Path, header: Header, key: bytes | None, manifest: Manifest, pieces: Iterable[bytes]
) -> None:
    """Write a whole backup that only its owner can read."""
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        backup_key.give_to_services(draft)
        writer = archive.Writer(file, header, key)
        writer.write(msgspec.json.encode(manifest) + b"\n")
        for piece in pieces:
            writer.write(piece)
        writer.finish()


def sync_folder(path: Path) -> None:
    """Have the disk know of a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def snapshot(database: str) -> Iterator[tuple[psycopg.Connection[Any], str]]:
    """Look at one moment of a database; yield the connection that does, and the moment's name for
    others that shall see the same.
    """
    with server.connect(database) as moment:
        for statement in sql.FIXED:
            moment.execute(statement)
        moment.execute(sql.BEGIN_MOMENT)
        row = moment.execute(sql.EXPORT_SNAPSHOT).fetchone()
        assert row is not None  # noqa: S101 - there is always one
        yield moment, str(row[0])


def read_manifest(moment: psycopg.Connection[Any], program: int) -> Manifest:
    """Describe what a connection sees. Reads every row once."""
    applied = moment.execute(sql.MIGRATIONS)
    migrations = [f"{app}.{name}" for app, name in applied]
    size = moment.execute(sql.DATABASE_SIZE).fetchone()
    return Manifest(
        migrations=migrations,
        tables=count_tables(moment),
        server=moment.info.server_version // 10_000,
        program=program,
        size_bytes=size[0] if size else 0,
    )


def count_tables(moment: psycopg.Connection[Any]) -> dict[str, Table]:
    """Return rows and checksum of every table by `schema.name`."""
    tables = {}
    for schema, name in moment.execute(sql.TABLES).fetchall():
        row = moment.execute(sql.COUNT_TABLE.format(Identifier(schema, name))).fetchone()
        if row:
            tables[f"{schema}.{name}"] = Table(rows=row[0], checksum=row[1])
    return tables


def stored() -> list[Backup]:
    """Return the backups of the folder, newest first; what is no backup is left out."""
    backups = []
    for path in folder().glob(f"*{SUFFIX}"):
        with contextlib.suppress(BackupFault, ValueError, OSError):
            backup = Backup(path, archive.inspect(path), path.stat().st_size)
            if backup.created_at.tzinfo:
                backups.append(backup)
    return sorted(backups, key=lambda backup: backup.created_at, reverse=True)


def find(name: str) -> Path:
    """Return the file of a backup by its path, its name in the folder, or `newest`. Raises
    BackupFault.
    """
    if name == "newest":
        backups = stored()
        if not backups:
            raise BackupFault(f"There is no backup in {folder()}. Make one: manage.py backup")
        return backups[0].path
    path = Path(name)
    return path if path.exists() or "/" in name else folder() / name


def read_whole(path: Path) -> Manifest:
    """Prove that a file is a whole backup that our key opens and this release can restore. Reads it
    twice and changes nothing. Raises BackupFault.
    """
    archive.check(path)
    key = backup_key.current()
    manifest, pieces = archive.split_manifest(archive.content(path, key), path.name)
    for _piece in pieces:
        pass
    return manifest


def rotate(*, dry_run: bool = False) -> list[Backup]:
    """Delete backups that no day, week or month needs; return them. The newest always stays."""
    backups = stored()
    removed = [backup for backup in backups if backup not in needed(backups)]
    if not dry_run:
        for backup in removed:
            backup.path.unlink(missing_ok=True)
    return removed


def needed(backups: list[Backup]) -> list[Backup]:
    """Return the newest backup of each of the last days, weeks and months that have one."""
    rules = (
        ("%Y-%m-%d", settings.BACKUP_KEEP_DAILY),
        ("%G-%V", settings.BACKUP_KEEP_WEEKLY),
        ("%Y-%m", settings.BACKUP_KEEP_MONTHLY),
    )
    result = set()
    for period, number in rules:
        newest: dict[str, Backup] = {}
        for backup in sorted(backups, key=lambda backup: backup.created_at, reverse=True):
            newest.setdefault(backup.created_at.strftime(period), backup)
        result.update(list(newest.values())[:number])
    return [backup for backup in backups if backup in result]
