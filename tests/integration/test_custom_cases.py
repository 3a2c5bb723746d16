"""Cases that operators write themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from certification.inference import Request
from certification.models import CustomCase
from certification.suite import custom, registry, versions
from certification.suite.case import Ref

SPEC = custom.Spec(
    "XCAPITAL", "Capital", "reasoning", "What is the capital of France?", "mentions", "Paris"
)


def case_row(**changes: Any) -> CustomCase:
    values = {
        "case_id": "XCAPITAL",
        "title": "Capital",
        "category": "reasoning",
        "prompt": "What is the capital of France?",
        "grader": "mentions",
        "expected": "Paris",
        "good_sample": "It is Paris.",
        "bad_sample": "It is Rome.",
    }
    return CustomCase(**values | changes)


@pytest.mark.parametrize(
    ("grader", "expected", "good", "bad"),
    [
        ("exact", "Paris", "Paris", "It is Paris."),
        ("normalised", ["Paris", "City of Paris"], "paris!", "Rome"),
        ("mentions", ["Paris", "Seine"], "Paris lies on the Seine.", "Paris"),
        ("without", "Rome", "Paris", "Rome"),
        ("regex", r"^\d{4}-\d{2}-\d{2}$", "2026-11-20", "20/11/2026"),
        ("number", 42, "The answer is 42.", "The answer is 41."),
        ("number", {"value": 3.14, "tolerance": 0.01}, "3.145", "3.2"),
        ("json_schema", {"type": "object", "required": ["a"]}, '{"a": 1}', '{"b": 1}'),
        ("words", {"max": 3}, "one two three", "one two three four"),
        ("lines", 2, "one\ntwo", "one"),
        ("bullets", {"min": 2}, "- one\n- two", "- one"),
        (
            "language",
            "pt",
            "O contrato não foi assinado pelas partes.",
            "The contract was not signed by the parties.",
        ),
    ],
)
def test_each_grader_tells_good_from_bad(grader: str, expected: Any, good: str, bad: str) -> None:
    spec = replace(SPEC, grader=grader, expected=expected)
    assert custom.rehearse(spec, good).passed
    assert not custom.rehearse(spec, bad).passed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": "G01"}, "must be X"),
        ({"id": "Xlower"}, "must be X"),
        ({"category": "astrology"}, "category must be"),
        ({"grader": "vibes"}, "grader must be"),
        ({"grader": "regex", "expected": "("}, "regular expression"),
        ({"grader": "number", "expected": "many"}, "expects a number"),
        ({"grader": "json_schema", "expected": {"type": "nonsense"}}, "valid JSON Schema"),
        ({"grader": "words", "expected": {"min": -1}}, "expects a number"),
        ({"grader": "language", "expected": "la"}, "pt"),
        ({"expected": 7}, "expects a string"),
        ({"prompt": " "}, "prompt"),
        ({"repeats": 0}, "repeats"),
        ({"max_tokens": 1}, "tokens"),
        ({"weight": 0}, "weight"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(custom.BadSpec, match=sentence):
        custom.case(replace(SPEC, **changes))


@given(answer=st.text(), grader=st.sampled_from(sorted(custom.GRADERS)))
def test_any_answer_gets_a_grade(answer: str, grader: str) -> None:
    expected: dict[str, Any] = {
        "number": 1,
        "json_schema": {},
        "words": 1,
        "lines": 1,
        "bullets": 1,
        "language": "pt",
    }
    grade = custom.rehearse(
        replace(SPEC, grader=grader, expected=expected.get(grader, "a")), answer
    )
    assert grade.sentence


def test_it_is_asked_beyond_the_quick_tier_and_marks_the_version() -> None:
    capabilities = {"system", "tools"}
    assert SPEC.id not in {c.id for c in registry.cases("text", "quick", capabilities, [SPEC])}
    full = registry.cases("text", "full", capabilities, [SPEC])
    assert SPEC.id in {c.id for c in full}
    assert full[-1].whole_run
    marked = versions.suite_version_with([SPEC])
    assert marked.startswith(f"{versions.SUITE_VERSION}+")
    assert versions.suite_version_with([replace(SPEC, weight=2)]) != marked
    assert versions.suite_version_with([]) == versions.SUITE_VERSION


def test_its_prompt_carries_the_nonce() -> None:
    ref = Ref(7, SPEC.id, 2)
    request = custom.case(SPEC).script(ref).steps[0].request(())
    assert isinstance(request, Request)
    assert str(ref) in str(request.messages)


@pytest.mark.django_db
def test_saving_runs_the_grader_on_both_samples() -> None:
    case_row().full_clean()
    with pytest.raises(ValidationError, match="does not pass"):
        case_row(good_sample="It is Rome.").full_clean()
    with pytest.raises(ValidationError, match="passes this answer"):
        case_row(bad_sample="Paris").full_clean()
    with pytest.raises(ValidationError, match="must be X"):
        case_row(case_id="capital").full_clean()


@pytest.mark.django_db
def test_only_enabled_cases_are_asked() -> None:
    case_row().save()
    case_row(case_id="XOFF", enabled=False).save()
    assert [spec.id for spec in CustomCase.objects.specs()] == ["XCAPITAL"]


def test_a_pattern_that_never_ends_is_cut_and_blames_nobody() -> None:
    spec = replace(SPEC, grader="regex", expected=r"^(a|aa)+$")
    grade = custom.rehearse(spec, "a" * 60 + "!")
    assert (grade.passed, grade.valid) == (False, False)
    assert "longer than" in grade.sentence
