"""The archive for who helps: how the installation is, without a secret.

What is secret is left out twice: by name and form where it is gathered, and, whatever was missed,
every secret that this installation knows is looked for in the finished texts and replaced.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.conf import global_settings, settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from certification.engine import backend
from certification.lib import clock, foreign_text, redaction
from certification.models import AlertEpisode, QueuePause, WebhookSubscription, sql
from certification.monitoring import (
    doctor,
    log_files,
    performance,
    queue_stats,
    redis_report,
    site_health,
)
from certification.monitoring.checks import FAILURES, sentence
from certification.monitoring.log_files import LogFilter
from certification.stack import control, embedded

LINES, KEYS = 2_000, 5_000
PASSWORD = re.compile(r"[/,][^/,:@\s]*:([^/@\s]+)@")
MIN_SECRET = 6  # characters: shorter ones would be found in every text
# Settings whose texts are shown; of the others only whether they are set.
SHOWN = frozenset({
    "BEDROCK_BACKEND", "CERTIFICATION_QUEUE_NAME", "LANGUAGE_CODE", "LOG_FORMAT", "LOG_LEVEL",
    "TIME_ZONE", "VERSION",
})  # fmt: skip
README = """What this archive has: how the installation is, for who helps.

versions.json     the program, Python, the system, and the packages
settings.json     names of settings; numbers and switches, of texts only whether they are set
health.json       what /health says
doctor.json       every check with its findings
processes.json    the processes of this machine
queue.json        what waits and is worked on, and the workers
migrations.json   the tables' versions
alerts.json       open alerts
redis.json        Redis: memory, keys by kind
performance.json  the runs of the last day, compared with the day before
database.json     connections, and statements that run, without their texts
logs.jsonl        the newest 2000 lines of the logs

