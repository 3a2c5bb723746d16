"""Measure how the product grows: with its workers, and with what is stored.

    python -m bench.scaling [--workers 1 2 4] [--stored 10000 1000000] [--sweep 4000 20000] [--json]

Workers: one job of quick runs at 200 ms a call with so many worker processes, each with an emulator
of its own; runs a second, and the CPU of a run (workers, database, broker). On a machine with fewer
cores than processes the figure says what the machine does, not what the processes could.

Stored: with so many finished runs in the database, the pages that people open, and a sweep: how
long its request waits and until every run is on the queue. Models are added until there are enough
pairs. What is stored is replaced; with MYIA_ROOT naming a folder it stays there. Ten million runs
need 25 GB and half an hour (--stored 10000000).
"""

from __future__ import annotations

import copy
import math
import statistics
import sys
import uuid
from argparse import Namespace
from collections.abc import Sequence

from bench import dataset, enqueue, harness, pages
from bench.environment import QUEUE
from bench.harness import Row
from certification.models import AIModel, Region

DEFAULTS = {"workers": [1, 2, 4], "stored": [10_000, 1_000_000], "sweep": [4_000, 20_000]}
TINY = {"workers": [1], "stored": [2_000], "sweep": [40]}
LATENCY_MS = 200.0
RUNS_PER_WORKER, RUNS_AT_ONCE, CALLS_IN_FLIGHT = 100, 24, 40
PAGES = ("overview", "matrix", "jobs", "job of a sweep", "certification", "run", "compare")


def with_workers(count: int, repeat: int, runs: int) -> list[Row]:
    """Return runs a second, and the CPU of a run, with that many worker processes."""
    rates, cpu = [], []
    pairs = harness.pairs(runs * count)
    with (
        harness.emulators(count, LATENCY_MS) as urls,
        harness.workers(urls, RUNS_AT_ONCE * count, CALLS_IN_FLIGHT * count),
    ):
        harness.follow(harness.certify(pairs[: max(1, len(pairs) // 5)]))
        for _ in range(repeat):
            before = harness.Cpu.now()
            job = harness.certify(pairs)
            harness.follow(job)
            used = harness.Cpu.now().since(before)
            assert job.completed_at
            seconds = (job.completed_at - job.created_at).total_seconds()
            rates.append(len(pairs) / seconds)
            cpu.append({part: 1000 * value / len(pairs) for part, value in used.items()})
    parts = ("worker", "postgres", "valkey")
    medians = {part: statistics.median(one[part] for one in cpu) for part in parts}
    note = ", ".join(f"{part} {value:.0f}" for part, value in medians.items())
    return [
        Row(f"{count} worker processes: runs a second", statistics.median(rates), "/s"),
        Row(f"{count} worker processes: CPU of a run", sum(medians.values()), "ms", note=note),
    ]


def with_stored(runs: int, sweeps: Sequence[int], repeat: int) -> list[Row]:
    """Return the times of pages and of sweeps with that many runs stored."""
    seconds = dataset.fill(runs)
    print(f"{runs} runs stored in {seconds:.0f} s", file=sys.stderr)
    client = pages.logged_in()
    measured = [page for page in pages.pages() if page.name in PAGES]
    times = pages.time_pages(client, measured, max(5, repeat))
    bare = times["bare"]
    result = [
        Row(
            f"{runs:,} runs stored: {page.name}",
            times[page.name].p50,
            "ms",
            page.ms,
            bare.p50,
            f"p95 {times[page.name].p95:.0f} ms",
        )
        for page in measured
    ]
    for pairs in sweeps:
        result += sweep(runs, pairs)
    return result


def sweep(stored: int, pairs: int) -> list[Row]:
    """Return how long the request of a sweep waits, and until its last run is on the queue."""
    regions = Region.objects.filter(enabled=True).count()
    add_models(math.ceil(pairs / regions))
    with (
        harness.emulators(1, LATENCY_MS) as urls,
        harness.workers(urls, 16, 64, [f"{QUEUE},maintenance"]),
    ):
        one = enqueue.sweep(math.ceil(pairs / regions), regions)
    harness.purge()
    what, share = f"{stored:,} runs stored: sweep of {pairs:,} pairs", pairs / 4000
    return [
        Row(f"{what}, the request waits", one.answered, "s", max(1.0, share)),
        Row(f"{what}, all on the queue", one.queued, "s", 3.0 * max(1.0, share)),
    ]


def add_models(count: int) -> None:
    """Have at least that many active models, the others copies of one that is there."""
    missing = count - AIModel.objects.active().count()
    original = AIModel.objects.active().filter(kind="text").order_by("pk").first()
    assert original
    copies = []
    for _ in range(missing):
        one = copy.copy(original)
        one.pk = uuid.uuid4()
        one.api_model_id = f"bench.{one.pk}"
        copies.append(one)
    AIModel.objects.bulk_create(copies)


def rows(options: Namespace) -> list[Row]:
    """Return the rows of the report. With `tiny`, a handful of runs."""
    sizes = TINY if options.tiny else {**DEFAULTS, **vars(options)}
    result: list[Row] = []
    for count in sizes["workers"]:
        result += with_workers(count, options.repeat, 5 if options.tiny else RUNS_PER_WORKER)
    for stored in sizes["stored"]:
        result += with_stored(stored, sizes["sweep"], options.repeat)
    return result


def main() -> None:
    parser = harness.parser(__doc__)
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, nargs="*", default=default)
    harness.run(rows, parser.parse_args())


if __name__ == "__main__":
    main()
