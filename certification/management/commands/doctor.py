"""`manage.py doctor`: everything that can be wrong, with its fix."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich import box
from rich.table import Table

from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.monitoring import doctor


class Command(BaseCommand):
    help = (
        "Checks settings, tables, servers, workers, routines, clock, disk, files, accounts, "
        "Bedrock and open alerts, and says why each finding matters and what to do. Exit code 0: "
        "all well, 1: findings, 2: cannot look. Changes nothing."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data", action="store_true", help="compare counts with rows: slow")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        looks = doctor.CHECKS | (doctor.DATA if options["data"] else {})
        results = list(doctor.examine(looks))
        has_findings = any(result.findings for result in results)
        if options["json"]:
            terminal.print_json(
                {"well": not has_findings, "checks": [asdict(result) for result in results]}
            )
        else:
            terminal.console().print(table_of(results))
        if has_findings:
            sys.exit(1)


def table_of(results: list[doctor.Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "finding", "why", "fix"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "check")
    for result in results:
        if not result.findings:
            table.add_row(result.check, "well", "", "")
        for finding in result.findings:
            table.add_row(result.check, finding.what, finding.why, finding.fix)
    return table
