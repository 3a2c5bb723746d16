"""JSend around every response below /api/, also those that come from no view, and a request id on
every response.
"""

from __future__ import annotations

import math
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, cast

import structlog
from django.core.exceptions import FieldDoesNotExist, PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as UnusableValue
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views import defaults
from rest_framework import exceptions
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import set_rollback

log = structlog.get_logger(__name__)

API = "/api/"
ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
DATABASE_AWAY_RETRY_S = 5
DATABASE_AWAY = gettext_lazy(
    "The database does not answer at the moment. Try again in a few seconds."
)
_request_id: ContextVar[str] = ContextVar("request_id", default="")


class ApiError(APIException):
    """A refusal with a stable `errorCode` and a sentence. `facts` become `data`."""

    def __init__(
        self, status: int, code: str, message: str, facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, code)
        self.status_code, self.error_code, self.facts = status, code, facts


def not_found_error(code: str, message: str) -> ApiError:
    """Return a 404 for a thing that is named in the path or the body and does not exist."""
    return ApiError(404, code, message)


class JSendRenderer(JSONRenderer):
    """Puts `{"status":"success","data":...}` around what a view returns; errors have their envelope
    already.
    """

    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        response = (renderer_context or {}).get("response")
        if response is not None and response.status_code == 204:
            return b""
        if response is None or response.status_code < 400:
            data = {"status": "success", "data": data}
        rendered: bytes = super().render(data, accepted_media_type, renderer_context)
        return rendered


