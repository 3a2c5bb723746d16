"""InvokeModel, InvokeModelWithResponseStream and CountTokens: every vendor's own JSON."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from certification.emulator import body_schema, converse, embedding, refusals, tokens, wire
from certification.emulator.answers import ModelAnswer, ParsedRequest, find_ref
from certification.emulator.body_schema import Shape
from certification.emulator.calls import Headers, Job, streamed
from certification.emulator.http import FullResponse, Reply
from certification.emulator.model_directory import INFERENCE_PROFILE
from certification.inference import Reasoning, Text, ToolUse

Json = Mapping[str, Any]
TITAN_CHARACTERS = 50_000  # what Titan's embedding models take at most
COHERE_CHARACTERS = 2048  # and Cohere's third generation, per text


def whole(job: Job) -> Reply:
    """InvokeModel: embeddings or an answer in the vendor's shape, with the counts in headers."""
    body = _body(job)
    if "embeddings" in job.target.model.capabilities:
        return _embed(job, body)
    dialect = _dialect(job)
    said, given = _say(job, dialect, body, streaming=False)
    delay = job.pace.total(said.output_tokens)
    counts = _counts(delay, given, said.output_tokens)
    return FullResponse(
        200, wire.dumps(dialect.write(said, given, job)), (*job.exchange.headers, *counts), delay
    )


def stream(job: Job) -> Reply:
    """InvokeModelWithResponseStream: `chunk` events whose bytes are the vendor's own events."""
    body = _body(job)
    if not job.target.model.streaming or "embeddings" in job.target.model.capabilities:
        raise refusals.not_streaming()
    dialect = _dialect(job)
    said, given = _say(job, dialect, body, streaming=True)
    pace, dice = job.pace, job.fingerprint
    parts: list[tuple[float, bytes]] = []
    written = 0
    events = list(dialect.events(said, given, job))
    total = pace.total(said.output_tokens)
    metrics = {
        "inputTokenCount": given,
        "outputTokenCount": said.output_tokens,
        "invocationLatency": max(1, round(total * 1000)),
        "firstByteLatency": max(1, round(pace.first * 1000)),
    }
    events[-1] = ({**events[-1][0], "amazon-bedrock-invocationMetrics": metrics}, events[-1][1])
    for event, size in events:
        written += size
        dice = (dice * 1103515245 + 12345) & 0x7FFFFFFF
        payload = {"bytes": base64.b64encode(wire.dumps(event)).decode()}
        due = pace.first + pace.per_token * max(0, written - 1)
        parts.append((due, wire.event("chunk", payload, dice >> 8 & 0x3F)))
    return streamed(parts, job, (("X-Amzn-Bedrock-Content-Type", "application/json"),))


def count_tokens(job: Job) -> Reply:
    """CountTokens: only of bare ids, and only of models that count. Refusal: all others."""
    if not job.target.traits.counts_tokens or job.call.route == INFERENCE_PROFILE:
        raise refusals.invalid("The provided model doesn't support counting tokens.")
    body_schema.check(
        job.body, {"input": {"converse": body_schema.CONVERSE, "invokeModel": {"body": str}}}
    )
    given = job.body.get("input", {})
    if "converse" in given:
        count = converse.input_tokens(given["converse"])
    elif "invokeModel" in given:
        inner = _json(converse.decode(given["invokeModel"].get("body", "")))
        count = _Messages().read(inner, job)[1]
    else:
        raise refusals.invalid(
            "The input field must set one of the following keys: invokeModel, converse."
        )
    return FullResponse(200, wire.dumps({"inputTokens": count}), job.exchange.headers)


def _json(data: bytes) -> dict[str, Any]:
    try:
        body = body_schema.without_nulls(json.loads(data))
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise refusals.invalid("Malformed input request, please reformat your input and try again.")
    return body


def _body(job: Job) -> dict[str, Any]:
    if not isinstance(job.body, dict):
        raise refusals.invalid("Malformed input request, please reformat your input and try again.")
    return job.body


def _counts(delay: float, given: int, written: int | None = None) -> Headers:
    counts = [
        ("X-Amzn-Bedrock-Invocation-Latency", str(max(1, round(delay * 1000)))),
        ("X-Amzn-Bedrock-Input-Token-Count", str(given)),
    ]
    if written is not None:
        counts.append(("X-Amzn-Bedrock-Output-Token-Count", str(written)))
    return tuple(counts)


