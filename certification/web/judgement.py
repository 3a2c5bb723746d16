"""Judge a stored run again to show why it has its verdict: where the points went, which conditions
are met, how fast it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.engine import rescore
from certification.models import Backend, CertificationRun, TestResult
from certification.suite import losses, scoring
from certification.suite.case import Kind
from certification.suite.losses import Account, Cap, Condition, Loss
from certification.suite.policy import MEASURED_BY, POLICY, TARGETS
from certification.suite.scoring import CaseOutcome
from certification.suite.statistics import Summary
from certification.web import charts

WORTH_SHOWING = 0.05  # points: less is 0.0 in a table
CASES_NAMED = 4


class LossRow(NamedTuple):
    """One line of the table about lost points, as text; `would_be` is None where nothing would
    change, `cases` those to blame.
    """

    part: str | Promise
    label: str | Promise
    weight: str
    value: str
    points: str
    cases: Sequence[str]
    would_be: scoring.Judgement | None


class ConditionRow(NamedTuple):
    """One condition as text."""

    is_met: bool
    label: str
    figure: str
    line: str
    cases: Sequence[str]
    problem: str  # the condition as a sentence where it is not met


@dataclass(frozen=True)
class Explanation:
    """A run judged again by the present policy, from its stored trials."""

    stored: CertificationRun
    run: scoring.Run
    judgement: scoring.Judgement
    account: Account | None
    conditions: Sequence[Condition]

    @property
    def differs(self) -> bool:
        """Whether the present policy gives another score than the run got."""
        return self.account is not None and self.account.score != self.stored.score

    @cached_property
    def lost(self) -> list[Loss]:
        """What lost points worth showing, the most first."""
        rows = self.account.losses if self.account else ()
        return [loss for loss in rows if loss.points >= WORTH_SHOWING]

    @cached_property
    def caps(self) -> list[Cap]:
        rows = self.account.caps if self.account else ()
        return [cap for cap in rows if cap.points >= WORTH_SHOWING]

    @property
    def points_lost(self) -> str:
        """How many points were lost and on what most, in a sentence; "" without a score."""
        if self.account is None:
            return ""
        lost = round(self.account.lost)
        if not lost:
            return _("No point was lost.")
        words = ngettext("%(n)d point lost", "%(n)d points lost", lost) % {"n": lost}
        if not self.lost:
            return f"{words}."
        parts = {"words": words, "what": loss_label(self.lost[0])}
        return _("%(words)s, most on: %(what)s.") % parts

    @property
    def loss_rows(self) -> list[LossRow]:
        """The table: losses, the most first, then what caps took."""
        rows = [
            LossRow(
                part=labels.SCORE_PARTS[loss.part],
                label=loss_label(loss),
                weight=decimal(loss.weight),
                value=f"{number_format(round(100 * loss.value), 0)} %",
                points=decimal(loss.points),
                cases=[case for case, _points in loss.cases],
                would_be=loss.fixed,
            )
            for loss in self.lost
        ]
        return rows + [
            LossRow(
                part=_("limit"),
                label=cap_label(cap),
                weight="",
                value="",
                points=decimal(cap.points),
                cases=cap.cases,
                would_be=cap.fixed,
            )
            for cap in self.caps
        ]

    @property
    def waterfall(self) -> SafeString | str:
        """The same as a picture; "" where nothing was lost."""
        if self.account is None or not (self.lost or self.caps):
            return ""
        steps = [
            charts.Step(str(loss_label(loss)), loss.points, f"p-{loss.part.value}")
            for loss in self.lost
        ]
        steps += [charts.Step(cap_label(cap), cap.points, "p-cap") for cap in self.caps]
        return charts.waterfall(
            _("From 100 points to the score"),
            steps,
            self.account.score,
            mark=POLICY.line,
            words=(_("Score"), _("certified from %d") % POLICY.line),
            low=self.account.low,
        )

    @property
    def condition_rows(self) -> list[ConditionRow]:
        """The conditions of a certificate, those not met first."""
        rows = sorted(self.conditions, key=lambda row: row.is_met)
        return [condition_row(row) for row in rows]

    @property
    def unmet(self) -> list[ConditionRow]:
        return [row for row in self.condition_rows if not row.is_met]

    @cached_property
    def speeds(self) -> list[Speed]:
        """What was measured of each figure of speed that was."""
        target = TARGETS[self.run.model_class]
        lines = {
            "ttft_ms": (target.ttft_target_ms, target.ttft_limit_ms, self.judgement.ttft),
            "tokens_per_second": (target.tps_target, target.tps_limit, self.judgement.speed),
        }
        return [
            Speed(name, samples, summary, good, limit)
            for name, (good, limit, summary) in lines.items()
            if summary and (samples := samples_of(self.run.outcomes, name))
        ]


@dataclass(frozen=True)
class Speed:
    """One figure of speed: its samples, and what its class of models is expected to have."""

    name: str
    samples: Sequence[float]
    summary: Summary
    target: float
    limit: float

    @property
    def label(self) -> str | Promise:
        return labels.LOSSES[self.name]

    @property
    def unit(self) -> str:
        return "ms" if self.name == "ttft_ms" else _("tokens/s")

    @property
    def sentence(self) -> str:
        """What the picture shows."""
        figures = {
            "label": self.label,
            "median": number_format(round(self.summary.median), 0),
            "unit": self.unit,
            "n": len(self.samples),
            "target": number_format(round(self.target), 0),
            "limit": number_format(round(self.limit), 0),
        }
        return (
            _(
                "%(label)s: median %(median)s %(unit)s of %(n)d samples; %(target)s or better "
                "loses nothing, %(limit)s or worse all."
            )
            % figures
        )

    def chart(self, own: str, others: Sequence[charts.Samples], emulated: bool) -> SafeString:
        """Draw the samples of this region and, in grey, of others."""
        interval = self.summary.interval
        row = charts.Samples(
            own,
            self.samples,
            self.summary.median,
            interval.low if interval else None,
            interval.high if interval else None,
            is_emulated=emulated,
        )
        marks = [(_("target"), self.target), (_("limit"), self.limit)]
        return charts.dots(self.sentence, [row, *others], self.unit, marks)


def explain(run: CertificationRun, results: Sequence[TestResult]) -> Explanation | None:
    """Judge a run again from its results, which come `without_transcripts`; None where its evidence
    is gone, never was, or has a form of long ago.
    """
    for result in results:
        result.trials = result.summaries  # type: ignore[attr-defined]
    try:
        restored = rescore.restore(run, results)
        return Explanation(
            run,
            restored,
            scoring.judge(restored),
            losses.account_for(restored),
            losses.conditions(restored),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def samples_of(outcomes: Sequence[CaseOutcome], name: str) -> list[float]:
    """Return the samples behind a measured figure, as `scoring.measured` pools them."""
    timed = [o for o in outcomes if o.case.kind == Kind.PERFORMANCE]
    own = [o for o in timed if o.case.id == MEASURED_BY[name]]
    for pool in (own, timed):
        values = [t.evidence.get(name) for o in pool for t in o.valid if t.passed]
        if samples := [float(value) for value in values if scoring.is_measurement(value)]:
            return samples
    return []


def other_samples(result: TestResult, name: str) -> list[float]:
    """Return what the stored trials of another region's result measured; whatever was stored."""
    trials = result.summaries  # type: ignore[attr-defined]
    evidence = [
        trial.get("evidence") for trial in trials if isinstance(trial, dict) and trial.get("passed")
    ]
    values = [e.get(name) for e in evidence if isinstance(e, dict)]
    return [float(value) for value in values if scoring.is_measurement(value)]


