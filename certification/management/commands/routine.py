"""`manage.py routine`: what is done by the clock, and doing it now."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.models import RoutineMark
from certification.operations.routines import ROUTINES, Routine
from certification.operations.tasks import run_routine


class Command(BaseCommand):
    help = (
        "Lists the routines that beat runs by the clock, or runs one now. Its report is stored "
        "with those of beat. Exit code 0: well, 1: a step failed or it took too long, 2: it could "
        "not run."
    )
    requires_system_checks: list[str] = [checks.TAG]
    audited = ("run",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        actions.add_parser("list", help="the routines and how they ended last, the default")
        run = actions.add_parser("run", help="run one now")
        run.add_argument("name", choices=list(ROUTINES))
        run.add_argument("--step", default="", help="only this step, by its name")
        run.add_argument("--dry-run", action="store_true", help="only print what it would do")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "run":
            self.run_now(ROUTINES[options["name"]], options)
        else:
            self.show(as_json=options["json"])

    def show(self, *, as_json: bool) -> None:
        marks = {mark.name: mark for mark in RoutineMark.objects.all()}
        if as_json:
            rows = [to_json(routine, marks.get(routine.name)) for routine in ROUTINES.values()]
            return terminal.print_json({"routines": rows})
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("routine", "when", "time", "ended well", "steps", "fault"):
            table.add_column(heading, overflow="fold")
        for routine in ROUTINES.values():
            row = to_json(routine, marks.get(routine.name))
            table.add_row(
                routine.name,
                str(routine.when),
                f"{routine.budget_s / 60:.0f} min",
                f"{row['endedAt']:%Y-%m-%d %H:%M}" if row["endedAt"] else "never",
                ", ".join(row["steps"]),
                row["fault"] or "",
            )
        terminal.console().print(table)
        return None

    def run_now(self, routine: Routine, options: dict[str, Any]) -> None:
        names = [step.name for step in routine.steps]
        only = options["step"]
        if only and only not in names:
            raise CommandError(f"{routine.name} has no step {only!r}. It has: {', '.join(names)}.")
        if options["dry_run"]:
            steps = [only] if only else names
            if options["json"]:
                return terminal.print_json(
                    {"routine": routine.name, "steps": steps, "dryRun": True}
                )
            self.stdout.write(f"Would run, within {routine.budget_s:.0f} s: {', '.join(steps)}.")
            return None
        result = run_routine.apply(args=(routine.name, only), throw=True)
        report: dict[str, Any] = result.get()
        if "skipped" in report:
            raise CommandError(report["skipped"])
        if options["json"]:
            terminal.print_json(report)
        else:
            for step in report["steps"]:
                sign = "well  " if step["well"] else "FAILED"
                self.stdout.write(
                    f"{sign} {step['seconds']:7.2f} s  {step['step']}: {step['text']}"
                )
            self.stdout.write(f"{report['seconds']:.2f} of {report['budgetSeconds']:.0f} s.")
        if not report["well"]:
            sys.exit(1)
        return None


def to_json(routine: Routine, mark: RoutineMark | None) -> dict[str, Any]:
    """Return a routine as the command's JSON has it."""
    return {
        "routine": routine.name,
        "when": str(routine.when),
        "budgetSeconds": routine.budget_s,
        "steps": [step.name for step in routine.steps],
        "endedAt": mark.ended_at if mark and mark.ended_well else None,
        "failedAt": mark.failed_at if mark else None,
        "fault": mark.fault if mark and mark.has_failed else None,
    }
