"""Grade one answer: pure functions from an outcome, however broken, to a Grade with evidence and
one sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import wraps
from itertools import groupby
from typing import Any, Concatenate, ParamSpec

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
    failure_of,
)
from certification.reasons import Reason, Status
from certification.suite import patterns
from certification.suite.case import Grade
from certification.suite.formatting import is_list_item, plain_text, text_lines
from certification.suite.language import (
    detect_language,
    foreign_line,
    is_short,
    language_probabilities,
)
from certification.suite.sentences import WORDINGS, wording
from certification.suite.text import (
    contains_words,
    find_numbers,
    loosely_equal,
    normalize_text,
    parse_json,
    truncate,
)

PATTERN_TIMEOUT_S = 1.0  # how long an operator's own pattern may search
# Refusals that say something about the request, hence about the model; other refusals of access or
# configuration say nothing about it.
REQUEST_REFUSALS = {
    Reason.PARAMETER_NOT_SUPPORTED,
    Reason.MODALITY_NOT_SUPPORTED,
    Reason.MALFORMED_REQUEST,
}

# of Converse in either of the wire's spellings, of Messages, of the OpenAI-shaped APIs
INVALID_REQUEST_CODES = {"validationexception", "invalid_request_error", "validation_error"}

AnyReply = Reply | EmbedReply
P = ParamSpec("P")


# Read what an outcome holds. Nothing here raises, whatever the reply looks like.


def content_blocks(outcome: Outcome | None) -> Sequence[Any]:
    """Return the blocks of an answer, which may be anything; () where there are none."""
    content = outcome.content if isinstance(outcome, Reply) else ()
    return content if isinstance(content, tuple | list) else ()


def text_of(outcome: Outcome | None) -> str:
    """Return the answer's text, "" where there is none. Reasoning is never part of it."""
    texts = (block.text for block in content_blocks(outcome) if isinstance(block, Text))
    return "".join(text for text in texts if isinstance(text, str))


def tool_uses(outcome: Outcome | None) -> tuple[ToolUse, ...]:
    """Return the tool calls of an answer, in order."""
    return tuple(block for block in content_blocks(outcome) if isinstance(block, ToolUse))


def has_reasoning(outcome: Outcome | None) -> bool:
    """Tell whether the reply shows what the model thought."""
    return any(isinstance(block, Reasoning) for block in content_blocks(outcome))


def usage_of(outcome: Outcome | None) -> Usage | None:
    """Return the usage of an answer if it carries whole, non-negative token counts."""
    usage = outcome.usage if isinstance(outcome, Reply | EmbedReply) else None
    if not isinstance(usage, Usage):
        return None
    counts = (usage.input_tokens, usage.output_tokens)
    valid = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts)
    return usage if valid else None


