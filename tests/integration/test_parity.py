"""Comparing the regions of one job."""

from __future__ import annotations

import json
import urllib.request
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from certification.engine import dispatch, parity, queue, reconcile, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.reconcile import Reconciled
from certification.engine.worker import get_worker
from certification.models import (
    CertificationJob,
    CertificationRun,
    ModelCertification,
    RunJudgement,
)
from certification.reasons import Status
from tests.emulators import CONTROL

pytestmark = pytest.mark.django_db(transaction=True)
MODEL = "amazon.nova-micro-v1:0"


def certify(regions: list[str], monkeypatch: pytest.MonkeyPatch) -> CertificationJob:
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    job = dispatch.certify(
        dispatch.pairs_of(dispatch.find_models([MODEL]), dispatch.find_regions(regions)),
        CertifyOptions(tier="full", seed=2),
    ).job
    for run in job.runs.all():
        assert runner.run(run.pk, get_worker())
    job.refresh_from_db()
    return job


def switch(emulator: str, scenario: str) -> None:
    request = urllib.request.Request(
        f"{emulator}/_emulator/scenario", scenario.encode(), CONTROL, method="POST"
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)


def test_equal_regions_raise_no_alarm(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = certify(["us-east-1", "us-west-2"], monkeypatch)
    assert set(job.runs.values_list("verdict", flat=True)) == {Status.CERTIFIED}
    assert parity.compare(job) == ()
    assert not RunJudgement.objects.exists()


def test_a_region_that_counts_other_tokens_for_the_same_prompt_raises_an_alarm(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch(emulator, '[[rule]]\nregion = "us-west-2"\nextra_input_tokens = 4')
    try:
        job = certify(["us-east-1", "us-west-2"], monkeypatch)
    finally:
        switch(emulator, "")
    assert set(job.runs.values_list("verdict", flat=True)) == {Status.CERTIFIED}
    [comparison] = parity.compare(job)
    assert comparison.alarm
    assert "input tokens here and" in comparison.sentence
    later = RunJudgement.objects.get()
    assert (later.run.region_id, later.verdict) == ("us-west-2", Status.QUALITY_WARNING)
    assert later.rating == "C"
    assert "a different model or chat template" in later.message
    assert ModelCertification.objects.get(region="us-west-2").status == Status.QUALITY_WARNING


def test_a_few_tokens_more_raise_no_alarm(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch(emulator, '[[rule]]\nregion = "us-west-2"\nextra_input_tokens = 3')
    try:
        job = certify(["us-east-1", "us-west-2"], monkeypatch)
    finally:
        switch(emulator, "")
    assert parity.compare(job) == ()


def test_a_region_that_serves_worse_is_judged_again(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch, as_viewer: Client
) -> None:
    switch(
        emulator,
        '[[rule]]\nregion = "us-west-2"\nweak = { category = "instructions", accuracy = 0.0 }',
    )
    try:
        job = certify(["us-east-1", "us-west-2"], monkeypatch)
    finally:
        switch(emulator, "")
    [comparison] = parity.compare(job)
    assert (comparison.region, comparison.reference, comparison.alarm) == (
        "us-west-2",
        "us-east-1",
        True,
    )
    later = RunJudgement.objects.get()
    assert later.run.region_id == "us-west-2"
    assert later.verdict != Status.CERTIFIED
    page = as_viewer.get(f"/certifications/{later.run.model_id}/us-west-2/").content.decode()
    assert "Judged again" in page
    assert escape(later.message) in page
    parity.compare(job)
    assert RunJudgement.objects.count() == 1
    assert CertificationRun.objects.count() == 2
    assert ModelCertification.objects.get(region="us-east-1").status == Status.CERTIFIED


def age(job: CertificationJob) -> None:
    CertificationJob.objects.filter(pk=job.pk).update(
        updated_at=timezone.now() - timedelta(minutes=5)
    )


def test_a_job_whose_closing_worker_died_is_compared_by_reconcile(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = certify(["us-east-1", "us-west-2"], monkeypatch)
    assert reconcile.reconcile().compared == 0  # the worker that closed it may be at it
    age(job)
    assert reconcile.reconcile().compared == 1
    job.refresh_from_db()
    assert job.config["comparison"] == {"parity": [], "fingerprints": []}
    age(job)
    assert reconcile.reconcile().compared == 0


def test_a_comparison_that_fails_is_tried_again_later_and_keeps_nothing_else_waiting(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = certify(["us-east-1", "us-west-2"], monkeypatch)
    age(job)
    with monkeypatch.context() as patch:
        patch.setattr(parity.parity, "adjust", lambda _comparisons: 1 / 0)
        assert reconcile.reconcile() == Reconciled()
    assert reconcile.reconcile().compared == 0  # not at once
    age(job)
    assert reconcile.reconcile().compared == 1


def test_jobs_without_two_regions_to_compare_are_left_alone(
    catalogue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    fields = {"type": "SINGLE_MODEL", "backend": "emulator", "completed_at": now}
    two = ["us-east-1", "us-west-2"]
    for tier, status, regions in (
        ("quick", "COMPLETED", two),
        ("full", "COMPLETED", two[:1]),
        ("full", "FAILED", two),
    ):
        age(CertificationJob.objects.create(tier=tier, status=status, regions=regions, **fields))
    old = CertificationJob.objects.create(tier="full", status="COMPLETED", regions=two, **fields)
    age(old)
    CertificationJob.objects.filter(pk=old.pk).update(created_at=now - timedelta(days=30))
    assert reconcile.reconcile().compared == 0
