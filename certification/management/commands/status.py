"""`manage.py status`: the processes of the stack on this machine."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.console import Console
from rich.table import Table

from certification.stack import control, embedded

STYLES = {control.RUNNING: "green", control.EXTERNAL: "cyan", control.STARTING: "yellow"}


class Command(BaseCommand):
    help = (
        "Shows the processes of the stack on this machine. Exit code 1 when one of them is not up."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            processes = control.status()
        except embedded.EmbeddedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(as_json(processes) if options["json"] else render(processes))
        if not all(process.is_up for process in processes):
            sys.exit(1)


def as_json(processes: Sequence[control.ProcessStatus]) -> str:
    """Return {"up", "processes": [{"process", "state", "pid", "since", "port", "memoryBytes",
    "restarts", "url", "fault"}]}.
    """
    rows = [
        {
            "process": process.name,
            "state": process.state,
            "pid": process.pid,
            "since": process.since.isoformat() if process.since else None,
            "port": process.port,
            "memoryBytes": process.memory_bytes,
            "restarts": process.restarts,
            "url": process.url or None,
            "fault": process.fault or None,
        }
        for process in processes
    ]
    return json.dumps({"up": all(process.is_up for process in processes), "processes": rows})


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
