"""Judging one answer: pure functions from an outcome, however broken, to a Grade with evidence and one sentence."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import UnknownType
from referencing.exceptions import Unresolvable

from certification.exchange import EmbedReply, Failure, Outcome, Reasoning, Reply, Text, ToolUse, Usage
from certification.reasons import Reason, Status
from certification.suite.case import Grade

SHOWN = 300  # characters of an answer that evidence keeps

# Refusals that say something about what was asked, hence about the model; other refusals of access or configuration say
# nothing about it.
_ABOUT_THE_REQUEST = {
    Reason.PARAMETER_NOT_SUPPORTED,
    Reason.MODALITY_NOT_SUPPORTED,
    Reason.MALFORMED_REQUEST,
}


# What an outcome holds, read with care: nothing here raises, whatever the reply looks like.


def text_of(outcome: Outcome | None) -> str:
    """The answer's text; "" where there is none. Reasoning is never part of it."""
    return "".join(b.text for b in _blocks(outcome) if isinstance(b, Text) and isinstance(b.text, str))


def tool_uses(outcome: Outcome | None) -> tuple[ToolUse, ...]:
    """The tool calls of an answer, in order."""
    return tuple(b for b in _blocks(outcome) if isinstance(b, ToolUse))


def has_reasoning(outcome: Outcome | None) -> bool:
    """Whether the reply shows what the model thought."""
    return any(isinstance(b, Reasoning) for b in _blocks(outcome))


def usage_of(outcome: Outcome | None) -> Usage | None:
    """The usage of an answer if it carries whole, non-negative token counts."""
    usage = outcome.usage if isinstance(outcome, Reply | EmbedReply) else None
    if not isinstance(usage, Usage):
        return None
    counts = (usage.input_tokens, usage.output_tokens)
    return usage if all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts) else None


