"""The parts of a case: a seeded script of requests, the answers of a perfect model, and a grade for
the real ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from certification.inference import AnyRequest, Block, Failure, Outcome, Request, Text, failure_of

# The names that `needs` speaks of: the catalogue's capabilities that concern how a model is called.
ALL_CAPABILITIES = frozenset({"system", "tools", "streaming_tools", "vision", "documents"})
REASONING_ROOM = 2000  # tokens added to maxTokens for models that think before they answer


class Kind(StrEnum):
    """What a case's outcome is used for (SUITE: G, S, P, I)."""

    GATE = "gate"
    SCORED = "scored"
    PERFORMANCE = "performance"
    INFORMATION = "information"


class Category(StrEnum):
    """What a case is about. The first eight carry weight in the quality figure."""

    TOOLS = "tools"
    JSON = "json"
    INSTRUCTIONS = "instructions"
    PORTUGUESE = "portuguese"
    STREAMING = "streaming"
    CONTEXT = "context"
    REASONING = "reasoning"
    VISION = "vision"
    CONTRACT = "contract"
    LATENCY = "latency"
    DETERMINISM = "determinism"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Answer:
    """What a model says to one request: for the emulator and the tests.

    `stop_reason` is left to whoever serves it when empty.
    `input_tokens` is the count that the service reports; None = counted honestly.
    """

    content: tuple[Block, ...]
    stop_reason: str = ""
    input_tokens: int | None = None


def text_answer(text: str) -> Answer:
    """Return an answer of one text block."""
    return Answer((Text(text),))


@dataclass(frozen=True)
class Grade:
    """How one trial went. `valid` is False when infrastructure ended it, so that it says nothing
    about the model.

    `sentence` is one English sentence a person understands; `evidence` is small JSON (expected,
    found, ...). `lacks` names a capability that this trial proved absent (a refused stop sequence).
    With `passed` False the case is then skipped, not failed; with `passed` True the rest of the
    case went well without it. `skipped` says why the trial does not apply to the API that the model
    was called by; "" = it does.
    """

    passed: bool
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    valid: bool = True
    cause: Failure | None = None
    lacks: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Context:
    """What a grade may need beyond the replies: the model's facts and a reference region's input
    tokens.

    `reference_input_tokens` belongs to the very same prompt, hence to a run with the same seed.
    """

    reasoning: bool = False
    reference_input_tokens: int | None = None
    texts: tuple[str, ...] = ()  # every text of the run, for the leak gate
    dimensions: int | None = None  # the catalogue's vector length, embedding models
    context_window: int | None = None  # tokens, by the catalogue


@dataclass(frozen=True)
class Probe:
    """A feature that a call tries and that its script can do without. `refused` recognises
    the refusal of it.
    """

    feature: str
    refused: Callable[[Outcome], bool]


Feature = tuple[str, str]  # an operation's wire name and what it takes or refuses


@dataclass
class ProbeCache:
    """What the model is known to refuse before a trial, and what the trial's probes add.

    `refused` holds earlier refusals: each replaces a call that would only bring it again.
    `skipped` are those that did, `observed` what calls showed: a refusal, or None for a feature
    that was taken.
    """

    refused: Mapping[Feature, Failure] = field(default_factory=dict)
    skipped: set[Feature] = field(default_factory=set)
    observed: dict[Feature, Failure | None] = field(default_factory=dict)

    def outcome_of(
        self, probe: Probe | None, request: AnyRequest
    ) -> Generator[AnyRequest, Outcome, Outcome]:
        """Return the outcome of a request: of a call that is yielded, or as it is remembered."""
        if probe is None:
            return (yield request)
        feature = (str(request.operation), probe.feature)
        known = self.refused.get(feature)
        if known is not None:
            self.skipped.add(feature)
            return known
        outcome = yield request
        if not isinstance(outcome, Failure):
            if not failure_of(outcome):
                self.observed[feature] = None
        elif probe.refused(outcome):
            self.observed[feature] = outcome
        return outcome


