"""The shared brake: token buckets in Redis that appear when a route is throttled, slow it down and
let it go again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from certification.engine import limits
from certification.engine.limits import Limiter
from certification.lib import event_loop
from certification.lib.event_loop import Stop

REGION, ROUTE = "us-east-1", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CALL = 500  # tokens


class Clock:
    """The limiter's clocks, moved by hand: Redis's and the process's own."""

    def __init__(self, server: redis.Redis) -> None:
        self.server = server
        self.now = 1_000_000.0

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, seconds: float) -> None:
        self._now = seconds
        self.server.set("clock", seconds)

    def monotonic(self) -> float:
        return self._now


@pytest.fixture
def server(settings: Any) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushall()
    client.config_resetstat()
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def clock(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(server)
    by_hand = "local now = tonumber(redis.call('GET', 'clock'))"
    for script in ("TAKE", "THROTTLED"):
        text = getattr(limits, script)
        assert limits.CLOCK in text
        monkeypatch.setattr(limits, script, text.replace(limits.CLOCK, by_hand))
    monkeypatch.setattr(limits, "time", clock)
    return clock


def new_limiter() -> Limiter:
    """A worker's limiter on the tests' Redis."""
    return limits.connect(settings.REDIS_URL, max_connections=4)


def acquired(limiter: Limiter, *args: Any, **named: Any) -> bool:
    """Wait for so much of a route's budget, on the event loop."""
    return event_loop.run(limiter.acquire(*args, **named))


def passes(limiter: Limiter, tokens: int = CALL, route: str = ROUTE, region: str = REGION) -> bool:
    """Whether a call may go now, without waiting."""
    return acquired(limiter, region, route, tokens, Stop(), deadline=limits.time.monotonic())


def spend(limiter: Limiter, clock: Clock, per_second: int, seconds: int = 10) -> None:
    """So many tokens a second over some time, all of them let through."""
    for _ in range(seconds):
        assert passes(limiter, per_second)
        clock.now += 1


def let_through(limiters: list[Limiter], clock: Clock, seconds: int) -> int:
    """Tokens that pass in so many seconds when every worker asks for as much as it gets."""
    passed = 0
    for _ in range(seconds):
        clock.now += 1
        for limiter in limiters:
            while passes(limiter):
                passed += CALL
                assert passed < 1_000_000
    return passed


def rate(server: redis.Redis, route: str = ROUTE) -> float | None:
    """Tokens per second of a route's bucket; None without a bucket."""
    value = server.hget(f"myia:limit:{{{REGION}:{route}}}", "rate")
    return float(value) if value else None


def checks(server: redis.Redis) -> int:
    """How often the limiters asked for a bucket."""
    statistics: Any = server.info("commandstats")
    return int(statistics["cmdstat_evalsha"]["calls"])


def test_a_route_that_was_never_throttled_passes_everything(
    server: redis.Redis, clock: Clock
) -> None:
    limiter = new_limiter()
    assert all(passes(limiter, 100_000) for _ in range(50))
    assert rate(server) is None


def test_calls_that_come_together_need_one_check(server: redis.Redis, clock: Clock) -> None:
    limiter = new_limiter()

    async def come_together() -> list[bool]:
        stop, deadline = Stop(), limits.time.monotonic()
        calls = (limiter.acquire(REGION, ROUTE, CALL, stop, deadline) for _ in range(20))
        return await asyncio.gather(*calls)

    assert all(event_loop.run(come_together()))
    assert checks(server) == 1
    clock.now += limits.LEASE_S  # the next check counts what passed under the lease
    assert all(event_loop.run(come_together()))
    assert checks(server) == 2
    event_loop.run(limiter.throttled(REGION, ROUTE))
    spent = 40 * CALL
    assert rate(server) == pytest.approx(spent / limits.WINDOW_S / 2, rel=0.5)


def test_a_throttle_opens_a_bucket_at_half_of_what_was_spent(
    server: redis.Redis, clock: Clock
) -> None:
    limiter = new_limiter()
    spend(limiter, clock, per_second=4000)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert rate(server) == pytest.approx(2000, rel=0.25)
    assert not passes(limiter)


def test_every_worker_slows_down_when_one_is_throttled(server: redis.Redis, clock: Clock) -> None:
    one, other = new_limiter(), new_limiter()
    spend(one, clock, per_second=2000)
    spend(other, clock, per_second=2000)
    event_loop.run(one.throttled(REGION, ROUTE))
    allowed = rate(server)
    assert allowed
    clock.now += limits.LEASE_S  # as long as the other may not know
    let_through([one, other], clock, 1)
    passed = let_through([one, other], clock, 4) / 4
    assert allowed * 0.8 < passed < allowed * 1.8  # what is allowed grows by a tenth a second


def test_other_routes_and_regions_are_not_slowed(server: redis.Redis, clock: Clock) -> None:
    limiter = new_limiter()
    spend(limiter, clock, per_second=4000)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert not passes(limiter)
    assert passes(limiter, route="global.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert passes(limiter, region="eu-west-1")


def test_throttles_of_calls_that_were_in_flight_together_count_once(
    server: redis.Redis, clock: Clock
) -> None:
    limiter = new_limiter()
    spend(limiter, clock, per_second=8000)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    first = rate(server)
    for _ in range(20):
        event_loop.run(limiter.throttled(REGION, ROUTE))
    assert rate(server) == first


def test_each_further_throttle_halves_the_rate_down_to_a_floor(
    server: redis.Redis, clock: Clock
) -> None:
    limiter = new_limiter()
    spend(limiter, clock, per_second=8000)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    first = rate(server)
    assert first
    clock.now += limits.COOL_DOWN_S
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert rate(server) == pytest.approx(first / 2, rel=0.2)
    for _ in range(20):
        clock.now += limits.COOL_DOWN_S
        event_loop.run(limiter.throttled(REGION, ROUTE))
    assert rate(server) == limits.MIN_RATE


def test_a_route_recovers_and_its_bucket_goes_away(server: redis.Redis, clock: Clock) -> None:
    limiter = new_limiter()
    spend(limiter, clock, per_second=4000)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    rates = [rate(server) or 0]
    for _ in range(5):
        let_through([limiter], clock, 1)
        rates.append(rate(server) or 0)
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(rates[0] * 1.5, rel=0.05)
    let_through([limiter], clock, 1)
    clock.now += limits.RELEASE / limits.INCREASE
    assert passes(limiter, 100_000)
    assert rate(server) is None


def test_a_call_larger_than_the_burst_is_let_through_after_its_time(
    server: redis.Redis, clock: Clock
) -> None:
    limiter = new_limiter()
    for _ in range(10):
        event_loop.run(limiter.throttled(REGION, ROUTE))
        clock.now += limits.COOL_DOWN_S
    assert rate(server) == limits.MIN_RATE
    assert not passes(limiter, 4000)
    clock.now += 9
    assert passes(limiter, 4000)


def test_a_waiter_is_woken_by_a_stop(server: redis.Redis) -> None:
    limiter = new_limiter()
    event_loop.run(limiter.throttled(REGION, ROUTE))
    stop, answers = Stop(), []
    deadline = time.monotonic() + 600
    waiter = threading.Thread(
        target=lambda: answers.append(acquired(limiter, REGION, ROUTE, 1_000_000, stop, deadline))
    )
    waiter.start()
    stop.set()
    waiter.join(30)
    assert answers == [False]


def test_a_wait_beyond_the_deadline_ends_at_once(server: redis.Redis) -> None:
    limiter = new_limiter()
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert not acquired(limiter, REGION, ROUTE, 1_000_000, Stop(), time.monotonic() + 60)


def test_a_wait_before_the_deadline_is_waited_out(server: redis.Redis) -> None:
    limiter = new_limiter()
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert not acquired(limiter, REGION, ROUTE, 100, Stop(), time.monotonic())
    assert acquired(limiter, REGION, ROUTE, 100, Stop(), time.monotonic() + 60)


def test_without_redis_calls_pass(clock: Clock) -> None:
    limiter = limits.connect("redis://127.0.0.1:9/0", max_connections=2)
    assert all(passes(limiter) for _ in range(100))
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert passes(limiter)


def test_it_works_on_after_redis_lost_everything(server: redis.Redis, clock: Clock) -> None:
    limiter = new_limiter()
    spend(limiter, clock, per_second=4000)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    server.flushall()
    server.script_flush()
    clock.now += 0.0  # the clock by hand is in Redis too
    assert passes(limiter)
    clock.now += 2
    event_loop.run(limiter.throttled(REGION, ROUTE))
    assert rate(server)


def test_more_threads_than_connections_wait_for_one(settings: Any, server: redis.Redis) -> None:
    limiter = limits.connect(settings.REDIS_URL, max_connections=2)
    event_loop.run(limiter.throttled(REGION, ROUTE))
    answers: list[bool] = []

    def acquire() -> None:
        answers.append(acquired(limiter, REGION, ROUTE, 1, Stop(), time.monotonic() + 30))

    threads = [threading.Thread(target=acquire) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 32
