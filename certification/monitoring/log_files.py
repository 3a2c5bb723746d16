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
from typing import Any, BinaryIO

from django.conf import settings

from certification.lib import foreign_text, redaction

LEVELS = ("debug", "info", "warning", "error", "critical")
# Bytes of the newest lines that are looked at; a request that needs more says that it is not whole.
MAX_READ = 8_000_000
LOG_NAME = re.compile(r"(?P<source>[\w-]+)\.log(?:\.\d+)?")
# what a line has besides its own fields
COMMON = frozenset({"timestamp", "level", "event", "logger", "request_id"})


@dataclass(frozen=True)
class LogEntry:
    """One line. `source` is the file's name without its ending: the process, or `combined`."""

    at: datetime
    level: str
    source: str
    values: dict[str, Any]

    @property
    def request_id(self) -> str:
        return str(self.values.get("request_id") or "")

    @property
    def shown(self) -> dict[str, Any]:
        """The values without secrets and without what acts on a terminal."""
        values = {key: redaction.redact_value(key, value) for key, value in self.values.items()}
        shown: dict[str, Any] = foreign_text.clean_values(redaction.redact_quoted(values))
        return shown


@dataclass(frozen=True)
class LogFilter:
    """What lines to read; an empty field selects any. Times are inclusive."""

    levels: frozenset[str] = frozenset()
    request_id: str = ""
    search: str = ""
    start: datetime | None = None
    end: datetime | None = None

    def may_match(self, line: bytes) -> bool:
        """Whether a line can match, by its bytes: parsing most of them is not worth it."""
        if self.request_id and self.request_id.encode() not in line:
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
        )


@dataclass(frozen=True)
class LogLines:
    """The lines that match, newest first. `complete`: whether no older line was left unread."""

    entries: Sequence[LogEntry]
    complete: bool

    def count_by_level(self) -> dict[str, int]:
        counts = Counter(entry.level for entry in self.entries)
        return {level: counts[level] for level in LEVELS}


def read_logs(selection: LogFilter) -> LogLines:
    """Read the lines that match, of the newest MAX_READ bytes.

    Files are opened before any is read: one that another process renames meanwhile is read once,
    under either name. A line that is being written is left out.
    """
    entries: list[LogEntry] = []
    left = MAX_READ
    with ExitStack() as stack:
        for source, file, size in open_files(stack):
            if left <= 0:
                break
            start = max(0, size - left)
            entries += entries_of(read_lines(file, start, size), source, selection)
            left -= size
    entries.sort(key=lambda entry: entry.at, reverse=True)
    return LogLines(entries, complete=left >= 0)


def log_folder() -> tuple[Path, str]:
    """Return where this installation logs to, and the pattern of its files: LOG_DIR has every line
    of every process in `combined.log`; else the supervisor writes a file for each process.
    """
    if settings.LOG_DIR:
        return Path(settings.LOG_DIR), "combined.log*"
    return Path(settings.MYIA_DIR) / "logs", "*.log*"


def open_files(stack: ExitStack) -> list[tuple[str, BinaryIO, int]]:
    """Open the files and return (source, file, size now) of each, the last written first. What
    cannot be opened is left out.
    """
    folder, pattern = log_folder()
    opened: dict[tuple[int, int], tuple[float, str, BinaryIO, int]] = {}
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
                    opened[key] = (status.st_mtime, name["source"], file, status.st_size)
    newest_first = sorted(opened.values(), key=lambda entry: entry[0], reverse=True)
    return [(source, file, size) for _at, source, file, size in newest_first]


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
    return LogEntry(at if at.tzinfo else at.replace(tzinfo=UTC), level, source, values)
