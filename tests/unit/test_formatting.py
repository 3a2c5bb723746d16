"""What counts as formatting, rule by rule, and that no grader sees it."""

from __future__ import annotations

import pytest

from certification.inference import Reply, Text, Timing, Usage
from certification.suite import graders
from certification.suite.formatting import RULES, is_list_item, plain_text, text_lines
from certification.suite.text import find_numbers, parse_json


def reply(text: str) -> Reply:
    return Reply((Text(text),), "end_turn", Usage(10, 10), Timing(5.0))


# name of the rule: (written, read)
EXAMPLES = {
    "line ends": ("a\r\nb\u2028c", "a\nb\nc"),
    "invisible characters": ("to\u200bday\ufeff", "today"),
    "HTML entities": ("R$&nbsp;5 &amp; &#39;x&#39;", "R$ 5 & 'x'"),
    "typographic spaces": ("8\u202f510\u2009km\u00a0a", "8 510 km a"),
    "typographic hyphens": ("QX\u201155 \u22123", "QX-55 -3"),
    "dashes inside a word": ("2024–05–17 – ok", "2024-05-17 – ok"),
    "typographic double quotes": ("“a” «b» „c“", '"a" "b" "c"'),
    "typographic single quotes": ("it’s ‘so’", "it's 'so'"),
    "letter variants": ("２１７０ \U0001d403", "2170 D"),
    "keycaps": ("1\ufe0f\u20e3 a", "1. a"),
    "numbers in circles": ("② a ⑳b", "2. a 20. b"),
    "HTML line breaks": ("a<br>b<BR />c", "a\nb\nc"),
    "HTML list items": ("<li>a</li>", "\n- a\n"),
    "HTML blocks": ('<p class="x">a</p>', "\na\n"),
    "HTML emphasis": ("<strong>a</strong> <em>b</em>", "a b"),
    "code fences": ("```text\na\n```", "\na\n"),
    "code fences on a line": ("```a b```", "a b"),
    "block quotes": ("> a\n> > b", "a\nb"),
    "lines across the page": ("a\n* * *\nb\n---\nc", "a\n\nb\n\nc"),
    "table borders": ("| a | b |\n|---|:-:|\n| c |", "a | b\n\nc"),
    "headings": ("## A ##", "A"),
    "LaTeX environments": (r"\begin{array}{l}a\end{array}", "a"),
    "LaTeX items": (r"\item a", "- a"),
    "LaTeX line breaks": ("a \\\\\nb", "a \n\nb"),
    "LaTeX brackets": (r"\(a\) \[b\] \left(c\right)", "a b (c)"),
    "LaTeX dollars": ("$x = 4$ and $$5$$, R$ 6 or US$ 7", "x = 4 and 5, R$ 6 or US$ 7"),
    "LaTeX grouped signs": ("3{,}450", "3,450"),
    "LaTeX thin spaces": (r"3\,450\ km", "3 450 km"),
    "LaTeX negative spaces": (r"3,\!450", "3,450"),
    "LaTeX symbols": (r"2 \times 3", "2 × 3"),
    "LaTeX fractions": (r"\frac{1}{2}", "1/2"),
    "LaTeX commands": (r"\boxed{\text{yes}}", "yes"),
    "LaTeX switches": (r"\displaystyle x", " x"),
    "backslash at the end of a line": ("a\\\nb \\\n", "a\nb\n"),
    "backslash before punctuation": (r"1\. R\$ 5\%", "1. R$ 5%"),
    "links": ("[the page](https://example.org/a)", "the page"),
    "bold": ("**a b**: c", "a b: c"),
    "bold by underscores": ("__a__ x__y__z", "a x__y__z"),
    "italic": ("*a* 2*3*4", "a 2*3*4"),
    "italic by underscores": ("_a_ get_the_day", "a get_the_day"),
    "bold that was not closed": ("**a", "a"),
    "italic that was not closed": ("a*", "a"),
    "struck out marks": ("~~a~~", "a"),
    "inline code": ("`a`", "a"),
}


