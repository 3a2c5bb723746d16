"""Plots: well-formed, without styles, every mark within the picture, in colours that stand out."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from certification.web import charts

EVIL = '<script>alert("&")</script>'
NUMBERS = st.floats(0, 1e7, allow_nan=False)


def check(svg: str) -> ElementTree.Element:
    """Parse a picture; every place along it lies within it."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "style=" not in svg
    for element in root.iter():
        for name in ("x", "x1", "x2", "cx", "width"):
            if (value := element.get(name)) and value.endswith("%"):
                assert 0 <= float(value[:-1]) <= 100.001, (element.tag, element.attrib)
    return root


@examples(max_examples=30, deadline=None)
@given(st.lists(NUMBERS, max_size=40))
def test_columns_of_any_values(values: list[float]) -> None:
    svg = charts.columns(EVIL, [(EVIL, value) for value in values])
    root = check(svg)
    assert len(root.findall("rect")) == len(values)
    assert all(float(rect.get("y", -1)) >= 0 for rect in root.findall("rect"))
    assert "<script" not in svg


@examples(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 30), max_size=8), st.floats(0, 100), st.none() | st.floats(0, 100))
def test_a_waterfall_of_any_points(points: list[float], score: float, low: float | None) -> None:
    steps = [charts.Step(EVIL, value, "p-quality") for value in points]
    svg = charts.waterfall(EVIL, steps, score, mark=80, words=("Score", "line"), low=low)
    assert len(check(svg).findall("rect")) == len(points)
    assert "<script" not in svg


@examples(max_examples=60, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=9), min_size=1, max_size=4))
def test_dots_of_any_samples(samples: list[list[float]]) -> None:
    rows = [
        charts.Samples(EVIL, values, values[0], min(values), max(values), is_own=number == 0)
        for number, values in enumerate(samples)
    ]
    root = check(charts.dots(EVIL, rows, "ms", [("target", 600.0), ("limit", 3000.0)]))
    shown = len(root.findall("circle")) + [t.text for t in root.findall("text")].count("▸")
    assert shown == sum(map(len, samples))


@examples(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NUMBERS, st.none() | st.floats(0, 100)), min_size=1, max_size=9))
def test_a_history_of_any_runs(runs: list[tuple[float, float | None]]) -> None:
    points = [charts.Point(at, score, EVIL, EVIL) for at, score in sorted(runs, key=str)]
    points.sort(key=lambda point: point.at)
    root = check(charts.history("History", points, 80, ("then", "now")))
    assert len(root.findall("circle")) == sum(score is not None for _at, score in runs)


@examples(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS), max_size=6))
def test_a_gantt_of_any_times(times: list[tuple[float, float | None, float | None]]) -> None:
    bars = [charts.Bar(EVIL, made, begun, ended, "work") for made, begun, ended in times]
    root = check(charts.gantt("When", bars, 1e7, "s"))
    begun = sum(begun is not None for _made, begun, _ended in times)
    assert len(root.findall("rect")) == len(times) + begun


@pytest.mark.parametrize("rough", [0, 1e-9, 0.3, 1, 7, 60, 999, 1e7])
def test_ticks_are_few_and_round(rough: float) -> None:
    ticks = charts.Scale(0, rough).ticks()
    assert len(ticks) <= 7
    assert ticks == sorted(ticks)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("scheme", "surface"), [(0, "ffffff"), (1, "1a2029")])
def test_series_stand_out_from_the_surface(scheme: int, surface: str) -> None:
    css = (Path(settings.BASE_DIR) / "static" / "css" / "charts.css").read_text()
    pairs = re.findall(r"--(?:series-\d|axis): light-dark\(#(\w{6}), #(\w{6})\)", css)
    assert len(pairs) == 7
    for pair in pairs:
        one, other = sorted((luminance(pair[scheme]), luminance(surface)), reverse=True)
        assert (one + 0.05) / (other + 0.05) >= 3.0, pair
