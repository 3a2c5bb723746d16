"""One case by itself, outside any job: shown with its ideal answers, or run now against a model.
Nothing is stored.
"""

from __future__ import annotations

from typing import Any

from certification.engine import evidence
from certification.engine.runner import RunExecution, Stopped, worker
from certification.inference import Outcome, Request
from certification.models import AIModel, CertificationRun, Region, Tier
from certification.suite import synthetic_replies
from certification.suite.case import Answer, Case, Ref
from certification.suite.plan import Trial


def show(case: Case, ref: Ref) -> dict[str, Any]:
    """What a trial asks, call by call, with the answer that passes and one that nearly does, as
    JSON.
    """
    script = case.script(ref)
    outcomes: tuple[Outcome, ...] = ()
    steps = []
    for step in script.steps:
        request = step.request(outcomes)
        if request is None:
            continue
        steps.append(
            {
                "request": evidence.request(request),
                "passes": _answer(step.expected),
                "nearly": _answer(step.near_miss),
            }
        )
        if isinstance(request, Request) and step.expected is not None:
            outcomes = (*outcomes, synthetic_replies.reply(request, step.expected))
    return {"variant": script.variant, "steps": steps}


def _answer(answer: Answer | None) -> list[Any] | None:
    return None if answer is None else [evidence.block(block) for block in answer.content]


def try_case(model: AIModel, region: Region, case: Case, ref: Ref) -> dict[str, Any]:
    """Run one trial of a case now, through the region's first route that answers: its evidence as
    JSON.

    Stopped when the credentials do not work; the message says so.
    """
    run = CertificationRun(model=model, region=region, tier=Tier.FULL, variant_seed=ref.seed)
    execution = RunExecution(run, worker(), list(model.routes.filter(region=region)))
    execution.choose_route()
    execution.attempt(Trial(case, ref.trial))
    if execution.unauthenticated:
        raise Stopped(evidence.cut(execution.unauthenticated.message))
    [kept] = execution.trials[case.id]
    return evidence.trial(*kept)
