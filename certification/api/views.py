"""The base of every endpoint: roles, rates, and input that is checked before anything happens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast
from uuid import UUID

from django.http import QueryDict
from django.utils.translation import gettext as _
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

MAX_CACHED_QUERY = 500  # characters


class View(APIView):
    """One address. Subclasses return data from `get`, `post` or `delete`, or raise; either gets the
    envelope.

    `roles` has the required role for each method; by default viewers read and operators write.
    `rate` names the limit that applies; by default "read" or "write". `max_body_bytes` is for an
    address that takes less than others. `error_statuses` has the statuses beyond those of every
    address, for the schema.
    """

    authentication_classes: Sequence[type[BaseAuthentication]] = (BearerAuthentication,)
    permission_classes = (HasRole,)
    throttle_classes = (PerMinute,)
    parser_classes = (StrictJSONParser,)
    renderer_classes = (envelope.JSendRenderer,)
    content_negotiation_class = envelope.AlwaysJSON
    http_method_names = ["get", "post", "put", "delete", "head", "options"]

    roles: ClassVar[dict[str, str]] = {}
    rate: ClassVar[str] = ""
    max_body_bytes: ClassVar[int] = 0
    error_statuses: ClassVar[dict[str, tuple[int, ...]]] = {}

    def get_exception_handler(self) -> Any:
        return envelope.exception_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            self.http_method_not_allowed(request)  # before anybody has to log in
        super().initial(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Forbid caches to store a response (tokens!) unless its view allows it."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final.headers.setdefault("Cache-Control", "no-store")
        return final

    def role_for(self, method: str | None) -> str:
        usual = Role.VIEWER if method in SAFE else Role.OPERATOR
        return self.roles.get("GET" if method == "HEAD" else method or "", usual)

    def rate_for(self, method: str | None) -> str:
        return self.rate or ("read" if method in SAFE else "write")


def current_user(request: Request) -> User:
    """Return the user of an authenticated request."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - HasRole let nobody else in
    return user


def access(request: Request) -> Access:
    """Return how a request was authenticated."""
    auth = request.auth
    assert isinstance(auth, Access)  # noqa: S101 - as above
    return auth


def json_body(request: Request) -> dict[str, Any]:
    """Return the body as it was sent, an object. ParseError (400) for anything else."""
    return cast("dict[str, Any]", request.data)


def body(request: Request, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Return the checked body. ValidationError (400) names each field as `body.<name>`."""
    return validate(serializer(data=request.data), "body")


def query(request: Request, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Return the checked query parameters; unknown ones are ignored. ValidationError (400) names
    each as `query.<name>`.

    An empty parameter counts as absent: the frontends send empty filters.
    """
    text = envelope.as_request(request).META.get("QUERY_STRING", "")
    if len(text) > MAX_CACHED_QUERY:
        return checked_query.__wrapped__(text, serializer)
    return dict(checked_query(text, serializer))


@lru_cache(maxsize=1024)
def checked_query(text: str, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Check a query string. Cached, because checking takes an eighth of a cached answer: a
    serializer of a query looks at its words only, at no clock and no database.
    """
    params = QueryDict(text, mutable=True)
    for name in [name for name, value in params.items() if value == ""]:
        del params[name]
    return validate(serializer(data=params), "query")


def validate(serializer: serializers.Serializer[Any], where: str) -> dict[str, Any]:
    try:
        serializer.is_valid(raise_exception=True)
    except ValidationError as error:
        raise ValidationError({where: error.detail}) from None
    return dict(serializer.validated_data)


def path_uuid(text: str, name: str) -> UUID:
    """Return the UUID in a path. ValidationError (400) names it as `path.<name>`."""
    try:
        return UUID(text)
    except ValueError:
        message = _("%s is not an id. Take one from the list.") % text[:60]
        raise invalid(f"path.{name}", message) from None


def invalid(path: str, message: str, code: str = "invalid") -> ValidationError:
    """Return a 400 about one place, such as `body.regions`."""
    where, _dot, name = path.partition(".")
    return ValidationError({where: {name: [ErrorDetail(message, code)]}})
