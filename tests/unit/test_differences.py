"""Marks where two texts differ, by words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certification.web import differences
from certification.web.differences import MAX_WORDS, Piece

TEXTS = st.text(st.sampled_from("ab é\n.1"), max_size=40)


def test_only_the_words_that_differ_are_marked() -> None:
    marked = differences.mark("It costs 12 dollars.", "It costs 21 dollars today.")
    assert marked is not None
    assert marked.a == [Piece("It costs "), Piece("12", True), Piece(" dollars"), Piece(".")]
    assert [piece.text for piece in marked.b if piece.is_different] == ["21", " today"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("the same", "the same"),
        ("", "something"),
        ("one two three", "vier fünf"),
        ("a " * MAX_WORDS, "a " * MAX_WORDS + "b"),
    ],
)
def test_no_marks_where_they_would_not_help(a: str, b: str) -> None:
    assert differences.mark(a, b) is None


@given(TEXTS, TEXTS)
def test_the_pieces_are_the_texts(a: str, b: str) -> None:
    marked = differences.mark(a, b)
    if marked is not None:
        assert "".join(piece.text for piece in marked.a) == a
        assert "".join(piece.text for piece in marked.b) == b
        same = [[p.text for p in side if not p.is_different] for side in marked]
        assert "".join(same[0]) == "".join(same[1])
