#!/usr/bin/env python
"""The command line of the project."""

import os
import select
import sys
from pathlib import Path

# Commands that work on the database and do not start the embedded servers themselves.
NEEDS_SERVERS = frozenset({
    "backup", "changepassword", "cleanup", "clearsessions", "createsuperuser", "dbshell",
    "dumpdata", "flush", "inspectdb", "job", "list_uncertified", "load_catalogue", "loaddata",
    "makemigrations", "migrate", "recertify_stale", "reconcile", "rescore", "restore", "routine",
    "runserver", "shell", "showmigrations", "sqlmigrate", "suite", "sync_catalogue",
})  # fmt: skip
OVERVIEW: tuple[list[str], ...] = ([], ["help"], ["--help"], ["-h"])
SIGPIPE_EXIT = 128 + 13  # what a shell reports of a program that SIGPIPE ended


def main() -> None:
    """Start the servers that the command needs, then run it."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myia.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured

        from certification.stack import embedded
    except ImportError as error:
        sys.exit(
            f"{error}. Install the requirements with `make setup`, then use "
            ".venv/bin/python manage.py ..."
        )
    needs_servers = (
        len(sys.argv) > 1 and sys.argv[1] in NEEDS_SERVERS and not {"-h", "--help"} & set(sys.argv)
    )
    try:
        if needs_servers:
            root = Path(os.environ.get("MYIA_ROOT", Path(__file__).resolve().parent))
            used = {
                "database": not is_given("DATABASE_URL"),
                "redis": not (is_given("REDIS_URL") or is_given("REDIS_HOST")),
            }
            if any(used.values()):
                embedded.ensure(root, **used)
        if is_given("DATABASE_URL") and (needs_servers or "--database" in sys.argv):
            check_database()
        execute()
    except ImproperlyConfigured as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except embedded.EmbeddedError as error:
        sys.exit(str(error))


def is_given(name: str) -> bool:
    """Whether the environment has the variable, or names the file that has it."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def check_database() -> None:
    """Exit at once when the operator's own database is away: Django's pool would try for half a
    minute, with a log line per second.
    """
    import django
    from django.core.management import CommandError

    django.setup()
    from certification.management import guard  # needs the settings

    try:
        guard.check_database()
    except CommandError as error:
        sys.exit(f"CommandError: {error}")


def print_overview() -> None:
    """Print the commands in groups by what they are for."""
    import django

    django.setup()
    from certification.management import overview  # needs the settings

    print(overview.text())


def execute() -> None:
    """Run the command. When its output is closed (`| head`), end as other programs do."""
    from django.core.management import execute_from_command_line

    try:
        try:
            if sys.argv[1:] in OVERVIEW:
                print_overview()
            else:
                execute_from_command_line(sys.argv)
        finally:
            if sys.stdout:  # None where it was closed from the start
                # here and not at exit, where a broken pipe can no longer be caught
                sys.stdout.flush()
    except BrokenPipeError:
        # was it our output that broke, or some connection?
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SIGPIPE_EXIT)


if __name__ == "__main__":
    main()
