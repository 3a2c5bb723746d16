"""Real answers of Bedrock, recorded by others and served over HTTP: our client makes of each what
is in its body.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from certification.bedrock import errors
from certification.bedrock.client import Bedrock
from certification.bedrock.connection import EMULATOR, Connection
from certification.inference import (
    EmbedRequest,
    Reasoning,
    Reply,
    Request,
    Text,
    ToolUse,
    Usage,
    user,
)
from certification.reasons import Reason
from tests import calls, replay
from tests.replay import Frame, Recorded, Replay

HELLO = Request((user("Hello"),), max_tokens=10)
TEXTS = EmbedRequest(("Hello",))
TITAN = "amazon.titan-embed-text-v2:0"
REASONS = {
    "The provided model identifier is invalid.": Reason.UNKNOWN_MODEL,
    "Malformed input request: #/messages/0/content/0: ": Reason.MALFORMED_REQUEST,
}

pytestmark = pytest.mark.skipif(
    not replay.index(), reason="the recordings are not beside this checkout"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Replay]:
    yield from replay.serve()


@pytest.fixture(scope="module")
def bedrock(server: Replay) -> Iterator[Bedrock]:
    client = Bedrock(Connection(EMULATOR, server.url))
    yield client
    client.close()


def recordings(*operations: str, failed: bool = False) -> list[Any]:
    """What the index lists for these operations, as parameters: (path, position, region)."""
    return [
        pytest.param(
            i["path"],
            i["n"],
            i["region"] or "us-east-1",
            id=f"{i['path'].rsplit('/', 1)[-1][-60:]}-{i['n']}",
        )
        for i in replay.index()
        if i["op"] in operations and (i["status"] >= 400) is failed
    ]


def take(path: str, n: int) -> Recorded:
    return replay.interactions(path)[n]


def usage_of(raw: dict[str, Any]) -> Usage:
    return Usage(
        raw["inputTokens"],
        raw["outputTokens"],
        raw["totalTokens"],
        raw.get("cacheReadInputTokens", 0),
        raw.get("cacheWriteInputTokens", 0),
    )


def test_the_files_hold_what_their_index_lists() -> None:
    listed = Counter((i["path"], i["n"], i["op"], i["model"], i["status"]) for i in replay.index())
    stored = Counter(
        (path, n, recorded.operation, recorded.model, recorded.status)
        for path in {i["path"] for i in replay.index()}
        for n, recorded in enumerate(replay.interactions(path))
    )
    assert stored == listed
    assert len(replay.index()) == sum(stored.values())


@pytest.mark.parametrize(("path", "n", "region"), recordings("Converse"))
def test_a_recorded_answer_is_read_whole(
    server: Replay, bedrock: Bedrock, path: str, n: int, region: str
) -> None:
    recorded = take(path, n)
    body = json.loads(recorded.body)
    server.answer(recorded)

    reply = calls.converse(bedrock, region, recorded.model, HELLO)

    content = body["output"]["message"]["content"]
    assert reply.text == "".join(text for b in content for text in texts_of(b))
    assert tool_uses(reply) == [
        (b["toolUse"]["toolUseId"], b["toolUse"]["name"], b["toolUse"]["input"])
        for b in content
        if "toolUse" in b
    ]
    thoughts = [
        b["reasoningContent"].get("reasoningText", {}) for b in content if "reasoningContent" in b
    ]
    assert reasoning(reply) == [(t.get("text", ""), t.get("signature", "")) for t in thoughts]
    assert len(reply.content) == len(content)
    assert reply.stop_reason == body["stopReason"]
    assert reply.usage == usage_of(body["usage"])
    assert reply.timing.server_ms == body["metrics"]["latencyMs"]
    assert reply.request_id == recorded.request_id
    assert (reply.complete, reply.events) == (True, ())
    assert [request.path for request in server.requests] == [recorded.path]


def texts_of(block: dict[str, Any]) -> list[str]:
    """The text of a block, also where it stands beside its citations."""
    return (
        [block["text"]]
        if "text" in block
        else [p["text"] for p in block.get("citationsContent", {}).get("content", [])]
    )


def tool_uses(reply: Reply) -> list[tuple[str, str, Any]]:
    return [(use.id, use.name, use.input) for use in reply.tool_uses]


def reasoning(reply: Reply) -> list[tuple[str, str]]:
    return [(b.text, b.signature) for b in reply.content if isinstance(b, Reasoning)]


def deltas(frames: list[Frame], member: str) -> dict[int, list[Any]]:
    """What the deltas carry under `member`, by content block."""
    by_block: dict[int, list[Any]] = {}
    for frame in frames:
        if frame.name == "contentBlockDelta" and member in frame.json["delta"]:
            by_block.setdefault(frame.json["contentBlockIndex"], []).append(
                frame.json["delta"][member]
            )
    return by_block


def started_tools(frames: list[Frame]) -> dict[int, dict[str, Any]]:
    starts = [f.json for f in frames if f.name == "contentBlockStart"]
    return {
        s["contentBlockIndex"]: s["start"]["toolUse"] for s in starts if "toolUse" in s["start"]
    }


def check_streamed(reply: Reply, frames: list[Frame]) -> None:
    """The reply holds what the frames say, block by block and event by event."""
    assert list(reply.events) == [f.name for f in frames]
    texts = deltas(frames, "text")
    assert reply.text == "".join("".join(parts) for _, parts in sorted(texts.items()))
    assert [b.text for b in reply.content if isinstance(b, Text)] == [
        "".join(p) for _, p in sorted(texts.items())
    ]
    pieces = {
        index: "".join(p["input"] for p in parts)
        for index, parts in deltas(frames, "toolUse").items()
    }
    expected = [
        (tool["toolUseId"], tool["name"], parsed(pieces.get(index, "{}")), pieces.get(index, ""))
        for index, tool in sorted(started_tools(frames).items())
    ]
    assert [(u.id, u.name, u.input, u.raw_input) for u in reply.tool_uses] == expected
    thoughts = deltas(frames, "reasoningContent")
    assert reasoning(reply) == [
        ("".join(p.get("text", "") for p in parts), "".join(p.get("signature", "") for p in parts))
        for _, parts in sorted(thoughts.items())
    ]
    kinds = dict.fromkeys(texts, Text) | dict.fromkeys(started_tools(frames), ToolUse)
    kinds |= dict.fromkeys(thoughts, Reasoning)
    assert [type(b) for b in reply.content] == [kind for _, kind in sorted(kinds.items())]


def parsed(text: str) -> Any:
    """What streamed tool input says; None where the pieces form no JSON."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return None


