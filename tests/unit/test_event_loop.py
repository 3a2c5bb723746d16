"""The process's event loop, as threads use it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from certification.lib import event_loop
from certification.lib.event_loop import Stop


async def thread_name() -> str:
    return threading.current_thread().name


def test_every_thread_uses_the_same_loop() -> None:
    loops = [event_loop.get_loop()]
    threads = [
        threading.Thread(target=lambda: loops.append(event_loop.get_loop())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(loops)) == 1
    assert event_loop.run(thread_name()) == "event-loop"


def test_work_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        event_loop.run(hang(), timeout_s=0.05)
    assert cancelled.wait(30)


def test_an_error_of_the_work_is_raised_where_it_is_waited_for() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        event_loop.run(fail())


def test_a_stop_wakes_whoever_waits_for_it() -> None:
    stop = Stop()
    waiting = [event_loop.submit(stop.wait(600)) for _ in range(3)]
    time.sleep(0.02)
    stop.set()
    assert [future.result(30) for future in waiting] == [True] * 3
    assert event_loop.run(stop.wait(600))


def test_a_wait_without_a_stop_ends_after_its_time() -> None:
    assert not event_loop.run(Stop().wait(0.01))
