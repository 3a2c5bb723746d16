"""Compose the answer of a model: the suite's own answer, degraded as the scenario says, within the
limits of the request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from certification.emulator import tokens
from certification.emulator.model_directory import ResolvedModel
from certification.emulator.scenario import Faults, chance
from certification.inference import Block, Reasoning, Text, ToolUse
from certification.suite import answer_key
from certification.suite.case import Answer, Ref, Step

DEFAULT_MAX_TOKENS = 4096
TEMPLATE_LEAK = "<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The parts of a request that decide the answer, whichever API it came by."""

    ref: Ref | None
    step: int
    max_tokens: int | None
    stop_sequences: tuple[str, ...] = ()
    tools: Mapping[str, Mapping[str, Any]] | None = None  # name -> JSON Schema of its input
    tool_choice: str = ""  # "", "any" or a tool's name
    output_schema: Mapping[str, Any] | None = None
    reasoning: bool = False
    silent: bool = False  # thoughts come signed and without their text
    system: bool = False
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A finished answer.

    `raw_inputs` are the tool inputs as JSON texts, by block index: what streams write.
    """

    blocks: tuple[Block, ...]
    stop_reason: str
    output_tokens: int
    raw_inputs: Mapping[int, str]
    stop_sequence: str = ""
    input_tokens: int | None = None  # what the service reports instead of the honest count


def find_ref(texts: Sequence[tuple[str, str]]) -> tuple[Ref | None, int]:
    """Return the last reference in the user's texts and the step it stands for.

    `texts` are (role, text) in order, one per message; every assistant message after the reference
    is one step further.
    """
    turns = 0
    for role, text in reversed(texts):
        if role == "assistant":
            turns += 1
        elif "(ref " in text:
            ref = Ref.find(text)
            if ref is not None:
                return ref, ref.step + turns
    return None, 0


def compose(
    request: ParsedRequest, target: ResolvedModel, region: str, faults: Faults, seed: int
) -> ModelAnswer:
    """Return the answer of a model in a region: always the same for the same seed and request."""
    model_id = target.model.api_model_id
    answer = suite_answer(request, target, region, faults, seed)
    blocks, stop_reason = list(answer.content), answer.stop_reason
    if faults.ignores_max_tokens and stop_reason == "max_tokens":
        stop_reason = "end_turn"
        blocks = [Text(" ".join([b.text] * 4)) if isinstance(b, Text) else b for b in blocks]
    if request.tool_choice:
        blocks = force_tool(blocks, request)
    if not request.tools:
        blocks = [block for block in blocks if not isinstance(block, ToolUse)]
    thoughts = [block for block in blocks if isinstance(block, Reasoning)]
    blocks = [block for block in blocks if not isinstance(block, Reasoning)]
    if request.reasoning:  # only a request for reasoning shows thoughts
        blocks = [signed_thought(model_id, request, thoughts), *blocks]
    for i, block in enumerate(blocks):
        if isinstance(block, ToolUse):
            key = repr((seed, model_id, region, str(request.ref), request.step, i))
            digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
            tool_use_id = "tooluse_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
            blocks[i] = ToolUse(tool_use_id, block.name, block.input)
        elif isinstance(block, Text) and faults.leaks_template_tokens:
            blocks[i] = Text(TEMPLATE_LEAK + block.text)
    return replace(limit(blocks, stop_reason, request, faults), input_tokens=answer.input_tokens)


def suite_answer(
    request: ParsedRequest, target: ResolvedModel, region: str, faults: Faults, seed: int
) -> Answer:
    """Return the suite's expected answer, or its near miss where the scenario makes the model weak.

    A request without a reference of the suite gets a generic sentence.
    """
    step, category = lookup_step(request.ref, request.step) if request.ref else (None, "")
    if request.ref is None or step is None:
        return Answer((generic_text(request, target),))
    weak = faults.ignores_system and request.system
    weak = weak or (faults.ignores_stop_sequences and bool(request.stop_sequences))
    for weakness in faults.weak:
        if weakness.concerns(category, request.ref.case_id):
            trial = (request.ref.case_id, request.ref.seed, request.ref.trial)
            dice = chance(seed, target.model.api_model_id, region, *trial)
            weak = weak or dice >= weakness.accuracy
    generic = Answer((generic_text(request, target),))
    return (step.near_miss if weak else None) or step.expected or generic


@lru_cache(maxsize=8192)
def lookup_step(ref: Ref, step: int) -> tuple[Step | None, str]:
    """Return the suite's step and its case's category; None for an unknown reference."""
    category = answer_key.category(ref.case_id)
    return answer_key.answer(ref, step), category.value if category else ""


def generic_text(request: ParsedRequest, target: ResolvedModel) -> Text:
    if request.output_schema:
        return Text(json.dumps(instance(request.output_schema), ensure_ascii=False))
    return Text(
        "This answer comes from the local Bedrock emulator of MyIA Certification, in the place of "
        f"{target.model.name} by {target.model.vendor}. No model was called. Nothing here is the "
        "work of a language model."
    )


def force_tool(blocks: list[Block], request: ParsedRequest) -> list[Block]:
    """Keep only calls of the forced tool; without one, call it with the smallest valid input."""
    forced = request.tool_choice if request.tool_choice != "any" else ""
    calls = [b for b in blocks if isinstance(b, ToolUse) and (not forced or b.name == forced)]
    if calls:
        return [b for b in blocks if not isinstance(b, ToolUse) or b in calls]
    tools = request.tools or {}
    name = forced or next(iter(tools), "")
    return [ToolUse("", name, instance(tools.get(name, {})))]


def instance(schema: Any, depth: int = 0) -> Any:
    """Return the smallest value that a usual JSON Schema allows; None for what is no schema."""
    if not isinstance(schema, dict) or depth > 16:
        return None
    if "const" in schema:
        return schema["const"]
    for choice in ("enum", "anyOf", "oneOf"):
        options = schema.get(choice)
        if isinstance(options, list) and options:
            return options[0] if choice == "enum" else instance(options[0], depth + 1)
    kinds = schema.get("type", "object")
    kind = str(kinds[0] if isinstance(kinds, list) and kinds else kinds)
    if kind == "object":
        properties, required = schema.get("properties"), schema.get("required")
        known = properties if isinstance(properties, dict) else {}
        names = required if isinstance(required, list) else []
        return {n: instance(known.get(n), depth + 1) for n in names if isinstance(n, str)}
    if kind == "array":
        least = schema.get("minItems", 0)
        return [instance(schema.get("items"), depth + 1)] * (
            min(least, 100) if isinstance(least, int) else 0
        )
    values: dict[str, Any] = {"string": "emulator", "integer": 1, "number": 1.0, "boolean": True}
    return schema.get("minimum", values.get(kind))


def signed_thought(model_id: str, request: ParsedRequest, thoughts: list[Reasoning]) -> Reasoning:
    text = "".join(thought.text for thought in thoughts)
    text = text or "The request is clear. I will answer it directly."
    if not model_id.startswith("anthropic."):
        return Reasoning("" if request.silent else text)
    digest = hashlib.sha256(f"{model_id}/{request.ref}/{request.step}".encode()).digest()
    return Reasoning("" if request.silent else text, base64.b64encode(digest).decode())


def as_streamed(answer: ModelAnswer, faults: Faults) -> ModelAnswer:
    """Return the answer as a stream writes it: the scenario may break tools only there."""
    broken = faults.tools_broken_streaming
    if not broken or not answer.raw_inputs:
        return answer
    blocks, raw_inputs = list(answer.blocks), dict(answer.raw_inputs)
    for i, raw in answer.raw_inputs.items():
        block = blocks[i]
        if not isinstance(block, ToolUse):
            continue
        if broken == "text":
            call = f'{{"name": "{block.name}", "arguments": {raw}}}'
            blocks[i] = Text(f"<tool_call>{call}</tool_call>")
            del raw_inputs[i]
        else:
            # a server with a broken tool parser loses quotes and the end
            raw_inputs[i] = re.sub(r'"(\w+)":', r"\1:", raw)[:-1] or "{"
    stop = answer.stop_reason
    if broken == "text" and stop == "tool_use":
        stop = "end_turn"
    return replace(answer, blocks=tuple(blocks), raw_inputs=raw_inputs, stop_reason=stop)


def limit(
    blocks: list[Block], stop_reason: str, request: ParsedRequest, faults: Faults
) -> ModelAnswer:
    """Apply the stop sequences, then the token limit, which may cut before the stop."""
    stop_sequence = ""
    if request.stop_sequences and not faults.ignores_stop_sequences:
        blocks, stop_sequence = cut_at_stop(blocks, request.stop_sequences)
    room = 1 << 30
    if request.max_tokens is not None and not faults.ignores_max_tokens:
        room = request.max_tokens
    output: list[Block] = []
    raw_inputs: dict[int, str] = {}
    used = 0
    for original in blocks:
        block, text = original, ""
        if isinstance(block, ToolUse):
            text = json.dumps(block.input, ensure_ascii=False)
        elif isinstance(block, Text | Reasoning):
            text = block.text
        size = tokens.count(text)
        if size > room - used:
            size = room - used
            text = tokens.cut(text, size)
            stop_reason, stop_sequence = "max_tokens", ""
            block = shorten(block, text)
        if text or size or isinstance(block, Reasoning):
            output.append(block)
            used += size
            if isinstance(block, ToolUse):
                raw_inputs[len(output) - 1] = text
        if stop_reason == "max_tokens" and used >= room:
            break
    if not stop_reason:
        called = any(isinstance(block, ToolUse) for block in output)
        stop_reason = "stop_sequence" if stop_sequence else "tool_use" if called else "end_turn"
    return ModelAnswer(tuple(output), stop_reason, max(1, used), raw_inputs, stop_sequence)


def shorten(block: Block, text: str) -> Block:
    """Return the block with only this text left of it."""
    if isinstance(block, Reasoning):
        return Reasoning(text, block.signature)
    return ToolUse(block.id, block.name, {}) if isinstance(block, ToolUse) else Text(text)


def cut_at_stop(blocks: list[Block], stops: tuple[str, ...]) -> tuple[list[Block], str]:
    """Return the blocks before the first stop sequence, and which one it was."""
    for i, block in enumerate(blocks):
        if isinstance(block, Text):
            matches = [(block.text.find(s), s) for s in stops if s and s in block.text]
            if matches:
                position, stop = min(matches)
                before = block.text[:position]
                return [*blocks[:i], *([Text(before)] if before else [])], stop
    return blocks, ""
