"""Draw two kinds of plots as SVG text, for figures in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, GRID, PAPER = "#222", "#ddd", "#fff"
COLOURS = ("#0b6e4f", "#b5451b", "#3b5b92", "#8a6d00")
DASHES = ("", "7 4", "2 3", "10 3 2 3")


def bars(title: str, groups: Sequence[tuple[str, Sequence[float]]], series: Sequence[str]) -> str:
    """Draw horizontal bars, one group per row, one bar per series; values in per cent, 0..100."""
    left, width, bar = 250, 420, 13
    high = bar * len(series) + 12
    height = 70 + high * len(groups) + 30
    out = [text(16, 24, title, size=15, weight="bold"), *legend(series, 44, [""] * len(series))]
    for tick in range(0, 101, 20):
        x = left + width * tick / 100
        out += [
            line(x, 58, x, height - 28, GRID),
            text(x, height - 12, f"{tick} %", anchor="middle"),
        ]
    for row, (name, values) in enumerate(groups):
        top = 64 + row * high
        out.append(text(left - 8, top + high / 2, name, anchor="end"))
        for i, value in enumerate(values):
            y = top + i * bar
            size = f'width="{width * value / 100:.1f}" height="{bar - 2}"'
            out.append(f'<rect x="{left}" y="{y}" {size} fill="{COLOURS[i]}"/>')
            out.append(text(left + width * value / 100 + 4, y + 10, f"{value:.4g}", size=10))
    return document(left + width + 60, height, out)


def curves(
    title: str, x_name: str, xs: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]]
) -> str:
    """Draw lines over a common x axis; both axes in per cent, y 0..100."""
    left, top, width, height = 60, 66, 560, 300
    low, span = min(xs), (max(xs) - min(xs)) or 1.0
    out = [
        text(16, 24, title, size=15, weight="bold"),
        *legend([name for name, _ys in lines], 44),
    ]
    for tick in range(0, 101, 20):
        y = top + height * (1 - tick / 100)
        out += [
            line(left, y, left + width, y, GRID),
            text(left - 6, y + 4, f"{tick} %", anchor="end"),
        ]
    at = [left + width * (x - low) / span for x in xs]
    out += [
        text(x, top + height + 18, f"{value:g}", anchor="middle")
        for x, value in zip(at, xs, strict=True)
    ]
    out.append(text(left + width / 2, top + height + 38, x_name, anchor="middle"))
    for i, (_name, ys) in enumerate(lines):
        points = " ".join(
            f"{x:.1f},{top + height * (1 - y / 100):.1f}" for x, y in zip(at, ys, strict=True)
        )
        style = f'fill="none" stroke="{COLOURS[i]}" stroke-width="2" stroke-dasharray="{DASHES[i]}"'
        out.append(f'<polyline points="{points}" {style}/>')
    return document(left + width + 30, top + height + 52, out)


def legend(names: Sequence[str], y: float, dashes: Sequence[str] = DASHES) -> list[str]:
    out, x = [], 16.0
    for i, name in enumerate(names):
        dash = f'stroke="{COLOURS[i]}" stroke-width="4" stroke-dasharray="{dashes[i]}"'
        out += [
            f'<line x1="{x}" y1="{y - 4}" x2="{x + 26}" y2="{y - 4}" {dash}/>',
            text(x + 32, y, name),
        ]
        x += 52 + 7 * len(name)
    return out


def text(
    x: float,
    y: float,
    content: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def document(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">'
    return "\n".join(
        (head, f'<rect width="100%" height="100%" fill="{PAPER}"/>', *parts, "</svg>", "")
    )