def test_every_rule_has_an_example() -> None:
    assert [rule.name for rule in RULES] == list(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_rule_reads_its_example(name: str) -> None:
    written, read = EXAMPLES[name]
    assert plain_text(written) == read
    assert plain_text(read) == read


def test_any_text_has_a_plain_form() -> None:
    """Also texts of nothing but openings, which unlimited patterns would search for minutes."""
    for piece in (
        "*",
        "**",
        "_",
        "`",
        "\\",
        "$",
        "{",
        "\\boxed{",
        "[",
        "<",
        "&",
        "> ",
        "~~",
        "\ud800",
    ):
        plain_text(piece * 6_000)
        plain_text(f"{piece}a " * 6_000)


@pytest.mark.parametrize(
    "line",
    ["- a", "* a", "+ a", "• a", "– a", "— a", "·a", "-a", "1. a", "1) a", "(1) a", "12 - a",
     "1 – a", "1: a", "a) b", "B. c", "ii. a", "- [x] a", "🔹 a", "- 50% a",
     "  ▪ a", "→ a", "✅ a"],
)  # fmt: skip
def test_list_marks_of_any_style(line: str) -> None:
    assert is_list_item(line)
    assert len(text_lines(line)[0]) <= 5


@pytest.mark.parametrize(
    "line", ["-5 degrees", "--", "* ", "2025-03-01", "1.5", "a b", "5º dia", ""]
)
def test_what_is_no_list_mark(line: str) -> None:
    assert not is_list_item(line)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3 450", [3450]),
        ("3\u202f450,75 and 2'170", [3450.75, 2170]),
        ("K4R-381,7", [7]),
        ("The code is K4R-381.", []),
        ("EUR2,170 or US$3,450.50", [2170, 3450.5]),
        ("2170km, 14meses, R$4.321,00", [2170, 14, 4321]),
        ("Porto,2170", [2170]),
        (".5", []),
        ("20 21 22", [20, 21, 22]),
        ("2_170", [2170]),
        ("5 × 690 = 3 450", [5, 690, 3450]),
    ],
)
def test_find_numbers_whatever_they_are_glued_to(text: str, numbers: list[float]) -> None:
    assert len(find_numbers(text)) == len(numbers)
    assert all(
        n in map(float, values) for n, values in zip(numbers, find_numbers(text), strict=True)
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '```\n{"a": 1}\n```',
        '~~~json\n{"a": 1}\n~~~',
        '```json {"a": 1}```',
        '\ufeff {"a": 1}\n',
    ],
)
def test_parse_json_alone_or_in_one_fence(text: str) -> None:
    assert parse_json(text) == (True, {"a": 1})


def test_parse_json_of_something_else() -> None:
    for text in ('```json\n{"a": 1}\n```\nDone.', "{“a”: 1}", "", "```", "```json\n```"):
        assert parse_json(text)[0] is False


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("- 12 horas livres por semana\n- 30% menos gastos\n- 2 amigos novos", True),
        ("1️⃣ Mais saúde\n2️⃣ Menos gastos\n3️⃣ Mais amigos", True),
        ("<ul><li>Mais saúde</li><li>Menos gastos</li><li>Mais amigos</li></ul>", True),
        ("-Mais saúde\n-30% menos gastos\n-Mais amigos", True),
        ("-30 graus\n-20 graus\n-10 graus", False),
        ("Mais saúde\nMenos gastos\nMais amigos", False),
    ],
)
def test_bullets_of_any_style(answer: str, passes: bool) -> None:
    assert graders.bullets(reply(answer), 3, 3).passed is passes


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("1-B 2-D 3-A\n\nExplicação:\n1. A forma correta pede isso.\n3. O verbo concorda.", True),
        ("1-B 2-D 3-A\n\n1. E assim por diante.\n2. A Bahia fica no Nordeste.", True),
        ("1. B\n2. D\n3. A\n\nA 2. A frase muda de sentido.", True),
        ("1. (B) Natal\n2. (D) Recife\n3. (A) Olinda", True),
        ("1. B Natal\n2. D Recife\n3. A Olinda", True),
        ("1 → B; 2 → D; 3 → A", True),
        ("1 – B, 2 – D, 3 – A", True),
        ("1B 2D 3A", True),
        ("| 1 | B |\n| 2 | D |\n| 3 | A |", True),
        ("1-B 2-C 3-A\n\n1. A forma correta pede isso.", False),
        ("1. A forma correta.\n2. D\n3. A", False),
    ],
)
def test_an_explanation_below_the_choices_changes_nothing(answer: str, passes: bool) -> None:
    assert graders.choices(reply(answer), "BDA").passed is passes


@pytest.mark.parametrize(
    "answer",
    [
        "A daisy is white. WQ‑5512",
        "A daisy is white. **WQ-5512**",
        "A daisy is white. “WQ–5512”",
        "```\nA daisy is white. WQ-5512\n```",
        "<p>A daisy is white. <b>WQ-5512</b></p>",
        "A daisy is white. \\text{WQ-5512}",
        "A daisy is white.<br>WQ-5512.",
    ],
)
def test_an_ending_is_one_in_any_formatting(answer: str) -> None:
    assert graders.ends_with(reply(answer), "WQ-5512").passed
    assert not graders.ends_with(reply(answer), "WQ-5513").passed
    assert not graders.ends_with(reply(f"{answer} Right?"), "WQ-5512").passed


def test_graders_of_the_form_see_every_character() -> None:
    for grader in (graders.exact, graders.nfc_contains):
        assert grader(reply("Olá — 5"), "Olá — 5").passed
        assert not grader(reply("Olá\u00a0— 5"), "Olá — 5").passed
    assert graders.matches(reply("**a**"), r"^\*\*a").passed
    assert not graders.lines_are(reply("84 400.00"), "84400.00").passed
