"""Old transcripts go, what they proved stays."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command

from certification.engine import dispatch, queue, rescore, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import get_worker
from certification.lib import clock
from certification.models import CertificationJob, ParameterSupport, TestResult

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


def cleanup(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    call_command("cleanup", "--json", *arguments)
    return json.loads(capsys.readouterr().out)


def test_it_keeps_what_is_young(job: CertificationJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert cleanup(capsys, "--days", "1")["results"] == 0


def test_it_drops_requests_and_replies_and_keeps_grades(
    job: CertificationJob, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = clock.now() + timedelta(days=10)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert cleanup(capsys, "--days", "5", "--dry-run")["results"] == 11
    assert cleanup(capsys, "--days", "5")["results"] == 11  # G12 makes no calls
    assert cleanup(capsys, "--days", "5")["results"] == 0
    for result in TestResult.objects.all():
        assert [trial["calls"] for trial in result.trials] == [[]]
        assert all(trial["passed"] and trial["sentence"] for trial in result.trials)
    [[change]] = [list(rescore.runs_to_judge(batch)) for batch in rescore.finished(job.pk)]
    assert change.judgement
    assert not change.differs


def test_a_run_learns_what_the_model_takes(job: CertificationJob) -> None:
    support = {(a.operation, a.feature): a.accepted for a in ParameterSupport.objects.all()}
    assert support[("Converse", "stop_sequences")] is True
    assert support[("ConverseStream", "tools")] is True
