"""The circuit breaker: Redis is left alone for a while after it did not answer."""

from __future__ import annotations

import time

from redis.exceptions import ConnectionError as RedisDown

from certification.lib.circuit_breaker import CircuitBreaker
from certification.lib.redis_client import Purpose


def fail() -> str:
    raise RedisDown("refused")


def test_it_opens_after_a_failure_and_closes_after_its_time() -> None:
    breaker = CircuitBreaker(Purpose.CACHE, open_s=1.0)
    assert breaker.call(lambda: "value", "fallback") == "value"
    assert breaker.call(fail, "fallback") == "fallback"
    assert breaker.is_open
    assert breaker.call(lambda: "value", "fallback") == "fallback"
    time.sleep(1.01)
    assert breaker.call(lambda: "value", "fallback") == "value"


def test_closing_it_tries_redis_at_once() -> None:
    breaker = CircuitBreaker(Purpose.CACHE, open_s=60)
    breaker.record_failure(RedisDown("refused"))
    breaker.close()
    assert breaker.call(lambda: "value", "fallback") == "value"


def test_breakers_are_independent() -> None:
    cache, limits = CircuitBreaker(Purpose.CACHE, 60), CircuitBreaker(Purpose.LIMITS, 60)
    cache.record_failure(RedisDown("refused"))
    assert not limits.is_open
