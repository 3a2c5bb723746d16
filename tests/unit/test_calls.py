"""What follows a failed attempt of a call, and the one retry loop, without a network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from certification.bedrock import errors
from certification.engine import calls, evidence, runner
from certification.engine.calls import (
    MAX_ATTEMPTS,
    Attempt,
    Caller,
    NextStep,
    Stopped,
    Unauthenticated,
    next_step,
)
from certification.inference import (
    API,
    Endpoint,
    Failure,
    Outcome,
    Reply,
    Request,
    RouteTarget,
    Text,
    Timing,
    user,
)
from certification.lib import event_loop
from certification.lib.event_loop import Stop
from certification.reasons import ErrorCategory, Owner, Reason, Status

REQUEST = Request((user("Hello"),), max_tokens=10)
REPLY = Reply((Text("Hello"),), "end_turn", None, Timing(1.0))
ROUTES = [RouteTarget("a.model-v1:0", "ON_DEMAND"), RouteTarget("us.a.model-v1:0", "PROFILE")]


def step(reason: Reason, failures: int = 1, *, has_next_route: bool = False) -> NextStep:
    return next_step(
        Failure(reason, ""),
        ROUTES[0],
        failures,
        max_attempts=MAX_ATTEMPTS,
        has_next_route=has_next_route,
    )


def test_wrong_credentials_abort_the_run() -> None:
    for reason in Reason:
        aborts = reason.category == ErrorCategory.AUTHENTICATION_ERROR
        assert (step(reason, has_next_route=True) == NextStep.ABORT) == aborts, reason


def test_a_refused_route_moves_on_while_there_is_another() -> None:
    for reason in Reason:
        moves_on = step(reason, has_next_route=True) == NextStep.NEXT_ROUTE
        assert moves_on == (reason in calls.ROUTE_REFUSALS), reason
        assert step(reason) != NextStep.NEXT_ROUTE


def test_only_infrastructure_is_tried_again() -> None:
    assert step(Reason.SERVICE_UNAVAILABLE) == NextStep.RETRY
    assert step(Reason.THROTTLED_REQUESTS, MAX_ATTEMPTS - 1) == NextStep.RETRY
    assert step(Reason.THROTTLED_REQUESTS, MAX_ATTEMPTS) == NextStep.GIVE_UP
    assert step(Reason.STREAM_TRUNCATED) == NextStep.GIVE_UP  # evidence about the model
    assert step(Reason.IAM_DENIED) == NextStep.GIVE_UP
    assert step(Reason.DAILY_TOKENS) == NextStep.GIVE_UP


def made(caller: Caller, attempts: list[Attempt]) -> Outcome:
    """One call, made on the event loop."""
    return event_loop.run(caller.call(REQUEST, attempts))


class OpenLimiter:
    """Lets every call pass."""

    async def acquire(self, *_args: Any) -> bool:
        return True

    async def throttled(self, *_args: Any) -> None:
        pass


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Caller]:
    """A caller whose calls fail for these reasons, in this order, and then succeed."""
    monkeypatch.setattr(calls, "BACKOFF_S", (0.0,))

    def make(*reasons: Reason) -> Caller:
        remaining = iter(reasons)

        class Answering:
            async def send(self, *_args: Any) -> Reply:
                if reason := next(remaining, None):
                    raise errors.error(reason, "No.")
                return REPLY

        return Caller(
            cast(Any, Answering()),
            cast(Any, OpenLimiter()),
            "us-east-1",
            ROUTES,
            time.monotonic() + 60,
            Stop(),
        )

    return make


def test_a_call_is_repeated_until_it_succeeds(caller: Callable[..., Caller]) -> None:
    one, attempts = caller(*[Reason.SERVICE_UNAVAILABLE] * 3), list[Attempt]()
    assert made(one, attempts) is REPLY
    assert [a.number for a in attempts] == [1, 2, 3, 4]
    assert one.retries == 3
    assert one.attempts == attempts


def test_no_call_begins_while_nobody_knows_whose_the_run_is(
    caller: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was frozen wakes up: another one may have its runs."""
    monkeypatch.setattr(calls, "CLAIM_POLL_S", 0.001)
    answers = iter([False, False, True])
    ours = caller()
    ours.is_confirmed = lambda: next(answers)
    assert made(ours, []) is REPLY
    lost = caller()

    def unknown() -> bool:
        lost.stop.set()  # the heartbeat learns that it is not ours
        return False

    lost.is_confirmed = unknown
    with pytest.raises(Stopped):
        made(lost, [])
    assert lost.attempts == []


