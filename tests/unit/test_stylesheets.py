"""What every reader can see: the contrast of each pair of colours, the focus, and no motion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

CSS = Path(settings.BASE_DIR) / "static" / "css"
SHEETS = {path.name: path.read_text() for path in sorted(CSS.glob("*.css"))}
COLOUR = r"(#[0-9a-f]{3,6})"
TOKENS = {
    name: (light, dark)
    for sheet in ("tokens.css", "charts.css")
    for name, light, dark in re.findall(
        rf"--([\w-]+): light-dark\({COLOUR}, {COLOUR}\);", SHEETS[sheet]
    )
}
PAPERS = ("bg", "surface", "sunken")
# what is read on what, with the least contrast: 4.5 for text, 3 for lines and marks
TEXTS = [(ink, paper, 4.5) for ink in ("text", "quiet", "link") for paper in PAPERS]
TEXTS += [(ink, "surface", 4.5) for ink in ("on-idle", "on-bad", "on-ok")]
FILLS = [(name, name.removeprefix("on-"), 4.5) for name in TOKENS if name.startswith("on-")]
MARKS = [
    (mark, paper, 3.0)
    for mark in ("control", "focus", "axis", *(n for n in TOKENS if n.startswith("series-")))
    for paper in ("bg", "surface")
]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG defines it, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_as_defined() -> None:
    assert round(contrast("#fff", "#000000"), 1) == 21
    assert round(contrast("#767676", "#fff"), 2) == 4.54


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_pair_of_colours_can_be_read(theme: int) -> None:
    assert len(FILLS) > 10
    low = {
        f"{ink} on {paper}: {ratio:.2f}, not {least}"
        for ink, paper, least in (*TEXTS, *FILLS, *MARKS)
        if (ratio := contrast(TOKENS[ink][theme], TOKENS[paper][theme])) < least
    }
    assert not low


def test_white_can_be_read_on_a_button_of_danger() -> None:
    assert min(contrast("#fff", colour) for colour in TOKENS["danger"]) >= 4.5


@pytest.mark.parametrize("sheet", SHEETS)
def test_nothing_moves_for_whoever_wants_no_motion(sheet: str) -> None:
    """Movement stands within `prefers-reduced-motion: no-preference`, or there is none."""
    allowed = r"@media \(prefers-reduced-motion: no-preference\) \{(?:[^{}]*\{[^{}]*\})*[^{}]*\}"
    rest = re.sub(allowed, "", SHEETS[sheet])
    moving = re.findall(r"(?:transition|animation|scroll-behavior)[\w-]*:(?! none)[^;}]+", rest)
    assert moving == []


@pytest.mark.parametrize("sheet", SHEETS)
def test_the_focus_is_never_hidden(sheet: str) -> None:
    """But for the page itself, which only the link that skips to it can focus."""
    rest = re.sub(r"(?m)^main \{[^}]*\}", "", SHEETS[sheet])
    assert re.findall(r"outline(?:-style)?: *(?:0|none)", rest) == []
