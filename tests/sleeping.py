"""Have a test's own thread do something else than sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest


def replace_sleep(monkeypatch: pytest.MonkeyPatch, act: Callable[[float], object]) -> None:
    """Call `act(seconds)` where this thread would sleep. Other threads sleep as before: those that
    send notifications or heartbeats live as long as the process.
    """
    sleep, here = time.sleep, threading.current_thread()

    def act_or_sleep(seconds: float) -> None:
        if threading.current_thread() is here:
            act(seconds)
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", act_or_sleep)
