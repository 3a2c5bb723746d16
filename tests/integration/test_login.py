"""Logging in and out, lock-out, the language, error pages and static files."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.views.defaults import server_error

from certification.models import User

pytestmark = pytest.mark.django_db

PASSWORD = "a-long-test-password"


def log_in(
    client: Client, email: str, password: str = PASSWORD, next_page: str = "", **kwargs: Any
) -> Any:
    return client.post(
        "/login/", {"username": email, "password": password, "next": next_page}, **kwargs
    )


def test_the_right_password_leads_to_the_matrix(client: Client, viewer: User) -> None:
    assert log_in(client, viewer.email).headers["Location"] == "/"
    assert client.get("/").status_code == 200


def test_the_case_of_the_address_does_not_matter(client: Client, viewer: User) -> None:
    assert log_in(client, "Viewer@Example.ORG").status_code == 302


def test_a_wrong_password_says_so_without_saying_which(client: Client, viewer: User) -> None:
    known = log_in(client, viewer.email, "wrong").content.decode()
    unknown = log_in(client, "nobody@example.org", "wrong").content.decode()
    sentence = "E-mail and password do not match an active account."
    assert sentence in known
    assert sentence in unknown


def test_an_address_that_grows_in_lower_case_is_wrong_like_any_other(
    client: Client, db: None
) -> None:
    answer = log_in(client, "\u0130" * 254)
    assert (answer.status_code, "do not match an active account" in answer.content.decode()) == (
        200,
        True,
    )


def test_an_inactive_account_may_not_log_in(client: Client, viewer: User) -> None:
    User.objects.update(is_active=False)
    assert "do not match an active account" in log_in(client, viewer.email).content.decode()


def test_what_was_typed_is_escaped(client: Client, db: None) -> None:
    html = log_in(client, '"><script>alert(1)</script>', "wrong").content.decode()
    assert "<script>alert" not in html


def test_login_redirects_to_the_requested_page(client: Client, viewer: User) -> None:
    assert log_in(client, viewer.email, next_page="/matrix/").headers["Location"] == "/matrix/"


def test_login_leads_to_no_other_site(client: Client, viewer: User) -> None:
    assert (
        log_in(client, viewer.email, next_page="https://evil.example/").headers["Location"] == "/"
    )


def test_logging_out_needs_a_post_and_ends_the_session(as_viewer: Client) -> None:
    assert as_viewer.get("/logout/").status_code == 405
    assert as_viewer.post("/logout/").headers["Location"] == "/login/"
    assert as_viewer.get("/").status_code == 302


@pytest.mark.parametrize(
    "path", ["/", "/matrix/", "/jobs/00000000-0000-0000-0000-000000000000/", "/admin/"]
)
def test_every_page_requires_a_login(client: Client, db: None, path: str) -> None:
    response = client.get(path, follow=True)
    assert response.resolver_match.view_name == "login"


def test_a_fragment_after_the_session_ended_reloads_its_page(client: Client, db: None) -> None:
    response = client.get("/matrix/", headers={"HX-Request": "true"}, follow=True)
    assert response.headers["HX-Refresh"] == "true"
    assert "<html" not in response.content.decode()


def test_the_admin_has_no_login_page_of_its_own(client: Client, db: None) -> None:
    assert client.get("/admin/login/?next=/admin/").headers["Location"] == "/login/?next=/admin/"


def test_a_viewer_who_opens_the_admin_sees_why_not(as_viewer: Client) -> None:
    html = as_viewer.get("/admin/", follow=True).content.decode()
    assert "viewer@example.org. This account may not open that page" in html


def test_repeated_failures_lock_the_account_out(
    client: Client, viewer: User, settings: Any
) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    responses = [log_in(client, viewer.email, "wrong") for _ in range(3)]
    assert [r.status_code for r in responses] == [200, 200, 429]
    html = responses[-1].content.decode()
    assert "Too many attempts" in html
    assert "locked for 15 minutes" in html
    assert "manage.py axes_reset_username viewer@example.org" in html
    assert log_in(client, viewer.email).status_code == 429, (
        "the right password does not help while locked"
    )
    assert log_in(client, "VIEWER@example.org").status_code == 429, "nor does another spelling"


def test_a_lock_is_lifted_by_the_command_the_page_names(
    client: Client, viewer: User, settings: Any
) -> None:
    settings.AXES_FAILURE_LIMIT = 1
    log_in(client, viewer.email, "wrong")
    call_command("axes_reset_username", viewer.email)
    assert log_in(client, viewer.email).status_code == 302


def test_a_lock_out_concerns_one_account(
    client: Client, viewer: User, operator: User, settings: Any
) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    for _ in range(2):
        log_in(client, viewer.email, "wrong")
    assert log_in(client, operator.email).status_code == 302


def test_the_language_can_be_switched_before_logging_in(client: Client, db: None) -> None:
    assert 'lang="en"' in client.get("/login/").content.decode()
    response = client.post("/i18n/setlang/", {"language": "pt-br", "next": "/login/"}, follow=True)
    html = response.content.decode()
    assert '<html lang="pt-br"' in html
    assert "Senha" in html


def test_the_browser_s_language_is_the_first_choice(client: Client, db: None) -> None:
    assert "Entrar" in client.get("/login/", headers={"Accept-Language": "pt-BR"}).content.decode()


def test_a_missing_page_says_so_in_our_style(as_viewer: Client) -> None:
    response = as_viewer.get("/no/such/page/")
    assert response.status_code == 404
    assert "Back to the overview" in response.content.decode()


def test_a_missing_page_needs_no_login(client: Client, db: None) -> None:
    assert client.get("/no/such/page/").status_code == 404


def test_a_forbidden_page_says_who_may(as_viewer: Client) -> None:
    response = as_viewer.get("/jobs/00000000-0000-0000-0000-000000000000/cancel/")
    assert response.status_code == 403
    assert "Operators and administrators" in response.content.decode()


def test_the_page_for_our_own_faults_needs_no_database_and_no_user(rf: RequestFactory) -> None:
    response = server_error(rf.get("/"))
    assert response.status_code == 500
    assert "Something went wrong" in response.content.decode()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/css/base.css", "text/css"),
        ("/static/js/pages.js", "text/javascript"),
        ("/static/img/favicon.svg", "image/svg+xml"),
        ("/static/django_htmx/htmx-2.min.js", "text/javascript"),
        ("/static/admin/css/base.css", "text/css"),
    ],
)
def test_static_files_are_served_without_a_login(
    client: Client, db: None, path: str, kind: str
) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(kind)
    assert b"".join(response.streaming_content)  # type: ignore[attr-defined]


def test_browsers_that_ask_for_an_ico_find_the_icon(client: Client, db: None) -> None:
    assert client.get("/favicon.ico").headers["Location"] == "/static/img/favicon.svg"


def test_no_page_loads_anything_from_elsewhere(as_viewer: Client) -> None:
    for path in ("/", "/login/", "/no/such/page/"):
        html = as_viewer.get(path).content.decode()
        assert 'src="http' not in html
        assert 'href="http' not in html
