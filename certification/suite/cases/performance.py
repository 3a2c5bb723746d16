"""How fast a model starts and writes, measured on streams, and whether it gives the same answer
twice.
"""

from __future__ import annotations

from certification.inference import Failure, Operation, Outcome, Request, Text
from certification.reasons import Reason
from certification.suite import graders
from certification.suite.case import (
    Answer,
    Case,
    Category,
    Context,
    Grade,
    Kind,
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
    one_answer,
    single_turn,
    variant_of,
)
from certification.suite.cases.context import filler
from certification.suite.sentences import gettext_noop

_PROSE = (
    "The morning was clear and the streets were still empty when the first carts came in from "
    "the country. They stopped at the gate, where two men counted the sacks and wrote the "
    "numbers into a long book. Nobody was in a hurry, and the talk was of the weather, of "
    "prices, and of what the neighbours had done. "
)

# L1 time to the first token

FIRST_TOKEN_OUT = 64
_STORIES = (
    "a postman who delivers a letter that is forty years late",
    "a village that wakes up one day and finds its well full of ink",
    "a tailor who sews a coat for a customer whom nobody has ever seen",
    "an island that is marked on every map but that no ship has ever found",
)


def first_token(ref: Ref) -> Script:
    rng = ref.rng()
    subject = _STORIES[variant_of(ref, len(_STORIES))]
    prompt = (
        f"Write a story of about 400 words on this idea: {subject}. It takes place in the year "
        f"{rng.randrange(1650, 1950)}, the main character is {rng.randrange(19, 80)} years old, "
        f"and the story begins on a {rng.choice(_DAYS)}. Tell it in the past tense and in plain "
        "words, without a title, without headings and without any remark about the task itself. "
        "Begin with the first sentence of the story at once, and take your time with the place "
        "and the people."
    )
    request = single_turn(ref, prompt, Operation.STREAM, max_tokens=FIRST_TOKEN_OUT)
    return timed_script(ref, len(_STORIES), request, FIRST_TOKEN_OUT // 2)


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# L2 tokens per second

SPEED_OUT = 300
_TASKS = (
    "Retell this text in your own words, in about 500 words",
    "Continue this text in the same style, with about 500 more words",
    "Write a letter of about 500 words to a friend, telling what this text is about",
)


def tokens_per_second(ref: Ref) -> Script:
    text = "\n\n".join(filler(ref.rng(), 3_500))
    prompt = f"{_TASKS[variant_of(ref, len(_TASKS))]}. Begin at once, without any remark.\n\n{text}"
    return timed_script(
        ref,
        len(_TASKS),
        single_turn(ref, prompt, Operation.STREAM, max_tokens=SPEED_OUT),
        SPEED_OUT // 2,
    )


def timed_script(ref: Ref, variants: int, request: Request, at_least: int) -> Script:
    """Build the trial of one stream that is long enough to be timed, whatever its text."""

    def check(outcome: Outcome | None) -> Grade:
        return graders.speed(outcome, at_least)

    expected = (_PROSE * 8).strip()  # whoever serves it cuts it at the limit
    near_miss = "Of course! Here is the text that you asked for."
    return one_answer(
        ref, variants, request, check, expected=expected, near_miss=near_miss, fixed_limit=True
    )


# D1 the same answer twice

_REMARKS = (
    "Write three sentences about {}.",
    "Explain {} to a child in three sentences.",
    "Write a short paragraph that could open a chapter on {}.",
)
_SUBJECTS = (
    "lighthouses", "the tides", "how bread rises", "winter on a farm", "old maps",
    "the invention of the wheel", "beehives", "desert nights", "river deltas",
    "the migration of birds",
)  # fmt: skip


def same_answer_twice(ref: Ref) -> Script:
    """Send the same request twice at temperature 0, or without a temperature where the model
    accepts none.
    """
    rng = ref.rng()
    prompt = _REMARKS[variant_of(ref, len(_REMARKS))].format(rng.choice(_SUBJECTS))
    coldest, plain = single_turn(ref, prompt, temperature=0.0), single_turn(ref, prompt)

    def without_temperature(outcomes: Outcomes) -> Request | None:
        return plain if refuses_temperature(at(outcomes, 0)) else None

    def again(outcomes: Outcomes) -> Request | None:
        if not outcomes or isinstance(outcomes[-1], Failure):
            return None
        return plain if refuses_temperature(at(outcomes, 0)) else coldest

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        refusal = at(outcomes, 0)
        answers = outcomes[1:] if refuses_temperature(refusal) else outcomes
        first, second = at(answers, 0), at(answers, 1)
        verdict = graders.all_of(
            lambda: graders.stop_reason(first, "end_turn"),
            lambda: graders.stop_reason(second, "end_turn"),
            lambda: graders.not_empty(first),
            lambda: graders.same_text(first, second, exact=True),
        )
        if isinstance(refusal, Failure) and refuses_temperature(refusal):
            return graders.passed_without(verdict, "temperature", refusal)
        return verdict

    text = _PROSE.strip()
    expected, near_miss = text_answer(text), Answer((Text(text[:-60]),), "max_tokens")
    steps = (
        Step(always(coldest), expected, near_miss, probe=Probe("temperature", refuses_temperature)),
        Step(without_temperature, expected, near_miss),
        Step(again, expected, near_miss),
    )
    return Script(ref, variant_of(ref, len(_REMARKS)), steps, grade, continue_on_failure=True)


def refuses_temperature(first: Outcome | None) -> bool:
    unsupported = isinstance(first, Failure) and first.reason == Reason.PARAMETER_NOT_SUPPORTED
    return unsupported or graders.refuses(first, r"temperature")


PERFORMANCE = (
    Case(
        "L1",
        gettext_noop("Time to first token"),
        Kind.PERFORMANCE,
        Category.LATENCY,
        first_token,
        repeats=10,
    ),
    Case(
        "L2",
        gettext_noop("Output tokens per second"),
        Kind.PERFORMANCE,
        Category.LATENCY,
        tokens_per_second,
        repeats=6,
    ),
)
INFORMATION = (
    Case(
        "D1",
        gettext_noop("The same answer twice"),
        Kind.INFORMATION,
        Category.DETERMINISM,
        same_answer_twice,
        repeats=5,
    ),
)
