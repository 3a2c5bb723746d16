"""A small load on this installation, from outside and by reading only: how fast it answers beside
its targets.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from certification.models import ModelCertification
from certification.operations.site import NotAnswered, Site

MAX_REQUESTS, MAX_AT_ONCE, LONGEST_S = 100_000, 100, 600
# What is promised of answers: docs/operations.md, Targets.
TARGET_P95_MS, TARGET_ERRORS = 200.0, 0.001
PROBES = ("/live", "/api/health")


@dataclass(frozen=True)
class Figures:
    """Answers to one address, or to all: milliseconds of those that were well. `failed` are 5xx and
    what was not answered; `refused` are 429 and other 4xx: a limit did its work.
    """

    path: str
    requests: int
    failed: int
    refused: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @property
    def error_rate(self) -> float:
        return self.failed / self.requests if self.requests else 0.0

    @property
    def is_met(self) -> bool:
        """Whether the targets are met; without one good answer they are not."""
        is_fast = self.p95_ms is not None and self.p95_ms < TARGET_P95_MS
        return is_fast and self.error_rate < TARGET_ERRORS

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "requests": self.requests,
            "failed": self.failed,
            "refused": self.refused,
            "errorRate": round(self.error_rate, 5),
            "p50Ms": self.p50_ms,
            "p95Ms": self.p95_ms,
            "p99Ms": self.p99_ms,
        }


@dataclass(frozen=True)
class Report:
    """What a load test measured: each address, all of them, and how many answers a second."""

    url: str
    seconds: float
    all: Figures
    paths: Sequence[Figures]
    complete: bool

    @property
    def per_second(self) -> float:
        return round(self.all.requests / self.seconds, 1) if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "seconds": round(self.seconds, 2),
            "perSecond": self.per_second,
            "complete": self.complete,
            "targets": {"p95Ms": TARGET_P95_MS, "errorRate": TARGET_ERRORS},
            "met": self.all.is_met,
            "all": self.all.to_json(),
            "paths": [figures.to_json() for figures in self.paths],
        }


def addresses() -> list[str]:
    """Return what is read: probes, the login, and a badge and the public page of a certified model
    where there is one.
    """
    row = ModelCertification.objects.valid().filter(status="certified").select_related("model")
    paths = [*PROBES, "/login/"]
    if certification := row.first():
        model, region = certification.model.api_model_id, certification.region_id
        paths.append(reverse("badge", args=[f"{model}/{region}.svg"]))
        paths.append(reverse("public-model", args=[model]))
    return paths


def run(
    url: str,
    paths: Sequence[str],
    requests: int,
    at_once: int,
    progress: Callable[[int], None] = lambda _number: None,
) -> Report:
    """Ask for these addresses in turn, `requests` times in all, `at_once` at a time, for LONGEST_S
    at most. Raises NotAnswered where the first request is not answered at all.
    """
    Site(url).get(paths[0])
    measured: list[tuple[str, int, float]] = []
    numbers, lock = iter(range(requests)), threading.Lock()
    local, interrupted = threading.local(), threading.Event()
    started = time.monotonic()

    def work() -> None:
        local.site = Site(url)
        while not interrupted.is_set() and time.monotonic() - started < LONGEST_S:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            path = paths[number % len(paths)]
            status, seconds = measure(local.site, path)
            with lock:
                measured.append((path, status, seconds))
                progress(len(measured))

    with ThreadPoolExecutor(at_once) as executor:
        try:
            for future in [executor.submit(work) for _ in range(at_once)]:
                future.result()
        except BaseException:
            interrupted.set()
            raise
    seconds = time.monotonic() - started
    return report(url, measured, seconds, complete=len(measured) == requests)


def measure(site: Site, path: str) -> tuple[int, float]:
    """Return the status of one answer, 0 without one, and the seconds that it took."""
    began = time.perf_counter()
    try:
        status = site.get(path).status
    except NotAnswered:
        status = 0
    return status, time.perf_counter() - began


def report(
    url: str, measured: Sequence[tuple[str, int, float]], seconds: float, *, complete: bool
) -> Report:
    """Sum up (path, status, seconds) of each request."""
    paths = dict.fromkeys(path for path, _status, _seconds in measured)
    rows = [figures(path, [row for row in measured if row[0] == path]) for path in paths]
    return Report(url, seconds, figures("all", measured), rows, complete)


def figures(path: str, measured: Sequence[tuple[str, int, float]]) -> Figures:
    statuses = Counter(status // 100 for _path, status, _seconds in measured)
    times = sorted(1000 * s for _path, status, s in measured if 200 <= status < 400)
    return Figures(
        path,
        len(measured),
        failed=statuses[5] + statuses[0],
        refused=statuses[4],
        p50_ms=quantile(times, 0.5),
        p95_ms=quantile(times, 0.95),
        p99_ms=quantile(times, 0.99),
    )


def quantile(times: Sequence[float], part: float) -> float | None:
    """Return the time within which this part of all was answered; None of nothing."""
    if not times:
        return None
    return round(times[min(len(times) - 1, int(part * len(times)))], 1)
