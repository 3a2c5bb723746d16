"""Bring a backup back while the installation goes on.

Everything is proven first, then restored into a database of its own, compared with what the backup
lists, brought up to this release's tables, and only then put in the place of the current one: by
renaming both in one transaction. Until that moment the current database is as it was, whatever
happens to us; afterwards it stays beside the new one under another name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
from django.conf import settings
from django.db.migrations.loader import MigrationLoader

from certification.lib import clock
from certification.operations import archive, backup_key, backups, server, sql
from certification.operations.archive import BackupFault, Manifest, Newer
from certification.stack.processes import PROJECT

RESTORING, REPLACED = "_restoring_", "_before_"
STAMP, STAMP_CHARACTERS = "%Y%m%dt%H%M%S%f", 21
NAME_BYTES = 63  # of a database

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Restored:
    """What a restore did, or a drill proved."""

    backup: Path
    created_at: datetime
    rows: int
    tables: int
    migrated: int
    replaced: str = ""  # the name of the database that was current before


def plan(path: Path) -> Manifest:
    """Prove that a backup can be restored here; change nothing. Raises BackupFault."""
    manifest = backups.read_whole(path)
    if lacking := sorted(set(manifest.migrations) - known_migrations()):
        raise Newer(
            f"{path.name} was made by a later release: this one does not know {lacking[0]} "
            f"({len(lacking)} such). Install that release, then restore."
        )
    if "public.certification_certificationrun" not in manifest.tables:
        raise archive.Foreign(f"{path.name} holds the tables of another program.")
    with server.connect_cluster() as cluster:
        major = cluster.info.server_version // 10_000
    if manifest.server > major:
        raise Newer(
            f"{path.name} comes from PostgreSQL {manifest.server} and this server is {major}: "
            "restore it on a server of that version or a later one."
        )
    server.find_program("pg_restore", max(manifest.program, major))
    return manifest


def known_migrations() -> set[str]:
    """Return every migration of this release, those that others replaced included."""
    loader = MigrationLoader(None)
    names = set(loader.disk_migrations)
    for migration in loader.disk_migrations.values():
        names.update(migration.replaces)
    return {f"{app}.{name}" for app, name in names}


def replace(path: Path, progress: Progress = lambda _step: None) -> Restored:
    """Put a backup in the place of the current database. Raises BackupFault and psycopg.Error, and
    then the current one is untouched.
    """
    progress("reading the backup")
    manifest = plan(path)
    current = server.our_database()
    with server.one_restore_at_a_time() as cluster:
        scratch, migrated = load(cluster, path, manifest, progress)
        replaced = timed_name(current, REPLACED)
        try:
            progress("swapping")
            server.swap(cluster, scratch, current, replaced)
        except BaseException:
            server.drop(cluster, scratch)
            raise
        progress("swapped")
    return result(path, manifest, migrated, replaced)


def drill(path: Path, progress: Progress = lambda _step: None) -> Restored:
    """Restore a backup into a database that is dropped again. Raises BackupFault, psycopg.Error."""
    progress("reading the backup")
    manifest = plan(path)
    with server.one_restore_at_a_time() as cluster:
        scratch, migrated = load(cluster, path, manifest, progress)
        server.drop(cluster, scratch)
    return result(path, manifest, migrated)


def result(path: Path, manifest: Manifest, migrated: int, replaced: str = "") -> Restored:
    return Restored(
        backup=path,
        created_at=datetime.fromisoformat(archive.inspect(path).created_at),
        rows=sum(table.rows for table in manifest.tables.values()),
        tables=len(manifest.tables),
        migrated=migrated,
        replaced=replaced,
    )


def load(
    cluster: psycopg.Connection[Any], path: Path, manifest: Manifest, progress: Progress
) -> tuple[str, int]:
    """Restore into a new database, compare it, and bring it up to date. Return its name and how
    many migrations it lacked. Raises BackupFault, leaving no database.
    """
    current = server.our_database()
    for left in server.names(
        cluster, prefix_of(current, RESTORING)
    ):  # by a restore that was killed
        server.drop(cluster, left)
    scratch = timed_name(current, RESTORING)
    progress("creating a database")
    server.create(cluster, scratch)
    try:
        major = cluster.info.server_version // 10_000
        program = server.find_program("pg_restore", max(manifest.program, major))
        content = archive.content(path, backup_key.current())
        _manifest, pieces = archive.split_manifest(content, path.name)
        progress("restoring")
        server.load(program, pieces, scratch)
        progress("comparing rows and checksums")
        compare(scratch, manifest, path.name)
        migrated = len(current_migrations() - set(manifest.migrations))
        if migrated:
            progress("migrating")
            migrate(scratch)
        analyze(scratch)
    except BaseException:
        server.drop(cluster, scratch)
        raise
    return scratch, migrated


def timed_name(current: str, purpose: str, moment: datetime | None = None) -> str:
    """Return a name for a database that sorts by its time, which is now."""
    ending = f"{(moment or clock.now()).astimezone(UTC):{STAMP}}"
    return prefix_of(current, purpose) + ending


def prefix_of(current: str, purpose: str) -> str:
    """Return how the names of databases for a purpose begin."""
    return current[: NAME_BYTES - STAMP_CHARACTERS - len(purpose)] + purpose


def compare(database: str, manifest: Manifest, name: str) -> None:
    """Raise BackupFault unless a database has exactly what a backup lists."""
    with backups.snapshot(database) as (moment, _snapshot):
        tables = backups.count_tables(moment)
    wrong = [
        table
        for table in sorted(manifest.tables.keys() | tables.keys())
        if manifest.tables.get(table) != tables.get(table)
    ]
    if wrong:
        raise BackupFault(
            f"{name} does not come back as it was: {', '.join(wrong[:5])} differ"
            f"{' and others' if len(wrong) > 5 else ''}. Use another one: manage.py backup list"
        )


def current_migrations() -> set[str]:
    """Return the migrations that a database of this release has applied."""
    graph = MigrationLoader(None).graph
    return {f"{app}.{name}" for app, name in graph.nodes}


def migrate(database: str) -> None:
    """Bring a database up to this release's tables, in a process of its own, for its settings name
    another database. Raises BackupFault.
    """
    environment = {
        **os.environ,
        "DATABASE_URL": url_of(database),
        "REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": settings.SECRET_KEY,
    }
    command = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity", "0"]
    process = subprocess.run(  # noqa: S603 - our own command
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode:
        lines = (process.stdout + process.stderr).splitlines()
        raise BackupFault(f"The restored tables could not be migrated: {' '.join(lines[-3:])}")


def url_of(database: str) -> str:
    """Return DATABASE_URL with another database's name."""
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{quote(database)}").geturl()


def analyze(database: str) -> None:
    """Let the planner know the restored tables: its first queries would be slow."""
    with server.connect(database) as connection:
        connection.execute(sql.ANALYZE)


def replaced_databases(cluster: psycopg.Connection[Any], before: datetime) -> list[str]:
    """Return the databases that restores replaced before this time, oldest first."""
    current = server.our_database()
    newest = timed_name(current, REPLACED, before)
    names = server.names(cluster, prefix_of(current, REPLACED))
    return [name for name in names if name < newest]
