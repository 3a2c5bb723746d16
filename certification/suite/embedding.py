"""The short suite of embedding models: is the vector right, in the right place, and near to texts
of the same meaning?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from certification.inference import EmbedReply, EmbedRequest, Failure, Outcome
from certification.reasons import Reason
from certification.suite import graders
from certification.suite.case import Case, Category, Context, Grade, Kind, Ref, Script, Step
from certification.suite.cases.builders import Outcomes, always, at, variant_of
from certification.suite.sentences import gettext_noop, wording
from certification.suite.text import truncate

Vector = tuple[float, ...]

# Groups of texts that mean the same, in Brazilian Portuguese. No two groups are about the same
# thing.
CONCEPTS: tuple[tuple[str, ...], ...] = (
    (
        "O gato dorme no sofá da sala.",
        "O felino está dormindo no sofá da sala de estar.",
        "Um gato tira uma soneca no sofá.",
    ),
    (
        "A taxa de juros do banco subiu de novo.",
        "O banco aumentou outra vez a taxa de juros.",
        "Os juros do banco tiveram nova alta.",
    ),
    (
        "A receita do bolo leva farinha e ovos.",
        "Para fazer o bolo, são necessários ovos e farinha.",
        "O bolo é feito com ovos e farinha.",
    ),
    (
        "O time venceu a partida de futebol.",
        "A equipe ganhou o jogo de futebol.",
        "O jogo de futebol terminou com a vitória do time.",
    ),
    (
        "O médico receitou um remédio para a dor.",
        "Um remédio contra a dor foi receitado pelo médico.",
        "O doutor prescreveu um remédio para a dor.",
    ),
    (
        "Vai chover forte amanhã à tarde.",
        "A previsão para amanhã à tarde é de chuva forte.",
        "Amanhã à tarde deve cair uma chuva forte.",
    ),
    (
        "O voo para Lisboa atrasou duas horas.",
        "O avião para Lisboa saiu com duas horas de atraso.",
        "Houve um atraso de duas horas no voo para Lisboa.",
    ),
    (
        "O contrato de aluguel termina em dezembro.",
        "O contrato de aluguel vale até dezembro.",
        "Em dezembro acaba o contrato de aluguel.",
    ),
)
QUERIES = 4  # neighbours asked for in a trial
MIN_NEAREST = 3  # of them that must find their own
SAME = 0.99  # cosine from which two vectors count as the same text's
UNIT = 0.02  # how far from 1 a unit vector's norm may be
MAX_SPREAD = 10.0  # between the norms of short sentences where a model does not normalise
LONG = 60_000  # characters: more than the 8k tokens that most embedding models take


def norm(vector: Sequence[float]) -> float:
    return math.sqrt(math.fsum(x * x for x in vector))


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the cosine of two vectors; 0 where one is zero or their lengths differ."""
    lengths = norm(a) * norm(b)
    if len(a) != len(b) or not lengths or not math.isfinite(lengths):
        return 0.0
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths


@graders.on_answer
def vectors(reply: graders.AnyReply, count: int, dimensions: int | None = None) -> Grade:
    """Pass if there are `count` vectors, of one length (the catalogue's where known), of finite
    numbers and not zero.
    """
    rows = read_vectors(reply)
    lengths = sorted({len(row) for row in rows})
    evidence = {"vectors": len(rows), "lengths": lengths, "expected_length": dimensions}
    if len(rows) != count:
        sentence = wording("vectors_count", count=len(rows), texts=count)
        return graders.failed(sentence, **evidence)
    if len(lengths) != 1 or not lengths[0]:
        sentence = wording("vectors_uneven")
        return graders.failed(sentence, **evidence)
    if dimensions is not None and lengths[0] != dimensions:
        sentence = wording("vectors_length", length=lengths[0], expected=dimensions)
        return graders.failed(sentence, **evidence)
    if any(not math.isfinite(norm(row)) or not norm(row) for row in rows):
        sentence = wording("vectors_zero")
        return graders.failed(sentence, **evidence)
    return graders.passed(wording("vectors", count=count, length=lengths[0]), **evidence)


def read_vectors(outcome: Outcome | None) -> tuple[Vector, ...]:
    """Return the vectors of a reply; one that holds anything but numbers becomes ()."""
    rows: object = outcome.vectors if isinstance(outcome, EmbedReply) else ()
    result: list[Vector] = []
    for row in rows if isinstance(rows, tuple | list) else ():
        try:
            result.append(tuple(float(x) for x in row) if isinstance(row, tuple | list) else ())
        except (TypeError, ValueError, OverflowError):
            result.append(())
    return tuple(result)


def embed_step(*texts: str) -> Step:
    return Step(always(EmbedRequest(texts)))


def draw_texts(ref: Ref, count: int) -> list[str]:
    """Draw sentences of different concepts, with a number in each that no other run uses."""
    rng = ref.rng()
    return [
        f"{rng.choice(group)} Protocolo {rng.randrange(10_000, 100_000)}."
        for group in rng.sample(CONCEPTS, count)
    ]


