"""The tabs of the Operations page on routines, their reports and actions, and the audit trail."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from certification.engine import queue
from certification.lib import clock
from certification.models import AuditEntry, NextAction, User
from certification.operations import reports, tasks
from certification.operations.routines import ROUTINES

pytestmark = pytest.mark.django_db
ROUTINES_TAB, AUDIT_TAB = "/operations/?tab=routines", "/operations/?tab=audit"


def html_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def store(task_id: str, result: Any, hours_ago: float = 0) -> TaskResult:
    row = TaskResult.objects.create(
        task_id=task_id, task_name=tasks.run_routine.name, status="SUCCESS", result=result
    )
    at = clock.now() - timedelta(hours=hours_ago)
    TaskResult.objects.filter(pk=row.pk).update(date_done=at)
    return row


def report(routine: str = "daily", **steps: tuple[bool, float, str]) -> str:
    rows = [
        {"step": name, "well": well, "seconds": seconds, "text": text}
        for name, (well, seconds, text) in steps.items()
    ]
    well = all(row["well"] for row in rows)
    seconds = sum(seconds for _well, seconds, _text in steps.values())
    return json.dumps(
        {"routine": routine, "seconds": seconds, "budgetSeconds": 300, "well": well, "steps": rows}
    )


class TestRoutines:
    def test_the_tab_has_every_routine_with_its_result_its_time_and_when_it_is_due(
        self, as_viewer: Client
    ) -> None:
        store("first", report(backup=(True, 12.0, "made")), hours_ago=24)
        store("second", report(backup=(True, 30.0, "made"), cleanup=(False, 1.0, "<b>full")))
        html = html_of(as_viewer, ROUTINES_TAB)
        assert all(f"<strong>{name}</strong>" in html for name in ROUTINES)
        assert "31.0 s of 5 min 00 s" in html
        assert html.count("never ran") == len(ROUTINES) - 1
        assert "/operations/routines/daily/run/" not in html
        before = clock.now().replace(microsecond=0)
        due = reports.due()
        assert due.keys() == ROUTINES.keys()
        assert all(moment >= before for moment in due.values())

    def test_reports_have_pages_and_a_filter(self, as_viewer: Client) -> None:
        for number in range(30):
            store(f"d{number}", report(backup=(True, 1, "")), hours_ago=number)
        store("m", report("monthly", backup=(True, 1, "")))
        assert "1 to 25 of 31" in html_of(as_viewer, ROUTINES_TAB)
        assert "26 to 30 of 30" in html_of(as_viewer, f"{ROUTINES_TAB}&routine=daily&page=2")
        assert "1 to 25 of 31" in html_of(as_viewer, f"{ROUTINES_TAB}&routine=no&page=x")

    def test_a_report_shows_its_steps_against_the_time_before(self, as_viewer: Client) -> None:
        store("first", report(backup=(True, 12.0, "first copy")), hours_ago=24)
        store("between", json.dumps({"routine": "daily", "well": True, "skipped": "at work"}), 12)
        store("second", report(backup=(False, 30.0, "<b>no room"), more=(True, 1.0, "")))
        html = html_of(as_viewer, "/operations/reports/second/")
        assert "1 of 2 steps failed." in html
        assert "&lt;b&gt;no room" in html
        assert "first copy" in html
        assert "It was left out" in html_of(as_viewer, "/operations/reports/between/")
        assert as_viewer.get("/operations/reports/none/").status_code == 404

    @pytest.mark.parametrize(
        "result",
        [
            None, "", "not JSON", "[]", "3", '{"steps": 3}', '{"steps": [1, {}, {"seconds": "x"}]}',
            '{"routine": ["x"], "well": 1, "seconds": true, "steps": {"a": 1}}',
            '{"exc_type": "KeyError", "exc_message": ["<b>"], "exc_module": "builtins"}',
            '{"exc_type": null, "exc_message": "text"}',
        ],
    )  # fmt: skip
    def test_whatever_a_result_holds_is_shown(self, as_viewer: Client, result: Any) -> None:
        store("x", result)
        assert "<b>" not in html_of(as_viewer, "/operations/reports/x/").split("<main")[1].replace(
            '<b aria-hidden="true">', ""
        )
        html_of(as_viewer, ROUTINES_TAB)

    def test_the_admins_schedule_says_when_it_is_due(self) -> None:
        crontab = CrontabSchedule.objects.create(minute="5", hour="4")
        every = {"crontab": crontab, "task": tasks.run_routine.name}
        PeriodicTask.objects.create(name="a", args='["daily"]', **every)
        PeriodicTask.objects.create(name="b", args='["weekly"]', enabled=False, **every)
        PeriodicTask.objects.create(name="c", args="{", **every)
        due = reports.due()
        assert (due["daily"].minute, due["daily"].hour) == (5, 4)
        assert "weekly" not in due

    def test_an_operator_has_one_run_now(
        self, as_operator: Client, as_viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[Any] = []
        monkeypatch.setattr(queue, "ping_broker", lambda: None)
        monkeypatch.setattr(
            tasks.run_routine, "apply_async", lambda args, **_options: sent.append(args)
        )
        path = "/operations/routines/hourly/run/"
        assert path in html_of(as_operator, ROUTINES_TAB)
        assert as_operator.post(path)["Location"] == ROUTINES_TAB
        assert as_viewer.post(path).status_code == 403
        assert as_operator.get(path).status_code == 405
        assert as_operator.post("/operations/routines/nosuch/run/").status_code == 404
        assert sent == [("hourly",)]
        assert [entry.action for entry in AuditEntry.objects.all()] == ["routine-run"]

    def test_a_queue_that_is_away_is_a_sentence(
        self, as_operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away() -> None:
            raise ConnectionError

        monkeypatch.setattr(queue, "ping_broker", away)
        html = as_operator.post("/operations/routines/hourly/run/", follow=True).content.decode()
        assert "Redis does not answer" in html


class TestActions:
    def test_a_step_that_fails_is_an_action_until_somebody_ticks_it(
        self, as_operator: Client, as_viewer: Client, operator: User
    ) -> None:
        for task_id, text in (("first", "no room"), ("second", "still no room")):
            store(task_id, report(backup=(False, 1.0, text)))
            NextAction.objects.carry_over("daily", task_id, [("backup", text)])
        action = NextAction.objects.get()
        assert (action.text, action.report) == ("still no room", "second")
        assert "still no room" in html_of(as_operator, ROUTINES_TAB)
        assert "/tick/" not in html_of(as_viewer, ROUTINES_TAB)
        path = f"/operations/actions/{action.pk}"
        assert as_viewer.post(f"{path}/tick/").status_code == 403
        assert as_operator.post(f"{path}/assign/")["Location"] == ROUTINES_TAB
        action.refresh_from_db()
        assert action.assigned_to == operator.email
        form = {"report": "1", "note": "a larger <disk>"}
        answer = as_operator.post(f"{path}/tick/", form, follow=True)
        assert answer.redirect_chain == [("/operations/reports/second/", 302)]
        assert "a larger &lt;disk&gt;" in answer.content.decode()
        action.refresh_from_db()
        assert (action.done_by, action.done_at is None) == (operator.email, False)
        assert "was done already" in as_operator.post(f"{path}/tick/", follow=True).content.decode()
        NextAction.objects.carry_over("daily", "third", [("backup", "again")])
        assert NextAction.objects.open().count() == 1
        [entry] = AuditEntry.objects.filter(action="action-assign")
        assert entry.place == f"{path}/assign/"

    def test_an_operator_adds_an_action_and_assigns_it(
        self, as_operator: Client, as_viewer: Client, administrator: User, viewer: User
    ) -> None:
        store("x", report(backup=(True, 1.0, "")))
        path = "/operations/reports/x/actions/"
        assert as_viewer.post(path, {"text": "x"}).status_code == 403
        as_operator.post(path, {"text": " \0 "})
        assert as_operator.post(path, {"text": "order a disk"})["Location"].endswith("/x/")
        action = NextAction.objects.get()
        assert (action.routine, action.text) == ("daily", "order a disk")
        address = f"/operations/actions/{action.pk}/assign/"
        for email, stored in (
            (administrator.email, administrator.email),
            (viewer.email, administrator.email),
            ("", ""),
        ):
            as_operator.post(address, {"to": email, "report": "1"})
            action.refresh_from_db()
            assert action.assigned_to == stored


class TestAudit:
    def test_it_is_filtered_in_pages_and_escaped(self, as_operator: Client) -> None:
        now = clock.now()
        for number in range(60):
            AuditEntry.objects.create(
                at=now - timedelta(days=number), actor=f"a{number % 2}@example.org",
                action="job-cancel" if number % 3 else "changed", kind="region",
                subject="<b>Virginia", changes={"name": ["<i>", None], "odd": 3},
            )  # fmt: skip
        html = html_of(as_operator, AUDIT_TAB)
        assert "60 entries." in html
        assert "1 to 50 of 60" in html
        assert "&lt;b&gt;Virginia" in html
        assert "&lt;i&gt;" in html
        assert "30 entries." in html_of(as_operator, f"{AUDIT_TAB}&by=A1@")
        assert "20 entries." in html_of(as_operator, f"{AUDIT_TAB}&verb=changed")
        assert "60 entries." in html_of(as_operator, f"{AUDIT_TAB}&object=virginia")
        day = (now - timedelta(days=7)).date()
        assert "1 entry." in html_of(as_operator, f"{AUDIT_TAB}&from={day}&to={day}")
        assert "No entry passes" in html_of(as_operator, f"{AUDIT_TAB}&by=nobody")
        html = html_of(as_operator, f"{AUDIT_TAB}&from=<x>&to=%00&page=x")
        assert "&lt;x&gt; is not a date" in html
        assert "60 entries." in html_of(as_operator, f"{AUDIT_TAB}&to=9999-12-31")

    def test_an_export_has_all_rows_of_the_address(self, as_operator: Client) -> None:
        for actor in ("=1+1", "b@example.org"):
            AuditEntry.objects.create(actor=actor, action="x", changes={"a": [1, 2]})
        link = "/operations/audit/export.csv?tab=audit&by=%3D1"
        assert 'href="/operations/audit/export.csv?tab=audit&amp;by=%3D1"' in html_of(
            as_operator, f"{AUDIT_TAB}&by=%3D1"
        )
        answer = as_operator.get(link)
        assert answer["Content-Type"].startswith("text/csv")
        rows = list(csv.reader(answer.content.decode("utf-8-sig").splitlines()))
        rows = [row for row in rows if not row[0].startswith("#")]
        assert [row[1] for row in rows] == ["actor", "'=1+1"]
        assert rows[1][-1] == '{"a": [1, 2]}'

    def test_it_is_for_operators(self, as_viewer: Client) -> None:
        assert as_viewer.get(AUDIT_TAB).status_code == 403
        assert as_viewer.get("/operations/audit/export.csv").status_code == 403
        assert "tab=audit" not in html_of(as_viewer, ROUTINES_TAB)
