"""Load the status of one model in one region, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.http import Http404, QueryDict
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification import labels
from certification.models import (
    TERMINAL,
    AIModel,
    Certificate,
    CertificationRun,
    ModelCertification,
    Region,
    Route,
    RunJudgement,
    TestResult,
    validity,
)
from certification.reasons import Status
from certification.suite.case import Category, Kind
from certification.suite.policy import POLICY
from certification.web import charts, judgement, runs
from certification.web.judgement import ConditionRow, Explanation

RUNS_LISTED, RUNS_DRAWN = 10, 50
OTHERS_DRAWN = 4  # other regions beneath the samples of speed


@dataclass(frozen=True)
class Detail:
    """A pair's certification (None when it was never tested), the run that says why, its results,
    and the last runs.

    `judged_again` is the last judgement of that run after its own: under a newer policy, or
    compared with other regions. `others` are the certifications of the model's other regions, the
    best first; `other_results` the performance results of some of them, by run.
    """

    model: AIModel
    region: Region
    certification: ModelCertification | None
    routes: Sequence[Route]
    drawn_runs: Sequence[CertificationRun]
    results: Sequence[TestResult]
    now: datetime
    filters: CaseFilters
    explanation: Explanation | None = None
    judged_again: RunJudgement | None = None
    others: Sequence[ModelCertification] = ()
    other_results: Mapping[Any, Sequence[TestResult]] = field(default_factory=dict)

    @property
    def runs(self) -> Sequence[CertificationRun]:
        """The last runs, as listed."""
        return self.drawn_runs[:RUNS_LISTED]

    @property
    def status(self) -> str:
        """The standing; for an expired one, what it was."""
        row = self.certification
        if row is None:
            return Status.NOT_TESTED
        return validity.shown_status(row, self.now)

    @property
    def expired(self) -> bool:
        return self.certification is not None and self.certification.is_expired(self.now)

    @property
    def active(self) -> CertificationRun | None:
        return next((run for run in self.drawn_runs if not run.is_finished), None)

    @property
    def last(self) -> CertificationRun | None:
        """The last finished run."""
        return next((run for run in self.drawn_runs if run.is_finished), None)

    @property
    def proof(self) -> CertificationRun | None:
        """The run that the standing rests on; the last one where none does."""
        return (self.certification.run if self.certification else None) or self.last

    @property
    def later_without_verdict(self) -> bool:
        """Whether a newer run ended without moving the standing."""
        return self.last is not None and self.proof is not None and self.last.pk != self.proof.pk

    @property
    def best_region(self) -> str:
        """Where else the model stands best; "" where it is certified nowhere else."""
        certified = (row for row in self.others if row.status == Status.CERTIFIED and row.run_id)
        return next((row.region_id for row in certified), "")

    @property
    def sentence(self) -> str:
        """The answer to: is it usable, and if not, why not?"""
        if self.proof is None:
            return (
                _("Never certified.")
                if self.routes
                else _("The catalogue has no route to this model in this region.")
            )
        if self.expired and self.certification and self.certification.expires_at:
            day = date_format(self.certification.expires_at)
            return _("Nothing is certain now: this was the status until %s.") % day
        return f"{self.verdict_sentence} {self.lost_sentence}".strip()

    @property
    def verdict_sentence(self) -> str:
        """What the status means for whoever wants to use the model here."""
        reason = labels.REASONS.get(self.proof.error_reason, "") if self.proof else ""
        if self.status == Status.CERTIFIED:
            return _("Usable.")
        if self.status == Status.QUALITY_WARNING:
            unmet = len(self.explanation.unmet) if self.explanation else 0
            if not unmet:
                return _("Usable with care.")
            sentence = ngettext(
                "Usable with care: %(n)d condition of a certificate is not met.",
                "Usable with care: %(n)d conditions of a certificate are not met.",
                unmet,
            )
            return sentence % {"n": unmet}
        if self.status == Status.FAILED:
            return _("Not usable: %s.") % reason if reason else _("Not usable.")
        if self.status == Status.PENDING:
            why = _("No verdict yet: %s.") % reason if reason else _("No verdict yet.")
            says_nothing = _("That says nothing about the model.")
            return f"{why} {says_nothing}"
        if self.status == Status.NOT_TESTED:
            return _("Nothing was tested.")
        return _("Cannot be called now: %s.") % reason if reason else _("Cannot be called now.")

    @property
    def lost_sentence(self) -> str:
        return self.explanation.points_lost if self.explanation else ""

    @property
    def unmet(self) -> list[ConditionRow]:
        """The conditions that the run did not meet; none where the present policy judges it in
        another way.
        """
        why = self.explanation
        return why.unmet if why and not why.differs else []

    @property
    def state(self) -> str:
        """What the page explains beside the verdict: "never", "not_offered", "expired",
        "held_back", "pending" or "".
        """
        if self.proof is None:
            return "never" if self.routes else "not_offered"
        if self.expired:
            return "expired"
        if self.certification and self.certification.held_back:
            return "held_back"
        return "pending" if self.status == Status.PENDING else ""

    @cached_property
    def case_groups(self) -> list[tuple[str, float, list[TestResult]]]:
        """(category, points lost, cases) of what passes the filters, worst first in both."""
        account = self.explanation.account if self.explanation else None
        lost = account.by_case if account else {}
        groups: dict[str, list[TestResult]] = {}
        for result in sorted(self.results, key=runs.order_of):
            if self.filters.match(result):
                groups.setdefault(result.category, []).append(result)
        rows = [
            (category, sum(lost.get(result.case_id, 0.0) for result in results), results)
            for category, results in groups.items()
        ]
        return sorted(rows, key=lambda row: (-row[1], runs.order_of(row[2][0])))

    @property
    def verdicts(self) -> list[str]:
        """The verdicts of cases that occur, worst first."""
        return [v for v in runs.WORST_FIRST if any(r.verdict == v for r in self.results)]

    @property
    def categories(self) -> list[str]:
        """The categories that occur, in the suite's order."""
        return [c.value for c in Category if any(r.category == c.value for r in self.results)]

    @property
    def speed_charts(self) -> list[tuple[str, SafeString]]:
        """(sentence, picture) of each measured figure of speed."""
        if self.explanation is None:
            return []
        emulated = judgement.is_emulated(self.explanation.stored)
        return [
            (
                speed.sentence,
                speed.chart(self.region.code, self.samples_elsewhere(speed.name), emulated),
            )
            for speed in self.explanation.speeds
        ]

    def samples_elsewhere(self, name: str) -> list[charts.Samples]:
        """Return what the model's other regions measured of a figure of speed."""
        rows = []
        for row in self.others:
            results = self.other_results.get(row.run_id, ())
            case = judgement.MEASURED_BY[name]
            own = [result for result in results if result.case_id == case] or results
            values = [v for result in own for v in judgement.other_samples(result, name)]
            if values:
                emulated = row.backend == "emulator"
                rows.append(
                    charts.Samples(row.region_id, values, is_own=False, is_emulated=emulated)
                )
        return rows

    @property
    def history_chart(self) -> SafeString | str:
        """The finished runs as steps; "" for fewer than two."""
        finished = [run for run in reversed(self.drawn_runs) if run.completed_at]
        if len(finished) < 2:
            return ""
        changes = [""] + [version_change(before, after) for before, after in pairwise(finished)]
        points = [
            charts.Point(
                run.completed_at.timestamp() if run.completed_at else 0.0,
                run.score,
                point_label(run),
                change,
                judgement.is_emulated(run),
            )
            for run, change in zip(finished, changes, strict=True)
        ]
        ends = [date_format(run.completed_at) for run in finished if run.completed_at]
        title = _("Score of the last %d runs") % len(finished)
        return charts.history(
            title, points, POLICY.line, (ends[0], ends[-1] if ends[-1] != ends[0] else "")
        )


