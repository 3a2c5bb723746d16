"""Pages ask for a role, and values that nothing can have are refused instead of being a defect."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.urls.converters import IntConverter, PathConverter, StringConverter, UUIDConverter

from certification.api import throttles
from certification.lib import request_rates, shared_cache
from certification.models import AIModel, User
from certification.web.urls import urlpatterns

pytestmark = pytest.mark.django_db

OPEN_PAGES = {
    "login", "logout", "favicon", "live", "theme", "set_language",
    "certificate", "certificate-json", "certificate-pdf", "certificate-keys", "verify",
    "public-model",
}  # fmt: skip
EXAMPLES = {
    UUIDConverter: uuid.UUID(int=1), StringConverter: "us-east-1", PathConverter: "a/b",
    IntConverter: 7,
}  # fmt: skip


def address_of(page: Any) -> str:
    converters = page.pattern.converters
    return reverse(page.name, kwargs={n: EXAMPLES[type(c)] for n, c in converters.items()})


@pytest.fixture
def as_newcomer() -> Client:
    client = Client()
    client.force_login(User.objects.create_user("new@example.org", "a-long-test-password"))
    return client


@pytest.mark.parametrize("page", [p for p in urlpatterns if p.name not in OPEN_PAGES], ids=str)
def test_a_user_without_a_role_sees_no_page_and_whom_to_ask(as_newcomer: Client, page: Any) -> None:
    address = address_of(page)
    answer = as_newcomer.get(address)
    if answer.status_code == 405:
        answer = as_newcomer.post(address)
    assert answer.status_code == 403
    html = answer.content.decode()
    assert "new@example.org has no role yet. Ask an administrator" in html
    assert "Log out" in html


def test_anybody_may_know_that_the_process_lives(
    client: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        assert client.get("/live").json() == {"status": "ok"}


def test_the_old_address_of_the_queue_leads_to_it(as_viewer: Client) -> None:
    for address in ("/admin/queues", "/admin/queues/"):
        assert as_viewer.get(address)["Location"] == "/operations/?tab=queue"


def test_a_viewer_sees_the_pages_and_whom_to_ask_for_more(as_viewer: Client) -> None:
    assert as_viewer.get("/").status_code == 200
    assert as_viewer.get("/matrix/").status_code == 200
    answer = as_viewer.get(f"/jobs/{uuid.UUID(int=1)}/cancel/")
    assert answer.status_code == 403
    assert "ask an administrator for the role you need" in answer.content.decode()


def test_logins_by_page_and_by_api_are_counted_together(settings: Any) -> None:
    client = Client(REMOTE_ADDR="192.0.2.7")
    settings.API_RATES = {**settings.API_RATES, "login": 2}
    client.post("/login/", {"username": "a@example.org", "password": "x"})
    client.post("/api/auth/login", {"email": "a@b.c", "password": "x"}, "application/json")
    answer = client.post("/login/", {"username": "b@example.org", "password": "x"})
    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 62
    assert "Wait a minute" in answer.content.decode()
    assert client.get("/login/").status_code == 200


@pytest.mark.parametrize("address", ["/login/", "/jobs/new/", "/admin/certification/user/add/"])
def test_a_form_without_its_token_or_from_another_site_is_refused(
    administrator: User, address: str
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    assert client.post(address).status_code == 403
    client.get("/login/")
    token = client.cookies["csrftoken"].value
    evil = {"Origin": "https://evil.example"}
    answer = client.post(address, {"csrfmiddlewaretoken": token}, headers=evil)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/certifications/{model}/%00/", 404),
        ("/certifications/{model}/a%00b/", 404),
        ("/admin/certification/region/a%00b/change/", 404),
        ("/badges/a%00b.svg", 404),
        ("/%00", 404),
        ("/matrix/?q=%00&region=%00&vendor=%00&page=%00&reason=%00", 200),
        ("/?days=%00", 200),
        ("/?days=999999999999999999999", 200),
        ("/admin/certification/aimodel/?_to_field=", 200),
        ("/admin/certification/region/us-east-1/change/?_to_field=", 400),
        ("/admin/certification/region/?code=%00", 400),
        ("/admin/certification/certificationrun/?region__code__exact=%00", 400),
        ("/admin/certification/user/?id=99999999999999999999999", 200),
        ("/api/models?search=%00", None),
        ("/api/certification-queue/certifications?modelId=%00", None),
    ],
)
def test_an_address_with_a_value_that_nothing_has_is_no_defect(
    administrator: User, catalogue: None, address: str, status: int | None
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    model = AIModel.objects.values_list("pk", flat=True)[0]
    answer = client.get(address.format(model=model))
    assert answer.status_code == status or (status is None and answer.status_code < 500)


KEY = {"name": "ci", "role": "viewer"}


@pytest.mark.parametrize("user", ["zz", "", "-1", "9" * 40, "\0", "1 OR 1=1"])
def test_a_key_for_nobody_is_a_form_error(administrator: User, user: str) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    answer = client.post("/admin/certification/apikey/add/", KEY | {"user": user})
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize("model", ["certificationjob", "user", "region", "apikey"])
@pytest.mark.parametrize("key", ["zz", "9" * 30])
def test_an_action_on_no_row_is_no_defect(administrator: User, model: str, key: str) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    for action in ("cancel", "delete_selected", "enable", "revoke"):
        form = {"action": action, "_selected_action": key}
        answer = client.post(f"/admin/certification/{model}/", form)
        assert answer.status_code < 500


@pytest.mark.parametrize("value", ["zz", "\0", str(uuid.UUID(int=1))])
def test_routes_to_nothing_are_form_errors(administrator: User, value: str) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    form = {"model": value, "region": value, "target_id": "x", "kind": "ON_DEMAND"}
    answer = client.post("/admin/certification/route/add/", form)
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize("expected", ["[" * 100_000, '{"a":' * 50_000, "1" * 5000, "NaN", "1e999"])
def test_json_that_cannot_be_read_is_a_form_error(administrator: User, expected: str) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    form = {
        "case_id": "XA", "title": "a", "category": "json", "prompt": "a", "grader": "json_schema",
        "weight": "1", "repeats": "1", "max_tokens": "16", "good_sample": "a", "bad_sample": "b",
    }  # fmt: skip
    address = "/admin/certification/customcase/add/"
    assert client.post(address, form | {"expected": expected}).status_code == 200


def test_a_buffer_that_redis_closed_turns_nobody_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> Any:
        raise ValueError("I/O operation on closed file.")

    monkeypatch.setattr(shared_cache, "client", closed)
    assert request_rates.count_request("login", "a127.0.0.1") == 0
    shared_cache.breaker.close()
    assert throttles.PerMinute().wait() > 0


@pytest.mark.parametrize(
    ("address", "form", "status"),
    [
        ("django_celery_beat/periodictask", {"task": "\0", "name": "a"}, 200),
        ("django_celery_beat/periodictask", {"task": "a", "kwargs": "[" * 100_000}, 200),
        ("django_celery_beat/periodictask", {"task": "a", "args": "1" * 5000}, 200),
        ("django_celery_results/taskresult", {"task_id": "a"}, 403),
        ("django_celery_results/groupresult", {"group_id": "a"}, 403),
    ],
)
def test_forms_of_other_apps_say_what_is_wrong(
    address: str, form: dict[str, str], status: int
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root@example.org", "a-long-test-password"))
    assert client.post(f"/admin/{address}/add/", form).status_code == status
