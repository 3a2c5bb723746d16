"""The first page: what needs somebody, what runs, what changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from certification.lib import clock
from certification.lib.shared_cache import ComputedValue
from certification.models import (
    AIModel,
    ModelCertification,
    QueuePause,
    User,
)
from certification.monitoring import queue_stats
from certification.reasons import Reason, Status
from certification.web import attention, matrix_filters, overview
from certification.web.overview import Overview
from tests.factories import certify, earlier_run, finish, start_job

pytestmark = pytest.mark.django_db
FRAGMENT = {"HX-Request": "true"}
SESSION_USER_AND_ROLE = 3
HEADER = 1  # open alerts and read-only mode


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing cached, and two workers that nobody needs to ask."""
    overview.figures.forget()
    monkeypatch.setattr(queue_stats.workers, "get_soon", lambda: 2)
    yield
    overview.figures.forget()


@pytest.fixture
def models(catalogue: None) -> list[AIModel]:
    """Three models that are offered in us-east-1."""
    rows = AIModel.objects.active().filter(kind="text", routes__region="us-east-1").distinct()
    return list(rows[:3])


def page_of(client: Client, path: str = "/") -> Overview:
    response = client.get(path)
    assert response.status_code == 200, response.status_code
    page: Overview = response.context["page"]
    return page


def html_of(client: Client, path: str = "/", **options: Any) -> str:
    return str(client.get(path, **options).content.decode())


class TestAddress:
    def test_it_wants_a_login(self, client: Client) -> None:
        assert client.get("/").headers["Location"] == "/login/?next=/"

    @pytest.mark.parametrize("parameter", sorted(matrix_filters.PARAMETERS))
    def test_an_address_of_the_matrix_leads_to_it(self, as_viewer: Client, parameter: str) -> None:
        response = as_viewer.get(f"/?{parameter}=a%20b&vendor=Meta")
        assert response.status_code == 301
        assert response.headers["Location"].startswith("/matrix/?")
        assert f"{parameter}=a+b" in response.headers["Location"]

    @pytest.mark.parametrize(
        ("text", "days"), [("1", 1), ("30", 30), ("0", 7), ("91", 7), ("", 7), ("x", 7), ("٣", 7)]
    )
    def test_the_parameter_days_is_the_period(
        self, as_viewer: Client, text: str, days: int
    ) -> None:
        assert page_of(as_viewer, f"/?days={text}").days == days


class TestFirstDay:
    def test_an_empty_catalogue_shows_three_steps(
        self, as_viewer: Client, empty_catalogue: None
    ) -> None:
        page = page_of(as_viewer)
        assert [done for _what, _command, done in page.steps] == [False, True, False]
        html = html_of(as_viewer)
        assert "manage.py load_catalogue" in html
        assert "Operators can start certifications." in html

    def test_a_loaded_catalogue_has_done_the_first(
        self, as_operator: Client, catalogue: None
    ) -> None:
        html = html_of(as_operator)
        assert "manage.py load_catalogue" not in html
        assert "manage.py certify MODEL --regions us-east-1" in html
        assert 'href="/jobs/new/"' in html

    def test_it_ends_with_the_first_result(self, as_viewer: Client, models: list[AIModel]) -> None:
        certify(models[0], "us-east-1")
        assert "First steps" not in html_of(as_viewer)


