"""The cases of the deep tier: a very long text, a burst of requests, and a fingerprint of the
answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from certification.inference import Failure, Outcome
from certification.suite import graders
from certification.suite.case import (
    Case,
    Category,
    Context,
    Grade,
    Kind,
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
from certification.suite.cases.context import long_needle
from certification.suite.formatting import plain_text
from certification.suite.sentences import gettext_noop, wording
from certification.suite.text import normalize_text, truncate

_ONE_WORD_MAX_TOKENS = 64  # maxTokens of an answer of one word

# B1 five requests at the same moment

BURST = 5
_ADDITIONS = (
    "What is {} plus {}? Answer with the number alone.",
    "Add {} and {} and write only the sum, in digits.",
    "{} birds sit on a roof and {} more come. How many are there? Reply with the number alone.",
)


def burst(ref: Ref) -> Script:
    rng = ref.rng()
    first, second = rng.randrange(120, 480), rng.randrange(120, 480)
    request = single_turn(
        ref,
        _ADDITIONS[variant_of(ref, len(_ADDITIONS))].format(first, second),
        max_tokens=_ONE_WORD_MAX_TOKENS,
    )

    def check(outcome: Outcome | None) -> Grade:
        verdict = graders.all_of(
            lambda: graders.stop_reason(outcome, "end_turn"),
            lambda: graders.only_number(outcome, first + second, first, second),
        )
        sentence = verdict.sentence
        if isinstance(outcome, Failure) and not verdict.valid:
            sentence = wording("burst_unanswered", count=BURST, sentence=sentence)
        latency = graders.milliseconds(outcome.timing.total_ms) if outcome else None
        evidence = {**verdict.evidence, "latency_ms": latency}
        return replace(verdict, sentence=sentence, evidence=evidence)

    expected, near_miss = str(first + second), str(first + second + 10)
    return one_answer(ref, len(_ADDITIONS), request, check, expected=expected, near_miss=near_miss)


# F1 which answers come, and how often

SAMPLES = 10


@dataclass(frozen=True)
class _OpenQuestion:
    """A question with many right answers, and those of a perfect model, its favourites first."""

    text: str
    answers: tuple[str, ...]


_OPEN_QUESTIONS = (
    _OpenQuestion("Name a colour.", ("blue", "red", "green", "teal")),
    _OpenQuestion("Name an animal.", ("elephant", "dog", "tiger", "fox")),
    _OpenQuestion("Name a fruit.", ("apple", "mango", "banana", "pear")),
    _OpenQuestion("Name a city.", ("Paris", "Tokyo", "Lisbon", "Recife")),
    _OpenQuestion("Name a country.", ("Brazil", "Japan", "Canada", "Kenya")),
    _OpenQuestion("Name a river.", ("Nile", "Amazon", "Danube", "Mekong")),
    _OpenQuestion("Name a tree.", ("oak", "maple", "pine", "willow")),
    _OpenQuestion("Name a bird.", ("sparrow", "eagle", "robin", "owl")),
    _OpenQuestion("Name a metal.", ("iron", "gold", "copper", "silver")),
    _OpenQuestion("Name a musical instrument.", ("piano", "violin", "guitar", "flute")),
    _OpenQuestion("Name a profession.", ("teacher", "doctor", "carpenter", "nurse")),
    _OpenQuestion("Give a first name for a girl.", ("Emma", "Clara", "Maria", "Luna")),
    _OpenQuestion("Give a first name for a boy.", ("Liam", "Oliver", "Pedro", "Hugo")),
    _OpenQuestion("Give a family name.", ("Smith", "Silva", "Chen", "Novak")),
    _OpenQuestion("Pick a number from 1 to 100.", ("42", "37", "73", "57")),
    _OpenQuestion("Pick a number from 1 to 10.", ("7", "4", "3", "8")),
    _OpenQuestion("Pick a letter of the alphabet.", ("Q", "K", "G", "M")),
    _OpenQuestion("Write one word that rhymes with light.", ("night", "bright", "sight", "kite")),
    _OpenQuestion("Write one word that fits a winter evening.", ("cozy", "quiet", "snow", "frost")),
    _OpenQuestion("Write one adjective for the sea.", ("vast", "deep", "blue", "endless")),
)
PROMPTS = len(_OPEN_QUESTIONS)
# how often the answers come, in proportion; of another model in the reverse order
_PREFERENCE = (8, 4, 2, 1)


def preferred_words(ref: Ref) -> Script:
    number = ref.trial // SAMPLES % PROMPTS  # trials in place of throttled ones begin anew
    question = _OPEN_QUESTIONS[number]
    rng = random.Random(f"{ref.rng().random()}/sample")
    [expected] = rng.choices(question.answers, _PREFERENCE)
    [near_miss] = rng.choices(question.answers, _PREFERENCE[::-1])
    request = single_turn(
        ref,
        f"{question.text} Answer with one word or number alone.",
        max_tokens=_ONE_WORD_MAX_TOKENS,
    )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        verdict = graders.not_empty(outcome)
        if not verdict.passed:
            return verdict
        answer = shorten(graders.text_of(outcome))
        sentence = wording("model_answered", answer=truncate(answer))
        return graders.passed(sentence, prompt=number, answer=answer)

    return Script(
        ref, number, (Step(always(request), text_answer(expected), text_answer(near_miss)),), grade
    )


def shorten(text: str) -> str:
    """Return the first three words of an answer, in lower case without punctuation: short enough to
    occur twice.
    """
    return " ".join(normalize_text(plain_text(text[:200])).split()[:3])[:40]


DEEP = (
    Case(
        "N3",
        gettext_noop("One fact in 100,000 tokens"),
        Kind.INFORMATION,
        Category.CONTEXT,
        long_needle,
    ),
    Case(
        "B1",
        gettext_noop("Five requests at once"),
        Kind.INFORMATION,
        Category.LATENCY,
        burst,
        repeats=BURST,
        concurrent=True,
    ),
    Case(
        "F1",
        gettext_noop("Fingerprint of short answers"),
        Kind.INFORMATION,
        Category.DETERMINISM,
        preferred_words,
        repeats=PROMPTS * SAMPLES,
    ),
)