def milliseconds(value: Any) -> float | None:
    """Return a measured time as a number, None for what cannot be one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e9 else None


def last_events(outcome: Outcome) -> list[str]:
    """Return the last five events of a stream."""
    events = outcome.events if isinstance(outcome, Reply) else ()
    return [truncate(event) for event in events[-5:]] if isinstance(events, tuple | list) else []


# Build and combine grades.


def passed(sentence: str, **evidence: Any) -> Grade:
    return Grade(True, sentence, evidence)


def failed(sentence: str, **evidence: Any) -> Grade:
    return Grade(False, sentence, evidence)


def failure_evidence(failure: Failure) -> dict[str, Any]:
    """Return what evidence keeps of a failed call."""
    return {
        "reason": failure.reason.value,
        "code": truncate(failure.code),
        "message": truncate(failure.message),
        "http_status": failure.http_status,
    }


def capability_name(capability: str) -> str:
    """Return what a capability is called in sentences."""
    code = f"capability_{capability}"
    return wording(code) if code in WORDINGS else capability.replace("_", " ")


def lacks(capability: str, failure: Failure) -> Grade:
    """Skip the case: the service said that the model does not have this capability."""
    name, message = capability_name(capability), truncate(failure.message)
    sentence = wording("lacks", capability=name, message=message)
    return Grade(False, sentence, failure_evidence(failure), cause=failure, lacks=capability)


def passed_without(grade: Grade, capability: str, failure: Failure) -> Grade:
    """Note on a grade that passed that it did so without a capability that the service refused."""
    if not grade.passed:
        return grade
    return replace(
        grade,
        sentence=wording(
            "passed_without", sentence=grade.sentence, capability=capability_name(capability)
        ),
        evidence={**grade.evidence, "refused": truncate(failure.message)},
        lacks=capability,
    )


def all_of(*checks: Callable[[], Grade]) -> Grade:
    """Return the first grade that does not pass, else the last one, with the evidence of those
    before it.
    """
    evidence: dict[str, Any] = {}
    grade = failed(wording("nothing_checked"))
    for check in checks:
        grade = check()
        evidence |= grade.evidence
        if not grade.passed:
            break
    return replace(grade, evidence=evidence)


def usable(outcome: Outcome | None) -> Grade:
    """Grade whether a call returned a complete answer; every grader of answers starts here.

    An outcome that infrastructure, access or our own mistake caused is not valid.
    """
    failure = failure_of(outcome)
    if failure:
        about_model = failure.reason.facts.status == Status.FAILED
        valid = about_model or failure.reason in REQUEST_REFUSALS
        sentence = wording(
            "call_failed" if valid else "call_not_judged",
            reason=failure.reason.value,
            message=truncate(failure.message),
        )
        evidence = failure_evidence(failure)
        if isinstance(outcome, Reply):
            evidence["text"] = truncate(text_of(outcome))
        return Grade(False, sentence, evidence, valid=valid, cause=failure)
    if isinstance(outcome, Reply) and not outcome.complete:
        sentence = wording("stream_without_end")
        return failed(sentence, events=last_events(outcome))
    if isinstance(outcome, Reply | EmbedReply):
        return passed(wording("answered"))
    return Grade(False, wording("not_called"), valid=False)


def on_answer(
    grader: Callable[Concatenate[AnyReply, P], Grade],
) -> Callable[Concatenate[Outcome | None, P], Grade]:
    """Let a grader see whole answers only; any other outcome gets the grade of `usable`."""

    @wraps(grader)
    def grade(outcome: Outcome | None, *args: P.args, **kwargs: P.kwargs) -> Grade:
        usability = usable(outcome)
        if not usability.passed or not isinstance(outcome, Reply | EmbedReply):
            return usability
        return grader(outcome, *args, **kwargs)

    return grade


def on_text(
    grader: Callable[Concatenate[str, P], Grade],
) -> Callable[Concatenate[Outcome | None, P], Grade]:
    """Let a grader see the text of whole answers only, character by character; any other outcome
    gets the grade of `usable`. For graders of the form, and of what programs read.
    """

    @wraps(grader)
    def grade(outcome: Outcome | None, *args: P.args, **kwargs: P.kwargs) -> Grade:
        usability = usable(outcome)
        return grader(text_of(outcome), *args, **kwargs) if usability.passed else usability

    return grade


def on_plain_text(
    grader: Callable[Concatenate[str, P], Grade],
) -> Callable[Concatenate[Outcome | None, P], Grade]:
    """Let a grader see what a reader sees of whole answers, without formatting (formatting.RULES);
    any other outcome gets the grade of `usable`.
    """

    @wraps(grader)
    def grade(outcome: Outcome | None, *args: P.args, **kwargs: P.kwargs) -> Grade:
        usability = usable(outcome)
        text = plain_text(text_of(outcome))
        return grader(text, *args, **kwargs) if usability.passed else usability

    return grade


def refuses(outcome: Outcome | None, pattern: str) -> bool:
    """Tell whether the service refused the request as invalid, with a message that matches
    `pattern` in any case.
    """
    return (
        isinstance(outcome, Failure)
        and (is_validation(outcome) or outcome.reason in REQUEST_REFUSALS)
        and re.search(pattern, outcome.message or "", re.IGNORECASE) is not None
    )


def is_refusal(outcome: Outcome | None) -> bool:
    """Tell a refusal of access or of the set-up from an answer, a breakdown or an outage."""
    refusals = (Status.PERMISSION_REQUIRED, Status.CONFIGURATION_REQUIRED)
    return isinstance(outcome, Failure) and outcome.reason.facts.status in refusals


def is_validation(failure: Failure) -> bool:
    """Tell whether the code says that the request is invalid, in the words of any API."""
    return (failure.code or "").rpartition("#")[2].lower() in INVALID_REQUEST_CODES


# Text.


def named_grade(text: str, success: bool, yes: str, no: str, *spellings: str) -> Grade:
    """Return the sentence with the code `yes` or `no` about something that has these spellings."""
    sentence = wording(yes if success else no, expected=spellings[0])
    expected = truncate(" | ".join(spellings))
    return Grade(success, sentence, {"expected": expected, "found": truncate(text)})


def text_grade(
    text: str, success: bool, yes: str, no: str, expected: str = "", *, name: str = ""
) -> Grade:
    """Return the sentence with the code `yes` or `no`, with the text and what was expected as
    evidence.
    """
    evidence = {"expected": truncate(expected)} if expected else {}
    sentence = wording(yes if success else no, **({"name": name} if name else {}))
    return Grade(success, sentence, {**evidence, "found": truncate(text)})


def count_grade(count: int, code: str, at_least: int, at_most: int | None, **figures: Any) -> Grade:
    """Grade whether a count lies within these bounds; None is no upper bound. The sentences have
    the codes `code` and `not_code`.
    """
    bounds: str = wording("or_more", least=at_least)
    if at_most is not None:
        bounds = str(at_least) if at_least == at_most else f"{at_least}-{at_most}"
    evidence = {"expected": bounds, "found": count}
    if count >= at_least and (at_most is None or count <= at_most):
        return passed(wording(code, count=count, **figures), **evidence)
    return failed(wording(f"not_{code}", count=count, bounds=bounds, **figures), **evidence)


@on_text
def not_empty(text: str) -> Grade:
    """Pass if the answer has text that is more than white space."""
    yes, no = "has_text", "no_text"
    return text_grade(text, bool(text.strip()), yes, no)


@on_text
def exact(text: str, expected: str) -> Grade:
    """Pass if the answer is this text, ignoring white space around it."""
    yes, no = "exact", "not_exact"
    return text_grade(text, text.strip() == expected.strip(), yes, no, expected)


def content_of(text: str) -> str:
    """Return the words of a text without list marks, case, accents, punctuation and white space."""
    return normalize_text(" ".join(text_lines(text)))


@on_plain_text
def normalised(text: str, *expected: str) -> Grade:
    """Pass if the answer is one of these texts, ignoring list marks, case, accents, punctuation and
    white space.
    """
    success = content_of(text) in {content_of(e) for e in expected}
    yes, no = "expected", "not_expected"
    return text_grade(text, success, yes, no, " | ".join(expected))


@on_plain_text
def mentions(text: str, expected: str) -> Grade:
    """Pass if the words of `expected` occur in the answer, side by side, ignoring case, accents and
    punctuation.
    """
    success = contains_words(text, expected)
    return named_grade(text, success, "mentions", "mentions_not", expected)


@on_plain_text
def names_only(text: str, expected: str, candidates: Sequence[str]) -> Grade:
    """Pass if the answer names this one of the candidates and no other, in words side by side:
    naming several is no answer.
    """
    success = contains_words(text, expected)
    others = [c for c in candidates if c != expected and contains_words(text, c)]
    if success and others:
        also = truncate(", ".join(others))
        sentence = wording("names_others_too", expected=expected, others=also)
        return failed(sentence, expected=expected, found=truncate(text))
    return named_grade(text, success, "names", "names_not", expected)


@on_plain_text
def mentions_one(text: str, *spellings: str) -> Grade:
    """Pass if one of these spellings of the same thing occurs in the answer, ignoring case, accents
    and punctuation.
    """
    success = any(contains_words(text, spelling) for spelling in spellings)
    return named_grade(text, success, "mentions", "mentions_not", spellings[0], *spellings[1:])


@on_plain_text
def in_order(text: str, *items: str) -> Grade:
    """Pass if these words or phrases occur in the answer, one after the other, ignoring case,
    accents and punctuation.
    """
    evidence = {"expected": truncate(", ".join(items)), "found": truncate(text)}
    normalized, start = f" {normalize_text(text)} ", 0
    for item in items:
        start = normalized.find(f" {normalize_text(item)} ", start)
        if start < 0:
            return failed(wording("not_in_order", item=truncate(item)), **evidence)
        start += len(normalize_text(item)) + 1
    return passed(wording("in_order"), **evidence)


@on_plain_text
def without(text: str, *forbidden: str) -> Grade:
    """Pass if none of these words or phrases occurs in the answer, ignoring case, accents and
    punctuation.
    """
    evidence = {"forbidden": truncate(", ".join(forbidden)), "found": truncate(text)}
    for phrase in forbidden:
        if contains_words(text, phrase):
            return failed(wording("forbidden", phrase=truncate(phrase)), **evidence)
    return passed(wording("nothing_forbidden"), **evidence)


@on_text
def matches(text: str, pattern: str) -> Grade:
    """Pass if the regular expression is found in the answer. A pattern that searches too long says
    nothing about the model.
    """
    try:
        success = patterns.search(pattern, text, PATTERN_TIMEOUT_S)
    except TimeoutError:
        sentence = wording("pattern_too_slow", seconds=round(PATTERN_TIMEOUT_S))
        return Grade(False, sentence, {"pattern": pattern}, valid=False)
    yes, no = "form", "not_form"
    return text_grade(text, success, yes, no, pattern)


@on_plain_text
def ends_with(text: str, suffix: str) -> Grade:
    """Pass if the answer ends with exactly this, ignoring closing quotes and full stops after
    it.
    """
    success = text.rstrip(" \n\"'.").endswith(plain_text(suffix).rstrip("."))
    yes, no = "ends", "ends_not"
    return text_grade(text, success, yes, no, suffix)


@on_text
def nfc_contains(text: str, expected: str) -> Grade:
    """Pass if the answer has this text, equal after Unicode NFC normalisation."""
    success = unicodedata.normalize("NFC", expected) in unicodedata.normalize("NFC", text)
    yes, no = "characters_unchanged", "characters_changed"
    return text_grade(text, success, yes, no, expected)


PLAUSIBLE = 0.2  # probability from which a text that is too short to tell may be in a language


@on_plain_text
def language(text: str, expected: str, ignoring: tuple[str, ...] = ()) -> Grade:
    """Pass if the answer is written in this language ("pt", "en"), or is too short to tell and may
    be. Phrases in `ignoring` are those that the prompt dictated.
    """
    probabilities = language_probabilities(text, ignoring)
    detected = detect_language(text, ignoring)
    code = f"language_{expected}"
    name = wording(code) if code in WORDINGS else expected
    evidence = {"expected": expected, "found": detected, "text": truncate(text)}
    if detected == expected:
        if line := foreign_line(text, expected, ignoring):
            sentence = wording("language_of_line", language=name)
            return failed(sentence, **evidence, line=truncate(line))
        return passed(wording("language", language=name), **evidence)
    plausible = probabilities.get(expected, 0.0) >= PLAUSIBLE
    if not detected and plausible and is_short(text, ignoring):
        return passed(wording("language_plausible", language=name), **evidence)
    if detected:
        other = wording(f"language_{detected}")
        return failed(wording("other_language", language=name, other=other), **evidence)
    return failed(wording("not_language", language=name), **evidence)


@on_plain_text
def words(text: str, at_least: int = 0, at_most: int | None = None) -> Grade:
    """Pass if the number of words lies within these bounds."""
    return count_grade(len(re.findall(r"\w+(?:['’-]\w+)*", text)), "words", at_least, at_most)


@on_plain_text
def lines(text: str, at_least: int = 0, at_most: int | None = None) -> Grade:
    """Pass if the number of lines that are not blank lies within these bounds."""
    count = sum(bool(line.strip()) for line in text.splitlines())
    return count_grade(count, "lines", at_least, at_most)


@on_plain_text
def bullets(text: str, at_least: int = 0, at_most: int | None = None) -> Grade:
    """Pass if the number of lines that start as a list item, with a mark of any style, lies within
    these bounds; "-so" is one as "- so" is, and "-5 so" below other items.
    """
    items = [line for line in text.splitlines() if is_list_item(line)]
    hyphens = any(item.lstrip().startswith("-") for item in items)
    negative = [line for line in text.splitlines() if re.match(r"\s*-\d", line)]
    count = len(items) + (len(negative) if hyphens else 0)
    return count_grade(count, "bullets", at_least, at_most)


# English inflection and derivation: after a word, and after one that lost its e or y.
ENDINGS = "e?s['’]?|['’]s|e?d|ings?|e?rs?|y|ly|ish|like|less|fuls?"
STEM_ENDINGS = "ings?|ed|ish|ies|ied|ier|iest"


@on_plain_text
def occurrences(text: str, word: str, times: int) -> Grade:
    """Pass if this very word, in any case, occurs so many times and no other form of it does:
    plural, possessive or derived. Compounds (windowsill) are other words.
    """
    stem = word[:-1] if word.endswith(("e", "y")) else word
    forms = rf"{re.escape(word)}(?:{ENDINGS})|{re.escape(stem)}(?:{STEM_ENDINGS})"
    other = re.search(rf"(?<![^\W_])(?:{forms})(?![^\W_])", text, re.IGNORECASE)
    if other:
        sentence = wording("other_form", form=truncate(other[0]), word=word)
        return failed(sentence, expected=word, found=truncate(text))
    count = len(re.findall(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text, re.IGNORECASE))
    return count_grade(count, "word", times, times, word=word)


@on_plain_text
def different_lines(text: str) -> Grade:
    """Pass if no line of the answer says the same as another, ignoring case, accents and
    punctuation.
    """
    lines = [normal for line in text_lines(text) if (normal := normalize_text(line))]
    success = bool(lines) and len(set(lines)) == len(lines)
    yes, no = "lines_differ", "lines_repeat"
    return text_grade(text, success, yes, no)


@on_plain_text
def no_character(text: str, character: str, code: str) -> Grade:
    """Pass if the answer does not have this character, whose name is the wording `code`."""
    return text_grade(text, character not in text, "no_character", "character", name=wording(code))


@on_plain_text
def capitals(text: str) -> Grade:
    """Pass if every letter of the answer is a capital, and there are letters."""
    success = text.upper() == text and any(c.isalpha() for c in text)
    return text_grade(text, success, "capitals", "not_capitals")


@on_plain_text
def sections(text: str, *titles: str) -> Grade:
    """Pass if the answer starts with the first of these titles, each alone on its line with text
    below, in this order.
    """
    evidence = {"expected": truncate(", ".join(titles)), "found": truncate(text)}
    expected = [normalize_text(title) for title in titles]
    actual = [normalize_text(line) for line in text_lines(text) if normalize_text(line)]
    starts = [i for i, line in enumerate(actual) if line in expected]
    if [actual[i] for i in starts] != expected:
        return failed(wording("titles_missing"), **evidence)
    if starts[0] != 0:
        return failed(wording("title_not_first"), **evidence)
    ends = [*starts[1:], len(actual)]
    if any(end - start < 2 for start, end in zip(starts, ends, strict=True)):
        return failed(wording("title_without_text"), **evidence)
    return passed(wording("sections", count=len(titles)), **evidence)


@on_plain_text
def lines_are(text: str, *expected: str) -> Grade:
    """Pass if the lines of the answer that are not blank are these, ignoring list marks, and quotes
    and full stops around them.
    """
    actual = [line.strip(" \"';.,") for line in text_lines(text)]
    yes, no = "lines_expected", "lines_not_expected"
    return text_grade(text, actual == list(expected), yes, no, " | ".join(expected))


# A letter chosen for a number: "1-B" in the requested form; "1) B" or "1. (B)" where the letter is
# alone; and "1. B Brasília", where it may also be the first word of a sentence.
CHOICE_FORMS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"(?<![^\W_])(\d)-[(\['\"]{0,2}([A-Za-z])(?![^\W_])",
        r"(?<![^\W_])(\d)[ .):=→–—|-]{0,4}[(\['\"]{0,2}([A-Z])"
        r"(?=[\])'\"]*[ ]*(?:$|[-,;:|/.()\]–—]|\d))",
        r"(?<![^\W_])(\d)[ .):=→–—|-]{1,4}([A-Z])(?=[ ]+[A-ZÀ-Ý0-9])",
    )
)


# Further letters for the same number: 1-A/B, 2-A ou C.
MORE_LETTERS = re.compile(
    r"(\d)-[(\['\"]?[A-Za-z](?:[)\]'\"]? ?(?:[/|,]| e | ou | or | and ) ?[(\['\"]?[A-Z]"
    r"(?! ?[^\W\d_]))"
)


def several_letters(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the numbers that are given more letters than one: one after the other, or more than a
    choice and its correction.
    """
    letters: dict[str, set[str]] = {}
    several = []
    for (number, letter), (before, other) in zip(pairs, [("", ""), *pairs], strict=False):
        letters.setdefault(number, set()).add(letter.upper())
        if (number == before and letter.upper() != other.upper()) or len(letters[number]) > 2:
            several.append(number)
    return list(dict.fromkeys(several))


