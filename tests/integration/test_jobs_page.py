"""The list of jobs: by key, in few queries."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.models import AIModel, CertificationJob, State
from certification.reasons import Reason
from certification.web.jobs import JOBS_PER_PAGE, Place
from tests.factories import start_job

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"
FRAME = 4  # queries of every page: session, user, groups, what its header says
NEXT = re.compile(r'rel="next" href="([^"]+)"')


def store_jobs(number: int, *, active: int = 0) -> list[CertificationJob]:
    """Store jobs in the order of the list: active ones, then ended ones; two share each time."""
    now, jobs = timezone.now(), []
    for n in range(number):
        is_active = n < active
        jobs.append(
            CertificationJob(
                type="SINGLE_MODEL",
                backend="emulator",
                status=State.PROCESSING if is_active else State.COMPLETED,
                completed_at=None if is_active else now,
                note=f"job {n:03}",
            )
        )
    jobs = CertificationJob.objects.bulk_create(jobs)
    for n, job in enumerate(jobs):
        CertificationJob.objects.filter(pk=job.pk).update(created_at=now - timedelta(hours=n // 2))
    return jobs


def follow(client: Client, address: str) -> list[str]:
    """Return the ids of the jobs on the page and all that follow, as listed."""
    ids: list[str] = []
    while address:
        response = client.get(address)
        assert response.status_code == 200
        ids += [str(job.pk) for job in response.context["jobs"].page]
        link = NEXT.search(response.content.decode())
        address = f"/jobs/{link[1]}".replace("&amp;", "&") if link else ""
    return ids


def test_pages_by_key_show_every_job_once(as_viewer: Client) -> None:
    store_jobs(2 * JOBS_PER_PAGE + 7, active=JOBS_PER_PAGE + 3)
    expected = sorted(
        CertificationJob.objects.all(),
        key=lambda job: (job.completed_at is not None, -job.created_at.timestamp(), job.pk),
    )
    assert follow(as_viewer, "/jobs/") == [str(job.pk) for job in expected]


def test_the_filter_stays_on_the_next_page(as_viewer: Client) -> None:
    store_jobs(JOBS_PER_PAGE + 10, active=5)
    assert len(follow(as_viewer, "/jobs/?status=COMPLETED")) == JOBS_PER_PAGE + 5


def test_a_place_reads_what_it_writes() -> None:
    job = CertificationJob(status=State.QUEUED, created_at=datetime(2026, 11, 30, 1, 2, 3, 4, UTC))
    assert Place.from_text(str(Place.of(job))) == Place.of(job)


@pytest.mark.parametrize(
    "text", ["", "x", "0.1", "2.1." + 32 * "a", f"0.{10**18 - 1}." + 32 * "f", "1.٣." + 32 * "a"]
)
def test_a_foreign_place_shows_the_first_page(as_viewer: Client, text: str) -> None:
    store_jobs(1)
    assert len(as_viewer.get("/jobs/", {"after": text}).context["jobs"].page) == 1


def test_it_takes_five_queries(
    as_viewer: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    store_jobs(JOBS_PER_PAGE + 1, active=1)
    for query in ("", "?q=nova&tier=quick&region=us-east-1"):
        with django_assert_max_num_queries(FRAME + 5):
            as_viewer.get(f"/jobs/{query}")


def test_a_job_of_one_model_names_it(as_viewer: Client, catalogue: None) -> None:
    start_job([AIModel.objects.get(api_model_id=NOVA)], ["us-east-1"])
    assert "Nova Lite × us-east-1" in as_viewer.get("/jobs/").content.decode()


class TestSelection:
    PATH = "/jobs/selection/"

    @pytest.fixture
    def waiting(self, catalogue: None) -> CertificationJob:
        return start_job([AIModel.objects.get(api_model_id=NOVA)], ["us-east-1", "us-west-2"])

    @pytest.fixture
    def failed(self, catalogue: None) -> CertificationJob:
        """A job whose run ended without a verdict."""
        job = start_job([AIModel.objects.get(api_model_id=NOVA)], ["eu-west-1"])
        job.runs.get().mark_failed(Reason.DNS, "The line was cut.")
        return job

    def test_the_confirmation_lists_what_would_be_cancelled(
        self, as_operator: Client, waiting: CertificationJob, failed: CertificationJob
    ) -> None:
        query = {"action": "cancel", "job": [str(waiting.pk), str(failed.pk), "x", "\0"]}
        response = as_operator.get(self.PATH, query)
        html = " ".join(response.content.decode().split())
        assert "Cancel 2 runs of 1 jobs" in html
        assert "1 chosen job has no such run and is left out." in html
        assert [job.pk for job in response.context["selection"].jobs] == [waiting.pk]
        waiting.refresh_from_db()
        assert waiting.status != State.CANCELLED  # it only asked

    def test_cancelling_says_by_whom(self, as_operator: Client, waiting: CertificationJob) -> None:
        form = {"action": "cancel", "job": str(waiting.pk)}
        html = as_operator.post(self.PATH, form, follow=True).content.decode()
        assert "1 job was cancelled." in html
        messages = set(waiting.runs.values_list("status", "error_message"))
        assert messages == {("CANCELLED", "The job was cancelled by operator@example.org.")}

    def test_retrying_starts_a_job_for_each(
        self, as_operator: Client, waiting: CertificationJob, failed: CertificationJob
    ) -> None:
        form = {"action": "retry", "job": [str(waiting.pk), str(failed.pk)]}
        html = as_operator.post(self.PATH, form, follow=True).content.decode()
        assert "1 new job was started." in html
        assert CertificationJob.objects.count() == 3
        # it runs already: said, and nothing else happens
        html = as_operator.post(self.PATH, form, follow=True).content.decode()
        assert "new job was started" not in html
        assert CertificationJob.objects.count() == 3

    def test_all_that_match_become_a_list(
        self, as_operator: Client, waiting: CertificationJob, failed: CertificationJob
    ) -> None:
        query = {"action": "retry", "all": "1", "status": "FAILED", "page": "9"}
        selection = as_operator.get(self.PATH, query).context["selection"]
        assert [job.pk for job in selection.jobs] == [failed.pk]

    def test_nothing_chosen_changes_nothing(
        self, as_operator: Client, waiting: CertificationJob
    ) -> None:
        for form in ({}, {"action": "cancel"}, {"action": "x", "job": "x"}):
            html = as_operator.post(self.PATH, form, follow=True).content.decode()
            assert "None of these jobs" in html

    def test_viewers_see_no_boxes_and_are_refused(
        self, as_viewer: Client, waiting: CertificationJob
    ) -> None:
        assert as_viewer.get(self.PATH).status_code == 403
        assert as_viewer.post(self.PATH, {"job": str(waiting.pk)}).status_code == 403
        assert "job-selection" not in as_viewer.get("/jobs/").content.decode()
