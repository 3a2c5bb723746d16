"""Tables of figures: a head stands on the side on which its figures do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[2] / "templates"
ROW = re.compile(r"<tr\b[^>]*>(.*?)</tr>", re.DOTALL)
CELL = re.compile(r"<t[hd]\b([^>]*)>")
SOURCES = [
    (path.relative_to(TEMPLATES).as_posix(), table)
    for path in sorted(TEMPLATES.rglob("*.html"))
    for table in re.findall(r'<table class="plain.*?</table>', path.read_text(), re.DOTALL)
    if "<thead" in table and 'class="num"' in table and "{% include" not in table
]


def columns_of_figures(row: str) -> set[int]:
    """Return which cells of a row hold figures."""
    classes = [re.search(r'class="([^"]*)"', cell) for cell in CELL.findall(row)]
    return {at for at, names in enumerate(classes) if names and "num" in names[1].split()}


@pytest.mark.parametrize("table", [s for _, s in SOURCES], ids=[name for name, _ in SOURCES])
def test_heads_of_figures_are_aligned_as_the_figures(table: str) -> None:
    head, *rows = ROW.findall(table)
    assert columns_of_figures(head) == set().union(*map(columns_of_figures, rows))
