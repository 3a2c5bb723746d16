"""Read the log files of this installation, newest lines first, while processes write and rotate
them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from django.conf import settings

from certification.bedrock import fixes
from certification.lib import foreign_text, redaction
from certification.reasons import Reason

LEVELS = ("debug", "info", "warning", "error", "critical")
# Bytes of the newest lines that are looked at; a request that needs more says that it is not whole.
MAX_READ = 8_000_000
MAX_SEARCH = 400_000_000  # for who has time: more than all files that are not moved away
LOG_NAME = re.compile(r"(?P<source>[\w-]+)\.log(?:\.\d+)?")
# what a line has besides its own fields
COMMON = frozenset({"timestamp", "level", "event", "logger", "request_id", "process"})
# What to do about our own causes; those of Bedrock have fixes of their own.
SERVER_AWAY = "See which server or process is down: manage.py status"
FIXES = {
    **dict.fromkeys(("database_unavailable", "OperationalError", "PoolTimeout"), SERVER_AWAY),
    **dict.fromkeys(("broker_unreachable", "broker_unavailable", "ConnectionError"), SERVER_AWAY),
    "TimeoutError": SERVER_AWAY,
    "queue_paused": "Correct the AWS credentials; the queue goes on by itself.",
    "health_port_in_use": "Set WORKER_HEALTH_PORT to a free port.",
}
# the class of the exception that a traceback ends with, without its package
RAISED = re.compile(r"(?:\w+\.)*(\w+)")


@dataclass(frozen=True)
class LogEntry:
    """One line. `source` is the process that wrote it, by its own word or by the file's name; else
    `combined`.
    """

    at: datetime
    level: str
    source: str
    values: dict[str, Any]

    @property
    def request_id(self) -> str:
        return str(self.values.get("request_id") or "")

    @property
    def cause(self) -> str:
        """What an error is counted under: its reason, else the exception, else the event."""
        if isinstance(reason := self.values.get("reason"), str) and reason:
            return reason
        lines = str(self.values.get("exception") or "").strip().splitlines()
        raised = RAISED.match(lines[-1]) if lines else None
        return raised[1] if raised else str(self.values.get("event", ""))

    @property
    def shown(self) -> dict[str, Any]:
        """The values without secrets and without what acts on a terminal."""
        try:
            values = {key: redaction.redact_value(key, value) for key, value in self.values.items()}
            shown: dict[str, Any] = foreign_text.clean_values(redaction.redact_quoted(values))
        except RecursionError:
            return {"event": "a line that is nested too deeply"}
        return shown

    def to_json(self) -> dict[str, Any]:
        """Return all its fields, without secrets."""
        shown = self.shown
        return {
            "at": self.at,
            "level": self.level,
            "service": self.source,
            "event": str(shown.get("event", "")),
            "request": str(shown.get("request_id") or "") or None,
            "fields": {name: value for name, value in shown.items() if name not in COMMON},
        }


@dataclass(frozen=True)
class LogFilter:
    """What lines to read; an empty field selects any. Times are inclusive.

    `service` is a process, or the first word of the names of several: `worker` is also
    `worker-bulk`. `job` and `run` are beginnings of ids.
    """

    levels: frozenset[str] = frozenset()
    request_id: str = ""
    search: str = ""
    start: datetime | None = None
    end: datetime | None = None
    service: str = ""
    job: str = ""
    run: str = ""

    def may_match(self, line: bytes) -> bool:
        """Whether a line can match, by its bytes: parsing most of them is not worth it."""
        if any(text.encode() not in line for text in (self.request_id, self.job, self.run)):
            return False
        return not self.levels or any(f'"{level}"'.encode() in line for level in self.levels)

    def matches(self, entry: LogEntry) -> bool:
        text = f"{entry.values.get('event', '')} {entry.values.get('exception', '')}"
        return (
            (not self.levels or entry.level in self.levels)
            and (not self.request_id or entry.request_id == self.request_id)
            and (not self.search or self.search.lower() in text.lower())
            and (self.start is None or entry.at >= self.start)
            and (self.end is None or entry.at <= self.end)
            and (not self.service or f"{entry.source}-".startswith(f"{self.service}-"))
            and str(entry.values.get("job") or "").startswith(self.job)
            and str(entry.values.get("run") or "").startswith(self.run)
        )


@dataclass(frozen=True)
class LogLines:
    """The lines that match, newest first: the newest of `total`. `complete`: whether no older line
    was left unread.
    """

    entries: Sequence[LogEntry]
    complete: bool
    total: int

    def count_by_level(self) -> dict[str, int]:
        counts = Counter(entry.level for entry in self.entries)
        return {level: counts[level] for level in LEVELS}


class OpenFile(NamedTuple):
    """A log file as it is now: `size` in bytes, `key` what it is whatever its name."""

    source: str
    file: BinaryIO
    size: int
    key: tuple[int, int]


@dataclass(frozen=True)
class Digest:
    """The lines of one cause. `fix` is what to do, "" where nobody knows."""

    cause: str
    count: int
    first: datetime
    last: datetime
    fix: str


def read_logs(selection: LogFilter, *, max_bytes: int = 0, limit: int = 0) -> LogLines:
    """Read the lines that match, of the newest `max_bytes` (MAX_READ by default); with `limit` only
    the newest so many of them.

    Files are opened before any is read: one that another process renames meanwhile is read once,
    under either name. A line that is being written is left out.
    """
    entries: list[LogEntry] = []
    left, total = max_bytes or MAX_READ, 0
    with ExitStack() as stack:
        for source, file, size, _key in open_files(stack):
            if left <= 0:
                break
            lines = read_lines(file, max(0, size - left), size)
            before = len(entries)
            entries += entries_of(lines, source, selection)
            total += len(entries) - before
            left -= size
            entries.sort(key=lambda entry: entry.at, reverse=True)
            del entries[limit or len(entries) :]
    return LogLines(entries, complete=left >= 0, total=total)


class Follower:
    """Reads what processes write from now on, whichever file it goes to."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._ends = {opened.key: opened.size for opened in open_files(stack)}

    def read(self, selection: LogFilter) -> list[LogEntry]:
        """Return the lines that match and were written since the last call, the oldest first; of
        one call and file MAX_READ bytes at most.
        """
        entries: list[LogEntry] = []
        with ExitStack() as stack:
            for source, file, size, key in open_files(stack):
                start = self._ends.get(key, 0)
                if size < start:  # emptied in place
                    start = 0
                with suppress(OSError):
                    file.seek(start)
                    data = file.read(min(size - start, MAX_READ))
                    whole = data.rfind(b"\n") + 1
                    if not whole and len(data) == MAX_READ:
                        whole = len(data)  # no line of ours is that long
                    self._ends[key] = start + whole
                    entries += entries_of(data[:whole].split(b"\n"), source, selection)
        return sorted(entries, key=lambda entry: entry.at)


