"""docs/architecture.md names files that exist and import each other as it draws them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.paths import PROJECT

PAGE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
ARROWS = re.findall(r"^(\S+\.py) (->|~>) (\S+\.py)$", PAGE, flags=re.MULTILINE)


def module_name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports; a name taken from a package counts as its own module."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                modules |= {
                    node.module,
                    f"{node.module}.{alias.name}",
                    home_of(node.module, alias.name),
                }
    return modules


def home_of(package: str, name: str) -> str:
    """The module that a package re-exports `name` from; '' when it does not."""
    init = PROJECT / package.replace(".", "/") / "__init__.py"
    if not init.exists():
        return ""
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return node.module or ""
    return ""


def test_the_story_of_a_certification_has_thirteen_files():
    story = PAGE.split("```flow")[1].split("```")[0]
    assert len(set(re.findall(r"\S+\.py", story))) == 13


@pytest.mark.parametrize(("source", "arrow", "target"), ARROWS)
def test_each_arrow_is_an_import_or_a_message(source: str, arrow: str, target: str):
    assert (PROJECT / target).is_file()
    if arrow == "->":
        assert module_name(target) in imported_modules(PROJECT / source)
    else:
        assert f'"{module_name(target)}.' in (PROJECT / source).read_text(encoding="utf-8")


def test_every_file_and_folder_that_the_page_names_exists():
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", PAGE)
    missing = {
        name
        for name in named
        if not any((root / name).exists() for root in (PROJECT, PROJECT / "certification"))
    }
    assert not missing
