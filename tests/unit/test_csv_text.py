"""Cells of CSV files are data in every spreadsheet."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta, timezone

import pytest

from certification.lib import csv_text


def read(data: bytes) -> list[list[str]]:
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "|", "%"])
@pytest.mark.parametrize(
    "before", ["", " ", "\u00a0", "\u200b", "\ufeff", "\u202e", "\0", "\t", "\n"]
)
def test_a_text_that_would_be_a_formula_is_defused(sign: str, before: str) -> None:
    [[cell]] = read(csv_text.table([f"{before}{sign}cmd()"], []))
    assert cell.startswith("'")


@pytest.mark.parametrize("text", ["\tplain", "\rplain", "\nplain"])
def test_a_text_after_a_tab_or_a_line_break_is_defused(text: str) -> None:
    assert str(csv_text.cell_text(text)).startswith("'")


@pytest.mark.parametrize("text", ["anthropic.claude", "us-east-1", "a=b", "", "Ação", "日本", "'x"])
def test_other_texts_stay(text: str) -> None:
    assert csv_text.cell_text(text) == text


@pytest.mark.parametrize(("value", "cell"), [(-3, "-3"), (0.5, "0.5"), (None, ""), (0, "0")])
def test_numbers_are_numbers_and_none_is_empty(value: float | None, cell: str) -> None:
    assert read(csv_text.table(["a"], [[value]]))[1:] == [[cell]] or cell == ""


def test_times_are_iso_in_utc() -> None:
    at = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=timezone(timedelta(hours=-3)))
    assert csv_text.cell_text(at) == "2026-03-04T08:06:07+00:00"
    assert csv_text.cell_text(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00+00:00"


def test_control_characters_and_halves_of_pairs_are_dropped() -> None:
    assert csv_text.cell_text("a\0b\x1b[31m\ud800c") == "ab[31mc"


def test_quotes_commas_and_breaks_survive_and_notes_come_first() -> None:
    rows = read(csv_text.table(["a", "b"], [['say "hi"', "x,\ny"]], ["from here", "=1"]))
    assert rows == [["# from here"], ["# '=1"], ["a", "b"], ['say "hi"', "x,\ny"]]
