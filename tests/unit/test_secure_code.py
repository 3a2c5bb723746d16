"""What the code never does, and what CI says of the locked packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.audit import report
from tests.paths import PROJECT

SOURCES = [
    path
    for folder in ("certification", "myia", "bench", "scripts")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "mark_safe"}
SAFE_YAML = {"safe_dump", "safe_load"}
# The runbooks of this project, by a renderer that escapes HTML
ALLOWED = {("certification/web/operations_views.py", "mark_safe")}


def faults(source: str) -> Iterator[str]:
    """Yield what a module does that no module of ours may do."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name.split(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
                yield module
            case ast.ImportFrom(module="yaml", names=names):
                yield from (a.name for a in names if a.name not in SAFE_YAML)
            case ast.Attribute(value=ast.Name(id="yaml"), attr=attr) if attr not in SAFE_YAML:
                yield f"yaml.{attr}"
            case ast.Call(func=func, keywords=keywords):
                if ast.unparse(func) in FORBIDDEN_CALLS:
                    yield ast.unparse(func)
                if any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in keywords):
                    yield "shell=True"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(Path(path).relative_to(PROJECT)))
def test_no_module_loads_code_from_data_or_starts_a_shell(path: Path) -> None:
    name = str(path.relative_to(PROJECT))
    result = {(name, fault) for fault in faults(path.read_text(encoding="utf-8"))}
    assert not result - ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "import yaml\nyaml.unsafe_load('')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "eval('1')",
        "import os\nos.system('ls')",
    ],
)
def test_the_scan_finds_what_is_forbidden(source: str) -> None:
    assert list(faults(source))


def test_without_advisories_the_audit_says_that_nothing_was_checked() -> None:
    skipped = [{"name": "a", "skip_reason": "Dependency not found"}]
    for dependencies in ([], skipped):
        text, code = report(dependencies, "2026-11-30")
        assert code == 0
        assert text.startswith("WARNING: no advisories could be read on 2026-11-30")


def test_the_audit_fails_with_a_known_vulnerability_and_names_its_date() -> None:
    fault = {"id": "CVE-1", "fix_versions": ["2.0"]}
    bad = {"name": "a", "version": "1.0", "vulns": [fault]}
    good = {"name": "b", "version": "1.0", "vulns": []}
    unknown = {"name": "c", "skip_reason": "Dependency not found"}
    text, code = report([bad, good, unknown], "2026-11-30")
    assert code == 1
    assert "a 1.0: CVE-1, fixed in 2.0" in text
    assert "unchecked: c" in text
    assert "2 locked packages checked against the advisories of 2026-11-30: 1 with" in text
    assert report([good], "2026-11-30")[1] == 0
