"""Vision: a code and shapes in a picture, one cell of a table in a document, both drawn for the
request.
"""

from __future__ import annotations

from collections.abc import Callable

from certification.inference import Document, Failure, Image, Outcome, Request, user
from certification.reasons import Reason
from certification.suite import graders, images
from certification.suite.case import Category, Context, Grade, Ref, Script, Step, text_answer
from certification.suite.cases.builders import (
    DEFAULT_MAX_TOKENS,
    Check,
    Outcomes,
    at,
    scored_case,
    variant_of,
    with_reference,
)
from certification.suite.images import COLOURS, SHAPES, Shape
from certification.suite.sentences import gettext_noop

# V1 a code and shapes in a picture

_LETTERS, _DIGITS = "ACEFHKLMNPRTUWXY", "234679"  # no two that look alike
_POSTER_QUESTIONS = (
    "What is the code in the picture, and how many {} {}s are there?",
    "Read the code at the top of this picture and count the {} {}s below it.",
    "This picture shows a code and coloured shapes. Give the code and the number of {} {}s.",
)


def code_and_shapes(ref: Ref) -> Script:
    rng = ref.rng()
    head = f"{rng.choice(_LETTERS)}{rng.choice(_DIGITS)}{rng.choice(_LETTERS)}"
    code = f"{head}-{''.join(rng.choices(_DIGITS, k=3))}"
    target = Shape(rng.choice(SHAPES), rng.choice(list(COLOURS)))
    shapes = [Shape(kind, colour) for kind in SHAPES for colour in COLOURS]
    others = [shape for shape in shapes if shape != target]
    count = rng.randrange(2, 6)
    shapes = rng.sample([target] * count + rng.choices(others, k=10 - count), 10)
    question = _POSTER_QUESTIONS[variant_of(ref, len(_POSTER_QUESTIONS))].format(
        target.colour, target.kind
    )
    prompt = f"{question} Answer with the code, a comma and the number, and nothing else."

    def request(outcomes: Outcomes) -> Request:
        picture = Image("png", images.poster_png(code, shapes))
        return Request((user(picture, with_reference(ref, prompt)),), DEFAULT_MAX_TOKENS)

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.mentions(outcome, code),
            lambda: graders.only_number(outcome, count, int(code[-3:])),
        )

    near_miss = rng.choice(
        (
            f"{code}, {count + 1}",
            f"{code[:-1]}{_DIGITS[_DIGITS.index(code[-1]) - 1]}, {count}",
            f"{code}, {count - 1}, {count}",
        )
    )
    return visual_script(
        ref,
        len(_POSTER_QUESTIONS),
        request,
        check,
        needs="vision",
        expected=f"{code}, {count}",
        near_miss=near_miss,
    )


# V2 one cell of a table in a document

_TABLES = (
    (
        "Tonnes of freight",
        ("Bergen", "Coimbra", "Galway", "Cusco", "Malmo"),
        ("North", "South", "East", "West"),
    ),
    (
        "Visitors per month",
        ("Museum", "Theatre", "Library", "Archive", "Aquarium"),
        ("April", "May", "June", "July"),
    ),
    (
        "Units sold",
        ("Lamps", "Shelves", "Chairs", "Clocks", "Desks"),
        ("2021", "2022", "2023", "2024"),
    ),
)


def table_cell(ref: Ref) -> Script:
    rng = ref.rng()
    title, known, columns = _TABLES[variant_of(ref, len(_TABLES))]
    names = rng.sample(known, len(known))
    figures = rng.sample(range(3_000, 9_999), 20)
    cells = [figures[4 * i : 4 * i + 4] for i in range(5)]
    row, column = rng.randrange(5), rng.randrange(4)
    value, neighbour = cells[row][column], cells[(row + 1) % 5][column]
    prompt = (
        f"In the table of this document, which number stands in the row {names[row]} and the "
        f"column {columns[column]}? Answer with the number only."
    )

    def request(outcomes: Outcomes) -> Request:
        rows = [
            ("", *columns),
            *((name, *map(str, line)) for name, line in zip(names, cells, strict=True)),
        ]
        document = Document("pdf", "table", images.table_pdf(title, rows))
        return Request((user(document, with_reference(ref, prompt)),), DEFAULT_MAX_TOKENS)

    def check(outcome: Outcome | None) -> Grade:
        in_question = [int(columns[column])] if columns[column].isdecimal() else []
        return graders.only_number(outcome, value, *in_question)

    return visual_script(
        ref,
        len(_TABLES),
        request,
        check,
        needs="documents",
        expected=str(value),
        near_miss=str(neighbour),
    )


def visual_script(
    ref: Ref,
    variants: int,
    request: Callable[[Outcomes], Request],
    check: Check,
    *,
    needs: str,
    expected: str,
    near_miss: str,
) -> Script:
    """Build a trial of one call with a picture or document, which is drawn only for the call, so
    that the answer key stays fast.
    """

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        if isinstance(outcome, Failure) and (
            outcome.reason == Reason.MODALITY_NOT_SUPPORTED
            or graders.refuses(
                outcome, r"support\w* (the )?(image|document|input_image|input_file)"
            )
        ):
            return graders.lacks(needs, outcome)
        return check(outcome)

    return Script(
        ref,
        variant_of(ref, variants),
        (Step(request, text_answer(expected), text_answer(near_miss)),),
        grade,
    )


VISION = (
    scored_case(
        "V1",
        gettext_noop("Code and shapes in a picture"),
        Category.VISION,
        code_and_shapes,
        "vision",
    ),
    scored_case(
        "V2", gettext_noop("One cell of a table (PDF)"), Category.VISION, table_cell, "documents"
    ),
)
