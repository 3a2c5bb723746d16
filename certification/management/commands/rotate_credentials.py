"""`manage.py rotate_credentials`: try new AWS credentials, have workers take them, and look how old
every other secret is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.engine import dispatch
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.models import Region
from certification.operations import credentials
from certification.operations.credentials import Proof, Secret, Verification


class Command(BaseCommand):
    help = (
        "Tries AWS credentials (who they are, and in each region a listing and the smallest call), "
        "puts a new file of them in place of the one that workers read, which take them without a "
        "restart, and lists every other secret with its age. Exit code 0: well, 1: refused, or a "
        "secret is due, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", nargs="?", default="", help="new credentials, as in ~/.aws/credentials"
        )
        parser.add_argument("--check", action="store_true", help="only try them, change nothing")
        parser.add_argument("--dry-run", action="store_true", help="the same as --check")
        parser.add_argument("--region", nargs="+", default=[], help="default: every enabled one")
        parser.add_argument(
            "--no-calls", action="store_true", help="only listings, which cost nothing"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        # without a file, nothing changes and the audit trail has nothing to tell
        options["dry_run"] = options["dry_run"] or options["check"] or not options["file"]
        self.rotate(*args, **options)

    @friendly_errors
    def rotate(self, *args: Any, **options: Any) -> None:
        name, dry_run = options["file"], options["dry_run"]
        content = credentials.read_file(Path(name)) if name else b""
        target = credentials.workers_file() if name else None
        regions = regions_of(options["region"])
        verification = credentials.verify(regions, name, calls=not options["no_calls"])
        if name and verification.note:
            raise CommandError(f"{verification.note} Set BEDROCK_BACKEND=aws first.")
        is_rotated = bool(target and verification.is_well and not dry_run)
        if target and is_rotated:
            credentials.put_in_place(content, target)
        rows, proof = list(credentials.secrets()), credentials.proof()
        if options["json"]:
            terminal.print_json(
                {
                    "verification": credentials.to_json(verification),
                    "rotated": is_rotated,
                    "file": str(target) if target else None,
                    "proof": vars(proof) if proof else None,
                    "secrets": [secret_json(row) for row in rows],
                }
            )
        else:
            self.show(verification, proof, rows)
            if target:
                self.stdout.write(outcome(str(target), is_rotated, verification, dry_run=dry_run))
        if not verification.is_well or any(row.is_due for row in rows):
            sys.exit(1)

    def show(self, verification: Verification, proof: Proof | None, rows: list[Secret]) -> None:
        out = terminal.console()
        who = f"{verification.caller} ({verification.key_preview}…, {verification.source})"
        out.print(verification.note or verification.fault or f"Credentials of {who}.")
        for region in verification.regions:
            called = {True: ", a call was answered", False: "", None: ""}[region.called]
            out.print(f"{region.region}: {region.fault or f'{region.models} models{called}'}")
        if proof:
            out.print(
                f"Since the rotation of {proof.since:%Y-%m-%d %H:%M} UTC, "
                f"{terminal.pluralize(proof.runs, 'run')} ended on AWS, {proof.refused} were "
                "refused for credentials."
            )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("secret", "from", "days", "", "note"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            days = str(row.age.days) if row.age else "unknown"
            table.add_row(row.name, row.source, days, "DUE" if row.is_due else "", row.note)
        out.print(table)


def regions_of(codes: list[str]) -> list[str]:
    """Return these regions, or every enabled one."""
    if codes:
        return [region.code for region in dispatch.find_regions(codes)]
    return list(Region.objects.enabled().values_list("code", flat=True))


def outcome(target: str, rotated: bool, verification: Verification, *, dry_run: bool) -> str:
    if rotated:
        return (
            f"{target} was replaced: workers take it within some seconds. Prove it by a run "
            "(manage.py smoke MODEL), look here again, then end the old key in AWS."
        )
    if not verification.is_well:
        return f"{target} is as it was: these credentials do not work everywhere."
    return f"{target} would be replaced." if dry_run else ""


def secret_json(row: Secret) -> dict[str, Any]:
    return {
        "name": row.name,
        "source": row.source,
        "since": row.since,
        "ageDays": row.age.days if row.age else None,
        "due": row.is_due,
        "note": row.note,
    }