def version_change(before: CertificationRun, after: CertificationRun) -> str:
    """Return what of the measure changed between two runs, in a few words; "" for nothing."""
    if not (before.suite_version and after.suite_version):
        return ""
    if before.suite_version != after.suite_version:
        return _("new suite")
    return _("new policy") if before.policy_version != after.policy_version else ""


def point_label(run: CertificationRun) -> str:
    """Return what a run's point says on hover."""
    when = f"{date_format(run.completed_at, 'DATETIME_FORMAT')} UTC" if run.completed_at else ""
    verdict = labels.STATUSES[run.verdict].label if run.verdict in labels.STATUSES else run.status
    return f"{when}: {verdict} {run.rating} {'' if run.score is None else run.score}".strip()


@dataclass(frozen=True)
class CaseFilters:
    """The GET parameters `case_status`, `category` and `q`; unknown values filter nothing."""

    case_status: str = ""
    category: str = ""
    search: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> CaseFilters:
        status, category = query.get("case_status", ""), query.get("category", "")
        return cls(
            status if status in runs.WORST_FIRST else "",
            category if category in set(Category) else "",
            query.get("q", "").strip()[:200],
        )

    @property
    def any(self) -> bool:
        return self != CaseFilters()

    def match(self, result: TestResult) -> bool:
        """Return whether a case passes the filters."""
        words = self.search.casefold().split()
        return (
            self.case_status in ("", result.verdict)
            and self.category in ("", result.category)
            and all(word in runs.searched_text(result) for word in words)
        )


