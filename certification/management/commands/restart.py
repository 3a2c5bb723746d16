"""`manage.py restart`: restart processes of the running stack."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification.management import terminal
from certification.stack import control, embedded
from certification.stack.supervisor import StackError


class Command(BaseCommand):
    help = (
        "Restarts processes of the running stack, one after the other: workers finish their calls "
        "first, web replaces its processes without closing its port. New environment variables "
        "need `down` and `up`. Exit code 1: a process is not up again, or none runs."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "process",
            nargs="*",
            help="web worker worker-bulk beat flower emulator; default: all",
        )
        parser.add_argument(
            "--now",
            action="store_true",
            help="kill them instead: for processes that hang. Their runs are taken up again by "
            "other workers within a minute, requests in flight are lost",
        )
        parser.add_argument("--dry-run", action="store_true", help="only print what it would do")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        write = self.stderr.write if options["json"] else self.stdout.write
        try:
            chosen = control.to_restart(options["process"])
            if options["dry_run"]:
                processes = [p for p in control.status() if p.name in {c.name for c in chosen}]
                how = "kill" if options["now"] else "restart"
                for record in chosen:
                    write(f"Would {how} {record.name}, pid {record.pid}.")
            else:
                processes = control.restart(options["process"], write, now=options["now"])
        except (StackError, embedded.EmbeddedError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            rows = [process.to_json() for process in processes]
            terminal.print_json({"dryRun": options["dry_run"], "processes": rows})
