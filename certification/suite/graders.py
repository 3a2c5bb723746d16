"""Judging one answer: pure functions from an outcome, however broken, to a Grade with evidence and
one sentence.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import regex
from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import UnknownType
from referencing.exceptions import Unresolvable

from certification.inference import (
    EmbedReply,
    Failure,
    Outcome,
    Reasoning,
    Reply,
    Text,
    Tool,
    ToolUse,
    Usage,
)
from certification.reasons import Reason, Status
from certification.suite.case import Grade

SHOWN = 300  # characters of an answer that evidence keeps
SEARCH_S = 1.0  # an operator's own pattern may search that long

# Refusals that say something about what was asked, hence about the model; other refusals of access
# or configuration say nothing about it.
_ABOUT_THE_REQUEST = {
    Reason.PARAMETER_NOT_SUPPORTED,
    Reason.MODALITY_NOT_SUPPORTED,
    Reason.MALFORMED_REQUEST,
}


# What an outcome holds, read with care: nothing here raises, whatever the reply looks like.


def text_of(outcome: Outcome | None) -> str:
    """The answer's text; "" where there is none. Reasoning is never part of it."""
    return "".join(
        b.text for b in _blocks(outcome) if isinstance(b, Text) and isinstance(b.text, str)
    )


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
    return (
        usage
        if all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts)
        else None
    )


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
    """The service said that the model does not have this capability: no failure, the case does not
    apply.
    """
    sentence = f"The model does not take {capability.replace('_', ' ')}: {shown(failure.message)}"
    return Grade(False, sentence, _failure_evidence(failure), cause=failure, lacks=capability)


def passed_without(grade: Grade, capability: str, failure: Failure) -> Grade:
    """The same grade; if it passed, it did so without a capability that the service refused, which
    is noted.
    """
    if not grade.passed:
        return grade
    without = capability.replace("_", " ")
    evidence = {**grade.evidence, "refused": shown(failure.message)}
    return replace(
        grade,
        sentence=f"{grade.sentence} The model does not take {without}.",
        evidence=evidence,
        lacks=capability,
    )


def all_of(*checks: Callable[[], Grade]) -> Grade:
    """The first check that does not pass, else the last one; the evidence of those before it is
    kept.
    """
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
        return failed(
            "The stream ended without messageStop and metadata.", events=_event_tail(outcome)
        )
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
    """Whether the service refused the request as invalid, with words that match `pattern` (case
    does not matter).
    """
    return (
        isinstance(outcome, Failure)
        and (is_validation(outcome) or outcome.reason in _ABOUT_THE_REQUEST)
        and re.search(pattern, outcome.message or "", re.IGNORECASE) is not None
    )


def is_refusal(outcome: Outcome | None) -> bool:
    """Whether this is a refusal of access or of the set-up, as opposed to an answer, a breakdown or
    an outage.
    """
    refusals = (Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED)
    return isinstance(outcome, Failure) and outcome.reason.facts.status in refusals


def is_validation(failure: Failure) -> bool:
    """Whether the code is ValidationException, in either of the spellings that the wire has."""
    return (failure.code or "").rpartition("#")[2].lower() == "validationexception"


# Text.


def not_empty(outcome: Outcome | None) -> Grade:
    """The answer has text that is more than white space."""
    return _text(
        outcome, lambda text: bool(text.strip()), "The answer has text.", "The answer has no text."
    )


def exact(outcome: Outcome | None, expected: str) -> Grade:
    """The answer is this text, white space around it aside."""
    return _text(
        outcome,
        lambda text: text.strip() == expected.strip(),
        "The answer is exactly what was asked for.",
        "The answer is not exactly what was asked for.",
        expected,
    )


def normalised(outcome: Outcome | None, *expected: str) -> Grade:
    """The answer is one of these texts but for case, accents, punctuation and white space."""
    wanted = {plain(e) for e in expected}
    return _text(
        outcome,
        lambda text: plain(text) in wanted,
        "The answer is the expected one.",
        "The answer is not the expected one.",
        " | ".join(expected),
    )


def mentions(outcome: Outcome | None, expected: str) -> Grade:
    """The words of `expected` occur in the answer, side by side, but for case, accents and
    punctuation.
    """
    return _text(
        outcome,
        lambda text: f" {plain(expected)} " in f" {plain(text)} ",
        f"The answer names {expected}.",
        f"The answer does not name {expected}.",
        expected,
    )