@on_plain_text
def choices(text: str, expected: Sequence[str]) -> Grade:
    """Pass if in numbered choices such as "1-B 2-D" the letters chosen for 1, 2, ... are these.

    The requested form counts before all others, so that an explanation below it changes nothing;
    within a form a model that corrects itself is held to its last word. Naming several letters for
    a number is no choice.
    """
    right = {str(n): letter for n, letter in enumerate(expected, 1)}
    chosen: dict[str, str] = {}
    several = MORE_LETTERS.findall(text)
    for form in CHOICE_FORMS:
        pairs = [pair for pair in form.findall(text) if pair[0] not in chosen]
        several += several_letters(pairs)
        chosen |= {number: letter.upper() for number, letter in pairs}
    evidence = {
        "expected": " ".join(f"{number}-{letter}" for number, letter in right.items()),
        "found": " ".join(f"{number}-{chosen.get(number, '?')}" for number in right),
        "text": truncate(text),
    }
    if several := sorted({number for number in several if number in right}):
        sentence = wording("several_letters", numbers=", ".join(several))
        return failed(sentence, **evidence)
    wrong = [number for number, letter in right.items() if chosen.get(number) != letter]
    if not wrong:
        return passed(wording("choices", count=len(right)), **evidence)
    numbers = ", ".join(wrong)
    sentence = wording("choices_wrong", wrong=len(wrong), count=len(right), numbers=numbers)
    return failed(sentence, **evidence)


