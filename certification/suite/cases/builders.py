"""Build the requests and scripts of cases: the reference in every prompt, one call or several, and
what a refusal means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from certification.inference import AnyRequest, Failure, Operation, Outcome, Request, Tool, user
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

# maxTokens of a short answer: never a probe of one token, and so little that it reserves hardly any
# quota
DEFAULT_MAX_TOKENS = 300
# What no model ends before maxTokens cuts it.
ENDLESS = "Count from 1 to 1000 in digits, one number per line. Leave none out and write them all."

NO_TOOL_CHOICE = r"tool[\s_]*choice"
NO_STREAMING_TOOLS = r"tool\w*( use)? (in|with|when|while)\b.*stream|stream\w*( mode)?.*\btool"
NO_TOOLS = r"support\w* (the )?tool|tool\w*( use)? (is|are) not supported"
NO_STREAMING = r"unsupported for streaming|support\w* streaming"
_REFUSALS = {"streaming_tools": NO_STREAMING_TOOLS, "tools": NO_TOOLS, "streaming": NO_STREAMING}

Outcomes = tuple[Outcome, ...]
Judge = Callable[[Outcomes, Context], Grade]
Check = Callable[[Outcome | None], Grade]
T = TypeVar("T")


def variant_of(ref: Ref, count: int) -> int:
    """Return which of `count` variants a trial uses; they rotate, starting where the seed says."""
    return (ref.seed + ref.trial) % count


def with_reference(ref: Ref, text: str, step: int = 0) -> str:
    """Append the reference of the trial and step to a text."""
    return f"{text}\n{replace(ref, step=step)}"


def always(request: AnyRequest) -> Callable[[Outcomes], AnyRequest]:
    """Build a step's request that does not depend on earlier outcomes."""
    return lambda outcomes: request


def at(outcomes: Sequence[T], index: int) -> T | None:
    """Return the outcome of a call, or None when it was not made."""
    return outcomes[index] if index < len(outcomes) else None


def single_turn(
    ref: Ref,
    prompt: str,
    operation: Operation = Operation.CONVERSE,
    *,
    step: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    **more: Any,
) -> Request:
    """Build a request of one user message with its reference; `more` are fields of Request."""
    return Request((user(with_reference(ref, prompt, step)),), max_tokens, operation, **more)


def refuses_forced_call(outcome: Outcome | None) -> bool:
    """Tell whether a call was refused because the model cannot be forced to call a tool."""
    return graders.refuses(outcome, NO_TOOL_CHOICE)


TOOL_CHOICE_PROBE = Probe("tool_choice", refuses_forced_call)


def one_call(
    ref: Ref,
    variants: int,
    request: Request,
    grade: Judge,
    *,
    expected: Answer | str,
    near_miss: Answer | str,
    fixed_limit: bool = False,
) -> Script:
    """Build the trial of one call, graded with the run's context.

    A text is an answer of one text block. `fixed_limit` leaves maxTokens as it is for models that
    reason.
    """
    right = text_answer(expected) if isinstance(expected, str) else expected
    wrong = text_answer(near_miss) if isinstance(near_miss, str) else near_miss
    step = Step(always(request), right, wrong, room=not fixed_limit)
    return Script(ref, variant_of(ref, variants), (step,), grade)


def one_answer(
    ref: Ref,
    variants: int,
    request: Request,
    check: Check,
    *,
    expected: Answer | str,
    near_miss: Answer | str,
    fixed_limit: bool = False,
) -> Script:
    """Build the trial of one call whose answer alone decides. If what the case tests is refused,
    the model lacks it and does not fail.
    """

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        return missing_capability(request, outcome) or check(outcome)

    return one_call(
        ref,
        variants,
        request,
        grade,
        expected=expected,
        near_miss=near_miss,
        fixed_limit=fixed_limit,
    )


def missing_capability(request: Request, outcome: Outcome | None) -> Grade | None:
    """Grade a call that was refused because the model cannot stream or does not support tools; None
    for all others.
    """
    if not isinstance(outcome, Failure):
        return None
    streams, tools = request.operation == Operation.STREAM, bool(request.tools)
    for capability, applies in (
        ("streaming_tools", streams and tools),
        ("tools", tools),
        ("streaming", streams),
    ):
        if applies and graders.refuses(outcome, _REFUSALS[capability]):
            return graders.lacks(capability, outcome)
    return None


def object_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of an object with these properties, all required, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def tool(name: str, description: str, **properties: Mapping[str, Any]) -> Tool:
    """Return a tool whose properties are all required."""
    return Tool(
        name,
        description,
        {"type": "object", "properties": properties, "required": list(properties)},
    )


def scored_case(
    case_id: str,
    title: str,
    category: Category,
    script: Callable[[Ref], Script],
    *needs: str,
    exact_form: bool = False,
) -> Case:
    """Return a case of three repeats that counts in the quality figure."""
    kind, required = Kind.SCORED, frozenset(needs)
    return Case(case_id, title, kind, category, script, required, repeats=3, exact_form=exact_form)
