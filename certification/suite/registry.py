"""Which cases there are, which of them a model gets, and what they cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from certification.inference import EmbedRequest, Outcome, Request
from certification.suite import custom, embedding, synthetic_replies
from certification.suite.case import (
    ALL_CAPABILITIES,
    REASONING_ROOM,
    Answer,
    Case,
    Ref,
    Script,
    text_answer,
)
from certification.suite.cases.context import CONTEXT
from certification.suite.cases.deep import DEEP
from certification.suite.cases.gates import GATES
from certification.suite.cases.instructions import INSTRUCTIONS
from certification.suite.cases.performance import INFORMATION, PERFORMANCE
from certification.suite.cases.portuguese import PORTUGUESE
from certification.suite.cases.reasoning import REASONING
from certification.suite.cases.streaming import STREAMING
from certification.suite.cases.structured import STRUCTURED
from certification.suite.cases.tools import TOOLS
from certification.suite.cases.vision import VISION
from certification.suite.scoring import CaseOutcome, humanize
from certification.suite.sentences import wording

TEXT = "text"
EMBEDDING = "embedding"

_FULL = (
    *GATES, *TOOLS, *STRUCTURED, *STREAMING, *INSTRUCTIONS, *PORTUGUESE, *REASONING, *CONTEXT,
    *VISION, *PERFORMANCE, *INFORMATION,
)  # fmt: skip
_DEEP = tuple(c for c in _FULL if not c.whole_run) + DEEP + tuple(c for c in _FULL if c.whole_run)

# In running order: the first is the access gate.
_SUITES: dict[str, dict[str, tuple[Case, ...]]] = {
    TEXT: {"quick": GATES, "full": _FULL, "deep": _DEEP},
    EMBEDDING: {"quick": embedding.CASES, "full": embedding.CASES, "deep": embedding.CASES},
}
BY_ID: dict[str, Case] = {case.id: case for tiers in _SUITES.values() for case in tiers["deep"]}

# Cases whose passing shows that the model takes a feature on the operation of the last call. What
# single calls find out besides, their steps name (case.Probe).
PROBES = {"G05": "stop_sequences", "G06": "system", "G11": "tools"}


def has_suite(kind: str) -> bool:
    """Check whether models of this kind ("text", "embedding", "image"...) can be tested at all."""
    return kind in _SUITES


def cases(
    kind: str,
    tier: str,
    capabilities: Collection[str] = ALL_CAPABILITIES,
    own: Iterable[custom.Spec] = (),
) -> tuple[Case, ...]:
    """Return the cases that a model of this kind gets, in running order; empty for a kind without a
    suite.

    `capabilities` are those the model has or may have: a name that is missing here is known to be
    missing in the model. `own` are operators' cases, which text models get beyond the quick tier,
    before the cases over the whole run. KeyError for an unknown tier; custom.BadSpec for an
    operator's case that cannot work.
    """
    shipped = all_cases(kind, tier)
    mine = tuple(custom.case(spec) for spec in own) if kind == TEXT and tier != "quick" else ()
    last = tuple(case for case in shipped if case.whole_run)
    ordered = (*(case for case in shipped if not case.whole_run), *mine, *last)
    return tuple(case for case in ordered if case.needs <= set(capabilities))


def skipped(kind: str, tier: str, capabilities: Collection[str]) -> tuple[CaseOutcome, ...]:
    """Return the cases that do not apply to a model, each with the reason."""
    outcomes = []
    for case in all_cases(kind, tier):
        missing = sorted(case.needs - set(capabilities))
        if missing:
            names = ", ".join(humanize(name) for name in missing)
            outcomes.append(CaseOutcome(case, skipped=wording("not_supported", capabilities=names)))
    return tuple(outcomes)


def all_cases(kind: str, tier: str) -> tuple[Case, ...]:
    """Return the shipped cases of a tier, whatever a model can do."""
    return _SUITES[kind][tier] if kind in _SUITES else ()


@dataclass(frozen=True)
class Estimate:
    """About what a run will take. Output tokens are those expected, not the maxTokens that quotas
    reserve.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    # input + maxTokens: what Bedrock counts against the quota while calls run
    reserved_tokens: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.reserved_tokens + other.reserved_tokens,
        )


REASONING_TOKENS = 400  # what a model that reasons is expected to think per answer


def estimate(
    kind: str,
    tier: str,
    capabilities: Collection[str] = ALL_CAPABILITIES,
    own: Iterable[custom.Spec] = (),
) -> Estimate:
    """Estimate a run without retries from the expected answers; of `own` cases, from full ones."""
    known = frozenset(capabilities) & {*ALL_CAPABILITIES, "reasoning"}
    size = sum((estimate_case(case, known) for case in cases(kind, tier, capabilities)), Estimate())
    if kind != TEXT or tier == "quick":
        return size
    reasons = "reasoning" in known
    for spec in own:
        if spec.system and "system" not in known:
            continue
        prompt = synthetic_replies.tokens(spec.prompt) + synthetic_replies.tokens(spec.system)
        output = spec.max_tokens + (REASONING_TOKENS if reasons else 0)
        reserved = prompt + spec.max_tokens + (REASONING_ROOM if reasons else 0)
        n = spec.repeats
        size += Estimate(n, n * prompt, n * output, n * reserved)
    return size


@lru_cache(maxsize=8192)
def estimate_case(case: Case, capabilities: frozenset[str]) -> Estimate:
    scripts = (case.script(Ref(0, case.id, trial)) for trial in range(case.repeats))
    return sum((estimate_script(script, capabilities) for script in scripts), Estimate())


def estimate_script(script: Script, capabilities: Collection[str] = ALL_CAPABILITIES) -> Estimate:
    """Estimate what one trial takes when every answer is the expected one."""
    total = Estimate()
    outcomes: tuple[Outcome, ...] = ()
    for step in script.steps:
        request = step.request(outcomes) if step.needs <= set(capabilities) else None
        if isinstance(request, EmbedRequest):
            tokens = sum(synthetic_replies.tokens(text) for text in request.texts)
            total += Estimate(len(request.texts), tokens, 0, tokens)
        elif isinstance(request, Request):
            if step.expected is None:  # refused before a model sees it: a call that costs nothing
                total += Estimate(1)
                reply = synthetic_replies.reply(request, text_answer(""))
            else:
                answer = Answer(step.expected.content, step.expected.stop_reason)
                reply = synthetic_replies.reply(request, answer)
                tokens = synthetic_replies.request_tokens(request)
                output = reply.usage.output_tokens if reply.usage else 0
                total += Estimate(1, tokens, output, tokens + request.max_tokens)
            outcomes = (*outcomes, reply)
            if "reasoning" in capabilities and step.room:
                total += Estimate(output_tokens=REASONING_TOKENS, reserved_tokens=REASONING_ROOM)
    return total
