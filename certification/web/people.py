"""Who keeps the system, on pages: escalation, checklists with their records, training, documents
and when they are read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.db.models import Count, Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certification.lib import clock
from certification.models import (
    ChecklistRecord,
    ChecklistTick,
    Contact,
    DocumentReview,
    Drill,
    TrainingTick,
    User,
)
from certification.operations.documents import (
    CERTIFICATE,
    CHECKLISTS,
    DOCUMENTS,
    ESCALATION,
    POINTS,
    STEPS,
    TRAINING,
    Checklist,
    Document,
    Item,
    Level,
    TrainingDay,
)

RECORDS_PER_PAGE = 20
DRILLS_SHOWN = 10
PEOPLE_SHOWN = 100


@dataclass(frozen=True)
class LevelRow:
    level: Level
    minutes: int
    contacts: Sequence[Contact]


def escalation() -> list[LevelRow]:
    """Return the levels with when each is called and who it is."""
    contacts = list(Contact.objects.all())
    minutes = (0, *settings.ALERT_ESCALATION_MINUTES)
    return [
        LevelRow(level, after, [contact for contact in contacts if contact.level == level.number])
        for level, after in zip(ESCALATION, minutes, strict=True)
    ]


@dataclass(frozen=True)
class DocumentRow:
    document: Document
    reviewed_at: datetime | None
    today: date

    @property
    def next_review(self) -> date:
        """When it is to be read again: a document that is newer than its review needs none yet."""
        reviewed = self.reviewed_at.date() if self.reviewed_at else self.document.date
        last = max(reviewed, self.document.date)
        return last + timedelta(days=self.document.review_days)

    @property
    def is_overdue(self) -> bool:
        return self.next_review < self.today


def document_rows(today: date) -> list[DocumentRow]:
    """Return every document with its last review."""
    last = dict(DocumentReview.objects.order_by().values_list("document").annotate(Max("at")))
    return [DocumentRow(document, last.get(name), today) for name, document in DOCUMENTS.items()]


@dataclass(frozen=True)
class ChecklistRow:
    """A checklist in its current period; `record` is None until somebody begins."""

    checklist: Checklist
    period: date
    record: ChecklistRecord | None
    ticks: int

    @property
    def is_signed(self) -> bool:
        return self.record is not None and self.record.signed_at is not None


def checklist_rows(today: date) -> list[ChecklistRow]:
    """Return every checklist as it stands in its period."""
    periods = {name: checklist.begins(today) for name, checklist in CHECKLISTS.items()}
    records = {
        record.checklist: record
        for record in ChecklistRecord.objects.filter(period__gte=min(periods.values())).annotate(
            number=Count("ticks")
        )
        if periods.get(record.checklist) == record.period
    }
    return [
        ChecklistRow(checklist, periods[name], records.get(name), number_of(records.get(name)))
        for name, checklist in CHECKLISTS.items()
    ]


def number_of(record: ChecklistRecord | None) -> int:
    """Return how many ticks a record has that was read with them."""
    number: int = getattr(record, "number", 0)
    return number


@dataclass(frozen=True)
class PeoplePage:
    levels: Sequence[LevelRow]
    checklists: Sequence[ChecklistRow]
    documents: Sequence[DocumentRow]
    trainees: Sequence[Trainee]

    @property
    def sentence(self) -> str:
        open_ones = sum(not row.is_signed for row in self.checklists)
        overdue = sum(row.is_overdue for row in self.documents)
        checklists = ngettext(
            "%(n)d checklist is not signed in its period",
            "%(n)d checklists are not signed in their periods",
            open_ones,
        ) % {"n": open_ones}
        if not overdue:
            return _("%(checklists)s; no review of a document is overdue.") % {
                "checklists": checklists
            }
        reviews = ngettext(
            "the review of %(n)d document is overdue.",
            "the reviews of %(n)d documents are overdue.",
            overdue,
        ) % {"n": overdue}
        return f"{checklists}; {reviews}"


def load_people() -> PeoplePage:
    today = clock.now().date()
    return PeoplePage(escalation(), checklist_rows(today), document_rows(today), trainees())


@dataclass(frozen=True)
class ItemRow:
    item: Item
    tick: ChecklistTick | None


@dataclass(frozen=True)
class ChecklistPage:
    checklist: Checklist
    period: date
    record: ChecklistRecord | None
    ticks: Sequence[ChecklistTick]
    records: Page[ChecklistRecord]  # earlier ones

    @property
    def items(self) -> list[ItemRow]:
        return [ItemRow(item, self.tick_of(item.name)) for item in self.checklist.items]

    def tick_of(self, name: str) -> ChecklistTick | None:
        return next((tick for tick in self.ticks if tick.item == name), None)

    @property
    def left(self) -> int:
        return sum(row.tick is None for row in self.items)

    @property
    def is_signed(self) -> bool:
        return self.record is not None and self.record.signed_at is not None

    @property
    def sentence(self) -> str:
        if self.is_signed:
            return _("It is signed.")
        if not self.left:
            return _("Everything is ticked; somebody has to sign it.")
        return ngettext("%(n)d point is open.", "%(n)d points are open.", self.left) % {
            "n": self.left
        }


def load_checklist(checklist: Checklist, number: str | None) -> ChecklistPage:
    """Read a checklist in its period, and a page of its earlier records."""
    period = checklist.begins(clock.now().date())
    records = ChecklistRecord.objects.filter(checklist=checklist.name)
    record = records.filter(period=period).first()
    earlier = records.exclude(period=period).prefetch_related("ticks")
    return ChecklistPage(
        checklist,
        period,
        record,
        list(record.ticks.all()) if record else [],
        Paginator(earlier, RECORDS_PER_PAGE).get_page(number),
    )


def save_checklist(checklist: Checklist, form: Mapping[str, str], email: str) -> int:
    """Tick what a form ticks; return how many that were not ticked before."""
    record = ChecklistRecord.begin(checklist.name, checklist.begins(clock.now().date()))
    names = [item.name for item in checklist.items if form.get(f"tick-{item.name}")]
    return sum(record.tick(name, email, line_of(form, f"note-{name}")) for name in names)


def line_of(form: Mapping[str, str], name: str) -> str:
    """Return a text of a form in one line."""
    return " ".join(form.get(name, "").replace("\0", "").split())


def sign_checklist(checklist: Checklist, note: str, email: str) -> str:
    """Sign the checklist of this period. Returns why not, or ""."""
    page = load_checklist(checklist, None)
    if page.left and not note:
        return _("Tick every point, or say in the note why some are left.")
    record = page.record or ChecklistRecord.begin(checklist.name, page.period)
    return "" if record.sign(email, note) else _("It was signed already.")


@dataclass(frozen=True)
class StepRow:
    item: Item
    tick: TrainingTick | None


@dataclass(frozen=True)
class Trainee:
    """How far somebody is."""

    email: str
    steps: int
    points: int

    @property
    def all_steps(self) -> int:
        return len(STEPS)

    @property
    def all_points(self) -> int:
        return len(POINTS)

    @property
    def is_certified(self) -> bool:
        return self.points == len(POINTS)


def trainees() -> list[Trainee]:
    """Return the operators with what each has done; those first who have begun."""
    users = User.objects.filter(is_active=True).prefetch_related("groups").order_by("email")
    names = [user.email for user in users if user.is_operator][:PEOPLE_SHOWN]
    ticks = TrainingTick.objects.filter(person__in=names).values_list("person", "step")
    steps = Counter(person for person, step in ticks if step in STEPS)
    points = Counter(person for person, step in ticks if step in POINTS)
    rows = [Trainee(name, steps[name], points[name]) for name in names]
    return sorted(rows, key=lambda row: (-row.steps - row.points, row.email))


@dataclass(frozen=True)
class TrainingPage:
    person: str
    is_own: bool
    ticks: Mapping[str, TrainingTick]
    drills: Sequence[Drill]
    people: Sequence[Trainee]

    @property
    def days(self) -> list[tuple[TrainingDay, list[StepRow]]]:
        return [(day, self.rows(day.steps)) for day in TRAINING]

    @property
    def points(self) -> list[StepRow]:
        return self.rows(CERTIFICATE)

    def rows(self, items: Sequence[Item]) -> list[StepRow]:
        return [StepRow(item, self.ticks.get(item.name)) for item in items]

    @property
    def steps_done(self) -> int:
        return sum(name in STEPS for name in self.ticks)

    @property
    def points_done(self) -> int:
        return sum(name in POINTS for name in self.ticks)

    @property
    def certified_at(self) -> datetime | None:
        """When the last point was confirmed; None while one is missing."""
        moments = [tick.at for name, tick in self.ticks.items() if name in POINTS]
        return max(moments) if len(moments) == len(POINTS) else None

    @property
    def sentence(self) -> str:
        if self.certified_at:
            return _("%(person)s is a certified operator.") % {"person": self.person}
        return _("%(steps)d of %(all)d steps, %(points)d of %(required)d points.") % {
            "steps": self.steps_done,
            "all": len(STEPS),
            "points": self.points_done,
            "required": len(POINTS),
        }


def load_training(own: str, person: str) -> TrainingPage:
    """Read how far a person is: oneself, or the operator whom the address names."""
    people = trainees()
    names = {row.email for row in people}
    chosen = person if person in names else own
    ticks = {tick.step: tick for tick in TrainingTick.objects.filter(person=chosen)}
    drills = list(Drill.objects.filter(person=chosen)[:DRILLS_SHOWN])
    return TrainingPage(chosen, chosen == own, ticks, drills, people)
