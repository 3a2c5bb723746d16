"""InvokeModel, InvokeModelWithResponseStream and CountTokens: every vendor's own JSON."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from certification.bedrock.catalogue import INFERENCE_PROFILE
from certification.emulator import body_schema, converse, embedding, refusals, tokens, wire
from certification.emulator.answers import ModelAnswer, ParsedRequest
from certification.emulator.body_schema import Shape
from certification.emulator.calls import EVENT_STREAM, Headers, Invocation, streamed
from certification.emulator.chat_completions import ChatDialect
from certification.emulator.dialect import (
    Dialect,
    Json,
    allow_only,
    conversation,
    count_texts,
    flatten,
    paced,
    parsed,
    read_and_answer,
    require,
    text_of,
)
from certification.emulator.http import FullResponse, HttpResponse
from certification.emulator.messages import MessagesDialect
from certification.inference import ToolUse

TITAN_CHARACTERS = 50_000  # the maximum of Titan's embedding models
COHERE_CHARACTERS = 2048  # that of Cohere's third generation, per text
MALFORMED = "Malformed input request, please reformat your input and try again."


def whole(invocation: Invocation) -> HttpResponse:
    """InvokeModel: embeddings or an answer in the vendor's shape, with the counts in headers."""
    body = json_object(invocation.body)
    if "embeddings" in invocation.target.model.capabilities:
        return embed(invocation, body)
    dialect = dialect_of(invocation)
    answer, prompt_tokens = read_and_answer(invocation, dialect, body)
    delay = invocation.pace.total(answer.output_tokens)
    headers = (
        *invocation.record.headers,
        *count_headers(delay, prompt_tokens),
        ("X-Amzn-Bedrock-Output-Token-Count", str(answer.output_tokens)),
    )
    content = wire.dumps(dialect.write(answer, prompt_tokens, invocation))
    return FullResponse(200, content, headers, delay)


def stream(invocation: Invocation) -> HttpResponse:
    """InvokeModelWithResponseStream: `chunk` events whose bytes are the vendor's own events."""
    body, model = json_object(invocation.body), invocation.target.model
    if not model.streaming or "embeddings" in model.capabilities:
        raise refusals.not_streaming()
    dialect = dialect_of(invocation)
    answer, prompt_tokens = read_and_answer(invocation, dialect, body)
    pace, dice = invocation.pace, invocation.fingerprint
    parts: list[tuple[float, bytes]] = []
    events = list(dialect.events(answer, prompt_tokens, invocation))
    total = pace.total(answer.output_tokens)
    metrics = {
        "inputTokenCount": prompt_tokens,
        "outputTokenCount": answer.output_tokens,
        "invocationLatency": max(1, round(total * 1000)),
        "firstByteLatency": max(1, round(pace.first * 1000)),
    }
    events[-1] = ({**events[-1][0], "amazon-bedrock-invocationMetrics": metrics}, events[-1][1])
    for due, event in paced(events, pace):
        dice = (dice * 1103515245 + 12345) & 0x7FFFFFFF
        payload = {"bytes": base64.b64encode(wire.dumps(event)).decode()}
        parts.append((due, wire.event("chunk", payload, dice >> 8 & 0x3F)))
    inner = ("X-Amzn-Bedrock-Content-Type", "application/json")
    return streamed(parts, invocation, EVENT_STREAM, (inner,))


def count_tokens(invocation: Invocation) -> HttpResponse:
    """CountTokens: only for bare ids, and only for models that count. Refuses all others."""
    if not invocation.target.traits.counts_tokens or invocation.call.route == INFERENCE_PROFILE:
        raise refusals.invalid("The provided model doesn't support counting tokens.")
    shape = {"input": {"converse": body_schema.CONVERSE, "invokeModel": {"body": str}}}
    body_schema.check(invocation.body, shape)
    content = invocation.body.get("input", {})
    if "converse" in content:
        count = converse.input_tokens(content["converse"])
    elif "invokeModel" in content:
        try:
            inner = json.loads(converse.decode(content["invokeModel"].get("body", "")))
        except ValueError:
            raise refusals.invalid(MALFORMED) from None
        inner = json_object(body_schema.without_nulls(inner))
        count = MessagesDialect().read(inner, invocation)[1]
    else:
        raise refusals.invalid(
            "The input field must set one of the following keys: invokeModel, converse."
        )
    return FullResponse(200, wire.dumps({"inputTokens": count}), invocation.record.headers)


def json_object(body: Any) -> dict[str, Any]:
    """Return the body; refuse one that is not a JSON object."""
    if not isinstance(body, dict):
        raise refusals.invalid(MALFORMED)
    return body


def count_headers(delay: float, prompt_tokens: int) -> Headers:
    return (
        ("X-Amzn-Bedrock-Invocation-Latency", str(max(1, round(delay * 1000)))),
        ("X-Amzn-Bedrock-Input-Token-Count", str(prompt_tokens)),
    )


