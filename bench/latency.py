"""Compare the time of one certification, from its request to its row, with the time of its calls
alone. Nothing else runs.

    python -m bench.latency [--repeat 10] [--json]

The baselines are computed from the evidence of the same run. Quick tier: the calls of the access
gate, then the slowest chain of calls of another case. Nothing may start before the access gate has
passed, and a chain cannot be shortened. Full tier: the time of all calls together, divided by how
many a run may have in flight.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Sequence
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
    """Measure one interactive job of one run, from outside and by its own evidence."""
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
    """Return the seconds that the calls of each case took together, by its own evidence."""
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
    """Measure one interactive job of one full run."""
    started = time.time()
    job = harness.certify([pair], priority="interactive", tier=Tier.FULL)
    harness.follow(job)
    run = job.runs.get()
    assert run.completed_at
    ideal = sum(seconds_of_calls(run).values()) / settings.CERTIFICATION_CALLS_PER_RUN
    return Full(pair[0].api_model_id, run.calls, ideal, run.completed_at.timestamp() - started)


def measure_full(latency_ms: float | None, models: Sequence[str]) -> list[Full]:
    """Measure one full run of each model, one after the other, after a quick one that warms up."""
    pairs = {
        model.api_model_id: (model, region)
        for model, region in harness.pairs(10_000, ["us-east-1", "us-west-2"])
    }
    with harness.emulators(1, latency_ms) as urls, harness.workers(urls, 16, 64):
        certify(next(iter(pairs.values())))
        return [certify_fully(pairs[name]) for name in models]


def measure(latency_ms: float | None, count: int) -> list[Certified]:
    """Measure certifications of different models, one after the other, after two that warm up."""
    pairs = harness.pairs(count)
    with harness.emulators(1, latency_ms) as urls, harness.workers(urls, 16, 64):
        for pair in pairs[:2]:
            certify(pair)
        return [certify(pair) for pair in pairs]


def rows(options: Namespace) -> list[Row]:
    """Return the rows of the report: medians over the runs."""
    count = 2 if options.tiny else max(10, options.repeat)
    measurements = {"calls of 200 ms": measure(LATENCY_MS, count)}
    if not options.tiny:
        measurements["recorded latencies"] = measure(None, count)
    result = []
    for calls, certified in measurements.items():
        chain = statistics.median(one.chain for one in certified)
        claim = statistics.median(one.claim for one in certified)
        request = statistics.median(one.request for one in certified)
        result.append(
            Row(
                f"one certification, {calls}: time over its slowest chain",
                statistics.median(one.request / one.chain for one in certified),
                "x",
                GOAL,
                1.0,
                f"medians of {count}: chain {chain:.3f} s, from claim {claim:.3f} s, "
                f"from request {request:.3f} s",
            )
        )
    full = (
        measure_full(TINY_MS, FULL_MODELS[:1]) if options.tiny else measure_full(None, FULL_MODELS)
    )
    details = ", ".join(
        f"{one.model}: {one.calls} calls, ideal {one.ideal:.1f} s, took {one.took:.1f} s"
        for one in full
    )
    result.append(
        Row(
            "one full run, recorded latencies: time over its calls' time / calls in flight",
            max(one.took / one.ideal for one in full),
            "x",
            GOAL,
            1.0,
            details,
        )
    )
    return result


def main() -> None:
    harness.run(rows, harness.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
