"""Read `text/event-stream`: bytes in any pieces in, events out.

Source: "Server-sent events" of the HTML standard, section 9.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from certification.bedrock import errors
from certification.inference import Operation
from certification.reasons import Reason

MAX_EVENT_BYTES = 16 * 1024 * 1024
LINE_END = re.compile(rb"[\r\n]")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    name: str  # "" where the server names none
    data: str


class EventReader:
    """Put events together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()  # a line without its end
        self._searched = 0  # so many of its bytes hold no line end
        self._after_cr = False  # a LF that comes now belongs to the CR before it
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._first_line = True

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that these bytes complete.

        Raises StreamBroken (stream_corrupt) for bytes that are no UTF-8 and for an event of more
        than MAX_EVENT_BYTES, after the events before it.
        """
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        self._buffer += data
        while end := LINE_END.search(self._buffer, self._searched):
            line = bytes(self._buffer[: end.start()])
            cut = end.end()
            if end.group() == b"\r":
                self._after_cr = cut == len(self._buffer)
                cut += self._buffer[cut : cut + 1] == b"\n"
            del self._buffer[:cut]
            self._searched = 0
            if event := self._take(line):
                yield event
        self._searched = len(self._buffer)
        if self._size + len(self._buffer) > MAX_EVENT_BYTES:
            raise corrupt(f"An event of the stream is longer than {MAX_EVENT_BYTES} bytes.")

    def end(self) -> ServerSentEvent | None:
        """Return the event whose last line ends are missing at the end of the body."""
        line = bytes(self._buffer)
        self._buffer.clear()
        if line and (event := self._take(line)):
            return event
        return self._take(b"")

    def _take(self, raw: bytes) -> ServerSentEvent | None:
        """Take one line; return the event when it is the empty one that ends it."""
        try:
            line = raw.decode()
        except UnicodeDecodeError as exc:
            raise corrupt("The stream holds bytes that are not UTF-8.") from exc
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line:
            event = ServerSentEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")  # a comment has an empty field
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
            self._size += len(raw)
        return None


def corrupt(message: str) -> errors.BedrockError:
    return errors.error(Reason.STREAM_CORRUPT, message, operation=Operation.STREAM)