@dataclass(frozen=True)
class Step:
    """One call of a trial. `expected` passes, `near_miss` looks right and must not.

    `request` is built from the outcomes so far; None = this call is not needed (a fallback that
    nothing called for) and leaves no outcome. A model without one of `needs` gets the trial without
    this call. `room` False: maxTokens is what is tested and stays as it is for models that reason.
    `probe` is what the call finds out, where the script can do without.
    """

    request: Callable[[tuple[Outcome, ...]], AnyRequest | None]
    expected: Answer | None = None  # None: the service is expected to refuse the request
    near_miss: Answer | None = None
    needs: frozenset[str] = frozenset()
    room: bool = True
    probe: Probe | None = None


@dataclass(frozen=True)
class Script:
    """One trial, ready to run: its steps in order and the grade of their outcomes.

    A failed step ends the trial unless `continue_on_failure`.
    """

    ref: Ref
    variant: int
    steps: tuple[Step, ...]
    grade: Callable[[tuple[Outcome, ...], Context], Grade]
    continue_on_failure: bool = False


@dataclass(frozen=True)
class Ref:
    """Which trial of which run a prompt belongs to: printed into the prompt as its nonce, read back
    by the answer key.
    """

    seed: int
    case_id: str
    trial: int
    step: int = 0

    PATTERN = re.compile(r"\(ref ([0-9a-f]{8})-([A-Z]\w*)-(\d+)-(\d+)\)")

    def __str__(self) -> str:
        return f"(ref {self.seed:08x}-{self.case_id}-{self.trial}-{self.step})"

    @classmethod
    def find(cls, text: str) -> Ref | None:
        """Return the last reference in a text, or None."""
        last = None
        for match in cls.PATTERN.finditer(text):
            last = match
        return last and cls(int(last[1], 16), last[2], int(last[3]), int(last[4]))

    def rng(self) -> random.Random:
        """Return the trial's own generator: the same for the same seed, case and trial."""
        return random.Random(f"{self.seed}/{self.case_id}/{self.trial}")


@dataclass(frozen=True)
class Case:
    """One test of the suite. `needs` are capability names of the catalogue; a model without one of
    them skips the case.

    `script` gives the trial that a Ref names, the same one for the same Ref. `repeats` is how many
    trials are planned at first, `weight` what the case counts within its category. A
    `whole_run` case makes no calls: it is graded after all others, over every text of the run
    (Context.texts). The trials of a `concurrent` case start at the same moment, each call tried
    once, while nothing else of the run is in flight. The answers of an `exact_form` case are read
    character by character, because programs read them or the prompt requests it; the formatting of
    all other answers does not count (formatting.RULES).
    """

    id: str
    title: str
    kind: Kind
    category: Category
    script: Callable[[Ref], Script]
    needs: frozenset[str] = frozenset()
    repeats: int = 1
    whole_run: bool = False
    weight: float = 1.0
    concurrent: bool = False
    exact_form: bool = False


def calls(
    script: Script,
    capabilities: Collection[str] = ALL_CAPABILITIES,
    probes: ProbeCache | None = None,
) -> Generator[AnyRequest, Outcome, tuple[Outcome, ...]]:
    """Yield each request of one trial, in order, and take its outcome; return all outcomes, for
    `script.grade`. Whoever drives it decides how calls are made.

    Calls for which the model lacks a capability are left out; models with "reasoning" get
    REASONING_ROOM more tokens. What `probes` knows to be refused is not called again; what the
    trial finds out is added to it.
    """
    probes = probes or ProbeCache()
    outcomes: tuple[Outcome, ...] = ()
    for step in script.steps:
        request = step.request(outcomes) if step.needs <= set(capabilities) else None
        if request is None:
            continue
        if step.room and isinstance(request, Request) and "reasoning" in capabilities:
            request = replace(request, max_tokens=request.max_tokens + REASONING_ROOM)
        outcomes += ((yield from probes.outcome_of(step.probe, request)),)
        if isinstance(outcomes[-1], Failure) and not script.continue_on_failure:
            break
    return outcomes


def execute(
    script: Script,
    call: Callable[[AnyRequest], Outcome],
    capabilities: Collection[str] = ALL_CAPABILITIES,
    probes: ProbeCache | None = None,
) -> tuple[Outcome, ...]:
    """Run one trial with a function that answers at once: each request goes through `call`."""
    requests = calls(script, capabilities, probes)
    try:
        request = next(requests)
        while True:
            request = requests.send(call(request))
    except StopIteration as end:
        outcomes: tuple[Outcome, ...] = end.value
        return outcomes
