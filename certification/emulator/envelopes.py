"""How an error looks on the wire: each API of Bedrock wraps the same refusal in its own way."""

from __future__ import annotations

from typing import Any

from certification.emulator import wire
from certification.emulator.calls import CallRecord, Headers
from certification.emulator.http import FullResponse
from certification.emulator.refusals import Refusal
from certification.inference import Endpoint

# What the OpenAI-shaped paths call an error: (type, code).
OPENAI_KINDS = {
    400: ("invalid_request_error", "validation_error"),
    401: ("authentication_error", "access_denied"),
    403: ("permission_error", "access_denied"),
    404: ("invalid_request_error", "not_found_error"),
    408: ("server_error", "timeout"),
    413: ("invalid_request_error", "request_too_large"),
    424: ("server_error", "server_error"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "server_error"),
    503: ("server_error", "service_unavailable"),
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 424: "api_error",
    429: "rate_limit_error", 500: "api_error", 503: "api_error", 529: "overloaded_error",
}  # fmt: skip


def native(refusal: Refusal, record: CallRecord) -> FullResponse:
    """Return a refusal as Converse and InvokeModel send it: a message, and its code in a header."""
    name = "Message" if refusal.capital else "message"
    body = wire.dumps({name: refusal.message, **refusal.extra})
    code = ("x-amzn-ErrorType", f"{refusal.code}:{refusal.layer}")
    return FullResponse(refusal.status, body, (*record.headers, *retry_after(refusal), code))


def openai(refusal: Refusal, record: CallRecord) -> FullResponse:
    """Return a refusal as the paths of the OpenAI APIs send it.

    On bedrock-mantle a call that IAM refuses is a 401 there; so are bad credentials on both.
    """
    status = refusal.status
    if status == 403 and (record.endpoint is Endpoint.MANTLE or refusal.credentials):
        status = 401
    body = wire.dumps({"error": openai_error(refusal, status)})
    return FullResponse(status, body, (*record.headers, *retry_after(refusal)))


def openai_error(refusal: Refusal, status: int) -> dict[str, Any]:
    """Return the `error` member of the OpenAI shape."""
    kind, code = OPENAI_KINDS[status]
    return {
        "code": refusal.openai_code or code,
        "message": refusal.message,
        "param": refusal.param,
        "type": kind,
    }


def anthropic(refusal: Refusal, record: CallRecord) -> FullResponse:
    """Return a refusal as the Messages API sends it. 529 is its own way to say overloaded."""
    status = 529 if refusal.overloaded else refusal.status
    if refusal.credentials:
        status = 401
    request_id = "req_" + record.request_id.replace("-", "")
    error = anthropic_error(refusal, status)
    body = wire.dumps({"type": "error", "request_id": request_id, "error": error})
    return FullResponse(status, body, (*record.headers, *retry_after(refusal)))


def anthropic_error(refusal: Refusal, status: int | None = None) -> dict[str, Any]:
    """Return the `error` member of the Messages API."""
    kind = ANTHROPIC_TYPES[status or (529 if refusal.overloaded else refusal.status)]
    return {"type": kind, "message": refusal.message}


def retry_after(refusal: Refusal) -> Headers:
    return (("Retry-After", str(refusal.retry_after)),) if refusal.retry_after else ()


def response(refusal: Refusal, record: CallRecord) -> FullResponse:
    """Return the HTTP response of a refused call, in the shape that its path has."""
    if record.path.startswith("/anthropic/"):
        return anthropic(refusal, record)
    if record.path.startswith("/openai/") or record.endpoint is Endpoint.MANTLE:
        return openai(refusal, record)
    return native(refusal, record)
