"""Measure every claim and print one table: `python -m bench`. Each claim also has its own command:
`python -m bench.throughput` ...

    python -m bench [--repeat 3] [--json]

Takes about a quarter of an hour. The servers, emulators and workers are started for it and end with
it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace

from bench import api_reading, enqueue, harness, latency, memory, metrics, pages, throughput
from bench.environment import PROJECT
from bench.harness import Row

EMULATOR_GOAL = 2000


def emulator(options: Namespace) -> list[Row]:
    """Measure the emulator with its own benchmark, which knows nothing of Django."""
    command = [sys.executable, "-m", "bench.emulator_throughput", "--json"]
    if options.tiny:
        command += ["--seconds", "0.5", "--distinct", "20", "--connections", "4"]
    output = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    result = json.loads(output)
    return [
        Row(
            "emulator: Converse calls answered, one core, no latency",
            result["emulatorPerSecond"],
            "/s",
            EMULATOR_GOAL,
            result["baselinePerSecond"],
            f"baseline: a bare asyncio server; {result['cpuMsPerCall']:.2f} ms CPU per call; "
            f"{result['notOk']} not answered with 200",
            goal_is_maximum=False,
        )
    ]


def rows(options: Namespace) -> list[Row]:
    """Measure all claims, in the order of the design."""
    result: list[Row] = []
    for measure in (
        throughput.rows,
        enqueue.rows,
        latency.rows,
        memory.rows,
        emulator,
        api_reading.rows,
        pages.rows,
        metrics.rows,
    ):
        result += measure(options)
        harness.purge()
    return result


if __name__ == "__main__":
    harness.run(rows, harness.parser(__doc__).parse_args())
