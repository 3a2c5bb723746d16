"""One certification, nothing else running: from the request to its row, against what its calls
themselves take.

    python -m bench.latency [--repeat 10] [--json]

The floors are computed from the evidence of the same run. Quick tier: the access gate's calls and
then the slowest of the other cases' chains, as they were timed. Nothing may start before the access
gate has passed, and a chain cannot be cut shorter. Full tier: the time of all calls together,
divided by how many a run may have in flight.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from dataclasses import dataclass

from django.conf import settings

from bench import harness
from bench.harness import Row
from certification.models import AIModel, CertificationRun, Region, Tier

LATENCY_MS = 200.0
TINY_MS = 10.0
GOAL = 1.3
FULL_MODELS = ("amazon.nova-micro-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0")


@dataclass(frozen=True)
class Certified:
    """Seconds: `chain` of calls, from `claim` to the row, from the `request` to the row."""

    chain: float
    claim: float
    request: float


def certify(pair: tuple[AIModel, Region]) -> Certified:
    """One interactive job of one run, measured from outside and by its own evidence."""
    started = time.time()
    job = harness.certify([pair], priority="interactive")
    harness.follow(job)
    run = job.runs.get()
    assert run.completed_at
    assert run.started_at
    sums = seconds_of_calls(run)
    access = sums.pop("G01")
    return Certified(
        access + max(sums.values()),
        (run.completed_at - run.started_at).total_seconds(),
        run.completed_at.timestamp() - started,
    )


def seconds_of_calls(run: CertificationRun) -> dict[str, float]:
    """What the calls of each case took together, by its own evidence."""
    return {
        result.case_id: sum(
            call["timing"]["total"] for trial in result.trials for call in trial["calls"]
        )
        / 1000
        for result in run.results.all()
    }


@dataclass(frozen=True)
class Full:
    """One run of the full tier. Seconds: `ideal` = its calls' time / calls in flight, `took` from
    the request to the row.
    """

    model: str
    calls: int
    ideal: float
    took: float


def certify_fully(pair: tuple[AIModel, Region]) -> Full:
    """One interactive job of one full run."""
    started = time.time()
    job = harness.certify([pair], priority="interactive", tier=Tier.FULL)
    harness.follow(job)
    run = job.runs.get()
    assert run.completed_at
    ideal = sum(seconds_of_calls(run).values()) / settings.CERTIFICATION_CALLS_PER_RUN
    return Full(pair[0].api_model_id, run.calls, ideal, run.completed_at.timestamp() - started)


def measure_full(latency_ms: float | None) -> list[Full]:
    """One full run of each model, one after the other, after a quick one that warms up."""
    found = {
        model.api_model_id: (model, region)
        for model, region in harness.pairs(10_000, ["us-east-1", "us-west-2"])
    }
    with harness.emulators(1, latency_ms) as urls, harness.workers(urls, 16, 64):
        certify(next(iter(found.values())))
        return [certify_fully(found[name]) for name in FULL_MODELS]


def measure(latency_ms: float | None, count: int) -> list[Certified]:
    """So many certifications of different models, one after the other, after two that warm up."""
    pairs = harness.pairs(count)
    with harness.emulators(1, latency_ms) as urls, harness.workers(urls, 16, 64):
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
    found.append(_full_row(measure_full(TINY_MS if given.tiny else None)))
    return found


def _full_row(seen: list[Full]) -> Row:
    told = ", ".join(
        f"{one.model}: {one.calls} calls, ideal {one.ideal:.1f} s, took {one.took:.1f} s"
        for one in seen
    )
    return Row(
        "one full run, recorded latencies: time over its calls' time / calls in flight",
        max(one.took / one.ideal for one in seen),
        "x",
        GOAL,
        1.0,
        told,
    )


def _row(calls: str, seen: list[Certified]) -> Row:
    chain, claim = (
        statistics.median(s.chain for s in seen),
        statistics.median(s.claim for s in seen),
    )
    request = statistics.median(s.request for s in seen)
    return Row(
        f"one certification, {calls}: time over its slowest chain",
        statistics.median(s.request / s.chain for s in seen),
        "x",
        GOAL,
        1.0,
        f"medians of {len(seen)}: chain {chain:.3f} s, from claim {claim:.3f} s, from request {request:.3f} s",
    )


def main() -> None:
    harness.run(rows, harness.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
