"""Limit the rate of calls: one token bucket per region and route, shared by every worker through
Redis.

A bucket exists only once Bedrock has throttled its route. Each throttle halves the rate it allowed
until then, each second without one adds to it (AIMD); when the rate has grown back well past where
it was cut, the bucket goes away. While a route has no bucket, one call of a process checks for one
every LEASE_S, and the others pass in between: for so long it may miss a throttle that another
worker saw. Bedrock reserves input plus `maxTokens` of a call against the quota, so that is what a
call costs here. Without Redis the limiter lets calls pass: Bedrock's own throttling is then the
only brake.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import redis.asyncio as redis
import structlog

from certification.lib import redis_client
from certification.lib.circuit_breaker import CircuitBreaker
from certification.lib.event_loop import Stop
from certification.lib.redis_client import UNAVAILABLE, Purpose

log = structlog.get_logger(__name__)

WINDOW_S = 5.0  # over which the tokens of a route are counted before its first throttle
MIN_RATE = 500.0  # tokens per second: a probing call every few seconds, whatever happens
DECREASE = 0.5
INCREASE = 0.1  # of the rate at the cut, per second without a throttle
RELEASE = 2.0  # times the rate at the cut: from here on the bucket is not needed
MAX_BURST_S = 2.0
TTL_S = 600
LEASE_S = 1.0
COOL_DOWN_S = 1.0  # throttles of calls that were in flight together count as one

FREE = -1
# Redis's own clock: workers' clocks differ, and a bucket is shared.
CLOCK = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
"""
# KEYS: bucket, spent. ARGV: cost, tokens spent since under a lease.
# Answers the milliseconds to wait before trying again; 0 = go; FREE = go, and there is no bucket.
TAKE = (
    CLOCK
    + """
local b = redis.call('HMGET', KEYS[1], 'rate', 'cut', 'level', 'at')
local cost, leased = tonumber(ARGV[1]), tonumber(ARGV[2])
local spent = KEYS[2] .. ':' .. math.floor(now / %(window)d)
redis.call('INCRBYFLOAT', spent, cost + leased)
redis.call('EXPIRE', spent, 3 * %(window)d)
if not b[1] then return -1 end
local rate, cut, level, at = tonumber(b[1]), tonumber(b[2]), tonumber(b[3]), tonumber(b[4])
local passed = math.max(0, now - at)
rate = rate + cut * %(increase)f * passed
if rate > cut * %(release)f then redis.call('DEL', KEYS[1]) return -1 end
local burst = math.max(rate * %(burst)f, cost)
level = math.min(burst, level + rate * passed)
local wait = 0
if level >= cost then level = level - cost
else
  wait = math.ceil((cost - level) / rate * 1000)
  redis.call('INCRBYFLOAT', spent, -cost)
end
redis.call('HSET', KEYS[1], 'rate', rate, 'level', level, 'at', now)
redis.call('EXPIRE', KEYS[1], %(ttl)d)
return wait
"""
    % {
        "window": WINDOW_S,
        "increase": INCREASE,
        "release": RELEASE,
        "burst": MAX_BURST_S,
        "ttl": TTL_S,
    }
)

# KEYS: bucket, spent. ARGV: tokens spent since under a lease. Halves the rate, or opens the
# bucket at half of what was spent lately. Answers the new rate.
THROTTLED = (
    CLOCK
    + """
local leased = tonumber(ARGV[1])
local b = redis.call('HMGET', KEYS[1], 'rate', 'thrown')
local rate = tonumber(b[1])
if rate and b[2] and now - tonumber(b[2]) < %(cool)f then return tostring(rate) end
if not rate then
  local slot = math.floor(now / %(window)d)
  local sum = leased + tonumber(redis.call('GET', KEYS[2] .. ':' .. slot) or 0)
            + tonumber(redis.call('GET', KEYS[2] .. ':' .. (slot - 1)) or 0)
  rate = sum / (%(window)d + now - slot * %(window)d)
end
rate = math.max(%(least)f, rate * %(decrease)f)
redis.call('HSET', KEYS[1], 'rate', rate, 'cut', rate, 'level', 0, 'at', now, 'thrown', now)
redis.call('EXPIRE', KEYS[1], %(ttl)d)
return tostring(rate)
"""
    % {
        "window": WINDOW_S,
        "least": MIN_RATE,
        "decrease": DECREASE,
        "ttl": TTL_S,
        "cool": COOL_DOWN_S,
    }
)