@pytest.mark.parametrize(("path", "n", "region"), recordings("ConverseStream"))
def test_a_recorded_stream_is_read_event_by_event(
    server: Replay, bedrock: Bedrock, path: str, n: int, region: str
) -> None:
    recorded = take(path, n)
    frames = replay.frames(recorded.body)
    server.answer(recorded)

    reply = calls.stream(bedrock, region, recorded.model, HELLO)

    check_streamed(reply, frames)
    last = {f.name: f.json for f in frames}
    assert reply.complete
    assert reply.stop_reason == last["messageStop"]["stopReason"]
    assert reply.usage == usage_of(last["metadata"]["usage"])
    assert reply.timing.server_ms == last["metadata"]["metrics"]["latencyMs"]
    assert reply.timing.ttft_ms is not None
    assert reply.timing.max_gap_ms is not None
    assert 0 < reply.timing.ttft_ms < reply.timing.total_ms
    assert reply.request_id == recorded.request_id
    assert [request.path for request in server.requests] == [recorded.path]


@pytest.mark.parametrize(
    ("path", "n", "region"),
    recordings(
        "Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream", failed=True
    ),
)
def test_a_recorded_refusal_is_the_same_error_in_every_operation(
    server: Replay, bedrock: Bedrock, path: str, n: int, region: str
) -> None:
    recorded = take(path, n)
    message = json.loads(recorded.body)["message"]
    for operation in ("converse", "stream", "embed"):
        server.answer(recorded)
        with pytest.raises(errors.Refused) as caught:
            call(bedrock, operation, region)
        error = caught.value
        assert error.message == message
        assert error.code == recorded.headers["x-amzn-errortype"].split(":")[0]
        assert error.http_status == recorded.status
        assert error.request_id == recorded.request_id
        assert [error.reason] == [
            reason for start, reason in REASONS.items() if message.startswith(start)
        ]
        assert error.partial is None
        assert len(server.requests) == 1


def call(bedrock: Bedrock, operation: str, region: str = "us-east-1") -> Any:
    if operation == "embed":
        return calls.embed(bedrock, region, TITAN, TEXTS)
    make = calls.stream if operation == "stream" else calls.converse
    return make(bedrock, region, "amazon.nova-micro-v1:0", HELLO)


