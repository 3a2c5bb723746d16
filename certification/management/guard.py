"""Guard a command: foreseeable failures end in one sentence that explains what to do."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

import psycopg
import redis
from celery.exceptions import OperationalError as BrokerError
from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from certification.engine import dispatch
from certification.lib import redis_client
from certification.lib.postgresql import patience
from certification.models import audit
from certification.operations.archive import BackupFault
from certification.operations.audit import by_command
from certification.stack.embedded import EmbeddedError
from certification.stack.processes import NotReady

P = ParamSpec("P")
T = TypeVar("T")

# one WAL segment of PostgreSQL: it cannot go on without room for the next
MIN_FREE_BYTES = 16_000_000
CONNECT_S = 5
# Who watches waits no longer for a server that does not answer, and so long for one that does.
LOOK_S, LONGEST_LOOK_S = 1, 600
BROKER_ERRORS = (redis.RedisError, BrokerError)


def friendly_errors(handle: Callable[P, T]) -> Callable[P, T]:
    """Turn a command's foreseeable failures into one sentence with exit code 1 and no traceback.

    SIGTERM acts like Ctrl-C, so that a command that receives it also ends what it started. Log
    lines below ERROR are left out: the command prints sentences of its own.
    """

    @functools.wraps(handle)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with sigterm_as_ctrl_c(), errors_only():
                check_database()
                with recorded(args[0], kwargs):
                    return handle(*args, **kwargs)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise SystemExit(130) from None
        except dispatch.DispatchError as error:
            raise CommandError(f"{error} {advice(error)}".rstrip()) from error
        except (NotReady, EmbeddedError, BackupFault) as error:
            raise CommandError(str(error)) from error
        except (OperationalError, InterfaceError, psycopg.OperationalError) as error:
            raise CommandError(database_sentence(error)) from error
        except BROKER_ERRORS as error:
            raise CommandError(broker_sentence(error)) from error
        except (DatabaseError, psycopg.Error) as error:
            if "does not exist" in str(error):
                raise CommandError(
                    "The database has no tables yet. Run: manage.py migrate"
                ) from error
            raise

    return guarded


@contextlib.contextmanager
def recorded(command: Any, options: Mapping[str, Any]) -> Iterator[None]:
    """Leave an entry in the audit trail of a command that writes: `Command.audited` names the
    actions that do, "" the command without one. A dry run leaves none.
    """
    action = options.get("action") or options.get("verb") or ""
    changes_nothing = options.get("dry_run") or options.get("write") is False
    if action not in getattr(command, "audited", ()) or changes_nothing:
        yield
        return
    name = type(command).__module__.rpartition(".")[2]
    with by_command(name):
        try:
            yield
        except SystemExit:  # it did its work, and found something
            audit.record(f"{name} {action}".strip())
            raise
        audit.record(f"{name} {action}".strip())


def cannot_look(handle: Callable[P, T]) -> Callable[P, T]:
    """End with exit code 2 where a command that watches cannot do its work: 1 says that it did and
    found something. For cron. A server that does not answer is given up after LOOK_S.
    """

    @functools.wraps(handle)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with patience.limited(LONGEST_LOOK_S), redis_client.limited(LOOK_S):
                return handle(*args, **kwargs)
        except CommandError as error:
            error.returncode = 2
            raise

    return guarded


def advice(error: dispatch.DispatchError) -> str:
    """Return which command helps after this error; empty when none does."""
    match error:
        case dispatch.ModelNotFound():
            return (
                "List the ids with: manage.py list_uncertified --all, "
                "or add new models with: manage.py sync_catalogue"
            )
        case dispatch.NotOffered():
            return "Update the catalogue first: manage.py sync_catalogue"
        case dispatch.AlreadyRunning():
            return f"To cancel it: manage.py job cancel {error.job.pk}"
        case dispatch.NothingFailed() if error.cancelled:
            return f"To retry those: manage.py job retry {error.job.pk} --cancelled"
        case dispatch.ReadOnly():
            return "To end it: manage.py readonly off"
        case dispatch.TooExpensive() if error.unpriced:
            return "To allow them: --allow-unpriced"
        case _:
            return ""


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM. Only in the main thread, where Python handles signals."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Log only errors for the block."""
    loggers = [logging.getLogger(name) for name in ("certification", "psycopg.pool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_database() -> None:
    """Open one connection to a database of the operator's own: the pool would try for half a minute
    and hide the cause. Raises CommandError.
    """
    if settings.EMBEDDED_POSTGRES or connection.in_atomic_block:
        return
    seconds = LOOK_S if patience.is_limited() else CONNECT_S
    parameters = connection.get_connection_params()
    parameters.pop("pool", None)
    try:
        with connection.wrap_database_errors:
            psycopg.connect(**parameters | {"connect_timeout": seconds}).close()
    except (OperationalError, InterfaceError) as error:
        raise CommandError(database_sentence(error)) from error


def database_sentence(error: Exception) -> str:
    """Say why the database cannot be used and what to do."""
    text = " ".join(str(error).split()).split(" Is the server running")[0].rstrip(".")
    if is_disk_full(text):
        return (
            f"The database's disk is full: {text}. Free some space and run the command again; what "
            "was stored before is safe."
        )
    if settings.EMBEDDED_POSTGRES:
        return f"The database cannot be reached: {text}. Start it again with: manage.py up"
    return f"The database cannot be reached: {text}. Start it, or correct DATABASE_URL."


def broker_sentence(error: Exception) -> str:
    """Say why Redis cannot be used and what to do."""
    text = " ".join(str(error).split()).rstrip(".")
    if "No space left on device" in text:
        return (
            f"The disk of Redis is full: {text}. Free some space and run the command again; no job "
            "is lost."
        )
    remedy = "Start it, or correct REDIS_URL"
    if settings.EMBEDDED_VALKEY:
        remedy = "Start it with: manage.py up"
    return (
        f"Redis cannot be reached: {text}. {remedy}. Nothing is lost: the database holds every job."
    )


def is_disk_full(text: str) -> bool:
    """Whether PostgreSQL reports a full disk, or an embedded one ended because no room was left."""
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return True
    return (
        settings.EMBEDDED_POSTGRES and shutil.disk_usage(settings.MYIA_ROOT).free < MIN_FREE_BYTES
    )
