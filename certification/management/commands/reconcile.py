"""`manage.py reconcile`: put right what got lost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from certification.engine import reconcile
from certification.management import terminal
from certification.management.guard import friendly_errors


class Command(BaseCommand):
    help = (
        "Sends undelivered runs again, retries runs whose worker died, resumes a paused queue whose credentials work "
        "again, expires certifications. Beat does this every 30 s; safe to run at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        done = reconcile.reconcile()
        if options["json"]:
            terminal.print_json(asdict(done))
        elif done.busy:
            self.stdout.write("Another reconciliation is at work.")
        else:
            self.stdout.write(
                f"Sent again: {done.resent}. Retried: {done.retried}. Given up: {done.given_up}. "
                f"Expired: {done.expired}. Resumed: {done.resumed}."
            )
            if done.paused:
                self.stdout.write("The bulk queue is paused: the AWS credentials do not work.")
            if not done.broker_reachable:
                self.stdout.write(
                    "Redis cannot be reached: undelivered runs wait until it is back."
                )
