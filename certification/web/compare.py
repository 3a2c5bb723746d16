"""Compare runs: is B worse than A, and in what?"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple

from django.db.models import IntegerField, Q, QuerySet, Value
from django.http import QueryDict
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from certification import labels
from certification.models import (
    AIModel,
    CertificationRun,
    ModelCertification,
    State,
    TestResult,
)
from certification.suite import statistics
from certification.suite.case import Category, Kind
from certification.web import charts, differences, judgement, runs
from certification.web.differences import Marked
from certification.web.judgement import ConditionRow, Explanation
from certification.web.runs import RunDetail

MAX_OTHERS = 3  # runs that are compared with the reference at once
DATED = re.compile(r"@\d{4}-\d{2}-\d{2}$")
CHANCE = 0.05  # a p value above it could be chance
GROUPS: dict[str, str | Promise] = {
    "broke": gettext_lazy("Broke: passed in A, fails in B"),
    "mended": gettext_lazy("Mended: failed in A, passes in B"),
    "changed": gettext_lazy("Another share of trials passed"),
    "only_a": gettext_lazy("Only in A"),
    "only_b": gettext_lazy("Only in B"),
    "both_failed": gettext_lazy("Both fail"),
    "both_passed": gettext_lazy("Both pass"),
}


class SideProblem(Exception):
    """A text that names no side of a comparison; the message says why."""


class Case(NamedTuple):
    """One case on both sides; None where a side does not have it."""

    case_id: str
    a: TestResult | None
    b: TestResult | None


class Figure(NamedTuple):
    """One figure of both sides as text, and "better", "worse" or "" for B."""

    label: str | Promise
    a: str
    b: str
    judgement: str


class Reason(NamedTuple):
    """One reason of the policy for a verdict or a score: what it is about, both sides as text, the
    line that a condition has, and "better", "worse" or "" for B.
    """

    label: str | Promise
    a: str
    b: str
    line: str
    judgement: str


class Answers(NamedTuple):
    """The answers of a trial on both sides, in pieces; `is_same` where they do not differ."""

    trial: int
    b: str  # whose
    is_same: bool
    pieces: Marked | None


@dataclass(frozen=True)
class CaseFilters:
    """The GET parameters `only` (one of GROUPS), `category` and `q`; unknown values filter
    nothing.
    """

    only: str = ""
    category: str = ""
    search: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> CaseFilters:
        only, category = query.get("only", ""), query.get("category", "")
        return cls(
            only if only in GROUPS else "",
            category if category in set(Category) else "",
            query.get("q", "").strip()[:200],
        )

    @property
    def any(self) -> bool:
        return self != CaseFilters()

    def match(self, case: Case) -> bool:
        """Return whether a case passes the filters but for `only`."""
        results = [result for result in (case.a, case.b) if result]
        text = " ".join(map(runs.searched_text, results))
        return self.category in ("", *(result.category for result in results)) and all(
            word in text for word in self.search.casefold().split()
        )


@dataclass(frozen=True)
class Side:
    """A run with its results by case id; `trials` maps (case id, trial) to passed, valid ones
    only.
    """

    run: CertificationRun
    results: Mapping[str, TestResult]

    @property
    def address(self) -> str:
        """What names this run in the page's address."""
        return str(self.run.pk)

    @property
    def trials(self) -> dict[tuple[str, int], bool]:
        return {
            (case_id, trial["trial"]): bool(trial["passed"])
            for case_id, result in self.results.items()
            for trial in result.summaries  # type: ignore[attr-defined]
            if isinstance(trial, dict) and trial.get("valid") and "trial" in trial
        }