def loss_label(loss: Loss) -> str | Promise:
    return labels.LOSSES.get(loss.name) or labels.CASE_CATEGORIES.get(loss.name, loss.name)


def cap_label(cap: Cap) -> str:
    return str(labels.CAPS[cap.name]) % {"limit": cap.limit}


def condition_row(row: Condition) -> ConditionRow:
    """Return a condition in words, its figure never rounded up to its line."""
    subject = labels.CASE_CATEGORIES.get(row.subject) or ", ".join(
        str(labels.CAPABILITIES.get(name, name.replace("_", " ")))
        for name in filter(None, row.subject.split(", "))
    )
    digits = 0 if row.at_most or row.name == "score" else 2
    figure = str(number_format(scoring.format_floor(row.figure, digits)))
    line = str(number_format(scoring.format_floor(row.line, digits)))
    facts = {"subject": subject, "figure": figure, "line": line, "cases": ", ".join(row.cases)}
    return ConditionRow(
        row.is_met,
        str(labels.CONDITIONS[row.name]) % {"subject": subject},
        figure,
        f"{'≤' if row.at_most else '≥'} {line}",
        row.cases,
        "" if row.is_met else (str(labels.UNMET[row.name]) % facts).strip(),
    )


def decimal(points: float) -> str:
    return str(number_format(round(points, 1), 1))


def is_emulated(run: CertificationRun) -> bool:
    return run.backend == Backend.EMULATOR