def shown(value: object, limit: int = SHOWN) -> str:
    """A text fit for evidence: short, printable by any database, without lone surrogates or NULs."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= limit else text[:limit] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def _blocks(outcome: Outcome | None) -> Sequence[Any]:
    content = outcome.content if isinstance(outcome, Reply) else ()
    return content if isinstance(content, tuple | list) else ()


# Grades and how they combine.


def passed(sentence: str, **evidence: Any) -> Grade:
    return Grade(True, sentence, evidence)


def failed(sentence: str, **evidence: Any) -> Grade:
    return Grade(False, sentence, evidence)


def lacks(capability: str, failure: Failure) -> Grade:
    """The service said that the model does not have this capability: no failure, the case does not apply."""
    sentence = f"The model does not take {capability.replace('_', ' ')}: {shown(failure.message)}"
    return Grade(False, sentence, _failure_evidence(failure), cause=failure, lacks=capability)


def all_of(*checks: Callable[[], Grade]) -> Grade:
    """The first check that does not pass, else the last one; the evidence of those before it is kept."""
    evidence: dict[str, Any] = {}
    grade = failed("Nothing was checked.")
    for check in checks:
        grade = check()
        evidence |= grade.evidence
        if not grade.passed:
            break
    return replace(grade, evidence=evidence)


def usable(outcome: Outcome | None) -> Grade:
    """Whether a call brought a whole answer at all; every grader of answers starts here.

    An outcome that infrastructure, access or our own mistake brought about is not valid.
    """
    if isinstance(outcome, Failure):
        return _of_failure(outcome)
    if isinstance(outcome, Reply) and not outcome.complete:
        return failed("The stream ended without messageStop and metadata.", events=_event_tail(outcome))
    if isinstance(outcome, Reply | EmbedReply):
        return passed("The call brought an answer.")
    return Grade(False, "The call was not made.", valid=False)


def _of_failure(failure: Failure) -> Grade:
    status = failure.reason.facts.status
    says_nothing = status != Status.FAILED and failure.reason not in _ABOUT_THE_REQUEST
    kind = "could not be judged" if says_nothing else "failed"
    sentence = f"The call {kind} ({failure.reason.value}): {shown(failure.message)}"
    return Grade(False, sentence, _failure_evidence(failure), valid=not says_nothing, cause=failure)


def _failure_evidence(failure: Failure) -> dict[str, Any]:
    return {
        "reason": failure.reason.value,
        "code": shown(failure.code),
        "message": shown(failure.message),
        "http_status": failure.http_status,
    }


def refuses(outcome: Outcome | None, pattern: str) -> bool:
    """Whether the service refused the request as invalid, with words that match `pattern` (case does not matter)."""
    return (
        isinstance(outcome, Failure)
        and (is_validation(outcome) or outcome.reason in _ABOUT_THE_REQUEST)
        and re.search(pattern, outcome.message or "", re.IGNORECASE) is not None
    )


def is_refusal(outcome: Outcome | None) -> bool:
    """Whether this is a refusal of access or of the set-up, as opposed to an answer, a breakdown or an outage."""
    refusals = (Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED)
    return isinstance(outcome, Failure) and outcome.reason.facts.status in refusals


def is_validation(failure: Failure) -> bool:
    """Whether the code is ValidationException, in either of the spellings that the wire has."""
    return (failure.code or "").rpartition("#")[2].lower() == "validationexception"


# Text.


def not_empty(outcome: Outcome | None) -> Grade:
    """The answer has text that is more than white space."""
    return _text(outcome, lambda text: bool(text.strip()), "The answer has text.", "The answer has no text.")


def exact(outcome: Outcome | None, expected: str) -> Grade:
    """The answer is this text, white space around it aside."""
    return _text(
        outcome, lambda text: text.strip() == expected.strip(),
        "The answer is exactly what was asked for.", "The answer is not exactly what was asked for.", expected,
    )  # fmt: skip


def normalised(outcome: Outcome | None, *expected: str) -> Grade:
    """The answer is one of these texts but for case, accents, punctuation and white space."""
    wanted = {plain(e) for e in expected}
    return _text(
        outcome, lambda text: plain(text) in wanted,
        "The answer is the expected one.", "The answer is not the expected one.", " | ".join(expected),
    )  # fmt: skip


def mentions(outcome: Outcome | None, expected: str) -> Grade:
    """The words of `expected` occur in the answer, side by side, but for case, accents and punctuation."""
    return _text(
        outcome, lambda text: f" {plain(expected)} " in f" {plain(text)} ",
        f"The answer names {expected}.", f"The answer does not name {expected}.", expected,
    )  # fmt: skip


def in_order(outcome: Outcome | None, *items: str) -> Grade:
    """These words or phrases occur in the answer, one after the other; case, accents and punctuation do not matter."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text, start = f" {plain(text_of(outcome))} ", 0
    evidence = {"expected": shown(", ".join(items)), "found": shown(text_of(outcome))}
    for item in items:
        start = text.find(f" {plain(item)} ", start)
        if start < 0:
            return failed(f"{shown(item)} is missing in the answer, or not in its place.", **evidence)
        start += len(plain(item)) + 1
    return passed("The answer has everything in its order.", **evidence)


def without(outcome: Outcome | None, *forbidden: str) -> Grade:
    """None of these words or phrases occurs in the answer; case, accents and punctuation do not matter."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = f" {plain(text_of(outcome))} "
    evidence = {"forbidden": shown(", ".join(forbidden)), "found": shown(text_of(outcome))}
    for word in forbidden:
        if f" {plain(word)} " in text:
            return failed(f"The answer has {shown(word)}, which must not be there.", **evidence)
    return passed("The answer has nothing that must not be there.", **evidence)


def matches(outcome: Outcome | None, pattern: str) -> Grade:
    """The regular expression is found in the answer."""
    return _text(
        outcome, lambda text: re.search(pattern, text) is not None,
        "The answer has the expected form.", "The answer does not have the expected form.", pattern,
    )  # fmt: skip


def ends_with(outcome: Outcome | None, suffix: str) -> Grade:
    """The answer ends with exactly this; closing quotes, full stops and emphasis after it do not matter."""
    return _text(
        outcome, lambda text: text.rstrip(" \t\r\n*_`\"'.").endswith(suffix.rstrip(".")),
        "The answer ends as it was told to.", "The answer does not end as it was told to.", suffix,
    )  # fmt: skip


def nfc_contains(outcome: Outcome | None, expected: str) -> Grade:
    """The answer has this text, equal after Unicode NFC normalisation."""
    wanted = unicodedata.normalize("NFC", expected)
    return _text(
        outcome, lambda text: wanted in unicodedata.normalize("NFC", text),
        "Every character came back as it was sent.", "Characters were lost or changed on the way.", expected,
    )  # fmt: skip


def language(outcome: Outcome | None, expected: str) -> Grade:
    """The answer is written in "pt" or "en", told by its commonest words."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    found = language_of(text_of(outcome))
    name = {"pt": "Portuguese", "en": "English"}
    evidence = {"expected": expected, "found": found, "text": shown(text_of(outcome))}
    if found == expected:
        return passed(f"The answer is in {name.get(expected, expected)}.", **evidence)
    return failed(f"The answer is not in {name.get(expected, expected)}.", **evidence)


