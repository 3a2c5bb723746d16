"""A PostgreSQL with a replica, made with the programs of the embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings

from certification.stack.embedded import postgres, privileges
from tests.sentinels import free_ports

CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
shared_buffers = '16MB'
fsync = off
wal_receiver_timeout = '5s'
"""


class Replicated:
    """Two servers, of which the second follows the first. Their only account is `postgres`."""

    def __init__(self, folder: Path) -> None:
        self.folder = privileges.private_folder(settings.MYIA_ROOT, folder)
        self.primary_port, self.replica_port = free_ports(2)
        initdb = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        self.run("initdb", "-D", "primary", "--no-sync", "--no-instructions", *initdb)
        self.start("primary", self.primary_port)
        server = ["-h", "127.0.0.1", "-p", str(self.primary_port), "-U", "postgres"]
        self.run("pg_basebackup", "-D", "replica", "-R", "-c", "fast", "--no-sync", *server)
        self.start("replica", self.replica_port)

    def run(self, program: str, *arguments: str) -> None:
        command = [postgres.program(program), *arguments]
        code, output = privileges.run(settings.MYIA_ROOT, command, self.folder)
        assert code == 0, output

    def start(self, name: str, port: int) -> None:
        with (self.folder / name / "postgresql.conf").open("a") as file:
            file.write(CONFIG.format(port=port))
        self.run("pg_ctl", "-D", name, "-l", f"{name}.log", "-w", "-t", "60", "start")

    def kill(self, name: str) -> None:
        """End a server as a power cut does."""
        self.run("pg_ctl", "-D", name, "-m", "immediate", "-w", "stop")

    def promote(self) -> None:
        self.run("pg_ctl", "-D", "replica", "-w", "-t", "60", "promote")

    def stop(self) -> None:
        for name in ("replica", "primary"):
            if (self.folder / name / "postmaster.pid").exists():
                self.kill(name)

    def connect(self, port: int) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True
        )
