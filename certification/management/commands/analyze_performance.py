"""`manage.py analyze_performance`: what was slow, what was tried again, and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import cannot_look, friendly_errors
from certification.monitoring import performance
from certification.monitoring.performance import Compared, Figures, Report

MAX_HOURS, MAX_ROWS = 2160, 100


class Command(BaseCommand):
    help = (
        "Shows from the stored runs how long runs and calls took, what was tried again, throttled "
        "and slow, compared with as long a time before. Exit code 0: as good as the targets, 1: "
        "not, 2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--hours", type=int, default=24, help="24 by default, at most 2160")
        parser.add_argument("--top", type=int, default=10, help="models, regions, causes; 10")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    @friendly_errors
    def handle(self, *args: Any, **options: Any) -> None:
        if not (1 <= options["hours"] <= MAX_HOURS and 1 <= options["top"] <= MAX_ROWS):
            raise CommandError(
                f"--hours is between 1 and {MAX_HOURS}, --top between 1 and {MAX_ROWS}."
            )
        report = performance.analyse(timedelta(hours=options["hours"]), options["top"])
        if options["json"]:
            terminal.print_json(report.to_json())
        else:
            self.show(report, options["hours"])
        if report.findings:
            sys.exit(1)

    def show(self, report: Report, hours: int) -> None:
        now, before = report.all.now, report.all.before
        self.stdout.write(
            f"{terminal.pluralize(now.runs, 'run')} ended in the last {hours} h, {before.runs} in "
            f"the {hours} h before; load {report.load_per_cpu:g} per core, memory "
            f"{report.memory_percent:g} % in use."
        )
        if not now.runs:
            return
        out = terminal.console()
        out.print(table_of([report.all, *report.tiers], "runs"))
        for title, groups in (("model", report.models), ("region", report.regions)):
            out.print(table_of(groups, title))
        for cause, number in report.causes.items():
            self.stdout.write(f"{terminal.pluralize(number, 'run')}: {cause.replace('_', ' ')}")
        for row in report.statements:
            text = " ".join(str(row["statement"]).split())
            out.print(f"{row['seconds']:.0f} s in {row['calls']} statements: {text}")
        for finding in report.findings:
            out.print(f"{finding.what} {finding.why} {finding.fix}")


def table_of(groups: Sequence[Compared], title: str) -> Table:
    """Show a line for each group, in brackets the time before."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, overflow="fold", min_width=20)
    headings = ("runs", "certified", "again", "throttled", "50 %", "95 %", "99 %", "waits 95 %",
                "per call", "Bedrock")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        now, before = group.now, group.before
        table.add_row(
            group.name or "all",
            f"{now.runs} ({before.runs})",
            *(percents(now, before, name) for name in ("certified", "retried", "throttled")),
            seconds(now.p50_s),
            f"{seconds(now.p95_s)} ({seconds(before.p95_s)})",
            seconds(now.p99_s),
            seconds(now.waited_p95_s),
            f"{seconds(now.s_per_call)} ({seconds(before.s_per_call)})",
            seconds(now.latency_ms and now.latency_ms / 1000),
        )
    return table


def percents(now: Figures, before: Figures, name: str) -> str:
    figures = (now.percent(name), before.percent(name))
    now_text, before_text = ("-" if value is None else f"{value:g} %" for value in figures)
    return f"{now_text} ({before_text})"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
