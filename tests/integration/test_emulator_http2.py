"""The emulator's HTTP/2, driven by h2 over a raw socket: what the AWS SDK for JavaScript speaks to
bedrock-runtime.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from certification.emulator import http2
from tests.emulators import KEY, MICRO, Probe, call_converse, user_messages
from tests.paths import PROJECT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BODY = json.dumps({"messages": user_messages("Hello")}).encode()
CREDENTIAL = f"Credential={KEY}/20260101/us-east-1/bedrock/aws4_request"
STREAM = "converse-stream"


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    informational: list[bytes] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[b":status"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Client:
    """One HTTP/2 connection. Gives windows back only while it reads, and only if `acknowledges`."""

    def __init__(self, port: int, settings: dict[SettingCodes | int, int] | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.wire = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.wire.local_settings.update(settings or {})
        self.wire.local_settings.acknowledge()
        self.wire.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.ended: events.ConnectionTerminated | None = None
        self.closed = False
        self.acknowledges = True
        self.pongs = 0
        self.raw = b""
        self.flush()

    def flush(self) -> None:
        if data := self.wire.data_to_send():
            self.socket.sendall(data)

    def open(
        self, verb: str = "converse", model: str = MICRO, *more: tuple[str, str], ends: bool = False
    ) -> int:
        """The head of a signed POST."""
        return self.head("POST", f"/model/{model.replace(':', '%3A')}/{verb}", *more, ends=ends)

    def head(self, method: str, path: str, *more: tuple[str, str], ends: bool = True) -> int:
        number = self.wire.get_next_available_stream_id()
        headers = [
            (":method", method),
            (":path", path),
            (":scheme", "http"),
            (":authority", "localhost"),
            ("authorization", f"AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders=host, Signature=0"),
            *more,
        ]
        self.wire.send_headers(number, headers, end_stream=ends)
        self.answers[number] = Answer()
        return number

    def start_call(self, verb: str = "converse", body: bytes = BODY, model: str = MICRO) -> int:
        """A whole small call."""
        number = self.open(verb, model)
        self.wire.send_data(number, body, end_stream=True)
        self.flush()
        return number

    def upload(self, number: int, body: bytes) -> None:
        """A body of any size, as fast as the windows let it."""
        sent = 0
        while sent < len(body):
            room = min(
                self.wire.local_flow_control_window(number), self.wire.max_outbound_frame_size
            )
            if room <= 0:
                self.read()
                continue
            part = body[sent : sent + room]
            sent += len(part)
            self.wire.send_data(number, part, end_stream=sent == len(body))
            self.flush()

    def read(self) -> None:
        """One packet."""
        data = self.socket.recv(65536)
        self.closed = not data
        self.raw += data
        for event in self.wire.receive_data(data) if data else ():
            self.take(event)
        self.flush()

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.InformationalResponseReceived):
            self.answers[event.stream_id].informational.append(dict(event.headers)[b":status"])
        elif isinstance(event, events.ResponseReceived):
            self.answers[event.stream_id].headers = dict(event.headers)
        elif isinstance(event, events.DataReceived):
            self.answers[event.stream_id].body += event.data
            if self.acknowledges:
                self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, events.StreamReset):
            self.answers[event.stream_id].reset = event.error_code
        elif isinstance(event, events.PingAckReceived):
            self.pongs += 1
        elif isinstance(event, events.ConnectionTerminated):
            self.ended = event

    def until(self, met: Callable[[], object]) -> None:
        while not met() and not self.closed:
            self.read()

    def answer(self, number: int) -> Answer:
        self.until(lambda: self.answers[number].over)
        return self.answers[number]

    def ping(self) -> None:
        """Returns once the emulator has read everything sent so far, and we what it wrote before
        it.
        """
        expected = self.pongs + 1
        self.wire.ping(b"12345678")
        self.flush()
        self.until(lambda: self.pongs == expected)


@contextmanager
def emulator(directory: Path, *arguments: str) -> Iterator[tuple[Probe, subprocess.Popen[str]]]:
    """A process of its own that must end well and, since every fault is a traceback there, keep its
    stderr empty.
    """
    command = [
        sys.executable,
        "-m",
        "certification.emulator",
        "--port",
        "0",
        "--scenario",
        "healthy",
        *arguments,
    ]
    log_path = directory / "stderr"
    with (
        log_path.open("w") as errors,
        subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as running,
    ):
        assert running.stdout is not None
        try:
            own_probe = Probe(running.stdout.readline().split()[3])
            yield own_probe, running
            own_probe.close()
        finally:
            running.terminate()
        assert running.wait(10) == 0
    assert log_path.read_text() == ""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    with emulator(tmp_path_factory.mktemp("emulator"), "--time-scale", "0") as (own_probe, _):
        yield own_probe


@contextmanager
def connected(
    probe: Probe, settings: dict[SettingCodes | int, int] | None = None
) -> Iterator[Client]:
    client = Client(probe.port, settings)
    with client.socket:
        yield client


@pytest.fixture
def client(probe: Probe) -> Iterator[Client]:
    probe.scenario("")
    with connected(probe) as connection:
        yield connection


def frames(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, by name, with every checksum verified."""
    parsed = []
    while data:
        total, ahead = int.from_bytes(data[:4]), int.from_bytes(data[4:8])
        frame, data = data[:total], data[total:]
        assert int.from_bytes(frame[8:12]) == zlib.crc32(frame[:8])
        assert int.from_bytes(frame[-4:]) == zlib.crc32(frame[:-4])
        headers = frame[12 : 12 + ahead]
        size = headers[0]
        assert headers[1 : size + 1] in (b":event-type", b":exception-type")
        start = size + 4
        name = headers[start : start + int.from_bytes(headers[start - 2 : start])].decode()
        parsed.append((name, json.loads(frame[12 + ahead : -4])))
    return parsed


