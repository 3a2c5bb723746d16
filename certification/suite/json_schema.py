"""Check JSON values against a JSON Schema (2020-12) that an operator wrote.

Such a schema is foreign: it resolves no reference outside itself, its patterns and the whole check
are cut in time, and no exception of the library escapes.

A module of its own, imported where a schema is checked: jsonschema takes a fifth of a second to
import, which most processes never need.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from certification.suite import patterns

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_CHECK_S = 1.0  # processor time of one check, that of its patterns included
MAX_CHARACTERS = 50_000  # of a schema as JSON
MAX_SUBSCHEMAS = 1_000
MAX_DEPTH = 40  # of subschemas in subschemas
REFERENCES = ("$ref", "$dynamicRef")

Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], "Errors | None"]

_deadline: ContextVar[float] = ContextVar("deadline")


def first_violation(value: Any, schema: Mapping[str, Any]) -> str:
    """Say where and how a value violates a schema; "" if it does not.

    Raises TimeoutError when the check takes longer than MAX_CHECK_S.
    """
    token = _deadline.set(time.thread_time() + MAX_CHECK_S)
    try:
        problem, validator = validator_of(json.dumps(schema))
        if problem:
            return f"it cannot be checked: {problem}"
        error = next(validator.iter_errors(value), None)
    except TimeoutError:
        raise
    except RecursionError:
        return "it cannot be checked: it is nested too deeply"
    # jsonschema raises anything on a schema that is invalid: KeyError, AttributeError, TypeError...
    except Exception as fault:  # noqa: BLE001
        return f"it cannot be checked ({type(fault).__name__})"
    finally:
        _deadline.reset(token)
    if error is None:
        return ""
    where = "/".join(str(p) for p in error.absolute_path)
    return f"{where}: {error.message}" if where else error.message


@lru_cache(maxsize=64)
def validator_of(document: str) -> tuple[str, Any]:
    """Return what is wrong with a schema, given as JSON, and what checks by it. Cached: the answers
    of one tool are checked by the same schema, and to prepare it costs more than the check.
    """
    schema = json.loads(document)
    return document_error(schema), Validator(own_document(schema), registry=Registry())


def schema_error(schema: Mapping[str, Any]) -> str:
    """Say what makes a schema invalid or unusable here; "" if it can be used."""
    if problem := document_error(schema):
        return problem
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        return error.message
    return ""


def document_error(schema: Mapping[str, Any]) -> str:
    """Say why a schema cannot be used as a document of its own; "" if it can: how large it is,
    where its references lead, and whether its patterns can be compiled.
    """
    try:
        size = len(json.dumps(schema))
    except RecursionError:
        return "it is nested too deeply"
    if size > MAX_CHARACTERS:
        return f"it has {size} characters; use at most {MAX_CHARACTERS}"
    if schema.get("$schema", DIALECT) not in (DIALECT, f"{DIALECT}#"):
        return f'"$schema" names another dialect; leave it out, or use {DIALECT}'
    root = own_document(schema)
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(root))
    visited: set[int] = set()
    keywords: set[str] = set()
    pending: list[tuple[Any, int]] = [(root, 1)]
    while pending:
        subschema, depth = pending.pop()
        if not isinstance(subschema, Mapping) or id(subschema) in visited:
            continue
        visited.add(id(subschema))
        keywords.update(subschema)
        if depth > MAX_DEPTH or len(visited) > MAX_SUBSCHEMAS:
            return f"use at most {MAX_SUBSCHEMAS} subschemas, {MAX_DEPTH} in each other"
        if problem := keyword_error(subschema):
            return problem
        for reference in filter(None, map(subschema.get, REFERENCES)):
            try:
                target = resolver.lookup(reference).contents
            except (Unresolvable, LookupError, TypeError, ValueError):
                return f"nothing in the schema is at the reference {reference}"
            if not isinstance(target, Mapping | bool):
                return f"at the reference {reference} is no schema"
            pending.append((target, depth))
        try:
            nested = list(DRAFT202012.create_resource(subschema).subresources())
        except (AttributeError, TypeError):  # {"properties": 5}
            return "it is not a valid schema"
        pending += [(resource.contents, depth + 1) for resource in nested]
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        # jsonschema searches these patterns itself, without a limit of time
        return '"unevaluatedProperties" cannot be combined with "patternProperties"'
    return ""


def keyword_error(subschema: Mapping[str, Any]) -> str:
    """Say which keyword of one subschema cannot be used, and why; "" if all can."""
    for name in REFERENCES:
        reference = subschema.get(name, "#")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return f'"{name}" may only lead to a place in the schema itself, such as "#/$defs/name"'
    if "$schema" in subschema or "$id" in subschema:
        return '"$schema" and "$id" may only be at the top of the schema'
    by_pattern = subschema.get("patternProperties", {})
    if not isinstance(by_pattern, Mapping):
        return '"patternProperties" is not an object'
    for pattern in (*by_pattern, subschema.get("pattern", "")):
        if problem := patterns.pattern_error(pattern):
            return f"the pattern {str(pattern)[:100]!r} cannot be used: {problem}"
    return ""


def own_document(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without the names that say where it is from: "$schema" would have another
    class check it, "$id" would be the base of its references.
    """
    return {name: value for name, value in schema.items() if name not in ("$schema", "$id")}


