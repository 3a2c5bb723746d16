"""Call a model for one run: the route that calls take, the rate limit before each, and the only
retry loop of the system.
"""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import structlog

from certification.bedrock.client import NOT_EXPRESSIBLE, Bedrock
from certification.bedrock.errors import BedrockError
from certification.engine.journal import RunJournal, StoredAttempt, StoredCall
from certification.engine.limits import Limiter
from certification.inference import (
    AnyRequest,
    EmbedRequest,
    Endpoint,
    Failure,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    RouteTarget,
    Text,
    Timing,
    ToolUse,
)
from certification.lib import clock
from certification.lib.counters import Histogram, counters
from certification.lib.event_loop import Stop
from certification.reasons import ErrorCategory, Reason

log = structlog.get_logger(__name__)

CALLS, THROTTLES = "bedrock_calls_total", "bedrock_throttles_total"
EDGES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0)
DURATION = Histogram("bedrock_call_duration_seconds", EDGES)
FIRST_TOKEN = Histogram("bedrock_time_to_first_token_seconds", EDGES)

MAX_ATTEMPTS = 4  # of one call
MAX_UNEXPECTED = 2  # of one call or trial that our own program fails on
CLAIM_POLL_S = 0.05
BACKOFF_S = (0.4, 1.2, 3.0)
MAX_UNEXPECTED_TEXT, MAX_TRACEBACK = 500, 6000  # characters
# Refusals of the route, not of the model: the next route may work. The access gate sends only text:
# where it is told that a kind of input is not supported, it is the API that does not fit.
ROUTE_REFUSALS = frozenset(
    {
        Reason.API_NOT_SUPPORTED,
        Reason.MODALITY_NOT_SUPPORTED,
        Reason.NEEDS_INFERENCE_PROFILE,
        Reason.NEEDS_PROVISIONED_THROUGHPUT,
        Reason.NOT_IN_REGION,
        Reason.SCP_DENIED,
        Reason.UNKNOWN_MODEL,
        Reason.WRONG_ROUTE,
    }
)


class Stopped(Exception):
    """The run must not go on: it was cancelled, is lost, or is handed back."""


class NoVerdict(Exception):
    """The run ends before anything can be judged: `failure` says why, and `calls` how many calls
    there were.
    """

    def __init__(self, failure: Failure, calls: int) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.calls = calls


class Unauthenticated(NoVerdict):
    """Our credentials do not work."""


@dataclass(frozen=True)
class Attempt:
    """One call as it was sent and its outcome, retries included."""

    request: AnyRequest
    outcome: Outcome
    number: int
    at: str  # ISO 8601, UTC
    route: RouteTarget


class NextStep(Enum):
    """What to do after a failed attempt."""

    RETRY = "retry"
    NEXT_ROUTE = "next route"
    GIVE_UP = "give up"
    ABORT = "abort the run"


def is_route_refusal(failure: Failure, route: RouteTarget) -> bool:
    """Tell whether a failure is about the way that a model was called, not about the model.

    A region without bedrock-mantle has no address of it.
    """
    is_absent = failure.reason is Reason.DNS and route.endpoint is Endpoint.MANTLE
    return is_absent or failure.reason in ROUTE_REFUSALS


def next_step(
    failure: Failure,
    route: RouteTarget,
    failures: int,
    *,
    max_attempts: int,
    has_next_route: bool,
) -> NextStep:
    """Decide what to do after a failed attempt, the call's `failures`th on this route."""
    reason = failure.reason
    if reason.category == ErrorCategory.AUTHENTICATION_ERROR:
        return NextStep.ABORT
    if reason is Reason.UNEXPECTED_EXCEPTION:
        return NextStep.RETRY if failures < MAX_UNEXPECTED else NextStep.GIVE_UP
    if has_next_route and is_route_refusal(failure, route):
        return NextStep.NEXT_ROUTE
    # A broken answer is evidence about the model and stays one; only what says nothing about it is
    # tried again.
    if reason.retryable and reason.facts.is_infrastructure and failures < max_attempts:
        return NextStep.RETRY
    return NextStep.GIVE_UP


