"""Every benchmark runs, at a size that measures nothing, and reports its figures."""

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
    "throughput": ("wall time over the ideal", "CPU per call"),
    "enqueue": ("the request waits", "all on the queue", "while a bulk worker takes them"),
    "latency": ("time over its slowest chain", "one full run"),
    "memory": ("memory of a worker",),
    "api_reading": (
        *[f"{what}, uncached" for what in READ],
        *[f"{what}, {how}" for what in READ for how in ("cached", "not modified (304)")],
        *[f"{what}, cached: 99 of 100" for what in READ if what != "matrix"],
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Servers of their own, so that those of the tests are neither flushed nor stopped."""
    return tmp_path_factory.mktemp("bench")


@cache
def bench(root: Path, name: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--tiny", "--repeat", "1", "--json"],
        cwd=PROJECT,
        env={**os.environ, "MYIA_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FIGURES)
def test_a_benchmark_reports_its_figures_and_the_machine(root: Path, name: str) -> None:
    report = bench(root, name)
    assert "cores" in report["machine"]
    for words, row in zip(FIGURES[name], report["rows"], strict=True):
        assert words in row["what"]
        assert row["measured"] > 0
        assert row["holds"] in (True, False, None)


def test_the_throughput_benchmark_certifies_every_pair(root: Path) -> None:
    wall = bench(root, "throughput")["rows"][0]
    calls, _, rest = wall["note"].partition(" calls in ")
    assert int(calls) % 14 == 0  # whole quick runs
    assert rest.endswith(" s")  # no deviations


def test_the_emulator_answers_every_call_of_its_benchmark() -> None:
    command = [sys.executable, "-m", "bench.emulator_throughput", "--json"]
    options = ["--connections", "2", "--seconds", "0.2", "--distinct", "20"]
    done = subprocess.run(
        [*command, *options], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    report = json.loads(done.stdout)
    assert report["notOk"] == 0
    assert report["emulatorPerSecond"] > 0


def test_the_reading_benchmark_gets_the_expected_answers(root: Path) -> None:
    notes = [row["note"] for row in bench(root, "api_reading")["rows"]]
    assert all(" 0 unexpected answers" in note for note in notes)


def test_the_stored_runs_are_made_once(root: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import bench.environment; from bench import dataset; print(dataset.fill(5_000))",
    ]
    bench(root, "api_reading")
    env = {**os.environ, "MYIA_ROOT": str(root)}
    done = subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) == 0
