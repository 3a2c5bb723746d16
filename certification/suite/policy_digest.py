"""Compute POLICY_VERSION from the policy's numbers and its judgements of a table of runs.

Only meaning counts: a comment, a name or a sentence for people changes nothing here; a number, a
rule, their order, or what a reason leads to does. `scripts/versions.py` writes the digest into
versions.py. The table has cases and reasons of its own, so that a new case of the suite leaves it.
"""

from __future__ import annotations

import inspect
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from typing import Any

from certification.inference import EmbedReply, Failure, Outcome, Reply, Timing
from certification.reasons import Reason, Status
from certification.suite import parity, plan, policy, publication_policy, scoring, statistics
from certification.suite.case import Case, Category, Grade, Kind, Ref, Script
from certification.suite.digest import digest, plain
from certification.suite.scoring import Calls, CaseOutcome, Judgement, Run

DRAWS = 300  # runs of the table
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def policy_digest() -> str:
    """Return the digest of the policy: how runs are planned, judged, compared and published."""
    return digest(rows())


def rows() -> Iterator[Any]:
    """Yield plain values that say what the policy's numbers are and what it decides."""
    yield from number_rows()
    yield from judgement_rows()
    yield from border_rows()
    yield from planning_rows()
    yield from reason_rows()
    yield from parity_rows()
    yield from publication_rows()
    yield from statistics_rows()


def number_rows() -> Iterator[Any]:
    """Yield the numbers by themselves, whatever they are called and in whichever order."""
    yield sorted(
        json.dumps(plain(value))
        for value in astuple(policy.POLICY)
        if not isinstance(value, Mapping)
    )
    yield {category.value: weight for category, weight in policy.POLICY.weights.items()}
    yield {name: astuple(target) for name, target in policy.TARGETS.items()}
    yield policy.MEASURED_BY
    yield sorted([parity.ALARM, parity.REFERENCE_MARGIN, publication_policy.SIGNIFICANCE])
    yield [publication_policy.MIN_GAP, publication_policy.TTL, publication_policy.TTL_ALIAS]
    yield [statistics.MIN_P90, statistics.MIN_P95]
    yield inspect.signature(statistics.fingerprint).parameters["permutations"].default


# The table's own suite.


def case(name: str, kind: Kind, category: Category, *needs: str, **more: Any) -> Case:
    """Return a case of the table. It is never executed."""
    return Case(name, name, kind, category, no_script, frozenset(needs), **more)


def no_script(ref: Ref) -> Script:
    return Script(ref, 0, (), lambda outcomes, context: Grade(True, ""))


CALLING = (
    case("A1", Kind.GATE, Category.CONTRACT),
    case("A2", Kind.GATE, Category.CONTRACT),
    case("A3", Kind.GATE, Category.CONTRACT),
    case("A4", Kind.GATE, Category.CONTRACT, "tools"),
    *(
        case(f"{category.value.upper()}{n}", Kind.SCORED, category, repeats=3, weight=1.0 + n)
        for category in (
            Category.TOOLS, Category.JSON, Category.INSTRUCTIONS, Category.PORTUGUESE,
            Category.STREAMING, Category.CONTEXT, Category.REASONING, Category.VISION,
        )
        for n in range(2)
    ),
    case("L1", Kind.PERFORMANCE, Category.LATENCY, repeats=10),
    case("L2", Kind.PERFORMANCE, Category.LATENCY, repeats=6),
    case("D1", Kind.INFORMATION, Category.DETERMINISM, repeats=2),
)  # fmt: skip
CASES = (*CALLING, case("A5", Kind.GATE, Category.CONTRACT, whole_run=True))
CAUSES = (
    Reason.THROTTLED_TOKENS, Reason.ZERO_QUOTA, Reason.IAM_DENIED, Reason.NEEDS_INFERENCE_PROFILE,
    Reason.CREDENTIALS_EXPIRED, Reason.INTERNAL_ERROR,
)  # fmt: skip


