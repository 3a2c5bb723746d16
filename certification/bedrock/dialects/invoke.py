"""InvokeModel, which we call for embeddings only: a path, a vendor's JSON in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certification.bedrock import embeddings, errors
from certification.bedrock.dialects import payload
from certification.bedrock.dialects.converse import model_path
from certification.bedrock.dialects.dialect import JSON_HEADERS, WireRequest, WireResponse
from certification.inference import Operation

HEADERS = JSON_HEADERS | {"accept": "application/json"}


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """What one call brought. `tokens` is None where the response does not count them."""

    vectors: tuple[embeddings.Vector, ...]
    tokens: int | None
    request_id: str


def encode(target_id: str, texts: tuple[str, ...], dimensions: int | None) -> WireRequest:
    """Return the request for one of `embeddings.groups`. Raises BedrockError."""
    body = embeddings.body(target_id, texts, dimensions)
    return WireRequest(model_path(target_id, "invoke"), body.encode(), headers=HEADERS)


def decode(response: WireResponse, expected: int) -> EmbeddedTexts:
    """Return the vectors in a response of status 200. Raises BedrockError for another number."""
    answer: Mapping[str, Any] = payload.object_of(response, Operation.EMBED)
    vectors = embeddings.vectors_from(answer)
    if len(vectors) != expected:
        raise errors.bad_response(
            response, Operation.EMBED, f"{len(vectors)} vectors for {expected} texts"
        )
    tokens = embeddings.tokens_from(answer, response.headers)
    return EmbeddedTexts(vectors, tokens, errors.request_id_in(response.headers))
