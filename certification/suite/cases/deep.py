"""What is asked only under suspicion: a very long text, a burst of requests, and a fingerprint of
the answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from certification.inference import Failure, Outcome
from certification.suite import graders
from certification.suite.case import Case, Category, Context, Grade, Kind, Ref, Script, Step, says
from certification.suite.cases.builders import Outcomes, always, ask, at, one_answer, variant_of
from certification.suite.cases.context import long_needle
from certification.suite.text import normalize_text, truncate

_LITTLE = 64  # maxTokens of an answer of one word

# B1 five requests at the same moment

BURST = 5
_ADDITIONS = (
    "What is {} plus {}? Answer with the number alone.",
    "Add {} and {} and write only the sum, in digits.",
    "{} birds sit on a roof and {} more come. How many are there? Reply with the number alone.",
)


def _burst(ref: Ref) -> Script:
    rng = ref.rng()
    first, second = rng.randrange(120, 480), rng.randrange(120, 480)
    request = ask(
        ref, _ADDITIONS[variant_of(ref, len(_ADDITIONS))].format(first, second), room=_LITTLE
    )

    def check(outcome: Outcome | None) -> Grade:
        judged = graders.all_of(
            lambda: graders.stop_reason(outcome, "end_turn"),
            lambda: graders.has_number(outcome, first + second),
        )
        return _with_latency(judged, outcome)

    expected, near_miss = says(str(first + second)), says(str(first + second + 10))
    return one_answer(ref, len(_ADDITIONS), request, check, expected=expected, near_miss=near_miss)


def _with_latency(grade: Grade, outcome: Outcome | None) -> Grade:
    """The grade with the call's milliseconds; where the service turned the call away, it says that
    this is not the model.
    """
    took = graders.milliseconds(outcome.timing.total_ms) if outcome else None
    sentence = grade.sentence
    if isinstance(outcome, Failure) and not grade.valid:
        sentence = f"Of {BURST} requests at once this one got no answer, which is not the model's doing. {sentence}"
    return replace(grade, sentence=sentence, evidence={**grade.evidence, "latency_ms": took})


# F1 which answers come, and how often

SAMPLES = 10


@dataclass(frozen=True)
class _Taste:
    """A question with many right answers, and the answers of a perfect model, those it likes best
    first.
    """

    question: str
    answers: tuple[str, ...]


_TASTES = (
    _Taste("Name a colour.", ("blue", "red", "green", "teal")),
    _Taste("Name an animal.", ("elephant", "dog", "tiger", "fox")),
    _Taste("Name a fruit.", ("apple", "mango", "banana", "pear")),
    _Taste("Name a city.", ("Paris", "Tokyo", "Lisbon", "Recife")),
    _Taste("Name a country.", ("Brazil", "Japan", "Canada", "Kenya")),
    _Taste("Name a river.", ("Nile", "Amazon", "Danube", "Mekong")),
    _Taste("Name a tree.", ("oak", "maple", "pine", "willow")),
    _Taste("Name a bird.", ("sparrow", "eagle", "robin", "owl")),
    _Taste("Name a metal.", ("iron", "gold", "copper", "silver")),
    _Taste("Name a musical instrument.", ("piano", "violin", "guitar", "flute")),
    _Taste("Name a profession.", ("teacher", "doctor", "carpenter", "nurse")),
    _Taste("Give a first name for a girl.", ("Emma", "Clara", "Maria", "Luna")),
    _Taste("Give a first name for a boy.", ("Liam", "Oliver", "Pedro", "Hugo")),
    _Taste("Give a family name.", ("Smith", "Silva", "Chen", "Novak")),
    _Taste("Pick a number from 1 to 100.", ("42", "37", "73", "57")),
    _Taste("Pick a number from 1 to 10.", ("7", "4", "3", "8")),
    _Taste("Pick a letter of the alphabet.", ("Q", "K", "G", "M")),
    _Taste("Write one word that rhymes with light.", ("night", "bright", "sight", "kite")),
    _Taste("Write one word that fits a winter evening.", ("cozy", "quiet", "snow", "frost")),
    _Taste("Write one adjective for the sea.", ("vast", "deep", "blue", "endless")),
)
PROMPTS = len(_TASTES)
# how often the answers come, in proportion; of another model in the reverse order
_LIKED = (8, 4, 2, 1)


def _taste(ref: Ref) -> Script:
    number = ref.trial // SAMPLES % PROMPTS  # trials in place of throttled ones begin anew
    taste = _TASTES[number]
    rng = random.Random(f"{ref.rng().random()}/sample")
    [expected], [near_miss] = (
        rng.choices(taste.answers, _LIKED),
        rng.choices(taste.answers, _LIKED[::-1]),
    )
    request = ask(ref, f"{taste.question} Answer with one word or number alone.", room=_LITTLE)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        judged = graders.not_empty(outcome)
        if not judged.passed:
            return judged
        answer = short(graders.text_of(outcome))
        return graders.passed(f"It answered {truncate(answer)}.", prompt=number, answer=answer)

    return Script(ref, number, (Step(always(request), says(expected), says(near_miss)),), grade)


def short(text: str) -> str:
    """The first three words of an answer, in lower case without punctuation: short enough to come
    twice.
    """
    return " ".join(normalize_text(text[:200]).split()[:3])[:40]


DEEP = (
    Case("N3", "One fact in 100,000 tokens", Kind.INFORMATION, Category.CONTEXT, long_needle),
    Case(
        "B1",
        "Five requests at once",
        Kind.INFORMATION,
        Category.LATENCY,
        _burst,
        repeats=BURST,
        concurrent=True,
    ),
    Case(
        "F1",
        "Which words come",
        Kind.INFORMATION,
        Category.DETERMINISM,
        _taste,
        repeats=PROMPTS * SAMPLES,
    ),
)
