"""Each statement of models/sql.py gives what the ORM would, and no other module writes SQL."""

from __future__ import annotations

import contextlib
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from certification.badges import content
from certification.engine import dispatch
from certification.engine.dispatch import CertifyOptions
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    ParameterSupport,
    QueuePause,
    Region,
    RevokedToken,
    Route,
    RunOutcome,
    State,
    TestResult,
    User,
    WebhookSubscription,
    sql,
)
from certification.models.change_feed import Cursor, changes
from certification.models.jobs import JOB_LISTS
from certification.models.parameter_support import Observation
from certification.models.routines import NEVER
from certification.reasons import Reason, Status
from tests.paths import PROJECT

NOVA = "amazon.nova-lite-v1:0"
MICRO = "amazon.nova-micro-v1:0"

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(catalogue: None) -> CertificationJob:
    pairs = dispatch.pairs_of(
        dispatch.find_models([NOVA, MICRO]), dispatch.find_regions(["us-east-1"])
    )
    return dispatch.certify(pairs, CertifyOptions(tier="quick", config={"a": [1, "é"]})).job


def values(row: Any, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    fields = type(row)._meta.concrete_fields
    return {f.attname: getattr(row, f.attname) for f in fields if f.name not in without}


def trial(number: int, *, transcript: bool) -> dict[str, Any]:
    calls = [{"request": 'say "x"'}] if transcript else []
    return {"trial": number, "calls": calls, "has_transcript": transcript, "passed": True}


def test_no_other_module_writes_sql() -> None:
    written = re.compile(
        r"\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+\s+SET|DELETE FROM|pg_\w+\()|\.cursor\(\)"
    )
    # runbooks name what people type; the backend of the database asks a replica for its lag
    allowed = ("sql.py", "change_feed.py", "runbooks.py", "replica.py")
    for path in (PROJECT / "certification").rglob("*.py"):
        if "migrations" not in path.parts and path.name not in allowed:
            assert not written.search(path.read_text(encoding="utf-8")), path


def test_claim_brings_run_job_model_and_routes(job: CertificationJob) -> None:
    pending = job.runs.get(model__api_model_id=NOVA)
    claimed = CertificationRun.objects.claim(pending.pk, "w1", job.backend)
    assert claimed is not None
    stored = CertificationRun.objects.select_related("job", "model").get(pk=pending.pk)
    assert values(claimed) == values(stored)
    assert values(claimed.model) == values(stored.model)
    # the claim's own change to the job follows it
    at = frozenset({"status", "started_at", "updated_at"})
    assert values(claimed.job, JOB_LISTS | at) == values(stored.job, JOB_LISTS | at)
    assert claimed.job.config == {**stored.job.config, "a": [1, "é"]}
    routes = Route.objects.filter(model=pending.model, region=pending.region)
    assert {r.target() for r in claimed.routes} == {r.target() for r in routes}
    assert (stored.status, stored.claimed_by, stored.attempt) == (State.PROCESSING, "w1", 1)
    assert stored.started_at == stored.heartbeat_at


def test_claim_takes_nothing_else(job: CertificationJob) -> None:
    first, second = job.runs.all()
    assert CertificationRun.objects.claim(first.pk, "w1", "another") is None
    assert CertificationRun.objects.claim(uuid.uuid4(), "w1") is None
    assert CertificationRun.objects.claim(first.pk, "w1") is not None
    assert CertificationRun.objects.claim(first.pk, "w2") is None
    CertificationJob.objects.update(priority="bulk")
    QueuePause.objects.create(
        backend=job.backend,
        error_category=Reason.CREDENTIALS_EXPIRED.category,
        error_reason=Reason.CREDENTIALS_EXPIRED,
        message="Expired.",
    )
    assert CertificationRun.objects.claim(second.pk, "w1", job.backend) is None
    assert CertificationRun.objects.claim(second.pk, "w1") is not None


def test_finish_writes_the_run_and_its_results(job: CertificationJob) -> None:
    first, second = (CertificationRun.objects.claim(run.pk, "w1") for run in job.runs.all())
    assert first
    assert second
    outcome = RunOutcome(
        status=State.COMPLETED,
        verdict=Status.QUALITY_WARNING,
        score=70,
        cost_usd=0.1234567,
        fix={"text": 'say "é"'},
        environment={"n": [1, None]},
    )
    rows = [
        {
            "case_id": f"C{n}",
            "category": "contract",
            "kind": "scored",
            "verdict": "passed",
            "sentence": 'It said "é" \\ 100 %.',
            "passes": n,
            "trials_valid": 2,
            "score": 0.5,
            "trials": [trial(0, transcript=True)],
        }
        for n in range(2)
    ]
    assert first.finish(outcome, [TestResult(run=first, **row) for row in rows])
    TestResult.objects.bulk_create([TestResult(run=second, **row) for row in rows])
    names = list(rows[0])
    assert list(first.results.order_by("case_id").values(*names)) == list(
        second.results.order_by("case_id").values(*names)
    )
    stored = CertificationRun.objects.get(pk=first.pk)
    expected = {**vars(outcome), "cost_usd": round(outcome.cost_usd or 0, 6)}
    expected["environment"] = {**second.environment, "n": [1, None]}
    for name, value in expected.items():
        actual = getattr(stored, name)
        assert (float(actual) if name == "cost_usd" else actual) == value, name
    second.claimed_by = "somebody else"
    assert not second.finish(outcome)


def test_counting_finished_runs_says_which_were_the_last(job: CertificationJob) -> None:
    for run in job.runs.all():
        run.mark_failed(Reason.UNKNOWN, "It was given up.")
    job.refresh_from_db()
    assert (job.status, job.failed_runs, job.succeeded_runs) == (State.FAILED, 2, 0)
    CertificationJob.objects.filter(pk=job.pk).update(
        status=State.PROCESSING, completed_at=None, failed_runs=0
    )
    twin = CertificationJob.objects.get(pk=job.pk)
    assert not job.record_finished_runs(1, certified=1, cost_usd=0.25)
    counted = CertificationJob.objects.get(pk=job.pk)
    CertificationJob.objects.filter(pk=job.pk).update(
        succeeded_runs=twin.succeeded_runs, cost_usd=twin.cost_usd
    )
    CertificationJob.objects.filter(pk=job.pk).update(
        succeeded_runs=F("succeeded_runs") + 1, cost_usd=F("cost_usd") + 0.25
    )
    expected = CertificationJob.objects.get(pk=job.pk)
    at = frozenset({"updated_at"})
    assert values(counted, at) == values(expected, at)
    assert job.record_finished_runs(1, certified=0)


def test_runs_are_created_as_bulk_create_would_and_only_for_free_pairs(
    job: CertificationJob,
) -> None:
    taken = job.runs.get(model__api_model_id=NOVA)
    other = AIModel.objects.get(api_model_id="amazon.nova-pro-v1:0")
    pairs = [(taken.model_id, taken.region_id), (other.pk, taken.region_id)]
    again = CertificationJob.objects.get(pk=job.pk)
    assert CertificationRun.objects.create_pending(again, pairs, 7) == {pairs[1]}
    created = CertificationRun.objects.get(model=other)
    Region.objects.create(code="twin", name="Twin")
    [twin] = CertificationRun.objects.bulk_create(
        [
            CertificationRun(
                job=job,
                model=other,
                region_id="twin",
                tier=job.tier,
                backend=job.backend,
                variant_seed=7,
            )
        ]
    )
    own = frozenset({"id", "region", "created_at"})
    assert values(created, own) == values(twin, own)
    assert timezone.now() - created.created_at < timedelta(minutes=1)


def test_transcripts_are_dropped_and_left_out_as_python_would(job: CertificationJob) -> None:
    run = job.runs.first()
    assert run is not None
    trials = [trial(0, transcript=True), trial(1, transcript=False)]
    result = TestResult.objects.create(
        run=run, case_id="C1", category="c", kind="scored", verdict="passed", trials=trials
    )
    run.mark_failed(Reason.UNKNOWN, "It was given up.")
    run.refresh_from_db()
    assert run.completed_at
    [summary] = TestResult.objects.without_transcripts()
    assert summary.summaries == [{k: v for k, v in t.items() if k != "calls"} for t in trials]  # type: ignore[attr-defined]
    assert TestResult.objects.drop_transcripts(NEVER, run.completed_at - timedelta(seconds=1)) == 0
    assert TestResult.objects.drop_transcripts(run.completed_at, run.completed_at) == 0
    assert TestResult.objects.drop_transcripts(NEVER, run.completed_at) == 1
    result.refresh_from_db()
    assert result.trials == [{**t, "calls": [], "has_transcript": False} for t in trials]


def test_the_holder_of_a_token_is_the_user_with_their_groups(operator: User) -> None:
    token = uuid.uuid4()
    family = uuid.uuid4()
    holder = RevokedToken.holder(token, family, operator.pk)
    assert holder is not None
    assert values(holder) == values(User.objects.get(pk=operator.pk))
    assert holder.__dict__["group_names"] == list(operator.groups.values_list("name", flat=True))
    for revoked in (token, family):
        assert RevokedToken.revoke(revoked, operator, timezone.now() + timedelta(hours=1))
        assert RevokedToken.holder(token, family, operator.pk) is None
        RevokedToken.objects.all().delete()
    User.objects.update(is_active=False)
    assert RevokedToken.holder(uuid.uuid4(), family, operator.pk) is None


def test_what_a_model_refuses_is_written_and_read_as_the_orm_would(job: CertificationJob) -> None:
    model, now = AIModel.objects.get(api_model_id=NOVA), timezone.now()
    refusal = {"reason": "parameter_not_supported", "message": 'No "x" — é'}
    observed = {
        ("Converse", "temperature"): refusal,
        ("Converse", "stop"): None,
        ("ConverseStream", "stop"): {},
    }
    ParameterSupport.record(model.pk, "us-east-1", observed, now - timedelta(days=1))
    observed["Converse", "stop"] = {"reason": "x"}
    ParameterSupport.record(model.pk, "sa-east-1", observed, now)
    ParameterSupport.record(model.pk, "sa-east-1", {}, now)
    rows = ParameterSupport.objects.filter(model=model)
    assert {
        (row.operation, row.feature): (row.accepted, row.refusal, row.region_id, row.seen_at)
        for row in rows
    } == {key: (value is None, value or {}, "sa-east-1", now) for key, value in observed.items()}
    run = CertificationRun.objects.claim(job.runs.get(model=model).pk, "w1")
    assert run
    assert run.support == {
        (row.operation, row.feature): (row.accepted, row.refusal, row.seen_at) for row in rows
    }
    fresh = rows.filter(accepted=False, seen_at__gt=now - ParameterSupport.REFUSAL_TTL)
    assert ParameterSupport.refusals(run.support, now) == {
        (row.operation, row.feature): row.refusal for row in fresh.exclude(refusal={})
    }
    assert ParameterSupport.refusals(run.support, now + ParameterSupport.REFUSAL_TTL) == {}


def test_only_what_is_new_of_a_model_is_written(job: CertificationJob) -> None:
    model, now = AIModel.objects.get(api_model_id=NOVA), timezone.now()
    rows = ParameterSupport.objects.filter(model=model)
    known = {("Converse", "stop"): Observation(True, {}, now - timedelta(minutes=1))}
    ParameterSupport.record(model.pk, "us-east-1", {("Converse", "stop"): None}, now, known)
    assert not rows.exists()
    ParameterSupport.record(model.pk, "us-east-1", {("Converse", "stop"): {"a": 1}}, now, known)
    assert rows.get().refusal == {"a": 1}
    later = now + ParameterSupport.REFRESH
    ParameterSupport.record(model.pk, "us-east-1", {("Converse", "stop"): None}, later, known)
    assert rows.get().accepted


def test_an_updated_row_is_as_the_orm_would_write_it(job: CertificationJob) -> None:
    run = job.runs.all()[0]
    row = ModelCertification.lock(run)
    new = {"score": 7, "held_back": 'say "é"', "expires_at": timezone.now(), "run": run}
    sql.update(row, **new)
    written = values(ModelCertification.objects.get(pk=row.pk))
    ModelCertification.objects.filter(pk=row.pk).update(**new)
    assert written == values(ModelCertification.objects.get(pk=row.pk))
    sql.update(row, run=None, score=None)
    row.refresh_from_db()
    assert (row.run, row.score) == (None, None)


def test_a_hot_statement_is_prepared_once(job: CertificationJob) -> None:
    def prepared() -> list[dict[str, Any]]:
        return sql.fetch_all("SELECT statement FROM pg_prepared_statements")

    runs = job.runs.all()
    before = len(prepared())
    for run in runs:
        assert CertificationRun.objects.claim(run.pk, "w1")
    assert len(prepared()) <= before + 1
    assert any("claimed_by = $" in row["statement"] for row in prepared())


def test_a_locked_certification_is_the_row_of_the_pair(job: CertificationJob) -> None:
    for run in job.runs.all():
        created = ModelCertification.lock(run)
        again = ModelCertification.lock(run)
        stored = ModelCertification.objects.get(model=run.model_id, region=run.region_id)
        assert values(created) == values(again) == values(stored)


def test_subscriptions_to_an_event_are_those_of_a_filter() -> None:
    for events, is_active in (
        (["job.completed"], True),
        (["alert.raised", "job.completed"], True),
        (["alert.raised"], True),
        (["job.completed"], False),
    ):
        WebhookSubscription.objects.create(
            url="https://hooks.example/x", events=events, is_active=is_active
        )
    expected = WebhookSubscription.objects.filter(
        is_active=True, events__contains=["job.completed"]
    )
    assert set(WebhookSubscription.objects.listening_to("job.completed")) == set(expected)
    assert expected.count() == 2


def test_a_badge_reads_what_the_orm_reads(job: CertificationJob) -> None:
    run = job.runs.get(model__api_model_id=NOVA)
    ModelCertification.objects.create(
        model=run.model, region=run.region, status=Status.CERTIFIED, score=90, rating="A"
    )
    [row] = [
        row
        for row in sql.fetch_all(
            sql.BADGE, address=f"{NOVA}/us-east-1", head=NOVA, tail="us-east-1"
        )
        if row["region"] == "us-east-1"
    ]
    certification = ModelCertification.objects.get()
    offered = Route.objects.filter(model=OuterRef("model"), region=OuterRef("region"))
    [expected] = ModelCertification.objects.annotate(offered=Exists(offered)).values("offered")
    assert row == {
        "model_id": NOVA,
        "called": NOVA,
        "endpoint": None,
        "api": None,
        "name": run.model.name,
        "region": "us-east-1",
        "enabled": True,
        "offered": expected["offered"],
        **{
            name: getattr(certification, name)
            for name in (
                "status", "previous_status", "score", "rating", "backend",
                "certified_at", "expires_at", "expired_at",
            )
        },
    }  # fmt: skip
    regions = Route.objects.filter(model=OuterRef("pk"), region__enabled=True).order_by()
    counted = AIModel.objects.annotate(
        regions=ArraySubquery(regions.values("region_id").distinct())
    ).get(pk=run.model_id)
    known = content.find(NOVA)
    assert known is not None
    assert known.message(timezone.now()).startswith(f"1/{len(counted.regions)} region")


@pytest.mark.django_db(transaction=True)
def test_the_change_feed_brings_the_runs_that_changed(job: CertificationJob) -> None:
    since = Cursor.now()
    assert not list(changes(job.runs.all(), since))
    changed = CertificationRun.objects.claim(job.runs.all()[0].pk, "w1")
    assert [run for run, _ in changes(job.runs.all(), since)] == [changed]


def test_an_advisory_lock_is_held_for_the_block_whatever_happens_in_it() -> None:
    with sql.advisory_lock(4711) as is_ours, sql.advisory_lock(4711) as is_second:
        assert (is_ours, is_second) == (True, False)
    with contextlib.suppress(ZeroDivisionError), sql.advisory_lock(4711) as is_ours:
        assert is_ours
        raise ZeroDivisionError
    again = sql.fetch_one("SELECT count(*) AS n FROM pg_locks WHERE objid = 4711")
    assert again == {"n": 0}


def test_a_lock_whose_connection_ends_costs_its_holder_nothing() -> None:
    with sql.advisory_lock(4712):
        holder = "SELECT pid FROM pg_locks WHERE objid = 4712"
        assert sql.fetch_one(f"SELECT pg_terminate_backend(({holder}), 5000) AS ended") == {
            "ended": True
        }
    with sql.advisory_lock(4712) as is_ours:
        assert is_ours
