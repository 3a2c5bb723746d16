"""Structured logs without secrets: JSON lines or console, the same for web, worker and commands."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from logging.handlers import SysLogHandler, WatchedFileHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from django.core.exceptions import ImproperlyConfigured

from certification.lib import foreign_text, redaction
from certification.lib.error_log import ErrorLog


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hide values under secret-looking keys, at any depth, our credentials, and account ids in
    ARNs: a structlog processor.
    """
    for key, value in event.items():
        event[key] = redaction.redact_value(key, value)
    return event


def one_line(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keep texts from outside from beginning a line of their own or acting on the terminal: a
    structlog processor for logs that people read. JSON escapes by itself.
    """
    for key, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if key in ("exception", "stack") else [value]
            event[key] = "\n".join(map(foreign_text.escape, lines))
    return event


@dataclass(frozen=True)
class WrittenBy:
    """Adds the name of the process to its lines, where it has one: a structlog processor."""

    process: str

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return event if not self.process else {**event, "process": self.process}


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.format_exc_info,
    redact,
]


# imported when it is used: it needs the settings
COUNTED_ERRORS = "certification.lib.process_counts.CountedErrors"
NODE = re.compile(r"(?:--hostname=)?([a-z][a-z0-9-]*)@\S+")  # of Celery, without our pid


class NoProbes(logging.Filter):
    """Drops the lines of probes that found all well: there is one every few seconds."""

    requests = frozenset(
        f"GET {path}" for path in ("/live", "/ready", "/health", "/api/health", "/metrics")
    )

    def filter(self, record: logging.LogRecord) -> bool:
        event: Any = record.msg
        if not isinstance(event, dict):
            return True
        return event.get("request") not in self.requests or event.get("code") != 200


LOGGERS: dict[str, dict[str, Any]] = {
    "django_structlog.middlewares.request": {"filters": ["no_probes"]},
    # one line per message is more than a run's own line
    "django_structlog.celery": {"level": "WARNING"},
    "celery.worker": {"level": "WARNING"},
    "urllib3.connection": {"level": "ERROR"},  # its warnings have whole addresses
    # its lines have tokens of channels; monitoring/channels.py reads them and hides those
    "apprise": {"handlers": ["none"], "propagate": False},
    "celery.app.trace": {"level": "ERROR"},
    # a warning for each HEAD: the body is dropped there on purpose
    "gunicorn.http.wsgi": {"level": "ERROR"},
}


def configure_structlog() -> None:
    """Have structlog pass on to logging. Once: loggers keep what they began with."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def configuration(
    log_format: str,
    level: str,
    log_dir: str = "",
    process: str = "",
    *,
    levels: Mapping[str, str] = MappingProxyType({}),
    syslog: str = "",
) -> dict[str, Any]:
    """Return the LOGGING dictionary. `log_format` is "json" or "console", `levels` those of single
    loggers; files only with a `log_dir`, and syslog only with its address.

    Raises ImproperlyConfigured when that folder cannot be created, or the address is none.
    """
    stream = {"class": "logging.StreamHandler", "formatter": log_format}
    handlers = {"stream": stream, **file_handlers(log_dir, process), **syslog_handler(syslog)}
    if process.startswith(REPORTING):
        handlers["errors"] = error_handler(process)
        handlers["counted"] = {"()": COUNTED_ERRORS, "process": process}
    loggers: dict[str, dict[str, Any]] = {
        "certification": {"level": level},
        "django_structlog": {"level": level},
        # its own handlers do not hide secrets
        "gunicorn.error": {"handlers": list(handlers), "level": "WARNING", "propagate": False},
        **LOGGERS,
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": formatter(structlog.processors.JSONRenderer()),
            # several processes write one file
            "file": formatter(WrittenBy(process), structlog.processors.JSONRenderer()),
            "console": formatter(one_line, structlog.dev.ConsoleRenderer(colors=False)),
        },
        "filters": {"no_probes": {"()": NoProbes}},
        "handlers": {**handlers, "none": {"class": "logging.NullHandler"}},
        "root": {"handlers": list(handlers), "level": "WARNING"},
        "loggers": {
            name: {**logger, **({"level": levels[name]} if name in levels else {})}
            for name, logger in {**{key: {} for key in levels}, **loggers}.items()
        },
    }


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def parse_levels(entries: Sequence[str]) -> dict[str, str]:
    """Return {logger: level} of entries like "certification.engine=DEBUG". Raises
    ImproperlyConfigured.
    """
    levels = {}
    for entry in filter(None, map(str.strip, entries)):
        name, _, level = entry.partition("=")
        if not name.strip() or level.strip().upper() not in LEVELS:
            raise ImproperlyConfigured(
                f"LOG_LEVELS has {entry[:80]!r}. Expected: <logger>=<level>, by commas, where a "
                f"level is {', '.join(LEVELS[:-1])} or {LEVELS[-1]}."
            )
        levels[name.strip()] = level.strip().upper()
    return levels


