"""The language of an answer: no case of the suite takes Portuguese for Spanish or the reverse, on
texts written for this purpose (tests/data/languages, one per line).
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise

import pytest

from certification.inference import Reply, Text, Timing, Usage
from certification.suite import embedding, graders, registry
from certification.suite.case import Context, Ref, Script
from certification.suite.language import LANGUAGES, detect_language
from certification.suite.sentences import WORDINGS
from tests.paths import PROJECT

TITLES = (
    "Vantagens",
    "Desvantagens",
    "Resumo",
    "Conselhos",
    "Problema",
    "Solução",
    "Antes",
    "Depois",
)


@cache
def texts(code: str) -> list[str]:
    path = PROJECT / "tests" / "data" / "languages" / f"{code}.txt"
    return [line.replace("\\n", "\n") for line in path.read_text("utf-8").splitlines()]


def reply(text: str) -> Reply:
    return Reply((Text(text),), "end_turn", Usage(10, 10), Timing(5.0))


def passes(script: Script, text: str) -> bool:
    return script.grade((reply(text),), Context()).passed


def sentences(code: str) -> list[str]:
    """Return the texts of one line, without list marks."""
    return [text for text in texts(code) if "\n" not in text and text[0].isalpha()]


@cache
def list_items(code: str) -> list[str]:
    lists = [text for text in texts(code) if re.match(r"[-*•–]|\d[.)]", text) and "R$" not in text]
    return [re.sub(r"^\W*(?:\d[.)])?\s*", "", line) for text in lists for line in text.split("\n")]


def three_items(code: str, rng: random.Random) -> str:
    """Return a list of three terse items, drawn from the lists of a language."""
    return "\n".join(f"- {item}" for item in rng.sample(list_items(code), 3))


@pytest.mark.parametrize("code", ["pt", "es"])
def test_two_hundred_texts_are_never_taken_for_another_language(code: str) -> None:
    detected = [detect_language(text, TITLES) for text in texts(code)]
    assert len(detected) >= 200
    assert {*detected} == {"", code}
    assert detected.count("") <= len(detected) // 20


@pytest.mark.parametrize("code", ["gl", "ca", "it", "fr", "en"])
def test_neighbours_of_portuguese_are_told_from_it(code: str) -> None:
    detected = [detect_language(text) for text in texts(code)]
    assert "pt" not in detected
    assert detected.count(code) >= len(detected) * 0.9


def test_terse_lists_of_three_items_are_told_apart() -> None:
    """Six words may be right in both languages, so that a few lists in a hundred say nothing."""
    rng = random.Random(7)
    accepted = {
        code: sum(graders.language(reply(three_items(code, rng)), "pt").passed for _ in range(150))
        for code in ("pt", "es")
    }
    assert accepted["pt"] >= 149
    assert accepted["es"] <= 2


def test_three_bullets_in_spanish_fail_and_in_portuguese_pass() -> None:
    script = registry.BY_ID["I1"].script(Ref(3, "I1", 0))
    for code in ("pt", "es"):
        short = [text.rstrip(".") for text in sentences(code) if "," not in text]
        for start in range(0, len(short) - 2, 3):
            answer = "\n".join(f"- {text}" for text in short[start : start + 3])
            assert passes(script, answer) is (code == "pt"), answer


def test_two_sections_in_spanish_below_portuguese_titles_fail() -> None:
    script = registry.BY_ID["I5"].script(Ref(3, "I5", 1))
    first, second = re.findall(r'the title "(\w+)"', str(script.steps[0].request(())))
    for code in ("pt", "es"):
        long = [text for text in sentences(code) if len(text.split()) > 5]
        for one, other in pairwise(long):
            answer = f"{first}\n{one}\n\n{second}\n{other}"
            assert passes(script, answer) is (code == "pt"), answer


def test_one_section_in_spanish_fails_beside_one_in_portuguese() -> None:
    portuguese, spanish = sentences("pt")[:40], sentences("es")[:40]
    for one, other in zip(portuguese, spanish, strict=True):
        mixed = f"{one} {one}\n{other} {other}"
        assert not graders.language(reply(mixed), "pt").passed, mixed


def test_names_and_figures_that_the_prompt_dictates_show_no_language() -> None:
    name = ("Marina Alves Teixeira",)
    assert detect_language("Marina Alves Teixeira\nR$ 7.501,00\n02/06/2025\n14", name) == ""
    assert detect_language("Marina Alves Teixeira alquila el piso por 14 meses.", name) == "es"
    assert detect_language("Marina Alves Teixeira paga o aluguel por 14 meses.", name) == "pt"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Sim, é possível.", "pt"),
        ("O CONTRATO TERMINA EM DEZEMBRO E NÃO PODE SER RENOVADO SEM AVISO.", "pt"),
        ("Nao sei se voce tambem vai, mas a reuniao comeca as oito horas.", "pt"),
        ("No sé si tú también vienes; la reunion empieza a las ocho.", "es"),
        ("Der Vertrag endet im Dezember und kann nicht verlängert werden.", "de"),
        ("节省时间，改善健康，减少开支。", "other"),
        ("Экономит время и деньги.", "other"),
        ("42", ""),
        ("...", ""),
        ("", ""),
        ("\ud800 \x00", ""),
    ],
)
def test_detect_language(text: str, language: str) -> None:
    assert detect_language(text) == language
    assert graders.language(reply(text), "pt").passed is (language == "pt")


def test_short_portuguese_sentences_are_not_taken_for_english() -> None:
    for text in (text for group in embedding.CONCEPTS for text in group):
        assert detect_language(text) in ("pt", ""), text
        assert graders.language(reply(text), "pt").passed, text


def test_every_language_has_a_name() -> None:
    assert {f"language_{code}" for code in LANGUAGES} <= {*WORDINGS}


def test_no_command_pays_for_the_model_at_its_start() -> None:
    code = "import sys, certification.suite.registry; sys.exit('py3langid' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0
