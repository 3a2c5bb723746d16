"""Models that can do nothing of what is asked: none of their answers passes, but at the gates that
say that they leave the answer aside.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from certification.inference import AnyRequest, Outcome, Request
from certification.suite import registry, synthetic_replies
from certification.suite.case import Answer, Case, Kind, text_answer
from tests import runs

CASES = [
    case
    for case in registry.cases("text", "full", registry.ALL_CAPABILITIES | {"reasoning"})
    if not case.whole_run and case.kind in {Kind.GATE, Kind.SCORED}
]
# What these gates test is the service's, whatever the answer says (see docs/suite.md).
ANSWER_LEFT_ASIDE = {"G01", "G03", "G09", "G10"}


def bare_prompt(request: AnyRequest) -> str:
    return re.sub(r"\n?\(ref [^)]*\)", "", runs.text_of(request)).strip()


def last_line(request: AnyRequest) -> str:
    return bare_prompt(request).splitlines()[-1]


def every_word_once(request: AnyRequest) -> str:
    return ", ".join(dict.fromkeys(re.findall(r"[\w.,-]*\w", bare_prompt(request))))


PARROTS: dict[str, Callable[[AnyRequest], str]] = {
    "says nothing": lambda request: "",
    "says OK": lambda request: "OK",
    "is polite": lambda request: "Of course! I am happy to help you with that.",
    "says one word": lambda request: "the " * 40,
    "repeats the prompt": runs.text_of,
    "repeats the prompt without its reference": bare_prompt,
    "repeats the last line": last_line,
    "repeats the last line four times": lambda request: "\n".join([last_line(request)] * 4),
    "lists every word": every_word_once,
    "lists the words backwards": lambda request: ", ".join(
        reversed(every_word_once(request).split(", "))
    ),
    "counts": lambda request: " ".join(map(str, range(1, 3000))),
    "lists the letters": lambda request: " ".join(f"{n}-{x}" for n in range(1, 5) for x in "ABCD"),
}


@pytest.mark.parametrize("name", PARROTS)
def test_a_model_that_only_repeats_passes_nothing(name: str) -> None:
    passed = {case.id for case in CASES if passes(case, PARROTS[name])}
    assert passed <= ANSWER_LEFT_ASIDE | ABLE.get(name, set())


# What they are able to: repeat a line, stop where they are told to, be cut, count.
ABLE = {
    "repeats the prompt": {"G04", "G05", "G08", "S3"},
    "repeats the prompt without its reference": {"G04", "G05", "G08", "S3"},
    "repeats the last line": {"G08"},
    "repeats the last line four times": {"G04", "G08", "S3"},
    "lists every word": {"G05"},
    "counts": {"G02", "G04", "S3"},
}


def passes(case: Case, answer: Callable[[AnyRequest], str]) -> bool:
    def call(request: AnyRequest) -> Outcome:
        assert isinstance(request, Request)
        text = answer(request)
        return synthetic_replies.reply(request, text_answer(text) if text else Answer(()))

    return any(
        runs.trial(case, call, number, seed).passed for seed in (3, 8) for number in range(3)
    )
