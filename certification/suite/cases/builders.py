"""How cases put their questions: the reference in every prompt, one call or several, what a refusal
means.
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
)

# maxTokens of a short answer: never a probe of one token, and little enough to reserve no quota in
# earnest
ROOM = 300

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
    """Which of `count` variants a trial asks: they rotate from a start that the seed picks."""
    return (ref.seed + ref.trial) % count


def nonce(ref: Ref, text: str, step: int = 0) -> str:
    """The text with the reference of its trial and step behind it."""
    return f"{text}\n{replace(ref, step=step)}"


def always(request: AnyRequest) -> Callable[[Outcomes], AnyRequest]:
    """The request of a step that does not depend on what came before."""
    return lambda outcomes: request


def at(outcomes: Sequence[T], index: int) -> T | None:
    """The outcome of a call, or None when it was not made."""
    return outcomes[index] if index < len(outcomes) else None


def ask(
    ref: Ref,
    prompt: str,
    operation: Operation = Operation.CONVERSE,
    *,
    step: int = 0,
    room: int = ROOM,
    **more: Any,
) -> Request:
    """One user message with its reference, and nothing that is not needed; `more` are members of
    Request.
    """
    return Request((user(nonce(ref, prompt, step)),), room, operation, **more)


def cannot_force(outcome: Outcome | None) -> bool:
    """Whether a call was refused because the model cannot be made to call one tool."""
    return graders.refuses(outcome, NO_TOOL_CHOICE)


TOOL_CHOICE = Probe("tool_choice", cannot_force)


def one_call(
    ref: Ref,
    variants: int,
    request: Request,
    grade: Judge,
    *,
    expected: Answer,
    near_miss: Answer,
    room: bool = True,
) -> Script:
    """The trial of one call, graded with the run's context."""
    return Script(
        ref,
        variant_of(ref, variants),
        (Step(always(request), expected, near_miss, room=room),),
        grade,
    )


def one_answer(
    ref: Ref,
    variants: int,
    request: Request,
    check: Check,
    *,
    expected: Answer,
    near_miss: Answer,
    room: bool = True,
) -> Script:
    """The trial of one call whose answer alone decides. A refusal of what the case is about is a
    lack, no failure.
    """

    def grade(outcomes: Outcomes, context: Context) -> Grade:
        outcome = at(outcomes, 0)
        return lacking(request, outcome) or check(outcome)

    return one_call(
        ref, variants, request, grade, expected=expected, near_miss=near_miss, room=room
    )


def lacking(request: Request, outcome: Outcome | None) -> Grade | None:
    """The grade of a call that was refused because the model cannot stream or takes no tools; None
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


def tool(name: str, description: str, **properties: Mapping[str, Any]) -> Tool:
    """A tool whose properties are all required."""
    return Tool(
        name,
        description,
        {"type": "object", "properties": properties, "required": list(properties)},
    )


def scored(
    case_id: str, title: str, category: Category, script: Callable[[Ref], Script], *needs: str
) -> Case:
    """A case of three repeats that counts in the quality figure."""
    return Case(case_id, title, Kind.SCORED, category, script, frozenset(needs), repeats=3)
