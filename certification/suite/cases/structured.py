"""JSON that a program can read: an invoice in words, a schema of the service or of a tool, one
label of five.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certification.inference import Failure, Outcome, Request, Tool, ToolUse
from certification.reasons import Reason
from certification.suite import graders
from certification.suite.case import (
    Answer,
    Category,
    Context,
    Grade,
    Probe,
    Ref,
    Script,
    Step,
    says,
)
from certification.suite.cases.builders import (
    NO_TOOLS,
    TOOL_CHOICE,
    Outcomes,
    always,
    ask,
    at,
    cannot_force,
    one_answer,
    scored,
    variant_of,
)

_ROOM = 700
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# J1 an invoice to JSON

_MONTHS = (
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
)  # fmt: skip
_CUSTOMERS = (
    "Aurora Foods",
    "Prado & Sons",
    "Lindgren Optics",
    "Haddad Textiles",
    "Campos Marine",
    "Northway Labs",
)
_GOODS = (
    "desk lamps",
    "oak shelves",
    "steel brackets",
    "ink cartridges",
    "garden chairs",
    "cable drums",
    "wall clocks",
)
INVOICE = _object(
    number=_TEXT,
    date={**_TEXT, "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    customer=_TEXT,
    items={
        "type": "array",
        "items": _object(description=_TEXT, quantity=_WHOLE, unit_price=_NUMBER),
    },
    total=_NUMBER,
)


@dataclass(frozen=True)
class _Invoice:
    number: str
    year: int
    month: int
    day: int
    customer: str
    lines: tuple[tuple[str, int, int], ...]  # description, quantity, unit price in cents

    @property
    def cents(self) -> int:
        return sum(quantity * price for _, quantity, price in self.lines)

    @property
    def spoken_date(self) -> str:
        return f"{self.day} {_MONTHS[self.month - 1]} {self.year}"

    def value(self) -> dict[str, Any]:
        items = [{"description": d, "quantity": q, "unit_price": p / 100} for d, q, p in self.lines]
        return {
            "number": self.number,
            "date": f"{self.year}-{self.month:02}-{self.day:02}",
            "customer": self.customer,
            "items": items,
            "total": self.cents / 100,
        }


def _draw_invoice(rng: random.Random) -> _Invoice:
    lines = tuple(
        (goods, rng.randrange(2, 19), rng.randrange(1105, 9995)) for goods in rng.sample(_GOODS, 2)
    )
    number = f"{rng.choice('ABCDEFGH')}{rng.choice('KLMNPQR')}-{rng.randrange(10000, 99999)}"
    return _Invoice(
        number,
        rng.randrange(2021, 2026),
        rng.randrange(1, 13),
        rng.randrange(13, 29),
        rng.choice(_CUSTOMERS),
        lines,
    )


def _money(cents: int) -> str:
    return f"${cents / 100:,.2f}"


def _letter(invoice: _Invoice) -> str:
    (d1, q1, p1), (d2, q2, p2) = invoice.lines
    return (
        f"Dear team at {invoice.customer}, please find below our invoice {invoice.number} of {invoice.spoken_date}. It "
        f"covers {q1} {d1} at {_money(p1)} each and {q2} {d2} at {_money(p2)} each. The sum of {_money(invoice.cents)} is "
        "due within a month. Thank you for your order."
    )


def _form(invoice: _Invoice) -> str:
    rows = "\n".join(f"{q} x {d} @ {_money(p)}" for d, q, p in invoice.lines)
    return (
        f"INVOICE No. {invoice.number}\nBilled to: {invoice.customer}\nIssued: {invoice.spoken_date}\n{rows}\n"
        f"Amount due: {_money(invoice.cents)}"
    )


def _memo(invoice: _Invoice) -> str:
    (d1, q1, p1), (d2, q2, p2) = invoice.lines
    return (
        f"For the books: on {invoice.spoken_date} we billed {invoice.customer} {_money(invoice.cents)} in all, under the "
        f"number {invoice.number}. They took {q1} {d1} (unit price {_money(p1)}) and {q2} {d2} (unit price {_money(p2)})."
    )


_LAYOUTS = (_letter, _form, _memo)


def _invoice(ref: Ref) -> Script:
    rng = ref.rng()
    invoice = _draw_invoice(rng)
    prompt = (
        "Turn this invoice into one JSON object and write nothing else. Its keys: number (text), date (text, "
        "YYYY-MM-DD), customer (text), items (a list of objects with description (text), quantity (integer) and "
        "unit_price (number), in the order given), total (number). Copy names as they are written. Amounts are plain "
        f"numbers without currency or thousands separators.\n\n{_LAYOUTS[variant_of(ref, len(_LAYOUTS))](invoice)}"
    )
    value = invoice.value()
    wrong = rng.choice(
        (
            {**value, "date": invoice.spoken_date},
            {**value, "total": value["items"][0]["unit_price"]},
            {**value, "total": _money(invoice.cents)},
            {**value, "paid": False},
        )
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.json_answer(outcome, INVOICE, value)

    expected, near_miss = says(json.dumps(value)), says(json.dumps(wrong))
    return one_answer(
        ref,
        len(_LAYOUTS),
        ask(ref, prompt, room=_ROOM),
        check,
        expected=expected,
        near_miss=near_miss,
    )


# J2 a schema that the service, or a tool, holds the answer to


@dataclass(frozen=True)
class _Form:
    """A message to read, the schema of what to find in it, and what a right and a nearly right
    reader finds.
    """

    message: str
    schema: Mapping[str, Any]
    value: Mapping[str, Any]
    wrong: Mapping[str, Any]


_NAMES = (
    "Marta Nunes",
    "Peter Holm",
    "Yara Lima",
    "Sofia Reis",
    "Dario Costa",
    "Elsa Berg",
    "Tomas Vidal",
)
_TOWNS = ("Olinda", "Bergen", "Coimbra", "Cusco", "Galway", "Gramado", "Malmo")


def _booking(rng: random.Random) -> _Form:
    name, nights, guests = rng.choice(_NAMES), rng.randrange(2, 12), rng.randrange(2, 7)
    room = rng.choice(("single", "double", "suite"))
    value = {"guest": name, "nights": nights, "guests": guests, "room": room}
    message = f"Hello, this is {name}. We are {guests} people and would like a {room} for {nights} nights, please."
    schema = _object(
        guest=_TEXT,
        nights=_WHOLE,
        guests=_WHOLE,
        room={**_TEXT, "enum": ["single", "double", "suite"]},
    )
    return _Form(message, schema, value, {**value, "nights": nights + 1})


def _repair(rng: random.Random) -> _Form:
    name, flat, floor = rng.choice(_NAMES), rng.randrange(110, 980), rng.randrange(2, 20)
    trouble = rng.choice(("heating", "lift", "lights"))
    value = {"tenant": name, "flat": flat, "floor": floor, "trouble": trouble}
    message = f"The {trouble} on floor {floor} does not work any more. I live in flat {flat}. Regards, {name}"
    schema = _object(
        tenant=_TEXT,
        flat=_WHOLE,
        floor=_WHOLE,
        trouble={**_TEXT, "enum": ["heating", "lift", "lights"]},
    )
    return _Form(message, schema, value, {**value, "flat": floor, "floor": flat})


def _delivery(rng: random.Random) -> _Form:
    name, town, parcels = rng.choice(_NAMES), rng.choice(_TOWNS), rng.randrange(2, 40)
    fragile = rng.choice((True, False))
    care = "Handle them with care, they are fragile." if fragile else "Nothing in them is fragile."
    value = {"recipient": name, "town": town, "parcels": parcels, "fragile": fragile}
    message = f"Please send {parcels} parcels to {name} in {town}. {care}"
    schema = _object(recipient=_TEXT, town=_TEXT, parcels=_WHOLE, fragile={"type": "boolean"})
    return _Form(message, schema, value, {**value, "fragile": not fragile})


_FORMS = (_booking, _repair, _delivery)
_NO_STRUCTURE = r"output\W?(config|format)|structured|json\W?schema|text\W?format"


def _held_to_schema(ref: Ref) -> Script:
    """Structured output where the service offers it, else a tool whose input is the schema, forced
    if that is taken.
    """
    form = _FORMS[variant_of(ref, len(_FORMS))](ref.rng())
    prompt = f"Read this message and give what it says as JSON, names as they are written.\n\n{form.message}"
    keep = Tool("keep_record", "Keeps what a message says.", form.schema)

    def as_tool(outcomes: Outcomes) -> Request | None:
        return (
            ask(ref, prompt, step=1, room=_ROOM, tools=(keep,), tool_choice=keep.name)
            if _not_offered(at(outcomes, 0))
            else None
        )

    def unforced(outcomes: Outcomes) -> Request | None:
        if not cannot_force(at(outcomes, 1)):
            return None
        return ask(ref, f"{prompt}\nUse the tool {keep.name}.", step=2, room=_ROOM, tools=(keep,))

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        first = at(outcomes, 0)
        if not _not_offered(first):
            return graders.json_answer(first, form.schema, form.value)
        if isinstance(first, Failure) and (
            len(outcomes) < 2 or graders.refuses(outcomes[-1], NO_TOOLS)
        ):
            return graders.lacks("structured_output", first)
        judged = graders.tool_calls(outcomes[-1], (keep, form.value))
        return (
            graders.passed_without(judged, "structured_output", first)
            if isinstance(first, Failure)
            else judged
        )

    called, wrong = (
        Answer((ToolUse(f"tooluse_{ref.seed:08x}{ref.trial}", keep.name, dict(given)),), "tool_use")
        for given in (form.value, form.wrong)
    )
    structured = ask(ref, prompt, room=_ROOM, output_schema=form.schema)
    needs = frozenset({"tools"})
    steps = (
        Step(
            always(structured),
            says(json.dumps(form.value)),
            says(json.dumps(form.wrong)),
            probe=Probe("structured_output", _not_offered),
        ),
        Step(as_tool, called, wrong, needs=needs, probe=TOOL_CHOICE),
        Step(unforced, called, wrong, needs=needs),
    )
    return Script(ref, variant_of(ref, len(_FORMS)), steps, grade, continue_on_failure=True)


def _not_offered(first: Outcome | None) -> bool:
    unsupported = isinstance(first, Failure) and first.reason == Reason.PARAMETER_NOT_SUPPORTED
    return unsupported or graders.refuses(first, _NO_STRUCTURE)


# J3 one label of five

_MESSAGES = (
    ("billing", "delivery", "I was charged {} dollars twice on the same card this month. Please give one of them back."),
    ("billing", "account", "Where can I download the invoice number {} for my tax return?"),
    ("delivery", "billing", "The tracking page of parcel {} has not changed for a week. When will it arrive?"),
    ("delivery", "product", "Please bring parcel {} to my office and not to my home address."),
    ("account", "billing", "I cannot log in any more: the code {} that you sent me is not accepted as my new password."),
    ("account", "delivery", "Please change the e-mail address of my user profile; the old one ends in {}."),
    ("product", "delivery", "Does the lamp with the item number {} also come in green, and which bulb fits it?"),
    ("product", "account", "How many hours does the battery of model {} last on one charge?"),
)  # fmt: skip
_MEANINGS = (
    "billing (charges, invoices, refunds), delivery (parcels on their way), account (login, profile), "
    "product (questions about goods), complaint (rude staff, general anger)"
)


def _label(ref: Ref) -> Script:
    rng = ref.rng()
    index = variant_of(ref, len(_MESSAGES))
    label, other, message = _MESSAGES[index]
    prompt = (
        f"Sort this message of a customer into one of five classes: {_MEANINGS}. Answer with the name of the class in one "
        f"word and nothing else.\n\n{message.format(rng.randrange(2000, 9000))}"
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.normalised(outcome, label)

    near_miss = rng.choice((other, f"{label}, because it is about {label}", f"{label} or {other}"))
    return one_answer(
        ref,
        len(_MESSAGES),
        ask(ref, prompt),
        check,
        expected=says(label),
        near_miss=says(near_miss),
    )


STRUCTURED = (
    scored("J1", "Invoice to JSON", Category.JSON, _invoice),
    scored("J2", "JSON held to a schema", Category.JSON, _held_to_schema),
    scored("J3", "One label of five", Category.JSON, _label),
)
