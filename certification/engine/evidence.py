"""What a trial leaves behind: requests, replies and timings as JSON, cut to size, without secrets
or account ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from certification.bedrock import fixes
from certification.engine.calls import Attempt
from certification.inference import (
    AnyRequest,
    Block,
    Document,
    EmbedReply,
    EmbedRequest,
    Failure,
    Image,
    Operation,
    Outcome,
    Reasoning,
    Reply,
    Request,
    Text,
    Timing,
    ToolResult,
    ToolUse,
)
from certification.models import TestResult
from certification.reasons import Reason
from certification.suite import registry, scoring
from certification.suite.case import Case, Category, Grade, Kind, ProbeCache, Ref, Script
from certification.suite.scoring import CaseOutcome

MAX_TEXT = 8_000  # characters kept of any one text
# characters of transcripts kept per run; beyond, those of trials that passed go first
MAX_RUN = 2_000_000
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
ACCOUNT_ID = re.compile(r"(?<=:)\d{12}(?=:)|(?<=account )\d{12}\b", re.IGNORECASE)
# Looked for first, many times cheaper than the patterns: nearly every text has none of them.
TWELVE_DIGITS = re.compile(r"\d{12}")
SECRET_MARKS = ("://", "AKIA", "ASIA", "ABSK", "bedrock-api-key-", "X-Amz-")
SECRET = re.compile(
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password of a proxy's address
    r"|(?<=\bAKIA)[A-Z0-9]{12,}|(?<=\bASIA)[A-Z0-9]{12,}"
    r"|(?<=\bABSK)[A-Za-z0-9+/=]{8,}|(?<=\bbedrock-api-key-)[A-Za-z0-9+/=]{8,}"
    r"|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=X-Amz-Signature=)[^&\s]+"
)


def redact(text: str) -> str:
    """The text without AWS account ids, passwords and keys."""
    if TWELVE_DIGITS.search(text):
        text = ACCOUNT_ID.sub("************", text)
    return SECRET.sub("***", text) if any(mark in text for mark in SECRET_MARKS) else text


def cut(text: str) -> str:
    """At most MAX_TEXT characters of a redacted text; says how much is missing.

    What PostgreSQL refuses is replaced: null characters, and halves of characters as in an answer
    cut inside an emoji.
    """
    text = redact(text)
    if not text.isascii() or "\0" in text:
        text = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return (
        text
        if len(text) <= MAX_TEXT
        else f"{text[:MAX_TEXT]} [... {len(text) - MAX_TEXT} more characters]"
    )


def trial(
    script: Script, grade: Grade, attempts: Sequence[Attempt], memory: ProbeCache | None = None
) -> dict[str, Any]:
    """One trial as stored in TestResult.trials. `spared` names what was not asked, for it is known
    to be refused.
    """
    skipped = (
        {"spared": sorted(f"{operation} {feature}" for operation, feature in memory.skipped)}
        if memory
        else {}
    )
    return skipped | {
        "trial": script.ref.trial,
        "variant": script.variant,
        "passed": grade.passed,
        "valid": grade.valid,
        "sentence": cut(grade.sentence),
        "evidence": clean(dict(grade.evidence)),
        "lacks": grade.lacks,
        "cause": failure(grade.cause) if grade.cause else None,
        "has_transcript": bool(attempts),
        "calls": [_attempt(a) for a in attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": attempt.at,
        "attempt": attempt.number,
        "route": redact(attempt.route),
        "request": request(attempt.request),
        **outcome(attempt.outcome),
    }


def request(asked: AnyRequest) -> dict[str, Any]:
    """A request as JSON; only the members that were set."""
    if isinstance(asked, EmbedRequest):
        return {
            "operation": asked.operation,
            "texts": [cut(t) for t in asked.texts],
            "dimensions": asked.dimensions,
        }
    return {"operation": asked.operation} | {
        name: value
        for name, value in _request_members(asked).items()
        if value not in ("", None, [], ())
    }


def _request_members(asked: Request) -> dict[str, Any]:
    return {
        "messages": [
            {"role": m.role, "content": [block(b) for b in m.content]} for m in asked.messages
        ],
        "max_tokens": asked.max_tokens,
        "system": cut(asked.system),
        "stop_sequences": list(asked.stop_sequences),
        "tools": [
            {"name": t.name, "description": t.description, "schema": dict(t.schema)}
            for t in asked.tools
        ],
        "tool_choice": asked.tool_choice,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "output_schema": asked.output_schema,
        "thinking_tokens": asked.thinking_tokens,
        "thinking_effort": asked.thinking_effort,
    }


def outcome(seen: Outcome) -> dict[str, Any]:
    """A reply or a failure as JSON, with its timings in milliseconds."""
    common: dict[str, Any] = {"timing": _timing(seen.timing), "request_id": seen.request_id}
    match seen:
        case Reply():
            return common | {"reply": _reply(seen)}
        case EmbedReply():
            shape = [len(v) for v in seen.vectors]
            return common | {
                "reply": {"dimensions": shape, "head": [clean(v[:4]) for v in seen.vectors]}
            }
        case Failure():
            partial = {"partial": _reply(seen.partial)} if seen.partial else {}
            return common | {"failure": failure(seen)} | partial


def failure(seen: Failure) -> dict[str, Any]:
    """A failure as JSON: why, in our words and in the service's."""
    return {
        "category": seen.reason.category,
        "reason": seen.reason,
        "message": cut(seen.message),
        "code": cut(seen.code),
        "http_status": seen.http_status,
        "operation": seen.operation,
    }


