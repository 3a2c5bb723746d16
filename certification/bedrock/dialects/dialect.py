"""What a dialect is: one inference API of Bedrock on the wire, without network, clock and keys.

A dialect turns a request into the HTTP request that the API takes, and what came back into a reply
in the words of `inference`: Converse's stop reasons and event names, whatever the API calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from certification.bedrock.dialects.quirks import Quirks
from certification.inference import Reply, Request, RouteTarget, Timing

JSON_HEADERS = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class WireRequest:
    """An HTTP request without host and signature. `path` is encoded as it goes on the wire."""

    path: str
    body: bytes
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WireResponse:
    """A whole HTTP response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotExpressible(Exception):
    """The API has no way to say what a request asks for; the text says what it is."""


class StreamReader(Protocol):
    """Reads the body of one streamed response.

    Times are seconds of one monotonic clock. `events` are the events so far, by Converse's names.
    """

    events: list[str]

    @property
    def complete(self) -> bool:
        """Whether everything that ends a response of this API has arrived."""

    def feed(self, data: bytes, at: float) -> None:
        """Take bytes that arrived at `at`. Raises BedrockError for a corrupt frame or event, and
        for an error that the service reports inside the stream.
        """

    def end(self) -> None:
        """Take note that the body has ended. Raises StreamBroken when the response is not whole."""

    def reply(self, at: float) -> Reply:
        """Return what has arrived until `at`."""


class Dialect(Protocol):
    """One API. Errors of status 400 and above never come here: see `errors.from_response`."""

    def encode(
        self, request: Request, target: RouteTarget, quirks: Quirks | None = None
    ) -> WireRequest:
        """Return the HTTP request; `request.operation` says whether it streams.

        `quirks` are what refusals taught of the model (`quirks.learn`), instead of what is known of
        it from its id. Raises NotExpressible.
        """

    def decode(self, response: WireResponse, timing: Timing) -> Reply:
        """Return the reply in a whole response of status 200.

        Raises BedrockError when it is none: an error inside a 200, or a body of another shape.
        """

    def stream_reader(self, started: float, headers: Mapping[str, str]) -> StreamReader:
        """Return a reader for the response to a request that was sent at `started`.

        Raises BedrockError when the headers show something other than a stream.
        """
