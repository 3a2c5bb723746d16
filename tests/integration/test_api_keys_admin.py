"""API keys in the admin: issued and shown once by an administrator, revoked, never changed."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from certification.models import ApiKey, User
from tests.api import Api

pytestmark = pytest.mark.django_db

LIST, ADD = (
    reverse("admin:certification_apikey_changelist"),
    reverse("admin:certification_apikey_add"),
)


def issue(client: Client, user: User) -> str:
    form = {
        "name": "router <b>",
        "user": user.pk,
        "role": "viewer",
        "expires_at_0": "",
        "expires_at_1": "",
    }
    page = client.post(ADD, form, follow=True).content.decode()
    assert "router <b>" not in page
    match = re.search(r"<code>(myia_[\w-]+)</code>", page)
    assert match
    return match[1]


def test_a_key_is_shown_once_and_works(as_administrator: Client, operator: User) -> None:
    key = issue(as_administrator, operator)
    assert Api(credential=key).get("auth/me")["email"] == operator.email
    assert key not in as_administrator.get(LIST).content.decode()
    row = ApiKey.objects.get()
    page = as_administrator.get(
        reverse("admin:certification_apikey_change", args=[row.pk])
    ).content.decode()
    assert key not in page
    assert row.digest not in page


def test_a_revoked_key_stops_at_once(as_administrator: Client, operator: User) -> None:
    key = issue(as_administrator, operator)
    form = {
        "action": "revoke", "_selected_action": [ApiKey.objects.get().pk], "confirmed": "yes",
    }  # fmt: skip
    assert "1 key revoked." in as_administrator.post(LIST, form, follow=True).content.decode()
    Api(credential=key).get("auth/me", status=401)
    assert "0 keys revoked." in as_administrator.post(LIST, form, follow=True).content.decode()


def test_nobody_else_sees_keys(as_operator: Client, as_viewer: Client) -> None:
    assert as_operator.get(LIST).status_code == 403
    assert as_viewer.get(ADD).status_code in (302, 403)


def test_only_a_superuser_issues_a_key_that_acts_as_one(as_administrator: Client) -> None:
    root = User.objects.create_superuser("root@example.org", "a-long-test-password")
    form = {"name": "ci", "user": root.pk, "role": "administrator"}
    assert "Select a valid choice" in as_administrator.post(ADD, form).content.decode()
    assert not ApiKey.objects.exists()
    as_root = Client()
    as_root.force_login(root)
    issue(as_root, root)
    assert ApiKey.objects.get().user == root
