"""The page of one run: what was asked, what came, and how it was judged."""

from __future__ import annotations

import json
import re
import shlex
import uuid
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from certification.models import AIModel, CertificationRun
from certification.reasons import Reason, Status
from certification.web import reproduce
from certification.web.runs import Call, Trial
from tests.factories import certify, start_job

pytestmark = pytest.mark.django_db

NOVA = "amazon.nova-lite-v1:0"
CALL = {
    "attempt": 2,
    "route": NOVA,
    "endpoint": "bedrock-runtime",
    "api": "converse",
    "request": {
        "operation": "ConverseStream",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"text": "Say <b>hello</b>."}]}],
        "tools": [{"name": "send", "description": "Sends.", "schema": {}}],
        "max_tokens": 300,
    },
    "reply": {
        "content": [
            {"reasoning": "They want a greeting."},
            {"text": "<script>alert(1)</script>"},
            {"tool_use": {"id": "1", "name": "send", "input": {"to": "Ana"}}},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 11, "output_tokens": 7},
        "events": ["messageStart", "contentBlockDelta x3"],
    },
    "timing": {"ttft": 195.1, "total": 290.4},
    "request_id": "req-1",
}
REFUSED = {
    "request": {"operation": "Converse", "messages": []},
    "failure": {
        "reason": "throttled_requests",
        "message": "Slow down.",
        "code": "ThrottlingException",
        "http_status": 429,
    },
}
TRIAL = {
    "trial": 0,
    "valid": True,
    "passed": False,
    "sentence": "The answer is not hello.",
    "evidence": {"expected": "hello", "found": "<i>", "nothing": ""},
    "calls": [REFUSED, CALL],
    "has_transcript": True,
}


def finished_run(trials: list[Any]) -> CertificationRun:
    """A finished run with a failed, a flaky, a passed and a skipped case; the first has trials."""
    return certify(
        AIModel.objects.get(api_model_id=NOVA),
        "us-east-1",
        Status.FAILED,
        reason=Reason.GATE_FAILED,
        results=[
            ("G01", "passed", "It answered."),
            ("G02", "flaky", "It streamed once."),
            ("G05", "failed", "It said something else."),
            ("G16", "skipped", "It does not apply."),
        ],
        trials={"G05": trials},
    )


@pytest.fixture
def run(catalogue: None) -> CertificationRun:
    return finished_run([TRIAL])


def page(client: Client, run: CertificationRun, query: str = "", **headers: str) -> str:
    response = client.get(f"/runs/{run.pk}/{query}", headers=headers)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_it_says_what_came_out_worst_first(as_viewer: Client, run: CertificationRun) -> None:
    html = page(as_viewer, run)
    assert "1 of 3 cases passed. G05 failed 1 of 1." in html
    assert html.index('id="G05"') < html.index('id="G02"') < html.index('id="G01"')
    assert "Say &lt;b&gt;" not in html  # trials are loaded when a case is opened


def test_an_open_case_shows_what_was_asked_and_answered(
    as_viewer: Client, run: CertificationRun
) -> None:
    html = page(as_viewer, run, "?case=G05")
    for words in (
        "Be brief.",
        "Say &lt;b&gt;hello&lt;/b&gt;.",
        "They want a greeting.",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "end_turn",
        "11 tokens in, 7 out",
        "first token 195 ms",
        "contentBlockDelta x3",
        "req-1",
        "Too many requests",
        "Slow down.",
        "HTTP 429",
        "Call 2: Converse on bedrock-runtime",
        "&lt;i&gt;",
    ):
        assert words in html, words
    assert "<script>alert" not in html
    fragment = page(as_viewer, run, "?case=G05", **{"HX-Request": "true"})
    assert fragment.startswith('<p><span class="quiet">Asked:</span> A list that must stop at')
    assert '<article class="trial" id="G05.1">' in fragment


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("?verdict=failed", {"G05"}),
        ("?category=contract", {"G01", "G02", "G05", "G16"}),
        ("?category=vision", set()),
        ("?q=streamed", {"G02"}),
        ("?q=g01", {"G01"}),
        ("?verdict=nonsense&case=nonsense&category=x", {"G01", "G02", "G05", "G16"}),
        ("?q=%00", set()),
    ],
)
def test_filters(as_viewer: Client, run: CertificationRun, query: str, shown: set[str]) -> None:
    html = page(as_viewer, run, query)
    assert {case for case in ("G01", "G02", "G05", "G16") if f'id="{case}"' in html} == shown


