"""Old transcripts go, what they proved stays."""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.test import Client
from django_celery_results.models import TaskResult

from certification.engine import dispatch, queue, rescore, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import get_worker
from certification.lib import clock, shared_cache
from certification.models import (
    AIModel,
    AlertEpisode,
    AlertNotification,
    AlertSilence,
    AuditEntry,
    CertificationJob,
    CertificationRun,
    ErrorGroup,
    ModelCertification,
    NextAction,
    ParameterSupport,
    RevokedToken,
    RunTotal,
    Session,
    TargetMinute,
    TestResult,
    User,
    WebhookDelivery,
    WebhookSubscription,
)
from certification.monitoring import doctor
from certification.operations import retention, server
from certification.operations.retention import RETENTION
from tests.factories import certify
from tests.paths import PROJECT

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch) -> CertificationJob:
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    models = dispatch.find_models(["amazon.nova-lite-v1:0"])
    made = dispatch.certify(
        dispatch.pairs_of(models, dispatch.find_regions(["us-east-1"])),
        CertifyOptions(tier="quick"),
    ).job
    for run in made.runs.all():
        assert runner.run(run.pk, get_worker())
    return made


def cleanup(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, int]:
    """Return how many of what were deleted."""
    capsys.readouterr()
    call_command("cleanup", "--json", *arguments)
    rows = json.loads(capsys.readouterr().out)["deleted"]
    assert all(row["complete"] for row in rows)
    return {row["name"]: row["number"] for row in rows}


