"""Where a user is logged in, with which API keys, and all that is stored about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from certification.models import ApiKey, Preference, Session, User
from certification.models.sessions import SessionStore

# What names a browser or a system in its User-Agent, the more particular before what it imitates.
BROWSERS = {
    "Edg": "Edge", "OPR/": "Opera", "SamsungBrowser": "Samsung Internet", "Firefox": "Firefox",
    "FxiOS": "Firefox", "CriOS": "Chrome", "Chrome": "Chrome", "Safari": "Safari", "curl": "curl",
}  # fmt: skip
SYSTEMS = {
    "Windows": "Windows", "Android": "Android", "iPhone": "iPhone", "iPad": "iPad",
    "CrOS": "ChromeOS", "Mac OS X": "macOS", "Linux": "Linux",
}  # fmt: skip


class NotedSessions(SessionMiddleware):
    """Django's sessions, noted as used by each request that looked at its own."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> Any:
        session = getattr(request, "session", None)
        if isinstance(session, SessionStore) and session.accessed:
            session.note_use(request.headers.get("User-Agent", ""))
        return super().process_response(request, response)  # type: ignore[arg-type]


def device_name(user_agent: str) -> str:
    """Name a browser and its system for people: Firefox on Windows."""
    browser, system = first_named(BROWSERS, user_agent), first_named(SYSTEMS, user_agent)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("unknown device")


def first_named(names: dict[str, str], user_agent: str) -> str:
    return next((name for mark, name in names.items() if mark in user_agent), "")


@dataclass(frozen=True)
class Login:
    """A session for people. Its `id` opens nothing."""

    id: str
    device: str
    seen_at: datetime
    is_this: bool


def logins_of(user: User, session_key: str | None) -> list[Login]:
    """Return where a user is logged in, this browser first."""
    logins = [
        Login(row.public_id, device_name(row.device), row.seen_at, row.session_key == session_key)
        for row in Session.objects.of(user)
    ]
    return sorted(logins, key=lambda login: not login.is_this)


def end_session(user: User, public_id: str) -> bool:
    """End one session of the user. False where there is none of this name."""
    rows = [row for row in Session.objects.of(user) if row.public_id == public_id]
    for row in rows:
        row.delete()
    return bool(rows)


def keys_of(user: User) -> list[ApiKey]:
    """Return the keys of a user, those that work first, then the newest."""
    keys = user.api_keys.select_related("user")
    return sorted(keys, key=lambda key: not key.is_working)


def export(user: User) -> dict[str, Any]:
    """Return what is stored about a user, without secrets."""
    preferences = [f.attname for f in Preference._meta.fields if not f.primary_key]
    return {
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "joined": user.date_joined,
        "lastLogin": user.last_login,
        "preferences": Preference.objects.filter(user=user).values(*preferences).first(),
        "savedViews": list(columns(user.saved_views, "page", "name", "query", "is_shared")),
        "sessions": [
            {"device": row.device, "lastUsed": row.seen_at} for row in Session.objects.of(user)
        ],
        "apiKeys": list(columns(user.api_keys, "name", "shown", "role", "created_at",
                                "expires_at", "last_used_at", "revoked_at")),
        "jobs": list(columns(user.certificationjob_set.order_by("-created_at"), "id", "type",
                             "tier", "status", "note", "created_at")),
    }  # fmt: skip


def columns(rows: Any, *names: str) -> Iterable[dict[str, Any]]:
    result: Iterable[dict[str, Any]] = rows.values(*names).iterator()
    return result
