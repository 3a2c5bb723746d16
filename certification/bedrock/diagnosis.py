"""Diagnose an error message of AWS: category, reason, whether a retry helps, and what to do.

The class of an error does not decide: AccessDenied can be IAM, an organization's policy, a missing
form or an unpaid bill. The code says in which family of causes to search, the text decides, and the
code alone decides only what the text leaves open. What nothing matches is `unknown`, never a guess.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from certification.bedrock import codes, fixes
from certification.bedrock.codes import Code
from certification.bedrock.credentials import Credential, credential_in
from certification.bedrock.fixes import Fix
from certification.bedrock.sentences import cut_reason
from certification.reasons import ErrorCategory, Reason

# an error can carry a page of HTML or a traceback: its cause is at the beginning or at the end
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
    r"(?:status(?:[ _-]?(?:code|line))?|https?(?:/[\d.]+)?|error|code|rejected|forbidden"
    r"|does not indicate success|(?:returned|responded with|failed with|received|got)"
    r"(?: an?)?(?: http| error| status)*)\W{0,4}([45]\d\d)\b"
    r"|^\W{0,3}([45]\d\d)\b",
    re.MULTILINE,
)
# What a log, a command line or an SDK writes before the message itself, in normalised text.
_WRAPPING = re.compile(
    r"""(?x)
    \[[^\]]{0,80}\]                                        # [error], [main], [2026-01-31 ...]
    | \d{4}[-/]\d\d[-/]\d\d(?:[t ]\d\d:\d\d(?::[\d·,]+)?)?(?:z|\ ?[+-]\d\d:?\d\d)?
    | (?:[a-z]{3},?\ )?[a-z]{3}\ +\d{1,2}\ \d\d:\d\d:\d\d(?:\ [\w·-]+\ [\w·/-]+(?:\[\d+\])?:)?
    | \d\d:\d\d:\d\d[\d·,]*
    | (?:std(?:err|out)\ [fp]\b)
    | (?:trace|debug|info|notice|warn(?:ing)?|error|err|fatal|critical|severe|panic|failure)\b
    | (?:level|severity|lvl|ts|time|timestamp|logger|source|caller|thread)=(?:"[^"]*"|\S+)
    | (?:msg|message|err|error|exception|detail|errormessage)=
    | (?:msg|message|error|errormessage|detail|reason)['"]?\ ?:
    | api\ error\b | error\ code\b
    | (?:http/?[\d·]*\ |http\ ?)?(?:status(?:\ ?code)?\W{0,2})?[45]\d\d\b
    | an\ error\ occurred\ \(\w+\)\ when\ calling\ the\ \w+\ operation(?:\ \([^)]*\))?
    | (?:exception\ in\ thread\ "[^"]*"|caused\ by|uncaught|unhandled)
    | [\w·$:/-]*(?:error|exception|fault)(?:\ \[[^\]]*\])?(?:\ \(\w+\))?(?=:)
    | [a-z_][\w·/$@-]*(?::\d+)?(?=\ ?(?::\ |-\ |---\ |\|\ ))         # a logger's name
    | \d{1,7}(?=\ ---)                                        # a process
    | [:|>\s"'({=-]+
    """
)
_SUFFIX = re.compile(
    r"\s*(?:\((?:service|sdk attempt count|request ?id|status code|attempt)[^)]*\)"
    r"|,? ?request ?id:? ?[\w-]+|[\"'})\].]+)$"
)


# where a geographic profile can be called from, by the beginning of the region's code
_GEOGRAPHIES = {
    "us": ("us-", "ca-"),
    "us-gov": ("us-gov-",),
    "eu": ("eu-",),
    "apac": ("ap-",),
    "jp": ("ap-northeast-",),
    "au": ("ap-southeast-",),
    "ca": ("ca-",),
    "in": ("ap-south-",),
}
_GEO_PROFILE = re.compile(rf"\b({'|'.join(sorted(_GEOGRAPHIES, reverse=True))})\.[a-z0-9]+\.[a-z]")
_OPENAI_SHAPED = {"chatcompletions", "responses", "messages"}

_FIELDS = ("message", "code", "http_status", "operation")
# where logs of programs, of containers and of clouds keep the text of an error
_TEXT_FIELDS = (
    "message", "msg", "@message", "error", "err", "errorMessage", "error_message", "exception",
    "exc_info", "detail", "details", "cause", "stack_trace", "stack", "log", "textPayload",
    "jsonPayload", "body", "Message", "Error", "event", "fault", "errors",
)  # fmt: skip
_CODE_FIELDS = ("code", "__type", "errorCode", "error_code", "error_type", "type", "name")
_STATUS_FIELDS = ("http_status", "status", "statusCode", "status_code", "httpStatusCode")
_EXAMPLE = (
    '{"message": "...", "code": "AccessDeniedException", "http_status": 403, '
    '"operation": "Converse"}'
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, and what to do about it."""

    category: ErrorCategory
    reason: Reason
    retryable: bool
    fix: Fix


class Cause(NamedTuple):
    """What code and text of an error say, before the call it belongs to is looked at. `text` is the
    message as the rules read it, `credential` the kind that it names.
    """

    reason: Reason
    hint: str
    text: str
    credential: Credential | None


def diagnose(
    message: str | None,
    code: str | int | None = "",
    http_status: object = None,
    operation: str | None = "",
    *,
    model_id: str = "",
    region: str = "",
    credential: Credential | None = None,
) -> Diagnosis:
    """Diagnose an error of Bedrock, of botocore or of a wrapper around them. Never raises.

    `code` is an AWS code, a stream's exception name, an exception's class name, a bare status, or
    nothing. `model_id` and `region` fill the fix's command; without them the message's are used.
    `credential` is the kind that was used, where the caller knows it.
    """
    raw = message or ""
    if len(raw) > 2 * _HALF:
        raw = f"{raw[:_HALF]} {raw[-_HALF:]}"
    status = http_status if isinstance(http_status, int | float | str) else None
    reason, hint, text, named = cause_of(raw, str(code or ""), status)
    if reason is Reason.UNKNOWN_MODEL and "identifier is invalid" in text:
        reason = refusal_of_id(raw, operation or "", model_id, region)
    model_id, region = model_id or fixes.model_in(raw), region or fixes.region_in(raw)
    fix = fixes.fix_for(
        reason,
        model_id=model_id,
        region=region,
        operation=operation or "",
        hint=hint,
        denied=fixes.denied_action(raw),
        credential=credential or named,
    )
    return Diagnosis(reason.category, reason, reason.retryable, fix)


@lru_cache(maxsize=256)
def cause_of(raw: str, code: str, http_status: float | str | None) -> Cause:
    """Search the rules for the cause. Cached: a service says the same to many calls, and the search
    costs as much as the rest of a refused call.
    """
    text = normalise(raw)
    inner = unwrap(text)
    row = select_code(raw, inner, code, http_status)
    credential = credential_in(f"{text} {code}".lower())
    if row.final:
        return Cause(row.reason, row.hint, text, credential)
    if cut := cut_reason(text):
        return Cause(cut, "", text, credential)
    both = f"{text}\n{inner}" if inner and inner != text else text
    for rule in row.rules:
        if rule.matches(both):
            return Cause(rule.reason, rule.hint, text, credential)
    return Cause(row.reason, row.hint, text, credential)


def refusal_of_id(message: str, operation: str, model_id: str, region: str) -> Reason:
    """Return what "model identifier is invalid" means, which Bedrock says of three things.

    A geographic profile outside its geography, an id of the other endpoint on a path of the
    OpenAI-shaped APIs, and an id that it does not know.
    """
    profile = _GEO_PROFILE.search(model_id or message)
    region = region or fixes.region_in(message)
    if profile and region and not region.startswith(_GEOGRAPHIES[profile.group(1)]):
        return Reason.NOT_IN_REGION
    if codes.canonical(operation).removesuffix("stream") in _OPENAI_SHAPED:
        return Reason.WRONG_ROUTE
    return Reason.UNKNOWN_MODEL


def diagnose_json(line: str, *, model_id: str = "", region: str = "") -> dict[str, object]:
    """Diagnose one pasted line: the text of an error, or a JSON object.

    The fields `message`, `code`, `http_status` and `operation` of an object are all optional; those
    of JSON logs and of error bodies are read too. A line that holds none of them gets an `error`
    that says what to do.
    """
    try:
        fields = parse_line(line)
    except ValueError as error:
        return {"error": str(error)}
    message = "\n".join(filter(None, (as_text(fields.get(name)) for name in _TEXT_FIELDS)))
    code = next((c for c in (as_text(fields.get(n)) for n in _CODE_FIELDS) if c), "")
    operation = as_text(fields.get("operation")) or as_text(fields.get("api"))
    status = next((fields[n] for n in _STATUS_FIELDS if fields.get(n)), None)
    diagnosis = diagnose(message, code, status, operation, model_id=model_id, region=region)
    return {
        "category": diagnosis.category.value,
        "reason": diagnosis.reason.value,
        "retryable": diagnosis.retryable,
        "fix": diagnosis.fix.text,
        "command": diagnosis.fix.command,
        "who": diagnosis.fix.who,
        "wait": diagnosis.fix.wait,
        "url": diagnosis.fix.url,
    }


def parse_line(line: str) -> dict[str, Any]:
    """Return the fields of a pasted line. ValueError with a sentence when it has none."""
    shown = repr(line.strip()[:80])
    try:
        fields = json.loads(line)
    except (RecursionError, ValueError) as error:
        plain = not line.lstrip().startswith("{") and any(sign.isalnum() for sign in line)
        # an object that a log cut off, or one in the notation of another language
        if not isinstance(error, RecursionError) and (plain or is_recognised(line)):
            return {"message": line.strip()}
        raise ValueError(
            f"This line is not JSON: {shown}. Write one object per line, {_EXAMPLE}."
        ) from None
    if isinstance(fields, str) and fields.strip():
        return {"message": fields}
    if not isinstance(fields, dict):
        raise ValueError(f"This line is JSON but not an object: {shown}. Write {_EXAMPLE}.")
    if not fields.keys() & {*_FIELDS, *_TEXT_FIELDS, *_CODE_FIELDS, *_STATUS_FIELDS}:
        raise ValueError(
            f"This object has no {', '.join(_FIELDS[:-1])} or {_FIELDS[-1]}: {shown}. "
            f"Write {_EXAMPLE}."
        )
    return fields


def is_recognised(line: str) -> bool:
    """Tell whether a line that is no JSON names a cause all the same."""
    return diagnose(line).reason is not Reason.UNKNOWN


def normalise(message: str) -> str:
    """Return the message as the rules read it.

    Lower case, plain quotes, JSON and string escapes undone at any depth, whitespace as single
    spaces. Dots inside ids, hosts, numbers and field paths become `·`, so that a rule's `[^.]`
    means "in the same sentence".
    """
    text = _UNICODE_ESCAPE.sub(lambda m: chr(int(m.group(1), 16)), message)
    text = _ESCAPED_QUOTE.sub("", _ESCAPED_SPACE.sub(" ", text)).translate(_QUOTES)
    return _INNER_DOT.sub("·", " ".join(text.split()).lower())


def unwrap(text: str) -> str:
    """Return a normalised message without what a log, a command line or an SDK put around it."""
    start = 0
    while match := _WRAPPING.match(text, start):
        start = match.end()
    end = len(text)
    while match := _SUFFIX.search(text, start, end):
        end = match.start()
    return text[start:end].strip()


def select_code(raw: str, inner: str, code: str, http_status: float | str | None) -> Code:
    """Return the most trustworthy code: the argument, one named in the text, a wrapper's, a status.

    `inner` is the text without its wrapping. `codes.NONE` when there is none of them.
    """
    explicit = codes.lookup(code)
    if explicit and explicit.reason is not Reason.UNKNOWN:
        return explicit
    names = [*_OCCURRED.findall(raw), *_NAMED.findall(raw)]
    for table in (codes.AWS, codes.CLIENT, codes.WRAPPERS):
        for name in names:
            row = table.get(codes.canonical(name))
            if row and row.reason is not Reason.UNKNOWN:
                return replace(row, loose=True, final=False)
    match = _STATUS.search(f"{raw.lower()}\n{inner}")
    for status in (code, http_status, match and (match.group(1) or match.group(2))):
        try:
            row = codes.STATUSES.get(int(status or 0))
        except (TypeError, ValueError, OverflowError):
            continue
        if row:
            return row
    return explicit or codes.NONE


def as_text(value: object) -> str:
    """Return a pasted field as text: an error body may have been pasted as the object it is."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
