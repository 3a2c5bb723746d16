"""Collect a streamed response, whichever API streams it, into a Reply with Converse's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certification.bedrock import errors
from certification.bedrock.dialects import shape
from certification.inference import (
    Block,
    Image,
    Operation,
    Reasoning,
    Reply,
    Text,
    Timing,
    ToolUse,
    Usage,
)
from certification.reasons import Reason


@dataclass
class OpenBlock:
    """A content block while its deltas arrive.

    `name` is the tool's, or an image's format; `data` a redacted thought or an image.
    """

    kind: str = ""  # "text", "toolUse", "reasoning" or "image"; "" until a delta says it
    text: list[str] = field(default_factory=list)
    signature: str = ""
    data: bytes = b""
    use_id: str = ""
    name: str = ""

    def close(self) -> Block | None:
        text = "".join(self.text)
        if self.kind == "toolUse":
            return ToolUse(self.use_id, self.name, arguments_from(text), text)
        if self.kind == "reasoning":
            return Reasoning(text, self.signature, self.data)
        if self.kind == "image":
            return Image(self.name, self.data)
        return Text(text) if self.kind == "text" else None


def arguments_from(text: str) -> Any:
    """Return the tool input that streamed pieces form, None where they are not JSON."""
    if not text.strip():
        return {}  # a tool without arguments streams an empty input
    try:
        return shape.loads(text)
    except shape.WrongShape:
        return None


class ReplyBuilder:
    """What all stream readers share: the events with their times, the blocks, the end."""

    def __init__(self, started: float, headers: Mapping[str, str]) -> None:
        self.started = self.last = started
        self.request_id = errors.request_id_in(headers)
        self.events: list[str] = []
        self.blocks: dict[Any, OpenBlock] = {}  # by index or key, in the order of arrival
        self.stop_reason = ""
        self.usage: Usage | None = None
        self.server_ms: float | None = None
        self.ttft_ms: float | None = None
        self.max_gap_ms = 0.0
        self.arrivals_ms: list[float] = []
        self.open: Any = None  # the key of the block that has no contentBlockStop yet

    def emit(self, name: str, at: float) -> None:
        """Take note of one event, by Converse's name."""
        if self.events:
            self.max_gap_ms = max(self.max_gap_ms, (at - self.last) * 1000)
        self.last = at
        self.events.append(name)
        self.arrivals_ms.append((at - self.started) * 1000)
        if name in {"contentBlockStart", "contentBlockDelta"} and self.ttft_ms is None:
            self.ttft_ms = (at - self.started) * 1000

    def block(self, key: Any, kind: str = "") -> OpenBlock:
        """Return the block of this key, a new one where there is none yet."""
        block = self.blocks.setdefault(key, OpenBlock())
        block.kind = kind or block.kind
        return block

    # For the APIs that do not send Converse's events: their deltas give them.

    def start_tool(self, key: Any, use_id: str, name: str, at: float) -> None:
        """Open the block of a tool call, which has a contentBlockStart."""
        self.switch(key, at)
        block = self.block(key, "toolUse")
        block.use_id, block.name = use_id, name
        self.emit("contentBlockStart", at)

    def add(
        self, key: Any, kind: str, at: float, text: str = "", *, sign: str = "", data: bytes = b""
    ) -> None:
        """Add a delta to a block; an empty one is no event."""
        if text or sign or data:
            self.switch(key, at)
            block = self.block(key, kind)
            block.text.append(text)
            block.signature += sign
            block.data += data
            self.emit("contentBlockDelta", at)

    def switch(self, key: Any, at: float) -> None:
        """Make this the open block: another one that is open ends."""
        if self.open != key:
            self.close(at)
            self.open = key

    def close(self, at: float) -> None:
        """End the open block, if there is one."""
        if self.open is not None:
            self.open = None
            self.emit("contentBlockStop", at)

    def stop(self, reason: str, at: float) -> None:
        """End the message."""
        self.close(at)
        self.stop_reason = reason
        self.emit("messageStop", at)

    def text_of(self, key: Any) -> str:
        """Return what the deltas of a block say so far."""
        return "".join(self.blocks[key].text) if key in self.blocks else ""

    def reply(self, at: float, complete: bool, blocks: list[OpenBlock] | None = None) -> Reply:
        """Return what has arrived so far, in the order of `blocks` (default: of arrival)."""
        ordered = list(self.blocks.values()) if blocks is None else blocks
        closed = (block.close() for block in ordered)
        return Reply(
            content=tuple(block for block in closed if block is not None),
            stop_reason=self.stop_reason,
            usage=self.usage,
            timing=Timing(
                (at - self.started) * 1000,
                self.ttft_ms,
                self.max_gap_ms,
                self.server_ms,
                tuple(self.arrivals_ms),
            ),
            operation=Operation.STREAM,
            events=tuple(self.events),
            complete=complete,
            request_id=self.request_id,
        )

    def fault(self, code: str, message: str) -> errors.BedrockError:
        """Return the error that the service reports inside the stream."""
        return errors.from_fault(
            code,
            message,
            operation=Operation.STREAM,
            request_id=self.request_id,
            unknown=Reason.STREAM_ERROR,
        )

    def broken(self, reason: Reason, message: str) -> errors.BedrockError:
        return errors.error(reason, message, operation=Operation.STREAM, request_id=self.request_id)

    def truncated(self, missing: str) -> errors.BedrockError:
        """Return the error for a body that ended before the response did."""
        return self.broken(
            Reason.STREAM_TRUNCATED,
            f"The stream ended after {len(self.events)} events without {missing}.",
        )
