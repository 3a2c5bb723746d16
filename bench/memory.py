"""Measure the resident memory of one worker process: idle, and its maximum during a job with 64 or
300 calls in flight.

python -m bench.memory [--seconds 10] [--json]
"""

from __future__ import annotations

from argparse import Namespace

import psutil

from bench import harness, throughput
from bench.harness import Row

GOAL_MB = 200
MB = 1_000_000


def measure(in_flight: int, seconds: float) -> tuple[float, float]:
    """Return megabytes before the first job, and the maximum during two jobs of `seconds` each."""
    runs = max(
        1, round(in_flight * seconds / (throughput.LATENCY_MS / 1000) / throughput.WAITS_PER_RUN)
    )
    pairs = harness.pairs(runs)
    concurrency = max(1, round(in_flight / 4 * throughput.FILL))
    with (
        harness.emulators(1, throughput.LATENCY_MS) as urls,
        harness.workers(urls, concurrency, in_flight) as pids,
    ):
        worker = psutil.Process(pids[0])
        idle = worker.memory_info().rss
        readings = [idle]
        for _ in range(2):
            harness.follow(
                harness.certify(pairs), meanwhile=lambda: readings.append(worker.memory_info().rss)
            )
    return idle / MB, max(readings) / MB


def rows(options: Namespace) -> list[Row]:
    """Return the rows of the report."""
    seconds = 0.6 if options.tiny else getattr(options, "seconds", 10.0)
    sizes = [10] if options.tiny else [64, 300]
    result = []
    for in_flight in sizes:
        idle, high = measure(in_flight, seconds)
        goal = GOAL_MB if in_flight <= 64 else None
        result.append(
            Row(
                f"memory of a worker, {in_flight} calls in flight",
                high,
                "MB",
                goal,
                idle,
                "baseline: idle",
            )
        )
    return result


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="ideal length of one job")
    harness.run(rows, parser.parse_args())


if __name__ == "__main__":
    main()
