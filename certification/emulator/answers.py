"""What a model says to a conversation: the suite's own answer, degraded as the scenario wants,
within the limits asked for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from certification.emulator import tokens
from certification.emulator.model_directory import Target
from certification.emulator.scenario import Faults, chance
from certification.inference import Block, Reasoning, Text, ToolUse
from certification.suite import answer_key
from certification.suite.case import Answer, Ref, Step

DEFAULT_MAX_TOKENS = 4096
TEMPLATE_LEAK = "<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The parts of a request that decide the answer, whatever API it came by."""

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
    """A finished answer. `raw_inputs` are the tool inputs as JSON texts, by block index: what
    streams write.
    """

    blocks: tuple[Block, ...]
    stop_reason: str
    output_tokens: int
    raw_inputs: Mapping[int, str]
    stop_sequence: str = ""
    input_tokens: int | None = None  # what the service reports instead of the honest count


def find_ref(texts: Sequence[tuple[str, str]]) -> tuple[Ref | None, int]:
    """The last reference in the user's texts and the step it stands for.

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


def say(
    asked: ParsedRequest, target: Target, region: str, troubles: Faults, seed: int
) -> ModelAnswer:
    """The answer of a model in a region: the same for the same seed and request, whatever else
    runs.
    """
    model_id = target.model.api_model_id
    answer = _answer(asked, target, region, troubles, seed)
    blocks, stop_reason = list(answer.content), answer.stop_reason
    if troubles.ignores_max_tokens and stop_reason == "max_tokens":
        blocks, stop_reason = _go_on(blocks), "end_turn"
    if asked.tool_choice:
        blocks = _force_tool(blocks, asked)
    if not asked.tools:
        blocks = [block for block in blocks if not isinstance(block, ToolUse)]
    own = [block for block in blocks if isinstance(block, Reasoning)]
    blocks = [block for block in blocks if not isinstance(block, Reasoning)]
    if asked.reasoning:  # thoughts are shown to those who ask
        blocks = [_reasoning(model_id, asked, *own), *blocks]
    blocks = [
        _with_id(block, i, (seed, model_id, region, str(asked.ref), asked.step))
        for i, block in enumerate(blocks)
    ]
    if troubles.leaks_template_tokens:
        blocks = _leak(blocks)
    return replace(_limit(blocks, stop_reason, asked, troubles), input_tokens=answer.input_tokens)


def _answer(
    asked: ParsedRequest, target: Target, region: str, troubles: Faults, seed: int
) -> Answer:
    """The suite's ideal answer, or its near one where the scenario makes the model weak; else a
    sentence of our own.
    """
    step, category = _from_key(asked.ref, asked.step) if asked.ref else (None, "")
    if asked.ref is None or step is None:
        return Answer((_generic(asked, target),))
    weak = troubles.ignores_system and asked.system
    weak = weak or (troubles.ignores_stop_sequences and bool(asked.stop_sequences))
    for weakness in troubles.weak:
        if weakness.concerns(category, asked.ref.case_id):
            dice = chance(
                seed,
                target.model.api_model_id,
                region,
                asked.ref.case_id,
                asked.ref.seed,
                asked.ref.trial,
            )
            weak = weak or dice >= weakness.accuracy
    return (step.near_miss if weak else None) or step.expected or Answer((_generic(asked, target),))


@lru_cache(maxsize=8192)
def _from_key(ref: Ref, step: int) -> tuple[Step | None, str]:
    """The suite's step, with its ideal and near answers, and its case's category; None for an
    unknown reference.
    """
    category = answer_key.category(ref.case_id)
    return answer_key.answer(ref, step), category.value if category else ""


def _go_on(blocks: list[Block]) -> list[Block]:
    """The same answer, four times as long."""
    return [
        Text(" ".join([block.text] * 4)) if isinstance(block, Text) else block for block in blocks
    ]


def _generic(asked: ParsedRequest, target: Target) -> Text:
    if asked.output_schema:
        return Text(json.dumps(instance(asked.output_schema), ensure_ascii=False))
    return Text(
        f"This answer comes from the local Bedrock emulator of MyIA Certification, in the place of {target.model.name} "
        f"by {target.model.vendor}. No model was called. Nothing here is the work of a language model."
    )


def _force_tool(blocks: list[Block], asked: ParsedRequest) -> list[Block]:
    """A forced choice gives a call of that tool; where the answer has none, one with the smallest
    valid input.
    """
    named = asked.tool_choice if asked.tool_choice != "any" else ""
    calls = [b for b in blocks if isinstance(b, ToolUse) and (not named or b.name == named)]
    if calls:
        return [b for b in blocks if not isinstance(b, ToolUse) or b in calls]
    tools = asked.tools or {}
    name = named or next(iter(tools), "")
    return [ToolUse("", name, instance(tools.get(name, {})))]


def instance(schema: Any, depth: int = 0) -> Any:
    """The smallest value that a JSON Schema of the usual kind allows; None for what is no schema."""
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
        return _smallest_object(schema, depth)
    if kind == "array":
        least = schema.get("minItems", 0)
        return [instance(schema.get("items"), depth + 1)] * (
            min(least, 100) if isinstance(least, int) else 0
        )
    values: dict[str, Any] = {"string": "emulator", "integer": 1, "number": 1.0, "boolean": True}
    return schema.get("minimum", values.get(kind))


def _smallest_object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, dict) else {}
    names = required if isinstance(required, list) else []
    return {name: instance(known.get(name), depth + 1) for name in names if isinstance(name, str)}


def _reasoning(model_id: str, asked: ParsedRequest, *own: Reasoning) -> Reasoning:
    text = (
        "".join(thought.text for thought in own)
        or "The request is clear. I will answer it directly."
    )
    text = "" if asked.silent else text
    signature = base64.b64encode(
        hashlib.sha256(f"{model_id}/{asked.ref}/{asked.step}".encode()).digest()
    ).decode()
    return Reasoning(text, signature if model_id.startswith("anthropic.") else "")


def _with_id(block: Block, index: int, where: tuple[object, ...]) -> Block:
    if not isinstance(block, ToolUse):
        return block
    digest = hashlib.blake2b(repr((*where, index)).encode(), digest_size=16).digest()
    return ToolUse(
        "tooluse_" + base64.urlsafe_b64encode(digest).decode().rstrip("="), block.name, block.input
    )


def _leak(blocks: list[Block]) -> list[Block]:
    return [
        Text(TEMPLATE_LEAK + block.text) if isinstance(block, Text) else block for block in blocks
    ]


def _limit(
    blocks: list[Block], stop_reason: str, asked: ParsedRequest, troubles: Faults
) -> ModelAnswer:
    """Stop sequences first, then the token limit, which then may cut before the stop."""
    stop_sequence = ""
    if asked.stop_sequences and not troubles.ignores_stop_sequences:
        blocks, stop_sequence = _stop(blocks, asked.stop_sequences)
    room = (
        asked.max_tokens
        if asked.max_tokens is not None and not troubles.ignores_max_tokens
        else 1 << 30
    )
    kept: list[Block] = []
    raw_inputs: dict[int, str] = {}
    used = 0
    for block in blocks:
        text, whole = _spoken(block), block
        size = tokens.count(text)
        if size > room - used:
            text = tokens.cut(text, room - used)
            whole, size, stop_reason, stop_sequence = (
                _shortened(block, text),
                room - used,
                "max_tokens",
                "",
            )
        if text or size or isinstance(block, Reasoning):
            kept.append(whole)
            used += size
            if isinstance(block, ToolUse):
                raw_inputs[len(kept) - 1] = text
        if stop_reason == "max_tokens" and used >= room:
            break
    if not stop_reason:
        called = any(isinstance(block, ToolUse) for block in kept)
        stop_reason = "stop_sequence" if stop_sequence else "tool_use" if called else "end_turn"
    return ModelAnswer(tuple(kept), stop_reason, max(1, used), raw_inputs, stop_sequence)


def _stop(blocks: list[Block], stops: tuple[str, ...]) -> tuple[list[Block], str]:
    """The blocks before the first stop sequence, and which one it was."""
    for i, block in enumerate(blocks):
        if isinstance(block, Text):
            found = min(
                ((block.text.find(s), s) for s in stops if s and s in block.text), default=None
            )
            if found is not None:
                before = block.text[: found[0]]
                return [*blocks[:i], *([Text(before)] if before else [])], found[1]
    return blocks, ""


def _spoken(block: Block) -> str:
    if isinstance(block, ToolUse):
        return json.dumps(block.input, ensure_ascii=False)
    return block.text if isinstance(block, Text | Reasoning) else ""


def _shortened(block: Block, text: str) -> Block:
    if isinstance(block, Reasoning):
        return Reasoning(text, block.signature)
    if isinstance(block, ToolUse):
        return ToolUse(block.id, block.name, {})
    return Text(text)
