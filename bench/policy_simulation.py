"""How often the judging policy certifies what it should not, and withholds what it should certify.

    .venv/bin/python bench/policy_simulation.py [--runs 4000] [--seed 1] [--markdown] [--plots
    bench/plots] .venv/bin/python bench/policy_simulation.py --power-runs 0 --policy
    near_floor_first=0.10 second_retry=0

Every simulated run goes through the real `plan.next_trials` and `scoring.judge`: only the grades
are drawn, from the pass rates of a situation. Beside our verdict stands what a plain average of the
same first trials would have said (certified from 80 %) and what one ping (the access gate) says.
`--plots` writes the figures of docs/judging.md as SVG. `--policy` judges by other numbers than the
policy's own, to see what a change of them would do.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import svg
from certification.inference import Failure
from certification.reasons import Reason, Status
from certification.suite import plan, policy, registry, scoring, statistics, versions
from certification.suite.case import Case, Grade, Kind
from certification.suite.scoring import Calls, CaseOutcome, Judgement, Run

PASS, FAIL = Grade(True, "Passed."), Grade(False, "Failed.")
THROTTLED = Grade(
    False, "Throttled.", valid=False, cause=Failure(Reason.THROTTLED_TOKENS, "Too many tokens")
)
OUTAGE = Grade(
    False,
    "5xx.",
    valid=False,
    cause=Failure(Reason.SERVICE_UNAVAILABLE, "Unavailable", http_status=503),
)
PLAIN_LINE = 0.80

CASES = registry.cases("text", "full")


class Rates(NamedTuple):
    """Shares of passed trials. `gate` holds per try, for the gates that make calls of their own."""

    case: float = 0.97
    gate: float = 0.995
    leak: float = 1.0  # the gate over all texts, which has one try only


USUAL = Rates()


@dataclass(frozen=True)
class Situation:
    """What a model and its region are really like. `certify` says what a verdict should be; None =
    neither is wrong.

    `only` overrides the pass rate of categories and of single cases by id. `throttled`
    and `outage` are the shares of trials that infrastructure ends. Latencies are drawn around
    `ttft_ms` and `tokens_per_second` (log-normal, 25 %).
    """

    name: str
    certify: bool | None
    rates: Rates = USUAL
    only: Mapping[str, float] = field(default_factory=dict)
    throttled: float = 0.0
    outage: float = 0.0
    ttft_ms: float = 1200.0
    tokens_per_second: float = 50.0

    def rate(self, case: Case) -> float:
        """The share of trials of a case that pass."""
        if case.id in self.only:
            return self.only[case.id]
        if case.kind != Kind.GATE:
            return self.only.get(case.category.value, self.rates.case)
        return self.rates.leak if case.whole_run else self.rates.gate


HEALTHY = Situation("healthy (97 % per case)", True)
SITUATIONS = (
    HEALTHY,
    Situation("healthy, gates at 97 % too", True, Rates(gate=0.97)),
    Situation("healthy, 8 % throttled or 5xx", True, throttled=0.06, outage=0.02),
    Situation("noisy answers (90 % per case)", None, Rates(0.90)),
    Situation("one gate broken", False, only={"G03": 0.0}),
    Situation("tools at 40 %", False, only={"tools": 0.40}),
    Situation("Portuguese at 60 %", False, only={"portuguese": 0.60}),
    Situation("streaming at 30 %", False, only={"streaming": 0.30}),
    Situation("weak (75 % per case)", False, Rates(0.75)),
    Situation("tools at 60 %", False, only={"tools": 0.60}),
    Situation("instructions at 60 %", False, only={"instructions": 0.60}),
    Situation("streaming at 60 %", False, only={"streaming": 0.60}),
    Situation("JSON at 60 %", False, only={"json": 0.60}),
    Situation("JSON at 50 %", False, only={"json": 0.50}),
    Situation("one gate at 50 %", None, only={"G03": 0.50}),
    Situation("slow (on the limits), else healthy", None, ttft_ms=6000.0, tokens_per_second=9.0),
)


@dataclass(frozen=True)
class Simulated:
    """One simulated run: our judgement, the share a plain average sees, whether a ping passed, how
    many trials it took.
    """

    judgement: Judgement
    average: float
    pinged: bool
    trials: int
    graded: Mapping[str, Sequence[Grade]]


def simulate(situation: Situation, rng: random.Random, cases: Sequence[Case] = CASES) -> Simulated:
    """Simulate one full run of the real plan and the real judgement over drawn grades."""
    graded: dict[str, list[Grade]] = {case.id: [] for case in cases}
    outages: Counter[str] = Counter()

    def run_of(outcomes: tuple[CaseOutcome, ...]) -> Run:
        calls = Calls(sum(map(len, graded.values())), server_errors=outages["outage"])
        return Run("full", outcomes, calls=calls, declared=registry.ALL_CAPABILITIES)

    while due := plan.next_trials(cases, graded, tier="full", run_of=run_of):
        for trial in due:
            graded[trial.case.id].append(draw(situation, trial.case, rng, outages))
    judgement = scoring.judge(run_of(plan.outcomes_of(cases, graded)))
    first = [
        g.passed for c in cases if c.kind in _PLAIN for g in graded[c.id][: c.repeats] if g.valid
    ]
    average = sum(first) / len(first) if first else 0.0
    return Simulated(
        judgement, average, graded[cases[0].id][0].passed, sum(map(len, graded.values())), graded
    )


_PLAIN = (Kind.GATE, Kind.SCORED)


def draw(situation: Situation, case: Case, rng: random.Random, outages: Counter[str]) -> Grade:
    """Draw the grade of one trial."""
    luck = rng.random()
    if luck < situation.throttled + situation.outage and not case.whole_run:
        outage = luck < situation.outage
        outages["outage" if outage else "throttled"] += 1
        return OUTAGE if outage else THROTTLED
    if case.kind == Kind.PERFORMANCE:
        ttft, tps = situation.ttft_ms, situation.tokens_per_second
        figures = {"ttft_ms": ttft, "tokens_per_second": tps}
        return Grade(
            True, "Measured.", {k: v * rng.lognormvariate(0, 0.25) for k, v in figures.items()}
        )
    return PASS if rng.random() < situation.rate(case) else FAIL


@dataclass
class Tally:
    """What many runs of one situation came to."""

    situation: Situation
    runs: int = 0
    verdicts: Counter[Status] = field(default_factory=Counter)
    plain: int = 0
    pings: int = 0
    trials: int = 0

    def add(self, run: Simulated) -> None:
        self.runs += 1
        self.verdicts[run.judgement.verdict] += 1
        self.plain += run.average >= PLAIN_LINE
        self.pings += run.pinged
        self.trials += run.trials

    @property
    def certified(self) -> int:
        return self.verdicts[Status.CERTIFIED]

    @property
    def share(self) -> float:
        """How much of it was certified, 0..1."""
        return self.certified / self.runs

    @property
    def right(self) -> float:
        """The share that a healthy model may get: certified, or `pending` where infrastructure is
        in the way.
        """
        disturbed = self.situation.throttled + self.situation.outage > 0
        return (self.certified + (self.verdicts[Status.PENDING] if disturbed else 0)) / self.runs

    def row(self) -> tuple[str, ...]:
        """The table's cells; the interval is Wilson's, 95 %."""
        low, high = statistics.wilson(self.certified, self.runs)
        other = [
            f"{100 * self.verdicts[s] / self.runs:.2f}"
            for s in (Status.QUALITY_WARNING, Status.FAILED, Status.PENDING)
        ]
        return (
            self.situation.name,
            {True: "yes", False: "no", None: "-"}[self.situation.certify],
            f"{100 * self.share:.2f}",
            f"{100 * low:.2f}-{100 * high:.2f}",
            *other,
            f"{100 * self.plain / self.runs:.2f}",
            f"{100 * self.pings / self.runs:.2f}",
            f"{self.trials / self.runs:.0f}",
        )


HEAD = (
    "situation", "should be certified", "certified %", "95 % interval", "warning %", "failed %",
    "pending %", "plain average certifies %", "ping certifies %", "trials",
)  # fmt: skip


def tally(situation: Situation, runs: int, seed: int) -> Tally:
    """Simulate `runs` runs of a situation; the same seed gives the same tally, whatever else is
    simulated.
    """
    rng, result = random.Random(f"{seed}/{situation.name}"), Tally(situation)
    for _ in range(runs):
        result.add(simulate(situation, rng))
    return result


# What one run can and cannot tell: runs of a model that got worse, beside a certified run of
# before.

LEVELS = (0.97, 0.95, 0.92, 0.90, 0.87, 0.85, 0.80, 0.75, 0.70, 0.60)


@dataclass(frozen=True)
class Power:
    """How often a drop from 97 % to `level` is seen: not certified; paired test below 0.05 and
    below 0.01.
    """

    level: float
    uncertified: float
    at_05: float
    at_01: float


def power(level: float, runs: int, seed: int, category: str = "") -> Power:
    """The share of runs in which a drop from 97 % to `level` shows, everywhere or in one category
    alone.
    """
    rng = random.Random(f"{seed}/power/{category}/{level}")
    dropped = (
        Situation("", None, only={category: level})
        if category
        else Situation("", None, Rates(level))
    )
    uncertified, p_values = 0, []
    for _ in range(runs):
        before, after = _certified(rng), simulate(dropped, rng)
        uncertified += not after.judgement.passed
        p_values.append(statistics.pair(trials(before), trials(after)).p_value)
    return Power(
        level,
        uncertified / runs,
        *(sum(p < line for p in p_values) / runs for line in (0.05, 0.01)),
    )


def _certified(rng: random.Random) -> Simulated:
    while not (run := simulate(HEALTHY, rng)).judgement.passed:
        pass
    return run


def trials(run: Simulated) -> dict[object, bool]:
    """The valid scored trials, as the paired test takes them."""
    scored = (c for c in CASES if c.kind == Kind.SCORED)
    return {(c.id, i): g.passed for c in scored for i, g in enumerate(run.graded[c.id]) if g.valid}


# What is printed and drawn.


def lines(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> Iterator[str]:
    """A table as text or as Markdown."""
    if markdown:
        yield f"| {' | '.join(head)} |"
        yield f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"
        yield from (f"| {' | '.join(row)} |" for row in rows)
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        first, *others = (
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others))


def violations(tallies: Sequence[Tally]) -> list[str]:
    """What of the two promises does not hold: broken certified in < 1 % of runs, healthy in > 99 %
    (or told to wait).
    """
    return [
        f"{t.situation.name}: certified in {100 * t.share:.2f} %"
        for t in tallies
        if (t.situation.certify is False and t.share >= 0.01)
        or (t.situation.certify and t.right <= 0.99)
    ]


def plots(tallies: Sequence[Tally], powers: Mapping[str, Sequence[Power]]) -> dict[str, str]:
    """Draw the figures as SVG texts, by file name."""
    bars = [(t.situation.name, (100 * t.share, 100 * t.plain / t.runs)) for t in tallies]
    everywhere = powers[""]
    detected = [("the run is not certified", [100 * p.uncertified for p in everywhere])]
    detected += [("paired test, p < 0.05", [100 * p.at_05 for p in everywhere])]
    detected += [("paired test, p < 0.01", [100 * p.at_01 for p in everywhere])]
    levels = [100 * p.level for p in everywhere]
    one = [
        (f"{name} alone", [100 * (1 - p.uncertified) for p in levels_of_drop])
        for name, levels_of_drop in powers.items()
        if name
    ]
    one += [("all cases", [100 * (1 - p.uncertified) for p in everywhere])]
    return {
        "policy-situations.svg": svg.bars(
            "Certified, in % of runs", bars, ("our policy", "plain average from 80 %")
        ),
        "policy-certified.svg": svg.curves(
            "Certified, by what really passes", "true pass rate, %", levels, one
        ),
        "policy-power.svg": svg.curves(
            "A drop from 97 % everywhere is seen", "pass rate after it, %", levels, detected
        ),
    }


def main() -> int:
    options = parse_options()
    judge_by(dict(pair.split("=") for pair in options.policy))
    started = time.perf_counter()
    tallies = [tally(situation, options.runs, options.seed) for situation in SITUATIONS]
    print(
        f"{options.runs} runs per situation, seed {options.seed}, {len(CASES)} cases, "
        f"policy {versions.POLICY_VERSION}\n"
    )
    print("\n".join(lines(HEAD, [t.row() for t in tallies], options.markdown)))
    if options.power_runs:
        powers = {
            c: [power(level, options.power_runs, options.seed, c) for level in LEVELS]
            for c in CATEGORIES
        }
        print(f"\nA drop from 97 %, {options.power_runs} pairs of runs per line\n")
        print(
            "\n".join(
                lines(
                    POWER_HEAD,
                    [row for c in CATEGORIES for row in power_rows(c, powers[c])],
                    options.markdown,
                )
            )
        )
        if options.plots:
            options.plots.mkdir(parents=True, exist_ok=True)
            for name, text in plots(tallies, powers).items():
                (options.plots / name).write_text(text, encoding="utf-8")
    broken = violations(tallies)
    outcome = f"BROKEN: {'; '.join(broken)}" if broken else "Both promises hold."
    print(f"\n{time.perf_counter() - started:.0f} s. {outcome}")
    return 1 if broken else 0


CATEGORIES = ("", "tools", "json")
POWER_HEAD = ("drop", "to %", "not certified %", "paired p < 0.05 %", "paired p < 0.01 %")


def power_rows(category: str, powers: Sequence[Power]) -> list[tuple[str, ...]]:
    """Return the power table's cells for drops in one category, or everywhere for ""."""
    where = f"{category} alone" if category else "all cases"
    return [
        (
            where,
            f"{100 * p.level:.0f}",
            *(f"{100 * v:.1f}" for v in (p.uncertified, p.at_05, p.at_01)),
        )
        for p in powers
    ]


def judge_by(changes: Mapping[str, str]) -> None:
    """Set numbers of the policy for this process. TypeError for a name that it does not have."""
    kinds: dict[str, Any] = {name: type(getattr(policy.POLICY, name, 0.0)) for name in changes}
    numbers = {name: kinds[name](float(value)) for name, value in changes.items()}
    changed = dataclasses.replace(policy.POLICY, **numbers)
    for module in (policy, scoring, plan):
        vars(module)["POLICY"] = changed


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=4000, help="simulated runs per situation")
    parser.add_argument(
        "--power-runs",
        type=int,
        default=400,
        help="pairs of runs per level of the power table; 0 = no table",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument(
        "--policy", nargs="*", default=[], metavar="NAME=NUMBER", help="numbers to judge by instead"
    )
    parser.add_argument("--plots", type=Path, help="write the plots as SVG into this directory")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
