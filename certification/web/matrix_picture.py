"""The matrix as a picture to download: SVG, and PNG of the same drawing.

A file stands alone, so its colours and signs are in it; signs are drawn, since fonts differ.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC

from django.http import HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from certification import labels
from certification.certificates.document import fonts
from certification.lib import foreign_text
from certification.reasons import Status
from certification.web import exports
from certification.web.matrix import Matrix, Row
from certification.web.matrix_cells import MatrixCell

NAME_WIDTH, CELL_WIDTH, ROW_HEIGHT, HEAD_HEIGHT, GAP = 260, 44, 18, 150, 2
MAX_NAME = 42  # characters of a model's name that fit
CHARACTER_WIDTH, LINE_HEIGHT = 6.2, 14  # of the widest usual font in this size
# (fill, ink) of each status: the light theme's, since a picture is for a document
PAINTS: dict[str, tuple[str, str]] = {
    Status.CERTIFIED: ("#cdeacf", "#0f4a1c"),
    Status.QUALITY_WARNING: ("#fbe7a1", "#564000"),
    Status.FAILED: ("#f8cdc9", "#7d1512"),
    Status.PERMISSION_REQUIRED: ("#fcd9b4", "#6d3500"),
    Status.CONFIGURATION_REQUIRED: ("#fcd9b4", "#6d3500"),
    Status.PENDING: ("#d2e2f8", "#173f77"),
    Status.NOT_TESTED: ("#fff", "#4a5364"),
}
EXPIRED = ("#e4e7ec", "#4a5364")
TEXT, QUIET = "#1b2230", "#566072"
# The outline of each sign, in a box of ten by ten.
SIGNS: dict[str, str] = {
    Status.CERTIFIED: "M2 5.5 4.2 8 8.5 2",
    Status.QUALITY_WARNING: "M5 1.5V6M5 8V8.6",
    Status.FAILED: "M2 2 8 8M8 2 2 8",
    Status.PERMISSION_REQUIRED: "M8.5 5A3.5 3.5 0 1 1 1.5 5A3.5 3.5 0 1 1 8.5 5M2.6 7.4 7.4 2.6",
    Status.CONFIGURATION_REQUIRED: "M5 1 9 5 5 9 1 5Z",
    Status.PENDING: "M1.5 7H2.2M4.6 7H5.4M7.8 7H8.5",
    Status.NOT_TESTED: "M8 5A3 3 0 1 1 2 5A3 3 0 1 1 8 5",
}
PNG_SOURCE = b"""#set page(width: auto, height: auto, margin: 0pt)
#image(bytes(sys.inputs.svg), format: "svg")"""


def svg(matrix: Matrix, address: str, backend: str) -> SafeString:
    """Return the rows that match as a drawing, with where and when it is from at its foot."""
    width = NAME_WIDTH + CELL_WIDTH * len(matrix.regions) + 16
    title, (signs, signs_width) = cleaned(matrix.sentence), legend(matrix)
    width = max(width, 640, signs_width, round(8 * len(title)))
    foot = HEAD_HEIGHT + ROW_HEIGHT * len(matrix.rows) + 20
    moment = (matrix.filters.at or matrix.now).astimezone(UTC)
    emulated = f"{_('emulated')} · " if matrix.emulated else ""
    source = f"{emulated}{backend} · {moment:%Y-%m-%d %H:%M} UTC · {address}"
    lines = textwrap.wrap(cleaned(source), int((width - 16) / CHARACTER_WIDTH))
    return format_html(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
        'role="img" font-family="sans-serif" font-size="11"><title>{title}</title>'
        '<rect width="{w}" height="{h}" fill="#fff"/>'
        '<text x="8" y="22" font-size="15" font-weight="600" fill="{text}">{title}</text>'
        "{legend}{columns}{rows}{source}</svg>",
        w=width,
        h=foot + LINE_HEIGHT * len(lines),
        title=title,
        text=TEXT,
        legend=signs,
        columns=columns(matrix),
        rows=format_html_join("", "{}", ((row_of(matrix, at),) for at in range(len(matrix.rows)))),
        source=format_html_join(
            "",
            '<text x="8" y="{}" fill="{}">{}</text>',
            ((foot + LINE_HEIGHT * at, QUIET, line) for at, line in enumerate(lines)),
        ),
    )


