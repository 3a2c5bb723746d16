"""Stored evidence judged again under another policy."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from certification.engine import dispatch, queue, rescore, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import get_worker
from certification.models import (
    CertificationJob,
    CertificationRun,
    ModelCertification,
    RunJudgement,
    TestResult,
    WebhookDelivery,
    WebhookSubscription,
)
from certification.reasons import Status
from certification.suite import policy, scoring

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch) -> CertificationJob:
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    models = dispatch.find_models(
        ["amazon.nova-lite-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"]
    )
    made = dispatch.certify(
        dispatch.pairs_of(models, dispatch.find_regions(["us-east-1"])),
        CertifyOptions(tier="quick", seed=1),
    ).job
    for run in made.runs.all():
        assert runner.run(run.pk, get_worker())
    return made


def judged(job: CertificationJob) -> list[rescore.Change]:
    return [change for batch in rescore.finished(job.pk) for change in rescore.runs_to_judge(batch)]


def test_the_same_policy_judges_the_same(job: CertificationJob) -> None:
    changes = judged(job)
    assert len(changes) == 2
    assert not any(change.differs for change in changes)


def test_a_stricter_policy_changes_verdicts_only_once_written_and_keeps_both(
    job: CertificationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "POLICY", replace(policy.POLICY, line=95.0))
    changes = judged(job)
    assert all(change.differs for change in changes)
    assert set(ModelCertification.objects.values_list("status", flat=True)) == {Status.CERTIFIED}
    rescore.write(changes)
    rescore.write(changes)
    assert RunJudgement.objects.count() == 2
    assert set(CertificationRun.objects.values_list("verdict", flat=True)) == {Status.CERTIFIED}
    assert set(ModelCertification.objects.values_list("status", flat=True)) == {
        Status.QUALITY_WARNING
    }


def test_runs_of_expired_certifications_are_not_judged_again_and_nothing_revives_them(
    job: CertificationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = WebhookSubscription.objects.create(
        url="https://example.org/hook", events=["certification.changed"]
    )
    ModelCertification.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    ModelCertification.objects.expire()
    WebhookDelivery.objects.all().delete()
    assert not list(rescore.finished())
    monkeypatch.setattr(scoring, "POLICY", replace(policy.POLICY, line=95.0))
    rescore.write(judged(job))
    assert RunJudgement.objects.count() == 2
    assert set(ModelCertification.objects.values_list("status", "previous_status")) == {
        (Status.NOT_TESTED, Status.CERTIFIED)
    }
    assert not hook.deliveries.exists()


def test_dropped_evidence_is_told_and_judged_nowhere(job: CertificationJob) -> None:
    TestResult.objects.filter(case_id="G01").update(trials=[])
    assert {change.judgement for change in judged(job)} == {None}


def test_the_command_shows_before_it_writes(
    job: CertificationJob, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("rescore", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["judged"], report["written"], report["changes"]) == (2, False, [])
    assert not RunJudgement.objects.exists()
    call_command("rescore", "--write", "--json")
    assert RunJudgement.objects.count() == 2
