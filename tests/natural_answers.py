"""Write right answers as models write them, and wrong ones that look right, for every case of the
suite; and count how many of them the suite misjudges.

Nothing here imports what the graders use: the writers read the prompt and the expected answer.

    .venv/bin/python -m tests.natural_answers --draws 200
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from certification.inference import AnyRequest, Outcome, Request, Text, ToolUse
from certification.suite import registry, synthetic_replies
from certification.suite.case import Answer, Case, Context, Ref, Script
from tests.formats import AROUND, CHARACTERS, FORMATS, LAST_LINE, LINES
from tests.paths import PROJECT

Rng = random.Random
Write = Callable[["Task", Rng], "str | Answer"]


@dataclass(frozen=True)
class Task:
    """What a writer knows: the prompt, the expected answer to it, and a wrong one."""

    prompt: str
    expected: Answer
    wrong: Answer

    @property
    def key(self) -> str:
        return text_of(self.expected)

    @property
    def near_miss(self) -> str:
        return text_of(self.wrong)


@dataclass(frozen=True)
class Writer:
    """How right and wrong answers to a case are written. `formats` are those that may be put on
    its right answers.
    """

    right: tuple[Write, ...]
    wrong: tuple[Write, ...]
    formats: tuple[str, ...] = tuple(FORMATS)


def fixed(*texts: str) -> Write:
    return lambda task, rng: rng.choice(texts)


def phrase(*forms: str) -> Write:
    """Put the key into one of these phrases."""
    return lambda task, rng: rng.choice(forms).format(task.key)


def expected(task: Task, rng: Rng) -> Answer:
    return task.expected


def near_miss(task: Task, rng: Rng) -> Answer:
    return task.wrong


def other_digit(text: str, rng: Rng) -> str:
    """Change one digit of a text."""
    places = [i for i, c in enumerate(text) if c.isdigit()]
    place = rng.choice(places)
    digit = rng.choice([d for d in "123456789" if d != text[place]])
    return text[:place] + digit + text[place + 1 :]


def grouped(number: str, sign: str) -> str:
    """Group the thousands of a whole number: 2170 -> 2,170."""
    return f"{int(number):,}".replace(",", sign)


def lines_of(code: str) -> list[str]:
    path = PROJECT / "tests" / "data" / "languages" / f"{code}.txt"
    return path.read_text("utf-8").splitlines()


SENTENCES = {
    code: [s for s in lines_of(code) if "\\n" not in s and s[0].isalpha() and len(s.split()) > 6]
    for code in ("pt", "es", "gl", "it", "fr", "en")
}
LISTS = {
    code: [
        [re.sub(r"^\W*(?:\d[.)])?\s*", "", item) for item in s.split("\\n")]
        for s in lines_of(code)
        if re.match(r"[-*•–]|\d[.)]", s) and "R$" not in s
    ]
    for code in ("pt", "es", "gl", "it", "fr", "en")
}

# Gates


def misspelt(task: Task, rng: Rng) -> str:
    """Lose what a service with a broken encoding loses."""
    return rng.choice(
        (
            task.key.encode("ascii", "ignore").decode(),
            task.key.encode("ascii", "replace").decode(),
            task.key.encode("utf-8").decode("cp1252", "replace"),
            task.key.encode("unicode_escape").decode(),
            re.sub(r"[^\x00-\xff]", "", task.key)
            .replace("ç", "c")
            .replace("ã", "a")
            .replace("ü", "u"),
        )
    )


def without_one(task: Task, rng: Rng) -> str:
    items = task.key.split(", ")
    del items[rng.randrange(len(items))]
    return ", ".join(items)


def swapped(task: Task, rng: Rng) -> str:
    items = re.split(r", |\n", task.key)
    place = rng.randrange(len(items) - 1)
    items[place : place + 2] = items[place + 1], items[place]
    return ("\n" if "\n" in task.key else ", ").join(items)


def code_in_the_middle(task: Task, rng: Rng) -> str:
    sentence, code = task.key.rsplit(" ", 1)
    return rng.choice((f"{code} {sentence}", f"{task.key} Anything else?", sentence))


def recall(task: Task, rng: Rng) -> str:
    form = rng.choice(("{}", "{}.", "It is {}.", "The answer is {}.", "Your answer: {}"))
    return form.format(task.key)


def stopped(task: Task, rng: Rng) -> Answer:
    return Answer((Text(task.key),), "max_tokens")


# Instructions


def items(code: str, rng: Rng, count: int) -> str:
    """Return a list of so many items without commas."""
    known = [i for rows in LISTS[code] for i in rows if "," not in i]
    known += [s.rstrip(".") for s in SENTENCES[code] if "," not in s]
    return "\n".join(f"- {item}" for item in rng.sample(known, count))


def three_bullets(task: Task, rng: Rng) -> str:
    return items("pt", rng, 3)


def wrong_bullets(task: Task, rng: Rng) -> str:
    three = items("pt", rng, 3)
    return rng.choice(
        (
            items("pt", rng, 4),
            items("pt", rng, 2),
            f"Claro! Aqui estão três:\n{three}",
            f"{three}\nEspero ter ajudado!",
            three.replace(" ", ", ", 1).replace("-,", "- Sim,"),
            three.replace("- ", ""),
            items("es", rng, 3),
            items("it", rng, 3),
            items("en", rng, 3),
        )
    )


def exactly_twice(task: Task, rng: Rng, times: int = 2) -> str:
    word = re.search(r'the word "(\w+)"', task.prompt)
    assert word
    places = [
        f"The old man put the {word[1]} on the table.",
        f"Nobody had ever seen such a {word[1]} in the village.",
        f"At dawn the {word[1]} was gone.",
        f"She dreamed of a {word[1]} by the sea.",
    ]
    rest = ["The night was cold.", "Nobody spoke.", "Far away a dog barked.", "Then it rained."]
    chosen = rng.sample(places, times) + rng.sample(rest, 2)
    rng.shuffle(chosen)
    return " ".join(chosen)


def not_twice(task: Task, rng: Rng) -> str:
    word = re.search(r'the word "(\w+)"', task.prompt)
    assert word
    good = exactly_twice(task, rng)
    return rng.choice(
        (
            exactly_twice(task, rng, 1),
            exactly_twice(task, rng, 3),
            good + " And the wind went on and on through the trees behind the house." * 4,
            good.replace(word[1], f"{word[1]}s", 1),
            f"{good} The {word[1]}'s story ends here.",
        )
    )


def in_capitals(task: Task, rng: Rng) -> str:
    animal, city = re.findall(r"THE (\w+) WAS SEEN IN THE STREETS OF (\w+)", task.key)[0]
    form = rng.choice(
        (
            "A {} WALKED THROUGH THE QUIET STREETS OF {} LAST NIGHT!",
            "THE {} TOOK A SLOW BOAT TO {} - AND NOBODY NOTICED.",
            '"{} SPOTTED IN {}: RESIDENTS STAY AT HOME"',
        )
    )
    return form.format(animal, city)


def not_in_capitals(task: Task, rng: Rng) -> str:
    good = in_capitals(task, rng)
    animal, city = re.findall(r"THE (\w+) WAS SEEN IN THE STREETS OF (\w+)", task.key)[0]
    words = good.split(" ")
    place = rng.randrange(len(words) - 1)
    words[place] = words[place].lower() if words[place].isalpha() else "and"
    return rng.choice(
        (
            " ".join(words),
            f"Here is it: {good}",
            good.replace(city, "PARIS"),
            good.replace(animal, "HORSE"),
            good.capitalize(),
        )
    )


DESCRIPTIONS = {
    "an umbrella": "People open it when clouds gather and close it under a roof.",
    "a refrigerator": "It stands in nearly every kitchen and keeps milk from going off.",
    "a bicycle": "You sit on it, push the pedals and get to work without fuel.",
    "a library": "It is a quiet house in which anybody may read and learn for nothing.",
    "the sun": "Every planet near us turns around it, and plants need it to grow.",
}


def description(task: Task) -> tuple[str, str]:
    """Return a description of the thing in the prompt, and the required ending."""
    thing = next(t for t in DESCRIPTIONS if f"Describe {t} in" in task.prompt)
    ending = re.search(r"exactly this sentence: (.+)", task.prompt)
    assert ending
    return DESCRIPTIONS[thing], ending[1]


def described(task: Task, rng: Rng) -> str:
    text, ending = description(task)
    more = rng.choice(("", "Many people would miss it. ", "It has been so for a long time. "))
    return f"{text} {more}{ending}"


def badly_described(task: Task, rng: Rng) -> str:
    text, ending = description(task)
    forbidden = re.search(r'without using the word "(\w+)"', task.prompt)
    assert forbidden
    return rng.choice(
        (
            f"{text} {other_digit(ending, rng)}",
            f"{text} Think of {forbidden[1]}. {ending}",
            f"{text} {forbidden[1].capitalize()} belongs to it. {ending}",
            f"{text} {ending} I hope that helps.",
            f"{ending} {text}",
            text,
        )
    )


def sections(task: Task, rng: Rng, code: str = "pt") -> str:
    first, second = re.findall(r'the title "(\w+)"', task.prompt)
    one, two, three = rng.sample(SENTENCES[code], 3)
    head = rng.choice(("{}", "**{}**", "## {}", "{}:", "### **{}**", "1. {}"))
    titles = [head.format(first), head.format(second).replace("1.", "2.")]
    gap = rng.choice(("\n", "\n\n"))
    return f"{titles[0]}{gap}{one} {two}\n\n{titles[1]}{gap}{three}"


def wrong_sections(task: Task, rng: Rng) -> str:
    first, second = re.findall(r'the title "(\w+)"', task.prompt)
    one, two = rng.sample(SENTENCES["pt"], 2)
    return rng.choice(
        (
            sections(task, rng, "es"),
            sections(task, rng, "en"),
            sections(task, rng, "it"),
            sections(task, rng, "gl"),
            f"{second}\n{one}\n\n{first}\n{two}",
            f"{first}\n{one} {two}",
            f"Aqui está a resposta:\n{first}\n{one}\n\n{second}\n{two}",
            f"{first}\n\n{second}\n{two}",
            f"{first}: {one}\n{second}: {two}",
        )
    )


# Portuguese


def row(task: Task, rng: Rng) -> str:
    letters = re.findall(r"\d-([A-D])", task.key)
    form, gap = rng.choice(
        (
            ("{}-{}", " "), ("{} - {}", ", "), ("{}) {}", "\n"), ("{}. {}", "\n"),
            ("{}: {}", "; "), ("{}-{}", "\n"), ("{}. ({})", "\n"), ("**{}**-**{}**", " "),
        )
    )  # fmt: skip
    answer = gap.join(form.format(n, letter) for n, letter in enumerate(letters, 1))
    remark = rng.choice(
        (
            "", "", "", "\n\nExplicação:\n1. A forma correta é essa.\n2. O verbo concorda.",
            "\n\n**Justificativa**\n1. A resposta segue a norma.\n3. E nada mais cabe aqui.",
            "\n\nEm resumo, as respostas seguem a norma-padrão.",
        )
    )  # fmt: skip
    return answer + remark


def wrong_row(task: Task, rng: Rng) -> str:
    letters = re.findall(r"\d-([A-D])", task.key)
    place = rng.randrange(len(letters))
    other = rng.choice([c for c in "ABC" if c != letters[place]])
    changed = " ".join(f"{n}-{other if n == place + 1 else c}" for n, c in enumerate(letters, 1))
    short = " ".join(f"{n}-{c}" for n, c in enumerate(letters, 1) if n != place + 1)
    reason = f"\n\n{place + 1}. {letters[place]} forma correta seria outra."
    both = " ".join(
        f"{n}-{c}{'/' + other if n == place + 1 else ''}" for n, c in enumerate(letters, 1)
    )
    return rng.choice((changed, short, changed + reason, both, " ".join(letters)))


def relations(task: Task, rng: Rng) -> str:
    one, two = task.key.split(", ")
    form = rng.choice(("{}, {}", "{}; {}.", "Par 1: {}\nPar 2: {}", "1. {}\n2. {}", "{} / {}"))
    answer = form.format(one, two)
    remark = "\n\nExplicação: no primeiro par, a segunda frase repete a ideia da primeira."
    return rng.choice((answer, answer, answer.title(), answer.upper(), f"{answer}{remark}"))


def wrong_relations(task: Task, rng: Rng) -> str:
    one, two = task.key.split(", ")
    labels = ("decorre", "contradiz", "indefinido")
    return rng.choice(
        (
            f"{rng.choice([c for c in labels if c != one])}, {two}",
            f"{one}, {rng.choice([c for c in labels if c != two])}",
            one,
            f"{one}, {two}, {one}",
            ", ".join(labels),
        )
    )


def four_lines(task: Task, rng: Rng) -> str:
    return task.key


def wrong_lines(task: Task, rng: Rng) -> str:
    rows = task.key.split("\n")
    year, month, day = rows[0].split("-")
    money = float(rows[3])
    return rng.choice(
        (
            "\n".join([f"{year}-{day}-{month}", *rows[1:]]),
            "\n".join([f"{day}/{month}/{year}", *rows[1:]]),
            "\n".join([*rows[:3], f"{money:,.2f}" if money > 999 else f"R$ {money:.2f}"]),
            "\n".join([*rows[:3], f"R$ {rows[3]}"]),
            "\n".join([*rows[:3], rows[3].replace(".", ",")]),
            "\n".join([*rows[:3], other_digit(rows[3], rng)]),
            "\n".join([rows[0], rows[1], rows[3], rows[2]]),
            "\n".join(rows[:3]),
            f"Data: {task.key}",
            f"{task.key}\nEspero ter ajudado.",
            " ".join(rows),
        )
    )


MONTHS = (
    "janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro",
    "outubro", "novembro", "dezembro",
)  # fmt: skip


@dataclass(frozen=True)
class Deal:
    """The terms of a contract as its text states them."""

    person: str
    amount: str
    day: int
    month: int
    year: str
    months: str
    fine: str


def deal_of(task: Task) -> Deal:
    text = task.prompt
    amount = re.search(r"R\$ ([\d.]+),00", text)
    person = re.search(r"(?:instrumento, |cede a |entrega a )([A-ZÀ-Ý]\w+(?: [A-ZÀ-Ý]\w+)+),", text)
    starts = re.search(r"(\d+)º? de (\w+) de (\d{4})", text)
    months, fine = re.search(r"(\d+) meses", text), re.search(r"multa de (\d+)%", text)
    assert amount
    assert person
    assert starts
    assert months
    assert fine
    month = MONTHS.index(starts[2]) + 1
    return Deal(person[1], amount[1], int(starts[1]), month, starts[3], months[1], fine[1])


def summary(deal: Deal, rng: Rng) -> str:
    """Write a summary of a contract in at most five lines."""
    amount = rng.choice(
        (
            f"R$ {deal.amount},00",
            f"R$ {deal.amount}",
            f"R${deal.amount},00",
            f"R$ {deal.amount.replace('.', ' ')},00",
        )
    )
    ordinal = "1º" if deal.day == 1 else str(deal.day)
    date = rng.choice(
        (
            f"{ordinal} de {MONTHS[deal.month - 1]} de {deal.year}",
            f"{deal.day:02}/{deal.month:02}/{deal.year}",
            f"{deal.day}/{deal.month}/{deal.year}",
        )
    )
    person = deal.person
    term = rng.choice(("{} meses", "{}\u00a0meses", "{} (por extenso) meses")).format(deal.months)
    return rng.choice(
        (
            f"{person} assinou o contrato, que começa em {date}, dura {term} e custa {amount}.",
            f"Parte: {person}\nValor: {amount}\nInício: {date}\nPrazo: {term}",
            f"1 - Nome: {person}\n2 - Valor: {amount}\n3 - Início: {date}\n4 - Prazo: {term}",
            f"- **Nome:** {person}\n- **Valor:** {amount}\n- **Início:** {date}\n- Prazo: {term}",
            f"O contrato de {person} vale por {term} a partir de {date}.\nO valor é de {amount}, "
            f"e o atraso gera multa de {deal.fine}%.",
            f"A contar de {date}, e pelo prazo de {term}, {person} fica obrigada ao valor de "
            f"{amount} (multa de {deal.fine}% em caso de descumprimento).",
        )
    )


def wrong_summary(task: Task, rng: Rng) -> str:
    deal = deal_of(task)
    first = deal.person.split()[0]
    other_amount = f"{int(deal.amount[0]) % 9 + 1}{deal.amount[1:]}"
    swapped_terms = replace(deal, months=deal.fine, fine=deal.months)
    good = summary(deal, rng)
    return rng.choice(
        (
            summary(replace(deal, amount=other_amount), rng),
            summary(replace(deal, months=str(int(deal.months) + 1)), rng),
            summary(replace(deal, day=deal.month, month=deal.day), rng),
            summary(replace(deal, person=first), rng),
            summary(swapped_terms, rng) + f"\nA multa é de {deal.months}%.",
            f"{good}\nO total chega a R$ 98.765,00.",
            "\n".join([good, *rng.sample(SENTENCES["pt"], 5)]),
            f"{deal.person} firma el contrato, que empieza el {deal.day:02}/{deal.month:02}/"
            f"{deal.year}, dura {deal.months} meses y cuesta R$ {deal.amount},00 al mes.",
            f"{deal.person} signs the contract, which starts on {deal.day:02}/{deal.month:02}/"
            f"{deal.year}, runs for {deal.months} months and costs R$ {deal.amount},00.",
        )
    )


# Reasoning, context, vision, tools


def worked_out(task: Task, rng: Rng) -> str:
    figure = task.key.split("\n")[-1]
    last = rng.choice(
        (
            figure, f"**{figure}**", rf"\boxed{{{figure}}}", rf"\[ \boxed{{{figure}}} \]",
            f"$\\boxed{{{figure}}}$", grouped(figure, ","), grouped(figure, "\u202f"),
            grouped(figure, " "), rf"\boxed{{{grouped(figure, '{,}')}}}", f"{figure}.",
            f"The result is **${grouped(figure, ',')}**.", f"= {figure}", f"{figure} in all",
            f"\\boxed{{{figure}}}\n\nSo the result is {grouped(figure, ',')}.",
            rf"\(\boxed{{{grouped(figure, chr(92) + ',')}}}\)", f"Answer: {figure}", f"{figure}.00",
        )
    )  # fmt: skip
    steps = rng.choice(
        (
            "Step 1: multiply 12 by 7 to get 84.\nStep 2: subtract 5, which leaves 79.",
            "**Step 1:** $12 \\times 7 = 84$\n\n**Step 2:** $84 - 5 = 79$",
            "1. First, 12 × 7 = 84.\n2. Then 84 − 5 = 79.",
        )
    )
    return f"{steps}\n\n{last}"


def badly_worked_out(task: Task, rng: Rng) -> str:
    figure, miss = task.key.split("\n")[-1], task.near_miss.split("\n")[-1]
    return rng.choice(
        (
            f"This gives the result.\n{miss}",
            f"At first {figure} looks right.\n{int(figure) + 1}",
            f"Step by step.\n\\boxed{{{other_digit(figure, rng)}}}",
            f"Step by step.\n{figure}0",
            f"The result is {miss} or {figure}.",
            "I cannot work this out.",
        )
    )


def puzzle(task: Task, rng: Rng) -> str:
    names = task.key.split("\n")[-1]
    form = rng.choice(
        ("{}", "**{}**", r"\boxed{{\text{{{}}}}}", "{}.", "Answer: {}", "The order: {}")
    )
    return f"Only one order fits all clues.\n\n{form.format(names)}"


def wrong_puzzle(task: Task, rng: Rng) -> str:
    names = task.key.split("\n")[-1].split(", ")
    place = rng.randrange(3)
    mixed = [*names[:place], names[place + 1], names[place], *names[place + 2 :]]
    return rng.choice(
        (
            f"Only one order fits.\n{', '.join(mixed)}",
            f"{', '.join(names)}\n\n{', '.join(mixed)}",
            f"Only one order fits.\n{', '.join(names[:3])}",
            f"Only one order fits.\n{', '.join(reversed(names))}",
        )
    )


def needle(task: Task, rng: Rng) -> str:
    return rng.choice(("{}", "{}.", "The answer is {}.", "**{}**", "It is `{}`.")).format(task.key)


def wrong_needle(task: Task, rng: Rng) -> str:
    return rng.choice(
        (
            task.near_miss,
            f"{task.key} or {task.near_miss}",
            other_digit(task.key, rng),
            task.key[:-1],
            "The text does not say.",
        )
    )


def three_codes(task: Task, rng: Rng) -> str:
    codes = task.key.split("\n")
    form = rng.choice(
        ("{}\n{}\n{}", "1. {}\n2. {}\n3. {}", "{}, {}, {}", "- {}\n- {}\n- {}", "{}; {}; {}.")
    )
    return form.format(*codes)


def wrong_codes(task: Task, rng: Rng) -> str:
    codes = task.key.split("\n")
    return rng.choice(
        (
            "\n".join((codes[1], codes[0], codes[2])),
            "\n".join((codes[0], codes[2], codes[1])),
            "\n".join((codes[0], other_digit(codes[1], rng), codes[2])),
            "\n".join(codes[:2]),
            "\n".join([*codes[::-1], *codes]),
        )
    )


def poster(task: Task, rng: Rng) -> str:
    code, count = task.key.split(", ")
    form = rng.choice(
        (
            "{}, {}",
            "{},{}",
            "{}, {}.",
            "Code: {}, number: {}",
            "{} , {}",
            "**{}**, **{}**",
            "{},\n{}",
        )
    )
    return form.format(code, count)


def wrong_poster(task: Task, rng: Rng) -> str:
    code, count = task.key.split(", ")
    return rng.choice(
        (
            f"{code}, {int(count) + 1}",
            f"{code},{int(count) - 1}",
            f"{other_digit(code, rng)}, {count}",
            f"{code}, {count} or {int(count) + 1}",
            code,
            count,
        )
    )


def cell(task: Task, rng: Rng) -> str:
    figure = task.key
    return rng.choice(
        (
            figure, f"{figure}.", grouped(figure, ","), grouped(figure, "."), grouped(figure, " "),
            grouped(figure, "\u202f"), f"**{figure}**", f"The number is {figure}.", f"${figure}$",
            grouped(figure, "{,}"), grouped(figure, "\u2009"),
        )
    )  # fmt: skip


def wrong_cell(task: Task, rng: Rng) -> str:
    figure = task.key
    return rng.choice(
        (
            task.near_miss,
            other_digit(figure, rng),
            figure[:-1],
            f"{figure}1",
            "It is not in the table.",
        )
    )


def sentence_with_figure(task: Task, rng: Rng) -> str:
    figure = re.findall(r"\d+", task.key)[-1 if "train" not in task.key else 0]
    shown = rng.choice((figure, f"**{figure}**", grouped(figure, ","), grouped(figure, " ")))
    shown = rng.choice((shown, shown, grouped(figure, "\u202f"), f"{figure}.00"))
    return task.key.replace(figure, shown, 1)


def sentence_with_another(task: Task, rng: Rng) -> str:
    figure = re.findall(r"\d+", task.key)[-1 if "train" not in task.key else 0]
    wrong = rng.choice((other_digit(figure, rng), f"{figure}0", str(int(figure) + 7)))
    wrong = rng.choice((wrong, wrong, wrong, f"{figure} or {wrong}"))
    return task.key.replace(figure, wrong, 1)


def candidates(task: Task, rng: Rng) -> str:
    """Name every candidate of the question, or another one."""
    listed = re.search(r": ([\w, ]+)\?", task.prompt)
    if not listed:
        return other_digit(task.key, rng)
    named = listed[1].split(", ")
    return rng.choice((", ".join(named), rng.choice([n for n in named if n != task.key])))


def as_tool_call(task: Task, rng: Rng) -> Answer:
    call = ToolUse("tooluse_x", "set_alarm", {"hour": 7, "minute": 5, "repeat": "once"})
    return Answer((Text(task.key), call), "tool_use")


def tool_calls(task: Task, rng: Rng) -> Answer:
    """Make the expected calls, in any order of calls and arguments, with or without a remark."""
    uses = [b for b in task.expected.content if isinstance(b, ToolUse)]
    rng.shuffle(uses)
    uses = [
        replace(use, input=dict(rng.sample([*use.input.items()], len(use.input)))) for use in uses
    ]
    remark = (Text("I will use the tool for that."),) if rng.random() < 0.4 else ()
    others = tuple(b for b in task.expected.content if not isinstance(b, ToolUse | Text))
    return Answer((*others, *remark, *uses), "tool_use")


def other_value(value: Any, rng: Rng) -> Any:
    """Change a JSON value a little."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((1, 10))
    if isinstance(value, str):
        return f"{value} x"
    if isinstance(value, list):
        return value[::-1] if value[::-1] != value else [*value, 1]
    if isinstance(value, dict):
        key = rng.choice([*value])
        return {**value, key: other_value(value[key], rng)}
    return None


