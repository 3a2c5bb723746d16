"""Streams with the same text as an unstreamed answer, without long silences, and with a proper end
when cut.
"""

from __future__ import annotations

from certification.inference import Operation, Outcome, Request, Text
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
    ENDLESS,
    Outcomes,
    always,
    at,
    missing_capability,
    one_answer,
    scored_case,
    single_turn,
    variant_of,
)
from certification.suite.sentences import gettext_noop

# S1 streamed and not: the same answer

_WORDS = (
    (
        [
            "apple",
            "bread",
            "candle",
            "door",
            "engine",
            "forest",
            "garden",
            "harbour",
            "island",
            "jacket",
            "kettle",
            "ladder",
        ]
    ),
    (
        [
            "anchor",
            "bottle",
            "carpet",
            "dragon",
            "eagle",
            "feather",
            "guitar",
            "hammer",
            "iron",
            "jewel",
            "kitchen",
            "lemon",
        ]
    ),
    (
        [
            "arrow",
            "basket",
            "copper",
            "desert",
            "elbow",
            "finger",
            "glove",
            "honey",
            "insect",
            "jungle",
            "knight",
            "lantern",
        ]
    ),
)


def same_answer(ref: Ref) -> Script:
    rng = ref.rng()
    bank = _WORDS[variant_of(ref, len(_WORDS))]
    right = rng.sample(bank, 9)
    swapped = [*right[:4], right[5], right[4], *right[6:]]
    # A task that no model gets wrong, so that only the way the answer came can make a difference.
    prompt = (
        "Copy these words in one line, in this order, separated by commas, and write nothing "
        "else:\n" + "\n".join(right)
    )
    requests = [
        single_turn(ref, prompt, operation, step=step)
        for step, operation in enumerate((Operation.CONVERSE, Operation.STREAM))
    ]

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        whole, stream = at(outcomes, 0), at(outcomes, 1)
        return missing_capability(requests[1], stream) or graders.all_of(
            lambda: graders.normalised(whole, ", ".join(right)),
            lambda: graders.event_order(stream),
            lambda: graders.normalised(stream, ", ".join(right)),
            lambda: graders.same_text(whole, stream),
        )

    expected, near_miss = text_answer(", ".join(right)), text_answer(", ".join(swapped))
    steps = tuple(Step(always(request), expected, near_miss) for request in requests)
    return Script(ref, variant_of(ref, len(_WORDS)), steps, grade)


# S2 no silence in a long stream

MAX_SILENCE_MS = 10_000.0
_ESSAYS = (
    "the history of an old {}",
    "a morning beside a {}",
    "the work of somebody who looks after a {}",
)
_THINGS = (
    "wooden boat", "stone bridge", "railway station", "botanical garden", "printing press",
    "clock tower", "fish market", "paper mill", "lighthouse", "wind mill",
)  # fmt: skip
_SENTENCES = (
    "It begins early in the morning, when the first people come and look at what there is to do. ",
    "Some of them have done this for many years, and they know every corner and every tool by "
    "heart. ",
    "Others are new and ask a lot of questions, which is how most of the best ideas are found. ",
    "By noon the hardest part is done, and there is time to sit down and to talk for a while. ",
    "In the afternoon the light changes, and with it the colours of the wood and of the old "
    "walls. ",
    "Nothing is hurried, because a mistake that is made in haste costs more than an hour of "
    "patience. ",
)


def long_stream(ref: Ref) -> Script:
    rng = ref.rng()
    subject = _ESSAYS[variant_of(ref, len(_ESSAYS))].format(rng.choice(_THINGS))
    prompt = (
        f"Write about 300 words on this subject: {subject}. Write flowing text without a title."
    )
    request = single_turn(ref, prompt, Operation.STREAM, max_tokens=1000)

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.event_order(outcome),
            lambda: graders.stop_reason(outcome, "end_turn"),
            lambda: graders.words(outcome, 150, 600),
            lambda: graders.no_gap_over(outcome, MAX_SILENCE_MS),
        )

    essay = "".join(rng.sample(_SENTENCES, len(_SENTENCES)) * 3).strip()
    near_miss = rng.choice((Answer((Text(essay),), "max_tokens"), text_answer(essay[:400])))
    return one_answer(ref, len(_ESSAYS), request, check, expected=essay, near_miss=near_miss)


# S3 a stream cut by maxTokens

_LIMITS = (80, 100, 120)


def cut_stream(ref: Ref) -> Script:
    rng = ref.rng()
    limit = _LIMITS[variant_of(ref, len(_LIMITS))] + rng.randrange(16)
    thing = rng.choice(_THINGS)
    prompt = (
        f"Write a story of at least 800 words that takes place around a {thing}. Start with the "
        "story at once."
    )
    request: Request = single_turn(ref, prompt, Operation.STREAM, max_tokens=limit)

    def again(outcomes: Outcomes) -> Request | None:
        if not graders.ended_by_itself(at(outcomes, 0), limit):
            return None
        return single_turn(ref, ENDLESS, Operation.STREAM, step=1, max_tokens=limit)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = outcomes[-1] if outcomes else None
        thinks = context.reasoning or graders.has_reasoning(outcome)
        # A model that keeps its thoughts to itself may spend the whole limit on them and stream
        # nothing.
        silent = thinks and not graders.text_of(outcome) and not graders.has_reasoning(outcome)
        return missing_capability(request, outcome) or graders.all_of(
            lambda: graders.stream_ends(outcome) if silent else graders.event_order(outcome),
            lambda: graders.cut_at(outcome, limit, at_least=1 if thinks else limit // 2),
        )

    # whoever serves it cuts it at the limit
    tale = text_answer("".join(rng.sample(_SENTENCES, len(_SENTENCES)) * 8).strip())
    near_miss = Answer((Text(f"This is the story of a {thing}. All ended well."),), "max_tokens")
    counted = text_answer("\n".join(map(str, range(1, 1001))))
    steps = (
        Step(always(request), tale, near_miss, room=False),
        Step(again, counted, near_miss, room=False),
    )
    return Script(ref, variant_of(ref, len(_LIMITS)), steps, grade)


STREAMING = (
    scored_case(
        "S1", gettext_noop("Same answer, streamed or not"), Category.STREAMING, same_answer
    ),
    scored_case("S2", gettext_noop("Long stream without pauses"), Category.STREAMING, long_stream),
    scored_case("S3", gettext_noop("Stream cut by maxTokens"), Category.STREAMING, cut_stream),
)
