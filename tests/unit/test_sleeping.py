"""The replacement of `time.sleep` for tests."""

from __future__ import annotations

import threading
import time

import pytest

from tests.sleeping import replace_sleep


def test_only_the_tests_own_thread_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    replace_sleep(monkeypatch, calls.append)
    other = threading.Thread(target=time.sleep, args=(0.001,))
    other.start()
    other.join()
    time.sleep(600)
    assert calls == [600]
