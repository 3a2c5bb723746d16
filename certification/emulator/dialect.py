"""What reads and writes the JSON of one API or of one vendor, and what several of them share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from certification.emulator import body_schema, refusals, tokens
from certification.emulator.answers import ModelAnswer, ParsedRequest, find_ref
from certification.emulator.body_schema import Shape
from certification.emulator.calls import Invocation, StreamFormat
from certification.emulator.latency import Pace
from certification.inference import Endpoint, Reasoning, Text

Json = Mapping[str, Any]


class Dialect:
    """How an API, or one family of models in InvokeModel, reads and writes its bodies.

    `shape` is what a body must look like to be read.
    """

    shape: Shape = dict

    def read(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        """Return the request and its tokens. Refuses a body that is not of this family."""
        body_schema.check(body, self.shape)
        return self.parse(body, invocation)

    def parse(self, body: Json, invocation: Invocation) -> tuple[ParsedRequest, int]:
        """Do the same for a body of the right shape."""
        raise NotImplementedError

    def write(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> dict[str, Any]:
        """Return the answer's JSON."""
        raise NotImplementedError

    def events(
        self, answer: ModelAnswer, prompt_tokens: int, invocation: Invocation
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the answer's events and how many tokens each carries, by default all at once."""
        yield self.write(answer, prompt_tokens, invocation), answer.output_tokens


def text_of(answer: ModelAnswer) -> str:
    return "".join(block.text for block in answer.blocks if isinstance(block, Text))


def reasoning_tokens(answer: ModelAnswer) -> int:
    """Return how many of the output tokens were thoughts."""
    return sum(tokens.count(b.text) for b in answer.blocks if isinstance(b, Reasoning))


def flatten(content: Any) -> str:
    """Return the text of a message's content: a string, or blocks of the vendor's kinds."""
    if isinstance(content, list):
        return "\n".join(flatten(block) for block in content)
    if isinstance(content, dict):
        return flatten(
            content.get("text") or content.get("content") or content.get("toolResult") or ""
        )
    return content if isinstance(content, str) else ""


def conversation(body: Json) -> list[tuple[str, str]]:
    return [
        (str(m.get("role", "user")), flatten(m.get("content"))) for m in require(body, "messages")
    ]


def parsed(texts: list[tuple[str, str]], max_tokens: Any, stops: Any, **more: Any) -> ParsedRequest:
    ref, step = find_ref(texts)
    sequences = [stops] if isinstance(stops, str) else stops or []
    return ParsedRequest(
        ref, step, max_tokens, tuple(s for s in sequences if isinstance(s, str)), **more
    )


def count_texts(texts: list[tuple[str, str]], *others: Any) -> int:
    extra = sum(tokens.count(o if isinstance(o, str) else json.dumps(o)) for o in others if o)
    return 3 + sum(4 + tokens.count(text) for _, text in texts) + extra


def with_thoughts(request: ParsedRequest, reasoning: bool, silent: bool) -> ParsedRequest:
    """Return the request for an answer with or without thoughts; `silent`: without their text."""
    return replace(request, reasoning=reasoning, silent=silent)


def paced(events: Iterable[tuple[Json, int]], pace: Pace) -> Iterator[tuple[float, Json]]:
    """Yield events with the seconds at which they are due, from the tokens that each carries."""
    written = 0
    for event, size in events:
        written += size
        yield pace.first + pace.per_token * max(0, written - 1), event


def require(body: Json, key: str) -> Any:
    """Return a member of the body; refuse a body without it."""
    if body.get(key) in (None, "", []):
        raise refusals.malformed("#", f"required key [{key}] not found")
    return body[key]


def allow_only(body: Json, *known: str) -> None:
    """Refuse a body with other members."""
    for key in body:
        if key not in known:
            raise refusals.malformed("#", f"extraneous key [{key}] is not permitted")


def read_and_answer(
    invocation: Invocation, dialect: Dialect, body: Json
) -> tuple[ModelAnswer, int]:
    """Return the model's answer and the input tokens. Refuses the request, then for the service."""
    request, prompt_tokens = dialect.read(body, invocation)
    prompt_tokens += invocation.faults.extra_input_tokens
    invocation.check_service()
    invocation.check_window(prompt_tokens)
    limit = invocation.target.model.max_output_tokens
    if request.max_tokens is not None and limit is not None and request.max_tokens > limit:
        raise refusals.too_many_output_tokens(limit)
    answer = invocation.answer(request)
    return answer, prompt_tokens if answer.input_tokens is None else answer.input_tokens


# What the OpenAI-shaped APIs and Messages have in common


IMAGE_TOKENS = 1000
IMAGE_PARTS = frozenset(("image", "image_url", "input_image"))
AUDIO_PARTS = frozenset(("input_audio",))
DOCUMENT_PARTS = frozenset(("document", "input_file", "file"))


def check_content(content: Any, path: str, invocation: Invocation) -> None:
    """Refuse parts of a message that the model does not read."""
    model = invocation.target.model
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise refusals.unsupported_value(path, f"{path}.content: Input should be an object")
        if (
            (kind in IMAGE_PARTS and "vision" not in model.capabilities)
            or (kind in AUDIO_PARTS and not {"AUDIO", "SPEECH"} & set(model.input_modalities))
            or (kind in DOCUMENT_PARTS and "documents" not in model.capabilities)
        ):
            raise refusals.unsupported_value(
                path,
                f"This model doesn't support the {kind} content that you provided. Update the "
                "content and try again.",
            )


def check_limit(value: Any, name: str, low: int, high: int | None) -> None:
    """Refuse an output limit below what the API or above what the model takes."""
    if value is not None and value < low:
        raise refusals.unsupported_value(
            name,
            f"Invalid '{name}': integer below minimum value. Expected a value >= {low}, but got "
            f"{value} instead.",
        )
    if value is not None and high is not None and value > high:
        raise refusals.too_many_output_tokens(high)


def check_range(body: Json, name: str, high: int) -> None:
    """Refuse a sampling parameter outside of 0 to `high`."""
    value = body.get(name)
    if value is not None and not 0 <= value <= high:
        bound = f"above maximum value. Expected a value <= {high}"
        if value < 0:
            bound = "below minimum value. Expected a value >= 0"
        raise refusals.unsupported_value(
            name, f"Invalid '{name}': decimal {bound}, but got {value} instead."
        )


def check_effort(effort: Any, name: str, invocation: Invocation) -> None:
    """Refuse a reasoning effort that the model does not know."""
    allowed = invocation.target.traits.efforts
    if effort is None or effort in allowed:
        return
    # the list is that of the API, not of the model
    raise refusals.unsupported_value(
        name,
        f"Unsupported value: '{effort}' is not supported with the '{invocation.call.called}' "
        "model. Supported values are: 'none', 'low', 'medium', 'high', and 'xhigh'.",
    )


def check_tier(tier: Any) -> None:
    """Refuse a service tier that the OpenAI APIs do not have."""
    if tier is not None and tier not in ("auto", "default", "flex", "priority"):
        raise refusals.unsupported_value(
            "service_tier",
            f"Invalid value: '{tier}'. Supported values are: 'auto', 'default', 'flex', "
            "'priority'.",
        )


def tools_not_supported(invocation: Invocation) -> refusals.Refusal:
    """Return the refusal of tools for a model without them: the engine's text on bedrock-mantle."""
    if invocation.call.endpoint == Endpoint.MANTLE:
        return refusals.invalid(
            'ErrorEvent { error: APIError { type: "BadRequestError", code: Some(400), message: '
            '"\\"auto\\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to '
            'be set", param: None } }'
        )
    return refusals.invalid("This model doesn't support tool use.")


class ApiDialect(Dialect):
    """An API that streams server-sent events."""

    format: StreamFormat

    def encode(self, event: Json, invocation: Invocation) -> bytes:
        """Return an event as it goes on the wire."""
        raise NotImplementedError
