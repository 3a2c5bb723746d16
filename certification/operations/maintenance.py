"""The care of the database: dead rows, bloated and broken indexes, what nobody uses; and who does
what in it now.

One thing at a time, each under a lock that lets runs go on, and given up when that lock is not to
be had within seconds. What would lock a table (VACUUM FULL) is named, never done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import Identifier

from certification.lib import clock
from certification.monitoring.findings import Finding
from certification.operations import server, sql
from certification.operations.archive import BackupFault

LOCK = 5_870_342
DEAD_SHARE, MIN_DEAD = 0.2, 10_000
BLOAT, MIN_BLOATED = 2.0, 10_000_000  # times what the rows need; bytes
MIN_UNUSED, UNUSED_AFTER = 1_000_000, timedelta(days=30)  # bytes; of counting
SCANS, ROWS_EACH = 50, 100_000  # of a table without a fitting index
WRAPAROUND_PERCENT = 50.0
REMAINS = re.compile(r"_cc(new|old)\d*$")  # of a REINDEX CONCURRENTLY that was interrupted
VALUES = re.compile(r"'(?:[^']|'')*'|\b\d[\d.]*\b")
MAX_STATEMENT = 120  # characters
BIG = 1_000_000_000


@dataclass(frozen=True)
class Action:
    """Something that is done to one table or index, and why."""

    kind: str  # vacuum, reindex, drop
    name: str
    why: str


@dataclass(frozen=True)
class Done:
    """How an action went: `fault` is empty when it is done."""

    action: Action
    seconds: float
    fault: str = ""


def plan(own: psycopg.Connection[Any]) -> list[Action]:
    """Return what is to be done now, the smaller first."""
    return [*vacuums(own), *reindexes(own)]


def rows_of(own: psycopg.Connection[Any], statement: str, **values: Any) -> list[dict[str, Any]]:
    """Return a statement's rows by column name. Raises BackupFault where somebody holds a table so
    that nobody can even measure it.
    """
    try:
        return own.cursor(row_factory=dict_row).execute(statement, values).fetchall()
    except psycopg.errors.LockNotAvailable as error:
        raise BackupFault(
            "Somebody holds a table exclusively (manage.py db_maintenance --activity). Try again "
            "when that has ended."
        ) from error


def vacuums(own: psycopg.Connection[Any]) -> Iterator[Action]:
    for row in rows_of(own, sql.TABLES_TO_VACUUM):
        share = row["dead"] / max(row["rows"] + row["dead"], 1)
        if row["dead"] >= MIN_DEAD and share >= DEAD_SHARE:
            why = f"{row['dead']} dead rows, {share:.0%} of all"
            yield Action("vacuum", row["name"], why)


def reindexes(own: psycopg.Connection[Any]) -> Iterator[Action]:
    """Yield remains to remove, broken indexes, and those of more than twice the size that their
    rows need.
    """
    indexes = rows_of(own, sql.INDEXES)
    for row in indexes:
        if not row["is_valid"] and REMAINS.search(row["name"]):
            yield Action("drop", row["name"], "left by a reindex that was interrupted")
        elif not row["is_valid"]:
            yield Action("reindex", row["name"], "it is invalid: nobody can use it")
    for row in sorted(indexes, key=lambda row: row["bytes"]):
        is_bloated = row["bytes"] > BLOAT * max(row["expected"], 1)
        if row["is_valid"] and is_bloated and row["bytes"] >= MIN_BLOATED:
            why = f"{row['bytes'] / 1e6:.0f} MB, its rows need {row['expected'] / 1e6:.0f}"
            yield Action("reindex", row["name"], why)


def work(deadline: float = float("inf")) -> Iterator[Done]:
    """Do what is to be done, one action after the other, until `deadline` (by the monotonic clock).
    Raises BackupFault when somebody else is at it.
    """
    with server.connect() as own, server.hold_lock(own, LOCK) as is_ours:
        if not is_ours:
            raise BackupFault("Another db_maintenance is at work. Wait for it.")
        own.execute(sql.IMPATIENT)
        for action in plan(own):
            if time.monotonic() > deadline:
                yield Done(action, 0.0, "left for the next time: the time was over")
                continue
            began = time.monotonic()
            fault = attempt(own, action)
            yield Done(action, round(time.monotonic() - began, 2), fault)


STATEMENTS = {"vacuum": sql.VACUUM, "reindex": sql.REINDEX, "drop": sql.DROP_INDEX}


def attempt(own: psycopg.Connection[Any], action: Action) -> str:
    """Do one action; return why it could not be done, "" when it is."""
    try:
        own.execute(STATEMENTS[action.kind].format(Identifier(action.name)))
    except psycopg.errors.LockNotAvailable:
        return "somebody holds the table: it is tried the next time"
    except psycopg.errors.InsufficientPrivilege:
        return "the database role does not own it"
    return ""


def findings(own: psycopg.Connection[Any]) -> Iterator[Finding]:
    """Yield what people decide: indexes that nobody uses, tables that are read whole, a transaction
    age that grows, and large tables that only VACUUM FULL would shrink.
    """
    own.execute(sql.IMPATIENT)
    [counted] = rows_of(own, sql.COUNTED_SINCE)
    since: datetime | None = counted["at"]
    if since is None or clock.now() - since > UNUSED_AFTER:
        for row in rows_of(own, sql.INDEXES):
            if not row["scans"] and not row["is_unique"] and row["bytes"] > MIN_UNUSED:
                what = f"Nobody used the index {row['name']} ({row['bytes'] / 1e6:.0f} MB)."
                yield Finding(what, "Each write pays for it.", "Report it: a release removes it.")
    for row in rows_of(own, sql.SCANNED_TABLES, scans=SCANS, rows=ROWS_EACH):
        what = f"{row['name']} was read whole {row['scans']} times, {row['rows_each']} rows each."
        yield Finding(what, "An index may be missing.", "manage.py analyze_performance")
    [age] = rows_of(own, sql.WRAPAROUND)
    if age["percent"] > WRAPAROUND_PERCENT:
        what = f"The oldest row is {age['percent']:.0f} % of the way to the wraparound."
        yield Finding(what, "At the end PostgreSQL takes no writes.", "VACUUM FREEZE, at night.")
    for row in rows_of(own, sql.TABLES_TO_VACUUM):
        if row["bytes"] > BIG and row["dead"] > row["rows"]:
            what = f"{row['name']} has {row['bytes'] / 1e9:.1f} GB for {row['rows']} rows."
            fix = f"VACUUM FULL {row['name']}; it locks the table: choose the hour."
            yield Finding(what, "Only a new table gives the room back.", fix)


# Activity


@dataclass(frozen=True)
class Session:
    """A connection to our database. `statement` is what it does or did last, without values."""

    pid: int
    role: str
    application: str
    state: str
    transaction_s: float | None
    state_s: float | None
    waits_for: str
    blocked_by: Sequence[int]
    statement: str


def activity(own: psycopg.Connection[Any]) -> list[Session]:
    return [session_of(row) for row in rows_of(own, sql.ACTIVITY)]


def session_of(row: Mapping[str, Any]) -> Session:
    return Session(
        pid=row["pid"],
        role=row["role"] or "",
        application=row["application"] or "",
        state=row["state"] or "",
        transaction_s=row["transaction_seconds"],
        state_s=row["state_seconds"],
        waits_for=row["waits_for"] or "",
        blocked_by=list(row["blocked_by"] or ()),
        statement=without_values(row["query"] or ""),
    )


def without_values(statement: str) -> str:
    """Return a statement with ? for its texts and numbers, in one line."""
    text = " ".join(VALUES.sub("?", statement).split())
    return text if len(text) <= MAX_STATEMENT else f"{text[: MAX_STATEMENT - 3]}..."


def cancel(own: psycopg.Connection[Any], pid: int) -> bool:
    """Cancel what a session of our database does now. False when there is none of this pid."""
    rows = rows_of(own, sql.CANCEL, pid=pid)
    return bool(rows and rows[0]["cancelled"])
