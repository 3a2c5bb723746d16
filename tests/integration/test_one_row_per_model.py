"""Migration 0014: two rows that were one model become one, and nothing that happened is lost."""

from __future__ import annotations

import importlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    ModelAlias,
    ModelCertification,
    ParameterSupport,
    Route,
    State,
)

migration: Any = importlib.import_module("certification.migrations.0014_one_row_per_model")

pytestmark = pytest.mark.django_db

OTHER, MODEL = "qwen.qwen3-32b", "qwen.qwen3-32b-v1:0"
THEN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def loaded(catalogue: None) -> None:
    """The shipped catalogue, with a row for the other id as it was before."""


@pytest.fixture
def other() -> AIModel:
    ModelAlias.objects.filter(alias=OTHER).delete()
    return AIModel.objects.create(
        provider_id="bedrock", name="Qwen3 32B", vendor="Qwen", api_model_id=OTHER
    )


def model() -> AIModel:
    return AIModel.objects.get(api_model_id=MODEL)


def merge() -> None:
    with connection.cursor() as cursor:
        cursor.execute(migration.LET_RUNS_CHANGE)
        migration.merge(cursor, OTHER, MODEL)
        cursor.execute(migration.RUNS_ARE_FINAL)


def finished(of: AIModel, region: str, verdict: str, calls: int, at: datetime) -> CertificationRun:
    job = CertificationJob.objects.create(
        type="SINGLE_MODEL", backend="emulator", model_ids=[str(of.pk)], total_runs=1,
        failed_runs=1, status=State.COMPLETED, completed_at=at,
    )  # fmt: skip
    return CertificationRun.objects.create(
        job=job, model=of, region_id=region, tier="quick", backend="emulator", variant_seed=1,
        status=State.COMPLETED, verdict=verdict, calls=calls, completed_at=at,
    )  # fmt: skip


def certified(of: AIModel, run: CertificationRun) -> ModelCertification:
    return ModelCertification.objects.create(
        model=of, region=run.region, status=run.verdict, run=run, attempts=1, completed_attempts=1,
        certified_attempts=int(run.verdict == "certified"), last_tested_at=run.completed_at,
    )  # fmt: skip


def test_the_other_id_names_the_model(other: AIModel) -> None:
    former = other.pk
    merge()
    assert not AIModel.objects.filter(api_model_id=OTHER).exists()
    for name in (OTHER, str(former), MODEL):
        assert AIModel.objects.named([name]) == {name: model()}
    assert ModelAlias.objects.get(alias=OTHER).former_id == former


def test_a_verdict_from_calls_outlives_a_newer_one_without(other: AIModel) -> None:
    called = finished(model(), "us-east-1", "certified", 20, THEN)
    declared = finished(other, "us-east-1", "configuration_required", 0, THEN + timedelta(days=3))
    certified(model(), called)
    certified(other, declared)
    merge()
    row = ModelCertification.objects.get(model=model(), region="us-east-1")
    assert (row.status, row.run_id) == ("certified", called.pk)
    assert (row.attempts, row.completed_attempts, row.certified_attempts) == (2, 2, 1)
    assert set(model().runs.values_list("pk", flat=True)) == {called.pk, declared.pk}


def test_of_two_verdicts_from_calls_the_newer_stays(other: AIModel) -> None:
    old = finished(model(), "us-east-1", "failed", 20, THEN)
    new = finished(other, "us-east-1", "certified", 20, THEN + timedelta(days=3))
    certified(model(), old)
    certified(other, new)
    merge()
    row = ModelCertification.objects.get(model=model(), region="us-east-1")
    assert (row.status, row.run_id) == ("certified", new.pk)


def test_a_certification_of_the_other_id_alone_is_the_models(other: AIModel) -> None:
    run = finished(other, "sa-east-1", "configuration_required", 0, THEN)
    certified(other, run)
    merge()
    assert ModelCertification.objects.get(model=model(), region="sa-east-1").run_id == run.pk