def _say(job: Job, dialect: Dialect, body: Json, *, streaming: bool) -> tuple[ModelAnswer, int]:
    asked, given = dialect.read(body, job)
    job.check_service()
    job.check_window(given)
    most = job.target.model.max_output_tokens
    if asked.max_tokens is not None and most is not None and asked.max_tokens > most:
        raise refusals.invalid(
            f"The maximum tokens you requested exceeds the model limit of {most}. Try again with a "
            f"maximum tokens value that is lower than {most}."
        )
    said = job.say(asked)
    return said, given if said.input_tokens is None else said.input_tokens


def _need(body: Json, key: str) -> Any:
    if body.get(key) in (None, "", []):
        raise refusals.malformed("#", f"required key [{key}] not found")
    return body[key]


def _only(body: Json, *known: str) -> None:
    for key in body:
        if key not in known:
            raise refusals.malformed("#", f"extraneous key [{key}] is not permitted")


# Text models


class Dialect:
    """How one family of models reads and writes InvokeModel bodies. `wants` is what a body must
    look like to be read.
    """

    wants: Shape = dict

    def read(self, body: Json, job: Job) -> tuple[ParsedRequest, int]:
        """What is asked and how many tokens the request has. Refusal: the body is not of this
        family.
        """
        body_schema.check(body, self.wants)
        return self.understand(body, job)

    def understand(self, body: Json, job: Job) -> tuple[ParsedRequest, int]:
        """The same, of a body of the right shape."""
        raise NotImplementedError
        raise NotImplementedError

    def write(self, said: ModelAnswer, given: int, job: Job) -> dict[str, Any]:
        """The answer's JSON."""
        raise NotImplementedError

    def events(
        self, said: ModelAnswer, given: int, job: Job
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """The answer's events and how many tokens each carries. By default the whole answer at
        once.
        """
        yield self.write(said, given, job), said.output_tokens


def _text(said: ModelAnswer) -> str:
    return "".join(block.text for block in said.blocks if isinstance(block, Text))


def _flat(content: Any) -> str:
    """The text of a message's content, whatever the vendor wraps it in: a string, or blocks of
    several kinds.
    """
    if isinstance(content, list):
        return "\n".join(_flat(block) for block in content)
    if isinstance(content, dict):
        return _flat(
            content.get("text") or content.get("content") or content.get("toolResult") or ""
        )
    return content if isinstance(content, str) else ""


def _conversation(body: Json) -> list[tuple[str, str]]:
    return [(str(m.get("role", "user")), _flat(m.get("content"))) for m in _need(body, "messages")]


def _ask(texts: list[tuple[str, str]], max_tokens: Any, stops: Any, **more: Any) -> ParsedRequest:
    ref, step = find_ref(texts)
    sequences = [stops] if isinstance(stops, str) else stops or []
    return ParsedRequest(
        ref, step, max_tokens, tuple(s for s in sequences if isinstance(s, str)), **more
    )


def _size(texts: list[tuple[str, str]], *others: Any) -> int:
    extra = sum(tokens.count(o if isinstance(o, str) else json.dumps(o)) for o in others if o)
    return 3 + sum(4 + tokens.count(text) for _, text in texts) + extra


class _Messages(Dialect):
    """Anthropic's Messages API."""

    wants: Shape = {
        "messages": [dict], "max_tokens": int, "stop_sequences": [str], "thinking": dict,
        "tools": [{"name": str, "input_schema": dict}], "tool_choice": {"type": str, "name": str},
    }  # fmt: skip

    def understand(self, body: Json, job: Job) -> tuple[ParsedRequest, int]:
        for key in ("anthropic_version", "max_tokens", "messages"):
            if key not in body:
                raise refusals.invalid(f"{key}: Field required")
        texts = _conversation(body)
        if texts[0][0] != "user":
            raise refusals.invalid('messages: first message must use the "user" role')
        tools = {str(t.get("name")): t.get("input_schema") or {} for t in body.get("tools") or []}
        choice = body.get("tool_choice") or {}
        forced = str(choice.get("name", "")) if choice.get("type") == "tool" else ""
        thinking = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        asked = _ask(
            texts,
            body["max_tokens"],
            body.get("stop_sequences"),
            tools=tools or None,
            tool_choice=forced or ("any" if choice.get("type") == "any" else ""),
            reasoning=thinking,
            system=bool(body.get("system")),
        )
        return asked, _size(texts, body.get("system"), body.get("tools"))

    def _head(self, given: int, job: Job) -> dict[str, Any]:
        return {
            "id": "msg_bdrk_" + job.exchange.request_id.replace("-", "")[:24],
            "type": "message",
            "role": "assistant",
            "model": job.call.model.removeprefix("anthropic."),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": given, "output_tokens": 1},
        }

    def write(self, said: ModelAnswer, given: int, job: Job) -> dict[str, Any]:
        return {
            **self._head(given, job),
            "content": [_claude_block(block) for block in said.blocks],
            "stop_reason": said.stop_reason,
            "stop_sequence": said.stop_sequence or None,
            "usage": {"input_tokens": given, "output_tokens": said.output_tokens},
        }

    def events(
        self, said: ModelAnswer, given: int, job: Job
    ) -> Iterator[tuple[dict[str, Any], int]]:
        yield {"type": "message_start", "message": self._head(given, job)}, 0
        for index, block in enumerate(said.blocks):
            yield (
                {
                    "type": "content_block_start",
                    "index": index,
                    "content_block": _claude_block(block, empty=True),
                },
                0,
            )
            for kind, member, part, size in _claude_deltas(block, said.raw_inputs.get(index, "")):
                yield (
                    {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": {"type": kind, member: part},
                    },
                    size,
                )
            yield {"type": "content_block_stop", "index": index}, 0
        delta = {"stop_reason": said.stop_reason, "stop_sequence": said.stop_sequence or None}
        yield (
            {
                "type": "message_delta",
                "delta": delta,
                "usage": {"output_tokens": said.output_tokens},
            },
            0,
        )
        yield {"type": "message_stop"}, 0


def _claude_block(block: Any, *, empty: bool = False) -> dict[str, Any]:
    if isinstance(block, ToolUse):
        return {
            "type": "tool_use",
            "id": block.id,
            "name": block.name,
            "input": {} if empty else block.input,
        }
    if isinstance(block, Reasoning):
        return {
            "type": "thinking",
            "thinking": "" if empty else block.text,
            "signature": "" if empty else block.signature,
        }
    return {"type": "text", "text": "" if empty or not isinstance(block, Text) else block.text}


def _claude_deltas(block: Any, raw: str) -> Iterator[tuple[str, str, str, int]]:
    kind, member, text = "text_delta", "text", getattr(block, "text", "")
    if isinstance(block, ToolUse):
        kind, member, text = "input_json_delta", "partial_json", raw
    elif isinstance(block, Reasoning):
        kind, member = "thinking_delta", "thinking"
    for part in tokens.pieces(text):
        yield kind, member, part, 1
    if isinstance(block, Reasoning) and block.signature:
        yield "signature_delta", "signature", block.signature, 0


class _Nova(Dialect):
    """Amazon Nova: close to Converse."""

    wants: Shape = {
        "messages": [dict], "system": [dict], "toolConfig": body_schema.CONVERSE["toolConfig"],
        "inferenceConfig": {"max_new_tokens": int, "maxTokens": int, "stopSequences": [str]},
    }  # fmt: skip

    def understand(self, body: Json, job: Job) -> tuple[ParsedRequest, int]:
        _only(
            body,
            "messages",
            "system",
            "inferenceConfig",
            "toolConfig",
            "schemaVersion",
            "reasoningConfig",
        )
        texts = _conversation(body)
        config = body.get("inferenceConfig") or {}
        limit = config.get("max_new_tokens", config.get("maxTokens"))
        specs = [
            t["toolSpec"]
            for t in (body.get("toolConfig") or {}).get("tools", [])
            if "toolSpec" in t
        ]
        choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
        asked = _ask(
            texts,
            limit,
            config.get("stopSequences"),
            tools={s.get("name", ""): s.get("inputSchema", {}).get("json", {}) for s in specs}
            or None,
            tool_choice=(choice.get("tool") or {}).get("name", "any" if "any" in choice else ""),
            system=bool(body.get("system")),
        )
        return asked, _size(texts, _flat(body.get("system")), body.get("toolConfig"))

    def write(self, said: ModelAnswer, given: int, job: Job) -> dict[str, Any]:
        answer = json.loads(converse.body(said, given, 1))
        usage = converse.usage(given, said)
        usage = {k: usage[k] for k in ("inputTokens", "outputTokens", "totalTokens")}
        return {
            "output": answer["output"],
            "stopReason": said.stop_reason,
            "usage": {**usage, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 0},
        }

    def events(
        self, said: ModelAnswer, given: int, job: Job
    ) -> Iterator[tuple[dict[str, Any], int]]:
        yield {"messageStart": {"role": "assistant"}}, 0
        for index, block in enumerate(said.blocks):
            if isinstance(block, ToolUse):
                start = {"toolUse": {"toolUseId": block.id, "name": block.name}}
                yield {"contentBlockStart": {"start": start, "contentBlockIndex": index}}, 0
            text = said.raw_inputs.get(index) or str(getattr(block, "text", ""))
            for part in tokens.pieces(text):
                delta = (
                    {"toolUse": {"input": part}} if isinstance(block, ToolUse) else {"text": part}
                )
                yield {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}, 1
            yield {"contentBlockStop": {"contentBlockIndex": index}}, 0
        yield {"messageStop": {"stopReason": said.stop_reason}}, 0
        usage = {"inputTokens": given, "outputTokens": said.output_tokens}
        yield {"metadata": {"usage": usage, "metrics": {}, "trace": {}}}, 0


@dataclass(frozen=True)
class _Prompt(Dialect):
    """Families that take one text and give one text. The fields are the names of their body's
    members.
    """

    prompt: str
    config: str
    limit: str
    stops: str
    answer: Callable[[ModelAnswer, int], dict[str, Any]]

    def read(self, body: Json, job: Job) -> tuple[ParsedRequest, int]:
        if self.prompt not in body and body.get("messages"):
            return _Chat().read(body, job)
        inner: Shape = {self.limit: int, self.stops: [str]}
        body_schema.check(
            body, {self.prompt: str, **({self.config: inner} if self.config else inner)}
        )
        config = body.get(self.config, {}) if self.config else body
        texts = [("user", str(_need(body, self.prompt)))]
        return _ask(texts, config.get(self.limit), config.get(self.stops)), _size(texts)

    def write(self, said: ModelAnswer, given: int, job: Job) -> dict[str, Any]:
        return self.answer(said, given)


def _titan(said: ModelAnswer, given: int) -> dict[str, Any]:
    reason = "LENGTH" if said.stop_reason == "max_tokens" else "FINISH"
    result = {
        "tokenCount": said.output_tokens,
        "outputText": _text(said),
        "completionReason": reason,
    }
    return {"inputTextTokenCount": given, "results": [result]}


def _llama(said: ModelAnswer, given: int) -> dict[str, Any]:
    return {
        "generation": _text(said),
        "prompt_token_count": given,
        "generation_token_count": said.output_tokens,
        "stop_reason": "length" if said.stop_reason == "max_tokens" else "stop",
    }


def _mistral(said: ModelAnswer, given: int) -> dict[str, Any]:
    return {
        "outputs": [
            {
                "text": _text(said),
                "stop_reason": "length" if said.stop_reason == "max_tokens" else "stop",
            }
        ]
    }


def _command(said: ModelAnswer, given: int) -> dict[str, Any]:
    reason = "MAX_TOKENS" if said.stop_reason == "max_tokens" else "COMPLETE"
    return {
        "id": "emulator",
        "generations": [{"id": "emulator-0", "text": _text(said), "finish_reason": reason}],
    }


def _command_r(said: ModelAnswer, given: int) -> dict[str, Any]:
    reason = {"max_tokens": "MAX_TOKENS", "stop_sequence": "STOP_SEQUENCE"}.get(
        said.stop_reason, "COMPLETE"
    )
    return {
        "response_id": "emulator",
        "text": _text(said),
        "generation_id": "emulator-0",
        "finish_reason": reason,
    }


class _Chat(Dialect):
    """The OpenAI shape, which most newer vendors share."""

    wants: Shape = {
        "messages": [dict], "max_tokens": int, "max_completion_tokens": int, "stop": (list, str),
        "tools": [{"function": {"name": str, "parameters": dict}}],
    }  # fmt: skip

    def understand(self, body: Json, job: Job) -> tuple[ParsedRequest, int]:
        texts = _conversation(body)
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        functions = [t.get("function") or {} for t in body.get("tools") or []]
        asked = _ask(
            texts,
            limit,
            body.get("stop"),
            reasoning=False,
            system=texts[0][0] == "system",
            tools={str(f.get("name")): f.get("parameters") or {} for f in functions} or None,
        )
        return asked, _size(texts, body.get("tools"))

    def write(self, said: ModelAnswer, given: int, job: Job) -> dict[str, Any]:
        reason = {"max_tokens": "length", "tool_use": "tool_calls"}.get(said.stop_reason, "stop")
        message: dict[str, Any] = {"role": "assistant", "content": _text(said)}
        calls = [
            {
                "id": b.id,
                "type": "function",
                "function": {"name": b.name, "arguments": json.dumps(b.input)},
            }
            for b in said.blocks
            if isinstance(b, ToolUse)
        ]
        if calls:
            message["tool_calls"] = calls
        return {
            "id": "chatcmpl-" + job.exchange.request_id,
            "object": "chat.completion",
            "model": job.call.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {
                "prompt_tokens": given,
                "completion_tokens": said.output_tokens,
                "total_tokens": given + said.output_tokens,
            },
        }


_DIALECTS: tuple[tuple[str, Dialect], ...] = (
    ("anthropic.", _Messages()),
    ("amazon.nova", _Nova()),
    (
        "amazon.titan",
        _Prompt("inputText", "textGenerationConfig", "maxTokenCount", "stopSequences", _titan),
    ),
    ("meta.", _Prompt("prompt", "", "max_gen_len", "stop", _llama)),
    ("mistral.", _Prompt("prompt", "", "max_tokens", "stop", _mistral)),
    ("cohere.command-r", _Prompt("message", "", "max_tokens", "stop_sequences", _command_r)),
    ("cohere.", _Prompt("prompt", "", "max_tokens", "stop_sequences", _command)),
    ("", _Chat()),
)


def _dialect(job: Job) -> Dialect:
    if job.target.model.kind != "text":
        raise refusals.invalid(
            f"The emulator does not invoke {job.target.model.kind} models: {job.call.model} was found, and is not answered."
        )
    if job.call.model.startswith("mistral.") and job.body.get("messages"):
        return _DIALECTS[-1][1]
    return next(dialect for prefix, dialect in _DIALECTS if job.call.model.startswith(prefix))


# Embedding models


_EMBED: Shape = {
    "inputText": str, "inputImage": str, "dimensions": int, "embeddingConfig": {"outputEmbeddingLength": int},
    "texts": [str], "inputs": [dict], "input_type": str, "embedding_types": [str], "output_dimension": int,
    "taskType": str, "singleEmbeddingParams": {"text": {"value": str}, "embeddingDimension": int},
    "inputType": str, "text": {"inputText": str},
}  # fmt: skip


def _embed(job: Job, body: Json) -> Reply:
    model_id = job.call.model
    body_schema.check(body, _EMBED)
    reader = next(reader for prefix, reader in _EMBEDDERS if model_id.startswith(prefix))
    texts, dimensions, write = reader(job, body)
    limit = job.target.model.context_window
    sizes = [tokens.count(text) for text in texts]
    if limit and max(sizes, default=0) > limit and not model_id.startswith("cohere."):
        raise refusals.malformed(
            "#",
            f"Too many input tokens. Max input tokens: {limit}, request input token count: "
            f"{max(sizes)} ",
        )
    job.check_service()
    weak = any(
        w.category in ("*", "embedding") and job.dice >= w.accuracy for w in job.troubles.weak
    )
    vectors = [embedding.vector(text, dimensions, shared=not weak) for text in texts]
    delay = job.options.timing.whole(model_id, job.dice, job.troubles.slow)
    headers = (*job.exchange.headers, *_counts(delay, sum(sizes)))
    return FullResponse(200, wire.dumps(write(vectors, sum(sizes))), headers, delay)


_Writer = Callable[[list[list[float]], int], dict[str, Any]]
_Read = tuple[list[str], int, _Writer]


def _one_of(value: Any, allowed: tuple[int, ...], path: str) -> int:
    if value not in allowed:
        raise refusals.malformed(path, f"{value} is not a valid enum value")
    return int(value)


def _not_blank(text: str, key: str) -> str:
    if not text:
        raise refusals.malformed(f"#/{key}", "expected minLength: 1, actual: 0")
    return text


def _titan_embed(job: Job, body: Json) -> _Read:
    image = job.call.model.startswith("amazon.titan-embed-image")
    second = job.call.model.startswith("amazon.titan-embed-text-v2")
    if "inputText" not in body and not (image and "inputImage" in body):
        raise refusals.malformed("#", "required key [inputText] not found")
    if image:
        _only(body, "inputText", "inputImage", "embeddingConfig")
        wanted = (body.get("embeddingConfig") or {}).get("outputEmbeddingLength", 1024)
        size = _one_of(wanted, (256, 384, 1024), "#/embeddingConfig/outputEmbeddingLength")
    elif second:
        _only(body, "inputText", "dimensions", "normalize", "embeddingTypes")
        size = _one_of(body.get("dimensions", 1024), (256, 512, 1024), "#/dimensions")
    else:
        _only(body, "inputText")
        size = 1536
    text = _not_blank(body["inputText"] if "inputText" in body else body["inputImage"], "inputText")
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


def _cohere_embed(job: Job, body: Json) -> _Read:
    fourth = job.call.model.startswith("cohere.embed-v4")
    _need(body, "input_type")
    texts = body.get("texts")
    if texts is None and fourth and body.get("inputs"):
        texts = [_flat(one.get("content")) for one in body["inputs"]]
    if texts is None:
        raise refusals.malformed("#", "required key [texts] not found")
    if not texts:
        raise refusals.malformed("#/texts", "expected minimum item count: 1, found: 0")
    if len(texts) > 96:
        raise refusals.malformed("#/texts", f"expected maximum item count: 96, found: {len(texts)}")
    sizes = (256, 512, 1024, 1536)
    size = (
        _one_of(body.get("output_dimension", 1536), sizes, "#/output_dimension") if fourth else 1024
    )
    for i, text in enumerate(texts):
        if not fourth and len(text) > COHERE_CHARACTERS:
            raise refusals.malformed(
                f"#/texts/{i}", f"expected maxLength: {COHERE_CHARACTERS}, actual: {len(text)}"
            )
    types = body.get("embedding_types")

    def write(vectors: list[list[float]], count: int) -> dict[str, Any]:
        answer: dict[str, Any] = {"id": job.exchange.request_id, "texts": texts}
        if types:
            answer["embeddings"] = {kind: _typed(vectors, kind) for kind in types}
            answer["response_type"] = "embeddings_by_type"
        else:
            answer["embeddings"] = vectors
            answer["response_type"] = "embeddings_floats"
        return answer

    return texts, size, write


def _typed(vectors: list[list[float]], kind: str) -> list[Any]:
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


def _nova_embed(job: Job, body: Json) -> _Read:
    _only(body, "schemaVersion", "taskType", "singleEmbeddingParams", "segmentedEmbeddingParams")
    if _need(body, "taskType") != "SINGLE_EMBEDDING":
        raise refusals.malformed("#/taskType", f"{body['taskType']} is not a valid enum value")
    params = _need(body, "singleEmbeddingParams")
    size = _one_of(
        params.get("embeddingDimension", 3072),
        (256, 384, 1024, 3072),
        "#/singleEmbeddingParams/embeddingDimension",
    )
    if "embeddingPurpose" not in params:
        raise refusals.malformed(
            "#/singleEmbeddingParams", "required key [embeddingPurpose] not found"
        )
    text = _not_blank(
        (params.get("text") or {}).get("value", ""), "singleEmbeddingParams/text/value"
    )

    def write(vectors: list[list[float]], count: int) -> dict[str, Any]:
        return {"embeddings": [{"embeddingType": "TEXT", "embedding": vectors[0]}]}

    return [text], size, write


def _marengo(job: Job, body: Json) -> _Read:
    third = "embed-3" in job.call.model
    _need(body, "inputType")
    inner = body.get("text", {}) if third else body
    text = _not_blank(inner.get("inputText", ""), "inputText")

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


_EMBEDDERS: tuple[tuple[str, Callable[[Job, Json], _Read]], ...] = (
    ("amazon.titan", _titan_embed),
    ("amazon.nova", _nova_embed),
    ("cohere.", _cohere_embed),
    ("twelvelabs.", _marengo),
    ("", _titan_embed),
)
