"""The account page: preferences, password, sessions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from certification.api import tokens
from certification.models import AIModel, ModelCertification, Preference, User
from tests.factories import certify

pytestmark = pytest.mark.django_db
PASSWORD = "a-long-test-password"
FORM = {
    "name": "Ana", "language": "pt-br", "zone": "America/Sao_Paulo", "theme": "dark",
    "density": "compact", "start_page": "matrix", "letter_keys": "",
}  # fmt: skip


def html_of(client: Client, path: str) -> str:
    return str(client.get(path).content.decode())


def test_what_is_saved_is_in_the_row_and_on_the_page(as_viewer: Client, viewer: User) -> None:
    response = as_viewer.post("/account/", FORM, follow=True)
    assert response.redirect_chain == [("/account/", 302)]
    html = response.content.decode()
    for mark in ('data-theme="dark"', 'data-density="compact"', 'data-keys="off"', 'lang="pt-br"'):
        assert mark in html
    preference = Preference.objects.get(user=viewer)
    assert (preference.zone, preference.start_page) == ("America/Sao_Paulo", "matrix")
    viewer.refresh_from_db()
    assert viewer.name == "Ana"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("zone", "Mars/Phobos"), ("zone", "../../etc/passwd"), ("zone", ""), ("zone", "\0"),
        ("theme", "pink"), ("density", "x"), ("start_page", "admin"), ("language", "tlh"),
        ("name", "x" * 151),
    ],
)  # fmt: skip
def test_what_there_is_not_is_an_error_and_nothing_is_saved(
    as_viewer: Client, viewer: User, field: str, value: str
) -> None:
    response = as_viewer.post("/account/", FORM | {field: value})
    assert response.status_code == 400
    assert "Nothing was saved" in response.content.decode()
    assert not Preference.objects.exists()


def test_without_a_language_it_is_the_browsers(as_viewer: Client, viewer: User) -> None:
    assert '<option value="" selected>as the browser says</option>' in html_of(
        as_viewer, "/account/"
    )
    as_viewer.post("/account/", FORM)
    assert 'lang="pt-br"' in html_of(as_viewer, "/account/")
    as_viewer.post("/account/", FORM | {"language": ""})
    assert Preference.objects.get(user=viewer).language == ""
    assert 'lang="en"' in html_of(as_viewer, "/account/")


def test_a_login_brings_what_one_prefers_and_the_page_one_wants(viewer: User) -> None:
    Preference.objects.create(
        user=viewer, theme="dark", zone="Asia/Tokyo", start_page="jobs", language="pt-br"
    )
    client = Client()
    response = client.post("/login/", {"username": viewer.email, "password": PASSWORD})
    assert response.headers["Location"] == "/jobs/"
    html = html_of(client, "/jobs/")
    assert 'data-theme="dark"' in html
    assert 'lang="pt-br"' in html


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [("/theme/", "theme", "dark"), ("/i18n/setlang/", "language", "pt-br")],
)
def test_the_switches_in_the_menu_are_remembered(
    as_viewer: Client, viewer: User, path: str, field: str, value: str
) -> None:
    Preference.objects.create(user=viewer, density="compact")
    as_viewer.post(path, {field: value, "next": "/account/"})
    preference = Preference.objects.get(user=viewer)
    assert getattr(preference, field) == value
    assert preference.density == "compact"


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("America/Sao_Paulo", "2026-03-04 02:06 Sao Paulo"),
        ("UTC", "2026-03-04 05:06 UTC"),
        ("Mars/Phobos", "2026-03-04 05:06 UTC"),
    ],
)
def test_times_are_in_the_readers_zone_with_its_name_and_utc_beside(
    as_viewer: Client, catalogue: None, zone: str, text: str
) -> None:
    model = AIModel.objects.active().filter(routes__region="us-east-1")[0]
    certify(model, "us-east-1")
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    ModelCertification.objects.update(last_tested_at=at)
    as_viewer.cookies["zone"] = zone
    html = html_of(as_viewer, f"/certifications/{model.api_model_id}/us-east-1/")
    assert text in html
    assert 'title="2026-03-04 05:06:07 UTC"' in html


def test_every_time_of_a_run_is_in_the_readers_zone(as_viewer: Client, catalogue: None) -> None:
    model = AIModel.objects.active().filter(routes__region="us-east-1")[0]
    run = certify(model, "us-east-1")
    as_viewer.cookies["zone"] = "America/Sao_Paulo"
    for path in (f"/runs/{run.pk}/", f"/certifications/{model.api_model_id}/us-east-1/"):
        html = html_of(as_viewer, path)
        main = html[html.index("<main") : html.index("</main>")]
        assert "Sao Paulo</time>" in main
        assert not re.search(r"\bUTC(?!\")", main), path


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(viewer: User) -> None:
    here, there = Client(), Client()
    here.force_login(viewer)
    there.force_login(viewer)
    form = {
        "old_password": PASSWORD,
        "new_password1": "another-long-password-7",
        "new_password2": "another-long-password-7",
    }
    response = here.post("/account/password/", form, follow=True)
    assert "The password was changed" in response.content.decode()
    assert here.get("/account/").status_code == 200
    assert there.get("/account/").status_code == 302


def test_a_wrong_old_password_changes_nothing(as_viewer: Client, viewer: User) -> None:
    form = {"old_password": "x", "new_password1": "another-long-password-7"}
    response = as_viewer.post("/account/password/", form)
    assert "Your old password was entered incorrectly" in response.content.decode()
    viewer.refresh_from_db()
    assert viewer.check_password(PASSWORD)


def test_logging_out_elsewhere_ends_sessions_and_api_logins_but_this(viewer: User) -> None:
    here, there = Client(), Client()
    here.force_login(viewer)
    there.force_login(viewer)
    token = tokens.issue(viewer)
    api: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}}
    assert Client().get("/api/auth/me", **api).status_code == 200
    for _ in range(2):
        response = here.post("/account/end-other-sessions/", follow=True)
        assert "All other sessions and API logins have ended." in response.content.decode()
    assert there.get("/account/").status_code == 302
    assert Client().get("/api/auth/me", **api).status_code == 401


def test_the_page_takes_few_queries(as_viewer: Client, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(5):
        html_of(as_viewer, "/account/")