def in_order(outcome: Outcome | None, *items: str) -> Grade:
    """These words or phrases occur in the answer, one after the other; case, accents and
    punctuation do not matter.
    """
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text, start = f" {plain(text_of(outcome))} ", 0
    evidence = {"expected": shown(", ".join(items)), "found": shown(text_of(outcome))}
    for item in items:
        start = text.find(f" {plain(item)} ", start)
        if start < 0:
            return failed(
                f"{shown(item)} is missing in the answer, or not in its place.", **evidence
            )
        start += len(plain(item)) + 1
    return passed("The answer has everything in its order.", **evidence)


def without(outcome: Outcome | None, *forbidden: str) -> Grade:
    """None of these words or phrases occurs in the answer; case, accents and punctuation do not
    matter.
    """
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
    """The regular expression is found in the answer. A pattern that searches too long says nothing
    about the model.
    """
    try:
        return _text(
            outcome,
            lambda text: regex.search(pattern, text, timeout=SEARCH_S) is not None,
            "The answer has the expected form.",
            "The answer does not have the expected form.",
            pattern,
        )
    except TimeoutError:
        return Grade(
            False,
            f"The pattern searched longer than {SEARCH_S:.0f} s in this answer.",
            {"pattern": pattern},
            False,
        )


def ends_with(outcome: Outcome | None, suffix: str) -> Grade:
    """The answer ends with exactly this; closing quotes, full stops and emphasis after it do not
    matter.
    """
    return _text(
        outcome,
        lambda text: text.rstrip(" \t\r\n*_`\"'.").endswith(suffix.rstrip(".")),
        "The answer ends as it was told to.",
        "The answer does not end as it was told to.",
        suffix,
    )


def nfc_contains(outcome: Outcome | None, expected: str) -> Grade:
    """The answer has this text, equal after Unicode NFC normalisation."""
    wanted = unicodedata.normalize("NFC", expected)
    return _text(
        outcome,
        lambda text: wanted in unicodedata.normalize("NFC", text),
        "Every character came back as it was sent.",
        "Characters were lost or changed on the way.",
        expected,
    )


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
    return _count(
        outcome, lambda text: len(re.findall(r"\w+(?:['’-]\w+)*", text)), "words", at_least, at_most
    )


def lines(outcome: Outcome | None, at_least: int = 0, at_most: int | None = None) -> Grade:
    """The number of lines that are not blank lies within these bounds."""
    return _count(
        outcome,
        lambda text: sum(bool(x.strip()) for x in text.splitlines()),
        "lines",
        at_least,
        at_most,
    )


def bullets(outcome: Outcome | None, at_least: int = 0, at_most: int | None = None) -> Grade:
    """The number of lines that start as a list item (-, *, •, 1.) lies within these bounds; "-so"
    is one as "- so" is.
    """
    item = re.compile(r"\s*(?:[-•–—]\s*(?=[^\s\d\-–—])|(?:\*|\d{1,3}[.)])\s+\S)")
    return _count(
        outcome,
        lambda text: sum(bool(item.match(x)) for x in text.splitlines()),
        "bullets",
        at_least,
        at_most,
    )


def number(outcome: Outcome | None, expected: float, tolerance: float = 0.0) -> Grade:
    """The last number of the answer is this one within a tolerance; 1.234,56 and 1,234.56 are both
    read.
    """
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


def mentions_one(outcome: Outcome | None, *forms: str) -> Grade:
    """One of these spellings of the same thing occurs in the answer, but for case, accents and
    punctuation.
    """
    return _text(
        outcome,
        lambda text: any(f" {plain(form)} " in f" {plain(text)} " for form in forms),
        f"The answer names {forms[0]}.",
        f"The answer does not name {forms[0]}.",
        " | ".join(forms),
    )


def occurrences(outcome: Outcome | None, word: str, times: int) -> Grade:
    """This very word, in any case, occurs so many times; longer words that hold it do not count."""
    return _count(
        outcome,
        lambda text: len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)),
        f"times the word {word}",
        times,
        times,
    )


def no_character(outcome: Outcome | None, character: str, name: str) -> Grade:
    """The answer does not have this character, which people call `name`."""
    return _text(
        outcome,
        lambda text: character not in text,
        f"The answer has no {name}.",
        f"The answer has a {name}, which must not be there.",
    )