def failure_from(kept: Mapping[str, Any]) -> Failure:
    """A stored failure, without its timings."""
    return Failure(
        Reason(kept["reason"]),
        kept["message"],
        kept["code"],
        kept["http_status"],
        Operation(kept["operation"]),
    )


def _reply(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "content": [block(b) for b in reply.content],
        "stop_reason": reply.stop_reason,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        if usage
        else None,
        "complete": reply.complete,
    } | ({"events": _events(reply.events)} if reply.events else {})


def _events(events: Sequence[str]) -> list[str]:
    """Event names in order, runs of the same one written once with their number."""
    short: list[str] = []
    count = 0
    for position, name in enumerate(events):
        count += 1
        if position + 1 == len(events) or events[position + 1] != name:
            short.append(name if count == 1 else f"{name} x{count}")
            count = 0
    return short


def _timing(timing: Timing) -> dict[str, float]:
    values = {
        "total": timing.total_ms,
        "ttft": timing.ttft_ms,
        "max_gap": timing.max_gap_ms,
        "server": timing.server_ms,
    }
    return {name: round(value, 1) for name, value in values.items() if value is not None}


def block(shown: Block) -> dict[str, Any]:
    """A block of a message as JSON; of pictures and documents only their size."""
    match shown:
        case Text(text):
            return {"text": cut(text)}
        case ToolUse(use_id, name, tool_input, raw):
            use = {"id": use_id, "name": name, "input": clean(tool_input)}
            return {"tool_use": use if tool_input is not None else use | {"raw_input": cut(raw)}}
        case ToolResult(use_id, text, is_error):
            return {"tool_result": {"id": use_id, "text": cut(text), "is_error": is_error}}
        case Reasoning(text):
            return {"reasoning": cut(text)}
        case Image(fmt, data):
            return {"image": {"format": fmt, "bytes": len(data)}}
        case Document(fmt, name, data):
            return {"document": {"format": fmt, "name": name, "bytes": len(data)}}


def clean(value: Any) -> Any:
    """Any JSON-like value with its texts cut; what JSON or PostgreSQL cannot hold becomes text."""
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, dict):
        return {cut(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(v) for v in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, bool | int) else cut(str(value))


def fix(
    failure: Failure | None, *, reason: Any = None, model_id: str, region: str
) -> dict[str, str]:
    """The fix for a failure (or a bare reason) as JSON: text, command, who, url, wait; empty
    without one.
    """
    found = failure.reason if failure else reason
    if found is None:
        return {}
    advice = fixes.fix_for(
        found, model_id=model_id, region=region, operation=failure.operation if failure else ""
    )
    return {
        name: value
        for name in ("text", "command", "who", "url", "wait")
        if (value := getattr(advice, name))
    }


def basis(run: scoring.Run) -> dict[str, Any]:
    """What a judgement looked at beside the trials, as JSON: kept in a run's environment under
    `judged`.
    """
    return {
        "calls": asdict(run.calls),
        "model_class": run.model_class,
        "access": failure(run.access) if run.access else None,
        "interrupted": run.interrupted,
        "declared": sorted(run.declared),
        "parity_losses": sorted(run.parity_losses),
        "parity_alarm": run.parity_alarm,
        "own_cases": {
            case.id: {"repeats": case.repeats, "weight": case.weight}
            for case in (o.case for o in run.outcomes)
            if case.id not in registry.BY_ID
        },
    }


def outcomes_of(
    results: Iterable[TestResult], own: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[CaseOutcome, ...]:
    """Stored results as judgements take them. LookupError when their trials were dropped or lack
    what is needed.

    `own` are the repeats and weights of operators' cases, by id, as `basis` keeps them.
    """
    return tuple(_case_outcome(result, (own or {}).get(result.case_id, {})) for result in results)


def _case_outcome(result: TestResult, own: Mapping[str, Any]) -> CaseOutcome:
    case = registry.BY_ID.get(result.case_id) or _retired(result, own)
    if result.verdict == "skipped" and not result.trials:
        return CaseOutcome(case, skipped=result.sentence or "It did not apply.")
    if not result.trials and result.trials_valid:
        raise LookupError(f"the trials of {result.case_id} were dropped")
    return CaseOutcome(case, tuple(grade_from(trial) for trial in result.trials))


def _retired(result: TestResult, own: Mapping[str, Any]) -> Case:
    """A stand-in for a case that the suite does not (or no longer) have: enough to be judged, not
    to be asked.
    """

    def script(_ref: Ref) -> Script:
        raise LookupError(f"{result.case_id} is no longer part of the suite")

    return Case(
        result.case_id, result.case_id, Kind(result.kind), Category(result.category), script, **own
    )


def grade_from(trial: Mapping[str, Any]) -> Grade:
    """A stored trial's grade. KeyError when it lacks what a judgement needs."""
    cause: Failure | None = failure_from(trial["cause"]) if trial.get("cause") else None
    return Grade(
        passed=trial["passed"],
        sentence=trial["sentence"],
        evidence=trial["evidence"],
        valid=trial["valid"],
        cause=cause,
        lacks=trial.get("lacks", ""),
    )


def fit(results: list[TestResult]) -> list[TestResult]:
    """The results with transcripts dropped until they fit MAX_RUN: those of passed trials first,
    the longest first.
    """
    trials = [
        (trial, len(json.dumps(trial["calls"]))) for result in results for trial in result.trials
    ]
    total = sum(size for _trial, size in trials)
    for trial, size in sorted(trials, key=lambda t: (not t[0]["passed"], -t[1])):
        if total <= MAX_RUN:
            break
        trial["calls"], trial["has_transcript"] = [], False
        trial["dropped"] = f"The transcript of {size} characters was over the run's {MAX_RUN}."
        total -= size
    return results