@on_plain_text
def labels(text: str, allowed: Sequence[str], *expected: str) -> Grade:
    """Pass if the labels named in the answer, of those allowed, are these, in this order and no
    others.
    """
    known = {normalize_text(label) for label in allowed}
    actual = [word for word in normalize_text(text).split() if word in known]
    success = actual == [normalize_text(label) for label in expected]
    yes, no = "labels", "not_labels"
    return text_grade(text, success, yes, no, ", ".join(expected))


@on_plain_text
def last_line(text: str, *items: str) -> Grade:
    """Pass if the last line of the answer ends with these words, in this order, ignoring case,
    accents, punctuation and an "and" between them.
    """
    normalized = [normalize_text(line) for line in text_lines(text) if normalize_text(line)]
    expected = f" {normalize_text(' '.join(items))}"
    last = re.sub(r"\b(?:and|then|e) ", "", normalized[-1]) if normalized else ""
    success = f" {last}".endswith(expected)
    yes, no = "last_line", "not_last_line"
    return text_grade(text, success, yes, no, ", ".join(items))


# "12 or 13", "R$ 12 ou R$ 13"
ALTERNATIVES = re.compile(r"(\d[\d.,]*)\s*[^\W\d]{0,12}\s+(?:or|ou)\s+\D{0,12}?(\d[\d.,]*)")


