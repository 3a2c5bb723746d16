"""`manage.py status`: the processes of the stack on this machine."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.console import Console
from rich.table import Table

from certification.monitoring import queue_stats
from certification.monitoring.checks import FAILURES
from certification.stack import control, embedded

CLEAR = "\x1b[H\x1b[2J"
STYLES = {control.RUNNING: "green", control.EXTERNAL: "cyan", control.STARTING: "yellow"}


class Command(BaseCommand):
    help = (
        "Shows the processes of the stack on this machine. Exit code 1 when one of them is not up."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--json", action="store_true", help="print one JSON document")
        which.add_argument("--watch", action="store_true", help="show it anew until Ctrl-C")
        parser.add_argument("--interval", type=float, default=2.0, help="seconds, of --watch")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["watch"]:
                return self.watch(max(options["interval"], 0.5))
            processes = control.status()
        except embedded.EmbeddedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(as_json(processes) if options["json"] else render(processes))
        if not all(process.is_up for process in processes):
            sys.exit(1)
        return None

    def watch(self, interval_s: float) -> None:
        """Show processes and queue again and again, until Ctrl-C."""
        try:
            while True:
                text = f"{render(control.status())}\n{queue_line()}"
                self.stdout.write((CLEAR if self.stdout.isatty() else "") + text)
                self.stdout.flush()
                time.sleep(interval_s)
        except KeyboardInterrupt:
            return


def queue_line() -> str:
    """Say what the queue has, or that nobody knows."""
    try:
        counts = queue_stats.queue_counts()
    except FAILURES:
        return "The database does not answer."
    return (
        f"{counts.waiting + counts.delayed} runs wait, {counts.active} are worked on, "
        f"{counts.paused} are paused; the oldest waits for {counts.oldest_waiting_s:.0f} s."
    )


def as_json(processes: Sequence[control.ProcessStatus]) -> str:
    """Return {"up", "processes": [...]}."""
    up = all(process.is_up for process in processes)
    return json.dumps({"up": up, "processes": [p.to_json() for p in processes]})


def render(processes: Sequence[control.ProcessStatus]) -> str:
    """Return the table as text, coloured where the terminal supports it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("process", "state", "pid", "since", "port", "memory", "restarts", "url"):
        table.add_column(
            title, justify="right" if title in {"pid", "port", "memory", "restarts"} else "left"
        )
    for process in processes:
        table.add_row(
            process.name,
            f"[{STYLES.get(process.state, 'red')}]{process.state}[/]",
            str(process.pid or ""),
            timezone.localtime(process.since).strftime("%Y-%m-%d %H:%M:%S")
            if process.since
            else "",
            str(process.port or ""),
            f"{process.memory_bytes / 1_000_000:.0f} MB" if process.memory_bytes else "",
            str(process.restarts or ""),
            process.url,
        )
    console = Console(file=io.StringIO(), force_terminal=sys.stdout.isatty(), width=120)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    faults = [f"{process.name}: {process.fault}" for process in processes if process.fault]
    return "\n".join([str(text).rstrip(), *faults])
