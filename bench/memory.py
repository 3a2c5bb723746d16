"""Resident memory of one worker process: idle, with 64 calls in flight, with 300; the most seen
while a job is worked on.

python -m bench.memory [--seconds 10] [--json]
"""

from __future__ import annotations

from argparse import Namespace

import psutil

from bench import harness, throughput
from bench.harness import Row

GOAL_MB = 250
MB = 1_000_000


def most(in_flight: int, seconds: float) -> tuple[float, float]:
    """Megabytes before the first job, and the most during two jobs of so many seconds."""
    runs = max(
        1, round(in_flight * seconds / (throughput.LATENCY_MS / 1000) / throughput.WAITS_PER_RUN)
    )
    wanted = harness.pairs(runs)
    at_once = max(1, round(in_flight / 4 * throughput.FILL))
    with (
        harness.emulators(1, throughput.LATENCY_MS) as urls,
        harness.workers(urls, at_once, in_flight) as pids,
    ):
        worker = psutil.Process(pids[0])
        idle = worker.memory_info().rss
        seen = [idle]
        for _ in range(2):
            harness.follow(
                harness.certify(wanted), meanwhile=lambda: seen.append(worker.memory_info().rss)
            )
    return idle / MB, max(seen) / MB


def rows(given: Namespace) -> list[Row]:
    """The report's rows."""
    seconds = 0.6 if given.tiny else getattr(given, "seconds", 10.0)
    sizes = [10] if given.tiny else [64, 300]
    found = []
    for in_flight in sizes:
        idle, high = most(in_flight, seconds)
        goal = GOAL_MB if in_flight <= 64 else None
        found.append(
            Row(
                f"memory of a worker, {in_flight} calls in flight",
                high,
                "MB",
                goal,
                idle,
                "floor: idle",
            )
        )
    return found


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="ideal length of one job")
    harness.run(rows, parser.parse_args())


if __name__ == "__main__":
    main()
