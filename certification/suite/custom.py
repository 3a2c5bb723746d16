"""Cases that operators write themselves: a prompt, a grader from the list, and what it expects.
Data in, a Case out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from certification.inference import Operation, Outcome, Reply, Request, Text, Timing, Usage, user
from certification.suite import graders, patterns
from certification.suite.case import Case, Category, Context, Grade, Kind, Ref, Script, Step

CASE_ID = re.compile(r"X[A-Z0-9]{1,19}")
CATEGORIES = (
    Category.TOOLS, Category.JSON, Category.INSTRUCTIONS, Category.PORTUGUESE,
    Category.STREAMING, Category.CONTEXT, Category.REASONING, Category.VISION,
)  # fmt: skip
MAX_PROMPT = 50_000

Check = Callable[[Outcome], Grade]


@dataclass(frozen=True)
class Spec:
    """An operator's case as data. `expected` is what the grader takes; `weight` counts the case so
    many times in its category.
    """

    id: str
    title: str
    category: str
    prompt: str
    grader: str
    expected: Any
    system: str = ""
    max_tokens: int = 500
    repeats: int = 3
    weight: float = 1.0


class BadSpec(ValueError):
    """A case that cannot work; the text says what to change."""


def texts_of(expected: Any, grader: str) -> list[str]:
    """Return the texts that a grader expects. BadSpec where there are none."""
    texts = [expected] if isinstance(expected, str) else expected
    if not isinstance(texts, list) or not texts or not all(isinstance(x, str) and x for x in texts):
        raise BadSpec(f"{grader} expects a string, or a list of strings.")
    return texts


def check_exact(expected: Any) -> Check:
    [text] = texts_of(expected, "exact")[:1]
    return lambda outcome: graders.exact(outcome, text)


def check_normalised(expected: Any) -> Check:
    texts = texts_of(expected, "normalised")
    return lambda outcome: graders.normalised(outcome, *texts)


def check_mentions(expected: Any) -> Check:
    texts = texts_of(expected, "mentions")
    return lambda outcome: graders.all_of(
        *((lambda t=t: graders.mentions(outcome, t)) for t in texts)
    )


def check_without(expected: Any) -> Check:
    texts = texts_of(expected, "without")
    return lambda outcome: graders.without(outcome, *texts)


def check_regex(expected: Any) -> Check:
    [pattern] = texts_of(expected, "regex")[:1]
    if problem := patterns.pattern_error(pattern):
        raise BadSpec(f"regex expects a regular expression that can be used: {problem}.")
    return lambda outcome: graders.matches(outcome, pattern)


def check_number(expected: Any) -> Check:
    options = expected if isinstance(expected, Mapping) else {"value": expected}
    value: Any = options.get("value")
    tolerance: Any = options.get("tolerance", 0)
    for figure in (value, tolerance):
        if isinstance(figure, bool) or not isinstance(figure, int | float):
            raise BadSpec('number expects a number, or {"value": 3.5, "tolerance": 0.1}.')
    return lambda outcome: graders.number(outcome, value, tolerance)


def check_json(expected: Any) -> Check:
    if not isinstance(expected, Mapping):
        raise BadSpec("json_schema expects a JSON Schema (an object).")
    from certification.suite.json_schema import schema_error  # noqa: PLC0415, slow to import

    if problem := schema_error(expected):
        raise BadSpec(f"json_schema expects a valid JSON Schema: {problem}.")
    return lambda outcome: graders.json_answer(outcome, expected)


def check_count(name: str, count: Callable[..., Grade]) -> Callable[[Any], Check]:
    def make(expected: Any) -> Check:
        bounds = expected if isinstance(expected, Mapping) else {"min": expected, "max": expected}
        minimum, maximum = bounds.get("min", 0), bounds.get("max")
        for bound in (minimum, maximum):
            if bound is not None and (
                isinstance(bound, bool) or not isinstance(bound, int) or bound < 0
            ):
                raise BadSpec(f'{name} expects a number, or {{"min": 1, "max": 5}}.')
        return lambda outcome: count(outcome, minimum, maximum)

    return make


def check_language(expected: Any) -> Check:
    if expected not in ("pt", "en"):
        raise BadSpec('language expects "pt" or "en".')
    return lambda outcome: graders.language(outcome, expected)


GRADERS: dict[str, Callable[[Any], Check]] = {
    "exact": check_exact,
    "normalised": check_normalised,
    "mentions": check_mentions,
    "without": check_without,
    "regex": check_regex,
    "number": check_number,
    "json_schema": check_json,
    "words": check_count("words", graders.words),
    "lines": check_count("lines", graders.lines),
    "bullets": check_count("bullets", graders.bullets),
    "language": check_language,
}


def case(spec: Spec) -> Case:
    """Return the case that a spec describes. BadSpec when it cannot work."""
    check_shape(spec)
    check = GRADERS[spec.grader](spec.expected)

    def grade(outcomes: Sequence[Outcome], context: Context) -> Grade:
        usable = graders.usable(outcomes[0] if outcomes else None)
        return check(outcomes[0]) if usable.passed else usable

    def script(ref: Ref) -> Script:
        request = Request(
            (user(f"{spec.prompt}\n{ref}"),),
            spec.max_tokens,
            Operation.CONVERSE,
            system=spec.system,
        )
        return Script(
            ref,
            0,
            (Step(lambda _outcomes: request),),
            grade,
        )

    needs = frozenset({"system"}) if spec.system else frozenset()
    return Case(
        spec.id,
        spec.title,
        Kind.SCORED,
        Category(spec.category),
        script,
        needs,
        spec.repeats,
        weight=spec.weight,
    )


def check_shape(spec: Spec) -> None:
    """Check every member of a spec but what its grader expects. BadSpec names the first problem."""
    if not CASE_ID.fullmatch(spec.id):
        raise BadSpec(
            "The id must be X followed by 1 to 19 capital letters or digits, such as XINVOICE2."
        )
    if spec.category not in CATEGORIES:
        raise BadSpec(f"The category must be one of: {', '.join(CATEGORIES)}.")
    if spec.grader not in GRADERS:
        raise BadSpec(f"The grader must be one of: {', '.join(GRADERS)}.")
    if not spec.prompt.strip() or len(spec.prompt) > MAX_PROMPT:
        raise BadSpec(f"The prompt must have 1 to {MAX_PROMPT} characters.")
    if not 1 <= spec.repeats <= 9:
        raise BadSpec("The repeats must be between 1 and 9.")
    if not 16 <= spec.max_tokens <= 8000:
        raise BadSpec("The maximum answer tokens must be between 16 and 8000.")
    if not 0.1 <= spec.weight <= 10:
        raise BadSpec("The weight must be between 0.1 and 10.")


def rehearse(spec: Spec, answer: str) -> Grade:
    """Grade an answer as the case would, for trying it on samples. BadSpec when it cannot work."""
    made = case(spec)
    reply = Reply((Text(answer),), "end_turn", Usage(1, max(1, len(answer) // 4)), Timing(1.0))
    return made.script(Ref(0, spec.id, 0)).grade((reply,), Context())


def fingerprint(specs: Iterable[Spec]) -> str:
    """Return a hash of operators' cases, whatever their order; empty without any. Part of a run's
    suite version.
    """
    rows = sorted(json.dumps(asdict(spec), sort_keys=True, ensure_ascii=False) for spec in specs)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:8] if rows else ""
