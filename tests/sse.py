"""Server-sent events for tests, and recordings of the APIs that stream them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from certification.bedrock import errors
from certification.bedrock.dialects.dialect import Dialect, WireResponse
from certification.inference import Reply, Timing
from tests.paths import RECORDINGS

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "r-1"}
FOLDER = RECORDINGS / "bedrock-apis"
needs_recordings = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the recordings are not beside this checkout"
)


def event(value: Any, name: str = "") -> bytes:
    """One event; the name comes after the data, as GPT on bedrock-mantle sends it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {text}\n{f'event: {name}' if name else ''}\n\n".replace(
        "\n\n\n", "\n\n"
    ).encode()


def read(dialect: Dialect, *pieces: bytes) -> Reply:
    """Feed the pieces, one every tenth of a second from 100.1 on, and end."""
    reader = dialect.stream_reader(100.0, HEADERS)
    for n, piece in enumerate(pieces, 1):
        reader.feed(piece, 100.0 + n / 10)
    reader.end()
    return reader.reply(110.0)


def failure(dialect: Dialect, *pieces: bytes) -> tuple[errors.BedrockError, Reply]:
    """The error that the pieces end in, and what had arrived by then."""
    reader = dialect.stream_reader(100.0, HEADERS)
    with pytest.raises(errors.BedrockError) as caught:  # noqa: PT012
        for piece in pieces:
            reader.feed(piece, 101.0)
        reader.end()
    return caught.value, reader.reply(101.0)


def answer(body: Any, status: int = 200) -> WireResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WireResponse(status, {"x-amzn-requestid": "r-1"}, data)


def decode(dialect: Dialect, body: Any) -> Reply:
    return dialect.decode(answer(body), Timing(5.0))


def decode_error(dialect: Dialect, body: Any) -> errors.BedrockError:
    with pytest.raises(errors.BedrockError) as caught:
        decode(dialect, body)
    return caught.value


@cache
def recordings(api: str, status: int = 200) -> tuple[dict[str, Any], ...]:
    """The recorded interactions of an API; `api` as the files name it."""
    files = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    return tuple(f for f in files if f["api"] == api and f["response"]["status"] == status)
