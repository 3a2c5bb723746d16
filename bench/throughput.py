"""A job's wall time and CPU against bare boto3 threads on the same emulator, at several numbers of
calls in flight.

    python -m bench.throughput [--in-flight 10 64 300] [--workers 1 2] [--seconds 10] [--repeat 3]
    [--json]

Floor: N threads, one boto3 client, plain Converse calls. Ours: one job of quick-tier runs from
`dispatch.certify` to its last row: queue, worker processes, limiter, database, evidence. Both are
compared with the ideal, calls x latency / N, where the three calls of a run that are refused at
once (the error contract's) count for nothing. A run cannot fill four calls all the time (the access
gate goes first, then two or three rounds of calls), so more runs are worked on at once than N / 4,
while N bounds the calls of all workers together.
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
FILL = 2.4  # runs at once, as a multiple of N / CERTIFICATION_CALLS_PER_RUN
GOALS = {64: 1.25, 300: 1.6}
CPU_GOAL_MS = 2.0
OURS = ("worker", "postgres", "valkey")


@dataclass(frozen=True)
class Taken:
    """What one measurement took: wall seconds, CPU seconds by part, calls, and how many of them
    took the latency.

    `odd` tells what did not go as planned.
    """

    seconds: float
    cpu: Mapping[str, float]
    calls: int
    waits: int
    odd: str = ""

    def ratio(self, in_flight: int) -> float:
        """Wall time over the ideal: `in_flight` calls always under way, and nothing else costs
        time.
        """
        return self.seconds / (self.waits * LATENCY_MS / 1000 / in_flight)

    def cpu_ms(self, part: str) -> float:
        return self.cpu[part] / self.calls * 1000


def floor(url: str, in_flight: int, calls: int) -> Taken:
    """One process of bare threads."""
    command = [sys.executable, "-m", "bench.boto3_baseline", "--url", url]
    command += ["--threads", str(in_flight), "--calls", str(calls)]
    said = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    result = json.loads(said)
    return Taken(
        result["seconds"],
        {"floor": result["cpuSeconds"]},
        int(result["calls"]),
        int(result["calls"]),
    )


def ours(urls: Sequence[str], in_flight: int, runs: int, fill: float, repeat: int) -> list[Taken]:
    """Jobs of so many runs, one after the other, after a smaller one that warms up."""
    wanted = harness.pairs(runs)
    at_once = max(len(urls), round(in_flight / settings.CERTIFICATION_CALLS_PER_RUN * fill))
    with harness.workers(urls, at_once, in_flight):
        harness.follow(harness.certify(wanted[:: max(1, runs // (2 * at_once))]))
        return [_one(wanted) for _ in range(repeat)]


def _one(wanted: Sequence[tuple[AIModel, Region]]) -> Taken:
    before, started = harness.Cpu.now(), time.time()
    job = harness.certify(wanted)
    harness.follow(job)
    used = harness.Cpu.now().since(before)
    assert job.completed_at
    return Taken(
        job.completed_at.timestamp() - started,
        used,
        job.totals()["calls"],
        harness.waits(job, LATENCY_MS),
        harness.odd(job),
    )


def measure(
    in_flight: int, workers: int, seconds: float, repeat: int, fill: float = FILL
) -> list[Row]:
    """Medians of `repeat` measurements of both, on the same emulators."""
    runs = max(1, round(in_flight * seconds / (LATENCY_MS / 1000) / WAITS_PER_RUN))
    with harness.emulators(workers, LATENCY_MS) as urls:
        floors = [floor(urls[0], in_flight, runs * WAITS_PER_RUN) for _ in range(repeat)]
        mine = ours(urls, in_flight, runs, fill, repeat)
    parts = {part: statistics.median(m.cpu_ms(part) for m in mine) for part in (*OURS, "emulator")}
    about = f"{in_flight} in flight, {workers} worker process{'es' * (workers > 1)}"
    return [
        Row(
            f"{about}: wall time over the ideal",
            statistics.median(m.ratio(in_flight) for m in mine),
            "x",
            GOALS.get(in_flight),
            statistics.median(f.ratio(in_flight) for f in floors),
            f"{mine[0].calls} calls in {statistics.median(m.seconds for m in mine):.1f} s"
            + "".join(f"; {m.odd}" for m in mine if m.odd),
        ),
        Row(
            f"{about}: CPU a call",
            sum(parts[part] for part in OURS),
            "ms",
            CPU_GOAL_MS,
            statistics.median(f.cpu_ms("floor") for f in floors),
            ", ".join(f"{part} {value:.2f}" for part, value in parts.items()).replace(
                "emulator", "not counted: emulator"
            ),
        ),
    ]


def rows(given: Namespace) -> list[Row]:
    """The report's rows. With `tiny`, a handful of runs."""
    in_flight = [10] if given.tiny else getattr(given, "in_flight", [10, 64, 300])
    workers = [1] if given.tiny else getattr(given, "workers", [1, 2])
    seconds = 0.6 if given.tiny else getattr(given, "seconds", 10.0)
    fill = getattr(given, "fill", FILL)
    found = []
    for n in in_flight:
        for count in workers:
            found += measure(n, count, seconds, given.repeat, fill)
    return found


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