@dataclass
class Caller:
    """Calls one model in one region for one run, on the event loop.

    `routes` are tried in order until `route_settled`; `deadline` is on the clock of time.monotonic.
    `attempts` collects every attempt of the run, `retries` counts the repeated ones, `refusals`
    the refusals of the routes that were left, in order. `journal` stores what ended.
    `is_confirmed` tells whether the run was ours lately.
    """

    bedrock: Bedrock
    limiter: Limiter
    region: str
    routes: Sequence[RouteTarget]
    deadline: float
    stop: Stop
    journal: RunJournal | None = None
    is_confirmed: Callable[[], bool] = lambda: True
    attempts: list[Attempt] = field(default_factory=list)
    retries: int = 0
    refusals: dict[RouteTarget, Failure] = field(default_factory=dict)
    route_settled: bool = False
    endpoint_down: bool = False
    _position: int = 0

    @property
    def route(self) -> RouteTarget:
        """The route that calls take now."""
        return self.routes[self._position]

    async def call(
        self, request: AnyRequest, attempts: list[Attempt], max_attempts: int = MAX_ATTEMPTS
    ) -> Outcome:
        """Make one call, again where that may help; its attempts are added to `attempts`.

        Errors come back as Failure. Raises Stopped between attempts, and Unauthenticated.
        """
        number, failures = 0, 0
        while True:
            await self.wait_for_claim()
            if self.stop.is_set():
                raise Stopped
            number += 1
            route = self.route
            outcome, retry_after_s = await self.attempt(request, route)
            if isinstance(outcome, Failure) and outcome.code == NOT_EXPRESSIBLE:
                return outcome  # nothing was called
            count_call(self.region, outcome)
            attempt = Attempt(request, outcome, number, now(), route)
            attempts.append(attempt)
            self.attempts.append(attempt)
            if not isinstance(outcome, Failure):
                self.endpoint_down = False
                return outcome
            failures += 1
            is_network_error = outcome.reason.category == ErrorCategory.NETWORK_ERROR
            if failures >= MAX_ATTEMPTS and is_network_error:
                # the run's other calls try once: no minutes are spent on a dead endpoint
                self.endpoint_down = True
            step = next_step(
                outcome,
                route,
                failures,
                max_attempts=1 if self.endpoint_down else max_attempts,
                # only the access gate runs while no route is settled
                has_next_route=not self.route_settled and self._position + 1 < len(self.routes),
            )
            if step is NextStep.ABORT:
                raise Unauthenticated(outcome, len(self.attempts))
            if not self.route_settled and is_route_refusal(outcome, route):
                self.refusals[route] = outcome
            if step is NextStep.NEXT_ROUTE:
                self._position += 1
                failures -= 1  # a refused route is no attempt that failed
                continue
            if step is NextStep.GIVE_UP or not await self.pause(failures, retry_after_s):
                return outcome
            self.retries += 1

    async def wait_for_claim(self) -> None:
        """Wait until the run is known to be ours, or it stops, or its deadline comes."""
        while not (self.is_confirmed() or self.stop.is_set() or time.monotonic() > self.deadline):
            await self.stop.wait(CLAIM_POLL_S)

    async def attempt(self, request: AnyRequest, route: RouteTarget) -> tuple[Outcome, float]:
        """Send a request once, as soon as the route's rate limit lets it. Returns also for how many
        seconds the service asks not to be called again.
        """
        tokens, bucket = reserved_tokens(request), bucket_of(route)
        if not await self.limiter.acquire(self.region, bucket, tokens, self.stop, self.deadline):
            if self.stop.is_set():
                raise Stopped
            message = (
                "The run reached its deadline before the route's rate limit allowed another call."
            )
            return Failure(Reason.DEADLINE, message, operation=request.operation), 0.0
        started = time.perf_counter()
        remaining_s = self.deadline - time.monotonic()
        try:
            return await self.bedrock.send(self.region, route, request, remaining_s), 0.0
        except BedrockError as error:
            if error.category == ErrorCategory.RATE_LIMIT:
                await self.limiter.throttled(self.region, bucket)
            elapsed = Timing((time.perf_counter() - started) * 1000)
            return error.to_failure(elapsed), error.retry_after_s or 0.0
        except Exception as error:  # a fault of ours costs this call, not the run
            log.exception("call_crashed", region=self.region, route=str(route))
            return unexpected(error, request.operation), 0.0

    def repeat(
        self, stored: StoredCall, request: AnyRequest, attempts: list[Attempt]
    ) -> Outcome | None:
        """Take a call over that an earlier claim of the run made, instead of making it. None when
        it does not fit the request or the routes of now.
        """
        last = stored.attempts[-1]
        if last.outcome.operation != request.operation or last.route not in self.routes:
            return None
        for old in stored.attempts:
            attempt = Attempt(request, old.outcome, old.number, old.at, old.route)
            attempts.append(attempt)
            self.attempts.append(attempt)
            failure = old.outcome if isinstance(old.outcome, Failure) else None
            if failure and not self.route_settled and is_route_refusal(failure, old.route):
                self.refusals[old.route] = failure
            elif failure and old is not last:
                self.retries += 1
        if not self.route_settled:
            self._position = self.routes.index(last.route)
        return last.outcome

    def store(self, case_id: str, trial: int, number: int, attempts: Sequence[Attempt]) -> None:
        """Store a call that ended, the `number`th of its trial."""
        if self.journal and attempts:
            taken = tuple(StoredAttempt(a.outcome, a.number, a.at, a.route) for a in attempts)
            self.journal.add(StoredCall(case_id, trial, number, taken))

    async def pause(self, failures: int, at_least_s: float) -> bool:
        """Wait before the next attempt, jittered. False when the deadline or a stop comes first."""
        seconds = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * random.uniform(0.5, 1.5)
        seconds = max(seconds, at_least_s)
        if time.monotonic() + seconds > self.deadline:
            return False
        return not await self.stop.wait(seconds)

    def texts(self) -> tuple[str, ...]:
        """Return every text that the model wrote so far."""
        return tuple(text for a in self.attempts for text in texts_of(a.outcome))


