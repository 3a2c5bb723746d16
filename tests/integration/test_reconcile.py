"""Repairing what got lost, without workers: what reconcile sends, retries, gives up, resumes
and expires.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connections
from django.utils import timezone

from certification.engine import dispatch, queue, reconcile, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.reconcile import Reconciled
from certification.engine.worker import get_worker
from certification.inference import Failure
from certification.models import (
    Backend,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    Priority,
    QueuePause,
    RunOutcome,
    State,
)
from certification.reasons import Reason, Status
from tests import factories
from tests.emulators import MICRO, Probe

NOVA = "amazon.nova-lite-v1:0"
LONG_AGO = timedelta(hours=3)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def bedrock(transactional_db: None, emulator: str, settings: Any) -> Iterator[Probe]:
    """The session's emulator, healthy again afterwards, and an empty Redis."""
    settings.CERTIFICATION_QUEUE_NAME = "reconcile-tests"
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    probe = Probe(emulator)
    yield probe
    probe.page("/_emulator/scenario", b'{"name": "healthy"}')


def queue_job(
    models: tuple[str, ...] = (NOVA, MICRO),
    regions: tuple[str, ...] = ("us-east-1",),
    **options: Any,
) -> Any:
    return dispatch.certify(
        dispatch.pairs_of(dispatch.find_models(models), dispatch.find_regions(regions)),
        CertifyOptions(tier="quick", **options),
    ).job


def forget_messages() -> None:
    redis.Redis.from_url(django_settings.REDIS_URL).flushall()


def age(job: CertificationJob, by: timedelta = LONG_AGO) -> None:
    """As if everything about the job had happened long ago."""
    then = timezone.now() - by
    job.runs.update(enqueued_at=then, created_at=then)
    CertificationJob.objects.filter(pk=job.pk).update(updated_at=then)


def states(job: CertificationJob) -> set[str]:
    return set(job.runs.values_list("status", flat=True))


# Messages


def test_it_changes_nothing_that_is_in_order() -> None:
    job = queue_job()
    age(job, timedelta(minutes=1))
    assert queue.queued_messages(job.priority) == 2
    assert reconcile.reconcile() == Reconciled()
    assert queue.queued_messages(job.priority) == 2


def test_it_sends_lost_messages_again_on_the_queue_of_their_priority() -> None:
    click, sweep = queue_job((NOVA,)), queue_job((MICRO,), priority=Priority.BULK)
    forget_messages()
    age(click, timedelta(minutes=1))
    age(sweep, timedelta(minutes=1))
    assert reconcile.reconcile().resent == 2
    assert (queue.queued_messages(Priority.INTERACTIVE), queue.queued_messages(Priority.BULK)) == (
        1,
        1,
    )
    assert reconcile.reconcile().resent == 0


def test_it_leaves_recent_messages_alone() -> None:
    queue_job()
    forget_messages()
    assert reconcile.reconcile().resent == 0


def test_it_sends_runs_that_were_never_queued_because_redis_was_away(settings: Any) -> None:
    job = queue_job()
    forget_messages()
    job.runs.update(status=State.PENDING, enqueued_at=None, created_at=timezone.now() - LONG_AGO)
    CertificationJob.objects.filter(pk=job.pk).update(status=State.PENDING)
    assert reconcile.reconcile().resent == 2
    job.refresh_from_db()
    assert (job.status, states(job)) == (State.QUEUED, {State.QUEUED})


def test_it_leaves_the_queue_of_another_installation_alone_while_that_makes_progress(
    settings: Any,
) -> None:
    """The demo runs next to a stack in the same database, with its own queues and emulator."""
    job = queue_job()
    forget_messages()
    age(job, timedelta(minutes=1))
    settings.CERTIFICATION_QUEUE_NAME = "another"
    assert reconcile.reconcile().resent == 0
    age(job)
    assert reconcile.reconcile().resent == 2  # nobody serves that queue any more


def test_it_never_sends_a_run_to_workers_of_another_backend() -> None:
    job = queue_job()
    forget_messages()
    job.runs.update(backend=Backend.AWS)
    age(job, timedelta(minutes=30))
    assert reconcile.reconcile() == Reconciled()
    assert queue.queued_messages(job.priority) == 0


def test_it_gives_up_runs_of_a_backend_that_is_no_longer_in_use() -> None:
    job = queue_job()
    forget_messages()
    job.runs.update(backend=Backend.AWS)
    age(job)
    assert reconcile.reconcile().given_up == 2
    job.refresh_from_db()
    assert (job.status, job.failed_runs, states(job)) == (State.FAILED, 2, {State.FAILED})
    assert all(
        "AWS backend" in message for message in job.runs.values_list("error_message", flat=True)
    )
    assert not ModelCertification.objects.exists()


def test_it_reports_that_redis_is_away_and_does_the_rest(settings: Any) -> None:
    job = queue_job()
    claimed = CertificationRun.objects.claim(job.runs.first().pk, "gone")
    assert claimed
    job.runs.filter(pk=claimed.pk).update(heartbeat_at=timezone.now() - LONG_AGO)
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    done = reconcile.reconcile()
    assert (done.broker_reachable, done.retried, done.resent) == (False, 1, 0)


