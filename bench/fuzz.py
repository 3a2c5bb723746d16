"""Send strange requests to every address as each role: `python -m bench.fuzz --requests 10000`.

Servers with the catalogue are started for it and end with it. Prints the answers by area and
status, and each fault; the exit code is 1 when there is one.
"""

from __future__ import annotations

import logging
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence

from django.conf import settings
from django.core.management import call_command

from bench import environment  # sets Django up
from bench.fuzz_requests import Fault, Fuzzer
from certification.engine import queue

SHOWN = 40  # faults


def summary(fuzzer: Fuzzer, seconds: float) -> str:
    """Return the answers by area and status, then the faults."""
    areas: dict[str, Counter[int]] = {}
    for (area, status), count in fuzzer.statuses.items():
        areas.setdefault(area or "matrix", Counter())[status] += count
    lines = [
        f"{area}: " + ", ".join(f"{n} x {status}" for status, n in sorted(counts.items()))
        for area, counts in sorted(areas.items())
        if counts.total() > 9
    ]
    faults = grouped(fuzzer.faults)
    lines += [f"{n} x {f.status} {f.sentence} ({f.role}) {f.request}" for f, n in faults[:SHOWN]]
    total = fuzzer.statuses.total()
    failed = sum(n for (_area, status), n in fuzzer.statuses.items() if status >= 500)
    lines.append(
        f"{total} requests, seed {fuzzer.seed}, {seconds:.0f} s: {failed} answers of 5xx, "
        f"{len(fuzzer.faults)} faults."
    )
    return "\n".join(lines)


def grouped(faults: Sequence[Fault]) -> list[tuple[Fault, int]]:
    """Return one fault for each address and sentence, with how often it occurred."""
    counts: Counter[tuple[str, int, str]] = Counter()
    examples: dict[tuple[str, int, str], Fault] = {}
    for fault in faults:
        address = "/".join(fault.request.split("?")[0].split("/")[:4])
        kind = address, fault.status, fault.sentence
        counts[kind] += 1
        examples.setdefault(kind, fault)
    return [(examples[kind], n) for kind, n in counts.most_common()]


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if environment.is_new:
        call_command("migrate", verbosity=0)
        call_command("load_catalogue", verbosity=0)
    logging.disable(logging.CRITICAL)
    settings.API_RATES = dict.fromkeys(settings.API_RATES, 0)
    queue.publish_job = lambda _job: True  # nobody shall certify what it starts
    started = time.monotonic()
    fuzzer = Fuzzer(options.seed)
    fuzzer.run(options.requests)
    print(summary(fuzzer, time.monotonic() - started))
    return 1 if fuzzer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
