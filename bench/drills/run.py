"""One drill after the other, and the table of what became of their jobs."""

from __future__ import annotations

import logging
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from django.db import Error as DatabaseError
from django.db import connection

from bench import harness
from bench.drills import blows
from bench.drills.stack import Stack, Watch
from bench.environment import PROJECT, ROOT
from certification.api import tokens
from certification.models import ACTIVE, CertificationJob, Priority, State, TestResult, User

PAGE = PROJECT / "docs" / "reliability.md"
START, END = "<!-- drills -->\n", "<!-- /drills -->\n"
HEADINGS = "| drill | runs | tried again | calls paid twice | seen after | healed after | job |\n"
RULE = "|---|---|---|---|---|---|---|\n"
PATIENCE_S = 300


@dataclass(frozen=True)
class Outcome:
    """One row of the table. `twice` is None where the emulator lost its count, `in_flight` where no
    worker was struck.
    """

    what: str
    states: str
    retried: int
    twice: int | None
    in_flight: int | None
    observed: str
    healed_s: float | None
    job_s: float
    faults: str

    def row(self) -> str:
        healed = "not" if self.healed_s is None else f"{self.healed_s:.1f} s"
        twice = "?" if self.twice is None else str(self.twice)
        if self.twice and self.in_flight is not None:
            twice = f"{self.twice}: {min(self.twice, self.in_flight)} in flight"
        states = self.states + (f"; {self.faults}" if self.faults else "")
        cells = (self.what, states, str(self.retried), twice, self.observed, healed)
        return f"| {' | '.join(cells)} | {self.job_s:.0f} s |\n"


def run(drill: blows.Drill, stack: Stack, count: int) -> Outcome:
    """Strike in the middle of a job, and report when it has ended."""
    before, stack.in_flight = stack.emulator_calls(), None
    began = time.monotonic()
    job = harness.certify(harness.pairs(count))
    until(lambda: in_the_middle(job), "runs are at work")
    with Watch(stack) as watch:
        drill.blow(stack)
        lifted = time.monotonic()
        ended = until(lambda: has_ended(job), "the job ends")
        healed = until(lambda: watch.is_well, "the stack is well")
        time.sleep(1)
    calls = stack.emulator_calls() - before
    job_s = time.monotonic() - began
    faults = check(job) if ended else "the job did not end"
    if ended and not takes_new_work():
        faults = ", ".join(filter(None, (faults, "a new job is not taken")))
    answers = {
        name: dict(Counter(state for _, state in watch.states[name])) for name in watch.pages
    }
    print(f"{drill.what}: {answers}", file=sys.stderr)
    runs = list(job.runs.all())
    recorded = sum(run.calls for run in runs)
    return Outcome(
        what=drill.what,
        states=", ".join(f"{n} {state}" for state, n in Counter(r.status for r in runs).items()),
        retried=sum(run.attempt > 1 for run in runs),
        twice=calls - recorded if calls >= recorded else None,
        in_flight=stack.in_flight,
        observed=watch.observed(),
        healed_s=max(0.0, watch.well_since() - lifted) if healed else None,
        job_s=job_s,
        faults=faults,
    )


def until(condition: Callable[[], bool], what: str) -> bool:
    """Return whether the condition held within PATIENCE_S; servers may be away meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except (DatabaseError, OSError):
            connection.close()
        time.sleep(0.25)
    print(f"not within {PATIENCE_S} s: {what}", file=sys.stderr)
    return False


def in_the_middle(job: CertificationJob) -> bool:
    states = Counter(job.runs.values_list("status", flat=True))
    return states[State.COMPLETED] >= 3 and states[State.PROCESSING] >= 3


def has_ended(job: CertificationJob) -> bool:
    job.refresh_from_db()
    return job.status not in ACTIVE


def takes_new_work() -> bool:
    """Start one more job for either worker, now that all is over: one that is up may have stopped
    asking for messages.
    """
    for priority in Priority.values:
        job = harness.certify(harness.pairs(2), priority)
        if not until(partial(has_ended, job), f"a new {priority} job ends"):
            return False
    return True


def check(job: CertificationJob) -> str:
    """Return what is wrong with the rows of an ended job, empty when nothing is."""
    runs = list(job.runs.all())
    faults = []
    if any(run.status in ACTIVE for run in runs):
        faults.append("runs left open")
    if job.processed_runs + job.cancelled_runs != len(runs):
        faults.append("wrong counts")
    cases = Counter(TestResult.objects.filter(run__job=job).values_list("run_id", "case_id"))
    if any(n > 1 for n in cases.values()):
        faults.append("doubled results")
    with_results = {run_id for run_id, _case in cases}
    if any(run.status == State.COMPLETED and run.pk not in with_results for run in runs):
        faults.append("results missing")
    return ", ".join(faults)


def choose(beginnings: Sequence[str]) -> list[str]:
    """Return the names of the drills that begin so, all without any. SystemExit for a beginning
    that none has.
    """
    known = list(blows.drills())
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in known):
            raise SystemExit(f"There is no drill {beginning!r}. There are: {', '.join(known)}")
    return [name for name in known if not beginnings or name.startswith(tuple(beginnings))]


def write(rows: list[str]) -> None:
    """Replace or add rows of the page's table, which is ordered as the drills are."""
    text = PAGE.read_text()
    before, rest = text.split(START)
    table, after = rest.split(END)
    known = {line.split("|")[1]: line + "\n" for line in table.splitlines()[2:]}
    known |= {line.split("|")[1]: line for line in rows}
    order = [f" {drill.what} " for drill in blows.drills().values()]
    lines = [known[what] for what in order if what in known]
    PAGE.write_text(before + START + HEADINGS + RULE + "".join(lines) + END + after)


def main(options: Namespace, chosen: Sequence[str]) -> None:
    """Run the chosen drills on one stack."""
    table = blows.drills()
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # servers are away on purpose
    harness.prepare()
    reader = User.objects.create_user("drills@example.org", role="viewer")
    stack = Stack(ROOT, tokens.issue(reader), options.time_scale)
    print(f"{harness.machine()}, {datetime.now(UTC):%Y-%m-%d}\n\n{HEADINGS}{RULE}", end="")
    try:
        stack.up()
        for name in chosen:
            if table[name].needs_disks and not (ROOT / ".myia" / "valkey").is_mount():
                print(f"{name} needs root on Linux, to mount small disks.", file=sys.stderr)
                continue
            row = run(table[name], stack, options.runs).row()
            print(row, end="", flush=True)
            if options.write:
                write([row])
    finally:
        connection.close()
        print(stack.manage("down").stdout[-300:], file=sys.stderr)
