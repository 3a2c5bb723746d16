"""The client against servers that misbehave, over real sockets: everything becomes an error of
ours, within the time left.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certification.bedrock import client as client_module
from certification.bedrock import errors, transport
from certification.bedrock.client import Bedrock
from certification.bedrock.connection import (
    AWS,
    EMULATOR,
    Connection,
    Identity,
    find_credentials,
)
from certification.bedrock.credentials import Credential
from certification.inference import (
    API,
    EmbedRequest,
    Endpoint,
    Image,
    Message,
    Reasoning,
    Request,
    RouteTarget,
    Text,
    Tool,
    ToolUse,
    user,
)
from certification.reasons import Reason
from certification.stack import processes
from tests import replay
from tests.calls import converse, embed, stream

MODEL = "amazon.nova-micro-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
HELLO = Request((user("Hello"),), max_tokens=10)
TEXTS = EmbedRequest(("Hello",))
CALLS: dict[str, Callable[..., Any]] = {"converse": converse, "stream": stream, "embed": embed}
ANSWER = {
    "metrics": {"latencyMs": 7},
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
}
BEGIN = [
    replay.event("messageStart", {"role": "assistant"}),
    replay.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
]
END = [
    replay.event("contentBlockStop", {"contentBlockIndex": 0}),
    replay.event("messageStop", {"stopReason": "end_turn"}),
    replay.event("metadata", {"usage": ANSWER["usage"], "metrics": ANSWER["metrics"]}),
]


def delta(index: int, **what: Any) -> bytes:
    return replay.event("contentBlockDelta", {"contentBlockIndex": index, "delta": what})


def start(index: int, **what: Any) -> bytes:
    return replay.event("contentBlockStart", {"contentBlockIndex": index, "start": what})


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests: no keys, profiles, proxies, instance roles."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in (
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
        "PROFILE",
        "BEARER_TOKEN_BEDROCK",
        "CA_BUNDLE",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


Answer = Callable[[socket.socket, replay.ParsedRequest], bool | None]


class Wire:
    """A server that answers each request with what `answer` writes; returning True keeps the
    connection open.
    """

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer, self.tls = answer, tls
        self.requests: list[replay.ParsedRequest] = []
        self.accepted = 0
        self.gone = threading.Semaphore(0)  # counts the connections that were closed
        self.over = threading.Event()  # what a hanging answer waits for
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.accepted += 1
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), closing(connection):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
            with talk, talk.makefile("rb") as reader:
                while request := _read(reader):
                    self.requests.append(request)
                    if not self.answer(talk, request):
                        break
        self.gone.release()

    def close(self) -> None:
        self.over.set()
        self.listener.close()


def _read(reader: Any) -> replay.ParsedRequest | None:
    line = reader.readline().split()
    if not line:
        return None
    headers = {}
    while (header := reader.readline().strip()) != b"":
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return replay.ParsedRequest(
        line[1].decode(), headers, reader.read(int(headers.get("content-length", 0)))
    )


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    made: list[Wire] = []

    def make(answer: Answer | bytes, tls: ssl.SSLContext | None = None) -> Wire:
        made.append(Wire(saying(answer) if isinstance(answer, bytes) else answer, tls))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[tuple[Wire, Bedrock]]:
    server = Wire(saying(b""))
    client = Bedrock(Connection(EMULATOR, server.url))
    yield server, client
    client.close()
    server.close()


@pytest.fixture
def answered(shared_server: tuple[Wire, Bedrock]) -> Callable[[bytes], tuple[Wire, Bedrock]]:
    """A server that always gives this answer, and a client of it: the same for many tests, which is
    quick.
    """

    def make(data: bytes) -> tuple[Wire, Bedrock]:
        shared_server[0].answer = saying(data)
        shared_server[0].requests.clear()
        return shared_server

    return make


@pytest.fixture
def bedrock() -> Iterator[Callable[..., Bedrock]]:
    made: list[Bedrock] = []

    def make(url: str, backend: str = EMULATOR, **settings: Any) -> Bedrock:
        made.append(Bedrock(Connection(backend, url, **settings)))
        return made[-1]

    yield make
    for client in made:
        client.close()


def saying(data: bytes) -> Answer:
    """Send these bytes, and hang up where they do not say how long they are."""

    def answer(connection: socket.socket, request: replay.ParsedRequest) -> bool:
        connection.sendall(data)
        return b"content-length" in data.lower() or b"chunked" in data.lower()

    return answer


def http(status: int, body: bytes | str | Any, *headers: str) -> bytes:
    """A whole HTTP answer. What is neither bytes nor text becomes JSON."""
    data = (
        body
        if isinstance(body, bytes)
        else (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    lines = [
        f"HTTP/1.1 {status} Said",
        f"Content-Length: {len(data)}",
        "x-amzn-RequestId: r-1",
        *headers,
    ]
    if not any(h.lower().startswith("content-type") for h in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nx-amzn-RequestId: "
    b"r-1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(*frames: bytes) -> bytes:
    """A whole event stream."""
    return STREAM_HEAD + b"".join(map(chunk, frames)) + b"0\r\n\r\n"


def error_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> errors.BedrockError:
    with pytest.raises(errors.BedrockError) as caught:
        call(*args, **kwargs)
    return caught.value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The time left


def hang(server: list[Wire]) -> Answer:
    def answer(connection: socket.socket, request: replay.ParsedRequest) -> None:
        server[0].over.wait(30)

    return answer


@pytest.mark.parametrize("operation", ["converse", "stream", "embed"])
def test_a_server_that_says_nothing_is_left_when_the_time_is_up(wire, bedrock, operation):
    own: list[Wire] = []
    own.append(wire(hang(own)))
    client = bedrock(own[0].url, read_timeout_s=60)
    args = (TITAN, TEXTS) if operation == "embed" else (MODEL, HELLO)
    error = error_of(CALLS[operation], client, "us-east-1", *args, remaining_s=2.0)
    assert error.reason is Reason.READ_TIMEOUT
    assert error.retryable
    assert len(own[0].requests) == 1
    assert not own[0].over.is_set()


def test_silence_is_bounded_where_much_time_is_left(wire, bedrock):
    own: list[Wire] = []
    own.append(wire(hang(own)))
    error = error_of(
        converse,
        bedrock(own[0].url, read_timeout_s=0.2),
        "us-east-1",
        MODEL,
        HELLO,
        remaining_s=600,
    )
    assert error.reason is Reason.READ_TIMEOUT


@pytest.mark.parametrize("remaining_s", [0, -1.5])
def test_nothing_is_sent_when_no_time_is_left(wire, bedrock, remaining_s):
    server = wire(http(200, ANSWER))
    client = bedrock(server.url)
    for call, *args in (
        (converse, MODEL, HELLO),
        (stream, MODEL, HELLO),
        (embed, TITAN, TEXTS),
    ):
        error = error_of(call, client, "us-east-1", *args, remaining_s=remaining_s)
        assert error.reason is Reason.DEADLINE
    for listing in (client.foundation_models, client.inference_profiles):
        assert error_of(listing, "us-east-1", remaining_s=remaining_s).reason is Reason.DEADLINE
    assert server.accepted == 0


def test_a_stream_that_stalls_is_a_read_timeout_and_keeps_what_had_arrived(wire, bedrock):
    own: list[Wire] = []

    def stall(connection, request):
        connection.sendall(STREAM_HEAD + b"".join(map(chunk, BEGIN)))
        own[0].over.wait(30)

    own.append(wire(stall))
    error = error_of(stream, bedrock(own[0].url), "us-east-1", MODEL, HELLO, remaining_s=2.0)
    assert error.reason is Reason.READ_TIMEOUT
    assert (error.partial.text, error.partial.complete, error.request_id) == ("Hi", False, "r-1")
    assert not own[0].over.is_set()


@pytest.mark.parametrize("framed", [True, False], ids=["chunked", "until the connection closes"])
def test_a_stream_that_trickles_past_its_deadline_is_cut(wire, bedrock, framed):
    own: list[Wire] = []
    delta = replay.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x"}})

    def trickle(connection, request):
        head = (
            STREAM_HEAD if framed else STREAM_HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")
        )
        connection.sendall(head)
        while not own[0].over.wait(0.02):
            connection.sendall(chunk(delta) if framed else delta)

    own.append(wire(trickle))
    error = error_of(stream, bedrock(own[0].url), "us-east-1", MODEL, HELLO, remaining_s=2.0)
    assert error.reason is Reason.DEADLINE
    assert error.partial.text.startswith("xxx")
    assert not error.partial.complete


@pytest.mark.slow
def test_bytes_that_never_form_an_event_are_cut_at_the_deadline_too(wire, bedrock):
    own: list[Wire] = []
    endless = replay.event(
        "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x" * 5000}}
    )

    def drip(connection, request):
        connection.sendall(STREAM_HEAD + b"%x\r\n" % len(endless))
        for byte in endless:
            connection.sendall(bytes([byte]))
            if own[0].over.wait(0.02):
                return

    own.append(wire(drip))
    error = error_of(stream, bedrock(own[0].url), "us-east-1", MODEL, HELLO, remaining_s=3.0)
    assert error.reason is Reason.READ_TIMEOUT
    assert error.partial is None


@pytest.mark.slow
def test_many_streams_are_cut_each_at_its_own_deadline(wire, bedrock):
    own: list[Wire] = []

    def stall(connection, request):
        connection.sendall(STREAM_HEAD + chunk(BEGIN[0]))
        own[0].over.wait(30)

    own.append(wire(stall))
    client = bedrock(own[0].url)
    call = lambda left: error_of(stream, client, "us-east-1", MODEL, HELLO, remaining_s=left)  # noqa: E731
    with ThreadPoolExecutor(12) as pool:
        # long enough for a crowded machine to open twelve streams in less than half of it
        failures = list(pool.map(call, [4.0, 2.0, 3.0] * 4))
    assert {error.reason for error in failures} == {Reason.READ_TIMEOUT}
    assert {error.partial.events for error in failures} == {("messageStart",)}


def test_a_stream_that_ends_in_time_is_not_cut_later(wire, bedrock):
    server = wire(streaming(*BEGIN, *END))
    client = bedrock(server.url)
    for _ in range(3):
        assert stream(client, "us-east-1", MODEL, HELLO, remaining_s=2.0).text == "Hi"
    threading.Event().wait(2.1)
    assert stream(client, "us-east-1", MODEL, HELLO, remaining_s=2.0).complete
    assert server.accepted == 1


# What can come back


HTML = "<html><body><b>Http/1.1 Service Unavailable</b></body></html>"
AS_HTML = "Content-Type: text/html"
ODD_ANSWERS = [
    ("html 503", http(503, HTML, AS_HTML), Reason.SERVICE_UNAVAILABLE, 503),
    ("html 502 of a proxy", http(502, HTML, AS_HTML), Reason.SERVICE_UNAVAILABLE, 502),
    ("empty 500", http(500, b""), Reason.INTERNAL_ERROR, 500),
    ("empty 200", http(200, b""), Reason.BAD_RESPONSE, 200),
    ("empty object", http(200, {}), Reason.BAD_RESPONSE, 200),
    ("unknown JSON", http(200, {"hello": "world"}), Reason.BAD_RESPONSE, 200),
    ("HTML 200", http(200, HTML, AS_HTML), Reason.BAD_RESPONSE, 200),
    ("429 without a code", http(429, {"message": "slow down"}), Reason.THROTTLED_REQUESTS, 429),
    ("429 without anything", http(429, b""), Reason.THROTTLED_REQUESTS, 429),
    ("invalid UTF-8", http(200, b'{"output": "\xff\xfe"}'), Reason.BAD_RESPONSE, None),
    ("invalid UTF-8 in an error", http(400, b'{"message": "\xff"}'), Reason.MALFORMED_REQUEST, 400),
    ("an error that is a list", http(400, []), Reason.MALFORMED_REQUEST, 400),
    ("an error that is a number", http(500, 5), Reason.INTERNAL_ERROR, 500),
    ("an error whose type is a number", http(400, {"__type": 5}), Reason.MALFORMED_REQUEST, 400),
]


@pytest.mark.parametrize(
    ("data", "reason", "status"), [c[1:] for c in ODD_ANSWERS], ids=[c[0] for c in ODD_ANSWERS]
)
def test_an_odd_response_is_an_error_and_not_requested_again(answered, data, reason, status):
    server, client = answered(data)
    for n, (call, *args) in enumerate(
        [
            (converse, MODEL, HELLO),
            (stream, MODEL, HELLO),
            (embed, TITAN, TEXTS),
        ]
    ):
        error = error_of(call, client, "us-east-1", *args)
        assert error.reason is reason
        assert error.http_status == status or (error.http_status == 200 and status is None)
        assert len(server.requests) == n + 1


@pytest.mark.parametrize(
    "body",
    [
        [],
        None,
        5,
        "text",
        [[]],
        {"output": []},
        {"output": "x"},
        {"output": {"message": []}},
        {"output": {}},
        {"output": {"message": None}},
        {"output": {"message": {"content": 5}}, "stopReason": "end_turn"},
        {"output": {"message": {"content": ["x"]}}, "stopReason": "end_turn"},
        {**ANSWER, "stopReason": None},
        {**ANSWER, "stopReason": 5},
        {**ANSWER, "usage": "x"},
        {**ANSWER, "metrics": 5},
        {"output": {"message": {"content": [{"toolUse": 5}]}}, "stopReason": "end_turn"},
        {
            "output": {"message": {"content": [{"text": "a", "image": {}}]}},
            "stopReason": "end_turn",
        },
        {
            "output": {"message": {"content": [{"reasoningContent": {"redactedContent": 5}}]}},
            "stopReason": "end_turn",
        },
    ],
    ids=lambda body: json.dumps(body)[:70],
)
def test_json_of_the_wrong_shape_is_a_bad_response(answered, body):
    _, client = answered(http(200, body))
    error = error_of(converse, client, "us-east-1", MODEL, HELLO)
    assert error.reason is Reason.BAD_RESPONSE


def test_hostile_nesting_is_a_bad_response(answered):
    _, client = answered(http(200, b"[" * 100_000 + b"]" * 100_000))
    assert error_of(converse, client, "us-east-1", MODEL, HELLO).reason is Reason.BAD_RESPONSE
    assert error_of(embed, client, "us-east-1", TITAN, TEXTS).reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        ([], ()),
        ([None, {"text": "a"}], (Text("a"),)),
        ([{"somethingNew": {"a": 1}}, {"text": "a"}], (Text("a"),)),
        ([{"text": 5}, {"text": "a"}], (Text("a"),)),
        (
            [{"toolUse": {"name": "t", "toolUseId": "1", "input": {"a": [1]}, "type": "tool_use"}}],
            (ToolUse("1", "t", {"a": [1]}),),
        ),
        ([{"toolUse": {}}], (ToolUse("", "", None),)),
        ([{"reasoningContent": {"redactedContent": "AAE="}}], (Reasoning("", redacted=b"\0\1"),)),
        (
            [{"reasoningContent": {"reasoningText": {"text": "h", "signature": "s"}}}],
            (Reasoning("h", "s"),),
        ),
        (
            [
                {
                    "citationsContent": {
                        "content": [{"text": "a"}, {"text": "b"}],
                        "citations": [{"title": "t"}],
                    }
                }
            ],
            (Text("ab"),),
        ),
        ([{"image": {"format": "png", "source": {"bytes": "AAE="}}}], (Image("png", b"\0\1"),)),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, list) else "",
)
def test_blocks_of_every_kind_are_read_and_unknown_ones_passed_over(answered, content, blocks):
    body = {**ANSWER, "output": {"message": {"role": "assistant", "content": content}}}
    _, client = answered(http(200, body))
    assert converse(client, "us-east-1", MODEL, HELLO).content == blocks


def test_undocumented_members_and_missing_usage_are_no_error(wire, bedrock):
    body = {k: v for k, v in ANSWER.items() if k not in ("usage", "metrics")} | {
        "trace": {"x": 1},
        "new": [1],
    }
    reply = converse(bedrock(wire(http(200, body)).url), "us-east-1", MODEL, HELLO)
    assert (reply.text, reply.usage, reply.timing.server_ms, reply.stop_reason) == (
        "Hi",
        None,
        None,
        "end_turn",
    )


def test_a_huge_answer_is_read_whole(wire, bedrock):
    body = {
        **ANSWER,
        "output": {"message": {"role": "assistant", "content": [{"text": "ä" * 8_000_000}]}},
    }
    server = wire(http(200, json.dumps(body, ensure_ascii=False)))
    reply = converse(bedrock(server.url), "us-east-1", MODEL, HELLO)
    assert len(reply.text) == 8_000_000


def test_a_body_shorter_than_its_content_length_is_an_error(wire, bedrock):
    server = wire(
        lambda c, request: c.sendall(
            http(200, ANSWER).replace(b"Content-Length: ", b"Content-Length: 9")
        )
    )
    assert (
        error_of(embed, bedrock(server.url), "us-east-1", TITAN, TEXTS).reason
        is Reason.STREAM_TRUNCATED
    )


def test_the_code_and_the_capital_message_of_the_front_door_are_read(wire, bedrock):
    denied = http(
        403,
        {"Message": "User: x is not authorized to perform: bedrock:InvokeModel"},
        "x-amzn-ErrorType: "
        "AccessDeniedException:http://internal.amazon.com/coral/com.amazon.coral.service/",
    )
    error = error_of(converse, bedrock(wire(denied).url), "us-east-1", MODEL, HELLO)
    assert (error.reason, error.code, error.http_status) == (
        Reason.IAM_DENIED,
        "AccessDeniedException",
        403,
    )
    assert error.message.startswith("User: x")
    assert error.request_id == "r-1"


@pytest.mark.parametrize("operation", ["converse", "stream"])
def test_a_connection_reset_before_any_byte_is_a_network_error(wire, bedrock, operation):
    def reset(connection, request):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    server = wire(reset)
    error = error_of(CALLS[operation], bedrock(server.url), "us-east-1", MODEL, HELLO)
    assert error.reason is Reason.CONNECTION_REFUSED
    assert isinstance(error, errors.NetworkFailed)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{free}", Reason.CONNECTION_REFUSED),
        ("http://bedrock.invalid", Reason.DNS),
        ("http://", Reason.CLIENT_MISCONFIGURED),
        ("not an address", Reason.CLIENT_MISCONFIGURED),
        ("", Reason.CLIENT_MISCONFIGURED),
    ],
)
def test_an_address_that_does_not_work_says_why(bedrock, url, reason):
    client = bedrock(url.format(free=free_port()))
    for call in (converse, stream):
        assert error_of(call, client, "us-east-1", MODEL, HELLO, remaining_s=5).reason is reason


def test_a_server_without_tls_is_a_tls_problem(bedrock):
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def talk() -> None:
            with plain.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(65536)

        threading.Thread(target=talk, daemon=True).start()
        error = error_of(
            converse,
            bedrock(f"https://127.0.0.1:{plain.getsockname()[1]}"),
            "us-east-1",
            MODEL,
            HELLO,
        )
    assert error.reason is Reason.TLS


# Streams


def read(answered, *frames: bytes) -> Any:
    _, client = answered(streaming(*frames))
    return stream(client, "us-east-1", MODEL, HELLO)


def test_streamed_blocks_of_every_kind_are_put_together_in_order(answered):
    reply = read(
        answered,
        BEGIN[0],
        delta(0, reasoningContent={"text": "let "}),
        delta(0, reasoningContent={"text": "me"}),
        delta(0, reasoningContent={"signature": "sig"}),
        delta(1, reasoningContent={"redactedContent": "AAE="}),
        start(3, toolUse={"toolUseId": "b", "name": "two"}),
        delta(2, text="a"),
        delta(2, citation={"title": "t", "sourceContent": [{"text": "no text of the answer"}]}),
        start(4, toolUse={"toolUseId": "c", "name": "no arguments"}),
        delta(3, toolUse={"input": '{"x": '}),
        delta(2, text="b"),
        delta(3, toolUse={"input": "1}"}),
        start(5, image={"format": "png"}),
        delta(5, image={"source": {"bytes": "AAE="}}),
        start(6, toolUse={"toolUseId": "d", "name": "broken"}),
        delta(6, toolUse={"input": '{"x": '}),
        start(7, somethingNew={"a": 1}),
        delta(7, somethingNew={"a": 1}),
        *END,
    )
    assert reply.content == (
        Reasoning("let me", "sig"),
        Reasoning("", redacted=b"\0\1"),
        Text("ab"),
        ToolUse("b", "two", {"x": 1}, '{"x": 1}'),
        ToolUse("c", "no arguments", {}, ""),
        Image("png", b"\0\1"),
        ToolUse("d", "broken", None, '{"x": '),
    )
    assert reply.complete


def test_events_and_members_that_nobody_knows_are_passed_over(answered):
    unnamed = replay.frame({":message-type": "event"}, b"{}")
    reply = read(answered, unnamed, *BEGIN, replay.event("somethingNew", {"a": 1}), *END)
    assert reply.text == "Hi"
    assert "somethingNew" not in reply.events
    assert reply.complete


def test_a_stream_without_usage_is_complete_and_without_metadata_is_not(answered):
    bare = replay.event("metadata", {"usage": {"inputTokens": "many"}, "metrics": {"latencyMs": 7}})
    reply = read(answered, *BEGIN, *END[:2], bare)
    assert (reply.usage, reply.timing.server_ms, reply.complete) == (None, 7, True)
    error = error_of(read, answered, *BEGIN, *END[:2])
    assert (error.reason, error.partial.stop_reason) == (Reason.STREAM_TRUNCATED, "end_turn")


@pytest.mark.parametrize(
    ("frame", "reason", "code"),
    [
        (
            replay.exception("throttlingException", "Too many tokens"),
            Reason.THROTTLED_TOKENS,
            "throttlingException",
        ),
        (
            replay.exception("internalServerException", "Oops"),
            Reason.INTERNAL_ERROR,
            "internalServerException",
        ),
        (replay.exception("somethingNewException", "Oops"), Reason.STREAM_ERROR, ""),
        (
            replay.frame(
                {
                    ":message-type": "error",
                    ":error-code": "InternalFailure",
                    ":error-message": "Oops",
                },
                b"",
            ),
            Reason.INTERNAL_ERROR,
            "InternalFailure",
        ),
        (
            replay.frame(
                {":message-type": "exception", ":exception-type": "throttlingException"}, b"[]"
            ),
            Reason.THROTTLED_REQUESTS,
            "throttlingException",
        ),
        (
            replay.event("contentBlockDelta", {"delta": {"text": "a", "toolUse": {"input": ""}}}),
            Reason.STREAM_CORRUPT,
            "",
        ),
        (delta(0), Reason.BAD_RESPONSE, ""),
        (
            replay.frame({":message-type": "event", ":event-type": "metadata"}, b"\xff"),
            Reason.BAD_RESPONSE,
            "",
        ),
    ],
    ids=[
        "throttled",
        "internal",
        "unknown exception",
        "error frame",
        "odd payload",
        "two members",
        "no member",
        "no text",
    ],
)
def test_whatever_ends_a_stream_early_is_an_error_with_what_had_arrived(
    answered, frame, reason, code
):
    error = error_of(read, answered, *BEGIN, frame, *END)
    if code:
        assert error.code == code
    assert error.reason in {reason, Reason.BAD_RESPONSE if not code else reason}
    assert error.partial.text == "Hi"
    assert error.request_id == "r-1"


def test_a_header_of_no_known_type_is_corruption(answered):
    good = replay.frame({":message-type": "event", "x": "y"}, b"{}")
    bad = bytearray(good[:-4])
    bad[bad.index(b"\x01x\x07") + 2] = 99
    bad += replay.zlib.crc32(bytes(bad)).to_bytes(4, "big")
    assert error_of(read, answered, *BEGIN, bytes(bad)).reason is Reason.STREAM_CORRUPT


# Faults at every byte, in the answers of every API


def sse(*events: Any) -> list[bytes]:
    return [
        f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
        for event in events
    ]


def completion_chunk(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice], **more}


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
}
STREAMS: dict[API, list[bytes]] = {
    API.CONVERSE: [*BEGIN, *END],
    API.CHAT_COMPLETIONS: sse(
        completion_chunk({"role": "assistant", "content": ""}),
        completion_chunk({"content": "Hi"}),
        completion_chunk({}, "stop"),
        {
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        },
        "[DONE]",
    ),
    API.RESPONSES: sse(
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
        {"type": "response.completed", "response": RESPONSE},
    ),
    API.MESSAGES: sse(
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hi"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ),
}
PREFIXES = {
    API.CONVERSE: "",
    API.CHAT_COMPLETIONS: "/openai/v1",
    API.RESPONSES: "/openai/v1",
    API.MESSAGES: "/anthropic/v1",
}


def streamed(api: API) -> bytes:
    kind = b"application/vnd.amazon.eventstream" if api is API.CONVERSE else b"text/event-stream"
    head = STREAM_HEAD.replace(b"application/vnd.amazon.eventstream", kind)
    return head + b"".join(map(chunk, STREAMS[api])) + b"0\r\n\r\n"


def target_of(api: API) -> RouteTarget:
    return RouteTarget("a.model", "ON_DEMAND", api=api, path_prefix=PREFIXES[api])


def test_a_whole_stream_of_every_api_is_read(answered):
    for api in STREAMS:
        _, client = answered(streamed(api))
        reply = stream(client, "us-east-1", target_of(api), HELLO)
        assert (reply.text, reply.complete) == ("Hi", True), api


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("api", STREAMS)
def test_a_stream_that_ends_at_any_byte_is_an_error_with_what_had_arrived(wire, bedrock, api, how):
    """All of them at once: each connection ends one byte later than the one before."""
    whole = streamed(api)
    step = 1 if how == "closed" else 7
    ends = itertools.count(1, step)

    def cut(connection, request):
        connection.sendall(whole[: next(ends)])
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    client = bedrock(wire(cut).url)
    call = lambda _: error_of(stream, client, "us-east-1", target_of(api), HELLO)  # noqa: E731
    with ThreadPoolExecutor(16) as pool:
        # without the last line of the body, which says that it is over
        failures = list(pool.map(call, range(1, len(whole) - len(b"0\r\n\r\n"), step)))
    for error in failures:
        assert isinstance(error, errors.Interrupted), error
        assert error.reason is not Reason.READ_TIMEOUT
        assert error.partial is None or not error.partial.text or error.partial.text == "Hi"
    assert any(error.partial and error.partial.text for error in failures) or how == "reset"


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_an_answer_that_ends_at_any_byte_is_an_error(wire, bedrock, how):
    whole = http(200, ANSWER)
    step = 1 if how == "closed" else 7
    ends = itertools.count(1, step)

    def cut(connection, request):
        connection.sendall(whole[: next(ends)])
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    client = bedrock(wire(cut).url)
    call = lambda _: error_of(converse, client, "us-east-1", MODEL, HELLO)  # noqa: E731
    with ThreadPoolExecutor(16) as pool:
        failures = list(pool.map(call, range(1, len(whole), step)))
    assert all(isinstance(error, errors.Interrupted) for error in failures)


def test_a_body_that_trickles_is_cut_at_the_deadline(wire, bedrock):
    own: list[Wire] = []

    def trickle(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not own[0].over.wait(0.02):
            connection.sendall(b" ")

    own.append(wire(trickle))
    error = error_of(converse, bedrock(own[0].url), "us-east-1", MODEL, HELLO, remaining_s=2.0)
    assert error.reason is Reason.DEADLINE


def test_a_head_that_trickles_is_cut_at_the_deadline(wire, bedrock):
    own: list[Wire] = []

    def trickle(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not own[0].over.wait(0.02):
            connection.sendall(b"x")

    own.append(wire(trickle))
    error = error_of(converse, bedrock(own[0].url), "us-east-1", MODEL, HELLO, remaining_s=2.0)
    assert error.reason is Reason.READ_TIMEOUT


def test_a_body_without_end_is_not_collected(wire, bedrock, monkeypatch):
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 100_000)
    own: list[Wire] = []

    def pour(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while not own[0].over.is_set():
            connection.sendall(b" " * 10_000)

    own.append(wire(pour))
    for call in (converse, stream):
        error = error_of(call, bedrock(own[0].url), "us-east-1", MODEL, HELLO)
        assert error.reason is Reason.BAD_RESPONSE


def test_neither_a_redirect_nor_a_cookie_is_followed(wire, bedrock):
    elsewhere = wire(http(200, ANSWER))
    moved = wire(
        http(307, b"", f"Location: {elsewhere.url}/", "Set-Cookie: session=secret; Path=/")
    )
    client = bedrock(moved.url)
    for _ in range(2):
        error_of(converse, client, "us-east-1", MODEL, HELLO)
    assert elsewhere.requests == []
    assert all("cookie" not in request.headers for request in moved.requests)


# Connections and clients


def test_connections_are_reused(wire, bedrock):
    def answer(connection, request):
        connection.sendall(
            streaming(*BEGIN, *END) if request.path.endswith("stream") else http(200, ANSWER)
        )
        return True

    server = wire(answer)
    client = bedrock(server.url)
    for _ in range(5):
        converse(client, "us-east-1", MODEL, HELLO)
        stream(client, "us-east-1", MODEL, HELLO)
    assert (len(server.requests), server.accepted) == (10, 1)


def test_a_connection_closed_in_between_is_no_error(wire, bedrock):
    def answer(connection, request):
        connection.sendall(http(200, ANSWER))

    server = wire(answer)
    client = bedrock(server.url)
    for _ in range(5):
        assert converse(client, "us-east-1", MODEL, HELLO).text == "Hi"
        assert server.gone.acquire(timeout=10)
    assert server.accepted == 5


def test_listings_of_a_region_share_its_clients(wire, bedrock):
    client = bedrock(wire(http(200, {"modelSummaries": []})).url)
    for call in range(60):
        client.foundation_models(("us-east-1", "eu-west-1")[call % 2], remaining_s=3 + call)
    # for each region one, and one for the last seconds of a deadline
    assert len(client._clients) == 4


def test_many_threads_may_make_the_first_call_at_once(wire, bedrock, monkeypatch):
    resolved = []
    original = Bedrock.resolve
    monkeypatch.setattr(
        Bedrock, "resolve", lambda self, *key: resolved.append(key) or original(self, *key)
    )
    server = wire(http(200, ANSWER))
    client = bedrock(server.url)
    together = threading.Barrier(32)

    def call(n: int) -> str:
        together.wait(10)
        return converse(
            client, ("us-east-1", "us-west-2")[n % 2], MODEL, HELLO, remaining_s=20 + n
        ).text

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(call, range(32))) == ["Hi"] * 32
    assert len(resolved) == 2
    assert len(server.requests) == 32


def test_each_call_waits_as_long_as_it_may(wire, bedrock):
    own: list[Wire] = []

    def answer(connection, request):
        if b"Hurry" in request.body:
            own[0].over.wait(30)
        else:
            threading.Event().wait(0.8)
            connection.sendall(http(200, ANSWER))
        return True

    own.append(wire(answer))
    client = bedrock(own[0].url)
    hurry = Request((user("Hurry"),), max_tokens=1)
    with ThreadPoolExecutor(4) as pool:
        patient = [pool.submit(converse, client, "us-east-1", MODEL, HELLO, 30.0) for _ in range(2)]
        hasty = [
            pool.submit(converse, client, "us-east-1", MODEL, hurry, 0.3 + n / 10) for n in range(2)
        ]
        assert {f.exception().reason for f in hasty} == {Reason.READ_TIMEOUT}
        assert [f.result().text for f in patient] == ["Hi", "Hi"]


def test_calls_at_once_have_a_connection_each_and_it_is_used_again(wire, bedrock):
    together = threading.Barrier(6)

    def answer(connection, request):
        together.wait(10)
        connection.sendall(http(200, ANSWER))
        return True

    server = wire(answer)
    client = bedrock(server.url)
    for _ in range(2):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: converse(client, "us-east-1", MODEL, HELLO), range(6)))
    assert (len(server.requests), server.accepted) == (12, 6)


def test_a_request_says_who_asks_and_is_signed_for_the_region(wire, bedrock):
    server = wire(http(200, ANSWER))
    arn = "arn:aws:bedrock:sa-east-1:123456789012:inference-profile/us.amazon.nova-micro-v1:0"
    converse(bedrock(server.url), "sa-east-1", arn, HELLO)
    (request,) = server.requests
    assert "myia-certification" in request.headers["user-agent"]
    assert re.search(
        r"Credential=EMULATOR/\d{8}/sa-east-1/bedrock/aws4_request",
        request.headers["authorization"],
    )
    assert request.path == f"/model/{arn.replace(':', '%3A').replace('/', '%2F')}/converse"
    assert json.loads(request.body) == {
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
        "inferenceConfig": {"maxTokens": 10},
    }


def test_a_call_on_mantle_is_signed_for_its_own_service(wire, bedrock):
    server = wire(http(200, RESPONSE))
    target = RouteTarget(
        "openai.gpt-5.5", "ON_DEMAND", Endpoint.MANTLE, API.RESPONSES, "/openai/v1"
    )
    assert converse(bedrock(server.url), "us-east-1", target, HELLO).text == "Hi"
    (request,) = server.requests
    assert "/us-east-1/bedrock-mantle/aws4_request" in request.headers["authorization"]
    assert request.path == "/openai/v1/responses"


@pytest.mark.parametrize(
    "request_",
    [
        Request((), max_tokens=0),
        Request((user(),), max_tokens=-1),
        Request((user(""),), max_tokens=10**12),
        Request((Message("nobody", ()),), max_tokens=1, stop_sequences=("",) * 100),
        Request((user(ToolUse("", "", None)),), max_tokens=1, tool_choice="no such tool"),
        Request(
            (user(ToolUse("", "", {"a": float("nan")})),), max_tokens=1, temperature=float("inf")
        ),
        Request((user(Image("tiff", b"")),), max_tokens=1, tools=(Tool("", "", {}),)),
        Request((user("\ud800 \0"),), max_tokens=1, system="\udfff", output_schema={}),
        Request((user(Reasoning("", "", b"x"), Reasoning("a")),), max_tokens=1),
    ],
    ids=range(9),
)
def test_odd_requests_reach_the_service_which_says_what_it_thinks(answered, request_):
    refused = http(400, {"message": "Nonsense."}, "x-amzn-ErrorType: ValidationException:http://x/")
    server, client = answered(refused)
    for call in (converse, stream):
        error = error_of(call, client, "us-east-1", MODEL, request_)
        assert (error.reason, error.message) == (Reason.MALFORMED_REQUEST, "Nonsense.")
    assert len(server.requests) == 2


@pytest.mark.parametrize("target", ["", " ", "a/../b", "ü?#%", "x" * 3000])
def test_odd_model_ids_reach_the_service_or_are_malformed(answered, target):
    server, client = answered(
        http(404, {"message": "Not here."}, "x-amzn-ErrorType: ResourceNotFoundException")
    )
    error = error_of(converse, client, "us-east-1", target, HELLO)
    assert error.reason in {Reason.UNKNOWN_MODEL, Reason.MALFORMED_REQUEST}
    assert all(request.path.startswith("/model/") for request in server.requests)


def test_what_cannot_be_written_as_json_is_malformed(wire, bedrock):
    server = wire(http(200, ANSWER))
    request = Request((user(ToolUse("1", "t", {"a": {1, 2}})),), max_tokens=1)
    assert (
        error_of(converse, bedrock(server.url), "us-east-1", MODEL, request).reason
        is Reason.MALFORMED_REQUEST
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("api", "request_", "reason"),
    [
        (API.INVOKE, HELLO, Reason.API_NOT_SUPPORTED),
        (
            API.RESPONSES,
            Request((user("Hello"),), max_tokens=20, stop_sequences=("x",)),
            Reason.PARAMETER_NOT_SUPPORTED,
        ),
    ],
)
def test_what_an_api_has_no_words_for_is_refused_without_a_call(
    wire, bedrock, api, request_, reason
):
    server = wire(http(200, ANSWER))
    target = RouteTarget("openai.gpt-oss-20b", "ON_DEMAND", api=api, path_prefix="/openai/v1")
    error = error_of(converse, bedrock(server.url), "us-east-1", target, request_)
    assert (error.reason, error.retryable) == (reason, False)
    assert error.message
    assert server.requests == []


def test_a_defect_of_our_own_stays_what_it_is(wire, bedrock, monkeypatch):
    def defect(*_args: Any, **_named: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(client_module, "signature_headers", defect)
    with pytest.raises(KeyError, match="ours"):
        converse(bedrock(wire(http(200, ANSWER)).url), "us-east-1", MODEL, HELLO)


@pytest.mark.parametrize("region", ["xx-nowhere-9", "", "not a region", "../x"])
def test_odd_regions_are_our_own_setting_or_reach_the_service(wire, bedrock, region):
    server = wire(http(403, {"message": "The security token included in the request is invalid."}))
    error = error_of(converse, bedrock(server.url), region, MODEL, HELLO)
    assert error.reason in {Reason.CLIENT_MISCONFIGURED, Reason.CREDENTIALS_INVALID}


# Credentials


OWN = {
    "AWS_ACCESS_KEY_ID": "AKIAUSERSOWN",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "AWS_SESSION_TOKEN": "session",
}


@pytest.fixture
def own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)


def test_aws_gets_the_keys_of_the_environment(wire, bedrock, own_keys):
    server = wire(http(200, ANSWER))
    converse(bedrock(server.url, AWS), "us-east-1", MODEL, HELLO)
    assert "Credential=AKIAUSERSOWN/" in server.requests[0].headers["authorization"]
    assert server.requests[0].headers["x-amz-security-token"] == "session"


def test_aws_gets_the_keys_of_the_profile(wire, bedrock, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text(
        "[work]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    server = wire(http(200, ANSWER))
    converse(bedrock(server.url, AWS), "us-east-1", MODEL, HELLO)
    assert "Credential=AKIAPROFILE/" in server.requests[0].headers["authorization"]
    assert find_credentials() == Identity(True, "shared-credentials-file", "AKIA")


def test_the_emulator_gets_nothing_of_the_users(wire, bedrock, own_keys, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "users-own-token")
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-does-not-exist")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
    server = wire(http(200, ANSWER))
    client = bedrock(server.url)
    converse(client, "us-east-1", MODEL, HELLO)
    error_of(client.foundation_models, "us-east-1")
    for request in server.requests:
        sent = json.dumps(request.headers)
        assert "Credential=EMULATOR/" in sent
        assert not [own for own in ("AKIAUSERSOWN", "users-own-token", "session") if own in sent]
    assert len(server.requests) == 2


def test_without_credentials_nothing_is_sent(wire, bedrock):
    server = wire(http(200, ANSWER))
    assert (
        error_of(converse, bedrock(server.url, AWS), "us-east-1", MODEL, HELLO).reason
        is Reason.CREDENTIALS_MISSING
    )
    assert server.requests == []


def test_half_a_key_and_an_unknown_profile_are_missing_credentials(wire, bedrock, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHALF")
    url = wire(http(200, ANSWER)).url
    assert (
        error_of(converse, bedrock(url, AWS), "us-east-1", MODEL, HELLO).reason
        is Reason.CREDENTIALS_MISSING
    )
    assert error_of(find_credentials).reason is Reason.CREDENTIALS_MISSING
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-does-not-exist")
    error = error_of(converse, bedrock(url, AWS), "us-east-1", MODEL, HELLO)
    assert error.reason is Reason.CREDENTIALS_MISSING
    assert "a-profile-that-does-not-exist" in error.message


def test_expired_credentials_are_named(wire, bedrock, own_keys):
    message = {"message": "The security token included in the request is expired"}
    server = wire(http(403, message, "x-amzn-ErrorType: ExpiredTokenException"))
    error = error_of(converse, bedrock(server.url, AWS), "us-east-1", MODEL, HELLO)
    assert (error.reason, error.code) == (Reason.CREDENTIALS_EXPIRED, "ExpiredTokenException")
    assert len(server.requests) == 1


def test_renewed_credentials_are_read_without_a_restart(wire, bedrock, monkeypatch, tmp_path):
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    refused = http(
        403,
        {"message": "The security token included in the request is expired"},
        "x-amzn-ErrorType: ExpiredTokenException",
    )

    def answer(connection, request):
        connection.sendall(
            http(200, ANSWER) if "AKIANEW" in request.headers["authorization"] else refused
        )
        return True

    client = bedrock(wire(answer).url, AWS)
    for key in ("AKIAOLD", "AKIANEW"):
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = x\n")
        if key == "AKIAOLD":
            assert (
                error_of(converse, client, "us-east-1", MODEL, HELLO).reason
                is Reason.CREDENTIALS_EXPIRED
            )
    assert converse(client, "us-east-1", MODEL, HELLO).text == "Hi"


def test_refused_credentials_are_not_read_again_with_every_call(
    wire, bedrock, own_keys, monkeypatch
):
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    read = []
    original = client_module.Credentials.load
    monkeypatch.setattr(
        client_module.Credentials, "load", lambda self: read.append(1) or original(self)
    )
    refused = http(403, {"message": "The security token included in the request is invalid."})
    client = bedrock(wire(refused).url, AWS)
    for _ in range(20):
        error = error_of(converse, client, "us-east-1", MODEL, HELLO)
        assert isinstance(error, errors.NotAuthenticated)
        assert error.credential is Credential.STATIC
    assert len(read) <= 3


def test_what_the_chain_finds_is_named_without_calling_anybody(own_keys, monkeypatch):
    assert find_credentials() == Identity(True, "env", "AKIA")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token")
    assert find_credentials() == Identity(True, "bearer token")
    for name in (*OWN, "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name)
    assert find_credentials() == Identity(False)


@pytest.mark.slow
def test_a_silent_instance_service_is_called_twice_at_most(wire, monkeypatch):
    """Each time botocore waits a second, so finding nothing takes two at the worst."""
    own: list[Wire] = []
    own.append(wire(hang(own)))
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", own[0].url)
    assert find_credentials() == Identity(False)
    assert len(own[0].requests) <= 2


def test_a_bearer_token_never_goes_over_plain_http(wire, bedrock, own_keys, monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token")
    server = wire(http(200, ANSWER))
    error = error_of(converse, bedrock(server.url, AWS), "us-east-1", MODEL, HELLO)
    assert error.reason is Reason.CLIENT_MISCONFIGURED
    assert "bearer" in error.message.lower()
    assert server.requests == []


# TLS and proxies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for this machine and for bedrock.example, with its key, in one
    file.
    """
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=bedrock.example",
            "-addext",
            "subjectAltName=DNS:bedrock.example,IP:127.0.0.1",
            "-keyout",
            str(file.with_suffix(".key")),
            "-out",
            str(file),
        ],
        check=True,
        capture_output=True,
    )
    return file


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server needs for it; clients trust the certificate."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def test_a_bearer_token_goes_over_tls(wire, bedrock, monkeypatch, tls):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "users-own-token")
    server = wire(http(200, ANSWER), tls)
    assert converse(bedrock(server.url, AWS), "us-east-1", MODEL, HELLO).text == "Hi"
    assert server.requests[0].headers["authorization"] == "Bearer users-own-token"
    expired = wire(http(403, {"Message": "Bearer Token has expired"}), tls)
    error = error_of(converse, bedrock(expired.url, AWS), "us-east-1", MODEL, HELLO)
    assert error.to_failure().credential == Credential.API_KEY


