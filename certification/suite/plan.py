"""Which trials come next, given the outcomes so far: a run's order, retries and repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from certification.suite import scoring
from certification.suite.case import Case, Grade, Kind, Ref, Script
from certification.suite.policy import POLICY
from certification.suite.scoring import CaseOutcome, CaseStatus, Run


@dataclass(frozen=True)
class Trial:
    """One execution of a case that is due."""

    case: Case
    index: int

    def script(self, seed: int) -> Script:
        """Return the script of the trial for a run's seed (0 .. 2**32 - 1)."""
        return self.case.script(Ref(seed, self.case.id, self.index))


def outcomes_of(
    cases: Sequence[Case], grades: Mapping[str, Sequence[Grade]]
) -> tuple[CaseOutcome, ...]:
    """Return the outcomes of every case of the run from the grades so far, by case id."""
    return tuple(CaseOutcome(case, tuple(grades.get(case.id, ()))) for case in cases)


def next_trials(
    cases: Sequence[Case],
    grades: Mapping[str, Sequence[Grade]],
    started: Mapping[str, int] | None = None,
    tier: str = "quick",
    run_of: Callable[[tuple[CaseOutcome, ...]], Run] | None = None,
) -> tuple[Trial, ...]:
    """Return the trials to start now, in order; empty while others must end first, and at the end.

    `grades` holds the grades of the trials that ended, `started` how many were started by case id
    (default: those that ended), so that this may be called again after every trial or once a wave.
    The first case is the access gate: nothing else starts before it has passed or failed, and
    nothing does if it was refused. Cases over the whole run come last. `run_of` makes the Run that
    will be judged from the outcomes so far: whether repeats can still decide depends on its calls,
    its model class and what it declares too. It is called only when everything planned has ended.
    """
    ended = {c.id: len(grades.get(c.id, ())) for c in cases}
    begun = {name: max(started.get(name, 0), n) for name, n in ended.items()} if started else ended
    access = outcomes_of(cases[:1], grades)
    if not access or access[0].status in (CaseStatus.OPEN, CaseStatus.SKIPPED):
        return due_trials(access[0], begun, 1) if access else ()
    calling = [c for c in cases if not c.whole_run]
    unfinished = [c for c in calling if not has_ended(c, grades.get(c.id, ()), begun[c.id])]
    due = [
        trial
        for o in outcomes_of(unfinished, grades)
        for trial in due_trials(o, begun, o.case.repeats)
    ]
    if due or begun != ended:
        return tuple(due)
    if tier != "quick":
        outcomes = outcomes_of(calling, grades)
        more = second_retries(outcomes, begun)
        if not more:
            run = run_of(outcomes) if run_of else Run(tier, outcomes)
            more = further_repeats(run, begun)
        if more:
            return more
    last = [c for c in cases if c.whole_run]
    return tuple(trial for o in outcomes_of(last, grades) for trial in due_trials(o, begun, 1))


def refusal_ends(cases: Sequence[Case], grades: Mapping[str, Sequence[Grade]]) -> bool:
    """Check that the access gate was refused: the run then ends without further calls."""
    access = outcomes_of(cases, grades)[0]
    return access.status == CaseStatus.OPEN and not next_trials(cases, grades)


def has_ended(case: Case, trials: Sequence[Grade], begun: int) -> bool:
    """Check by its grades alone that a case needs no trial. It is called after every trial of a
    run, hence cheap.
    """
    if case.kind == Kind.GATE:
        return bool(trials) and trials[0].passed
    return begun >= case.repeats and all(t.valid for t in trials)


def due_trials(outcome: CaseOutcome, begun: Mapping[str, int], target: int) -> tuple[Trial, ...]:
    """Return the trials of a case that may start now, up to `target` valid ones."""
    first, running = begun[outcome.case.id], begun[outcome.case.id] - len(outcome.trials)
    if outcome.case.kind == Kind.GATE:
        count = int(not running and outcome.status == CaseStatus.OPEN and may_retry(outcome))
    elif outcome.status == CaseStatus.SKIPPED:
        count = 0
    else:
        count = max(0, target + min(replaceable(outcome), POLICY.invalid_tries) - first)
    return tuple(Trial(outcome.case, first + i) for i in range(count))


def may_retry(gate: CaseOutcome) -> bool:
    """Check that every invalid trial of a gate can be replaced and that there are few of them."""
    invalid = sum(not t.valid for t in gate.trials)
    return replaceable(gate) == invalid <= POLICY.invalid_tries


def replaceable(outcome: CaseOutcome) -> int:
    """Count the invalid trials that are worth another: refused access, empty quotas and wrong
    credentials do not go away in a run.
    """
    return sum(
        not t.valid and (t.cause is None or t.cause.reason.retryable) for t in outcome.trials
    )


def second_retries(outcomes: Sequence[CaseOutcome], begun: Mapping[str, int]) -> tuple[Trial, ...]:
    """Return the second retry of gates that passed on the first one, when more of them are flaky
    than a certificate may have.

    Among twelve gates two slips are common (5 % of runs at 97 % per try) and two gates that cannot
    be relied on are not.
    """
    flaky = [o for o in outcomes if o.status == CaseStatus.FLAKY]
    if len(flaky) <= POLICY.max_flaky or not POLICY.second_retry:
        return ()
    open_gates = [o for o in flaky if len(o.valid) < POLICY.gate_tries and may_retry(o)]
    return tuple(Trial(o.case, begun[o.case.id]) for o in open_gates)


def further_repeats(run: Run, begun: Mapping[str, int]) -> tuple[Trial, ...]:
    """Return the next rung of 3 -> 5 -> 9 (-> 15 in categories of few cases) for the cases of
    categories that are still undecided.
    """
    undecided = scoring.undecided(run)
    trials: list[Trial] = []
    for outcome in run.outcomes:
        if outcome.case.kind == Kind.SCORED and outcome.case.category in undecided:
            done = len(outcome.valid)
            rungs = POLICY.rungs(outcome.case.category)
            rung = next((rung for rung in rungs if rung > done), done)
            trials += due_trials(outcome, begun, rung)
    return tuple(trials)