@dataclass(frozen=True)
class Comparison:
    """One run beside the reference."""

    a: Side
    b: Side
    filters: CaseFilters

    @cached_property
    def pairs(self) -> statistics.Pairs[tuple[str, int]]:
        return statistics.pair(self.a.trials, self.b.trials)

    @property
    def warnings(self) -> list[str]:
        """Where the two runs differ besides what they are compared for."""
        differences = {
            _("tier"): (self.a.run.tier, self.b.run.tier),
            _("suite version"): (self.a.run.suite_version, self.b.run.suite_version),
            _("policy version"): (self.a.run.policy_version, self.b.run.policy_version),
            _("prompts (seed)"): (self.a.run.variant_seed, self.b.run.variant_seed),
            _("backend"): (self.a.run.backend, self.b.run.backend),
            _("API"): (self.a.run.api, self.b.run.api),
        }
        return [
            _("The runs differ in %(what)s: %(a)s in A, %(b)s in B.")
            % {"what": what, "a": a or "–", "b": b or "–"}
            for what, (a, b) in differences.items()
            if a != b
        ]

    @cached_property
    def groups(self) -> list[tuple[str, str | Promise, list[Case]]]:
        """(key, title, cases) of each group that has cases, worst first."""
        by_group: dict[str, list[Case]] = {key: [] for key in GROUPS}
        for case_id in dict.fromkeys((*self.a.results, *self.b.results)):
            case = Case(case_id, self.a.results.get(case_id), self.b.results.get(case_id))
            if group := group_of(case):
                by_group[group].append(case)
        return [(key, GROUPS[key], cases) for key, cases in by_group.items() if cases]

    @property
    def shown_groups(self) -> list[tuple[str, str | Promise, list[Case]]]:
        """The groups with the cases that pass the filters."""
        shown = [
            (key, title, [case for case in cases if self.filters.match(case)])
            for key, title, cases in self.groups
            if self.filters.only in ("", key)
        ]
        return [(key, title, cases) for key, title, cases in shown if cases]

    def count(self, group: str) -> int:
        return next((len(cases) for key, _title, cases in self.groups if key == group), 0)

    @property
    def sentence(self) -> str:
        """Whether B is worse or better than A, and whether that could be chance."""
        losses, gains = len(self.pairs.losses), len(self.pairs.gains)
        worse, better = statistics.sign_test(losses, gains), statistics.sign_test(gains, losses)
        p_value = min(1.0, 2 * min(worse, better))  # either direction would have been news
        names = {"a": name_of(self.a.run), "b": name_of(self.b.run)}
        if p_value > CHANCE:
            verdict = _("Between %(b)s and %(a)s there is no difference that could not be chance")
        elif worse <= better:
            verdict = _("%(b)s is worse than %(a)s, unlikely to be chance")
        else:
            verdict = _("%(b)s is better than %(a)s, unlikely to be chance")
        broke, mended = self.count("broke"), self.count("mended")
        counts = ngettext("%(n)d case broke", "%(n)d cases broke", broke) % {"n": broke}
        counts += ", " + ngettext("%(n)d was fixed", "%(n)d were fixed", mended) % {"n": mended}
        shown = number_format(p_value, 3) if p_value >= 0.001 else "< " + number_format(0.001, 3)
        return f"{verdict % names}: {counts} (p = {shown})."

    @cached_property
    def explanations(self) -> tuple[Explanation, Explanation] | None:
        """Both runs judged by the present policy; None where the evidence of one is gone."""
        a = judgement.explain(self.a.run, list(self.a.results.values()))
        b = judgement.explain(self.b.run, list(self.b.results.values()))
        return (a, b) if a and b else None

    @property
    def conditions(self) -> list[Reason]:
        """The conditions of a certificate that one of the two does not meet."""
        rows: list[Reason] = []
        if self.explanations is None:
            return rows
        sides = [{(c.name, c.subject): c for c in why.conditions} for why in self.explanations]
        for key in dict.fromkeys((*sides[0], *sides[1])):
            a, b = (side.get(key) for side in sides)
            is_met = [row is None or row.is_met for row in (a, b)]
            if all(is_met):
                continue
            texts = [judgement.condition_row(row) if row else None for row in (a, b)]
            known = texts[1] or texts[0]
            rows.append(
                Reason(
                    known.label if known else "",
                    condition_text(texts[0]),
                    condition_text(texts[1]),
                    known.line if known else "",
                    "" if is_met[0] == is_met[1] else "worse" if is_met[0] else "better",
                )
            )
        return rows

    @property
    def losses(self) -> list[Reason]:
        """The points that each side lost on what they lost differently, the largest first."""
        if self.explanations is None:
            return []
        sides = [points_lost(why) for why in self.explanations]
        rows = []
        for label in dict.fromkeys((*sides[1], *sides[0])):
            a, b = (side.get(label, 0.0) for side in sides)
            if abs(b - a) >= judgement.WORTH_SHOWING:
                row = Reason(label, minus(a), minus(b), "", "worse" if b > a else "better")
                rows.append((abs(b - a), row))
        return [row for _size, row in sorted(rows, key=lambda row: -row[0])]

    @property
    def figures(self) -> list[Figure]:
        """Scores, speed and cost of both sides."""
        return [
            figure(
                label, (getattr(self.a.run, name), getattr(self.b.run, name)), unit, digits, sign
            )
            for name, label, unit, digits, sign in (
                ("score", _("Score"), "", 0, 1),
                ("quality", _("Quality"), "", 2, 1),
                ("contract", _("Gates"), "", 2, 1),
                ("performance", _("Performance"), "", 2, 1),
                ("reliability", _("Reliability"), "", 2, 1),
                ("ttft_ms", _("First token"), "ms", 0, -1),
                ("latency_p50_ms", _("Median answer"), "ms", 0, -1),
                ("output_tps", _("Output speed"), _("tokens/s"), 0, 1),
                ("cost_usd", _("Cost"), "US$", 4, -1),
            )
        ]


