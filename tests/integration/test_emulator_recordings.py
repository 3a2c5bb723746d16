"""What the emulator answers has the shape of what Bedrock answered to the same request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certification.emulator import scenario
from certification.emulator.http import FullResponse, HttpRequest, StreamResponse
from certification.emulator.server import Emulator
from tests.paths import RECORDINGS

FOLDER = RECORDINGS / "bedrock-apis"
FILES = sorted(FOLDER.glob("*.json"))
HOSTS = {"mantle": "bedrock-mantle.{}.api.aws", "runtime": "bedrock-runtime.{}.amazonaws.com"}
# What a model may say or leave out from one call to the next, so that no recording decides it.
# Published with a shorter request than the one that was refused.
ABRIDGED = ("21-", "23-")
FREE = {"billing", "context", "tool_calls", "data_retention", "parameters"}

pytestmark = pytest.mark.skipif(not FILES, reason="the recordings are not beside this checkout")


def exchange(recorded: Any, toml: str = "") -> FullResponse | StreamResponse:
    """Send a recorded request to the emulator."""
    emulator = Emulator(scenario.parse(toml))
    request = recorded["request"]
    body = json.dumps(request["body"]).encode() if request.get("body") is not None else b""
    headers = {
        b"host": HOSTS[recorded["endpoint"]].format(region_of(recorded)).encode(),
        b"authorization": b"Bearer key",
    }
    if "scoped to correct service" in json.dumps(recorded["response"]):
        signed = "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/execute-api/aws4_request"
        headers[b"authorization"] = signed.encode()
    reply = emulator.handle(HttpRequest(request["method"], request["path"].encode(), headers, body))
    assert isinstance(reply, FullResponse | StreamResponse)
    return reply


def region_of(recorded: Any) -> str:
    """Return the region of a recording; some recorders left it out."""
    region = str(recorded["region"])
    return region if re.fullmatch(r"[a-z]{2}-[a-z]+-\d", region) else "us-east-1"


def scenario_for(recorded: Any) -> str:
    """Return the scenario under which the service answered so."""
    text = json.dumps(recorded["response"])
    if "is not authorized to perform" in text:
        return '[[rule]]\naccess = "iam"'
    return "[[rule]]\nfailed = true" if "timed out before the model" in text else ""


def masked(message: str) -> str:
    """Return a message without the name of the caller's role."""
    return re.sub(r"assumed-role/\w+/", "assumed-role/x/", message)


def differences(recorded: Any, emulated: Any, at: str = "") -> Iterator[str]:
    """Yield members of the recording that the emulated answer lacks or gives another type."""
    if isinstance(recorded, dict) and isinstance(emulated, dict):
        for name, value in recorded.items():
            if name not in FREE:
                if name not in emulated:
                    yield f"{at}.{name} is missing"
                else:
                    yield from differences(value, emulated[name], f"{at}.{name}")
    elif isinstance(recorded, list) and isinstance(emulated, list):
        for value in recorded[:1]:
            kinds = [one for one in emulated if kind_of(one) == kind_of(value)]
            yield from differences(value, kinds[0], f"{at}[]") if kinds else ()
    elif recorded is not None and emulated is not None and type(recorded) is not type(emulated):
        yield f"{at} is {type(emulated).__name__}, recorded {type(recorded).__name__}"


def kind_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else type(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_answer_has_the_recorded_status_and_members(path: Path) -> None:
    recorded = json.loads(path.read_text())
    if "sse" in recorded["response"]:
        pytest.skip("a stream: compared below")
    if path.name.startswith(ABRIDGED):
        pytest.skip("the published request is not the one that was refused")
    reply = exchange(recorded, scenario_for(recorded))
    assert isinstance(reply, FullResponse)
    assert reply.status == recorded["response"]["status"]
    emulated, expected = json.loads(reply.body), recorded["response"]["body"]
    assert list(differences(expected, emulated)) == []
    if recorded["response"]["status"] >= 400:
        message = (emulated.get("error") or {}).get("message")
        assert masked(message).startswith(masked(expected["error"]["message"]))


@pytest.mark.parametrize(
    "path", [path for path in FILES if "stream" in path.stem], ids=lambda path: path.stem
)
def test_a_stream_has_the_recorded_lines_and_events(path: Path) -> None:
    recorded = json.loads(path.read_text())
    reply = exchange(recorded)
    assert isinstance(reply, StreamResponse)
    assert reply.content_type == "text/event-stream"
    emulated = list(events(b"".join(part for _, part in reply.parts).decode()))
    expected = {kind: (event, order) for order, kind, event in events(recorded["response"]["sse"])}
    observed = {kind: (event, order) for order, kind, event in emulated}
    for kind in expected.keys() & observed.keys():
        assert observed[kind][1] == expected[kind][1], "the order of the lines"
        missing = expected[kind][0].keys() - observed[kind][0].keys() - {"logprobs", "obfuscation"}
        assert not missing, kind
    assert {"response.created", "response.in_progress", "response.completed"} <= observed.keys()


def events(sse: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the names of an event's lines, its type and its data."""
    for block in filter(str.strip, sse.split("\n\n")):
        lines = [line.partition(": ") for line in block.strip().split("\n")]
        data = next(value for name, _, value in lines if name == "data")
        yield ",".join(name for name, *_ in lines), json.loads(data)["type"], json.loads(data)