def kinds_of(data: bytes) -> list[tuple[int, int]]:
    """Type and stream of every frame."""
    kinds = []
    while data:
        kinds.append((data[3], int.from_bytes(data[5:9])))
        data = data[9 + int.from_bytes(data[:3]) :]
    return kinds


def long(words: int) -> bytes:
    return json.dumps({"messages": user_messages("word " * words)}).encode()


def test_converse_is_answered(client: Client) -> None:
    answer = client.answer(client.start_call())
    assert answer.status == 200
    assert answer.json["stopReason"] == "end_turn"
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.headers[b"content-length"] == str(len(answer.body)).encode()
    assert answer.headers[b"x-myia-backend"] == b"emulator"
    assert answer.headers[b"date"].endswith(b" GMT")


def test_the_answer_is_the_one_that_http_1_gives(probe: Probe, client: Client) -> None:
    answer = client.answer(client.start_call()).json
    expected = call_converse(probe)
    assert (answer["output"], answer["usage"]) == (expected["output"], expected["usage"])


def test_converse_stream_sends_whole_frames(client: Client) -> None:
    answer = client.answer(client.start_call(STREAM))
    names = [name for name, _ in frames(answer.body)]
    assert answer.headers[b"content-type"] == b"application/vnd.amazon.eventstream"
    assert b"content-length" not in answer.headers
    assert names[0] == "messageStart"
    assert names[-2:] == ["messageStop", "metadata"]
    assert names.count("contentBlockDelta") > 1


def test_an_error_comes_with_its_headers(client: Client) -> None:
    answer = client.answer(client.start_call(model="no.such"))
    assert answer.status == 400
    assert answer.headers[b"x-amzn-errortype"].startswith(b"ValidationException")
    assert len(answer.headers[b"x-amzn-requestid"]) == 36
    assert answer.json["message"] == "The provided model identifier is invalid."


def test_the_control_plane_answers_too(client: Client) -> None:
    number = client.head("GET", "/foundation-models?byProvider=anthropic")
    client.flush()
    summaries = client.answer(number).json["modelSummaries"]
    assert {summary["providerName"] for summary in summaries} == {"Anthropic"}


def test_an_api_key_gets_its_region_from_the_authority(probe: Probe, client: Client) -> None:
    number = client.wire.get_next_available_stream_id()
    client.answers[number] = Answer()
    client.wire.send_headers(
        number,
        [
            (":method", "POST"),
            (":path", f"/model/{MICRO.replace(':', '%3A')}/converse"),
            (":scheme", "http"),
            (":authority", "bedrock-runtime.us-west-2.example"),
            ("authorization", "Bearer key"),
        ],
    )
    client.wire.send_data(number, BODY, end_stream=True)
    client.flush()
    client.answer(number)
    assert [call["region"] for call in probe.page("/_emulator/stats")["calls"]] == ["us-west-2"]


