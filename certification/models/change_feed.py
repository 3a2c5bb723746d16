"""Read what changed in a job since the last read, without loss and without repetition, in whatever
order transactions commit.

Each run bears the id of the transaction that last changed its state (`changed_in`, written by the
database). What a reader has seen is a PostgreSQL snapshot, which knows the transactions that were
still open when it was taken: a change is new to the reader when the snapshot does not see its
transaction. Times and sequence numbers cannot do that: a change that is committed late bears an
early one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import BigIntegerField, BooleanField, QuerySet, TextField
from django.db.models.expressions import RawSQL

from certification.models import sql
from certification.models.jobs import CertificationRun

MAX_TEXT = 4000  # characters of a cursor
FORM = re.compile(
    r"(\d{1,19}):(\d{1,19}):((?:\d{1,19},)*\d{1,19})?(?:\.(\d{1,19})\.([0-9a-f-]{36}))?", re.ASCII
)
LARGEST = 2**63 - 1
NOBODY = uuid.UUID(int=0)


@dataclass(frozen=True)
class Cursor:
    """The changes that were seen: of every transaction before `end` but the `open` ones, and of
    transaction `part` those of the runs up to the id `run`. As text: `<lowest
    open>:<end>:<open,...>[.<part>.<run>]`.
    """

    end: int
    open: tuple[int, ...] = ()
    part: int = 0
    run: uuid.UUID = NOBODY

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """ValueError when no cursor looks like this."""
        match = FORM.fullmatch(text) if len(text) <= MAX_TEXT else None
        if match is None:
            raise ValueError(text)
        _low, end, still_open, part, run = match.groups()
        cursor = cls(
            int(end),
            tuple(int(each) for each in still_open.split(",")) if still_open else (),
            int(part or 0),
            uuid.UUID(run) if run else NOBODY,
        )
        in_order = [0, *cursor.open, cursor.end]
        if (
            in_order != sorted(set(in_order))
            or max(cursor.end, cursor.part) > LARGEST
            or str(cursor) != text
        ):
            raise ValueError(text)
        return cursor

    @classmethod
    def now(cls) -> Cursor:
        """Everything that is committed at this moment."""
        row = sql.fetch_one(f"SELECT {sql.SNAPSHOT} AS snapshot")
        assert row is not None  # noqa: S101 - a function always gives a row
        return cls.parse(row["snapshot"])

    @property
    def lowest(self) -> int:
        """No transaction before this one is unseen."""
        return self.open[0] if self.open else self.end

    @property
    def snapshot(self) -> str:
        return f"{self.lowest}:{self.end}:{','.join(map(str, self.open))}"

    def __str__(self) -> str:
        return f"{self.snapshot}.{self.part}.{self.run}" if self.part else self.snapshot

    def upto(self, change: int, run: uuid.UUID, after: Cursor) -> Cursor:
        """The cursor of somebody who read on from here to this run's change, in the order of
        `changes`, and lost the rest.

        `after` is where the reading would have ended.
        """
        still_open = {x for x in after.open if x < change} | {x for x in self.open if x >= change}
        return Cursor(max(self.end, change), tuple(sorted(still_open)), change, run)


def changes(
    rows: QuerySet[CertificationRun], since: Cursor
) -> Iterator[tuple[CertificationRun, Cursor]]:
    """The changed ones of these rows, each with the cursor to read on from after it."""
    new = RawSQL(  # noqa: S611
        sql.CHANGED_SINCE,
        [str(since.lowest), since.snapshot, str(since.part), since.run],
        BooleanField(),
    )
    changed_in = RawSQL(sql.CHANGED_IN, [], BigIntegerField())  # noqa: S611
    changed = list(
        rows.annotate(
            changed_in=changed_in,
            snapshot=RawSQL(sql.SNAPSHOT, [], TextField()),  # noqa: S611,
        )
        .filter(new)
        .order_by("changed_in", "pk")
    )
    if changed:
        after = Cursor.parse(changed[0].snapshot)
        yield from ((row, since.upto(row.changed_in, row.pk, after)) for row in changed[:-1])
        yield changed[-1], after
