"""Every measured claim in one table: `python -m bench`. Each also by its own command: `python -m
bench.throughput` ...

    python -m bench [--repeat 3] [--json]

Takes about a quarter of an hour. The servers, emulators and workers are started for it and end with
it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace

from bench import api_reading, enqueue, harness, latency, memory, throughput
from bench.environment import PROJECT
from bench.harness import Row

EMULATOR_GOAL = 2000


def emulator(given: Namespace) -> list[Row]:
    """The emulator's own bench, which knows nothing of Django."""
    command = [sys.executable, "-m", "bench.emulator_throughput", "--json"]
    command += ["--seconds", "0.5", "--distinct", "20", "--connections", "4"] if given.tiny else []
    said = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    seen = json.loads(said)
    return [
        Row(
            "emulator: Converse calls answered, one core, no latency",
            seen["emulatorPerSecond"],
            "/s",
            EMULATOR_GOAL,
            seen["floorPerSecond"],
            f"floor: a bare asyncio server; {seen['cpuMsPerCall']:.2f} ms CPU a call; {seen['notOk']} not answered 200",
            most=False,
        )
    ]


def rows(given: Namespace) -> list[Row]:
    """All of them, in the order of the design."""
    found: list[Row] = []
    for bench in (
        throughput.rows,
        enqueue.rows,
        latency.rows,
        memory.rows,
        emulator,
        api_reading.rows,
    ):
        found += bench(given)
        harness.purge()
    return found


if __name__ == "__main__":
    harness.run(rows, harness.parser(__doc__).parse_args())
