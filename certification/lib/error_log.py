"""Collect the errors of this process, the same ones together, and hand them to a writer now and
then: a handler of logging. No error is lost for another's sake: what is logged never waits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certification.lib import clock

FLUSH_S, LONGEST_PAUSE_S = 5.0, 60.0
MAX_PENDING = 200  # distinct errors of one process between two writes
MAX_NAME, MAX_EXAMPLE = 200, 20_000  # characters
FRAME = re.compile(r'File "(?:.*/)?((?:certification|myia)/[^"]+)", line \d+, in (\S+)')
RAISED = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


@dataclass(frozen=True)
class ErrorReport:
    """An error that happened `count` times: its line of the log is an example."""

    fingerprint: str
    logger: str
    event: str
    error: str  # the exception's class, "" for none
    place: str  # file:function of ours, "" for none
    process: str
    count: int
    first_seen: datetime
    last_seen: datetime
    example: Mapping[str, Any]


Writer = Callable[[Sequence[ErrorReport]], None]


class ErrorLog(logging.Handler):
    """Keeps errors in memory until the writer of `connect` took them."""

    writer: Writer | None = None

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self.process = process
        self._pending: dict[str, ErrorReport] = {}
        self._pid = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            report = describe(record, self.format(record), self.process)
        except Exception:  # noqa: BLE001 - a handler must not end its program
            self.handleError(record)
            return
        if self._pid != os.getpid():  # a process that was forked reports its own
            self._pending.clear()
            self._pid = os.getpid()
            threading.Thread(target=self.flush_always, name="errors", daemon=True).start()
        known = self._pending.get(report.fingerprint)
        if known or len(self._pending) < MAX_PENDING:
            self._pending[report.fingerprint] = merge(known, report)

    def flush_always(self) -> None:
        pause, longest = threading.Event(), FLUSH_S
        while True:
            pause.wait(longest)
            longest = FLUSH_S if self.write_pending() else min(2 * longest, LONGEST_PAUSE_S)

    def write_pending(self) -> bool:
        """Hand over what was collected; what cannot be written stays. False when it stays."""
        if not self._pending or ErrorLog.writer is None:
            return True
        with self.lock or threading.RLock():
            pending, self._pending = self._pending, {}
        try:
            ErrorLog.writer(list(pending.values()))
        except Exception:  # noqa: BLE001 - to log it would be the next error
            with self.lock or threading.RLock():
                for fingerprint, report in pending.items():
                    later = self._pending.get(fingerprint)
                    self._pending[fingerprint] = merge(report, later) if later else report
            return False
        return True


def connect(writer: Writer) -> None:
    """Have this writer store what is collected. It may raise: then it is called again later."""
    ErrorLog.writer = writer


def describe(record: logging.LogRecord, line: str, process: str) -> ErrorReport:
    """Return what a record reports, as its formatted line of JSON has it: without secrets."""
    example = json.loads(line)
    template = record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg
    traceback = str(example.get("exception") or "")
    frames, raised = FRAME.findall(traceback), RAISED.findall(traceback)
    names = (
        record.name[:MAX_NAME],
        str(template)[:MAX_NAME],
        raised[-1][:MAX_NAME] if raised else "",
        ":".join(frames[-1])[:MAX_NAME] if frames else "",
    )
    if len(traceback) > MAX_EXAMPLE:
        example["exception"] = traceback[-MAX_EXAMPLE:]
    now = clock.now()
    fingerprint = hashlib.sha256("\0".join(names).encode(errors="replace")).hexdigest()
    return ErrorReport(fingerprint, *names, process, 1, now, now, example)


def merge(known: ErrorReport | None, later: ErrorReport) -> ErrorReport:
    if known is None:
        return later
    return replace(later, count=known.count + later.count, first_seen=known.first_seen)
