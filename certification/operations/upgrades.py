"""Whether this release may follow the one that runs: looked at with the new program, before it is
migrated and while the old one works.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor

from certification.lib import clock
from certification.models import sql
from certification.monitoring import queue_stats
from certification.monitoring.findings import Finding
from certification.operations import backups, migrations
from certification.operations.archive import BackupFault
from certification.operations.migrations import version_of
from certification.operations.site import NotAnswered, Site

FRESH_BACKUP = timedelta(hours=24)
SPARE_BYTES = 1_000_000_000
BYTES_PER_SECOND = 50_000_000  # of a pass over a table, low: it builds an index, or writes anew
SLOW_S = 5.0  # how long others may wait for one operation


@dataclass(frozen=True)
class Table:
    """What the server knows of a table; `rows` is its estimate."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Operation:
    """One operation of a migration that is to be applied, with what it does to which rows.

    `seconds` is a guess of how long a pass over the table takes; None where there is none.
    """

    finding: migrations.Finding
    table: Table | None

    @property
    def seconds(self) -> float | None:
        if not self.finding.scans or self.table is None:
            return None
        return round(self.table.bytes / BYTES_PER_SECOND, 1)

    def to_json(self) -> dict[str, Any]:
        size = {"rows": self.table.rows, "bytes": self.table.bytes} if self.table else {}
        return {**self.finding.to_json(), **size, "seconds": self.seconds}


@dataclass(frozen=True)
class Step:
    """A migration that is to be applied. `contracts`: the release that runs does not use what it
    removes.
    """

    name: str
    operations: Sequence[Operation]
    contracts: bool = False

    @property
    def faults(self) -> list[str]:
        """Why the release that runs would fail after it."""
        breaking = [row.finding.breaks for row in self.operations if row.finding.breaks]
        return [] if self.contracts else breaking

    def to_json(self) -> dict[str, Any]:
        return {
            "migration": self.name,
            "contracts": self.contracts,
            "breaks": self.faults,
            "operations": [operation.to_json() for operation in self.operations],
        }


@dataclass(frozen=True)
class Report:
    """`running` are the releases of the processes that answer. `refusals` keep the upgrade from
    being begun, `warnings` are to be known.
    """

    running: Sequence[str]
    steps: Sequence[Step]
    refusals: Sequence[Finding]
    warnings: Sequence[Finding]

    def to_json(self) -> dict[str, Any]:
        return {
            "from": list(self.running),
            "to": settings.VERSION,
            "allowed": not self.refusals,
            "refusals": [finding.to_json() for finding in self.refusals],
            "warnings": [finding.to_json() for finding in self.warnings],
            "migrations": [step.to_json() for step in self.steps],
        }


def check(*, stopped: bool = False) -> Report:
    """Look at everything. With `stopped` no process of the old release works meanwhile, so that
    nothing can break. Raises DatabaseError.
    """
    running = [] if stopped else running_versions()
    steps = list(pending(running))
    refusals = [*path_faults(running), *history_faults(), *backup_faults(), *room_faults(steps)]
    if not stopped:
        refusals += breaking(steps)
    return Report(running, steps, refusals, list(slow(steps)))


def running_versions() -> list[str]:
    """Return the releases of the web and of the workers that answer now."""
    versions = set()
    with suppress(NotAnswered, CommandError):
        answer = Site(f"http://127.0.0.1:{settings.PORT}").get("/health").json()
        versions.add(answer.get("version") if isinstance(answer, dict) else None)
    versions |= {worker.version for worker in queue_stats.ask_workers() or ()}
    return sorted(str(version) for version in versions if version)


def path_faults(running: Sequence[str]) -> Iterator[Finding]:
    """Look whether this release may follow those: the next one, or the same."""
    for version in running:
        try:
            old, new = version_of(version), version_of(settings.VERSION)
        except ValueError as error:
            yield Finding(str(error), "Its order is not known.", "Stop it, then use --stopped.")
            continue
        way = f"{version} runs, this is {settings.VERSION}."
        if new < old:
            yield Finding(way, "An older release does not know its tables.", "manage.py restore")
        elif skips(old, new):
            why = "Each release is only tried after the one before."
            yield Finding(way, why, "Upgrade one release after the other.")