@pytest.mark.parametrize(("path", "n", "region"), recordings("InvokeModel"))
def test_a_recorded_answer_in_a_vendors_own_words_holds_no_vectors(
    server: Replay, bedrock: Bedrock, path: str, n: int, region: str
) -> None:
    recorded = take(path, n)
    server.answer(recorded)
    with pytest.raises(errors.ServiceFailed, match="0 vectors for 1 texts") as caught:
        calls.embed(bedrock, region, TITAN, TEXTS)
    assert caught.value.reason is Reason.BAD_RESPONSE
    assert (caught.value.http_status, caught.value.request_id) == (200, recorded.request_id)


def the_recorded_mid_stream_failure() -> tuple[Recorded, Frame, bytes]:
    for path in {i["path"] for i in replay.index()}:
        for recorded in replay.interactions(path):
            if recorded.streams:
                last = replay.split_frames(recorded.body)[-1]
                frame = replay.frames(last)[0]
                if frame.headers[":message-type"] == "exception":
                    return recorded, frame, last
    pytest.fail("no recording ends in an exception")


def a_recorded_stream(model: str) -> Recorded:
    i = next(
        i
        for i in replay.index()
        if i["op"] == "ConverseStream" and i["model"] == model and i["events"] > 10
    )
    return take(i["path"], i["n"])


def test_the_recorded_mid_stream_failure_breaks_our_stream_in_its_own_words(
    server: Replay, bedrock: Bedrock
) -> None:
    recorded, failure, _ = the_recorded_mid_stream_failure()
    server.answer(recorded)
    with pytest.raises(errors.ServiceFailed) as caught:
        calls.stream(bedrock, "us-east-1", recorded.model, HELLO)
    assert caught.value.code == failure.name == "modelStreamErrorException"
    assert caught.value.message == failure.json["message"]
    assert caught.value.http_status is None
    assert caught.value.request_id == recorded.request_id
    assert caught.value.retryable


def test_a_stream_that_fails_in_the_middle_keeps_what_had_arrived(
    server: Replay, bedrock: Bedrock
) -> None:
    _, failure, raw = the_recorded_mid_stream_failure()
    recorded = a_recorded_stream("amazon.nova-micro-v1:0")
    parts = replay.split_frames(recorded.body)
    for count in (0, 1, 5, len(parts)):
        server.answer(replace(recorded, body=b"".join(parts[:count]) + raw))
        with pytest.raises(errors.BedrockError) as caught:
            calls.stream(bedrock, "us-east-1", recorded.model, HELLO)
        assert (caught.value.code, caught.value.request_id) == (failure.name, recorded.request_id)
        partial = caught.value.partial
        if count:
            assert partial is not None
            check_streamed(partial, replay.frames(b"".join(parts[:count])))
            assert partial.complete is (count == len(parts))
        else:
            assert partial is None


