"""Long prompts: one fact hidden in about 4,000 or 100,000 tokens, three in about 16,000."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from certification.inference import Outcome, Request, failure_of
from certification.reasons import Reason
from certification.suite import graders
from certification.suite.case import Category, Context, Grade, Ref, Script, Step, text_answer
from certification.suite.cases.builders import (
    Check,
    Outcomes,
    at,
    scored_case,
    single_turn,
    variant_of,
)
from certification.suite.sentences import gettext_noop, wording

CHARACTERS_PER_TOKEN = 4
MAX_ANSWER_WORDS = 60  # an answer in a sentence or two; more is a copy of the text
_PEOPLE = (
    "the gardener", "an old sailor", "the baker's daughter", "a young clerk", "the night watchman",
    "a student of law", "the schoolmaster", "a travelling salesman", "the mayor's wife",
    "a tired fisherman", "the chemist", "a quiet lodger",
)  # fmt: skip
_PLACES = (
    "at the harbour", "behind the town hall", "in the upper market", "near the old mill",
    "on the road to the hills", "by the long bridge", "in the reading room",
    "at the edge of the wood", "in the yard of the inn", "under the arcade",
)  # fmt: skip
_TIMES = (
    "On a Monday in spring", "Shortly before noon", "When the rain had stopped",
    "In the second week of the fair", "Late in the evening", "On the day of the regatta",
    "After the harvest", "While the bells were ringing",
)  # fmt: skip
_OBJECTS = (
    "a crate of oranges", "an unsigned letter", "a broken clock", "a bundle of maps",
    "a blue umbrella", "a pair of boots", "a basket of eggs", "a brass key", "an empty birdcage",
    "a roll of canvas", "a faded photograph", "a sack of flour",
)  # fmt: skip
_FILLERS = (
    "{time}, {who} was seen {where} with {what}, and nobody could say why.",
    "It is told that {who} once left {what} {where} and never came back for it.",
    "{time}, people met {where} and spoke about {what} until it was dark.",
    "There was a rule that {what} must not be kept {where}, but {who} did not care much for rules.",
    "Nothing was more common in those years than to find {who} asleep {where}.",
    "{time}, the newspaper reported that {what} had been found {where}.",
    "Some said that {who} had bought {what} for far too much money; others said it had "
    "been a present.",
    "The way from there is not long, and whoever walks it slowly will pass {who} {where}.",
    "{time}, the weather changed, and {who} carried {what} into the house.",
    "It took a whole afternoon to bring {what} up the stairs, and {who} had to help.",
    "A painter made a picture of {who} {where}, in which {what} can be seen on the left.",
    "Years later, {who} still remembered how {what} had fallen into the water.",
)


def filler(rng: random.Random, characters: int) -> list[str]:
    """Return paragraphs of ordinary sentences, about so many characters in all, the same for the
    same dice.
    """
    paragraphs: list[str] = []
    left = characters
    while left > 0:
        sentences = [
            rng.choice(_FILLERS).format(
                who=rng.choice(_PEOPLE),
                where=rng.choice(_PLACES),
                time=rng.choice(_TIMES),
                what=rng.choice(_OBJECTS),
            )
            for _ in range(rng.randrange(4, 8))
        ]
        paragraphs.append(" ".join(sentence[0].upper() + sentence[1:] for sentence in sentences))
        left -= len(paragraphs[-1]) + 2
    return paragraphs


@dataclass(frozen=True)
class _Secret:
    """A kind of fact to hide, and the question after it."""

    fact: str
    question: str
    many: str


_SECRETS = (
    _Secret(
        "The locker of the {} opens with the code {}.",
        "Which code opens the locker of the {}?",
        "Which codes open the lockers of the {}, the {} and the {}?",
    ),
    _Secret(
        "In the register, the {} has the number {}.",
        "Which number does the {} have in the register?",
        "Which numbers do the {}, the {} and the {} have in the register?",
    ),
    _Secret(
        "The parcel for the {} is marked {}.",
        "How is the parcel for the {} marked?",
        "How are the parcels for the {}, the {} and the {} marked?",
    ),
)
_OWNERS = (
    "astronomer",
    "violinist",
    "glazier",
    "cartographer",
    "beekeeper",
    "locksmith",
    "translator",
    "geologist",
)


def draw_codes(rng: random.Random, count: int) -> list[str]:
    """Draw different codes that no filler sentence can contain."""
    return [
        f"{rng.choice('BDFGKMPRTVX')}{number}"
        for number in rng.sample(range(10_000, 99_999), count)
    ]


def hide_facts(ref: Ref, facts: list[str], tokens: int) -> str:
    """Hide each fact, as a paragraph of its own, somewhere in its share of the filler."""
    rng = random.Random(f"{ref.rng().random()}/filler")
    paragraphs = filler(rng, tokens * CHARACTERS_PER_TOKEN)
    share = len(paragraphs) // len(facts)
    for i, fact in reversed(list(enumerate(facts))):
        paragraphs.insert(i * share + rng.randrange(share), fact)
    return "\n\n".join(paragraphs)


def one_needle(ref: Ref) -> Script:
    return needle_script(ref, 4_000)


def long_needle(ref: Ref) -> Script:
    """Hide one fact in about 100,000 tokens, for the deep tier."""
    return needle_script(ref, 100_000)


def needle_script(ref: Ref, tokens: int) -> Script:
    rng = ref.rng()
    secret = _SECRETS[variant_of(ref, len(_SECRETS))]
    owner, other = rng.sample(_OWNERS, 2)
    code, decoy = draw_codes(rng, 2)
    facts = [secret.fact.format(owner, code), secret.fact.format(other, decoy)]
    if rng.random() < 0.5:
        facts.reverse()

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.names_only(outcome, code, (code, decoy)),
            lambda: graders.words(outcome, 1, MAX_ANSWER_WORDS),
        )

    question = f"{secret.question.format(owner)} Answer with it alone."
    return search_script(ref, facts, tokens, question, check=check, expected=code, near_miss=decoy)


def three_needles(ref: Ref) -> Script:
    rng = ref.rng()
    secret = _SECRETS[variant_of(ref, len(_SECRETS))]
    owners, codes = rng.sample(_OWNERS, 3), draw_codes(rng, 3)
    facts = [secret.fact.format(owner, code) for owner, code in zip(owners, codes, strict=True)]
    order = rng.sample(range(3), 3)
    right = [codes[i] for i in order]

    def check(outcome: Outcome | None) -> Grade:
        return graders.all_of(
            lambda: graders.labels(outcome, codes, *right),
            lambda: graders.words(outcome, 1, MAX_ANSWER_WORDS),
        )

    question = (
        f"{secret.many.format(*(owners[i] for i in order))} Answer with the three alone, in this "
        "order, one per line."
    )
    near_miss = rng.choice(
        (
            [right[1], right[0], right[2]],
            [*right[:2], f"{right[2][:-1]}{(int(right[2][-1]) + 1) % 10}"],
            [*right[::-1], *right],
        )
    )
    return search_script(
        ref,
        facts,
        16_000,
        question,
        check=check,
        expected="\n".join(right),
        near_miss="\n".join(near_miss),
    )


def search_script(
    ref: Ref,
    facts: list[str],
    tokens: int,
    question: str,
    *,
    check: Check,
    expected: str,
    near_miss: str,
) -> Script:
    """Build a trial of one call that looks for facts.

    The long text is written only for the call, so that the answer key stays fast.
    """

    def request(outcomes: Outcomes) -> Request:
        return single_turn(
            ref,
            "Read this text and then answer the question below "
            f"it.\n\n{hide_facts(ref, facts, tokens)}\n\n{question}",
        )

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome, window = at(outcomes, 0), context.context_window
        capability = f"context_of_{tokens // 1000}k_tokens"
        # A model whose window is known to be large enough has no excuse.
        may_be_short = (window or 0) < tokens * 1.25
        refusal = failure_of(outcome)
        if may_be_short and refusal and refusal.reason == Reason.CONTEXT_TOO_LONG:
            return graders.lacks(capability, refusal)
        verdict = check(outcome)
        if verdict.valid and not verdict.passed and window and window < tokens:
            sentence = wording("window_too_small", tokens=window, sentence=verdict.sentence)
            return replace(verdict, sentence=sentence, lacks=capability)
        return verdict

    return Script(
        ref,
        variant_of(ref, len(_SECRETS)),
        (Step(request, text_answer(expected), text_answer(near_miss)),),
        grade,
    )


CONTEXT = (
    scored_case("N1", gettext_noop("One fact in 4,000 tokens"), Category.CONTEXT, one_needle),
    scored_case(
        "N2", gettext_noop("Three facts in 16,000 tokens"), Category.CONTEXT, three_needles
    ),
)
