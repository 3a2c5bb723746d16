"""The log of what happened to a run, written by the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.models import AIModel, CertificationRun, RunEvent, State
from certification.reasons import Reason, Status
from tests.factories import finish, start_job

pytestmark = pytest.mark.django_db

Log = list[tuple[str, str, int, str]]


@pytest.fixture
def run(catalogue: None) -> CertificationRun:
    model = AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")
    return start_job([model], ["us-east-1"]).runs.get()


def log_of(run: CertificationRun) -> Log:
    return list(run.events.values_list("after", "worker", "attempt", "reason"))


def claimed(run: CertificationRun, worker: str = "worker 1") -> CertificationRun:
    claim = CertificationRun.objects.claim(run.pk, worker)
    assert claim is not None
    return claim


def test_a_run_that_is_certified(run: CertificationRun) -> None:
    CertificationRun.objects.mark_queued([run.pk])
    finish(run, Status.CERTIFIED, score=89, rating="B")
    assert log_of(run) == [
        ("QUEUED", "", 0, ""),
        ("PROCESSING", "a test", 1, ""),
        ("COMPLETED", "a test", 1, "certified"),
    ]


def test_heartbeats_and_second_messages_are_no_events(run: CertificationRun) -> None:
    CertificationRun.objects.mark_queued([run.pk])
    CertificationRun.objects.mark_queued([run.pk])
    claim = claimed(run)
    CertificationRun.objects.heartbeat({run.pk: claim.claimed_by})
    assert len(log_of(run)) == 2


def test_a_run_that_goes_back_says_why(run: CertificationRun) -> None:
    claimed(run).release()
    claimed(run, "worker 2").requeue()
    claimed(run, "worker 3")
    CertificationRun.objects.filter(pk=run.pk).update(heartbeat_at=Now() - timedelta(minutes=2))
    assert run.retry_stalled(Now() - timedelta(minutes=1))
    assert [event for event in log_of(run) if event[0] == "PENDING"] == [
        ("PENDING", "worker 1", 1, "handed_back"),
        ("PENDING", "worker 2", 1, "program_error"),
        ("PENDING", "worker 3", 2, "worker_lost"),
    ]


def test_a_cancelled_run_says_by_whom(as_operator: Client, run: CertificationRun) -> None:
    as_operator.post(f"/runs/{run.pk}/cancel/")
    event = run.events.get()
    assert event.after == State.CANCELLED
    assert event.message.startswith("The run was cancelled by operator@")


def test_a_run_without_a_verdict_says_the_reason(run: CertificationRun) -> None:
    run.mark_failed(Reason.CREDENTIALS_EXPIRED, "They expired." * 100)
    event = run.events.get()
    assert (event.after, event.reason) == ("FAILED", "credentials_expired")
    assert len(event.message) == 300


def test_one_statement_writes_both(
    run: CertificationRun, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        CertificationRun.objects.filter(pk=run.pk).update(status=State.QUEUED)
    assert run.events.count() == 1
    with transaction.atomic():
        claimed(run)
        transaction.set_rollback(True)
    assert run.events.count() == 1  # what was not changed is not in the log


def test_nobody_changes_the_log(run: CertificationRun) -> None:
    claimed(run)
    with pytest.raises(DatabaseError, match="cannot be changed"), transaction.atomic():
        run.events.update(worker="another")


def test_cleanup_deletes_the_log_of_old_runs(run: CertificationRun, catalogue: None) -> None:
    finish(run, Status.CERTIFIED, score=89, rating="B")
    waiting = start_job([run.model], ["us-west-2"]).runs.get()
    CertificationRun.objects.mark_queued([waiting.pk])
    later = timezone.now() + timedelta(days=1)
    assert RunEvent.objects.before(later).count() == 2  # not of the run that waits
    call_command("cleanup", "run_events", "--days", "1")
    assert run.events.count() == 2
    RunEvent.objects.before(later).delete()
    assert not run.events.exists()
    assert waiting.events.exists()


class TestPages:
    def test_the_page_of_a_run_shows_its_log(
        self, as_viewer: Client, run: CertificationRun
    ) -> None:
        claimed(run, "<worker>").release()
        finish(run, Status.CERTIFIED, score=89, rating="B")
        html = as_viewer.get(f"/runs/{run.pk}/").content.decode()
        for words in (
            "handed back by its worker, which stopped",
            "<code>&lt;worker&gt;</code>",
            "finished: certified",
            "attempt 1",
        ):
            assert words in html

    def test_the_page_of_a_job_shows_the_newest_first(
        self, as_viewer: Client, run: CertificationRun, django_assert_max_num_queries: Any
    ) -> None:
        CertificationRun.objects.mark_queued([run.pk])
        run.cancel("The run was cancelled by <ana>.")
        with django_assert_max_num_queries(4 + 7):
            html = as_viewer.get(f"/jobs/{run.job_id}/").content.decode()
        assert html.index("The run was cancelled by &lt;ana&gt;.") < html.index("<span>queued<")
        assert "Nova Lite, us-east-1</a>" in html

    def test_without_events_it_says_so(self, as_viewer: Client, run: CertificationRun) -> None:
        html = as_viewer.get(f"/runs/{run.pk}/").content.decode()
        assert "Nothing has happened yet" in html
