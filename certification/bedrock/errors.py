"""The errors that a call to Bedrock raises: one tree, ordered by what a caller can do about them.

    BedrockError              reason, message, code, http_status, request_id, operation, fix
      Refused                 the same call is refused again until somebody changes something
        NotAuthenticated      AUTHENTICATION_ERROR: our credentials are wrong
        AccessRefused         PERMISSION_ERROR, MODEL_ACCESS: known, but not allowed
        Unavailable           UNAVAILABLE: the model is not there, or no longer
        Misconfigured         CONFIGURATION_ERROR, PROVISIONING_REQUIRED: not how it is called
        QuotaExhausted        QUOTA_EXCEEDED: a limit that waiting minutes does not lift
        Blocked               CONTENT_BLOCKED: refused for its content or its length
      Interrupted             nothing lasting: most are worth a retry
        Throttled             RATE_LIMIT
        TimedOut              TIMEOUT
        NetworkFailed         NETWORK_ERROR
        GatewayFailed         GATEWAY_ERROR: something between us and AWS answered in its place
        ServiceFailed         SERVICE_ERROR
          StreamBroken        SERVICE_ERROR: a response that had begun did not arrive whole
      Unknown                 UNKNOWN_ERROR: nothing matched, the raw text is in the message
        Unexpected            INTERNAL_ERROR: our own program failed

`error.retryable` says whether a retry helps: it follows from the reason, not from the class.
`translate` turns any exception of aiohttp, botocore, boto3, urllib3 and the standard library's
network modules into one of these; `translated` does so for a block of code and raises `from` the
original. `codes` decides what each foreign class means. `from_response` does the same for an HTTP
response of status 400 and above, whichever API gave it, `from_fault` for an error inside another
response.
"""

from __future__ import annotations

import http.client
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Protocol

import aiohttp
import boto3.exceptions
import botocore.eventstream
import botocore.exceptions
import botocore.parsers
import urllib3.exceptions

from certification.bedrock import codes, fixes
from certification.bedrock.credentials import Credential
from certification.bedrock.diagnosis import diagnose
from certification.inference import Failure, Operation, Reply, Timing
from certification.lib import foreign_text
from certification.reasons import ErrorCategory, Reason

FOREIGN: tuple[type[Exception], ...] = (
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    botocore.eventstream.ParserError,
    botocore.parsers.ResponseParserError,
    boto3.exceptions.Boto3Error,
    urllib3.exceptions.HTTPError,
    aiohttp.ClientError,
    http.client.HTTPException,
    json.JSONDecodeError,
    UnicodeDecodeError,
    OSError,
    AssertionError,  # urllib3 asserts on a pooled connection that went stale
)


class BedrockError(Exception):
    """A call without a usable response. Make one with `error(reason, ...)`: it picks the class."""

    categories: frozenset[ErrorCategory] = frozenset()

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        code: str = "",
        http_status: int | None = None,
        request_id: str = "",
        operation: str = "",
        fix: fixes.Fix | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        message = foreign_text.clean(message)
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = foreign_text.clean(code)
        self.http_status = http_status
        self.request_id = foreign_text.clean(request_id)
        self.operation = operation
        self.fix = fix or fixes.fix_for(reason, operation=operation)
        self.retry_after_s = retry_after_s  # as the service wishes; it seldom does
        self.partial: Reply | None = None  # what a broken stream had delivered
        self.credential: Credential | None = None  # of the call, where it was not accepted

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason.value

    def __reduce__(self) -> tuple[Any, ...]:
        """Make errors picklable: workers pass them on, and keyword-only arguments are not."""
        names = ("code", "http_status", "request_id", "operation", "fix", "retry_after_s")
        details = {name: getattr(self, name) for name in names}
        rebuild = partial(type(self), **details)
        return rebuild, (self.reason, self.message), {"partial": self.partial}

    @property
    def category(self) -> ErrorCategory:
        return self.reason.category

    @property
    def retryable(self) -> bool:
        return self.reason.retryable

    def fill_fix(self, model_id: str, region: str) -> None:
        """Name the model and the region of the call in the fix's command.

        For errors that readers of responses raise, which know neither.
        """
        diagnosis = diagnose(
            self.message,
            self.code,
            self.http_status,
            self.operation,
            model_id=model_id,
            region=region,
        )
        if diagnosis.reason is self.reason:
            self.fix = diagnosis.fix

    def to_failure(self, timing: Timing | None = None, partial: Reply | None = None) -> Failure:
        """Return the plain outcome for suite and engine; a listing's counts as Converse."""
        known = self.operation in set(Operation)
        return Failure(
            reason=self.reason,
            message=self.message,
            code=self.code,
            http_status=self.http_status,
            operation=Operation(self.operation) if known else Operation.CONVERSE,
            request_id=self.request_id,
            timing=timing or Timing(0.0),
            partial=partial or self.partial,
            credential=self.credential or "",
        )


class Refused(BedrockError):
    """Will be refused again until somebody changes something."""


