"""How the trials of a run are played on the event loop, and that nothing keeps the run from
ending.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from certification.engine import trials
from certification.engine.calls import Stopped
from certification.engine.trials import Play, TrialPool, TrialRecord, TrialsOverdue
from certification.inference import Outcome, Reply, Request, Timing, user
from certification.lib import event_loop
from certification.lib.event_loop import Stop
from certification.suite import language
from certification.suite.case import (
    Case,
    Category,
    Context,
    Grade,
    Kind,
    ProbeCache,
    Ref,
    Script,
    Step,
)
from certification.suite.plan import Trial


def case(name: str, *, concurrent: bool = False) -> Case:
    def script(ref: Ref) -> Script:
        return Script(ref, 0, (), lambda _outcomes, _context: Grade(True, "Good."))

    return Case(name, name, Kind.SCORED, Category.TOOLS, script, concurrent=concurrent)


async def played(trial: Trial, script: Script) -> TrialRecord:
    return TrialRecord(script, Grade(True, f"{trial.index}"), [], ProbeCache())


def pool_of(trials: dict[Case, int], play: Play = played, max_at_once: int = 4) -> TrialPool:
    """A pool whose plan wants so many trials of each case, all at once."""

    def plan(_grades: Mapping[str, Sequence[Grade]], started: Mapping[str, int]) -> Sequence[Trial]:
        return [
            Trial(case, index)
            for case, total in trials.items()
            for index in range(started.get(case.id, 0), total)
        ]

    return TrialPool(max_at_once, plan=plan, play=play, seed=1, stop=Stop())


def test_every_trial_is_played_once_and_stored_by_its_number() -> None:
    async def slow_at_first(trial: Trial, script: Script) -> TrialRecord:
        await asyncio.sleep(0.02 if trial.index == 0 else 0)
        return await played(trial, script)

    pool = pool_of({case("T1"): 5, case("T2"): 3}, slow_at_first)
    pool.run(30)
    assert [g.sentence for g in pool.grades["T1"]] == list("01234")
    assert [r.script.ref.trial for r in pool.records["T2"]] == [0, 1, 2]
    assert not pool.playing


def test_a_run_plays_no_more_trials_at_once_than_it_may() -> None:
    inside, peak = 0, 0

    async def play(trial: Trial, script: Script) -> TrialRecord:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await asyncio.sleep(0.002)
        inside -= 1
        return await played(trial, script)

    pool_of({case("T1"): 20}, play, max_at_once=3).run(30)
    assert peak == 3


def test_a_plan_without_trials_ends_at_once() -> None:
    pool_of({}).run(30)


def test_concurrent_trials_start_together_after_all_others() -> None:
    order: list[str] = []
    together = asyncio.Barrier(6)

    async def play(trial: Trial, script: Script) -> TrialRecord:
        order.append(trial.case.id)
        if trial.case.concurrent:
            await together.wait()
        return await played(trial, script)

    batch = case("B1", concurrent=True)
    pool_of({batch: 6, case("T1"): 4}, play, max_at_once=2).run(30)
    assert order == ["T1"] * 4 + ["B1"] * 6


def test_an_error_in_a_trial_ends_the_run_with_it_once_the_others_have_ended() -> None:
    ended: list[int] = []

    async def fail(trial: Trial, script: Script) -> TrialRecord:
        if trial.index == 0:
            raise ZeroDivisionError
        await asyncio.sleep(0.02)
        ended.append(trial.index)
        return await played(trial, script)

    pool = pool_of({case("T1"): 9}, fail)
    with pytest.raises(ZeroDivisionError):
        pool.run(30)
    assert pool.stop.is_set()
    assert ended == [1, 2, 3]


def test_a_timeout_of_a_trials_own_is_its_error() -> None:
    async def fail(_trial: Trial, _script: Script) -> TrialRecord:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        pool_of({case("T1"): 1}, fail).run(30)


def test_a_stop_ends_the_run_without_starting_another_trial() -> None:
    async def stop(trial: Trial, script: Script) -> TrialRecord:
        pool.stop.set()
        return await played(trial, script)

    pool = pool_of({case("T1"): 9}, stop, max_at_once=1)
    with pytest.raises(Stopped):
        pool.run(30)
    assert len(pool.records["T1"]) == 1


def test_a_trial_that_does_not_end_keeps_no_run_from_ending() -> None:
    cancelled: list[int] = []

    async def hang(trial: Trial, _script: Script) -> TrialRecord:
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.append(trial.index)
        raise AssertionError

    pool = pool_of({case("T1"): 2}, hang)
    with pytest.raises(TrialsOverdue):
        pool.run(0.1)
    assert pool.stop.is_set()
    for _ in range(1000):
        if len(cancelled) == 2:
            break
        time.sleep(0.01)
    assert sorted(cancelled) == [0, 1]


@pytest.mark.parametrize(
    ("category", "on_the_loop"),
    [(Category.TOOLS, True), (Category.VISION, False), (Category.CONTEXT, False)],
)
def test_what_takes_long_to_write_is_written_off_the_loop(
    category: Category, on_the_loop: bool
) -> None:
    threads: list[str] = []

    def request_of(outcomes: tuple[Outcome, ...]) -> Request:
        threads.append(threading.current_thread().name)
        return Request((user(f"{len(outcomes)}"),), max_tokens=1)

    class Answering:
        route_settled = False
        journal = None

        async def call(self, request: Request, *_args: Any) -> Outcome:
            return Reply(request.messages[0].content, "end_turn", None, Timing(1.0))

        def store(self, *_args: Any) -> None:
            """It has no journal."""

    ref = Ref(1, "X1", 0)
    script = Script(
        ref,
        0,
        tuple(Step(request_of) for _ in range(3)),
        lambda outcomes, _context: Grade(True, " ".join(o.text for o in outcomes)),  # type: ignore[union-attr]
    )
    heavy = replace(case("X1"), category=category)
    record = event_loop.run(
        trials.play(
            Trial(heavy, 0),
            script,
            cast(Any, Answering()),
            context=Context(),
            capabilities=(),
            refusals={},
        )
    )
    assert record.grade.sentence == "0 1 2"
    assert {name == "event-loop" for name in threads} == {on_the_loop}


def test_the_model_of_languages_is_loaded_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[str] = []
    monkeypatch.setattr(language, "is_loaded", lambda: bool(threads))
    monkeypatch.setattr(
        language, "identifier", lambda: threads.append(threading.current_thread().name)
    )
    scored, gate = case("T1"), replace(case("G01"), kind=Kind.GATE)
    for each in (gate, scored, scored):
        script = each.script(Ref(1, each.id, 0))
        event_loop.run(
            trials.play(
                Trial(each, 0),
                script,
                cast(trials.Caller, SimpleNamespace(route_settled=False)),
                context=Context(),
                capabilities=(),
                refusals={},
            )
        )
    assert len(threads) == 1
    assert threads != ["event-loop"]
