"""Real replies of Bedrock, recorded by others: fitting graders give the obvious verdict."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from certification.bedrock.dialects.converse import Converse
from certification.bedrock.dialects.dialect import WireResponse
from certification.inference import Reply, Timing
from certification.suite import graders, registry
from certification.suite.case import Context, Ref
from certification.suite.language import detect_language
from tests.paths import RECORDINGS

pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the recordings are not beside this checkout"
)


@dataclass(frozen=True)
class Recorded:
    name: str
    request: dict[str, Any]
    reply: Reply


def interactions(path: Path) -> Iterator[tuple[str, Any, int, bytes]]:
    """Yield (uri, request body, status, response body) of every interaction in a file, in three
    dialects.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for document in yaml.safe_load_all(raw):
        if "request" in document:
            request, response = document["request"], document["response"]
            patterns = request.get("bodyPatterns") or [{}]
            encoded = response.get("base64Body")
            body = base64.b64decode(encoded) if encoded else response.get("body") or ""
            pairs = [(request["url"], patterns[0].get("equalToJson"), response["status"], body)]
        else:
            pairs = [
                (request["uri"], request["body"], response["status"]["code"], response["body"])
                for request, response in (
                    [(i["request"], i["response"]) for i in document["interactions"]]
                    if "interactions" in document
                    else zip(document["requests"], document["responses"], strict=True)
                )
            ]
        for uri, request_body, status, body in pairs:
            data = body["string"] if isinstance(body, dict) else body
            yield uri, request_body, status, data if isinstance(data, bytes) else str(data).encode()


def read_stream(data: bytes) -> Reply:
    reader = Converse().stream_reader(0.0, {})
    reader.feed(data, 0.0)
    return reader.reply(1.0)


@cache
def replies() -> tuple[Recorded, ...]:
    index = json.loads((RECORDINGS / "index.json").read_text())
    real = {
        i["path"]
        for i in index
        if i["op"] in ("Converse", "ConverseStream") and i["real"] == "REAL" and i["status"] == 200
    }
    recorded = []
    for path in sorted(real):
        for uri, request, status, data in interactions(RECORDINGS / path):
            if status != 200 or not uri.endswith(("/converse", "/converse-stream")):
                continue
            reply = (
                read_stream(data)
                if uri.endswith("-stream")
                else Converse().decode(WireResponse(200, {}, data), Timing(1.0))
            )
            recorded.append(Recorded(path, json.loads(request) if request else {}, reply))
    return tuple(recorded)


def test_there_are_recordings_of_both_operations() -> None:
    streamed = [r for r in replies() if r.reply.events]
    assert len(streamed) >= 15
    assert len(replies()) - len(streamed) >= 15


def test_every_reply_reports_its_tokens_and_its_stop_reason() -> None:
    for recorded in replies():
        assert graders.has_usage(recorded.reply).passed, recorded.name
        grade = graders.stop_reason(
            recorded.reply, "end_turn", "tool_use", "max_tokens", "stop_sequence"
        )
        assert grade.passed, (recorded.name, grade)


def test_every_recorded_stream_is_whole_and_in_order() -> None:
    for recorded in replies():
        if recorded.reply.events:
            grade = graders.event_order(recorded.reply)
            assert grade.passed, (recorded.name, grade)


def test_a_reply_cut_by_max_tokens_stays_within_them() -> None:
    cut = [r for r in replies() if r.reply.stop_reason == "max_tokens"]
    assert len(cut) >= 5
    for recorded in cut:
        limit = recorded.request["inferenceConfig"]["maxTokens"]
        assert graders.output_tokens(recorded.reply, limit).passed, recorded.name
        assert not graders.output_tokens(recorded.reply, limit - 1).passed, recorded.name


def test_recorded_tool_calls_fit_their_schemas() -> None:
    checked = 0
    for recorded in replies():
        specs = [
            tool["toolSpec"]
            for tool in (recorded.request.get("toolConfig") or {}).get("tools", [])
            if "toolSpec" in tool
        ]
        tools = {spec["name"]: spec["inputSchema"]["json"] for spec in specs}
        uses = graders.tool_uses(recorded.reply)
        for use in uses:
            assert use.name in tools, recorded.name
            assert graders.schema_problem(use.input, tools[use.name]) == "", recorded.name
            checked += 1
        if len(uses) == 1:
            assert graders.tool_call(recorded.reply, uses[0].name, tools[uses[0].name]).passed
            assert not graders.tool_call(recorded.reply, "another_tool", tools[uses[0].name]).passed
    assert checked >= 8


def test_every_answer_has_either_a_tool_call_or_text() -> None:
    for recorded in replies():
        calls = bool(graders.tool_uses(recorded.reply))
        if calls:
            assert recorded.reply.stop_reason == "tool_use", recorded.name
        elif recorded.reply.stop_reason == "end_turn" and recorded.reply.content:
            assert graders.not_empty(recorded.reply).passed, recorded.name


def test_recorded_texts_are_english_or_too_short_to_tell_and_leak_no_template() -> None:
    texts = tuple(graders.text_of(r.reply) for r in replies())
    assert sum(detect_language(t) == "en" for t in texts) >= 10
    assert not [t for t in texts if detect_language(t) == "pt"]
    leaks = registry.BY_ID["G12"].script(Ref(1, "G12", 0)).grade((), Context(texts=texts))
    assert leaks.passed, leaks