def test_a_certificate_nobody_vouches_for_is_a_tls_problem(
    wire, bedrock, own_keys, monkeypatch, tls
):
    monkeypatch.delenv("AWS_CA_BUNDLE")
    server = wire(http(200, ANSWER), tls)
    assert (
        error_of(converse, bedrock(server.url, AWS), "us-east-1", MODEL, HELLO).reason is Reason.TLS
    )
    assert server.requests == []


def test_a_stream_over_tls_is_cut_at_its_deadline(wire, bedrock, own_keys, tls):
    own: list[Wire] = []

    def trickle(connection, request):
        connection.sendall(STREAM_HEAD)
        while not own[0].over.wait(0.02):
            connection.sendall(chunk(BEGIN[1]))

    own.append(wire(trickle, tls))
    error = error_of(stream, bedrock(own[0].url, AWS), "us-east-1", MODEL, HELLO, remaining_s=3.0)
    assert error.reason is Reason.DEADLINE
    assert error.partial.text.startswith("HiHi")


def tunnelling(to: Wire) -> Answer:
    """A proxy that connects through to one server, whatever host was asked for."""

    def answer(connection: socket.socket, request: replay.ParsedRequest) -> None:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", to.port)) as onward:
            back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
            back.start()
            pump(connection, onward)
            back.join(10)

    return answer


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_an_https_proxy_is_used(wire, bedrock, own_keys, monkeypatch, tls):
    server = wire(http(200, ANSWER), tls)
    proxy = wire(tunnelling(server))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert converse(bedrock("https://bedrock.example", AWS), "us-east-1", MODEL, HELLO).text == "Hi"
    assert [request.path for request in proxy.requests] == ["bedrock.example:443"]
    assert server.requests[0].headers["host"] == "bedrock.example"


