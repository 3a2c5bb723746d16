"""What the stream readers of Chat Completions, Responses and Messages share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certification.bedrock import errors
from certification.bedrock.dialects import shape
from certification.bedrock.dialects.dialect import JSON_HEADERS
from certification.bedrock.dialects.reply_builder import ReplyBuilder
from certification.bedrock.dialects.server_sent_events import EventReader, ServerSentEvent
from certification.inference import Reply
from certification.reasons import Reason

STREAM_HEADERS = JSON_HEADERS | {"accept": "text/event-stream"}


def is_stream(headers: Mapping[str, str]) -> bool:
    """Tell whether the headers show server-sent events."""
    return headers.get("content-type", "").startswith("text/event-stream")


class SseStreamReader:
    """Reads events whose data is JSON; see `dialect.StreamReader`.

    A subclass takes one parsed event at a time and sets `done` at the one that ends the stream.
    """

    final = ""  # the event that ends a stream, for people

    def __init__(self, started: float, headers: Mapping[str, str]) -> None:
        self.reader = EventReader()
        self.builder = ReplyBuilder(started, headers)
        self.events = self.builder.events
        self.done = False

    @property
    def complete(self) -> bool:
        return self.done and bool(self.builder.stop_reason)

    def feed(self, data: bytes, at: float) -> None:
        try:
            for event in self.reader.feed(data):
                self.take_text(event, at)
        except errors.BedrockError as error:
            error.request_id = error.request_id or self.builder.request_id
            raise

    def end(self) -> None:
        try:
            if event := self.reader.end():
                self.take_text(event, self.builder.last)
        except errors.StreamBroken as exc:
            if exc.reason is not Reason.STREAM_CORRUPT:
                raise
        if not self.complete:
            raise self.builder.truncated(self.final)

    def reply(self, at: float) -> Reply:
        return self.builder.reply(at, self.complete)

    def take_text(self, event: ServerSentEvent, at: float) -> None:
        """Take one event. Raises BedrockError for what is no JSON object or of another shape."""
        if self.done:
            return
        try:
            value = shape.loads(event.data)
        except shape.WrongShape as exc:
            message = "An event of the stream is not JSON."
            raise self.builder.broken(Reason.STREAM_CORRUPT, message) from exc
        try:
            if not isinstance(value, Mapping):
                raise shape.WrongShape("an event that is not an object")
            self.take(event.name, value, at)
        except shape.WrongShape as exc:
            message = f"The stream held {exc}."
            raise self.builder.broken(Reason.BAD_RESPONSE, message) from exc

    def take(self, name: str, value: Mapping[str, Any], at: float) -> None:
        """Take one parsed event. Raises WrongShape and BedrockError."""
        raise NotImplementedError
