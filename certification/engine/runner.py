"""One run from claim to verdict, and the process that works on many of them at once."""

from __future__ import annotations

import gc
import random
import socket
import sys
import threading
import time
import uuid
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from os import getpid
from statistics import median
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import Error as DatabaseProblem
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from certification.bedrock.client import Bedrock
from certification.bedrock.errors import BedrockError
from certification.engine import backend, evidence, limits, publication
from certification.engine.evidence import Attempt
from certification.engine.preflight import Preflight
from certification.inference import (
    AnyRequest,
    EmbedRequest,
    Failure,
    Operation,
    Outcome,
    Reply,
    Request,
    Text,
    Timing,
)
from certification.lib.database import returning_connection
from certification.models import (
    Acceptance,
    AIModel,
    CertificationRun,
    OperatorCase,
    Priority,
    QueuePause,
    Route,
    RouteKind,
    RunOutcome,
    State,
    TestResult,
    Tier,
)
from certification.reasons import ErrorCategory, Owner, Reason, Status
from certification.suite import custom, plan, registry, scoring
from certification.suite.case import (
    Case,
    Context,
    Feature,
    Grade,
    Kind,
    ProbeCache,
    Script,
    execute,
)
from certification.suite.plan import Trial
from certification.suite.scoring import CaseOutcome, Judgement

log = structlog.get_logger(__name__)
T = TypeVar("T")

MAX_ATTEMPTS = 4  # of one call
# How many times CERTIFICATION_TIMEOUT a run of each tier may take: the full one makes ten times the
# quick one's calls.
TIMEOUT_FACTOR = {Tier.QUICK: 1, Tier.FULL: 3, Tier.DEEP: 6}
BACKOFF_S = (0.4, 1.2, 3.0)
HEARTBEAT_INTERVAL_S = 1.0
# Hundreds of call threads ask for the interpreter this often while they wait for it, and each time
# costs CPU (Python's own 5 ms: a quarter more for 300 calls in flight); none of them holds it for
# longer anyway.
SWITCH_S = 0.02
# Python looks for garbage every 700 new objects, and once in a while among all that Django and
# botocore keep for good.
GARBAGE_EVERY = 10_000
MAX_IDENTIFIER = 100  # characters
PERSIST_S = 60.0  # how long a result waits for a database that is away
# Answers that speak about the way, not the model: the next route may work.
NEXT_ROUTE = frozenset(
    {
        Reason.NEEDS_INFERENCE_PROFILE, Reason.NEEDS_PROVISIONED_THROUGHPUT, Reason.NOT_IN_REGION,
        Reason.UNKNOWN_MODEL, Reason.SCP_DENIED,
    }
)  # fmt: skip
ACCOUNT_ERRORS = frozenset({ErrorCategory.PERMISSION_ERROR, ErrorCategory.MODEL_ACCESS})


class Stopped(Exception):
    """The run must not go on: it was cancelled, lost or is handed back."""


