"""`manage.py capacity_report`: growth, use, and when that reaches a limit."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.monitoring import capacity
from certification.monitoring.capacity import Limit, Report

MAX_FORECAST = 3650


class Command(BaseCommand):
    help = (
        "Shows growth by month and in total, use by day, bytes by table, and the day on which each "
        "limit is reached, all of it from what the hourly routine stores. Exit code 0: well, 1: a "
        "limit is reached or will be within the forecast, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--forecast", type=int, default=90, metavar="DAYS", help="to look ahead; 90 by default"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["forecast"] <= MAX_FORECAST:
            raise CommandError(f"--forecast is between 1 and {MAX_FORECAST} days.")
        report = capacity.report(options["forecast"])
        if options["json"]:
            terminal.print_json(to_json(report))
        else:
            show(report)
        if report.reached or report.soon:
            sys.exit(1)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as the command's JSON has it."""
    return {
        "day": report.today,
        "forecastDays": report.forecast_days,
        "storedDays": report.stored_days,
        "total": dict(report.total),
        "months": [asdict(month) for month in report.months],
        "days": [asdict(day) for day in report.days],
        "tables": [asdict(table) for table in report.tables],
        "limits": [
            {
                "name": limit.trigger.name,
                "unit": limit.trigger.unit,
                "value": limit.value,
                "state": limit.state,
                "warning": limit.trigger.warning,
                "critical": limit.trigger.critical,
                "perDay": limit.slope,
                "warningOn": limit.warning_on,
                "criticalOn": limit.critical_on,
                "missingDays": limit.missing_days,
                "action": str(limit.trigger.action),
            }
            for limit in report.limits
        ],
    }


def show(report: Report) -> None:
    out = terminal.console()
    if not report.stored_days:
        out.print(
            "Nothing is stored yet: the hourly routine stores a figure a day. Now: "
            "manage.py routine run hourly"
        )
    total = report.total
    out.print(
        f"In total: {total['runs']:.0f} runs, {total['calls']:.0f} calls, "
        f"{total['cost_usd']:.2f} USD."
    )
    for title, first, rows in (
        ("Growth by month", "month", [(f"{m.month:%Y-%m}", m) for m in report.months]),
        ("Use by day", "day", [(f"{d.day}", d) for d in report.days]),
    ):
        table = table_of(title, first, "runs", "jobs", "calls", "USD", "database")
        for name, row in rows:
            figures = (row.runs, row.jobs, row.calls)
            size = megabytes(row.database_bytes)
            table.add_row(name, *map(str, figures), f"{row.cost_usd:.2f}", size)
        out.print(table)
    table = table_of("Bytes by table", "table", "now", f"{capacity.DAYS_SHOWN} days ago")
    for size_row in report.tables:
        table.add_row(size_row.name, megabytes(size_row.bytes), megabytes(size_row.before))
    out.print(table)
    table = table_of("Limits", "limit", "now", "warning", "critical", "a day", "when", "what to do")
    for limit in report.limits:
        table.add_row(*row_of(limit, report))
    out.print(table)


def table_of(title: str, *headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for number, heading in enumerate(headings):
        justify = "right" if number and heading not in ("when", "what to do") else "left"
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def row_of(limit: Limit, report: Report) -> list[str]:
    trigger = limit.trigger
    return [
        trigger.name,
        "-" if limit.value is None else f"{limit.value:.1f} {trigger.unit}".strip(),
        f"{trigger.warning:g}",
        f"{trigger.critical:g}",
        "-" if limit.slope is None else f"{limit.slope:+.2f}",
        when(limit, report),
        str(trigger.action) if limit in report.reached or limit in report.soon else "",
    ]


def when(limit: Limit, report: Report) -> str:
    """Say when a limit is reached."""
    if limit.missing_days:
        return f"too little data: {limit.days} of {capacity.MIN_DAYS} days"
    until = report.today + timedelta(days=report.forecast_days)

    def words(day: date | None) -> str:
        if day is None:
            return "never at this pace"
        return str(day) if day <= until else f"not within {report.forecast_days} days"

    if limit.state == "critical":
        return "now"
    return f"critical: {words(limit.critical_on)}"


def megabytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"
