"""An HTTP response of status 400 and above becomes an error, in whichever envelope it says so."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certification.bedrock import errors
from certification.bedrock.dialects.dialect import WireResponse
from certification.reasons import Reason

DENIED = "User: x is not authorized to perform: bedrock:InvokeModel on resource: y"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "Message", "code", "type", "__type", "Output", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def error_of(status: int, body: Any, **headers: str) -> errors.BedrockError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    wire = {name.replace("_", "-"): value for name, value in headers.items()}
    return errors.from_response(WireResponse(status, wire, data), "Converse")


@pytest.mark.parametrize(
    ("error", "code", "message", "reason"),
    [
        (
            error_of(403, {"message": DENIED}, x_amzn_errortype="AccessDeniedException"),
            "AccessDeniedException", DENIED, Reason.IAM_DENIED,
        ),
        (
            error_of(
                403, {"Message": DENIED},
                x_amzn_errortype="AccessDeniedException:http://internal.amazon.com/coral/x#y/",
            ),
            "AccessDeniedException", DENIED, Reason.IAM_DENIED,
        ),
        (
            error_of(400, {"__type": "com.amazon.coral#ThrottlingException", "message": "Slow"}),
            "ThrottlingException", "Slow", Reason.THROTTLED_REQUESTS,
        ),
        (
            error_of(401, {"error": {"code": "access_denied", "message": DENIED, "type": "x"}}),
            "access_denied", DENIED, Reason.IAM_DENIED,
        ),
        (
            error_of(404, {"error": {"code": "model_not_found", "type": "invalid_request_error",
                                     "message": "No", "param": None}}),
            "model_not_found", "No", Reason.UNKNOWN_MODEL,
        ),
        (
            error_of(429, {"error": {"code": None, "type": "rate_limit_error", "message": "Slow"}}),
            "rate_limit_error", "Slow", Reason.THROTTLED_REQUESTS,
        ),
        (
            error_of(529, {"type": "error", "error": {"type": "overloaded_error", "message": "O"}}),
            "overloaded_error", "O", Reason.SERVICE_UNAVAILABLE,
        ),
        (
            error_of(403, {"type": "error", "request_id": "req_1",
                           "error": {"type": "permission_error", "message": DENIED}}),
            "permission_error", DENIED, Reason.IAM_DENIED,
        ),
        (error_of(503, {"error": "no upstream"}), "503", "no upstream", Reason.SERVICE_UNAVAILABLE),
        (error_of(500, "just text"), "500", "just text", Reason.INTERNAL_ERROR),
        (error_of(429, b""), "429", "Too Many Requests", Reason.THROTTLED_REQUESTS),
        (error_of(500, 5), "500", "Internal Server Error", Reason.INTERNAL_ERROR),
        (
            error_of(502, b"<html><head><title>502</title><style>p {}</style></head>"
                          b"<body><b>Bad\n Gateway</b></body></html>"),
            "502", "502 Bad Gateway", Reason.SERVICE_UNAVAILABLE,
        ),
        (error_of(400, b"\xff\xfe"), "400", "\ufffd\ufffd", Reason.MALFORMED_REQUEST),
        (error_of(400, {"__type": 5, "message": []}), "400", "Bad Request",
         Reason.MALFORMED_REQUEST),
    ],
)  # fmt: skip
def test_every_envelope_is_read(
    error: errors.BedrockError, code: str, message: str, reason: Reason
) -> None:
    assert (error.code, error.message, error.reason) == (code, message, reason)
    assert error.operation == "Converse"


def test_the_request_id_is_the_headers_or_the_bodys() -> None:
    body = {"type": "error", "request_id": "req_1", "error": {"type": "api_error", "message": "x"}}
    assert error_of(500, body, x_amzn_requestid="a", x_request_id="b").request_id == "a"
    assert error_of(500, body, x_request_id="b").request_id == "b"
    assert error_of(500, body).request_id == "req_1"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Mon, 30 Nov 2026 07:00:10 GMT", 10.0),
        ("Mon, 30 Nov 2026 06:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    error = error_of(429, {}, retry_after=value, date="Mon, 30 Nov 2026 07:00:00 GMT")
    assert error.retry_after_s == seconds
    assert pickle.loads(pickle.dumps(error)).retry_after_s == seconds


def test_a_date_without_the_services_own_time_says_nothing() -> None:
    assert error_of(429, {}, retry_after="Mon, 30 Nov 2026 07:00:10 GMT").retry_after_s is None


def test_the_fix_of_a_reader_can_be_filled_with_model_and_region() -> None:
    error = errors.from_fault("AccessDeniedException", DENIED, operation="Converse")
    error.fill_fix("amazon.nova-micro-v1:0", "eu-west-1")
    assert "amazon.nova-micro-v1:0" in error.fix.command


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([400, 401, 403, 404, 418, 429, 500, 503, 529]), JSON | st.binary())
def test_whatever_the_body_is_it_is_an_error_of_ours(status: int, body: Any) -> None:
    error = error_of(status, body)
    assert isinstance(error, errors.BedrockError)
    assert error.http_status == status
    assert isinstance(error.code, str)
    assert isinstance(error.message, str)


def test_hostile_bodies_are_read_quickly() -> None:
    for body in (b"[" * 200_000, b"<" * 500_000, b"<script>" * 100_000, b"9" * 100_000):
        assert error_of(500, body).reason is Reason.INTERNAL_ERROR