def test_it_keeps_what_is_young(job: CertificationJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert cleanup(capsys, "transcripts", "--days", "1") == {"transcripts": 0}


def test_it_drops_requests_and_replies_and_keeps_grades(
    job: CertificationJob, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = clock.now() + timedelta(days=100)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert cleanup(capsys, "--dry-run")["transcripts"] == 11
    assert cleanup(capsys)["transcripts"] == 11  # G12 makes no calls
    assert cleanup(capsys)["transcripts"] == 0
    for result in TestResult.objects.all():
        assert [trial["calls"] for trial in result.trials] == [[]]
        assert all(trial["passed"] and trial["sentence"] for trial in result.trials)
    [[change]] = [list(rescore.runs_to_judge(batch)) for batch in rescore.finished(job.pk)]
    assert change.judgement
    assert not change.differs


def make_rows(user: User, at: datetime) -> None:
    """Store one of each kind that is old by its own time."""
    TaskResult.objects.create(task_id=str(uuid.uuid4()), status="SUCCESS")
    TaskResult.objects.filter(task_name=None).update(date_done=at, task_name="x")
    key = Client().session.session_key  # stored where pages store theirs
    Session.objects.filter(pk=key).update(expire_date=at)
    RevokedToken.objects.create(user=user, expires_at=at)
    for kind, more in (
        (AccessAttempt, {"failures_since_start": 1}),
        (AccessFailureLog, {}),
        (AccessLog, {}),
    ):
        agent = uuid.uuid4().hex
        row = kind.objects.create(username="x", ip_address="10.0.0.1", user_agent=agent, **more)
        kind.objects.filter(pk=row.pk).update(attempt_time=at)
    subscription = WebhookSubscription.objects.create(url="https://a.example/", events=["x"])
    WebhookDelivery.objects.create(
        subscription=subscription, event="x", event_id=uuid.uuid4(), status="given_up",
        payload={}, finished_at=at,
    )  # fmt: skip
    episode = AlertEpisode.objects.create(rule="x", subject=f"{at}", resolved_at=at)
    AlertNotification.objects.create(episode=episode, channel="x", kind="opened", created_at=at)
    TargetMinute.objects.create(name="x", at=at, total=1)
    AlertSilence.objects.create(reason="x", until=at)
    fingerprint = uuid.uuid4().hex
    ErrorGroup.objects.create(fingerprint=fingerprint, event="x", first_seen=at, last_seen=at)
    AuditEntry.objects.create(actor="x", at=at)
    NextAction.objects.create(routine="daily", text="x", done_at=at)
    row = LogEntry.objects.create(user=user, action_flag=1, object_repr="x")
    LogEntry.objects.filter(pk=row.pk).update(action_time=at)


OF_OTHERS = ("transcripts", "run_events", "capacity_days", "replaced_databases")
FOR_EVER = "runs"
ROWS = [row.name for row in RETENTION if row.name not in (*OF_OTHERS, FOR_EVER)]


def test_each_row_of_the_table_deletes_what_is_too_old(
    viewer: User, capsys: pytest.CaptureFixture[str], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    for days in (400, 400, 400, 0):
        make_rows(viewer, now - timedelta(days=days))
    monkeypatch.setattr(retention, "BATCH", 2)
    settings.RETENTION_DAYS = {"alerts": 0, "audit": 365}
    expected = dict.fromkeys(ROWS, 3) | dict.fromkeys(OF_OTHERS, 0)
    del expected["alerts"]  # for ever
    assert cleanup(capsys, "--dry-run") == expected
    assert cleanup(capsys) == expected
    assert cleanup(capsys) == dict.fromkeys(expected, 0)
    assert WebhookDelivery.objects.count() == AlertSilence.objects.count() == 1
    assert AlertEpisode.objects.count() == 4
    settings.RETENTION_DAYS = {"alerts": 30}
    assert cleanup(capsys, "alerts") == {"alerts": 3}


def test_rows_that_somebody_holds_are_left_for_the_next_time(
    viewer: User, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a held row nor a held table keeps a cleanup waiting."""
    for _ in range(2):
        make_rows(viewer, clock.now() - timedelta(days=400))
    silence = AlertSilence.objects.first()
    with server.connect() as other, other.transaction():
        lock = "SELECT FROM certification_alertsilence WHERE id = %s FOR UPDATE"
        other.execute(lock, [silence.pk if silence else None])
        assert cleanup(capsys, "silences") == {"silences": 1}
        other.execute("LOCK TABLE certification_alertsilence")
        [deleted] = retention.clean(["silences"])
        assert (deleted.number, deleted.complete) == (0, False)
    assert cleanup(capsys, "silences") == {"silences": 1}


def test_it_ends_when_its_time_is_over(viewer: User) -> None:
    make_rows(viewer, clock.now() - timedelta(days=400))
    [deleted] = retention.clean(["silences"], deadline=time.monotonic() - 1)
    assert (deleted.number, deleted.complete) == (0, False)


@pytest.mark.parametrize("arguments", [["nosuch"], ["--days", "3"], ["alerts", "--days", "0"]])
def test_what_it_cannot_clean_is_a_sentence(arguments: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("cleanup", *arguments)
    assert refused.value.returncode == 2


def run_of(code: str, days: int) -> CertificationRun:
    """A run in a job of its own that ended so many days ago, of a pair that a newer one proves."""
    newer = certify(AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0"), code)
    at = clock.now() - timedelta(days=days)
    job = CertificationJob.objects.create(
        type="SINGLE_MODEL", backend=newer.backend, total_runs=1, succeeded_runs=1,
        status="COMPLETED", completed_at=at,
    )  # fmt: skip
    CertificationJob.objects.filter(pk=job.pk).update(created_at=at)
    return CertificationRun.objects.create(
        job=job, model=newer.model, region_id=code, tier=newer.tier, backend=newer.backend,
        status="COMPLETED", verdict="certified", passed=True, score=81, variant_seed=1,
        started_at=at, completed_at=at,
    )  # fmt: skip


def test_old_runs_go_when_somebody_says_so_but_never_a_proof(
    catalogue: None, capsys: pytest.CaptureFixture[str], settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    old = [run_of(code, 400) for code in ("us-east-1", "us-west-2", "eu-west-1")]
    young, proof = run_of("eu-central-1", 10), old[2]
    pair = {"model": proof.model_id, "region": proof.region_id}
    ModelCertification.objects.filter(**pair).update(run=proof)
    proofs = set(ModelCertification.objects.values_list("run", flat=True))
    total = sum(row["runs"] for row in RunTotal.of_all_runs())
    assert "runs" not in cleanup(capsys)  # for ever by default
    with pytest.raises(CommandError, match="stay for ever"):
        call_command("cleanup", "runs")
    monkeypatch.setattr(retention, "BATCH", 1)
    settings.RETENTION_DAYS = {"runs": 365}
    assert cleanup(capsys, "--dry-run")["runs"] == 2
    assert cleanup(capsys)["runs"] == 2
    assert cleanup(capsys)["runs"] == 0
    left = set(CertificationRun.objects.values_list("pk", flat=True))
    assert proofs <= left
    assert {young.pk, proof.pk} <= left
    assert not left & {old[0].pk, old[1].pk}
    assert not CertificationJob.objects.filter(pk__in=[old[0].job_id, old[1].job_id]).exists()
    assert sum(row["runs"] for row in RunTotal.of_all_runs()) == total
    assert [finding.what for finding in doctor.counts_agree()] == []


def test_the_cache_is_emptied_alone(capsys: pytest.CaptureFixture[str]) -> None:
    client = shared_cache.client()
    client.set(f"{shared_cache.PREFIX}x", "1")
    client.set("another program's", "1")
    call_command("cleanup", "--cache", "--dry-run", "--json")
    number = json.loads(capsys.readouterr().out)["cache"]
    assert number >= 1
    call_command("cleanup", "--cache")
    assert f"Deleted {number} key" in capsys.readouterr().out
    assert shared_cache.count() == 0
    assert client.delete("another program's") == 1
    with pytest.raises(CommandError, match="alone"):
        call_command("cleanup", "alerts", "--cache")


def test_the_docs_have_the_table() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    for row in RETENTION:
        assert f"| `{row.name}` | {row.default_days} | {row.what} |" in text, row.name


def test_a_run_learns_what_the_model_takes(job: CertificationJob) -> None:
    support = {(a.operation, a.feature): a.accepted for a in ParameterSupport.objects.all()}
    assert support[("Converse", "stop_sequences")] is True
    assert support[("ConverseStream", "tools")] is True