def embedding_script(
    ref: Ref, steps: Sequence[Step], grade: Callable[[Outcomes, Context], Grade]
) -> Script:
    return Script(ref, variant_of(ref, len(CONCEPTS)), tuple(steps), grade)


def access_and_dimension(ref: Ref) -> Script:
    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        verdict = vectors(outcome, 1, context.dimensions)
        # Refused access says nothing about the model.
        return replace(verdict, valid=verdict.valid and not graders.is_refusal(outcome))

    return embedding_script(ref, [embed_step(*draw_texts(ref, 1))], grade)


def vector_norm(ref: Ref) -> Script:
    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        verdict = vectors(outcome, 3, context.dimensions)
        if not verdict.passed:
            return verdict
        norms = [norm(vector) for vector in read_vectors(outcome)]
        evidence = {**verdict.evidence, "norms": [round(n, 4) for n in norms]}
        if all(abs(n - 1.0) <= UNIT for n in norms):
            return graders.passed(wording("vectors_unit"), **evidence)
        if max(norms) / min(norms) <= MAX_SPREAD:
            return graders.passed(wording("vectors_similar"), **evidence)
        return graders.failed(wording("vectors_spread"), **evidence)

    return embedding_script(ref, [embed_step(*draw_texts(ref, 3))], grade)


def batch_order(ref: Ref) -> Script:
    """Embed the same three texts in two orders; the client calls models without batches once per
    text.
    """
    a, b, c = draw_texts(ref, 3)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        for outcome in (at(outcomes, 0), at(outcomes, 1)):
            verdict = vectors(outcome, 3, context.dimensions)
            if not verdict.passed:
                return verdict
        first, second = read_vectors(outcomes[0]), read_vectors(outcomes[1])
        same = [cosine(first[i], second[j]) for i, j in ((0, 1), (1, 2), (2, 0))]
        other = [cosine(x, y) for x, y in pairwise(first)]
        evidence = {"same": [round(x, 4) for x in same], "other": [round(x, 4) for x in other]}
        if min(same) < SAME:
            return graders.failed(wording("vectors_order"), **evidence)
        if max(other) >= SAME:
            return graders.failed(wording("vectors_alike"), **evidence)
        return graders.passed(wording("vectors_in_order"), **evidence)

    return embedding_script(ref, [embed_step(a, b, c), embed_step(c, a, b)], grade)


def nearest_neighbours(ref: Ref) -> Script:
    rng = ref.rng()
    groups = rng.sample(CONCEPTS, QUERIES)
    pairs = [rng.sample(group, 2) for group in groups]
    texts = rng.sample([text for pair in pairs for text in pair], 2 * QUERIES)

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        verdict = vectors(outcome, 2 * QUERIES, context.dimensions)
        if not verdict.passed:
            return verdict
        by_text = dict(zip(texts, read_vectors(outcome), strict=True))
        candidates = [by_text[other] for _, other in pairs]
        nearest = [
            max(range(QUERIES), key=lambda j: cosine(by_text[query], candidates[j]))
            for query, _ in pairs
        ]
        right = sum(j == i for i, j in enumerate(nearest))
        missed = [pairs[i][0] for i, j in enumerate(nearest) if i != j]
        evidence = {"right": right, "of": QUERIES, "missed": missed}
        figures = {"right": right, "count": QUERIES}
        if right >= MIN_NEAREST:
            return graders.passed(wording("nearest", **figures), **evidence)
        return graders.failed(wording("not_nearest", **figures), **evidence)

    return embedding_script(ref, [embed_step(*texts)], grade)


CLEAR_REFUSALS = {Reason.CONTEXT_TOO_LONG, Reason.MALFORMED_REQUEST}


def truncation_rule(ref: Ref) -> Script:
    text = " ".join(draw_texts(ref, len(CONCEPTS)))
    text = " ".join([text] * (LONG // len(text) + 1))

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        if isinstance(outcome, Failure) and (
            graders.is_validation(outcome) or outcome.reason in CLEAR_REFUSALS
        ):
            return graders.passed(wording("long_refused"), message=truncate(outcome.message))
        verdict = vectors(outcome, 1, context.dimensions)
        if not verdict.passed:
            return verdict
        return graders.passed(wording("long_taken"), **verdict.evidence)

    return embedding_script(ref, [embed_step(text)], grade)


def gate(number: int, title: str, script: Callable[[Ref], Script]) -> Case:
    return Case(f"E{number:02}", title, Kind.GATE, Category.EMBEDDING, script)


CASES = (
    gate(1, gettext_noop("Access and dimension"), access_and_dimension),
    gate(2, gettext_noop("Norm"), vector_norm),
    gate(3, gettext_noop("Order of a batch"), batch_order),
    gate(4, gettext_noop("Portuguese neighbours"), nearest_neighbours),
    gate(5, gettext_noop("Truncation rule"), truncation_rule),
)