def test_an_http_proxy_is_used(wire, bedrock, own_keys, monkeypatch):
    proxy = wire(http(200, ANSWER))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    converse(bedrock("http://bedrock.example", AWS), "us-east-1", MODEL, HELLO)
    assert proxy.requests[0].path.startswith("http://bedrock.example/model/")


def test_a_proxy_that_refuses_is_a_proxy_problem(wire, bedrock, own_keys, monkeypatch):
    refusing = wire(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    for proxy in (refusing.url, f"http://127.0.0.1:{free_port()}"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        error = error_of(
            converse, bedrock("https://bedrock.example", AWS), "us-east-1", MODEL, HELLO
        )
        assert error.reason is Reason.PROXY


@pytest.mark.parametrize("backend", [AWS, EMULATOR])
@pytest.mark.usefixtures("own_keys")
def test_no_proxy_is_used_for_this_machine(wire, bedrock, monkeypatch, backend):
    proxy = wire(http(200, ANSWER))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    server = wire(http(200, ANSWER))
    for host in ("127.0.0.1", "localhost"):
        converse(bedrock(f"http://{host}:{server.port}", backend), "us-east-1", MODEL, HELLO)
    assert (len(server.requests), len(proxy.requests)) == (2, 0)


# The other APIs

CHAT = RouteTarget("new.model", "on_demand", Endpoint.RUNTIME, API.CHAT_COMPLETIONS, "/openai/v1")
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
COMPLETION = {
    "id": "c",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def refusing(refuses: Callable[[dict[str, Any]], str], answer: bytes) -> Answer:
    """Refuse a body for which `refuses` has words, and answer every other."""

    def respond(connection: socket.socket, request: replay.ParsedRequest) -> bool:
        words = refuses(json.loads(request.body))
        refusal = {"error": {"message": words, "type": "invalid_request_error", "code": None}}
        connection.sendall(http(400, refusal) if words else answer)
        return True

    return respond


def old_name_of_the_cap(body: dict[str, Any]) -> str:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. "
    return words + "Use 'max_completion_tokens' instead." if "max_tokens" in body else ""


def test_what_a_refusal_teaches_is_used_at_once_and_from_then_on(wire, bedrock):
    server = wire(refusing(old_name_of_the_cap, http(200, COMPLETION)))
    client = bedrock(server.url)
    for count in (2, 3):
        assert converse(client, "us-east-1", CHAT, HELLO).text == "Hi"
        assert len(server.requests) == count
    assert [r.path for r in server.requests] == ["/openai/v1/chat/completions"] * 3
    other = replace(CHAT, target_id="other.model")
    assert converse(client, "us-east-1", other, HELLO).text == "Hi"
    assert len(server.requests) == 5


def test_a_stream_that_is_refused_is_requested_in_other_words(wire, bedrock):
    events = [
        {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": COMPLETION["usage"]},
    ]
    lines = [f"data: {json.dumps(e)}\n\n" for e in events] + ["data: [DONE]\n\n"]
    answer = http(200, "".join(lines), "Content-Type: text/event-stream")
    server = wire(refusing(old_name_of_the_cap, answer))
    reply = stream(bedrock(server.url), "us-east-1", CHAT, HELLO)
    assert (reply.text, reply.complete, reply.request_id) == ("Hi", True, "r-1")
    assert len(server.requests) == 2


def test_a_refusal_that_leaves_no_other_words_is_the_models(wire, bedrock):
    words = "`temperature` is deprecated for this model."
    server = wire(refusing(lambda body: words if "temperature" in body else "", b""))
    client = bedrock(server.url)
    for _ in range(2):
        error = error_of(converse, client, "us-east-1", CHAT, replace(HELLO, temperature=0.0))
        assert error.reason is Reason.PARAMETER_NOT_SUPPORTED
        assert "temperature" in error.message
    assert len(server.requests) == 1


def test_a_service_that_contradicts_itself_is_not_requested_for_ever(wire, bedrock):
    def contradict(body: dict[str, Any]) -> str:
        new = "Unknown parameter: 'max_completion_tokens'."
        return old_name_of_the_cap(body) or new

    server = wire(refusing(contradict, b""))
    error = error_of(converse, bedrock(server.url), "us-east-1", CHAT, HELLO)
    assert error.reason.category.value == "CONFIGURATION_ERROR"
    assert len(server.requests) == 2


# The emulator, as a process of its own


def test_the_emulators_troubles_come_out_as_what_they_are(bedrock):
    with processes.emulator(scenario="streams") as (url, _process):
        client = bedrock(url)
        reasons = {}
        for model in ("amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"):
            error = error_of(stream, client, "us-east-1", model, HELLO)
            assert error.partial is not None
            reasons[model] = error.reason
        assert stream(client, "us-east-1", MODEL, HELLO).complete
    assert reasons["amazon.nova-lite-v1:0"] is Reason.STREAM_TRUNCATED
    assert isinstance(errors.error(reasons["amazon.nova-pro-v1:0"], ""), errors.ServiceFailed)


# The models of bedrock-mantle


@pytest.mark.parametrize(
    "body",
    [
        "[]", "null", "1", '"x"', "{}", '{"data": null}', '{"data": {}}', "<html>", "",
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_listing_of_another_shape_is_a_bad_response(answered, body):
    _server, bedrock = answered(http(200, body))
    error = error_of(bedrock.mantle_models, "us-east-1")
    assert error.reason == Reason.BAD_RESPONSE


def test_entries_of_another_shape_are_passed_over(answered):
    entries = [
        None, 7, "x", [], {}, {"id": 7}, {"id": ""}, {"id": "a", "data_retention": 5},
        {"id": "b", "status": "unavailable", "status_reason": "the mode is too low"},
        {"id": "c", "status": "unavailable", "data_retention": {"allowed_modes": [1, None]}},
        {"id": "d", "status": "available", "data_retention": {"allowed_modes": "none"}},
    ]  # fmt: skip
    _server, bedrock = answered(http(200, {"object": "list", "data": entries}))
    listed = bedrock.mantle_models("us-east-1")
    assert [(m.model_id, m.unavailable, m.retention_modes) for m in listed] == [
        ("a", "", ()),
        ("b", "the mode is too low", ()),
        ("c", "unavailable", ("1", "None")),
        ("d", "", ()),
    ]
    assert len(listed.unreadable) == 7  # reported, as those of the other listings


def test_a_refused_listing_is_an_error_and_a_host_without_a_name_is_none(
    answered, bedrock, monkeypatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    _server, client = answered(http(403, {"error": {"message": "no", "code": "access_denied"}}))
    assert error_of(client.mantle_models, "us-east-1").http_status == 403
    nowhere = bedrock("http://no-such-host.invalid", backend=AWS)
    assert nowhere.mantle_models("us-east-1") is None


def test_the_recorded_listing_is_read(answered):
    path = replay.RECORDINGS / "bedrock-apis" / "13-mantle-models-list-200.json"
    if not path.is_file():
        pytest.skip("the recordings are not here")
    recorded = json.loads(path.read_text(encoding="utf-8"))["response"]["body"]
    _server, bedrock = answered(http(200, recorded))
    listed = bedrock.mantle_models("us-east-1")
    assert len(listed) == len(recorded["data"]) > 30
    assert {"default"} <= {mode for model in listed for mode in model.retention_modes}


BAD_ENTRIES: list[Any] = [
    None, "x", 7, [], {}, {"modelId": None}, {"modelId": 5}, {"modelId": "x" * 500},
    {"modelId": "a.b", "modelLifecycle": "ACTIVE"}, {"modelId": "a.b;x"},
    {"modelId": "a.b", "inferenceTypesSupported": "ON_DEMAND"},
    {"modelId": "a.b", "outputModalities": [1]},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ENTRIES, ids=lambda bad: str(bad)[:40])
def test_one_bad_entry_of_a_listing_costs_only_itself(answered, bad):
    good = {"modelId": "a.good-v1:0", "modelLifecycle": {"status": "ACTIVE"}}
    _, client = answered(http(200, {"modelSummaries": [bad, good]}))
    listing = client.foundation_models("us-east-1")
    assert [model.model_id for model in listing] == ["a.good-v1:0"]
    assert len(listing.unreadable) == 1


def test_profiles_of_applications_are_no_geographic_ones(answered):
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc1"
    models = [{"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/a.good-v1:0"}]
    entries = [
        {"inferenceProfileId": "abc1", "inferenceProfileArn": arn, "models": models},
        {"inferenceProfileId": "us.mine.x", "type": "APPLICATION", "models": models},
        {"inferenceProfileId": "us.a.good-v1:0", "type": "SYSTEM_DEFINED", "models": models},
        {"inferenceProfileId": "eu.a.bad-v1:0", "models": "none"},
    ]
    _, client = answered(http(200, {"inferenceProfileSummaries": entries}))
    listing = client.inference_profiles("us-east-1")
    assert [profile.profile_id for profile in listing] == ["us.a.good-v1:0"]
    assert listing[0].model_ids == ("a.good-v1:0",)
    assert len(listing.unreadable) == 1
