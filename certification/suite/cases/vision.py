"""Seeing: a code and shapes in a picture, one cell of a table in a document, both drawn when they
are asked about.
"""

from __future__ import annotations

from collections.abc import Callable

from certification.inference import Document, Failure, Image, Outcome, Request, user
from certification.reasons import Reason
from certification.suite import graders, images
from certification.suite.case import Category, Context, Grade, Ref, Script, Step, says
from certification.suite.cases.builders import ROOM, Check, Outcomes, at, nonce, scored, variant_of
from certification.suite.images import COLOURS, SHAPES, Shape

# V1 a code and shapes in a picture

_LETTERS, _DIGITS = "ACEFHKLMNPRTUWXY", "234679"  # no two that look alike
_POSTER_QUESTIONS = (
    "What is the code in the picture, and how many {} {}s are there?",
    "Read the code at the top of this picture and count the {} {}s below it.",
    "This picture shows a code and coloured shapes. Give the code and the number of {} {}s.",
)


def _poster(ref: Ref) -> Script:
    rng = ref.rng()
    code = f"{rng.choice(_LETTERS)}{rng.choice(_DIGITS)}{rng.choice(_LETTERS)}-{''.join(rng.choices(_DIGITS, k=3))}"
    wanted = Shape(rng.choice(SHAPES), rng.choice(list(COLOURS)))
    others = [
        Shape(kind, colour)
        for kind in SHAPES
        for colour in COLOURS
        if Shape(kind, colour) != wanted
    ]
    count = rng.randrange(2, 6)
    shapes = rng.sample([wanted] * count + rng.choices(others, k=10 - count), 10)
    question = _POSTER_QUESTIONS[variant_of(ref, len(_POSTER_QUESTIONS))].format(
        wanted.colour, wanted.kind
    )
    prompt = f"{question} Answer with the code, a comma and the number, and nothing else."

    def request(outcomes: Outcomes) -> Request:
        picture = Image("png", images.poster_png(code, shapes))
        return Request((user(picture, nonce(ref, prompt)),), ROOM)

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.mentions(outcome, code), lambda: graders.number(outcome, count)
        )

    near_miss = rng.choice(
        (f"{code}, {count + 1}", f"{code[:-1]}{_DIGITS[_DIGITS.index(code[-1]) - 1]}, {count}")
    )
    return _look(
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


def _cell(ref: Ref) -> Script:
    rng = ref.rng()
    title, known, columns = _TABLES[variant_of(ref, len(_TABLES))]
    names = rng.sample(known, len(known))
    figures = rng.sample(range(3_000, 9_999), 20)
    cells = [figures[4 * i : 4 * i + 4] for i in range(5)]
    row, column = rng.randrange(5), rng.randrange(4)
    value, neighbour = cells[row][column], cells[(row + 1) % 5][column]
    prompt = (
        f"In the table of this document, which number stands in the row {names[row]} and the column {columns[column]}? "
        "Answer with the number only."
    )

    def request(outcomes: Outcomes) -> Request:
        rows = [
            ("", *columns),
            *((name, *map(str, line)) for name, line in zip(names, cells, strict=True)),
        ]
        document = Document("pdf", "table", images.table_pdf(title, rows))
        return Request((user(document, nonce(ref, prompt)),), ROOM)

    def check(outcome: Outcome | None) -> Grade:
        return graders.number(outcome, value)

    return _look(
        ref,
        len(_TABLES),
        request,
        check,
        needs="documents",
        expected=str(value),
        near_miss=str(neighbour),
    )


def _look(
    ref: Ref,
    variants: int,
    request: Callable[[Outcomes], Request],
    check: Check,
    *,
    needs: str,
    expected: str,
    near_miss: str,
) -> Script:
    """A trial of one call with something to look at. It is drawn for the call alone, so that the
    key stays quick.
    """

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        if isinstance(outcome, Failure) and (
            outcome.reason == Reason.MODALITY_NOT_SUPPORTED
            or graders.refuses(outcome, r"support\w* (the )?(image|document)")
        ):
            return graders.lacks(needs, outcome)
        return check(outcome)

    return Script(
        ref, variant_of(ref, variants), (Step(request, says(expected), says(near_miss)),), grade
    )


VISION = (
    scored("V1", "Code and shapes in a picture", Category.VISION, _poster, "vision"),
    scored("V2", "One cell of a table (PDF)", Category.VISION, _cell, "documents"),
)
