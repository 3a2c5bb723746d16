"""Who asks, and whether they may: `Authorization: Bearer <token or API key>` and three roles."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from certification.api import tokens
from certification.models import KEY_PREFIX, ApiKey, Role, User

ANYBODY = "anybody"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Access:
    """How a request was let in (`request.auth`): with what role, by which token or key."""

    role: str
    token_id: uuid.UUID | None = None
    token_expires_at: datetime | None = None
    key: ApiKey | None = None

    def reaches(self, role: str) -> bool:
        """Whether this role, or more, was given."""
        order = Role.values
        return self.role in order and order.index(self.role) >= order.index(role)


class BearerAuthentication(BaseAuthentication):
    """A login token or an API key. Raises AuthenticationFailed (401) for one that does not work
    now.
    """

    def authenticate(self, request: Request) -> tuple[User, Access] | None:
        credential = self.credential(request)
        if not credential:
            return None
        return _by_key(credential) if credential.startswith(KEY_PREFIX) else _by_token(credential)

    def credential(self, request: Request) -> str:
        """The text after `Bearer`; '' without the header."""
        header = request.headers.get("Authorization", "")
        scheme, _space, credential = header.partition(" ")
        if header and (scheme.lower() != "bearer" or not credential.strip()):
            raise AuthenticationFailed(_("Send the header as: Authorization: Bearer <token>."))
        return credential.strip()

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


def _by_key(credential: str) -> tuple[User, Access]:
    key = ApiKey.find(credential)
    if key is None:
        raise AuthenticationFailed(
            _("This API key does not work: it is unknown, expired or revoked.")
        )
    return key.user, Access(key.effective_role, key=key)


def _by_token(credential: str) -> tuple[User, Access]:
    try:
        token = tokens.read(credential)
    except tokens.TokenError:
        raise AuthenticationFailed(_("Your login is not valid any more. Log in again.")) from None
    return token.user, Access(token.user.role, token.id, token.expires_at)


class TokenFromQuery:
    """Middleware, before all others: takes `?token=` out of the address, so that no log, mail or
    error page can show it.

    Browsers cannot send a header with an event stream: there it becomes the `Authorization` header,
    unless that was sent too.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "token" in unquote_plus(
            request.META.get("QUERY_STRING", "")
        ) and request.path_info.startswith("/api/"):
            token = _strip_token(request.META)
            if token and EVENTS.fullmatch(request.path_info):
                request.META.setdefault("HTTP_AUTHORIZATION", f"Bearer {token}")
        return self.get_response(request)


EVENTS = re.compile(r"/api/certification-queue/jobs/[^/]+/events")


def _strip_token(environ: dict[str, Any]) -> str:
    """Remove the parameter from the WSGI environment, also where a server or its access log keeps
    the raw address. The last one given.
    """
    token, kept = "", []
    for pair in environ["QUERY_STRING"].split("&"):
        name, _is, value = pair.partition("=")
        if unquote_plus(name).strip() == "token":
            token = unquote_plus(value)
        else:
            kept.append(pair)
    environ["QUERY_STRING"] = "&".join(kept)
    for raw in ("RAW_URI", "REQUEST_URI"):
        if raw in environ:
            environ[raw] = "?".join(
                filter(None, (environ[raw].partition("?")[0], environ["QUERY_STRING"]))
            )
    return token


class HasRole(BasePermission):
    """The role that the view asks for the method: see `View.roles`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = view.role_for(request.method)
        if needed == ANYBODY:
            return True
        access = request.auth
        if not isinstance(access, Access):
            return False
        self.message = _("Your role (%(role)s) may not do this: it takes %(needed)s.") % {
            "role": Role(access.role).label if access.role else _("none"),
            "needed": Role(needed).label,
        }
        return access.reaches(needed)