def capitals(outcome: Outcome | None) -> Grade:
    """Every letter of the answer is a capital, and there are letters."""
    return _text(
        outcome,
        lambda text: text.upper() == text and any(c.isalpha() for c in text),
        "Every letter is a capital.",
        "Not every letter is a capital.",
    )


def sections(outcome: Outcome | None, *titles: str) -> Grade:
    """The answer starts with the first of these titles, each alone on its line with text below, in
    this order.
    """
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = text_of(outcome)
    evidence = {"expected": shown(", ".join(titles)), "found": shown(text)}
    wanted = [plain(title) for title in titles]
    heard = [
        plain(re.sub(r"^\W*\d{1,2}[.)]", "", line)) for line in text.splitlines() if plain(line)
    ]
    places = [i for i, line in enumerate(heard) if line in wanted]
    if [heard[i] for i in places] != wanted:
        return failed(
            "The answer does not have the titles it should have, once each and in their order.",
            **evidence,
        )
    if places[0] != 0:
        return failed("The answer does not start with its first title.", **evidence)
    ends = [*places[1:], len(heard)]
    if any(end - start < 2 for start, end in zip(places, ends, strict=True)):
        return failed("A title has no text below it.", **evidence)
    return passed(f"The answer has its {len(titles)} titled sections.", **evidence)


def lines_are(outcome: Outcome | None, *expected: str) -> Grade:
    """The lines of the answer that are not blank are these; list marks and emphasis around them do
    not matter.
    """
    return _text(
        outcome,
        lambda text: [_bare(line) for line in text.splitlines() if line.strip()] == list(expected),
        "Every line is the expected one.",
        "The lines are not the expected ones.",
        " | ".join(expected),
    )


def _bare(line: str) -> str:
    return re.sub(r"^\s*(?:[-*•–]\s+|\d{1,2}[.)]\s+)?", "", line).strip(" \t*_`\"';.")