def legend(matrix: Matrix) -> tuple[SafeString, int]:
    """Return the statuses that occur, each with its sign and how many pairs have it, and how wide
    that is.
    """
    entries, x = [], 8
    for status in PAINTS:
        if matrix.counts[status]:
            words = f"{labels.STATUSES[status].label} {matrix.counts[status]}"
            entries.append((sign_box(status, x, 34), x + 18, TEXT, words))
            x += round(18 + CHARACTER_WIDTH * len(words) + 16)
    return format_html_join("", '{}<text x="{}" y="45" fill="{}">{}</text>', entries), x


def columns(matrix: Matrix) -> SafeString:
    return format_html_join(
        "",
        '<text x="{0}" y="{1}" fill="{2}" transform="rotate(-60 {0} {1})">{3}</text>',
        (
            (NAME_WIDTH + CELL_WIDTH * at + CELL_WIDTH // 2, HEAD_HEIGHT - 6, QUIET, region.code)
            for at, region in enumerate(matrix.regions)
        ),
    )


def row_of(matrix: Matrix, at: int) -> SafeString:
    row, y = matrix.rows[at], HEAD_HEIGHT + ROW_HEIGHT * at
    name = cleaned(row.model.name)
    return format_html(
        '<text x="8" y="{}" fill="{}">{}<title>{}</title></text>{}',
        y + 13,
        TEXT,
        name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…",
        f"{name} ({cleaned(row.model.api_model_id)})",
        format_html_join("", "{}", ((cell,) for cell in cells_of(matrix, row, y))),
    )


def cells_of(matrix: Matrix, row: Row, y: int) -> Iterator[SafeString]:
    for at, cell in enumerate(row.cells):
        if cell.status and not cell.dimmed:
            yield cell_of(matrix, cell, NAME_WIDTH + CELL_WIDTH * at, y)


def cell_of(matrix: Matrix, cell: MatrixCell, x: int, y: int) -> SafeString:
    """Return a cell: its sign on its fill, and what the parameter `show` asks for."""
    _colour, main, small = matrix.renderer.shown(cell)
    fill, ink = EXPIRED if cell.expired else PAINTS[cell.status]
    return format_html(
        '<g><title>{}</title><rect x="{}" y="{}" width="{}" height="{}" rx="3" fill="{}"/>{}'
        '<text x="{}" y="{}" fill="{}">{}</text></g>',
        cell.label,
        x,
        y,
        CELL_WIDTH - GAP,
        ROW_HEIGHT - GAP,
        fill,
        sign(cell.status, x + 3, y + 3, ink),
        x + 16,
        y + 12,
        ink,
        f"{main} {small}".strip(),
    )


def sign_box(status: str, x: int, y: int) -> SafeString:
    fill, ink = PAINTS[status]
    return format_html(
        '<rect x="{}" y="{}" width="14" height="14" rx="3" fill="{}"/>{}',
        x,
        y,
        fill,
        sign(status, x + 2, y + 2, ink),
    )


def sign(status: str, x: int, y: int, ink: str) -> SafeString:
    return format_html(
        '<path d="{}" transform="translate({} {})" fill="none" stroke="{}" stroke-width="1.6"/>',
        SIGNS[status],
        x,
        y,
        ink,
    )


def cleaned(text: str) -> str:
    """Return foreign text on one line, without characters that XML does not take."""
    line = " ".join(foreign_text.clean(text).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def png(drawing: str) -> bytes:
    """Return an SVG drawing as PNG, with typst's own fonts: the same from every machine."""
    import typst  # noqa: PLC0415, slow to import

    return typst.compile(
        PNG_SOURCE,
        format="png",
        ppi=96,
        font_paths=fonts(),
        ignore_system_fonts=True,
        sys_inputs={"svg": drawing},
    )


def response(matrix: Matrix, form: str, address: str, backend: str) -> HttpResponse:
    """Return the picture as a file in the form "svg" or "png"."""
    drawing = svg(matrix, address, backend)
    moment = (matrix.filters.at or matrix.now).astimezone(UTC)
    content, kind = (png(drawing), "image/png") if form == "png" else (drawing, "image/svg+xml")
    answer = HttpResponse(content, content_type=kind)
    return exports.as_file(answer, f"matrix-{moment:%Y-%m-%d}.{form}")
