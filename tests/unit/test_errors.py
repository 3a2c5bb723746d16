"""Every way a call to AWS can fail comes out as one of our errors, decided and not guessed."""

from __future__ import annotations

import binascii
import contextlib
import inspect
import io
import json
import pickle
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import aiohttp
import aiohttp.client_exceptions
import boto3
import boto3.exceptions
import botocore.eventstream
import botocore.exceptions
import botocore.parsers
import botocore.session
import pytest
import urllib3.exceptions
from botocore.config import Config

from certification.bedrock import codes, errors, fixes
from certification.inference import Operation, Reply, Timing
from certification.reasons import ErrorCategory, Reason

MODEL = "amazon.nova-micro-v1:0"
RUNTIME = (
    "Converse",
    "ConverseStream",
    "InvokeModel",
    "InvokeModelWithResponseStream",
    "CountTokens",
)
CONTROL = (
    "ListFoundationModels",
    "ListInferenceProfiles",
    "GetFoundationModel",
    "GetFoundationModelAvailability",
)
FOREIGN_MODULES = (
    botocore.exceptions,
    botocore.eventstream,
    botocore.parsers,
    boto3.exceptions,
    urllib3.exceptions,
    aiohttp.client_exceptions,
)


def service_models() -> Iterator[Any]:
    session = botocore.session.get_session()
    for service, names in {"bedrock-runtime": RUNTIME, "bedrock": CONTROL}.items():
        model = session.get_service_model(service)
        yield from (model.operation_model(name) for name in names)


def declared_errors() -> set[tuple[str, str, int]]:
    """(operation, error shape, HTTP status) as botocore's own service models declare them."""
    return {
        (operation.name, shape.name, shape.metadata["error"]["httpStatusCode"])
        for operation in service_models()
        for shape in operation.error_shapes
    }


def declared_stream_exceptions() -> set[tuple[str, str]]:
    return {
        (operation.name, name)
        for operation in service_models()
        if operation.has_event_stream_output
        for name, shape in operation.get_event_stream_output().members.items()
        if shape.metadata.get("exception")
    }


def foreign_classes() -> list[type[Exception]]:
    classes = {
        cls
        for module in FOREIGN_MODULES
        for _, cls in inspect.getmembers(module, inspect.isclass)
        # warnings are never raised by a call
        if issubclass(cls, Exception) and not issubclass(cls, Warning)
    }
    return sorted(classes, key=lambda cls: (cls.__module__, cls.__name__))


def client_error(
    code: str, message: str = "", status: int | None = 400
) -> botocore.exceptions.ClientError:
    response: dict[str, Any] = {"Error": {"Code": code, "Message": message}}
    if status is not None:
        response["ResponseMetadata"] = {
            "HTTPStatusCode": status,
            "RequestId": "r-1",
            "RetryAttempts": 0,
        }
    return botocore.exceptions.ClientError(response, "Converse")


@pytest.mark.parametrize(("operation", "shape", "status"), sorted(declared_errors()))
def test_every_error_botocore_declares_for_our_operations_has_its_class(operation, shape, status):
    error = errors.translate(client_error(shape, "", status), operation)
    assert codes.canonical(shape) in codes.AWS
    assert error.reason is not Reason.UNKNOWN
    assert type(error) is errors.class_of(error.reason)


@pytest.mark.parametrize(("operation", "event"), sorted(declared_stream_exceptions()))
def test_every_exception_event_of_a_stream_has_its_class(operation, event):
    exc = botocore.exceptions.EventStreamError({"Error": {"Code": event, "Message": ""}}, operation)
    error = errors.translate(exc)
    assert codes.canonical(event) in codes.AWS
    assert error.reason is not Reason.UNKNOWN
    assert error.http_status is None
    assert error.operation == operation


@pytest.mark.parametrize(
    "cls", foreign_classes(), ids=lambda cls: f"{cls.__module__}.{cls.__name__}"
)
def test_every_exception_class_of_the_libraries_below_is_decided_by_name(cls):
    assert codes.canonical(cls.__name__) in codes.CLIENT | codes.AWS, (
        f"{cls.__name__} needs a row in codes.CLIENT"
    )


