"""Does a region serve the same model as well as another one does? The same trials in both, and what
flips between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from certification.suite import statistics
from certification.suite.case import Kind
from certification.suite.cases.gates import REFERENCE_MARGIN
from certification.suite.scoring import CaseOutcome, CaseStatus

ALARM = 0.05  # the share of false alarms among a job's alarms
TOKENS_COMPARED_BY = "G09"


@dataclass(frozen=True)
class MeasuredPair:
    """One finished run as parity sees it. `trials` maps (case id, trial) to passed, valid trials
    only.

    `proved` are the capabilities that a passed trial needed, `lacks` those that the run proved
    absent. `tokens` are the input tokens that the service counted for the prompts of
    TOKENS_COMPARED_BY, by trial.
    """

    model: str
    region: str
    seed: int
    suite_version: str
    trials: Mapping[tuple[str, int], bool] = field(default_factory=dict)
    proved: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    certified: bool = False
    tokens: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Parity:
    """How a region compares with its reference. `flips` passed there and failed here, `gains` the
    other way round.

    `p_value` is the one-sided exact test's, `adjusted` the same after Benjamini-Hochberg over the
    cells of the job. `losses` are capabilities that the reference has and this region lacks.
    `counted` says that the same prompt counts other tokens here, which no luck explains. `sentence`
    is for people; empty without alarm.
    """

    model: str
    region: str
    reference: str
    compared: int
    flips: tuple[tuple[str, int], ...]
    gains: tuple[tuple[str, int], ...]
    p_value: float
    adjusted: float
    losses: frozenset[str] = frozenset()
    sentence: str = ""
    counted: str = ""

    @property
    def alarm(self) -> bool:
        """Whether more trials flipped than chance explains, or a prompt counts other tokens."""
        return bool(self.sentence)


def trials_of(outcomes: Iterable[CaseOutcome]) -> dict[tuple[str, int], bool]:
    """Return the valid trials of gates and scored cases by (case id, trial), in the form that
    `MeasuredPair.trials` and the paired tests take.

    A trial's number is its place in the case, which is what its prompt was drawn from; throttled
    trials leave a hole. Retries of gates are left out: they happen only after a failure, so that
    they would count a failure twice.
    """
    trials = {}
    for outcome in outcomes:
        gate = outcome.case.kind == Kind.GATE
        if outcome.status == CaseStatus.SKIPPED or not (gate or outcome.case.kind == Kind.SCORED):
            continue
        valid = [(i, t.passed) for i, t in enumerate(outcome.trials) if t.valid]
        for i, passed in valid[:1] if gate else valid:
            trials[outcome.case.id, i] = passed
    return trials


def proved_capabilities(outcomes: Iterable[CaseOutcome]) -> frozenset[str]:
    """Return the capabilities that a passed trial needed and that no trial of the run proved
    absent.
    """
    outcomes = list(outcomes)
    needed = {name for o in outcomes if o.passes for name in o.case.needs}
    return frozenset(needed - {o.lacks for o in outcomes})


def reference_of(cells: Sequence[MeasuredPair]) -> MeasuredPair | None:
    """Return the cell that the others are compared with: the first certified one in the order of
    the job's regions, else None.

    Choosing the one with the most passes instead would make every other region look worse than it
    is.
    """
    return next((cell for cell in cells if cell.certified), None)


def compare(reference: MeasuredPair, cells: Iterable[MeasuredPair]) -> tuple[Parity, ...]:
    """Compare each cell with its reference, p values adjusted over all of them. The reference
    itself is left out.

    ValueError for a cell of another model, seed or suite: its requests were others.
    """
    return adjust(
        [compare_one(reference, cell) for cell in cells if cell.region != reference.region]
    )


def compare_one(reference: MeasuredPair, cell: MeasuredPair) -> Parity:
    """Compare one cell with its reference, before the adjustment. ValueError as for `compare`."""
    if (cell.model, cell.seed, cell.suite_version) != (
        reference.model,
        reference.seed,
        reference.suite_version,
    ):
        raise ValueError(f"{cell.region} was not sent the same requests as {reference.region}.")
    pairs = statistics.pair(reference.trials, cell.trials)
    counted = ""
    for trial in sorted(reference.tokens.keys() & cell.tokens.keys()):
        theirs, ours = reference.tokens[trial], cell.tokens[trial]
        if not theirs <= ours <= theirs + REFERENCE_MARGIN:
            counted = (
                f"the same prompt counts {ours} input tokens here and {theirs} in "
                f"{reference.region} ({TOKENS_COMPARED_BY}): a different model or chat template"
            )
            break
    return Parity(
        model=cell.model,
        region=cell.region,
        reference=reference.region,
        compared=pairs.compared,
        flips=tuple(sorted(pairs.losses)),
        gains=tuple(sorted(pairs.gains)),
        p_value=pairs.p_value,
        adjusted=pairs.p_value,
        losses=reference.proved & cell.lacks,
        counted=counted,
    )


def adjust(comparisons: Sequence[Parity], alarm: float = ALARM) -> tuple[Parity, ...]:
    """Correct over the cells of a job, all models together, and write the sentence of each alarm:
    adjusted p <= `alarm`, or other token counts.

    Call it once with every comparison of the job; comparisons that were adjusted before are
    adjusted anew.
    """
    p_values = statistics.benjamini_hochberg([parity.p_value for parity in comparisons])
    adjusted = []
    for parity, p_value in zip(comparisons, p_values, strict=True):
        flips = ""
        if p_value <= alarm:
            cases = ", ".join(dict.fromkeys(case for case, _trial in parity.flips))
            flips = (
                f"{len(parity.flips)} of {parity.compared} trials passed in {parity.reference} "
                f"and failed here ({cases}), {len(parity.gains)} the other way round "
                f"(p = {p_value:.2g})"
            )
        sentence = "; ".join(filter(None, (flips, parity.counted)))
        adjusted.append(replace(parity, adjusted=p_value, sentence=sentence))
    return tuple(adjusted)
