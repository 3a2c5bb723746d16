"""InvokeModel for embedding models: each vendor's own JSON, which no common operation hides."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from certification.bedrock import errors, fixes
from certification.inference import Operation
from certification.reasons import Reason

Vector = tuple[float, ...]
UNKNOWN_FAMILY = fixes.Fix(
    fixes.gettext_noop(
        "Update this application: it cannot test this family of embedding models yet."
    ),
    who=fixes.OPERATOR,
)
COHERE_BATCH = 96  # the maximum of texts in one call of Cohere's


def titan_body(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputText": text}  # the first generation has no other member


def titan_v2_body(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputText": text} | ({"dimensions": dimensions} if dimensions else {})


def titan_image_body(text: str, dimensions: int | None) -> dict[str, Any]:
    size = {"embeddingConfig": {"outputEmbeddingLength": dimensions}} if dimensions else {}
    return {"inputText": text, **size}


def nova_body(text: str, dimensions: int | None) -> dict[str, Any]:
    size = {"embeddingDimension": dimensions} if dimensions else {}
    params = {
        "embeddingPurpose": "GENERIC_INDEX",
        **size,
        "text": {"truncationMode": "END", "value": text},
    }
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}


def marengo_2_body(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputType": "text", "inputText": text}


def marengo_body(text: str, dimensions: int | None) -> dict[str, Any]:
    return {"inputType": "text", "text": {"inputText": text}}


# By a part of the model id, the most specific first: ids come bare, versioned, with a profile's
# prefix, or in an ARN.
BODY_OF_ONE_TEXT: tuple[tuple[str, Callable[[str, int | None], dict[str, Any]]], ...] = (
    ("titan-embed-image", titan_image_body),
    ("titan-embed-text-v2", titan_v2_body),
    ("titan-embed", titan_body),
    ("marengo-embed-2", marengo_2_body),
    ("marengo-embed", marengo_body),
    ("multimodal-embeddings", nova_body),
)


def takes_batches(model_id: str) -> bool:
    """Tell whether one call of this model embeds several texts."""
    return "cohere.embed" in model_id


def groups(model_id: str, texts: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Group the texts by call, in order."""
    size = COHERE_BATCH if takes_batches(model_id) else 1
    return tuple(texts[start : start + size] for start in range(0, len(texts), size))


def body(model_id: str, texts: tuple[str, ...], dimensions: int | None) -> str:
    """Return the request body for one of `groups`.

    `dimensions` is left out where a model has one size only. Raises BedrockError
    (client_misconfigured) for a family whose requests we do not know.
    """
    if takes_batches(model_id):
        wire: dict[str, Any] = {"texts": list(texts), "input_type": "search_document"}
        if "embed-v4" in model_id:
            wire["embedding_types"] = ["float"]
            if dimensions:
                wire["output_dimension"] = dimensions
        return json.dumps(wire)
    for part, body_of in BODY_OF_ONE_TEXT:
        if part in model_id:
            return json.dumps(body_of(texts[0], dimensions))
    raise errors.error(
        Reason.CLIENT_MISCONFIGURED,
        f"This application cannot request embeddings from {model_id}.",
        operation=Operation.EMBED,
        fix=UNKNOWN_FAMILY,
    )


def vectors_from(payload: Mapping[str, Any]) -> tuple[Vector, ...]:
    """Return the vectors in any of the vendors' responses, in order.

    Empty when there are none or one of them is not a list of numbers.
    """
    by_type = payload.get("embeddingsByType")  # Titan's second generation
    single = payload.get("embedding") or (
        by_type.get("float") if isinstance(by_type, Mapping) else None
    )
    several = payload.get("embeddings") or payload.get("data")
    if isinstance(several, Mapping):  # Cohere by type; Marengo's single object
        several = several.get("float") or [several]
    items = [single] if single else several if isinstance(several, list) else []
    vectors = []
    for item in items:
        vector = item.get("embedding") if isinstance(item, Mapping) else item
        numbers = isinstance(vector, list) and all(type(x) in (int, float) for x in vector)
        if not vector or not numbers:
            return ()
        try:
            vectors.append(tuple(map(float, vector)))
        except OverflowError:  # JSON has integers of any size
            return ()
    return tuple(vectors)


def tokens_from(payload: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
    """Return the input tokens as the body or the response's headers (lower case) report them.

    None when neither does.
    """
    for count in (
        payload.get("inputTextTokenCount"),
        headers.get("x-amzn-bedrock-input-token-count"),
    ):
        if isinstance(count, int) or (isinstance(count, str) and re.fullmatch(r"\d{1,18}", count)):
            return int(count)
    return None