class TestAttention:
    def test_nothing_needs_you_says_when_that_was_checked(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1")
        page = page_of(as_viewer)
        assert page.causes == []
        assert page.sentence.startswith("Nothing needs attention; 1 of ")
        assert page.sentence.endswith("pairs are usable; nothing is waiting.")
        assert "Checked:" in html_of(as_viewer)

    def test_refusals_are_grouped_by_cause_with_who_acts_and_for_how_long(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        for model in models[:2]:
            certify(model, "us-east-1", Status.PERMISSION_REQUIRED, reason=Reason.USE_CASE_FORM)
        [cause] = [c for c in page_of(as_viewer).causes if "reason=use_case_form" in c.url]
        assert cause.title == "Use case form not submitted"
        assert cause.scope.startswith("2 pairs in 1 region: ")
        assert str(cause.who) == "AWS account administrator"
        assert cause.wait
        assert cause.since is not None
        assert cause.url == "/matrix/?status=permission_required&reason=use_case_form"

    def test_each_link_leads_to_the_pairs_it_counts(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1", Status.PERMISSION_REQUIRED, reason=Reason.IAM_DENIED)
        certify(models[1], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        for cause in page_of(as_viewer).causes:
            if cause.url.startswith("/matrix/"):
                rows = as_viewer.get(cause.url).context["matrix"].page
                assert len(rows) == cause.count

    def test_a_paused_queue_is_the_worst_and_quotes_aws(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        QueuePause.objects.create(
            backend="emulator",
            error_category="AUTHENTICATION_ERROR",
            error_reason=Reason.CREDENTIALS_EXPIRED,
            message="The security token <included> is expired",
        )
        page = page_of(as_viewer)
        assert page.causes[0].severity == attention.CRITICAL
        html = html_of(as_viewer)
        assert "&lt;included&gt;" in html
        assert "<included>" not in html
        QueuePause.objects.update(resumed_at=timezone.now())
        assert all(cause.severity != attention.CRITICAL for cause in page_of(as_viewer).causes)

    def test_no_worker_is_critical(
        self, as_viewer: Client, models: list[AIModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue_stats.workers, "get_soon", lambda: 0)
        assert page_of(as_viewer).causes[0].title == "No worker is running"

    def test_expired_and_expiring_pairs_are_one_cause(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1")
        certify(models[1], "us-east-1")
        now = timezone.now()
        rows = ModelCertification.objects
        rows.filter(model=models[0]).update(expires_at=now - timedelta(hours=1))
        rows.filter(model=models[1]).update(expires_at=now + timedelta(days=3))
        [cause] = page_of(as_viewer).causes
        assert cause.scope == "1 expired, 1 expire within 7 days"
        assert cause.url == "/matrix/?status=expired"
        rows.filter(model=models[0]).delete()
        [cause] = page_of(as_viewer).causes
        assert cause.url == "/matrix/?status=expiring"
        assert len(as_viewer.get(cause.url).context["matrix"].page) == 1

    def test_a_model_that_aws_retires_soon_is_named(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        AIModel.objects.exclude(end_of_life_on=None).update(end_of_life_on=None)
        soon = date.today() + timedelta(days=20)
        AIModel.objects.filter(pk=models[0].pk).update(end_of_life_on=soon)
        [cause] = page_of(as_viewer).causes
        assert cause.title == "AWS retires 1 model within 30 days"
        assert cause.scope == f"{models[0].name} ({soon.isoformat()})"

    def test_runs_without_a_verdict_are_counted_by_reason(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1")
        certify(models[0], "us-east-1", Status.PENDING, reason=Reason.THROTTLED_REQUESTS)
        [cause] = page_of(as_viewer).causes
        assert cause.title == "1 run ended without a verdict"
        assert "too many requests 1" in cause.scope

    def test_more_than_eight_wait_behind_all(
        self, as_viewer: Client, models: list[AIModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        groups = [
            attention.StatusGroup("failed", reason, 1, 1, 1, ["A"], None, 0, 0, 0)
            for reason in list(Reason)[:10]
        ]
        monkeypatch.setattr(overview, "read_groups", lambda now: groups)
        page = page_of(as_viewer)
        assert len(page.first_causes) == 8
        assert len(page.other_causes) >= 2

    def test_viewers_see_no_action_that_would_be_refused(
        self, as_viewer: Client, as_operator: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        assert "/jobs/new/?preset=failed" not in html_of(as_viewer)
        assert "/jobs/new/?preset=failed" in html_of(as_operator)


class TestDismissal:
    def test_what_one_has_seen_is_set_aside_for_them_until_it_changes(
        self, as_viewer: Client, as_operator: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        [cause] = page_of(as_viewer).causes
        form = {"key": cause.key, "state": cause.state}
        response = as_viewer.post("/dismiss/", form, follow=True)
        page = response.context["page"]
        assert page.causes == []
        assert page.sentence.startswith("Nothing needs attention")
        assert "1 that you have seen" in response.content.decode()
        assert len(page_of(as_operator).causes) == 1
        certify(models[1], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        assert len(page_of(as_viewer).causes) == 1

    def test_it_can_be_shown_again(self, as_viewer: Client, models: list[AIModel]) -> None:
        certify(models[0], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        [cause] = page_of(as_viewer).causes
        as_viewer.post("/dismiss/", {"key": cause.key, "state": cause.state})
        as_viewer.post("/dismiss/", {"key": cause.key, "again": "1"})
        assert page_of(as_viewer).causes == [cause]

    @pytest.mark.parametrize(
        "form", [{}, {"key": "\0"}, {"key": "x" * 500, "state": "y" * 500}, {"again": "1"}]
    )
    def test_no_form_is_too_strange(
        self, as_viewer: Client, catalogue: None, form: dict[str, str]
    ) -> None:
        assert as_viewer.post("/dismiss/", form).status_code == 302


class TestRunningJobs:
    def test_a_running_job_shows_its_verdicts_and_polls_often(
        self, as_viewer: Client, models: list[AIModel], operator: User
    ) -> None:
        job = start_job(models, ["us-east-1"], by=operator)
        finish(job.runs.get(model=models[0]), Status.CERTIFIED)
        page = page_of(as_viewer)
        [row] = page.running.value or []
        assert row.sentence == "1 of 3 runs finished: 1 certified"
        assert [(status, round(width)) for status, _x, width in row.bar] == [("certified", 33)]
        assert page.sentence.endswith("2 runs waiting.")
        html = html_of(as_viewer)
        assert f"/jobs/{job.pk}/" in html
        assert 'data-poll="3"' in html

    def test_without_one_it_polls_seldom(self, as_viewer: Client, models: list[AIModel]) -> None:
        certify(models[0], "us-east-1")
        assert 'data-poll="15"' in html_of(as_viewer)


class TestChanges:
    def test_a_pair_that_got_worse_is_first_and_needs_attention(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        failed = certify(models[0], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        earlier_run(failed, Status.CERTIFIED, days=20)
        earlier_run(certify(models[1], "us-east-1"), Status.CERTIFIED, days=20)
        certify(models[2], "us-east-1")
        page = page_of(as_viewer)
        assert page.changes.value is not None
        worse, new = page.changes.value.rows
        assert (worse.row.model_id, worse.before, worse.after) == (
            models[0].pk, "certified", "failed",
        )  # fmt: skip
        assert (new.row.model_id, new.before, new.after) == (models[2].pk, "", "certified")
        assert page.changes.value.worse == 1
        [cause] = [cause for cause in page.causes if "since=7d" in cause.url]
        assert cause.title == "1 pair got worse"
        assert "worse" in html_of(as_viewer)

    def test_a_longer_period_starts_from_nothing(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        old = earlier_run(certify(models[0], "us-east-1"), Status.CERTIFIED, days=20)
        ModelCertification.objects.update(run=old)
        week, month = (page_of(as_viewer, f"/?days={n}").changes.value for n in (7, 30))
        assert week is not None
        assert month is not None
        assert (len(week.rows), len(month.rows)) == (0, 1)

    def test_only_what_may_have_changed_is_looked_at(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        """A pair whose status is older than the period, or that was rejudged within it."""
        now = clock.now()
        stable, rejudged = (certify(models[n], "us-east-1") for n in (0, 1))
        old = now - timedelta(days=30)
        ModelCertification.objects.update(status_since=old)
        for run in (stable, rejudged):
            earlier_run(run, Status.CERTIFIED, days=20)
        assert ModelCertification.rejudge(rejudged, Status.FAILED, 10, "F")
        certify(models[0], "us-east-1")  # as before: since when stays
        since = dict(ModelCertification.objects.values_list("model", "status_since"))
        assert since[models[0].pk] == old
        assert since[models[1].pk] > now
        candidates = ModelCertification.objects.may_have_changed_since(now - timedelta(days=7), now)
        assert [pair.model_id for pair in candidates] == [models[1].pk]
        ModelCertification.objects.filter(model=models[0]).update(status_since=None)
        assert candidates.all().count() == 2
        certify(models[0], "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        row = ModelCertification.objects.get(model=models[0])
        assert row.status_since == row.last_tested_at


class TestBlocks:
    @pytest.mark.parametrize(
        "name",
        ["read_groups", "read_running", "read_changes", "read_dismissals"],
    )
    def test_a_block_that_cannot_be_read_says_so_and_the_others_stand(
        self, as_viewer: Client, models: list[AIModel], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        certify(models[0], "us-east-1")

        def broken(*_: Any) -> None:
            raise RuntimeError("no such column")

        monkeypatch.setattr(overview, name, broken)
        html = html_of(as_viewer)
        assert "This part could not be read" in html
        assert "Workers" in html
        assert "no such column" not in html

    def test_the_queue_and_the_figures_too(
        self, as_viewer: Client, models: list[AIModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(**_: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(queue_stats, "active_counts", broken)
        unreadable = ComputedValue("x", overview.Figures, lambda _: 60, broken)
        monkeypatch.setattr(overview, "figures", unreadable)
        assert "This part could not be read" in html_of(as_viewer)


class TestLive:
    def test_an_unchanged_page_answers_nothing_and_a_changed_one_its_part(
        self, as_viewer: Client, models: list[AIModel]
    ) -> None:
        certify(models[0], "us-east-1")
        version = page_of(as_viewer).version
        headers = FRAGMENT | {"Page-Version": version}
        assert as_viewer.get("/", headers=headers).status_code == 204
        certify(models[1], "us-east-1")
        answer = as_viewer.get("/", headers=headers)
        assert answer.status_code == 200
        assert answer.content.decode().lstrip().startswith("<div")

    def test_it_takes_at_most_ten_queries_however_much_there_is(
        self,
        as_viewer: Client,
        models: list[AIModel],
        operator: User,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:
        for model in models:
            certify(model, "us-east-1")
            certify(model, "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        start_job(models, ["us-east-1"], by=operator)
        start_job(models, ["us-west-2"])
        with django_assert_max_num_queries(10 + HEADER + SESSION_USER_AND_ROLE):
            html_of(as_viewer)
        with django_assert_max_num_queries(
            7 + HEADER + SESSION_USER_AND_ROLE
        ):  # its figures are shared
            html_of(as_viewer)


class TestTheme:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [("dark", "dark"), ("light", "light"), ("auto", "auto"), ("<", "auto")],
    )
    def test_a_theme_is_stored_in_a_cookie(self, client: Client, value: str, expected: str) -> None:
        response = client.post("/theme/", {"theme": value, "next": "/login/"})
        assert response.headers["Location"] == "/login/"
        assert f'data-theme="{expected}"' in html_of(client, "/login/")

    @pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "", "\\evil"])
    def test_it_returns_to_this_site_only(self, client: Client, target: str) -> None:
        response = client.post("/theme/", {"theme": "dark", "next": target})
        assert response.headers["Location"] == "/"

    def test_it_takes_no_get(self, client: Client) -> None:
        assert client.get("/theme/").status_code == 405