def test_head_gets_the_length_and_no_body(client: Client) -> None:
    number = client.head("HEAD", "/_emulator/health")
    client.flush()
    answer = client.answer(number)
    assert int(answer.headers[b"content-length"]) > 0
    assert answer.body == b""


def test_fifty_calls_at_a_time_on_one_connection_get_their_own_answers(client: Client) -> None:
    numbers = [client.start_call(STREAM if i % 2 else "converse", long(i)) for i in range(1, 51)]
    client.until(lambda: all(answer.over for answer in client.answers.values()))
    counts = []
    for i, number in enumerate(numbers, 1):
        body = client.answers[number].body
        counts.append((frames(body)[-1][1] if i % 2 else json.loads(body))["usage"]["inputTokens"])
    assert counts == sorted(counts)
    assert len(set(counts)) == 50


def test_streams_opened_before_the_settings_are_read_are_taken(probe: Probe) -> None:
    with connected(probe) as client:
        numbers = []
        for _ in range(300):
            numbers.append(client.open())
        for number in numbers[:200]:
            client.wire.send_data(number, BODY, end_stream=True)
        client.flush()
        assert {client.answer(number).status for number in numbers[:200]} == {200}


def test_a_slow_call_does_not_hold_the_one_after_it(probe: Probe, client: Client) -> None:
    probe.scenario('[[rule]]\noperation = "ConverseStream"\nhang = true\n')
    hung = client.start_call(STREAM)
    assert client.answer(client.start_call()).status == 200
    client.wire.reset_stream(hung, ErrorCodes.CANCEL)
    assert client.answer(client.start_call()).status == 200


def test_a_request_may_come_byte_by_byte(probe: Probe) -> None:
    with connected(probe) as client:
        number = client.open()
        client.wire.send_data(number, BODY, end_stream=True)
        for byte in client.wire.data_to_send():
            client.socket.sendall(bytes((byte,)))
        assert client.answer(number).status == 200


def test_the_preface_may_come_in_pieces(probe: Probe) -> None:
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE:
            connection.sendall(bytes((byte,)))
        assert connection.recv(9)[3] == 4  # SETTINGS


