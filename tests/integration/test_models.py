"""The life cycle of runs and jobs, and what the database itself refuses."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import DatabaseError
from django.utils import timezone

from certification import labels
from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.inference import API, Endpoint, RouteTarget
from certification.management import terminal
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    ModelAlias,
    ModelCertification,
    Route,
    RunEvent,
    RunOutcome,
    State,
    TestResult,
    User,
)
from certification.models.catalogue import load_shipped
from certification.reasons import Reason, Status
from tests import factories

pytestmark = pytest.mark.django_db
TTL = timedelta(days=30)


@pytest.fixture
def job(catalogue: None) -> CertificationJob:
    models = dispatch.find_models(["amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"])
    return dispatch.certify(
        dispatch.pairs_of(models, dispatch.find_regions(["us-east-1"])),
        CertifyOptions(tier="quick"),
    ).job


def claim(job: CertificationJob, worker: str = "w1") -> CertificationRun:
    waiting = job.runs.filter(status=State.PENDING).first()
    assert waiting
    run = CertificationRun.objects.claim(waiting.pk, worker)
    assert run
    return run


def certified(score: int = 89) -> RunOutcome:
    return RunOutcome(
        status=State.COMPLETED, verdict=Status.CERTIFIED, passed=True, score=score, rating="B"
    )


def result(run: CertificationRun) -> TestResult:
    return TestResult(
        run=run,
        case_id="G01",
        category="contract",
        kind="gate",
        verdict="passed",
        passes=1,
        trials_valid=1,
    )


def test_only_one_claim_of_a_run_wins(job: CertificationJob) -> None:
    run = claim(job)
    assert CertificationRun.objects.claim(run.pk, "w2") is None
    job.refresh_from_db()
    assert job.status == State.PROCESSING
    assert job.started_at


def test_a_run_finishes_once_and_the_last_one_closes_the_job(job: CertificationJob) -> None:
    first, second = claim(job), claim(job)
    assert factories.record_outcome(first, certified(), [result(first)])
    assert not factories.record_outcome(first, certified(10))
    job.refresh_from_db()
    assert (job.status, job.succeeded_runs, job.progress) == (State.PROCESSING, 1, 50)
    assert factories.record_outcome(
        second, RunOutcome(status=State.FAILED, verdict=Status.PENDING), [result(second)]
    )
    job.refresh_from_db()
    assert (job.status, job.succeeded_runs, job.failed_runs) == (State.COMPLETED, 1, 1)
    assert job.completed_at


def test_a_job_without_any_verdict_has_failed(job: CertificationJob) -> None:
    for run in (claim(job), claim(job)):
        assert run.mark_failed(Reason.UNKNOWN, "The worker died.")
    job.refresh_from_db()
    assert job.status == State.FAILED


def test_a_lost_claim_cannot_finish(job: CertificationJob) -> None:
    run = claim(job)
    CertificationRun.objects.filter(pk=run.pk).update(claimed_by="somebody else")
    assert not factories.record_outcome(run, certified(), [result(run)])
    assert not TestResult.objects.exists()


def test_cancelling_ends_runs_at_once_and_only_once(job: CertificationJob) -> None:
    run = claim(job)
    assert job.cancel() == 2
    assert job.cancel() is None
    assert not factories.record_outcome(run, certified())
    job.refresh_from_db()
    assert (job.status, job.failed_runs, job.cancelled_runs) == (State.CANCELLED, 0, 2)
    assert (job.processed_runs, job.progress) == (0, 0)


def test_a_run_that_is_cancelled_alone_is_no_failure(job: CertificationJob) -> None:
    run, other = job.runs.order_by("pk")
    assert run.cancel()
    assert not run.cancel()
    CertificationRun.objects.get(pk=other.pk).mark_failed(Reason.UNKNOWN, "The worker died.")
    job.refresh_from_db()
    assert (job.status, job.failed_runs, job.cancelled_runs) == (State.FAILED, 1, 1)
    assert (job.processed_runs, job.progress) == (1, 50)


def test_a_released_run_may_be_claimed_again_and_its_attempt_does_not_count(
    job: CertificationJob,
) -> None:
    run = claim(job)
    assert run.release()
    assert not run.release()
    again = CertificationRun.objects.claim(run.pk, "w2")
    assert again
    assert again.attempt == 1


def test_a_stalled_run_goes_back_to_the_queue_but_a_living_one_does_not(
    job: CertificationJob,
) -> None:
    run = claim(job)
    before = timezone.now() - timedelta(seconds=30)
    assert not run.retry_stalled(before)
    CertificationRun.objects.filter(pk=run.pk).update(heartbeat_at=before - timedelta(seconds=1))
    assert list(CertificationRun.objects.stalled(before)) == [run]
    assert run.retry_stalled(before)


def test_a_heartbeat_tells_which_runs_are_still_ours(job: CertificationJob) -> None:
    mine, lost = claim(job), claim(job)
    CertificationRun.objects.filter(pk=lost.pk).update(claimed_by="other")
    assert CertificationRun.objects.heartbeat({mine.pk: "w1", lost.pk: "w1"}) == {mine.pk}


def test_the_database_refuses_to_change_a_finished_run(job: CertificationJob) -> None:
    run = claim(job)
    factories.record_outcome(run, certified(), [result(run)])
    with pytest.raises(DatabaseError, match="finished"), transaction.atomic():
        CertificationRun.objects.filter(pk=run.pk).update(score=1)
    with pytest.raises(DatabaseError, match="evidence"), transaction.atomic():
        TestResult.objects.update(verdict="failed")
    assert TestResult.objects.update(trials=[]) == 1


def test_the_database_refuses_a_second_active_run_of_a_pair(job: CertificationJob) -> None:
    run = job.runs.first()
    assert run
    with pytest.raises(IntegrityError), transaction.atomic():
        CertificationRun.objects.create(
            job=job,
            model=run.model,
            region=run.region,
            tier="quick",
            backend="emulator",
            variant_seed=1,
        )


@pytest.mark.parametrize(
    "values",
    [
        {"status": State.COMPLETED},
        {"completed_at": timezone.now()},
        {"status": State.PROCESSING},
        {"score": 101},
        {"status": State.COMPLETED, "verdict": Status.PENDING, "completed_at": timezone.now()},
        {"verdict": Status.CERTIFIED},
    ],
)
def test_the_database_refuses_impossible_runs(
    job: CertificationJob, values: dict[str, object]
) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        job.runs.update(**values)


def test_a_verdict_moves_the_certification_and_infrastructure_does_not(
    job: CertificationJob,
) -> None:
    run = claim(job)
    factories.record_outcome(run, certified())
    assert ModelCertification.lock(run).record(run, timezone.now() + TTL)
    row = ModelCertification.objects.get()
    assert (row.status, row.score, row.success_rate) == (Status.CERTIFIED, 89, 100)
    assert row.expires_at
    again = dispatch.certify([(run.model, run.region)], CertifyOptions(tier="quick")).job
    later = claim(again)
    factories.record_outcome(later, RunOutcome(status=State.FAILED, verdict=Status.PENDING))
    assert not ModelCertification.lock(later).record(later, timezone.now() + TTL)
    row.refresh_from_db()
    assert (row.status, row.attempts, row.run) == (Status.CERTIFIED, 2, run)


def test_an_expired_certification_loses_its_standing_and_remembers_it(
    job: CertificationJob,
) -> None:
    run = claim(job)
    factories.record_outcome(run, certified())
    ModelCertification.lock(run).record(run, timezone.now() - timedelta(seconds=1))
    assert ModelCertification.objects.expire() == 1
    assert ModelCertification.objects.expire() == 0
    row = ModelCertification.objects.get()
    assert (row.status, row.previous_status) == (Status.NOT_TESTED, Status.CERTIFIED)


def test_a_run_without_a_verdict_leaves_the_memory_of_an_expired_certificate(
    job: CertificationJob,
) -> None:
    run = claim(job)
    run.finish(certified())
    ModelCertification.lock(run).record(run, timezone.now() - timedelta(seconds=1))
    ModelCertification.objects.expire()
    before = ModelCertification.objects.get()
    later = claim(dispatch.certify([(run.model, run.region)], CertifyOptions(tier="quick")).job)
    later.finish(RunOutcome(status=State.FAILED, verdict=Status.PENDING))
    assert not ModelCertification.lock(later).record(later, timezone.now() + TTL)
    row = ModelCertification.objects.get()
    assert (row.status, row.previous_status) == (Status.NOT_TESTED, Status.CERTIFIED)
    assert (row.score, row.rating, row.run) == (89, "B", run)
    assert (row.expired_at, row.expires_at) == (before.expired_at, before.expires_at)
    assert (row.attempts, row.last_tested_at) == (2, later.completed_at)


def test_a_run_without_a_verdict_explains_a_pair_that_nothing_is_known_of(
    job: CertificationJob,
) -> None:
    run = claim(job)
    run.finish(RunOutcome(status=State.FAILED, verdict=Status.PENDING))
    assert ModelCertification.lock(run).record(run, timezone.now() + TTL)
    row = ModelCertification.objects.get()
    assert (row.status, row.run, row.expires_at) == (Status.PENDING, run, None)


@pytest.mark.parametrize("expired", ["noted", "not yet noted"])
def test_a_later_judgement_does_not_revive_an_expired_certification(
    job: CertificationJob, expired: str
) -> None:
    run = claim(job)
    run.finish(certified())
    ModelCertification.lock(run).record(run, timezone.now() - timedelta(seconds=1))
    if expired == "noted":
        ModelCertification.objects.expire()
    before = ModelCertification.objects.values().get()
    assert not ModelCertification.rejudge(run, Status.QUALITY_WARNING, 70, "C")
    assert ModelCertification.objects.values().get() == before


def test_a_later_judgement_with_the_same_verdict_keeps_the_previous_status(
    job: CertificationJob,
) -> None:
    run = claim(job)
    run.finish(certified())
    ModelCertification.lock(run).record(run, timezone.now() + TTL)
    ModelCertification.objects.update(previous_status=Status.FAILED)
    assert ModelCertification.rejudge(run, Status.CERTIFIED, 80, "B")
    row = ModelCertification.objects.get()
    assert (row.status, row.previous_status, row.score) == (Status.CERTIFIED, Status.FAILED, 80)


def test_loading_the_catalogue_twice_changes_nothing_and_keeps_switches(catalogue: None) -> None:
    AIModel.objects.filter(api_model_id="amazon.nova-lite-v1:0").update(is_active=False)
    again = load_shipped()
    assert (
        again.models_created,
        again.models_updated,
        again.routes_created,
        again.regions_created,
    ) == (0, 0, 0, 0)
    assert not AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0").is_active
    assert AIModel.objects.count() == 168


def test_a_newer_catalogue_replaces_routes_that_no_listing_confirmed(catalogue: None) -> None:
    sol = AIModel.objects.get(api_model_id="openai.gpt-5.6-sol")
    AIModel.objects.filter(pk=sol.pk).update(facts_as_of="2026-08-22")
    there = Route.objects.filter(model=sol, region="us-east-1")
    shipped = {route.target() for route in there}
    bare = RouteTarget(sol.api_model_id, "ON_DEMAND")
    Route.of(bare, sol, "us-east-1").save()
    confirmed = RouteTarget(f"mars.{sol.api_model_id}", "INFERENCE_PROFILE")
    Route.of(confirmed, sol, "us-east-1", last_seen_at=timezone.now()).save()
    there.filter(endpoint="bedrock-mantle").delete()
    loaded = load_shipped()
    assert (loaded.models_created, loaded.models_updated) == (0, 1)
    assert {route.target() for route in there.all()} == {*shipped, confirmed}


def test_an_alias_that_has_a_row_of_its_own_is_left_to_the_operator(catalogue: None) -> None:
    ModelAlias.objects.filter(alias="deepseek.v3.1").delete()
    row = AIModel.objects.create(
        provider_id="bedrock", name="V3.1", vendor="DeepSeek", api_model_id="deepseek.v3.1"
    )
    load_shipped()
    assert not ModelAlias.objects.filter(alias="deepseek.v3.1").exists()
    assert AIModel.objects.named(["deepseek.v3.1"]) == {"deepseek.v3.1": row}


def test_groups_get_their_permissions(viewer: User, operator: User, administrator: User) -> None:
    assert (viewer.role, operator.role, administrator.role) == (
        "viewer",
        "operator",
        "administrator",
    )
    assert viewer.has_perm("certification.view_certificationrun")
    assert not viewer.has_perm("certification.change_certificationjob")
    assert operator.has_perm("certification.change_certificationjob")
    assert not operator.has_perm("certification.change_user")
    assert administrator.has_perm("certification.change_user")


def test_e_mail_addresses_are_one_whatever_their_case(viewer: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("Viewer@Example.org", "another-long-password")
    assert User.objects.get_by_natural_key("VIEWER@example.org") == viewer


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("touched", ["queued", "beaten"])
def test_runs_are_touched_in_the_order_in_which_a_cancel_locks_them(
    catalogue: None, touched: str
) -> None:
    low, high = (uuid.UUID(int=number) for number in (1, 2))
    models = dispatch.find_models(["amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"])
    job = dispatch.certify(
        dispatch.pairs_of(models, dispatch.find_regions(["us-east-1"])),
        CertifyOptions(tier="quick"),
    ).job
    RunEvent.objects.all().delete()  # they refer to the ids
    # the higher one lies first in the table
    for run, key in zip(job.runs.all(), (high, low), strict=True):
        CertificationRun.objects.filter(pk=run.pk).update(id=key)
    if touched == "beaten":
        job.runs.update(status=State.PROCESSING, claimed_by="w")

    def touch() -> None:
        if touched == "queued":
            CertificationRun.objects.mark_queued([high, low])
        else:
            CertificationRun.objects.heartbeat({high: "w", low: "w"})
        connection.close()

    other = threading.Thread(target=touch)
    with transaction.atomic():
        assert job.runs.select_for_update().get(pk=low)
        other.start()
        while not _somebody_waits():
            assert other.is_alive()
        # held by the other, this would be a deadlock
        assert job.runs.select_for_update(nowait=True).get(pk=high)
    other.join()


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_job_counts_its_runs_by_endpoint_and_api(catalogue: None) -> None:
    nova, gpt = (
        AIModel.objects.get(api_model_id=name)
        for name in ("amazon.nova-lite-v1:0", "openai.gpt-5.5")
    )
    job = factories.start_job([nova, gpt], ["us-east-1", "us-east-2"])
    by = RouteTarget("openai.gpt-5.5", "ON_DEMAND", Endpoint.MANTLE, API.RESPONSES)
    for run in job.runs.select_related("model"):
        factories.finish(run, Status.CERTIFIED, score=89, by=by if run.model == gpt else None)
    counts = job.route_counts()
    assert counts == {("bedrock-runtime", "converse"): 2, ("bedrock-mantle", "responses"): 2}
    assert terminal.routes(counts) in (
        "2 by Converse on bedrock-runtime, 2 by Responses on bedrock-mantle, 0 without a call",
        "2 by Responses on bedrock-mantle, 2 by Converse on bedrock-runtime, 0 without a call",
    )


def test_every_api_has_a_name_for_people() -> None:
    assert set(labels.APIS) == {api.value for api in API}


def test_a_route_remembers_how_it_was_last_refused(catalogue: None) -> None:
    route = Route.objects.get(model__api_model_id="zai.glm-4.6", region="us-east-1")
    target, at = route.target(), timezone.now()
    unknown = RouteTarget("x.y", "ON_DEMAND")
    refusals = {target: ("wrong_route", "It isn't supported on this route."), unknown: None}
    Route.objects.record_refusals(route.model_id, "us-east-1", refusals, at)
    route.refresh_from_db()
    assert route.last_refusal == {
        "reason": "wrong_route",
        "message": "It isn't supported on this route.",
        "at": at.isoformat(),
    }
    Route.objects.record_refusals(route.model_id, "us-east-1", {target: None}, at)
    route.refresh_from_db()
    assert route.last_refusal is None
