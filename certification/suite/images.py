"""Draw pictures and documents in memory for the vision cases: the same bytes for the same
arguments.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = {
    "red": (200, 30, 30),
    "blue": (30, 60, 200),
    "green": (20, 140, 60),
    "orange": (240, 140, 20),
}
SHAPES = ("circle", "square", "triangle")
COLUMNS, CELL = 5, 120  # of the grid of shapes; pixels


@dataclass(frozen=True)
class Shape:
    kind: str  # of SHAPES
    colour: str  # of COLOURS


def poster_png(code: str, shapes: Sequence[Shape]) -> bytes:
    """Return a white picture as PNG, with a code in large letters and shapes in rows of five below
    it.
    """
    # Loaded here, so that whoever only answers (the emulator) never needs it.
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

    rows = -(-len(shapes) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * CELL, CELL * (rows + 1)), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((CELL // 2, CELL // 4), code, fill="black", font=ImageFont.load_default(size=64))
    for i, shape in enumerate(shapes):
        x, y = i % COLUMNS * CELL + 25, (i // COLUMNS + 1) * CELL + 15
        box, colour = (x, y, x + 70, y + 70), COLOURS[shape.colour]
        if shape.kind == "circle":
            pen.ellipse(box, fill=colour)
        elif shape.kind == "square":
            pen.rectangle(box, fill=colour)
        else:
            pen.polygon([(x + 35, y), (x, y + 70), (x + 70, y + 70)], fill=colour)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def table_pdf(title: str, rows: Sequence[Sequence[str]]) -> bytes:
    """Return a page (A4) with a title and a ruled table, as a PDF of plain text operators. Latin-1
    texts only.
    """
    left, top, width, height = 60, 720, 95, 28
    columns = len(rows[0])
    marks = [text_operator(16, left, top + 30, title)]
    for i, row in enumerate(rows):
        y = top - i * height
        marks += [
            text_operator(12, left + j * width + 8, y - 19, cell) for j, cell in enumerate(row)
        ]
    right, bottom = left + columns * width, top - len(rows) * height
    marks += [
        f"{left} {top - i * height} m {right} {top - i * height} l S" for i in range(len(rows) + 1)
    ]
    marks += [
        f"{left + j * width} {top} m {left + j * width} {bottom} l S" for j in range(columns + 1)
    ]
    page = "\n".join(marks).encode("latin-1")
    return pdf_file(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )


def text_operator(size: int, x: int, y: int, text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /F1 {size} Tf {x} {y} Td ({escaped}) Tj ET"


def pdf_file(*objects: bytes) -> bytes:
    """Return a PDF file of these objects, numbered from 1, the first being its catalogue."""
    data = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (count, table, count, len(data))
    )
