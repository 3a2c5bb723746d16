"""Structured logs: JSON lines or console, one shape for web, worker and commands, secrets never in
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from numbers import Number
from pathlib import Path
from typing import Any

import structlog
from django.core.exceptions import ImproperlyConfigured

SECRET_KEYS = re.compile(
    r"passwo?r?d|secret|authorization|api_?key|access_?key|credential|cookie", re.IGNORECASE
)
TOKEN_KEYS = re.compile(
    r"token", re.IGNORECASE
)  # a secret unless it is counted: session_token="...", but max_tokens=64
ACCOUNT_ID = re.compile(r"(?<=:)\d{12}(?=:)")
# A login token or an API key of ours, wherever it stands: in a misspelt address, in a request that
# gunicorn refuses.
CREDENTIAL = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+(?:\.[\w-]*)?|myia_[\w-]{40,}", re.ASCII)
HIDDEN = "[redacted]"


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: hides values under secret-looking keys, at any depth, credentials of
    ours, account ids in ARNs.
    """
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: object, value: Any) -> Any:
    name = str(key)
    if value is None or isinstance(value, bool):
        return value
    if SECRET_KEYS.search(name) or (
        TOKEN_KEYS.search(name) and not isinstance(value, Number | Mapping)
    ):
        return HIDDEN
    if isinstance(value, Mapping):
        return {inner: _redacted(inner, kept) for inner, kept in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", kept) for kept in value]
    return (
        CREDENTIAL.sub(HIDDEN, ACCOUNT_ID.sub("************", value))
        if isinstance(value, str)
        else value
    )


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.format_exc_info,
    redact,
]


def _handler(filename: Path, level: str = "INFO") -> dict[str, Any]:
    return {
        "class": "logging.handlers.RotatingFileHandler",
        "filename": filename,
        "maxBytes": 20_000_000,
        "backupCount": 5,
        "formatter": "json",
        "level": level,
        "delay": True,
    }


def configure(log_format: str, level: str, log_dir: str = "", process: str = "") -> dict[str, Any]:
    """Configure structlog and return the LOGGING dictionary. `log_format` is "json" or "console";
    files only with a `log_dir`.

    ImproperlyConfigured when that folder cannot be made.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderers = {
        "json": structlog.processors.JSONRenderer(),
        "console": structlog.dev.ConsoleRenderer(colors=False),
    }
    handlers: dict[str, Any] = {
        "stream": {"class": "logging.StreamHandler", "formatter": log_format}
    }
    if log_dir:
        folder = Path(log_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImproperlyConfigured(
                f"LOG_DIR is {log_dir!r}, which cannot be made: {error.strerror}."
            ) from None
        handlers["combined"] = _handler(folder / "combined.log")
        handlers["error"] = _handler(folder / "error.log", "ERROR")
        if process == "worker":
            handlers["worker"] = _handler(folder / "worker.log")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            name: {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    renderer,
                ],
                "foreign_pre_chain": SHARED,
            }
            for name, renderer in renderers.items()
        },
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": "WARNING"},
        "loggers": {
            "certification": {"level": level},
            "django_structlog": {"level": level},
            # a line per message says nothing a run's line does not
            "django_structlog.celery": {"level": "WARNING"},
            "celery.worker": {"level": "WARNING"},
            "urllib3.connection": {"level": "ERROR"},  # its warnings carry whole addresses
            "celery.app.trace": {"level": "ERROR"},
            # It has handlers of its own, which know nothing of secrets.
            "gunicorn.error": {"handlers": list(handlers), "level": "WARNING", "propagate": False},
            # a warning for each HEAD: the body is dropped there on purpose
            "gunicorn.http.wsgi": {"level": "ERROR"},
        },
    }