def draw_run(number: int) -> Run:
    """Draw a run of the table; the same number draws the same run."""
    rng = random.Random(f"policy/{number}")
    gates, scored = rng.choice((1.0, 1.0, 0.97, 0.8)), rng.choice((1.0, 0.97, 0.93, 0.88, 0.8, 0.6))
    invalid, done = rng.choice((0.0, 0.0, 0.0, 0.03, 0.2)), rng.choice((1, 3, 3, 5, 9, 15))
    ttft, speed = rng.choice((300.0, 1200.0, 2500.0, 9000.0)), rng.choice((5.0, 20.0, 60.0, 90.0))
    weak = rng.choice((*(c.category for c in CASES), None))

    def grade(chance: float, lacks: str = "") -> Grade:
        passed = rng.random() < chance
        if rng.random() < invalid:
            return Grade(False, "", valid=False, cause=Failure(rng.choice(CAUSES), ""))
        evidence = {
            "ttft_ms": ttft * (0.9 + rng.random() / 5),
            "tokens_per_second": speed * (0.9 + rng.random() / 5),
        }
        broken = not passed and rng.random() < 0.2
        cause = Failure(Reason.STREAM_TRUNCATED, "") if broken else None
        return Grade(passed, "", evidence, cause=cause, lacks=lacks if rng.random() < 0.05 else "")

    outcomes = []
    for one in CASES:
        if one.kind == Kind.GATE:
            trials = [grade(gates, "stop_sequences")]
            while not trials[-1].passed and len(trials) < 4 and not one.whole_run:
                trials.append(grade(0.5))
        else:
            chance = scored if one.category != weak else scored - rng.choice((0.05, 0.1, 0.3, 0.6))
            count = done if one.kind == Kind.SCORED else one.repeats
            trials = [grade(chance) for _ in range(count)]
        skipped = "It does not apply." if rng.random() < 0.01 else ""
        outcomes.append(CaseOutcome(one, () if skipped else tuple(trials), skipped))
    return Run(
        tier=rng.choice(("quick", "full", "full", "deep")),
        outcomes=tuple(outcomes),
        calls=Calls(100, rng.choice((0, 0, 1, 9)), rng.choice((0, 2)), rng.choice((0, 0, 3))),
        model_class=rng.choice(("small", "medium", "large", "reasoning")),
        access=Failure(rng.choice(CAUSES), "") if rng.random() < 0.03 else None,
        interrupted=rng.choice((Reason.DEADLINE, *CAUSES)) if rng.random() < 0.05 else None,
        declared=frozenset(rng.sample(("tools", "stop_sequences", "vision"), 2)),
        parity_losses=frozenset(["tools"]) if rng.random() < 0.05 else frozenset(),
        parity_alarm="Trials flip." if rng.random() < 0.05 else "",
    )


def judged(judgement: Judgement) -> list[Any]:
    """Return what of a judgement decides; its sentences are for people."""
    j = judgement
    return [
        j.verdict, j.passed, j.reason, j.score, j.rating, j.lower_bound, j.quality, j.contract,
        j.performance, j.reliability, len(j.unmet), j.failed_gates, j.flaky_gates,
        sorted(j.skipped), j.lacks, j.categories, summed(j.ttft), summed(j.speed),
    ]  # fmt: skip


def summed(summary: statistics.Summary | None) -> Any:
    """Return a summary's figures."""
    if summary is None:
        return None
    interval = summary.interval and astuple(summary.interval)
    return [summary.n, summary.median, interval, summary.p90, summary.p95]