def wrong_calls(task: Task, rng: Rng) -> Answer:
    uses = [b for b in task.expected.content if isinstance(b, ToolUse)]
    others = tuple(b for b in task.expected.content if not isinstance(b, ToolUse | Text))
    place = rng.randrange(len(uses))
    key = rng.choice([*uses[place].input])
    changed = {**uses[place].input, key: other_value(uses[place].input[key], rng)}
    missing = {name: v for name, v in uses[place].input.items() if name != key}
    wrong = rng.choice(
        (
            [*uses[:place], replace(uses[place], input=changed), *uses[place + 1 :]],
            [*uses[:place], replace(uses[place], input=missing), *uses[place + 1 :]],
            [*uses[:place], replace(uses[place], name="no_such_tool"), *uses[place + 1 :]],
            [*uses, replace(uses[place], id="tooluse_again")],
            [],
        )
    )
    text = () if wrong else (Text(json.dumps(dict(uses[place].input))),)
    return Answer((*others, *text, *wrong), "tool_use" if wrong else "end_turn")


# JSON


def json_text(task: Task, rng: Rng) -> str:
    value = json.loads(task.key)
    value = dict(rng.sample([*value.items()], len(value)))
    dumped = json.dumps(
        value,
        indent=rng.choice((None, 2, 4)),
        ensure_ascii=rng.choice((True, False)),
        separators=rng.choice((None, (",", ":"))),
    )
    return rng.choice(
        (dumped, dumped, f"```json\n{dumped}\n```", f"```\n{dumped}\n```", f"\n{dumped}\n")
    )