@dataclass(frozen=True)
class ComparePage:
    """What the page shows: its comparisons with the reference, or why there are none."""

    a: str
    others: Sequence[str]
    comparisons: Sequence[Comparison]
    problems: Sequence[str]
    case_id: str
    open_sides: Sequence[RunDetail]
    filters: CaseFilters = CaseFilters()

    @property
    def answers(self) -> list[Answers]:
        """The answers in the case that is open, their differences marked."""
        return answers_of(self.open_sides)

    @property
    def can_add(self) -> bool:
        """Whether one more run can be compared."""
        return bool(self.others) and len(self.others) < MAX_OTHERS

    @property
    def group_choices(self) -> list[tuple[str, str | Promise]]:
        return list(GROUPS.items())

    @property
    def categories(self) -> list[str]:
        """The categories that occur, in the suite's order."""
        sides = [side for c in self.comparisons for side in (c.a, c.b)]
        present = {result.category for side in sides for result in side.results.values()}
        return [c.value for c in Category if c.value in present]

    @property
    def references(self) -> list[tuple[str, str]]:
        """(name, address) of the same comparison with another run as the reference."""
        result = []
        for number, text in enumerate(self.others):
            query = QueryDict(mutable=True)
            query["a"] = text
            rest = [other for place, other in enumerate(self.others) if place != number]
            query.setlist("b", [self.a, *rest])
            result.append((text, f"?{query.urlencode()}"))
        return result

    @property
    def speed_charts(self) -> list[tuple[str | Promise, SafeString]]:
        """(figure, picture) of what every side measured, on one axis."""
        sides = (
            [self.comparisons[0].a, *(c.b for c in self.comparisons)] if self.comparisons else []
        )
        charts_shown = []
        for name, unit in (("ttft_ms", "ms"), ("tokens_per_second", _("tokens/s"))):
            rows = [row for side in sides if (row := samples_of(side, name)).values]
            if len(rows) > 1:
                title = labels.LOSSES[name]
                charts_shown.append((title, charts.dots(str(title), rows, unit)))
        return charts_shown