@dataclass
class Worker:
    """One process's share of the work: a bounded pool of call threads and the pulse that shows its
    runs are alive.
    """

    bedrock: Bedrock
    limiter: limits.Limiter
    calls_per_run: int
    calls: ThreadPoolExecutor
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{getpid()}")
    draining: threading.Event = field(default_factory=threading.Event)
    _active: dict[uuid.UUID, RunExecution] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pulse: threading.Thread | None = None
    last_heartbeat: float = 0.0

    def __post_init__(self) -> None:
        self.preflight = Preflight(self.bedrock)

    @property
    def active(self) -> int:
        """Runs being worked on now."""
        return len(self._active)

    @contextmanager
    def watching(self, execution: RunExecution) -> Iterator[None]:
        """Keep the run's heartbeat going while the block runs."""
        with self._lock:
            self._active[execution.run.pk] = execution
            if self.draining.is_set():  # between the look at it and the claim
                execution.stop.set()
            if self._pulse is None:
                self._pulse = threading.Thread(target=self._beat, name="pulse", daemon=True)
                self._pulse.start()
        try:
            yield
        finally:
            with self._lock:
                self._active.pop(execution.run.pk, None)

    def drain(self) -> None:
        """Let running calls end and hand unfinished runs back."""
        self.draining.set()
        with self._lock:
            for execution in self._active.values():
                execution.stop.set()

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_INTERVAL_S)
            with self._lock:
                mine = dict(self._active)
            if not mine:
                continue
            try:
                with returning_connection():
                    alive = CertificationRun.objects.heartbeat(
                        {pk: e.run.claimed_by for pk, e in mine.items()}
                    )
            # whatever it is: without a pulse every run of this worker is lost
            except DatabaseProblem as error:
                log.warning("heartbeat_failed", error=str(error))
                continue
            self.last_heartbeat = time.monotonic()
            for pk, execution in mine.items():
                if pk not in alive:
                    execution.lose()


_creation_lock = threading.Lock()


def worker() -> Worker:
    """This process's worker, made at first use: one, however many threads ask at once (`drain`
    knows only one).
    """
    with _creation_lock:
        return _worker()


def reset_worker() -> None:
    """Have the next `worker` made anew, under the settings of then: for tests."""
    with _creation_lock:
        _worker.cache_clear()


@cache
def _worker() -> Worker:
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(GARBAGE_EVERY)
    gc.freeze()
    most = settings.CERTIFICATION_CONCURRENCY * settings.CERTIFICATION_CALLS_PER_RUN
    in_flight = settings.CERTIFICATION_CALLS_IN_FLIGHT or most
    return Worker(
        bedrock=backend.bedrock(),
        limiter=limits.connect(settings.REDIS_URL, max_connections=min(in_flight, 32)),
        calls_per_run=settings.CERTIFICATION_CALLS_PER_RUN,
        calls=ThreadPoolExecutor(in_flight, thread_name_prefix="call"),
    )


def run(run_id: uuid.UUID, worker: Worker) -> CertificationRun | None:
    """Work on one run from claim to verdict. The finished run; None when it was not ours to take or
    to finish.
    """
    if worker.draining.is_set():
        return None
    with returning_connection():
        # A message may have come from where another backend is in use: its evidence would carry the
        # wrong name.
        claimed = CertificationRun.objects.claim(
            run_id, f"{worker.name}:{uuid.uuid4().hex[:12]}", backend.name()
        )
        if claimed is None:
            return None
        execution = RunExecution(claimed, worker, claimed.routes)
        execution.custom_specs = OperatorCase.objects.specs() if claimed.tier != Tier.QUICK else ()
        execution.known_refusals = known_refusals(claimed.model)
    with worker.watching(execution):
        return claimed if _certify(execution) else None


def _certify(execution: RunExecution) -> bool:
    """From the claim to what is written. False when nothing is: the run is no longer ours, or
    handed back.
    """
    try:
        judgement = execution.certify()
    except Stopped:
        return _stopped(execution)
    if execution.unauthenticated:
        return _refused_credentials(execution, execution.unauthenticated)
    return _finish(execution, judgement)


def _stopped(execution: RunExecution) -> bool:
    """Nothing of a lost run is written; one that is handed back starts again elsewhere."""
    if execution.lost:
        log.info("run_lost", run=str(execution.run.pk))
    elif persist(execution.run.release):
        log.info("run_released", run=str(execution.run.pk))
    return False


