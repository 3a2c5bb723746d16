"""The calls of a run survive its worker: what a new claim takes over, and what it does not."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from certification.engine import journal
from certification.engine.journal import Journal, RunJournal, StoredAttempt, StoredCall
from certification.inference import (
    API,
    EmbedReply,
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
    Usage,
)
from certification.lib import event_loop
from certification.reasons import Reason

ROUTE = RouteTarget("us.a.b", "profile", Endpoint.MANTLE, API.RESPONSES, "/openai/v1")
REPLY = Reply(
    (
        Reasoning("Well.", "signed", b"\x00\xff"),
        Text("São\n\u202fPaulo"),
        ToolUse("t1", "weather", {"city": ["x", 1, 2.5, None, True]}, '{"city"'),
    ),
    "tool_use",
    Usage(10, 5, 15, 1, 2),
    Timing(512.3, 120.2, 30.1, None),
    Operation.STREAM,
    ("messageStart", "contentBlockDelta"),
    complete=False,
    request_id="r-1",
)
OUTCOMES: tuple[Outcome, ...] = (
    REPLY,
    Reply((), "end_turn", None, Timing(1.0)),
    EmbedReply(((0.5, -1.0), (2.0, 3.25)), Usage(3, 0, 3), Timing(2.0)),
    Failure(
        Reason.STREAM_TRUNCATED,
        "It ended.",
        "code",
        200,
        Operation.STREAM,
        "r-2",
        Timing(3.0),
        partial=REPLY,
        credential="sso",
        traceback="...",
    ),
)


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushall()
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def store(server: redis.Redis) -> Journal:
    return journal.connect(settings.REDIS_URL)


def claim(
    store: Journal,
    run_id: uuid.UUID,
    *,
    again: bool = False,
    basis: str = "v1",
    spared: tuple[str, ...] = (),
) -> RunJournal:
    run = store.open(run_id, basis=[basis], spared=spared, is_first_claim=not again)
    run.flush()
    return run


def call(number: int = 0, outcome: Outcome = REPLY, case: str = "G01") -> StoredCall:
    attempt = StoredAttempt(outcome, 1, "2026-01-31T12:00:00+00:00", ROUTE)
    return StoredCall(case, 0, number, (attempt,))


def add(run: RunJournal, *calls: StoredCall) -> None:
    async def add_all() -> None:
        for one in calls:
            run.add(one)

    event_loop.run(add_all())
    run.flush()


def test_what_a_claim_stored_the_next_one_takes_over_unchanged(store: Journal) -> None:
    run_id = uuid.uuid4()
    calls = [call(number, outcome) for number, outcome in enumerate(OUTCOMES)]
    add(claim(store, run_id), *calls)
    second = claim(store, run_id, again=True)
    assert [second.take("G01", 0, number) for number in range(len(calls))] == calls
    assert second.take("G01", 0, len(calls)) is None
    third = claim(store, run_id, again=True)
    assert third.take("G01", 0, 0) == calls[0]


def test_a_new_run_takes_nothing_over_and_one_that_ended_leaves_nothing(
    store: Journal, server: redis.Redis
) -> None:
    run_id = uuid.uuid4()
    first = claim(store, run_id)
    add(first, call())
    assert claim(store, uuid.uuid4(), again=True).stored == {}
    second = claim(store, run_id, again=True)
    assert len(list(server.scan_iter(f"*{run_id}*"))) == 2  # the pointer and one list
    second.close()
    second.flush()
    assert not list(server.scan_iter(f"*{run_id}*"))


def test_a_frozen_worker_that_wakes_up_adds_nothing_to_the_list_of_another(store: Journal) -> None:
    run_id = uuid.uuid4()
    frozen = claim(store, run_id)
    add(frozen, call(0))
    second = claim(store, run_id, again=True)
    add(second, call(1))
    add(frozen, call(1, OUTCOMES[1]))
    third = claim(store, run_id, again=True)
    assert third.take("G01", 0, 0) == call(0)
    assert third.take("G01", 0, 1) == call(1)


def test_calls_of_another_suite_are_not_taken_over(store: Journal) -> None:
    run_id = uuid.uuid4()
    add(claim(store, run_id), call())
    assert claim(store, run_id, again=True, basis="v2").stored == {}


def test_calls_go_on_without_the_features_that_they_went_without(store: Journal) -> None:
    run_id = uuid.uuid4()
    add(claim(store, run_id, spared=("Converse topK",)), call())
    learned = claim(store, run_id, again=True, spared=("Converse topK", "Converse topP"))
    assert learned.spared == {"Converse topK"}
    assert learned.take("G01", 0, 0)
    forgotten = claim(store, run_id, again=True, spared=())
    assert forgotten.stored == {}


def test_a_missing_call_ends_what_is_taken_over_of_its_trial(store: Journal) -> None:
    run_id = uuid.uuid4()
    add(claim(store, run_id), call(0), call(2), call(0, case="G02"))
    second = claim(store, run_id, again=True)
    assert second.take("G01", 0, 0)
    assert second.take("G01", 0, 1) is None
    assert second.take("G01", 0, 2) is None
    assert second.take("G02", 0, 0)


@pytest.mark.parametrize("forged", ["changed", "of another run", "garbage", "not a list"])
def test_what_somebody_wrote_to_redis_is_no_answer(
    store: Journal, server: redis.Redis, forged: str
) -> None:
    run_id, other = uuid.uuid4(), uuid.uuid4()
    add(claim(store, run_id), call())
    add(claim(store, other), call(0, OUTCOMES[1]))
    key, foreign = (server.get(journal.pointer_key(one)) or b"" for one in (run_id, other))
    entry = server.lindex(key, 1)
    assert isinstance(entry, bytes)
    if forged == "not a list":
        server.set(key, "x")
    else:
        text: Any = {
            "changed": entry.replace(b"tool_use", b"end_turn"),
            "of another run": server.lindex(foreign, 1),
            "garbage": b"\xff" * 40,
        }[forged]
        server.lset(key, 1, text)
    assert claim(store, run_id, again=True).stored == {}


def test_an_answer_that_cannot_be_encoded_costs_only_its_trial(store: Journal) -> None:
    run_id = uuid.uuid4()
    half = Reply((Text("\ud83d"),), "end_turn", None, Timing(1.0))
    add(claim(store, run_id), call(0, half), call(1), call(0, case="G02"))
    second = claim(store, run_id, again=True)
    assert second.take("G01", 0, 0) is None
    assert second.take("G02", 0, 0)


def test_without_redis_nothing_is_stored_and_nothing_fails() -> None:
    store = journal.connect("redis://127.0.0.1:1/0")
    run_id = uuid.uuid4()
    add(claim(store, run_id), call())
    assert claim(store, run_id, again=True).stored == {}