REPORTING = ("web", "worker", "beat")  # processes whose errors are kept in the database


def error_handler(process: str) -> dict[str, Any]:
    return {"()": ErrorLog, "process": process, "formatter": "file", "level": "ERROR"}


def syslog_handler(address: str) -> dict[str, dict[str, Any]]:
    """Return a handler that sends each line as JSON to the syslog of this machine, by the path of
    its socket, or to another's by UDP, as host:port. Raises ImproperlyConfigured.
    """
    if not address:
        return {}
    target: str | tuple[str, int] = address
    if not address.startswith("/"):
        host, _, port = address.removeprefix("udp://").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ImproperlyConfigured(
                f"LOG_SYSLOG is {address[:80]!r}. Expected: the path of a socket, like "
                "/dev/log, or <host>:<port>, which is sent to by UDP."
            )
        target = (host, int(port))
    return {"syslog": {"()": Syslog, "address": target, "formatter": "file", "level": "INFO"}}


class Syslog(SysLogHandler):
    """Sends lines to syslog. Those it does not take are in the other logs too: it says once that
    it lost one, and never ends or disturbs its program.
    """

    ident = "myia: "

    def __init__(self, address: str | tuple[str, int]) -> None:
        self.has_failed = False
        try:
            super().__init__(address, facility=SysLogHandler.LOG_DAEMON)
        except OSError as error:
            raise ImproperlyConfigured(
                f"LOG_SYSLOG is {address}, and this address is not known: {error.strerror}."
            ) from None

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.has_failed and sys.stderr:
            sys.stderr.write(f"LOG_SYSLOG: a line was not sent: {sys.exc_info()[1]}\n")
        self.has_failed = True


def process_name(argv: Sequence[str]) -> str:
    """Return what a process is, by its command line: worker, worker-bulk and so on by the node's
    name, beat, flower, web, or the command of manage.py; "" for others.
    """
    program = Path(argv[0]) if argv else Path()
    for argument in argv:
        if node := NODE.fullmatch(argument):
            return node[1]
    for name in ("worker", "beat", "flower"):
        if name in argv[1:]:
            return name
    if "gunicorn" in (program.name, program.parent.name):
        return "web"
    return next(iter(argv[1:]), "") if program.name == "manage.py" else ""


def formatter(*renderers: Any) -> dict[str, Any]:
    return {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        "foreign_pre_chain": SHARED,
    }


def file_handlers(log_dir: str, process: str) -> dict[str, dict[str, Any]]:
    """Return a handler for each file that this process writes. Raises ImproperlyConfigured."""
    if not log_dir:
        return {}
    folder = Path(log_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"LOG_DIR is {log_dir!r}, and this folder cannot be created: {error.strerror}."
        ) from None
    levels = {"combined": "INFO", "error": "ERROR"}
    if process.startswith("worker"):
        levels["worker"] = "INFO"
    return {
        name: {
            "()": SharedLogFile,
            "filename": folder / f"{name}.log",
            "formatter": "file",
            "level": level,
        }
        for name, level in levels.items()
    }


class SharedLogFile(WatchedFileHandler):
    """A log file that several processes write: each line by one call that appends, so that no line
    is lost or mixed with another.

    Whoever finds it too large renames it, as logrotate does, while holding a lock; the others
    reopen it when they see that it was moved.
    """

    max_bytes, backups = 20_000_000, 5
    stream: Any  # a file of bytes

    def __init__(self, filename: Path) -> None:
        super().__init__(filename, delay=True)
        self.path = Path(filename)

    def _open(self) -> Any:
        return self.path.open("ab", buffering=0)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.reopenIfNeeded()
            if self.stream is None:
                self.stream = self._open()
                self._statstream()
            self.stream.write(f"{self.format(record)}\n".encode(errors="replace"))
            if os.fstat(self.stream.fileno()).st_size >= self.max_bytes:
                self.rotate()
        except Exception:  # noqa: BLE001 - a handler must not end its program
            self.handleError(record)

    def rotate(self) -> None:
        """Rename the file to `.1`, that one to `.2` and so on, unless another process just did."""
        with self.path.with_name(f".{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                is_ours = self.path.stat().st_ino == os.fstat(self.stream.fileno()).st_ino
            except FileNotFoundError:
                is_ours = False
            if not is_ours:
                return
            for number in range(self.backups - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    self.backup(number).rename(self.backup(number + 1))
            self.path.rename(self.backup(1))

    def backup(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
