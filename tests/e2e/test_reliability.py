"""What must hold when things die under load: real workers, servers and an emulator, killed and
restarted while they work.

Workers are celery processes on the tests' own PostgreSQL and Valkey; `reconcile` is called here as
beat would. What is checked after every blow is the same: each run ended once, results are whole and
not doubled, the job's counts are right, nothing is left open, and the certifications say what the
newest runs say.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from certification.engine import dispatch, journal, queue, reconcile
from certification.engine.dispatch import CertifyOptions
from certification.engine.reconcile import Reconciled
from certification.models import (
    ACTIVE,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    State,
    TestResult,
)
from certification.reasons import ErrorCategory, Status
from certification.stack import embedded
from certification.suite import registry
from tests.processes import LiveStack, wait_until

pytestmark = pytest.mark.processes

MODELS = ("amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0", "openai.gpt-oss-20b-1:0")
REGIONS = ("us-east-1", "us-west-2", "eu-central-1", "ap-northeast-1")


def start(
    models: tuple[str, ...] = MODELS, regions: tuple[str, ...] = REGIONS, **options: Any
) -> CertificationJob:
    """A quick job over models x regions."""
    pairs = dispatch.pairs_of(dispatch.find_models(models), dispatch.find_regions(regions))
    return dispatch.certify(pairs, CertifyOptions(tier="quick", **options)).job


def run_states(job: CertificationJob) -> Counter[str]:
    return Counter(job.runs.values_list("status", flat=True))


def in_the_middle(job: CertificationJob) -> bool:
    """Some runs are done, some at work."""
    states = run_states(job)
    return states[State.COMPLETED] >= 1 and states[State.PROCESSING] >= 2


def stored_calls(job: CertificationJob) -> list[bytes]:
    """The calls in Redis of the runs that are at work."""
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    at_work = job.runs.filter(status=State.PROCESSING).values_list("pk", flat=True)
    lists = client.mget([journal.pointer_key(run) for run in at_work] or ["none"])
    return [call for key in lists if key for call in client.lrange(key, 1, -1)]


def finish(job: CertificationJob) -> CertificationJob:
    """Reconcile every second, as beat does more rarely, until the job has ended."""

    def is_over() -> bool:
        reconcile.reconcile()
        job.refresh_from_db()
        return job.status not in ACTIVE

    wait_until(is_over, "the job ends", pause_s=1.0)
    return job


def assert_in_order(job: CertificationJob, live_stack: LiveStack) -> None:
    """Each run ended once, nothing is lost or doubled, the job is closed with the right counts."""
    runs = list(job.runs.select_related("model"))
    assert not CertificationRun.objects.filter(status__in=ACTIVE).exists()
    assert job.completed_at is not None
    assert job.total_runs == len(runs)
    certified = sum(run.verdict == Status.CERTIFIED for run in runs)
    cancelled = sum(run.status == State.CANCELLED for run in runs)
    others = len(runs) - certified - cancelled
    assert (job.succeeded_runs, job.failed_runs, job.cancelled_runs) == (
        certified,
        others,
        cancelled,
    )
    assert round(float(job.cost_usd), 6) == pytest.approx(
        sum(float(run.cost_usd or 0) for run in runs), abs=1e-5
    )
    # Logged once each; a worker killed between its commit and its log line leaves a run unlogged,
    # never one logged twice.
    logged = Counter(e["run"] for e in live_stack.events("run_finished"))
    assert set(logged.values()) <= {1}
    assert set(logged) <= {
        str(run.pk) for run in runs if run.status == State.COMPLETED or run.verdict
    }
    for run in runs:
        assert run.completed_at is not None
        if run.status == State.COMPLETED:
            _assert_whole(run)
    _assert_certifications(runs)


def _assert_whole(run: CertificationRun) -> None:
    """A completed run has one result for each case, with trials, and its calls add up."""
    expected = {case.id for case in registry.cases(run.model.kind, run.tier)}
    results = list(TestResult.objects.filter(run=run))
    assert Counter(r.case_id for r in results) == dict.fromkeys(expected, 1)
    trials = sum(len(trial["calls"]) for result in results for trial in result.trials)
    assert trials == run.calls


def _assert_certifications(runs: list[CertificationRun]) -> None:
    """Every pair says what its newest run with a verdict says, and nothing is said where none was
    reached.
    """
    for run in runs:
        newest = (
            CertificationRun.objects.filter(
                model=run.model, region=run.region, status=State.COMPLETED
            )
            .order_by("-completed_at")
            .first()
        )
        certification = ModelCertification.objects.filter(
            model=run.model, region=run.region
        ).first()
        if newest is None:
            assert certification is None or certification.status == Status.PENDING
            continue
        assert certification is not None
        assert (certification.run_id, certification.status, certification.score) == (
            newest.pk,
            newest.verdict,
            newest.score,
        )
        verdicts = CertificationRun.objects.filter(
            model=run.model, region=run.region, status=State.COMPLETED
        )
        assert certification.completed_attempts == verdicts.count()


def test_a_worker_killed_mid_run_loses_nothing(live_stack: LiveStack) -> None:
    first = live_stack.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    wait_until(lambda: len(stored_calls(job)) >= 3, "runs at work have stored some calls")
    first.kill()
    first.wait()
    orphans = set(job.runs.filter(status=State.PROCESSING).values_list("pk", flat=True))
    assert orphans
    stored = len(stored_calls(job))
    live_stack.worker()
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
    again = job.runs.filter(pk__in=orphans)
    assert set(again.values_list("status", "attempt")) == {(State.COMPLETED, 2)}
    paid, used = live_stack.emulator_calls(), sum(job.runs.values_list("calls", flat=True))
    assert sum(event["calls"] for event in live_stack.events("run_resumed")) == stored > 0
    # only what was in flight is paid again, and what was not yet written
    in_flight = len(orphans) * django_settings.CERTIFICATION_CALLS_PER_RUN
    assert paid - used <= in_flight + 2


def test_a_run_whose_workers_keep_dying_fails_with_the_reason(
    live_stack: LiveStack, settings: Any
) -> None:
    settings.CERTIFICATION_MAX_RETRIES = 0
    worker = live_stack.worker()
    job = start(MODELS[:1], REGIONS[:2])
    wait_until(lambda: run_states(job)[State.PROCESSING] == 2, "both runs are at work")
    worker.kill()
    worker.wait()
    finish(job)
    assert job.status == State.FAILED
    assert set(job.runs.values_list("status", "verdict")) == {(State.FAILED, "")}
    assert all("died" in message for message in job.runs.values_list("error_message", flat=True))
    assert not ModelCertification.objects.exists()
    assert_in_order(job, live_stack)


def test_flushing_all_of_redis_mid_job_loses_nothing(live_stack: LiveStack) -> None:
    live_stack.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
    assert set(job.runs.values_list("attempt", flat=True)) == {1}


def test_restarting_both_servers_mid_job_loses_nothing(live_stack: LiveStack) -> None:
    live_stack.worker()
    job = start()
    for stop in (stop_redis, stop_postgres):
        wait_until(lambda: run_states(job)[State.PROCESSING] >= 2, "runs are at work")
        stop()
        # long enough for calls, heartbeats and results to meet a server that is away
        time.sleep(1.5)
        embedded.ensure(django_settings.MYIA_ROOT, durable=False)
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)


def stop_redis() -> None:
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    client.shutdown()
    client.close()


def stop_postgres() -> None:
    """Kill the server without warning: every connection breaks in whatever it was doing."""
    [postgres] = [s for s in embedded.status(django_settings.MYIA_ROOT) if s.name == "postgres"]
    assert postgres.pid
    os.kill(postgres.pid, signal.SIGQUIT)
    wait_until(
        lambda: not embedded.running(django_settings.MYIA_ROOT, redis=False), "PostgreSQL is away"
    )


def test_a_message_that_is_delivered_three_times_starts_one_run(live_stack: LiveStack) -> None:
    job = start(MODELS[:2])
    ids = list(job.runs.values_list("pk", flat=True))
    for _ in range(2):
        queue.publish(ids, job.priority)
    assert queue.queued_messages(job.priority) == 3 * len(ids)
    live_stack.worker(concurrency=6, clock_shift_s=-240)  # and a wrong clock changes nothing
    finish(job)
    wait_until(lambda: queue.queued_messages(job.priority) == 0, "every message was taken")
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
    assert set(job.runs.values_list("attempt", flat=True)) == {1}
    assert live_stack.emulator_calls() == sum(job.runs.values_list("calls", flat=True))
    now = timezone.now()
    for run in job.runs.all():
        assert job.created_at <= run.started_at <= run.completed_at <= now
    [warning] = live_stack.events("clock_wrong")
    assert warning["seconds"] == pytest.approx(240, abs=2)


def test_cancelling_a_running_job_stops_its_runs_and_writes_nothing_more(
    live_stack: LiveStack,
) -> None:
    worker = live_stack.worker()
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    live_stack.set_scenario("[[rule]]\nslow = 8.0")  # what is at work now would go on for long
    wait_until(lambda: run_states(job)[State.PROCESSING] == 3, "runs are at work")
    cancelled = job.cancel()
    assert cancelled
    job.refresh_from_db()
    done = list(job.runs.filter(status=State.COMPLETED))
    wait_until(lambda: len(live_stack.events("run_lost")) >= 2, "the worker lets go of its runs")
    worker.terminate()
    worker.wait(30)
    job.refresh_from_db()
    assert job.status == State.CANCELLED
    assert (job.succeeded_runs, job.failed_runs, job.cancelled_runs) == (len(done), 0, cancelled)
    assert run_states(job) == {State.COMPLETED: len(done), State.CANCELLED: cancelled}
    assert not TestResult.objects.filter(run__status=State.CANCELLED).exists()
    assert ModelCertification.objects.count() == len(done)
    assert_in_order(job, live_stack)


def test_a_terminated_worker_hands_its_runs_back_and_another_finishes_them(
    live_stack: LiveStack,
) -> None:
    live_stack.stop_emulator()
    # so slow that no run can end by itself before the signal is heard
    live_stack.restart_emulator(latency_ms=1000)
    first = live_stack.worker()
    job = start()
    wait_until(lambda: run_states(job)[State.PROCESSING] >= 2, "runs are at work")
    first.terminate()
    assert first.wait(60) == 0
    assert run_states(job)[State.PROCESSING] == 0
    assert live_stack.events("run_released")
    live_stack.stop_emulator()
    live_stack.restart_emulator()
    live_stack.worker()
    finish(job)
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
    # handing back is no failed attempt
    assert set(job.runs.values_list("attempt", flat=True)) == {1}


def test_an_emulator_that_ends_mid_run_says_nothing_about_any_model(live_stack: LiveStack) -> None:
    live_stack.worker(concurrency=8)
    job = start()
    wait_until(lambda: in_the_middle(job), "runs are at work")
    live_stack.stop_emulator()
    finish(job)
    live_stack.restart_emulator()
    failed = job.runs.filter(status=State.FAILED)
    assert failed
    assert set(failed.values_list("verdict", "error_category")) == {
        (Status.PENDING, ErrorCategory.NETWORK_ERROR)
    }
    assert set(ModelCertification.objects.values_list("status", flat=True)) == {Status.CERTIFIED}
    assert_in_order(job, live_stack)
    again = finish(dispatch.retry(job).job)
    assert again.total_runs == again.succeeded_runs == failed.count()


def test_concurrent_reconciliations_send_a_lost_message_once(live_stack: LiveStack) -> None:
    job = start(MODELS[:1])
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()
    time.sleep(django_settings.CERTIFICATION_RESEND_AFTER + 0.2)
    together = threading.Barrier(4)

    def one() -> Reconciled:
        together.wait()
        try:
            return reconcile.reconcile()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(one) for _ in range(4)]]
    assert sum(r.resent for r in done) == job.total_runs == queue.queued_messages(job.priority)
    assert reconcile.reconcile().resent == 0
    live_stack.worker()
    finish(job)
    assert_in_order(job, live_stack)


@contextlib.contextmanager
def reconciled_every_second() -> Iterator[None]:
    """Have beat call `reconcile` every second for the block."""
    every_second, _ = IntervalSchedule.objects.get_or_create(
        every=1, period=IntervalSchedule.SECONDS
    )
    PeriodicTask.objects.create(
        name="reconcile often", task="certification.tasks.reconcile", interval=every_second
    )
    try:
        yield
    finally:
        PeriodicTask.objects.all().delete()


def test_beat_alone_finishes_jobs(live_stack: LiveStack) -> None:
    """No `reconcile` is called here: a worker dies, Redis forgets everything, and a beat and a
    worker put it right.
    """
    first = live_stack.worker()
    job = start(MODELS[:1])
    wait_until(lambda: run_states(job)[State.PROCESSING], "runs are at work")
    first.kill()
    first.wait()
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()
    with reconciled_every_second():
        live_stack.worker()
        live_stack.beat()
        wait_until(
            lambda: not job.runs.filter(status__in=ACTIVE).exists(), "beat has the job finished"
        )
    job.refresh_from_db()
    assert job.status == State.COMPLETED
    assert_in_order(job, live_stack)
