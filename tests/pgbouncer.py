"""PgBouncer in front of the tests' PostgreSQL, each transaction in another session."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from django.conf import settings

from certification.stack import embedded
from certification.stack.processes import Processes, Program
from tests import database
from tests.processes import wait_until
from tests.sentinels import free_ports

FOLDERS = f"{os.environ.get('PATH', '')}:/usr/sbin"
# Few sessions for all: whatever depends on its session meets that of somebody else.
CONFIG = """\
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
server_round_robin = 1
"""


def program() -> str | None:
    return shutil.which("pgbouncer", path=FOLDERS)


def start(processes: Processes, folder: Path) -> str:
    """Start it, and return the URL of the test database through it."""
    name = settings.DATABASES["default"]["NAME"]
    parts = urlsplit(database.url(name))
    with psycopg.connect(database.url(name)) as direct:
        info = direct.info
        config = CONFIG.format(
            host=info.host,
            port=info.port,
            user=info.user,
            password=unquote(parts.password or ""),
            own_port=(own_port := free_ports(1)[0]),
        )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pgbouncer.ini"
    file.write_text(config)
    argv = [program() or "pgbouncer", str(file)]
    if account := embedded.account(settings.MYIA_ROOT):  # it refuses to be root
        argv[1:1] = ["-u", account.pw_name]
    process = processes.start(Program("pgbouncer", tuple(argv)))
    url = f"postgresql://anybody@127.0.0.1:{own_port}/{name}"

    def answers() -> bool:
        assert process.poll() is None, (processes.logs / "pgbouncer.log").read_text()
        with psycopg.connect(url, connect_timeout=5):
            return True

    wait_until(answers, "PgBouncer answers")
    return url
