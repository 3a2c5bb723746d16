"""Execute the trials of one run in call threads, as many at once as the run may have, until the
plan has no more.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import NamedTuple

from certification.engine.calls import MAX_ATTEMPTS, Attempt, Caller, Stopped
from certification.inference import Failure
from certification.suite.case import Context, Feature, Grade, Kind, ProbeCache, Script, execute
from certification.suite.plan import Trial


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
Play = Callable[[Trial, Script], TrialRecord]


class TrialsOverdue(Exception):
    """Trials did not end in time."""


def play(
    trial: Trial,
    script: Script,
    caller: Caller,
    *,
    context: Context,
    capabilities: Collection[str],
    refusals: Mapping[Feature, Failure],
) -> TrialRecord:
    """Play one trial in the calling thread and grade it.

    `refusals` are the features that the model is known to refuse: they are not probed again. Raises
    what `caller` raises.
    """
    attempts: list[Attempt] = []
    # A gate that failed may have failed for what we believe of the model: its retries ask
    # everything anew.
    asks_anew = trial.case.kind == Kind.GATE and trial.index
    probes = ProbeCache({} if asks_anew else refusals)
    # a call of a concurrent batch that is tried again would not be concurrent
    max_attempts = 1 if trial.case.concurrent else MAX_ATTEMPTS
    outcomes = execute(
        script, lambda request: caller.call(request, attempts, max_attempts), capabilities, probes
    )
    if trial.case.whole_run:
        context = replace(context, texts=caller.texts())
    grade = script.grade(outcomes, context)
    if grade.passed:
        caller.route_settled = True
    return TrialRecord(script, grade, attempts, probes)


class TrialPool:
    """Plays the trials of one run in at most `max_threads` threads of a shared pool.

    `plan` says which trials come next and is called after each one; `play` plays one; `seed` is
    what their prompts are drawn from. `stop` ends the run early; a trial that raises sets it.
    """

    def __init__(
        self,
        executor: Executor,
        max_threads: int,
        *,
        plan: Plan,
        play: Play,
        seed: int,
        stop: threading.Event,
    ) -> None:
        self.executor = executor
        self.max_threads = max_threads
        self.plan = plan
        self.play = play
        self.seed = seed
        self.stop = stop
        self.records: dict[str, list[TrialRecord]] = defaultdict(list)  # by case id
        self.grades: dict[str, list[Grade]] = defaultdict(list)
        self.started: dict[str, int] = defaultdict(int)
        self.due: list[Due] = []
        self.threads = 0  # at work on this run, or sure to be
        self.error: BaseException | None = None
        self._idle = threading.Event()
        self._lock = threading.Lock()  # for all of the above

    def run(self, timeout_s: float) -> None:
        """Execute every trial of the plan.

        Raises the first error of a trial, Stopped on a stop, and TrialsOverdue when threads are
        still busy, or still have not started, after `timeout_s`.
        """
        with self._lock:
            self.plan_more()
            self.start_threads()
            if not self.threads:
                self._idle.set()
        if not self._idle.wait(timeout_s):
            self.stop.set()
            raise TrialsOverdue
        if self.error:
            raise self.error
        if self.stop.is_set():
            raise Stopped

    def plan_more(self) -> None:
        """Add the trials that are due now. Long chains of calls go first: the run cannot end before
        they do. Call under the lock.
        """
        if self.stop.is_set():
            return
        trials = self.plan(self.grades, self.started)
        for trial in trials:
            self.started[trial.case.id] += 1
        if trials:
            self.due += [Due(trial, trial.script(self.seed)) for trial in trials]
            self.due.sort(key=lambda due: (due.trial.case.concurrent, -len(due.script.steps)))

    def next_due(self) -> Due | None:
        """Take the next trial that may run with others. Call under the lock."""
        if self.stop.is_set() or not self.due or self.due[0].trial.case.concurrent:
            return None
        return self.due.pop(0)

    def start_threads(self) -> None:
        """Give threads to the trials that are due; once only concurrent cases are left, to all
        trials of one of them at once. Call under the lock.

        A thread is counted once nothing can keep it from running: one that is waited for and never
        starts would keep the run from ending.
        """
        try:
            while self.threads < self.max_threads and (due := self.next_due()):
                self.executor.submit(self.work, due)
                self.threads += 1
            if self.due and not self.threads and not self.stop.is_set():
                case = self.due[0].trial.case
                batch = [due for due in self.due if due.trial.case is case]
                self.due = [due for due in self.due if due.trial.case is not case]
                for due in batch:  # threads of their own: the shared ones may be busy
                    threading.Thread(
                        target=self.work, args=[due], name="concurrent-call", daemon=True
                    ).start()
                    self.threads += 1
        except RuntimeError as error:  # no thread to be had, or the process is ending
            self.fail(error)

    def work(self, due: Due | None) -> None:
        """Play a trial, and then others for as long as any is due: a thread's share of the run."""
        try:
            while due:
                record = self.play(due.trial, due.script)
                with self._lock:
                    self.add(due.trial.case.id, record)
                    self.plan_more()
                    due = self.next_due()
                    self.start_threads()
        except BaseException as error:  # noqa: BLE001 - raised again in the run's own thread
            self.fail(error)
        with self._lock:
            self.threads -= 1
            self.start_threads()
            if self.threads <= 0:
                self._idle.set()

    def add(self, case_id: str, record: TrialRecord) -> None:
        """Store a trial by its number, not as they end: its place is what its prompt was drawn
        from, here and in other regions. Call under the lock.
        """
        records = self.records[case_id]
        insort(records, record, key=lambda r: r.script.ref.trial)
        self.grades[case_id] = [r.grade for r in records]

    def fail(self, error: BaseException) -> None:
        """End the run with the first error."""
        self.error = self.error or error
        self.stop.set()
