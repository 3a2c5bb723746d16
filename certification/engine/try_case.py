"""Show one case with its expected answers, or try it against a model, outside any job. Nothing is
stored.
"""

from __future__ import annotations

import time
from typing import Any

from certification.engine import evidence, runner, trials
from certification.engine.calls import Caller
from certification.engine.worker import get_worker
from certification.inference import Outcome, Request
from certification.lib import event_loop
from certification.lib.event_loop import Stop
from certification.models import AIModel, Region, Tier
from certification.suite import synthetic_replies
from certification.suite.case import Answer, Case, Ref
from certification.suite.plan import Trial


def show(case: Case, ref: Ref) -> dict[str, Any]:
    """Encode what a trial sends, call by call, with the answer that passes and a near miss."""
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
                "passes": answer_json(step.expected),
                "nearly": answer_json(step.near_miss),
            }
        )
        if isinstance(request, Request) and step.expected is not None:
            outcomes = (*outcomes, synthetic_replies.reply(request, step.expected))
    return {"variant": script.variant, "steps": steps}


def answer_json(answer: Answer | None) -> list[Any] | None:
    """Encode the content of an expected answer."""
    return None if answer is None else [evidence.block(block) for block in answer.content]


def try_case(model: AIModel, region: Region, case: Case, ref: Ref) -> dict[str, Any]:
    """Run one trial of a case now, through the region's first route that answers. Returns its
    evidence as JSON.

    Raises Unauthenticated when the credentials do not work.
    """
    worker = get_worker()
    routes = model.routes.filter(region=region)
    caller = Caller(
        worker.bedrock,
        worker.limiter,
        region.code,
        runner.targets_of(model, routes, worker.preflight.listing(region.code)),
        deadline=time.monotonic() + runner.timeout_s(Tier.FULL),
        stop=Stop(),
    )
    trial = Trial(case, ref.trial)
    work = trials.play(
        trial,
        trial.script(ref.seed),
        caller,
        context=runner.context_of(model),
        capabilities=frozenset(model.capabilities),
        refusals={},
    )
    return evidence.trial(*event_loop.run(work))
