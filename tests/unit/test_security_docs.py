"""The page on security names tests that exist, and what is reported where."""

from __future__ import annotations

import ast
import re

import pytest

from tests.paths import PROJECT

PAGE = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))
LINES = [line for line in PAGE.splitlines() if re.match(r"\| \d+\.\d+\.\d+", line)]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((PROJECT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_of_the_standard_has_a_proof() -> None:
    assert len(LINES) > 25
    assert not [line for line in LINES if "::test_" not in line]


def test_the_report_s_address_and_the_page_name_each_other() -> None:
    assert "docs/security.md" in (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
    assert "SECURITY.md" in PAGE