def test_no_foreign_exception_breaks_the_translation():
    for cls in foreign_classes():
        assert isinstance(errors.translate(cls.__new__(cls), "Converse"), errors.BedrockError)


def test_the_tree_has_a_class_for_every_category_but_quality_which_is_judged():
    reached = {
        reason.category for reason in Reason if reason.category is not ErrorCategory.QUALITY_ISSUE
    }
    assert {errors.class_of(reason) for reason in Reason if reason.category in reached} >= set(
        errors.LEAVES
    )
    with pytest.raises(KeyError):
        errors.class_of(Reason.GATE_FAILED)


def test_the_outline_in_the_docstring_is_the_tree():
    outline = [
        line.split()[0]
        for line in (errors.__doc__ or "").splitlines()
        if line.startswith("    ") and line.strip()
    ]
    drawn = {word for word in outline if hasattr(errors, word)}
    tree = {errors.BedrockError.__name__}
    waiting = [errors.BedrockError]
    while waiting:
        below = waiting.pop().__subclasses__()
        tree |= {cls.__name__ for cls in below}
        waiting += below
    assert drawn == tree


def test_every_reason_translates_to_its_class_and_keeps_its_retryability():
    for reason in Reason:
        if reason.category is ErrorCategory.QUALITY_ISSUE:
            continue
        error = errors.error(reason, "words")
        assert error.retryable is reason.retryable
        assert error.category is reason.category
        assert reason.category in type(error).categories or isinstance(error, errors.StreamBroken)


def test_an_error_becomes_a_failure_with_all_it_knows():
    exc = client_error(
        "ThrottlingException", "Too many tokens, please wait before trying again.", 429
    )
    failure = errors.translate(exc, "ConverseStream").to_failure(Timing(12.5))
    assert failure.reason is Reason.THROTTLED_TOKENS
    assert failure.message == "Too many tokens, please wait before trying again."
    assert (failure.code, failure.http_status, failure.request_id) == (
        "ThrottlingException",
        429,
        "r-1",
    )
    assert failure.operation is Operation.STREAM
    assert failure.timing.total_ms == 12.5


def test_a_failure_of_a_broken_stream_carries_what_had_arrived():
    arrived = Reply((), "", None, Timing(1.0))
    error = errors.error(Reason.STREAM_TRUNCATED, "cut")
    error.partial = arrived
    assert error.to_failure().partial is arrived


def test_the_original_stays_the_cause():
    with pytest.raises(errors.AccessRefused) as caught, errors.translated("Converse"):
        raise client_error("AccessDeniedException", "Operation not allowed", 403)
    assert isinstance(caught.value.__cause__, botocore.exceptions.ClientError)


def test_our_own_bugs_are_not_dressed_up_as_errors_of_aws():
    with pytest.raises(TypeError), errors.translated("Converse"):
        raise TypeError("a bug")


def test_an_error_of_ours_passes_unchanged():
    original = errors.error(Reason.DEADLINE, "no time left")
    assert errors.translate(original) is original
    with pytest.raises(errors.TimedOut) as caught, errors.translated("Converse"):
        raise original
    assert caught.value is original


def test_an_error_survives_the_way_between_processes():
    error = errors.translate(
        client_error(
            "ExpiredTokenException", "The security token included in the request is expired", 403
        )
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.reason, again.code, again.fix) == (
        type(error),
        error.reason,
        error.code,
        error.fix,
    )


def test_a_client_error_without_any_metadata_or_with_none_for_a_response_is_read_all_the_same():
    bare = botocore.exceptions.ClientError({}, "Converse")
    assert errors.translate(bare).reason is Reason.UNKNOWN
    timeout = botocore.exceptions.ReadTimeoutError(
        endpoint_url="https://bedrock-runtime.us-east-1.amazonaws.com"
    )
    assert timeout.response is None
    assert errors.translate(timeout).reason is Reason.READ_TIMEOUT


def test_a_stream_event_without_a_name_we_know_still_broke_the_stream():
    exc = botocore.exceptions.EventStreamError(
        {"Error": {"Code": "newKindOfException", "Message": "?"}}, "ConverseStream"
    )
    error = errors.translate(exc)
    assert isinstance(error, errors.StreamBroken)
    assert error.fix == fixes.fix_for(Reason.STREAM_ERROR)


