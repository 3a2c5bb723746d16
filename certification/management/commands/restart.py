"""`manage.py restart`: restart processes of the running stack."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification.stack import control, embedded
from certification.stack.supervisor import StackError


class Command(BaseCommand):
    help = (
        "Restarts processes of the running stack, one after the other: workers finish their calls "
        "first, web replaces its processes without closing its port. New environment variables "
        "need `down` and `up`."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "process",
            nargs="*",
            help="web worker worker-bulk beat flower emulator; default: all",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            control.restart(options["process"], self.stdout.write)
        except (StackError, embedded.EmbeddedError) as error:
            raise CommandError(str(error)) from error
