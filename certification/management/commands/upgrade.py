"""`manage.py upgrade --check`: may this release follow the one that runs, and who will wait?"""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.operations import upgrades
from certification.operations.upgrades import Report


class Command(BaseCommand):
    help = (
        "Looks, with the new release, whether it may follow the one that runs: the order of "
        "releases, a fresh backup, the disk, and each migration with the locks that it takes on "
        "which rows; refuses what the release that runs would break on. Changes nothing. Exit code "
        "0: go on, 1: refused, 2: cannot look."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="look, and change nothing")
        parser.add_argument(
            "--stopped",
            action="store_true",
            help="every process of the old release will be stopped meanwhile",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not options["check"]:
            raise CommandError(
                "Add --check to look whether the upgrade may begin; docs/deployment.md (Upgrades) "
                "has its steps."
            )
        report = upgrades.check(stopped=options["stopped"])
        if options["json"]:
            terminal.print_json(report.to_json())
        else:
            self.show(report)
        if report.refusals:
            sys.exit(1)

    def show(self, report: Report) -> None:
        out = terminal.console()
        running = ", ".join(report.running) or "nothing that answers"
        out.print(f"Running: {running}. This release: {settings.VERSION}.")
        if report.steps:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for heading in ("migration", "operation", "table", "rows", "lock", "about s"):
                table.add_column(heading, overflow="fold")
            for step in report.steps:
                table.add_row(step.name, "" if step.operations else "nobody waits for it")
                for row in step.operations:
                    rows = str(row.table.rows) if row.table else "?"
                    seconds = "-" if row.seconds is None else f"{row.seconds:g}"
                    lock, operation = row.finding.lock.label, row.finding.operation
                    table.add_row("", operation, row.finding.table, rows, lock, seconds)
            out.print(table)
        else:
            out.print("There is no migration to apply.")
        for finding in report.warnings:
            out.print(f"Note: {finding.what} {finding.why} {finding.fix}".rstrip())
        for finding in report.refusals:
            out.print(f"REFUSED: {finding.what} {finding.why} {finding.fix}")
        if not report.refusals:
            out.print("The upgrade may begin.")