def digest(entries: Sequence[LogEntry]) -> list[Digest]:
    """Count lines by their cause, the most frequent first."""
    groups: dict[str, list[LogEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.cause, []).append(entry)
    rows = [
        Digest(
            cause=cause,
            count=len(group),
            first=min(entry.at for entry in group),
            last=max(entry.at for entry in group),
            fix=fixes.fix_for(Reason(cause)).text if cause in set(Reason) else FIXES.get(cause, ""),
        )
        for cause, group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.count, row.cause))


def log_folder() -> tuple[Path, str]:
    """Return where this installation logs to, and the pattern of its files: LOG_DIR has every line
    of every process in `combined.log`; else the supervisor writes a file for each process.
    """
    if settings.LOG_DIR:
        return Path(settings.LOG_DIR), "combined.log*"
    return Path(settings.MYIA_DIR) / "logs", "*.log*"


def open_files(stack: ExitStack) -> list[OpenFile]:
    """Open the files, the last written first. What cannot be opened is left out."""
    folder, pattern = log_folder()
    opened: dict[tuple[int, int], tuple[float, OpenFile]] = {}
    with suppress(OSError):
        for path in sorted(folder.glob(pattern)):
            name = LOG_NAME.fullmatch(path.name)
            with suppress(OSError):
                if name is None or not path.is_file():
                    continue
                file = stack.enter_context(path.open("rb"))
                status = os.fstat(file.fileno())
                if stat.S_ISREG(status.st_mode):
                    key = (status.st_dev, status.st_ino)
                    one = OpenFile(name["source"], file, status.st_size, key)
                    opened[key] = (status.st_mtime, one)
    newest_first = sorted(opened.values(), key=lambda entry: entry[0], reverse=True)
    return [one for _at, one in newest_first]


def read_lines(file: BinaryIO, start: int, end: int) -> list[bytes]:
    """Return the whole lines between two positions of a file."""
    try:
        file.seek(start)
        data = file.read(end - start)
    except OSError:
        return []
    lines = data.split(b"\n")
    return lines[1 if start else 0 : -1]


def entries_of(lines: Sequence[bytes], source: str, selection: LogFilter) -> Iterator[LogEntry]:
    """Yield the lines that match. What is no line of ours (a server's own output) has no time and
    no level, and is left out.
    """
    for line in reversed(lines):
        if line.startswith(b"{") and selection.may_match(line):
            entry = parse(line, source)
            if entry is not None and selection.matches(entry):
                yield entry


def parse(line: bytes, source: str) -> LogEntry | None:
    """Return the entry of a line; None for one that is not ours."""
    try:
        values = json.loads(line)
        at = datetime.fromisoformat(values["timestamp"])
        level = values["level"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if level not in LEVELS:
        return None
    process = values.get("process")
    if isinstance(process, str) and process:
        source = process
    return LogEntry(at if at.tzinfo else at.replace(tzinfo=UTC), level, source, values)
