"""Tool use: the right tool, none at all, two at once, nested arguments in a stream, and a result
that goes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from certification.inference import (
    Block,
    Message,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    Request,
    Text,
    ToolResult,
    ToolUse,
    user,
)
from certification.suite import graders
from certification.suite.case import (
    Answer,
    Category,
    Context,
    Grade,
    Ref,
    Script,
    Step,
    text_answer,
)
from certification.suite.cases.builders import (
    DEFAULT_MAX_TOKENS,
    Check,
    Outcomes,
    always,
    at,
    missing_capability,
    object_schema,
    one_answer,
    scored_case,
    single_turn,
    tool,
    variant_of,
)
from certification.suite.graders import ExpectedCall
from certification.suite.sentences import gettext_noop

_CITIES = (
    "Recife",
    "Lisbon",
    "Oslo",
    "Cairo",
    "Quito",
    "Dublin",
    "Nairobi",
    "Salvador",
    "Porto",
    "Helsinki",
    "Manaus",
)
_ANIMALS = ("ox", "goat", "tiger", "giraffe", "crocodile")
_PEOPLE = (
    "Ana Souza",
    "Rui Prado",
    "Lia Mendes",
    "Omar Haddad",
    "Ivo Campos",
    "Nora Lind",
    "Caio Rocha",
)
_CURRENCIES = {
    "USD": "US dollars",
    "EUR": "euros",
    "BRL": "Brazilian reais",
    "GBP": "British pounds",
}
_DOLLARS = {"USD": 1.0, "EUR": 1.15, "BRL": 0.19, "GBP": 1.33}

WEATHER = tool(
    "get_weather",
    "Gets the weather forecast of one city for one day.",
    city={
        "type": "string",
        "minLength": 1,
        "description": "Name of the city alone, without state or country",
    },
    day={"type": "string", "enum": ["today", "tomorrow"]},
)
CURRENCY = tool(
    "convert_currency",
    "Converts an amount of money at today's exchange rate.",
    amount={"type": "number", "exclusiveMinimum": 0},
    source={
        "type": "string",
        "enum": list(_CURRENCIES),
        "description": "Currency that the amount is in",
    },
    target={"type": "string", "enum": list(_CURRENCIES), "description": "Currency that is wanted"},
)
TRAINS = tool(
    "find_trains",
    "Finds trains between two cities.",
    origin={"type": "string", "minLength": 1, "description": "Name of the city alone"},
    destination={"type": "string", "minLength": 1, "description": "Name of the city alone"},
    passengers={"type": "integer", "minimum": 1},
)
ALARM = tool(
    "set_alarm",
    "Sets an alarm clock.",
    hour={"type": "integer", "minimum": 0, "maximum": 23},
    minute={"type": "integer", "minimum": 0, "maximum": 59},
    repeat={"type": "string", "enum": ["once", "daily", "weekdays"]},
)
OFFERED = (WEATHER, CURRENCY, TRAINS, ALARM)
_MAX_TOKENS = 500


def tool_answer(*calls: ExpectedCall, ref: Ref) -> Answer:
    """Return an answer that makes these calls."""
    uses = tuple(
        ToolUse(f"tooluse_{ref.seed:08x}{ref.trial}{i}", t.name, dict(arguments))
        for i, (t, arguments) in enumerate(calls)
    )
    return Answer(uses, "tool_use")


# T1 the right tool of four


@dataclass(frozen=True)
class Errand:
    """A request in words, the call that answers it, and one that only looks right."""

    prompt: str
    call: ExpectedCall
    wrong: ExpectedCall


def draw_weather(rng: random.Random) -> Errand:
    city, other = rng.sample(_CITIES, 2)
    day = rng.choice(("today", "tomorrow"))
    return Errand(
        f"What will the weather be like in {city} {day}?",
        (WEATHER, {"city": city, "day": day}),
        (WEATHER, {"city": other, "day": day}),
    )


def draw_conversion(rng: random.Random) -> Errand:
    source, target = rng.sample(list(_CURRENCIES), 2)
    amount = rng.randrange(110, 990)
    return Errand(
        f"How much are {amount} {_CURRENCIES[source]} in {_CURRENCIES[target]}?",
        (CURRENCY, {"amount": amount, "source": source, "target": target}),
        (CURRENCY, {"amount": amount, "source": target, "target": source}),
    )


def draw_train(rng: random.Random) -> Errand:
    origin, destination = rng.sample(_CITIES, 2)
    people = rng.randrange(2, 9)
    return Errand(
        f"Find trains from {origin} to {destination} for {people} passengers.",
        (TRAINS, {"origin": origin, "destination": destination, "passengers": people}),
        (TRAINS, {"origin": destination, "destination": origin, "passengers": people}),
    )


def draw_alarm(rng: random.Random) -> Errand:
    hour, minute = rng.randrange(13, 23), rng.randrange(1, 60)
    return Errand(
        f"Set an alarm for {hour}:{minute:02} on weekdays.",
        (ALARM, {"hour": hour, "minute": minute, "repeat": "weekdays"}),
        (ALARM, {"hour": hour - 12, "minute": minute, "repeat": "weekdays"}),
    )


_ERRANDS: tuple[Callable[[random.Random], Errand], ...] = (
    draw_weather,
    draw_conversion,
    draw_train,
    draw_alarm,
)


def right_tool(ref: Ref) -> Script:
    errand = _ERRANDS[variant_of(ref, len(_ERRANDS))](ref.rng())
    request = single_turn(
        ref, f"{errand.prompt} Use the tool that fits.", max_tokens=_MAX_TOKENS, tools=OFFERED
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.tool_calls(outcome, errand.call)

    expected, near_miss = tool_answer(errand.call, ref=ref), tool_answer(errand.wrong, ref=ref)
    return one_answer(ref, len(_ERRANDS), request, check, expected=expected, near_miss=near_miss)


# T2 no tool needed


@dataclass(frozen=True)
class _PlainQuestion:
    """A question that needs no tool, its answer, a needless call, and the check of an answer."""

    text: str
    answer: str
    needless: ExpectedCall
    check: Check


def draw_sum(rng: random.Random) -> _PlainQuestion:
    a, b = rng.randrange(120, 480), rng.randrange(120, 480)
    call = {"amount": a + b, "source": "USD", "target": "EUR"}
    return _PlainQuestion(
        f"What is {a} plus {b}? Answer with the number only.",
        str(a + b),
        (CURRENCY, call),
        lambda outcome: graders.only_number(outcome, a + b, a, b),
    )


def draw_longest_word(rng: random.Random) -> _PlainQuestion:
    words = rng.sample(_ANIMALS, 4)
    longest = max(words, key=len)
    return _PlainQuestion(
        f"Which of these words has the most letters: {', '.join(words)}? Answer with the word "
        "only.",
        longest,
        (WEATHER, {"city": longest, "day": "today"}),
        lambda outcome: graders.names_only(outcome, longest, _ANIMALS),
    )


def draw_last_city(rng: random.Random) -> _PlainQuestion:
    cities = rng.sample(_CITIES, 3)
    return _PlainQuestion(
        f"Which city comes last in this list: {', '.join(cities)}? Answer with its name only.",
        cities[2],
        (TRAINS, {"origin": cities[0], "destination": cities[2], "passengers": 1}),
        lambda outcome: graders.names_only(outcome, cities[2], _CITIES),
    )


_PLAIN = (draw_sum, draw_longest_word, draw_last_city)


def no_tool(ref: Ref) -> Script:
    question = _PLAIN[variant_of(ref, len(_PLAIN))](ref.rng())
    request = single_turn(ref, question.text, max_tokens=_MAX_TOKENS, tools=OFFERED)

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.no_tool_call(outcome), lambda: question.check(outcome)
        )

    near_miss = tool_answer(question.needless, ref=ref)
    return one_answer(
        ref, len(_PLAIN), request, check, expected=question.answer, near_miss=near_miss
    )


# T3 two calls in parallel


def draw_two_cities(rng: random.Random) -> tuple[str, ExpectedCall, ExpectedCall]:
    one, two = rng.sample(_CITIES, 2)
    question = f"What will the weather be like tomorrow in {one} and in {two}?"
    return (
        question,
        (WEATHER, {"city": one, "day": "tomorrow"}),
        (WEATHER, {"city": two, "day": "tomorrow"}),
    )


def draw_two_amounts(rng: random.Random) -> tuple[str, ExpectedCall, ExpectedCall]:
    one, two = rng.sample(range(110, 990), 2)
    source, target = rng.sample(list(_CURRENCIES), 2)
    question = (
        f"How much are {one} and how much are {two} {_CURRENCIES[source]} in {_CURRENCIES[target]}?"
    )
    calls = [(CURRENCY, {"amount": n, "source": source, "target": target}) for n in (one, two)]
    return question, calls[0], calls[1]


def draw_two_errands(rng: random.Random) -> tuple[str, ExpectedCall, ExpectedCall]:
    city = rng.choice(_CITIES)
    hour, minute = rng.randrange(13, 23), rng.randrange(1, 60)
    question = f"Get today's weather in {city}, and set an alarm for {hour}:{minute:02}, once."
    alarm = (ALARM, {"hour": hour, "minute": minute, "repeat": "once"})
    return question, (WEATHER, {"city": city, "day": "today"}), alarm


_PAIRS = (draw_two_cities, draw_two_amounts, draw_two_errands)


def parallel_calls(ref: Ref) -> Script:
    question, first, second = _PAIRS[variant_of(ref, len(_PAIRS))](ref.rng())
    prompt = f"{question} Make both tool calls now, in this one turn, each on its own."
    request = single_turn(ref, prompt, max_tokens=_MAX_TOKENS, tools=OFFERED)

    def check(outcome: Outcome | None) -> Grade:
        return graders.tool_calls(outcome, first, second)

    expected, near_miss = tool_answer(first, second, ref=ref), tool_answer(first, ref=ref)
    return one_answer(ref, len(_PAIRS), request, check, expected=expected, near_miss=near_miss)


# T4 nested arguments, streamed

_INTEGERS = {"type": "array", "items": {"type": "integer"}, "minItems": 1}

_TEXT = {"type": "string", "minLength": 1}
_ORDER = tool(
    "place_order",
    "Places an order of a customer.",
    customer=object_schema(name=_TEXT, city=_TEXT),
    delivery={"type": "string", "enum": ["standard", "express", "pickup"]},
    items={**_INTEGERS, "description": "Item numbers, in the order given"},
)
_MEETING = tool(
    "plan_meeting",
    "Plans a meeting.",
    organiser=object_schema(name=_TEXT, office=_TEXT),
    format={"type": "string", "enum": ["remote", "in_person", "hybrid"]},
    rooms={**_INTEGERS, "description": "Room numbers, in the order given"},
)
_READINGS = tool(
    "store_readings",
    "Stores the readings of a measuring station.",
    station=object_schema(operator=_TEXT, city=_TEXT),
    quality={"type": "string", "enum": ["good", "doubtful", "bad"]},
    values={**_INTEGERS, "description": "The readings, in the order given"},
)


def draw_order(name: str, city: str, choice: int, numbers: list[int]) -> tuple[str, ExpectedCall]:
    delivery = ("standard", "express", "pickup")[choice]
    listed = ", ".join(map(str, numbers))
    question = (
        f"Place an order for {name} in {city}: the items {listed}, in this order, with {delivery} "
        "delivery."
    )
    return question, (
        _ORDER,
        {"customer": {"name": name, "city": city}, "delivery": delivery, "items": numbers},
    )


def draw_meeting(name: str, city: str, choice: int, numbers: list[int]) -> tuple[str, ExpectedCall]:
    form = ("remote", "in_person", "hybrid")[choice]
    listed = ", ".join(map(str, numbers))
    spoken = form.replace("_", " ")
    question = (
        f"Plan a meeting, {spoken}, organised by {name} of the {city} office, in the rooms "
        f"{listed}, in this order."
    )
    return question, (
        _MEETING,
        {"organiser": {"name": name, "office": city}, "format": form, "rooms": numbers},
    )


def draw_readings(
    name: str, city: str, choice: int, numbers: list[int]
) -> tuple[str, ExpectedCall]:
    quality = ("good", "doubtful", "bad")[choice]
    listed = ", ".join(map(str, numbers))
    question = (
        f"Store these readings of {name}'s station in {city}, of {quality} quality, in this order: "
        f"{listed}."
    )
    return question, (
        _READINGS,
        {"station": {"operator": name, "city": city}, "quality": quality, "values": numbers},
    )


_NESTED = (draw_order, draw_meeting, draw_readings)


def nested_arguments(ref: Ref) -> Script:
    rng = ref.rng()
    build = _NESTED[variant_of(ref, len(_NESTED))]
    numbers = rng.sample(range(100, 999), 4)
    question, call = build(rng.choice(_PEOPLE), rng.choice(_CITIES), rng.randrange(3), numbers)
    request = single_turn(
        ref,
        f"{question} Use the tool.",
        Operation.STREAM,
        max_tokens=_MAX_TOKENS,
        tools=(call[0],),
    )
    array = next(name for name, value in call[1].items() if value is numbers)
    # what a sloppy parser makes of the numbers
    lost = {**call[1], array: [str(n) for n in numbers]}

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.event_order(outcome), lambda: graders.tool_calls(outcome, call)
        )

    expected, near_miss = tool_answer(call, ref=ref), tool_answer((call[0], lost), ref=ref)
    return one_answer(ref, len(_NESTED), request, check, expected=expected, near_miss=near_miss)


# T5 round trip


@dataclass(frozen=True)
class _Trip:
    """A question, the call that it needs, what the tool returns, and the figure that the answer
    must take from it.
    """

    question: str
    call: ExpectedCall
    wrong: ExpectedCall
    result: str
    figure: str
    near_miss: str
    answer: str  # with a place for the figure


def draw_temperature(rng: random.Random) -> _Trip:
    errand = draw_weather(rng)
    city, degrees = errand.call[1]["city"], rng.randrange(11, 39)
    return _Trip(
        f"What will the temperature be in {city} {errand.call[1]['day']}, in degrees Celsius?",
        errand.call,
        errand.wrong,
        f'{{"city": "{city}", "degrees_celsius": {degrees}}}',
        str(degrees),
        str(degrees - 2),
        f"It will be {{}} degrees in {city}.",
    )


def draw_price(rng: random.Random) -> _Trip:
    errand = draw_train(rng)
    price, number = rng.randrange(140, 480), rng.randrange(500, 990)
    return _Trip(
        f"{errand.prompt} What does the first one cost in all?",
        errand.call,
        errand.wrong,
        f'{{"trains": [{{"number": {number}, "total_price_eur": {price}}}]}}',
        str(price),
        str(number),
        "The first train costs {} euros in all.",
    )


def draw_exchange(rng: random.Random) -> _Trip:
    errand = draw_conversion(rng)
    arguments = errand.call[1]
    # Near the real rate, hence believable, but not a figure that anybody could know.
    result = round(
        arguments["amount"] * _DOLLARS[arguments["source"]] / _DOLLARS[arguments["target"]]
    ) + rng.randrange(3, 20)
    return _Trip(
        errand.prompt,
        errand.call,
        errand.wrong,
        f'{{"converted": {result}}}',
        str(result),
        str(result + 21),
        f"That is {{}} {_CURRENCIES[errand.call[1]['target']]}.",
    )


_TRIPS = (draw_temperature, draw_price, draw_exchange)


def round_trip(ref: Ref) -> Script:
    trip = _TRIPS[variant_of(ref, len(_TRIPS))](ref.rng())
    prompt = f"{trip.question} Use the tool, then answer in one sentence with the figure in digits."
    first = single_turn(ref, prompt, max_tokens=_MAX_TOKENS, tools=OFFERED)

    def give_result_back(outcomes: Outcomes) -> Request | None:
        turns = tool_result_turns(at(outcomes, 0), trip.result)
        if not turns:
            return None
        messages = (*first.messages, *turns)
        return replace(first, messages=messages, max_tokens=DEFAULT_MAX_TOKENS)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        first_reply = at(outcomes, 0)
        return missing_capability(first, first_reply) or graders.all_of(
            lambda: graders.tool_calls(first_reply, trip.call),
            lambda: graders.has_number(at(outcomes, 1), trip.figure),
            lambda: graders.without_copy(at(outcomes, 1), trip.result),
        )

    steps = (
        Step(always(first), tool_answer(trip.call, ref=ref), tool_answer(trip.wrong, ref=ref)),
        Step(
            give_result_back,
            text_answer(trip.answer.format(trip.figure)),
            text_answer(trip.answer.format(trip.near_miss)),
        ),
    )
    return Script(ref, variant_of(ref, len(_TRIPS)), steps, grade)


def tool_result_turns(
    outcome: Outcome | None, result: str, *, unsigned_reasoning: bool = False
) -> tuple[Message, ...] | None:
    """Return the two turns that give a tool's result back; None when the reply made no single,
    readable call.

    Signed reasoning goes back unchanged, because its vendor requires it; unsigned only on request.
    """
    uses = graders.tool_uses(outcome)
    if len(uses) != 1 or not isinstance(uses[0].input, Mapping) or not isinstance(outcome, Reply):
        return None
    content: list[Block] = []
    for block in outcome.content:
        if isinstance(block, Reasoning):
            signed = block.signature or block.redacted
            if signed or (unsigned_reasoning and block.text.strip()):
                content.append(block)
        elif isinstance(block, ToolUse) or (isinstance(block, Text) and block.text.strip()):
            content.append(block)
    return Message("assistant", tuple(content)), user(ToolResult(uses[0].id, result))


TOOLS = (
    scored_case("T1", gettext_noop("Right tool out of four"), Category.TOOLS, right_tool, "tools"),
    scored_case("T2", gettext_noop("No tool needed"), Category.TOOLS, no_tool, "tools"),
    scored_case(
        "T3", gettext_noop("Two calls in parallel"), Category.TOOLS, parallel_calls, "tools"
    ),
    scored_case(
        "T4",
        gettext_noop("Nested arguments, streamed"),
        Category.TOOLS,
        nested_arguments,
        "tools",
        "streaming_tools",
    ),
    scored_case("T5", gettext_noop("Tool result used"), Category.TOOLS, round_trip, "tools"),
)