def load(query: QueryDict) -> ComparePage:
    """Return the comparison that the GET parameters `a`, `b` (up to three) and `case` name, with
    the cases that pass the filters. A side is a run's id, "model@region" for the run that its
    certification rests on, or "model@region@2026-11-30" for the one that it rested on that day.
    """
    a_text = query.get("a", "").strip()
    b_texts = [text.strip() for text in query.getlist("b") if text.strip()][:MAX_OTHERS]
    chosen, problems = find_runs([a_text, *b_texts] if a_text and b_texts else [])
    comparisons: list[Comparison] = []
    case_id, filters = query.get("case", ""), CaseFilters.from_query(query)
    open_sides: list[RunDetail] = []
    if chosen and not problems:
        reference, *others = sides_of(chosen)
        comparisons = [Comparison(reference, other, filters) for other in others]
        if any(case_id in side.results for side in (reference, *others)):
            opened = QueryDict(mutable=True)
            opened["case"] = case_id
            open_sides = [runs.load(run, opened) for run in chosen]
    return ComparePage(a_text, b_texts, comparisons, problems, case_id, open_sides, filters)


def samples_of(side: Side, name: str) -> charts.Samples:
    """Return what the trials of a side measured of a figure of speed."""
    timed = [result for result in side.results.values() if result.kind == Kind.PERFORMANCE]
    own = [result for result in timed if result.case_id == judgement.MEASURED_BY[name]] or timed
    values = [value for result in own for value in judgement.other_samples(result, name)]
    emulated = judgement.is_emulated(side.run)
    middle = median(values) if values else None
    return charts.Samples(name_of(side.run), values, middle, is_emulated=emulated)


class SideName(NamedTuple):
    """What names a side: a run by its id, or a model and a region, perhaps on a day."""

    text: str
    run: uuid.UUID | None = None
    model: str = ""
    region: str = ""
    day: date | None = None

    @classmethod
    def parse(cls, text: str) -> SideName:
        """Read a side of an address. Raise SideProblem."""
        try:
            return cls(text, run=uuid.UUID(text))
        except ValueError:
            pass
        name, day = text, None
        if DATED.search(text):
            name, _at, date_text = text.rpartition("@")
            try:
                day = date.fromisoformat(date_text)
            except ValueError:
                raise SideProblem(_("There is no day %s.") % date_text) from None
        model, _at, region = name.rpartition("@")
        if not model or not text.isprintable():
            raise SideProblem(NAMES_NOTHING % text[:200])
        return cls(text, model=model, region=region, day=day)

    def runs(self, model: AIModel | None) -> QuerySet[CertificationRun]:
        """Return the run that is meant, of the model that the name names."""
        if self.run:
            return CertificationRun.objects.filter(pk=self.run).order_by()
        runs = CertificationRun.objects.filter(model=model, region=self.region)
        if self.day:
            end = datetime.combine(self.day, time.max, tzinfo=UTC)
            until = runs.filter(status=State.COMPLETED, completed_at__lte=end)
            return until.order_by("-completed_at")[:1]
        certifications = ModelCertification.objects.filter(model=model, region=self.region)
        is_proof = Q(pk__in=certifications.values("run"))
        return (
            runs.filter(is_proof | Q(status__in=(State.COMPLETED, State.FAILED)))
            .annotate(is_proof=is_proof)
            .order_by("-is_proof", "-created_at")[:1]
        )

    def problem(self, model: AIModel | None, run: CertificationRun | None) -> str:
        """Return why the side has no run to compare; "" where it has one."""
        if run is not None:
            is_unfinished = self.run and not run.is_finished
            return _("The run %s has not ended yet.") % self.text if is_unfinished else ""
        if self.run:
            return _("There is no run %s.") % self.text
        if model is None:
            return NAMES_NOTHING % self.text[:200]
        facts = {"model": model.name, "region": self.region}
        if self.day:
            facts["day"] = self.day.isoformat()
            return _("%(model)s had no verdict in %(region)s until %(day)s.") % facts
        return _("%(model)s was never tested in %(region)s.") % facts


NAMES_NOTHING = gettext_lazy(
    "“%s” names no run: give the id of a run, or a model and a region as model@region."
)


class Chosen(NamedTuple):
    """The runs of all sides, or why there are not all."""

    runs: Sequence[CertificationRun]
    problems: Sequence[str]


