"""Graders as tables, and fuzzed: any reply, however broken, gives a grade and never an exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certification.exchange import (
    EmbedReply,
    Failure,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    Text,
    Timing,
    ToolUse,
    Usage,
)
from certification.reasons import Reason
from certification.suite import embedding, graders, registry
from certification.suite.case import Context, Grade, Ref

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def reply(text: str = "", *blocks: Any, **more: Any) -> Reply:
    content = (*((Text(text),) if text else ()), *blocks)
    return Reply(content, more.pop("stop_reason", "end_turn"), more.pop("usage", Usage(10, 5)), Timing(1.0), **more)


@pytest.mark.parametrize(
    ("text", "passes"), [("OK", True), (" OK\n", True), ("ok", False), ("OK.", False), ("", False)]
)
def test_exact(text: str, passes: bool) -> None:
    assert graders.exact(reply(text), "OK").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"), [("São Paulo.", True), ("**sao  paulo**", True), ("Sampa", True), ("São Paulo, SP", False)]
)
def test_normalised(text: str, passes: bool) -> None:
    assert graders.normalised(reply(text), "São Paulo", "Sampa").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"), [("It is Mingau!", True), ("mingau", True), ("Mingaus", False), ("", False)]
)
def test_mentions(text: str, passes: bool) -> None:
    assert graders.mentions(reply(text), "Mingau").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"), [("one, two; three", True), ("1. One\n2. Two\n3. Three", True), ("two one three", False), ("one two", False)]
)  # fmt: skip
def test_in_order(text: str, passes: bool) -> None:
    assert graders.in_order(reply(text), "one", "two", "three").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"), [("apple", True), ("applehalt", True), ("apple HALT", False), ("halt.", False)]
)
def test_without(text: str, passes: bool) -> None:
    assert graders.without(reply(text), "HALT").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [("Done. KD-2017", True), ("KD-2017.\n", True), ("`KD-2017`", True), ("KD-2018", False), ("KD-2017 ok", False)],
)
def test_ends_with(text: str, passes: bool) -> None:
    assert graders.ends_with(reply(text), "KD-2017").passed is passes


def test_matches() -> None:
    assert graders.matches(reply("2026-03-01"), r"^\d{4}-\d\d-\d\d$").passed
    assert not graders.matches(reply("1/3/2026"), r"^\d{4}-\d\d-\d\d$").passed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1234", [{"1234"}]),
        ("R$ 1.234,56", [{"1234.56"}]),
        ("$1,234.56", [{"1234.56"}]),
        ("1.234", [{"1234", "1.234"}]),
        ("-7 or 3.5.", [{"-7"}, {"3.5"}]),
        ("1.234.567,8", [{"1234567.8"}]),
        ("1,2,3", []),
        ("version v12", []),
        ("none", []),
    ],
)
def test_numbers_are_read_in_both_notations(text: str, found: list[set[str]]) -> None:
    assert graders.numbers(text) == [{Decimal(x) for x in readings} for readings in found]


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("42", True),
        ("The answer is 41,995.", True),
        ("41.9", False),
        ("42 is wrong, it is 50", False),
        ("forty-two", False),
    ],
)
def test_number_takes_the_last_one_within_the_tolerance(text: str, passes: bool) -> None:
    assert graders.number(reply(text), 42, 0.01).passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ('{"city": "Rio", "days": 3}', True),
        ('```json\n{"city": "Rio", "days": 3}\n```', True),
        ('Here: {"city": "Rio", "days": 3}', False),
        ('{"city": "Rio", "days": "3"}', False),
        ('{"city": "Rio", "days": 3, "x": 1}', False),
        ('{"city": "Rio", "days": 4}', False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_json_answer(text: str, passes: bool) -> None:
    assert graders.json_answer(reply(text), SCHEMA, {"city": "Rio", "days": 3}).passed is passes


@pytest.mark.parametrize(
    ("uses", "passes"),
    [
        ([ToolUse("a", "trip", {"city": "Rio", "days": 3})], True),
        ([ToolUse("a", "trip", {"city": "Rio", "days": 4})], False),
        ([ToolUse("a", "trip", {"city": "Rio"})], False),
        ([ToolUse("a", "trap", {"city": "Rio", "days": 3})], False),
        ([ToolUse("a", "trip", None, '{"city": "Ri')], False),
        ([ToolUse("a", "trip", '{"city": "Rio", "days": 3}')], False),
        ([ToolUse("a", "trip", {"city": "Rio", "days": 3})] * 2, False),
        ([], False),
    ],
)
def test_tool_call(uses: list[ToolUse], passes: bool) -> None:
    assert graders.tool_call(reply("", *uses), "trip", SCHEMA, {"city": "Rio", "days": 3}).passed is passes


def test_a_schema_that_is_none_is_no_exception() -> None:
    assert "cannot be checked" in graders.schema_problem({}, {"type": "nonsense"})
    assert graders.schema_problem({"a": 1}, {"properties": {"a": {"type": "string"}}}) == "a: 1 is not of type 'string'"


@pytest.mark.parametrize(("text", "count"), [("um dois três", 3), ("d'água é bem-vinda", 3), ("", 0), ("- a\n- b", 2)])
def test_words(text: str, count: int) -> None:
    assert graders.words(reply(text), count, count).passed
    assert not graders.words(reply(text), count + 1).passed


def test_lines_and_bullets() -> None:
    text = "Título\n\n- um\n* dois\n3. três\n"
    assert graders.lines(reply(text), 4, 4).passed
    assert graders.bullets(reply(text), 3, 3).passed
    assert not graders.bullets(reply(text), at_most=2).passed
    assert graders.bullets(reply("-5 degrees\n--\n* "), 0, 0).passed


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("O contrato termina em dezembro e não pode ser renovado sem aviso.", "pt"),
        ("The contract ends in December and cannot be renewed without notice.", "en"),
        ("Sim, é possível.", "pt"),
        ("Yes, you can do that.", "en"),
        ("42", ""),
        ("", ""),
    ],
)
def test_language(text: str, language: str) -> None:
    assert graders.language_of(text) == language
    assert graders.language(reply(text), "pt").passed is (language == "pt")


@pytest.mark.parametrize("text", [t for group in embedding.CONCEPTS for t in group])
def test_short_portuguese_sentences_are_told_from_english(text: str) -> None:
    assert graders.language_of(text) == "pt"


def test_nfc_contains() -> None:
    assert graders.nfc_contains(reply("“ação”"), "ação").passed
    assert not graders.nfc_contains(reply("acao"), "ação").passed


def test_stop_reason_usage_and_tokens() -> None:
    assert graders.stop_reason(reply("a"), "end_turn").passed
    assert not graders.stop_reason(reply("a", stop_reason="malformed_tool_use"), "end_turn", "tool_use").passed
    assert graders.has_usage(reply("a")).passed
    assert not graders.has_usage(reply("a", usage=None)).passed
    assert not graders.has_usage(reply("a", usage=Usage(0, 5))).passed
    assert graders.output_tokens(reply("a"), 5).passed
    assert not graders.output_tokens(reply("a"), 4).passed
    assert graders.input_tokens(reply("a"), 10, 10).passed
    assert not graders.input_tokens(reply("a"), 11, 20).passed


def test_reasoning_is_never_the_answer() -> None:
    assert not graders.exact(reply("", Reasoning("OK")), "OK").passed
    assert graders.exact(reply("OK", Reasoning("not OK")), "OK").passed


@pytest.mark.parametrize("reason", list(Reason))
def test_what_infrastructure_and_access_ended_is_not_valid(reason: Reason) -> None:
    grade = graders.usable(Failure(reason, "x"))
    says_something = {
        Reason.MODEL_ERROR, Reason.STREAM_ERROR, Reason.STREAM_TRUNCATED, Reason.STREAM_CORRUPT, Reason.BAD_RESPONSE,
        Reason.GUARDRAIL, Reason.CONTENT_FILTER, Reason.CONTEXT_TOO_LONG, Reason.GATE_FAILED,
        Reason.PARAMETER_NOT_SUPPORTED, Reason.MODALITY_NOT_SUPPORTED, Reason.MALFORMED_REQUEST,
    }  # fmt: skip
    assert grade.valid is (reason in says_something)
    assert not grade.passed


def test_refusals_are_known_by_code_or_reason_and_words() -> None:
    said = "This model doesn't support the stopSequences field."
    assert graders.refuses(Failure(Reason.UNKNOWN, said, "validationException"), "stopsequences")
    assert graders.refuses(Failure(Reason.PARAMETER_NOT_SUPPORTED, said), "stopsequences")
    assert not graders.refuses(Failure(Reason.THROTTLED_TOKENS, said, "ThrottlingException"), "stopsequences")
    assert not graders.refuses(reply(said), "stopsequences")


def test_evidence_is_short_and_fit_for_a_database() -> None:
    grade = graders.exact(reply("a\x00\ud800" + "x" * 10_000), "b")
    assert len(json.dumps(dict(grade.evidence))) < 1000
    assert "\x00" not in grade.evidence["found"]
    grade.evidence["found"].encode()


# Fuzzing.

TEXTS = (
    st.text(max_size=80)
    | st.just("\ud800\x00")
    | st.sampled_from(["[" * 3000, '{"a":' * 500, "1" * 5000, "NaN", "1e999"])
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BLOCKS = st.one_of(
    st.builds(Text, TEXTS | st.none()),
    st.builds(Reasoning, TEXTS),
    st.builds(ToolUse, st.text(max_size=5), st.sampled_from(["trip", "", "book_table", None]), ANYTHING, TEXTS),
    ANYTHING,
)
COUNTS = st.integers(-5, 10**9) | st.none() | st.floats() | st.booleans()
EVENTS = st.sampled_from(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "", None]
)
REPLIES = st.builds(
    Reply,
    content=st.lists(BLOCKS, max_size=4).map(tuple) | st.none() | ANYTHING,
    stop_reason=st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence", "", None])
    | st.text(max_size=5),
    usage=st.none() | st.builds(Usage, COUNTS, COUNTS) | ANYTHING,
    timing=st.just(Timing(1.0)),
    operation=st.sampled_from(Operation),
    events=st.lists(EVENTS, max_size=9).map(tuple) | st.none(),
    complete=st.booleans(),
)
EMBEDDINGS = st.builds(
    EmbedReply,
    vectors=st.lists(st.lists(st.floats() | st.none(), max_size=4).map(tuple), max_size=9).map(tuple) | ANYTHING,
    usage=st.none(),
    timing=st.just(Timing(1.0)),
)
FAILURES = st.builds(
    Failure,
    reason=st.sampled_from(Reason),
    message=TEXTS | st.sampled_from(["toolChoice", "stopSequences", "tool use in streaming mode", "system messages"]),
    code=st.sampled_from(["ValidationException", "validationException", "", "ThrottlingException"]),
    http_status=st.none() | st.sampled_from([400, 403, 429, 500, 503]),
    operation=st.sampled_from(Operation),
    partial=st.none() | REPLIES,
)
OUTCOMES = REPLIES | EMBEDDINGS | FAILURES

FUZZED: list[Callable[[Outcome | None], Grade]] = [
    graders.usable,
    graders.not_empty,
    lambda o: graders.exact(o, "a"),
    lambda o: graders.normalised(o, "a", "b"),
    lambda o: graders.mentions(o, "a"),
    lambda o: graders.in_order(o, "a", "b"),
    lambda o: graders.without(o, "a"),
    lambda o: graders.matches(o, r"\d+"),
    lambda o: graders.ends_with(o, "a"),
    lambda o: graders.nfc_contains(o, "ã"),
    lambda o: graders.language(o, "pt"),
    lambda o: graders.words(o, 1, 3),
    lambda o: graders.lines(o, 1),
    lambda o: graders.bullets(o, 0, 1),
    lambda o: graders.number(o, 3.5, 0.1),
    lambda o: graders.json_answer(o, SCHEMA, {"a": 1}),
    lambda o: graders.tool_call(o, "trip", SCHEMA, {"a": 1}),
    graders.has_usage,
    lambda o: graders.stop_reason(o, "end_turn"),
    graders.event_order,
    lambda o: graders.output_tokens(o, 10),
    lambda o: graders.input_tokens(o, 1, 10),
    lambda o: embedding.vectors(o, 2, 3),
]


def judge_sound(grade: Grade) -> None:
    assert isinstance(grade, Grade)
    assert grade.sentence
    assert grade.valid or not grade.passed
    grade.sentence.encode()
    text = json.dumps(dict(grade.evidence), ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text


@given(outcome=OUTCOMES | st.none())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_outcome_gives_a_grade(outcome: Outcome | None) -> None:
    for grader in FUZZED:
        judge_sound(grader(outcome))


@given(
    outcomes=st.lists(OUTCOMES, max_size=4).map(tuple),
    texts=st.lists(TEXTS, max_size=3).map(tuple),
    trial=st.integers(0, 5),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_outcomes_give_every_case_a_grade(
    outcomes: tuple[Outcome, ...], texts: tuple[str, ...], trial: int
) -> None:
    context = Context(reference_input_tokens=10, texts=texts, dimensions=2)
    for case in registry.BY_ID.values():
        judge_sound(case.script(Ref(7, case.id, trial)).grade(outcomes, context))
