"""Who keeps the system: escalation, checklists with records, training, documents and reviews."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from certification.lib import clock
from certification.models import (
    AuditEntry,
    ChecklistRecord,
    Contact,
    DocumentReview,
    Drill,
    TrainingTick,
    User,
)
from certification.operations.documents import (
    CERTIFICATE,
    CHECKLISTS,
    DOCUMENTS,
    DRILLS_OF,
    POINTS,
    STEPS,
)

pytestmark = pytest.mark.django_db
DAILY = "/operations/checklists/daily/"
TRAINING = "/operations/training/"


def html_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def html_after(client: Client, path: str, form: dict[str, str] | None = None) -> str:
    return client.post(path, form or {}, follow=True).content.decode()


class TestPeople:
    def test_the_matrix_has_four_levels_with_their_minutes_and_contacts(
        self, as_viewer: Client, settings: Any
    ) -> None:
        settings.ALERT_ESCALATION_MINUTES = (17, 61, 241)
        Contact.objects.create(level=3, name="<b>Ana", reach="+55 11 5555")
        html = html_of(as_viewer, "/operations/people/")
        for words in ("L1 ", "L4 ", "17 min", "61 min", "241 min", "&lt;b&gt;Ana", "+55 11 5555"):
            assert words in html
        assert "/admin/" not in html
        assert "/review/" not in html

    def test_an_administrator_edits_contacts_and_that_is_recorded(
        self, as_administrator: Client, as_operator: Client
    ) -> None:
        form = {"level": "2", "name": "Rui", "reach": "#on-call", "hours": "", "order": "0"}
        path = "/admin/certification/contact/add/"
        assert as_administrator.post(path, form).status_code == 302
        assert Contact.objects.get().name == "Rui"
        assert AuditEntry.objects.filter(kind="contact", action="created").count() == 1
        assert as_operator.post(path, form).status_code == 403
        assert "Edit the contacts" in html_of(as_administrator, "/operations/people/")

    def test_a_document_whose_review_is_late_says_so_until_it_is_read(
        self,
        as_operator: Client,
        as_viewer: Client,
        operator: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        newest = max(document.date for document in DOCUMENTS.values())
        soon = datetime.combine(newest, time(12), UTC)
        monkeypatch.setattr(clock, "now", lambda: soon)
        assert "</b> overdue" not in html_of(as_viewer, "/operations/people/")
        later = soon + timedelta(days=200)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert html_of(as_viewer, "/operations/people/").count("</b> overdue") == len(DOCUMENTS)
        path = "/operations/documents/runbooks/review/"
        assert as_viewer.post(path).status_code == 403
        assert as_operator.post("/operations/documents/none/review/").status_code == 404
        as_operator.post(path, {"note": "fine"})
        review = DocumentReview.objects.get()
        assert (review.by, review.version) == (operator.email, DOCUMENTS["runbooks"].version)
        DocumentReview.objects.update(at=later)
        html = html_of(as_viewer, "/operations/people/")
        assert html.count("</b> overdue") == len(DOCUMENTS) - 1

    def test_every_document_is_a_page(self, as_viewer: Client) -> None:
        for document in DOCUMENTS.values():
            html_of(as_viewer, document.address)


class TestChecklists:
    @pytest.mark.parametrize("name", CHECKLISTS)
    def test_each_has_its_page_with_every_point(self, as_viewer: Client, name: str) -> None:
        html = html_of(as_viewer, f"/operations/checklists/{name}/")
        assert html.count('<li class="cause">') == len(CHECKLISTS[name].items)
        assert "<form" not in html.split("<main")[1].split("</main")[0]

    @pytest.mark.parametrize(
        ("name", "first"),
        [
            ("daily", date(2026, 8, 20)),
            ("weekly", date(2026, 8, 17)),
            ("monthly", date(2026, 8, 1)),
            ("quarterly", date(2026, 7, 1)),
        ],
    )
    def test_a_period_begins(self, name: str, first: date) -> None:
        assert CHECKLISTS[name].begins(date(2026, 8, 20)) == first

    def test_points_are_ticked_with_who_when_and_a_note_and_signed_when_complete(
        self, as_operator: Client, as_viewer: Client, as_administrator: Client, operator: User
    ) -> None:
        assert as_viewer.post(f"{DAILY}tick/").status_code == 403
        form = {"tick-health": "1", "note-health": "one <restart>", "tick-nosuch": "1"}
        assert "1 point is ticked." in html_after(as_operator, f"{DAILY}tick/", form)
        assert "Nothing new was ticked." in html_after(as_administrator, f"{DAILY}tick/", form)
        html = html_of(as_viewer, DAILY)
        assert "one &lt;restart&gt;" in html
        assert operator.email in html
        assert "Tick every point" in html_after(as_operator, f"{DAILY}sign/")
        rest = {f"tick-{item.name}": "1" for item in CHECKLISTS["daily"].items}
        html_after(as_administrator, f"{DAILY}tick/", rest)
        assert "The checklist is signed." in html_after(as_operator, f"{DAILY}sign/")
        assert "It was signed already." in html_after(as_administrator, f"{DAILY}sign/")
        record = ChecklistRecord.objects.get()
        assert (record.signed_by, record.ticks.count()) == (operator.email, 5)
        assert {tick.by for tick in record.ticks.all()} == {
            operator.email, "administrator@example.org",
        }  # fmt: skip
        assert "signed by" in html_of(as_viewer, "/operations/people/")
        assert as_operator.post("/operations/checklists/none/tick/").status_code == 404

    def test_an_incomplete_one_is_signed_with_a_reason_and_then_closed(
        self, as_operator: Client
    ) -> None:
        as_operator.post(f"{DAILY}sign/", {"note": "no\0 time"})
        record = ChecklistRecord.objects.get()
        assert record.note == "no time"
        assert "Nothing new" in html_after(as_operator, f"{DAILY}tick/", {"tick-health": "1"})

    def test_records_of_earlier_periods_are_listed_in_pages(self, as_viewer: Client) -> None:
        today = clock.now().date()
        for ago in range(1, 24):
            record = ChecklistRecord.begin("daily", today - timedelta(days=ago))
            record.tick("health", "b@example.org", "<i>")
        html = html_of(as_viewer, DAILY)
        assert "1 to 20 of 23" in html
        assert "&lt;i&gt;" in html
        assert "21 to 23 of 23" in html_of(as_viewer, f"{DAILY}?page=2")


class TestTraining:
    def test_it_has_three_days_twelve_steps_and_six_points(self, as_viewer: Client) -> None:
        assert (len(STEPS), len(POINTS)) == (12, 6)
        assert set(DRILLS_OF) <= set(STEPS) | set(POINTS)
        html = html_of(as_viewer, TRAINING)
        assert html.count('<li class="cause">') == 18
        assert html.count('id="day-') == 3

    def test_an_operator_notes_steps_and_another_one_confirms_points(
        self,
        as_operator: Client,
        as_administrator: Client,
        as_viewer: Client,
        operator: User,
        administrator: User,
    ) -> None:
        tick, confirm = f"{TRAINING}tick/", f"{TRAINING}confirm/"
        assert as_viewer.post(tick, {"step": "guide"}).status_code == 403
        for step in ("guide", "guide", "drills", "none"):
            as_operator.post(tick, {"step": step})
        assert [t.step for t in TrainingTick.objects.all()] == ["guide"]
        point = {"person": operator.email, "point": "interprets"}
        assert "Another operator confirms" in html_after(as_operator, confirm, point)
        as_administrator.post(confirm, point | {"person": "viewer@example.org"})
        as_administrator.post(confirm, point | {"point": "recovers"})
        assert TrainingTick.objects.count() == 1
        for item in CERTIFICATE:
            as_administrator.post(confirm, point | {"point": item.name})
        TrainingTick.add(operator.email, "recovers")  # what drills prove
        html = html_of(as_administrator, f"{TRAINING}?person={operator.email}")
        assert f"{operator.email} is a certified operator." in html
        assert administrator.email in html
        assert "by drills that were passed" in html
        Drill.objects.create(scenario="access", person=operator.email)
        assert "on now" in html_of(as_operator, f"{TRAINING}?person=nobody")
        assert reverse("training-confirm") not in html_of(as_operator, TRAINING)
