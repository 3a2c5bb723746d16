"""One run from claim to verdict."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from certification.bedrock import catalogue
from certification.engine import backend, evidence, outcome, publication, trials
from certification.engine.calls import (
    MAX_UNEXPECTED,
    Caller,
    NoVerdict,
    Stopped,
    Unauthenticated,
)
from certification.engine.journal import RunJournal
from certification.engine.outcome import RunRecord
from certification.engine.preflight import Listing
from certification.engine.trials import TrialPool, TrialRecord, TrialsOverdue
from certification.engine.worker import Claim, Worker
from certification.inference import API, Failure, RouteTarget, failure_of
from certification.lib import clock
from certification.lib.database import returning_connection
from certification.lib.event_loop import Stop
from certification.models import (
    AIModel,
    CertificationRun,
    CustomCase,
    ModelKind,
    ParameterSupport,
    Priority,
    QueuePause,
    Route,
    RouteKind,
    RunOutcome,
    TestResult,
    Tier,
)
from certification.reasons import ErrorCategory, Reason, Status
from certification.suite import custom, plan, registry, scoring, versions
from certification.suite.case import Case, Context, Feature, Script
from certification.suite.plan import Trial
from certification.suite.scoring import Judgement

log = structlog.get_logger(__name__)
T = TypeVar("T")

# How many times CERTIFICATION_TIMEOUT a run of each tier may take: the full one makes ten times the
# quick one's calls.
TIMEOUT_FACTOR = {Tier.QUICK: 1, Tier.FULL: 3, Tier.DEEP: 6}
# After its deadline a run's calls end by themselves. So long later something of ours is stuck.
GRACE_S = 60.0
DATABASE_AWAY = (OperationalError, InterfaceError)
PERSIST_S = 60.0  # how long a result waits for a database that is away
# What a model takes and refuses is remembered of the native APIs: in another one it may differ.
REMEMBERED_APIS = frozenset({API.CONVERSE, API.INVOKE})
# Of several refusals, those that say least of the model come last.
REFUSAL_ORDER = {
    Reason.SCP_DENIED: 1,
    Reason.NEEDS_PROVISIONED_THROUGHPUT: 2,
    Reason.NEEDS_INFERENCE_PROFILE: 3,
    Reason.UNKNOWN_MODEL: 4,
    Reason.NOT_IN_REGION: 5,
    Reason.API_NOT_SUPPORTED: 6,
    Reason.MODALITY_NOT_SUPPORTED: 7,
    Reason.WRONG_ROUTE: 8,
    Reason.DNS: 9,
}
ACCOUNT_ERRORS = frozenset({ErrorCategory.PERMISSION_ERROR, ErrorCategory.MODEL_ACCESS})


def run(run_id: uuid.UUID, worker: Worker) -> CertificationRun | None:
    """Work on one run from claim to verdict. Returns the finished run; None when it was not ours to
    take or to finish.
    """
    if worker.draining.is_set():
        return None
    with returning_connection():
        # A message may come from where another backend is in use: its evidence would carry the
        # wrong name.
        run = CertificationRun.objects.claim(
            run_id, f"{worker.name}:{uuid.uuid4().hex[:12]}", backend.name()
        )
        if run is None:
            return None
        specs = CustomCase.objects.specs() if run.tier != Tier.QUICK else ()
    claim = Claim(run.pk, run.claimed_by)
    environment: dict[str, object] = {"worker": worker.name}
    with worker.watching(claim):
        journal = open_journal(run, worker, specs)
        try:
            run_outcome, won = work(
                run, worker, claim.stop, journal, environment=environment, specs=specs
            )
        except Stopped:
            if claim.lost:
                log.info("run_lost", run=str(run.pk), job=str(run.job_id))
                return None
            journal.flush()
            if persist(run.release):
                log.info("run_released", run=str(run.pk), job=str(run.job_id))
            return None
        except DATABASE_AWAY:
            raise  # `reconcile` takes the run up again
        except Exception as error:
            log.exception("run_crashed", run=str(run.pk), job=str(run.job_id))
            if run.attempt < MAX_UNEXPECTED:
                journal.flush()
                persist(run.requeue)
                return None
            run_outcome = outcome.build_unexpected(run, error, environment)
            won = persist(lambda: finish(run, run_outcome, (), None))
    if run_outcome is None:
        return None
    journal.close()
    log_finished(run, run_outcome, won=won)
    return run if won else None


def open_journal(run: CertificationRun, worker: Worker, specs: Sequence[custom.Spec]) -> RunJournal:
    """Open the journal of a claimed run; it takes over the calls of an earlier claim."""
    version = versions.suite_version_with(specs)
    return worker.journal.open(
        run.pk,
        basis=[version, *sorted(run.model.capabilities)],
        spared=(name_of(feature) for feature in known_refusals(run)),
        # of the first claim both are the same moment
        is_first_claim=run.started_at == run.heartbeat_at,
    )


def work(
    run: CertificationRun,
    worker: Worker,
    stop: Stop,
    journal: RunJournal,
    *,
    environment: dict[str, object],
    specs: Sequence[custom.Spec],
) -> tuple[RunOutcome | None, bool]:
    """Bring a run to its end and write it. Returns what was written and whether the run was still
    ours; no outcome where it was handed back because its queue is paused now. Raises Stopped.
    """
    record: RunRecord | None = None
    results: list[TestResult] = []
    try:
        record = certify(run, worker, stop, journal, environment=environment, specs=specs)
        run_outcome, results = outcome.build(run, record), outcome.build_results(run, record)
    except NoVerdict as error:
        if isinstance(error, Unauthenticated) and run.job.priority == Priority.BULK:
            pause_queue(run, error.failure)
            return None, False
        run_outcome = outcome.build_without_verdict(run, error, environment)
    return run_outcome, persist(lambda: finish(run, run_outcome, results, record))


def certify(
    run: CertificationRun,
    worker: Worker,
    stop: Stop,
    journal: RunJournal,
    *,
    environment: dict[str, object],
    specs: Sequence[custom.Spec],
) -> RunRecord:
    """Choose the route, play the trials of the run's tier, judge them.

    What is worth knowing about the circumstances is added to `environment`. `specs` are the
    operators' cases. Raises Stopped and NoVerdict.
    """
    model, region = run.model, run.region_id
    deadline = time.monotonic() + timeout_s(run.tier)
    version = versions.suite_version_with(specs)
    if not registry.has_suite(model.kind):
        return without_calls(run, scoring.without_suite(model.kind), version, environment)
    listing = worker.preflight.listing(region)
    environment["preflight"] = listing.facts(model.api_model_id)
    targets = targets_of(model, run.routes, listing)
    caller = Caller(
        worker.bedrock,
        worker.limiter,
        region,
        targets,
        deadline,
        stop,
        journal,
        worker.is_confirmed,
    )
    cases = registry.cases(model.kind, run.tier, frozenset(model.capabilities), specs)
    refusals = {
        feature: refusal
        for feature, refusal in known_refusals(run).items()
        if name_of(feature) in journal.spared
    }
    pool = play_trials(run, worker, caller, cases, refusals)
    judged = outcome.judged_run(
        run,
        (
            *plan.outcomes_of(cases, pool.grades),
            *registry.skipped(model.kind, run.tier, model.capabilities),
        ),
        caller.attempts,
        interrupted=interruption(deadline),
        access=refusal_of(run, caller) if plan.refusal_ends(cases, pool.grades) else None,
    )
    judgement = scoring.judge(judged)
    if judgement.reason and judgement.reason.category in ACCOUNT_ERRORS:
        canary = worker.preflight.canary(region)
        environment["canary"] = {"answered": canary.answered, "reason": canary.reason}
    return RunRecord(
        judged=judged,
        judgement=judgement,
        route=caller.route,
        suite_version=version,
        attempts=caller.attempts,
        retries=caller.retries,
        refusals=caller.refusals,
        trials=pool.records,
        environment=environment,
    )


def play_trials(
    run: CertificationRun,
    worker: Worker,
    caller: Caller,
    cases: Sequence[Case],
    refusals: Mapping[Feature, Failure],
) -> TrialPool:
    """Execute every trial that the plan asks for in these cases. Raises Stopped and NoVerdict."""
    capabilities = frozenset(run.model.capabilities)
    context = context_of(run.model)

    async def play(trial: Trial, script: Script) -> TrialRecord:
        # those of a concurrent case start at once, whatever else is going on
        async with contextlib.nullcontext() if trial.case.concurrent else worker.slots:
            return await trials.play(
                trial,
                script,
                caller,
                context=context,
                capabilities=capabilities,
                refusals=refusals if caller.route.api in REMEMBERED_APIS else {},
            )

    pool = TrialPool(
        worker.calls_per_run,
        plan=lambda grades, started: plan.next_trials(
            cases,
            grades,
            started,
            run.tier,
            lambda outcomes: outcome.judged_run(
                run, outcomes, caller.attempts, interrupted=interruption(caller.deadline)
            ),
        ),
        play=play,
        seed=run.variant_seed,
        stop=caller.stop,
    )
    try:
        pool.run(caller.deadline + GRACE_S - time.monotonic())
    except TrialsOverdue as error:
        message = (
            f"The run's calls had not ended {GRACE_S:g} s after its deadline. This says nothing "
            "about the model. Restart the workers if it happens again."
        )
        raise NoVerdict(Failure(Reason.DEADLINE, message), len(caller.attempts)) from error
    return pool


def finish(
    run: CertificationRun,
    run_outcome: RunOutcome,
    results: Sequence[TestResult],
    record: RunRecord | None,
) -> bool:
    """Write everything that follows from a run's end, in one transaction. False when the run is no
    longer ours: then nothing is written.
    """
    with transaction.atomic():
        if not run.finish(run_outcome, results):
            return False
        if record and record.trials and record.route.api in REMEMBERED_APIS:
            stale = outcome.stale_support(record.trials)
            ParameterSupport.forget(run.model, stale)
            ParameterSupport.record(
                run.model_id,
                run.region_id,
                outcome.observed_support(record.trials),
                clock.now(),
                known={name: last for name, last in run.support.items() if name not in stale},
            )
        if record and record.attempts:
            news = outcome.route_news(record, run.routes)
            Route.objects.record_refusals(run.model_id, run.region_id, news, clock.now())
        if record and record.is_publishable:
            publication.publish(run, timedelta(days=settings.CERTIFICATION_TTL_DAYS))
        # Last: all runs of the job wait for its row.
        run.job.record_finished_runs(1, int(run_outcome.passed), run_outcome.cost_usd or 0)
    return True


def without_calls(
    run: CertificationRun,
    judgement: Judgement,
    version: str,
    environment: Mapping[str, object],
) -> RunRecord:
    """Record a run that was judged without a single call."""
    return RunRecord(
        judged=outcome.judged_run(run, (), ()),
        judgement=judgement,
        route=RouteTarget(run.model.api_model_id, RouteKind.ON_DEMAND.value),
        suite_version=version,
        environment=environment,
    )


def targets_of(model: AIModel, routes: Iterable[Route], listing: Listing) -> list[RouteTarget]:
    """List the ways to call a model in a region, in the order to try: what the catalogue knows and
    what the region lists, else the bare id.
    """
    api = API.CONVERSE if model.kind == ModelKind.TEXT else API.INVOKE
    targets = {route.target(): None for route in routes}
    for profile in listing.profiles_of(model.api_model_id):
        targets[RouteTarget(profile, RouteKind.INFERENCE_PROFILE.value, api=api)] = None
    if not targets:
        targets[RouteTarget(model.api_model_id, RouteKind.ON_DEMAND.value, api=api)] = None
    return sorted(targets, key=catalogue.order_of_trial)


def context_of(model: AIModel) -> Context:
    """Collect what grading a trial may need to know of the model."""
    return Context(
        reasoning="reasoning" in model.capabilities,
        dimensions=model.dimensions,
        context_window=model.context_window,
    )


def timeout_s(tier: str) -> float:
    """Return the seconds that a run of this tier may take."""
    factor: int = TIMEOUT_FACTOR[Tier(tier)]
    return settings.CERTIFICATION_TIMEOUT / 1000 * factor


def interruption(deadline: float) -> Reason | None:
    """Return why a run that is judged now did not come to its end, if it did not."""
    return Reason.DEADLINE if time.monotonic() > deadline else None


def refusal_of(run: CertificationRun, caller: Caller) -> Failure | None:
    """Find what refused the access gate: the last failure, or what every route said where all of
    them were refused. Bedrock says "invalid identifier" of models that it serves in other regions:
    we know better.
    """
    last = next(filter(None, (failure_of(a.outcome) for a in reversed(caller.attempts))), None)
    if last and set(caller.refusals) == set(caller.routes):
        last = refusal_of_all(caller.refusals)
    if last and last.reason == Reason.UNKNOWN_MODEL:
        elsewhere = run.model.routes.exclude(region=run.region_id)
        if persist(elsewhere.exists):
            return replace(last, reason=Reason.NOT_IN_REGION)
    return last


def refusal_of_all(refusals: Mapping[RouteTarget, Failure]) -> Failure:
    """Merge what all routes said into one failure: of the reasons the one that says most of the
    model, and every route's own words. With one route it is that route's refusal.
    """
    if len(refusals) == 1:
        [failure] = refusals.values()
        message = failure.message
    else:
        failure = min(refusals.values(), key=lambda f: REFUSAL_ORDER.get(f.reason, 0))
        message = " ".join(f"{route}: {f.message.strip()}" for route, f in refusals.items())
        message = f"Every route refused the call. {message}"
    if failure.reason.facts.status == Status.PENDING:
        failure = replace(failure, reason=Reason.API_NOT_SUPPORTED)
    return replace(failure, message=message)


def name_of(feature: Feature) -> str:
    """Name a feature in one word, as a run's journal does."""
    return " ".join(feature)


