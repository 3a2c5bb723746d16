"""Say in the reader's language what was asked in a case, and why a trial passed or failed."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from django.utils import translation
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from certification import labels
from certification.models import TestResult
from certification.suite.sentences import ASKS, WORDINGS

# What evidence is called, by its stored name; other names are shown as they are.
EVIDENCE: dict[str, str | Promise] = {
    "expected": gettext_lazy("expected"),
    "found": gettext_lazy("came"),
    "text": gettext_lazy("text"),
    "forbidden": gettext_lazy("forbidden"),
    "line": gettext_lazy("line"),
    "figures": gettext_lazy("figures"),
    "first": gettext_lazy("first answer"),
    "second": gettext_lazy("second answer"),
    "arguments": gettext_lazy("arguments"),
    "wanted": gettext_lazy("expected arguments"),
    "reason": gettext_lazy("reason"),
    "code": gettext_lazy("error code"),
    "message": gettext_lazy("message of the service"),
    "http_status": gettext_lazy("HTTP status"),
    "refused": gettext_lazy("refused by the service"),
    "events": gettext_lazy("events"),
    "order": gettext_lazy("order of the events"),
    "tail": gettext_lazy("last events"),
    "expected_stop": gettext_lazy("expected stop reason"),
    "stop_reason": gettext_lazy("stop reason"),
    "limit": gettext_lazy("limit of tokens"),
    "input_tokens": gettext_lazy("input tokens"),
    "output_tokens": gettext_lazy("output tokens"),
    "expected_input_tokens": gettext_lazy("expected input tokens"),
    "expected_output_tokens": gettext_lazy("expected output tokens"),
    "max_gap_ms": gettext_lazy("longest gap (ms)"),
    "most_ms": gettext_lazy("longest gap allowed (ms)"),
    "ttft_ms": gettext_lazy("first token after (ms)"),
    "total_ms": gettext_lazy("whole answer after (ms)"),
    "latency_ms": gettext_lazy("answer after (ms)"),
    "tokens_per_second": gettext_lazy("tokens per second"),
    "converse": gettext_lazy("without streaming"),
    "stream": gettext_lazy("with streaming"),
    "calls": gettext_lazy("calls"),
    "token": gettext_lazy("token of the template"),
    "around": gettext_lazy("in the text"),
    "pattern": gettext_lazy("pattern"),
}

# What the model lacks, by the name that the suite writes.
CAPABILITIES: dict[str, str | Promise] = {
    **{name.replace("_", " "): label for name, label in labels.CAPABILITIES.items()},
    "system prompts": labels.CAPABILITIES["system"],
}
NOT_SUPPORTED = re.compile(
    re.escape(WORDINGS["not_supported"]).replace(re.escape("%(capabilities)s"), "(.+)")
)


class Statement(NamedTuple):
    """A sentence; `lang` is "en" for one that was stored as text alone, by an older version or in
    words of AWS, else "".
    """

    text: str
    lang: str = ""


def evidence_name(name: str) -> str:
    """Return what a piece of evidence is called."""
    return str(EVIDENCE.get(name) or name.replace("_", " "))


def purpose(case_id: str) -> str:
    """Return what a case asks of a model; "" for a custom case or one of long ago."""
    return translation.gettext(ASKS[case_id]) if case_id in ASKS else ""


def of_trial(trial: Any) -> Statement:
    """Return why a stored trial passed or failed, whatever was stored."""
    stored = trial if isinstance(trial, dict) else {}
    text = render(stored.get("wording"))
    if text:
        return Statement(text)
    sentence = stored.get("sentence")
    return Statement(sentence if isinstance(sentence, str) else "", "en")


def of_result(result: TestResult) -> Statement:
    """Return the sentence of a result that came `without_transcripts`: that of its last failed
    trial, else that of the trial which gave it.
    """
    summaries = getattr(result, "summaries", None)
    listed = summaries if isinstance(summaries, list) else []
    trials = [trial for trial in reversed(listed) if isinstance(trial, dict)]
    for trial in trials if result.verdict in ("failed", "flaky") else ():
        if trial.get("valid") and trial.get("passed") is False and trial.get("sentence"):
            return of_trial(trial)
    for trial in trials:
        if trial.get("sentence") == result.sentence:
            return of_trial(trial)
    return of_text(result.sentence)


def of_text(sentence: str) -> Statement:
    """Return a sentence that was stored as text alone, as those of cases are that were never tried
    because the model does not have what they need.
    """
    match = NOT_SUPPORTED.fullmatch(sentence)
    names = match[1].split(", ") if match else []
    if not names or not CAPABILITIES.keys() >= set(names):
        return Statement(sentence, "en")
    words = ", ".join(str(CAPABILITIES[name]) for name in names)
    return Statement(translation.gettext(WORDINGS["not_supported"]) % {"capabilities": words})


def render(stored: Any) -> str:
    """Return the sentence of a stored code and its figures; "" for what names none."""
    if not isinstance(stored, dict):
        return ""
    code, figures = stored.get("code"), stored.get("figures")
    template = WORDINGS.get(code) if isinstance(code, str) else None
    if not template or not isinstance(figures, dict):
        return ""
    try:
        return translation.gettext(template) % {
            name: str(labels.REASONS.get(value, value)) if name == "reason" else shown(value)
            for name, value in figures.items()
        }
    except (KeyError, ValueError, TypeError):  # figures of another wording
        return ""


def shown(value: Any) -> str:
    """Return a figure as text: numbers as the reader writes them."""
    if isinstance(value, dict):
        return render(value)
    if isinstance(value, float):
        return str(number_format(value))
    return str(value)