def _refused_credentials(execution: RunExecution, failure: Failure) -> bool:
    """Wrong or expired credentials are ours: nothing is said about the model. A sweep pauses, a
    click learns at once.
    """
    run = execution.run
    if run.job.priority == Priority.BULK:
        told = replace(failure, message=evidence.cut(failure.message))
        if persist(lambda: QueuePause.begin(run.backend, told)):
            log.error("queue_paused", backend=run.backend, reason=told.reason, error=told.message)
        persist(run.release)
        return False
    outcome = RunOutcome(
        status=State.FAILED,
        error_category=failure.reason.category,
        error_reason=failure.reason,
        error_message=evidence.cut(failure.message),
        error_code=_identifier(failure.code),
        request_id=_identifier(failure.request_id),
        fix=evidence.fix(failure, model_id=run.model.api_model_id, region=run.region_id),
        calls=execution.calls.total,
        environment=execution.environment,
    )

    def write() -> bool:
        with transaction.atomic():
            won = run.finish(outcome)
            if won:
                run.job.record_finished_runs(1, 0)
            return won

    won = persist(write)
    _tell(run, outcome, won=won)
    return won


def _finish(execution: RunExecution, judgement: Judgement) -> bool:
    """Results, run, job and certification in one transaction. False when the run was no longer
    ours.
    """
    run, outcome = execution.run, execution.outcome(judgement)
    ttl = timedelta(days=settings.CERTIFICATION_TTL_DAYS)
    says_something = judgement.verdict != Status.PENDING or (
        judgement.reason is not None and judgement.reason.facts.owner != Owner.OURS
    )
    results = execution.results()

    def write() -> bool:
        with transaction.atomic():
            if not run.finish(outcome, results):
                return False
            if execution.trials:
                Acceptance.forget(run.model, execution.stale_support())
                Acceptance.learn(
                    run.model_id, run.region_id, execution.observed_support(), timezone.now()
                )
            if says_something:
                publication.publish(run, ttl)
            # The job is counted last: all its runs wait for that row.
            run.job.record_finished_runs(1, int(outcome.passed), outcome.cost_usd or 0)
            return True

    won = persist(write)
    _tell(run, outcome, won=won)
    return won


def _tell(run: CertificationRun, outcome: RunOutcome, *, won: bool) -> None:
    if not won:
        log.info("run_lost", run=str(run.pk))
        return
    log.info(
        "run_finished",
        run=str(run.pk),
        job=str(run.job_id),
        model=run.model.api_model_id,
        region=run.region_id,
        status=outcome.status,
        verdict=outcome.verdict,
        score=outcome.score,
        reason=outcome.error_reason,
        calls=outcome.calls,
        retries=outcome.retries,
    )


def persist(write: Callable[[], T]) -> T:
    """Run a database write, again while the database is away, for up to PERSIST_S: a result must
    not be lost to a restart.
    """
    deadline = time.monotonic() + PERSIST_S
    while True:
        try:
            with returning_connection():
                return write()
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database_away", error=str(error).strip())
            time.sleep(0.5)


def known_refusals(model: AIModel) -> dict[Feature, Failure]:
    """What need not be asked of a model again. What the catalogue declares is asked all the same: a
    verdict hangs on it.
    """
    kept = Acceptance.refusals(model.pk, timezone.now())
    return {
        key: evidence.failure_from(said)
        for key, said in kept.items()
        if key[1] not in model.capabilities
    }


