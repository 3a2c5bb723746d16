"""The programs of the stack on one machine, and what they need before they start."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from django.conf import settings

from certification.engine import backend, queue
from certification.models import Backend, Priority
from certification.stack.embedded.accounts import give_to_account
from certification.stack.embedded.privileges import step_down
from certification.stack.processes import PROJECT, Program, is_free
from certification.stack.supervisor import StackError


def programs() -> list[Program]:
    """Return every program of the stack under the current settings."""
    flower_port: int = settings.FLOWER_PORT
    table = [
        *workers(settings.WORKER_HEALTH_PORT),
        web(settings.PORT),
        Program(
            name="beat",
            argv=run_module("celery --quiet -A myia beat --loglevel INFO --pidfile="),
            stage=3,
        ),
        Program(
            name="flower",
            argv=run_module(
                "celery --quiet -A myia flower "
                f"--address={settings.FLOWER_HOST} --port={flower_port}"
            ),
            stage=3,
            port=flower_port,
            port_setting="FLOWER_PORT",
            page="/",
            health="/healthcheck",
        ),
    ]
    if backend.name() == Backend.EMULATOR and not settings.BEDROCK_ENDPOINT_URL:
        table.insert(0, emulator())
    return table


def emulator() -> Program:
    """Return the emulator, which the stack has only where calls go to it."""
    port = settings.EMULATOR_PORT
    argv = [sys.executable, "manage.py", "bedrock_emulator", "--port", str(port)]
    argv += ["--time-scale", str(settings.EMULATOR_TIME_SCALE)]
    if settings.EMULATOR_SCENARIO:
        argv += ["--scenario", settings.EMULATOR_SCENARIO]
    return Program(
        "emulator", as_service(argv, port), stage=0, port=port, port_setting="EMULATOR_PORT"
    )


def workers(health_port: int) -> list[Program]:
    """Return the workers; 0 starts them without health servers. The bulk workers' ports begin two
    after the first: the port between them is that of the admin console.

    A click never waits behind a sweep: only `worker` takes interactive runs (and the short
    maintenance tasks), only `worker-bulk` and its likes take runs of large jobs, one process a
    core, for an event loop uses one. They do not help out with the first queue although they could:
    a worker reserves more messages than it runs, and a click reserved by a worker full of a sweep
    would wait behind it.
    """
    maintenance = [] if settings.WORKER_REGIONS else ["maintenance"]
    interactive = [*queue.taken_here(Priority.INTERACTIVE), *maintenance]
    bulk = queue.taken_here(Priority.BULK)
    return [
        worker("worker", interactive, health_port=health_port),
        *(
            worker(
                f"worker-bulk-{number}" if number > 1 else "worker-bulk",
                bulk,
                health_port=health_port + 1 + number if health_port else 0,
            )
            for number in range(1, settings.CERTIFICATION_BULK_WORKERS + 1)
        ),
    ]


def workers_for(priority: str) -> list[Program]:
    """Return the workers that a job of this priority needs, without health servers. The first one
    also takes the maintenance tasks, which publish a large job's runs.
    """
    every = workers(health_port=0)
    return every if priority == Priority.BULK else every[:1]


def worker(
    name: str,
    queues: Sequence[str],
    *,
    concurrency: int | None = None,
    health_port: int = 0,
    env: Mapping[str, str] | None = None,
) -> Program:
    """Return a Celery worker that takes these queues. Without a health port it has no health
    server and can run next to the stack's workers; its node name then carries our pid.
    """
    node = name if health_port else f"{name}-{os.getpid()}"
    return Program(
        name=name,
        argv=run_module(
            "celery --quiet -A myia worker --pool threads --concurrency",
            str(concurrency or settings.CERTIFICATION_CONCURRENCY),
            "--queues",
            ",".join(queues),
            *f"--hostname {node}@%h --loglevel INFO --without-gossip --without-mingle".split(),
        ),
        env={**(env or {}), "WORKER_HEALTH_PORT": str(health_port)},
        port=health_port or None,
        port_setting="WORKER_HEALTH_PORT",
        page="/health",
        health="/live",
        drain_seconds=60,
        on_kill="its unfinished runs are taken up again by `reconcile`",
    )


def web(port: int, processes: int = 0) -> Program:
    """Return the web server, of as many processes as the settings say unless given."""
    return Program(
        name="web",
        argv=run_module(
            f"gunicorn myia.wsgi --bind {settings.WEB_HOST}:{port} "
            f"--workers {processes or settings.WEB_PROCESSES} --threads 16 "
            "--worker-class certification.stack.web_worker.ReadingWorker "
            "--graceful-timeout 15 --max-requests 20000 "
            "--max-requests-jitter 2000 --log-level warning --no-control-socket",
            port=port,
        ),
        stage=2,
        port=port,
        port_setting="PORT",
        page="/",
        health="/live",
        drain_seconds=20,
        reload="SIGHUP",
    )


def run_module(command: str, *more: str, port: int = 0) -> tuple[str, ...]:
    """Return the arguments that run a module of this environment; `command` is split at blanks."""
    return as_service([sys.executable, "-m", *command.split(), *more], port)


def as_service(argv: Sequence[str], port: int = 0) -> tuple[str, ...]:
    """Return the arguments that run a program without the powers of root, where we are root: as the
    account of the servers, with no more than reading what it needs and could not read otherwise.
    """
    root = Path(settings.MYIA_ROOT)
    if os.geteuid() == 0 and settings.LOG_DIR:
        folder = Path(settings.LOG_DIR)
        for path in (folder, *folder.glob("*.log*")):
            give_to_account(root, path)
    home = Path.home() / ".aws"
    files = [
        PROJECT / "manage.py",
        Path(settings.MYIA_DIR) / "embedded.json",
        Path(os.environ.get("AWS_CONFIG_FILE", home / "config")),
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials")),
        *map(Path, filter(None, (settings.WEBHOOK_CA_BUNDLE, settings.EMULATOR_SCENARIO))),
    ]
    return tuple(step_down(root, argv, PROJECT, files, port))


def select(table: Sequence[Program], names: Sequence[str]) -> list[Program]:
    """Return the programs with these names, all of them without names; `worker` means every worker.

    Raises StackError for a name that no program has.
    """
    for name in names:
        if not any(is_called(program.name, [name]) for program in table):
            known = ", ".join(program.name for program in table)
            raise StackError(f"There is no process {name!r} here: {known}.")
    return [program for program in table if is_called(program.name, names)]


def is_called(process: str, names: Sequence[str]) -> bool:
    """Whether one of the names, or no name at all, means this process."""
    return not names or any(process == name or process.startswith(f"{name}-") for name in names)


def check_ports(table: Sequence[Program]) -> None:
    """Raise StackError for ports in use, saying who uses each and how to choose another."""
    taken = [
        (program, program.port) for program in table if program.port and not is_free(program.port)
    ]
    if not taken:
        return
    listeners: dict[int, str] = {}
    with contextlib.suppress(psutil.AccessDenied):  # macOS tells only root
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
                with contextlib.suppress(psutil.Error):
                    command = shlex.join(psutil.Process(connection.pid).cmdline())
                    listeners[connection.laddr.port] = f"pid {connection.pid}: {command[:200]}"
    sentences = []
    for program, port in taken:
        free = next((other for other in range(port + 10, 65536, 10) if is_free(other)), port)
        sentences.append(
            f"Port {port} ({program.name}) is used by "
            f"{listeners.get(port, 'a process of another user')}. Stop it, or choose another port: "
            f"{program.port_setting}={free} manage.py up"
        )
    raise StackError("\n".join(sentences))


def flower_login() -> str:
    """Return `user:password` for Flower: FLOWER_BASIC_AUTH, else a generated one."""
    return settings.FLOWER_BASIC_AUTH or generated(
        "FLOWER_BASIC_AUTH", f"myia:{secrets.token_urlsafe(18)}"
    )


def emulator_secret() -> str:
    """Return what the emulator wants from who switches its scenario: EMULATOR_CONTROL_SECRET, else
    a generated one.
    """
    return settings.EMULATOR_CONTROL_SECRET or generated(
        "EMULATOR_CONTROL_SECRET", secrets.token_urlsafe(18)
    )


def generated(name: str, new: str) -> str:
    """Return the secret of this name in `secrets_file()`, `new` and stored at the first call."""
    path = secrets_file()
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition("=")
            if key == name and value:
                return value
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
        file.write(f"{name}={new}\n")
    return new


def secrets_file() -> Path:
    """Return the file of the passwords generated for this installation; only its owner reads it."""
    return Path(settings.MYIA_DIR) / "secrets"
