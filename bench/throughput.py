"""Compare a job's wall time and CPU with bare boto3 threads on the same emulator, for several
numbers of calls in flight.

    python -m bench.throughput [--in-flight 10 64 300] [--workers 1 2] [--seconds 10] [--repeat 3]
    [--json]

Baseline: N threads, one boto3 client, plain Converse calls. Product: one job of quick-tier runs
from `dispatch.certify` to its last row, with queue, worker processes, limiter, database and
evidence. Both are compared with the ideal, calls x latency / N, where the three calls of a run that
are refused at once (those of the error contract) do not count. A run cannot have four calls in
flight all the time (the access gate goes first, then two or three rounds of calls), so more than
N / 4 runs are in progress at once, while N limits the calls of all workers together.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings

from bench import harness
from bench.environment import PROJECT
from bench.harness import Row
from certification.models import AIModel, Region

CALLS_PER_RUN, WAITS_PER_RUN = 14, 11
LATENCY_MS = 200.0
FILL = 2.4  # concurrent runs, as a multiple of N / CERTIFICATION_CALLS_PER_RUN
GOALS = {64: 1.25, 300: 1.6}
CPU_GOAL_MS = 2.0
PRODUCT = ("worker", "postgres", "valkey")


@dataclass(frozen=True)
class Measurement:
    """Wall seconds, CPU seconds by part of the stack, calls, and how many of them took the latency.

    `deviations` says what did not go as planned.
    """

    seconds: float
    cpu: Mapping[str, float]
    calls: int
    delayed_calls: int
    deviations: str = ""

    def ratio(self, in_flight: int) -> float:
        """Return wall time over the ideal: always `in_flight` calls, and nothing else that takes
        time.
        """
        return self.seconds / (self.delayed_calls * LATENCY_MS / 1000 / in_flight)

    def cpu_ms(self, part: str) -> float:
        return self.cpu[part] / self.calls * 1000


def measure_baseline(url: str, in_flight: int, calls: int) -> Measurement:
    """Measure one process of bare threads."""
    command = [sys.executable, "-m", "bench.boto3_baseline", "--url", url]
    command += ["--threads", str(in_flight), "--calls", str(calls)]
    output = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    result = json.loads(output)
    calls = int(result["calls"])
    return Measurement(result["seconds"], {"baseline": result["cpuSeconds"]}, calls, calls)


def measure_product(
    urls: Sequence[str], in_flight: int, runs: int, fill: float, repeat: int
) -> list[Measurement]:
    """Measure jobs of that many runs, one after the other, after a smaller one that warms up."""
    pairs = harness.pairs(runs)
    concurrency = max(len(urls), round(in_flight / settings.CERTIFICATION_CALLS_PER_RUN * fill))
    with harness.workers(urls, concurrency, in_flight):
        harness.follow(harness.certify(pairs[:: max(1, runs // (2 * concurrency))]))
        return [measure_job(pairs) for _ in range(repeat)]


def measure_job(pairs: Sequence[tuple[AIModel, Region]]) -> Measurement:
    """Measure one job of these pairs."""
    before, started = harness.Cpu.now(), time.time()
    job = harness.certify(pairs)
    harness.follow(job)
    used = harness.Cpu.now().since(before)
    assert job.completed_at
    return Measurement(
        job.completed_at.timestamp() - started,
        used,
        job.totals()["calls"],
        harness.count_delayed_calls(job, LATENCY_MS),
        harness.deviations(job),
    )


def measure(
    in_flight: int, workers: int, seconds: float, repeat: int, fill: float = FILL
) -> list[Row]:
    """Return the medians of `repeat` measurements of both, on the same emulators."""
    runs = max(1, round(in_flight * seconds / (LATENCY_MS / 1000) / WAITS_PER_RUN))
    with harness.emulators(workers, LATENCY_MS) as urls:
        baseline = [
            measure_baseline(urls[0], in_flight, runs * WAITS_PER_RUN) for _ in range(repeat)
        ]
        product = measure_product(urls, in_flight, runs, fill, repeat)
    parts = {
        part: statistics.median(m.cpu_ms(part) for m in product) for part in (*PRODUCT, "emulator")
    }
    setting = f"{in_flight} in flight, {workers} worker process{'es' * (workers > 1)}"
    return [
        Row(
            f"{setting}: wall time over the ideal",
            statistics.median(m.ratio(in_flight) for m in product),
            "x",
            GOALS.get(in_flight),
            statistics.median(b.ratio(in_flight) for b in baseline),
            f"{product[0].calls} calls in {statistics.median(m.seconds for m in product):.1f} s"
            + "".join(f"; {m.deviations}" for m in product if m.deviations),
        ),
        Row(
            f"{setting}: CPU per call",
            sum(parts[part] for part in PRODUCT),
            "ms",
            CPU_GOAL_MS,
            statistics.median(b.cpu_ms("baseline") for b in baseline),
            ", ".join(f"{part} {value:.2f}" for part, value in parts.items()).replace(
                "emulator", "not counted: emulator"
            ),
        ),
    ]


def rows(options: Namespace) -> list[Row]:
    """Return the rows of the report. With `tiny`, a handful of runs."""
    in_flight = [10] if options.tiny else getattr(options, "in_flight", [10, 64, 300])
    workers = [1] if options.tiny else getattr(options, "workers", [1, 2])
    seconds = 0.6 if options.tiny else getattr(options, "seconds", 10.0)
    fill = getattr(options, "fill", FILL)
    result = []
    for n in in_flight:
        for count in workers:
            result += measure(n, count, seconds, options.repeat, fill)
    return result


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[10, 64, 300])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="ideal length of one measurement"
    )
    parser.add_argument("--fill", type=float, default=FILL)
    harness.run(rows, parser.parse_args())


if __name__ == "__main__":
    main()
