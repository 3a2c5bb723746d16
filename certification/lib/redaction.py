"""Hide secrets in what is logged, and in what is shown of logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Number
from typing import Any

SECRET_KEYS = re.compile(
    r"passwo?r?d|passphrase|secret|authorization|basic[_-]?auth|(?:api|access|private)[_-]?key"
    r"|credential|cookie",
    re.IGNORECASE,
)
# a secret unless it is a count: session_token="...", but max_tokens=64
TOKEN_KEYS = re.compile(r"token", re.IGNORECASE)
ACCOUNT_ID = re.compile(r"(?<=:)\d{12}(?=:)")
# A login token or an API key of ours, wherever it is: in a misspelt address, in a request that
# gunicorn refuses.
CREDENTIAL = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+(?:\.[\w-]*)?|myia_[\w-]{40,}", re.ASCII)
# A value under a secret-looking name in an address: somebody made a login form a link.
IN_ADDRESS = re.compile(
    r"([?&][\w.%+-]*(?:passwo?r?d|secret|token|(?:api|access|private)[_-]?key|credential)[\w.%+-]*=)"
    r"[^&\s'\"]+",
    re.IGNORECASE | re.ASCII,
)
# Secrets that a sentence or a traceback may quote: of an address, of AWS, and after their names.
QUOTED = re.compile(
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|\b(?:AKIA|ASIA|ABSK)[A-Za-z0-9+/=]{8,}"
    r"|(?<=\bbearer\s)[^\s\"',;]+|(?<=\bbasic\s)[A-Za-z0-9+/=]{8,}"
    r"|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=X-Amz-Signature=)[^&\s]+"
    r"|(?P<name>\b[\w-]*(?:password|passwd|secret|api[_-]?key|access[_-]?key|authorization|cookie"
    r"|token)[\w-]*[\"']?\s*[=:]\s*[\"']?)(?!\d+\b)(?!bearer\b|basic\b|null\b|true\b|false\b)"
    r"[^\s\"',;&)}\]]+",
    re.IGNORECASE,
)
HIDDEN = "[redacted]"


def redact_value(key: object, value: Any) -> Any:
    """Return a value without secrets: hidden whole under a secret-looking key, at any depth; in
    other texts our credentials, and account ids in ARNs.
    """
    name = str(key)
    if value is None or isinstance(value, bool):
        return value
    is_count = isinstance(value, Number | Mapping)
    if SECRET_KEYS.search(name) or (TOKEN_KEYS.search(name) and not is_count):
        return HIDDEN
    if isinstance(value, Mapping):
        return {inner: redact_value(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value("", item) for item in value]
    if isinstance(value, str):
        value = IN_ADDRESS.sub(rf"\1{HIDDEN}", ACCOUNT_ID.sub("************", value))
        return CREDENTIAL.sub(HIDDEN, value)
    return value


def redact_quoted(value: Any) -> Any:
    """Return a JSON value whose texts quote no secret. Slower than `redact_value`: for what is
    shown, not for every line that is written.
    """
    if isinstance(value, Mapping):
        return {name: redact_quoted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [redact_quoted(item) for item in value]
    if isinstance(value, str):
        return QUOTED.sub(lambda match: f"{match['name'] or ''}{HIDDEN}", value)
    return value
