"""Check that a JSON body has the types an operation reads, so that later code can rely on them."""

from __future__ import annotations

from typing import Any

from certification.emulator import refusals

# A shape is a type, a tuple of types, {member: shape} of optional members, or [shape] of every
# element.
Shape = Any
NUMBER = (int, float)
ANYTHING = object

_NAMES = {
    dict: "JSONObject",
    list: "JSONArray",
    str: "String",
    bool: "Boolean",
    int: "Integer",
    float: "Number",
}


def check(value: Any, shape: Shape, path: str = "#") -> None:
    """Refuse a value with a part of another type than the shape's; the message names the part."""
    if isinstance(shape, dict):
        _expect(value, (dict,), path)
        for member, inner in shape.items():
            if member in value:
                check(value[member], inner, f"{path}/{member}")
    elif isinstance(shape, list):
        _expect(value, (list,), path)
        for i, element in enumerate(value):
            check(element, shape[0], f"{path}/{i}")
    elif shape is not ANYTHING:
        _expect(value, shape if isinstance(shape, tuple) else (shape,), path)


def _expect(value: Any, types: tuple[type, ...], path: str) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise refusals.malformed(
            path, f"expected type: {_NAMES[types[-1]]}, found: {_NAMES.get(type(value), 'Null')}"
        )


def without_nulls(value: Any) -> Any:
    """Return the value without members that are null: the service ignores those."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


TOOL_CHOICE = {"auto": dict, "any": dict, "tool": {"name": str}}
CONVERSE = {
    "messages": [
        {
            "content": [
                {
                    "text": str, "image": dict, "document": dict, "video": dict, "audio": dict,
                    "toolUse": {"toolUseId": str, "name": str},
                    "toolResult": {"toolUseId": str, "content": [{"text": str}]},
                }
            ]
        }
    ],
    "system": [{"text": str}],
    "inferenceConfig": {
        "maxTokens": int, "temperature": NUMBER, "topP": NUMBER, "stopSequences": [str],
    },
    "toolConfig": {
        "tools": [{"toolSpec": {"name": str, "description": str, "inputSchema": dict}}],
        "toolChoice": TOOL_CHOICE,
    },
    "additionalModelRequestFields": dict,
    "outputConfig": {"textFormat": {"structure": {"jsonSchema": dict}}},
}  # fmt: skip
