"""`manage.py dependencies`: packages against the lock file, advisories and newer releases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandParser
from rich import box
from rich.table import Table

from certification.management import terminal
from certification.management.guard import cannot_look
from certification.operations import packages
from certification.operations.packages import Unchecked

T = TypeVar("T")


class Command(BaseCommand):
    help = (
        "Compares the installed packages with the lock file, looks them up among known "
        "vulnerabilities, and lists newer releases with the installed packages that do not take "
        "them. Exit code 0: well, 1: a vulnerability, or not installed as locked, 2: advisories or "
        "newer releases cannot be asked for."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--offline", action="store_true", help="only the lock file")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        self.unchecked: dict[str, str] = {}
        lock: dict[str, str] = self.attempt("lock file", packages.locked, dict)
        different = packages.differences(lock, packages.installed())
        entries: list[Mapping[str, Any]] = []
        newer: list[packages.Outdated] = []
        if not options["offline"]:
            entries = self.attempt("vulnerabilities", packages.advisories, list)
            newer = self.attempt("newer releases", lambda: packages.outdated(lock), list)
        faults = list(packages.vulnerabilities(entries))
        if options["json"]:
            terminal.print_json(
                {
                    "locked": len(lock),
                    "different": [asdict(row) for row in different],
                    "vulnerable": [asdict(row) for row in faults],
                    "notAudited": packages.not_audited(entries),
                    "outdated": [asdict(row) for row in newer],
                    "unchecked": self.unchecked,
                }
            )
        else:
            self.show(lock, different, faults, newer)
        if different or faults:
            sys.exit(1)
        if self.unchecked:
            sys.exit(2)

    def attempt(self, part: str, read: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """Return what one part gives; note why where it cannot be looked at."""
        try:
            return read()
        except Unchecked as fault:
            self.unchecked[part] = str(fault)
            return otherwise()

    def show(
        self,
        lock: dict[str, str],
        different: list[packages.Difference],
        faults: list[packages.Vulnerability],
        newer: list[packages.Outdated],
    ) -> None:
        self.stdout.write(
            f"{len(lock)} packages are locked, {len(lock) - len(different)} installed so."
        )
        for row in different:
            state = f"{row.installed} is installed" if row.installed else "not installed"
            self.stdout.write(f"{row.package} {row.locked} is locked: {state}. Run: make setup")
        for fault in faults:
            self.stdout.write(f"VULNERABLE {fault.sentence}")
        if newer:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for heading in ("package", "version", "newest", "does not go with"):
                table.add_column(heading, overflow="fold")
            for one in newer:
                table.add_row(one.package, one.version, one.latest, "; ".join(one.breaks))
            terminal.console().print(table)
        for part, why in self.unchecked.items():
            self.stdout.write(f"Not checked: {part}. {why}")
