"""Strange requests as each role: none is answered with 5xx, or in an undocumented way.

`python -m bench.fuzz` sends many more of them.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.fuzz_requests import Fuzzer
from certification.engine import queue


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", [1])
def test_strange_requests_are_answered_as_documented(
    catalogue: None, settings: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 0)
    settings.ALLOWED_HOSTS = ["localhost"]
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    fuzzer = Fuzzer(seed)
    fuzzer.run(120)
    assert fuzzer.faults == []
    assert {status // 100 for _area, status in fuzzer.statuses} == {2, 3, 4}