def skips(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether there is a release between two: of the same major number the next minor one follows,
    else the next major one.
    """
    (old_major, old_minor), (new_major, new_minor) = ((*v, 0)[:2] for v in (old, new))
    if old_major == new_major:
        return new_minor - old_minor > 1
    return new_major - old_major > 1 or new_minor > 0


def history_faults() -> Iterator[Finding]:
    """Look for applied migrations that this release does not have, or has in another order."""
    loader = MigrationExecutor(connection).loader
    ours = {app for app, _name in loader.disk_migrations}
    unknown = [
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if app in ours and (app, name) not in loader.disk_migrations
    ]
    if unknown:
        what = f"The database has migrations of a later release: {', '.join(sorted(unknown)[:5])}."
        yield Finding(what, "This release does not know its tables.", "Install the later release.")
    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        yield Finding(str(error), "Tables may be missing.", "manage.py restore")


def backup_faults() -> Iterator[Finding]:
    """Look for a backup to go back to."""
    why = "Without one there is no way back once a migration has removed something."
    try:
        rows = backups.stored()
    except BackupFault as fault:
        yield Finding(str(fault), why, "manage.py backup")
        return
    if not rows:
        yield Finding("There is no backup.", why, "manage.py backup")
    elif (age := clock.now() - rows[0].created_at) > FRESH_BACKUP:
        hours = age / timedelta(hours=1)
        what = f"The newest backup is {hours:.0f} hours old."
        yield Finding(what, "What came after it would be lost.", "manage.py backup")


def room_faults(steps: Sequence[Step]) -> Iterator[Finding]:
    """Look whether the disk has room for tables that are written anew. That of a server elsewhere
    cannot be seen.
    """
    rewritten = sum(
        row.table.bytes for step in steps for row in step.operations if row.table and row.seconds
    )
    places = {"the backups": Path(settings.BACKUP_DIR), "the data": Path(settings.MYIA_ROOT)}
    for name, place in places.items():
        needed = SPARE_BYTES + (rewritten if name == "the data" else 0)
        with suppress(OSError):
            free = shutil.disk_usage(place).free
            if free < needed:
                what = f"{free / 1e6:.0f} MB are free for {name}, {needed / 1e6:.0f} are needed."
                yield Finding(what, "A full disk ends a migration.", "Free some space.")


def pending(running: Sequence[str]) -> Iterator[Step]:
    """Yield the migrations that are to be applied, in their order."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    applied = [
        key for key in executor.loader.applied_migrations if key in executor.loader.graph.nodes
    ]
    state = executor.loader.project_state(applied)
    tables = {
        row["name"]: Table(row["rows"], row["bytes"]) for row in sql.fetch_all(sql.ALL_TABLES)
    }
    for migration, _backwards in plan:
        findings = migrations.judge(migration, state)
        # a table that is not there yet has no rows, and nobody who uses it
        operations = [Operation(f, tables.get(f.table)) for f in findings if is_felt(f, tables)]
        contracts = bool(running) and all(
            migrations.is_contraction_of(migration, version) for version in running
        )
        yield Step(f"{migration.app_label}.{migration.name}", operations, contracts)
        state = migration.mutate_state(state, preserve=False)


def is_felt(finding: migrations.Finding, tables: dict[str, Table]) -> bool:
    return finding.lock > migrations.Lock.NONE and (not finding.table or finding.table in tables)


def breaking(steps: Sequence[Step]) -> Iterator[Finding]:
    """Yield what the release that runs would fail on."""
    for step in steps:
        for why in step.faults:
            fix = "Stop every process first (--stopped), or wait for a release that expands only."
            yield Finding(f"{step.name}: {why}", "Its requests and runs would fail.", fix)


def slow(steps: Sequence[Step]) -> Iterator[Finding]:
    """Yield where others wait for more than a moment, and what is to be read."""
    for step in steps:
        for row in step.operations:
            finding = row.finding
            if finding.holds_up and (row.seconds or 0) > SLOW_S and row.table:
                wait = "reads and writes" if finding.lock.stops_reads else "writes"
                what = (
                    f"{step.name}: {wait} of {finding.table} ({row.table.rows} rows) wait for "
                    f"about {row.seconds:.0f} s."
                )
                yield Finding(what, finding.operation, finding.advice)
            if finding.warning:
                yield Finding(f"{step.name}: {finding.warning}", finding.operation, finding.advice)