def test_the_fix_is_filled_with_the_model_and_region_of_the_call():
    exc = client_error(
        "ResourceNotFoundException", "This model version has reached the end of its life.", 404
    )
    assert (
        "eu-west-1"
        in errors.translate(exc, "Converse", model_id=MODEL, region="eu-west-1").fix.command
    )


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (botocore.exceptions.NoCredentialsError(), Reason.CREDENTIALS_MISSING),
        (
            botocore.exceptions.PartialCredentialsError(provider="env", cred_var="x"),
            Reason.CREDENTIALS_MISSING,
        ),
        (
            botocore.exceptions.CredentialRetrievalError(
                provider="custom-process", error_msg="exit status 1"
            ),
            Reason.CREDENTIALS_INVALID,
        ),
        (
            botocore.exceptions.CredentialRetrievalError(
                provider="sso", error_msg="Your session has expired"
            ),
            Reason.CREDENTIALS_EXPIRED,
        ),
        (
            botocore.exceptions.TokenRetrievalError(
                provider="sso", error_msg="Token has expired and refresh failed"
            ),
            Reason.CREDENTIALS_EXPIRED,
        ),
        (botocore.exceptions.UnauthorizedSSOTokenError(), Reason.CREDENTIALS_EXPIRED),
        (
            botocore.exceptions.SSOTokenLoadError(error_msg="Token for x does not exist"),
            Reason.CREDENTIALS_MISSING,
        ),
        (botocore.exceptions.ProfileNotFound(profile="nobody"), Reason.CREDENTIALS_MISSING),
        (botocore.exceptions.NoRegionError(), Reason.CLIENT_MISCONFIGURED),
        (
            botocore.exceptions.InvalidEndpointConfigurationError(msg="token over http"),
            Reason.CLIENT_MISCONFIGURED,
        ),
        (
            botocore.exceptions.UnknownServiceError(service_name="x", known_service_names="y"),
            Reason.CLIENT_MISCONFIGURED,
        ),
        (
            botocore.exceptions.UnsupportedSignatureVersionError(signature_version="v9"),
            Reason.CLIENT_MISCONFIGURED,
        ),
        (
            botocore.exceptions.ParamValidationError(report="the token has expired"),
            Reason.MALFORMED_REQUEST,
        ),
        (
            botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
            Reason.STREAM_TRUNCATED,
        ),
        (
            botocore.exceptions.ResponseStreamingError(error="IncompleteRead(1 bytes read)"),
            Reason.STREAM_TRUNCATED,
        ),
        (
            botocore.exceptions.HTTPClientError(
                error=urllib3.exceptions.ReadTimeoutError(None, "", "Read timed out.")
            ),  # type: ignore[arg-type]
            Reason.READ_TIMEOUT,
        ),
        (
            botocore.exceptions.ResponseStreamingError(
                error="('Connection broken: ConnectionResetError(104)', ...)"
            ),
            Reason.CONNECTION_REFUSED,
        ),
        (
            urllib3.exceptions.ProtocolError(
                "Connection aborted.", ConnectionResetError(104, "reset")
            ),
            Reason.CONNECTION_REFUSED,
        ),
        (urllib3.exceptions.IncompleteRead(5, 9), Reason.STREAM_TRUNCATED),
        (botocore.eventstream.ChecksumMismatch(1, 2), Reason.STREAM_CORRUPT),
        (botocore.parsers.ResponseParserError("Unable to parse response"), Reason.BAD_RESPONSE),
        (json.JSONDecodeError("Expecting value", "", 0), Reason.BAD_RESPONSE),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), Reason.BAD_RESPONSE),
        (ConnectionResetError(104, "Connection reset by peer"), Reason.CONNECTION_REFUSED),
        (TimeoutError("timed out"), Reason.READ_TIMEOUT),
        (socket.gaierror(-2, "Name or service not known"), Reason.DNS),
        (ssl.SSLCertVerificationError("certificate verify failed"), Reason.TLS),
        (OSError(101, "Network is unreachable"), Reason.CONNECTION_REFUSED),
        (AssertionError(), Reason.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_a_client_side_exception_has_its_reason(exc, reason):
    assert errors.translate(exc, "Converse").reason is reason


# From here on real boto3 over real sockets.


def runtime(endpoint: str, **config: Any) -> Any:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
    settings = Config(
        retries={"total_max_attempts": 1}, **{"connect_timeout": 2, "read_timeout": 2, **config}
    )
    return session.client("bedrock-runtime", endpoint_url=endpoint, config=settings)


def converse(client: Any) -> None:
    with errors.translated("Converse", model_id=MODEL, region="us-east-1"):
        client.converse(modelId=MODEL, messages=[{"role": "user", "content": [{"text": "hi"}]}])


def stream(client: Any) -> None:
    with errors.translated("ConverseStream"):
        answer = client.converse_stream(
            modelId=MODEL, messages=[{"role": "user", "content": [{"text": "hi"}]}]
        )
        with contextlib.closing(
            answer["stream"]
        ) as events:  # else a broken one's socket waits for the garbage collector
            list(events)


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """A server on a free port whose POST answers are written by the given function."""
    servers: list[HTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refuse(status: int, code: str, body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if code:
            handler.send_header(
                "x-amzn-ErrorType", f"{code}:http://internal.amazon.com/coral/com.amazon.bedrock/"
            )
        handler.send_header("x-amzn-RequestId", "11111111-2222-3333-4444-555555555555")
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def frame(payload: bytes, **headers: str) -> bytes:
    packed = io.BytesIO()
    for name, value in headers.items():
        key = f":{name.replace('_', '-')}".encode()
        packed.write(
            bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        )
    head = struct.pack(">II", 16 + len(packed.getvalue()) + len(payload), len(packed.getvalue()))
    message = head + struct.pack(">I", binascii.crc32(head)) + packed.getvalue() + payload
    return message + struct.pack(">I", binascii.crc32(message))


START = frame(
    b'{"role":"assistant"}',
    message_type="event",
    event_type="messageStart",
    content_type="application/json",
)


def pour(body: bytes, announced: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """A chunked stream; with more announced than there is, it is cut in the middle of a chunk."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "application/vnd.amazon.eventstream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        end = b"\r\n0\r\n\r\n" if announced is None else b""
        handler.wfile.write(b"%x\r\n" % (announced or len(body)) + body + end)
        handler.close_connection = True

    return answer


def test_a_port_where_nobody_listens_is_a_refused_connection():
    with pytest.raises(errors.NetworkFailed) as caught:
        converse(runtime(f"http://127.0.0.1:{free_port()}"))
    assert caught.value.reason is Reason.CONNECTION_REFUSED
    assert caught.value.retryable


def test_a_host_that_does_not_exist_is_a_name_problem():
    with pytest.raises(errors.NetworkFailed) as caught:
        converse(runtime("http://bedrock-runtime.xx-nowhere-9.invalid"))
    assert caught.value.reason is Reason.DNS


def test_a_server_that_takes_the_call_and_says_nothing_is_a_read_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(errors.TimedOut) as caught:
        converse(
            runtime(f"http://127.0.0.1:{silent.getsockname()[1]}").__class__ and _force_kill(silent)
        )
    assert caught.value.reason is Reason.READ_TIMEOUT


def _force_kill(silent: socket.socket) -> Any:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
    settings = Config(retries={"total_max_attempts": 1}, read_timeout=0.2)
    return session.client(
        "bedrock-runtime",
        endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}",
        config=settings,
    )


def test_a_server_that_hangs_up_is_a_cut_connection(answering):
    with pytest.raises(errors.NetworkFailed) as caught:
        converse(runtime(answering(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR))))
    assert caught.value.reason is Reason.CONNECTION_REFUSED


def test_a_server_without_tls_is_a_tls_problem(answering):
    url = answering(refuse(200, "", b"{}")).replace("http://", "https://")
    with pytest.raises(errors.NetworkFailed) as caught:
        converse(runtime(url))
    assert caught.value.reason is Reason.TLS
    assert not caught.value.retryable


def test_a_proxy_that_is_not_there_is_a_proxy_problem():
    proxies = {"https": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(errors.NetworkFailed) as caught:
        converse(runtime("https://bedrock-runtime.us-east-1.amazonaws.com", proxies=proxies))
    assert caught.value.reason is Reason.PROXY


def test_no_credentials_are_our_problem(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(errors.NotAuthenticated) as caught:
        converse(boto3.Session(region_name="us-east-1").client("bedrock-runtime"))
    assert caught.value.reason is Reason.CREDENTIALS_MISSING


def test_a_bearer_token_over_plain_http_is_our_own_setting(monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "a-key")
    with pytest.raises(errors.Misconfigured) as caught:
        converse(runtime(f"http://127.0.0.1:{free_port()}"))
    assert caught.value.reason is Reason.CLIENT_MISCONFIGURED


def test_a_request_boto3_will_not_send_is_malformed():
    with pytest.raises(errors.Misconfigured) as caught, errors.translated("Converse"):
        runtime("http://127.0.0.1:1").converse(modelId=MODEL, messages="hi")
    assert caught.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("status", "code", "body", "reason"),
    [
        (
            403,
            "AccessDeniedException",
            b'{"Message":"Bearer Token has expired"}',
            Reason.CREDENTIALS_EXPIRED,
        ),
        (429, "", b'{"message":"Too many requests"}', Reason.THROTTLED_REQUESTS),
        (
            503,
            "",
            b"<html><body><h1>503 Service Unavailable</h1></body></html>",
            Reason.SERVICE_UNAVAILABLE,
        ),
        (
            400,
            "ValidationException",
            b'{"message":"Operation not allowed"}',
            Reason.ACCOUNT_BLOCKED,
        ),
        (403, "ExpiredTokenException", b'{"message":""}', Reason.CREDENTIALS_EXPIRED),
        (
            424,
            "ModelErrorException",
            b'{"message":"boom","originalStatusCode":500}',
            Reason.MODEL_ERROR,
        ),
    ],
)
def test_a_refusal_over_http_has_its_reason_and_its_request_id(
    answering, status, code, body, reason
):
    with pytest.raises(errors.BedrockError) as caught:
        converse(runtime(answering(refuse(status, code, body))))
    assert caught.value.reason is reason
    assert caught.value.http_status == status
    assert caught.value.request_id == "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("event", "message", "reason"),
    [
        (
            "modelStreamErrorException",
            "Model has timed out in processing the request. Try your request again.",
            Reason.MODEL_TIMEOUT,
        ),
        (
            "modelStreamErrorException",
            "Model produced invalid sequence as part of ToolUse.",
            Reason.MODEL_ERROR,
        ),
        (
            "throttlingException",
            "Too many tokens, please wait before trying again.",
            Reason.THROTTLED_TOKENS,
        ),
        ("validationException", "Input is too long for requested model.", Reason.CONTEXT_TOO_LONG),
        (
            "serviceUnavailableException",
            "Bedrock is unable to process your request.",
            Reason.SERVICE_UNAVAILABLE,
        ),
    ],
)
def test_an_exception_inside_a_stream_has_its_reason(answering, event, message, reason):
    payload = json.dumps({"message": message}).encode()
    with pytest.raises(errors.BedrockError) as caught:
        stream(
            runtime(
                answering(
                    pour(START + frame(payload, message_type="exception", exception_type=event))
                )
            )
        )
    assert caught.value.reason is reason
    assert caught.value.code == event


def test_a_flipped_byte_in_a_stream_is_corruption(answering):
    spoiled = bytearray(START)
    spoiled[-8] ^= 0xFF
    with pytest.raises(errors.StreamBroken) as caught:
        stream(runtime(answering(pour(bytes(spoiled)))))
    assert caught.value.reason is Reason.STREAM_CORRUPT


def test_a_stream_cut_in_the_middle_of_a_chunk_is_truncated(answering):
    with pytest.raises(errors.StreamBroken) as caught:
        stream(runtime(answering(pour(START, announced=len(START) + 500))))
    assert caught.value.reason is Reason.STREAM_TRUNCATED