def texts_of(outcome: Outcome) -> Iterator[str]:
    """Yield what a model wrote, block by block: text, reasoning, arguments of tool calls; also of
    an answer that broke off.
    """
    reply = outcome.partial if isinstance(outcome, Failure) else outcome
    for block in reply.content if isinstance(reply, Reply) else ():
        if isinstance(block, Text | Reasoning):
            yield block.text
        elif isinstance(block, ToolUse):
            yield block.raw_input or json.dumps(block.input, ensure_ascii=False)


def count_call(region: str, outcome: Outcome) -> None:
    """Count a call that was sent, for the metrics."""
    failure = outcome if isinstance(outcome, Failure) else None
    labels = {"region": region, "operation": str(outcome.operation)}
    counters.add(CALLS, {**labels, "outcome": str(failure.reason) if failure else "ok"})
    if failure and failure.reason.category == ErrorCategory.RATE_LIMIT:
        counters.add(THROTTLES, {"region": region})
    if outcome.timing is not None:
        counters.observe(DURATION, outcome.timing.total_ms / 1000, labels)
        if outcome.timing.ttft_ms is not None:
            counters.observe(FIRST_TOKEN, outcome.timing.ttft_ms / 1000, labels)


def unexpected(error: Exception, operation: Operation) -> Failure:
    """Return the failure for an exception of our own program, with where it was raised."""
    return Failure(
        Reason.UNEXPECTED_EXCEPTION,
        f"Our own program failed: {type(error).__name__}: {error}"[:MAX_UNEXPECTED_TEXT],
        code=type(error).__name__,
        operation=operation,
        traceback="".join(traceback.format_exception(error))[-MAX_TRACEBACK:],
    )


def now() -> str:
    """Return the time as evidence stores it: ISO 8601, UTC, by the clock of the run's times."""
    return clock.now().isoformat()


def bucket_of(route: RouteTarget) -> str:
    """Name the quota that a route's calls count against: the APIs of an endpoint share one."""
    if route.endpoint is Endpoint.RUNTIME:
        return route.target_id
    return f"{route.endpoint}:{route.target_id}"


def reserved_tokens(request: AnyRequest) -> int:
    """Return what Bedrock reserves for a call: its input, at about four characters a token, and
    `maxTokens`.
    """
    if isinstance(request, EmbedRequest):
        return sum(len(text) for text in request.texts) // 4 + 1
    texts = (len(b.text) for m in request.messages for b in m.content if isinstance(b, Text))
    return (sum(texts) + len(request.system)) // 4 + 1 + request.max_tokens
