"""What a migration does to those who work meanwhile: the lock that each operation takes, whether it
reads or writes every row under it, and whether the release that runs would break on what it leaves.

The rule is expand and contract: a release adds what it needs and the release before does not know;
what nobody uses any more is removed by a later one. A migration that removes says since which
release nothing uses it: `unused_since = "0.2.0"` in its class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from django.contrib.postgres import operations as postgres
from django.db import connection, models
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models.functions import Now


class Lock(IntEnum):
    """PostgreSQL's locks of a table that matter here, the weaker first. A lock is held until the
    transaction of the migration ends.
    """

    NONE = 0
    ROW_EXCLUSIVE = 1  # writes rows beside others
    SHARE_UPDATE_EXCLUSIVE = 2  # others read and write
    SHARE = 3  # others read
    SHARE_ROW_EXCLUSIVE = 4  # others read
    ACCESS_EXCLUSIVE = 5  # others wait

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")

    @property
    def stops_writes(self) -> bool:
        return self >= Lock.SHARE

    @property
    def stops_reads(self) -> bool:
        return self is Lock.ACCESS_EXCLUSIVE


@dataclass(frozen=True)
class Finding:
    """What one operation does to one table; `table` is "" where that cannot be known.

    `scans`: it reads or writes every row while it holds the lock, or builds an index of them.
    `breaks` says why the release before fails on it, "" where that one can go on; `warning` what to
    know besides; `advice` what to do instead.
    """

    operation: str
    table: str
    lock: Lock
    scans: bool = False
    breaks: str = ""
    warning: str = ""
    advice: str = ""

    @property
    def holds_up(self) -> bool:
        """Whether others wait for as long as a pass over the table takes."""
        return self.scans and self.lock.stops_writes

    def to_json(self) -> dict[str, Any]:
        return {
            "operation": self.operation,
            "table": self.table,
            "lock": self.lock.label,
            "scans": self.scans,
            "breaks": self.breaks,
            "warning": self.warning,
            "advice": self.advice,
        }


EXPAND = "Expand now, contract in a later release."
CONCURRENTLY = "Use AddIndexConcurrently in a migration with atomic = False."
NOT_VALID = "Use AddConstraintNotValid now and ValidateConstraint in a migration of its own."


def judge(migration: Migration, before: ProjectState | None = None) -> list[Finding]:
    """Return what each operation of a migration does, in their order; nothing for those that leave
    the database as it is. `before` is the state of the models before it (default: as the migrations
    on disk give it). Asks no database.
    """
    state = (state_before(migration) if before is None else before).clone()
    return list(judge_all(migration.operations, migration.app_label, state, set()))


def state_before(migration: Migration) -> ProjectState:
    """Return the state of the models before a migration, from the migrations on disk."""
    loader = MigrationLoader(None)
    nodes = [
        parent
        for parent in migration.dependencies
        if isinstance(parent, tuple) and parent in loader.graph.nodes
    ]
    return loader.project_state(nodes) if nodes else ProjectState(real_apps=loader.unmigrated_apps)


def judge_all(
    sequence: Iterable[Operation], app: str, state: ProjectState, created: set[str]
) -> Iterator[Finding]:
    """Judge operations one after the other; `state` and `created`, the tables that are new, are
    carried on. Nobody waits for a table that nobody knows.
    """
    for operation in sequence:
        after = state.clone()
        operation.state_forwards(app, after)
        if isinstance(operation, operations.SeparateDatabaseAndState):
            yield from judge_all(operation.database_operations, app, state.clone(), created)
        else:
            change = Change(operation, app, state, after, created)
            for finding in judge_one(change):
                is_new = finding.table and finding.table in created
                yield Finding(finding.operation, finding.table, Lock.NONE) if is_new else finding
        state = after


@dataclass(frozen=True)
class Change:
    """One operation between two states of the models."""

    operation: Any
    app: str
    before: ProjectState
    after: ProjectState
    created: set[str]

    @property
    def words(self) -> str:
        return str(self.operation.describe())

    def model(self, *, after: bool = False) -> Any:
        """Return the model that the operation is about, as it was or will be."""
        operation = self.operation
        name = str(getattr(operation, "model_name", "") or operation.name)
        return model_in(self.after if after else self.before, self.app, name)

    def field(self, *, after: bool = False) -> Any:
        return self.model(after=after)._meta.get_field(self.operation.name)

    def finding(self, table: str, lock: Lock, **more: Any) -> Finding:
        return Finding(self.words, table, lock, **more)


def model_in(state: ProjectState, app: str, name: str) -> Any:
    return state.apps.get_model(app, name)


def table_of(model: Any) -> str:
    return str(model._meta.db_table)


def judge_one(change: Change) -> Iterator[Finding]:
    """Judge one operation by what it is; one of an unknown kind may do anything."""
    for kinds, judgement in JUDGEMENTS:
        if isinstance(change.operation, kinds):
            yield from judgement(change)
            return
    yield from run_python(change)


def create_model(change: Change) -> Iterator[Finding]:
    model = change.model(after=True)
    if not model._meta.managed or model._meta.proxy:
        return
    yield change.finding(table_of(model), Lock.NONE)
    change.created.add(table_of(model))
    for field in model._meta.local_fields:
        yield from referenced(change, field)
    for field in model._meta.local_many_to_many:
        change.created.add(field.m2m_db_table())


def referenced(change: Change, field: Any) -> Iterator[Finding]:
    """Judge what a new foreign key does to the table that it names."""
    if field.remote_field and getattr(field, "db_constraint", False):
        yield change.finding(table_of(field.remote_field.model), Lock.SHARE_ROW_EXCLUSIVE)


def delete_model(change: Change) -> Iterator[Finding]:
    model = change.model()
    if model._meta.managed and not model._meta.proxy:
        why = f"The running release reads and writes {table_of(model)}."
        yield change.finding(table_of(model), Lock.ACCESS_EXCLUSIVE, breaks=why, advice=EXPAND)


def rename_model(change: Change) -> Iterator[Finding]:
    old = model_in(change.before, change.app, change.operation.old_name)
    new = model_in(change.after, change.app, change.operation.new_name)
    yield from rename_table(change, table_of(old), table_of(new))


def alter_table(change: Change) -> Iterator[Finding]:
    yield from rename_table(change, table_of(change.model()), table_of(change.model(after=True)))


def rename_table(change: Change, old: str, new: str) -> Iterator[Finding]:
    if old != new:
        why = f"The running release knows the table as {old}."
        advice = "Leave its name: Meta.db_table."
        yield change.finding(old, Lock.ACCESS_EXCLUSIVE, breaks=why, advice=advice)


def add_field(change: Change) -> Iterator[Finding]:
    model, field = change.model(after=True), change.field(after=True)
    table = table_of(model)
    if field.many_to_many:
        change.created.add(field.m2m_db_table())
        return
    if field.column is None:
        return
    breaks = advice = ""
    is_generated = getattr(field, "generated", False)
    if not field.null and not has_default(field) and not is_generated:
        breaks = f"The running release does not fill {table}.{field.column}, which may not be NULL."
        advice = "Give it a db_default, or let it be null."
    if is_generated or is_volatile(field):
        scans, advice = True, advice or "Add it null, fill it in batches, then set its default."
    else:
        scans = field.db_index or field.unique  # Django builds the index in the same transaction
        advice = advice or (CONCURRENTLY if scans else "")
    yield change.finding(table, Lock.ACCESS_EXCLUSIVE, scans=scans, breaks=breaks, advice=advice)
    yield from referenced(change, field)


def has_default(field: Any) -> bool:
    """Whether the database itself fills a column that an INSERT does not name."""
    return bool(field.has_db_default() or isinstance(field, models.AutoField))


def is_volatile(field: Any) -> bool:
    """Whether the default of a new column is another for each row: the table is written anew."""
    if not field.has_db_default():
        return isinstance(field, models.AutoField)
    default = field.db_default
    return hasattr(default, "resolve_expression") and not isinstance(default, models.Value | Now)


def remove_field(change: Change) -> Iterator[Finding]:
    model, field = change.model(), change.field()
    if field.many_to_many:
        if field.remote_field.through._meta.auto_created:
            table = field.m2m_db_table()
            why = f"The running release reads and writes {table}."
            yield change.finding(table, Lock.ACCESS_EXCLUSIVE, breaks=why, advice=EXPAND)
    elif field.column is not None:
        why = f"The running release reads and writes {table_of(model)}.{field.column}."
        yield change.finding(table_of(model), Lock.ACCESS_EXCLUSIVE, breaks=why, advice=EXPAND)


def rename_field(change: Change) -> Iterator[Finding]:
    operation = change.operation
    old = change.model()._meta.get_field(operation.old_name)
    new = change.model(after=True)._meta.get_field(operation.new_name)
    if old.column != new.column:
        table = table_of(change.model())
        why = f"The running release knows {table}.{old.column} by its old name."
        advice = "Leave the column's name: db_column."
        yield change.finding(table, Lock.ACCESS_EXCLUSIVE, breaks=why, advice=advice)


def alter_field(change: Change) -> Iterator[Finding]:
    """Judge what differs between a field before and after in the database alone: choices, texts and
    Python's defaults are nothing to it.
    """
    old, new, table = change.field(), change.field(after=True), table_of(change.model())
    if old.column is None or new.column is None:
        return
    lock, name = Lock.ACCESS_EXCLUSIVE, f"{table}.{old.column}"
    if old.column != new.column:
        why, advice = f"The running release knows {name} by its old name.", "Leave its db_column."
        yield change.finding(table, lock, breaks=why, advice=advice)
    yield from alter_type(change, old.db_type(connection), new.db_type(connection), name, table)
    if old.null and not new.null:
        why = f"The running release may write NULL into {name}."
        advice = f"Add a check that it is not null. {NOT_VALID}"
        yield change.finding(table, lock, scans=True, breaks=why, advice=advice)
    elif new.null and not old.null:
        warning = "Once the new release has written NULL, the old one reads it."
        yield change.finding(table, lock, warning=warning)
    if new.unique and not old.unique:
        warning = f"Equal values in {name} make it fail, and are refused from then on."
        yield change.finding(table, lock, scans=True, warning=warning, advice=CONCURRENTLY)
    elif new.db_index and not old.db_index:
        yield change.finding(table, Lock.SHARE, scans=True, advice=CONCURRENTLY)
    if old.has_db_default() and not new.has_db_default() and not new.null:
        why = f"The running release leaves {name} to its default."
        yield change.finding(table, lock, breaks=why, advice=EXPAND)
    elif new.has_db_default() and new.db_default != old.db_default:
        yield change.finding(table, lock)
    if getattr(new, "db_constraint", False) and not getattr(old, "db_constraint", False):
        yield change.finding(table, Lock.SHARE_ROW_EXCLUSIVE, scans=True)
        yield from referenced(change, new)


VARCHAR = re.compile(r"varchar\((\d+)\)")


def alter_type(
    change: Change, old: str | None, new: str | None, name: str, table: str
) -> Iterator[Finding]:
    """Judge another type of a column: longer texts cost nothing, everything else a new table."""
    if old == new or old is None or new is None:
        return
    was, will_be = VARCHAR.fullmatch(old), VARCHAR.fullmatch(new)
    lock = Lock.ACCESS_EXCLUSIVE
    if was and (new == "text" or (will_be and int(will_be[1]) >= int(was[1]))):
        yield change.finding(table, lock)
        return
    why = f"The running release writes {old} into {name}, which will be {new}."
    yield change.finding(table, lock, scans=True, breaks=why, advice=f"Add a new column. {EXPAND}")


def add_index(change: Change) -> Iterator[Finding]:
    table = table_of(change.model())
    yield change.finding(table, Lock.SHARE, scans=True, advice=CONCURRENTLY)


def change_index_concurrently(change: Change) -> Iterator[Finding]:
    scans = isinstance(change.operation, postgres.AddIndexConcurrently)
    yield change.finding(table_of(change.model()), Lock.SHARE_UPDATE_EXCLUSIVE, scans=scans)


def remove_index(change: Change) -> Iterator[Finding]:
    yield change.finding(table_of(change.model()), Lock.ACCESS_EXCLUSIVE)


def rename_index(change: Change) -> Iterator[Finding]:
    yield change.finding(table_of(change.model()), Lock.SHARE_UPDATE_EXCLUSIVE)


def add_constraint(change: Change) -> Iterator[Finding]:
    constraint, table = change.operation.constraint, table_of(change.model())
    is_check = isinstance(constraint, models.CheckConstraint)
    advice = NOT_VALID if is_check else "Build its unique index concurrently first (RunSQL)."
    warning = "Rows that violate it make it fail; the running release may still write such rows."
    lock = Lock.ACCESS_EXCLUSIVE if is_check else Lock.SHARE
    if isinstance(constraint, models.UniqueConstraint) and not is_partial(constraint):
        lock = Lock.ACCESS_EXCLUSIVE  # ALTER TABLE ... ADD CONSTRAINT; others are CREATE INDEX
    yield change.finding(table, lock, scans=True, warning=warning, advice=advice)


def is_partial(constraint: Any) -> bool:
    """Whether a unique constraint is an index alone for PostgreSQL."""
    return bool(constraint.condition or constraint.expressions or constraint.include)


def add_constraint_not_valid(change: Change) -> Iterator[Finding]:
    warning = "The running release may still write rows that violate it."
    yield change.finding(table_of(change.model()), Lock.ACCESS_EXCLUSIVE, warning=warning)


def validate_constraint(change: Change) -> Iterator[Finding]:
    yield change.finding(table_of(change.model()), Lock.SHARE_UPDATE_EXCLUSIVE, scans=True)


def remove_constraint(change: Change) -> Iterator[Finding]:
    constraints = change.model()._meta.constraints
    removed = [each for each in constraints if each.name == change.operation.name]
    is_unique = any(isinstance(each, models.UniqueConstraint) for each in removed)
    warning = (
        "An INSERT ... ON CONFLICT of the running release may rest on it." if is_unique else ""
    )
    yield change.finding(table_of(change.model()), Lock.ACCESS_EXCLUSIVE, warning=warning)


def alter_together(change: Change) -> Iterator[Finding]:
    """Judge another unique_together or index_together."""
    option = change.operation.option_name
    before, after = (
        {tuple(names) for names in getattr(model._meta, option, None) or ()}
        for model in (change.model(), change.model(after=True))
    )
    table = table_of(change.model())
    if after - before:
        yield change.finding(table, Lock.ACCESS_EXCLUSIVE, scans=True, advice=CONCURRENTLY)
    elif before - after:
        yield change.finding(table, Lock.ACCESS_EXCLUSIVE)


def alter_order(change: Change) -> Iterator[Finding]:
    table = table_of(change.model())
    why = f"The running release does not know {table}._order."
    yield change.finding(table, Lock.ACCESS_EXCLUSIVE, breaks=why, advice=EXPAND)


def comment_on_table(change: Change) -> Iterator[Finding]:
    yield change.finding(table_of(change.model()), Lock.SHARE_UPDATE_EXCLUSIVE)


def nothing(_change: Change) -> Iterator[Finding]:
    yield from ()


def run_python(change: Change) -> Iterator[Finding]:
    """Judge Python code: it may write any rows."""
    if getattr(change.operation, "code", None) is operations.RunPython.noop:
        return
    warning = "It runs Python, which may write any row of any table: read it."
    advice = "Write in batches, in a migration of its own with atomic = False."
    yield change.finding("", Lock.ROW_EXCLUSIVE, scans=True, warning=warning, advice=advice)


# SQL

NAME = r'(?:"?\w+"?\.)?"?(?P<table>\w+)"?'
SQL_LOCKS = {
    "row exclusive": Lock.ROW_EXCLUSIVE,
    "share update exclusive": Lock.SHARE_UPDATE_EXCLUSIVE,
    "share": Lock.SHARE,
    "share row exclusive": Lock.SHARE_ROW_EXCLUSIVE,
}
# Texts, bodies of functions, comments: what stands in them is no statement of ours.
QUOTED = re.compile(r"'(?:[^']|'')*'|(\$\w*\$).*?\1|--[^\n]*|/\*.*?\*/", re.DOTALL)
BRACKETS = re.compile(r"\([^()]*\)")
NO_COLUMN = r"(?!(?:constraint|check|unique|primary|foreign|exclude)\b)"
# ALTER TABLE, by what it does: whether it reads every row, and why it breaks the running release.
ALTERATIONS: tuple[tuple[str, bool, str], ...] = (
    (r"\brename\b(?!\s+constraint)", False, "The running release knows the old name."),
    (r"\bdrop\s+(?!(?:constraint|not|default|expression|identity)\b)\w", False,
     "The running release uses what is dropped."),
    (r"\bdrop\s+default\b", False, "The running release may leave it to its default."),
    (r"\bset\s+not\s+null\b", True, "The running release may write NULL."),
    (rf"\badd\s+{NO_COLUMN}(?=[^,]*\bnot\s+null\b)(?![^,]*\b(?:default|generated|\w*serial)\b)",
     False, "The running release does not fill the new column, which may not be NULL."),
    (rf"\badd\s+{NO_COLUMN}[^,]*\b(?:\w*random\w*|clock_timestamp|nextval|uuid_\w+|stored|unique)\b",
     True, ""),
    (r"\balter\s+(?:column\s+)?\S+\s+(?:set\s+data\s+)?type\b", True,
     "The running release writes another type."),
    (r"\badd\s+(?:constraint|check|unique|primary|foreign|exclude)\b(?!.*\bnot\s+valid\b)"
     r"(?!.*\busing\s+index\b)", True, ""),
)  # fmt: skip


def run_sql(change: Change) -> Iterator[Finding]:
    """Judge SQL statement by statement, without what stands in texts, comments and functions."""
    for statement in statements_of(change.operation.sql):
        yield from judge_statement(statement, change.created)


def statements_of(source: Any) -> Iterator[str]:
    """Yield the statements of what RunSQL takes: a text, or a list of texts and of pairs of a text
    and its parameters.
    """
    parts: Sequence[Any] = [source] if isinstance(source, str) else (source or ())
    for part in parts:
        text = QUOTED.sub(without_content, part if isinstance(part, str) else part[0])
        yield from filter(None, (" ".join(one.split()) for one in text.split(";")))


def without_content(match: re.Match[str]) -> str:
    return " " if match[0].startswith(("--", "/*")) else "''"


def judge_statement(statement: str, created: set[str]) -> Iterator[Finding]:
    words = statement if len(statement) <= 90 else f"{statement[:87]}..."
    lowered = statement.lower()
    for pattern, lock, scans, breaks, advice in SQL_STATEMENTS:
        if match := re.match(pattern, lowered):
            names = match.groupdict()
            mode = names.get("mode") or ""
            yield Finding(
                words,
                names.get("table") or "",
                SQL_LOCKS.get(mode, lock),
                scans,
                breaks=breaks,
                advice=advice,
            )
            return
    if match := re.match(rf"create\s+(unlogged\s+)?table\s+(if\s+not\s+exists\s+)?{NAME}", lowered):
        created.add(match["table"])
        yield Finding(words, match["table"], Lock.NONE)
    elif match := re.match(rf"alter\s+table\s+(if\s+exists\s+)?(only\s+)?{NAME}", lowered):
        yield from alter_table_by_sql(words, match["table"], lowered[match.end() :])
    elif not re.match(r"select|set|comment|create|alter|grant|revoke|analyze", lowered):
        warning = "What this statement does is not known: read it."
        yield Finding(words, "", Lock.ACCESS_EXCLUSIVE, warning=warning)


def alter_table_by_sql(words: str, table: str, rest: str) -> Iterator[Finding]:
    while (shorter := BRACKETS.sub(" ", rest)) != rest:
        rest = shorter
    if re.search(r"\bvalidate\s+constraint\b", rest):
        yield Finding(words, table, Lock.SHARE_UPDATE_EXCLUSIVE, scans=True)
        return
    hits = [(scans, why) for pattern, scans, why in ALTERATIONS if re.search(pattern, rest)]
    why = next((why for _scans, why in hits if why), "")
    scans = any(scans for scans, _why in hits)
    advice = EXPAND if why else NOT_VALID if scans else ""
    yield Finding(words, table, Lock.ACCESS_EXCLUSIVE, scans, breaks=why, advice=advice)


DROPPED = "The running release uses what is dropped."
# The beginning of a statement, its lock, whether it reads every row, why it breaks, what to do.
SQL_STATEMENTS: tuple[tuple[str, Lock, bool, str, str], ...] = (
    (rf"create\s+(unique\s+)?index\s+concurrently\b.*?\son\s+(only\s+)?{NAME}",
     Lock.SHARE_UPDATE_EXCLUSIVE, True, "", ""),
    (rf"create\s+(unique\s+)?index\b.*?\son\s+(only\s+)?{NAME}",
     Lock.SHARE, True, "", "CREATE INDEX CONCURRENTLY"),
    (r"drop\s+index\s+concurrently", Lock.SHARE_UPDATE_EXCLUSIVE, False, "", ""),
    (r"drop\s+index", Lock.ACCESS_EXCLUSIVE, False, "", "DROP INDEX CONCURRENTLY"),
    (r"reindex\b.*\bconcurrently\b", Lock.SHARE_UPDATE_EXCLUSIVE, True, "", ""),
    (rf"drop\s+table\s+(if\s+exists\s+)?{NAME}", Lock.ACCESS_EXCLUSIVE, False, DROPPED, EXPAND),
    (r"drop\s+(materialized\s+)?view", Lock.ACCESS_EXCLUSIVE, False, DROPPED, EXPAND),
    (r"drop\s+(schema|type|sequence|extension)", Lock.ACCESS_EXCLUSIVE, False, DROPPED, EXPAND),
    (rf"truncate\s+(table\s+)?(only\s+)?{NAME}", Lock.ACCESS_EXCLUSIVE, False,
     "The running release loses its rows.", EXPAND),
    (rf"create\s+(or\s+replace\s+)?(constraint\s+)?trigger\b.*?\son\s+{NAME}",
     Lock.SHARE_ROW_EXCLUSIVE, False, "", ""),
    (rf"drop\s+trigger\b.*?\son\s+{NAME}", Lock.ACCESS_EXCLUSIVE, False, "", ""),
    (r"drop\s+function", Lock.NONE, False, "", ""),
    (rf"lock\s+(table\s+)?(only\s+)?{NAME}(\s+in\s+(?P<mode>[\w ]+?)\s+mode)?",
     Lock.ACCESS_EXCLUSIVE, False, "", ""),
    (rf"update\s+(only\s+)?{NAME}", Lock.ROW_EXCLUSIVE, True, "", "Write in batches."),
    (rf"delete\s+from\s+(only\s+)?{NAME}", Lock.ROW_EXCLUSIVE, True, "", "Delete in batches."),
    (rf"insert\s+into\s+{NAME}", Lock.ROW_EXCLUSIVE, False, "", ""),
    (rf"with\b.*\b(insert\s+into|update|delete\s+from)\s+{NAME}",
     Lock.ROW_EXCLUSIVE, True, "", "Write in batches."),
)  # fmt: skip

Judgement = Callable[[Change], Iterator[Finding]]
# The first kind that an operation is of decides: subclasses stand before their classes.
JUDGEMENTS: tuple[tuple[Any, Judgement], ...] = (
    (operations.CreateModel, create_model),
    (operations.DeleteModel, delete_model),
    (operations.RenameModel, rename_model),
    (operations.AlterModelTableComment, comment_on_table),
    (operations.AlterModelTable, alter_table),
    ((operations.AlterModelOptions, operations.AlterModelManagers), nothing),
    ((operations.AlterUniqueTogether, operations.AlterIndexTogether), alter_together),
    (operations.AlterOrderWithRespectTo, alter_order),
    (operations.AddField, add_field),
    (operations.RemoveField, remove_field),
    (operations.RenameField, rename_field),
    (operations.AlterField, alter_field),
    ((postgres.AddIndexConcurrently, postgres.RemoveIndexConcurrently), change_index_concurrently),
    (operations.AddIndex, add_index),
    (operations.RemoveIndex, remove_index),
    (operations.RenameIndex, rename_index),
    (postgres.AddConstraintNotValid, add_constraint_not_valid),
    (postgres.ValidateConstraint, validate_constraint),
    (operations.AddConstraint, add_constraint),
    (operations.RemoveConstraint, remove_constraint),
    (postgres.CreateExtension, nothing),
    (operations.RunSQL, run_sql),
    (operations.RunPython, run_python),
)  # fmt: skip


def version_of(text: str) -> tuple[int, ...]:
    """Return a release as numbers that compare: 0.10.1 comes after 0.9. Raises ValueError."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6}){0,3}", text):
        raise ValueError(f"{text[:40]!r} is no release: write it as 0.2.0.")
    return tuple(map(int, text.split(".")))


def is_contraction_of(migration: Migration, running: str) -> bool:
    """Whether what a migration removes is used no more by the release that runs."""
    unused_since = getattr(migration, "unused_since", "")
    return bool(unused_since and running) and version_of(running) >= version_of(unused_since)