What it has not: passwords, keys, tokens, addresses of webhooks, prompts and answers.
"""


def sections() -> dict[str, Callable[[], Any]]:
    """Return what goes into the archive, by the names of its files."""
    return {
        "versions.json": versions,
        "settings.json": settings_without_secrets,
        "health.json": lambda: site_health.health()[1],
        "doctor.json": lambda: [result.to_json() for result in doctor.examine(doctor.CHECKS)],
        "processes.json": lambda: [process.to_json() for process in control.status()],
        "queue.json": queue_state,
        "migrations.json": migrations,
        "alerts.json": lambda: list(AlertEpisode.objects.open().values()[:100]),
        "redis.json": lambda: redis_report.read(KEYS).to_json(),
        "performance.json": lambda: performance.analyse(timedelta(days=1), 10).to_json(),
        "database.json": lambda: {
            "connections": sql.fetch_one(sql.CONNECTIONS),
            "statements": sql.fetch_all(sql.LONG_QUERIES),
        },
    }


def write(path: Path) -> list[str]:
    """Write the archive, readable by its owner only, whole or not at all. Return the names of its
    files. Raises CommandError where there is a file already, or none can be written.
    """
    if path.exists():
        raise CommandError(f"{path} exists already. Choose another name.")
    texts = {"README.txt": README} | {name: text_of(read) for name, read in sections().items()}
    texts["logs.jsonl"] = log_lines()
    secrets = known_secrets()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            open(descriptor, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, text in texts.items():
                archive.writestr(name, without(secrets, text))
        draft.rename(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
    return list(texts)


def text_of(read: Callable[[], Any]) -> str:
    """Return a section as JSON; where a server is away, the sentence that it is."""
    try:
        value = read()
    except (*FAILURES, embedded.EmbeddedError) as error:
        value = {"error": f"It could not be read: {sentence(error)}."}
    plain = json.loads(json.dumps(value, default=str))
    document = json.dumps(redaction.redact_quoted(plain), indent=1, ensure_ascii=False)
    return foreign_text.escape_json(document)


def log_lines() -> str:
    lines = log_files.read_logs(LogFilter(), limit=LINES)
    documents = (
        json.dumps(entry.to_json(), default=str, ensure_ascii=False)
        for entry in reversed(lines.entries)
    )
    return "".join(f"{foreign_text.escape_json(document)}\n" for document in documents)


def versions() -> dict[str, Any]:
    packages = {each.name: each.version for each in metadata.distributions() if each.name}
    return {
        "program": settings.VERSION,
        "python": sys.version,
        "system": platform.platform(),
        "packages": dict(sorted(packages.items())),
    }


def settings_without_secrets() -> dict[str, Any]:
    """Return the project's settings: numbers and switches as they are, of texts and lists whether
    they are set, but for a few words.
    """
    return {name: shown(name, getattr(settings, name)) for name in own_settings()}


def own_settings() -> list[str]:
    """Return the names of the settings that are not as Django has them by default."""
    defaults = vars(global_settings)
    return [
        name
        for name in sorted(dir(settings))
        if name.isupper() and (name not in defaults or getattr(settings, name) != defaults[name])
    ]


def shown(name: str, value: Any) -> Any:
    is_secret = redaction.SECRET_KEYS.search(name) or redaction.TOKEN_KEYS.search(name)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not is_secret:
        return value
    if name in SHOWN:
        return str(value)
    return "set" if value else "empty"


def queue_state() -> dict[str, Any]:
    pause = QueuePause.objects.current(backend.name())
    return {
        "runs": asdict(queue_stats.queue_counts()),
        "paused": pause.message if pause else None,
        "workers": [asdict(worker) for worker in queue_stats.ask_workers() or ()],
    }


def migrations() -> dict[str, Any]:
    executor = MigrationExecutor(connection)
    loader = executor.loader
    return {
        "applied": sorted(f"{app}.{name}" for app, name in loader.applied_migrations),
        "missing": [
            f"{migration.app_label}.{migration.name}"
            for migration, _backwards in executor.migration_plan(loader.graph.leaf_nodes())
        ],
        "at": clock.now(),
    }


def known_secrets() -> set[str]:
    """Return every secret that this installation knows, as it may be quoted somewhere."""
    secrets = set(secret_values({name: getattr(settings, name) for name in own_settings()}))
    secrets |= set(secret_values(os.environ))
    for name in own_settings():
        value = getattr(settings, name)
        secrets |= passwords_in(value) if isinstance(value, str) and "://" in value else set()
    for path in doctor.private_files():
        with suppress(OSError, ValueError):
            secrets |= words_of(path.read_text())
    with suppress(*FAILURES):
        for subscription in WebhookSubscription.objects.all():
            parts = urlsplit(subscription.url)
            secrets |= {parts.path, parts.query} | passwords_in(subscription.url)
            secrets |= set(filter(is_odd, parts.path.split("/")))
    return {secret for secret in secrets if len(secret) >= MIN_SECRET}


def secret_values(values: Mapping[str, Any]) -> Iterable[str]:
    """Yield the texts under secret-looking names, and their parts."""
    for name, value in values.items():
        names = redaction.SECRET_KEYS.search(name) or redaction.TOKEN_KEYS.search(name)
        if names or name.endswith(("_KEY", "_AUTH", "_PASS")):
            for text in texts_in(value):
                parts = re.split(r"[/:@?&=\s]+", text) if "://" in text else text.split(":")
                yield text
                yield from (part for part in parts if "://" not in text or is_odd(part))


def texts_in(value: Any) -> Iterable[str]:
    """Yield every text of a value, however deep it is."""
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from texts_in(item)
        case list() | tuple() | set() | frozenset():
            for item in value:
                yield from texts_in(item)


def is_odd(part: str) -> bool:
    """Whether a part of an address is rather a secret than a word: it has a digit."""
    return any(map(str.isdigit, part))


def passwords_in(url: str) -> set[str]:
    """Return the passwords of an address, which may name several servers, and what it has under
    secret-looking names.
    """
    secrets = set(PASSWORD.findall(url))
    with suppress(ValueError):
        secrets |= set(secret_values(dict(parse_qsl(urlsplit(url).query))))
    return secrets | {unquote(secret) for secret in secrets}


def words_of(text: str) -> set[str]:
    """Return what may be a secret in one of our private files: its values, of JSON the texts under
    secret-looking names.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        values = [line.partition("=")[2] or line for line in text.splitlines()]
        return {part for value in values for part in (value, *value.split(":"))}
    rows = document.values() if isinstance(document, dict) else []
    return {value for row in rows if isinstance(row, dict) for value in secret_values(row)}


def without(secrets: Iterable[str], text: str) -> str:
    """Replace secrets in a text, also where JSON or an address writes them in another way."""
    for secret in sorted(secrets, key=len, reverse=True):
        for form in {secret, json.dumps(secret)[1:-1]}:
            text = text.replace(form, redaction.HIDDEN)
    return text
