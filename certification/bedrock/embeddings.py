"""InvokeModel for embedding models: each vendor's own JSON, which no common operation hides."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from certification.bedrock import errors, fixes
from certification.inference import Operation
from certification.reasons import Reason

Vector = tuple[float, ...]
_TEACH_US = fixes.Fix(
    "Update this application: it cannot test this family of embedding models yet.",
    who=fixes.OPERATOR,
)
COHERE_BATCH = 96  # the most texts that one call of Cohere's takes


def _titan(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputText": text}  # the first generation has no other member


def _titan_v2(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputText": text} | ({"dimensions": dimensions} if dimensions else {})


def _titan_image(text: str, dimensions: int | None) -> dict[str, Any]:
    size = {"embeddingConfig": {"outputEmbeddingLength": dimensions}} if dimensions else {}
    return {"inputText": text, **size}


def _nova(text: str, dimensions: int | None) -> dict[str, Any]:
    size = {"embeddingDimension": dimensions} if dimensions else {}
    asked = {
        "embeddingPurpose": "GENERIC_INDEX",
        **size,
        "text": {"truncationMode": "END", "value": text},
    }
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": asked}


def _marengo_2(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputType": "text", "inputText": text}


def _marengo(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputType": "text", "text": {"inputText": text}}


# By a part of the model id, the most telling first: ids come bare, versioned, with a profile's
# prefix, or in an ARN.
_ONE_TEXT: tuple[tuple[str, Callable[[str, int | None], dict[str, Any]]], ...] = (
    ("titan-embed-image", _titan_image),
    ("titan-embed-text-v2", _titan_v2),
    ("titan-embed", _titan),
    ("marengo-embed-2", _marengo_2),
    ("marengo-embed", _marengo),
    ("multimodal-embeddings", _nova),
)


def takes_batches(model_id: str) -> bool:
    """Whether one call of this model embeds several texts."""
    return "cohere.embed" in model_id


def groups(model_id: str, texts: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The texts as they go into calls, in order."""
    size = COHERE_BATCH if takes_batches(model_id) else 1
    return tuple(texts[start : start + size] for start in range(0, len(texts), size))


def body(model_id: str, texts: tuple[str, ...], dimensions: int | None) -> str:
    """The request body for one of `groups`. Where a model has one size only, `dimensions` is left
    out.

    Raises BedrockError (client_misconfigured) for a family whose requests we do not know.
    """
    if takes_batches(model_id):
        return json.dumps(_cohere(model_id, texts, dimensions))
    for part, wire in _ONE_TEXT:
        if part in model_id:
            return json.dumps(wire(texts[0], dimensions))
    raise errors.error(
        Reason.CLIENT_MISCONFIGURED,
        f"This application does not know how to ask {model_id} for embeddings.",
        operation=Operation.EMBED,
        fix=_TEACH_US,
    )


def _cohere(model_id: str, texts: tuple[str, ...], dimensions: int | None) -> dict[str, Any]:
    wire: dict[str, Any] = {"texts": list(texts), "input_type": "search_document"}
    if "embed-v4" in model_id:
        wire |= {"embedding_types": ["float"]} | (
            {"output_dimension": dimensions} if dimensions else {}
        )
    return wire


def vectors_from(payload: Mapping[str, Any]) -> tuple[Vector, ...]:
    """The vectors in any of the vendors' answers, in order; empty when there are none or one of
    them is not numbers.
    """
    vectors = tuple(_vector(raw) for raw in _raw_vectors(payload))
    return vectors if all(vectors) else ()


def _raw_vectors(payload: Mapping[str, Any]) -> list[Any]:
    by_type = payload.get("embeddingsByType")  # Titan's second generation
    single = payload.get("embedding") or (
        by_type.get("float") if isinstance(by_type, Mapping) else None
    )
    if single:
        return [single]
    found = payload.get("embeddings") or payload.get("data")
    if isinstance(found, Mapping):  # Cohere by type; Marengo's single object
        found = found.get("float") or [found]
    items = found if isinstance(found, list) else []
    return [item.get("embedding") if isinstance(item, Mapping) else item for item in items]


def _vector(raw: Any) -> Vector:
    if not isinstance(raw, list) or not all(type(x) in (int, float) for x in raw):
        return ()
    return tuple(map(float, raw))


def tokens_from(payload: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
    """The input tokens as the body or the response's headers (lower case) tell them; None when
    neither does.
    """
    for count in (
        payload.get("inputTextTokenCount"),
        headers.get("x-amzn-bedrock-input-token-count"),
    ):
        if isinstance(count, int) or (isinstance(count, str) and count.isdecimal()):
            return int(count)
    return None