def wrong_json(task: Task, rng: Rng) -> str:
    value = json.loads(task.key)
    key = rng.choice([*value])
    changed = {**value, key: other_value(value[key], rng)}
    if isinstance(value[key], float):
        changed[key] = round(value[key] + 0.01, 2)
    missing = {name: v for name, v in value.items() if name != key}
    return rng.choice(
        (
            json.dumps(changed),
            json.dumps(missing),
            json.dumps({**value, "note": "paid"}),
            f"Here is the JSON:\n{task.key}",
            f"```json\n{task.key}\n```\nI hope that helps.",
            task.key[:-1],
            task.key.replace('"', "'"),
            f"[{task.key}]",
        )
    )


def label(task: Task, rng: Rng) -> str:
    return rng.choice((task.key, task.key.capitalize(), f"{task.key}.", task.key.upper()))


def wrong_label(task: Task, rng: Rng) -> str:
    labels = ("billing", "delivery", "account", "product", "complaint")
    other = rng.choice([name for name in labels if name != task.key])
    return rng.choice(
        (other, f"{task.key} or {other}", f"{task.key}, {other}", f"The class is {other}.", "other")
    )


def listed(task: Task, rng: Rng) -> str:
    words = task.key.split(", ")
    return rng.choice(
        (task.key, f"{task.key}.", task.key.capitalize(), ",".join(words), "\n".join(words))
    )


