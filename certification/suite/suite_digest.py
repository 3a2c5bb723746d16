"""Compute SUITE_VERSION from the requests that the cases send and the grades of fixed answers.

Only meaning counts: a comment, a name, a title or a sentence for people changes nothing here; a
prompt, a parameter, a grader or a case's place in the judgement does. `scripts/versions.py` writes
the digest into versions.py, because computing it takes seconds.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Any
from unittest import mock

from certification.inference import (
    AnyRequest,
    Document,
    EmbedReply,
    EmbedRequest,
    Failure,
    Image,
    Outcome,
    Reasoning,
    Reply,
    Text,
    Timing,
    ToolResult,
    ToolUse,
    Usage,
)
from certification.reasons import Reason
from certification.suite import custom, embedding, images, registry, synthetic_replies
from certification.suite.case import (
    ALL_CAPABILITIES,
    Case,
    Context,
    Grade,
    ProbeCache,
    Ref,
    Script,
    Step,
    execute,
)
from certification.suite.digest import digest

SEEDS = range(8)  # of first trials: they show every variant of every case
Vectors = tuple[tuple[float, ...], ...]
Serve = Callable[[Step, AnyRequest], Outcome]  # what the service answers to a step's request

TEXT_EDITS: tuple[Callable[[str], str], ...] = (
    lambda text: "",
    lambda text: " \n",
    str.upper,
    str.lower,
    lambda text: f"{text}.",
    lambda text: f'"{text}"',
    lambda text: f"**{text}**",
    lambda text: f"Sure! Here is the answer:\n{text}",
    lambda text: f"{text}\n\nI hope that this helps you.",
    lambda text: f"```json\n{text}\n```",
    lambda text: f"{text} {text}",
    lambda text: f"{text}\n{text}",
    lambda text: " ".join([" ".join(text.split())] * 90),
    lambda text: "\n".join(text.splitlines()[:1] * len(text.splitlines())),
    lambda text: text[: len(text) // 2],
    lambda text: text[:-1],
    lambda text: text[1:],
    lambda text: "\n".join(text.splitlines()[1:]),
    lambda text: "\n".join(text.splitlines()[:-1]),
    lambda text: "\n".join(reversed(text.splitlines())),
    lambda text: " ".join(text.split()),
    lambda text: " ".join(text.split()[:-1]),
    lambda text: " ".join(reversed(text.split())),
    lambda text: re.sub(r"\d", "", text),
    lambda text: re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), text),
    lambda text: re.sub(r"\d+(?=\D*$)", "7777", text),
    lambda text: re.sub(r"(\d \w+ )\w+", r"\1other", text),
    lambda text: f"{text} 98765",
    lambda text: re.sub(r"\b[A-Z]\w+", "Other", text),
    lambda text: text.translate(str.maketrans(",.", ".,")),
    lambda text: text.replace("- ", "* "),
    lambda text: re.sub(r"[^\w\s]", "", text),
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFD", text)),
    lambda text: f"{text} The answer is not in this language, and it has a few words too many.",
    lambda text: f"{text} A resposta não está nesta língua, e ela tem algumas palavras a mais.",
    lambda text: f"<think>One moment.</think>{text}",
)

REFUSALS = (
    "Invalid request.",
    "This model doesn't support the toolChoice field.",
    "This model does not support tool use.",
    "This model doesn't support tool use in streaming mode.",
    "The model is unsupported for streaming.",
    "This model does not support system messages.",
    "This model does not support stop sequences: the field stopSequences is unknown.",
    "The field temperature is not supported.",
    "This model does not support images.",
    "This model does not support documents.",
    "The field outputConfig is not supported: structured output, textFormat, JSON schema.",
    "The field thinking is not supported: reasoning, budget_tokens, effort.",
    "Thinking may not be enabled when the tool choice forces a tool.",
    "The input is too long for the model's context.",
)

LEAKS = (
    "<|im_end|>",
    "<｜end▁of▁sentence｜>",
    "[INST]",
    "<<SYS>>",
    "<end_of_turn>",
    "</think>",
    "<BOS_TOKEN>",
    "<EOS>",
    "</s>",
)

CONTEXTS = (
    Context(),
    Context(reasoning=True, reference_input_tokens=150, dimensions=64, context_window=8_000),
    *(Context(texts=("All is well.", f"It ends here: {leak}")) for leak in LEAKS),
)

CUSTOM_ANSWERS = (
    "", "São Paulo", "sao paulo!", "It is São Paulo, in Brazil.", "42", "42.05", "1.234,56", "-3",
    "one two three", "- one\n- two\n- three", '{"name": "Ana", "age": 30}', '{"name": "Ana"}',
    "O contrato de aluguel termina em dezembro e não foi renovado pelo dono.",
    "The contract ends in December and it has not been renewed by the owner.",
)  # fmt: skip
CUSTOM_GRADERS: tuple[tuple[str, Any], ...] = (
    ("exact", "São Paulo"),
    ("normalised", ["São Paulo", "Rio"]),
    ("mentions", ["São Paulo", "Brazil"]),
    ("without", "Brazil"),
    ("regex", r"^\d+$"),
    ("number", {"value": 42, "tolerance": 0.05}),
    ("number", 1234.56),
    ("json_schema", {"type": "object", "required": ["name", "age"]}),
    ("words", {"min": 2, "max": 3}),
    ("lines", 3),
    ("bullets", 3),
    ("language", "pt"),
    ("language", "en"),
)


def suite_digest() -> str:
    """Return the digest of the shipped cases and of what operators' own cases are made of."""
    return digest(rows())