def words(outcome: Outcome | None, at_least: int = 0, at_most: int | None = None) -> Grade:
    """The number of words lies within these bounds."""
    return _count(outcome, lambda text: len(re.findall(r"\w+(?:['’-]\w+)*", text)), "words", at_least, at_most)


def lines(outcome: Outcome | None, at_least: int = 0, at_most: int | None = None) -> Grade:
    """The number of lines that are not blank lies within these bounds."""
    return _count(outcome, lambda text: sum(bool(x.strip()) for x in text.splitlines()), "lines", at_least, at_most)


def bullets(outcome: Outcome | None, at_least: int = 0, at_most: int | None = None) -> Grade:
    """The number of lines that start as a list item (-, *, •, 1.) lies within these bounds."""
    item = re.compile(r"\s*(?:[-*•–]|\d{1,3}[.)])\s+\S")
    return _count(
        outcome, lambda text: sum(bool(item.match(x)) for x in text.splitlines()), "bullets", at_least, at_most
    )


def number(outcome: Outcome | None, expected: float, tolerance: float = 0.0) -> Grade:
    """The last number of the answer is this one within a tolerance; 1.234,56 and 1,234.56 are both read."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = text_of(outcome)
    readings = numbers(text)
    evidence = {"expected": expected, "found": shown(text)}
    if not readings:
        return failed("The answer has no number.", **evidence)
    if any(abs(x - Decimal(str(expected))) <= Decimal(str(tolerance)) for x in readings[-1]):
        return passed(f"The answer is {expected:g}.", **evidence)
    return failed(f"The answer is not {expected:g}.", **evidence)


def _text(outcome: Outcome | None, test: Callable[[str], bool], yes: str, no: str, expected: str = "") -> Grade:
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = text_of(outcome)
    evidence = {"expected": shown(expected), "found": shown(text)} if expected else {"found": shown(text)}
    return passed(yes, **evidence) if test(text) else failed(no, **evidence)


def _count(
    outcome: Outcome | None, count: Callable[[str], int], what: str, at_least: int, at_most: int | None
) -> Grade:
    grade = usable(outcome)
    if not grade.passed:
        return grade
    found = count(text_of(outcome))
    bounds = (
        f"{at_least} or more" if at_most is None else str(at_least) if at_least == at_most else f"{at_least}-{at_most}"
    )
    evidence = {"expected": bounds, "found": found}
    if found >= at_least and (at_most is None or found <= at_most):
        return passed(f"The answer has {found} {what}.", **evidence)
    return failed(f"The answer has {found} {what} instead of {bounds}.", **evidence)


# JSON and tools.


def json_answer(outcome: Outcome | None, schema: Mapping[str, Any], expected: Any = None) -> Grade:
    """The answer is JSON (alone or in one code fence) that is valid against the schema and, if given, equal to `expected`."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = text_of(outcome)
    found, value = parse_json(text)
    if not found:
        return failed("The answer is not JSON.", found=shown(text))
    problem = schema_problem(value, schema)
    if problem:
        return failed(f"The answer's JSON does not fit the schema: {problem}.", found=shown(text))
    if expected is not None and value != expected:
        return failed("The answer's JSON has wrong values.", expected=shown(expected), found=shown(text))
    return passed("The answer is JSON that fits the schema.", found=shown(text))


