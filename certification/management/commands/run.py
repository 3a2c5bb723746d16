"""`manage.py run`: become one process of the stack, for process managers that read the Procfile."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.stack import programs


class Command(BaseCommand):
    help = (
        "Runs one process of the stack in the foreground, without the supervisor of `manage.py up` "
        "and without starting any server: for process managers that read the Procfile."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("process", help="web, worker, worker-bulk, beat, flower or emulator")

    def handle(self, *args: Any, **options: Any) -> None:
        table = {program.name: program for program in programs.programs()}
        table.setdefault("emulator", programs.emulator())
        program = table.get(options["process"])
        if program is None:
            raise CommandError(
                f"There is no process {options['process']!r}: {', '.join(sorted(table))}."
            )
        if program.name == "flower" and not settings.FLOWER_BASIC_AUTH:
            raise CommandError(
                "Flower does not start without a password. Set FLOWER_BASIC_AUTH=user:password"
            )
        os.chdir(settings.BASE_DIR)
        os.execve(program.argv[0], program.argv, {**os.environ, **program.env})  # noqa: S606