@pytest.mark.parametrize("first", [b"P", b"PRI * HTTP/2.0\r\n\r\n"])
def test_what_only_begins_like_the_preface_is_http_1(probe: Probe, first: bytes) -> None:
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        connection.sendall(first)
        connection.sendall(b"OST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert connection.recv(9) == b"HTTP/1.1 "


def test_a_body_of_several_megabytes_is_taken(client: Client) -> None:
    body = json.dumps({"messages": user_messages("a" * 8_000_000)}).encode()
    number = client.open()
    client.upload(number, body)
    answer = client.answer(number)
    assert answer.status == 400
    assert b"too long" in answer.body


def test_small_windows_of_the_client_are_respected(probe: Probe) -> None:
    probe.scenario("")
    with connected(probe, {SettingCodes.INITIAL_WINDOW_SIZE: 50}) as client:
        numbers = [client.start_call(STREAM), client.start_call(), client.start_call(STREAM)]
        answers = [client.answer(number) for number in numbers]
        assert answers[1].json["stopReason"] == "end_turn"
        assert frames(answers[0].body) == frames(answers[2].body)


def test_a_client_that_gives_no_window_back_gets_what_fits_and_then_the_rest(probe: Probe) -> None:
    with connected(probe, {SettingCodes.INITIAL_WINDOW_SIZE: 50}) as client:
        client.acknowledges = False
        number = client.start_call()
        client.ping()
        assert len(client.answers[number].body) == 50
        client.wire.increment_flow_control_window(1 << 20, number)
        client.flush()
        assert client.answer(number).json["stopReason"] == "end_turn"


def test_a_stalled_reader_does_not_hold_its_neighbours(probe: Probe) -> None:
    with connected(probe, {SettingCodes.INITIAL_WINDOW_SIZE: 0}) as client:
        blocked, free = client.start_call(), client.start_call()
        client.wire.increment_flow_control_window(1 << 20, free)
        client.flush()
        assert client.answer(free).json["stopReason"] == "end_turn"
        assert client.answers[blocked].body == b""


def test_a_large_answer_crosses_the_connection_window(client: Client) -> None:
    numbers = [client.head("GET", "/foundation-models") for _ in range(10)]
    client.flush()
    sizes = {len(client.answer(number).json["modelSummaries"]) for number in numbers}
    assert sum(len(answer.body) for answer in client.answers.values()) > 65535
    assert len(sizes) == 1


def test_a_truncated_stream_ends_well_but_too_early(probe: Probe, client: Client) -> None:
    probe.scenario('[[rule]]\nstream = "truncated"\n')
    answer = client.answer(client.start_call(STREAM))
    names = [name for name, _ in frames(answer.body)]
    assert answer.ended
    assert names[0] == "messageStart"
    assert "messageStop" not in names


def test_a_corrupted_frame_reaches_the_client_as_it_is(probe: Probe, client: Client) -> None:
    probe.scenario('[[rule]]\nstream = "corrupted_frame"\n')
    answer = client.answer(client.start_call(STREAM))
    assert answer.ended
    with pytest.raises(AssertionError):
        frames(answer.body)


def test_a_stream_may_end_with_an_exception(probe: Probe, client: Client) -> None:
    probe.scenario('[[rule]]\nstream = "mid_stream_error"\nstream_error = "throttlingException"\n')
    answer = client.answer(client.start_call(STREAM))
    assert answer.ended
    assert frames(answer.body)[-1][0] == "throttlingException"


def test_a_stalled_stream_stays_open(probe: Probe, client: Client) -> None:
    probe.scenario('[[rule]]\nstream = "stall"\n')
    number = client.start_call(STREAM)
    client.until(lambda: client.answers[number].body)
    client.ping()
    assert frames(client.answers[number].body)[0][0] == "messageStart"
    assert not client.answers[number].over


def test_a_reset_ends_the_connection_of_a_call_that_is_alone(probe: Probe, client: Client) -> None:
    probe.scenario("[[rule]]\nreset = true\n")
    client.start_call()
    with pytest.raises(ConnectionResetError):
        client.until(lambda: False)


def test_a_reset_leaves_the_neighbours_of_a_call_alone(probe: Probe, client: Client) -> None:
    probe.scenario('[[rule]]\noperation = "ConverseStream"\nreset = true\n')
    dropped = client.open(STREAM)
    client.wire.send_data(dropped, BODY, end_stream=True)
    neighbour = client.open()
    client.flush()
    assert client.answer(dropped).reset == ErrorCodes.INTERNAL_ERROR
    client.wire.send_data(neighbour, BODY, end_stream=True)
    client.flush()
    assert client.answer(neighbour).status == 200


@pytest.mark.parametrize("head_first", [True, False])
def test_a_call_that_is_reset_at_once_is_not_answered(client: Client, head_first: bool) -> None:
    number = client.open()
    if head_first:
        client.flush()
        client.ping()
    client.wire.send_data(number, BODY, end_stream=True)
    client.wire.reset_stream(number, ErrorCodes.CANCEL)
    client.flush()
    assert client.answer(client.start_call()).status == 200
    assert client.answers[number] == Answer()


def test_a_stream_reset_in_the_middle_stops(tmp_path: Path) -> None:
    with emulator(tmp_path, "--time-scale", "0.5") as (probe, _), connected(probe) as client:
        cancelled, other = client.start_call(STREAM), client.start_call(STREAM)
        client.until(lambda: client.answers[cancelled].body)
        client.wire.reset_stream(cancelled, ErrorCodes.CANCEL)
        client.ping()
        assert frames(client.answer(other).body)[-1][0] == "metadata"
        kinds = kinds_of(client.raw)
        pong = kinds.index((6, 0))
        assert (0, cancelled) in kinds[:pong]
        assert (0, other) in kinds[pong:]
        assert (0, cancelled) not in kinds[pong:]


@pytest.mark.parametrize("declared", [(), (("content-length", str(26 * 1024 * 1024)),)])
def test_a_body_over_25_mb_gets_413_and_the_connection_goes_on(
    client: Client, declared: tuple[tuple[str, str], ...]
) -> None:
    number = client.open("converse", MICRO, *declared)
    client.upload(number, b" " * 26 * 1024 * 1024)
    answer = client.answer(number)
    assert answer.status == 413
    assert answer.headers[b"x-myia-backend"] == b"emulator"
    assert client.answer(client.start_call()).status == 200


def test_a_client_that_expects_100_continue_gets_it(client: Client) -> None:
    number = client.open("converse", MICRO, ("expect", "100-continue"))
    client.flush()
    client.until(lambda: client.answers[number].informational)
    client.wire.send_data(number, BODY, end_stream=True)
    client.flush()
    assert client.answers[number].informational == [b"100"]
    assert client.answer(number).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x00" * 9 + b"nonsense" * 10, id="no frames"),
        pytest.param(
            b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff", id="bad header block"
        ),
        pytest.param(
            b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01x",
            id="data first",
        ),
        pytest.param(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"\x00" * 20, id="frame too large"),
        pytest.param(
            b"\x00\x00\x05\x04\x00\x00\x00\x00\x00" + b"\x00" * 5, id="settings of odd size"
        ),
    ],
)
def test_what_is_not_http_2_ends_the_connection_and_nothing_else(
    probe: Probe, garbage: bytes
) -> None:
    received = probe.raw(PREFACE + garbage)
    assert received[3] == 4  # our SETTINGS
    assert call_converse(probe)["stopReason"] == "end_turn"


