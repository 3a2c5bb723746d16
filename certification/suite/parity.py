"""Does a region serve the same model as well as another one does? The same trials in both, and what
flips between them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from certification.suite import statistics
from certification.suite.case import Kind
from certification.suite.cases.gates import REFERENCE_MARGIN
from certification.suite.scoring import CaseOutcome, CaseStatus

ALARM = 0.05  # the share of false alarms among a job's alarms
TOKENS_COMPARED_BY = "G09"


@dataclass(frozen=True)
class Cell:
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
    """How a region stands beside its reference. `flips` passed there and failed here, `gains` the
    other way round.

    `p_value` is the one-sided exact test's, `adjusted` the same after Benjamini-Hochberg over the
    cells of the job. `losses` are capabilities that the reference has and this region lacks.
    `counted` says that the same prompt counts other tokens here, which no luck explains. `sentence`
    is for people; "" without alarm.
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
        """Whether more trials flipped than luck explains, or the same prompt counts other tokens."""
        return bool(self.sentence)


def trials_of(outcomes: Iterable[CaseOutcome]) -> dict[tuple[str, int], bool]:
    """The valid trials of gates and scored cases by (case id, trial), as `Cell.trials` and the
    paired tests take them.

    A trial's number is its place in the case, which is what its prompt was drawn from; throttled
    trials leave a hole. Retries of gates are left out: they happen only after a failure, so that
    they would count a failure twice.
    """
    found = {}
    for outcome in outcomes:
        if (
            outcome.case.kind not in (Kind.GATE, Kind.SCORED)
            or outcome.status == CaseStatus.SKIPPED
        ):
            continue
        valid = [(i, t.passed) for i, t in enumerate(outcome.trials) if t.valid]
        kept = valid[:1] if outcome.case.kind == Kind.GATE else valid
        found.update({(outcome.case.id, i): passed for i, passed in kept})
    return found


def proved_capabilities(outcomes: Iterable[CaseOutcome]) -> frozenset[str]:
    """The capabilities that a passed trial needed and that no trial of the run proved absent."""
    outcomes = list(outcomes)
    needed = {name for o in outcomes if o.passes for name in o.case.needs}
    return frozenset(needed - {o.lacks for o in outcomes})


def reference_of(cells: Sequence[Cell]) -> Cell | None:
    """The cell that the others are compared with: the first certified one in the order of the job's
    regions, else None.

    Choosing the one with the most passes instead would make every other region look worse than it
    is.
    """
    return next((cell for cell in cells if cell.certified), None)


def compare(reference: Cell, cells: Iterable[Cell]) -> tuple[Parity, ...]:
    """Each cell beside its reference, p values adjusted over all of them. The reference itself is
    left out.

    ValueError for a cell of another model, seed or suite: it was not asked the same.
    """
    return adjust([_beside(reference, cell) for cell in cells if cell.region != reference.region])


def _beside(reference: Cell, cell: Cell) -> Parity:
    if _asked(cell) != _asked(reference):
        raise ValueError(f"{cell.region} was not asked the same as {reference.region}.")
    pairs = statistics.pair(reference.trials, cell.trials)
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
        counted=_counted(reference, cell),
    )


def _counted(reference: Cell, cell: Cell) -> str:
    """What is to be said where the same prompt counts fewer tokens than in the reference, or over
    REFERENCE_MARGIN more.
    """
    for trial in sorted(reference.tokens.keys() & cell.tokens.keys()):
        theirs, ours = reference.tokens[trial], cell.tokens[trial]
        if not theirs <= ours <= theirs + REFERENCE_MARGIN:
            return (
                f"the same prompt counts {ours} input tokens here and {theirs} in {reference.region} "
                f"({TOKENS_COMPARED_BY}): another model or another template"
            )
    return ""


def _asked(cell: Cell) -> tuple[Hashable, ...]:
    return cell.model, cell.seed, cell.suite_version


def adjust(found: Sequence[Parity], alarm: float = ALARM) -> tuple[Parity, ...]:
    """Correct over the cells of a job, all models together, and say where there is an alarm:
    adjusted p <= `alarm`.

    Call it once with every comparison of the job; comparisons that were adjusted before are
    adjusted anew.
    """
    adjusted = statistics.benjamini_hochberg([p.p_value for p in found])
    return tuple(_said(p, q, alarm) for p, q in zip(found, adjusted, strict=True))


def _said(parity: Parity, adjusted: float, alarm: float) -> Parity:
    said = ""
    if adjusted <= alarm:
        cases = ", ".join(dict.fromkeys(case for case, _trial in parity.flips))
        said = (
            f"{len(parity.flips)} of {parity.compared} trials passed in {parity.reference} and failed here "
            f"({cases}), {len(parity.gains)} the other way round (p = {adjusted:.2g})"
        )
    return replace(
        parity, adjusted=adjusted, sentence="; ".join(filter(None, (said, parity.counted)))
    )
