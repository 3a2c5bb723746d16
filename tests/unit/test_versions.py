"""A version says what is asked and how it is judged: meaning changes it, and nothing else does."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from certification import reasons
from certification.inference import (
    Document,
    EmbedRequest,
    Image,
    Operation,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolResult,
    ToolUse,
    user,
)
from certification.reasons import ErrorCategory, Reason, Status
from certification.suite import (
    custom,
    digest,
    graders,
    images,
    parity,
    plan,
    policy,
    policy_digest,
    publication_policy,
    registry,
    scoring,
    statistics,
    suite_digest,
    versions,
)
from certification.suite.case import Grade, Ref
from certification.suite.cases import builders, gates
from tests.paths import PROJECT

TARGET = policy.TARGETS["large"]


def decisions() -> Iterator[Any]:
    yield from policy_digest.border_rows()
    yield from policy_digest.planning_rows()
    yield from policy_digest.judgement_rows()


def suite_of(*case_ids: str) -> str:
    """The digest of a few cases: all of them take seconds."""
    return digest.digest(
        row for case_id in case_ids for row in suite_digest.case_rows(registry.BY_ID[case_id])
    )


# Every grader of answers with a case that uses it.
GRADED = [
    (graders.usable, "G01"), (graders.not_empty, "G03"), (graders.normalised, "J3"),
    (graders.mentions, "I3"), (graders.names_only, "G07"), (graders.only_number, "V2"),
    (graders.figure_beside, "P5"), (graders.different_lines, "I1"),
    (graders.cut_at, "S3"), (graders.in_order, "G02"),
    (graders.without, "G05"), (graders.ends_with, "G06"), (graders.nfc_contains, "G08"),
    (graders.language, "P5"), (graders.words, "S2"), (graders.lines, "I1"), (graders.bullets, "I1"),
    (graders.number, "R1"), (graders.mentions_one, "P5"), (graders.occurrences, "I2"),
    (graders.no_character, "I1"), (graders.capitals, "I3"), (graders.sections, "I5"),
    (graders.lines_are, "P4"), (graders.choices, "P1"), (graders.labels, "P2"),
    (graders.last_line, "R2"), (graders.has_number, "T5"), (graders.no_other_numbers, "P5"),
    (graders.json_answer, "J1"), (graders.tool_call, "G11"), (graders.tool_calls, "T1"),
    (graders.no_tool_call, "T2"), (graders.has_usage, "G01"), (graders.stop_reason, "G03"),
    (graders.event_order, "S1"), (graders.stream_ends, "L1"), (graders.no_gap_over, "S2"),
    (graders.speed, "L1"), (graders.output_tokens, "G04"), (graders.input_tokens, "G09"),
]  # fmt: skip


@pytest.mark.slow
class TestCommittedVersions:
    def test_they_are_a_number_and_a_digest(self) -> None:
        for version in (versions.SUITE_VERSION, versions.POLICY_VERSION):
            number, mark = version.split("-")
            assert number.isdecimal()
            assert len(mark) == digest.LENGTH


class Renamed(ast.NodeTransformer):
    """Rename every private function and constant of a module, and drop its docstrings."""

    def __init__(self, tree: ast.Module) -> None:
        self.names = {
            node.id if isinstance(node, ast.Name) else node.name
            for node in ast.walk(tree)
            if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
            or isinstance(node, ast.FunctionDef)
        }
        self.names = {name for name in self.names if name.startswith("_") and name[1:2] != "_"}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.renamed(node.id), node.ctx)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.name = self.renamed(node.name)
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = node.body[1:] if ast.get_docstring(node) else node.body
        self.generic_visit(node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Pass:
        self.generic_visit(node)
        docstring = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if docstring else node

    def renamed(self, name: str) -> str:
        return f"{name}_under_another_name" if name in self.names else name


@pytest.mark.slow
class TestWhatChangesNothing:
    def test_comments_docstrings_layout_and_private_names_do_not(self, tmp_path: Path) -> None:
        """And the committed versions fit the code."""
        package = tmp_path / "certification"
        shutil.copytree(PROJECT / "certification" / "suite", package / "suite")
        for name in ("__init__.py", "inference.py", "reasons.py"):
            shutil.copy(PROJECT / "certification" / name, package / name)
        for path in package.rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            other = ast.unparse(ast.fix_missing_locations(Renamed(tree).visit(tree)))
            path.write_text(f"# Another comment.\n{other}\n", encoding="utf-8")
        code = (
            "from certification.suite import policy_digest as p, suite_digest as s;"
            "print(p.__file__, s.suite_digest(), p.policy_digest())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        file, suite, judged = done.stdout.split()
        assert file.startswith(str(tmp_path))
        assert suite == versions.SUITE_VERSION.split("-")[1], "make versions"
        assert judged == versions.POLICY_VERSION.split("-")[1], "make versions"

    def test_titles_and_sentences_for_people_do_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case = registry.BY_ID["G07"]
        before = digest.digest(suite_digest.case_rows(case))
        monkeypatch.setattr(graders, "passed", lambda text, **more: Grade(True, "Yes.", more))
        assert digest.digest(suite_digest.case_rows(replace(case, title="Other"))) == before

    def test_the_encoding_of_a_picture_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = suite_of("V1")
        monkeypatch.setattr(images, "poster_png", lambda code, shapes: b"encoded otherwise")
        assert suite_of("V1") == before

    def test_who_must_act_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = plain(policy_digest.reason_rows())
        facts = replace(Reason.ZERO_QUOTA.facts, owner=reasons.Owner.AWS)
        monkeypatch.setitem(reasons.FACTS, Reason.ZERO_QUOTA, facts)
        assert not differ(before, policy_digest.reason_rows())


class TestWhatChangesTheSuite:
    def test_another_prompt_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = suite_of("G07")
        fact, question, names = gates._MEMORIES[0]
        monkeypatch.setattr(
            gates, "_MEMORIES", ((fact, f"{question} Now.", names), *gates._MEMORIES[1:])
        )
        assert suite_of("G07") != before

    def test_another_parameter_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = suite_of("G07")
        monkeypatch.setattr(gates, "DEFAULT_MAX_TOKENS", builders.DEFAULT_MAX_TOKENS + 1)
        assert suite_of("G07") != before

    def test_a_variant_is_seen_wherever_it_stands(self) -> None:
        """The trials of the digest show every variant that many other seeds show."""
        for case in registry.BY_ID.values():
            known = {case.script(Ref(seed, case.id, 0)).variant for seed in suite_digest.SEEDS}
            known |= {case.script(Ref(0, case.id, t)).variant for t in range(0, case.repeats, 10)}
            assert {case.script(Ref(s, case.id, 0)).variant for s in range(40)} <= known, case.id

    @pytest.mark.parametrize(
        "change",
        [{"repeats": 4}, {"weight": 2.0}, {"needs": frozenset({"tools"})}, {"whole_run": True}],
        ids=str,
    )
    def test_what_a_case_counts_does(self, change: Mapping[str, Any]) -> None:
        case = registry.BY_ID["I1"]
        before = digest.digest(suite_digest.case_rows(case))
        assert digest.digest(suite_digest.case_rows(replace(case, **change))) != before

    @pytest.mark.parametrize(
        ("grader", "case_id"), GRADED, ids=[f"{g.__name__}-{c}" for g, c in GRADED]
    )
    def test_a_grader_that_lets_everything_pass_does(
        self, grader: Callable[..., Grade], case_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rows() -> str:
            script = registry.BY_ID[case_id].script(Ref(0, case_id, 0))
            return digest.digest(suite_digest.script_rows(script, edits=True, breaks=True))

        before = rows()
        monkeypatch.setattr(graders, grader.__name__, lambda *args, **more: Grade(True, ""))
        assert rows() != before

    @pytest.mark.parametrize("name", custom.GRADERS)
    def test_every_grader_of_operators_cases_does(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = digest.digest(suite_digest.custom_rows())
        monkeypatch.setitem(custom.GRADERS, name, lambda value: lambda outcome: Grade(True, ""))
        assert digest.digest(suite_digest.custom_rows()) != before

    def test_every_member_of_a_request_does(self) -> None:
        plain = Request((user("Hello."),), 10)
        changes: dict[str, Any] = {
            "messages": (user("Goodbye."),), "max_tokens": 11, "operation": Operation.STREAM,
            "system": "s", "stop_sequences": ("x",), "tools": (Tool("t", "d", {}),),
            "tool_choice": "any", "temperature": 0.0, "top_p": 0.5, "output_schema": {"a": 1},
            "thinking_tokens": 1024, "thinking_effort": "low",
        }  # fmt: skip
        assert set(changes) == {field.name for field in fields(Request)}
        for name, value in changes.items():
            changed = replace(plain, **{name: value})
            assert suite_digest.render(changed) != suite_digest.render(plain), name
        embedding = EmbedRequest(("a",))
        assert suite_digest.render(replace(embedding, texts=("b",))) != suite_digest.render(
            embedding
        )
        assert suite_digest.render(replace(embedding, dimensions=8)) != suite_digest.render(
            embedding
        )

    def test_every_member_of_a_block_does(self) -> None:
        blocks = (
            (Text("a"), {"text": "b"}),
            (Image("png", b"a"), {"format": "gif", "data": b"b"}),
            (Document("pdf", "a", b"a"), {"format": "txt", "name": "b", "data": b"b"}),
            (ToolUse("1", "a", {}), {"id": "2", "name": "b", "input": {"x": 1}, "raw_input": "{"}),
            (ToolResult("1", "a"), {"tool_use_id": "2", "text": "b", "is_error": True}),
            (Reasoning("a"), {"text": "b", "signature": "s", "redacted": b"r"}),
        )
        for block, changes in blocks:
            assert set(changes) == {field.name for field in fields(block)}
            for name, value in changes.items():
                changed = replace(block, **{name: value})  # type: ignore[arg-type]
                assert suite_digest.render_block(changed) != suite_digest.render_block(block), name


@pytest.mark.slow
class TestWhatChangesThePolicy:
    def test_every_number_of_the_policy_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By itself, and by the judgements of the table, which stops at the first difference."""
        numbers, judgements = plain(policy_digest.number_rows()), plain(decisions())
        for field in fields(policy.POLICY):
            value = getattr(policy.POLICY, field.name)
            with monkeypatch.context() as patch:
                other = replace(policy.POLICY, **{field.name: changed(value)})
                for module in (policy, scoring, plan):
                    patch.setattr(module, "POLICY", other)
                assert differ(numbers, policy_digest.number_rows()), field.name
                assert differ(judgements, decisions()), field.name

    @pytest.mark.parametrize(
        ("module", "name", "value", "rows"),
        [
            (publication_policy, "MIN_GAP", timedelta(hours=2), policy_digest.publication_rows),
            (publication_policy, "SIGNIFICANCE", 0.02, policy_digest.publication_rows),
            (publication_policy, "TTL_ALIAS", timedelta(days=8), policy_digest.publication_rows),
            (parity, "ALARM", 0.06, policy_digest.number_rows),
            (parity, "REFERENCE_MARGIN", 4, policy_digest.parity_rows),
            (statistics, "MIN_P90", 51, policy_digest.statistics_rows),
            (statistics, "MIN_P95", 101, policy_digest.statistics_rows),
            (scoring, "MEASURED_BY", {"ttft_ms": "L2", "tokens_per_second": "L1"}, decisions),
            (
                scoring,
                "TARGETS",
                {**policy.TARGETS, "small": policy.TARGETS["large"]},
                decisions,
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_numbers_outside_it_do(
        self,
        module: ModuleType,
        name: str,
        value: Any,
        rows: Callable[[], Iterable[Any]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = plain(rows())
        monkeypatch.setattr(module, name, value)
        assert differ(before, rows())

    @pytest.mark.parametrize(
        "change",
        [
            {"status": Status.FAILED},
            {"retryable": True},
            {"category": ErrorCategory.SERVICE_ERROR},
        ],
        ids=str,
    )
    def test_what_a_reason_leads_to_does(
        self, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = plain(policy_digest.reason_rows())
        facts = replace(Reason.ZERO_QUOTA.facts, **change)
        monkeypatch.setitem(reasons.FACTS, Reason.ZERO_QUOTA, facts)
        assert differ(before, policy_digest.reason_rows())

    def test_a_rule_that_is_left_out_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = plain(decisions())
        monkeypatch.setattr(scoring, "unmet_conditions", lambda run, figures: ())
        assert differ(before, decisions())


def plain(rows: Iterable[Any]) -> list[Any]:
    return [digest.plain(row) for row in rows]


def differ(before: list[Any], rows: Iterable[Any]) -> bool:
    return any(a != digest.plain(b) for a, b in zip(before, rows, strict=True))


def changed(value: Any) -> Any:
    """Return another value of the same kind, far enough to matter."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.85
    if isinstance(value, Mapping):
        return {key: float(n + 1) for n, key in enumerate(value)}
    return value[1:]