class AlwaysJSON(DefaultContentNegotiation):
    """JSON whatever the Accept header says: there is no other renderer."""

    def select_renderer(
        self, request: Any, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> Any:
        only = next(iter(renderers))
        return only, only.media_type


# Errors


def fail_body(
    status: int, code: str, message: str, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the body of a 4xx."""
    return {"status": "fail", "message": message, "code": status, "errorCode": code, "data": data}


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return the body of a 5xx. Its request id is in the logs."""
    return {"status": "error", "message": message, "code": status, "requestId": _request_id.get()}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the response to what a view raised, as DRF's exception handler. None for a bug, which
    Django reports.
    """
    if isinstance(error, OperationalError | InterfaceError):
        log.error("database_unavailable", error=str(error).strip())
        message = str(DATABASE_AWAY)
        headers = {"Retry-After": str(DATABASE_AWAY_RETRY_S)}
        return Response(error_body(503, message), status=503, headers=headers)
    match error:
        case APIException():
            api_error = error
        case Http404():
            api_error = exceptions.NotFound()
        case PermissionDenied():
            api_error = exceptions.PermissionDenied()
        case RequestDataTooBig():
            api_error = TooLarge()
        case _:
            return None
    set_rollback()
    response = Response(body_of(api_error), status=api_error.status_code)
    if auth_header := getattr(api_error, "auth_header", None):
        response["WWW-Authenticate"] = auth_header
    if wait := getattr(api_error, "wait", None):
        response["Retry-After"] = str(int(wait))
    if isinstance(api_error, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


class TooLarge(ApiError):
    def __init__(self) -> None:
        super().__init__(
            413, "too_large", _("The request is too large. Send fewer items at a time.")
        )


# The stable code of each of the framework's own refusals.
CODES: dict[type[APIException], str] = {
    ValidationError: "invalid_request",
    exceptions.ParseError: "malformed_json",
    exceptions.AuthenticationFailed: "invalid_credentials",
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.PermissionDenied: "not_allowed",
    exceptions.NotFound: "not_found",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "throttled",
}


def throttled_message(error: exceptions.Throttled) -> str:
    """Return the sentence of a 429: the framework's own has no good Portuguese translation."""
    seconds: float | None = vars(error).get("wait")
    if seconds is None:
        return _("Too many requests. Try again later.")
    wait = math.ceil(seconds)
    return ngettext(
        "Too many requests. Try again in %(n)d second.",
        "Too many requests. Try again in %(n)d seconds.",
        wait,
    ) % {"n": wait}


def body_of(error: APIException) -> dict[str, Any]:
    """Return the envelope of an error."""
    if isinstance(error, ApiError):
        if error.status_code >= 500:
            return error_body(error.status_code, str(error.detail))
        return fail_body(error.status_code, error.error_code, str(error.detail), error.facts)
    if isinstance(error, exceptions.Throttled):
        return fail_body(429, CODES[exceptions.Throttled], throttled_message(error))
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "refused")
    if isinstance(error, ValidationError):
        issues = list(flatten(error.detail))
        sentence = "; ".join(f"{issue['path']}: {issue['message']}" for issue in issues[:3])
        return fail_body(400, code, sentence, {"validation": issues[:50]})
    return fail_body(error.status_code, code, str(error.detail))


def flatten(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    """Yield the leaves of a validation error's tree: path, message, code."""
    if isinstance(detail, ErrorDetail):
        yield {"path": path, "message": str(detail), "code": detail.code or "invalid"}
        return
    if isinstance(detail, Mapping):
        entries = ((str(key), value) for key, value in detail.items())
    else:  # a list of sentences about this very path, or of trees about its items
        entries = (
            ("" if isinstance(value, ErrorDetail) else str(i), value)
            for i, value in enumerate(detail)
        )
    for key, value in entries:
        inner = "" if key == "non_field_errors" else key
        yield from flatten(value, ".".join(filter(None, (path, inner))))


# Errors outside of views


def error_handler(
    status: int, code: str, message: Promise, page: Callable[..., HttpResponseBase]
) -> Callable[..., Any]:
    """Make an error handler for Django: JSend below /api/, our page elsewhere."""

    def handler(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.path.startswith(API):
            return page(request, *args, **kwargs)
        body = (
            error_body(status, str(message))
            if status >= 500
            else fail_body(status, code, str(message))
        )
        return JsonResponse(body, status=status)

    return handler


def database_away_page(request: HttpRequest) -> HttpResponse:
    """Return the page for people, which needs no database."""
    return HttpResponse(render_to_string("503.html"), status=503)


bad_request = error_handler(
    400, "bad_request", gettext_lazy("The request is not valid."), defaults.bad_request
)
forbidden = error_handler(
    403, "not_allowed", gettext_lazy("This is not allowed."), defaults.permission_denied
)
not_found = error_handler(
    404, "not_found", gettext_lazy("There is nothing at this address."), defaults.page_not_found
)
bug = error_handler(
    500,
    "",
    gettext_lazy("Something went wrong on our side. Report it with the request id."),
    defaults.server_error,
)
away = error_handler(503, "", DATABASE_AWAY, database_away_page)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Respond to what no view caught: 503 for a database that is away, met before the view."""
    if not isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        response: HttpResponseBase = bug(request)
        return response
    response = away(request)
    response["Retry-After"] = str(DATABASE_AWAY_RETRY_S)
    return response


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: Any
) -> HttpResponse:
    """Respond to a login after too many failures: the view's own 429 for the API, a page for
    people.
    """
    from axes import helpers  # noqa: PLC0415 - axes reads its settings when the apps are ready

    if request.path.startswith(API) and response is not None:
        return response
    context = {
        "failure_limit": helpers.get_failure_limit(request, credentials),
        "username": helpers.get_client_username(request, credentials) or "",
        "cooloff_timedelta": helpers.get_cool_off(request),
    }
    return render(request, "registration/locked_out.html", context, status=429)


class RequestId:
    """Middleware: a request id on every response: the caller's own when it is short and plain."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        own = request.headers.get("X-Request-Id", "")
        request_id = own if ID.fullmatch(own) else str(uuid.uuid4())
        request.META["HTTP_X_REQUEST_ID"] = request_id
        before = _request_id.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            _request_id.reset(before)
        response["X-Request-Id"] = request_id
        return response


class UnusableValues:
    """Middleware: no address and no form that holds a value which nothing can have is our defect.

    PostgreSQL stores no NUL and no number of any length; Django's admin takes field names from the
    address.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # the API and the badges answer an unknown name in their own form
        if "\0" in request.path_info and not request.path_info.startswith(("/api/", "/badges/")):
            raise Http404
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        if not is_unusable(error):
            return None
        log.warning("unusable_value", path=request.path, error=str(error).strip())
        return cast("HttpResponseBase", bad_request(request, error))


def is_unusable(error: Exception) -> bool:
    """Whether a view met a value that no row and no field can have: what PostgreSQL or a field of a
    model refuses.
    """
    if isinstance(error, DataError | FieldDoesNotExist | UnusableValue):
        return True
    raised_in = error.__traceback__
    while raised_in and raised_in.tb_next:
        raised_in = raised_in.tb_next
    module = raised_in.tb_frame.f_globals.get("__name__", "") if raised_in else ""
    return isinstance(error, ValueError | TypeError) and module.startswith("django.db.models.field")


def request_id() -> str:
    """Return the id of the request that is being answered, '' outside of one."""
    return _request_id.get()


def as_request(request: Request) -> HttpRequest:
    """Return Django's request inside DRF's."""
    return request._request