# Workers that died


def test_a_run_without_a_heartbeat_is_queued_again_and_its_old_claim_is_void() -> None:
    job = queue_job((NOVA,))
    old = CertificationRun.objects.claim(job.runs.get().pk, "first")
    assert old
    job.runs.update(heartbeat_at=timezone.now() - LONG_AGO)
    done = reconcile.reconcile()
    assert (done.retried, done.given_up) == (1, 0)
    new = CertificationRun.objects.claim(old.pk, "second")
    assert new
    assert new.attempt == 2
    assert not old.release()
    assert not factories.record_outcome(old, RunOutcome(status=State.FAILED, error_message="late"))
    assert CertificationRun.objects.heartbeat({old.pk: "first"}) == set()


def test_a_run_whose_workers_keep_dying_is_given_up() -> None:
    job = queue_job((NOVA,))
    for attempt in range(django_settings.CERTIFICATION_MAX_RETRIES + 1):
        assert CertificationRun.objects.claim(job.runs.get().pk, f"worker {attempt}")
        job.runs.update(heartbeat_at=timezone.now() - LONG_AGO)
        last = reconcile.reconcile()
    assert (last.retried, last.given_up) == (0, 1)
    run = job.runs.get()
    assert (run.status, run.verdict, run.attempt) == (State.FAILED, "", 4)
    assert "4 times" in run.error_message
    job.refresh_from_db()
    assert job.status == State.FAILED


def test_only_one_reconciliation_works_at_a_time() -> None:
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [reconcile.ADVISORY_LOCK])
        assert reconcile.reconcile() == Reconciled(busy=True)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [reconcile.ADVISORY_LOCK])
        assert reconcile.reconcile() == Reconciled()
    finally:
        other.close()


# Paused queues


def pause(bedrock: Probe, opened: timedelta = timedelta()) -> CertificationJob:
    """A sweep that waits because the emulator refuses our credentials."""
    bedrock.scenario("[[rule]]\ninvalid_credentials = true")
    job = queue_job(priority=Priority.BULK)
    assert QueuePause.begin(
        "emulator", Failure(Reason.CREDENTIALS_INVALID, "The token is invalid.")
    )
    QueuePause.objects.update(opened_at=timezone.now() - opened)
    forget_messages()
    age(job, timedelta(minutes=1))
    return job


def test_a_paused_queue_stays_paused_while_the_credentials_do_not_work(bedrock: Probe) -> None:
    job = pause(bedrock)
    done = reconcile.reconcile()
    assert (done.paused, done.resent, done.resumed) == (True, 0, 0)
    assert states(job) == {State.QUEUED}


def test_a_paused_queue_goes_on_when_the_credentials_work_again(bedrock: Probe) -> None:
    job = pause(bedrock)
    bedrock.page("/_emulator/scenario", b'{"name": "healthy"}')
    done = reconcile.reconcile()
    assert (done.paused, done.resumed, done.resent) == (False, 2, 2)
    assert QueuePause.objects.current("emulator") is None
    for run in job.runs.all():
        assert runner.run(run.pk, get_worker())
    job.refresh_from_db()
    assert (job.status, job.succeeded_runs) == (State.COMPLETED, 2)


def test_a_queue_paused_for_too_long_fails_its_runs_without_a_verdict(
    bedrock: Probe,
) -> None:
    job = pause(bedrock, opened=LONG_AGO)
    done = reconcile.reconcile()
    assert (done.paused, done.given_up) == (True, 2)
    job.refresh_from_db()
    assert (job.status, states(job)) == (State.FAILED, {State.FAILED})
    assert set(job.runs.values_list("error_reason", flat=True)) == {Reason.CREDENTIALS_INVALID}
    assert not ModelCertification.objects.exists()


def test_a_paused_queue_stays_paused_while_nobody_answers(bedrock: Probe, settings: Any) -> None:
    pause(bedrock)
    settings.BEDROCK_ENDPOINT_URL = "http://127.0.0.1:9"
    assert reconcile.reconcile().paused


def test_interactive_jobs_pass_a_paused_queue(bedrock: Probe) -> None:
    pause(bedrock)
    click = queue_job((NOVA,), ("us-west-2",))
    forget_messages()
    age(click, timedelta(minutes=1))
    assert reconcile.reconcile().resent == 1
    assert queue.queued_messages(Priority.INTERACTIVE) == 1


# Certifications past their date


def test_certifications_past_their_date_expire() -> None:
    job = queue_job((NOVA,))
    assert runner.run(job.runs.get().pk, get_worker())
    ModelCertification.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert reconcile.reconcile().expired == 1
    row = ModelCertification.objects.get()
    assert (row.status, row.previous_status) == (Status.NOT_TESTED, Status.CERTIFIED)
    assert reconcile.reconcile().expired == 0
