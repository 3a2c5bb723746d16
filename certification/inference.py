"""The plain types of one model call, request and outcome, that suite, bedrock and engine share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from certification.reasons import Reason, stop_cause


class Operation(StrEnum):
    """The operations of the Bedrock runtime that we call, by their wire names."""

    CONVERSE = "Converse"
    STREAM = "ConverseStream"
    EMBED = "InvokeModel"


class Endpoint(StrEnum):
    """The two surfaces of Bedrock that answer inference calls."""

    RUNTIME = "bedrock-runtime"
    MANTLE = "bedrock-mantle"


class API(StrEnum):
    """The inference APIs of Bedrock, each with its own wire format."""

    CONVERSE = "converse"
    INVOKE = "invoke"
    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A way to call a model in a region.

    `kind` says what `target_id` is (a models.RouteKind). `path_prefix` is "/openai/v1" or "/v1" for
    the OpenAI-shaped APIs, "/anthropic/v1" for Messages; native paths have none.
    """

    target_id: str
    kind: str
    endpoint: Endpoint = Endpoint.RUNTIME
    api: API = API.CONVERSE
    path_prefix: str = ""

    def __str__(self) -> str:
        return f"{self.target_id} by {self.api} on {self.endpoint}"


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Document:
    format: str
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call of the model.

    `input` is None when the streamed deltas, which `raw_input` holds, are not valid JSON.
    """

    id: str
    name: str
    input: Any
    raw_input: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    tool_use_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str
    signature: str = ""
    redacted: bytes = b""


Block = Text | Image | Document | ToolUse | ToolResult | Reasoning


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # "user" or "assistant"
    content: tuple[Block, ...]


def user(*content: Block | str) -> Message:
    """Return a user message; plain strings become text blocks."""
    return Message("user", tuple(Text(b) if isinstance(b, str) else b for b in content))


def assistant(*content: Block | str) -> Message:
    """Return an assistant message; plain strings become text blocks."""
    return Message("assistant", tuple(Text(b) if isinstance(b, str) else b for b in content))


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]  # JSON Schema of the input


@dataclass(frozen=True, slots=True)
class Request:
    """One Converse or ConverseStream call, without model and region, which the runner decides.

    `tool_choice` is "" (the model decides), "any", or the name of the tool that must be called.
    `temperature` and `top_p` stay None unless the model is known to accept them. `output_schema`
    requests structured output. `thinking_tokens` requests reasoning that is shown, with that budget
    (Claude: 1024 or more, with a larger `max_tokens`, and no forced tool). `thinking_effort`
    ("low", "medium", "high") leaves the length to the model, as Claude requires from 4.6 on. For
    vendors without a known way to request reasoning both are ignored.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    operation: Operation = Operation.CONVERSE
    system: str = ""
    stop_sequences: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = ""
    temperature: float | None = None
    top_p: float | None = None
    output_schema: Mapping[str, Any] | None = None
    thinking_tokens: int | None = None
    thinking_effort: str = ""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """One InvokeModel call of an embedding model: texts in, one vector per text out.

    `dimensions` None is the model's default.
    """

    texts: tuple[str, ...]
    dimensions: int | None = None
    operation: Operation = Operation.EMBED


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the service counted them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a call in milliseconds.

    `ttft_ms` (until the first content), `max_gap_ms` (between events) and `arrivals_ms` (when the
    events came, since the call began) are set only for streams; `server_ms` is the service's own
    figure.
    """

    total_ms: float
    ttft_ms: float | None = None
    max_gap_ms: float | None = None
    server_ms: float | None = None
    arrivals_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to a Request.

    `events` are the stream's event names in order; `complete` is False for a stream without
    messageStop and metadata.
    """

    content: tuple[Block, ...]
    stop_reason: str
    usage: Usage | None
    timing: Timing
    operation: Operation = Operation.CONVERSE
    events: tuple[str, ...] = ()
    complete: bool = True
    request_id: str = ""

    @property
    def text(self) -> str:
        """The text of the response, without reasoning."""
        return "".join(b.text for b in self.content if isinstance(b, Text))

    @property
    def reasoning(self) -> str:
        return "".join(b.text for b in self.content if isinstance(b, Reasoning))

    @property
    def tool_uses(self) -> tuple[ToolUse, ...]:
        return tuple(b for b in self.content if isinstance(b, ToolUse))


@dataclass(frozen=True, slots=True)
class EmbedReply:
    """The response to an EmbedRequest: one vector per text, in order.

    `usage` is None where the vendor reports no token count.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None
    timing: Timing
    operation: Operation = Operation.EMBED
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without a usable response, diagnosed.

    `partial` is what a broken stream had delivered, `credential` the kind of credentials that were
    not accepted (see `bedrock.credentials`), `traceback` where our own program failed.
    """

    reason: Reason
    message: str
    code: str = ""
    http_status: int | None = None
    operation: Operation = Operation.CONVERSE
    request_id: str = ""
    timing: Timing = field(default_factory=lambda: Timing(0.0))
    partial: Reply | None = None
    credential: str = ""
    traceback: str = ""

    def after(self, total_ms: float) -> Failure:
        """Return the same failure with the time it took."""
        return replace(self, timing=replace(self.timing, total_ms=total_ms))


Outcome = Reply | EmbedReply | Failure
AnyRequest = Request | EmbedRequest


def failure_of(outcome: Outcome | None) -> Failure | None:
    """Return why an outcome is no usable answer, None where nothing says so.

    A response of status 200 can name a cause too, as its stop reason: its text is then a
    guardrail's or a filter's, or unfinished.
    """
    if not isinstance(outcome, Reply) or not isinstance(outcome.stop_reason, str):
        return outcome if isinstance(outcome, Failure) else None
    reason = stop_cause(outcome.stop_reason)
    if reason is None:
        return None
    return Failure(
        reason,
        f"The answer ended with the stop reason {outcome.stop_reason}.",
        code=outcome.stop_reason,
        http_status=200,
        operation=outcome.operation,
        request_id=outcome.request_id,
        timing=outcome.timing,
        partial=outcome,
    )
