"""JSON that a program can read: an invoice in words, a schema of the service or of a tool, one
label of five.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    text_answer,
)
from certification.suite.cases.builders import (
    NO_TOOLS,
    TOOL_CHOICE_PROBE,
    Outcomes,
    always,
    at,
    object_schema,
    one_answer,
    refuses_forced_call,
    scored_case,
    single_turn,
    variant_of,
)
from certification.suite.sentences import gettext_noop

_MAX_TOKENS = 700
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}

# J1 an invoice to JSON

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
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
INVOICE = object_schema(
    number=_TEXT,
    date={**_TEXT, "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    customer=_TEXT,
    items={
        "type": "array",
        "items": object_schema(description=_TEXT, quantity=_WHOLE, unit_price=_NUMBER),
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


def draw_invoice(rng: random.Random) -> _Invoice:
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


def format_dollars(cents: int) -> str:
    return f"${cents / 100:,.2f}"


def letter_layout(invoice: _Invoice) -> str:
    (d1, q1, p1), (d2, q2, p2) = invoice.lines
    return (
        f"Dear team at {invoice.customer}, please find below our invoice {invoice.number} of "
        f"{invoice.spoken_date}. It covers {q1} {d1} at {format_dollars(p1)} each and {q2} {d2} "
        f"at {format_dollars(p2)} each. The sum of {format_dollars(invoice.cents)} is due within "
        "a month. Thank you for your order."
    )


def form_layout(invoice: _Invoice) -> str:
    rows = "\n".join(f"{q} x {d} @ {format_dollars(p)}" for d, q, p in invoice.lines)
    return (
        f"INVOICE No. {invoice.number}\nBilled to: {invoice.customer}\nIssued: "
        f"{invoice.spoken_date}\n{rows}\nAmount due: {format_dollars(invoice.cents)}"
    )


def memo_layout(invoice: _Invoice) -> str:
    (d1, q1, p1), (d2, q2, p2) = invoice.lines
    return (
        f"For the books: on {invoice.spoken_date} we billed {invoice.customer} "
        f"{format_dollars(invoice.cents)} in all, under the number {invoice.number}. They took "
        f"{q1} {d1} (unit price {format_dollars(p1)}) and {q2} {d2} (unit price "
        f"{format_dollars(p2)})."
    )


_LAYOUTS = (letter_layout, form_layout, memo_layout)


def invoice_to_json(ref: Ref) -> Script:
    rng = ref.rng()
    invoice = draw_invoice(rng)
    prompt = (
        "Turn this invoice into one JSON object and write nothing else. Its keys: number (text), "
        "date (text, YYYY-MM-DD), customer (text), items (a list of objects with description "
        "(text), quantity (integer) and unit_price (number), in the order given), total "
        "(number). Copy names as they are written. Amounts are plain numbers without currency or "
        f"thousands separators.\n\n{_LAYOUTS[variant_of(ref, len(_LAYOUTS))](invoice)}"
    )
    value = invoice.value()
    wrong = rng.choice(
        (
            {**value, "date": invoice.spoken_date},
            {**value, "total": value["items"][0]["unit_price"]},
            {**value, "total": format_dollars(invoice.cents)},
            {**value, "paid": False},
        )
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.json_answer(outcome, INVOICE, value)

    expected, near_miss = json.dumps(value), json.dumps(wrong)
    return one_answer(
        ref,
        len(_LAYOUTS),
        single_turn(ref, prompt, max_tokens=_MAX_TOKENS),
        check,
        expected=expected,
        near_miss=near_miss,
    )


# J2 a schema that the service, or a tool, holds the answer to


@dataclass(frozen=True)
class _Form:
    """A message to read, the schema of its data, the right data, and data that are nearly right."""

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


def draw_booking(rng: random.Random) -> _Form:
    name, nights, guests = rng.choice(_NAMES), rng.randrange(2, 12), rng.randrange(2, 7)
    room = rng.choice(("single", "double", "suite"))
    value = {"guest": name, "nights": nights, "guests": guests, "room": room}
    message = (
        f"Hello, this is {name}. We are {guests} people and would like a {room} for {nights} "
        "nights, please."
    )
    schema = object_schema(
        guest=_TEXT,
        nights=_WHOLE,
        guests=_WHOLE,
        room={**_TEXT, "enum": ["single", "double", "suite"]},
    )
    return _Form(message, schema, value, {**value, "nights": nights + 1})


def draw_repair(rng: random.Random) -> _Form:
    name, flat, floor = rng.choice(_NAMES), rng.randrange(110, 980), rng.randrange(2, 20)
    fault = rng.choice(("heating", "lift", "lights"))
    value = {"tenant": name, "flat": flat, "floor": floor, "trouble": fault}
    message = (
        f"The {fault} on floor {floor} does not work any more. I live in flat {flat}. Regards, "
        f"{name}"
    )
    schema = object_schema(
        tenant=_TEXT,
        flat=_WHOLE,
        floor=_WHOLE,
        trouble={**_TEXT, "enum": ["heating", "lift", "lights"]},
    )
    return _Form(message, schema, value, {**value, "flat": floor, "floor": flat})


def draw_delivery(rng: random.Random) -> _Form:
    name, town, parcels = rng.choice(_NAMES), rng.choice(_TOWNS), rng.randrange(2, 40)
    fragile = rng.choice((True, False))
    care = "Handle them with care, they are fragile." if fragile else "Nothing in them is fragile."
    value = {"recipient": name, "town": town, "parcels": parcels, "fragile": fragile}
    message = f"Please send {parcels} parcels to {name} in {town}. {care}"
    schema = object_schema(recipient=_TEXT, town=_TEXT, parcels=_WHOLE, fragile={"type": "boolean"})
    return _Form(message, schema, value, {**value, "fragile": not fragile})


_FORMS = (draw_booking, draw_repair, draw_delivery)
_NO_STRUCTURE = r"output\W?(config|format)|structured|json\W?schema|text\W?format"


def json_for_schema(ref: Ref) -> Script:
    """Request structured output where the service offers it, else a call of a tool whose input has
    the schema, forced if the model allows.
    """
    form = _FORMS[variant_of(ref, len(_FORMS))](ref.rng())
    prompt = (
        "Read this message and give what it says as JSON, names as they are "
        f"written.\n\n{form.message}"
    )
    record = Tool("keep_record", "Keeps what a message says.", form.schema)

    forced = single_turn(
        ref, prompt, step=1, max_tokens=_MAX_TOKENS, tools=(record,), tool_choice=record.name
    )

    def as_tool(outcomes: Outcomes) -> Request | None:
        return forced if refuses_structured_output(at(outcomes, 0)) else None

    def unforced(outcomes: Outcomes) -> Request | None:
        if not refuses_forced_call(at(outcomes, 1)):
            return None
        return single_turn(
            ref,
            f"{prompt}\nUse the tool {record.name}.",
            step=2,
            max_tokens=_MAX_TOKENS,
            tools=(record,),
        )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        first = at(outcomes, 0)
        if not refuses_structured_output(first):
            return graders.json_answer(first, form.schema, form.value)
        refusal = first if isinstance(first, Failure) else None
        if refusal and (len(outcomes) < 2 or graders.refuses(outcomes[-1], NO_TOOLS)):
            return graders.lacks("structured_output", refusal)
        verdict = graders.tool_calls(outcomes[-1], (record, form.value))
        return graders.passed_without(verdict, "structured_output", refusal) if refusal else verdict

    use = ToolUse(f"tooluse_{ref.seed:08x}{ref.trial}", record.name, dict(form.value))
    called = Answer((use,), "tool_use")
    wrong = Answer((replace(use, input=dict(form.wrong)),), "tool_use")
    structured = single_turn(ref, prompt, max_tokens=_MAX_TOKENS, output_schema=form.schema)
    needs = frozenset({"tools"})
    steps = (
        Step(
            always(structured),
            text_answer(json.dumps(form.value)),
            text_answer(json.dumps(form.wrong)),
            probe=Probe("structured_output", refuses_structured_output),
        ),
        Step(as_tool, called, wrong, needs=needs, probe=TOOL_CHOICE_PROBE),
        Step(unforced, called, wrong, needs=needs),
    )
    return Script(ref, variant_of(ref, len(_FORMS)), steps, grade, continue_on_failure=True)


def refuses_structured_output(first: Outcome | None) -> bool:
    unsupported = isinstance(first, Failure) and first.reason == Reason.PARAMETER_NOT_SUPPORTED
    return unsupported or graders.refuses(first, _NO_STRUCTURE)


# J3 one label of five

_MESSAGES = (
    ("billing", "delivery",
     "I was charged {} dollars twice on the same card this month. Please give one of them back."),
    ("billing", "account",
     "Where can I download the invoice number {} for my tax return?"),
    ("delivery", "billing",
     "The tracking page of parcel {} has not changed for a week. When will it arrive?"),
    ("delivery", "product",
     "Please bring parcel {} to my office and not to my home address."),
    ("account", "billing",
     "I cannot log in any more: the code {} that you sent me is not accepted as my new password."),
    ("account", "delivery",
     "Please change the e-mail address of my user profile; the old one ends in {}."),
    ("product", "delivery",
     "Does the lamp with the item number {} also come in green, and which bulb fits it?"),
    ("product", "account",
     "How many hours does the battery of model {} last on one charge?"),
)  # fmt: skip
_MEANINGS = (
    "billing (charges, invoices, refunds), delivery (parcels on their way), account (login, "
    "profile), product (questions about goods), complaint (rude staff, general anger)"
)


def one_label(ref: Ref) -> Script:
    rng = ref.rng()
    index = variant_of(ref, len(_MESSAGES))
    label, other, message = _MESSAGES[index]
    prompt = (
        f"Sort this message of a customer into one of five classes: {_MEANINGS}. Answer with the "
        "name of the class in one word and nothing "
        f"else.\n\n{message.format(rng.randrange(2000, 9000))}"
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.normalised(outcome, label)

    near_miss = rng.choice((other, f"{label}, because it is about {label}", f"{label} or {other}"))
    return one_answer(
        ref, len(_MESSAGES), single_turn(ref, prompt), check, expected=label, near_miss=near_miss
    )


STRUCTURED = (
    scored_case(
        "J1", gettext_noop("Invoice to JSON"), Category.JSON, invoice_to_json, exact_form=True
    ),
    scored_case(
        "J2",
        gettext_noop("JSON that fits a schema"),
        Category.JSON,
        json_for_schema,
        exact_form=True,
    ),
    scored_case("J3", gettext_noop("One label out of five"), Category.JSON, one_label),
)
