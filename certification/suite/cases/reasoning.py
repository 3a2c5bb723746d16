"""Reasoning: word problems of three steps, puzzles with one answer, and reasoning that survives a
tool call.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from certification.inference import Failure, Outcome, Reasoning, Request, ToolUse
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
    Outcomes,
    always,
    at,
    missing_capability,
    one_answer,
    scored_case,
    single_turn,
    tool,
    variant_of,
)
from certification.suite.cases.tools import tool_result_turns
from certification.suite.graders import ExpectedCall
from certification.suite.sentences import gettext_noop, wording

_MAX_TOKENS = 1500  # models without a reasoning block think in the answer

# R1 a word problem of three steps


@dataclass(frozen=True)
class _Problem:
    """A question, its answer, and the result of forgetting the last step."""

    question: str
    answer: int
    near_miss: int


def boxes_problem(rng: random.Random) -> _Problem:
    boxes, each, broken, price = (
        rng.randrange(12, 30),
        rng.randrange(6, 15),
        rng.randrange(5, 20),
        rng.randrange(3, 9),
    )
    sold = boxes * each - broken
    question = (
        f"A shop receives {boxes} boxes with {each} glasses in each. {broken} glasses arrive "
        f"broken and are thrown away. All the others are sold at {price} dollars each. How many "
        "dollars does the shop take in?"
    )
    return _Problem(question, sold * price, sold)


def journey_problem(rng: random.Random) -> _Problem:
    speed, hours = 2 * rng.randrange(28, 48), rng.randrange(3, 7)
    rest = 2 * rng.randrange(10, 30)  # even, as the speed is, so that the way has a half
    there = speed * hours + rest
    question = (
        f"On the first day a lorry drives {hours} hours at {speed} kilometres an hour and then "
        f"{rest} kilometres more. On the second day it drives half as far as on the first, and on "
        "the third day as far as on the first. How many kilometres does it drive on the three "
        "days together?"
    )
    return _Problem(question, there + there // 2 + there, there + there // 2)


def savings_problem(rng: random.Random) -> _Problem:
    start, weekly, weeks, people = (
        rng.randrange(40, 200),
        rng.randrange(12, 40),
        rng.randrange(6, 15),
        rng.randrange(3, 7),
    )
    saved = start + weekly * weeks
    spent = saved % people + people * rng.randrange(2, 8)
    question = (
        f"A club has {start} dollars and puts aside {weekly} dollars a week for {weeks} weeks. It "
        f"then spends {spent} dollars on a party and shares what is left equally among {people} "
        "members. How many dollars does each member get?"
    )
    return _Problem(question, (saved - spent) // people, saved - spent)


def seats_problem(rng: random.Random) -> _Problem:
    rows, seats, empty, late = (
        rng.randrange(14, 30),
        rng.randrange(11, 24),
        rng.randrange(15, 60),
        rng.randrange(5, 14),
    )
    seated = rows * seats - empty
    question = (
        f"A theatre has {rows} rows of {seats} seats. When the play begins, {empty} seats are "
        f"empty. In the break {late} people leave, and then three times as many come in and sit "
        "down. How many people are in the theatre then?"
    )
    return _Problem(question, seated - late + 3 * late, seated - late)


PROBLEMS: tuple[Callable[[random.Random], _Problem], ...] = (
    boxes_problem,
    journey_problem,
    savings_problem,
    seats_problem,
)


def word_problem(ref: Ref) -> Script:
    problem = PROBLEMS[variant_of(ref, len(PROBLEMS))](ref.rng())
    prompt = (
        f"{problem.question} Work it out step by step and write the result, as a number alone, on "
        "the last line."
    )

    def check(outcome: Outcome | None) -> Grade:
        return graders.number(outcome, problem.answer)

    expected = f"The first two steps give {problem.near_miss}.\n{problem.answer}"
    near_miss = f"Step by step, this gives the result.\n{problem.near_miss}"
    return one_answer(
        ref,
        len(PROBLEMS),
        single_turn(ref, prompt, max_tokens=_MAX_TOKENS),
        check,
        expected=expected,
        near_miss=near_miss,
    )


# R2 a puzzle with one answer

Order = tuple[str, ...]


@dataclass(frozen=True)
class Clue:
    """One sentence about an order, and the test of whether an order agrees with it."""

    words: str
    holds: Callable[[Order], bool]


@dataclass(frozen=True)
class _Setting:
    """The same puzzle in another setting: who, what they do, and how to say "before" there."""

    scene: str
    question: str
    before: str
    just_before: str
    at_an_end: str
    names: tuple[str, ...]


SETTINGS = (
    _Setting(
        "Four friends, {}, {}, {} and {}, stand in a row, seen from the front.",
        "Who stands where, from left to right?",
        "{} stands somewhere to the left of {}.",
        "{} stands directly to the left of {}.",
        "{} stands at one end of the row.",
        ("Ana", "Bruno", "Clara", "Davi", "Elisa", "Fabio"),
    ),
    _Setting(
        "Four runners, {}, {}, {} and {}, finish a race one after the other.",
        "In which order did they finish, the first one first?",
        "{} finished before {}.",
        "{} finished directly before {}.",
        "{} was either the first or the last to finish.",
        ("Gilda", "Hugo", "Irene", "Jonas", "Kelly", "Lucas"),
    ),
    _Setting(
        "Four parcels for {}, {}, {} and {} lie in one pile.",
        "Whose parcels are they, from the top of the pile to its bottom?",
        "The parcel for {} lies somewhere above the one for {}.",
        "The parcel for {} lies directly on the one for {}.",
        "The parcel for {} lies at the very top or at the very bottom.",
        ("Mara", "Nilo", "Olga", "Paulo", "Rita", "Saulo"),
    ),
)


def solutions(names: Sequence[str], clues: Sequence[Clue]) -> list[Order]:
    """Return every order of the names that agrees with all clues."""
    return [order for order in permutations(names) if all(clue.holds(order) for clue in clues)]


def clues_about(a: str, b: str, setting: _Setting) -> tuple[Clue, ...]:
    return (
        Clue(setting.before.format(a, b), lambda order: order.index(a) < order.index(b)),
        Clue(setting.just_before.format(a, b), lambda order: order.index(a) + 1 == order.index(b)),
        Clue(setting.at_an_end.format(a), lambda order: order.index(a) in (0, len(order) - 1)),
    )


def draw_puzzle(rng: random.Random, setting: _Setting) -> tuple[Order, list[Clue]]:
    """Draw an order of four names and clues that allow no other order, none of them needless."""
    order = tuple(rng.sample(setting.names, 4))
    names = sorted(order)
    true: list[Clue] = []
    for a, b in permutations(order, 2):
        true += (clue for clue in clues_about(a, b, setting) if clue.holds(order))
    clues: list[Clue] = []
    # All true clues together leave one order: those of the kind "before" alone do.
    for clue in rng.sample(true, len(true)):
        clues.append(clue)
        if len(solutions(names, clues)) == 1:
            break
    for clue in list(clues):
        rest = [other for other in clues if other is not clue]
        if len(solutions(names, rest)) == 1:
            clues = rest
    return order, clues


def logic_puzzle(ref: Ref) -> Script:
    rng = ref.rng()
    setting = SETTINGS[variant_of(ref, len(SETTINGS))]
    order, clues = draw_puzzle(rng, setting)
    clue_text = " ".join(dict.fromkeys(clue.words for clue in clues))
    prompt = (
        f"{setting.scene.format(*sorted(order))} {clue_text} {setting.question} Think it through "
        "and write the four names, in this order and separated by commas, alone on the last line."
    )
    place = rng.randrange(3)
    swapped = [*order[:place], order[place + 1], order[place], *order[place + 2 :]]

    def check(outcome: Outcome | None) -> Grade:
        return graders.last_line(outcome, *order)

    expected = f"There is one solution.\n{', '.join(order)}"
    near_miss = f"There is one solution.\n{', '.join(swapped)}"
    return one_answer(
        ref,
        len(SETTINGS),
        single_turn(ref, prompt, max_tokens=_MAX_TOKENS),
        check,
        expected=expected,
        near_miss=near_miss,
    )


# R3 thoughts that come back with a tool result

_STOCK = tool("get_stock", "Tells what is in stock of one article.", article={"type": "integer"})
_FARE = tool("get_fare", "Tells the fare of one bus line.", line={"type": "integer"})
_RAIN = tool(
    "get_rainfall", "Tells the rainfall of a year at one station.", station={"type": "integer"}
)


def draw_stock(rng: random.Random) -> tuple[str, ExpectedCall, str, int]:
    article, boxes, each = rng.randrange(200, 900), rng.randrange(12, 40), rng.randrange(12, 60)
    question = f"How many pieces of article {article} are in stock?"
    result = f'{{"full_boxes": {boxes}, "pieces_per_box": {each}, "loose_pieces": 0}}'
    return question, (_STOCK, {"article": article}), result, boxes * each


def draw_fare(rng: random.Random) -> tuple[str, ExpectedCall, str, int]:
    line, people, fare = rng.randrange(200, 900), rng.randrange(3, 9), rng.randrange(12, 60)
    question = (
        f"What do {people} people pay together, in dollars, for one ride each on bus line {line}?"
    )
    return question, (_FARE, {"line": line}), f'{{"fare_per_person_usd": {fare}}}', people * fare


def draw_rain(rng: random.Random) -> tuple[str, ExpectedCall, str, int]:
    station, first, second = (
        rng.randrange(200, 900),
        rng.randrange(110, 480),
        rng.randrange(110, 480),
    )
    question = f"How many millimetres of rain fell in the whole year at station {station}?"
    result = f'{{"january_to_june_mm": {first}, "july_to_december_mm": {second}}}'
    return question, (_RAIN, {"station": station}), result, first + second


_QUESTIONS = (draw_stock, draw_fare, draw_rain)
_BUDGET = 1024  # the least that Claude takes
_EFFORT = "high"  # with less, Claude may answer a small question without a thought
_NO_THINKING = r"thinking|reasoning|budget_tokens|effort|additional_?model"
_ADAPTIVE_HINT = r"adaptive"
_NO_HISTORY = r"reasoning|thinking|thought|signature"


def reasoning_over_tool_call(ref: Ref) -> Script:
    """Return the reasoning block of the first answer with the tool's result; where that is refused,
    without it.

    The first request sets a thinking budget; if that is refused, it leaves the length to the model
    where the refusal says so. A model that refuses both gets a plain request, which some answer
    with their reasoning too.
    """
    question, call, result, figure = _QUESTIONS[variant_of(ref, len(_QUESTIONS))](ref.rng())
    prompt = f"{question} Use the tool, then answer in one sentence with the figure in digits."
    # Three ways to open the conversation; all lead to the same two next steps.
    plain = single_turn(ref, prompt, step=2, max_tokens=_MAX_TOKENS, tools=(call[0],))
    thinking = replace(plain, thinking_tokens=_BUDGET)
    adaptive = replace(plain, thinking_effort=_EFFORT)

    def accepted_opening(outcomes: Outcomes) -> tuple[Request, Outcomes]:
        """Return the opening that was accepted, and the outcomes from it on."""
        if not refuses_thinking(at(outcomes, 0)):
            return thinking, outcomes
        if not graders.refuses(at(outcomes, 0), _ADAPTIVE_HINT):
            return plain, outcomes[1:]
        if not refuses_thinking(at(outcomes, 1)):
            return adaptive, outcomes[1:]
        return plain, outcomes[2:]

    def fallback(form: Request) -> Callable[[Outcomes], Request | None]:
        return lambda outcomes: form if accepted_opening(outcomes)[0] is form else None

    def give_result_back(outcomes: Outcomes) -> Request | None:
        opening, since = accepted_opening(outcomes)
        turns = tool_result_turns(at(since, 0), result, unsigned_reasoning=True)
        return replace(opening, messages=(*opening.messages, *turns)) if turns else None

    def give_result_back_alone(outcomes: Outcomes) -> Request | None:
        _, since = accepted_opening(outcomes)
        turns = tool_result_turns(at(since, 0), result)
        if not turns or not refuses_history(since):
            return None
        return replace(plain, messages=(*single_turn(ref, prompt, step=3).messages, *turns))

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        opening, since = accepted_opening(outcomes)
        first, second = at(since, 0), at(since, 1)
        refusal = at(outcomes, len(outcomes) - len(since) - 1) if opening is not thinking else None
        if graders.usable(first).passed and not graders.has_reasoning(first):
            if opening is plain and isinstance(refusal, Failure):
                return graders.lacks("shown_reasoning", refusal)
            return Grade(False, wording("no_reasoning"), lacks="shown_reasoning")
        answer = at(since, 2) if refuses_history(since) else second
        verdict = missing_capability(opening, first) or graders.all_of(
            lambda: graders.tool_calls(first, call), lambda: graders.has_number(answer, figure)
        )
        if isinstance(second, Failure) and refuses_history(since):
            return graders.passed_without(verdict, "reasoning_history", second)
        if isinstance(refusal, Failure):
            return graders.passed_without(verdict, "thinking_budget", refusal)
        return verdict

    def calling(arguments: dict[str, int]) -> Answer:
        thought = Reasoning("The tool tells what I need, and then I only have to calculate.")
        use = ToolUse(f"tooluse_{ref.seed:08x}{ref.trial}", call[0].name, arguments)
        return Answer((thought, use), "tool_use")

    arguments = dict(call[1])
    expected, near_miss = (
        text_answer(f"The figure is {figure}."),
        text_answer(f"The figure is {figure + 10}."),
    )
    right, wrong = (
        calling(arguments),
        calling({name: value + 1 for name, value in arguments.items()}),
    )
    steps = (
        Step(always(thinking), right, wrong, probe=Probe("thinking_budget", refuses_thinking)),
        Step(fallback(adaptive), right, wrong, probe=Probe("thinking_effort", refuses_thinking)),
        Step(fallback(plain), right, wrong),
        Step(give_result_back, expected, near_miss),
        Step(give_result_back_alone, expected, near_miss),
    )
    return Script(ref, variant_of(ref, len(_QUESTIONS)), steps, grade, continue_on_failure=True)


def refuses_thinking(outcome: Outcome | None) -> bool:
    """Tell whether a call was refused for how it requests reasoning."""
    return graders.refuses(outcome, _NO_THINKING)


def refuses_history(since: Outcomes) -> bool:
    """Tell whether the second call since the opening was refused for the reasoning that it
    returned.
    """
    return graders.refuses(at(since, 1), _NO_HISTORY)


REASONING = (
    scored_case("R1", gettext_noop("Three-step word problem"), Category.REASONING, word_problem),
    scored_case("R2", gettext_noop("Logic puzzle"), Category.REASONING, logic_puzzle),
    scored_case(
        "R3",
        gettext_noop("Reasoning kept across a tool call"),
        Category.REASONING,
        reasoning_over_tool_call,
        "reasoning",
        "tools",
    ),
)