def tool_call(
    outcome: Outcome | None, name: str, schema: Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> Grade:
    """The answer calls this tool, once, with arguments valid against its schema and, if given, equal to `arguments`."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    uses = tool_uses(outcome)
    if not uses:
        return failed("No tool was called.", expected=name, found=shown(text_of(outcome)))
    use = uses[0]
    evidence = {
        "expected": name,
        "found": [shown(u.name) for u in uses],
        "arguments": shown(use.raw_input or use.input),
    }
    if len(uses) != 1 or use.name != name:
        return failed(f"The call was not one of {name}.", **evidence)
    problem = "they are not a JSON object" if not isinstance(use.input, Mapping) else schema_problem(use.input, schema)
    if problem:
        return failed(f"The arguments of the call do not fit the tool's schema: {problem}.", **evidence)
    if arguments is not None and dict(use.input) != dict(arguments):
        return failed(
            "The arguments of the call are not those that were asked for.", **evidence, wanted=shown(arguments)
        )
    return passed(f"{name} was called with arguments that fit its schema.", **evidence)


def parse_json(text: str) -> tuple[bool, Any]:
    """(True, the value) of a text that is JSON alone or in one code fence, else (False, None)."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL | re.IGNORECASE)
    try:
        return True, json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False, None


_UNCHECKABLE = (SchemaError, UnknownType, Unresolvable, re.error, RecursionError, TypeError, ValueError, OverflowError)


def schema_problem(value: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with a value in the eyes of a JSON Schema (2020-12), in a few words; "" if nothing."""
    try:
        error = next(Draft202012Validator(schema).iter_errors(value), None)
    except _UNCHECKABLE as problem:
        return f"it cannot be checked ({type(problem).__name__})"
    if error is None:
        return ""
    where = "/".join(str(p) for p in error.absolute_path)
    return shown(f"{where}: {error.message}" if where else error.message, 160)


# The shape of a reply.


def has_usage(outcome: Outcome | None) -> Grade:
    """The reply tells its input and output tokens, and both are at least 1."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    usage = usage_of(outcome)
    if usage and usage.input_tokens > 0 and usage.output_tokens > 0:
        return passed("The token counts are there.", input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    raw = outcome.usage if isinstance(outcome, Reply | EmbedReply) else None
    return failed("The reply does not tell its tokens.", usage=shown(raw))


def stop_reason(outcome: Outcome | None, *allowed: str) -> Grade:
    """The model stopped for one of these reasons."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    found = outcome.stop_reason if isinstance(outcome, Reply) else ""
    evidence = {"expected_stop": " | ".join(allowed), "stop_reason": shown(found)}
    if found in allowed:
        return passed(f"The stop reason is {found}.", **evidence)
    return failed(f"The stop reason is {shown(found) or 'missing'} instead of {' or '.join(allowed)}.", **evidence)


# Text and reasoning blocks have no contentBlockStart; blocks that have one (tool calls) may come without a delta.
_ORDER = re.compile(r"m(?:(?:sd*|d+)e)+MU")
_LETTERS = {
    "messageStart": "m", "contentBlockStart": "s", "contentBlockDelta": "d", "contentBlockStop": "e",
    "messageStop": "M", "metadata": "U",
}  # fmt: skip


def event_order(outcome: Outcome | None) -> Grade:
    """The stream's events came whole and in order: messageStart, the blocks' events, messageStop, metadata."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    events = outcome.events if isinstance(outcome, Reply) and isinstance(outcome.events, tuple | list) else ()
    letters = "".join(_LETTERS.get(e, "?") if isinstance(e, str) else "?" for e in events)
    evidence = {"events": len(events), "order": shown(_squeezed(events))}
    if "d" in letters and _ORDER.fullmatch(letters):
        return passed("The stream's events are whole and in order.", **evidence)
    return failed("The stream's events are not whole or not in order.", **evidence)


def _squeezed(events: Sequence[Any]) -> str:
    names: list[str] = []
    for event in events:
        if not names or names[-1] != str(event):
            names.append(str(event))
    return " ".join(names)


def _event_tail(reply: Reply) -> list[str]:
    events = reply.events if isinstance(reply.events, tuple | list) else ()
    return [shown(e) for e in events[-5:]]


def output_tokens(outcome: Outcome | None, at_most: int, at_least: int = 1) -> Grade:
    """The output tokens, as the service counted them, lie within these bounds."""
    return _tokens(outcome, "output", at_least, at_most)


def input_tokens(outcome: Outcome | None, at_least: int, at_most: int) -> Grade:
    """The input tokens, as the service counted them, lie within these bounds."""
    return _tokens(outcome, "input", at_least, at_most)


def _tokens(outcome: Outcome | None, side: str, at_least: int, at_most: int) -> Grade:
    grade = usable(outcome)
    if not grade.passed:
        return grade
    usage = usage_of(outcome)
    if usage is None:
        return failed("The reply does not tell its tokens.")
    found = usage.input_tokens if side == "input" else usage.output_tokens
    evidence = {f"{side}_tokens": found, f"expected_{side}_tokens": f"{at_least}-{at_most}"}
    if at_least <= found <= at_most:
        return passed(f"{found} {side} tokens lie within {at_least}-{at_most}.", **evidence)
    return failed(f"{found} {side} tokens are not within {at_least}-{at_most}.", **evidence)


# Reading text.


def plain(text: str) -> str:
    """A text without case, accents, punctuation and runs of white space, for comparing."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", bare.replace("_", " ")))


_NUMBER = re.compile(r"(?<![\w.,])[-−]?\d[\d.,]{0,60}", re.ASCII)


def numbers(text: str) -> list[set[Decimal]]:
    """Every number of a text, in order, each with the values it can mean: "1.234" is 1234 or 1.234."""
    found = []
    for match in _NUMBER.finditer(text):
        readings = _readings(match[0].replace("−", "-").rstrip(".,"))
        if readings:
            found.append(readings)
    return found


def _readings(digits: str) -> set[Decimal]:
    readings = set()
    for group, point in ((",", "."), (".", ",")):
        whole, _, fraction = digits.partition(point)
        well_grouped = group not in whole or re.fullmatch(rf"-?\d{{1,3}}(?:{re.escape(group)}\d{{3}})+", whole)
        if well_grouped and group not in fraction and point not in fraction:
            try:
                readings.add(Decimal(whole.replace(group, "") + ("." + fraction if fraction else "")))
            except InvalidOperation:
                continue
    return readings


_COMMON_PT = """
a à ao aos as às até com como da das de depois do dos e é ela ele eles em entre era essa esse está estão este eu fica foi
foram há isso já mais mas me mesmo meu minha muito na nas não nem no nos num numa o os ou para pela pelo pelos por porque
qual quando que quem são se sem ser seu seus só sua suas também tem têm ter tinha um uma você
"""
_COMMON_EN = """
a about all also an and are as at be because but by can do each for from had has have he her him his how i if in into is
it its like make many me more most my no not of on one or other our out said she so some than that the their them then
there these they this to two up use was we were what when which who will with would you your
"""
_BOTH = {*_COMMON_PT.split()} & {*_COMMON_EN.split()}
_COMMON = {"pt": {*_COMMON_PT.split()} - _BOTH, "en": {*_COMMON_EN.split()} - _BOTH}


def language_of(text: str) -> str:
    """ "pt" or "en" by the commonest words of each and Portuguese letters; "" where neither clearly leads."""
    found = re.findall(r"[^\W\d_]+", text.casefold()[:20000])
    score = {code: float(sum(w in common for w in found)) for code, common in _COMMON.items()}
    score["pt"] += 0.5 * sum(any(c in "ãõçáéíóúâêôà" for c in w) for w in found)
    best, other = ("pt", "en") if score["pt"] >= score["en"] else ("en", "pt")
    return best if score[best] >= 1 and score[best] > 1.5 * score[other] else ""