def test_a_stream_cut_anywhere_is_truncated_and_keeps_what_had_arrived(
    server: Replay, bedrock: Bedrock
) -> None:
    recorded = a_recorded_stream("amazon.nova-micro-v1:0")
    parts = replay.split_frames(recorded.body)
    for count in (0, 1, 2, len(parts) // 2, len(parts) - 2, len(parts) - 1):
        whole = b"".join(parts[:count])
        for cut in (whole, whole + parts[count][:5], whole + parts[count][:-1]):
            server.answer(replace(recorded, body=cut))
            with pytest.raises(errors.StreamBroken) as caught:
                calls.stream(bedrock, "us-east-1", recorded.model, HELLO)
            assert caught.value.reason is Reason.STREAM_TRUNCATED
            assert caught.value.request_id == recorded.request_id
            assert (caught.value.partial is None) is (count == 0)
            if caught.value.partial:
                assert not caught.value.partial.complete
                check_streamed(caught.value.partial, replay.frames(whole))


def test_a_flipped_bit_anywhere_in_a_stream_is_noticed(server: Replay, bedrock: Bedrock) -> None:
    recorded = a_recorded_stream("amazon.nova-micro-v1:0")
    first = len(replay.split_frames(recorded.body)[0])
    for at in (
        0,
        3,
        7,
        9,
        12,
        30,
        first - 1,
        first + 50,
        len(recorded.body) // 2,
        len(recorded.body) - 1,
    ):
        body = bytearray(recorded.body)
        body[at] ^= 1
        server.answer(replace(recorded, body=bytes(body)))
        with pytest.raises(errors.StreamBroken) as caught:
            calls.stream(bedrock, "us-east-1", recorded.model, HELLO)
        assert caught.value.reason is Reason.STREAM_CORRUPT, at
        assert (caught.value.partial is None) is (at < first)


def test_it_does_not_matter_how_the_bytes_of_a_stream_are_cut_up(
    server: Replay, bedrock: Bedrock
) -> None:
    recorded = a_recorded_stream("amazon.nova-micro-v1:0")
    frames = replay.frames(recorded.body)
    try:
        for server.chunk in (1, 7, 64, 1 << 20):
            server.answer(recorded)
            check_streamed(calls.stream(bedrock, "us-east-1", recorded.model, HELLO), frames)
    finally:
        server.chunk = 1000


# Listings, as their callers printed them


def listing(kind: str) -> list[dict[str, Any]]:
    folder = replay.RECORDINGS / "extracted-listings"
    return [json.loads(file.read_text()) for file in sorted(folder.glob(f"*{kind}*.json"))]


def page(body: dict[str, Any]) -> Recorded:
    headers = {"content-type": "application/json", "x-amzn-requestid": "r-1"}
    return Recorded("/", 200, headers, json.dumps(body).encode())


@pytest.mark.parametrize("listed", listing("ListFoundationModels"))
def test_a_recorded_listing_of_models_is_read_entry_by_entry(
    server: Replay, bedrock: Bedrock, listed: dict[str, Any]
) -> None:
    server.answer(page({"modelSummaries": listed["modelSummaries"]}))

    models = bedrock.foundation_models("us-west-2")

    assert len(models) == len(listed["modelSummaries"]) > 10
    for model, raw in zip(models, listed["modelSummaries"], strict=True):
        assert (model.model_id, model.name, model.vendor) == (
            raw["modelId"],
            raw["modelName"],
            raw["providerName"],
        )
        assert list(model.input_modalities) == raw["inputModalities"]
        assert list(model.output_modalities) == raw["outputModalities"]
        assert model.streaming is raw.get("responseStreamingSupported", False)
        assert list(model.inference_types) == raw["inferenceTypesSupported"]
        assert model.lifecycle == raw["modelLifecycle"]["status"]
    assert [request.path for request in server.requests] == ["/foundation-models"]


def test_recorded_inference_profiles_are_read_from_every_page(
    server: Replay, bedrock: Bedrock
) -> None:
    (listed,) = listing("ListInferenceProfiles")
    raw = listed["inferenceProfileSummaries"]
    cut = [raw[:5], raw[5:6], [], raw[6:]]
    tokens = ["page+2/=", "page 3", "page&4", None]
    server.answer(
        *(
            page({"inferenceProfileSummaries": part, "nextToken": t})
            for part, t in zip(cut, tokens, strict=True)
        )
    )

    profiles = bedrock.inference_profiles("us-east-2")

    assert len(profiles) == len(raw) > 6
    for profile, entry in zip(profiles, raw, strict=True):
        assert profile.profile_id == entry["inferenceProfileId"]
        assert profile.name == entry["inferenceProfileName"]
        assert profile.status == entry["status"]
        arns = [m["modelArn"] for m in entry["models"]]
        assert list(profile.model_ids) == sorted({a.split("foundation-model/")[1] for a in arns})
    assert [request.path for request in server.requests] == [
        "/inference-profiles?maxResults=100",
        "/inference-profiles?maxResults=100&nextToken=page%2B2%2F%3D",
        "/inference-profiles?maxResults=100&nextToken=page%203",
        "/inference-profiles?maxResults=100&nextToken=page%264",
    ]


def test_a_page_token_that_comes_again_ends_the_listing(server: Replay, bedrock: Bedrock) -> None:
    server.answer(page({"inferenceProfileSummaries": [], "nextToken": "again"}))
    with pytest.raises(errors.BedrockError) as caught:
        bedrock.inference_profiles("us-east-2")
    assert caught.value.reason is Reason.BAD_RESPONSE
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [{}, {"message": "hello"}, {"modelSummaries": None}])
def test_an_answer_without_a_list_is_not_an_empty_listing(
    server: Replay, bedrock: Bedrock, body: dict[str, Any]
) -> None:
    server.answer(page(body))
    for call in (bedrock.foundation_models, bedrock.inference_profiles):
        with pytest.raises(errors.BedrockError) as caught:
            call("us-east-1")
        assert caught.value.reason is Reason.BAD_RESPONSE
