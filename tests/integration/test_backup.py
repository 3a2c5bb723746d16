"""Backups of the real database by pg_dump, and what comes back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from django.core.management import CommandError, call_command

from certification.lib.postgresql.patience import PatientConnection
from certification.models import AIModel
from certification.operations import archive, backup_key, backups, restore, server
from certification.operations.archive import BackupFault, Manifest
from certification.operations.backups import Backup
from tests.factories import start_job

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("_folders"),
    pytest.mark.slow,
]
VICTIM = "test_restored_into"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture
def _folders(settings: Any, folder: Path) -> None:
    settings.BACKUP_DIR, settings.PRIVATE_FOLDER = folder, folder / "private"


@pytest.fixture(scope="module")
def made(folder: Path, django_db_setup: None, django_db_blocker: Any) -> Backup:
    """One backup of the shipped catalogue, for all tests."""
    from django.conf import settings as django_settings  # noqa: PLC0415

    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(django_settings, "BACKUP_DIR", folder)
        patch.setattr(django_settings, "PRIVATE_FOLDER", folder / "private")
        patch.setattr(archive, "PIECE_BYTES", 1 << 16)  # so that it has some pieces
        return backups.make()


@pytest.fixture
def victim(made: Backup, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that takes the place of ours: backups are made of it and restored into it."""
    monkeypatch.setattr(server, "our_database", lambda: VICTIM)
    restore.replace(made.path)
    yield VICTIM
    with server.connect_cluster() as cluster:
        for name in server.names(cluster, VICTIM):
            server.drop(cluster, name)


def contents() -> dict[str, archive.Table]:
    with backups.snapshot(server.our_database()) as (moment, _snapshot):
        return backups.count_tables(moment)


def change(statement: str) -> None:
    with server.connect(server.our_database()) as connection:
        connection.execute(statement)


def databases() -> list[str]:
    with server.connect_cluster() as cluster:
        return server.names(cluster, VICTIM)


def test_every_row_comes_back(victim: str) -> None:
    change(
        "INSERT INTO certification_region (code, name, enabled, opt_in) VALUES ('x', 'é', 't', 'f')"
    )
    before = contents()
    backup = backups.make()
    change("DELETE FROM certification_route")
    change("UPDATE certification_region SET name = 'changed'")
    assert contents() != before
    done = restore.replace(backup.path)
    assert contents() == before
    assert sum(table.rows for table in before.values()) == done.rows > 1000
    assert databases() == sorted([victim, done.replaced])
    assert backup.path.stat().st_mode & 0o077 == 0


def test_a_dropped_database_comes_back(made: Backup, victim: str) -> None:
    before = contents()
    with server.connect_cluster() as cluster:
        server.drop(cluster, victim)
    restore.replace(made.path)
    assert contents() == before


STEPS = (
    "reading the backup",
    "creating a database",
    "restoring",
    "comparing rows and checksums",
    "swapping",
)


def test_killed_at_any_step_the_old_one_is_in_place(made: Backup, victim: str) -> None:
    """At each step, and while pieces are restored: before the swap nothing has changed."""
    change("UPDATE certification_region SET name = 'of today'")
    before, oid = contents(), oid_of(victim)
    for step in STEPS:
        assert killed(made.path, step) == signal.SIGKILL
        assert oid_of(victim) == oid, step
    for piece in (1, 3):
        assert killed(made.path, "", piece) == signal.SIGKILL
        assert oid_of(victim) == oid, piece
    assert contents() == before
    for step in ("between the renames", "before the commit"):
        assert killed(made.path, step) == signal.SIGKILL
        assert oid_of(victim) == oid, step
    assert killed(made.path, "swapped") == signal.SIGKILL
    assert oid_of(victim) != oid
    restore.replace(made.path)
    assert not [name for name in databases() if restore.RESTORING in name]


def oid_of(database: str) -> int:
    with server.connect_cluster() as cluster:
        row = cluster.execute("SELECT oid FROM pg_database WHERE datname = %s", [database])
        return int(row.fetchone()[0])  # type: ignore[index]


