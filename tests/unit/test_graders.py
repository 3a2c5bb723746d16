"""Graders as tables, and fuzzed: any reply, however broken, gives a grade and never raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certification.inference import (
    EmbedReply,
    Failure,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    Text,
    Timing,
    Tool,
    ToolUse,
    Usage,
)
from certification.reasons import Reason
from certification.suite import embedding, graders, registry
from certification.suite.case import Context, Grade, Ref
from certification.suite.cases import portuguese
from certification.suite.text import find_numbers, loosely_equal

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def reply(text: str = "", *blocks: Any, **more: Any) -> Reply:
    content = (*((Text(text),) if text else ()), *blocks)
    return Reply(
        content,
        more.pop("stop_reason", "end_turn"),
        more.pop("usage", Usage(10, 5)),
        Timing(1.0),
        **more,
    )


@pytest.mark.parametrize(
    ("text", "passes"), [("OK", True), (" OK\n", True), ("ok", False), ("OK.", False), ("", False)]
)
def test_exact(text: str, passes: bool) -> None:
    assert graders.exact(reply(text), "OK").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [("São Paulo.", True), ("**sao  paulo**", True), ("Sampa", True), ("São Paulo, SP", False)],
)
def test_normalised(text: str, passes: bool) -> None:
    assert graders.normalised(reply(text), "São Paulo", "Sampa").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"), [("It is Mingau!", True), ("mingau", True), ("Mingaus", False), ("", False)]
)
def test_mentions(text: str, passes: bool) -> None:
    assert graders.mentions(reply(text), "Mingau").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("one, two; three", True),
        ("1. One\n2. Two\n3. Three", True),
        ("two one three", False),
        ("one two", False),
    ],
)
def test_in_order(text: str, passes: bool) -> None:
    assert graders.in_order(reply(text), "one", "two", "three").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [("apple", True), ("applehalt", True), ("apple HALT", False), ("halt.", False)],
)
def test_without(text: str, passes: bool) -> None:
    assert graders.without(reply(text), "HALT").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Done. KD-2017", True),
        ("KD-2017.\n", True),
        ("`KD-2017`", True),
        ("KD-2018", False),
        ("KD-2017 ok", False),
    ],
)
def test_ends_with(text: str, passes: bool) -> None:
    assert graders.ends_with(reply(text), "KD-2017").passed is passes


def test_matches() -> None:
    assert graders.matches(reply("2026-03-01"), r"^\d{4}-\d\d-\d\d$").passed
    assert not graders.matches(reply("1/3/2026"), r"^\d{4}-\d\d-\d\d$").passed


@pytest.mark.parametrize(
    ("text", "numbers"),
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
def test_numbers_are_read_in_both_notations(text: str, numbers: list[set[str]]) -> None:
    assert find_numbers(text) == [{Decimal(x) for x in values} for values in numbers]


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
    assert (
        graders.tool_call(reply("", *uses), "trip", SCHEMA, {"city": "Rio", "days": 3}).passed
        is passes
    )


def test_an_invalid_schema_raises_nothing() -> None:
    assert "cannot be checked" in graders.schema_problem({}, {"type": "nonsense"})
    assert (
        graders.schema_problem({"a": 1}, {"properties": {"a": {"type": "string"}}})
        == "a: 1 is not of type 'string'"
    )


@pytest.mark.parametrize(
    ("text", "count"), [("um dois três", 3), ("d'água é bem-vinda", 3), ("", 0), ("- a\n- b", 2)]
)
def test_words(text: str, count: int) -> None:
    assert graders.words(reply(text), count, count).passed
    assert not graders.words(reply(text), count + 1).passed


def test_lines_and_bullets() -> None:
    text = "Título\n\n- um\n* dois\n3. três\n"
    assert graders.lines(reply(text), 4, 4).passed
    assert graders.bullets(reply(text), 3, 3).passed
    assert not graders.bullets(reply(text), at_most=2).passed
    assert graders.bullets(reply("-5 degrees\n--\n* "), 0, 0).passed


def test_nfc_contains() -> None:
    assert graders.nfc_contains(reply("“ação”"), "ação").passed
    assert not graders.nfc_contains(reply("acao"), "ação").passed


def test_stop_reason_usage_and_tokens() -> None:
    assert graders.stop_reason(reply("a"), "end_turn").passed
    assert not graders.stop_reason(
        reply("a", stop_reason="malformed_tool_use"), "end_turn", "tool_use"
    ).passed
    assert graders.has_usage(reply("a")).passed
    assert not graders.has_usage(reply("a", usage=None)).passed
    assert not graders.has_usage(reply("a", usage=Usage(0, 5))).passed
    assert graders.output_tokens(reply("a"), 5).passed
    assert not graders.output_tokens(reply("a"), 4).passed
    assert graders.input_tokens(reply("a"), 10, 10).passed
    assert not graders.input_tokens(reply("a"), 11, 20).passed


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("São Paulo wins", True),
        ("sao paulo.", True),
        ("SP wins", True),
        ("Paulo", False),
        ("", False),
    ],
)
def test_mentions_one(text: str, passes: bool) -> None:
    assert graders.mentions_one(reply(text), "São Paulo", "SP").passed is passes


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("a lamp and a LAMP.", 2),
        ("the lamplight, and _lamp_", 1),  # a compound is another word
        ("lamp-lamp, lamp", 3),
        ("'lamp' and “lamp”", 2),
        ("", 0),
    ],
)
def test_occurrences_counts_whole_words(text: str, times: int) -> None:
    assert graders.occurrences(reply(text), "lamp", times).passed
    assert not graders.occurrences(reply(text), "lamp", times + 1).passed


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("garden", "gardens"), ("garden", "garden's"), ("garden", "garden’s"),
        ("garden", "gardens'"), ("garden", "gardener"), ("garden", "gardening"),
        ("whisper", "Whispered"), ("silver", "silvery"), ("orange", "oranges"),
        ("orange", "orangish"), ("story", "stories"), ("pocket", "pocketful"),
        ("lantern", "LANTERNS"), ("window", "windowless"),
    ],
)  # fmt: skip
def test_occurrences_looks_for_other_forms_of_the_word(word: str, form: str) -> None:
    text = f"The {word} was old, and so was that {word}."
    assert graders.occurrences(reply(text), word, 2).passed
    assert not graders.occurrences(reply(f"{text} We saw the {form}."), word, 2).passed
    once = f"The {word} was old, and so was the {form} door."
    assert not graders.occurrences(reply(once), word, 2).passed


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Manaus", True),
        ("The last one is **Manaus**.", True),
        ("Nairobi", False),
        ("Nairobi, Lisbon, Manaus.", False),
        ("Manaus or Lisbon", False),
        ("", False),
    ],
)
def test_naming_several_candidates_is_no_answer(text: str, passes: bool) -> None:
    cities = ("Nairobi", "Lisbon", "Manaus")
    assert graders.names_only(reply(text), "Manaus", cities).passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("579", True),
        ("120 + 459 = 579", True),
        ("1. 579", True),
        ("579 or 580", False),
        ("578, 579", False),
        ("120 + 459", False),
        ("", False),
    ],
)
def test_naming_several_numbers_is_no_answer(text: str, passes: bool) -> None:
    assert graders.only_number(reply(text), 579, 120, 459).passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("O aluguel é de R$ 7.501,00 e o prazo é de 14 meses.", True),
        ("Aluguel mensal: 7.501,00\nPrazo: 14 meses", True),
        ("- Valor: R$7501\n- Prazo (em meses): 14", True),
        ("Ela paga 7.501 reais por mês durante 14 (quatorze) meses, com multa de 10%.", True),
        ("Aluguel de R$ 7.501,00, com início em 02/06/2025 e duração de 14 meses.", True),
        ("Vigência: 14 meses a partir de 2 de junho de 2025; aluguel: R$\u00a07.501,00", True),
        ("Custa 7.501,00 por mês; prazo de quatorze (14) meses", True),
        ("Valor: R$ 7.501,00\nMeses: 14\nMulta: 10%", True),
        ("R$ 7.501,00 por 10 meses e multa de 14%.", False),
        ("R$ 7.501,00 por mês, de 14 de junho de 2025, por 10 meses.", False),
        ("Prazo de 10 meses, R$ 7.501,00, dia 14.", False),
        ("R$ 1.450,00 por mês, por 14 meses, no apartamento 7501.", False),
        ("R$ 7.501,00, 14.", False),
        ("R$ 7.501,00 ou R$ 8.501,00 por 14 meses.", False),
        ("R$ 7.501,00 por 14 meses ou 15 meses.", False),
    ],
)
def test_a_figure_counts_beside_what_it_belongs_to(text: str, passes: bool) -> None:
    amount = graders.figure_beside(reply(text), 7501, *portuguese.IN_REAIS)
    months = graders.figure_beside(reply(text), 14, *portuguese.IN_MONTHS)
    assert (amount.passed and months.passed) is passes, (amount, months)


@pytest.mark.parametrize(
    "text",
    [
        "1-A 1-B 1-C 1-D 2-C 3-A",
        "1-A 1-B 2-C 3-A",
        "1-B/D 2-C 3-A",
        "1-A, B 2-C 3-A",
        "1-B ou D 2-C 3-A",
        "1-B 2-C 3-A\n1-C 2-C 3-A\n1-D 2-C 3-A",
    ],
)
def test_naming_several_letters_is_no_choice(text: str) -> None:
    for first in "ABCD":
        assert not graders.choices(reply(text), f"{first}CA").passed


@pytest.mark.parametrize(
    "text",
    [
        "1-B, 2-C, 3-A",
        "1-B/2-C/3-A",
        "1-B e 2-C e 3-A",
        "1-B | 2-C | 3-A",
        "1-B 2-C 3-A, A Lei foi assinada.",
        "1-B 2-C 3-A e O autor é esse.",
        "1-D 2-C 3-A\nCorreção: 1-B",
    ],
)
def test_one_letter_each_is_a_choice(text: str) -> None:
    assert graders.choices(reply(text), "BCA").passed


@pytest.mark.parametrize(
    ("text", "passes"),
    [("ALL GOOD, 3 X!", True), ("ÇA VA", True), ("ALL gOOD", False), ("123", False), ("", False)],
)
def test_capitals(text: str, passes: bool) -> None:
    assert graders.capitals(reply(text)).passed is passes


def test_no_character() -> None:
    assert graders.no_character(reply("one; two"), ",", "character_comma").passed
    assert not graders.no_character(reply("one, two"), ",", "character_comma").passed


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Hoje\nTudo bem.\n\nAmanhã\nTambém.", True),
        ("## Hoje\nTudo bem.\n**2. Amanhã:**\nTambém.", True),
        ("Claro!\nHoje\nTudo bem.\nAmanhã\nTambém.", False),
        ("Amanhã\nTudo bem.\nHoje\nTambém.", False),
        ("Hoje\nAmanhã\nTambém.", False),
        ("Hoje\nTudo bem.\nAmanhã", False),
        ("Hoje\nUm.\nAmanhã\nDois.\nHoje\nTrês.", False),
        ("Hoje está bom.\nAmanhã também.", False),
        ("", False),
    ],
)
def test_sections(text: str, passes: bool) -> None:
    assert graders.sections(reply(text), "Hoje", "Amanhã").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("2026-03-01\n1500.00", True),
        ("- `2026-03-01`\n\n2. **1500.00**\n", True),
        ("2026-03-01 1500.00", False),
        ("2026-03-01\n1500.0", False),
        ("1500.00\n2026-03-01", False),
        ("Data: 2026-03-01\n1500.00", False),
        ("2026-03-01\n1500.00\nPronto", False),
    ],
)
def test_lines_are(text: str, passes: bool) -> None:
    assert graders.lines_are(reply(text), "2026-03-01", "1500.00").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("1-B 2-D 3-A", True),
        ("1) B\n2) D\n3) A", True),
        ("**1: B**, 2: D, 3: A.", True),
        ("1-B 2-C 3-A. Correction: 2-D", True),
        ("1-B 2-D", False),
        ("1-B 2-D 3-B", False),
        ("B D A", False),
        ("1-Brasil 2-D 3-A", False),
        ("", False),
    ],
)
def test_choices(text: str, passes: bool) -> None:
    assert graders.choices(reply(text), "BDA").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("decorre, indefinido", True),
        ("Par 1: DECORRE\nPar 2: indefinido", True),
        ("indefinido, decorre", False),
        ("decorre", False),
        ("decorre, indefinido, decorre", False),
    ],
)
def test_labels(text: str, passes: bool) -> None:
    assert (
        graders.labels(
            reply(text), ("decorre", "contradiz", "indefinido"), "decorre", "indefinido"
        ).passed
        is passes
    )


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("I think.\nAna, Rui, Lia", True),
        ("**Answer:** ana - rui - lia.\n\n", True),
        ("Ana, Rui, Lia\nThat is all.", False),
        ("Ana, Lia, Rui", False),
        ("Ana, Rui, Lia, Ivo", False),
        ("Joana, Rui, Lia", False),
        ("", False),
    ],
)
def test_last_line(text: str, passes: bool) -> None:
    assert graders.last_line(reply(text), "Ana", "Rui", "Lia").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("R$ 1.234,50 ao mês", True),
        ("1,234.5", True),
        ("1234", False),
        ("12345", False),
        ("", False),
    ],
)
def test_has_number(text: str, passes: bool) -> None:
    assert graders.has_number(reply(text), "1234.50").passed is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("São R$ 1.234,00 por 24 meses desde 03/05/2026.", True),
        ("1. São 1234 reais.\n2. São 24 meses.", True),
        ("Desde 2026-05-03.", True),
        ("Nada.", True),
        ("Ao todo, R$ 29.616,00.", False),
        ("São 25 meses.", False),
    ],
)
def test_no_other_numbers(text: str, passes: bool) -> None:
    allowed = "Paga-se R$ 1.234,00 por 24 meses, desde 3 de maio de 2026 (mês 5)."
    assert graders.no_other_numbers(reply(text), allowed).passed is passes


def test_same_text() -> None:
    assert graders.same_text(reply("Yes, it is."), reply("yes it is")).passed
    assert not graders.same_text(reply("Yes, it is."), reply("yes it is"), exact=True).passed
    assert graders.same_text(reply("Yes."), reply("Yes."), exact=True).passed
    assert not graders.same_text(reply("Yes."), reply("No.")).passed
    assert not graders.same_text(reply("Yes."), None).valid


TRIP = Tool("trip", "Plans a trip.", SCHEMA)
NOTE = Tool("note", "Keeps a note.", {"type": "object", "properties": {"text": {"type": "string"}}})


@pytest.mark.parametrize(
    ("uses", "passes"),
    [
        (
            [
                ToolUse("a", "trip", {"city": "Rio", "days": 3}),
                ToolUse("b", "trip", {"city": "Itú", "days": 1}),
            ],
            True,
        ),
        (
            [
                ToolUse("b", "trip", {"city": "itu", "days": 1.0}),
                ToolUse("a", "trip", {"city": "RIO", "days": 3}),
            ],
            True,
        ),
        ([ToolUse("a", "trip", {"city": "Rio", "days": 3})], False),
        ([ToolUse("a", "trip", {"city": "Rio", "days": 3})] * 2, False),
        (
            [
                ToolUse("a", "trip", {"city": "Rio", "days": 3}),
                ToolUse("b", "note", {"text": "Itú"}),
            ],
            False,
        ),
        (
            [
                ToolUse("a", "trip", {"city": "Rio", "days": 3}),
                ToolUse("b", "trip", {"city": "Itú", "days": True}),
            ],
            False,
        ),
        (
            [ToolUse("a", "trip", {"city": "Rio", "days": 3}), ToolUse("b", "trip", None, '{"ci')],
            False,
        ),
        ([], False),
    ],
)
def test_tool_calls_in_any_order(uses: list[ToolUse], passes: bool) -> None:
    expected = [(TRIP, {"city": "Rio", "days": 3}), (TRIP, {"city": "Itú", "days": 1})]
    assert graders.tool_calls(reply("", *uses), *expected).passed is passes


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ({"a": [1, {"b": "É"}]}, {"a": [1, {"b": "e"}]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ("1", 1, False),
        (None, None, True),
    ],
)
def test_loosely_equal(value: Any, expected: Any, same: bool) -> None:
    assert loosely_equal(value, expected) is same


def test_no_tool_call() -> None:
    assert graders.no_tool_call(reply("42")).passed
    assert not graders.no_tool_call(reply("42", ToolUse("a", "trip", {}))).passed


def test_the_end_of_a_stream() -> None:
    assert graders.stream_ends(
        reply("a", events=("messageStart", "messageStop", "metadata"))
    ).passed
    assert not graders.stream_ends(reply("a", events=("metadata", "messageStop"))).passed
    assert not graders.stream_ends(reply("a")).passed


def test_a_missing_capability_is_noted_only_on_a_pass() -> None:
    failure = Failure(Reason.PARAMETER_NOT_SUPPORTED, "no temperature")
    assert (
        graders.passed_without(graders.passed("Good."), "temperature", failure).lacks
        == "temperature"
    )
    assert not graders.passed_without(graders.failed("Bad."), "temperature", failure).lacks


def test_reasoning_is_never_the_answer() -> None:
    assert not graders.exact(reply("", Reasoning("OK")), "OK").passed
    assert graders.exact(reply("OK", Reasoning("not OK")), "OK").passed


@pytest.mark.parametrize("reason", list(Reason))
def test_only_failures_that_concern_the_model_are_valid(reason: Reason) -> None:
    grade = graders.usable(Failure(reason, "x"))
    says_something = {
        Reason.MODEL_ERROR,
        Reason.STREAM_ERROR,
        Reason.STREAM_TRUNCATED,
        Reason.STREAM_CORRUPT,
        Reason.CONTENT_FILTER,
        Reason.CONTEXT_TOO_LONG,
        Reason.GATE_FAILED,
        Reason.PARAMETER_NOT_SUPPORTED,
        Reason.MODALITY_NOT_SUPPORTED,
        Reason.MALFORMED_REQUEST,
    }
    assert grade.valid is (reason in says_something)
    assert not grade.passed


def test_refusals_are_recognised_by_code_or_reason_and_message() -> None:
    message = "This model doesn't support the stopSequences field."
    assert graders.refuses(Failure(Reason.UNKNOWN, message, "validationException"), "stopsequences")
    assert graders.refuses(Failure(Reason.PARAMETER_NOT_SUPPORTED, message), "stopsequences")
    assert not graders.refuses(
        Failure(Reason.THROTTLED_TOKENS, message, "ThrottlingException"), "stopsequences"
    )
    assert not graders.refuses(reply(message), "stopsequences")


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
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
BLOCKS = st.one_of(
    st.builds(Text, TEXTS | st.none()),
    st.builds(Reasoning, TEXTS),
    st.builds(
        ToolUse,
        st.text(max_size=5),
        st.sampled_from(["trip", "", "book_table", None]),
        ANYTHING,
        TEXTS,
    ),
    ANYTHING,
)
COUNTS = st.integers(-5, 10**9) | st.none() | st.floats() | st.booleans()
TIMES = st.none() | st.floats() | st.integers(-5, 10**12) | st.sampled_from([0.0, 20.0, 1500.0])
EVENTS = st.sampled_from(
    [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "",
        None,
    ]
)
REPLIES = st.builds(
    Reply,
    content=st.lists(BLOCKS, max_size=4).map(tuple) | st.none() | ANYTHING,
    stop_reason=st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence", "", None])
    | st.text(max_size=5),
    usage=st.none() | st.builds(Usage, COUNTS, COUNTS) | ANYTHING,
    timing=st.builds(Timing, TIMES, TIMES, TIMES),
    operation=st.sampled_from(Operation),
    events=st.lists(EVENTS, max_size=9).map(tuple) | st.none(),
    complete=st.booleans(),
)
EMBEDDINGS = st.builds(
    EmbedReply,
    vectors=st.lists(st.lists(st.floats() | st.none(), max_size=4).map(tuple), max_size=9).map(
        tuple
    )
    | ANYTHING,
    usage=st.none(),
    timing=st.just(Timing(1.0)),
)
FAILURES = st.builds(
    Failure,
    reason=st.sampled_from(Reason),
    message=TEXTS
    | st.sampled_from(
        ["toolChoice", "stopSequences", "tool use in streaming mode", "system messages"]
    ),
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
    lambda o: graders.mentions_one(o, "a", "b"),
    lambda o: graders.occurrences(o, "a", 2),
    lambda o: graders.no_character(o, ",", "character_comma"),
    graders.capitals,
    lambda o: graders.sections(o, "a", "b"),
    lambda o: graders.lines_are(o, "a"),
    lambda o: graders.choices(o, "AB"),
    lambda o: graders.labels(o, ("a", "b"), "a"),
    lambda o: graders.last_line(o, "a", "b"),
    lambda o: graders.has_number(o, "1.5"),
    lambda o: graders.no_other_numbers(o, "1 2 3"),
    lambda o: graders.same_text(o, o),
    lambda o: graders.tool_calls(o, (TRIP, {"a": 1}), (NOTE, {})),
    graders.no_tool_call,
    graders.stream_ends,
    lambda o: graders.no_gap_over(o, 10),
    lambda o: graders.speed(o, 3),
    graders.has_usage,
    lambda o: graders.stop_reason(o, "end_turn"),
    graders.event_order,
    lambda o: graders.output_tokens(o, 10),
    lambda o: graders.input_tokens(o, 1, 10),
    lambda o: embedding.vectors(o, 2, 3),
]


def assert_sound(grade: Grade) -> None:
    assert isinstance(grade, Grade)
    assert grade.sentence
    assert grade.valid or not grade.passed
    grade.sentence.encode()
    text = json.dumps(dict(grade.evidence), ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text


@pytest.mark.slow
@given(outcome=OUTCOMES | st.none())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_outcome_gives_a_grade(outcome: Outcome | None) -> None:
    for grader in FUZZED:
        assert_sound(grader(outcome))


@pytest.mark.slow
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
        assert_sound(case.script(Ref(7, case.id, trial)).grade(outcomes, context))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ValidationException", True),
        ("com.amazon#ValidationException", True),
        ("validation_error", True),
        ("invalid_request_error", True),
        ("server_error", False),
        ("", False),
    ],
)
def test_an_invalid_request_is_known_in_the_words_of_every_api(code: str, expected: bool) -> None:
    assert graders.is_validation(Failure(Reason.MALFORMED_REQUEST, "?", code)) is expected


@pytest.mark.parametrize(
    "text", ["12 or 13", "It is 13 or 12.", "R$ 13,00 ou R$ 12,00", "12 km or 13 km"]
)
def test_a_number_that_is_one_of_several_is_no_answer(text: str) -> None:
    assert not graders.number(reply(text), 12).passed
    assert not graders.has_number(reply(text), 12).passed


@pytest.mark.parametrize("text", ["6 × 2 = 12", "In 3 or 4 steps the result is 12.", "12 or 12.0"])
def test_other_numbers_may_lead_to_the_answer(text: str) -> None:
    assert graders.number(reply(text), 12).passed
    assert graders.has_number(reply(text), 12).passed
