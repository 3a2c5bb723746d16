"""`manage.py readonly`: everything can be read, nothing new is accepted."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certification import checks
from certification.engine import pauses
from certification.management import terminal
from certification.management.arguments import duration
from certification.management.guard import cannot_look, friendly_errors
from certification.models import PauseCause, QueuePause


class Command(BaseCommand):
    help = (
        "Begins, ends or shows read-only mode: pages, API and commands refuse new work with the "
        "reason, no run begins, reading goes on. Exit code of status: 0: off, 1: on; of on and "
        "off: 0: done, 1: it was so already; 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("on", "off")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        on = actions.add_parser("on", help="begin it")
        on.add_argument("--reason", required=True, help="shown to everybody who is refused")
        on.add_argument("--for", dest="duration", help="it ends by itself after 30m, 2h, 7d")
        off = actions.add_parser("off", help="end it")
        actions.add_parser("status", help="whether it is on")
        for action in (on, off):
            action.add_argument(
                "--dry-run", action="store_true", help="only print what it would do"
            )
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        action, before = options["action"], QueuePause.objects.read_only()
        if action == "status":
            self.show(before, as_json=options["json"])
            sys.exit(1 if before else 0)
        changes = (before is None) == (action == "on")
        if changes and not options["dry_run"]:
            changes = self.change(action, options)
        after = QueuePause.objects.read_only()
        if options["dry_run"] and not options["json"]:
            self.stdout.write(f"Would turn it {action}." if changes else "Nothing would change.")
        else:
            self.show(after, as_json=options["json"], changed=changes and not options["dry_run"])
        sys.exit(0 if changes else 1)

    def change(self, action: str, options: dict[str, Any]) -> bool:
        """Turn it on or off. Return whether this call did."""
        who = getpass.getuser()
        if action == "off":
            return pauses.end(PauseCause.READ_ONLY, who) is not None
        reason = pauses.one_line(options["reason"])
        if not reason:
            raise CommandError("--reason is empty. Say why nothing new is accepted.")
        length = options["duration"]
        lasts = duration(length) if length is not None else None
        return pauses.begin(PauseCause.READ_ONLY, who, reason, lasts) is not None

    def show(self, pause: QueuePause | None, *, as_json: bool, changed: bool = False) -> None:
        if as_json:
            facts = to_json(pause) if pause else None
            return terminal.print_json({"readOnly": facts, "changed": changed})
        self.stdout.write(pause.sentence if pause else "Read-only mode is off.")
        return None


def to_json(pause: QueuePause) -> dict[str, Any]:
    """Return a pause as commands print it."""
    return {
        "cause": pause.cause,
        "reason": pause.message,
        "by": pause.opened_by,
        "since": pause.opened_at,
        "until": pause.until,
    }
