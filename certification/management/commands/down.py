"""`manage.py down`: stop what `up` started on this machine."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from certification.stack import control, embedded
from certification.stack.supervisor import StackError


class Command(BaseCommand):
    help = (
        "Stops the stack in order (workers finish their calls first), then the embedded PostgreSQL "
        "and Valkey."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            was_running = control.stop(self.stdout.write)
        except (StackError, embedded.EmbeddedError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write("Everything is stopped." if was_running else "Nothing was running.")