def test_words_are_found_in_requests_and_replies(as_viewer: Client, run: CertificationRun) -> None:
    html = page(as_viewer, run, "?q=greeting")
    assert 'id="G05"' in html
    assert 'id="G01"' not in html


def test_one_goes_from_failed_case_to_failed_case(as_viewer: Client, run: CertificationRun) -> None:
    html = page(as_viewer, run)
    assert 'data-key="]" href="?case=G05#G05"' in html
    html = page(as_viewer, run, "?case=G05")
    assert 'data-key="]" href="?case=G02#G02"' in html
    assert 'data-key="["' not in html
    html = page(as_viewer, run, "?case=G02")
    assert 'data-key="[" href="?case=G05#G05"' in html
    assert 'data-key="]"' not in html


def test_a_call_can_be_copied_without_credentials(as_viewer: Client, run: CertificationRun) -> None:
    html = page(as_viewer, run, "?case=G05")
    assert (
        "aws bedrock-runtime converse --region us-east-1 --model-id amazon.nova-lite-v1:0" in html
    )
    assert "client.converse_stream(modelId=" in html
    assert "Without credentials" in html


class TestCopies:
    def test_python_and_shell_say_what_was_sent(self) -> None:
        texts = {copy.kind: copy.text for copy in reproduce.copies(CALL, "us-east-1")}
        sent = json.loads(texts["json"])
        assert sent["messages"] == [{"role": "user", "content": [{"text": "Say <b>hello</b>."}]}]
        assert sent["system"] == [{"text": "Be brief."}]
        assert sent["inferenceConfig"] == {"maxTokens": 300}
        compile(texts["python"], "copy", "exec")
        words = shlex.split(texts["cli"].replace("\\\n", " "))
        assert json.loads(words[words.index("--cli-input-json") + 1]) == sent

    @pytest.mark.parametrize("text", ["it's $(rm -rf) `x` \\", 'quote " and \n line', "\u202e"])
    def test_no_text_can_leave_its_quotes(self, text: str) -> None:
        request = {**CALL["request"], "system": text}  # type: ignore[dict-item]
        copies = reproduce.copies({**CALL, "request": request}, "us-east-1")
        shell = next(copy.text for copy in copies if copy.kind == "cli")
        words = shlex.split(shell.replace("\\\n  --cli", " --cli", 1))
        body = json.loads(words[words.index("--cli-input-json") + 1])
        assert body["system"] == [{"text": text}]
        assert words[:3] == ["aws", "bedrock-runtime", "converse"]

    def test_an_embedding_call(self) -> None:
        call = {
            "api": "invoke",
            "route": "amazon.titan-embed-text-v2:0",
            "request": {"operation": "InvokeModel", "texts": ["it's"], "dimensions": None},
        }
        assert [copy.kind for copy in reproduce.copies(call, "us-east-1")] == [
            "cli", "python", "json",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            {"request": 3, "route": "x"},
            {"request": {}, "route": "x", "api": "converse"},
            {"request": {"messages": [3], "max_tokens": 1, "operation": "Converse"}, "route": "x",
             "api": "converse"},
            {"request": {"operation": "InvokeModel", "texts": 3}, "route": "x"},
        ],
    )  # fmt: skip
    def test_any_stored_call_is_no_defect(self, odd: dict[str, Any]) -> None:
        assert reproduce.copies(odd, "us-east-1") == []

    def test_what_was_cut_is_said(self) -> None:
        cut = {"request": {"system": "x [... 12 more characters]"}}
        assert reproduce.is_incomplete(cut)
        assert reproduce.is_incomplete({"request": {"messages": [{"image": {"bytes": 3}}]}})
        assert not reproduce.is_incomplete(CALL)


def test_removed_transcripts_are_said_to_be_removed(as_viewer: Client, catalogue: None) -> None:
    run = finished_run([{**TRIAL, "calls": []}])
    assert "were removed by age or size" in page(as_viewer, run, "?case=G05")


