"""Addresses of a database with several servers."""

from __future__ import annotations

import pytest
from django.conf import settings

from certification.lib.postgresql import hosts
from certification.lib.postgresql.patience import PatientConnection
from myia.environment import Environment


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://me:p%40ss@one/db", "one", ""),
        ("postgresql://me:p%40ss@one:6432/db", "one", 6432),
        ("postgresql://me:p%40ss@one,two/db", "one,two", "5432,5432"),
        ("postgresql://me:p%40ss@one,two:5433/db", "one,two", "5432,5433"),
        ("postgresql://me:p%40ss@one:1,[::1]:2,three/db", "one,::1,three", "1,2,5432"),
        ("postgresql://me:p%40ss@/db?host=/one", "/one", ""),
        ("postgresql://me:p%40ss@/db?host=/one,/two", "/one,/two", ""),
    ],
)
def test_an_address_names_one_server_or_several(url: str, host: str, port: int | str) -> None:
    config = Environment().database(url)
    assert (config["HOST"], config["PORT"]) == (host, port)
    assert (config["NAME"], config["USER"], config["PASSWORD"]) == ("db", "me", "p@ss")
    several = {"target_session_attrs": "read-write", "connect_timeout": 2}
    assert config["OPTIONS"] == (several if "," in host else {})


def test_what_the_address_says_comes_first() -> None:
    config = Environment().database(
        "postgresql://a@b,c/d?target_session_attrs=any&connect_timeout=9"
    )
    assert config["OPTIONS"] == {"target_session_attrs": "any", "connect_timeout": 9}


def test_each_server_has_its_port() -> None:
    assert hosts.split("one", "") == [("one", "5432")]
    assert hosts.split("one,two", 6432) == [("one", "6432"), ("two", "6432")]
    assert hosts.split("one,two", "1,2") == [("one", "1"), ("two", "2")]
    assert hosts.split("", "") == [("", "5432")]


def test_the_server_that_answered_last_is_tried_first(servers: None) -> None:
    database = settings.DATABASES["default"]
    options = {
        "host": f"/nowhere,{database['HOST']}",
        "port": "5432,5432",
        "dbname": "postgres",
        "user": database["USER"],
        "password": database["PASSWORD"],
        "target_session_attrs": "read-write",
    }
    assert hosts.last_first(options) == options
    with PatientConnection.connect(**options) as connection:
        assert connection.info.host == database["HOST"]
    assert hosts.last_first(options)["host"] == f"{database['HOST']},/nowhere"
    assert hosts.last_first({**options, "host": "/other"})["host"] == "/other"
