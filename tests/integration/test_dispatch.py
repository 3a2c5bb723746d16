"""Starting certifications: what is refused, what is written."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from certification.engine import dispatch, queue
from certification.engine.dispatch import CertifyOptions
from certification.engine.estimate import estimate_pairs
from certification.models import (
    AIModel,
    CertificationRun,
    JobType,
    Priority,
    Route,
    State,
    User,
)
from certification.reasons import Reason

NOVA = "amazon.nova-lite-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(catalogue: None) -> None: ...


def certify(
    models: list[str], regions: list[str], options: CertifyOptions | None = None
) -> dispatch.DispatchResult:
    return dispatch.certify(
        dispatch.pairs_of(dispatch.find_models(models), dispatch.find_regions(regions)),
        options or CertifyOptions(tier="quick"),
    )


def test_it_writes_a_job_and_its_runs() -> None:
    done = certify([NOVA, HAIKU], ["us-east-1", "eu-west-1"])
    assert done.created
    assert done.job.total_runs == 4
    assert set(done.job.runs.values_list("status", flat=True)) == {State.PENDING}
    assert len(set(done.job.runs.values_list("variant_seed", flat=True))) == 1


def test_it_takes_models_by_uuid_and_by_api_model_id() -> None:
    by_name = dispatch.find_models([NOVA])[0]
    assert dispatch.find_models([str(by_name.pk)]) == [by_name]


def test_it_names_unknown_models() -> None:
    with pytest.raises(dispatch.ModelNotFound, match=r"no\.such-model") as caught:
        dispatch.find_models([NOVA, "no.such-model"])
    assert caught.value.names == ("no.such-model",)


def test_it_names_unknown_and_disabled_regions() -> None:
    with pytest.raises(dispatch.RegionNotFound, match="xx-nowhere-9"):
        dispatch.find_regions(["xx-nowhere-9"])
    region = dispatch.find_regions(["us-east-1"])[0]
    region.enabled = False
    region.save()
    with pytest.raises(dispatch.RegionNotFound, match="Disabled"):
        dispatch.find_regions(["us-east-1"])


def test_it_does_not_run_a_pair_twice() -> None:
    certify([NOVA], ["us-east-1"])
    second = certify([NOVA], ["us-east-1", "us-west-2"])
    assert second.skipped == ((NOVA, "us-east-1"),)
    assert second.job.total_runs == 1


def test_it_refuses_when_nothing_is_left_to_run_and_names_the_job_that_runs_it() -> None:
    first = certify([NOVA], ["us-east-1"])
    with pytest.raises(dispatch.AlreadyRunning) as caught:
        certify([NOVA], ["us-east-1"])
    assert caught.value.job == first.job
    assert CertificationRun.objects.count() == 1


def test_an_idempotency_key_returns_the_first_job() -> None:
    options = CertifyOptions(tier="quick", idempotency_key="once")
    first, second = certify([NOVA], ["us-east-1"], options), certify([NOVA], ["us-east-1"], options)
    assert (first.created, second.created) == (True, False)
    assert first.job == second.job


def test_it_refuses_what_costs_too_much_and_writes_nothing() -> None:
    with pytest.raises(dispatch.TooExpensive, match="USD"):
        certify([HAIKU], ["us-east-1"], CertifyOptions(tier="quick", max_cost_usd=0.000001))
    assert not CertificationRun.objects.exists()


def test_a_cost_limit_refuses_models_without_a_known_price_unless_they_are_allowed() -> None:
    AIModel.objects.filter(api_model_id=NOVA).update(input_price=None, output_price=None)
    options = CertifyOptions(tier="quick", max_cost_usd=1000)
    with pytest.raises(dispatch.TooExpensive, match="1 of 2 pairs have no known price") as caught:
        certify([NOVA, HAIKU], ["us-east-1"], options)
    assert caught.value.unpriced == 1
    assert not CertificationRun.objects.exists()
    allowed = certify([NOVA, HAIKU], ["us-east-1"], replace(options, allow_unpriced=True))
    assert (allowed.job.total_runs, allowed.estimate.unpriced) == (2, 1)


def test_an_unknown_output_price_makes_the_cost_of_an_answer_unknown() -> None:
    model = AIModel(input_price=2, output_price=None)
    assert model.cost_usd(1_000_000, 1) is None
    assert model.cost_usd(1_000_000, 0) == 2  # an embedding has no output to pay for
    AIModel.objects.filter(api_model_id=NOVA).update(output_price=None)
    estimate = estimate_pairs(
        [(dispatch.find_models([NOVA])[0], dispatch.find_regions(["us-east-1"])[0])], "quick"
    )
    assert (estimate.usd, estimate.unpriced) == (0, 1)


def test_refusals_leave_advice_about_commands_to_the_commands() -> None:
    job = certify([NOVA], ["us-east-1"]).job
    with pytest.raises(dispatch.DispatchError) as unknown:
        dispatch.find_models(["no.such-model"])
    with pytest.raises(dispatch.DispatchError) as running:
        certify([NOVA], ["us-east-1"])
    job.cancel()
    with pytest.raises(dispatch.DispatchError) as nothing_failed:
        dispatch.retry(job)
    Route.objects.all().delete()
    with pytest.raises(dispatch.DispatchError) as not_offered:
        dispatch.certify_all(dispatch.find_regions(["us-east-1"]), CertifyOptions())
    for caught in (unknown, running, nothing_failed, not_offered):
        assert "manage.py" not in str(caught.value)


def test_refusals_can_be_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_", "translated: {}".format)
    for options in (
        CertifyOptions(idempotency_key="k" * 129),
        CertifyOptions(max_cost_usd=-1),
        CertifyOptions(seed=-1),
    ):
        with pytest.raises(dispatch.BadOption, match="translated"):
            certify([NOVA], ["us-east-1"], options)
    with pytest.raises(dispatch.ModelNotFound, match="translated"):
        dispatch.find_models(["no.such-model"])


def test_one_caller_s_idempotency_key_is_not_another_s(operator: User, viewer: User) -> None:
    options = CertifyOptions(tier="quick", idempotency_key="k" * dispatch.MAX_IDEMPOTENCY_KEY)
    first = certify([NOVA], ["us-east-1"], replace(options, by=operator)).job
    assert certify([NOVA], ["us-east-1"], replace(options, by=operator)).job == first
    assert certify([NOVA], ["us-west-2"], replace(options, by=viewer)).job != first


def test_a_large_job_names_the_task_that_queues_its_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "SMALL", 0)
    job = certify([NOVA], ["us-east-1"]).job
    assert queue.publish_job(job)
    job.refresh_from_db()
    assert uuid.UUID(job.celery_task_id)


def test_large_jobs_take_the_bulk_queue(settings) -> None:  # type: ignore[no-untyped-def]
    settings.CERTIFICATION_BULK_RUNS = 1
    assert certify([NOVA], ["us-east-1"]).job.priority == Priority.INTERACTIVE
    assert certify([NOVA], ["us-west-2", "eu-west-2"]).job.priority == Priority.BULK


def test_certify_all_takes_every_active_model_where_it_has_a_route(operator: User) -> None:
    done = dispatch.certify_all(
        dispatch.find_regions(["us-east-1"]), CertifyOptions(tier="quick", by=operator)
    )
    assert done.job.total_runs > 60
    assert done.not_offered > 0
    assert done.job.created_by == operator


def test_retry_makes_a_job_of_the_failed_runs_only() -> None:
    done = certify([NOVA, HAIKU], ["us-east-1"])
    done.job.runs.get(model__api_model_id=NOVA).mark_failed(Reason.UNKNOWN, "It was given up.")
    done.job.cancel()
    again = dispatch.retry(done.job).job
    assert [run.model.api_model_id for run in again.runs.all()] == [NOVA]


def test_retry_takes_cancelled_runs_when_asked_to_and_says_so_otherwise() -> None:
    job = certify([NOVA, HAIKU], ["us-east-1"]).job
    job.cancel()
    with pytest.raises(
        dispatch.NothingFailed, match="no failed runs to retry, but 2 cancelled ones"
    ) as caught:
        dispatch.retry(job)
    assert caught.value.cancelled == 2
    assert dispatch.retry(job, cancelled=True).job.total_runs == 2


def test_one_model_in_many_regions_is_a_job_of_one_model() -> None:
    assert certify([NOVA], ["us-east-1", "us-west-2"]).job.type == JobType.SINGLE_MODEL
    assert certify([NOVA, HAIKU], ["eu-west-2"]).job.type == JobType.MULTIPLE_MODELS


def test_runs_of_a_pinned_region_go_to_the_queues_of_its_workers(settings) -> None:  # type: ignore[no-untyped-def]
    settings.PINNED_REGIONS = ["sa-east-1"]
    assert queue.name_for(Priority.BULK, "sa-east-1") == "model-certification.bulk.sa-east-1"
    assert queue.name_for(Priority.BULK, "us-east-1") == "model-certification.bulk"
    assert queue.taken_here(Priority.INTERACTIVE) == ["model-certification"]
    settings.WORKER_REGIONS = ["sa-east-1"]
    assert queue.taken_here(Priority.INTERACTIVE) == ["model-certification.sa-east-1"]
    before = queue.queued_messages(Priority.INTERACTIVE)
    job = certify([NOVA], ["sa-east-1", "us-east-1"]).job
    queue.publish(list(job.runs.values_list("pk", flat=True)), Priority.INTERACTIVE)
    assert queue.queued_messages(Priority.INTERACTIVE) == before + 2
