"""The audit trail: who did what, from where; no secrets; nobody changes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.test import Client

from certification.engine import queue
from certification.lib import clock
from certification.models import AIModel, ApiKey, AuditEntry, Region, User
from tests.api import Api
from tests.factories import start_job

pytestmark = pytest.mark.django_db


def entries(**filters: Any) -> list[tuple[str, str, str, str]]:
    rows = AuditEntry.objects.filter(**filters).order_by("pk")
    return [(row.actor, row.via, row.action, row.kind) for row in rows]


def test_an_edit_in_the_admin_has_its_values_before_and_after(
    as_administrator: Client, administrator: User, catalogue: None
) -> None:
    region = Region.objects.get(code="us-east-1")
    address = f"/admin/certification/region/{region.pk}/change/"
    fields = {"code": region.code, "name": "Virginia", "opt_in": region.opt_in or ""}
    response = as_administrator.post(address, fields)  # not enabled any more
    assert response.status_code == 302, response.content
    who = administrator.email
    assert entries() == [
        (who, "admin", "changed", "region"),
        (who, "admin", "certification_region_change", ""),
    ]
    entry = AuditEntry.objects.get(kind="region")
    assert entry.changes == {"name": [region.name, "Virginia"], "enabled": [True, False]}
    assert (entry.key, entry.actor_id, entry.place) == ("us-east-1", administrator.pk, address)
    assert entry.address == "127.0.0.1"
    assert entry.request_id == AuditEntry.objects.get(kind="").request_id != ""


def test_no_secret_is_in_it(as_administrator: Client, administrator: User) -> None:
    other = User.objects.create_user("other@example.org", "a-long-test-password")
    response = as_administrator.post(
        f"/admin/certification/user/{other.pk}/password/",
        {"password1": "another-long-secret", "password2": "another-long-secret"},
    )
    assert response.status_code == 302
    as_administrator.post("/account/keys/", {"name": "ci", "role": "viewer", "days": "30"})
    changed = AuditEntry.objects.get(kind="user", key=str(other.pk))
    assert changed.changes == {"password": ["***", "***"]}
    other.refresh_from_db()
    stored = str(list(AuditEntry.objects.values()))
    for secret in ("another-long-secret", other.password, *ApiKey.objects.values_list("digest")):
        assert str(secret) not in stored


def test_roles_are_named(as_administrator: Client, administrator: User, viewer: User) -> None:
    from certification.lib import actor  # noqa: PLC0415

    who = actor.Actor(lambda: (administrator.pk, administrator.email), actor.ADMIN, "/admin/")
    with actor.acting(who):
        viewer.groups.add(Group.objects.get(name="operator"))
        viewer.groups.add(Group.objects.get(name="operator"))
    [entry] = AuditEntry.objects.filter(kind="user")
    assert entry.changes == {"groups": [["viewer"], ["operator", "viewer"]]}


def test_what_is_done_on_pages_and_by_the_api(
    as_operator: Client,
    as_viewer: Client,
    operator: User,
    catalogue: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "publish", lambda *_: True)
    job = start_job([AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")], ["us-east-1"])
    assert as_viewer.post(f"/jobs/{job.pk}/cancel/").status_code == 403  # refused: no entry
    as_viewer.post("/theme/", {"theme": "dark"})  # for oneself: none
    as_operator.get("/jobs/")
    assert as_operator.post(f"/jobs/{job.pk}/cancel/").status_code == 302
    assert entries() == [(operator.email, "page", "job-cancel", "")]
    api = Api(operator)
    body = {"modelId": "amazon.nova-lite-v1:0", "region": "us-east-1"}
    api.post("certification-queue/certify-model", body, status=201)
    assert entries(via="api")[-1][:2] == (operator.email, "api")


def test_commands_that_write_leave_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("cleanup", "--dry-run")
    call_command("backup", "key")
    assert entries() == []
    call_command("cleanup", "silences")
    [(who, via, action, _kind)] = entries()
    assert (via, action) == ("command", "cleanup")
    assert who.endswith("(account of the machine)")


def test_nobody_changes_an_entry_or_deletes_a_young_one() -> None:
    for days in (1, 31):
        AuditEntry.objects.create(actor="x", action="y", at=clock.now() - timedelta(days=days))
    for change in (
        lambda: AuditEntry.objects.update(actor="z"),
        lambda: AuditEntry.objects.filter(at__gt=clock.now() - timedelta(days=2)).delete(),
    ):
        with pytest.raises(DatabaseError, match="cannot be changed"), transaction.atomic():
            change()
    assert AuditEntry.objects.filter(at__lt=clock.now() - timedelta(days=30)).delete()[0] == 1


def test_the_admin_lists_and_exports_it(as_administrator: Client, as_viewer: Client) -> None:
    entry = AuditEntry.objects.create(actor="=1+1", action="job-cancel", changes={"a": [1, "<b>"]})
    address = "/admin/certification/auditentry/"
    assert b"job-cancel" in as_administrator.get(address, {"q": "cancel"}).content
    assert b"&lt;b&gt;" in as_administrator.get(f"{address}{entry.pk}/change/").content
    export = {"action": "export", "_selected_action": [entry.pk]}
    response = as_administrator.post(address, export)
    assert response["Content-Type"].startswith("text/csv")
    assert "'=1+1" in response.content.decode("utf-8-sig")
    assert as_viewer.get(address).status_code in (302, 403)


def test_a_login_by_the_api_is_in_it(viewer: User, client: Client) -> None:
    for password in ("wrong", "a-long-test-password"):
        viewer.set_password("a-long-test-password")
        viewer.save()
        body = {"email": viewer.email, "password": password}
        client.post("/api/auth/login", body, "application/json")
    assert entries(action="api/auth/login") == [(viewer.email, "api", "api/auth/login", "")]


@pytest.mark.parametrize(
    ("command", "arguments", "count"),
    [("load_catalogue", [], 1), ("rescore", [], 0), ("rescore", ["--write"], 1),
     ("recertify_stale", ["--dry-run"], 0)],
)  # fmt: skip
def test_commands_that_write_are_in_it(
    command: str, arguments: list[str], count: int, catalogue: None, capsys: Any
) -> None:
    call_command(command, *arguments)
    assert AuditEntry.objects.filter(via="command", action=command).count() == count