def judgement_rows() -> Iterator[Any]:
    """Yield the judgement of every run of the table, and what would be tried next in it."""
    for price in (None, 0.0, 0.99, 1.0, 5.99, 6.0, 80.0):
        for capabilities in ((), ("reasoning",)):
            yield policy.model_class(capabilities, price)
    yield judged(scoring.without_suite("image"))
    for number in range(DRAWS):
        run = draw_run(number)
        grades = {outcome.case.id: outcome.trials for outcome in run.outcomes}
        before = {name: trials[:-1] for name, trials in grades.items() if name != "A5"}
        yield [
            judged(scoring.judge(run)),
            sorted(scoring.undecided(run)),
            [outcome.planned for outcome in run.outcomes],
            plan.refusal_ends(CASES, grades),
            [
                [(trial.case.id, trial.index) for trial in trials]
                for trials in (
                    plan.next_trials(CASES, grades, tier=run.tier),
                    plan.next_trials(CASES, {**grades, "A5": ()}, tier=run.tier),
                    plan.next_trials(CASES, before, {"A1": 1, "TOOLS0": 4}, run.tier),
                    plan.next_trials(CASES, {"A1": grades["A1"]}, tier=run.tier),
                )
            ],
        ]


def border_rows() -> Iterator[Any]:
    """Yield the judgements of runs in which one category falls from all to nothing, bit by bit."""
    for name, count in itertools.product(("TOOLS", "VISION"), (3, 5, 9, 12)):
        clean = {one.id: CaseOutcome(one, (Grade(True, ""),) * min(count, 9)) for one in CASES}
        for points in range(3 * count + 1):  # a pass of the second case counts twice
            double = min(count, points // 2)
            outcomes = dict(clean)
            for number, passes in enumerate((points - 2 * double, double)):
                trials = (Grade(True, ""),) * passes + (Grade(False, ""),) * (count - passes)
                one = clean[f"{name}{number}"].case
                outcomes[one.id] = CaseOutcome(one, trials)
            run = Run("full", tuple(outcomes.values()))
            yield [judged(scoring.judge(run)), sorted(scoring.undecided(run))]


def planning_rows() -> Iterator[Any]:
    """Yield what is tried next where infrastructure ends one trial of a case after the other."""
    throttled = Grade(False, "", valid=False, cause=Failure(Reason.THROTTLED_TOKENS, ""))
    for name in ("A1", "A2", "A5", "TOOLS0", "L1", "D1"):
        for count in range(6):
            grades = {one.id: (Grade(True, ""),) * one.repeats for one in CALLING}
            for last in (Grade(True, ""), Grade(False, ""), throttled):
                grades[name] = (throttled,) * count + (last,)
                for tier in ("quick", "full"):
                    trials = plan.next_trials(CASES, grades, tier=tier)
                    yield [(trial.case.id, trial.index) for trial in trials]


def reason_rows() -> Iterator[Any]:
    """Yield what each reason leads to, wherever in a run it comes up."""
    clean = tuple(CaseOutcome(one, (Grade(True, ""),) * one.repeats) for one in CASES)
    for reason in Reason:
        failure = Failure(reason, "")
        for valid in (True, False):
            ended = CaseOutcome(CASES[1], (Grade(False, "", valid=valid, cause=failure),) * 3)
            yield [
                reason,
                judged(scoring.judge(Run("quick", (clean[0], ended, *clean[2:])))),
                plan.refusal_ends(CASES, {"A1": ended.trials}),
                [trial.index for trial in plan.next_trials(CASES, {"A1": ended.trials[:1]})],
            ]
        yield judged(scoring.judge(Run("full", clean, access=failure)))
        yield judged(scoring.judge(Run("full", clean, interrupted=reason)))
        yield astuple(Calls.of([failure, Failure(reason, "", http_status=503)]))
    outcomes: tuple[Outcome, ...] = (
        Reply((), "", None, Timing(1.0)),
        Reply((), "", None, Timing(1.0), complete=False),
        EmbedReply((), None, Timing(1.0)),
    )
    yield astuple(Calls.of(outcomes))
    yield Calls.of(outcomes).reliability


def parity_rows() -> Iterator[Any]:
    """Yield how regions compare, for cells made of the table's runs."""
    cells = []
    for number in range(60):
        run = draw_run(number)
        lacks = {outcome.lacks for outcome in run.outcomes} - {""}
        cells.append(
            parity.MeasuredPair(
                "model", f"region-{number}", 1, "suite",
                trials=parity.trials_of(run.outcomes),
                proved=parity.proved_capabilities(run.outcomes),
                lacks=frozenset(lacks | ({"tools"} if number % 5 == 0 else set())),
                certified=scoring.judge(run).passed,
                tokens={0: 100 + number % 7, 1: 200},
            )
        )  # fmt: skip
    for cell in cells:
        yield [sorted((*key, passed) for key, passed in cell.trials.items()), cell.proved]
    for start in range(0, len(cells), 6):
        group = cells[start : start + 6]
        reference = parity.reference_of(group)
        yield reference and reference.region
        for result in parity.compare(reference or group[0], group):
            yield [
                result.region, result.reference, result.compared, result.flips, result.gains,
                result.p_value, result.adjusted, result.losses, result.alarm, bool(result.counted),
            ]  # fmt: skip


def publication_rows() -> Iterator[Any]:
    """Yield which verdicts are published when, and until when they hold."""

    def finished(verdict: Status, tier: str, after: timedelta, failures: int) -> Any:
        trials = {("T1", n): n >= failures for n in range(12)}
        return publication_policy.Finished(verdict, tier, NOON + after, trials)

    certified = finished(Status.CERTIFIED, "full", timedelta(), 0)
    warning = Status.QUALITY_WARNING
    gaps = [timedelta(minutes=n) for n in (-30, 1, 59, 60, 61, 600)]
    histories = [
        [],
        *([finished(status, "full", gap, 2)] for status in Status for gap in gaps),
        [finished(warning, "full", gaps[1], 2), finished(warning, "quick", gaps[2], 2)],
    ]
    for before in (None, certified, finished(Status.CERTIFIED, "quick", timedelta(), 0)):
        for since in histories:
            for verdict in Status:
                for tier, failures in (("quick", 0), ("full", 6), ("full", 7), ("deep", 8)):
                    run = finished(verdict, tier, timedelta(minutes=90), failures)
                    decision = publication_policy.decide(
                        before, since, run, NOON + timedelta(minutes=95)
                    )
                    yield [decision.publish, decision.confirm_after]
    for model_id in (
        "anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-4-7", "gpt-5.5",
        "anthropic.claude-3-haiku-20240307-v1:0:200k", "deepseek.v3.2", "mistral.large-2509",
        "amazon.nova-lite-v1:0:300k", "amazon.titan-embed-text-v2:0", "vendor.model-latest",
        "us.vendor/other-2026-03-05", "stability.image-1:0", "meta.llama3-8b",
        "twelvelabs.m-v1:0:mm",
    ):  # fmt: skip
        yield publication_policy.is_alias(model_id)
        for lifecycle in ("", "ACTIVE", "PREVIEW", "LEGACY", "EOL"):
            for end in (None, date(2026, 2, 1), date(2026, 3, 4), date(2027, 1, 1)):
                yield publication_policy.expires_at(
                    NOON, model_id, lifecycle=lifecycle, end_of_life_on=end
                )


def statistics_rows() -> Iterator[Any]:
    """Yield the figures of drawn samples, of sizes on either side of every limit."""
    rng = random.Random("statistics")
    for n in (*range(13), 49, 50, 51, 99, 100, 101):
        samples = [round(rng.random() * 1000, 3) for _ in range(n)]
        yield summed(statistics.summarise(samples))
        yield [statistics.wilson(hits, n) for hits in sorted({0, n // 2, n})]
        yield [statistics.sign_test(losses, n - losses) for losses in sorted({0, n // 2, n})]
        yield statistics.benjamini_hochberg([sample / 5000 for sample in samples])
    for n in (1, 2, 5):
        sides = [[[rng.choice("abcd") for _ in range(n)] for _ in range(4)] for _ in range(2)]
        yield astuple(statistics.fingerprint(sides[0], sides[1], permutations=199))