def load(model_id: str, region_code: str, query: QueryDict, now: datetime) -> Detail:
    """Everything about a model, by its UUID or its id on Bedrock, in a region; in nine queries at
    most. Raise Http404 for an unknown model or region.
    """
    model, region = find_pair(model_id, region_code)
    by_region = (
        ModelCertification.objects.filter(model=model)
        .select_related("run", "run__job")
        .annotate(certificate_code=Certificate.objects.code_of_pair())
    )
    rows = sorted(by_region, key=rank)
    certification = next((row for row in rows if row.region_id == region.code), None)
    others = [row for row in rows if row is not certification]
    last_runs = CertificationRun.objects.filter(model=model, region=region).order_by("-created_at")
    drawn_runs = list(last_runs[:RUNS_DRAWN])
    last = next((run for run in drawn_runs if run.status in TERMINAL), None)
    proof = (certification.run if certification else None) or last
    results: list[TestResult] = []
    other_results: dict[Any, list[TestResult]] = {}
    if proof is not None:
        compared = [row.run_id for row in others if row.run_id][:OTHERS_DRAWN]
        results, other_results = results_of(proof, compared)
    judged = RunJudgement.objects.filter(run=proof).order_by("judged_at") if proof else None
    return Detail(
        model=model,
        region=region,
        certification=certification,
        routes=sorted(model.routes.filter(region=region), key=lambda route: route.preference),
        drawn_runs=drawn_runs,
        results=results,
        now=now,
        filters=CaseFilters.from_query(query),
        explanation=judgement.explain(proof, results) if proof and results else None,
        judged_again=judged.last() if judged is not None else None,
        others=others,
        other_results=other_results,
    )


def find_pair(model_id: str, region_code: str) -> tuple[AIModel, Region]:
    """Return the model and the region that an address names. Raise Http404."""
    names = [name for name in (model_id, region_code) if name.isprintable()]
    model = AIModel.objects.named(names[:1]).get(model_id) if len(names) == 2 else None
    region = Region.objects.filter(pk=region_code).first() if model else None
    if model is None or region is None:
        raise Http404
    return model, region


def rank(row: ModelCertification) -> tuple[bool, int, str]:
    """Sort certifications: certified ones first, then by score."""
    return (row.status != Status.CERTIFIED, -(row.score or 0), row.region_id)


def results_of(
    proof: CertificationRun, compared: Sequence[Any]
) -> tuple[list[TestResult], dict[Any, list[TestResult]]]:
    """Return a run's results and the performance results of others by run, in one query."""
    rows = TestResult.objects.filter(run=proof) | TestResult.objects.filter(
        run__in=compared, kind=Kind.PERFORMANCE
    )
    own: list[TestResult] = []
    others: dict[Any, list[TestResult]] = {}
    for row in rows.without_transcripts().order_by("pk"):
        if row.run_id == proof.pk:
            own.append(row)
        else:
            others.setdefault(row.run_id, []).append(row)
    return own, others