class NotAuthenticated(Refused):
    categories = frozenset({ErrorCategory.AUTHENTICATION_ERROR})


class AccessRefused(Refused):
    categories = frozenset({ErrorCategory.PERMISSION_ERROR, ErrorCategory.MODEL_ACCESS})


class Unavailable(Refused):
    categories = frozenset({ErrorCategory.UNAVAILABLE})


class Misconfigured(Refused):
    categories = frozenset({ErrorCategory.CONFIGURATION_ERROR, ErrorCategory.PROVISIONING_REQUIRED})


class QuotaExhausted(Refused):
    categories = frozenset({ErrorCategory.QUOTA_EXCEEDED})


class Blocked(Refused):
    categories = frozenset({ErrorCategory.CONTENT_BLOCKED})


class Interrupted(BedrockError):
    """Says nothing lasting about the model."""


class Throttled(Interrupted):
    categories = frozenset({ErrorCategory.RATE_LIMIT})


class TimedOut(Interrupted):
    categories = frozenset({ErrorCategory.TIMEOUT})


class NetworkFailed(Interrupted):
    categories = frozenset({ErrorCategory.NETWORK_ERROR})


class GatewayFailed(Interrupted):
    categories = frozenset({ErrorCategory.GATEWAY_ERROR})


class ServiceFailed(Interrupted):
    categories = frozenset({ErrorCategory.SERVICE_ERROR})


class StreamBroken(ServiceFailed):
    reasons = frozenset({Reason.STREAM_ERROR, Reason.STREAM_TRUNCATED, Reason.STREAM_CORRUPT})


class Unknown(BedrockError):
    categories = frozenset({ErrorCategory.UNKNOWN_ERROR})


class Unexpected(Unknown):
    categories = frozenset({ErrorCategory.INTERNAL_ERROR})


LEAVES = (
    NotAuthenticated, AccessRefused, Unavailable, Misconfigured, QuotaExhausted, Blocked,
    Throttled, TimedOut, NetworkFailed, GatewayFailed, ServiceFailed, Unknown, Unexpected,
)  # fmt: skip
BY_CATEGORY = {category: leaf for leaf in LEAVES for category in leaf.categories}


def class_of(reason: Reason) -> type[BedrockError]:
    """Return the class for a reason. KeyError for reasons of quality, which are never raised."""
    return StreamBroken if reason in StreamBroken.reasons else BY_CATEGORY[reason.category]


def error(reason: Reason, message: str, **details: Any) -> BedrockError:
    """Return an error of the right class; `details` as for BedrockError."""
    return class_of(reason)(reason, message, **details)


def translate(
    exc: BaseException, operation: str = "", *, model_id: str = "", region: str = ""
) -> BedrockError:
    """Return the BedrockError for any foreign exception, a BedrockError as it is.

    Raise it `from exc`.
    """
    if isinstance(exc, BedrockError):
        return exc
    meta: Mapping[str, Any] = {}
    if isinstance(exc, botocore.exceptions.ClientError):
        response: Mapping[str, Any] = getattr(exc, "response", None) or {}
        details = response.get("Error") or {}
        code = str(details.get("Code") or "")
        text = message = str(details.get("Message") or details.get("message") or "")
        meta = response.get("ResponseMetadata") or {}  # absent for errors inside a stream
    else:
        code, message = known_class_name(exc) or type(exc).__name__, safe_str(exc)
        text = " ".join(f"{type(cause).__name__}: {safe_str(cause)}" for cause in causes_of(exc))
    status = meta.get("HTTPStatusCode")
    # botocore leaves RequestId out where a 5xx came with HTML instead of a body of Bedrock's
    request_id = meta.get("RequestId") or (meta.get("HTTPHeaders") or {}).get("x-amzn-requestid")
    # an unknown exception event still ended the response
    in_stream = isinstance(exc, botocore.exceptions.EventStreamError)
    return from_fault(
        code,
        message,
        cause=text,
        http_status=status if isinstance(status, int) else None,
        operation=operation or str(getattr(exc, "operation_name", "") or ""),
        request_id=str(request_id or ""),
        model_id=model_id,
        region=region,
        unknown=Reason.STREAM_ERROR if in_stream else Reason.UNKNOWN,
    )


class Response(Protocol):
    """A whole HTTP response with header names in lower case: `dialects` call it WireResponse."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...


def from_response(
    response: Response, operation: str = "", *, model_id: str = "", region: str = ""
) -> BedrockError:
    """Return the error that a response of status 400 and above reports, in any API's envelope."""
    code, message, request_id = envelope_of(response.body)
    named = response.headers.get("x-amzn-errortype") or code
    code = named.split(":", 1)[0].rsplit("#", 1)[-1].strip()  # a URI may follow the native name
    return from_fault(
        code or str(response.status),
        message or http.client.responses.get(response.status, ""),
        http_status=response.status,
        operation=operation,
        request_id=request_id_in(response.headers) or request_id,
        retry_after_s=retry_after_s(response.headers),
        model_id=model_id,
        region=region,
    )