def alternatives(text: str, expected: Decimal) -> str:
    """Return where a text offers this number or another one; "" if it does not."""
    for match in ALTERNATIVES.finditer(text):
        sides = [expected in values for values in find_numbers(f"{match[1]}\n{match[2]}")]
        if any(sides) and not all(sides):
            return match[0]
    return ""


@on_plain_text
def number(text: str, expected: float, tolerance: float = 0.0) -> Grade:
    """Pass if the last number of the answer is this one within a tolerance, written 1.234,56 or
    1,234.56. Naming another one beside it ("12 or 13") is no answer.
    """
    numbers = find_numbers(text)
    evidence = {"expected": expected, "found": truncate(text)}
    if not numbers:
        return failed(wording("no_number"), **evidence)
    right = Decimal(str(expected))
    if not any(abs(x - right) <= Decimal(str(tolerance)) for x in numbers[-1]):
        return failed(wording("not_number", expected=f"{expected:g}"), **evidence)
    if both := alternatives(text, right):
        return failed(wording("several_numbers", both=truncate(both)), **evidence)
    return passed(wording("number", expected=f"{expected:g}"), **evidence)


@on_plain_text
def has_number(text: str, expected: float | str) -> Grade:
    """Pass if this number occurs in the answer, in either notation, and is not one of several
    that the answer offers.
    """
    evidence = {"expected": truncate(str(expected)), "found": truncate(text)}
    right = Decimal(str(expected))
    if not any(right in values for values in find_numbers(text)):
        return failed(wording("lacks_number", expected=str(expected)), **evidence)
    if both := alternatives(text, right):
        return failed(wording("several_numbers", both=truncate(both)), **evidence)
    return passed(wording("has_number", expected=str(expected)), **evidence)


