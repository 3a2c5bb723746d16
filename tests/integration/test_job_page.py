"""The page of a job: how far, what came out, why does it wait? One run cancelled or tried again."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from structlog.testing import capture_logs

from certification.engine import limits
from certification.lib import redis_client
from certification.lib.redis_client import Purpose
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    QueuePause,
    State,
    User,
)
from certification.monitoring import queue_stats
from certification.reasons import Reason, Status
from certification.web import job_detail
from tests.factories import certify, finish, start_job

pytestmark = pytest.mark.django_db
FRAGMENT = {"HX-Request": "true"}
SESSION_USER_AND_ROLE = 3
HEADER = 1  # open alerts and read-only mode
NOVA, HAIKU = "amazon.nova-lite-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_stats.workers, "get", lambda: 1)


@pytest.fixture
def world(catalogue: None) -> dict[str, AIModel]:
    models = AIModel.objects.in_bulk([NOVA, HAIKU, TITAN], field_name="api_model_id")
    return {"Nova": models[NOVA], "Haiku": models[HAIKU], "Titan Embed": models[TITAN]}


@pytest.fixture
def job(world: dict[str, AIModel], operator: User) -> CertificationJob:
    """Three runs: one certified, one without a verdict, one waiting."""
    job = start_job(world.values(), ["us-east-1"], by=operator)
    finish(job.runs.get(model=world["Nova"]), Status.CERTIFIED, score=89, rating="B")
    finish(job.runs.get(model=world["Haiku"]), "", reason=Reason.READ_TIMEOUT, message="Too slow.")
    return job


@pytest.fixture
def ended(job: CertificationJob, world: dict[str, AIModel]) -> CertificationJob:
    finish(job.runs.get(model=world["Titan Embed"]), Status.FAILED, reason=Reason.GATE_FAILED)
    return job


def body(client: Client, path: str, **kwargs: Any) -> str:
    response = client.get(path, **kwargs)
    assert response.status_code == 200, response.status_code
    return " ".join(response.content.decode().split())


class TestPage:
    def test_it_wants_a_login(self, client: Client, job: CertificationJob) -> None:
        assert client.get(f"/jobs/{job.pk}/").status_code == 302

    def test_it_shows_progress_and_runs(self, as_viewer: Client, job: CertificationJob) -> None:
        html = body(as_viewer, f"/jobs/{job.pk}/")
        for text in (
            "2 / 3",
            "operator@example.org",
            "Nova Lite",
            "no answer in time",
            "Too slow.",
            'data-poll="3"',
        ):
            assert text in html, text

    def test_a_finished_job_no_longer_polls(
        self, as_viewer: Client, ended: CertificationJob
    ) -> None:
        assert "data-poll" not in body(as_viewer, f"/jobs/{ended.pk}/")

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("status=FAILED", [HAIKU]),
            ("verdict=certified", [NOVA]),
            ("status=QUEUED", []),
            ("status=nonsense", [HAIKU, TITAN, NOVA]),
            ("vendor=Anthropic", [HAIKU]),
            ("region=us-west-2", []),
            (f"model={TITAN}", [TITAN]),
            ("q=NOVA+us-east", [NOVA]),
            ("q=%00", []),
            ("page=99", [HAIKU, TITAN, NOVA]),
        ],
    )
    def test_runs_are_filtered(
        self, as_viewer: Client, job: CertificationJob, query: str, names: list[str]
    ) -> None:
        runs = as_viewer.get(f"/jobs/{job.pk}/?{query}").context["detail"].runs
        assert [run.model.api_model_id for run in runs] == names

    def test_fifty_runs_make_a_page(self, as_viewer: Client, catalogue: None) -> None:
        job = start_job(AIModel.objects.active()[:60], ["us-east-1"])
        assert len(as_viewer.get(f"/jobs/{job.pk}/?page=2").context["detail"].runs) == 10

    def test_htmx_gets_a_fragment(self, as_viewer: Client, job: CertificationJob) -> None:
        assert "<html" not in body(as_viewer, f"/jobs/{job.pk}/", headers=FRAGMENT)

    def test_an_unknown_job_is_not_found(self, as_viewer: Client) -> None:
        assert as_viewer.get(f"/jobs/{uuid.uuid4()}/").status_code == 404

    def test_it_takes_seven_queries(
        self,
        as_viewer: Client,
        catalogue: None,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:
        certify(AIModel.objects.get(api_model_id=NOVA), "us-west-2")
        job = start_job(AIModel.objects.active()[:60], ["us-east-1"])
        CertificationRun.objects.claim(job.runs.all()[0].pk, "a test")
        with django_assert_max_num_queries(7 + HEADER + SESSION_USER_AND_ROLE):
            body(as_viewer, f"/jobs/{job.pk}/")

    def test_viewers_see_no_buttons(self, as_viewer: Client, job: CertificationJob) -> None:
        html = body(as_viewer, f"/jobs/{job.pk}/")
        assert "/cancel/" not in html
        assert f"/jobs/{job.pk}/retry/" not in html

    def test_operators_see_cancel_while_it_runs(
        self, as_operator: Client, job: CertificationJob
    ) -> None:
        html = body(as_operator, f"/jobs/{job.pk}/")
        assert "/cancel/" in html
        assert f"/jobs/{job.pk}/retry/" not in html

    def test_operators_see_retry_when_it_has_ended(
        self, as_operator: Client, ended: CertificationJob
    ) -> None:
        html = body(as_operator, f"/jobs/{ended.pk}/")
        assert "/cancel/" not in html
        assert "Retry 1 failed run" in html

    def test_viewers_may_not_cancel(self, as_viewer: Client, job: CertificationJob) -> None:
        assert as_viewer.get(f"/jobs/{job.pk}/cancel/").status_code == 403
        assert as_viewer.post(f"/jobs/{job.pk}/cancel/").status_code == 403
        job.refresh_from_db()
        assert job.status != State.CANCELLED

    def test_viewers_may_not_retry(self, as_viewer: Client, ended: CertificationJob) -> None:
        assert as_viewer.post(f"/jobs/{ended.pk}/retry/").status_code == 403
        assert CertificationJob.objects.count() == 1

    @pytest.mark.parametrize("role", ["operator", "administrator"])
    def test_cancelling_asks_first(
        self, role: str, request: pytest.FixtureRequest, job: CertificationJob
    ) -> None:
        client: Client = request.getfixturevalue(f"as_{role}")
        assert "2 of 3 runs are finished" in body(client, f"/jobs/{job.pk}/cancel/")
        job.refresh_from_db()
        assert job.status != State.CANCELLED
        response = client.post(f"/jobs/{job.pk}/cancel/", follow=True)
        assert response.redirect_chain == [(f"/jobs/{job.pk}/", 302)]
        assert "cancelled with 1 unfinished run." in response.content.decode()
        job.refresh_from_db()
        assert job.status == State.CANCELLED

    def test_cancelling_an_ended_job_changes_nothing(
        self, as_operator: Client, ended: CertificationJob
    ) -> None:
        response = as_operator.post(f"/jobs/{ended.pk}/cancel/", follow=True)
        assert "already finished" in response.content.decode()

    def test_retrying_starts_a_job_for_the_failed_runs(
        self, as_operator: Client, ended: CertificationJob
    ) -> None:
        response = as_operator.post(f"/jobs/{ended.pk}/retry/", follow=True)
        new = CertificationJob.objects.exclude(pk=ended.pk).get()
        assert response.redirect_chain == [(f"/jobs/{new.pk}/", 302)]
        assert [run.model.api_model_id for run in new.runs.all()] == [HAIKU]
        assert new.created_by is not None

    def test_retrying_without_failures_says_so(
        self, as_operator: Client, world: dict[str, AIModel]
    ) -> None:
        job = certify(world["Nova"], "us-east-1").job
        response = as_operator.post(f"/jobs/{job.pk}/retry/", follow=True)
        assert "no failed runs" in response.content.decode()

    def test_retry_rejects_get(self, as_operator: Client, ended: CertificationJob) -> None:
        assert as_operator.get(f"/jobs/{ended.pk}/retry/").status_code == 405

    def test_forged_forms_are_refused(self, operator: User, job: CertificationJob) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(operator)
        response = client.post(f"/jobs/{job.pk}/cancel/")
        assert response.status_code == 403
        assert "nothing was changed" in response.content.decode()
        assert CertificationRun.objects.active().count() == 1

    def test_it_says_how_far_it_is_and_groups_its_runs(
        self, as_viewer: Client, job: CertificationJob
    ) -> None:
        html = body(as_viewer, f"/jobs/{job.pk}/")
        assert "2 of 3 runs finished: 1 certified, 1 without a verdict." in html
        places = [
            html.index(f"<span>{t}</span>") for t in ("Need attention", "Waiting", "Certified")
        ]
        assert places == sorted(places)

    def test_the_grid_shows_each_run(self, as_viewer: Client, job: CertificationJob) -> None:
        html = body(as_viewer, f"/jobs/{job.pk}/")
        certified = job.runs.get(verdict=Status.CERTIFIED)
        cell = f'<a class="cell s-certified" href="/runs/{certified.pk}/"'
        assert f'{cell} aria-label="Nova Lite, us-east-1: certified, B 89"' in html
        assert 'class="cell j-FAILED"' in html
        assert "us-east-1: no verdict" in html

    def test_a_large_job_is_counted_by_vendor(
        self, as_viewer: Client, job: CertificationJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_detail, "GRID_RUNS", 2)
        html = body(as_viewer, f"/jobs/{job.pk}/")
        assert "By vendor and region" in html
        assert 'aria-label="Amazon, us-east-1: Waiting: 1, Certified: 1"' in html
        assert 'href="?vendor=Amazon&amp;region=us-east-1#runs"' in html

    def test_runs_are_drawn_over_time(self, as_viewer: Client, job: CertificationJob) -> None:
        html = body(as_viewer, f"/jobs/{job.pk}/")
        assert '<svg class="chart gantt"' in html
        assert 'class="work good"' in html
        assert "style=" not in html

    def test_the_time_left_follows_from_runs_that_ended(
        self, as_viewer: Client, world: dict[str, AIModel]
    ) -> None:
        job = start_job(world.values(), ["us-east-1"])
        runs = list(job.runs.all())
        finish(runs[0], Status.CERTIFIED, score=89, took=timedelta(minutes=4))
        assert "left." not in body(as_viewer, f"/jobs/{job.pk}/")
        CertificationRun.objects.claim(runs[1].pk, "a test")
        assert "About 6 minutes left." in body(as_viewer, f"/jobs/{job.pk}/")


class TestPolling:
    @pytest.fixture(autouse=True)
    def frozen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(job_detail, "REFRESH_S", 10**9)

    def test_an_unchanged_fragment_is_not_sent_again(
        self,
        as_viewer: Client,
        job: CertificationJob,
        world: dict[str, AIModel],
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:
        first = as_viewer.get(f"/jobs/{job.pk}/", headers=FRAGMENT)
        version = first.context["version"]
        assert f'hx-headers=\'{{"Page-Version": "{version}"}}\'' in first.content.decode()
        known = {"Page-Version": version, **FRAGMENT}
        with django_assert_max_num_queries(2 + SESSION_USER_AND_ROLE):
            assert as_viewer.get(f"/jobs/{job.pk}/", headers=known).status_code == 204
        finish(job.runs.get(model=world["Titan Embed"]), Status.FAILED)
        html = body(as_viewer, f"/jobs/{job.pk}/", headers=known)
        assert 'data-milestone="The job has ended.' in html

    def test_a_page_whose_runs_are_as_they_were_is_refreshed_now_and_then(
        self, job: CertificationJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_detail, "REFRESH_S", 15)
        now = timezone.now()
        later = now + timedelta(seconds=15)
        assert job_detail.version(job, now) == job_detail.version(job, now)
        assert job_detail.version(job, now) != job_detail.version(job, later)
        shown = job_detail.load(job, QueryDict(), now)
        assert shown.version(now) == job_detail.version(job, now)

    def test_milestones_are_quarters_and_runs_without_a_verdict(
        self, as_viewer: Client, job: CertificationJob
    ) -> None:
        html = body(as_viewer, f"/jobs/{job.pk}/")
        words = "50 per cent of the runs are finished. A run ended without a verdict."
        assert f'data-milestone="{words}"' in html


class TestCauses:
    @pytest.fixture
    def waiting(self, world: dict[str, AIModel]) -> CertificationJob:
        return start_job([world["Nova"]], ["us-east-1", "sa-east-1"])

    def causes(self, client: Client, job: CertificationJob) -> dict[str, str]:
        causes = client.get(f"/jobs/{job.pk}/").context["detail"].causes
        return {cause.code: cause.sentence for cause in causes}

    @pytest.mark.parametrize(("workers", "code"), [(None, "broker"), (0, "no_worker")])
    def test_nobody_takes_them(
        self,
        as_viewer: Client,
        waiting: CertificationJob,
        monkeypatch: pytest.MonkeyPatch,
        workers: int | None,
        code: str,
    ) -> None:
        monkeypatch.setattr(queue_stats.workers, "get", lambda: workers)
        assert list(self.causes(as_viewer, waiting)) == [code]

    def test_a_pinned_region_that_nobody_serves(
        self,
        as_viewer: Client,
        waiting: CertificationJob,
        monkeypatch: pytest.MonkeyPatch,
        settings: Any,
    ) -> None:
        settings.PINNED_REGIONS = ["sa-east-1", "us-east-1"]
        taken = {f"{settings.CERTIFICATION_QUEUE_NAME}.us-east-1": 1}
        monkeypatch.setattr(queue_stats.workers_by_queue, "get", lambda: taken)
        html = body(as_viewer, f"/jobs/{waiting.pk}/")
        assert "No worker serves sa-east-1:" in html
        assert "WORKER_REGIONS=sa-east-1 manage.py run worker" in html

    def test_a_paused_queue(self, as_viewer: Client, waiting: CertificationJob) -> None:
        CertificationJob.objects.update(priority="bulk")
        QueuePause.objects.create(
            backend=waiting.backend,
            error_category="AUTHENTICATION_ERROR",
            error_reason=Reason.CREDENTIALS_EXPIRED,
            message="expired",
        )
        assert (
            "2 runs wait: the queue is paused (AWS credentials expired)."
            in (self.causes(as_viewer, waiting)["paused"])
        )

    def test_runs_of_other_jobs_come_first(
        self, as_viewer: Client, world: dict[str, AIModel], waiting: CertificationJob
    ) -> None:
        later = start_job([world["Haiku"]], ["us-east-1"])
        assert self.causes(as_viewer, later)["behind"] == "It waits behind 2 runs of other jobs."

    def test_workers_are_busy_with_its_own_runs(
        self, as_viewer: Client, waiting: CertificationJob
    ) -> None:
        CertificationRun.objects.claim(waiting.runs.all()[0].pk, "a test")
        assert self.causes(as_viewer, waiting) == {
            "busy": "1 of its runs wait: the workers are busy with 1 run."
        }

    def test_messages_that_are_not_out_and_second_attempts(
        self, as_viewer: Client, waiting: CertificationJob
    ) -> None:
        waiting.runs.update(attempt=1)
        CertificationJob.objects.update(created_at=timezone.now() - timedelta(minutes=1))
        assert {"retry", "not_sent"} <= set(self.causes(as_viewer, waiting))

    def test_a_throttled_route(self, as_viewer: Client, waiting: CertificationJob) -> None:
        run = waiting.runs.get(region="us-east-1")
        CertificationRun.objects.claim(run.pk, "a test")
        target = run.model.routes.filter(region="us-east-1")[0].target_id
        server, key = redis_client.client(Purpose.LIMITS), limits.bucket_key("us-east-1", target)
        server.hset(key, "rate", 750)
        try:
            assert (
                "us-east-1: they go on at 750 tokens"
                in (self.causes(as_viewer, waiting)["throttled"])
            )
        finally:
            server.delete(key)


class TestOneRun:
    def test_cancelling_one_asks_first_and_lets_the_others_run(
        self, as_operator: Client, world: dict[str, AIModel]
    ) -> None:
        job = start_job([world["Nova"], world["Haiku"]], ["us-east-1"])
        run = job.runs.all()[0]
        assert f"/runs/{run.pk}/cancel/" in body(as_operator, f"/jobs/{job.pk}/")
        assert "Cancel the run?" in body(as_operator, f"/runs/{run.pk}/cancel/")
        with capture_logs() as logs:
            as_operator.post(f"/runs/{run.pk}/cancel/")
        run.refresh_from_db()
        job.refresh_from_db()
        assert (run.status, job.status) == (State.CANCELLED, State.PENDING)
        assert [entry["event"] for entry in logs if entry.get("by")] == ["run_cancelled"]
        response = as_operator.post(f"/runs/{run.pk}/cancel/", follow=True)
        assert "already ended" in response.content.decode()

    def test_a_job_whose_every_run_was_cancelled_is_cancelled(
        self, as_operator: Client, world: dict[str, AIModel]
    ) -> None:
        job = start_job([world["Nova"]], ["us-east-1"])
        as_operator.post(f"/runs/{job.runs.get().pk}/cancel/")
        job.refresh_from_db()
        assert job.status == State.CANCELLED
        assert job.completed_at is not None

    def test_retrying_one_starts_a_job_of_it(
        self, as_operator: Client, job: CertificationJob
    ) -> None:
        failed = job.runs.get(status=State.FAILED)
        assert f"/runs/{failed.pk}/retry/" in body(as_operator, f"/jobs/{job.pk}/")
        as_operator.post(f"/runs/{failed.pk}/retry/")
        new = CertificationJob.objects.exclude(pk=job.pk).get()
        assert [run.model.api_model_id for run in new.runs.all()] == [HAIKU]
        assert new.config["retry_of_run"] == str(failed.pk)

    def test_a_run_with_a_verdict_is_not_tried_again(
        self, as_operator: Client, job: CertificationJob
    ) -> None:
        run = job.runs.get(verdict=Status.CERTIFIED)
        response = as_operator.post(f"/runs/{run.pk}/retry/", follow=True)
        assert "Only a run that was cancelled" in response.content.decode()
        assert CertificationJob.objects.count() == 1
        assert as_operator.get(f"/runs/{run.pk}/retry/").status_code == 405

    @pytest.mark.parametrize("action", ["cancel", "retry"])
    def test_viewers_and_forged_forms_are_refused(
        self, as_viewer: Client, operator: User, job: CertificationJob, action: str
    ) -> None:
        run = job.runs.exclude(verdict=Status.CERTIFIED)[0]
        assert as_viewer.post(f"/runs/{run.pk}/{action}/").status_code == 403
        client = Client(enforce_csrf_checks=True)
        client.force_login(operator)
        assert client.post(f"/runs/{run.pk}/{action}/").status_code == 403
        assert f"/{action}/" not in body(as_viewer, f"/jobs/{job.pk}/")
