"""Fail on names that are not the field's own words: `python scripts/glossary.py [path ...]`.

Looks at what Python code binds: variables, arguments, attributes, functions and classes.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOTS = ["certification", "myia", "bench", "tests", "scripts", "manage.py"]
PARTS = {  # forbidden as any part of a name
    "told": "notified", "kept": "cached", "asked": "request", "said": "response", "wish": "options",
    "learnt": "observed", "heard": "received", "wakeups": "notifications", "standing": "status",
    "standings": "statuses", "trouble": "fault", "troubles": "faults",
}  # fmt: skip
NAMES = PARTS | {  # forbidden as a whole name
    "tell": "notify", "keep": "store", "ask": "request", "say": "write", "says": "message",
    "found": "result", "look": "find", "given": "options", "wanted": "expected", "most": "max",
    "seen": "observed", "house": "harness", "ground": "environment", "lane": "worker",
    "pulse": "heartbeat", "beside": "compare", "apart": "difference", "knock": "check",
}  # fmt: skip


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that the module binds, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield getattr(node, "id", "") or getattr(node, "attr", ""), node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def advice(name: str) -> str | None:
    """Return what to write instead of a forbidden name, None for an allowed one."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    if name.startswith(("MOST_", "test_")):
        return "MAX_..." if name[0] == "M" else None
    return NAMES.get("_".join(words)) or next((PARTS[w] for w in words if w in PARTS), None)


if __name__ == "__main__":
    problems = 0
    for root in map(Path, sys.argv[1:] or ROOTS):
        for path in sorted([root] if root.suffix == ".py" else root.rglob("*.py")):
            if "migrations" not in path.parts:
                for name, line in bound_names(ast.parse(path.read_text(encoding="utf-8"))):
                    if better := advice(name):
                        print(f"{path}:{line}: `{name}` is not the field's word; use {better}")
                        problems += 1
    sys.exit(bool(problems))
