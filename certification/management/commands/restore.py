"""`manage.py restore`: put a backup in the place of the current database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from certification import checks
from certification.lib import shared_cache
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.models import CertificationRun
from certification.operations import backups, restore


class Command(BaseCommand):
    help = (
        "Restores a backup into a new database, compares every table, and puts it in the place of "
        "the current one, which stays beside it for 7 days. Pages go on meanwhile. Exit code 0: "
        "restored, 2: not, and the current database is as it was."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="a file, its name in BACKUP_DIR, or `newest`")
        parser.add_argument("--dry-run", action="store_true", help="only prove that it would work")
        parser.add_argument(
            "--while-running",
            action="store_true",
            help="although runs are at work: what they find is lost",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        path = backups.find(options["file"])
        if not options["while_running"]:
            self.refuse_active_runs()
        if options["dry_run"]:
            return self.describe(path, as_json=options["json"])
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        done = restore.replace(path, self.stderr.write)
        shared_cache.invalidate()
        if options["json"]:
            return terminal.print_json(
                {
                    "file": str(path),
                    "createdAt": done.created_at,
                    "tables": done.tables,
                    "rows": done.rows,
                    "migrated": done.migrated,
                    "replaced": done.replaced,
                    "dryRun": False,
                }
            )
        self.stdout.write(
            f"Restored {path.name} of {done.created_at:%Y-%m-%d %H:%M} UTC: {done.tables} tables, "
            f"{done.rows} rows. What was there before is the database {done.replaced}."
        )
        return None

    def refuse_active_runs(self) -> None:
        """Raise CommandError while runs are at work. Without tables there are none."""
        try:
            active = CertificationRun.objects.active().count()
        except DatabaseError:
            active = 0
        if active:
            raise CommandError(
                f"{terminal.pluralize(active, 'run')} wait or are at work, and what they find from "
                "now on would be lost. Wait for them (manage.py queue), cancel their jobs "
                "(manage.py job cancel), or say --while-running."
            )

    def describe(self, path: Path, *, as_json: bool) -> None:
        manifest = restore.plan(path)
        rows = sum(table.rows for table in manifest.tables.values())
        lacking = len(restore.current_migrations() - set(manifest.migrations))
        if as_json:
            return terminal.print_json(
                {
                    "file": str(path),
                    "tables": len(manifest.tables),
                    "rows": rows,
                    "migrated": lacking,
                    "dryRun": True,
                }
            )
        self.stdout.write(
            f"Would restore {path.name}: {len(manifest.tables)} tables, {rows} rows, and then "
            f"apply {terminal.pluralize(lacking, 'migration')}."
        )
        return None
