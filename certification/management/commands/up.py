"""`manage.py up`: run the whole stack on this machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import supports_color
from django.db import OperationalError, connections

from certification import checks
from certification.management import guard
from certification.management.commands import status
from certification.stack import control, embedded, programs, temporary
from certification.stack.embedded.accounts import let_account_read
from certification.stack.processes import PROJECT, NotReady, Program
from certification.stack.supervisor import Log, StackError, Supervisor


class Command(BaseCommand):
    help = (
        "Starts the whole stack on this machine: web, workers, beat, flower, the emulator when "
        "there are no AWS credentials, and PostgreSQL and Valkey unless DATABASE_URL and REDIS_URL "
        "name others. Ctrl-C stops everything."
    )
    requires_system_checks: list[str] = [checks.TAG]

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
            table = programs.select(programs.programs(), options["process"])
            with control.files().hold_lock():
                control.end_leftovers(self.write)
                programs.check_ports(table)
                self.prepare(migrate=not options["no_migrate"])
                if not options["detach"]:
                    self.supervise(table, follow=not options["no_follow"])
            if options["detach"]:
                self.detach(table)
        except (StackError, embedded.EmbeddedError, NotReady) as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(
                f"The database cannot be reached; check DATABASE_URL. It reported: {error}"
            ) from error

    def prepare(self, *, migrate: bool) -> None:
        control.ensure_servers()
        guard.check_database()
        if migrate:
            call_command("migrate", interactive=False, verbosity=0)
            temporary.database(self.write)
        for connection in connections.all():
            connection.close()
            if close_pool := getattr(connection, "close_pool", None):
                close_pool()

    def supervise(self, table: list[Program], *, follow: bool) -> None:
        """Run the supervisor in this process until it is stopped."""
        log = Log(control.files().logs, self.write, follow=follow, colour=supports_color())
        let_account_read(settings.MYIA_ROOT, control.files().logs)  # the API shows them
        env = {"FLOWER_BASIC_AUTH": programs.flower_login(), "LOG_FORMAT": settings.LOG_FORMAT}
        if any(program.name == "emulator" for program in table):
            env["EMULATOR_CONTROL_SECRET"] = programs.emulator_secret()
        for line in self.welcome(table):
            log("myia", line)
        supervisor = Supervisor(
            table,
            files=control.files(),
            log=log,
            env=env,
            check_servers=control.ServerWatch().check,
        )
        try:
            asyncio.run(supervisor.run())
            control.stop_servers(lambda line: log("myia", line))
        finally:
            log.close()

    def detach(self, table: list[Program]) -> None:
        """Run the supervisor in a process of its own, and return once everything is up."""
        log = control.files().logs / "supervisor.log"
        command = [sys.executable, "manage.py", "up", "--no-follow", "--no-migrate"]
        names = [program.name for program in table]
        with log.open("w") as output:
            # not with `Processes`: it is meant to outlive us
            background = subprocess.Popen(  # noqa: S603
                [*command, *names],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes = control.wait_until_up(names, is_over=lambda: background.poll() is not None)
        if background.poll() is not None:
            raise StackError(f"The supervisor ended:\n{log.read_text()[-3000:]}")
        background.returncode = 0  # no warning about a child left behind
        self.write("\n".join(self.welcome(table)))
        self.write(status.render(control.status()))
        if not all(process.is_up for process in processes):
            raise StackError(f"Not everything came up. The logs are in {log.parent}")

    def welcome(self, table: list[Program]) -> list[str]:
        lines = [
            f"{program.name:<11}   {program.url}"
            for program in table
            if program.port and program.page
        ]
        has_flower = any(program.name == "flower" for program in table)
        if has_flower and not settings.FLOWER_BASIC_AUTH:
            lines.append(f"flower's user and password: {programs.secrets_file()}")
        return [*lines, f"logs: {control.files().logs}"]

    def write(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
