"""What operators read and tick: escalation, checklists, training. Every text is translatable; each
document has its version, its date, who keeps it, and after how many days it is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

Text = str | Promise


@dataclass(frozen=True)
class Item:
    """Something to do, and the command that shows or does it."""

    name: str
    text: Text
    command: str = ""


@dataclass(frozen=True)
class Level:
    """A level of escalation: who it is, what they do, and when they call the next one. Its minutes
    are those of ALERT_ESCALATION_MINUTES.
    """

    number: int
    title: Text
    does: Text
    calls_next: Text


ESCALATION = (
    Level(
        1,
        _("Monitoring"),
        _("The alert engine and the supervisor: they see it, start again what ended, and notify."),
        _("An alert opens: the operator on duty is notified at once."),
    ),
    Level(
        2,
        _("Operator"),
        _("Acknowledges the alert, follows its runbook, and writes down what was done."),
        _("The runbook did not help within its time, or the cause is in the program."),
    ),
    Level(
        3,
        _("Developer"),
        _("Errors in the code or the rules, lasting slowness, and whatever needs a hotfix."),
        _("The structure itself is the cause, data may be lost, or there was a breach."),
    ),
    Level(
        4,
        _("Architect"),
        _("Faults of the architecture, changes of structure, and capacity that is used up."),
        _("Nobody: this level decides, also whether to restore."),
    ),
)

Period = Literal["day", "week", "month", "quarter"]


@dataclass(frozen=True)
class Checklist:
    name: str
    title: Text
    period: Period
    items: Sequence[Item]

    def item(self, name: str) -> Item | None:
        return next((item for item in self.items if item.name == name), None)

    def begins(self, day: date) -> date:
        """Return the first day of the period that a day is in."""
        match self.period:
            case "week":
                return day - timedelta(days=day.weekday())
            case "month":
                return day.replace(day=1)
            case "quarter":
                return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        return day


CHECKLISTS = {
    checklist.name: checklist
    for checklist in (
        Checklist(
            "daily",
            _("Every day"),
            "day",
            (
                Item(
                    "health",
                    _("Every part is well, and no alert is open that nobody looks after."),
                    "manage.py health_monitor --once",
                ),
                Item(
                    "processes",
                    _("Every process is up, and none was restarted without a known reason."),
                    "manage.py status",
                ),
                Item(
                    "errors",
                    _("The errors of the last day were read: fewer than 10, none critical."),
                    "manage.py logs --errors --since 24h",
                ),
                Item(
                    "reachable",
                    _("Pages and API answer where people use them."),
                    "manage.py smoke --pages-only",
                ),
                Item(
                    "backup",
                    _("The database is connected, and there is a backup of today."),
                    "manage.py backup list",
                ),
            ),
        ),
        Checklist(
            "weekly",
            _("Every week"),
            "week",
            (
                Item(
                    "routine",
                    _("The weekly routine went well: the newest backup was restored and compared."),
                    "manage.py routine list",
                ),
                Item(
                    "logs",
                    _("The logs were archived, and what is about to be deleted is not needed."),
                    "manage.py cleanup --dry-run",
                ),
                Item(
                    "self_test",
                    _("The installation certifies one model from page to badge."),
                    "manage.py smoke",
                ),
                Item(
                    "deployed",
                    _("What is deployed is what should be, and nothing is left to repair."),
                    "manage.py doctor",
                ),
                Item(
                    "uptime",
                    _("The targets of the week were read, with a reason for each that was missed."),
                    "manage.py targets",
                ),
                Item("channels", _("Each alert channel delivers."), "manage.py alerts test"),
            ),
        ),
        Checklist(
            "monthly",
            _("Every month"),
            "month",
            (
                Item(
                    "backup",
                    _("The backup of the month is whole, and a copy lies in another place."),
                    "manage.py backup verify --quick",
                ),
                Item(
                    "database",
                    _("The stored figures agree with the rows, and the database was maintained."),
                    "manage.py db_maintenance --dry-run",
                ),
                Item(
                    "dependencies",
                    _("Known vulnerabilities were looked up, and each has a plan."),
                    "manage.py dependencies",
                ),
                Item(
                    "restart",
                    _("Every process was restarted without downtime, and the self-test passes."),
                    "manage.py restart",
                ),
                Item(
                    "capacity",
                    _("Growth and forecast were read; what is reached within 90 days has a plan."),
                    "manage.py capacity_report",
                ),
                Item(
                    "report",
                    _("The report of the month was read, and each next action has somebody."),
                    "manage.py routine list",
                ),
                Item("targets", _("The targets of the month are met."), "manage.py targets"),
            ),
        ),
        Checklist(
            "quarterly",
            _("Every quarter"),
            "quarter",
            (
                Item(
                    "security",
                    _("Security was audited: settings, secrets, open ports, packages."),
                    "manage.py security_audit",
                ),
                Item(
                    "access",
                    _("Users, roles and API keys were read; who needs none any more has none."),
                ),
                Item("documents", _("Every document whose review was due has been read.")),
                Item(
                    "performance",
                    _("Performance was compared with the quarter before."),
                    "manage.py analyze_performance --hours 168",
                ),
                Item("improvements", _("Improvements for the next quarter are planned.")),
                Item(
                    "training",
                    _("Each operator has passed a drill in this quarter."),
                    "manage.py practice list",
                ),
            ),
        ),
    )
}


@dataclass(frozen=True)
class TrainingDay:
    title: Text
    steps: Sequence[Item]


# The system ticks what drills prove: so many that were passed.
DRILLS_OF = {"drills": 2, "recovery": 4, "recovers": 4}
TRAINING = (
    TrainingDay(
        _("Day 1: the foundations"),
        (
            Item("guide", _("Read the operations guide and the escalation matrix.")),
            Item(
                "daily_together",
                _("Do the daily routine and its checklist with an experienced operator."),
                "manage.py routine run daily --dry-run",
            ),
            Item(
                "health",
                _("Look at the health of everything, and explain each line."),
                "manage.py health_monitor --once",
            ),
            Item(
                "restart",
                _("Restart a worker, and see its runs go on."),
                "manage.py restart worker",
            ),
        ),
    ),
    TrainingDay(
        _("Day 2: faults"),
        (
            Item("runbooks", _("Read the runbooks of the critical alerts.")),
            Item(
                "drills",
                _("Pass two drills: find the fault that the drill starts, and repair it."),
                "manage.py practice list",
            ),
            Item(
                "recovery",
                _("Pass four drills of different kinds, and prove the newest backup."),
                "manage.py backup verify --quick",
            ),
            Item(
                "weekly",
                _("Do the weekly routine, and read its report."),
                "manage.py routine run weekly --dry-run",
            ),
        ),
    ),
    TrainingDay(
        _("Day 3: on your own"),
        (
            Item(
                "daily_alone",
                _("Do the daily routine and its checklist alone."),
                "manage.py routine list",
            ),
            Item(
                "analysis",
                _("Find in logs and metrics why a run failed, and how many did."),
                "manage.py logs --by reason",
            ),
            Item(
                "reports",
                _("Make the reports of performance and capacity, and say what follows from them."),
                "manage.py capacity_report",
            ),
            Item("review", _("Take part in a review of the week, and present its targets.")),
        ),
    ),
)
CERTIFICATE = (
    Item("routine_alone", _("Does the daily routine with confidence.")),
    Item("interprets", _("Reads health and alerts correctly.")),
    Item("recovers", _("Recovers the system from the basic failures.")),
    Item("reporting", _("Makes the reports that operations needs.")),
    Item("emergencies", _("Knows what to do in an emergency.")),
    Item("escalates", _("Knows when to call the next level.")),
)
STEPS = {item.name: item for day in TRAINING for item in day.steps}
POINTS = {item.name: item for item in CERTIFICATE}


@dataclass(frozen=True)
class Document:
    """`address` is the page that shows it. It is read again `review_days` after its last review, or
    after its date.
    """

    name: str
    title: Text
    address: str
    version: str
    date: date
    keeper: Text
    review_days: int = 180


OPERATORS, DEVELOPERS = _("Operators (L2)"), _("Developers (L3)")
DOCUMENTS = {
    document.name: document
    for document in (
        Document(
            "runbooks",
            _("Runbooks"),
            "/operations/runbooks/",
            "1.3",
            date(2026, 11, 30),
            DEVELOPERS,
            90,
        ),
        Document(
            "escalation",
            _("Escalation matrix"),
            "/operations/people/",
            "1.0",
            date(2026, 11, 30),
            OPERATORS,
            90,
        ),
        Document(
            "checklists",
            _("Checklists"),
            "/operations/checklists/daily/",
            "1.0",
            date(2026, 11, 30),
            OPERATORS,
        ),
        Document(
            "training",
            pgettext_lazy("operators", "Training"),
            "/operations/training/",
            "1.0",
            date(2026, 11, 30),
            OPERATORS,
        ),
        Document(
            "guide-operations",
            _("Operations guide"),
            "/operations/guides/operations/",
            "1.0",
            date(2026, 11, 30),
            DEVELOPERS,
        ),
        Document(
            "guide-user",
            _("User guide"),
            "/operations/guides/user/",
            "1.0",
            date(2026, 11, 30),
            DEVELOPERS,
        ),
    )
}
