"""`manage.py redis_report`: what Redis holds, how safe it is, and what to do."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError
from rich import box
from rich.table import Table

from certification import checks
from certification.management import terminal
from certification.management.guard import broker_sentence, cannot_look
from certification.monitoring import redis_report
from certification.monitoring.redis_report import RedisReport

MAX_KEYS = 10_000_000


class Command(BaseCommand):
    help = (
        "Shows memory, keys by kind, queues, slow commands, eviction and persistence of Redis, "
        "and what to do. Keys are scanned, never listed at once. Exit code 0: well, 1: findings, "
        "2: cannot look."
    )
    requires_system_checks: list[str] = [checks.TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keys", type=int, default=20_000, help="to look at, at most; 20000 by default"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["keys"] <= MAX_KEYS:
            raise CommandError(f"--keys is between 1 and {MAX_KEYS}.")
        try:
            report = redis_report.read(options["keys"])
        except (RedisError, OSError) as error:
            raise CommandError(broker_sentence(error)) from error
        if options["json"]:
            terminal.print_json(report.to_json())
        else:
            self.show(report)
        if report.findings:
            sys.exit(1)

    def show(self, report: RedisReport) -> None:
        out, info = terminal.console(), report.info
        limit = f" of {info['maxmemory'] / 1e6:.0f} MB" if info.get("maxmemory") else ""
        saved = "append-only file" if info.get("aof_enabled") else "snapshots"
        out.print(
            f"{report.server}: {info.get('used_memory', 0) / 1e6:.1f} MB{limit}, "
            f"{info.get('maxmemory_policy', '?')}, {saved}, "
            f"{info.get('connected_clients', '?')} clients, {report.keys} keys."
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("kind", "keys", "for ever", "about"):
            table.add_column(heading, justify="left" if heading == "kind" else "right")
        for kind in report.kinds:
            size = f"{kind.memory / 1000:.0f} kB"
            table.add_row(kind.name, str(kind.keys), str(kind.without_ttl), size)
        out.print(table)
        for name, length in report.queues.items():
            out.print(f"{name}: {terminal.pluralize(length, 'message')}")
        for slow in report.slow:
            out.print(f"{slow.at:%Y-%m-%d %H:%M:%S} UTC {slow.command} took {slow.ms:g} ms")
        if not report.complete:
            out.print("Not all keys were looked at: --keys looks at more.")
        if report.denied:
            out.print(f"Not allowed to this user: {', '.join(report.denied)}.")
        for finding in report.findings:
            out.print(f"{finding.what} {finding.why} {finding.fix}")
