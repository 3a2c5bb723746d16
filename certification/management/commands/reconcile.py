"""`manage.py reconcile`: repair what got lost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from certification import checks
from certification.engine import reconcile
from certification.management import terminal
from certification.management.guard import friendly_errors


class Command(BaseCommand):
    help = (
        "Sends undelivered runs again, retries runs whose worker died, resumes a paused queue "
        "whose credentials work again, expires certifications, compares the regions of jobs that "
        "were not compared yet. Beat does this every 30 s; it is safe to run at any time."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        result = reconcile.reconcile()
        if options["json"]:
            terminal.print_json(asdict(result))
        elif result.busy:
            self.stdout.write("Another reconciliation is running.")
        else:
            self.stdout.write(
                f"Sent again: {result.resent}. Retried: {result.retried}. "
                f"Given up: {result.given_up}. Expired: {result.expired}. "
                f"Resumed: {result.resumed}. Jobs compared: {result.compared}. "
                f"Certificates issued: {result.issued}."
            )
            if result.paused:
                self.stdout.write("The bulk queue is paused: the AWS credentials do not work.")
            if not result.broker_reachable:
                self.stdout.write(
                    "Redis cannot be reached: undelivered runs wait until it is back."
                )
