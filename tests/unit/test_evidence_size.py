"""A run's transcripts stay within their size, and what is dropped first is what nobody will look
for.
"""

from __future__ import annotations

import json
from typing import Any

from certification.engine import evidence
from certification.inference import Document, Image, Request, user
from certification.models import TestResult


def result(case_id: str, *sizes: tuple[bool, int]) -> TestResult:
    """A case with one trial for each (passed, characters of transcript)."""
    trials: list[dict[str, Any]] = [
        {
            "trial": i,
            "passed": passed,
            "valid": True,
            "has_transcript": True,
            "calls": [{"text": "x" * size}],
        }
        for i, (passed, size) in enumerate(sizes)
    ]
    return TestResult(case_id=case_id, verdict="passed", trials=trials)


def size(results: list[TestResult]) -> int:
    return sum(len(json.dumps(t["calls"])) for r in results for t in r.trials if t["calls"])


def with_transcript(results: list[TestResult]) -> list[tuple[str, int]]:
    return [(r.case_id, t["trial"]) for r in results for t in r.trials if t["calls"]]


def test_a_run_of_the_usual_size_keeps_everything() -> None:
    results = evidence.fit([result("G01", (True, 1000)), result("T1", (False, 1000))])
    assert with_transcript(results) == [("G01", 0), ("T1", 0)]
    assert all("dropped" not in t for r in results for t in r.trials)


def test_the_longest_transcripts_of_passed_trials_are_dropped_first() -> None:
    large = evidence.MAX_RUN // 2
    results = evidence.fit(
        [result("N2", (True, large), (True, 900)), result("T1", (False, large), (True, large))]
    )
    assert size(results) <= evidence.MAX_RUN
    assert ("T1", 0) in with_transcript(results), "a failure's transcript is what people look for"
    assert ("N2", 1) in with_transcript(results), "dropping it would have gained nothing"
    [gone] = [t for t in results[0].trials if not t["calls"]]
    assert gone["has_transcript"] is False
    assert "characters was over the run's" in gone["dropped"]
    assert gone["passed"] is True


def test_transcripts_of_failures_are_dropped_when_they_alone_are_too_large() -> None:
    results = evidence.fit([result("T1", *[(False, evidence.MAX_RUN // 2)] * 4)])
    assert size(results) <= evidence.MAX_RUN
    assert len(with_transcript(results)) == 1


def test_of_pictures_and_documents_only_the_size_is_stored() -> None:
    request = Request(
        (
            user(
                Image("png", b"\x89" * 50_000), Document("pdf", "table", b"%" * 9000), "What is it?"
            ),
        ),
        300,
    )
    encoded = evidence.request(request)
    assert {"image": {"format": "png", "bytes": 50_000}} in encoded["messages"][0]["content"]
    assert {"document": {"format": "pdf", "name": "table", "bytes": 9000}} in encoded["messages"][
        0
    ]["content"]
    assert len(json.dumps(encoded)) < 1000


def test_a_long_text_says_how_much_of_it_is_missing() -> None:
    text = evidence.cut("word " * 20_000)
    assert len(text) < evidence.MAX_TEXT + 60
    assert text.endswith("[... 92000 more characters]")


def test_of_a_long_stream_the_ends_and_the_longest_gaps_are_stored() -> None:
    arrivals = [10.0 * n for n in range(1000)] + [20_000.4, 20_010.2]
    stored = evidence.thinned(arrivals)
    assert len(stored) <= evidence.MAX_ARRIVALS
    assert stored == sorted(stored)
    assert (stored[0], stored[-1]) == (0, 20_010)
    assert stored[stored.index(20_000) - 1] == 9_990  # both ends of the longest gap
    assert evidence.thinned(arrivals[:3]) == [0, 10, 20]
