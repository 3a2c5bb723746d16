"""Routines on pages: how each went and is due, the stored reports, and what somebody has to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.core.paginator import Page, Paginator
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_celery_results.models import TaskResult

from certification.lib import clock
from certification.models import NextAction, RoutineMark, User
from certification.operations import reports
from certification.operations.reports import RoutineReport, StepReport
from certification.operations.routines import ROUTINES, Routine
from certification.web import polling

REPORTS_PER_PAGE = 25
ACTIONS_SHOWN = 50


@dataclass(frozen=True)
class RoutineRow:
    """A routine with its last report, its mark, and when it runs next (None: switched off)."""

    routine: Routine
    report: RoutineReport | None
    mark: RoutineMark | None
    due_at: datetime | None

    @property
    def budget_minutes(self) -> float:
        return self.routine.budget_s / 60


@dataclass(frozen=True)
class RoutinesTab:
    rows: Sequence[RoutineRow]
    actions: Sequence[NextAction]  # the open ones, oldest first, at most ACTIONS_SHOWN
    has_more_actions: bool
    chosen: str  # the routine whose reports are listed, "" for all
    results: Page[TaskResult]

    @cached_property
    def stored_reports(self) -> set[str]:
        """The reports of the actions that are still stored."""
        names = {action.report for action in self.actions}
        return set(reports.stored().filter(task_id__in=names).values_list("task_id", flat=True))

    @property
    def history(self) -> list[RoutineReport]:
        return [reports.read(result) for result in self.results]

    @property
    def sentence(self) -> str:
        names = [row.routine.name for row in self.rows if row.mark and row.mark.has_failed]
        if names:
            return _("Failed last: %(names)s.") % {"names": ", ".join(names)}
        if not any(row.report for row in self.rows):
            return _("No routine has run yet: beat starts them.")
        if self.actions:
            return ngettext(
                "No routine failed last; %(n)d action is open.",
                "No routine failed last; %(n)d actions are open.",
                len(self.actions),
            ) % {"n": len(self.actions)}
        return _("No routine failed last.")

    @property
    def version(self) -> str:
        return polling.fingerprint(
            [
                (row.routine.name, row.report and row.report.task_id, row.due_at)
                for row in self.rows
            ],
            [(action.pk, action.assigned_to, action.text) for action in self.actions],
            [result.pk for result in self.results],
        )


def load(query: QueryDict) -> RoutinesTab:
    """Read the routines, the open actions and a page of the reports."""
    chosen = query.get("routine", "")
    chosen = chosen if chosen in ROUTINES else ""
    marks = {mark.name: mark for mark in RoutineMark.objects.filter(name__in=ROUTINES)}
    due = reports.due()
    newest = reports.newest()
    rows = [
        RoutineRow(routine, newest.get(name), marks.get(name), due.get(name))
        for name, routine in ROUTINES.items()
    ]
    actions = list(NextAction.objects.open()[: ACTIONS_SHOWN + 1])
    pages = Paginator(reports.stored(chosen), REPORTS_PER_PAGE)
    return RoutinesTab(
        rows,
        actions[:ACTIONS_SHOWN],
        len(actions) > ACTIONS_SHOWN,
        chosen,
        pages.get_page(query.get("page")),
    )


@dataclass(frozen=True)
class StepRow:
    """A step beside the same step of the time before, None where that had none."""

    step: StepReport
    before: StepReport | None


@dataclass(frozen=True)
class ReportPage:
    report: RoutineReport
    before: RoutineReport | None
    actions: Sequence[NextAction]
    operators: Sequence[str]

    @property
    def steps(self) -> list[StepRow]:
        return [
            StepRow(step, self.before.step(step.name) if self.before else None)
            for step in self.report.steps
        ]

    @property
    def is_known(self) -> bool:
        """Whether there is such a routine (still), so that it can be run now."""
        return self.report.routine in ROUTINES

    @property
    def sentence(self) -> str:
        report = self.report
        if report.is_skipped:
            return _("It was left out: it was at work already.")
        if report.is_well:
            return _("All steps went well.")
        if not report.steps:
            return _("It could not run.")
        if not report.faults:
            return _("All steps went well, but it took too long.")
        return ngettext(
            "%(n)d of %(all)d steps failed.", "%(n)d of %(all)d steps failed.", len(report.faults)
        ) % {"n": len(report.faults), "all": len(report.steps)}


def load_report(row: TaskResult) -> ReportPage:
    """Read a report, the one before it, what is still to do for its routine and what was done for
    the report.
    """
    report = reports.read(row)
    actions = NextAction.objects.filter(routine=report.routine)
    mine = actions.open() | actions.filter(report=report.task_id)
    return ReportPage(
        report,
        reports.before(report),
        list(mine.order_by("done_at", "opened_at", "pk")[:ACTIONS_SHOWN]),
        operators(),
    )


def operators() -> list[str]:
    """Return the e-mail addresses of whom an action can be assigned to."""
    users = User.objects.filter(is_active=True).prefetch_related("groups").order_by("email")
    return [user.email for user in users if user.is_operator]


def assignee(form: Mapping[str, str], own: str) -> str | None:
    """Return whom a form names: an operator, "" for nobody; None for an unknown address."""
    email = form.get("to", own).strip().lower()
    return email if not email or email in operators() else None


def add_action(report: RoutineReport, text: str) -> NextAction:
    """Store an action that a person wrote."""
    return NextAction.objects.create(
        routine=report.routine, text=text, report=report.task_id, opened_at=clock.now()
    )