LONG = ("The ferry left at seven and the harbour was still asleep under a grey sky. " * 24).strip()
NATURAL = (*AROUND, *LINES, *CHARACTERS, *LAST_LINE)
PROSE = tuple(
    name for name in NATURAL if not name.startswith(("number", "keycaps", "list", "HTML l"))
)
PLAIN: tuple[str, ...] = ()
AS_EXPECTED = Writer((expected,), (near_miss,), PLAIN)

WRITERS: dict[str, Writer] = {
    "G01": Writer(
        (expected, fixed("Blue.", "It has eight.", "Spring, of course.")), (fixed("", " \n"),)
    ),
    "G02": Writer((listed,), (without_one, swapped)),
    "G03": Writer((recall,), (stopped, fixed("", "\n")), PROSE),
    "G04": AS_EXPECTED,
    "G05": AS_EXPECTED,
    "G06": Writer(
        (expected, phrase("{}", "{}.", "**{}**")), (near_miss, code_in_the_middle), PROSE
    ),
    "G07": Writer((recall,), (near_miss, lambda t, rng: f"{t.key} and {t.near_miss}")),
    "G08": Writer((phrase("{}", "{}\n"),), (misspelt, near_miss), PLAIN),
    "G09": AS_EXPECTED,
    "G11": Writer((tool_calls,), (near_miss,), PLAIN),
    "T1": Writer((tool_calls,), (wrong_calls,), PLAIN),
    "T2": Writer((recall,), (candidates, as_tool_call)),
    "T3": Writer((tool_calls,), (wrong_calls,), PLAIN),
    "T4": Writer((tool_calls,), (wrong_calls,), PLAIN),
    "T5": Writer((sentence_with_figure,), (sentence_with_another, near_miss)),
    "J1": Writer((json_text,), (wrong_json,), PLAIN),
    "J2": Writer((json_text,), (wrong_json,), PLAIN),
    "J3": Writer((label,), (wrong_label,)),
    "S1": Writer((listed,), (without_one, swapped)),
    "S2": Writer(
        (lambda t, rng: LONG[: rng.randrange(1100, 1800)],), (near_miss, fixed(LONG[:400])), PLAIN
    ),
    "S3": AS_EXPECTED,
    "I1": Writer((three_bullets,), (wrong_bullets,)),
    "I2": Writer((exactly_twice,), (not_twice,), PROSE),
    "I3": Writer((in_capitals,), (not_in_capitals,)),
    "I4": Writer((described,), (badly_described,)),
    "I5": Writer((sections,), (wrong_sections,), PROSE),
    "P1": Writer((row,), (wrong_row,), PROSE),
    "P2": Writer((relations,), (wrong_relations,)),
    "P3": Writer((row,), (wrong_row,), PROSE),
    "P4": Writer((four_lines,), (wrong_lines,)),
    "P5": Writer((lambda t, rng: summary(deal_of(t), rng),), (wrong_summary,), PROSE),
    "R1": Writer((worked_out,), (badly_worked_out,), (*AROUND, *CHARACTERS)),
    "R2": Writer((puzzle,), (wrong_puzzle,), PROSE),
    "R3": Writer((sentence_with_figure,), (sentence_with_another,)),
    "N1": Writer((needle,), (wrong_needle,)),
    "N2": Writer((three_codes,), (wrong_codes,)),
    "N3": Writer((needle,), (wrong_needle,)),
    "V1": Writer((poster,), (wrong_poster,)),
    "V2": Writer((cell,), (wrong_cell,)),
    "B1": Writer((cell,), (wrong_cell,)),
    "L1": AS_EXPECTED,
    "L2": AS_EXPECTED,
    "D1": AS_EXPECTED,
}
# G10 expects refusals, G12 reads a whole run, F1 accepts any answer.
OTHER_CASES = {"G10", "G12", "F1"}