def known_refusals(run: CertificationRun) -> dict[Feature, Failure]:
    """Return what need not be tried with a run's model again. What the catalogue declares is tried
    all the same: a verdict depends on it.
    """
    return {
        feature: evidence.failure_from(refusal)
        for feature, refusal in ParameterSupport.refusals(run.support, clock.now()).items()
        if feature[1] not in run.model.capabilities
    }


def pause_queue(run: CertificationRun, failure: Failure) -> None:
    """Pause the bulk queue, whose other runs would fail for the same credentials, and hand this one
    back.
    """
    failure = replace(failure, message=evidence.cut(failure.message))
    if persist(lambda: QueuePause.begin(run.backend, failure)):
        log.error("queue_paused", backend=run.backend, reason=failure.reason, error=failure.message)
    persist(run.release)


def persist(write: Callable[[], T]) -> T:
    """Run a database operation, again while the database is away, for up to PERSIST_S: a result
    must survive a restart of it.
    """
    deadline = time.monotonic() + PERSIST_S
    while True:
        try:
            with returning_connection():
                return write()
        except DATABASE_AWAY as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database_unavailable", error=str(error).strip())
            time.sleep(0.5)


def log_finished(run: CertificationRun, run_outcome: RunOutcome, *, won: bool) -> None:
    """Log how a run ended, or that it was no longer ours."""
    if not won:
        log.info("run_lost", run=str(run.pk), job=str(run.job_id))
        return
    log.info(
        "run_finished",
        run=str(run.pk),
        job=str(run.job_id),
        model=run.model.api_model_id,
        region=run.region_id,
        status=run_outcome.status,
        verdict=run_outcome.verdict,
        score=run_outcome.score,
        reason=run_outcome.error_reason,
        calls=run_outcome.calls,
        retries=run_outcome.retries,
    )