class RunExecution:
    """The state of one run while it is worked on. Trials run in the worker's call threads; they
    never touch the database.
    """

    def __init__(self, run: CertificationRun, worker: Worker, routes: Sequence[Route]) -> None:
        self.run = run
        self.worker = worker
        self.region: str = run.region_id
        self.model_id: str = run.model.api_model_id
        self.capabilities = frozenset(run.model.capabilities)
        self.known_routes = sorted(routes, key=lambda r: r.preference)
        self.targets: list[tuple[str, str]] = []
        self.target, self.target_kind = self.model_id, RouteKind.ON_DEMAND.value
        self.route_settled = False
        self.deadline = (
            time.monotonic()
            + settings.CERTIFICATION_TIMEOUT / 1000 * TIMEOUT_FACTOR[Tier(run.tier)]
        )
        self.stop = threading.Event()
        self.lost = False
        self.endpoint_down = False
        self.unauthenticated: Failure | None = None
        self.cases: tuple[Case, ...] = ()
        self.grades: dict[str, list[Grade]] = defaultdict(list)
        self.trials: dict[str, list[tuple[Script, Grade, list[Attempt], ProbeCache]]] = defaultdict(
            list
        )
        self.known_refusals: Mapping[Feature, Failure] = {}
        self.attempts: list[Attempt] = []
        self.retries = 0
        self.custom_specs: tuple[custom.Spec, ...] = ()
        self.environment: dict[str, object] = {"worker": worker.name}
        self._lock = threading.Lock()
        self._started: dict[str, int] = defaultdict(int)
        self._due: list[tuple[Trial, Script]] = []
        self._lanes = 0  # call threads at work on this run
        self._idle = threading.Event()
        self._idle.set()
        self._crash: BaseException | None = None

    @property
    def suite_version(self) -> str:
        """What was asked: the suite's version, and a hash of the operators' own cases where there
        are any.
        """
        return registry.version_with(self.custom_specs)

    def lose(self) -> None:
        """The run is no longer ours: stop, and write nothing."""
        self.lost = True
        self.stop.set()

    # -- the story of a run ------------------------------------------------------------------------

    def certify(self) -> Judgement:
        """Preflight, route, access gate, the tier's other cases, verdict. Raises Stopped."""
        if not registry.has_suite(self.run.model.kind):
            return scoring.without_suite(self.run.model.kind)
        if self.known_routes and all(r.kind == RouteKind.MANTLE for r in self.known_routes):
            return scoring.not_on_runtime()
        self.choose_route()
        self.cases = registry.cases(
            self.run.model.kind, self.run.tier, self.capabilities, self.custom_specs
        )
        self._work_through()
        judgement = scoring.judge(self._seen())
        if judgement.reason and judgement.reason.category in ACCOUNT_ERRORS:
            canary = self.worker.preflight.canary(self.region)
            self.environment["canary"] = {"answered": canary.answered, "reason": canary.reason}
        return judgement

    def choose_route(self) -> None:
        """Line up the ways to call the model in this region, the preferred one first."""
        listing = self.worker.preflight.listing(self.region)
        self.environment["preflight"] = listing.facts(self.model_id)
        self.targets = self._targets(listing.profiles_of(self.model_id))
        self.target, self.target_kind = self.targets[0]

    def _targets(self, listed_profiles: Iterable[str]) -> list[tuple[str, str]]:
        """(target id, route kind) in the order to try: what the catalogue knows, then what the
        region lists, else the bare id.
        """
        targets = {
            r.target_id: str(r.kind) for r in self.known_routes if r.kind != RouteKind.MANTLE
        }
        for profile in sorted(listed_profiles, key=lambda p: p.startswith("global.")):
            targets.setdefault(profile, RouteKind.INFERENCE_PROFILE.value)
        return list(targets.items()) or [(self.model_id, RouteKind.ON_DEMAND.value)]

    def _work_through(self) -> None:
        """Play trials as the plan wants them, in at most `calls_per_run` call threads, until
        nothing is due.
        """
        with self._lock:
            self._plan()
            self._open_lanes()
        self._idle.wait()
        if self._crash:
            raise self._crash
        if self.stop.is_set() and not self.unauthenticated:
            raise Stopped

    def _plan(self) -> None:
        """Ask for the trials that are due now. Long chains of calls go first: the run cannot end
        before they do.
        """
        if self.stop.is_set():
            self._due.clear()
            return
        fresh = plan.next_trials(
            self.cases, self.grades, self._started, self.run.tier, self._so_far
        )
        for trial in fresh:
            self._started[trial.case.id] += 1
        if fresh:
            self._due += [(trial, trial.script(self.run.variant_seed)) for trial in fresh]
            self._due.sort(key=lambda due: (due[0].case.concurrent, -len(due[1].steps)))

    def _open_lanes(self) -> None:
        """Give call threads to the trials that are due, as many as the run may have; a burst once
        nothing else is left.
        """
        while self._lanes < self.worker.calls_per_run and (due := self._next()):
            self._lanes += 1
            self._idle.clear()
            self.worker.calls.submit(self._lane, *due)
        if self._due and not self._lanes:
            self._open_burst()

    def _next(self) -> tuple[Trial, Script] | None:
        """The next trial that may start beside others."""
        return self._due.pop(0) if self._due and not self._due[0][0].case.concurrent else None

    def _open_burst(self) -> None:
        """All due trials of the next case at once, in threads of their own: the shared ones may be
        busy.
        """
        case = self._due[0][0].case
        burst = [due for due in self._due if due[0].case is case]
        self._due = [due for due in self._due if due[0].case is not case]
        self._lanes = len(burst)
        self._idle.clear()
        for due in burst:
            threading.Thread(target=self._lane, args=due, name="burst", daemon=True).start()

    def _lane(self, trial: Trial, script: Script) -> None:
        """One call thread's part: a trial, and another one for as long as any is due. No hand-over,
        no idle slot between.
        """
        due: tuple[Trial, Script] | None = (trial, script)
        try:
            while due:
                self.attempt(*due)
                with self._lock:
                    self._plan()
                    due = self._next()
                    self._open_lanes()
        except BaseException as error:  # noqa: BLE001 - raised again in the run's own thread
            self._crash = error
            self.stop.set()
        finally:
            with self._lock:
                self._lanes -= 1
                if not self._lanes and not self.stop.is_set():
                    self._open_lanes()
                if not self._lanes:
                    self._idle.set()

    def attempt(self, trial: Trial, script: Script | None = None) -> None:
        """One trial in the calling thread: play it, grade it, keep both."""
        attempts: list[Attempt] = []
        script = script or trial.script(self.run.variant_seed)
        # A gate that failed may have failed for what we believe of the model: its retries ask
        # everything anew.
        memory = ProbeCache(
            {} if trial.case.kind == Kind.GATE and trial.index else self.known_refusals
        )
        try:
            # a call of a burst that is tried again is in none
            most = 1 if trial.case.concurrent else MAX_ATTEMPTS
            outcomes = execute(
                script,
                lambda request: self.call(request, attempts, most),
                self.capabilities,
                memory,
            )
        except Stopped:
            return
        grade = script.grade(outcomes, self._context(trial))
        with self._lock:
            # By number, not as they end: a trial's place is what its prompt was drawn from, here
            # and in other regions.
            kept = self.trials[trial.case.id]
            insort(kept, (script, grade, attempts, memory), key=lambda one: one[0].ref.trial)
            self.grades[trial.case.id] = [one[1] for one in kept]
            if grade.passed:
                self.route_settled = True

    def _context(self, trial: Trial) -> Context:
        texts: tuple[str, ...] = ()
        if trial.case.whole_run:
            texts = tuple(a.outcome.text for a in self.attempts if isinstance(a.outcome, Reply))
        return Context(
            reasoning="reasoning" in self.capabilities,
            texts=texts,
            dimensions=self.run.model.dimensions,
            context_window=self.run.model.context_window,
        )

    # -- one call ----------------------------------------------------------------------------------

    def call(
        self, request: AnyRequest, attempts: list[Attempt], most: int = MAX_ATTEMPTS
    ) -> Outcome:
        """One call with the system's only retry loop. Raises Stopped between attempts; errors come
        back as Failure.
        """
        number, failures = 0, 0
        while True:
            if self.stop.is_set():
                raise Stopped
            number += 1
            outcome = self._attempt(request)
            self._note(
                Attempt(request, outcome, number, datetime.now(UTC).isoformat(), self.target),
                attempts,
            )
            if not isinstance(outcome, Failure):
                self.endpoint_down = False
                return outcome
            if outcome.reason.category == ErrorCategory.AUTHENTICATION_ERROR:
                self.unauthenticated = outcome
                self.stop.set()
                return outcome
            if self._moves_on(outcome):
                continue
            failures += 1
            # A broken answer is evidence about the model and stays one; only what says nothing
            # about it is tried again.
            worth_it = outcome.reason.retryable and outcome.reason.facts.is_infrastructure
            if failures >= MAX_ATTEMPTS and outcome.reason.category == ErrorCategory.NETWORK_ERROR:
                # the run's other calls try once: no minutes are spent on a dead endpoint
                self.endpoint_down = True
            if (
                not worth_it
                or failures >= (1 if self.endpoint_down else most)
                or not self._pause(failures)
            ):
                return outcome
            with self._lock:
                self.retries += 1

    def _attempt(self, request: AnyRequest) -> Outcome:
        tokens = _cost_in_tokens(request)
        if not self.worker.limiter.acquire(
            self.region, self.target, tokens, self.stop, self.deadline
        ):
            if self.stop.is_set():
                raise Stopped
            return Failure(
                Reason.DEADLINE,
                "The run's time was over before the route's rate limit allowed another call.",
                operation=request.operation,
            )
        started = time.perf_counter()
        remaining = self.deadline - time.monotonic()
        try:
            return _send(self.worker.bedrock, self.region, self.target, request, remaining)
        except BedrockError as error:
            if error.category == ErrorCategory.RATE_LIMIT:
                self.worker.limiter.throttled(self.region, self.target)
            elapsed = Timing((time.perf_counter() - started) * 1000)
            return error.to_failure(elapsed, getattr(error, "partial", None))

    def _note(self, attempt: Attempt, attempts: list[Attempt]) -> None:
        attempts.append(attempt)
        with self._lock:
            self.attempts.append(attempt)

    def _moves_on(self, failure: Failure) -> bool:
        """Go to the next route when this one was refused as a route. Only the access gate runs
        while no route is settled.
        """
        if self.route_settled or failure.reason not in NEXT_ROUTE:
            return False
        position = self.targets.index((self.target, self.target_kind))
        if position + 1 >= len(self.targets):
            return False
        self.target, self.target_kind = self.targets[position + 1]
        return True

    def _pause(self, failures: int) -> bool:
        """Wait before the next attempt, jittered. False when the deadline or a stop comes first."""
        seconds = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * random.uniform(0.5, 1.5)
        if time.monotonic() + seconds > self.deadline:
            return False
        return not self.stop.wait(seconds)

    # -- the verdict -------------------------------------------------------------------------------

    @property
    def calls(self) -> scoring.Calls:
        return scoring.Calls.of(a.outcome for a in self.attempts)

    def _so_far(self, outcomes: tuple[CaseOutcome, ...]) -> scoring.Run:
        """The run that would be judged if these were all outcomes."""
        price = self.run.model.output_price
        return scoring.Run(
            tier=self.run.tier,
            outcomes=outcomes,
            calls=self.calls,
            model_class=scoring.model_class(
                self.capabilities, None if price is None else float(price)
            ),
            interrupted=Reason.DEADLINE if time.monotonic() > self.deadline else None,
            declared=self.capabilities,
        )

    def _seen(self) -> scoring.Run:
        refused = bool(self.cases) and plan.refusal_ends(self.cases, self.grades)
        return replace(
            self._so_far(self._case_outcomes()), access=self._refusal() if refused else None
        )

    def _case_outcomes(self) -> tuple[CaseOutcome, ...]:
        skipped = registry.skipped(self.run.model.kind, self.run.tier, self.capabilities)
        return (*plan.outcomes_of(self.cases, self.grades), *skipped) if self.cases else ()

    def _refusal(self) -> Failure | None:
        """What refused the access gate. Bedrock says "invalid identifier" of models it serves
        elsewhere: we know better.
        """
        last = next(
            (a.outcome for a in reversed(self.attempts) if isinstance(a.outcome, Failure)), None
        )
        if last and last.reason == Reason.UNKNOWN_MODEL and self._offered_elsewhere():
            return replace(last, reason=Reason.NOT_IN_REGION)
        return last

    def _offered_elsewhere(self) -> bool:
        return persist(lambda: self.run.model.routes.exclude(region=self.region).exists())

    def outcome(self, judgement: Judgement) -> RunOutcome:
        """Everything the run's row stores."""
        replies = [a.outcome for a in self.attempts if isinstance(a.outcome, Reply)]
        usages = [
            o.usage for a in self.attempts if not isinstance(o := a.outcome, Failure) and o.usage
        ]
        tokens_in, tokens_out = (
            sum(u.input_tokens for u in usages),
            sum(u.output_tokens for u in usages),
        )
        failure = self._failure_behind(judgement)
        pending = judgement.verdict == Status.PENDING
        reason = judgement.reason
        return RunOutcome(
            status=State.FAILED if pending else State.COMPLETED,
            verdict=judgement.verdict,
            passed=judgement.verdict == Status.CERTIFIED,
            # never rounded up over a line
            score=None if judgement.score is None else int(judgement.score),
            rating=judgement.rating,
            lower_bound=judgement.lower_bound,
            quality=judgement.quality,
            contract=judgement.contract,
            performance=judgement.performance,
            reliability=judgement.reliability,
            ttft_ms=judgement.ttft.median
            if judgement.ttft
            else _median(r.timing.ttft_ms for r in replies),
            latency_p50_ms=_median(
                a.outcome.timing.total_ms
                for a in self.attempts
                if not isinstance(a.outcome, Failure)
            ),
            output_tps=judgement.speed.median
            if judgement.speed
            else _median(_tokens_per_second(r) for r in replies),
            calls=len(self.attempts),
            retries=self.retries,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=self.run.model.cost_usd(tokens_in, tokens_out),
            route=self.target if self.attempts else "",
            route_kind=self.target_kind if self.attempts else "",
            error_category=reason.category if reason else "",
            error_reason=reason or "",
            error_message=""
            if judgement.verdict == Status.CERTIFIED
            else evidence.cut(judgement.message),
            error_code=_identifier(failure.code) if failure else "",
            request_id=_identifier(failure.request_id) if failure else "",
            fix=evidence.fix(failure, reason=reason, model_id=self.target, region=self.region),
            suite_version=self.suite_version,
            policy_version=registry.POLICY_VERSION,
            environment=self.environment
            | {
                "unmet": list(judgement.unmet),
                "lacks": list(judgement.lacks),
                "judged": evidence.basis(self._seen()),
            }
            | _latency(judgement),
        )

    def _failure_behind(self, judgement: Judgement) -> Failure | None:
        """The call that gave the judgement its reason."""
        failures = (a.outcome for a in reversed(self.attempts) if isinstance(a.outcome, Failure))
        refusal = self._refusal()  # its reason may be one that we worked out
        candidates = (*failures, refusal) if refusal else failures
        return next((f for f in candidates if f.reason == judgement.reason), None)

    def observed_support(self) -> dict[Feature, dict[str, Any] | None]:
        """What calls showed the model to take (None) or refuse (the refusal), by (operation,
        feature).
        """
        seen: dict[Feature, dict[str, Any] | None] = {}
        for case_id, trials in self.trials.items():
            for _script, grade, attempts, memory in trials:
                operation = str(attempts[-1].request.operation) if attempts else ""
                probed = {feature for _operation, feature in (*memory.seen, *memory.skipped)}
                if grade.lacks and grade.lacks not in probed:
                    seen[operation, grade.lacks] = (
                        evidence.failure(grade.cause) if grade.cause else {}
                    )
                elif grade.passed and case_id in registry.PROBES:
                    seen.setdefault((operation, registry.PROBES[case_id]), None)
                seen |= {
                    key: evidence.failure(said) if said else None
                    for key, said in memory.seen.items()
                }
        return seen

    def stale_support(self) -> set[Feature]:
        """What we believed refused and had better ask again: the form in its place was refused too,
        or a gate failed on it.
        """
        return {
            feature
            for trials in self.trials.values()
            for script, grade, attempts, memory in trials
            for feature in memory.skipped
            if _contradicts(feature[0], script, grade, attempts)
        }

    def results(self) -> list[TestResult]:
        """One row per case of the run, with its trials as evidence."""
        return evidence.fit([self._result(outcome) for outcome in self._case_outcomes()])

    def _result(self, outcome: CaseOutcome) -> TestResult:
        case = outcome.case
        standing = str(outcome.standing)
        return TestResult(
            run=self.run,
            case_id=case.id,
            category=case.category,
            kind=case.kind,
            verdict="invalid" if standing == "open" else standing,
            sentence=evidence.cut(outcome.skipped or outcome.sentence),
            passes=outcome.passes,
            trials_valid=len(outcome.valid),
            score=outcome.score,
            trials=[evidence.trial(*kept) for kept in self.trials[case.id]],
        )


