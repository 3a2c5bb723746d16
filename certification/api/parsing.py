"""Strict JSON: one object, no duplicate key, no text that a database cannot store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from certification.api.envelope import TooLarge


class StrictJSONParser(BaseParser):
    """Request bodies. Raises ParseError (400) with a sentence, TooLarge (413)."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        view = (parser_context or {}).get("view")
        limit = getattr(view, "max_body_bytes", 0) or settings.API_MAX_BODY_BYTES
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise TooLarge
        return parse(body)


def parse(body: bytes) -> dict[str, Any]:
    """Return the object in a request's body, an empty one for no body. Raises ParseError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ParseError(_("The body is not UTF-8 (byte %d).") % error.start) from error
    if not text.strip():
        return {}
    try:
        value = json.loads(text, object_pairs_hook=unique_keys, parse_constant=reject_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = {"line": error.lineno, "column": error.colno}
        raise ParseError(
            _("The body is not JSON: line %(line)d, column %(column)d.") % place
        ) from error
    except RecursionError as error:
        raise ParseError(_("The body is nested too deeply.")) from error
    except ValueError as error:  # numbers of thousands of digits, halves of surrogate pairs
        raise ParseError(
            _("The body contains a number or a text that cannot be stored.")
        ) from error
    if not isinstance(value, dict):
        raise ParseError(_("The body must be a JSON object."))
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """Make an object of its pairs. Raises ParseError for a duplicate key."""
    values = dict(pairs)
    if len(values) < len(pairs):
        [(key, _count)] = Counter(key for key, _value in pairs).most_common(1)
        raise ParseError(_("Duplicate key in an object: %s.") % json.dumps(key[:60]))
    return values


def reject_constant(name: str) -> Any:
    """Refuse what Python accepts and JSON does not: NaN, Infinity."""
    raise ParseError(_("%s is not a JSON value.") % name)
