"""Tables as CSV that spreadsheets open as data, and never as formulas."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

# What makes a spreadsheet compute a cell, in the widths that it takes for the same sign.
FORMULA_SIGNS = frozenset("=+-@＝＋－＠﹢﹣﹦﹫|%")
# Categories of characters that nobody sees, and that some programs strip before they look.
INVISIBLE = ("C", "Z")

Value = str | int | float | datetime | None


def cell_text(value: Value) -> str | int | float:
    """Return a value as a cell: times in ISO 8601 and UTC, a text that would be a formula behind an
    apostrophe, and None empty. Control characters but tabs and line breaks are dropped.
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(value, int | float):
        return value
    text = "".join(c for c in value if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cs"))
    first = next((c for c in text if unicodedata.category(c)[0] not in INVISIBLE), "")
    is_formula = first in FORMULA_SIGNS or text[:1] in ("\t", "\r", "\n")
    return f"'{text}" if text and is_formula else text


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Value]], notes: Iterable[str] = ()
) -> bytes:
    """Return a table as CSV in UTF-8 with a byte order mark. `notes` come first, a row each behind
    `#`.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    for note in notes:
        writer.writerow([f"# {cell_text(note)}"])
    writer.writerow([cell_text(column) for column in columns])
    writer.writerows([cell_text(value) for value in row] for row in rows)
    return out.getvalue().encode("utf-8-sig")
