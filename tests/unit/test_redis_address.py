"""Addresses of Redis and of its Sentinels."""

from __future__ import annotations

from typing import Any

import pytest

from certification.lib import redis_address, redis_client
from certification.lib.redis_client import Purpose

ADDRESS = "redis+sentinel://me:p%40ss%2C@one,two:26380,[::1]:26381/main/3"


def test_sentinels_share_one_address() -> None:
    known = redis_address.sentinels(f"{ADDRESS}?sentinel_password=other")
    assert known.hosts == (("one", 26379), ("two", 26380), ("::1", 26381))
    assert (known.service, known.database) == ("main", 3)
    assert known.server_options == {"db": 3, "username": "me", "password": "p@ss,"}
    assert known.sentinel_options["password"] == "other"
    secure = redis_address.sentinels("rediss+sentinel://one/main")
    assert secure.server_options["ssl"] is secure.sentinel_options["ssl"] is True


def test_kombu_gets_its_own_form() -> None:
    url, options = redis_address.for_kombu(ADDRESS)
    assert url == (
        "sentinel://me:p%40ss%2C@one:26379/3;sentinel://me:p%40ss%2C@two:26380/3;"
        "sentinel://me:p%40ss%2C@[::1]:26381/3"
    )
    assert options["master_name"] == "main"
    assert redis_address.for_kombu("unix://:x@/run/redis.sock?db=2") == (
        "redis+socket://:x@/run/redis.sock?virtual_host=2",
        {},
    )
    assert redis_address.for_kombu("redis://h:1/0") == ("redis://h:1/0", {})


@pytest.mark.parametrize(
    "rest",
    ["", "one", "one/", "/main", "one/main/3/4", "one/main/x", "one:0x/main", "one/main?a=1"],
)
def test_what_is_no_address_is_refused_without_its_password(rest: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        redis_address.sentinels(f"redis+sentinel://:hidden@{rest}")
    assert "hidden" not in str(caught.value)


def test_people_see_no_password() -> None:
    for address in (ADDRESS, "redis://:p@h:1/0", "postgresql://u:p@a:1,b:2/db?password=p"):
        assert "p@" not in redis_address.shown(address).replace("://", "@")
        assert "p%40" not in redis_address.shown(address)
    assert redis_address.shown(ADDRESS) == "redis+sentinel://one,two:26380,[::1]:26381"


def test_only_the_cache_may_be_elsewhere(settings: Any) -> None:
    settings.REDIS_URL, settings.CACHE_URL = "redis://queue:1/0", ""
    assert {redis_client.address(purpose) for purpose in Purpose} == {"redis://queue:1/0"}
    settings.CACHE_URL = "redis://cache:1/0"
    elsewhere = {p for p in Purpose if redis_client.address(p) == settings.CACHE_URL}
    assert elsewhere == {Purpose.CACHE}
