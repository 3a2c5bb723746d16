"""Check JSON values against a JSON Schema (2020-12).

A module of its own, imported where a schema is checked: jsonschema takes a fifth of a second to
import, which most processes never need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import UnknownType
from referencing.exceptions import Unresolvable

# what jsonschema raises on a schema or a value that it cannot check
UNCHECKABLE = (
    SchemaError,
    UnknownType,
    Unresolvable,
    re.error,
    RecursionError,
    TypeError,
    ValueError,
    OverflowError,
)


def first_violation(value: Any, schema: Mapping[str, Any]) -> str:
    """Say where and how a value violates a schema; "" if it does not."""
    try:
        error = next(Draft202012Validator(schema).iter_errors(value), None)
    except UNCHECKABLE as problem:
        return f"it cannot be checked ({type(problem).__name__})"
    if error is None:
        return ""
    where = "/".join(str(p) for p in error.absolute_path)
    return f"{where}: {error.message}" if where else error.message


def schema_error(schema: Mapping[str, Any]) -> str:
    """Say what makes a schema invalid; "" if it is valid."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return error.message
    return ""