def test_jobs_and_parameter_support_follow(other: AIModel) -> None:
    run = finished(other, "us-east-1", "failed", 3, THEN)
    run.job.model_ids = [str(other.pk), str(uuid.UUID(int=7)), str(model().pk)]
    run.job.save()
    for of, at, accepted in ((model(), THEN, True), (other, THEN + timedelta(1), False)):
        ParameterSupport.objects.create(
            model=of, operation="Converse", feature="top_p", accepted=accepted, seen_at=at,
            region_id="us-east-1",
        )  # fmt: skip
    merge()
    run.job.refresh_from_db()
    assert run.job.model_ids == [str(model().pk), str(uuid.UUID(int=7))]
    assert not ParameterSupport.objects.get(model=model(), feature="top_p").accepted


def test_of_two_active_runs_of_a_pair_one_goes_on(other: AIModel) -> None:
    runs = []
    for of in (model(), other):
        job = CertificationJob.objects.create(
            type="SINGLE_MODEL", backend="emulator", total_runs=1, status=State.QUEUED
        )
        runs.append(
            CertificationRun.objects.create(
                job=job,
                model=of,
                region_id="us-east-1",
                tier="quick",
                backend="emulator",
                variant_seed=1,
                status=State.QUEUED,
            )
        )
    merge()
    for run in runs:
        run.refresh_from_db()
        run.job.refresh_from_db()
    assert [run.status for run in runs] == [State.QUEUED, State.CANCELLED]
    assert [run.job.status for run in runs] == [State.QUEUED, State.COMPLETED]
    assert runs[1].model_id == model().pk


def test_routes_get_their_endpoint_and_api(other: AIModel) -> None:
    Route.objects.all().delete()
    gpt = AIModel.objects.get(api_model_id="openai.gpt-5.5")
    canvas = AIModel.objects.get(api_model_id="amazon.nova-canvas-v1:0")
    for of, kind in ((other, "MANTLE"), (gpt, "MANTLE"), (canvas, "PROVISIONED"),
                     (model(), "ON_DEMAND")):  # fmt: skip
        Route.objects.create(model=of, region_id="us-east-1", kind=kind, target_id=of.api_model_id)
    arn = "arn:aws:bedrock:us-east-1:1:provisioned-model/x"
    Route.objects.create(model=canvas, region_id="us-east-1", kind="PROVISIONED", target_id=arn)
    with connection.cursor() as cursor:
        cursor.execute(migration.LET_RUNS_CHANGE)
        cursor.execute(migration.NAME_ENDPOINT_AND_API)
        cursor.execute(migration.RUNS_ARE_FINAL)
    merge()
    assert {
        (r.model.api_model_id, r.kind, str(r.target()), r.path_prefix)
        for r in Route.objects.select_related("model")
    } == {
        (MODEL, "ON_DEMAND", f"{OTHER} by chat_completions on bedrock-mantle", "/v1"),
        (MODEL, "ON_DEMAND", f"{MODEL} by converse on bedrock-runtime", ""),
        (gpt.api_model_id, "ON_DEMAND", "openai.gpt-5.5 by responses on bedrock-mantle",
         "/openai/v1"),
        (canvas.api_model_id, "PROVISIONED", f"{arn} by invoke on bedrock-runtime", ""),
    }  # fmt: skip


def test_old_runs_called_the_runtime(other: AIModel) -> None:
    run = finished(model(), "us-east-1", "certified", 20, THEN)
    with connection.cursor() as cursor:
        cursor.execute(migration.LET_RUNS_CHANGE)
        cursor.execute("UPDATE certification_certificationrun SET route = 'x', endpoint = ''")
        cursor.execute(migration.NAME_ENDPOINT_AND_API)
        cursor.execute(migration.RUNS_ARE_FINAL)
    run.refresh_from_db()
    assert (run.endpoint, run.api) == ("bedrock-runtime", "converse")


def test_a_model_that_was_known_by_its_other_id_alone_gets_its_own(other: AIModel) -> None:
    run = finished(other, "us-east-1", "failed", 3, THEN)
    model().delete()
    merge()
    run.refresh_from_db()
    assert run.model == model()
    assert AIModel.objects.named([OTHER]) == {OTHER: model()}
