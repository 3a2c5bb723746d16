"""Compare a job's wall time and CPU with bare boto3 threads on the same emulator, for several
numbers of calls in flight.

    python -m bench.throughput [--in-flight 64 100 300] [--workers 2] [--seconds 10] [--repeat 3]
    [--json]

Baseline: N threads, one boto3 client, plain Converse calls. Peers, alternating with it and with the
product: aiobotocore on one event loop, and BullMQ with the JavaScript SDK (`bench.peers`). Product:
one job of quick-tier runs from `dispatch.certify` to its last row, with queue, worker processes,
limiter, database and evidence. Both are compared with the ideal, calls x latency / N, where the
three calls of a run that are refused at once (those of the error contract) do not count. A run
cannot have four calls in flight all the time (the access gate goes first, then two or three rounds
of calls), so more than N / 4 runs are in progress at once, while N limits the calls of all workers
together.
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

from bench import harness, peers
from bench.boto3_baseline import texts_for
from bench.environment import PROJECT
from bench.harness import Row
from certification.models import AIModel, Region

CALLS_PER_RUN, WAITS_PER_RUN = 14, 11
LATENCY_MS = 200.0
FILL = 2.4  # concurrent runs, as a multiple of N / CERTIFICATION_CALLS_PER_RUN
GOALS = {64: 1.2, 100: 1.25, 300: 1.5}
CPU_GOAL_MS = 2.0
CPU_GOAL_RATIO = 1.2  # of a bare call among threads, in the same run
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


def measure_peer(command: Sequence[str], url: str, in_flight: int, calls: int) -> Measurement:
    """Measure one process of another program."""
    result = peers.measure(command, url, in_flight, texts_for(calls))
    made = int(result["calls"])
    return Measurement(result["seconds"], {"peer": result["cpuSeconds"]}, made, made)


def prepare_peers(tiny: bool) -> tuple[dict[str, list[str]], list[str]]:
    """Return the commands of the peers by name, and why others are left out."""
    commands, missing = {}, []
    for peer in () if tiny else peers.PEERS:
        try:
            commands[peer.name] = peer.prepare()
        except peers.Missing as reason:
            missing.append(f"{peer.name}: {reason}")
    return commands, missing


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


def measure(in_flight: int, workers: int, options: Namespace) -> list[Row]:
    """Return the medians of `options.repeat` rounds; each measures bare threads, the peers and the
    product, one after the other, on the same emulators.
    """
    runs = max(1, round(in_flight * options.seconds / (LATENCY_MS / 1000) / WAITS_PER_RUN))
    pairs = harness.pairs(runs)
    full = in_flight / settings.CERTIFICATION_CALLS_PER_RUN
    concurrency = max(workers, round(full * options.fill))
    commands, missing = prepare_peers(options.tiny)
    calls = runs * WAITS_PER_RUN
    product: list[Measurement] = []
    others: dict[str, list[Measurement]] = {name: [] for name in ("boto3 threads", *commands)}
    with (
        harness.emulators(workers, LATENCY_MS) as urls,
        harness.workers(urls, concurrency, in_flight),
    ):
        harness.follow(harness.certify(pairs[:: max(1, runs // (2 * concurrency))]))
        for _ in range(options.repeat):
            others["boto3 threads"].append(measure_baseline(urls[0], in_flight, calls))
            for name, command in commands.items():
                others[name].append(measure_peer(command, urls[0], in_flight, calls))
            product.append(measure_job(pairs))
    return [
        *rows_of_product(f"{in_flight} in flight, {workers} processes", in_flight, product, others),
        *rows_of_peers(f"{in_flight} in flight", in_flight, others, missing),
    ]


def rows_of_product(
    setting: str,
    in_flight: int,
    product: Sequence[Measurement],
    others: Mapping[str, Sequence[Measurement]],
) -> list[Row]:
    """Return time and CPU of the product beside those of bare boto3 threads."""
    parts = {
        part: statistics.median(m.cpu_ms(part) for m in product) for part in (*PRODUCT, "emulator")
    }
    bare = others["boto3 threads"]
    bare_ms = statistics.median(b.cpu_ms("baseline") for b in bare)
    return [
        Row(
            f"{setting}: wall time over the ideal",
            statistics.median(m.ratio(in_flight) for m in product),
            "x",
            GOALS.get(in_flight),
            statistics.median(b.ratio(in_flight) for b in bare),
            f"{product[0].calls} calls in {statistics.median(m.seconds for m in product):.1f} s"
            + "".join(f"; {m.deviations}" for m in product if m.deviations),
        ),
        Row(
            f"{setting}: CPU per call",
            sum(parts[part] for part in PRODUCT),
            "ms",
            min(CPU_GOAL_MS, CPU_GOAL_RATIO * bare_ms),
            bare_ms,
            ", ".join(f"{part} {value:.2f}" for part, value in parts.items()).replace(
                "emulator", "not counted: emulator"
            ),
        ),
    ]


def rows_of_peers(
    setting: str,
    in_flight: int,
    others: Mapping[str, Sequence[Measurement]],
    missing: Sequence[str],
) -> list[Row]:
    """Return time over the ideal of every peer, with its CPU in the note."""
    rows = [
        Row(
            f"{setting}: {name}, for comparison",
            statistics.median(m.ratio(in_flight) for m in measured),
            "x",
            note=f"{statistics.median(sum(m.cpu.values()) / m.calls * 1000 for m in measured):.2f} "
            "ms CPU per call, one process",
        )
        for name, measured in others.items()
        if name != "boto3 threads"
    ]
    return [*rows, *(Row(f"{setting}: not measured", 0, "", note=reason) for reason in missing)]


def rows(options: Namespace) -> list[Row]:
    """Return the rows of the report. With `tiny`, a handful of runs."""
    tiny = options.tiny
    options = Namespace(**{**DEFAULTS, **vars(options)})
    if tiny:
        options.in_flight, options.workers, options.seconds = [10], [1], 0.6
    result = []
    for n in options.in_flight:
        for count in options.workers:
            result += measure(n, count, options)
    return result


DEFAULTS = {"in_flight": [64, 100, 300], "workers": [2], "seconds": 10.0, "fill": FILL}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--in-flight", type=int, nargs="+", default=DEFAULTS["in_flight"])
    parser.add_argument("--workers", type=int, nargs="+", default=DEFAULTS["workers"])
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="ideal length of one measurement"
    )
    parser.add_argument("--fill", type=float, default=FILL)
    harness.run(rows, parser.parse_args())


if __name__ == "__main__":
    main()