# Keywords in limited time


def seconds_left() -> float:
    """Return the processor time that is left of the check. Raises TimeoutError without any."""
    left = _deadline.get() - time.thread_time()
    if left <= 0:
        raise TimeoutError(f"the check took longer than {MAX_CHECK_S:.0f} s")
    return left


def timed(keyword: Keyword) -> Keyword:
    """Have a keyword look at the time before it checks a value."""

    def check(validator: Any, expected: Any, value: Any, schema: Any) -> Errors:
        seconds_left()
        yield from keyword(validator, expected, value, schema) or ()

    return check


def search(pattern: str, text: str) -> bool:
    """Search for a pattern in the time that is left."""
    return patterns.search(pattern, text, seconds_left())


def check_pattern(validator: Any, pattern: str, value: Any, _schema: Any) -> Errors:
    if validator.is_type(value, "string") and not search(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def check_pattern_properties(validator: Any, expected: Any, value: Any, _schema: Any) -> Errors:
    if not validator.is_type(value, "object"):
        return
    for pattern, subschema in expected.items():
        for name, member in value.items():
            if search(pattern, name):
                yield from validator.descend(member, subschema, path=name, schema_path=pattern)


def check_additional(validator: Any, subschema: Any, value: Any, schema: Any) -> Errors:
    if not validator.is_type(value, "object"):
        return
    known, by_pattern = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, member in value.items():
        if name in known or any(search(pattern, name) for pattern in by_pattern):
            continue
        if subschema is False:
            yield ValidationError(f"Additional properties are not allowed ({name!r} is unexpected)")
        else:
            yield from validator.descend(member, subschema, path=name)


def check_unique(validator: Any, expected: bool, value: Any, _schema: Any) -> Errors:
    """Compare items by their JSON: comparing each with each takes hours for a long answer."""
    if not expected or not validator.is_type(value, "array"):
        return
    items = {json.dumps(plain_numbers(item), sort_keys=True) for item in value}
    if len(items) < len(value):
        yield ValidationError("the array has non-unique items")


def plain_numbers(value: Any) -> Any:
    """Write whole numbers without a point, as JSON Schema compares them: 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [plain_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: plain_numbers(member) for name, member in value.items()}
    return value


KEYWORDS: dict[str, Keyword] = {
    **Draft202012Validator.VALIDATORS,
    "pattern": check_pattern,
    "patternProperties": check_pattern_properties,
    "additionalProperties": check_additional,
    "uniqueItems": check_unique,
}
Validator = extend(
    Draft202012Validator, {name: timed(keyword) for name, keyword in KEYWORDS.items()}
)
