"""The page that starts certifications: what a choice comes to, what it takes, and that what was
shown is what is started.
"""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django_celery_beat.models import PeriodicTask
from pytest_django import DjangoAssertNumQueries

from certification.engine import schedules
from certification.lib import clock
from certification.models import (
    AIModel,
    CertificationJob,
    CertificationRun,
    ModelCertification,
    QueuePause,
    Region,
    Route,
    User,
)
from certification.monitoring import queue_stats
from certification.reasons import Reason, Status
from certification.web import start
from certification.web.start import Choice
from tests.factories import certify, start_job

pytestmark = pytest.mark.django_db

NOVA, HAIKU = "amazon.nova-lite-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"
CANVAS = "amazon.nova-canvas-v1:0"
FRAGMENT = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_stats.workers, "get", lambda: 1)


def pairs(choice: Choice) -> set[tuple[str, str]]:
    return {(model.api_model_id, region.code) for model, region in start.make_plan(choice).pairs}


def model(model_id: str = NOVA) -> AIModel:
    return AIModel.objects.get(api_model_id=model_id)


def plan_form(page: str) -> dict[str, str]:
    """The hidden fields of the plan's form."""
    form = page[page.index('<form method="post" action="/jobs/new/">') :]
    names = ("pairs", "tier", "priority", "max_cost", "note", "repeat", "key")
    fields = {n: re.search(f'name="{n}" value="([^"]*)"', form) for n in names}
    return {name: match[1] for name, match in fields.items() if match}


class TestChoice:
    def test_models_and_regions_that_are_ticked(self) -> None:
        choice = Choice(models=(NOVA, HAIKU), regions=("us-east-1", "us-west-2"))
        assert pairs(choice) == {(m, r) for m in (NOVA, HAIKU) for r in ("us-east-1", "us-west-2")}

    def test_without_a_region_wherever_a_model_is_offered(self) -> None:
        offered = set(Route.objects.filter(model=model()).values_list("region_id", flat=True))
        assert pairs(Choice(models=(NOVA,))) == {(NOVA, code) for code in offered}

    def test_a_vendor_and_a_geography_stand_for_all_of_theirs(self) -> None:
        result = pairs(Choice(vendors=("Amazon",), geographies=("sa",)))
        assert {region for _model, region in result} == {"sa-east-1"}
        assert {m.split(".")[0] for m, _region in result} == {"amazon"}
        assert len(result) > 1

    def test_not_offered_pairs_are_left_out_unless_asked_for(self) -> None:
        Route.objects.filter(model=model(), region="us-east-1").delete()
        choice = Choice(models=(NOVA,), regions=("us-east-1",))
        assert start.make_plan(choice).not_offered == 1
        assert pairs(choice) == set()
        assert pairs(Choice(models=(NOVA,), regions=("us-east-1",), anywhere=True)) == {
            (NOVA, "us-east-1")
        }

    def test_kinds_without_a_suite_and_active_pairs_are_left_out(self) -> None:
        start_job([model()], ["us-east-1"])
        plan = start.make_plan(Choice(models=(NOVA, CANVAS), regions=("us-east-1",)))
        assert (len(plan.running), plan.without_suite, plan.pairs) == (1, 1, [])

    def test_groups_take_pairs_as_they_stand(self) -> None:
        certify(model(), "us-east-1", Status.FAILED, reason=Reason.GATE_FAILED)
        certify(model(), "us-west-2")
        assert pairs(Choice(preset="failed")) == {(NOVA, "us-east-1")}
        never = pairs(Choice(models=(NOVA,), preset="never"))
        assert never.isdisjoint({(NOVA, "us-east-1"), (NOVA, "us-west-2")})
        assert never
        ModelCertification.objects.filter(region="us-west-2").update(expires_at="2020-01-01T00:00Z")
        assert pairs(Choice(preset="expired")) == {(NOVA, "us-west-2")}
        assert len(pairs(Choice(preset="all"))) > 1000

    def test_given_pairs_are_taken_as_given(self) -> None:
        choice = Choice(pairs=(f"{NOVA}@us-east-1", f"{HAIKU}@us-west-2", f"{NOVA}@us-east-1"))
        assert pairs(choice) == {(NOVA, "us-east-1"), (HAIKU, "us-west-2")}

    def test_unknown_names_are_left_out_and_named(self) -> None:
        choice = Choice(models=(NOVA, "no.such"), regions=("us-east-1", "xx-1"))
        plan = start.make_plan(choice)
        assert list(plan.unknown) == ["no.such", "xx-1"]
        assert len(plan.pairs) == 1
        odd = Choice(models=("a\0b", "\u202e"), pairs=("@", "x", "\0@\0"))
        assert start.make_plan(odd).pairs == []

    @pytest.mark.parametrize(
        ("code", "place"), [("sa-east-1", "sa"), ("us-gov-west-1", "us-gov"), ("us-east-1", "us")]
    )
    def test_geographies(self, code: str, place: str) -> None:
        assert start.geography(code) == place

    def test_every_enabled_region_has_a_named_geography(self) -> None:
        codes = Region.objects.values_list("code", flat=True)
        assert {start.geography(code) for code in codes} <= start.GEOGRAPHIES.keys()


