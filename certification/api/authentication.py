"""Who calls, and with what role: `Authorization: Bearer <token or API key>` and three roles."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
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
from certification.api.tokens import Token
from certification.models import KEY_PREFIX, ApiKey, Role, User

ANYBODY = "anybody"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Access:
    """How a request was authenticated (`request.auth`): its role, and its token or key."""

    role: str
    token: Token | None = None
    key: ApiKey | None = None

    def reaches(self, role: str) -> bool:
        """Return whether the request has this role or a higher one."""
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
        if credential.startswith(KEY_PREFIX):
            key = ApiKey.find(credential)
            if key is None:
                raise AuthenticationFailed(
                    _("This API key does not work: it is unknown, expired or revoked.")
                )
            return key.user, Access(key.effective_role, key=key)
        try:
            token = tokens.read(credential)
        except tokens.TokenError:
            if getattr(request.parser_context["view"], "exchanges_tokens", False):
                tokens.end_reused_family(credential)
            message = _("Your login is no longer valid. Log in again.")
            raise AuthenticationFailed(message) from None
        return token.user, Access(token.user.role, token)

    def credential(self, request: Request) -> str:
        """Return the text after `Bearer`; '' without the header."""
        header = request.headers.get("Authorization", "")
        scheme, _space, credential = header.partition(" ")
        if header and (scheme.lower() != "bearer" or not credential.strip()):
            raise AuthenticationFailed(_("Send the header as: Authorization: Bearer <token>."))
        return credential.strip()

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class PagesAuthentication(BaseAuthentication):
    """Who is logged in at the pages; for addresses that only read."""

    def authenticate(self, request: Request) -> tuple[User, Access] | None:
        user = request._request.user
        return (user, Access(user.role)) if isinstance(user, User) and user.is_active else None


class TokenFromQuery:
    """Middleware, before all others: removes `?token=` from the address, so that no log, mail or
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
            token = strip_token(request.META)
            if token and EVENTS.fullmatch(request.path_info):
                request.META.setdefault("HTTP_AUTHORIZATION", f"Bearer {token}")
        return self.get_response(request)


EVENTS = re.compile(r"/api/certification-queue/jobs/[^/]+/events")


def strip_token(environ: dict[str, Any]) -> str:
    """Remove the parameter from the WSGI environment, also where a server or its access log has the
    raw address; return its last value.
    """
    token, others = "", []
    for pair in environ["QUERY_STRING"].split("&"):
        name, _is, value = pair.partition("=")
        if unquote_plus(name).strip() == "token":
            token = unquote_plus(value)
        else:
            others.append(pair)
    environ["QUERY_STRING"] = "&".join(others)
    for raw in ("RAW_URI", "REQUEST_URI"):
        if raw in environ:
            environ[raw] = "?".join(
                filter(None, (environ[raw].partition("?")[0], environ["QUERY_STRING"]))
            )
    return token


class HasRole(BasePermission):
    """The role that the view requires for the method: see `View.roles`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = view.role_for(request.method)
        if needed == ANYBODY:
            return True
        access = request.auth
        if not isinstance(access, Access):
            return False
        required = {"required": Role(needed).label}
        self.message = (
            _("This requires the role %(required)s; yours is %(role)s.")
            % {**required, "role": Role(access.role).label}
            if access.role
            else _("This requires the role %(required)s; you have none.") % required
        )
        return access.reaches(needed)
