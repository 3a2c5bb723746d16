"""Build the replies of a faultless service, without a service: for estimates, samples and tests."""

from __future__ import annotations

from dataclasses import replace

from certification.inference import (
    Block,
    Operation,
    Reasoning,
    Reply,
    Request,
    Text,
    Timing,
    ToolResult,
    ToolUse,
    Usage,
)
from certification.suite.case import Answer

CHARACTERS_PER_TOKEN = 4  # of English prose; Portuguese and JSON take a little more
TEMPLATE_TOKENS = 12  # what a chat template adds around a prompt


def tokens(text: str) -> int:
    """Estimate how many tokens a text has; 0 for none."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def request_tokens(request: Request) -> int:
    """Estimate how many input tokens a request has; images and documents count as 1,000 each."""
    total = TEMPLATE_TOKENS + tokens(request.system)
    for message in request.messages:
        for block in message.content:
            if isinstance(block, Text | ToolResult | Reasoning):
                total += tokens(block.text)
            elif isinstance(block, ToolUse):
                total += tokens(repr(block.input))
            else:
                total += 1000
    return total + sum(tokens(tool.description + repr(tool.schema)) + 100 for tool in request.tools)


def reply(request: Request, answer: Answer) -> Reply:
    """Return the reply that carries this answer, cut at stop sequences and at maxTokens."""
    content, stop = list(answer.content), answer.stop_reason
    for index, block in enumerate(content):
        if isinstance(block, Text):
            ends = [block.text.find(s) for s in request.stop_sequences if s in block.text]
            if ends:
                content[index:] = [Text(block.text[: min(ends)])]
                stop = "stop_sequence"
                break
    room = request.max_tokens
    blocks: list[Block] = []
    for block in content:
        size = tokens(block.text if isinstance(block, Text | Reasoning) else repr(block))
        if isinstance(block, Text | Reasoning) and size > room:
            blocks.append(replace(block, text=block.text[: room * CHARACTERS_PER_TOKEN]))
            stop, room = "max_tokens", 0
            break
        blocks.append(block)
        room -= size
    called = any(isinstance(block, ToolUse) for block in blocks)
    spent = max(1, request.max_tokens - max(0, room))
    counted = request_tokens(request) if answer.input_tokens is None else answer.input_tokens
    whole = Reply(
        tuple(blocks),
        stop or ("tool_use" if called else "end_turn"),
        Usage(counted, spent, counted + spent),
        Timing(100.0),
        request.operation,
    )
    return streamed(whole) if request.operation == Operation.STREAM else whole


def streamed(whole: Reply) -> Reply:
    """Return the same reply with the events of a stream."""
    events = ["messageStart"]
    for block in whole.content:
        events += ["contentBlockStart"] if isinstance(block, ToolUse) else []
        events += ["contentBlockDelta", "contentBlockDelta", "contentBlockStop"]
    events += ["messageStop", "metadata"]
    timing = replace(whole.timing, ttft_ms=20.0, max_gap_ms=5.0)
    return replace(whole, operation=Operation.STREAM, events=tuple(events), timing=timing)
