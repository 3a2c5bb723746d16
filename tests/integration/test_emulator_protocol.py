"""The emulator's HTTP: what a client may do to a socket, and what the process does when it starts
and stops.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from certification.emulator import wire
from certification.stack import processes
from tests.emulators import MICRO, Probe, call_converse, head, post, stream, text_of, user_messages
from tests.paths import PROJECT

BODY = json.dumps({"messages": user_messages("Hello")}).encode()


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    with processes.emulator() as (url, process):
        probe = Probe(url)
        yield probe
        probe.close()
    assert process.returncode == 0


def bodies(received: bytes) -> list[bytes]:
    """The bodies of the answers in a byte stream, in order."""
    parsed = []
    while received:
        first, _, received = received.partition(b"\r\n\r\n")
        length = int(first.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        parsed.append(received[:length])
        received = received[length:]
    return parsed


def test_pipelined_requests_are_answered_in_order(probe: Probe) -> None:
    texts = [f"number {i} " * (i + 1) for i in range(20)]
    received = probe.raw(
        b"".join(post(json.dumps({"messages": user_messages(text)}).encode()) for text in texts)
    )
    counts = [json.loads(body)["usage"]["inputTokens"] for body in bodies(received)]
    assert len(counts) == 20
    assert counts == sorted(counts)
    assert len(set(counts)) == 20


def test_more_requests_than_the_pipeline_holds_are_all_answered(probe: Probe) -> None:
    assert len(bodies(probe.raw(post(BODY) * 500))) == 500


def test_a_request_may_come_byte_by_byte(probe: Probe) -> None:
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        for byte in post(BODY):
            connection.sendall(bytes((byte,)))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_chunked_request_bodies_are_read(probe: Probe) -> None:
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7]) for i in range(0, len(BODY), 7)
    )
    request = (
        head("/model/amazon.nova-micro-v1%3A0/converse", "Transfer-Encoding: chunked\r\n")
        + chunks
        + b"0\r\n\r\n"
    )
    assert probe.raw(request).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_expects_100_continue_gets_it_before_it_sends_the_body(probe: Probe) -> None:
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        connection.sendall(post(BODY, headers="Expect: 100-continue\r\n")[: -len(BODY)])
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "garbage", [b"NONSENSE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_not_http_gets_400_and_the_connection_closes(probe: Probe, garbage: bytes) -> None:
    received = probe.raw(garbage)
    assert received.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"Connection: close" in received
    assert call_converse(probe)["stopReason"] == "end_turn"


def test_a_bad_content_length_gets_400(probe: Probe) -> None:
    received = probe.raw(head("/model/x/converse", "Content-Length: many\r\n"))
    assert received.startswith(b"HTTP/1.1 400 Bad Request")


def test_a_body_over_25_mb_gets_413_even_when_it_is_sent_whole(probe: Probe) -> None:
    with socket.create_connection(("127.0.0.1", probe.port), timeout=20) as connection:
        size = 26 * 1024 * 1024
        connection.sendall(head("/model/x/converse", f"Content-Length: {size}\r\n"))
        for _ in range(26):
            connection.sendall(b" " * 1024 * 1024)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_over_25_mb_gets_413(probe: Probe) -> None:
    with socket.create_connection(("127.0.0.1", probe.port), timeout=20) as connection:
        connection.sendall(head("/model/x/converse", "Transfer-Encoding: chunked\r\n"))
        for _ in range(26):
            connection.sendall(b"100000\r\n" + b" " * 1024 * 1024 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_is_taken(probe: Probe) -> None:
    answer = call_converse(probe, "word " * 100_000)
    assert answer["usage"]["inputTokens"] > 100_000


def test_connection_close_is_obeyed(probe: Probe) -> None:
    received = probe.raw(post(BODY, headers="Connection: close\r\n"))
    assert b"Connection: close" in received


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(probe: Probe) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
            connection.sendall(post(BODY)[:-5])
    assert call_converse(probe)["stopReason"] == "end_turn"


@pytest.mark.parametrize("effect", ['stream = "stall"', "hang = true"])
def test_a_client_that_leaves_a_call_without_end_gets_its_connection_closed(
    probe: Probe, effect: str
) -> None:
    probe.scenario(f"[[rule]]\n{effect}\n")
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        connection.sendall(post(BODY, "/model/amazon.nova-micro-v1%3A0/converse-stream"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    probe.scenario("")


def test_every_answer_says_that_it_comes_from_the_emulator(probe: Probe) -> None:
    for request in (
        post(BODY),
        post(b"{"),
        post(b"{}", "/nowhere"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        assert b"x-myia-backend: emulator" in probe.raw(request)


def test_every_service_answer_has_a_request_id_of_its_own(probe: Probe) -> None:
    ids = {call_converse(probe)["ResponseMetadata"]["RequestId"] for _ in range(10)}
    assert len(ids) == 10


def test_many_threads_get_their_own_answers(probe: Probe) -> None:
    def one(i: int) -> int:
        return int(call_converse(probe, "word " * i)["usage"]["inputTokens"])

    probe.client()
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(one, range(1, 200)))
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)


def test_a_frame_carries_its_checksums() -> None:
    frame = wire.event("messageStart", {"role": "assistant"}, 5)
    assert int.from_bytes(frame[:4]) == len(frame)
    assert int.from_bytes(frame[8:12]) == zlib.crc32(frame[:8])
    assert int.from_bytes(frame[-4:]) == zlib.crc32(frame[:-4])
    assert frame.endswith(b'{"role":"assistant","p":"abcde"}' + frame[-4:])


def test_the_port_that_is_taken_is_named(probe: Probe) -> None:
    sentence = f"Port {probe.port} on 127.0.0.1 is taken"
    with (
        pytest.raises(processes.NotReady, match=sentence),
        processes.emulator(port=probe.port),
    ):
        pass


def test_a_scenario_that_does_not_exist_is_named_on_start() -> None:
    with (
        pytest.raises(processes.NotReady, match="no scenario file 'absent'"),
        processes.emulator(scenario="absent"),
    ):
        pass


def test_sigterm_lets_a_running_call_end() -> None:
    with (
        processes.emulator(fixed_latency_ms=400) as (url, process),
        ThreadPoolExecutor(1) as pool,
    ):
        probe = Probe(url)
        call = pool.submit(call_converse, probe)
        for _ in range(500):
            if probe.page("/_emulator/stats")["total"]:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert text_of(call.result(10))
        assert process.wait(10) == 0
        probe.close()


def test_sigterm_ends_a_process_with_idle_connections() -> None:
    with processes.emulator() as (url, process):
        probe = Probe(url)
        call_converse(probe)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        probe.close()


@pytest.mark.parametrize(
    "command", [["-m", "certification.emulator"], ["manage.py", "bedrock_emulator"]]
)
def test_both_commands_print_how_to_point_an_sdk_at_them(command: list[str]) -> None:
    running = subprocess.Popen(
        [
            sys.executable,
            *command,
            "--port",
            "0",
            "--time-scale",
            "0",
            "--access-log",
            "--scenario",
            "healthy",
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(60, running.kill)
    killer.start()
    assert running.stdout is not None
    with running.stdout:
        lines = [running.stdout.readline() for _ in range(8)]
        url = lines[0].split()[3]
        assert lines[0].startswith("Emulator ready at http://127.0.0.1:")
        assert f"export AWS_ENDPOINT_URL={url}\n" in lines[2]
        assert f"OPENAI_BASE_URL={url}/bedrock-mantle/us-east-1/openai/v1 " in lines[6]
        probe = Probe(url)
        call_converse(probe)
        probe.close()
        assert running.stdout.readline() == f"Converse {MICRO} us-east-1 ok\n"
        running.terminate()
        assert running.wait(10) == 0
    killer.cancel()


def test_recorded_speed_is_used_and_scaled() -> None:
    with processes.emulator(time_scale=0.05) as (url, _process):
        probe = Probe(url)
        events = stream(probe)
        latency = events[-1]["metadata"]["metrics"]["latencyMs"]
        assert 1 < latency < 1000
        first = call_converse(probe)["metrics"]["latencyMs"]
        assert first == call_converse(probe)["metrics"]["latencyMs"]
        probe.close()