def rows() -> Iterator[Any]:
    """Yield plain values that say what is asked and how it is graded."""
    for kind, tier in (
        (kind, tier)
        for kind in (registry.TEXT, registry.EMBEDDING)
        for tier in ("quick", "full", "deep")
    ):
        yield [kind, tier, [case.id for case in registry.cases(kind, tier)]]
    yield registry.PROBES
    yield [images.COLOURS, images.COLUMNS, images.CELL]
    for case in registry.BY_ID.values():
        yield from case_rows(case)
    yield from custom_rows()


def case_rows(case: Case) -> Iterator[Any]:
    """Yield a case's facts, and its requests and grades for trials that show all its variants."""
    yield [
        case.id, case.kind, case.category, case.needs, case.repeats, case.whole_run, case.weight,
        case.concurrent,
    ]  # fmt: skip
    for seed in SEEDS:
        yield from script_rows(case.script(Ref(seed, case.id, 0)), edits=True, breaks=not seed)
    for trial in range(1, case.repeats, max(1, case.repeats // 20)):
        yield from script_rows(case.script(Ref(0, case.id, trial)))


def script_rows(script: Script, edits: bool = False, breaks: bool = False) -> Iterator[Any]:
    """Yield a trial's requests and grades for one way of answering after the other.

    `edits` adds changed texts, `breaks` damaged replies and failures.
    """
    script = replace(script, steps=tuple(map(building_once, script.steps)))
    rendered: dict[int, tuple[AnyRequest, str]] = {}  # by identity, with what has that identity

    def row(
        serve: Serve,
        capabilities: frozenset[str] = ALL_CAPABILITIES,
        contexts: Sequence[Context] = CONTEXTS[:1],
    ) -> Any:
        requests = []

        def call(request: AnyRequest) -> Outcome:
            if id(request) not in rendered:
                rendered[id(request)] = request, digest([render(request)])
            requests.append(rendered[id(request)][1])
            return serve(step_of(script, request), request)

        probes = ProbeCache()
        outcomes = execute(script, call, capabilities, probes)
        grades = [verdict(script.grade(outcomes, context)) for context in contexts]
        features = sorted(
            (*feature, failure.reason.value if failure else "")
            for feature, failure in probes.observed.items()
        )
        return [requests, grades, features]

    # How a library encodes a picture is no part of the suite, what is drawn is.
    with mock.patch.object(images, "poster_png", drawing):
        yield row(expected, contexts=CONTEXTS)
        yield row(expected, ALL_CAPABILITIES | {"reasoning"})
        yield row(expected, frozenset())
        yield row(near_miss)
        for edit in TEXT_EDITS if edits else ():
            yield row(partial(edited, edit))
        if breaks:
            for kind, damage in DAMAGES:
                yield row(partial(spoiled, kind, damage))
            for failure in FAILURES:
                yield row(partial(refusing, failure, script.steps))
            for message in REFUSALS if len(script.steps) > 1 else ():
                yield row(partial(refusing, refusal(message), script.steps[:1]))


def building_once(step: Step) -> Step:
    """Return the step with its request for a trial's beginning built once: some take long."""
    first = cache(lambda: step.request(()))
    return replace(step, request=lambda outcomes: step.request(outcomes) if outcomes else first())


def custom_rows() -> Iterator[Any]:
    """Yield the request of an operator's case and the grades of every grader that one may name."""
    yield [sorted(custom.GRADERS), list(custom.CATEGORIES)]
    for grader, value in CUSTOM_GRADERS:
        spec = custom.Spec(
            "XDIGEST", "", "portuguese", "What?", grader, value, system="Be brief.", weight=2.0
        )
        case = custom.case(spec)
        script = case.script(Ref(1, spec.id, 0))
        yield [case.kind, case.category, case.needs, case.repeats, case.weight]
        for answer in CUSTOM_ANSWERS:
            reply = Reply((Text(answer),), "end_turn", Usage(9, 9, 18), Timing(100.0))
            yield verdict(script.grade((reply,), Context()))
        yield [render(request) for step in script.steps if (request := step.request(()))]


# What is sent, and what of a grade decides. Members are named here and not by their classes, so
# that renaming one changes nothing; what stays at its default is left out, so that a new one
# changes nothing before a case uses it.


def render(request: AnyRequest) -> dict[str, Any]:
    """Return everything that a request asks of the service."""
    if isinstance(request, EmbedRequest):
        members: dict[str, Any] = {"texts": request.texts, "dimensions": request.dimensions}
    else:
        members = {
            "system": request.system,
            "messages": [[m.role, *map(render_block, m.content)] for m in request.messages],
            "maxTokens": request.max_tokens,
            "stopSequences": request.stop_sequences,
            "tools": [[t.name, t.description, t.schema] for t in request.tools],
            "toolChoice": request.tool_choice,
            "temperature": request.temperature,
            "topP": request.top_p,
            "outputSchema": request.output_schema,
            "thinkingTokens": request.thinking_tokens,
            "thinkingEffort": request.thinking_effort,
        }
    named = {"operation": request.operation, **members}
    return {name: value for name, value in named.items() if value not in (None, "", (), [])}


def render_block(block: Any) -> list[Any]:
    """Return a block of a message as plain values."""
    if isinstance(block, Text):
        return ["text", block.text]
    if isinstance(block, Image):
        return ["image", block.format, block.data]
    if isinstance(block, Document):
        return ["document", block.format, block.name, block.data]
    if isinstance(block, ToolUse):
        return ["toolUse", block.id, block.name, block.input, block.raw_input]
    if isinstance(block, ToolResult):
        return ["toolResult", block.tool_use_id, block.text, block.is_error]
    if isinstance(block, Reasoning):
        return ["reasoning", block.text, block.signature, block.redacted]
    raise TypeError(f"{type(block).__name__} is no block of a message.")


def drawing(code: str, shapes: Sequence[images.Shape]) -> bytes:
    """Return a picture's contents in words, in place of its encoding."""
    return "\n".join([code, *(f"{shape.colour} {shape.kind}" for shape in shapes)]).encode()


# What later judgements read from a trial's evidence, beside its grade.
EVIDENCE = ("ttft_ms", "tokens_per_second", "latency_ms", "input_tokens", "prompt", "answer")


def verdict(grade: Grade) -> list[Any]:
    """Return what of a grade decides; its sentence is for people."""
    figures = {name: grade.evidence[name] for name in EVIDENCE if name in grade.evidence}
    cause = grade.cause.reason if grade.cause else None
    return [grade.passed, grade.valid, grade.lacks, cause, figures]


# Ways of answering.


def step_of(script: Script, request: AnyRequest) -> Step:
    """Return the step of a script that sent a request: its last text carries the reference."""
    if isinstance(request, EmbedRequest):
        return script.steps[0]
    texts = [b.text for m in request.messages for b in m.content if isinstance(b, Text)]
    refs = [ref for ref in (Ref.find(text[-100:]) for text in texts) if ref]
    return script.steps[refs[-1].step if refs else 0]


def expected(step: Step, request: AnyRequest) -> Outcome:
    """Answer as a perfect model would."""
    if isinstance(request, EmbedRequest):
        return EmbedReply(tuple(map(vector, request.texts)), Usage(9, 0, 9), Timing(100.0))
    return refusal() if step.expected is None else synthetic_replies.reply(request, step.expected)


def near_miss(step: Step, request: AnyRequest) -> Outcome:
    """Answer as a model would that looks right and is not."""
    if isinstance(request, EmbedRequest):
        return EmbedReply(
            tuple(map(vector, reversed(request.texts))), Usage(9, 0, 9), Timing(100.0)
        )
    answer = step.near_miss or step.expected
    return refusal() if answer is None else synthetic_replies.reply(request, answer)


def edited(edit: Callable[[str], str], step: Step, request: AnyRequest) -> Outcome:
    """Answer as a perfect model would, but for an edit of every text."""
    if isinstance(request, EmbedRequest):
        return expected(step, replace(request, texts=tuple(map(edit, request.texts))))
    if step.expected is None:
        return refusal()
    content = tuple(
        replace(block, text=edit(block.text)) if isinstance(block, Text) else block
        for block in step.expected.content
    )
    return synthetic_replies.reply(request, replace(step.expected, content=content))


def refusing(failure: Failure, steps: Sequence[Step], step: Step, request: AnyRequest) -> Outcome:
    """Refuse the calls of these steps, answer the others as a perfect model would."""
    return failure if step in steps else expected(step, request)


def refusal(message: str = "Invalid request.", ms: float = 100.0) -> Failure:
    """Return the service's refusal of a request that it calls invalid."""
    reason = Reason.MALFORMED_REQUEST
    return Failure(reason, message, "ValidationException", 400, timing=Timing(ms))


FAILURES = (
    *map(refusal, REFUSALS),
    refusal(ms=6_000.0),
    *(Failure(reason, "It did not work.", "SomeException", 400) for reason in Reason),
    *(
        Failure(reason, "It did not work.", "InternalServerException", 500)
        for reason in (Reason.INTERNAL_ERROR, Reason.MODEL_ERROR, Reason.UNKNOWN)
    ),
)


@lru_cache(maxsize=512)
def vector(text: str) -> tuple[float, ...]:
    """Return a vector of 64 numbers: texts of one concept lie close, any two differ a little."""
    checksum = zlib.crc32(text.encode())
    values = [(checksum * (2 * i + 1) % 1009 - 504) / 20_000 for i in range(64)]
    for number, group in enumerate(embedding.CONCEPTS):
        values[number] += any(sentence in text for sentence in group)
    length = math.hypot(*values)
    return tuple(value / length for value in values)


def changing_tools(change: Callable[[ToolUse], ToolUse], reply: Reply) -> Reply:
    """Change every tool call of a reply whose arguments are an object."""
    blocks = (
        change(block) if isinstance(block, ToolUse) and isinstance(block.input, dict) else block
        for block in reply.content
    )
    return replace(reply, content=tuple(blocks))


def changing_vectors(change: Callable[[Vectors], Vectors], reply: EmbedReply) -> EmbedReply:
    """Change the vectors of a reply."""
    return replace(reply, vectors=change(reply.vectors))


def stretched(factor: float, vectors: Vectors) -> Vectors:
    """Stretch the first vector."""
    return (tuple(factor * x for x in vectors[0]), *vectors[1:])


TOOL_CHANGES: tuple[Callable[[ToolUse], ToolUse], ...] = (
    lambda call: replace(call, input=None, raw_input="{"),
    lambda call: replace(call, input={}),
    lambda call: replace(call, name="other_tool"),
    lambda call: replace(call, input=dict(list(call.input.items())[1:])),
    lambda call: replace(call, input={**call.input, "more": 1}),
    lambda call: replace(call, input={name: str(call.input[name]) for name in call.input}),
    lambda call: replace(call, input=dict.fromkeys(call.input)),
)

VECTOR_CHANGES: tuple[Callable[[Vectors], Vectors], ...] = (
    lambda vectors: (),
    lambda vectors: vectors[:-1],
    lambda vectors: vectors[::-1],
    lambda vectors: vectors[:1] * len(vectors),
    lambda vectors: tuple(v[:32] for v in vectors),
    lambda vectors: (vectors[0][:32], *vectors[1:]),
    *(
        partial(stretched, factor)
        for factor in (0.0, 0.97, 0.985, 1.015, 1.03, 5.0, 9.5, 10.5, math.nan)
    ),
)

# How a service can spoil the reply of a perfect model.
DAMAGES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    *(
        (Reply, partial(replace, stop_reason=stop))
        for stop in ("end_turn", "max_tokens", "stop_sequence", "tool_use", "content_filtered", "")
    ),
    *(
        (Reply, partial(replace, usage=usage))
        for usage in (
            None, Usage(0, 0), Usage(3, 1), Usage(152, 10), Usage(154, 16), Usage(200, 64),
            Usage(100_000, 10_000),
        )
    ),
    *(
        (Reply, partial(replace, timing=timing))
        for timing in (
            Timing(100.0), Timing(10_000.0, 400.0, 9_999.0), Timing(10_000.0, 400.0, 10_001.0),
            Timing(60_000.0, 59_000.0, 50_000.0),
        )
    ),
    (Reply, partial(replace, complete=False)),
    (Reply, partial(replace, events=())),
    (Reply, lambda reply: replace(reply, events=reply.events[1:])),
    (Reply, lambda reply: replace(reply, events=reply.events[:-1])),
    (Reply, lambda reply: replace(reply, events=reply.events[::-1])),
    (Reply, partial(replace, content=())),
    (Reply, lambda reply: replace(reply, content=reply.content[:1])),
    (Reply, lambda reply: replace(reply, content=(*reply.content, *reply.content))),
    (Reply, lambda reply: replace(reply, content=(*reply.content, Text("Done.")))),
    (Reply, lambda reply: replace(reply, content=(*reply.content, ToolUse("t", "other_tool", {})))),
    (Reply, lambda reply: replace(reply, content=(Reasoning("One moment.", "s"), *reply.content))),
    *((Reply, partial(changing_tools, change)) for change in TOOL_CHANGES),
    *((EmbedReply, partial(changing_vectors, change)) for change in VECTOR_CHANGES),
)  # fmt: skip


def spoiled(kind: type, damage: Callable[[Any], Any], step: Step, request: AnyRequest) -> Outcome:
    """Answer as a perfect model would, through a service that damages replies of this kind."""
    outcome = expected(step, request)
    damaged: Outcome = damage(outcome) if isinstance(outcome, kind) else outcome
    return damaged