def test_what_all_routes_said_is_one_refusal_that_names_each() -> None:
    merged = runner.refusal_of_all(
        {
            ROUTES[0]: Failure(Reason.WRONG_ROUTE, "No such path."),
            ROUTES[1]: Failure(Reason.NOT_IN_REGION, "Not here."),
        }
    )
    assert merged.reason is Reason.NOT_IN_REGION
    assert "No such path." in merged.message
    assert "Not here." in merged.message
    alone = runner.refusal_of_all({ROUTES[0]: Failure(Reason.WRONG_ROUTE, "No such path.")})
    assert alone.reason.facts.status == Status.CONFIGURATION_REQUIRED


def test_an_absent_endpoint_is_a_refusal_of_the_route() -> None:
    mantle = RouteTarget("a.model", "ON_DEMAND", Endpoint.MANTLE, API.MESSAGES, "/anthropic/v1")
    absent = Failure(Reason.DNS, "")
    assert calls.is_route_refusal(absent, mantle)
    assert not calls.is_route_refusal(absent, ROUTES[0])


def test_a_refused_route_costs_none_of_the_attempts(caller: Callable[..., Caller]) -> None:
    one, attempts = caller(Reason.NOT_IN_REGION, *[Reason.INTERNAL_ERROR] * 3), list[Attempt]()
    assert made(one, attempts) is REPLY
    assert [a.route for a in attempts] == [ROUTES[0], *[ROUTES[1]] * 4]
    assert one.route == ROUTES[1]


def test_a_settled_route_is_kept(caller: Callable[..., Caller]) -> None:
    one = caller(Reason.NOT_IN_REGION)
    one.route_settled = True
    outcome = made(one, [])
    assert isinstance(outcome, Failure)
    assert one.route == ROUTES[0]


def test_after_a_dead_endpoint_each_call_is_tried_once_until_one_succeeds(
    caller: Callable[..., Caller],
) -> None:
    one = caller(*[Reason.CONNECTION_REFUSED] * (MAX_ATTEMPTS + 1))
    for expected in (MAX_ATTEMPTS, 1, 1):
        attempts: list[Attempt] = []
        made(one, attempts)
        assert len(attempts) == expected
    assert not one.endpoint_down


def test_wrong_credentials_end_the_call_with_their_failure(caller: Callable[..., Caller]) -> None:
    one = caller(Reason.CREDENTIALS_EXPIRED)
    with pytest.raises(Unauthenticated) as caught:
        made(one, [])
    assert (caught.value.failure.reason, caught.value.calls) == (Reason.CREDENTIALS_EXPIRED, 1)


def test_nothing_is_sent_after_a_stop(caller: Callable[..., Caller]) -> None:
    one = caller()
    one.stop.set()
    with pytest.raises(Stopped):
        made(one, [])
    assert one.attempts == []


@pytest.mark.parametrize("retry_after_s", [None, 0.25, 3600.0])
def test_a_retry_waits_as_long_as_the_service_asks_within_the_deadline(
    caller: Callable[..., Caller], retry_after_s: float | None
) -> None:
    pauses: list[float] = []

    class Recording(Stop):
        async def wait(self, seconds: float) -> bool:
            pauses.append(seconds)
            return False

    class Throttling:
        async def send(self, *_args: Any) -> Reply:
            if pauses:
                return REPLY
            raise errors.error(Reason.THROTTLED_REQUESTS, "Slow down.", retry_after_s=retry_after_s)

    one, attempts = caller(), list[Attempt]()
    one.bedrock, one.stop = cast(Any, Throttling()), Recording()
    outcome = made(one, attempts)
    if retry_after_s == 3600.0:  # beyond the deadline: nothing to wait for
        assert isinstance(outcome, Failure)
        assert pauses == []
    else:
        assert outcome is REPLY
        assert pauses == [retry_after_s or 0.0]


class Crashing:
    """A client that fails in a way that nobody foresaw, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def send(self, *_args: Any) -> Reply:
        self.times -= 1
        if self.times >= 0:
            raise KeyError("arn:aws:iam::123456789012:user/x")
        return REPLY


@pytest.mark.parametrize(("times", "expected"), [(1, None), (9, Reason.UNEXPECTED_EXCEPTION)])
def test_an_unexpected_exception_costs_one_call_after_one_retry(
    caller: Callable[..., Caller], times: int, expected: Reason | None
) -> None:
    one, attempts = caller(), list[Attempt]()
    one.bedrock = cast(Any, Crashing(times))
    outcome = made(one, attempts)
    assert len(attempts) == 2
    if expected is None:
        assert outcome is REPLY
        return
    assert isinstance(outcome, Failure)
    assert outcome.reason is expected
    assert outcome.reason.facts.owner is Owner.OURS
    assert outcome.code == "KeyError"
    assert "in send" in outcome.traceback
    stored = evidence.failure(outcome)
    assert "in send" in stored["traceback"]
    assert "123456789012" not in str(stored)
