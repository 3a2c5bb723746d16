"""Plots as SVG, made on the server: classes instead of styles, so that themes switch them and the
page's policy lets them pass.

Positions along a plot are per cent of its width and nothing is scaled, so that its texts have the
size of the page's on every screen. Each function returns a whole `svg` element whose name for
screen readers is `title`; the numbers belong into a table beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10
from statistics import median

from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

ROW_PX, LABEL_PX, BAR_PX = 38, 14, 12  # of one row: its label's base line, and its bar below
AXIS_PX = 22
COLUMNS_PX = 96  # the highest column
MARGIN = 1.5  # per cent left free at both ends


@dataclass(frozen=True)
class Scale:
    """Where values between `low` and `high` are drawn: per cent of the plot's width."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return a value's place; one outside the scale is drawn at its end."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return round(MARGIN + (100 - 2 * MARGIN) * min(1.0, max(0.0, share)), 3)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values of the scale."""
        step = nice_step((self.high - self.low) / max(1, count))
        first = -(-self.low // step) * step
        values = (first + n * step for n in range(count * 3))
        return [value for value in values if value <= self.high + step * 1e-9]


def nice_step(rough: float) -> float:
    """Return the next of 1, 2, 5, 10, ... times a power of ten that is not smaller."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def svg(title: str, height: float, parts: Iterable[SafeString], css: str = "") -> SafeString:
    """Return a whole plot that fills the width it gets."""
    return format_html(
        '<svg class="chart {}" role="img" aria-label="{}" width="100%" height="{}">{}</svg>',
        css,
        title,
        round(height),
        format_html_join("", "{}", ((part,) for part in parts)),
    )


def rectangle(left: float, right: float, y: float, css: str, hint: str = "") -> SafeString:
    """Return a bar from `left` to `right` per cent, at least a hair wide."""
    width = round(max(0.25, abs(right - left)), 3)
    return format_html(
        '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}" rx="2">{}</rect>',
        css,
        min(left, right),
        round(y),
        width,
        BAR_PX,
        tooltip(hint),
    )


def text(x: float, y: float, words: str, anchor: str = "start", css: str = "") -> SafeString:
    return format_html(
        '<text class="{}" x="{}%" y="{}" text-anchor="{}">{}</text>',
        css,
        x,
        round(y),
        anchor,
        words,
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> SafeString:
    return format_html(
        '<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>', css, x1, round(y1), x2, round(y2)
    )


def dot(x: float, y: float, css: str, hint: str = "") -> SafeString:
    return format_html(
        '<circle class="{}" cx="{}%" cy="{}" r="4">{}</circle>', css, x, round(y), tooltip(hint)
    )


def symbol(x: float, y: float, sign: str, hint: str, css: str) -> SafeString:
    return format_html(
        '<text class="{}" x="{}%" y="{}" text-anchor="middle">{}{}</text>',
        css,
        x,
        round(y),
        sign,
        tooltip(hint),
    )


def tooltip(hint: str) -> SafeString | str:
    return format_html("<title>{}</title>", hint) if hint else ""


def anchor_at(x: float) -> str:
    """Return how a text stands at a place, so that it does not leave the plot."""
    return "start" if x < 12 else "end" if x > 88 else "middle"


def axis(scale: Scale, y: float, top: float, unit: str = "") -> Iterable[SafeString]:
    """Yield an axis at the foot of a plot with faint lines up to `top`."""
    yield line(scale.at(scale.low), y, scale.at(scale.high), y, "axis")
    ticks = scale.ticks()
    for tick in ticks:
        x = scale.at(tick)
        yield line(x, top, x, y, "grid")
        label = number_format(round(tick, 2), None if tick % 1 else 0)
        words = f"{label} {unit}".strip() if tick == ticks[-1] else label
        yield text(x, y + AXIS_PX - 6, words, anchor_at(x), "tick")


@dataclass(frozen=True)
class Step:
    """One step down of a waterfall, in points; `css` names its part."""

    label: str
    points: float
    css: str = ""


def waterfall(
    title: str,
    steps: Sequence[Step],
    score: float,
    *,
    mark: float,
    words: tuple[str, str],
    low: float | None = None,
) -> SafeString:
    """Draw how 100 points became a score. `mark` is the line to reach, `low` the score's lower
    bound; `words` label the score and the line.
    """
    lowest = min(score, mark, score if low is None else low)
    scale = Scale(max(0.0, (lowest - 1) // 10 * 10), 100.0)
    level, y = 100.0, float(LABEL_PX)
    height = ROW_PX * (len(steps) + 1) + LABEL_PX
    parts = list(axis(scale, height, LABEL_PX))
    x = scale.at(mark)
    parts.append(line(x, LABEL_PX, x, height, "mark"))
    parts.append(text(x, LABEL_PX - 3, words[1], anchor_at(x), "tick"))
    for step in steps:
        label = f"−{number_format(round(step.points, 1), 1)}"
        parts.append(text(MARGIN, y + LABEL_PX, step.label))
        parts.append(text(100 - MARGIN, y + LABEL_PX, label, "end", "num"))
        bar = y + LABEL_PX + 5
        ends = scale.at(level - step.points), scale.at(level)
        parts.append(rectangle(*ends, bar, f"loss {step.css}", f"{step.label}: {label}"))
        level -= step.points
        parts.append(line(ends[0], bar + BAR_PX, ends[0], bar + ROW_PX, "link"))
        y += ROW_PX
    label = number_format(round(score, 1), 0)
    parts.append(text(MARGIN, y + LABEL_PX, words[0], css="strong"))
    parts.append(text(100 - MARGIN, y + LABEL_PX, label, "end", "num strong"))
    middle = y + LABEL_PX + 5 + BAR_PX / 2
    if low is not None and score - low >= 0.05:
        parts.append(line(scale.at(low), middle, scale.at(score), middle, "whisker"))
        parts.append(line(scale.at(low), middle - 5, scale.at(low), middle + 5, "whisker"))
    parts.append(dot(scale.at(score), middle, "score", f"{words[0]}: {label}"))
    return svg(title, height + AXIS_PX, parts, "waterfall")


def columns(title: str, values: Sequence[tuple[str, float]]) -> SafeString:
    """Draw a column for each value, (label, value), from a base line of zero; the first, the last
    and the highest are labelled.
    """
    highest = max((value for _label, value in values), default=0.0)
    slot = (100 - 2 * MARGIN) / max(1, len(values))
    foot = float(LABEL_PX + COLUMNS_PX)
    parts = [line(MARGIN, foot, 100 - MARGIN, foot, "axis")]
    for number, (label, value) in enumerate(values):
        left = MARGIN + number * slot
        height = round(COLUMNS_PX * value / highest, 1) if highest > 0 else 0
        hint = f"{label}: {number_format(round(value), 0)}"
        parts.append(
            format_html(
                '<rect class="column" x="{}%" y="{}" width="{}%" height="{}">{}</rect>',
                *(round(left + slot * 0.1, 3), foot - height, round(slot * 0.8, 3), height),
                tooltip(hint),
            )
        )
    if values:
        top = max(range(len(values)), key=lambda number: values[number][1])
        x = MARGIN + (top + 0.5) * slot
        words = number_format(round(highest), 0)
        parts.append(text(x, LABEL_PX - 3, words, anchor_at(x), "num"))
        parts.append(text(MARGIN, foot + AXIS_PX - 6, values[0][0], "start", "tick"))
        parts.append(text(100 - MARGIN, foot + AXIS_PX - 6, values[-1][0], "end", "tick"))
    return svg(title, foot + AXIS_PX, parts, "columns")


@dataclass(frozen=True)
class Samples:
    """Measurements of one place in a dot strip. `is_own` marks those that the page is about."""

    label: str
    values: Sequence[float]
    median: float | None = None
    low: float | None = None
    high: float | None = None
    is_own: bool = True
    is_emulated: bool = False


def dots(
    title: str, rows: Sequence[Samples], unit: str, marks: Sequence[tuple[str, float]] = ()
) -> SafeString:
    """Draw every sample as a dot, a row for each place, with median, its interval and lines to
    compare with. Samples of other places that are far beyond those are arrows at the edge.
    """
    largest = [value for _label, value in marks]
    for row in rows:
        largest.append(max(row.values) if row.is_own else median(row.values))
    scale = Scale(0.0, max(largest) * 1.05 or 1.0)
    height = ROW_PX * len(rows) + LABEL_PX * (len(marks) + 1)
    top = LABEL_PX * len(marks)
    parts = list(axis(scale, height, top, unit))
    for number, (label, value) in enumerate(marks):
        x = scale.at(value)
        y = LABEL_PX * (number + 1)
        parts.append(line(x, y, x, height, "mark"))
        parts.append(text(x, y - 3, label, anchor_at(x), "tick"))
    y = top
    for row in rows:
        parts.append(text(MARGIN, y + LABEL_PX, row.label))
        parts += strip(row, scale, y + LABEL_PX + 5 + BAR_PX / 2, unit)
        y += ROW_PX
    return svg(title, height + AXIS_PX, parts, "dots")


def strip(row: Samples, scale: Scale, y: float, unit: str) -> Iterable[SafeString]:
    """Yield the dots of one row, and its median with its interval."""
    css = f"dot{'' if row.is_own else ' other'}{' hollow' if row.is_emulated else ''}"
    for value in row.values:
        hint = f"{number_format(round(value), 0)} {unit}"
        if value > scale.high:
            yield symbol(100 - MARGIN, y + 5, "▸", hint, "tick")
        else:
            yield dot(scale.at(value), y, css, hint)
    if row.low is not None and row.high is not None:
        yield line(scale.at(row.low), y, scale.at(row.high), y, "whisker")
    if row.median is not None:
        x = scale.at(row.median)
        yield line(x, y - 9, x, y + 9, "median")


def arrivals(title: str, times: Sequence[float], end: float) -> SafeString:
    """Draw when each event of a stream came, in milliseconds since its call began, and its longest
    gap as a bar.
    """
    scale = Scale(0.0, max(end, *times) or 1.0)
    height = LABEL_PX + BAR_PX + 8
    parts = list(axis(scale, height, LABEL_PX, "ms"))
    begin, finish = max(pairwise(times), key=lambda pair: pair[1] - pair[0])
    gap = f"{number_format(round(finish - begin), 0)} ms"
    parts.append(rectangle(scale.at(begin), scale.at(finish), LABEL_PX + 4, "gap", gap))
    middle = (scale.at(begin) + scale.at(finish)) / 2
    parts.append(text(round(middle, 3), LABEL_PX - 2, gap, anchor_at(middle), "tick"))
    for at in times:
        x = scale.at(at)
        parts.append(line(x, LABEL_PX + 2, x, height, "series"))
    return svg(title, height + AXIS_PX, parts, "arrivals")


@dataclass(frozen=True)
class Point:
    """One run in a history: when (seconds), its score (None without a verdict), its name for the
    tooltip, and a text where something changed with it.
    """

    at: float
    score: float | None
    label: str
    change: str = ""
    is_emulated: bool = False


HISTORY_PX = 150


def history(title: str, points: Sequence[Point], mark: float, ends: tuple[str, str]) -> SafeString:
    """Draw scores over time as steps, oldest first; runs without a verdict as crosses at the foot.
    `ends` label both ends of the axis.
    """
    first, last = points[0].at, points[-1].at
    scale = Scale(first, last) if last > first else Scale(first - 1, first + 1)
    top = float(LABEL_PX)

    def height_of(score: float) -> float:
        return top + HISTORY_PX * (1 - score / 100)

    parts = []
    for score in (0, 50, 100):
        parts.append(line(MARGIN, height_of(score), 100 - MARGIN, height_of(score), "grid"))
        parts.append(text(0, height_of(score) - 3, str(score), css="tick"))
    parts.append(line(MARGIN, height_of(mark), 100 - MARGIN, height_of(mark), "mark"))
    scored = [point for point in points if point.score is not None]
    for before, after in pairwise(scored):
        start, end = height_of(before.score or 0), height_of(after.score or 0)
        parts.append(line(scale.at(before.at), start, scale.at(after.at), start, "series"))
        parts.append(line(scale.at(after.at), start, scale.at(after.at), end, "series"))
    for point in points:
        x = scale.at(point.at)
        if point.change:
            parts.append(line(x, top, x, top + HISTORY_PX, "change"))
            parts.append(text(x, top - 3, point.change, anchor_at(x), "tick"))
        if point.score is None:
            parts.append(symbol(x, top + HISTORY_PX, "✕", point.label, "cross"))
        else:
            css = "dot hollow" if point.is_emulated else "dot"
            parts.append(dot(x, height_of(point.score), css, point.label))
    foot = top + HISTORY_PX + AXIS_PX - 4
    parts.append(text(MARGIN, foot, ends[0], css="tick"))
    if ends[1]:
        parts.append(text(100 - MARGIN, foot, ends[1], "end", "tick"))
    return svg(title, top + HISTORY_PX + AXIS_PX, parts, "history")


@dataclass(frozen=True)
class Bar:
    """One run in a Gantt: seconds since the beginning at which it was made, begun and ended; None
    for what has not happened yet. `css` colours its work.
    """

    label: str
    made: float
    begun: float | None
    ended: float | None
    css: str
    hint: str = ""


def gantt(title: str, bars: Sequence[Bar], end: float, unit: str) -> SafeString:
    """Draw how long each run waited and worked, from the beginning to `end` seconds."""
    scale = Scale(0.0, max(end, 1.0))
    height = ROW_PX * len(bars) + LABEL_PX
    parts = list(axis(scale, height, 0.0, unit))
    y = 0.0
    for bar in bars:
        parts.append(text(MARGIN, y + LABEL_PX, bar.label))
        top = y + LABEL_PX + 5
        done = end if bar.ended is None else bar.ended
        work = done if bar.begun is None else bar.begun
        parts.append(rectangle(scale.at(bar.made), scale.at(work), top, "wait", bar.hint))
        if bar.begun is not None:
            parts.append(rectangle(scale.at(work), scale.at(done), top, bar.css, bar.hint))
        y += ROW_PX
    return svg(title, height + AXIS_PX, parts, "gantt")
