"""The account page: preferences, password, sessions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.test import Client
from django.utils import timezone

from certification.api import tokens
from certification.models import (
    AIModel,
    ApiKey,
    ModelCertification,
    Preference,
    SavedView,
    Session,
    User,
)
from certification.web import logins
from certification.web.forms import MAX_KEYS
from tests.factories import certify

pytestmark = pytest.mark.django_db
PASSWORD = "a-long-test-password"
FORM = {
    "name": "Ana", "language": "pt-br", "zone": "America/Sao_Paulo", "theme": "dark",
    "density": "compact", "motion": "auto", "start_page": "matrix", "letter_keys": "",
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
    assert '<option value="" selected>as the browser is set</option>' in html_of(
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


FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)


def browser_of(user: User, agent: str) -> Client:
    client = Client(headers={"User-Agent": agent})
    client.post("/login/", {"username": user.email, "password": PASSWORD})
    return client


class TestSessions:
    def test_each_is_listed_by_its_device_and_one_of_them_can_be_ended(self, viewer: User) -> None:
        here, phone = browser_of(viewer, FIREFOX), browser_of(viewer, PHONE)
        html = html_of(here, "/account/")
        assert re.search(r"Firefox on Windows</th>\s*<td>this browser", html)
        assert re.search(r"Safari on iPhone</th>\s*<td><time", html)
        [public_id] = re.findall(r'name="session" value="(\w+)"', html)
        assert Session.objects.get(pk=phone.session.session_key).public_id == public_id
        assert all(key not in html for key in Session.objects.values_list("pk", flat=True))
        for sentence in ("The session has ended.", "The session had already ended."):
            response = here.post("/account/end-session/", {"session": public_id}, follow=True)
            assert sentence in response.content.decode()
        assert here.get("/account/").status_code == 200
        assert phone.get("/account/").status_code == 302

    def test_nobody_ends_the_session_of_another(self, viewer: User, operator: User) -> None:
        browser_of(operator, PHONE)
        mine = browser_of(viewer, FIREFOX)
        other = Session.objects.get(user=operator)
        mine.post("/account/end-session/", {"session": other.public_id})
        mine.post("/account/end-session/", {"session": other.pk})
        assert Session.objects.filter(pk=other.pk).exists()
        assert "iPhone" not in html_of(mine, "/account/")

    def test_what_a_new_password_ended_is_not_listed(self, viewer: User) -> None:
        browser_of(viewer, PHONE)
        here = browser_of(viewer, FIREFOX)
        here.post("/account/end-other-sessions/")
        assert "iPhone" not in html_of(here, "/account/")
        assert "Firefox on Windows" in html_of(here, "/account/")

    def test_use_is_noted_every_ten_minutes_alone(self, viewer: User) -> None:
        here = browser_of(viewer, FIREFOX)
        rows = Session.objects.filter(user=viewer)
        last_use = rows.get().seen_at
        here.get("/account/")
        assert rows.get().seen_at == last_use
        rows.update(seen_at=last_use - timedelta(minutes=11))
        here.get("/account/")
        assert rows.get().seen_at > last_use

    def test_a_user_deleted_meanwhile_is_no_failure(self, viewer: User) -> None:
        here = browser_of(viewer, FIREFOX)
        User.objects.filter(pk=viewer.pk).delete()
        assert here.get("/account/").status_code == 302

    @pytest.mark.parametrize(
        ("agent", "name"),
        [
            ("", "unknown device"), ("x" * 2000, "unknown device"), ("curl/8.1", "curl"),
            ("<script>alert(1)</script>\x1b[2J", "unknown device"),
            ("Mozilla/5.0 (X11; Linux x86_64) Chrome/141.0 Safari/537.36", "Chrome on Linux"),
            ("Mozilla/5.0 (Linux; Android 16) Chrome/141 Mobile Safari/537", "Chrome on Android"),
            ("Mozilla/5.0 (Windows NT 10.0) Chrome/141 Safari/537 Edg/141.0", "Edge on Windows"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Safari/605.1.15", "Safari on macOS"),
        ],
    )  # fmt: skip
    def test_devices_have_names(self, viewer: User, agent: str, name: str) -> None:
        browser_of(viewer, agent)
        assert logins.device_name(Session.objects.get(user=viewer).device) == name


class TestKeys:
    FORM: ClassVar = {"key-name": "nightly", "key-role": "viewer", "key-days": "30"}

    def test_a_key_is_shown_once_and_opens_the_api(self, as_viewer: Client, viewer: User) -> None:
        html = as_viewer.post("/account/keys/", self.FORM, follow=True).content.decode()
        key = re.search(r'<code id="new-key">(myia_[\w-]+)</code>', html)[1]  # type: ignore[index]
        api: dict[str, Any] = {"headers": {"Authorization": f"Bearer {key}"}}
        assert Client().get("/api/models", **api).status_code == 200
        page = html_of(as_viewer, "/account/")
        assert key not in page
        assert f"{key[:13]}…" in page
        row = ApiKey.objects.get()
        assert (row.user, row.role, row.expires_at - row.created_at > timedelta(days=29)) == (  # type: ignore[operator]
            viewer, "viewer", True,
        )  # fmt: skip

    def test_a_key_may_have_no_end(self, as_viewer: Client) -> None:
        as_viewer.post("/account/keys/", self.FORM | {"key-days": ""})
        assert ApiKey.objects.get().expires_at is None

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("key-role", "operator"), ("key-role", "administrator"), ("key-role", ""),
            ("key-name", ""), ("key-name", "x" * 101), ("key-days", "1000"), ("key-days", "-1"),
        ],
    )  # fmt: skip
    def test_no_key_is_beyond_its_user(self, as_viewer: Client, field: str, value: str) -> None:
        response = as_viewer.post("/account/keys/", self.FORM | {field: value})
        assert response.status_code == 400
        assert "✕" in response.content.decode()
        assert not ApiKey.objects.exists()

    def test_there_are_only_so_many(self, as_viewer: Client, viewer: User) -> None:
        for n in range(MAX_KEYS):
            ApiKey(user=viewer, name=str(n)).issue()
        response = as_viewer.post("/account/keys/", self.FORM)
        assert response.status_code == 400
        assert "Revoke one before you issue another" in response.content.decode()
        ApiKey.objects.filter(name="0").update(revoked_at=timezone.now())
        assert as_viewer.post("/account/keys/", self.FORM).status_code == 302

    def test_revoking_asks_first_and_is_for_ones_own(
        self, as_viewer: Client, viewer: User, operator: User
    ) -> None:
        mine, other = ApiKey(user=viewer, name="<b>"), ApiKey(user=operator, name="x")
        mine.issue()
        other.issue()
        assert "Revoke the key &lt;b&gt;?" in html_of(as_viewer, f"/account/keys/{mine.pk}/revoke/")
        assert ApiKey.objects.get(pk=mine.pk).is_working
        as_viewer.post(f"/account/keys/{mine.pk}/revoke/")
        assert not ApiKey.objects.get(pk=mine.pk).is_working
        assert as_viewer.post(f"/account/keys/{other.pk}/revoke/").status_code == 404
        assert "revoked" in html_of(as_viewer, "/account/")


def test_the_form_saves_by_itself_with_a_word_beside_what_changed(
    as_viewer: Client, viewer: User
) -> None:
    Preference.objects.create(user=viewer, zone="America/Sao_Paulo", language="pt-br")
    viewer.name = "Ana"
    viewer.save()
    changed = {k: v for k, v in FORM.items() if k not in ("density", "start_page", "letter_keys")}
    form = changed | {"density": "normal", "start_page": "overview", "letter_keys": "on"}
    as_viewer.cookies["django_language"] = "en"
    response = as_viewer.post("/account/", form, headers={"HX-Request": "true"})
    html = response.content.decode()
    assert html.lstrip().startswith("<form")
    assert re.findall(r'for="id_(\w+)">[^<]*</label>\s*<span class="saved">✓ Saved', html) == [
        "theme"
    ]
    assert 'id="new-looks" hidden data-theme="dark"' in html
    assert response.cookies["theme"].value == "dark"
    other = as_viewer.post("/account/", form | {"language": "en"}, headers={"HX-Request": "true"})
    assert other["HX-Refresh"] == "true"  # all words of the page are others
    wrong = as_viewer.post("/account/", form | {"zone": "x"}, headers={"HX-Request": "true"})
    assert "Nothing was saved" in wrong.content.decode()


def test_ones_own_data_can_be_downloaded_without_secrets(as_viewer: Client, viewer: User) -> None:
    key = ApiKey(user=viewer, name="nightly")
    secret = key.issue()
    Preference.objects.create(user=viewer, theme="dark")
    response = as_viewer.get("/account/export.json")
    assert response["Content-Disposition"] == 'attachment; filename="account.json"'
    data = response.json()
    assert (data["email"], data["preferences"]["theme"]) == (viewer.email, "dark")
    assert [row["name"] for row in data["apiKeys"]] == ["nightly"]
    assert len(data["sessions"]) == 1
    text = response.content.decode()
    for hidden in (secret, key.digest, viewer.password, str(as_viewer.session.session_key)):
        assert hidden not in text


def test_saved_views_are_listed_and_lead_to_their_page(as_viewer: Client, viewer: User) -> None:
    SavedView.objects.create(user=viewer, page="matrix", name="<b>", query="vendor=Amazon&size=map")
    html = html_of(as_viewer, "/account/")
    assert '<a href="/matrix/?vendor=Amazon&amp;size=map">&lt;b&gt;</a>' in html


def test_the_page_takes_few_queries(as_viewer: Client, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(8):
        html_of(as_viewer, "/account/")
