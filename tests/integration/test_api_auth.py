"""Logging in to the JSON API, staying in, and being kept out."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import MD5PasswordHasher
from django.utils import timezone
from rest_framework.settings import api_settings

from certification.api import tokens
from certification.models import ApiKey, RevokedToken, Role, User
from tests.api import Api

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture
def ana() -> User:
    return User.objects.create_user("ana@example.org", PASSWORD, Role.OPERATOR, name="Ana")


def login(email: str = "ana@example.org", password: str = PASSWORD, status: int = 200) -> Any:
    return Api().post("auth/login", {"email": email, "password": password}, status=status)


def test_login_gives_a_token_whose_claims_the_console_reads(ana: User) -> None:
    data = login("  ANA@example.org ")
    assert data["user"] == {
        "id": str(ana.pk),
        "email": "ana@example.org",
        "name": "Ana",
        "role": "operator",
    }
    payload = data["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["userId"], claims["email"], claims["role"]) == (
        str(ana.pk),
        "ana@example.org",
        "operator",
    )
    assert claims["exp"] > timezone.now().timestamp()
    assert Api(credential=data["token"]).get("auth/me") == data["user"]


def test_login_says_the_same_of_an_unknown_email_and_a_wrong_password(ana: User) -> None:
    wrong, unknown = login(password="wrong", status=401), login("nobody@example.org", status=401)
    assert wrong == unknown
    assert wrong["errorCode"] == "invalid_credentials"


def test_login_names_each_missing_field() -> None:
    refusal = Api().post("auth/login", {}, status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [
        "body.email",
        "body.password",
    ]


def test_an_email_that_grows_in_lower_case_is_too_long_and_no_defect() -> None:
    assert "\u0130".lower() != "\u0130".lower()[0]
    refusal = login(email="\u0130" * 254, status=400)
    assert refusal["data"]["validation"] == [
        {
            "path": "body.email",
            "message": "Ensure this field has no more than 254 characters.",
            "code": "max_length",
        }
    ]


def test_responses_with_a_token_are_not_cached(ana: User) -> None:
    api = Api()
    for password, status in ((PASSWORD, 200), ("wrong", 401)):
        api.post("auth/login", {"email": ana.email, "password": password}, status=status)
        assert api.response["Cache-Control"] == "no-store"


def test_a_disabled_user_gets_the_same_response_as_a_wrong_password(ana: User) -> None:
    User.objects.filter(pk=ana.pk).update(is_active=False)
    assert login(status=401)["errorCode"] == "invalid_credentials"


def test_too_many_failures_lock_the_login_out(ana: User, settings: Any) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        login(password="wrong", status=401)
    api = Api()
    refusal = api.post("auth/login", {"email": ana.email, "password": "wrong"}, status=429)
    assert refusal["errorCode"] == "locked_out"
    assert int(api.response["Retry-After"]) == 900
    assert login(status=429)["errorCode"] == "locked_out"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.7, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.7, 203.0.113.9, 192.0.2.1", "203.0.113.9"),
        (1, "2001:DB8::1", "2001:db8::1"),
        (1, "somebody", None),
        (1, None, "127.0.0.1"),
    ],
)
def test_a_lock_out_is_about_the_address_that_our_proxies_saw(
    ana: User,
    proxies: int,
    forwarded: str | None,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api_settings, "NUM_PROXIES", proxies)
    headers = {} if forwarded is None else {"X_Forwarded_For": forwarded}
    Api().post("auth/login", {"email": ana.email, "password": "wrong"}, status=401, **headers)
    assert AccessAttempt.objects.get().ip_address == expected


def test_logins_are_counted_per_address(ana: User, settings: Any) -> None:
    settings.API_RATES = {**settings.API_RATES, "login": 2}
    api = Api()
    for _ in range(2):
        login()
    assert (
        api.post("auth/login", {"email": ana.email, "password": PASSWORD}, status=429)["errorCode"]
        == "throttled"
    )
    assert 0 < int(api.response["Retry-After"]) <= 62


def refreshed(api: Api) -> Api:
    return Api(credential=api.post("auth/refresh")["token"])


def test_refresh_replaces_a_token(ana: User) -> None:
    api = Api(ana)
    again = refreshed(api)
    assert api.get("auth/me", status=401)["errorCode"] == "invalid_credentials"
    assert again.get("auth/me")["email"] == ana.email


def test_logout_ends_every_token_of_the_login_and_no_other(ana: User) -> None:
    other, first = Api(ana), Api(ana)
    second = refreshed(first)
    second.post("auth/logout")
    for api in (first, second):
        api.get("auth/me", status=401)
        api.post("auth/refresh", status=401)
    assert other.get("auth/me")["email"] == ana.email


def test_a_token_that_is_refreshed_twice_ends_its_login(ana: User) -> None:
    other, stolen = Api(ana), Api(ana)
    last = refreshed(refreshed(stolen))
    stolen.get("auth/me", status=401)  # may have been under way
    assert last.get("auth/me")
    stolen.post("auth/refresh", status=401)
    last.get("auth/me", status=401)
    last.post("auth/refresh", status=401)
    assert other.get("auth/me")["email"] == ana.email


def test_a_token_that_two_exchange_at_once_ends_its_login(
    ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(ana)
    read = tokens.read

    def read_while_another_refreshes(text: str) -> tokens.Token:
        token = read(text)
        token.revoke()
        return token

    monkeypatch.setattr(tokens, "read", read_while_another_refreshes)
    api.post("auth/refresh", status=401)
    monkeypatch.undo()
    assert RevokedToken.objects.count() == 2


def test_a_login_ends_however_often_it_is_refreshed(ana: User) -> None:
    token = tokens.read(tokens.issue(ana))
    begin = timezone.now() - timedelta(days=6, hours=23)
    old = Api(credential=tokens.issue(ana, replace(token, auth_time=begin)))
    text = old.post("auth/refresh")["token"]
    claims = tokens.Claims.of(text)
    assert abs(claims.auth_time - begin) < timedelta(seconds=1)
    assert abs(claims.expires_at - begin - timedelta(days=7)) < timedelta(seconds=1)
    older = tokens.issue(ana, replace(token, auth_time=begin - timedelta(hours=2)))
    Api(credential=older).post("auth/refresh", status=401)


def test_a_shorter_login_holds_for_tokens_that_were_issued_before(ana: User, settings: Any) -> None:
    token = tokens.read(tokens.issue(ana))
    api = Api(credential=tokens.issue(ana, replace(token, auth_time=timezone.now() - timedelta(2))))
    assert api.get("auth/me")
    settings.API_LOGIN_DAYS = 1
    api.get("auth/me", status=401)


@pytest.mark.parametrize("claim", ["family", "auth_time", "jti", "userId", "session"])
@pytest.mark.parametrize("value", [None, [], {}, "x", -1, 1e300])
def test_a_signed_token_with_odd_claims_is_refused(ana: User, claim: str, value: Any) -> None:
    key = tokens.signing_key()
    claims = jwt.decode(tokens.issue(ana), key, [tokens.ALGORITHM])
    odd = jwt.encode(claims | {claim: value}, key, tokens.ALGORITHM)
    Api(credential=odd).get("auth/me", status=401)
    Api(credential=odd).post("auth/refresh", status=401)


def test_a_revoked_token_is_forgotten_when_it_would_have_expired(ana: User) -> None:
    old = RevokedToken.objects.create(user=ana, expires_at=timezone.now() - timedelta(hours=1))
    Api(ana).post("auth/logout")
    assert old not in RevokedToken.objects.all()


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!"}])
def test_a_token_ends_with_its_user(ana: User, change: dict[str, Any]) -> None:
    api = Api(ana)
    User.objects.filter(pk=ana.pk).update(**change)
    api.get("auth/me", status=401)


def test_a_token_of_a_deleted_user_is_refused(ana: User) -> None:
    api = Api(ana)
    ana.delete()
    api.get("auth/me", status=401)


def test_a_new_password_ends_every_other_login(ana: User) -> None:
    api, other = Api(ana), Api(ana)
    data = api.post(
        "auth/change-password", {"oldPassword": PASSWORD, "newPassword": "another long secret 7"}
    )
    other.get("auth/me", status=401)
    assert Api(credential=data["token"]).get("auth/me")["email"] == ana.email
    login(password="another long secret 7")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [("wrong", "another long secret 7", "wrong_password"), (PASSWORD, "12345", "weak_password")],
)
def test_a_password_is_not_changed_without_the_old_or_for_a_weak_one(
    ana: User, old: str, new: str, code: str
) -> None:
    refusal = Api(ana).post(
        "auth/change-password", {"oldPassword": old, "newPassword": new}, status=400
    )
    assert refusal["data"]["validation"][0]["code"] == code
    login()


@pytest.mark.parametrize(
    "credential",
    ["x", "a.b.c", "myia_unknown", "eyJhbGciOiJub25lIn0.eyJ1c2VySWQiOiIxIn0.", "é", "a b"],
)
def test_anything_else_is_not_a_token(credential: str) -> None:
    assert (
        Api(credential=credential).get("auth/me", status=401)["errorCode"] == "invalid_credentials"
    )


def test_without_a_token_a_bearer_challenge_is_sent() -> None:
    api = Api()
    assert api.get("auth/me", status=401)["errorCode"] == "not_authenticated"
    assert api.response["WWW-Authenticate"].startswith("Bearer")


def test_a_key_works_until_it_is_revoked(ana: User) -> None:
    key = ApiKey(user=ana, name="router", role=Role.VIEWER)
    text = key.issue()
    assert text.startswith("myia_")
    assert text not in str(ApiKey.objects.filter(pk=key.pk).values_list())
    assert Api(credential=text).get("auth/me")["role"] == "viewer"
    assert ApiKey.objects.get(pk=key.pk).last_used_at
    assert key.revoke()
    Api(credential=text).get("auth/me", status=401)


def test_a_key_never_does_more_than_its_user(ana: User) -> None:
    text = ApiKey(user=ana, name="router", role=Role.ADMINISTRATOR).issue()
    assert Api(credential=text).get("auth/me")["role"] == "operator"


def test_an_expired_key_is_refused(ana: User) -> None:
    text = ApiKey(user=ana, name="router", expires_at=timezone.now() - timedelta(seconds=1)).issue()
    Api(credential=text).get("auth/me", status=401)


def test_a_user_without_a_role_may_read_nothing() -> None:
    api = Api(User.objects.create_user("new@example.org", PASSWORD))
    assert api.get("auth/me", status=403)["errorCode"] == "not_allowed"


def test_a_token_signed_by_somebody_else_is_refused(
    ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "signing_key", lambda: "x" * 64)
    forged = tokens.issue(ana)
    monkeypatch.undo()
    Api(credential=forged).get("auth/me", status=401)


@pytest.mark.parametrize("email", ["ana@example.org", "nobody@example.org", "off@example.org"])
def test_every_refusal_hashes_one_password(
    ana: User, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password, an unknown e-mail and a disabled user take the same work and time."""
    User.objects.create_user("off@example.org", PASSWORD, Role.VIEWER, is_active=False)
    hashed = []
    encode = MD5PasswordHasher.encode
    monkeypatch.setattr(
        MD5PasswordHasher,
        "encode",
        lambda *args, **named: hashed.append(1) or encode(*args, **named),
    )
    login(email, "wrong", status=401)
    assert len(hashed) == 1
