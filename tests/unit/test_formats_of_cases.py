"""Every case of the suite with its answers in every format: right answers pass and near misses
fail, unless the case is declared to be read character by character.
"""

from __future__ import annotations

from functools import cache

import pytest

from certification.inference import Request, Text
from certification.suite import registry, synthetic_replies
from certification.suite.case import Answer, Case, Context, Grade, Ref, Script, Step
from tests.formats import CHARACTERS, FORMATS, Format

CASES = [case for case in registry.all_cases("text", "deep") if not case.whole_run]
# G10 expects refusals. F1 accepts any answer.
FREE = [case for case in CASES if not case.exact_form and case.id not in ("G10", "F1")]
EXACT = [case for case in CASES if case.exact_form]
each_free_case = pytest.mark.parametrize("case", FREE, ids=lambda case: case.id)
each_exact_case = pytest.mark.parametrize("case", EXACT, ids=lambda case: case.id)


@cache
def calls(case_id: str, trial: int) -> tuple[Script, tuple[tuple[Step, Request], ...]]:
    """Return a trial and its calls with a faultless model."""
    script = registry.BY_ID[case_id].script(Ref(5, case_id, trial))
    made: list[tuple[Step, Request]] = []
    outcomes: tuple[synthetic_replies.Reply, ...] = ()
    for step in script.steps:
        request = step.request(outcomes)
        if isinstance(request, Request) and step.expected:
            made.append((step, request))
            outcomes += (synthetic_replies.reply(request, step.expected),)
    return script, tuple(made)


def formatted(answer: Answer, form: Format) -> Answer:
    texts = (Text(form(b.text)) if isinstance(b, Text) else b for b in answer.content)
    return Answer(tuple(texts), answer.stop_reason, answer.input_tokens)


def grade(case: Case, trial: int, form: Format, *, right: bool) -> Grade:
    """Grade the expected answers of a trial, or its near misses, in a format."""
    script, made = calls(case.id, trial)
    outcomes = []
    for step, request in made:
        answer = step.expected if right else step.near_miss
        assert answer
        # Where the answer's length is what is tested, more characters change it.
        served = formatted(answer, form) if step.room else answer
        outcomes.append(synthetic_replies.reply(request, served))
    return script.grade(tuple(outcomes), Context())


def test_there_are_many_formats() -> None:
    assert len(FORMATS) >= 40


@each_free_case
def test_a_right_answer_passes_in_every_format(case: Case) -> None:
    for trial, (name, form) in enumerate(FORMATS.items()):
        result = grade(case, trial % 3, form, right=True)
        assert result.passed, (name, result)


@each_free_case
def test_a_near_miss_fails_in_every_format(case: Case) -> None:
    for trial, (name, form) in enumerate(FORMATS.items()):
        result = grade(case, trial % 3, form, right=False)
        assert not result.passed, (name, result)


@each_exact_case
def test_other_characters_fail_where_programs_read_the_answer(case: Case) -> None:
    for trial in range(3):
        script, made = calls(case.id, trial)
        text = "".join(getattr(block, "text", "") for block in made[0][0].expected.content)
        changing = [form for form in CHARACTERS.values() if form(text) != text]
        assert len(changing) >= 5
        for name, form in CHARACTERS.items():
            changes = form(text) not in (text, f"\ufeff{text}") and name != "decomposed accents"
            if changes:
                result = grade(case, trial, form, right=True)
                assert not result.passed, (script.ref, name, result)


@pytest.mark.parametrize("case_id", ["J1", "J2"])
def test_json_may_be_in_one_code_fence(case_id: str) -> None:
    for name in ("code fence", "code fence with a language", "tilde fence", "blank lines around"):
        assert grade(registry.BY_ID[case_id], 0, FORMATS[name], right=True).passed, name
        assert not grade(registry.BY_ID[case_id], 0, FORMATS[name], right=False).passed, name
