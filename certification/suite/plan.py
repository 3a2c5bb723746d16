"""Which trials come next, given the outcomes so far: the order of a run, the retries of its gates,
the repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from certification.suite import scoring
from certification.suite.case import Case, Category, Grade, Kind, Ref, Script
from certification.suite.policy import POLICY
from certification.suite.scoring import CaseOutcome, CaseStatus, Run


@dataclass(frozen=True)
class Trial:
    """One execution of a case that is due."""

    case: Case
    index: int

    def script(self, seed: int) -> Script:
        """What to ask, for a run's seed (0 .. 2**32 - 1)."""
        return self.case.script(Ref(seed, self.case.id, self.index))


def outcomes_of(
    cases: Sequence[Case], grades: Mapping[str, Sequence[Grade]]
) -> tuple[CaseOutcome, ...]:
    """The grades so far, by case id, as the outcomes of every case of the run."""
    return tuple(CaseOutcome(case, tuple(grades.get(case.id, ()))) for case in cases)


def next_trials(
    cases: Sequence[Case],
    grades: Mapping[str, Sequence[Grade]],
    started: Mapping[str, int] | None = None,
    tier: str = "quick",
    seen: Callable[[tuple[CaseOutcome, ...]], Run] | None = None,
) -> tuple[Trial, ...]:
    """The trials to start now, in order; empty while others must end first, and when all is done.

    `grades` holds the grades of the trials that ended, `started` how many were started by case id
    (default: those that ended), so that this may be asked again after every trial or once a wave.
    The first case is the access gate: nothing else starts before it has passed or failed, and
    nothing does if it was refused. Cases over the whole run come last. `seen` makes the Run that
    will be judged from the outcomes so far: whether repeats can still decide depends on its calls,
    its model class and what it declares too. It is asked only when everything planned has ended.
    """
    ended = {c.id: len(grades.get(c.id, ())) for c in cases}
    begun = {name: max(started.get(name, 0), n) for name, n in ended.items()} if started else ended
    access = outcomes_of(cases[:1], grades)
    if not access or access[0].status in (CaseStatus.OPEN, CaseStatus.SKIPPED):
        return _due(access[0], begun, 1) if access else ()
    calling = [c for c in cases if not c.whole_run]
    unsettled = [c for c in calling if not _is_done(c, grades.get(c.id, ()), begun[c.id])]
    due = tuple(
        trial for o in outcomes_of(unsettled, grades) for trial in _due(o, begun, o.case.repeats)
    )
    if due or begun != ended:
        return due
    if tier != "quick":
        outcomes = outcomes_of(calling, grades)
        more = _confirmations(outcomes, begun) or _repeats((seen or _plain(tier))(outcomes), begun)
        if more:
            return more
    last = [c for c in cases if c.whole_run]
    return tuple(trial for o in outcomes_of(last, grades) for trial in _due(o, begun, 1))


def _is_done(case: Case, trials: Sequence[Grade], begun: int) -> bool:
    """Whether a look at its grades shows that a case wants no trial; asked after every trial of a
    run, hence cheap.
    """
    if case.kind == Kind.GATE:
        return bool(trials) and trials[0].passed
    return begun >= case.repeats and all(t.valid for t in trials)


def _plain(tier: str) -> Callable[[tuple[CaseOutcome, ...]], Run]:
    return lambda outcomes: Run(tier, outcomes)


def refusal_ends(cases: Sequence[Case], grades: Mapping[str, Sequence[Grade]]) -> bool:
    """Whether the access gate was refused for good, so that the run ends here without spending
    more.
    """
    access = outcomes_of(cases, grades)[0]
    return access.status == CaseStatus.OPEN and not next_trials(cases, grades)


def _due(outcome: CaseOutcome, begun: Mapping[str, int], target: int) -> tuple[Trial, ...]:
    first, running = begun[outcome.case.id], begun[outcome.case.id] - len(outcome.trials)
    if outcome.case.kind == Kind.GATE:
        count = int(not running and outcome.status == CaseStatus.OPEN and _may_try(outcome))
    else:
        wanted = target + min(_made_up_for(outcome), POLICY.invalid_tries)
        count = 0 if outcome.status == CaseStatus.SKIPPED else max(0, wanted - first)
    return tuple(Trial(outcome.case, first + i) for i in range(count))


def _may_try(gate: CaseOutcome) -> bool:
    invalid = sum(not t.valid for t in gate.trials)
    return _made_up_for(gate) == invalid <= POLICY.invalid_tries


def _made_up_for(outcome: CaseOutcome) -> int:
    """Invalid trials that are worth another: refused access, empty quotas, wrong credentials do not
    go away in a run.
    """
    return sum(
        not t.valid and (t.cause is None or t.cause.reason.retryable) for t in outcome.trials
    )


def _confirmations(outcomes: Sequence[CaseOutcome], begun: Mapping[str, int]) -> tuple[Trial, ...]:
    """The second retry of gates that passed on the first one, when more of them are flaky than a
    certificate may have.

    Among twelve gates two slips are common (5 % of runs at 97 % per try) and two gates that cannot
    be relied on are not.
    """
    flaky = [o for o in outcomes if o.status == CaseStatus.FLAKY]
    if len(flaky) <= POLICY.max_flaky or not POLICY.second_retry:
        return ()
    open_ones = [o for o in flaky if len(o.valid) < POLICY.gate_tries and _may_try(o)]
    return tuple(Trial(o.case, begun[o.case.id]) for o in open_ones)


def _repeats(run: Run, begun: Mapping[str, int]) -> tuple[Trial, ...]:
    """The next rung of 3 -> 5 -> 9 for the cases of categories that are still undecided."""
    undecided: frozenset[Category] = scoring.undecided(run)
    open_cases = [
        o for o in run.outcomes if o.case.kind == Kind.SCORED and o.case.category in undecided
    ]
    return tuple(trial for o in open_cases for trial in _due(o, begun, _next_rung(len(o.valid))))


def _next_rung(done: int) -> int:
    return next((rung for rung in POLICY.ladder if rung > done), done)
