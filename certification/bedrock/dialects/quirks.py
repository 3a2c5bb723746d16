"""What single models refuse or demand in APIs that others take as documented, as data.

Facts that a refusal teaches are added by `learn`. Only what has another form or is known to be
refused stands here: of everything else the service shall be the judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a model is called. The defaults are those of the documented APIs."""

    cap_field: str = "max_tokens"  # Chat Completions: or "max_completion_tokens"
    temperature: bool = True  # whether another than 1 is taken
    top_p: bool = True
    both_samplings: bool = True  # temperature and top_p in one request
    stop: bool = True  # Chat Completions: stop sequences
    effort: bool = False  # whether reasoning_effort is taken at all
    effort_with_tools: str = ""  # Chat Completions: the only one with which tools are taken
    summary: bool = True  # Responses: whether a summary of the reasoning may be wished
    forced_tools: bool = True  # tool_choice other than auto, in Responses
    thinking_forms: tuple[str, ...] = ("enabled", "adaptive")  # Messages: thinking.type


PLAIN = Quirks()
# of vendors that take an effort instead of a budget: up to here it is low, beyond it medium
LOW_EFFORT_TOKENS = 4096

# Sources: live answers in aws-samples/sample-per-model-bedrock (August 2026), litellm issue 40775
# (sampling of GPT-5.5 and 5.6), the model cards of the Bedrock user guide. GPT-6 is taken to be as
# GPT-5.6, which its card says of tools and efforts. By the first pattern that the id contains.
BY_ID: tuple[tuple[str, Quirks], ...] = (
    (
        r"openai\.gpt-(5\.[6-9]|[6-9])",
        Quirks(
            cap_field="max_completion_tokens",
            temperature=False,
            top_p=False,
            stop=False,
            effort=True,
            effort_with_tools="none",  # without the field it is refused too
        ),
    ),
    (
        r"openai\.gpt-5\.5",
        Quirks(
            cap_field="max_completion_tokens",
            temperature=False,
            top_p=False,
            stop=False,
            effort=True,
        ),
    ),
    (r"openai\.gpt-5", Quirks(cap_field="max_completion_tokens", effort=True)),
    (r"openai\.gpt-oss-safeguard", Quirks(effort=True)),
    (r"openai\.gpt-oss", Quirks(effort=True, forced_tools=False)),
    (r"xai\.grok-4\.[67]", Quirks(effort=True)),
    (r"google\.gemma-4", Quirks(cap_field="max_completion_tokens")),  # since 2026-08-12
    (
        r"anthropic\.claude-(opus|sonnet|haiku|fable|mythos)-(4-[78]|[5-9])",
        Quirks(temperature=False, top_p=False, thinking_forms=("adaptive",)),
    ),
    (
        r"anthropic\.claude-haiku-4-5",
        Quirks(both_samplings=False, thinking_forms=("enabled",)),
    ),
)


@lru_cache(maxsize=4096)
def quirks_of(target_id: str) -> Quirks:
    """Return what is known of the model that an id, a profile or an ARN names."""
    return next((quirks for part, quirks in BY_ID if re.search(part, target_id)), PLAIN)


Change = Callable[[Quirks], Quirks]

# Each row: how a refusal says it, and what it changes.
LESSONS: tuple[tuple[re.Pattern[str], Change], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), change)
    for pattern, change in (
        (
            r"use\W{1,3}max_completion_tokens\W{1,3}instead|\bmax_tokens\W{1,3} is not supported",
            lambda q: replace(q, cap_field="max_completion_tokens"),
        ),
        (
            r"max_completion_tokens.{0,40}(not supported|not permitted|unknown|unrecognized)"
            r"|(unsupported|unknown|unrecognized)[^.]{0,40}max_completion_tokens",
            lambda q: replace(q, cap_field="max_tokens"),
        ),
        (
            r"function tools with reasoning_effort are not supported",
            lambda q: replace(q, effort=True, effort_with_tools="none"),
        ),
        (
            r"temperature\W{1,3}and\W{1,3}top_p\W{1,3}cannot both",
            lambda q: replace(q, both_samplings=False),
        ),
        (
            r"temperature\W.{0,60}(deprecated|not support|only be set to 1|only the default)",
            lambda q: replace(q, temperature=False),
        ),
        (
            r"top_p\W.{0,60}(deprecated|not support|only be set|only the default)",
            lambda q: replace(q, top_p=False),
        ),
        (
            r"(parameter|field|argument)\W{1,4}stop(_sequences)?\W{1,3}is (not|un)\s?support"
            r"|\Wstop\W{1,3}is not supported",
            lambda q: replace(q, stop=False),
        ),
        (
            r"reasoning(_|\.)effort\W.{0,40}not support",
            lambda q: replace(q, effort=False, effort_with_tools=""),
        ),
        (
            r"reasoning\.summary\W.{0,60}(not support|must be verified|deprecated)",
            lambda q: replace(q, summary=False),
        ),
        (
            r"thinking\.type\.enabled\W{1,3}is not supported",
            lambda q: replace(q, thinking_forms=("adaptive",)),
        ),
        (
            r"adaptive thinking is not supported",
            lambda q: replace(q, thinking_forms=("enabled",)),
        ),
        (
            r"tool_choice\W.{0,60}(not support|only\W.{0,10}auto)",
            lambda q: replace(q, forced_tools=False),
        ),
    )
)  # fmt: skip


def learn(message: str, known: Quirks) -> Quirks | None:
    """Return what a refusal (status 400) adds to what is known of a model.

    None when it teaches nothing new, so that no request is tried twice in the same form. The caller
    stores the result for the model and tries again with it.
    """
    for pattern, change in LESSONS:
        if pattern.search(message[:2000]):
            changed = change(known)
            return None if changed == known else changed
    return None