def choices(outcome: Outcome | None, expected: Sequence[str]) -> Grade:
    """Numbered choices such as "1-B 2-D": the letters chosen for 1, 2, ... are these."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = text_of(outcome)
    found = dict.fromkeys(str(n + 1) for n in range(len(expected)))
    # Small letters only in the very form that was asked for: "1 a 4" and "1) a capital" are words.
    for number, letter in re.findall(
        r"(?<![^\W_])(\d)(?:[\W_]{0,4}(?=[A-Z])|-)([A-Za-z])(?![^\W_])", text
    ):
        if number in found:
            found[number] = letter.upper()  # a model that corrects itself is held to its last word
    wanted = {str(n + 1): letter for n, letter in enumerate(expected)}
    evidence = {"expected": _paired(wanted), "found": _paired(found), "text": shown(text)}
    wrong = [number for number, letter in wanted.items() if found[number] != letter]
    if not wrong:
        return passed(f"All {len(wanted)} choices are right.", **evidence)
    return failed(
        f"{len(wrong)} of {len(wanted)} choices are wrong or missing ({', '.join(wrong)}).",
        **evidence,
    )


def _paired(letters: Mapping[str, str | None]) -> str:
    return " ".join(f"{number}-{letter or '?'}" for number, letter in letters.items())


def labels(outcome: Outcome | None, allowed: Sequence[str], *expected: str) -> Grade:
    """The labels named in the answer, of those allowed, are these, in this order and no others."""
    known = {plain(label) for label in allowed}
    wanted = [plain(label) for label in expected]
    return _text(
        outcome,
        lambda text: [word for word in plain(text).split() if word in known] == wanted,
        "The labels are the expected ones.",
        "The labels are not the expected ones.",
        ", ".join(expected),
    )


def last_line(outcome: Outcome | None, *items: str) -> Grade:
    """The last line of the answer ends with these words, in this order; case, accents and
    punctuation do not matter.
    """
    wanted = f" {plain(' '.join(items))}"

    def ends(text: str) -> bool:
        lines = [plain(line) for line in text.splitlines() if plain(line)]
        return bool(lines) and f" {lines[-1]}".endswith(wanted)

    return _text(
        outcome,
        ends,
        "The last line is the right answer.",
        "The last line is not the right answer.",
        ", ".join(items),
    )


def has_number(outcome: Outcome | None, expected: float | str) -> Grade:
    """This number occurs in the answer, in either notation."""
    wanted = Decimal(str(expected))
    return _text(
        outcome,
        lambda text: any(wanted in readings for readings in numbers(text)),
        f"The answer has the number {expected}.",
        f"The answer does not have the number {expected}.",
        str(expected),
    )


def no_other_numbers(outcome: Outcome | None, allowed: str) -> Grade:
    """Every number of the answer also occurs in the text `allowed`; the numbers of a list's items
    do not count.
    """
    grade = usable(outcome)
    if not grade.passed:
        return grade
    known = {abs(value) for readings in numbers(allowed) for value in readings}
    text = re.sub(r"(?m)^\W*\d{1,2}[.)]\s", "", text_of(outcome))
    # The hyphens of 2026-03-01 are no signs.
    strange = [
        readings for readings in numbers(text) if not {abs(value) for value in readings} & known
    ]
    evidence = {"found": shown(text_of(outcome))}
    if not strange:
        return passed("Every number comes from the text.", **evidence)
    return failed(f"The number {min(strange[0])} is not in the text.", **evidence)


def same_text(first: Outcome | None, second: Outcome | None, *, exact: bool = False) -> Grade:
    """Both answers are the same; unless `exact`, case, accents, punctuation and white space do not
    matter.
    """
    grade = all_of(lambda: usable(first), lambda: usable(second))
    if not grade.passed:
        return grade
    one, other = text_of(first), text_of(second)
    evidence = {"first": shown(one), "second": shown(other)}
    if one == other or (not exact and plain(one) == plain(other)):
        return passed("Both answers are the same.", **evidence)
    return failed("The two answers differ.", **evidence)


def _text(
    outcome: Outcome | None, test: Callable[[str], bool], yes: str, no: str, expected: str = ""
) -> Grade:
    grade = usable(outcome)
    if not grade.passed:
        return grade
    text = text_of(outcome)
    evidence = (
        {"expected": shown(expected), "found": shown(text)} if expected else {"found": shown(text)}
    )
    return passed(yes, **evidence) if test(text) else failed(no, **evidence)


def _count(
    outcome: Outcome | None,
    count: Callable[[str], int],
    what: str,
    at_least: int,
    at_most: int | None,
) -> Grade:
    grade = usable(outcome)
    if not grade.passed:
        return grade
    found = count(text_of(outcome))
    bounds = (
        f"{at_least} or more"
        if at_most is None
        else str(at_least)
        if at_least == at_most
        else f"{at_least}-{at_most}"
    )
    evidence = {"expected": bounds, "found": found}
    if found >= at_least and (at_most is None or found <= at_most):
        return passed(f"The answer has {found} {what}.", **evidence)
    return failed(f"The answer has {found} {what} instead of {bounds}.", **evidence)


# JSON and tools.


def json_answer(outcome: Outcome | None, schema: Mapping[str, Any], expected: Any = None) -> Grade:
    """The answer is JSON (alone or in one code fence) that is valid against the schema and, if
    given, equal to `expected`.
    """
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
        return failed(
            "The answer's JSON has wrong values.", expected=shown(expected), found=shown(text)
        )
    return passed("The answer is JSON that fits the schema.", found=shown(text))


def tool_call(
    outcome: Outcome | None,
    name: str,
    schema: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
) -> Grade:
    """The answer calls this tool, once, with arguments valid against its schema and, if given,
    equal to `arguments`.
    """
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
    problem = (
        "they are not a JSON object"
        if not isinstance(use.input, Mapping)
        else schema_problem(use.input, schema)
    )
    if problem:
        return failed(
            f"The arguments of the call do not fit the tool's schema: {problem}.", **evidence
        )
    if arguments is not None and dict(use.input) != dict(arguments):
        return failed(
            "The arguments of the call are not those that were asked for.",
            **evidence,
            wanted=shown(arguments),
        )
    return passed(f"{name} was called with arguments that fit its schema.", **evidence)


Wanted = tuple[Tool, Mapping[str, Any]]


def tool_calls(outcome: Outcome | None, *wanted: Wanted) -> Grade:
    """The answer makes exactly these calls, in any order, with valid arguments.

    The arguments must be those wanted; texts are equal but for case, accents and punctuation.
    """
    grade = usable(outcome)
    if not grade.passed:
        return grade
    uses = list(tool_uses(outcome))
    evidence: dict[str, Any] = {
        "expected": [shown(t.name) for t, _ in wanted],
        "found": [shown(use.name) for use in uses],
        "arguments": [shown(use.input if use.input is not None else use.raw_input) for use in uses],
    }
    if not uses:
        return failed("No tool was called.", **evidence, text=shown(text_of(outcome)))
    if sorted(str(use.name) for use in uses) != sorted(t.name for t, _ in wanted):
        return failed(
            f"The calls are not those that were asked for: {len(uses)} of {len(wanted)}.",
            **evidence,
        )
    for tool, arguments in wanted:
        named = [use for use in uses if use.name == tool.name]
        match = next((use for use in named if _agrees(use, tool, arguments)), None)
        if match is None:
            return failed(_why_not(named[0], tool), **evidence, wanted=shown(dict(arguments)))
        uses.remove(match)
    return passed(
        "The tools were called as asked."
        if len(wanted) > 1
        else f"{wanted[0][0].name} was called as asked.",
        **evidence,
    )


def _agrees(use: ToolUse, tool: Tool, arguments: Mapping[str, Any]) -> bool:
    return (
        isinstance(use.input, Mapping)
        and not schema_problem(use.input, tool.schema)
        and alike(use.input, arguments)
    )


def _why_not(use: ToolUse, tool: Tool) -> str:
    problem = (
        "they are not a JSON object"
        if not isinstance(use.input, Mapping)
        else schema_problem(use.input, tool.schema)
    )
    if problem:
        return f"The arguments of {tool.name} do not fit its schema: {problem}."
    return f"The arguments of {tool.name} are not those that were asked for."


def alike(found: Any, wanted: Any, depth: int = 0) -> bool:
    """Whether two JSON values are equal, texts but for case, accents and punctuation."""
    if depth > 20:
        return False
    if isinstance(wanted, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == wanted.keys()
            and all(alike(found[key], wanted[key], depth + 1) for key in wanted)
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(found, list | tuple)
            and len(found) == len(wanted)
            and all(alike(f, w, depth + 1) for f, w in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, str):
        return isinstance(found, str) and plain(found) == plain(wanted)
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def no_tool_call(outcome: Outcome | None) -> Grade:
    """The answer calls no tool."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    uses = tool_uses(outcome)
    if not uses:
        return passed("No tool was called.")
    return failed(
        "A tool was called where none was needed.", found=[shown(use.name) for use in uses]
    )


