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
        ServiceFailed         SERVICE_ERROR
          StreamBroken        SERVICE_ERROR: a response that had begun did not arrive whole
      Unknown                 UNKNOWN_ERROR: nothing matched, the raw text is in the message

`error.retryable` says whether a retry helps: it follows from the reason, not from the class.
`translate` turns any exception of botocore, boto3, urllib3 and the standard library's network
modules into one of these; `translated` does so for a block of code and raises `from` the original.
`codes` decides what each foreign class means.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3.exceptions
import botocore.eventstream
import botocore.exceptions
import botocore.parsers
import urllib3.exceptions

from certification.bedrock import codes, fixes
from certification.bedrock.diagnosis import diagnose
from certification.inference import Failure, Operation, Reply, Timing
from certification.reasons import ErrorCategory, Reason

FOREIGN: tuple[type[Exception], ...] = (
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    botocore.eventstream.ParserError,
    botocore.parsers.ResponseParserError,
    boto3.exceptions.Boto3Error,
    urllib3.exceptions.HTTPError,
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
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.operation = operation
        self.fix = fix or fixes.fix_for(reason, operation=operation)
        self.partial: Reply | None = None  # what a broken stream had delivered

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason.value

    def __reduce__(self) -> tuple[Any, ...]:
        """Make errors picklable: workers pass them on, and keyword-only arguments are not."""
        names = ("code", "http_status", "request_id", "operation", "fix")
        details = {name: getattr(self, name) for name in names}
        rebuild = partial(type(self), **details)
        return rebuild, (self.reason, self.message), {"partial": self.partial}

    @property
    def category(self) -> ErrorCategory:
        return self.reason.category

    @property
    def retryable(self) -> bool:
        return self.reason.retryable

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


class ServiceFailed(Interrupted):
    categories = frozenset({ErrorCategory.SERVICE_ERROR})


class StreamBroken(ServiceFailed):
    reasons = frozenset({Reason.STREAM_ERROR, Reason.STREAM_TRUNCATED, Reason.STREAM_CORRUPT})


class Unknown(BedrockError):
    categories = frozenset({ErrorCategory.UNKNOWN_ERROR})


LEAVES = (
    NotAuthenticated, AccessRefused, Unavailable, Misconfigured, QuotaExhausted, Blocked,
    Throttled, TimedOut, NetworkFailed, ServiceFailed, Unknown,
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
    operation = operation or str(getattr(exc, "operation_name", "") or "")
    status = meta.get("HTTPStatusCode")
    diagnosis = diagnose(text, code, status, operation, model_id=model_id, region=region)
    reason, fix = diagnosis.reason, diagnosis.fix
    if reason is Reason.UNKNOWN and isinstance(exc, botocore.exceptions.EventStreamError):
        reason = Reason.STREAM_ERROR  # an unknown exception event still ended the response
        fix = fixes.fix_for(reason)
    # botocore leaves RequestId out where a 5xx came with HTML instead of a body of Bedrock's
    request_id = meta.get("RequestId") or (meta.get("HTTPHeaders") or {}).get("x-amzn-requestid")
    return error(
        reason,
        message,
        code=code,
        http_status=status if isinstance(status, int) else None,
        request_id=str(request_id or ""),
        operation=operation,
        fix=fix,
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