def test_a_protocol_error_ends_in_a_goaway(client: Client) -> None:
    client.ping()
    client.socket.sendall(b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff")
    client.until(lambda: client.ended)
    assert client.ended is not None
    assert client.ended.error_code == ErrorCodes.PROTOCOL_ERROR
    client.until(lambda: False)
    assert client.closed


def test_a_client_that_says_goaway_still_reads_its_stream(tmp_path: Path) -> None:
    with emulator(tmp_path, "--time-scale", "0.2") as (probe, _), connected(probe) as client:
        number = client.start_call(STREAM)
        client.until(lambda: client.answers[number].headers)
        # Not h2's own: it closes its side for reading, the SDK for JavaScript does not.
        client.socket.sendall(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00" * 8)
        answer = client.answer(number)
        assert [name for name, _ in frames(answer.body)][-1] == "metadata"
        client.until(lambda: False)
        assert client.closed


def test_sigterm_says_goaway_and_lets_running_calls_end(tmp_path: Path) -> None:
    with (
        emulator(tmp_path, "--fixed-latency-ms", "400") as (probe, running),
        connected(probe) as client,
    ):
        number = client.start_call()
        for _ in range(500):
            if probe.page("/_emulator/stats")["total"]:
                break
            time.sleep(0.005)
        running.send_signal(signal.SIGTERM)
        while part := client.socket.recv(65536):
            client.raw += part
        assert running.wait(10) == 0
    kinds = kinds_of(client.raw)
    assert kinds.index((7, 0)) < kinds.index((1, number)) < kinds.index((0, number))


def test_sigterm_ends_a_process_with_idle_connections(tmp_path: Path) -> None:
    with (
        emulator(tmp_path) as (probe, running),
        connected(probe) as client,
        socket.create_connection(("127.0.0.1", probe.port)),
    ):
        assert client.answer(client.start_call()).status == 200
        running.send_signal(signal.SIGTERM)
        client.until(lambda: client.ended)
        assert client.ended is not None
        assert client.ended.error_code == ErrorCodes.NO_ERROR
        assert running.wait(10) == 0


def test_h2_still_has_the_private_methods_that_we_override_or_call() -> None:
    frame = GoAwayFrame(last_stream_id=0)
    for name in http2.H2_PRIVATE_METHODS:
        assert callable(getattr(H2Connection, name, None)), f"h2 no longer has {name}"
    connection = http2.GracefulH2Connection()
    overridden = connection._frame_dispatch_table[GoAwayFrame]
    assert overridden == connection._receive_goaway_frame, "h2 no longer dispatches GOAWAY to it"
    connection.data_to_send()
    connection._prepare_for_sending([frame])
    assert connection.data_to_send() == frame.serialize(), "h2 no longer sends what it is given"
