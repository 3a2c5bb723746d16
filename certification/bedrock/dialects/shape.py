"""Read JSON that others wrote: what is absent is empty, what has the wrong kind is an error."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any


class WrongShape(ValueError):
    """JSON is not as the API describes it; the text completes "The service answered with"."""


def loads(text: str | bytes | bytearray) -> Any:
    """Return the value of a JSON text.

    Raises WrongShape for anything else, also for NaN, hostile nesting and bytes that are no UTF-8.
    """
    try:
        return DECODER.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as exc:
        raise WrongShape("a body that is not JSON") from exc


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)  # built once: it costs as an event does


def mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object's member that is an object, empty where absent. Raises WrongShape."""
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise WrongShape(f"a {name} that is not an object")
    return value


def items(raw: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return an object's member that is a list of objects, without nulls. Raises WrongShape."""
    value = raw.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(v is None or isinstance(v, Mapping) for v in value):
        raise WrongShape(f"a {name} that is not a list of objects")
    return [item for item in value if item is not None]


def text(raw: Mapping[str, Any], name: str) -> str:
    """Return an object's member that is text, "" where it is anything else."""
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def hidden(raw: Mapping[str, Any], name: str) -> bytes:
    """Return text that only the service can read, as the bytes of a redacted thought."""
    return text(raw, name).encode(errors="replace")


def index(raw: Mapping[str, Any], name: str) -> int:
    """Return the place of a block, 0 where absent. Raises WrongShape."""
    value = raw.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongShape(f"a {name} that is not a number")
    return value


def count(raw: Mapping[str, Any], name: str) -> int | None:
    """Return a number of tokens, None where it is none."""
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def blob(value: Any) -> bytes:
    """Return the bytes that base64 text stands for, none where absent. Raises WrongShape."""
    if value is None:
        return b""
    if isinstance(value, bytes):  # of a parsed answer of botocore's
        return value
    try:
        return base64.b64decode(value)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise WrongShape("bytes that are not base64") from exc


def encode_blob(data: bytes) -> str:
    return base64.b64encode(data).decode()


def only_member(raw: Mapping[str, Any], what: str) -> tuple[str, Any]:
    """Return name and value of a union's only member. Raises WrongShape for none or several."""
    members = [
        (name, value) for name, value in raw.items() if value is not None and name != "__type"
    ]
    if len(members) != 1:
        raise WrongShape(f"a {what} with {len(members)} members instead of one")
    return members[0]
