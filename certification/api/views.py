"""What every endpoint is made of: roles, rates, and input that is checked before anything happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from certification.api import envelope
from certification.api.authentication import SAFE, Access, BearerAuthentication, HasRole
from certification.api.parsing import StrictJSONParser
from certification.api.throttles import PerMinute
from certification.models import Role, User


class View(APIView):
    """One address. Subclasses return data from `get`, `post` or `delete`, or raise; the envelope is
    put around either.

    `roles` names the least role for each method: viewers read and operators write unless it says
    otherwise. `rate` names the count that limits it, "read" or "write" by method unless it says
    otherwise. `refusals` names the statuses that it may answer besides those that any address may:
    for the schema.
    """

    authentication_classes: Sequence[type[BaseAuthentication]] = (BearerAuthentication,)
    permission_classes = (HasRole,)
    throttle_classes = (PerMinute,)
    parser_classes = (StrictJSONParser,)
    renderer_classes = (envelope.JSendRenderer,)
    content_negotiation_class = envelope.AlwaysJSON
    http_method_names = ["get", "post", "delete", "head", "options"]

    roles: ClassVar[dict[str, str]] = {}
    rate: ClassVar[str] = ""
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {}

    def get_exception_handler(self) -> Any:
        return envelope.exception_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            self.http_method_not_allowed(request)  # said before anybody is asked to log in
        super().initial(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Nobody keeps an answer, tokens least of all, unless its view says how long it holds."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final.headers.setdefault("Cache-Control", "no-store")
        return final

    def role_for(self, method: str | None) -> str:
        usual = Role.VIEWER if method in SAFE else Role.OPERATOR
        return self.roles.get("GET" if method == "HEAD" else method or "", usual)

    def rate_for(self, method: str | None) -> str:
        return self.rate or ("read" if method in SAFE else "write")


def current_user(request: Request) -> User:
    """The user that a request was let in as."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - HasRole let nobody else in
    return user


def access(request: Request) -> Access:
    """How a request was let in."""
    found = request.auth
    assert isinstance(found, Access)  # noqa: S101 - as above
    return found


def body(request: Request, form: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The checked body. ValidationError (400) names each field as `body.<name>`."""
    return _checked(form(data=request.data), "body")


def query(request: Request, form: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The checked query parameters; unknown ones are ignored. ValidationError (400) names each as
    `query.<name>`.

    An empty parameter counts as absent: the frontends send empty filters.
    """
    given = request.query_params.copy()
    for name in [name for name, value in given.items() if value == ""]:
        del given[name]
    return _checked(form(data=given), "query")


def _checked(form: serializers.Serializer[Any], where: str) -> dict[str, Any]:
    try:
        form.is_valid(raise_exception=True)
    except ValidationError as error:
        raise ValidationError({where: error.detail}) from None
    return dict(form.validated_data)


def invalid(path: str, message: str, code: str = "invalid") -> ValidationError:
    """A 400 about one place, such as `body.regions`."""
    where, _dot, name = path.partition(".")
    return ValidationError({where: {name: [ErrorDetail(message, code)]}})