def from_fault(
    code: str,
    message: str,
    *,
    cause: str = "",
    http_status: int | None = None,
    operation: str = "",
    request_id: str = "",
    retry_after_s: float | None = None,
    model_id: str = "",
    region: str = "",
    unknown: Reason = Reason.UNKNOWN,
) -> BedrockError:
    """Return an error of the service by its code and message.

    `cause` is the text to diagnose where the message does not hold all of it. `unknown` is the
    reason for what nothing matches: a stream that it ended is broken all the same.
    """
    text = cause or message
    diagnosis = diagnose(text, code, http_status, operation, model_id=model_id, region=region)
    reason, fix = diagnosis.reason, diagnosis.fix
    if reason is Reason.UNKNOWN and unknown is not Reason.UNKNOWN:
        reason, fix = unknown, fixes.fix_for(unknown, operation=operation)
    return error(
        reason,
        message,
        code=code,
        http_status=http_status,
        request_id=request_id,
        operation=operation,
        fix=fix,
        retry_after_s=retry_after_s,
    )


MAX_PAGE = 500  # characters of a page or a text that is no envelope


def envelope_of(body: bytes) -> tuple[str, str, str]:
    """Return code, message and request id in the body of an error, each "" where it has none."""
    text = body.decode(errors="replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        page = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<[^<>]*>", " ", text[: 16 * MAX_PAGE])
        return "", " ".join(page.split())[:MAX_PAGE], ""
    code, message = fault_in(value)
    request_id = value.get("request_id") if isinstance(value, dict) else ""
    return code, message, request_id if isinstance(request_id, str) else ""


def fault_in(value: Any) -> tuple[str, str]:
    """Return code and message of a parsed error, each "" where it has none.

    The envelopes: native `{"message"}`, also with `__type`; OpenAI's and Anthropic's `{"error":
    {...}}`; the error event of a Responses stream `{"type": "error", "code", "message"}`; and
    `{"Output": {"__type"}}` for a path that the runtime does not know.
    """
    if isinstance(value, str):
        return "", value
    if not isinstance(value, Mapping):
        return "", ""
    inner = value.get("error") or value.get("Output") or value
    if isinstance(inner, str):  # some gateways: {"error": "..."}
        return "", inner
    if not isinstance(inner, Mapping):
        inner = value
    message = first_text(inner, "message", "Message", "errorMessage", "detail")
    code = first_text(inner, "code", "__type", "Code", "type")
    return ("" if code == "error" else code), message


def first_text(value: Mapping[str, Any], *names: str) -> str:
    """Return the first of these members that is a text with something in it, else ""."""
    texts = (value.get(name) for name in names)
    return next((text for text in texts if isinstance(text, str) and text), "")


def request_id_in(headers: Mapping[str, str]) -> str:
    """Return AWS's request id from headers in lower case, "" without one."""
    return headers.get("x-amzn-requestid") or headers.get("x-request-id") or ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, None without one that can be read.

    A date counts from the response's own Date: the service's clock need not be ours.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            until, now = (parsedate_to_datetime(text) for text in (value, headers.get("date", "")))
            seconds = (until.replace(tzinfo=UTC) - now.replace(tzinfo=UTC)).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def bad_response(response: Response, operation: str, content: str) -> BedrockError:
    """Return the error for a response of another shape; `content` says what it holds."""
    return error(
        Reason.BAD_RESPONSE,
        f"The service answered {response.status} with {content}.",
        operation=operation,
        http_status=response.status,
        request_id=request_id_in(response.headers),
    )


@contextmanager
def translated(operation: str = "", *, model_id: str = "", region: str = "") -> Iterator[None]:
    """Raise what AWS's libraries raise inside the block as a BedrockError, `from` the original."""
    try:
        yield
    except FOREIGN as exc:
        raise translate(exc, operation, model_id=model_id, region=region) from exc


def safe_str(exc: BaseException) -> str:
    """Return `str(exc)`, "" where that raises: some of urllib3's do when half built."""
    try:
        return str(exc)
    except (AttributeError, TypeError):
        return ""


def known_class_name(exc: BaseException) -> str:
    """Return the nearest class in the exception's ancestry that `codes` decides on, or ""."""
    names = (
        cls.__name__ for cls in type(exc).__mro__ if cls not in {Exception, BaseException, object}
    )
    return next((name for name in names if codes.canonical(name) in codes.CLIENT), "")


def causes_of(exc: BaseException, limit: int = 6) -> Iterator[BaseException]:
    """Yield the exception and those inside it, outermost first.

    botocore keeps the cause in `kwargs`, urllib3 in `reason` and `args`.
    """
    visited: list[BaseException] = []
    queue: list[object] = [exc]
    while queue and len(visited) < limit:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or current in visited:
            continue
        visited.append(current)
        yield current
        kwargs = getattr(current, "kwargs", None)
        inner = [kwargs.get("error")] if isinstance(kwargs, dict) else []
        queue += [*inner, getattr(current, "reason", None), *current.args, current.__cause__]
