"""From what AWS said to what is wrong: category, reason, whether a retry helps, and what to do.

The class of an error does not decide: AccessDenied can be IAM, an organisation's policy, a missing
form or an unpaid bill. The code says in which family of causes to look, the words decide, and the
code alone decides only what the words leave open. What nothing matches is `unknown`, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from certification.bedrock import codes, fixes
from certification.bedrock.codes import Code
from certification.bedrock.fixes import Fix
from certification.reasons import ErrorCategory, Reason

# an error can carry a page of HTML or a traceback: its cause stands at the beginning or at the end
_HALF = 4000
_QUOTES = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "ʼ": "'",
        "´": "'",
        "“": '"',
        "”": '"',
        "\u00a0": " ",
        "\u2011": "-",
        "–": "-",
    }
)
_UNICODE_ESCAPE = re.compile(r"\\{1,9}u([0-9a-fA-F]{4})")
_ESCAPED_SPACE = re.compile(r"\\{1,9}[nrt]")
_ESCAPED_QUOTE = re.compile(r"\\{1,9}(?=[\"'])")
_INNER_DOT = re.compile(r"\.(?=[^\s\"'])")
_OCCURRED = re.compile(r"An error occurred \(([\w.]+)\)")
# CamelCase: only those that `codes` knows are looked at
_NAMED = re.compile(r"\b[A-Za-z]+[a-z][A-Z]\w+\b")
_STATUS = re.compile(
    r"(?:status(?: ?code)?|https?(?:/[\d.]+)?|error|rejected|forbidden)\W{0,4}([45]\d\d)\b|^\W{0,3}([45]\d\d)\b"
)


_FIELDS = ("message", "code", "http_status", "operation")
_EXAMPLE = '{"message": "...", "code": "AccessDeniedException", "http_status": 403, "operation": "Converse"}'


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, and what to do about it."""

    category: ErrorCategory
    reason: Reason
    retryable: bool
    fix: Fix


def diagnose(
    message: str | None,
    code: str | int | None = "",
    http_status: object = None,
    operation: str | None = "",
    *,
    model_id: str = "",
    region: str = "",
) -> Diagnosis:
    """What an error of Bedrock, of botocore or of a wrapper around them means.

    `code` is an AWS code, a stream's exception name, an exception's class name, a bare status, or
    nothing. `model_id` and `region` fill the fix's command; where they are not given they are read
    from the message. Never raises.
    """
    raw = message or ""
    if len(raw) > 2 * _HALF:
        raw = f"{raw[:_HALF]} {raw[-_HALF:]}"
    text = normalise(raw)
    reason, hint = _decide(text, _code(raw, str(code or ""), http_status))
    model_id, region = model_id or fixes.model_in(raw), region or fixes.region_in(raw)
    fix = fixes.fix_for(
        reason, model_id=model_id, region=region, operation=operation or "", hint=hint
    )
    return Diagnosis(reason.category, reason, reason.retryable, fix)


def diagnose_json(line: str, *, model_id: str = "", region: str = "") -> dict[str, object]:
    """One answer for one pasted line: `{"message", "code", "http_status", "operation"}`, every
    field optional, or the bare text of an error.

    A line that holds neither is answered with an `error` that says what to do.
    """
    try:
        asked = _asked(line)
    except ValueError as error:
        return {"error": str(error)}
    message, operation = (_as_text(asked.get(name)) for name in ("message", "operation"))
    code = _as_text(asked.get("code"))
    told = diagnose(
        message, code, asked.get("http_status"), operation, model_id=model_id, region=region
    )
    return {
        "category": told.category.value,
        "reason": told.reason.value,
        "retryable": told.retryable,
        "fix": told.fix.text,
        "command": told.fix.command,
        "who": told.fix.who,
        "wait": told.fix.wait,
        "url": told.fix.url,
    }


def _asked(line: str) -> dict[str, Any]:
    """What a line asks about. ValueError with a sentence when it asks about nothing."""
    shown = repr(line.strip()[:80])
    try:
        asked = json.loads(line)
    except RecursionError:
        raise ValueError(
            f"This line is not JSON: {shown}. Write one object a line, {_EXAMPLE}."
        ) from None
    except ValueError:
        if line.lstrip().startswith("{") or not any(sign.isalnum() for sign in line):
            raise ValueError(
                f"This line is not JSON: {shown}. Write one object a line, {_EXAMPLE}."
            ) from None
        return {"message": line.strip()}
    if isinstance(asked, str) and asked.strip():
        return {"message": asked}
    if not isinstance(asked, dict):
        raise ValueError(f"This line is JSON but no object: {shown}. Write {_EXAMPLE}.")
    if not asked.keys() & set(_FIELDS):
        raise ValueError(
            f"This object names no {', '.join(_FIELDS[:-1])} or {_FIELDS[-1]}: {shown}. Write {_EXAMPLE}."
        )
    return asked


def normalise(message: str) -> str:
    """Lower case, plain quotes, JSON and string escapes undone at any depth, whitespace to single
    spaces.

    Dots inside ids, hosts, numbers and field paths become `·`, so that a rule's `[^.]` means "in
    the same sentence".
    """
    text = _UNICODE_ESCAPE.sub(lambda m: chr(int(m.group(1), 16)), message)
    text = _ESCAPED_QUOTE.sub("", _ESCAPED_SPACE.sub(" ", text)).translate(_QUOTES)
    return _INNER_DOT.sub("·", " ".join(text.split()).lower())


def _decide(text: str, code: Code) -> tuple[Reason, str]:
    for rule in () if code.final else code.rules:
        if rule.matches(text):
            return rule.reason, rule.hint
    return code.reason, code.hint


def _code(raw: str, code: str, http_status: object) -> Code:
    """The most trustworthy code at hand: the given one, one named in the text, a wrapper's, a
    status, none.
    """
    given = codes.lookup(code)
    if given and given.reason is not Reason.UNKNOWN:
        return given
    named = list(_names_in(raw))
    for table in (codes.AWS, codes.CLIENT, codes.WRAPPERS):
        for name in named:
            found = table.get(codes.canonical(name))
            if found and found.reason is not Reason.UNKNOWN:
                return replace(found, loose=True, final=False)
    for status in (code, http_status, _status_in(raw)):
        if found := codes.STATUSES.get(_number(status)):
            return found
    return given or codes.NONE


def _names_in(raw: str) -> Iterator[str]:
    yield from _OCCURRED.findall(raw)
    yield from _NAMED.findall(raw)


def _status_in(raw: str) -> str:
    match = _STATUS.search(raw.lower())
    return (match.group(1) or match.group(2)) if match else ""


def _number(status: object) -> int:
    try:
        return int(status or 0)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return 0


def _as_text(value: object) -> str:
    """A pasted field as text: an error body may have been pasted as the object it is."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
