"""`manage.py up`: the whole stack on this machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import supports_color
from django.db import OperationalError, connections

from certification.management import terminal
from certification.management.commands import status
from certification.stack import control, embedded, supervisor, temporary


class Command(BaseCommand):
    help = (
        "Starts the whole stack on this machine: web, workers, beat, flower, the emulator when there are no AWS "
        "credentials, and PostgreSQL and Valkey unless DATABASE_URL and REDIS_URL name others. Ctrl-C stops it all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "process", nargs="*", help="only these: web worker worker-bulk beat flower emulator"
        )
        parser.add_argument(
            "--detach", action="store_true", help="keep it running in the background"
        )
        parser.add_argument(
            "--no-follow",
            action="store_true",
            help="do not print the logs (they are in .myia/logs)",
        )
        parser.add_argument(
            "--no-migrate", action="store_true", help="leave the database's tables as they are"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            table = control.select(control.programs(), options["process"])
            with control.files().hold():
                control.end_leftovers(self.tell)
                control.check_ports(table)
                self.prepare(migrate=not options["no_migrate"])
                if not options["detach"]:
                    self.supervise(table, follow=not options["no_follow"])
            if options["detach"]:
                self.detach(table)
        except (supervisor.StackError, embedded.EmbeddedError, temporary.NotReady) as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(
                f"The database cannot be reached; check DATABASE_URL. It said: {error}"
            ) from error

    def prepare(self, *, migrate: bool) -> None:
        if settings.EMBEDDED_POSTGRES or settings.EMBEDDED_VALKEY:
            embedded.ensure(
                Path(settings.MYIA_ROOT),
                database=settings.EMBEDDED_POSTGRES,
                redis=settings.EMBEDDED_VALKEY,
            )
        terminal.check_database()
        if migrate:
            call_command("migrate", interactive=False, verbosity=0)
            temporary.database(self.tell)
        for connection in connections.all():
            connection.close()
            if close_pool := getattr(connection, "close_pool", None):
                close_pool()

    def supervise(self, table: list[supervisor.Program], *, follow: bool) -> None:
        log = supervisor.Log(control.files(), self.tell, follow=follow, colour=supports_color())
        env = {"FLOWER_BASIC_AUTH": control.flower_login(), "LOG_FORMAT": settings.LOG_FORMAT}
        for line in self.welcome(table):
            log("myia", line)
        keeper = supervisor.Supervisor(
            table,
            where=control.files(),
            cwd=settings.BASE_DIR,
            say=log,
            env=env,
            keep_servers=control.keep_embedded,
        )
        try:
            asyncio.run(keeper.run())
            control.stop_servers(lambda line: log("myia", line))
        finally:
            log.close()

    def detach(self, table: list[supervisor.Program]) -> None:
        where = control.files()
        command = [sys.executable, "manage.py", "up", "--no-follow", "--no-migrate"]
        with (where.logs / "supervisor.log").open("w") as output:
            background = subprocess.Popen(  # noqa: S603
                [*command, *(program.name for program in table)],
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        found = control.wait_until_up(
            [program.name for program in table], gave_up=lambda: background.poll() is not None
        )
        if background.poll() is not None:
            raise supervisor.StackError(
                f"The supervisor ended:\n{(where.logs / 'supervisor.log').read_text()[-3000:]}"
            )
        background.returncode = 0  # it is meant to outlive us: no warning about a child left behind
        self.stdout.write("\n".join(self.welcome(table)))
        self.stdout.write(status.render(control.status()))
        if not all(process.is_up for process in found):
            raise supervisor.StackError(f"Not everything came up; the logs are in {where.logs}")

    def welcome(self, table: list[supervisor.Program]) -> list[str]:
        names = {program.name: program for program in table}
        lines = [
            f"{program.name:<11}   {program.url}" for name, program in names.items() if program.page
        ]
        if "flower" in names and not getattr(settings, "FLOWER_BASIC_AUTH", ""):
            lines.append(f"flower's user and password: {control.secrets_file()}")
        return [*lines, f"logs: {control.files().logs}"]

    def tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
