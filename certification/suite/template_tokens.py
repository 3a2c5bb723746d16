"""Find what belongs to a model's chat template and not to its answer: control tokens, tags of tool
calls and of thoughts, the names of channels and roles.

These are rules of shape, because every family of models has its own tokens and new ones come: names
between pipes, and tags or brackets whose name speaks of tools, turns or thoughts. What is written
about HTML, XML, code or a comparison has none of these shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def call_tag(spell: Callable[[str], str]) -> str:
    """Return the pattern of a tag's name that speaks of calls: tool_call, longcat_tool_call,
    start_function_call, TOOLCALL. Either small letters or capitals: <ToolInput/> is code.
    """
    word = f"[{spell('a')}-{spell('z')}]{{1,20}}"
    nouns = spell("(?:tool|function)s?")
    acts = spell("(?:calls?|uses?|results?|responses?|outputs?|arguments?|declarations?)")
    return f"(?:{word}[_▁-]){{0,3}}{nouns}[_▁-]?{acts}(?:[_▁-]{word}){{0,3}}"


_TAG_NAMES = (
    call_tag(str.lower),
    call_tag(str.upper),
    r"(?:function|parameter|tool)(?==)",  # <function=get_weather>
    r"invoke(?= name=|>)",
    r"parameter(?= name=)",
    r"arg_(?:key|value)",
    r"think(?=>|$)",
    r"(?:start|end)_of_[a-z]{2,20}",
    r"(?:BOS|EOS|[A-Z]{1,10}_OF_TURN)(?:_TOKEN)?",
    r"(?:bos|eos|unk|sop|eop)(?=>)",
    r"(?:unused|extra_id_|SPECIAL_)\d{1,4}",
)
_MARKS = (
    # <|im_start|>, <|tool_call>, <tool_call|>, <|"|>, <｜tool▁calls▁begin｜>, also cut ones
    r"<\|(?! )[\w/▁\"' -]{1,60}\|?>",
    r"</?[\w▁:]{2,60}\|>",
    r"</?｜[^<>\s]{0,60}>?",
    r"｜>",
    # <tool_call>, </minimax:tool_call>
    rf"</?(?:[A-Za-z][\w.-]{{0,20}}:)?(?:{'|'.join(_TAG_NAMES)})(?:>|(?=[\s=:/{{\[(]|$))",
    r"<<?/?SYS>>",
    r"<\[?(?:BOS|EOS)\]?>",
    r"^\s*<s>(?![^<]{1,200}</s>\s*\S)|</s>\s*$",  # not <s>struck out</s> in a text
    r"<0x[0-9A-F]{2}>",
    # [INST], [/TOOL_CALLS], [AVAILABLE_TOOLS]
    r"\[/?(?:INST|inst|SYSTEM_PROMPT|THINK|ARGS|CALL_ID|gMASK|TOOLS?(?:_[A-Z]{2,20}){1,3}"
    r"|(?:[A-Z]{2,20}_){1,3}TOOLS?)\]",
    r"\]<\]\w{1,20}\[>\[|\]~!?b[\[\]]|\[e~\[",  # of MiniMax
    # what is left where the tokens of a template were taken out and its words were not
    r"(?<!\w)to=functions\.\w",
    r"\bfunctions\.\w{5,60}:\d",
    r"\bfunctools\[\s*\{",
    r"assistant(?:final|analysis|commentary)(?![a-z])",
    r"\A\s*(?:analysis|commentary|final)(?=[A-Z])",
    r"(?:\A\s*|(?<=[.!?\n]))assistant\n",
)
_TOKEN = re.compile("|".join(_MARKS))
# What may be the beginning of a token, at the end of a text.
_CUT = re.compile(r"(?:<\|(?:[\w▁]{2,60}\|?)?|<[/\w▁:]{2,60}\||(?:</?|\[/?)[A-Za-z][\w:=]{2,40})\Z")
_OPENINGS = (
    "tool_calls", "tool_uses", "tool_responses", "tool_results", "function_calls", "function=",
    "parameter=", "invoke name=", "arg_key", "arg_value", "think>", "start_of_turn", "end_of_turn",
    "TOOL_CALLS", "TOOLCALL", "AVAILABLE_TOOLS", "TOOL_RESULTS", "SYSTEM_PROMPT", "INST]",
)  # fmt: skip
_END = 80  # characters at the end of a text that may hold the beginning of a token


def find_token(text: str) -> str:
    """Return the first part of a text that is a template's, complete or cut off at the end; ""
    without one.
    """
    match = _TOKEN.search(text)
    return match[0].strip() if match else find_cut_token(text)


def find_cut_token(text: str) -> str:
    """Return the beginning of a token at the very end of a text, "" without one."""
    match = _CUT.search(text.rstrip()[-_END:])
    if match is None or "|" in match[0]:
        return match[0] if match else ""
    name = match[0].lstrip("</[").rpartition(":")[2]
    begins = bool(name) and any(opening.startswith(name) for opening in _OPENINGS)
    return match[0] if begins else ""
