"""The short suite of embedding models: is the vector right, in the right place, and near to what
means the same?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from certification.inference import EmbedReply, EmbedRequest, Failure, Outcome
from certification.reasons import Reason
from certification.suite import graders
from certification.suite.case import Case, Category, Context, Grade, Kind, Ref, Script, Step
from certification.suite.graders import is_refusal, is_validation
from certification.suite.text import truncate

Vector = tuple[float, ...]
_Outcomes = tuple[Outcome, ...]

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
    """The cosine of two vectors; 0 where one is zero or their lengths differ."""
    lengths = norm(a) * norm(b)
    if len(a) != len(b) or not lengths or not math.isfinite(lengths):
        return 0.0
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths


def vectors(outcome: Outcome | None, count: int, dimensions: int | None = None) -> Grade:
    """There are `count` vectors, of one length (the catalogue's where known), of finite numbers and
    not zero.
    """
    grade = graders.usable(outcome)
    if not grade.passed:
        return grade
    found = _vectors(outcome)
    lengths = sorted({len(v) for v in found})
    evidence = {"vectors": len(found), "lengths": lengths, "expected_length": dimensions}
    if len(found) != count:
        return graders.failed(f"{len(found)} vectors came back for {count} texts.", **evidence)
    if len(lengths) != 1 or not lengths[0]:
        return graders.failed("The vectors are empty or not of one length.", **evidence)
    if dimensions is not None and lengths[0] != dimensions:
        return graders.failed(
            f"The vectors have {lengths[0]} numbers instead of {dimensions}.", **evidence
        )
    if any(not math.isfinite(norm(v)) or not norm(v) for v in found):
        return graders.failed(
            "A vector is zero or has something in it that is not a number.", **evidence
        )
    return graders.passed(f"{count} vectors of {lengths[0]} numbers.", **evidence)


def _vectors(outcome: Outcome | None) -> tuple[Vector, ...]:
    """The vectors of a reply in which every element is a number; one that is not becomes ()."""
    found: object = outcome.vectors if isinstance(outcome, EmbedReply) else ()
    if not isinstance(found, tuple | list):
        return ()
    return tuple(_numbers(v) for v in found)


def _numbers(vector: object) -> Vector:
    if not isinstance(vector, tuple | list):
        return ()
    try:
        return tuple(float(x) for x in vector)
    except (TypeError, ValueError, OverflowError):
        return ()


def _at(outcomes: _Outcomes, index: int) -> Outcome | None:
    return outcomes[index] if index < len(outcomes) else None


def _embed(*texts: str) -> Step:
    request = EmbedRequest(texts)
    return Step(lambda outcomes: request)


def _drawn(ref: Ref, count: int) -> list[str]:
    """Sentences of different concepts, with a number in each that no other run asks for."""
    rng = ref.rng()
    return [
        f"{rng.choice(group)} Protocolo {rng.randrange(10_000, 100_000)}."
        for group in rng.sample(CONCEPTS, count)
    ]


def _script(
    ref: Ref, steps: Sequence[Step], grade: Callable[[_Outcomes, Context], Grade]
) -> Script:
    return Script(ref, (ref.seed + ref.trial) % len(CONCEPTS), tuple(steps), grade)


def _dimension(ref: Ref) -> Script:
    def grade(outcomes: _Outcomes, context: Context) -> Grade:
        outcome = _at(outcomes, 0)
        found = vectors(outcome, 1, context.dimensions)
        # Who cannot even ask has learnt nothing about the model.
        return Grade(
            found.passed,
            found.sentence,
            found.evidence,
            found.valid and not is_refusal(outcome),
            cause=found.cause,
        )

    return _script(ref, [_embed(*_drawn(ref, 1))], grade)


def _norm(ref: Ref) -> Script:
    def grade(outcomes: _Outcomes, context: Context) -> Grade:
        outcome = _at(outcomes, 0)
        found = vectors(outcome, 3, context.dimensions)
        if not found.passed:
            return found
        norms = [norm(v) for v in _vectors(outcome)]
        evidence = {**found.evidence, "norms": [round(n, 4) for n in norms]}
        if all(abs(n - 1.0) <= UNIT for n in norms):
            return graders.passed("The vectors have length 1.", **evidence)
        if max(norms) / min(norms) <= MAX_SPREAD:
            return graders.passed(
                "The vectors are not normalised; their lengths are alike.", **evidence
            )
        return graders.failed("The vectors' lengths differ too much to compare them.", **evidence)

    return _script(ref, [_embed(*_drawn(ref, 3))], grade)


def _batch_order(ref: Ref) -> Script:
    """The same three texts in two orders; models without batches are called once per text by the
    client.
    """
    a, b, c = _drawn(ref, 3)

    def grade(outcomes: _Outcomes, context: Context) -> Grade:
        for outcome in (_at(outcomes, 0), _at(outcomes, 1)):
            found = vectors(outcome, 3, context.dimensions)
            if not found.passed:
                return found
        first, second = _vectors(outcomes[0]), _vectors(outcomes[1])
        same = [cosine(first[i], second[j]) for i, j in ((0, 1), (1, 2), (2, 0))]
        other = [cosine(x, y) for x, y in pairwise(first)]
        evidence = {"same": [round(x, 4) for x in same], "other": [round(x, 4) for x in other]}
        if min(same) < SAME:
            return graders.failed(
                "A text's vector is not the same in another order of the texts.", **evidence
            )
        if max(other) >= SAME:
            return graders.failed("Different texts have the same vector.", **evidence)
        return graders.passed("Every vector belongs to its text, whatever the order.", **evidence)

    return _script(ref, [_embed(a, b, c), _embed(c, a, b)], grade)


def _neighbours(ref: Ref) -> Script:
    rng = ref.rng()
    groups = rng.sample(CONCEPTS, QUERIES)
    pairs = [rng.sample(group, 2) for group in groups]
    queries = [p[0] for p in pairs]
    texts = rng.sample([text for pair in pairs for text in pair], 2 * QUERIES)

    def grade(outcomes: _Outcomes, context: Context) -> Grade:
        outcome = _at(outcomes, 0)
        found = vectors(outcome, 2 * QUERIES, context.dimensions)
        if not found.passed:
            return found
        by_text = dict(zip(texts, _vectors(outcome), strict=True))
        asked, offered = [by_text[p[0]] for p in pairs], [by_text[p[1]] for p in pairs]
        nearest = [max(range(QUERIES), key=lambda j: cosine(query, offered[j])) for query in asked]
        right = sum(j == i for i, j in enumerate(nearest))
        evidence = {
            "right": right,
            "of": QUERIES,
            "missed": [queries[i] for i, j in enumerate(nearest) if i != j],
        }
        sentence = (
            f"{right} of {QUERIES} Portuguese sentences are nearest to the one that means the same"
        )
        if right >= MIN_NEAREST:
            return graders.passed(f"{sentence}.", **evidence)
        return graders.failed(f"Only {sentence}.", **evidence)

    return _script(ref, [_embed(*texts)], grade)


_CLEAR = {Reason.CONTEXT_TOO_LONG, Reason.MALFORMED_REQUEST}


def _truncation(ref: Ref) -> Script:
    sentences = _drawn(ref, len(CONCEPTS))
    text = " ".join(sentences)
    text = " ".join([text] * (LONG // len(text) + 1))

    def grade(outcomes: _Outcomes, context: Context) -> Grade:
        outcome = _at(outcomes, 0)
        if isinstance(outcome, Failure) and (is_validation(outcome) or outcome.reason in _CLEAR):
            return graders.passed(
                "A text that is too long is refused clearly.",
                message=truncate(outcome.message),
            )
        found = vectors(outcome, 1, context.dimensions)
        if not found.passed:
            return found
        return graders.passed(
            "A text that is too long is cut or taken whole, without an error.", **found.evidence
        )

    return _script(ref, [_embed(text)], grade)


def _gate(number: int, title: str, script: Callable[[Ref], Script]) -> Case:
    return Case(f"E{number:02}", title, Kind.GATE, Category.EMBEDDING, script)


CASES = (
    _gate(1, "Access and dimension", _dimension),
    _gate(2, "Norm", _norm),
    _gate(3, "Order of a batch", _batch_order),
    _gate(4, "Portuguese neighbours", _neighbours),
    _gate(5, "Truncation rule", _truncation),
)
