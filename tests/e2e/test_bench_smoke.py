"""Every bench runs, at a size that measures nothing, and tells what it is asked to tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.paths import PROJECT

pytestmark = pytest.mark.processes

READ = ("certifications of a model", "a page of all certifications", "matrix", "badge")
FIGURES = {
    "throughput": ("wall time over the ideal", "CPU a call"),
    "enqueue": ("the request waits", "all on the queue", "while a bulk worker takes them"),
    "latency": ("time over its slowest chain", "one full run"),
    "memory": ("memory of a worker",),
    "api_reading": (
        *[f"{what}, cold" for what in READ],
        *[f"{what}, {how}" for what in READ for how in ("kept", "known (304)")],
        *[f"{what}, kept: 99 of 100" for what in READ if what != "matrix"],
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Servers of the benches' own, so that the tests' are neither flushed nor stopped."""
    return tmp_path_factory.mktemp("bench")


@cache
def bench(root: Path, name: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--tiny", "--repeat", "1", "--json"],
        cwd=PROJECT,
        env={**os.environ, "MYIA_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FIGURES)
def test_a_bench_tells_its_figures_and_the_machine(root: Path, name: str) -> None:
    told = bench(root, name)
    assert "cores" in told["machine"]
    for words, row in zip(FIGURES[name], told["rows"], strict=True):
        assert words in row["what"]
        assert row["measured"] > 0
        assert row["holds"] in (True, False, None)


def test_the_throughput_bench_certifies_everything_it_asks_for(root: Path) -> None:
    wall = bench(root, "throughput")["rows"][0]
    calls, _, rest = wall["note"].partition(" calls in ")
    assert int(calls) % 14 == 0  # whole quick runs
    assert rest.endswith(" s")  # nothing told as odd


def test_the_emulators_bench_answers_every_call() -> None:
    command = [sys.executable, "-m", "bench.emulator_throughput", "--json"]
    options = ["--connections", "2", "--seconds", "0.2", "--distinct", "20"]
    done = subprocess.run(
        [*command, *options], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    told = json.loads(done.stdout)
    assert told["notOk"] == 0
    assert told["emulatorPerSecond"] > 0


def test_the_reading_bench_gets_the_answers_that_it_asks_for(root: Path) -> None:
    notes = [row["note"] for row in bench(root, "api_reading")["rows"]]
    assert all(" 0 odd answers" in note for note in notes)


def test_the_stored_runs_are_made_once(root: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import bench.environment; from bench import stored; print(stored.fill(5_000))",
    ]
    bench(root, "api_reading")
    env = {**os.environ, "MYIA_ROOT": str(root)}
    done = subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) == 0
