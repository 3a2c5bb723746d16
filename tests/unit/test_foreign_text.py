"""Text from outside is shown: it acts on no terminal, begins no log line, and is no markup."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from certification.bedrock import errors
from certification.bedrock.client import ListedModel, _entries, is_id
from certification.engine import evidence
from certification.inference import API, Endpoint, Reply, Timing, ToolUse, Usage
from certification.inference import Text as TextBlock
from certification.lib import foreign_text
from certification.management import terminal
from certification.reasons import Reason
from myia import logs

ESCAPES = "\x1b]0;title\x07\x1b[2J\x1b[31mFAKE: certified\x1b]8;;http://evil\x1b\\\x9b2J"
DIRECTIONS = "a\u202eb\u2066c\u200bd\u200ee\ufeff\u2028f\U000e0041"
MARKUP = "[/red] refused [/] [link=file:///etc/passwd]here[/link] :bomb:"
HOSTILE = ESCAPES + DIRECTIONS + MARKUP


def is_clean(text: str) -> bool:
    return not foreign_text.UNSAFE.search(text)


def test_what_acts_is_replaced_and_what_shows_stays() -> None:
    assert is_clean(foreign_text.clean(HOSTILE))
    shown = "Olá, 世界! 👩\u200d🔬 ن\u200cم\ttab\nline — “quotes” R$\u00a05"
    assert foreign_text.clean(shown) == shown
    assert foreign_text.clean("a\r\nb\rc\x1b\0\ud83d") == "a\nb\nc\ufffd\ufffd\ufffd"


def test_a_json_document_keeps_its_meaning() -> None:
    value = {"a\u202e": [HOSTILE, "\x85\U000e0041\n"]}
    document = foreign_text.escape_json(json.dumps(value, ensure_ascii=False))
    assert is_clean(document)
    assert json.loads(document) == value


def test_errors_are_cleaned_where_they_are_made() -> None:
    error = errors.error(Reason.UNKNOWN, HOSTILE, code=HOSTILE, request_id=HOSTILE)
    assert all(map(is_clean, (error.message, error.code, error.request_id, str(error))))


def test_listings_are_cleaned() -> None:
    raw = {"modelId": HOSTILE, "modelName": HOSTILE, "inputModalities": [HOSTILE]}
    [entry, _] = _entries(
        "ListFoundationModels", {"modelSummaries": [raw, "text"]}, "modelSummaries"
    )
    model = ListedModel.from_wire(entry)
    assert all(map(is_clean, (model.model_id, model.name, *model.input_modalities)))
    assert not is_id(model.model_id)


def test_every_text_of_stored_evidence_is_clean() -> None:
    use = ToolUse(HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]})
    broken = ToolUse(HOSTILE, HOSTILE, None, HOSTILE)
    answer = Reply(
        (TextBlock(HOSTILE), use, broken),
        HOSTILE,  # type: ignore[arg-type]  # a stop reason from outside
        Usage(1, 1),
        Timing(1.0),
        request_id=HOSTILE,
        events=(HOSTILE,),
    )
    assert is_clean(json.dumps(evidence.outcome(answer), ensure_ascii=False))


def test_no_text_is_markup_or_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_column("Hostile", overflow="fold")
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    out = terminal.console()
    out.print(table)
    out.print(HOSTILE, soft_wrap=True)
    terminal.print_json({"a": HOSTILE})
    output = capsys.readouterr().out
    assert is_clean(output)
    assert MARKUP in output


def test_tables_of_runs_show_hostile_names_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    run: Any = SimpleNamespace(
        verdict="failed",
        status="COMPLETED",
        route="eu." + HOSTILE,
        route_kind="INFERENCE_PROFILE",
        endpoint=Endpoint.RUNTIME,
        api=API.CONVERSE,
        error_reason="iam_denied",
        error_message=HOSTILE,
        fix={"text": HOSTILE},
        model=SimpleNamespace(api_model_id=HOSTILE),
        region_id="us-east-1",
        score=None,
        rating="",
    )
    out = terminal.console()
    for table in (terminal.runs_table([run]), terminal.diagnoses([run]), terminal.matrix([run])):
        out.print(table)
    out.print(
        terminal.parity_sentence(
            {"model": HOSTILE, "region": "a", "reference": "b", "losses": [], "sentence": HOSTILE}
        )
    )
    output = capsys.readouterr().out
    assert is_clean(output)
    assert output.count("[/red] refused") > 4


def test_a_log_for_people_has_one_line_for_each_event() -> None:
    formatter = logs.configuration("console", "INFO")["formatters"]["console"]
    make, arguments = formatter["()"], {k: v for k, v in formatter.items() if k != "()"}
    record = logging.LogRecord("x", logging.INFO, "", 0, f"%s\n{ESCAPES}", ("a\nb",), None)
    line = make(**arguments).format(record)
    assert is_clean(line)
    assert "\n" not in line
    assert "a\\nb" in line
