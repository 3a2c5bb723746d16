"""Sentences about trials: every code has a wording with the figures that it is given, and is shown
in any language from what is stored.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import translation

from certification import statements
from certification.engine import evidence
from certification.inference import Failure, Reply, Text, Timing, Usage
from certification.models import TestResult
from certification.reasons import Reason
from certification.suite import graders, registry
from certification.suite.case import Context, Grade, ProbeCache, Ref
from certification.suite.scoring import CaseOutcome
from certification.suite.sentences import ASKS, WORDINGS, Sentence, wording

SUITE = Path(settings.BASE_DIR) / "certification"


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"%\((\w+)\)s", text))


def uses() -> list[tuple[str, ast.Call]]:
    """Every call of `wording` in the code."""
    return [
        (f"{path.name}:{node.lineno}", node)
        for path in SUITE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "wording" and node.args
    ]


def test_every_code_has_a_wording_with_its_figures() -> None:
    checked = 0
    for where, call in uses():
        code = call.args[0]
        if isinstance(code, ast.Constant):
            assert code.value in WORDINGS, where
            names = {keyword.arg for keyword in call.keywords}
            if None not in names:  # none is from a dictionary
                assert names == placeholders(WORDINGS[str(code.value)]), where
                checked += 1
    assert checked > 60


FIGURES = ("language_", "character_", "request_", "capability_", "or_more")  # no sentences


def test_every_wording_is_a_sentence_without_stray_signs() -> None:
    for code, text in WORDINGS.items():
        assert text.replace("%(", "").count("%") == 0, code
        assert text[-1] in ".)s" or code.startswith(FIGURES), code


def test_every_case_says_what_it_asks() -> None:
    assert set(ASKS) == set(registry.BY_ID)


@pytest.mark.parametrize("case", list(registry.BY_ID.values()), ids=lambda case: case.id)
def test_grades_of_any_answer_have_a_code(case: Any) -> None:
    usage = Usage(9, 9, 18)
    answers = [
        Reply((Text("42"),), "end_turn", usage, Timing(10.0)),
        Reply((), "max_tokens", None, Timing(10.0), complete=False),
        Failure(Reason.THROTTLED_TOKENS, "Too many tokens"),
        None,
    ]
    for answer in answers:
        outcomes = () if answer is None else (answer,) * 2
        script = case.script(Ref(3, case.id, 0))
        grade = script.grade(outcomes, Context())
        assert isinstance(grade.sentence, Sentence), grade.sentence
        shown = statements.of_trial(evidence.trial(script, grade, [], ProbeCache()))
        words = str(grade.sentence).replace(Reason.THROTTLED_TOKENS, "too many tokens")
        assert shown == (words, "")


def stored(sentence: str) -> dict[str, Any]:
    script = registry.BY_ID["T1"].script(Ref(1, "T1", 0))
    return evidence.trial(script, Grade(False, sentence), [], ProbeCache())


def test_a_stored_sentence_is_shown_in_the_reader_s_language() -> None:
    trial = stored(wording("lacks_number", expected="7"))
    assert trial["sentence"] == "The answer does not have the number 7."
    assert trial["wording"] == {"code": "lacks_number", "figures": {"expected": "7"}}
    with translation.override("pt-br"):
        assert statements.of_trial(trial) == ("A resposta não tem o número 7.", "")


def test_a_sentence_inside_another_is_shown_too() -> None:
    inner = wording("gap_too_long", seconds=12.5)
    trial = stored(wording("tools_not_streamed", sentence=inner))
    assert statements.of_trial(trial).text == (
        "Tools work, but not when streaming. The stream was silent for 12.5 s."
    )


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        (
            wording("lacks", capability=graders.capability_name("vision"), message="No."),
            "O modelo não suporta imagens: No.",
        ),
        (
            graders.count_grade(2, "words", 3, None).sentence,
            "A resposta tem 2 palavras em vez de 3 ou mais.",
        ),
        (
            wording("character", name=wording("character_comma")),
            "A resposta tem vírgula, o que é proibido.",
        ),
        (
            wording("accepted", request=wording("request_no_content")),
            "O serviço aceitou uma mensagem sem conteúdo.",
        ),
    ],
)
def test_words_among_the_figures_are_translated_too(sentence: str, shown: str) -> None:
    with translation.override("pt-br"):
        assert statements.of_trial(stored(sentence)).text == shown


def test_the_reason_of_a_failed_call_is_said_in_words() -> None:
    trial = stored(wording("call_failed", reason="dns", message="No such host."))
    assert statements.of_trial(trial).text == "The call failed (host name not found): No such host."
    other = stored(wording("call_failed", reason="of tomorrow", message="?"))
    assert "(of tomorrow)" in statements.of_trial(other).text
    odd = {"wording": {"code": "call_failed", "figures": {"reason": ["dns"], "message": ""}}}
    assert statements.of_trial(odd | {"sentence": "Old."}) == ("Old.", "en")


def test_every_case_that_is_skipped_says_so_in_the_reader_s_language() -> None:
    outcomes = [o for kind in ("text", "embedding") for o in registry.skipped(kind, "full", ())]
    assert len(outcomes) >= 10
    for outcome in outcomes:
        result = TestResult(verdict="skipped", sentence=outcome.skipped)
        with translation.override("pt-br"):
            text, language = statements.of_result(result)
        assert (text == outcome.skipped, language) == (False, ""), outcome.skipped
    for sentence in ("The model does not support magic.", "The model does not support tools", ""):
        assert statements.of_text(sentence) == (sentence, "en")


def test_figures_are_redacted_as_the_sentence_is() -> None:
    arn = "arn:aws:iam::123456789012:user/ana"
    trial = stored(wording("lacks", capability="tools", message=arn))
    assert "123456789012" not in repr(trial)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        3,
        {},
        {"wording": 3, "sentence": "Old."},
        {"wording": {"code": [], "figures": {}}, "sentence": "Old."},
        {"wording": {"code": "number"}, "sentence": "Old."},
        {"wording": {"code": "number", "figures": {}}, "sentence": "Old."},
        {"wording": {"code": "no_such", "figures": {}}, "sentence": "Old."},
        {"sentence": "Old."},
    ],
)
def test_older_rows_are_shown_as_they_were_stored(odd: Any) -> None:
    expected = "Old." if isinstance(odd, dict) and "sentence" in odd else ""
    assert statements.of_trial(odd) == (expected, "en")


def test_a_result_has_the_sentence_of_the_trial_that_gave_it() -> None:
    result = TestResult(case_id="T1", sentence="The answer is 7.")
    assert statements.of_result(result) == ("The answer is 7.", "en")
    trials = [stored(wording("number", expected="7")), None, stored(wording("no_number"))]
    result.summaries = trials  # type: ignore[attr-defined]
    assert statements.of_result(result) == ("The answer is 7.", "")


def test_a_failed_case_says_why_it_failed_though_its_last_trial_passed() -> None:
    good, bad = (Grade(True, wording("calls")), Grade(False, wording("no_call")))
    outcome = CaseOutcome(registry.BY_ID["T1"], (bad, good, good))
    assert outcome.sentence == "No tool was called."
    script = registry.BY_ID["T1"].script(Ref(1, "T1", 0))
    result = TestResult(case_id="T1", verdict="failed", sentence="The tools were called.")
    result.summaries = [  # type: ignore[attr-defined]
        evidence.trial(script, grade, [], ProbeCache()) for grade in (bad, good)
    ]
    assert statements.of_result(result) == ("No tool was called.", "")


def test_truncated_figures_are_the_sentence_s_own() -> None:
    grade = graders.mentions(Reply((Text("No."),), "end_turn", None, Timing(1.0)), "Recife")
    assert grade.sentence == "The answer does not mention Recife."