def killed(path: Path, step: str, piece: int = 0) -> int:
    """Restore in a child that is killed (SIGKILL) at a step or a piece of the dump; return the
    signal that ended it.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            kill_at(step, piece)
            restore.replace(path, lambda current: die() if current == step else None)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    wait_for_sessions_to_end()
    return os.WTERMSIG(status)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step: str, piece: int) -> None:
    """Have this process die inside a restore, where no step is announced."""
    whole, execute = archive.content, psycopg.Connection.execute
    passes = []

    def content(*arguments: Any) -> Iterator[bytes]:
        passes.append(1)
        for number, part in enumerate(whole(*arguments), 1):
            if len(passes) == 2 and number == piece:
                die()
            yield part

    def counted(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        answer = execute(self, query, *arguments, **options)
        text = query if isinstance(query, str) else query.as_string(self)
        if "RENAME" in text and (step == "between the renames" or REPLACES in text):
            die()
        return answer

    archive.content = content  # type: ignore[assignment]
    if step in ("between the renames", "before the commit"):
        psycopg.Connection.execute = counted  # type: ignore[method-assign]


REPLACES = f'RENAME TO "{VICTIM}"'


def wait_for_sessions_to_end() -> None:
    """Wait until the server has noticed that a client died: its lock goes with its session."""
    with server.connect_cluster() as cluster:
        cluster.execute("SELECT pg_advisory_lock(%s, 0)", [server.RESTORE_LOCK])
        cluster.execute("SELECT pg_advisory_unlock(%s, 0)", [server.RESTORE_LOCK])


def test_readers_go_on_while_it_restores(made: Backup, victim: str) -> None:
    """Whoever connects always gets a database, and every answer is a whole one."""
    rows = contents()["public.certification_region"].rows
    counts: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            query = "SELECT count(*) FROM certification_region"
            connection = PatientConnection.connect(**server.parameters())
            # the moment between connecting and asking may be that of the swap
            with contextlib.suppress(psycopg.errors.AdminShutdown), connection:
                counts.append(connection.execute(query).fetchone()[0])  # type: ignore[index]

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        restore.replace(made.path)
        during = len(counts)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert during > 0
    assert set(counts) == {rows}


def changed(made: Backup, path: Path, **values: Any) -> Path:
    """Write a backup again with another header or manifest, sealed with our key."""
    key = backup_key.current()
    manifest, pieces = archive.split_manifest(archive.content(made.path, key), "b")
    names = Manifest.__struct_fields__
    manifest = msgspec.structs.replace(manifest, **{n: v for n, v in values.items() if n in names})
    backups.write(path, made.header, key, manifest, pieces)
    return path


def test_what_cannot_be_restored_is_refused_before_anything_is_touched(
    made: Backup, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = backups.read_whole(made.path)
    whole = made.path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    (tmp_path / "truncated").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped").write_bytes(flipped)
    (tmp_path / "foreign").write_bytes(b"PGDMP" + whole)
    changed(made, tmp_path / "later", migrations=[*manifest.migrations, "certification.9999_later"])
    changed(made, tmp_path / "server", server=99)
    changed(made, tmp_path / "program", tables={"public.t": archive.Table(1, "1")})
    changed(made, tmp_path / "pg_dump", program=99)
    expected = {
        "truncated": "truncated or was changed",
        "flipped": "truncated or was changed",
        "foreign": "no backup of MyIA",
        "later": "later release: this one does not know certification.9999_later",
        "server": "PostgreSQL 99",
        "program": "tables of another program",
        "pg_dump": "pg_restore of PostgreSQL 99",
        "missing": "cannot be read",
    }
    monkeypatch.setattr(server, "create", lambda *_: pytest.fail("a database was created"))
    for name, sentence in expected.items():
        with pytest.raises(BackupFault, match=sentence):
            restore.replace(tmp_path / name)
    monkeypatch.setattr(backup_key, "current", lambda: b"x" * 32)
    with pytest.raises(archive.WrongKey):
        restore.replace(made.path)


def test_a_backup_that_comes_back_otherwise_is_no_backup(made: Backup, tmp_path: Path) -> None:
    manifest = backups.read_whole(made.path)
    tables = manifest.tables | {"public.certification_region": archive.Table(1, "1")}
    path = changed(made, tmp_path / "b", tables=tables)
    with pytest.raises(BackupFault, match=r"public\.certification_region differ"):
        restore.drill(path)
    with server.connect_cluster() as cluster:
        assert not server.names(cluster, server.our_database() + restore.RESTORING)


def test_an_older_backup_is_brought_up_to_date(made: Backup, victim: str, tmp_path: Path) -> None:
    # a migration that nothing depends on and that changes no table
    name = "0003_logentry_add_action_flag_choices"
    change(f"DELETE FROM django_migrations WHERE app = 'admin' AND name = '{name}'")
    old = backups.make()
    done = restore.replace(old.path)
    assert done.migrated == 1
    with server.connect() as connection:
        assert f"admin.{name}" in backups.read_manifest(connection, 0).migrations


def backup_of(path: Path, at: datetime) -> Backup:
    return Backup(path, archive.Header(at.isoformat(), "1.0", "myia", archive.PLAIN), 1)


def test_days_weeks_and_months_are_needed() -> None:
    now = datetime(2026, 11, 30, 4, tzinfo=UTC)
    year = [backup_of(Path(f"{days}"), now - timedelta(days=days)) for days in range(365)]
    year.append(backup_of(Path("later"), now + timedelta(hours=8)))
    assert [f"{b.created_at:%m-%d %H}" for b in backups.needed(year)] == [
        *("11-29 04", "11-28 04", "11-27 04", "11-26 04", "11-25 04", "11-24 04", "11-22 04"),
        *("11-15 04", "10-31 04", "09-30 04", "08-31 04", "07-31 04", "06-30 04", "05-31 04"),
        *("04-30 04", "03-31 04", "02-28 04", "01-31 04", "12-31 04", "11-30 12"),
    ]


def test_rotation_deletes_nothing_else(settings: Any, tmp_path: Path, made: Backup) -> None:
    settings.BACKUP_DIR = tmp_path
    settings.BACKUP_KEEP_DAILY, settings.BACKUP_KEEP_WEEKLY = 2, 0
    settings.BACKUP_KEEP_MONTHLY = 0
    for day in (1, 2, 3):
        header = msgspec.structs.replace(made.header, created_at=f"2026-11-0{day}T04:00:00+00:00")
        backups.write(tmp_path / f"{day}.backup", header, None, Manifest([], {}, 18, 18, 0), [])
    others = {"notes.txt", "broken.backup", "half.backup.part"}
    for name in others:
        (tmp_path / name).write_text("not a backup")
    assert [b.path.name for b in backups.stored()] == ["3.backup", "2.backup", "1.backup"]
    assert [b.path.name for b in backups.rotate(dry_run=True)] == ["1.backup"]
    assert len(backups.stored()) == 3
    backups.rotate()
    assert {path.name for path in tmp_path.iterdir()} == {"2.backup", "3.backup"} | others


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = 0
    try:
        call_command(*arguments, "--json")
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_the_commands(
    made: Backup, settings: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings.BACKUP_DIR = tmp_path / "backups"
    copy = backups.folder() / made.path.name
    copy.write_bytes(made.path.read_bytes())
    code, listed = run(capsys, "backup", "list")
    assert (code, listed["backups"][-1]["file"]) == (0, made.path.name)
    assert listed["backups"][-1]["key"] == run(capsys, "backup", "key")[1]["key"]
    assert run(capsys, "backup", "verify", made.path.name, "--quick") == (
        0,
        {"file": str(copy), "well": True, "fault": None},
    )
    whole = made.path.read_bytes()
    (tmp_path / "b").write_bytes(whole[:-1])
    code, answer = run(capsys, "backup", "verify", str(tmp_path / "b"))
    assert (code, answer["well"]) == (1, False)
    assert run(capsys, "backup", "--dry-run")[1] == {"backup": None, "removed": [], "dryRun": True}
    code, answer = run(capsys, "restore", "newest", "--dry-run")
    assert (answer["dryRun"], answer["migrated"]) == (True, 0)
    assert list(backups.folder().iterdir()) == [copy]
    for arguments in (["restore", "nosuch"], ["restore", "a/b"]):
        with pytest.raises(CommandError) as refused:
            call_command(*arguments)
        assert refused.value.returncode == 2


def test_it_is_refused_while_runs_are_at_work(made: Backup, catalogue: None) -> None:
    start_job([AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")], ["us-east-1"])
    with pytest.raises(CommandError, match="1 run wait or are at work"):
        call_command("restore", str(made.path), "--dry-run")
    call_command("restore", str(made.path), "--dry-run", "--while-running")


def test_without_a_key_of_its_own_nothing_is_made_for_reading(
    settings: Any, tmp_path: Path
) -> None:
    settings.PRIVATE_FOLDER = tmp_path / "none"
    assert backup_key.current() is None
    assert not (tmp_path / "none").exists()
    made = backup_key.current(create=True)
    assert backup_key.current() == backup_key.current(create=True) == made
    backup_key.own_file().chmod(0o644)
    with pytest.raises(BackupFault, match="chmod 600"):
        backup_key.current()


@pytest.mark.parametrize("text", ["", "short", "é", "YQ==", "!" * 44])
def test_a_key_that_is_none_is_a_sentence(settings: Any, tmp_path: Path, text: str) -> None:
    settings.BACKUP_KEY_FILE = str(tmp_path / "key")
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(BackupFault, match="openssl rand"):
        backup_key.current()