@on_plain_text
def only_number(text: str, expected: float, *repeatable: float) -> Grade:
    """Pass if the answer has this number and no other but those of the question, `repeatable`:
    naming several is no answer.
    """
    evidence = {"expected": str(expected), "found": truncate(text)}
    numbers = [{abs(n) for n in values} for values in find_numbers("\n".join(text_lines(text)))]
    right = Decimal(str(expected))
    if not any(right in values for values in numbers):
        return failed(wording("not_number", expected=str(expected)), **evidence)
    known = {right, *(Decimal(str(n)) for n in repeatable)}
    for values in numbers:
        if not values & known:
            figures = {"expected": str(expected), "others": str(min(values))}
            return failed(wording("names_others_too", **figures), **evidence)
    return passed(wording("number", expected=str(expected)), **evidence)


@on_plain_text
def figure_beside(text: str, expected: float, *places: str) -> Grade:
    """Pass if this number stands where it belongs, and no other number does. A place is a pattern
    whose group is the figure, within the words that say what it is; the first one found counts.
    """
    in_places = (re.findall(place, text, re.IGNORECASE) for place in places)
    figures = next(filter(None, in_places), [])
    evidence = {"expected": str(expected), "figures": figures[:5], "found": truncate(text)}
    if not figures:
        return failed(wording("number_of_nothing", expected=str(expected)), **evidence)
    for figure in figures:
        if not any(Decimal(str(expected)) in values for values in find_numbers(figure)):
            figures_in_place = {"figure": truncate(figure), "expected": str(expected)}
            return failed(wording("number_out_of_place", **figures_in_place), **evidence)
    return passed(wording("number_in_place", expected=str(expected)), **evidence)


@on_plain_text
def without_copy(text: str, source: str) -> Grade:
    """Pass if the answer does not repeat this text whole, ignoring case and punctuation."""
    yes, no = "own_words", "only_repeats"
    return text_grade(text, not contains_words(text, source), yes, no)


@on_plain_text
def no_other_numbers(text: str, allowed: str) -> Grade:
    """Pass if every number of the answer also occurs in the text `allowed`; the numbers of list
    items do not count.
    """
    # The hyphens of 2026-03-01 are not signs, hence abs().
    known = {abs(value) for values in find_numbers(allowed) for value in values}
    evidence = {"found": truncate(text)}
    for values in find_numbers("\n".join(text_lines(text))):
        if not {abs(value) for value in values} & known:
            return failed(wording("number_unknown", number=str(min(values))), **evidence)
    return passed(wording("numbers_known"), **evidence)


def same_text(first: Outcome | None, second: Outcome | None, *, exact: bool = False) -> Grade:
    """Pass if both answers are the same; unless `exact`, formatting, case, accents, punctuation and
    white space do not matter.
    """
    grade = all_of(lambda: usable(first), lambda: usable(second))
    if not grade.passed:
        return grade
    one, other = text_of(first), text_of(second)
    evidence = {"first": truncate(one), "second": truncate(other)}
    alike = content_of(plain_text(one)) == content_of(plain_text(other))
    if one == other or (alike and not exact):
        return passed(wording("same_answers"), **evidence)
    return failed(wording("other_answers"), **evidence)


def stops_before(first: Outcome | None, control: Outcome | None, marker: str) -> Grade:
    """Pass if the first answer is what the other one says up to this marker, and ends there. The
    numbers of list items do not count.
    """

    def words_of(text: str) -> list[str]:
        return [word for word in normalize_text(plain_text(text)).split() if not word.isdecimal()]

    stopped, whole = words_of(text_of(first)), words_of(text_of(control).partition(marker)[0])
    evidence = {"first": truncate(text_of(first)), "second": truncate(text_of(control))}
    if stopped and stopped == whole:
        return passed(wording("stopped", marker=marker), **evidence)
    return failed(wording("stopped_not", marker=marker), **evidence)


# JSON and tools.

ExpectedCall = tuple[Tool, Mapping[str, Any]]


def schema_problem(value: Any, schema: Mapping[str, Any]) -> str:
    """Say in a few words how a value violates a JSON Schema (2020-12); "" if it does not."""
    from certification.suite.json_schema import first_violation  # noqa: PLC0415, slow to import

    return truncate(first_violation(value, schema), 160)


def argument_problem(use: ToolUse, schema: Mapping[str, Any]) -> str:
    """Say in a few words what is wrong with the arguments of a call; "" if nothing."""
    if not isinstance(use.input, Mapping):
        return "they are not a JSON object"
    return schema_problem(use.input, schema)


