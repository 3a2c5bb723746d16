"""`manage.py db_maintenance`: dead rows, bloated indexes, and who does what in the database."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.monitoring.findings import Finding
from certification.operations import maintenance, server
from certification.operations.maintenance import Done, Session


class Command(BaseCommand):
    help = (
        "Vacuums tables with many dead rows and rebuilds bloated or broken indexes, one after the "
        "other and while runs go on; names what only people should decide. Exit code 0: well, 1: "
        "findings, or something could not be done, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only print what it would do")
        parser.add_argument("--activity", action="store_true", help="who does what now")
        parser.add_argument("--cancel", type=int, metavar="PID", help="with --activity: end this")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        if options["cancel"] is not None and not options["activity"]:
            raise CommandError("--cancel belongs to --activity.")
        if options["activity"] and options["cancel"] is None:
            options["dry_run"] = True  # it only looks: the audit trail has nothing to tell
        self.work(*args, **options)

    @friendly_errors
    def work(self, *args: Any, **options: Any) -> None:
        if options["activity"]:
            return self.show_activity(options)
        with server.connect() as own:
            findings = list(maintenance.findings(own))
            actions = maintenance.plan(own)
        done: list[Done] = []
        if not options["dry_run"]:
            for each in maintenance.work():
                done.append(each)
                self.stderr.write(f"{each.action.kind} {each.action.name}: {each.fault or 'done'}")
        if options["json"]:
            document: dict[str, Any] = {"dryRun": options["dry_run"]}
            document["actions"] = [asdict(action) for action in actions]
            document["done"] = [asdict(each) for each in done]
            document["findings"] = [finding.to_json() for finding in findings]
            terminal.print_json(document)
        else:
            self.show(actions, done, findings, dry_run=options["dry_run"])
        if findings or any(each.fault for each in done):
            sys.exit(1)
        return None

    def show(
        self,
        actions: Sequence[maintenance.Action],
        done: Sequence[Done],
        findings: Sequence[Finding],
        *,
        dry_run: bool,
    ) -> None:
        if dry_run:
            for action in actions:
                self.stdout.write(f"Would {action.kind} {action.name}: {action.why}.")
        for each in done:
            how = each.fault or f"{each.seconds:g} s"
            self.stdout.write(f"{each.action.kind} {each.action.name}: {each.action.why}: {how}")
        if not actions:
            self.stdout.write("There is nothing to do.")
        for finding in findings:
            self.stdout.write(f"{finding.what} {finding.why} {finding.fix}")

    def show_activity(self, options: dict[str, Any]) -> None:
        """Print the sessions, after the one named was cancelled."""
        pid, cancelled = options["cancel"], False
        with server.connect() as own:
            if pid is not None and not options["dry_run"]:
                cancelled = maintenance.cancel(own, pid)
            sessions = maintenance.activity(own)
        if pid is not None and pid not in {session.pid for session in sessions} and not cancelled:
            raise CommandError(f"No session of our database has the pid {pid}.")
        if options["json"]:
            rows = [asdict(session) for session in sessions]
            document = {"sessions": rows, "cancelled": pid if cancelled else None}
            return terminal.print_json(document | {"dryRun": options["dry_run"]})
        terminal.console().print(table_of(sessions))
        if pid is not None:
            self.stdout.write(f"{'Cancelled' if cancelled else 'Would cancel'} {pid}.")
        return None


def table_of(sessions: Sequence[Session]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("pid", "role", "state", "transaction s", "state s", "waits for", "statement"):
        table.add_column(heading, overflow="fold")
    for session in sessions:
        waits = ", ".join(filter(None, (session.waits_for, *map(str, session.blocked_by))))
        seconds = (session.transaction_s, session.state_s)
        table.add_row(
            str(session.pid),
            session.role,
            session.state,
            *("" if value is None else f"{value:.1f}" for value in seconds),
            waits,
            session.statement,
        )
    return table
