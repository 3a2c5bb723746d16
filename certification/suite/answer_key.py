"""The answer key: from the reference in a prompt back to what a perfect, or a nearly right, model
would answer.
"""

from __future__ import annotations

from functools import lru_cache

from certification.suite.case import Category, Ref, Script, Step
from certification.suite.registry import BY_ID


def answer(ref: Ref, step: int) -> Step | None:
    """Return a step of the trial that `ref` names; None where no trial has it."""
    script = script_of(ref.seed, ref.case_id, ref.trial)
    return script.steps[step] if script and 0 <= step < len(script.steps) else None


def category(case_id: str) -> Category | None:
    """Return what a case is about; None for an unknown case."""
    case = BY_ID.get(case_id)
    return case.category if case else None


@lru_cache(maxsize=8192)
def script_of(seed: int, case_id: str, trial: int) -> Script | None:
    """Return a trial's script; None for an unknown case."""
    case = BY_ID.get(case_id)
    return case.script(Ref(seed, case_id, trial)) if case else None
