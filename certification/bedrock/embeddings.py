"""InvokeModel for embedding models: each vendor's own JSON, which no common operation hides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Vector = tuple[float, ...]


def takes_batches(model_id: str) -> bool:
    """Whether one call of this model embeds several texts. Profile prefixes do not matter."""
    return "cohere.embed" in model_id


def body(model_id: str, texts: tuple[str, ...], dimensions: int | None) -> str:
    """The request body for these texts (one text unless `takes_batches`). ValueError for a family we do not know."""
    wire: dict[str, Any]
    if "cohere.embed" in model_id:
        wire = {"texts": list(texts), "input_type": "search_document"}
        if "embed-v4" in model_id:
            wire["embedding_types"] = ["float"]
            if dimensions:
                wire["output_dimension"] = dimensions
    elif "titan-embed-image" in model_id:
        wire = {"inputText": texts[0]}
        if dimensions:
            wire["embeddingConfig"] = {"outputEmbeddingLength": dimensions}
    elif "titan-embed" in model_id:
        wire = {"inputText": texts[0]}
        if dimensions and "v2" in model_id:
            wire["dimensions"] = dimensions
    elif "nova" in model_id:
        params: dict[str, Any] = {
            "embeddingPurpose": "GENERIC_INDEX",
            "text": {"truncationMode": "END", "value": texts[0]},
        }
        if dimensions:
            params["embeddingDimension"] = dimensions
        wire = {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}
    elif "marengo-embed-3" in model_id:
        wire = {"inputType": "text", "text": {"inputText": texts[0]}}
    elif "marengo-embed" in model_id:
        wire = {"inputType": "text", "inputText": texts[0]}
    else:
        raise ValueError(f"No embedding request is known for {model_id}.")
    return json.dumps(wire)


def vectors_from(payload: Mapping[str, Any]) -> tuple[Vector, ...]:
    """The vectors in any of the vendors' answers, in order; empty when there are none."""
    found: Any = payload.get("embedding")
    if isinstance(found, list) and found:
        return (_vector(found),)
    found = payload.get("embeddings") or payload.get("data")
    if isinstance(found, Mapping):
        found = found.get("float")
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list):
        return ()
    return tuple(_vector(item["embedding"] if isinstance(item, Mapping) else item) for item in found)


def _vector(raw: list[Any]) -> Vector:
    return tuple(float(x) for x in raw)
