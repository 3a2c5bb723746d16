"""One certification, quick tier, nothing else running: from the request to its row, against its slowest chain of calls.

    python -m bench.latency [--repeat 10] [--json]

The floor is computed from the evidence of the same run: the access gate's calls and then the slowest of the other cases'
chains, as they were timed. Nothing may start before the access gate has passed, and a chain cannot be cut shorter.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from dataclasses import dataclass

from bench import house
from bench.house import Row
from certification.models import AIModel, Region

LATENCY_MS = 200.0
GOAL = 1.3


@dataclass(frozen=True)
class Certified:
    """Seconds: `chain` of calls, from `claim` to the row, from the `request` to the row."""

    chain: float
    claim: float
    request: float


def certify(pair: tuple[AIModel, Region]) -> Certified:
    """One interactive job of one run, measured from outside and by its own evidence."""
    started = time.time()
    job = house.certify([pair], priority="interactive")
    house.follow(job)
    run = job.runs.get()
    assert run.completed_at
    assert run.started_at
    sums = {
        result.case_id: sum(call["timing"]["total"] for trial in result.trials for call in trial["calls"]) / 1000
        for result in run.results.all()
    }
    access = sums.pop("G01")
    return Certified(
        access + max(sums.values()),
        (run.completed_at - run.started_at).total_seconds(),
        run.completed_at.timestamp() - started,
    )


def measure(latency_ms: float | None, count: int) -> list[Certified]:
    """So many certifications of different models, one after the other, after two that warm up."""
    pairs = house.pairs(count)
    with house.emulators(1, latency_ms) as urls, house.workers(urls, 16, 64):
        for pair in pairs[:2]:
            certify(pair)
        return [certify(pair) for pair in pairs]


def rows(given: Namespace) -> list[Row]:
    """The report's rows, medians over the runs."""
    count = 2 if given.tiny else max(10, given.repeat)
    fixed = measure(LATENCY_MS, count)
    found = [_row("calls of 200 ms", fixed)]
    if not given.tiny:
        found.append(_row("recorded latencies", measure(None, count)))
    return found


def _row(calls: str, seen: list[Certified]) -> Row:
    chain, claim = statistics.median(s.chain for s in seen), statistics.median(s.claim for s in seen)
    request = statistics.median(s.request for s in seen)
    return Row(
        f"one certification, {calls}: time over its slowest chain",
        statistics.median(s.request / s.chain for s in seen), "x", GOAL, 1.0,
        f"medians of {len(seen)}: chain {chain:.3f} s, from claim {claim:.3f} s, from request {request:.3f} s",
    )  # fmt: skip


def main() -> None:
    house.run(rows, house.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
