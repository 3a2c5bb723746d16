"""How often the suite misjudges: right answers as models write them, and wrong ones that look
right, by writers that know nothing of the graders.
"""

from __future__ import annotations

import ast

from certification.suite import registry
from tests import formats, natural_answers
from tests.natural_answers import OTHER_CASES, WRITERS, Mistake, cases, judge

DRAWS = 14  # right and as many wrong answers per case
MAX_SHARE = 0.01


def mistakes() -> list[Mistake]:
    return [m for case in cases() for m in judge(case, DRAWS, seed=77) if m]


def test_fewer_than_one_answer_in_a_hundred_is_misjudged() -> None:
    misjudged = mistakes()
    allowed = MAX_SHARE * DRAWS * len(cases())
    assert len([m for m in misjudged if m.right]) < allowed, misjudged
    assert len([m for m in misjudged if not m.right]) < allowed, misjudged


def test_every_case_has_a_writer() -> None:
    assert {*WRITERS} | OTHER_CASES == {case.id for case in registry.all_cases("text", "deep")}


def test_the_writers_know_nothing_of_the_graders() -> None:
    for module in (formats, natural_answers):
        with open(module.__file__, encoding="utf-8") as source:
            tree = ast.parse(source.read())
        imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        graders = {"graders", "formatting", "language", "text", "json_schema", "patterns"}
        assert not imported & {f"certification.suite.{name}" for name in graders}


def test_a_writer_draws_the_same_answers_for_the_same_seed() -> None:
    [case] = [case for case in cases() if case.id == "P2"]
    assert list(judge(case, 5)) == list(judge(case, 5))
