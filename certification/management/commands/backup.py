"""`manage.py backup`: make, list and verify backups of the database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.operations import backup_key, backups, restore
from certification.operations.archive import BackupFault, key_id
from certification.operations.backups import Backup


class Command(BaseCommand):
    help = (
        "Makes a backup of the database in BACKUP_DIR and deletes those that no day, week or month "
        "needs. Exit code 0: well, 1: a verified backup cannot be restored, 2: it cannot be made "
        "or looked at."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("", "make")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--dry-run", action="store_true", help="only print what it would do")
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        actions.add_parser("make", help="make one, the default").add_argument(
            "--dry-run", action="store_true", help="only print what it would do"
        )
        actions.add_parser("list", help="the backups there are, newest first")
        verify = actions.add_parser(
            "verify", help="restore one into a scratch database and compare every table"
        )
        verify.add_argument("file", nargs="?", default="newest", help="default: the newest")
        verify.add_argument("--quick", action="store_true", help="only read it whole")
        actions.add_parser("key", help="which key seals backups, and where it is")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options["json"]
        match options["action"]:
            case "list":
                self.show(as_json=as_json)
            case "verify":
                self.verify(backups.find(options["file"]), as_json, quick=options["quick"])
            case "key":
                self.show_key(as_json=as_json)
            case _ if options["dry_run"]:
                self.report(None, backups.rotate(dry_run=True), as_json=as_json)
            case _:
                made = backups.make(self.stderr.write)
                self.report(made, backups.rotate(), as_json=as_json)

    def report(self, made: Backup | None, removed: list[Backup], *, as_json: bool) -> None:
        """Print what was made, or would be, and what was deleted."""
        if as_json:
            return terminal.print_json(
                {
                    "backup": to_json(made) if made else None,
                    "removed": [backup.path.name for backup in removed],
                    "dryRun": made is None,
                }
            )
        if made:
            self.stdout.write(f"{made.path}: {made.size_bytes / 1e6:.1f} MB.")
            if made.header.key and not settings.BACKUP_KEY and not settings.BACKUP_KEY_FILE:
                self.stdout.write(
                    f"Sealed with {backup_key.own_file()}: copy that file to another place, for "
                    "without it no backup can be read."
                )
        else:
            self.stdout.write(f"Would make a backup in {backups.folder()}.")
        for backup in removed:
            self.stdout.write(f"{'Deleted' if made else 'Would delete'} {backup.path.name}.")
        return None

    def show(self, *, as_json: bool) -> None:
        rows = backups.stored()
        if as_json:
            return terminal.print_json({"backups": [to_json(backup) for backup in rows]})
        if not rows:
            self.stdout.write(f"There is no backup in {backups.folder()}. Make one: backup")
            return None
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("file", "made (UTC)", "MB", "release", "sealed"):
            table.add_column(heading, justify="right" if heading == "MB" else "left")
        for backup in rows:
            table.add_row(
                backup.path.name,
                f"{backup.created_at:%Y-%m-%d %H:%M}",
                f"{backup.size_bytes / 1e6:.1f}",
                backup.header.version,
                backup.header.key or "no",
            )
        terminal.console().print(table)
        return None

    def verify(self, path: Path, as_json: bool, *, quick: bool) -> None:
        """Say whether a backup can be restored; exit with 1 when it cannot."""
        try:
            manifest = restore.plan(path)
            if not quick:
                restore.drill(path, self.stderr.write)
            fault = ""
        except BackupFault as error:
            fault = str(error)
        if as_json:
            terminal.print_json({"file": str(path), "well": not fault, "fault": fault or None})
        elif fault:
            self.stderr.write(fault)
        else:
            rows = sum(table.rows for table in manifest.tables.values())
            how = "can be read whole" if quick else "was restored and compared"
            self.stdout.write(f"{path.name} {how}: {len(manifest.tables)} tables, {rows} rows.")
        if fault:
            sys.exit(1)

    def show_key(self, *, as_json: bool) -> None:
        key = backup_key.current()
        name = key_id(key) if key else None
        source = (
            "BACKUP_KEY"
            if settings.BACKUP_KEY
            else str(settings.BACKUP_KEY_FILE or backup_key.own_file())
        )
        if as_json:
            return terminal.print_json({"key": name, "source": source})
        if name is None:
            self.stdout.write(f"There is no key yet; the first backup makes {source}.")
        else:
            self.stdout.write(f"Key {name} of {source}. Have a copy of it in another place.")
        return None


def to_json(backup: Backup) -> dict[str, Any]:
    return {
        "file": backup.path.name,
        "createdAt": backup.header.created_at,
        "sizeBytes": backup.size_bytes,
        "version": backup.header.version,
        "database": backup.header.database,
        "encryption": backup.header.encryption,
        "key": backup.header.key or None,
    }
