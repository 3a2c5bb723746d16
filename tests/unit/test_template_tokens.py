"""What belongs to a chat template is told from what is written about code, markup and numbers."""

from __future__ import annotations

import pytest

from certification.engine.calls import texts_of
from certification.inference import Failure, Reasoning, Reply, Text, Timing, ToolUse
from certification.reasons import Reason
from certification.suite.template_tokens import find_token

TOKENS = """
<|im_start|> <|im_end|> <|eot_id|> <|start_header_id|> <|python_tag|> <|tool_calls_section_begin|>
<|END_OF_TURN_TOKEN|> <|channel|> <|"|> <|tool_call> <tool_call|> <channel|> <turn|>
<｜tool▁calls▁begin｜> <｜end▁of▁sentence｜> <｜DSML｜invoke> </｜DSML｜parameter>
<tool_call> </tool_call> <tool_calls> <tool_response> <function_calls> <function_results>
<functioncall> <start_function_call> <longcat_tool_call> <TOOLCALL> </TOOL_RESPONSE>
<minimax:tool_call> </seed:tool_call> <xai:function_call> <steptml:invoke> </invoke>
<function=get_weather> <parameter=city> <arg_key> </arg_value>
<think> </think> <mm:think> <seed:think> <start_of_turn> <end_of_turn> <BOS_TOKEN> <EOS> <eos>
<unused12> <extra_id_0> <SPECIAL_12> <0x0A> <<SYS>> <</SYS>>
[INST] [/INST] [SYSTEM_PROMPT] [TOOL_CALLS] [/TOOL_CALLS] [TOOL_CALL] [AVAILABLE_TOOLS]
[TOOL_RESULTS] [THINK] [ARGS] ]<]minimax[>[ ]~b] [e~[
to=functions.get_weather functions.get_weather:0
"""


@pytest.mark.parametrize("token", TOKENS.split())
def test_a_token_is_found_wherever_it_stands(token: str) -> None:
    for text in (token, f"I will look.\n{token}", f"{token}\n{{}} and so on", f"Yes.{token} No."):
        assert token in text
        assert find_token(text)


@pytest.mark.parametrize(
    "token",
    ["<tool_call>", "<function_calls>", "<function=a>", "<minimax:tool_call>", "<|im_start|>",
     "<｜DSML｜function_calls>", "[TOOL_CALLS]", "</think>", "<end_of_turn>", "<|python_tag|>"],
)  # fmt: skip
def test_a_token_is_found_when_the_answer_ends_within_it(token: str) -> None:
    shortest = token.find("|") + 4 if "|" in token else len(token) - 2
    for size in range(max(shortest, 5), len(token)):
        assert find_token(f"I will check the weather.\n\n{token[:size]}"), token[:size]


@pytest.mark.parametrize(
    "text",
    [
        "analysisThe user asks for a colour.assistantfinalIt is blue.",
        "It is blue.assistantcommentary to=functions.look json",
        "assistant\n\nIt is blue.",
        "It is blue.assistant\n\nIt is also grey.",
        '<tool_call\n{"name": "look"}',
        '<invoke name="look">',
        '<parameter name="city">',
        'functools[{"name": "look"}]',
        "<s> It is blue.",
        "It is blue.</s>",
    ],
)
def test_what_a_template_leaves_behind_is_found(text: str) -> None:
    assert find_token(text)


ORDINARY = [
    "", "a < b and b > c", "if x<y then z>w", "x | y |> z", "a<|b", "f <| g |> h", "p <|> q",
    "0<|x|<1", "0 < |x| < 1", "<a|b>", "<|>", "1 << 3 >> 2", "a<b||c>d", "| a | b |\n|---|---|",
    "<s>old price</s> new price", "<p>Hi</p>", "<b>bold</b><br>", "<div class='tool'>x</div>",
    "<!-- note -->", '<input type="text">', "<param name='x'>", "<xs:a/>", "<output>42</output>",
    "<thinking>", "<tool>hammer</tool>", "<tool-tip>", "<Tooltip>", "<ToolInput />", "<start>",
    "List<String> m = new Map<Tool, Function>();", "std::function<void(int)> f;", "`<em>`",
    "<T extends Tool>", "the page ends with <html", "<table", "write <section", "if a <", "see [1",
    "[install]", "[INFO] start", "[YOUR_NAME]", "[INSERT_NAME]", "[TODO]", "[x] done", "[1, 2]",
    "functions.py:12 fails", "math.functions.sin", "the tool_call field of the reply",
    "The assistant said: final answer", "My assistant\nis here", "Final answer: 3",
    "analysis of the case", "</section>", "List<tool> tools = [];",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_what_is_written_about_code_and_numbers_is_no_token(text: str) -> None:
    assert find_token(text) == ""


def test_every_text_that_a_model_wrote_is_looked_at() -> None:
    reply = Reply(
        (
            Reasoning("thought"), Text("text"), ToolUse("1", "look", {"city": "Rio"}),
            ToolUse("2", "look", None, '{"city": "R'), Text("more"),
        ),
        "tool_use", None, Timing(1.0),
    )  # fmt: skip
    written = ["thought", "text", '{"city": "Rio"}', '{"city": "R', "more"]
    assert list(texts_of(reply)) == written
    assert list(texts_of(Failure(Reason.STREAM_TRUNCATED, "cut", partial=reply))) == written
    assert list(texts_of(Failure(Reason.READ_TIMEOUT, "late"))) == []


@pytest.mark.parametrize("text", ["a <b " * 20_000, "<" + "a_" * 50_000, "[" + "A_" * 50_000])
def test_a_long_text_is_read_in_a_moment(text: str) -> None:
    assert find_token(text) == ""