@on_text
def json_answer(text: str, schema: Mapping[str, Any], expected: Any = None) -> Grade:
    """Pass if the answer is JSON (alone or in one code fence) that is valid against the schema and,
    if given, equal to `expected`.
    """
    is_json, value = parse_json(text)
    if not is_json:
        return failed(wording("not_json"), found=truncate(text))
    try:
        problem = schema_problem(value, schema)
    except TimeoutError as error:
        return Grade(False, wording("schema_unchecked", problem=str(error)), valid=False)
    if problem:
        return failed(wording("json_misfit", problem=problem), found=truncate(text))
    if expected is not None and value != expected:
        return failed(wording("json_values"), expected=truncate(expected), found=truncate(text))
    return passed(wording("json"), found=truncate(text))


@on_answer
def tool_call(
    reply: AnyReply,
    name: str,
    schema: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
) -> Grade:
    """Pass if the answer calls this tool, once, with arguments valid against its schema and, if
    given, equal to `arguments`.
    """
    uses = tool_uses(reply)
    if not uses:
        return failed(wording("no_call"), expected=name, found=truncate(text_of(reply)))
    use = uses[0]
    evidence = {
        "expected": name,
        "found": [truncate(u.name) for u in uses],
        "arguments": truncate(use.raw_input or use.input),
    }
    if len(uses) != 1 or use.name != name:
        return failed(wording("not_one_call", name=name), **evidence)
    problem = argument_problem(use, schema)
    if problem:
        return failed(wording("call_misfit", problem=problem), **evidence)
    if arguments is not None and dict(use.input) != dict(arguments):
        return failed(wording("call_arguments"), **evidence, wanted=truncate(arguments))
    return passed(wording("call", name=name), **evidence)


@on_answer
def tool_calls(reply: AnyReply, *expected: ExpectedCall) -> Grade:
    """Pass if the answer makes exactly these calls, in any order, with valid arguments.

    The arguments must be the expected ones; texts are compared ignoring case, accents and
    punctuation.
    """
    uses = list(tool_uses(reply))
    evidence: dict[str, Any] = {
        "expected": [truncate(tool.name) for tool, _ in expected],
        "found": [truncate(use.name) for use in uses],
        "arguments": [
            truncate(use.input if use.input is not None else use.raw_input) for use in uses
        ],
    }
    if not uses:
        return failed(wording("no_call"), **evidence, text=truncate(text_of(reply)))
    if sorted(str(use.name) for use in uses) != sorted(tool.name for tool, _ in expected):
        sentence = wording("calls_other", count=len(uses), expected=len(expected))
        return failed(sentence, **evidence)
    for tool, arguments in expected:
        candidates = [use for use in uses if use.name == tool.name]
        for use in candidates:
            if not argument_problem(use, tool.schema) and loosely_equal(use.input, arguments):
                uses.remove(use)
                break
        else:
            problem = argument_problem(candidates[0], tool.schema)
            sentence = (
                wording("calls_misfit", name=tool.name, problem=problem)
                if problem
                else wording("calls_arguments", name=tool.name)
            )
            return failed(sentence, **evidence, wanted=truncate(dict(arguments)))
    if len(expected) == 1:
        return passed(wording("calls_one", name=expected[0][0].name), **evidence)
    return passed(wording("calls"), **evidence)


@on_answer
def no_tool_call(reply: AnyReply) -> Grade:
    """Pass if the answer calls no tool."""
    uses = tool_uses(reply)
    if not uses:
        return passed(wording("no_call"))
    names = [truncate(use.name) for use in uses]
    return failed(wording("call_unneeded"), found=names)


# The shape of a reply.


@on_answer
def has_usage(reply: AnyReply) -> Grade:
    """Pass if the reply reports its input and output tokens, and both are at least 1."""
    usage = usage_of(reply)
    if usage and usage.input_tokens > 0 and usage.output_tokens > 0:
        return passed(
            wording("tokens_reported"),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
        )
    return failed(wording("tokens_not_reported"), usage=truncate(reply.usage))


def tokens_grade(reply: AnyReply, side: str, at_least: int, at_most: int) -> Grade:
    """Grade whether the "input" or "output" tokens lie within these bounds."""
    usage = usage_of(reply)
    if usage is None:
        return failed(wording("tokens_not_reported"))
    count = usage.input_tokens if side == "input" else usage.output_tokens
    bounds = f"{at_least}-{at_most}"
    evidence = {f"{side}_tokens": count, f"expected_{side}_tokens": bounds}
    if at_least <= count <= at_most:
        return passed(wording(f"{side}_tokens", count=count, bounds=bounds), **evidence)
    return failed(wording(f"not_{side}_tokens", count=count, bounds=bounds), **evidence)


@on_answer
def output_tokens(reply: AnyReply, at_most: int, at_least: int = 1) -> Grade:
    """Pass if the output tokens, as the service counted them, lie within these bounds."""
    return tokens_grade(reply, "output", at_least, at_most)


@on_answer
def input_tokens(reply: AnyReply, at_least: int, at_most: int) -> Grade:
    """Pass if the input tokens, as the service counted them, lie within these bounds."""
    return tokens_grade(reply, "input", at_least, at_most)


