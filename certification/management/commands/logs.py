"""`manage.py logs`: the lines of every process in one order; search, digest, follow."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich import box
from rich.table import Table

from certification.lib import foreign_text
from certification.management import arguments, terminal
from certification.management.guard import cannot_look
from certification.monitoring import log_files
from certification.monitoring.log_files import LEVELS, Digest, LogEntry, LogFilter

MAX_LINES = 10_000
ERRORS = frozenset({"error", "critical"})
POLL_S = 0.5


class Command(BaseCommand):
    help = (
        "Shows the lines of the log files of every process in the order of time, rotated files "
        "too; without secrets. Exit code 0: read, 1: with --errors, there are some, 2: cannot look."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--service", default="", help="web, worker, worker-bulk, beat ...; worker: all of them"
        )
        levels = parser.add_mutually_exclusive_group()
        levels.add_argument("--level", choices=LEVELS, help="this level and what is more severe")
        levels.add_argument("--errors", action="store_true", help="errors only")
        parser.add_argument("--request", default="", metavar="ID", help="of the job's request too")
        parser.add_argument("--job", default="", metavar="ID", help="an id or its beginning")
        parser.add_argument("--run", default="", metavar="ID", help="an id or its beginning")
        parser.add_argument("--grep", default="", metavar="TEXT", help="in event or traceback")
        when = parser.add_mutually_exclusive_group()
        when.add_argument("--since", metavar="TIME", help="30m, 2h, 7d, or 2026-11-30T12:00 (UTC)")
        when.add_argument("--day", metavar="DAY", help="2026-11-30 (UTC)")
        parser.add_argument("--until", metavar="TIME", help="as --since")
        parser.add_argument("--lines", type=int, default=100, help="of a page, 100 by default")
        parser.add_argument("--page", type=int, default=1, help="1 has the newest lines")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
        form.add_argument("--by", choices=["reason"], help="count the lines by what went wrong")
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document; of --follow one a line"
        )

    @cannot_look
    def handle(self, *args: Any, **options: Any) -> None:
        if not (1 <= options["lines"] <= MAX_LINES and options["page"] >= 1):
            raise CommandError(f"--lines is between 1 and {MAX_LINES}, --page is at least 1.")
        folder, pattern = log_files.log_folder()
        if not any(folder.glob(pattern)):
            raise CommandError(
                f"There is no log in {folder}. manage.py up writes it, and any process with "
                "LOG_DIR; elsewhere the logs are where standard output goes."
            )
        selection = filter_of(options)
        if options["follow"]:
            return self.follow(selection, as_json=options["json"])
        number = MAX_LINES if options["by"] else options["lines"] * options["page"]
        lines = log_files.read_logs(selection, limit=number)
        if not lines.complete and len(lines.entries) < number:
            lines = log_files.read_logs(selection, max_bytes=log_files.MAX_SEARCH, limit=number)
        if options["by"]:
            self.show_digest(log_files.digest(lines.entries), as_json=options["json"])
        else:
            skipped = options["lines"] * (options["page"] - 1)
            self.show(lines.entries[skipped:][::-1], lines.total, options)
        if options["errors"] and lines.total:
            sys.exit(1)
        return None

    def show(self, entries: Sequence[LogEntry], total: int, options: Mapping[str, Any]) -> None:
        """Print one page, its oldest line first."""
        if options["json"]:
            rows = [entry.to_json() for entry in entries]
            page = {"entries": rows, "page": options["page"], "total": total}
            return terminal.print_json(page)
        for entry in entries:
            self.print_line(entry)
        if total > len(entries):
            self.stderr.write(
                f"{len(entries)} of {terminal.pluralize(total, 'line')}; older ones: "
                f"--page {options['page'] + 1}"
            )
        elif not total:
            self.stderr.write("No line matches.")
        return None

    def follow(self, selection: LogFilter, *, as_json: bool) -> None:
        """Print what is written from now on, until Ctrl-C."""
        follower = log_files.Follower()
        try:
            while True:
                for entry in follower.read(selection):
                    if as_json:
                        document = json.dumps(entry.to_json(), default=str, ensure_ascii=False)
                        self.stdout.write(foreign_text.escape_json(document))
                    else:
                        self.print_line(entry)
                self.stdout.flush()
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            return

    def show_digest(self, rows: Sequence[Digest], *, as_json: bool) -> None:
        if as_json:
            return terminal.print_json({"causes": [asdict(row) for row in rows]})
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("lines", "cause", "first", "last", "what to do"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("first", "last"))
        for row in rows:
            first, last = (
                f"{timezone.localtime(at):%m-%d %H:%M:%S}" for at in (row.first, row.last)
            )
            table.add_row(str(row.count), row.cause, first, last, row.fix)
        terminal.console().print(table)
        return None

    def print_line(self, entry: LogEntry) -> None:
        text = line_of(entry)
        self.stdout.write(self.style.ERROR(text) if entry.level in ERRORS else text)


def filter_of(options: Mapping[str, Any]) -> LogFilter:
    """Return the filter that the options select. Raises CommandError."""
    levels = ERRORS if options["errors"] else frozenset[str]()
    if options["level"]:
        levels = frozenset(LEVELS[LEVELS.index(options["level"]) :])
    start = arguments.moment(options["since"]) if options["since"] else None
    end = arguments.moment(options["until"]) if options["until"] else None
    if options["day"]:
        start = arguments.day(options["day"])
        end = end or start + timedelta(days=1) - timedelta(microseconds=1)
    if options["by"] and not levels:
        levels = frozenset(LEVELS[LEVELS.index("warning") :])
    return LogFilter(
        levels=levels,
        request_id=options["request"],
        search=options["grep"],
        start=start,
        end=end,
        service=options["service"],
        job=options["job"],
        run=options["run"],
    )


def line_of(entry: LogEntry) -> str:
    """Return a line for people; what it quotes begins no line of its own and acts on nothing."""
    shown = entry.shown
    fields = [
        f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for name, value in shown.items()
        if name not in {*log_files.COMMON, "exception"} and value not in (None, "")
    ]
    if shown.get("request_id"):
        fields.append(f"request={shown['request_id']}")
    at = f"{timezone.localtime(entry.at):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    words = f"{at} {entry.level:<8} {entry.source:<11} {shown.get('event', '')} {' '.join(fields)}"
    traceback = str(shown.get("exception") or "").splitlines()
    return "\n".join(
        [foreign_text.escape(words).rstrip(), *(f"    {foreign_text.escape(t)}" for t in traceback)]
    )
