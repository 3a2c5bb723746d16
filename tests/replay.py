"""Recorded interactions of real Bedrock, and a local HTTP server that gives their answers again."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tests.paths import RECORDINGS

OPERATIONS = {
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream",
    "count-tokens": "CountTokens",
}
REDACTED = "**REDACTED**"
OF_THE_CONNECTION = {
    "connection",
    "content-length",
    "transfer-encoding",
    "date",
    "keep-alive",
    "content-encoding",
}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Recorded:
    """One answer as it went over the wire. `headers` are in lower case and without those of the
    connection.
    """

    path: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        return OPERATIONS[self.path.rsplit("/", 1)[-1]]

    @property
    def model(self) -> str:
        return unquote(self.path.split("/")[2])

    @property
    def request_id(self) -> str:
        return self.headers.get("x-amzn-requestid", "")

    @property
    def streams(self) -> bool:
        return self.operation.endswith("Stream") and self.status == 200


@cache
def index() -> list[dict[str, Any]]:
    """Return the collection's own index of what is in the files; empty without the recordings."""
    file = RECORDINGS / "index.json"
    listed = json.loads(file.read_text()) if file.is_file() else []
    counts: Counter[str] = Counter()
    for entry in listed:  # its own "n" starts again with every document of a file
        entry["n"] = counts[entry["path"]]
        counts[entry["path"]] += 1
    return listed


@cache
def interactions(path: str) -> tuple[Recorded, ...]:
    """Every answer in a file, in order. VCR's two dialects and WireMock's mappings, as YAML or
    JSON, also gzipped.
    """
    raw = (RECORDINGS / path).read_bytes()
    if path.endswith(".gz"):
        raw = gzip.decompress(raw)
    return tuple(r for document in yaml.load_all(raw, LOADER) for r in recorded_in(document))


def recorded_in(document: dict[str, Any]) -> Iterator[Recorded]:
    if "interactions" in document:
        for both in document["interactions"]:
            yield from_vcr(both["request"], both["response"])
    elif "requests" in document:
        for request, response in zip(document["requests"], document["responses"], strict=True):
            yield from_vcr(request, response)
    else:
        for mapping in document.get("mappings", [document]):
            yield from_wiremock(mapping["request"], mapping["response"])


def from_vcr(request: dict[str, Any], response: dict[str, Any]) -> Recorded:
    body = response["body"]
    if isinstance(body, dict):
        body = (
            base64.b64decode(body["base64_string"])
            if "base64_string" in body
            else body.get("string", "")
        )
    return recorded_of(request["uri"], response["status"]["code"], response["headers"], body or "")


def from_wiremock(request: dict[str, Any], response: dict[str, Any]) -> Recorded:
    if "base64Body" in response:
        body: Any = base64.b64decode(response["base64Body"])
    else:
        body = response["body"] if "body" in response else json.dumps(response.get("jsonBody"))
    url = request.get("url") or request.get("urlPath") or request["urlPattern"]
    return recorded_of(url, response["status"], response.get("headers") or {}, body)


def recorded_of(url: str, status: int, headers: dict[str, Any], body: str | bytes) -> Recorded:
    data = body.encode() if isinstance(body, str) else body
    if data[:2] == b"\x1f\x8b":  # boto3 asks for no encoding and undoes none
        data = gzip.decompress(data)
    plain = {
        name.lower(): value[0] if isinstance(value, list) else str(value)
        for name, value in headers.items()
    }
    own_headers = {name: value for name, value in plain.items() if name not in OF_THE_CONNECTION}
    recorded = Recorded(urlsplit(url).path, status, own_headers, data)
    if own_headers.get("content-type", REDACTED) == REDACTED:
        own_headers["content-type"] = (
            "application/vnd.amazon.eventstream" if recorded.streams else "application/json"
        )
    return recorded


# Event streams, read on our own: the expected values must not come from the code under test.


@dataclass(frozen=True)
class Frame:
    headers: dict[str, str]
    payload: bytes

    @property
    def name(self) -> str:
        return self.headers.get(":event-type") or self.headers.get(":exception-type", "")

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.payload)


def split_frames(data: bytes) -> list[bytes]:
    """The raw frames of a stream. AssertionError where a checksum or a length is wrong."""
    frames = []
    while data:
        total, _, prelude_crc = struct.unpack(">III", data[:12])
        assert zlib.crc32(data[:8]) == prelude_crc
        assert len(data) >= total
        assert zlib.crc32(data[: total - 4]) == struct.unpack(">I", data[total - 4 : total])[0]
        frames.append(data[:total])
        data = data[total:]
    return frames


def frames(data: bytes) -> list[Frame]:
    """The frames of a stream, parsed. Bedrock's headers are all strings."""
    return [_frame(raw) for raw in split_frames(data)]


def _frame(raw: bytes) -> Frame:
    end = 12 + struct.unpack(">I", raw[4:8])[0]
    at, headers = 12, {}
    while at < end:
        name_end = at + 1 + raw[at]
        name = raw[at + 1 : name_end].decode()
        assert raw[name_end] == 7, f"header {name} is no string"
        size = struct.unpack(">H", raw[name_end + 1 : name_end + 3])[0]
        at = name_end + 3 + size
        headers[name] = raw[name_end + 3 : at].decode()
    return Frame(headers, raw[end:-4])


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """A raw frame, checksums and all."""
    block = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(name: str, body: dict[str, Any]) -> bytes:
    """A raw frame of an ordinary event."""
    headers = {":message-type": "event", ":event-type": name, ":content-type": "application/json"}
    return frame(headers, json.dumps(body).encode())


def exception(name: str, message: str) -> bytes:
    headers = {
        ":message-type": "exception",
        ":exception-type": name,
        ":content-type": "application/json",
    }
    return frame(headers, json.dumps({"message": message}).encode())


@dataclass(frozen=True)
class ParsedRequest:
    """A request that reached the server. `headers` are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Replay:
    """Answers every request with `answers` in turn; the last of them stays. Streams are sent in
    `chunk` bytes at a time.
    """

    url: str = ""
    answers: list[Recorded] = field(default_factory=list)
    request: list[ParsedRequest] = field(default_factory=list)
    chunk: int = 1000

    def answer(self, *answers: Recorded) -> None:
        self.answers, self.requests = list(answers), []

    def next(self) -> Recorded:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    replay: Replay

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.replay.requests.append(ParsedRequest(self.path, headers, body))
        recorded = self.replay.next()
        self.send_response_only(recorded.status)
        for name, value in recorded.headers.items():
            self.send_header(name, value)
        if recorded.headers.get("content-type") == "application/vnd.amazon.eventstream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(recorded.body), self.replay.chunk):
                part = recorded.body[at : at + self.replay.chunk]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(recorded.body)))
            self.end_headers()
            self.wfile.write(recorded.body)

    do_GET = do_POST = _answer

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def serve() -> Iterator[Replay]:
    """A fixture's body: a server on a free port, ended when the test is."""
    replay = Replay()
    handler = type("Handler", (_Handler,), {"replay": replay})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    replay.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    yield replay
    server.shutdown()
    server.server_close()
