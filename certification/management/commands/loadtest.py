"""`manage.py loadtest`: how fast this installation answers under a small load."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.operations import loadtest
from certification.operations.loadtest import MAX_AT_ONCE, MAX_REQUESTS, Figures, Report
from certification.operations.site import NotAnswered

STEP = 1000  # requests between two lines of progress


class Command(BaseCommand):
    help = (
        "Reads pages, a badge and health of this installation, many at a time, and shows how fast "
        "it answers beside its targets. Writes nothing and asks no other address. Exit code 0: the "
        "targets are met, 1: not, 2: it does not answer."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--requests", type=int, default=1000, help="1000 by default")
        parser.add_argument("--at-once", type=int, default=10, help="10 by default")
        parser.add_argument(
            "--public", action="store_true", help="by PUBLIC_URL, through the proxy; default: local"
        )
        parser.add_argument("--dry-run", action="store_true", help="only list the addresses")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        requests, at_once = options["requests"], options["at_once"]
        if not 1 <= requests <= MAX_REQUESTS or not 1 <= at_once <= MAX_AT_ONCE:
            raise CommandError(
                f"--requests is between 1 and {MAX_REQUESTS}, --at-once between 1 and "
                f"{MAX_AT_ONCE}: this is a test of an installation, not an attack."
            )
        url = settings.PUBLIC_URL if options["public"] else f"http://127.0.0.1:{settings.PORT}"
        paths = loadtest.addresses()
        if options["dry_run"]:
            if options["json"]:
                return terminal.print_json({"url": url, "paths": paths, "dryRun": True})
            self.stdout.write(f"Would ask {url} {requests} times for: {', '.join(paths)}.")
            return None
        try:
            report = loadtest.run(url, paths, requests, at_once, self.progress)
        except NotAnswered as fault:
            raise CommandError(f"{url}: {fault} Start it with: manage.py up") from None
        if options["json"]:
            terminal.print_json(report.to_json())
        else:
            self.show(report)
        if not (report.all.is_met and report.complete):
            sys.exit(1)
        return None

    def progress(self, number: int) -> None:
        if number % STEP == 0:
            self.stderr.write(f"{number} requests")

    def show(self, report: Report) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("address", "requests", "failed", "refused", "p50", "p95", "p99 ms"):
            table.add_column(heading, justify="left" if heading == "address" else "right")
        for row in (*report.paths, report.all):
            table.add_row(*cells(row))
        out = terminal.console()
        out.print(table)
        met = "met" if report.all.is_met else "NOT met"
        out.print(
            f"{report.per_second:g} answers a second in {report.seconds:.1f} s. Targets (95 % "
            f"within {loadtest.TARGET_P95_MS:g} ms, fewer than {100 * loadtest.TARGET_ERRORS:g} % "
            f"errors): {met}."
        )
        if not report.complete:
            out.print("It did not come to its end in time.")


def cells(row: Figures) -> list[str]:
    times = (row.p50_ms, row.p95_ms, row.p99_ms)
    numbers = [str(number) for number in (row.requests, row.failed, row.refused)]
    return [row.path, *numbers, *("-" if ms is None else f"{ms:g}" for ms in times)]