def find_runs(texts: Sequence[str]) -> Chosen:
    """Return the finished runs that the texts name, in three queries."""
    names: list[SideName] = []
    problems: list[str] = []
    for text in texts:
        try:
            names.append(SideName.parse(text))
        except SideProblem as error:
            problems.append(str(error))
    if not names:
        return Chosen([], problems)
    by_name = AIModel.objects.named([n.model for n in names if n.model])
    queries = [
        name.runs(by_name.get(name.model))
        .annotate(side=Value(at, IntegerField()))
        .values_list("side", "pk")
        for at, name in enumerate(names)
    ]
    first, *others = queries
    keys = dict(first.union(*others, all=True) if others else first)
    runs = CertificationRun.objects.select_related("model", "region").in_bulk(list(keys.values()))
    chosen = [runs.get(keys[at]) if at in keys else None for at in range(len(names))]
    problems += [
        problem
        for name, run in zip(names, chosen, strict=True)
        if (problem := name.problem(by_name.get(name.model), run))
    ]
    return Chosen([run for run in chosen if run is not None], problems)


def sides_of(chosen: Sequence[CertificationRun]) -> list[Side]:
    """Return the runs with their results, in one query."""
    keys = [run.pk for run in chosen]
    rows = TestResult.objects.filter(run__in=keys).without_transcripts().order_by("pk")
    by_run: dict[uuid.UUID, dict[str, TestResult]] = {key: {} for key in keys}
    for row in rows:
        by_run[row.run_id][row.case_id] = row
    return [Side(run, by_run[run.pk]) for run in chosen]


def condition_text(row: ConditionRow | None) -> str:
    """Return a side of a condition: its figure behind a sign; "–" where it did not apply."""
    return f"{'✓' if row.is_met else '✕'} {row.figure}" if row else "–"


def points_lost(why: Explanation) -> dict[str, float]:
    """Return the points lost by what they were lost on."""
    points = {str(judgement.loss_label(loss)): loss.points for loss in why.lost}
    return points | {judgement.cap_label(cap): cap.points for cap in why.caps}


def minus(points: float) -> str:
    return f"−{judgement.decimal(points)}" if points else "0"


def answers_of(sides: Sequence[RunDetail]) -> list[Answers]:
    """Return the answers of the open case's trials, those of each other side beside the first's."""
    rows = []
    for other in sides[1:]:
        by_number = {trial.number: trial for trial in sides[0].trials}
        for trial in other.trials:
            first = by_number.get(trial.number)
            if first is None or not (first.answer or trial.answer):
                continue
            marked = differences.mark(first.answer, trial.answer)
            is_same = first.answer == trial.answer
            rows.append(Answers(trial.number, name_of(other.run), is_same, marked))
    return [row for row in rows if row.is_same or row.pieces]


def group_of(case: Case) -> str:
    """Return the group that a case belongs to; "" where it applied to neither side."""
    if case.a is None or case.a.verdict == "skipped":
        return "only_b" if case.b is not None and case.b.verdict != "skipped" else ""
    if case.b is None or case.b.verdict == "skipped":
        return "only_a"
    a, b = case.a.verdict == "passed", case.b.verdict == "passed"
    if a != b:
        return "broke" if a else "mended"
    if a:
        return "both_passed"
    rates = [case.a.passes * case.b.trials_valid, case.b.passes * case.a.trials_valid]
    return "changed" if rates[0] != rates[1] else "both_failed"


def name_of(run: CertificationRun) -> str:
    """Return a run's name in a sentence."""
    return f"{run.model.name} {run.region_id}"


def figure(
    label: str | Promise, values: tuple[Any, Any], unit: str, digits: int, sign: int
) -> Figure:
    """Return a figure of both sides as text; `sign` is 1 where more is better, -1 where less is."""
    texts = []
    for value in values:
        number = "–" if value is None else number_format(round(float(value), digits), digits)
        texts.append(f"{unit} {number}" if unit == "US$" else f"{number} {unit}".strip())
    a, b = values
    difference = 0.0 if a is None or b is None else round(float(b) - float(a), digits)
    judgement = "better" if difference * sign > 0 else "worse" if difference else ""
    return Figure(label, texts[0], texts[1], judgement)