def parse_json(text: str) -> tuple[bool, Any]:
    """(True, the value) of a text that is JSON alone or in one code fence, else (False, None)."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL | re.IGNORECASE)
    try:
        return True, json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False, None


_UNCHECKABLE = (
    SchemaError,
    UnknownType,
    Unresolvable,
    re.error,
    RecursionError,
    TypeError,
    ValueError,
    OverflowError,
)


def schema_problem(value: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with a value in the eyes of a JSON Schema (2020-12), in a few words; "" if
    nothing.
    """
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
        return passed(
            "The token counts are there.",
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
        )
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
    return failed(
        f"The stop reason is {shown(found) or 'missing'} instead of {' or '.join(allowed)}.",
        **evidence,
    )


# Text and reasoning blocks have no contentBlockStart; blocks that have one (tool calls) may come
# without a delta.
_ORDER = re.compile(r"m(?:(?:sd*|d+)e)+MU")
_LETTERS = {
    "messageStart": "m", "contentBlockStart": "s", "contentBlockDelta": "d", "contentBlockStop": "e",
    "messageStop": "M", "metadata": "U",
}  # fmt: skip


def event_order(outcome: Outcome | None) -> Grade:
    """The stream's events came whole and in order: messageStart, the blocks' events, messageStop,
    metadata.
    """
    grade = usable(outcome)
    if not grade.passed:
        return grade
    events = (
        outcome.events
        if isinstance(outcome, Reply) and isinstance(outcome.events, tuple | list)
        else ()
    )
    letters = "".join(_LETTERS.get(e, "?") if isinstance(e, str) else "?" for e in events)
    evidence = {"events": len(events), "order": shown(_squeezed(events))}
    if "d" in letters and _ORDER.fullmatch(letters):
        return passed("The stream's events are whole and in order.", **evidence)
    return failed("The stream's events are not whole or not in order.", **evidence)