@on_answer
def stop_reason(reply: AnyReply, *allowed: str) -> Grade:
    """Pass if the model stopped for one of these reasons."""
    actual = reply.stop_reason if isinstance(reply, Reply) else ""
    evidence = {"expected_stop": " | ".join(allowed), "stop_reason": truncate(actual)}
    if actual in allowed:
        return passed(wording("stop_reason", actual=actual), **evidence)
    expected = " or ".join(allowed)
    if not actual:
        return failed(wording("no_stop_reason", expected=expected), **evidence)
    sentence = wording("not_stop_reason", actual=truncate(actual), expected=expected)
    return failed(sentence, **evidence)


def ended_by_itself(outcome: Outcome | None, limit: int) -> bool:
    """Tell whether an answer ended before this many tokens, so that nothing could cut it."""
    usage = usage_of(outcome)
    early = usage is None or usage.output_tokens < limit
    return isinstance(outcome, Reply) and outcome.stop_reason == "end_turn" and early


def cut_at(outcome: Outcome | None, limit: int, *, at_least: int = 1) -> Grade:
    """Pass if the answer was cut at this many tokens (maxTokens) and says so. One that ended by
    itself before proves nothing and does not pass.
    """
    if usable(outcome).passed and ended_by_itself(outcome, limit):
        return failed(
            wording("ended_early", limit=limit), limit=limit, found=truncate(text_of(outcome))
        )
    return all_of(
        lambda: stop_reason(outcome, "max_tokens"),
        lambda: output_tokens(outcome, limit, at_least),
    )


EVENT_LETTERS = {
    "messageStart": "m",
    "contentBlockStart": "s",
    "contentBlockDelta": "d",
    "contentBlockStop": "e",
    "messageStop": "M",
    "metadata": "U",
}
# Text and reasoning blocks have no contentBlockStart; blocks that have one (tool calls) may come
# without a delta.
VALID_ORDER = re.compile(r"m(?:(?:sd*|d+)e)+MU")


@on_answer
def event_order(reply: AnyReply) -> Grade:
    """Pass if the stream's events came whole and in order: messageStart, the blocks' events,
    messageStop, metadata.
    """
    events: Any = reply.events if isinstance(reply, Reply) else ()
    if not isinstance(events, tuple | list):
        events = ()
    letters = "".join(EVENT_LETTERS.get(e, "?") if isinstance(e, str) else "?" for e in events)
    order = " ".join(name for name, _ in groupby(map(str, events)))
    evidence = {"events": len(events), "order": truncate(order)}
    if "d" in letters and VALID_ORDER.fullmatch(letters):
        return passed(wording("events"), **evidence)
    return failed(wording("not_events"), **evidence)


@on_answer
def stream_ends(reply: AnyReply) -> Grade:
    """Pass if the last two events of the stream are messageStop and metadata."""
    tail = last_events(reply)
    if tail[-2:] == ["messageStop", "metadata"]:
        return passed(wording("stream_ends"), tail=tail)
    return failed(wording("stream_ends_not"), tail=tail)


@on_answer
def no_gap_over(reply: AnyReply, limit_ms: float) -> Grade:
    """Pass if no two events of the stream came further apart than this (milliseconds)."""
    gap = milliseconds(reply.timing.max_gap_ms) if isinstance(reply, Reply) else None
    if gap is None:
        return failed(wording("gaps_unknown"))
    evidence = {"max_gap_ms": round(gap, 1), "most_ms": limit_ms}
    if gap <= limit_ms:
        return passed(wording("gap", seconds=round(gap / 1000, 1)), **evidence)
    return failed(wording("gap_too_long", seconds=round(gap / 1000, 1)), **evidence)


MEASURABLE_S = 0.05  # after the first token: a shorter time is a buffer's, not the model's


def speed(outcome: Outcome | None, at_least: int) -> Grade:
    """Pass if the stream was long enough to be timed: `at_least` output tokens. The evidence holds
    the figures.

    `ttft_ms` and `total_ms` in milliseconds, `tokens_per_second` after the first token (None where
    all came at once), `output_tokens` and `input_tokens` as the service counted them.
    """
    grade = all_of(lambda: has_usage(outcome), lambda: stream_ends(outcome))
    usage = usage_of(outcome)
    if not grade.passed or usage is None or not isinstance(outcome, Reply):
        return grade
    ttft, total = milliseconds(outcome.timing.ttft_ms), milliseconds(outcome.timing.total_ms)
    if ttft is None or total is None:
        return failed(wording("ttft_unknown"))
    seconds = (total - ttft) / 1000
    rate = round(usage.output_tokens / seconds, 2) if seconds > MEASURABLE_S else None
    evidence = {
        "ttft_ms": round(ttft, 1),
        "total_ms": round(total, 1),
        "tokens_per_second": rate,
        "output_tokens": usage.output_tokens,
        "input_tokens": usage.input_tokens,
    }
    count = usage.output_tokens
    if count < at_least:
        return failed(wording("too_few_tokens", count=count, needed=at_least), **evidence)
    return passed(wording("timed", ttft=round(ttft), count=count), **evidence)