def _send(
    bedrock: Bedrock, region: str, target: str, request: AnyRequest, remaining_s: float
) -> Outcome:
    if isinstance(request, EmbedRequest):
        return bedrock.embed(region, target, request, remaining_s)
    if request.operation == Operation.STREAM:
        return bedrock.stream(region, target, request, remaining_s)
    return bedrock.converse(region, target, request, remaining_s)


def _contradicts(operation: str, script: Script, grade: Grade, attempts: Iterable[Attempt]) -> bool:
    """Whether a trial that was spared a probe of this operation ended as it would if what we
    believed were wrong.
    """
    if grade.valid and not grade.passed and registry.BY_ID[script.ref.case_id].kind == Kind.GATE:
        return True
    failures = (
        a.outcome
        for a in attempts
        if isinstance(a.outcome, Failure) and a.request.operation == operation
    )
    return any(failure.reason.facts.status == Status.CONFIGURATION_REQUIRED for failure in failures)


def _cost_in_tokens(request: AnyRequest) -> int:
    """What Bedrock reserves for a call: its input, at about four characters a token, and
    `maxTokens`.
    """
    if isinstance(request, EmbedRequest):
        return sum(len(t) for t in request.texts) // 4 + 1
    return _characters(request) // 4 + 1 + request.max_tokens


def _characters(request: Request) -> int:
    texts = (len(b.text) for m in request.messages for b in m.content if isinstance(b, Text))
    return sum(texts) + len(request.system)


def _identifier(text: str) -> str:
    """An error code or request id; who stands between us and AWS may have made it up, of any
    length.
    """
    return evidence.cut(text)[:MAX_IDENTIFIER]


def _latency(judgement: Judgement) -> dict[str, object]:
    """Time to first token and output speed of the performance cases, pooled: median, its interval,
    percentiles.
    """
    figures = {"ttft_ms": judgement.ttft, "tokens_per_second": judgement.speed}
    known = {name: asdict(summary) for name, summary in figures.items() if summary}
    return {"latency": known} if known else {}


def _median(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(median(known), 1) if known else None


def _tokens_per_second(reply: Reply) -> float | None:
    """Output tokens per second after the first token, of streamed answers long enough to tell."""
    if reply.operation != Operation.STREAM or reply.usage is None or reply.timing.ttft_ms is None:
        return None
    seconds = (reply.timing.total_ms - reply.timing.ttft_ms) / 1000
    return (
        reply.usage.output_tokens / seconds
        if reply.usage.output_tokens >= 40 and seconds > 0.05
        else None
    )