def put_formats(text: str, names: tuple[str, ...], rng: Rng) -> str:
    """Put no format on a text, or one, or one of its characters and one of its lines."""
    count = rng.choice((0, 0, 1, 1, 1, 2)) if names else 0
    alone = {"escaped marks", "LaTeX spaces", "HTML entities"}
    inner = [n for n in (*CHARACTERS, *LAST_LINE) if n in names and n not in alone]
    outer = [n for n in (*LINES, *AROUND) if n in names and "LaTeX" not in n]
    if count == 2 and inner and outer:
        return FORMATS[rng.choice(outer)](FORMATS[rng.choice(inner)](text))
    return FORMATS[rng.choice(names)](text) if count else text


def text_of(answer: Answer | None) -> str:
    return "".join(b.text for b in answer.content if isinstance(b, Text)) if answer else ""


def prompt_of(request: AnyRequest) -> str:
    assert isinstance(request, Request)
    return "\n".join(b.text for m in request.messages for b in m.content if isinstance(b, Text))


def written(task: Task, writer: Writer, rng: Rng, *, right: bool) -> Answer:
    answer = rng.choice(writer.right if right else writer.wrong)(task, rng)
    if isinstance(answer, Answer):
        return answer
    text = put_formats(answer, writer.formats, rng) if right else answer
    return replace(task.expected, content=(Text(text),))