@dataclass
class _Lease:
    """Until when (monotonic) calls of a route pass without a check, and the tokens of those that
    did. Whoever checks holds `check`, so that calls which come together need one.
    """

    expires_at: float = 0.0
    spent: int = 0
    check: asyncio.Lock = field(default_factory=asyncio.Lock)

    def spend(self, tokens: int) -> bool:
        """Let a call pass if the lease holds; its tokens are counted at the next check."""
        if time.monotonic() >= self.expires_at:
            return False
        self.spent += tokens
        return True

    def end(self) -> int:
        """End the lease. Returns what was spent under it, unless that is too long ago to matter."""
        is_recent = time.monotonic() < self.expires_at + WINDOW_S
        spent = self.spent if is_recent else 0
        self.expires_at, self.spent = 0.0, 0
        return spent


PREFIX = "myia:limit"


def bucket_key(region: str, target_id: str, prefix: str = PREFIX) -> str:
    """Return the Redis key of a route's bucket."""
    return f"{prefix}:{{{region}:{target_id}}}"


def slowed(routes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Return the rate, in tokens per second, of those of these routes (region, target id) that
    Bedrock throttled and that are still slowed down; none while Redis is unavailable.
    """
    named = list(dict.fromkeys(routes))
    if not named:
        return {}
    pipeline = redis_client.client(Purpose.LIMITS).pipeline(transaction=False)
    for route in named:
        pipeline.hget(bucket_key(*route), "rate")
    try:
        rates = pipeline.execute()
    except UNAVAILABLE:
        return {}
    return {route: float(rate) for route, rate in zip(named, rates, strict=True) if rate}


@dataclass
class Limiter:
    """The shared buckets, for use on the event loop. A `stop` ends a wait."""

    client: redis.Redis
    prefix: str = PREFIX
    breaker: CircuitBreaker = field(
        default_factory=lambda: CircuitBreaker(Purpose.LIMITS, open_s=1.0)
    )
    _take: object = field(init=False)
    _throttled: object = field(init=False)
    _leases: defaultdict[str, _Lease] = field(
        init=False, default_factory=lambda: defaultdict(_Lease)
    )

    def __post_init__(self) -> None:
        self._take = self.client.register_script(TAKE)
        self._throttled = self.client.register_script(THROTTLED)

    async def acquire(
        self, region: str, target_id: str, tokens: int, stop: Stop, deadline: float
    ) -> bool:
        """Wait for `tokens` of the route's budget. False when stopped or past `deadline` (monotonic
        seconds) first.
        """
        key = self.key(region, target_id)
        lease = self._leases[key]
        while not stop.is_set():
            if lease.spend(tokens):
                return True
            async with lease.check:
                if lease.spend(tokens):  # another call has checked meanwhile
                    return True
                wait_ms = await self.evaluate(self._take, key, tokens, lease.end())
                if wait_ms == FREE:
                    lease.expires_at = time.monotonic() + LEASE_S
            if wait_ms <= 0:
                return True
            wait_s = wait_ms / 1000
            if time.monotonic() + wait_s > deadline:
                return False
            await stop.wait(min(wait_s, 5.0))
        return False

    async def throttled(self, region: str, target_id: str) -> None:
        """Slow every worker down: Bedrock refused a call of this route for its rate."""
        key = self.key(region, target_id)
        rate = await self.evaluate(self._throttled, key, self._leases[key].end())
        log.info("route_throttled", region=region, route=target_id, rate=round(rate, 1))

    def key(self, region: str, target_id: str) -> str:
        """Return the Redis key of a route's bucket."""
        return bucket_key(region, target_id, self.prefix)

    async def evaluate(self, script: object, key: str, *arguments: float) -> float:
        """Run one of the scripts on a bucket. 0 without Redis: the call may go."""
        if self.breaker.is_open:
            return 0.0
        try:
            answer = await script(  # type: ignore[operator]
                keys=[key, f"{key}:spent"], args=arguments
            )
            return float(answer)
        except UNAVAILABLE as error:
            self.breaker.record_failure(error)
            return 0.0


def connect(url: str, max_connections: int) -> Limiter:
    """Return a limiter on the Redis at `url`; calls wait for a connection when all are in use."""
    return Limiter(
        redis_client.async_client(Purpose.LIMITS, url=url, max_connections=max_connections)
    )
