"""What each operation of a migration does to those who work meanwhile."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.contrib.postgres import operations as postgres
from django.db import migrations, models
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.functions import Now

from certification.operations.migrations import (
    Lock,
    is_contraction_of,
    judge,
    state_before,
    version_of,
)

TABLE = "shop_order"


def state() -> ProjectState:
    return ProjectState(
        {
            ("shop", "customer"): ModelState(
                "shop", "Customer", [("id", models.BigAutoField(primary_key=True))]
            ),
            ("shop", "order"): ModelState(
                "shop",
                "Order",
                [
                    ("id", models.BigAutoField(primary_key=True)),
                    ("note", models.CharField(max_length=20)),
                    ("paid", models.IntegerField(null=True)),
                    ("state", models.CharField(max_length=5, db_default="new")),
                ],
                {"indexes": [models.Index(fields=["note"], name="by_note")],
                 "constraints": [models.UniqueConstraint(fields=["note"], name="one_note")]},
            ),
        }
    )  # fmt: skip


def migration(*operations: Any) -> migrations.Migration:
    kind = type("Migration", (migrations.Migration,), {"operations": list(operations)})
    return kind("0002", "shop")


def field(name: str, kind: models.Field[Any, Any]) -> migrations.AddField:
    return migrations.AddField("order", name, kind)


def altered(name: str, kind: models.Field[Any, Any]) -> migrations.AlterField:
    return migrations.AlterField("order", name, kind)


CHECK = models.CheckConstraint(condition=models.Q(paid__gt=0), name="paid_is_positive")
SAFE = [
    ([field("a", models.IntegerField(null=True))], Lock.ACCESS_EXCLUSIVE, False),
    ([field("a", models.IntegerField(db_default=0))], Lock.ACCESS_EXCLUSIVE, False),
    ([field("a", models.DateTimeField(db_default=Now()))], Lock.ACCESS_EXCLUSIVE, False),
    ([field("a", models.IntegerField(null=True, db_index=True))], Lock.ACCESS_EXCLUSIVE, True),
    ([altered("note", models.CharField(max_length=40))], Lock.ACCESS_EXCLUSIVE, False),
    ([altered("note", models.TextField())], Lock.ACCESS_EXCLUSIVE, False),
    ([altered("note", models.CharField(max_length=20, null=True))], Lock.ACCESS_EXCLUSIVE, False),
    ([altered("note", models.CharField(max_length=20, db_index=True))], Lock.SHARE, True),
    ([migrations.AddIndex("order", models.Index(fields=["paid"], name="x"))], Lock.SHARE, True),
    (
        [postgres.AddIndexConcurrently("order", models.Index(fields=["paid"], name="x"))],
        Lock.SHARE_UPDATE_EXCLUSIVE,
        True,
    ),
    ([migrations.RemoveIndex("order", "by_note")], Lock.ACCESS_EXCLUSIVE, False),
    ([migrations.RemoveConstraint("order", "one_note")], Lock.ACCESS_EXCLUSIVE, False),
    ([migrations.AddConstraint("order", CHECK)], Lock.ACCESS_EXCLUSIVE, True),
    ([postgres.AddConstraintNotValid("order", CHECK)], Lock.ACCESS_EXCLUSIVE, False),
    ([postgres.ValidateConstraint("order", "one_note")], Lock.SHARE_UPDATE_EXCLUSIVE, True),
    ([migrations.RunSQL(f"CREATE INDEX x ON {TABLE} (paid)")], Lock.SHARE, True),
    (
        [migrations.RunSQL(f'create index concurrently x on "public"."{TABLE}" (paid)')],
        Lock.SHARE_UPDATE_EXCLUSIVE,
        True,
    ),
    ([migrations.RunSQL(f"UPDATE {TABLE} SET paid = 0")], Lock.ROW_EXCLUSIVE, True),
    ([migrations.RunSQL(f"LOCK TABLE {TABLE} IN SHARE MODE")], Lock.SHARE, False),
    ([migrations.RunSQL(f"ALTER TABLE {TABLE} ADD x int")], Lock.ACCESS_EXCLUSIVE, False),
    (
        [migrations.RunSQL(f"ALTER TABLE {TABLE} ADD x int NOT NULL DEFAULT 1")],
        Lock.ACCESS_EXCLUSIVE,
        False,
    ),
    (
        [migrations.RunSQL(f"ALTER TABLE {TABLE} ADD CONSTRAINT c CHECK (paid > 0) NOT VALID")],
        Lock.ACCESS_EXCLUSIVE,
        False,
    ),
    (
        [migrations.RunSQL(f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT c")],
        Lock.SHARE_UPDATE_EXCLUSIVE,
        True,
    ),
    ([migrations.RunSQL(f"ALTER TABLE {TABLE} DROP CONSTRAINT c")], Lock.ACCESS_EXCLUSIVE, False),
    (
        [migrations.RunSQL(f"CREATE TRIGGER t BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE f()")],
        Lock.SHARE_ROW_EXCLUSIVE,
        False,
    ),
]
BREAKING = [
    [field("a", models.IntegerField())],
    [field("a", models.IntegerField(default=1))],  # Python's, which the running release has not
    [migrations.RemoveField("order", "note")],
    [migrations.RenameField("order", "note", "remark")],
    [migrations.RenameModel("order", "Purchase")],
    [migrations.AlterModelTable("order", "purchases")],
    [migrations.DeleteModel("order")],
    [altered("paid", models.IntegerField())],
    [altered("paid", models.IntegerField(default=0))],
    [altered("note", models.CharField(max_length=10))],
    [altered("paid", models.TextField(null=True))],
    [altered("note", models.CharField(max_length=20, db_column="remark"))],
    [altered("state", models.CharField(max_length=5))],
    [migrations.RunSQL(f"ALTER TABLE {TABLE} DROP COLUMN note")],
    [migrations.RunSQL(f"ALTER TABLE {TABLE} DROP note")],
    [migrations.RunSQL(f"ALTER TABLE ONLY {TABLE} RENAME COLUMN note TO remark")],
    [migrations.RunSQL([f"ALTER TABLE {TABLE} ALTER paid SET NOT NULL"])],
    [migrations.RunSQL([(f"ALTER TABLE {TABLE} ADD x int NOT NULL", [])])],
    [migrations.RunSQL(f"ALTER TABLE {TABLE} ALTER COLUMN paid TYPE text")],
    [migrations.RunSQL(f"SELECT 1; /* ; */ DROP TABLE IF EXISTS {TABLE} -- it\n")],
    [migrations.RunSQL(f"TRUNCATE {TABLE}")],
    [migrations.RunSQL(f"ALTER TABLE {TABLE} ADD price numeric(10, 2) NOT NULL, ADD b int")],
    [migrations.RunSQL(f"ALTER TABLE {TABLE} ALTER state DROP DEFAULT")],
    [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL(f"DROP TABLE {TABLE}")], [migrations.DeleteModel("order")]
        )
    ],
]
NOTHING = [
    [altered("note", models.CharField("text", max_length=20, choices=[("a", "b")]))],
    [migrations.AlterModelOptions("order", {"ordering": ["id"]})],
    [migrations.RunPython(migrations.RunPython.noop)],
    [migrations.RunSQL(migrations.RunSQL.noop)],
    [migrations.RunSQL("CREATE FUNCTION f() RETURNS int AS $$ DROP TABLE a; $$ LANGUAGE sql")],
    [migrations.SeparateDatabaseAndState([], [migrations.DeleteModel("order")])],
]  # fmt: skip


@pytest.mark.parametrize(("operations", "lock", "scans"), SAFE)
def test_the_lock_of_what_the_running_release_bears(
    operations: list[Any], lock: Lock, scans: bool
) -> None:
    [finding] = judge(migration(*operations), state())
    assert (finding.table, finding.lock, finding.scans) == (TABLE, lock, scans)
    assert not finding.breaks
    assert finding.holds_up == (scans and lock >= Lock.SHARE)


@pytest.mark.parametrize("operations", BREAKING)
def test_what_breaks_the_running_release(operations: list[Any]) -> None:
    findings = judge(migration(*operations), state())
    assert [f.breaks for f in findings if f.breaks], findings
    assert all(finding.advice for finding in findings if finding.breaks)


@pytest.mark.parametrize("operations", NOTHING)
def test_what_leaves_the_tables_as_they_are(operations: list[Any]) -> None:
    assert judge(migration(*operations), state()) == []


def test_a_field_that_keeps_its_column_may_have_another_name() -> None:
    before = state()
    before.models["shop", "order"].fields["note"].db_column = "note"
    assert judge(migration(migrations.RenameField("order", "note", "remark")), before) == []


def test_nobody_waits_for_a_table_that_is_new() -> None:
    customer = models.ForeignKey("shop.Customer", models.CASCADE)
    fields = [("id", models.BigAutoField(primary_key=True)), ("customer", customer)]
    findings = judge(
        migration(
            migrations.CreateModel("Visit", fields),
            migrations.AddIndex("visit", models.Index(fields=["customer"], name="x")),
            migrations.AddField("visit", "at", models.IntegerField()),
            migrations.RunSQL("CREATE TABLE own (id int); CREATE INDEX y ON own (id)"),
        ),
        state(),
    )
    locks = {finding.table: finding.lock for finding in findings if finding.lock}
    assert locks == {"shop_customer": Lock.SHARE_ROW_EXCLUSIVE}
    assert not any(finding.breaks for finding in findings)


def test_python_and_unknown_statements_are_to_be_read() -> None:
    def change(_apps: Any, _editor: Any) -> None:
        pass

    python, unknown = judge(
        migration(migrations.RunPython(change), migrations.RunSQL("CLUSTER shop_order")), state()
    )
    assert (python.lock, python.scans) == (Lock.ROW_EXCLUSIVE, True)
    assert python.warning
    assert unknown.warning


def test_what_is_unused_since_a_release_may_go() -> None:
    made = migration(migrations.RemoveField("order", "note"))
    assert not is_contraction_of(made, "0.9.0")
    made.unused_since = "0.9.0"  # type: ignore[attr-defined]
    assert is_contraction_of(made, "0.10.0")
    assert not is_contraction_of(made, "0.8.9")
    assert not is_contraction_of(made, "")
    with pytest.raises(ValueError, match="no release"):
        version_of("latest")


def test_our_own_migrations_are_judged() -> None:
    module = import_module("certification.migrations.0032_audit_trail")
    ours = module.Migration("0032_audit_trail", "certification")
    assert {finding.lock for finding in judge(ours)} == {Lock.NONE}
    assert ("certification", "auditentry") not in state_before(ours).models