def test_a_run_without_cases_says_why(as_viewer: Client, catalogue: None) -> None:
    job = start_job([AIModel.objects.get(api_model_id=NOVA)], ["us-east-1"])
    assert "appear here when the run has ended" in page(as_viewer, job.runs.get())
    job.cancel()
    assert "No case was judged" in page(as_viewer, job.runs.get())
    assert as_viewer.get(f"/runs/{uuid.uuid4()}/").status_code == 404


@pytest.mark.parametrize(
    "odd",
    [{}, {"calls": None}, {"calls": [None, 1, {}]}, {"evidence": 3, "trial": "x", "sentence": []}],
)
def test_any_stored_trial_is_shown(as_viewer: Client, catalogue: None, odd: dict[str, Any]) -> None:
    page(as_viewer, finished_run([odd, None, 3]), "?case=G05")


@pytest.mark.parametrize(
    ("stored", "verdict"),
    [
        ({"passed": True}, "passed"),
        ({"passed": False}, "failed"),
        ({"valid": False}, "invalid"),
        ({"skipped": "no vision"}, "skipped"),
    ],
)
def test_verdicts_of_trials(stored: dict[str, Any], verdict: str) -> None:
    assert Trial(stored).verdict == verdict


def test_what_an_embedding_model_answered() -> None:
    call = Call(
        {
            "request": {"operation": "InvokeModel", "texts": ["a", "b"]},
            "reply": {"dimensions": [4], "head": [[0.1]]},
        }
    )
    assert [part.text for part in call.request_parts] == ["a", "b"]
    assert "0.1" in call.reply_parts[0].text


def test_it_takes_few_queries(
    as_viewer: Client, run: CertificationRun, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(8):  # five of them session, user, permissions and the header
        page(as_viewer, run, "?case=G05")


class TestStream:
    def test_when_its_events_came_is_drawn(self, as_viewer: Client, catalogue: None) -> None:
        call = {**CALL, "arrivals": [195, 200, 280, 290]}
        html = page(as_viewer, finished_run([{**TRIAL, "calls": [call]}]), "?case=G05")
        assert 'aria-label="Arrival of 4 events of the stream"' in html
        assert html.count('class="series"') == 4
        assert "80 ms" in html  # the longest gap

    @pytest.mark.parametrize("arrivals", [None, [], [1], "x", {"a": 1}, [True, "2"], [[1], None]])
    def test_without_stored_times_nothing_is_drawn(self, arrivals: Any) -> None:
        assert Call({"arrivals": arrivals}).stream_chart == ""


class TestDifferences:
    @pytest.fixture
    def html(self, as_viewer: Client, catalogue: None) -> str:
        evidence = {"expected": "a <b> and 12", "found": "a <b> and 21", "limit": 5}
        return page(as_viewer, finished_run([{**TRIAL, "evidence": evidence}]), "?case=G05")

    def test_what_came_is_marked_against_what_was_expected(self, html: str) -> None:
        assert "a &lt;b&gt; and <mark>12</mark>" in html
        assert "a &lt;b&gt; and <mark>21</mark>" in html

    def test_a_passed_trial_has_no_marks(self) -> None:
        trial = Trial({"passed": True, "evidence": {"expected": "a b", "found": "a c"}})
        assert not any(p.is_different for _name, pieces in trial.evidence for p in pieces)


class TestSlowCalls:
    def test_min_ms_shows_cases_with_a_call_that_took_so_long(
        self, as_viewer: Client, run: CertificationRun
    ) -> None:
        assert shown(page(as_viewer, run, "?min_ms=290")) == {"G05"}  # took 290.4 ms
        assert shown(page(as_viewer, run, "?min_ms=291")) == set()
        assert shown(page(as_viewer, run, "?min_ms=290&verdict=passed")) == set()

    @pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "٣", "9" * 30])
    def test_what_is_no_number_filters_nothing(
        self, as_viewer: Client, run: CertificationRun, text: str
    ) -> None:
        assert len(shown(page(as_viewer, run, f"?min_ms={text}"))) == 4

    @pytest.mark.parametrize(
        "trials", [[], ["x", 3], [{"calls": {"timing": 1}}], [{"calls": None}]]
    )
    def test_trials_of_any_shape_do_no_harm(
        self, as_viewer: Client, catalogue: None, trials: list[Any]
    ) -> None:
        assert shown(page(as_viewer, finished_run(trials), "?min_ms=1")) == set()


def shown(html: str) -> set[str]:
    return set(re.findall(r'<li id="(\w+)">', html))