def stream_ends(outcome: Outcome | None) -> Grade:
    """The last two events of the stream are messageStop and metadata."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    tail = _event_tail(outcome) if isinstance(outcome, Reply) else []
    if tail[-2:] == ["messageStop", "metadata"]:
        return passed("The stream ends with messageStop and metadata.", tail=tail)
    return failed("The stream does not end with messageStop and metadata.", tail=tail)


def no_gap_over(outcome: Outcome | None, most_ms: float) -> Grade:
    """No two events of the stream came further apart than this (milliseconds)."""
    grade = usable(outcome)
    if not grade.passed:
        return grade
    gap = milliseconds(outcome.timing.max_gap_ms) if isinstance(outcome, Reply) else None
    if gap is None:
        return failed("The gaps between the events were not measured.")
    evidence = {"max_gap_ms": round(gap, 1), "most_ms": most_ms}
    if gap <= most_ms:
        return passed(f"The longest gap between two events was {gap / 1000:.1f} s.", **evidence)
    return failed(f"The stream was silent for {gap / 1000:.1f} s.", **evidence)


MEASURABLE_S = 0.05  # after the first token: a shorter time is a buffer's, not the model's


def speed(outcome: Outcome | None, at_least: int) -> Grade:
    """The stream was long enough to be timed: `at_least` output tokens. The evidence holds the
    figures.

    `ttft_ms` and `total_ms` in milliseconds, `tokens_per_second` after the first token (None where
    all came at once), `output_tokens` and `input_tokens` as the service counted them.
    """
    grade = all_of(lambda: has_usage(outcome), lambda: stream_ends(outcome))
    usage = usage_of(outcome)
    if not grade.passed or usage is None or not isinstance(outcome, Reply):
        return grade
    ttft, total = milliseconds(outcome.timing.ttft_ms), milliseconds(outcome.timing.total_ms)
    if ttft is None or total is None:
        return failed("The time to the first token was not measured.")
    seconds = (total - ttft) / 1000
    rate = usage.output_tokens / seconds if seconds > MEASURABLE_S else None
    evidence = {
        "ttft_ms": round(ttft, 1),
        "total_ms": round(total, 1),
        "tokens_per_second": None if rate is None else round(rate, 2),
        "output_tokens": usage.output_tokens,
        "input_tokens": usage.input_tokens,
    }
    if usage.output_tokens < at_least:
        return failed(
            f"{usage.output_tokens} tokens are too few to time; {at_least} were needed.", **evidence
        )
    return passed(
        f"The first token came after {ttft:.0f} ms, {usage.output_tokens} tokens in all.",
        **evidence,
    )


def milliseconds(value: Any) -> float | None:
    """A time as a number if it is one that can be."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e9 else None


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
    bare = "".join(
        c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c)
    )
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
        well_grouped = group not in whole or re.fullmatch(
            rf"-?\d{{1,3}}(?:{re.escape(group)}\d{{3}})+", whole
        )
        if well_grouped and group not in fraction and point not in fraction:
            try:
                readings.add(
                    Decimal(whole.replace(group, "") + ("." + fraction if fraction else ""))
                )
            except InvalidOperation:
                continue
    return readings


_COMMON_PT = """
a à ao aos as às até com como da das de depois do dos e é ela ele eles em entre era essa esse está estão este eu fica foi
foram há isso já mais mas me mesmo meu minha muito na nas não nem no nos num numa o os ou para pela pelo pelos por porque
qual quando que quem são se sem ser seu seus só sua suas também tem têm ter tinha um uma você
bem cada cria custos dia dias dinheiro menos sempre tempo toda todas todo todos vida ajuda aumenta combate cria desenvolve
diminui economia economiza estimula evita facilita favorece fortalece garante incentiva melhor melhora mantém oferece permite
promove proporciona reduz reforça traz
"""
_COMMON_EN = """
a about all also an and are as at be because but by can do each for from had has have he her him his how i if in into is
it its like make many me more most my no not of on one or other our out said she so some than that the their them then
there these they this to two up use was we were what when which who will with would you your
"""
_BOTH = {*_COMMON_PT.split()} & {*_COMMON_EN.split()}
_COMMON = {"pt": {*_COMMON_PT.split()} - _BOTH, "en": {*_COMMON_EN.split()} - _BOTH}


def language_of(text: str) -> str:
    """ "pt" or "en" by the commonest words of each and Portuguese letters; "" where neither clearly
    leads.
    """
    found = re.findall(r"[^\W\d_]+", text.casefold()[:20000])
    score = {code: float(sum(w in common for w in found)) for code, common in _COMMON.items()}
    score["pt"] += 0.5 * sum(any(c in "ãõçáéíóúâêôà" for c in w) for w in found)
    best, other = ("pt", "en") if score["pt"] >= score["en"] else ("en", "pt")
    return best if score[best] >= 1 and score[best] > 1.5 * score[other] else ""
