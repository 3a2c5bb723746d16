"""Read the JSON object of a whole response of status 200, which may be an error all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from certification.bedrock import errors
from certification.bedrock.dialects import shape
from certification.bedrock.dialects.dialect import WireResponse
from certification.inference import Operation, Reply
from certification.reasons import Reason

MAX_BODY_BYTES = 64 * 1024 * 1024


@contextmanager
def checked(response: WireResponse, operation: Operation) -> Iterator[None]:
    """Raise what is WrongShape inside the block as a BedrockError (bad_response)."""
    try:
        yield
    except shape.WrongShape as exc:
        raise errors.bad_response(response, operation, str(exc)) from exc


def object_of(response: WireResponse, operation: Operation) -> Mapping[str, Any]:
    """Return the JSON object of a response.

    Raises BedrockError for a body that is none, and for an error inside a 200: a path that
    bedrock-runtime does not know answers {"Output": {"__type": "...#UnknownOperationException"}}.
    """
    with checked(response, operation):
        payload = shape.loads(response.body)
    if not isinstance(payload, Mapping):
        raise errors.bad_response(response, operation, "a body that is not a JSON object")
    output = payload.get("Output")
    if payload.get("error") or payload.get("__type") or isinstance(output, Mapping):
        raise fault_of(payload, response, operation)
    return payload


def fault_of(
    payload: Mapping[str, Any], response: WireResponse, operation: Operation
) -> errors.BedrockError:
    """Return the error that a response of status 200 reports."""
    code, message = errors.fault_in(payload)
    return errors.from_fault(
        code.rsplit("#", 1)[-1],
        message or f"The service answered {response.status} with an error: {code or 'no text'}.",
        http_status=response.status,
        operation=operation,
        request_id=errors.request_id_in(response.headers),
        unknown=Reason.MODEL_ERROR,
    )


class WholeBody:
    """Read the body that came instead of a stream, to say at its end what it is."""

    def __init__(self, headers: Mapping[str, str], expected: str) -> None:
        self.events: list[str] = []
        self.complete = False
        self._headers, self._expected = headers, expected
        self._body = bytearray()

    def feed(self, data: bytes, at: float) -> None:
        """Collect bytes. Raises BedrockError where they are too many."""
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            self.end()

    def end(self) -> None:
        """Raise the BedrockError that the body is."""
        response = WireResponse(200, self._headers, bytes(self._body))
        try:
            object_of(response, Operation.STREAM)
        except errors.BedrockError as error:
            if error.reason is not Reason.BAD_RESPONSE:
                raise
        raise errors.bad_response(
            response, Operation.STREAM, f"something other than {self._expected}"
        )

    def reply(self, at: float) -> Reply:
        """Return nothing: no event has arrived."""
        raise errors.bad_response(
            WireResponse(200, self._headers, b""),
            Operation.STREAM,
            f"something other than {self._expected}",
        )
