"""How trials are spread over the threads of a run, and that nothing keeps the run from ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from certification.engine.calls import Stopped
from certification.engine.trials import TrialPool, TrialRecord, TrialsOverdue
from certification.suite.case import Case, Category, Grade, Kind, ProbeCache, Ref, Script
from certification.suite.plan import Trial

Play = Callable[[Trial, Script], TrialRecord]


def case(name: str, *, concurrent: bool = False) -> Case:
    def script(ref: Ref) -> Script:
        return Script(ref, 0, (), lambda _outcomes, _context: Grade(True, "Good."))

    return Case(name, name, Kind.SCORED, Category.TOOLS, script, concurrent=concurrent)


def played(trial: Trial, script: Script) -> TrialRecord:
    return TrialRecord(script, Grade(True, f"{trial.index}"), [], ProbeCache())


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def pool_of(
    executor: Any, trials: dict[Case, int], play: Play = played, max_threads: int = 4
) -> TrialPool:
    """A pool whose plan wants so many trials of each case, all at once."""

    def plan(_grades: Mapping[str, Sequence[Grade]], started: Mapping[str, int]) -> Sequence[Trial]:
        return [
            Trial(case, index)
            for case, total in trials.items()
            for index in range(started.get(case.id, 0), total)
        ]

    return TrialPool(executor, max_threads, plan=plan, play=play, seed=1, stop=threading.Event())


def test_every_trial_is_played_once_and_stored_by_its_number(
    executor: ThreadPoolExecutor,
) -> None:
    def slow_at_first(trial: Trial, script: Script) -> TrialRecord:
        time.sleep(0.02 if trial.index == 0 else 0)
        return played(trial, script)

    pool = pool_of(executor, {case("T1"): 5, case("T2"): 3}, slow_at_first)
    pool.run(30)
    assert [g.sentence for g in pool.grades["T1"]] == list("01234")
    assert [r.script.ref.trial for r in pool.records["T2"]] == [0, 1, 2]
    assert pool.threads == 0


def test_a_run_has_no_more_threads_than_it_may(executor: ThreadPoolExecutor) -> None:
    lock, inside, peak = threading.Lock(), 0, 0

    def play(trial: Trial, script: Script) -> TrialRecord:
        nonlocal inside, peak
        with lock:
            inside += 1
            peak = max(peak, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1
        return played(trial, script)

    pool_of(executor, {case("T1"): 20}, play, max_threads=3).run(30)
    assert peak == 3


def test_a_plan_without_trials_ends_at_once(executor: ThreadPoolExecutor) -> None:
    pool_of(executor, {}).run(0)


def test_concurrent_trials_start_together_after_all_others(executor: ThreadPoolExecutor) -> None:
    barrier, order = threading.Barrier(6, timeout=20), list[str]()

    def play(trial: Trial, script: Script) -> TrialRecord:
        order.append(trial.case.id)
        if trial.case.concurrent:
            barrier.wait()
        return played(trial, script)

    batch = case("B1", concurrent=True)
    pool_of(executor, {batch: 6, case("T1"): 4}, play, max_threads=2).run(30)
    assert order == ["T1"] * 4 + ["B1"] * 6


def test_an_error_in_a_trial_ends_the_run_with_it(executor: ThreadPoolExecutor) -> None:
    def fail(_trial: Trial, _script: Script) -> TrialRecord:
        raise ZeroDivisionError

    pool = pool_of(executor, {case("T1"): 9}, fail)
    with pytest.raises(ZeroDivisionError):
        pool.run(30)
    assert pool.stop.is_set()


def test_a_stop_ends_the_run_without_starting_another_trial(executor: ThreadPoolExecutor) -> None:
    def stop(trial: Trial, script: Script) -> TrialRecord:
        pool.stop.set()
        return played(trial, script)

    pool = pool_of(executor, {case("T1"): 9}, stop, max_threads=1)
    with pytest.raises(Stopped):
        pool.run(30)
    assert len(pool.records["T1"]) == 1


def test_a_trial_that_does_not_end_keeps_no_run_from_ending(executor: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def hang(trial: Trial, script: Script) -> TrialRecord:
        release.wait(30)
        return played(trial, script)

    pool = pool_of(executor, {case("T1"): 1}, hang)
    with pytest.raises(TrialsOverdue):
        pool.run(0.1)
    assert pool.stop.is_set()
    release.set()


def test_threads_that_cannot_start_end_the_run(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third thread of a batch finds no room: the two that run are waited for, it is not."""
    start, started = threading.Thread.start, list[threading.Thread]()

    def limited(thread: threading.Thread) -> None:
        if thread.name == "concurrent-call" and len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    pool = pool_of(executor, {case("B1", concurrent=True): 5})
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.run(30)
    assert pool.threads == 0


def test_a_pool_that_takes_no_work_ends_the_run() -> None:
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool_of(closed, {case("T1"): 2}).run(30)
