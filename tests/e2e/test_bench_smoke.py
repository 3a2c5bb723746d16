"""Every benchmark runs, at a size that measures nothing, and reports its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certification.stack import embedded
from tests import seed
from tests.paths import PROJECT

pytestmark = pytest.mark.processes

READ = ("certifications of a model", "a page of all certifications", "matrix", "badge")
PAGES = (
    "overview", "matrix", "matrix as a map", "start", "jobs", "jobs with a filter",
    "job of 100 runs", "job of a sweep", "poll of that job", "certification", "run",
    "run, a case open", "compare", "search", "certificate", "verify", "badges", "public model",
    "account",
)  # fmt: skip
FIGURES = (
    "wall time over the ideal",
    "CPU per call",
    "the request waits",
    "all on the queue",
    "while a bulk worker takes them",
    "time over its slowest chain",
    "one full run",
    "memory of a worker",
    "emulator: Converse calls answered",
    *[f"{what}, uncached" for what in READ],
    *[f"{what}, {how}" for what in READ for how in ("cached", "not modified (304)")],
    *[f"{what}, cached: 99 of 100" for what in READ if what != "matrix"],
    *[f"{page}: {what}" for page in PAGES for what in ("time", "queries")],
    "metrics: first scrape",
    *[f"metrics: scrape, {what}" for what in ("nothing changed", "certifications changed")],
    "metrics: size",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Servers of their own, so that those of the tests are neither flushed nor stopped."""
    root = tmp_path_factory.mktemp("bench")
    seed.plant(root)
    (root / ".myia" / "bench").touch()  # what is stored may be replaced
    yield root
    embedded.discard(root)


@pytest.fixture(scope="module")
def report(root: Path) -> Any:
    """The report of all benchmarks in one process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--tiny", "--repeat", "1", "--json"],
        cwd=PROJECT,
        env={**os.environ, "MYIA_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_benchmarks_report_their_figures_and_the_machine(report: Any) -> None:
    assert "cores" in report["machine"]
    for words, row in zip(FIGURES, report["rows"], strict=True):
        assert words in row["what"]
        assert row["measured"] > 0
        assert row["holds"] in (True, False, None)


def test_the_throughput_benchmark_certifies_every_pair(report: Any) -> None:
    wall = report["rows"][0]
    calls, _, rest = wall["note"].partition(" calls in ")
    assert int(calls) % 14 == 0  # whole quick runs
    assert rest.endswith(" s")  # no deviations


def test_the_emulator_answers_every_call_of_its_benchmark(report: Any) -> None:
    [row] = [row for row in report["rows"] if row["what"].startswith("emulator")]
    assert "; 0 not answered with 200" in row["note"]


def test_the_reading_benchmark_gets_the_expected_answers(report: Any) -> None:
    begin = FIGURES.index(f"{READ[0]}, uncached")
    end = FIGURES.index(f"{PAGES[0]}: time")
    rows = report["rows"][begin:end]
    assert len(rows) == 15
    assert all(" 0 unexpected answers" in row["note"] for row in rows)


def test_the_stored_runs_are_made_once(root: Path, report: Any) -> None:
    command = [
        sys.executable,
        "-c",
        "import bench.environment; from bench import dataset; print(dataset.fill(5_000))",
    ]
    env = {**os.environ, "MYIA_ROOT": str(root)}
    done = subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) == 0