# Text models


class NovaDialect(Dialect):
    """Amazon Nova: close to Converse."""

    shape: Shape = {
        "messages": [dict], "system": [dict], "toolConfig": body_schema.CONVERSE["toolConfig"],
        "inferenceConfig": {"max_new_tokens": int, "maxTokens": int, "stopSequences": [str]},
    }  # fmt: skip

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        allow_only(
            body,
            "messages",
            "system",
            "inferenceConfig",
            "toolConfig",
            "schemaVersion",
            "reasoningConfig",
        )
        texts = conversation(body)
        config = body.get("inferenceConfig") or {}
        limit = config.get("max_new_tokens", config.get("maxTokens"))
        specs = [
            t["toolSpec"]
            for t in (body.get("toolConfig") or {}).get("tools", [])
            if "toolSpec" in t
        ]
        choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
        request = parsed(
            texts,
            limit,
            config.get("stopSequences"),
            tools={s.get("name", ""): s.get("inputSchema", {}).get("json", {}) for s in specs}
            or None,
            tool_choice=(choice.get("tool") or {}).get("name", "any" if "any" in choice else ""),
            system=bool(body.get("system")),
        )
        return request, count_texts(texts, flatten(body.get("system")), body.get("toolConfig"))

    def write(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> dict[str, Any]:
        response = json.loads(converse.body(answer, prompt_tokens, 1))
        usage = converse.usage(prompt_tokens, answer)
        usage = {k: usage[k] for k in ("inputTokens", "outputTokens", "totalTokens")}
        return {
            "output": response["output"],
            "stopReason": answer.stop_reason,
            "usage": {**usage, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 0},
        }

    def events(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        yield {"messageStart": {"role": "assistant"}}, 0
        for index, block in enumerate(answer.blocks):
            if isinstance(block, ToolUse):
                start = {"toolUse": {"toolUseId": block.id, "name": block.name}}
                yield {"contentBlockStart": {"start": start, "contentBlockIndex": index}}, 0
            text = answer.raw_inputs.get(index) or str(getattr(block, "text", ""))
            for part in tokens.pieces(text):
                delta = (
                    {"toolUse": {"input": part}} if isinstance(block, ToolUse) else {"text": part}
                )
                yield {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}, 1
            yield {"contentBlockStop": {"contentBlockIndex": index}}, 0
        yield {"messageStop": {"stopReason": answer.stop_reason}}, 0
        usage = {"inputTokens": prompt_tokens, "outputTokens": answer.output_tokens}
        yield {"metadata": {"usage": usage, "metrics": {}, "trace": {}}}, 0


@dataclass(frozen=True)
class PromptDialect(Dialect):
    """Families that take one text and give one text.

    The fields are the names of their body's members.
    """

    prompt: str
    config: str
    limit: str
    stops: str
    writer: Callable[[ModelAnswer, int], dict[str, Any]]

    def read(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        if self.prompt not in body and body.get("messages"):
            return ChatDialect().read(body, invocation)
        inner: Shape = {self.limit: int, self.stops: [str]}
        body_schema.check(
            body, {self.prompt: str, **({self.config: inner} if self.config else inner)}
        )
        config = body.get(self.config, {}) if self.config else body
        texts = [("user", str(require(body, self.prompt)))]
        return parsed(texts, config.get(self.limit), config.get(self.stops)), count_texts(texts)

    def write(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> dict[str, Any]:
        return self.writer(answer, prompt_tokens)


def write_titan(answer: ModelAnswer, prompt_tokens: int) -> dict[str, Any]:
    reason = "LENGTH" if answer.stop_reason == "max_tokens" else "FINISH"
    result = {
        "tokenCount": answer.output_tokens,
        "outputText": text_of(answer),
        "completionReason": reason,
    }
    return {"inputTextTokenCount": prompt_tokens, "results": [result]}


def write_llama(answer: ModelAnswer, prompt_tokens: int) -> dict[str, Any]:
    return {
        "generation": text_of(answer),
        "prompt_token_count": prompt_tokens,
        "generation_token_count": answer.output_tokens,
        "stop_reason": "length" if answer.stop_reason == "max_tokens" else "stop",
    }


def write_mistral(answer: ModelAnswer, prompt_tokens: int) -> dict[str, Any]:
    return {
        "outputs": [
            {
                "text": text_of(answer),
                "stop_reason": "length" if answer.stop_reason == "max_tokens" else "stop",
            }
        ]
    }


def write_command(answer: ModelAnswer, prompt_tokens: int) -> dict[str, Any]:
    reason = "MAX_TOKENS" if answer.stop_reason == "max_tokens" else "COMPLETE"
    return {
        "id": "emulator",
        "generations": [{"id": "emulator-0", "text": text_of(answer), "finish_reason": reason}],
    }


def write_command_r(answer: ModelAnswer, prompt_tokens: int) -> dict[str, Any]:
    reason = {"max_tokens": "MAX_TOKENS", "stop_sequence": "STOP_SEQUENCE"}.get(
        answer.stop_reason, "COMPLETE"
    )
    return {
        "response_id": "emulator",
        "text": text_of(answer),
        "generation_id": "emulator-0",
        "finish_reason": reason,
    }


DIALECTS: tuple[tuple[str, Dialect], ...] = (
    ("anthropic.", MessagesDialect()),
    ("amazon.nova", NovaDialect()),
    (
        "amazon.titan",
        PromptDialect(
            "inputText", "textGenerationConfig", "maxTokenCount", "stopSequences", write_titan
        ),
    ),
    ("meta.", PromptDialect("prompt", "", "max_gen_len", "stop", write_llama)),
    ("mistral.", PromptDialect("prompt", "", "max_tokens", "stop", write_mistral)),
    (
        "cohere.command-r",
        PromptDialect("message", "", "max_tokens", "stop_sequences", write_command_r),
    ),
    ("cohere.", PromptDialect("prompt", "", "max_tokens", "stop_sequences", write_command)),
    ("", ChatDialect()),
)


def dialect_of(invocation: Invocation) -> Dialect:
    model = invocation.target.model
    if model.kind != "text":
        raise refusals.invalid(
            f"The emulator does not invoke {model.kind} models: {invocation.call.model} is in the "
            "catalogue, but gets no answer."
        )
    if invocation.call.model.startswith("mistral.") and invocation.body.get("messages"):
        return DIALECTS[-1][1]
    return next(dialect for prefix, dialect in DIALECTS if invocation.call.model.startswith(prefix))


# Embedding models


EMBED_SHAPE: Shape = {
    "inputText": str, "inputImage": str, "dimensions": int,
    "embeddingConfig": {"outputEmbeddingLength": int},
    "texts": [str], "inputs": [dict], "input_type": str, "embedding_types": [str],
    "output_dimension": int, "taskType": str,
    "singleEmbeddingParams": {"text": {"value": str}, "embeddingDimension": int},
    "inputType": str, "text": {"inputText": str},
}  # fmt: skip


def embed(invocation: Invocation, body: Json) -> HttpResponse:
    model_id = invocation.call.model
    body_schema.check(body, EMBED_SHAPE)
    reader = next(reader for prefix, reader in EMBEDDERS if model_id.startswith(prefix))
    texts, dimensions, write = reader(invocation, body)
    limit = invocation.target.model.context_window
    sizes = [tokens.count(text) for text in texts]
    if limit and max(sizes, default=0) > limit and not model_id.startswith("cohere."):
        raise refusals.malformed(
            "#",
            f"Too many input tokens. Max input tokens: {limit}, request input token count: "
            f"{max(sizes)} ",
        )
    invocation.check_service()
    weak = any(
        w.category in ("*", "embedding") and invocation.dice >= w.accuracy
        for w in invocation.faults.weak
    )
    vectors = [embedding.vector(text, dimensions, shared=not weak) for text in texts]
    delay = invocation.options.latency.whole(model_id, invocation.dice, invocation.faults.slow)
    headers = (*invocation.record.headers, *count_headers(delay, sum(sizes)))
    return FullResponse(200, wire.dumps(write(vectors, sum(sizes))), headers, delay)


Writer = Callable[[list[list[float]], int], dict[str, Any]]
ReadBody = tuple[list[str], int, Writer]


def one_of(value: Any, allowed: tuple[int, ...], path: str) -> int:
    if value not in allowed:
        raise refusals.malformed(path, f"{value} is not a valid enum value")
    return int(value)


def not_blank(text: str, key: str) -> str:
    if not text:
        raise refusals.malformed(f"#/{key}", "expected minLength: 1, actual: 0")
    return text


def read_titan(invocation: Invocation, body: Json) -> ReadBody:
    image = invocation.call.model.startswith("amazon.titan-embed-image")
    second = invocation.call.model.startswith("amazon.titan-embed-text-v2")
    if "inputText" not in body and not (image and "inputImage" in body):
        raise refusals.malformed("#", "required key [inputText] not found")
    if image:
        allow_only(body, "inputText", "inputImage", "embeddingConfig")
        length = (body.get("embeddingConfig") or {}).get("outputEmbeddingLength", 1024)
        size = one_of(length, (256, 384, 1024), "#/embeddingConfig/outputEmbeddingLength")
    elif second:
        allow_only(body, "inputText", "dimensions", "normalize", "embeddingTypes")
        size = one_of(body.get("dimensions", 1024), (256, 512, 1024), "#/dimensions")
    else:
        allow_only(body, "inputText")
        size = 1536
    text = not_blank(body["inputText"] if "inputText" in body else body["inputImage"], "inputText")
    if len(text) > TITAN_CHARACTERS and "inputImage" not in body:
        raise refusals.malformed(
            "#/inputText", f"expected maxLength: {TITAN_CHARACTERS}, actual: {len(text)}"
        )

    def write(vectors: list[list[float]], count: int) -> dict[str, Any]:
        answer: dict[str, Any] = {"embedding": vectors[0], "inputTextTokenCount": count}
        if second:
            answer["embeddingsByType"] = {"float": vectors[0]}
        return answer

    return [text], size, write


def read_cohere(invocation: Invocation, body: Json) -> ReadBody:
    fourth = invocation.call.model.startswith("cohere.embed-v4")
    require(body, "input_type")
    texts = body.get("texts")
    if texts is None and fourth and body.get("inputs"):
        texts = [flatten(one.get("content")) for one in body["inputs"]]
    if texts is None:
        raise refusals.malformed("#", "required key [texts] not found")
    if not texts:
        raise refusals.malformed("#/texts", "expected minimum item count: 1, found: 0")
    if len(texts) > 96:
        raise refusals.malformed("#/texts", f"expected maximum item count: 96, found: {len(texts)}")
    sizes = (256, 512, 1024, 1536)
    size = (
        one_of(body.get("output_dimension", 1536), sizes, "#/output_dimension") if fourth else 1024
    )
    for i, text in enumerate(texts):
        if not fourth and len(text) > COHERE_CHARACTERS:
            raise refusals.malformed(
                f"#/texts/{i}", f"expected maxLength: {COHERE_CHARACTERS}, actual: {len(text)}"
            )
    types = body.get("embedding_types")

    def write(vectors: list[list[float]], count: int) -> dict[str, Any]:
        answer: dict[str, Any] = {"id": invocation.record.request_id, "texts": texts}
        if types:
            answer["embeddings"] = {kind: convert_vectors(vectors, kind) for kind in types}
            answer["response_type"] = "embeddings_by_type"
        else:
            answer["embeddings"] = vectors
            answer["response_type"] = "embeddings_floats"
        return answer

    return texts, size, write


def convert_vectors(vectors: list[list[float]], kind: str) -> list[Any]:
    if kind == "float":
        return list(vectors)
    if kind in ("int8", "uint8"):
        offset = 128 if kind == "uint8" else 0
        return [
            [max(-128, min(127, round(v * 512))) + offset for v in vector] for vector in vectors
        ]
    if kind in ("binary", "ubinary"):
        return [
            [
                sum((v > 0) << i for i, v in enumerate(vector[n : n + 8]))
                for n in range(0, len(vector), 8)
            ]
            for vector in vectors
        ]
    if kind == "base64":
        return [
            base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            for vector in vectors
        ]
    raise refusals.malformed("#/embedding_types", f"{kind} is not a valid enum value")


def read_nova(invocation: Invocation, body: Json) -> ReadBody:
    allow_only(
        body, "schemaVersion", "taskType", "singleEmbeddingParams", "segmentedEmbeddingParams"
    )
    if require(body, "taskType") != "SINGLE_EMBEDDING":
        raise refusals.malformed("#/taskType", f"{body['taskType']} is not a valid enum value")
    params = require(body, "singleEmbeddingParams")
    size = one_of(
        params.get("embeddingDimension", 3072),
        (256, 384, 1024, 3072),
        "#/singleEmbeddingParams/embeddingDimension",
    )
    if "embeddingPurpose" not in params:
        raise refusals.malformed(
            "#/singleEmbeddingParams", "required key [embeddingPurpose] not found"
        )
    text = not_blank(
        (params.get("text") or {}).get("value", ""), "singleEmbeddingParams/text/value"
    )

    def write(vectors: list[list[float]], count: int) -> dict[str, Any]:
        return {"embeddings": [{"embeddingType": "TEXT", "embedding": vectors[0]}]}

    return [text], size, write


def read_marengo(invocation: Invocation, body: Json) -> ReadBody:
    third = "embed-3" in invocation.call.model
    require(body, "inputType")
    inner = body.get("text", {}) if third else body
    text = not_blank(inner.get("inputText", ""), "inputText")

    def write(vectors: list[list[float]], count: int) -> dict[str, Any]:
        return {
            "data": [
                {
                    "embedding": vectors[0],
                    **({} if third else {"embeddingOption": None, "startSec": None}),
                }
            ]
        }

    return [text], 512 if third else 1024, write


EMBEDDERS: tuple[tuple[str, Callable[[Invocation, Json], ReadBody]], ...] = (
    ("amazon.titan", read_titan),
    ("amazon.nova", read_nova),
    ("cohere.", read_cohere),
    ("twelvelabs.", read_marengo),
    ("", read_titan),
)
