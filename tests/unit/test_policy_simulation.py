"""The simulation in small: the real policy over drawn grades, the promises it is about, and what it
writes.
"""

from __future__ import annotations

import random
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from bench import policy_simulation as simulation
from bench import svg
from bench.policy_simulation import HEALTHY, SITUATIONS, Rates, Situation, Tally
from certification.reasons import Status
from certification.suite.case import Kind
from tests.paths import PROJECT

RUNS = 60
BROKEN = [s for s in SITUATIONS if s.certify is False]
GOOD = [s for s in SITUATIONS if s.certify]


@pytest.mark.parametrize("situation", BROKEN, ids=lambda s: s.name)
def test_broken_situations_are_not_certified(situation: Situation) -> None:
    assert simulation.tally(situation, RUNS, seed=1).certified <= 0.06 * RUNS


@pytest.mark.parametrize("situation", GOOD, ids=lambda s: s.name)
def test_healthy_models_are(situation: Situation) -> None:
    assert simulation.tally(situation, RUNS, seed=1).right >= 0.95


@pytest.mark.parametrize(
    "name", ["one gate broken", "tools at 40 %", "Portuguese at 60 %", "streaming at 30 %"]
)
def test_a_plain_average_and_a_ping_certify_what_is_broken(name: str) -> None:
    result = simulation.tally(next(s for s in SITUATIONS if s.name == name), RUNS, seed=1)
    assert result.plain >= 0.9 * RUNS
    assert result.pings >= 0.9 * RUNS


def test_a_dead_gate_fails_and_throttling_never_does() -> None:
    dead = simulation.tally(next(s for s in SITUATIONS if s.name == "one gate broken"), 20, seed=1)
    assert dead.verdicts == {Status.FAILED: 20}
    flood = Situation("flood", None, Rates(1.0, 1.0), throttled=0.7)
    assert set(simulation.tally(flood, 20, seed=1).verdicts) == {Status.PENDING}


def test_the_same_seed_gives_the_same_tally_whatever_else_is_simulated() -> None:
    first, again = simulation.tally(HEALTHY, 10, 3), simulation.tally(HEALTHY, 10, 3)
    assert first.row() == again.row()
    assert simulation.tally(HEALTHY, 10, 4).trials != first.trials


def test_every_kind_of_case_is_drawn() -> None:
    run = simulation.simulate(HEALTHY, random.Random(1))
    assert {c.kind for c in simulation.CASES if run.graded[c.id]} == set(Kind)
    assert run.judgement.performance is not None
    assert run.judgement.ttft is not None
    assert run.judgement.ttft.n == 10
    assert run.trials == sum(map(len, run.graded.values()))


def test_a_large_drop_shows_and_a_small_one_does_not() -> None:
    large, small = simulation.power(0.75, 20, 1), simulation.power(0.95, 20, 1)
    assert large.uncertified >= 0.9
    assert small.uncertified <= 0.2
    assert large.at_05 >= large.at_01 >= small.at_01


def test_promises_that_do_not_hold_are_named() -> None:
    bad = Tally(next(s for s in SITUATIONS if s.name == "tools at 40 %"), runs=100)
    bad.verdicts[Status.CERTIFIED] = 1
    assert simulation.violations([bad]) == ["tools at 40 %: certified in 1.00 %"]
    held = Tally(HEALTHY, runs=1000)
    held.verdicts[Status.CERTIFIED] = 991
    assert simulation.violations([held]) == []


def test_the_plots_are_well_formed() -> None:
    tallies = [simulation.tally(s, 3, 1) for s in SITUATIONS[:2]]
    powers = {c: [simulation.power(level, 2, 1, c) for level in (0.97, 0.6)] for c in ("", "json")}
    plots = simulation.plots(tallies, powers)
    assert set(plots) == {"policy-situations.svg", "policy-certified.svg", "policy-power.svg"}
    for text in plots.values():
        assert ET.fromstring(text).tag.endswith("svg")
    assert "5 &lt; 6 &amp; 7" in svg.bars("5 < 6 & 7", [("a", (1.0,))], ("b",))


def test_one_command_prints_the_table() -> None:
    command = [
        sys.executable,
        "bench/policy_simulation.py",
        "--runs",
        "5",
        "--power-runs",
        "0",
        "--seed",
        "2",
        "--policy",
        "near_floor_first=0.10",
        "second_retry=0",
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "plain average certifies %" in done.stdout
    assert all(s.name in done.stdout for s in SITUATIONS)
