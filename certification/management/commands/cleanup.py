"""`manage.py cleanup`: delete what is older than the table of retention says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.lib import shared_cache
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.operations import retention
from certification.operations.retention import RETENTION, Deleted

MAX_DAYS = 36500


class Command(BaseCommand):
    help = (
        "Deletes what is older than the table of retention says, in batches that give way to runs. "
        "Verdicts, grades, sentences and figures stay: old runs can still be read, compared and "
        "judged again, unless RUN_RETENTION_DAYS ends them. Exit code 0: well, 1: some is left, "
        "for others hold it, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        names = [row.name for row in RETENTION]
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"only: {', '.join(names)}")
        parser.add_argument("--days", type=int, help="of these names; else as the table says")
        parser.add_argument(
            "--cache", action="store_true", help="empty our cache alone, whatever its age"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count what is too old")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        names, days = options["names"], options["days"]
        if options["cache"]:
            if names or days is not None:
                raise CommandError("--cache empties the cache alone: leave names and days out.")
            return self.clear_cache(options)
        known = {row.name for row in RETENTION}
        if unknown := sorted(set(names) - known):
            raise CommandError(
                f"There is no {unknown[0]!r} to clean up. There are: {sorted(known)}"
            )
        if days is not None and (not names or not 1 <= days <= MAX_DAYS):
            raise CommandError(f"--days takes 1 to {MAX_DAYS} and the names that it is for.")
        for row in RETENTION:
            if row.name in names and not (row.days or days):
                raise CommandError(
                    f"{row.name} stay for ever ({row.setting}=0). To delete old ones now: --days N."
                )
        if options["dry_run"]:
            rows = list(retention.count(names, days))
        else:
            rows = list(retention.clean(names, days))
        if options["json"]:
            report = [to_json(row) for row in rows]
            terminal.print_json({"deleted": report, "dryRun": options["dry_run"]})
        else:
            self.show(rows, dry_run=options["dry_run"])
        if not all(row.complete for row in rows):
            sys.exit(1)
        return None

    def clear_cache(self, options: dict[str, Any]) -> None:
        """Delete what processes share for seconds; they read it again. Raises redis.RedisError."""
        number = shared_cache.count() if options["dry_run"] else shared_cache.clear()
        if options["json"]:
            return terminal.print_json({"cache": number, "dryRun": options["dry_run"]})
        verb = "Would delete" if options["dry_run"] else "Deleted"
        self.stdout.write(f"{verb} {terminal.pluralize(number, 'key')} of the cache.")
        return None

    def show(self, rows: Sequence[Deleted], *, dry_run: bool) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        heading = "would be deleted" if dry_run else "deleted"
        for name in ("name", "from before (UTC)", heading, "what", "setting"):
            table.add_column(name, overflow="fold", justify="right" if name == heading else "left")
        for row in rows:
            table.add_row(
                row.retention.name,
                f"{row.before:%Y-%m-%d %H:%M}",
                f"{row.number}{'' if row.complete else ', some is left'}",
                str(row.retention.what),
                f"{row.retention.setting}={row.retention.days}",
            )
        terminal.console().print(table)


def to_json(row: Deleted) -> dict[str, Any]:
    return {
        "name": row.retention.name,
        "what": str(row.retention.what),
        "days": row.retention.days,
        "before": row.before,
        "number": row.number,
        "complete": row.complete,
    }
