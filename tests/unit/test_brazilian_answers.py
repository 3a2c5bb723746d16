"""Answers as Brazilians write them are accepted: spellings of dates and amounts, list marks,
letters, and terse Portuguese.
"""

from __future__ import annotations

import re

import pytest

from certification.inference import Operation, Reply, Text, Timing, Usage
from certification.suite import graders, registry
from certification.suite.case import Context, Ref, Script
from certification.suite.cases import portuguese
from certification.suite.cases.portuguese import Day


def reply(text: str) -> Reply:
    return Reply((Text(text),), "end_turn", Usage(10, 10, 20), Timing(5.0), Operation.CONVERSE)


def script(case_id: str, trial: int = 0) -> Script:
    return registry.BY_ID[case_id].script(Ref(3, case_id, trial))


def passes(made: Script, text: str) -> bool:
    return made.grade((reply(text),), Context()).passed


def expected_text(made: Script) -> str:
    expected = made.steps[0].expected
    assert expected
    [block] = expected.content
    assert isinstance(block, Text)
    return block.text


@pytest.mark.parametrize(
    "written",
    [
        "1º de março de 2024",
        "1.º de março de 2024",
        "1° de março de 2024",
        "1 de Março de 2024",
        "01 de março de 2024",
        "primeiro de março de 2024",
        "01/03/2024",
        "1/3/2024",
        "01/3/2024",
        "1/03/2024",
        "01.03.2024",
        "01-03-2024",
        "2024-03-01",
    ],
)
def test_a_day_may_be_written_as_brazilians_write_it(written: str) -> None:
    assert graders.mentions_one(
        reply(f"Começa em {written}, sexta-feira."), *Day(2024, 3, 1).spellings
    ).passed


@pytest.mark.parametrize(
    "written", ["3/1/2024", "2 de março de 2024", "1º de março de 2025", "03/01/2024"]
)
def test_another_day_is_another_day(written: str) -> None:
    assert not graders.mentions_one(
        reply(f"Começa em {written}."), *Day(2024, 3, 1).spellings
    ).passed


@pytest.mark.parametrize(
    "written",
    ["R$ 4.321,00", "R$4.321,00", "R$ 4.321", "R$\u00a04.321,00", "4321 reais", "R$ 4321,00"],
)
def test_an_amount_may_be_written_as_brazilians_write_it(written: str) -> None:
    assert graders.has_number(reply(f"O aluguel é de {written} por mês."), 4321).passed


def test_a_summary_in_any_of_these_ways_passes() -> None:
    for trial in range(6):
        made = script("P5", trial)
        text = expected_text(made)
        assert passes(made, text)
        assert passes(made, "\n".join(f"• {line}" for line in text.splitlines()))
        assert passes(made, text.replace("R$ ", "R$\u00a0"))
        assert passes(made, re.sub(r"(R\$ [\d.]+),00", r"\1", text))
        assert passes(made, "\n".join(f"**{line}**" for line in text.splitlines()))


@pytest.mark.parametrize(
    "form",
    ["1-{} 2-{} 3-{}", "1 - {}, 2 - {}, 3 - {}", "1) {}\n2) {}\n3) {}", "1. {}; 2. {}; 3. {}"],
)
def test_letters_may_be_set_in_any_row(form: str) -> None:
    made = script("P3")
    assert passes(made, form.format(*re.findall("[A-D]", expected_text(made))))


def test_small_letters_are_accepted_in_the_requested_form() -> None:
    made = script("P1")
    assert passes(made, expected_text(made).lower())
    assert not graders.choices(reply("As questões de 1 a 2: 1) a resposta certa"), ["A"]).passed


@pytest.mark.parametrize(
    "answer",
    [
        "- Reduz custos mensais\n- Promove bem-estar familiar\n- Fortalece amizades",
        "-Melhora a saúde\n-Economiza tempo\n-Diminui o estresse",
        "– Evita multas\n– Estimula a memória\n– Traz tranquilidade",
        "1. Ajuda o bolso\n2. Faz bem ao corpo\n3. Anima o dia",
        "• Mais disposição\n• Menos gastos\n• Sono melhor",
    ],
)
def test_three_terse_items_are_portuguese_and_three(answer: str) -> None:
    assert passes(script("I1"), answer)


@pytest.mark.parametrize(
    "answer",
    [
        "- Lowers monthly costs\n- Brings family together\n- Makes friends",
        "- Reduz custos\n---\n- Traz paz",
        "Reduz custos\nPromove bem-estar\nFortalece amizades",
        "- Reduz custos, sempre\n- Promove bem-estar\n- Fortalece amizades",
    ],
)
def test_items_that_break_the_instructions_fail(answer: str) -> None:
    assert not passes(script("I1"), answer)


@pytest.mark.parametrize(
    "form", ["{}, {}", "Par 1: {}\nPar 2: {}", "1. {}; 2. {}.", "**{}**, **{}**", "{} | {}"]
)
def test_relations_may_be_set_in_any_row(form: str) -> None:
    made = script("P2")
    assert passes(made, form.format(*expected_text(made).split(", ")))
    assert passes(made, form.format(*expected_text(made).title().split(", ")))


def test_every_bank_has_its_right_option_first_and_no_option_twice() -> None:
    for item in (
        *portuguese.QUIZ,
        *portuguese.CRASE,
        *portuguese.CONCORDANCIA,
        *portuguese.REGENCIA,
    ):
        assert len(set(item.options)) == len(item.options), item
        assert all(option.strip() == option for option in item.options)
    for item in (*portuguese.CRASE, *portuguese.CONCORDANCIA, *portuguese.REGENCIA):
        assert item.stem.count("___") == 1, item
