"""A job's wall time and CPU against bare boto3 threads on the same emulator, at several numbers of calls in flight.

    python -m bench.throughput [--in-flight 10 64 300] [--workers 1 2] [--seconds 10] [--repeat 3] [--json]

Floor: N threads, one boto3 client, plain Converse calls. Ours: one job of quick-tier runs from `dispatch.certify` to its
last row: queue, worker processes, limiter, database, evidence. Both are compared with the ideal, calls x latency / N.
A run cannot fill its share of N all the time (the access gate goes first, two gates are chains of three calls), so as
many runs are worked on at once as it takes to keep N calls in flight; N itself bounds the calls of all workers together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import house

CALLS_PER_RUN = 14
LATENCY_MS = 200.0
FILL = 1.6  # runs at once, as a multiple of N / CERTIFICATION_CALLS_PER_RUN
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """One measurement. `ratio` is wall time over the ideal; CPU in milliseconds per call."""

    in_flight: int
    workers: int
    calls: int
    seconds: float
    floor_calls: int
    floor_seconds: float
    ratio: float
    floor_ratio: float
    cpu_ms: float
    cpu_ms_by_part: dict[str, float]
    floor_cpu_ms: float
    odd: dict[str, int]  # runs that did not end certified, by reason

    @property
    def over_floor(self) -> float:
        return self.ratio / self.floor_ratio


def floor(urls: Sequence[str], in_flight: int, calls: int) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and calls of one process of bare threads."""
    command = [sys.executable, "-m", "bench.floor", "--url", urls[0]]
    command += ["--threads", str(in_flight), "--calls", str(calls)]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result = json.loads(said)
    return result["seconds"], result["cpuSeconds"], int(result["calls"])


def ours(urls: Sequence[str], in_flight: int, runs: int, fill: float, repeat: int) -> list[tuple[float, dict[str, float], int, dict[str, int]]]:
    """Wall seconds, CPU seconds by part, calls and odd runs of each of `repeat` jobs, after one that warms up."""
    from certification.engine import dispatch
    from certification.engine.dispatch import Wish
    from certification.models import Priority, Tier

    wanted = house.pairs(runs)
    at_once = max(1, round(in_flight / 4 * fill))
    measured = []
    with house.workers(urls, at_once, in_flight):
        for round_ in range(repeat + 1):
            chosen = wanted if round_ else wanted[:: max(1, runs // (2 * at_once))]
            before, started = house.Cpu.now(), time.time()
            job = dispatch.certify([], [], Wish(tier=Tier.QUICK, priority=Priority.BULK), pairs=chosen).job
            house.follow(job.pk)
            used = house.Cpu.now().since(before)
            job.refresh_from_db()
            assert job.completed_at
            odd = {
                reason or verdict: n
                for reason, verdict, n in _verdicts(job)
                if verdict != "certified"
            }
            if round_:
                measured.append((job.completed_at.timestamp() - started, used, job.totals()["calls"], odd))
    return measured


def _verdicts(job: object) -> list[tuple[str, str, int]]:
    from django.db.models import Count

    rows = job.runs.order_by().values("error_reason", "verdict").annotate(n=Count("pk"))  # type: ignore[attr-defined]
    return list(rows.values_list("error_reason", "verdict", "n"))


def measure(in_flight: int, workers: int, seconds: float, repeat: int, fill: float = FILL) -> Measured:
    """Medians of `repeat` measurements of both, on the same emulators."""
    calls = max(in_flight, round(in_flight * seconds / (LATENCY_MS / 1000)))
    runs = max(1, round(calls / CALLS_PER_RUN))
    with house.servers(workers, LATENCY_MS) as urls:
        floors = [floor(urls, in_flight, runs * CALLS_PER_RUN) for _ in range(repeat)]
        mine = ours(urls, in_flight, runs, fill, repeat)
    wall = statistics.median(m[0] for m in mine)
    made = mine[0][2]
    parts = {
        part: statistics.median(m[1][part] / m[2] * 1000 for m in mine) for part in ("worker", "postgres", "valkey", "emulator")
    }
    floor_wall = statistics.median(f[0] for f in floors)
    return Measured(
        in_flight=in_flight,
        workers=workers,
        calls=made,
        seconds=wall,
        floor_calls=floors[0][2],
        floor_seconds=floor_wall,
        ratio=statistics.median(m[0] / ideal(m[2], in_flight) for m in mine),
        floor_ratio=statistics.median(f[0] / ideal(f[2], in_flight) for f in floors),
        cpu_ms=sum(value for part, value in parts.items() if part != "emulator"),
        cpu_ms_by_part=parts,
        floor_cpu_ms=statistics.median(f[1] / f[2] * 1000 for f in floors),
        odd=mine[-1][3],
    )


def ideal(calls: int, in_flight: int) -> float:
    """Seconds that `calls` take when `in_flight` of them are always under way and nothing else costs time."""
    return calls * LATENCY_MS / 1000 / in_flight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[10, 64, 300])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0, help="ideal length of one measurement")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--fill", type=float, default=FILL)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with house.prepared():
        if not given.json:
            print(house.machine())
        for in_flight in given.in_flight:
            for workers in given.workers:
                m = measure(in_flight, workers, given.seconds, given.repeat, given.fill)
                print(json.dumps(asdict(m)) if given.json else line(m), flush=True)


def line(m: Measured) -> str:
    parts = ", ".join(f"{part} {value:.2f}" for part, value in m.cpu_ms_by_part.items())
    return (
        f"{m.in_flight:4d} in flight, {m.workers} worker(s): {m.ratio:.2f} x the ideal (floor {m.floor_ratio:.2f} x, "
        f"{m.over_floor:.2f} of it); CPU a call {m.cpu_ms:.2f} ms ({parts}; floor {m.floor_cpu_ms:.2f}); "
        f"{m.calls} calls in {m.seconds:.1f} s" + (f"; not certified: {m.odd}" if m.odd else "")
    )


if __name__ == "__main__":
    main()
