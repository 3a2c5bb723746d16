"""Execute the trials of one run on the event loop, as many at once as the run may have, until the
plan has no more.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import structlog

from certification.bedrock.client import NOT_EXPRESSIBLE
from certification.engine.calls import (
    MAX_ATTEMPTS,
    MAX_UNEXPECTED,
    Attempt,
    Caller,
    NoVerdict,
    Stopped,
    unexpected,
)
from certification.inference import AnyRequest, Failure, Operation, Outcome
from certification.lib import event_loop
from certification.lib.event_loop import Stop
from certification.suite import case as suite_case
from certification.suite import language
from certification.suite.case import (
    Case,
    Category,
    Context,
    Feature,
    Grade,
    Kind,
    ProbeCache,
    Script,
)
from certification.suite.plan import Trial
from certification.suite.sentences import wording

log = structlog.get_logger(__name__)

SECOND_TRY = 1000  # where the numbers of a trial's calls go on at its second try


class TrialRecord(NamedTuple):
    """One trial as it went: what was sent, the grade, every call, and what probes showed."""

    script: Script
    grade: Grade
    attempts: list[Attempt]
    probes: ProbeCache


class Due(NamedTuple):
    """A trial that may start, with its script."""

    trial: Trial
    script: Script


# The trials to start now, given the grades of those that ended and how many were started, by case.
Plan = Callable[[Mapping[str, Sequence[Grade]], Mapping[str, int]], Sequence[Trial]]
Play = Callable[[Trial, Script], Awaitable[TrialRecord]]
Calls = Generator[AnyRequest, Outcome, tuple[Outcome, ...]]
Step = AnyRequest | tuple[Outcome, ...]
# Pictures are drawn and long texts written in a thread: 40 - 70 ms, for which the loop would stand
# still. Every other request takes a few milliseconds at most.
HEAVY = frozenset({Category.VISION, Category.CONTEXT})


class TrialsOverdue(Exception):
    """Trials did not end in time."""


async def play(
    trial: Trial,
    script: Script,
    caller: Caller,
    *,
    context: Context,
    capabilities: Collection[str],
    refusals: Mapping[Feature, Failure],
) -> TrialRecord:
    """Play one trial and grade it.

    `refusals` are the features that the model is known to refuse: they are not probed again. Raises
    what `caller` raises to end the run. Whatever else is raised costs this trial only, and only
    when it is raised again at a second try.
    """
    attempts: list[Attempt] = []
    for _ in range(MAX_UNEXPECTED):
        try:
            return await play_once(
                trial,
                script,
                caller,
                attempts,
                context=context,
                capabilities=capabilities,
                refusals=refusals,
            )
        except (Stopped, NoVerdict):
            raise
        except Exception as error:
            log.exception("trial_crashed", case=trial.case.id, trial=trial.index)
            cause = unexpected(error, Operation.CONVERSE)
    grade = Grade(False, cause.message, valid=False, cause=cause)
    return TrialRecord(script, grade, attempts, ProbeCache())


async def play_once(
    trial: Trial,
    script: Script,
    caller: Caller,
    attempts: list[Attempt],
    *,
    context: Context,
    capabilities: Collection[str],
    refusals: Mapping[Feature, Failure],
) -> TrialRecord:
    """Play one trial as `play` does; its calls are added to `attempts`."""
    begun = len(attempts)
    # of a second try none is taken over, nor are its calls for those of a first one
    first_number = SECOND_TRY if begun else 0
    # A gate that failed may have failed for what we believe of the model: its retries ask
    # everything anew.
    asks_anew = trial.case.kind == Kind.GATE and trial.index
    probes = ProbeCache({} if asks_anew else refusals)
    calls = suite_case.calls(script, capabilities, probes)
    step = await advance(trial.case, calls, None)
    while not isinstance(step, tuple):
        number = first_number + sum(attempt.number == 1 for attempt in attempts[begun:])
        outcome = await call(trial, number, caller, step, attempts)
        step = await advance(trial.case, calls, outcome)
    if trial.case.whole_run:
        context = replace(context, texts=caller.texts())
    if trial.case.kind != Kind.GATE and not language.is_loaded():
        # Streams in flight would feel the second that it takes.
        await asyncio.to_thread(language.identifier)
    grade = script.grade(step, context)
    inexpressible = [o for o in step if isinstance(o, Failure) and o.code == NOT_EXPRESSIBLE]
    if inexpressible:
        grade = not_applicable(grade, inexpressible[0])
        probes.observed = {
            feature: refusal
            for feature, refusal in probes.observed.items()
            if refusal is None or refusal.code != NOT_EXPRESSIBLE
        }
    if grade.passed:
        caller.route_settled = True
    return TrialRecord(script, grade, attempts, probes)


async def call(
    trial: Trial, number: int, caller: Caller, request: AnyRequest, attempts: list[Attempt]
) -> Outcome:
    """Make the `number`th call of a trial, or take over the one that an earlier claim of the run
    made.
    """
    before = len(attempts)
    if caller.journal and (stored := caller.journal.take(trial.case.id, trial.index, number)):
        outcome = caller.repeat(stored, request, attempts)
        if outcome is not None:
            return outcome
    # a call of a concurrent batch that is tried again would not be concurrent
    max_attempts = 1 if trial.case.concurrent else MAX_ATTEMPTS
    outcome = await caller.call(request, attempts, max_attempts)
    caller.store(trial.case.id, trial.index, number, attempts[before:])
    return outcome


async def advance(case: Case, calls: Calls, outcome: Outcome | None) -> Step:
    """Give a trial the outcome of its last request, and return its next one; all outcomes at the
    end.
    """

    def resume() -> Step:
        try:
            return next(calls) if outcome is None else calls.send(outcome)
        except StopIteration as end:  # it cannot leave a thread
            outcomes: tuple[Outcome, ...] = end.value
            return outcomes

    return await asyncio.to_thread(resume) if case.category in HEAVY else resume()


def not_applicable(grade: Grade, inexpressible: Failure) -> Grade:
    """Grade a trial of which the API could not express a call: skipped where it did not pass
    without, and no evidence about what the model can do.
    """
    if grade.passed:
        return replace(grade, lacks="")
    sentence = wording("not_for_this_api", message=inexpressible.message)
    return Grade(False, sentence, grade.evidence, skipped=sentence)


class TrialPool:
    """Plays the trials of one run, at most `max_at_once` at a time.

    `plan` says which trials come next and is called after each one that failed, and when there are
    no more; `play` plays one; `seed` is what their prompts are drawn from. `stop` ends the run
    early; a trial that raises sets it.
    """

    def __init__(self, max_at_once: int, *, plan: Plan, play: Play, seed: int, stop: Stop) -> None:
        self.max_at_once = max_at_once
        self.plan = plan
        self.play = play
        self.seed = seed
        self.stop = stop
        self.records: dict[str, list[TrialRecord]] = defaultdict(list)  # by case id
        self.grades: dict[str, list[Grade]] = defaultdict(list)
        self.started: dict[str, int] = defaultdict(int)
        self.due: list[Due] = []
        self.playing: set[asyncio.Task[None]] = set()
        self.has_failures = False  # since the plan was asked last

    def run(self, timeout_s: float) -> None:
        """Execute every trial of the plan, and wait for it in this thread.

        Raises the first error of a trial, Stopped on a stop, and TrialsOverdue when trials have not
        ended after `timeout_s`.
        """
        work = event_loop.submit(self.play_all())
        try:
            work.result(timeout_s)
        except TimeoutError:
            if work.done():
                raise
            self.stop.set()
            work.cancel()
            raise TrialsOverdue from None

    async def play_all(self) -> None:
        """Play every trial of the plan. Raises the first error of a trial, and Stopped."""
        error: BaseException | None = None
        self.plan_more()
        self.start_due()
        try:
            while self.playing:
                ended, _ = await asyncio.wait(self.playing, return_when=asyncio.FIRST_COMPLETED)
                self.playing -= ended
                for task in ended:
                    if not task.cancelled() and (failed := task.exception()):
                        error = error or failed
                        self.stop.set()
                # a trial that passed asks for no other one while there are any
                if self.has_failures or not (self.due or self.playing):
                    self.plan_more()
                self.start_due()
        finally:
            for task in self.playing:
                task.cancel()
        if error:
            raise error
        if self.stop.is_set():
            raise Stopped

    def plan_more(self) -> None:
        """Add the trials that are due now. Long chains of calls go first: the run cannot end before
        they do.
        """
        if self.stop.is_set():
            return
        self.has_failures = False
        trials = self.plan(self.grades, self.started)
        for trial in trials:
            self.started[trial.case.id] += 1
        if trials:
            self.due += [Due(trial, trial.script(self.seed)) for trial in trials]
            self.due.sort(key=lambda due: (due.trial.case.concurrent, -len(due.script.steps)))

    def start_due(self) -> None:
        """Start what is due and may run with others; once only concurrent cases are left, all
        trials of one of them at once.
        """
        if self.stop.is_set():
            return
        while (
            self.due
            and not self.due[0].trial.case.concurrent
            and len(self.playing) < self.max_at_once
        ):
            self.start(self.due.pop(0))
        if self.due and not self.playing:
            case = self.due[0].trial.case
            for due in [due for due in self.due if due.trial.case is case]:
                self.start(due)
            self.due = [due for due in self.due if due.trial.case is not case]

    def start(self, due: Due) -> None:
        self.playing.add(asyncio.create_task(self.play_one(due)))

    async def play_one(self, due: Due) -> None:
        """Play a trial and store it by its number, not as they end: its place is what its prompt
        was drawn from, here and in other regions.
        """
        record = await self.play(due.trial, due.script)
        records = self.records[due.trial.case.id]
        insort(records, record, key=lambda r: r.script.ref.trial)
        self.grades[due.trial.case.id] = [r.grade for r in records]
        self.has_failures |= not record.grade.passed