def trial(script: Script, writer: Writer, rng: Rng, *, right: bool) -> tuple[Outcome, ...]:
    """Return the outcomes of a trial whose last answer the writer wrote."""
    outcomes: tuple[Outcome, ...] = ()
    calls: list[tuple[Request, Task]] = []
    for step in script.steps:
        request = step.request(outcomes)
        if isinstance(request, Request) and step.expected and step.near_miss:
            calls.append((request, Task(prompt_of(request), step.expected, step.near_miss)))
            outcomes += (synthetic_replies.reply(request, step.expected),)
    request, task = calls[-1]
    last = synthetic_replies.reply(request, written(task, writer, rng, right=right))
    return (*outcomes[:-1], last)


@dataclass(frozen=True)
class Mistake:
    """An answer that the suite misjudged."""

    case_id: str
    right: bool
    text: str
    sentence: str


def judge(case: Case, draws: int, seed: int = 1) -> Iterator[Mistake | None]:
    """Judge so many right and as many wrong answers; yield each mistake, None for the others."""
    writer = WRITERS[case.id]
    for draw in range(draws):
        script = case.script(Ref(seed + draw // 3, case.id, draw % 3))
        for right in (True, False):
            rng = random.Random(f"{seed}/{case.id}/{draw}/{right}")
            outcomes = trial(script, writer, rng, right=right)
            grade = script.grade(outcomes, Context())
            content = getattr(outcomes[-1], "content", ())
            text = "".join(b.text if isinstance(b, Text) else f" {b!r}" for b in content)
            wrong = grade.passed is not right
            yield Mistake(case.id, right, text, grade.sentence) if wrong else None


def cases() -> list[Case]:
    return [c for c in registry.all_cases("text", "deep") if c.id not in OTHER_CASES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200, help="right and wrong answers per case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="mistakes to print per case")
    options = parser.parse_args()
    counts: dict[bool, int] = defaultdict(int)
    print("| case | right answers that failed | wrong answers that passed |\n|---|---:|---:|")
    for case in cases():
        mistakes = [m for m in judge(case, options.draws, options.seed) if m]
        failed, passed = [m for m in mistakes if m.right], [m for m in mistakes if not m.right]
        counts[True] += len(failed)
        counts[False] += len(passed)
        if mistakes:
            print(f"| {case.id} | {len(failed)} | {len(passed)} |")
        for mistake in (*failed[: options.show], *passed[: options.show]):
            print(f"    {mistake.right} {mistake.sentence} {mistake.text!r:.300}")
    total = options.draws * len(cases())
    shares = [f"{counts[right]} ({counts[right] / total:.2%})" for right in (True, False)]
    print(f"| all {len(cases())} cases, {total} of each | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
