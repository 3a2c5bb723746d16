"""JSON as it should be: one object, no key twice, no text that a database cannot hold."""

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
        most = settings.API_MAX_BODY_BYTES
        body = stream.read(most + 1)
        if len(body) > most:
            raise TooLarge
        return parse(body)


def parse(body: bytes) -> dict[str, Any]:
    """The object in a request's body; an empty body is an empty object. Raises ParseError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ParseError(_("The body is not UTF-8 (byte %d).") % error.start) from error
    if not text.strip():
        return {}
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno}
        raise ParseError(
            _("The body is not JSON: line %(line)d, column %(column)d.") % where
        ) from error
    except RecursionError as error:
        raise ParseError(_("The body is nested too deeply.")) from error
    except ValueError as error:  # numbers of thousands of digits, halves of surrogate pairs
        raise ParseError(_("The body holds a number or a text that cannot be stored.")) from error
    if not isinstance(found, dict):
        raise ParseError(_("The body must be a JSON object."))
    return found


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _times)] = Counter(key for key, _value in pairs).most_common(1)
        raise ParseError(_("The key %s stands twice in the same object.") % json.dumps(twice[:60]))
    return found


def _constant(name: str) -> Any:
    raise ParseError(_("%s is not a JSON value.") % name)
