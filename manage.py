#!/usr/bin/env python
"""The command line of the project."""

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

# Commands that work on the database and do not see to the embedded servers themselves.
NEEDS_SERVERS = frozenset({
    "changepassword", "cleanup", "clearsessions", "createsuperuser", "dbshell", "dumpdata", "flush", "inspectdb", "job",
    "list_uncertified", "load_catalogue", "loaddata", "migrate", "recertify_stale", "reconcile", "rescore", "runserver", "shell",
    "showmigrations", "sqlmigrate", "suite", "sync_catalogue",
})  # fmt: skip
SIGPIPE_EXIT = 128 + 13  # what a shell reports of a program that SIGPIPE ended


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myia.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line

        from certification.stack import embedded
    except ImportError as error:
        sys.exit(
            f"{error}. Install what is needed with `make setup`, then use .venv/bin/python manage.py ..."
        )
    try:
        works_on_data = (
            len(sys.argv) > 1
            and sys.argv[1] in NEEDS_SERVERS
            and not {"-h", "--help"} & set(sys.argv)
        )
        if works_on_data:
            # Before the settings are read: a server whose port was taken meanwhile moves to
            # another.
            root = Path(os.environ.get("MYIA_ROOT", Path(__file__).resolve().parent))
            ours = {
                "database": not os.environ.get("DATABASE_URL"),
                "redis": not _redis_is_configured(),
            }
            if any(ours.values()):
                embedded.ensure(root, **ours)
        if os.environ.get("DATABASE_URL") and (works_on_data or "--database" in sys.argv):
            _check_database()
        _execute(execute_from_command_line)
    except ImproperlyConfigured as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except embedded.EmbeddedError as error:
        sys.exit(str(error))


def _check_database() -> None:
    """Say at once that a database of one's own is away: Django's pool would try for half a minute,
    a log line a second.
    """
    import django
    from django.core.management import CommandError

    django.setup()
    from certification.management import guard  # needs the settings

    try:
        guard.check_database()
    except CommandError as error:
        sys.exit(f"CommandError: {error}")


def _execute(execute: Callable[[list[str]], None]) -> None:
    """Run the command; when whoever reads its output has seen enough (`| head`), end as other
    programs do.
    """
    try:
        try:
            execute(sys.argv)
        finally:
            if sys.stdout:  # None where it was closed from the start
                # here and not at exit, where a broken pipe can no longer be caught
                sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SIGPIPE_EXIT)


def _reader_is_gone() -> bool:
    """Whether it was our output that broke, and not some connection."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _redis_is_configured() -> bool:
    return bool(os.environ.get("REDIS_URL") or os.environ.get("REDIS_HOST"))


if __name__ == "__main__":
    main()