class TestPage:
    def test_the_plan_says_how_many_how_much_and_on_what_basis(self, as_operator: Client) -> None:
        page = as_operator.get(f"/jobs/new/?model={NOVA}&region=us-east-1&tier=quick")
        html = " ".join(page.content.decode().split())
        assert "1 run, about 14 calls" in html
        assert "Start 1 run" in html
        assert "From the suite&#x27;s expected answers and list prices." in html
        assert "not known yet" in html  # the time: nothing ran here

    def test_the_fragment_is_the_plan_alone(self, as_operator: Client) -> None:
        page = as_operator.get(f"/jobs/new/?model={NOVA}", headers=FRAGMENT)
        assert page.content.decode().strip().startswith('<section id="plan"')

    def test_nothing_chosen_starts_nothing(self, as_operator: Client) -> None:
        html = as_operator.get("/jobs/new/").content.decode()
        assert "Choose at least one model" in html
        assert 'name="pairs"' not in html

    def test_it_takes_few_queries(
        self, as_operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_max_num_queries(15):
            assert as_operator.get("/jobs/new/?preset=all").status_code == 200

    def test_a_large_plan_is_counted_by_vendor(self, as_operator: Client) -> None:
        html = as_operator.get("/jobs/new/?preset=all", headers=FRAGMENT).content.decode()
        assert "<table" not in html
        assert "<dt>Anthropic</dt>" in html

    def test_what_would_keep_it_waiting_is_said_before(
        self, as_operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue_stats.workers, "get", lambda: 0)
        QueuePause.objects.create(backend="emulator", error_reason=Reason.CREDENTIALS_EXPIRED)
        html = as_operator.get(f"/jobs/new/?model={NOVA}&priority=bulk").content.decode()
        assert "No worker is running" in html
        assert "The queue is paused because AWS refused the credentials" in html

    @pytest.mark.parametrize(
        ("limit", "words"), [("0.0001", "over the limit"), ("x", "not a number")]
    )
    def test_a_cost_limit_stops_it_before_it_starts(
        self, as_operator: Client, limit: str, words: str
    ) -> None:
        query = {"model": NOVA, "region": "us-east-1", "max_cost": limit}
        html = as_operator.get("/jobs/new/", query).content.decode()
        assert words in html
        assert "disabled" in html


class TestStart:
    def test_what_was_shown_is_started(self, as_operator: Client) -> None:
        page = as_operator.get(f"/jobs/new/?model={NOVA}&geo=us&tier=quick").content.decode()
        shown = plan_form(page)
        Route.objects.filter(model=model(), region="us-west-2").delete()  # after it was shown
        response = as_operator.post("/jobs/new/", shown, follow=True)
        job = CertificationJob.objects.get()
        assert response.redirect_chain[0][0] == f"/jobs/{job.pk}/"
        assert {f"{NOVA}@{r.region_id}" for r in job.runs.all()} == set(shown["pairs"].split())
        assert job.tier == "quick"
        assert job.created_by is not None
        assert f"The job was started with {job.total_runs} run" in response.content.decode()

    def test_a_job_has_a_note_and_is_repeated(self, as_operator: Client, operator: User) -> None:
        query = (
            f"model={NOVA}&region=us-east-1&tier=quick&note=before+%3Cgo-live%3E%00&repeat=weekly"
        )
        page = as_operator.get(f"/jobs/new/?{query}").content.decode()
        assert 'value="before &lt;go-live&gt;' in page
        fields = {name: html.unescape(value) for name, value in plan_form(page).items()}
        for _ in range(2):  # pressed twice
            as_operator.post("/jobs/new/", fields)
        job = CertificationJob.objects.get()
        assert job.note.startswith("before <go-live>")
        task = PeriodicTask.objects.get(task=schedules.certify_scheduled.name)
        assert (task.enabled, task.description) == (True, job.note)
        assert job.created_at.minute - int(task.crontab.minute) in (0, 1, -59)
        assert task.crontab.day_of_week != "*"
        job.cancel()
        schedules.certify_scheduled(**json.loads(task.kwargs))
        again = CertificationJob.objects.exclude(pk=job.pk).get()
        assert (again.tier, again.note, again.created_by) == ("quick", job.note, operator)
        assert again.runs.get().region_id == "us-east-1"

    def test_a_schedule_ends_with_the_rights_of_its_user(self, operator: User) -> None:
        arguments: dict[str, Any] = {"pairs": [[NOVA, "us-east-1"]], "tier": "quick"}
        operator.groups.clear()
        schedules.certify_scheduled(**arguments, by=operator.pk)
        schedules.certify_scheduled(**arguments, by=operator.pk + 1)
        unknown = [["nobody", "us-east-1"], [NOVA, "mars-1"]]
        schedules.certify_scheduled(pairs=unknown, tier="quick")
        assert not CertificationJob.objects.exists()

    @pytest.mark.parametrize(
        ("repeat", "day_of_week", "day_of_month"),
        [("daily", "*", "*"), ("weekly", "0", "*"), ("monthly", "*", "28")],
    )
    def test_schedules_begin_now(
        self, repeat: str, day_of_week: str, day_of_month: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sunday = datetime(2026, 5, 31, 14, 7, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: sunday)
        schedule = schedules.crontab_from_now(repeat)
        assert (schedule._orig_hour, schedule._orig_minute) == (14, 7)
        assert str(schedule._orig_day_of_week) == day_of_week
        assert str(schedule._orig_day_of_month) == day_of_month

    def test_pressing_twice_starts_once(self, as_operator: Client) -> None:
        form = plan_form(as_operator.get(f"/jobs/new/?pair={NOVA}@us-east-1").content.decode())
        first = as_operator.post("/jobs/new/", form)
        second = as_operator.post("/jobs/new/", form)
        assert first["Location"] == second["Location"]
        assert CertificationRun.objects.count() == 1

    def test_an_error_starts_nothing_and_keeps_the_choice(self, as_operator: Client) -> None:
        start_job([model()], ["us-east-1"])
        data = {"pairs": f"{NOVA}@us-east-1", "tier": "quick", "key": "k"}
        response = as_operator.post("/jobs/new/", data)
        html = response.content.decode()
        assert response.status_code == 409
        assert "Nothing was started." in html
        assert f'name="pair" value="{NOVA}@us-east-1"' in html
        assert CertificationJob.objects.count() == 1

    @pytest.mark.parametrize(
        "data",
        [
            {},
            {"pairs": ""},
            {"pairs": "x"},
            {"pairs": "a@b c@d"},
            {"pairs": f"{NOVA}@us-east-1", "max_cost": "-1"},
            {"pairs": f"{NOVA}@us-east-1", "max_cost": "nan"},
            {"pairs": f"{NOVA}@us-east-1", "max_cost": "1e999"},
            {"pairs": f"{NOVA}@us-east-1", "key": "\x01"},
        ],
    )
    def test_odd_forms_get_a_sentence(self, as_operator: Client, data: dict[str, Any]) -> None:
        response = as_operator.post("/jobs/new/", data)
        assert response.status_code == 409
        assert not CertificationJob.objects.exists()

    def test_a_viewer_may_not(self, as_viewer: Client) -> None:
        assert as_viewer.get("/jobs/new/").status_code == 403
        assert as_viewer.post("/jobs/new/", {"pairs": f"{NOVA}@us-east-1"}).status_code == 403
        assert "/jobs/new/" not in as_viewer.get("/jobs/").content.decode()


class TestJobs:
    def test_active_ones_come_first_and_say_what_they_certify(self, as_viewer: Client) -> None:
        running = start_job([model()], ["us-east-1"])
        certify(model(), "us-west-2")
        html = " ".join(as_viewer.get("/jobs/").content.decode().split())
        assert html.index(str(running.pk)) < html.index("Nova Lite × us-west-2")
        assert "Running: 0. Waiting: 1" in html

    @pytest.mark.parametrize(
        ("query", "result"),
        [
            ("status=COMPLETED", 1),
            ("status=CANCELLED", 0),
            ("status=nonsense", 2),
            ("tier=quick", 2),
            ("tier=full", 0),
            ("backend=aws", 0),
            ("q=nova-lite", 2),
            ("q=no-such", 0),
            ("q=%00", 2),
            ("page=99", 2),
            ("type=SINGLE_MODEL", 2),
            ("type=ALL_MODELS", 0),
            ("priority=bulk", 0),
            ("region=us-west-2", 1),
            ("region=%00", 2),
            ("has=no_verdict", 0),
            ("from=2020-01-01&to=2999-12-31", 2),
            ("from=2999-12-31", 0),
            ("to=2020-01-01", 0),
            ("from=2020-13-45&to=%00", 2),
        ],
    )
    def test_filters(self, as_viewer: Client, query: str, result: int) -> None:
        start_job([model()], ["us-east-1"])
        certify(model(), "us-west-2")
        html = as_viewer.get(f"/jobs/?{query}").content.decode()
        assert html.count('<span class="id">') == result
        assert ("No job matches" in html) == (not result)

    def test_jobs_that_ended_without_a_verdict_are_said_and_found(self, as_viewer: Client) -> None:
        certify(model(), "us-west-2", "", reason=Reason.READ_TIMEOUT)
        html = as_viewer.get("/jobs/?has=no_verdict").content.decode()
        assert "1 job ended without a verdict today." in html
        assert html.count('<span class="id">') == 1

    def test_an_unchanged_list_is_not_sent_again(self, as_viewer: Client) -> None:
        first = as_viewer.get("/jobs/")
        known = {"Page-Version": first.context["version"], **FRAGMENT}
        assert as_viewer.get("/jobs/", headers=known).status_code == 204
        start_job([model()], ["us-east-1"])
        assert as_viewer.get("/jobs/", headers=known).status_code == 200

    def test_a_job_is_found_by_its_id(self, as_viewer: Client) -> None:
        job = start_job([model()], ["us-east-1"])
        certify(model(), "us-west-2")
        html = as_viewer.get(f"/jobs/?q={str(job.pk)[:13]}").content.decode()
        assert html.count('<span class="id">') == 1

    def test_none_yet(self, as_viewer: Client, as_operator: Client) -> None:
        assert "No job yet" in as_viewer.get("/jobs/").content.decode()

    def test_the_number_of_jobs_changes_no_number_of_queries(
        self, as_viewer: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for region in ("us-east-1", "us-west-2", "eu-central-1"):
            certify(model(), region)
        as_viewer.get("/jobs/")
        with django_assert_max_num_queries(11):
            as_viewer.get("/jobs/")
