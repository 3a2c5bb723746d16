"""Log in and out, and one's own account."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth import authenticate, password_validation
from django.core.exceptions import ValidationError as WeakPassword
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response

from certification.api import representations, tokens, views
from certification.api.authentication import ANYBODY
from certification.api.envelope import ApiError, as_request
from certification.api.representations import Account, Done, LoggedIn
from certification.api.tokens import Token
from certification.api.views import View
from certification.models import Role, User

LOCKOUT_S = 900  # as long as AXES_COOLOFF_TIME


class Email(serializers.CharField):
    """In lower case before its length is checked: one character may become two."""

    def to_internal_value(self, data: Any) -> str:
        return str(super().to_internal_value(data)).lower()


class Login(serializers.Serializer[Any]):
    email = Email(max_length=254)
    password = serializers.CharField(max_length=1000, trim_whitespace=False)


class NewPassword(serializers.Serializer[Any]):
    oldPassword = serializers.CharField(max_length=1000, trim_whitespace=False)
    newPassword = serializers.CharField(max_length=1000, trim_whitespace=False)


def logged_in(user: User, refreshed: Token | None = None) -> Response:
    token = tokens.issue(user, refreshed)
    body: LoggedIn = {"token": token, "user": representations.account(user)}
    return Response(body)


class LoginView(View):
    authentication_classes = ()
    roles: ClassVar[dict[str, str]] = {"POST": ANYBODY}
    rate = "login"
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"POST": (401,)}

    @extend_schema(operation_id="login", request=Login, responses={200: LoggedIn}, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Log in with e-mail and password.

        The response is the same, in text and time, for an unknown e-mail and a wrong password.
        """
        fields = views.body(request, Login)
        inner = as_request(request)
        user = authenticate(inner, email=fields["email"], password=fields["password"])
        if getattr(inner, "axes_locked_out", False):
            raise LockedOut
        if not isinstance(user, User):
            raise ApiError(401, "invalid_credentials", _("E-mail or password is wrong."))
        inner.user = user  # for the audit trail
        return logged_in(user)


class LockedOut(ApiError):
    def __init__(self) -> None:
        super().__init__(
            429,
            "locked_out",
            _("Too many failed logins. Wait %d minutes, then try again.") % (LOCKOUT_S // 60),
        )
        self.wait = LOCKOUT_S


class RefreshView(View):
    exchanges_tokens = True
    roles: ClassVar[dict[str, str]] = {"POST": Role.VIEWER}
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {"POST": (409,)}

    @extend_schema(operation_id="refresh", request=None, responses={200: LoggedIn}, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Exchange a valid token for a new one of the same login; the old one stops working.

        A login ends after API_LOGIN_DAYS, however often it is refreshed. Exchanging the same token
        a second time ends it at once: somebody else may have the token.
        """
        token = views.access(request).token
        if token is None:
            raise ApiError(
                409,
                "not_a_login",
                _("An API key cannot be refreshed. Only login tokens can."),
            )
        if not token.revoke():  # another request exchanged it at the same moment
            token.end_family()
            raise AuthenticationFailed(_("Your login is no longer valid. Log in again."))
        return logged_in(token.user, token)


class MeView(View):
    @extend_schema(operation_id="me", responses={200: Account}, tags=["auth"])
    def get(self, request: Request) -> Response:
        """Return the user of the token. With an API key, `role` is the key's."""
        return Response(
            representations.account(views.current_user(request), views.access(request).role)
        )


class ChangePasswordView(View):
    roles: ClassVar[dict[str, str]] = {"POST": Role.VIEWER}
    rate = "login"

    @extend_schema(
        operation_id="changePassword", request=NewPassword, responses={200: LoggedIn}, tags=["auth"]
    )
    def post(self, request: Request) -> Response:
        """Change one's own password.

        Tokens issued before stop working; the response has a new one.
        """
        fields, user = views.body(request, NewPassword), views.current_user(request)
        if views.access(request).key:
            raise ApiError(
                403,
                "not_allowed",
                _("An API key cannot change its user's password. Log in to change it."),
            )
        if not user.check_password(fields["oldPassword"]):
            raise views.invalid(
                "body.oldPassword", _("The old password is wrong."), "wrong_password"
            )
        try:
            password_validation.validate_password(fields["newPassword"], user)
        except WeakPassword as error:
            raise views.invalid(
                "body.newPassword", " ".join(error.messages), "weak_password"
            ) from None
        user.set_password(fields["newPassword"])
        user.save(update_fields=["password"])
        return logged_in(user)


class LogoutView(View):
    roles: ClassVar[dict[str, str]] = {"POST": Role.VIEWER}

    @extend_schema(operation_id="logout", request=None, responses={200: Done}, tags=["auth"])
    def post(self, request: Request) -> Response:
        """End this login: this token and all that were or will be exchanged for it."""
        if token := views.access(request).token:
            token.end_family()
        return Response({"message": _("You are logged out.")})
