"""Reading from a real replica, and going on with it when the first server is gone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.test import RequestFactory

from certification.lib import clock
from certification.lib.postgresql import hosts, replica
from certification.lib.postgresql.patience import PatientConnection
from certification.models import Region, sql
from certification.web import read_replica
from myia.environment import Environment
from tests.processes import wait_until
from tests.replication import Replicated

pytestmark = pytest.mark.slow
WHICH = "SELECT pg_is_in_recovery() AS is_replica"


@pytest.fixture(scope="module")
def servers_of_two(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    replicated = Replicated(tmp_path_factory.mktemp("replicated"))
    yield replicated
    replicated.stop()


@pytest.fixture
def two(
    servers_of_two: Replicated,
    settings: Any,
    django_db_blocker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Replicated]:
    """The product's databases are these two servers, which have the table of the regions."""
    settings.DATABASE_ROUTERS = ["certification.lib.postgresql.replica.Router"]
    monkeypatch.setattr(replica, "freshness", replica.Freshness())
    first, second = servers_of_two.primary_port, servers_of_two.replica_port
    before = connections["default"], connections.settings["default"]
    own = connections.configure_settings(
        {
            "default": address(f"127.0.0.1:{first},127.0.0.1:{second}"),
            "replica": address(f"127.0.0.1:{second}"),
        }
    )
    with django_db_blocker.unblock():
        before[0].close()
        before[0].close_pool()  # type: ignore[attr-defined]  # pools are known by alias alone
        for alias, values in own.items():
            connections.settings[alias] = values
            connections[alias] = connections.create_connection(alias)
        try:
            if Region._meta.db_table not in connection.introspection.table_names():
                with connection.schema_editor() as editor:
                    editor.create_model(Region)
            made = clock.now().timestamp()
            wait_until(lambda: reads_replica(made), "the replica has the table")
            yield servers_of_two
        finally:
            for alias in own:
                connections[alias].close()
                connections[alias].close_pool()  # type: ignore[attr-defined]
            connections["default"], connections.settings["default"] = before
            del connections["replica"], connections.settings["replica"]


def address(servers: str) -> dict[str, Any]:
    config = Environment().database(f"postgresql://postgres@{servers}/postgres")
    config["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 2, "timeout": 5}
    return {"TIME_ZONE": None, "CONN_MAX_AGE": 0, **config}


def codes() -> list[str]:
    return sorted(Region.objects.values_list("code", flat=True))


def reads_replica(since: float = 0) -> bool:
    """Whether statements and the ORM go to the replica for who must see what is that old."""
    with replica.reading(since) as is_fresh:
        row = sql.fetch_one(WHICH)
        assert row == {"is_replica": is_fresh}
        assert Region.objects.all().db == ("replica" if is_fresh else "default")
        return is_fresh


def test_lists_are_read_from_the_replica_while_it_is_fresh(
    two: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sql.fetch_one(WHICH) == {"is_replica": False}  # nobody asked for the replica
    with two.connect(two.replica_port) as server:
        server.execute("SELECT pg_wal_replay_pause()")
        wait_until(
            lambda: (
                server.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",)
            ),
            "the replica stands still",
        )
        Region.objects.create(code="xx-test-1", name="Test")
        written = clock.now().timestamp()
        monkeypatch.setattr(replica, "MAX_LAG_S", math.inf)
        assert reads_replica()  # who may see what was there before
        assert replica.read(0, codes) == []
        assert not reads_replica(written)  # who must see the new one
        assert replica.read(written, codes) == ["xx-test-1"]
        monkeypatch.setattr(replica, "MAX_LAG_S", -1)
        assert not reads_replica()  # it is too far behind
        monkeypatch.undo()
        monkeypatch.setattr(replica, "freshness", replica.Freshness())
        server.execute("SELECT pg_wal_replay_resume()")
    wait_until(lambda: reads_replica(written), "the replica has it")
    assert replica.read(written, codes) == ["xx-test-1"]


def test_what_a_transaction_reads_is_the_primary_s(two: Replicated) -> None:
    with replica.reading(0), transaction.atomic():
        assert Region.objects.all().db == "default"
        assert sql.fetch_one(WHICH) == {"is_replica": False}


def test_a_session_reads_its_own_changes(two: Replicated) -> None:
    """Of a session without changes the replica is read; after one, only what has it."""
    request = RequestFactory().post("/jobs/new/")
    request.COOKIES["sessionid"] = "of-a-reader"
    assert read_replica.last_write(request) == 0
    read_replica.note_write(request)
    assert 0 < read_replica.last_write(request) <= clock.now().timestamp()
    request.COOKIES["sessionid"] = "of-another"
    assert read_replica.last_write(request) == 0


def test_a_failover_is_a_new_connection(two: Replicated) -> None:
    """The last test of these servers: the first one is gone afterwards."""
    options = connection.get_connection_params() | {"autocommit": True}
    options.pop("pool", None)
    with PatientConnection.connect(**options) as first:
        assert first.info.port == two.primary_port
    only = options | {"host": "127.0.0.1", "port": str(two.replica_port)}
    with PatientConnection.connect(**only | {"target_session_attrs": "any"}) as demoted:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            demoted.execute("DELETE FROM certification_region")
        assert demoted.closed  # whoever uses it next gets another server
    expected = codes()
    two.kill("primary")
    two.promote()

    def answers() -> bool:
        connection.close()
        return codes() == expected

    wait_until(answers, "the second server answers")
    Region.objects.create(code="xx-test-2", name="Test")
    assert connection.connection.info.port == two.replica_port
    assert hosts.last_first(options)["port"].startswith(str(two.replica_port))
