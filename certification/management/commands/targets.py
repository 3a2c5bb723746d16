"""`manage.py targets`: what is promised, and how well it is kept."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.lib import clock
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.monitoring import targets
from certification.monitoring.targets import Report


class Command(BaseCommand):
    help = (
        "Shows the targets: today, 7 and 30 days, the error budget and how fast it is spent. Exit "
        "code 0: all are met, 1: one is not, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        reports = targets.reports(clock.now().date())
        if options["json"]:
            terminal.print_json({"targets": [to_json(report) for report in reports]})
        else:
            terminal.console().print(table_of(reports))
        if any(report.is_met is False for report in reports):
            sys.exit(1)


def to_json(report: Report) -> dict[str, Any]:
    """Return a target as the command's JSON has it: per cents, null where nothing was measured."""
    return {
        "name": report.target.name,
        "definition": str(report.target.definition),
        "goal": report.target.goal,
        "today": report.today.per_cent,
        "week": report.week.per_cent,
        "month": report.month.per_cent,
        "measured": report.month.total,
        "met": report.is_met,
        "budgetLeft": report.budget_left,
        "burn": report.burn,
        "daysLeft": report.days_left,
    }


def table_of(reports: list[Report]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("target", "goal", "today", "7 days", "30 days", "budget left", "burn", "first"):
        table.add_column(heading, overflow="fold")
    for report in reports:
        shares = (report.today, report.week, report.month)
        table.add_row(
            report.target.name,
            f"{report.target.goal:g} %",
            *(text_of(share.per_cent, " %") for share in shares),
            text_of(report.budget_left, " %"),
            text_of(report.burn, " x"),
            report.target.command if report.is_met is False else "",
        )
    return table


def text_of(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.4g}{unit}"
