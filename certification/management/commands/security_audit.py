"""`manage.py security_audit`: what others could read, reach, guess or still use here."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.operations import security
from certification.operations.tasks import audit_security


class Command(BaseCommand):
    help = (
        "Looks at packages, files, processes, ports, settings, headers as the web answers them, "
        "users, API keys, encryption of connections and backups; stores the report and compares it "
        "with the last one. Exit code 0: well, 1: findings, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        names = ", ".join(security.PARTS)
        parser.add_argument("parts", nargs="*", metavar="PART", help=f"only: {names}")
        parser.add_argument("--dry-run", action="store_true", help="store no report")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if unknown := sorted(set(options["parts"]) - security.PARTS.keys()):
            raise CommandError(
                f"There is no part {unknown[0]!r}. There are: {', '.join(security.PARTS)}."
            )
        report: dict[str, Any]
        if options["dry_run"]:
            report = security.audit(options["parts"])
        else:
            report = audit_security.apply(args=(options["parts"],), throw=True).get()
        if options["json"]:
            terminal.print_json(report)
        else:
            self.show(report)
        if not report["well"]:
            sys.exit(1)

    def show(self, report: dict[str, Any]) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("part", "finding", "why", "fix"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "part")
        for section in report["sections"]:
            for finding in section["findings"]:
                new = "NEW: " if finding["what"] in report["new"] else ""
                table.add_row(
                    section["name"], new + finding["what"], finding["why"], finding["fix"]
                )
            if section["unchecked"]:
                table.add_row(section["name"], "not checked", section["unchecked"], "")
            elif not section["findings"]:
                table.add_row(section["name"], "well", "", "")
        out = terminal.console()
        out.print(table)
        for row in report["listeners"]:
            out.print(f"{row['process']} listens on port {row['port']} for {row['reachable']}.")
        for text in report["gone"]:
            out.print(f"No longer: {text}")
        if report["comparedWith"]:
            numbers = f"{len(report['new'])} new, {len(report['gone'])} gone"
            out.print(f"Since the audit of {report['comparedWith']}: {numbers}.")
