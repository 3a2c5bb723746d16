"""Runs of the real plan, cases and judgement over a model that is a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from certification.inference import AnyRequest, Failure, Outcome, Reply, Request, Text
from certification.reasons import Reason
from certification.suite import answer_key, plan, registry, scoring, synthetic_replies
from certification.suite.case import Answer, Case, Context, Grade, Ref, execute
from certification.suite.scoring import Calls, Judgement, Run

Model = Callable[[AnyRequest], Outcome]


def text_of(request: AnyRequest) -> str:
    """Every text of a request's messages."""
    assert isinstance(request, Request)
    return "\n".join(b.text for m in request.messages for b in m.content if isinstance(b, Text))


def faultless(request: AnyRequest) -> Outcome:
    """Answer as a perfect model behind a perfect service does."""
    assert isinstance(request, Request)
    ref = Ref.find(text_of(request))
    step = answer_key.answer(ref, ref.step) if ref else None
    assert step is not None
    if step.expected is None:
        return Failure(
            Reason.MALFORMED_REQUEST, "Invalid.", "ValidationException", 400, request.operation
        )
    return synthetic_replies.reply(request, step.expected)


def saying(text: str, stop_reason: str = "") -> Model:
    """A model with one answer to everything."""

    def call(request: AnyRequest) -> Reply:
        assert isinstance(request, Request)
        reply = synthetic_replies.reply(request, Answer((Text(text),)))
        return replace(reply, stop_reason=stop_reason or reply.stop_reason)

    return call


def trial(case: Case, model: Model, number: int = 0, seed: int = 41, **context: object) -> Grade:
    """The grade of one trial of a case."""
    script = case.script(Ref(seed, case.id, number))
    return script.grade(execute(script, model), Context(**context))  # type: ignore[arg-type]


def quick_run(model: Model, seed: int = 41) -> Judgement:
    """The judgement of a run of all gates, with their retries."""
    cases = registry.cases("text", "quick")
    grades: dict[str, list[Grade]] = {case.id: [] for case in cases}
    outcomes: list[Outcome] = []

    def call(request: AnyRequest) -> Outcome:
        outcomes.append(model(request))
        return outcomes[-1]

    while due := plan.next_trials(cases, grades):
        for next_trial in due:
            grades[next_trial.case.id].append(trial(next_trial.case, call, next_trial.index, seed))
    return scoring.judge(Run("quick", plan.outcomes_of(cases, grades), calls=Calls.of(outcomes)))
