"""Encode evidence as JSON, and back: requests, replies and timings of a trial, cut to size, without
secrets or account ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from certification.bedrock import fixes
from certification.bedrock.credentials import Credential, credential_in
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
    Text,
    ToolResult,
    ToolUse,
)
from certification.lib import foreign_text
from certification.models import TestResult
from certification.reasons import Reason
from certification.suite import registry, scoring
from certification.suite.case import Case, Category, Grade, Kind, ProbeCache, Ref, Script
from certification.suite.scoring import CaseOutcome
from certification.suite.sentences import Sentence

if TYPE_CHECKING:  # imports the client, which is slow, and most commands only read evidence
    from certification.engine.calls import Attempt

MAX_TEXT = 8_000  # characters stored of any one text
MAX_ARRIVALS = 200  # stored of the times at which a stream's events came
MAX_IDENTIFIER = 100  # of a code, a request id, a name
# characters of transcripts stored per run; beyond, those of trials that passed are dropped first
MAX_RUN = 2_000_000
ACCOUNT_ID = re.compile(r"(?<=:)\d{12}(?=:)|(?<=account )\d{12}\b", re.IGNORECASE)
# Searched first, many times cheaper than the patterns: nearly every text has none of them.
TWELVE_DIGITS = re.compile(r"\d{12}")
SECRET = re.compile(
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password of a proxy's address
    r"|(?<=\bAKIA)[A-Z0-9]{12,}|(?<=\bASIA)[A-Z0-9]{12,}"
    r"|(?<=\bABSK)[A-Za-z0-9+/=]{8,}|(?<=\bbedrock-api-key-)[A-Za-z0-9+/=]{8,}"
    r"|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=X-Amz-Signature=)[^&\s]+"
)


def redact(text: str) -> str:
    """Mask AWS account ids, passwords and keys in a text."""
    if TWELVE_DIGITS.search(text):
        text = ACCOUNT_ID.sub("************", text)
    may_hold_secret = (  # written out: a loop over the marks costs four times as much
        "://" in text
        or "AKIA" in text
        or "ASIA" in text
        or "ABSK" in text
        or "bedrock-api-key-" in text
        or "X-Amz-" in text
    )
    return SECRET.sub("***", text) if may_hold_secret else text


def cut(text: str) -> str:
    """Redact a text and cut it to MAX_TEXT characters, with a note of how many are missing.

    What acts on a terminal or hides text is replaced, and so is what PostgreSQL refuses: null
    characters, and halves of characters as in an answer cut inside an emoji.
    """
    text = redact(text)
    if len(text) <= MAX_TEXT:
        return foreign_text.clean(text)
    start = foreign_text.clean(text[:MAX_TEXT])
    return f"{start} [... {len(text) - MAX_TEXT} more characters]"


def identifier(text: str) -> str:
    """Cut an error code, a request id or a name: a proxy between us and AWS may have made it up, of
    any length.
    """
    return cut(text)[:MAX_IDENTIFIER]


def trial(
    script: Script, grade: Grade, attempts: Sequence[Attempt], probes: ProbeCache | None = None
) -> dict[str, Any]:
    """Encode one trial as TestResult.trials stores it. `spared` names the features that were not
    tried because they are known to be refused.
    """
    encoded: dict[str, Any] = {
        "trial": script.ref.trial,
        "variant": script.variant,
        "passed": grade.passed,
        "valid": grade.valid,
        "sentence": cut(grade.sentence),
        **wording(grade.sentence),
        "evidence": clean(dict(grade.evidence)),
        "lacks": grade.lacks,
        "skipped": grade.skipped,
        "cause": failure(grade.cause) if grade.cause else None,
        "has_transcript": bool(attempts),
        "calls": [
            {
                "at": attempt.at,
                "attempt": attempt.number,
                "route": redact(attempt.route.target_id),
                "endpoint": attempt.route.endpoint.value,
                "api": attempt.route.api.value,
                "request": request(attempt.request),
                **outcome(attempt.outcome),
            }
            for attempt in attempts
        ],
    }
    if probes:
        encoded["spared"] = sorted(f"{operation} {name}" for operation, name in probes.skipped)
    return encoded


def wording(sentence: str) -> dict[str, Any]:
    """Encode the code and figures of a sentence, for readers of any language; {} for mere text."""
    if not isinstance(sentence, Sentence):
        return {}
    figures = {
        name: wording(value)["wording"] if isinstance(value, Sentence) else clean(value)
        for name, value in sentence.figures.items()
    }
    return {"wording": {"code": sentence.code, "figures": figures}}


def request(sent: AnyRequest) -> dict[str, Any]:
    """Encode a request; only the members that were set."""
    if isinstance(sent, EmbedRequest):
        return {
            "operation": sent.operation,
            "texts": [cut(text) for text in sent.texts],
            "dimensions": sent.dimensions,
        }
    members = {
        "messages": [
            {"role": message.role, "content": [block(b) for b in message.content]}
            for message in sent.messages
        ],
        "max_tokens": sent.max_tokens,
        "system": cut(sent.system),
        "stop_sequences": list(sent.stop_sequences),
        "tools": [
            {"name": t.name, "description": t.description, "schema": dict(t.schema)}
            for t in sent.tools
        ],
        "tool_choice": sent.tool_choice,
        "temperature": sent.temperature,
        "top_p": sent.top_p,
        "output_schema": sent.output_schema,
        "thinking_tokens": sent.thinking_tokens,
        "thinking_effort": sent.thinking_effort,
    }
    is_set = {name: value for name, value in members.items() if value not in ("", None, [], ())}
    return {"operation": sent.operation, **is_set}


def outcome(result: Outcome) -> dict[str, Any]:
    """Encode a reply or a failure, with its timings in milliseconds."""
    timing = {
        "total": result.timing.total_ms,
        "ttft": result.timing.ttft_ms,
        "max_gap": result.timing.max_gap_ms,
        "server": result.timing.server_ms,
    }
    common: dict[str, Any] = {
        "timing": {name: round(value, 1) for name, value in timing.items() if value is not None},
        "request_id": identifier(result.request_id),
    }
    if result.timing.arrivals_ms:
        common["arrivals"] = thinned(result.timing.arrivals_ms)
    match result:
        case Reply():
            return common | {"reply": reply(result)}
        case EmbedReply(vectors):
            heads = [clean(vector[:4]) for vector in vectors]
            return common | {"reply": {"dimensions": [len(v) for v in vectors], "head": heads}}
        case Failure():
            partial = {"partial": reply(result.partial)} if result.partial else {}
            return common | {"failure": failure(result)} | partial


def thinned(arrivals_ms: Sequence[float]) -> list[int]:
    """Return whole milliseconds of MAX_ARRIVALS events at most: the first, the last, and those
    behind the longest gaps, each with the one before it.
    """
    whole = [round(at) for at in arrivals_ms]
    if len(whole) <= MAX_ARRIVALS:
        return whole
    by_gap = sorted(range(1, len(whole)), key=lambda n: whole[n - 1] - whole[n])
    stored = {0, len(whole) - 1}
    for n in by_gap:
        if len(stored) + 2 > MAX_ARRIVALS:
            break
        stored |= {n - 1, n}
    return [whole[n] for n in sorted(stored)]


def failure(error: Failure) -> dict[str, Any]:
    """Encode a failure: why, in our words and in the service's. Of our own program's also where."""
    where = {"traceback": cut(error.traceback)} if error.traceback else {}
    return {
        "category": error.reason.category,
        "reason": error.reason,
        "message": cut(error.message),
        "code": identifier(error.code),
        "http_status": error.http_status,
        "operation": error.operation,
        **where,
    }


def failure_from(stored: Mapping[str, Any]) -> Failure:
    """Decode a failure; its timings are not stored."""
    return Failure(
        Reason(stored["reason"]),
        stored["message"],
        stored["code"],
        stored["http_status"],
        Operation(stored["operation"]),
    )


def reply(answer: Reply) -> dict[str, Any]:
    """Encode a reply's content and facts."""
    usage = answer.usage
    encoded: dict[str, Any] = {
        "content": [block(b) for b in answer.content],
        "stop_reason": identifier(answer.stop_reason),
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        if usage
        else None,
        "complete": answer.complete,
    }
    if answer.events:
        groups = ((identifier(name), len(list(same))) for name, same in groupby(answer.events))
        encoded["events"] = [name if n == 1 else f"{name} x{n}" for name, n in groups]
    return encoded


def block(content: Block) -> dict[str, Any]:
    """Encode a block of a message; of pictures and documents only the size."""
    match content:
        case Text(text):
            return {"text": cut(text)}
        case ToolUse(use_id, name, tool_input, raw):
            use = {"id": identifier(use_id), "name": identifier(name), "input": clean(tool_input)}
            return {"tool_use": use if tool_input is not None else use | {"raw_input": cut(raw)}}
        case ToolResult(use_id, text, is_error):
            shown = {"id": identifier(use_id), "text": cut(text), "is_error": is_error}
            return {"tool_result": shown}
        case Reasoning(text):
            return {"reasoning": cut(text)}
        case Image(fmt, data):
            return {"image": {"format": fmt, "bytes": len(data)}}
        case Document(fmt, name, data):
            return {"document": {"format": fmt, "name": name, "bytes": len(data)}}


def clean(value: Any) -> Any:
    """Cut the texts in any JSON-like value; what JSON or PostgreSQL cannot hold becomes text."""
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
    error: Failure | None, *, reason: Reason | None = None, model_id: str, region: str
) -> dict[str, str]:
    """Encode the fix for a failure (or a bare reason): text, command, who, url, wait; empty without
    one.
    """
    cause = error.reason if error else reason
    if cause is None:
        return {}
    advice = fixes.fix_for(
        cause,
        model_id=model_id,
        region=region,
        operation=error.operation if error else "",
        credential=credential_of(error) if error else None,
    )
    return {
        name: value
        for name in ("text", "command", "who", "url", "wait")
        if (value := getattr(advice, name))
    }


def credential_of(error: Failure) -> Credential | None:
    """Return the kind of credentials that were refused: those of the call, else what it says."""
    if error.credential:
        return Credential(error.credential)
    return credential_in(f"{error.message} {error.code}".lower())


def basis(run: scoring.Run) -> dict[str, Any]:
    """Encode what a judgement looked at besides the trials: a run's environment stores it under
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
    """Decode stored results into what a judgement takes. LookupError when their trials were dropped
    or lack what is needed.

    `own` are the repeats and weights of custom cases, by id, as `basis` stores them.
    """
    outcomes = []
    for result in results:
        case = registry.BY_ID.get(result.case_id)
        if case is None:
            case = retired_case(result, (own or {}).get(result.case_id, {}))
        if result.verdict == "skipped" and not result.trials:
            outcomes.append(CaseOutcome(case, skipped=result.sentence or "It did not apply."))
        elif not result.trials and result.trials_valid:
            raise LookupError(f"the trials of {result.case_id} were dropped")
        else:
            outcomes.append(CaseOutcome(case, tuple(map(grade_from, result.trials))))
    return tuple(outcomes)


def retired_case(result: TestResult, settings: Mapping[str, Any]) -> Case:
    """Stand in for a case that the suite does not (or no longer) have: enough to be judged, not to
    be run.
    """

    def script(_ref: Ref) -> Script:
        raise LookupError(f"{result.case_id} is no longer part of the suite")

    kind, category = Kind(result.kind), Category(result.category)
    return Case(result.case_id, result.case_id, kind, category, script, **settings)


def grade_from(trial: Mapping[str, Any]) -> Grade:
    """Decode a stored trial's grade. KeyError when it lacks what a judgement needs."""
    return Grade(
        passed=trial["passed"],
        sentence=trial["sentence"],
        evidence=trial["evidence"],
        valid=trial["valid"],
        cause=failure_from(trial["cause"]) if trial.get("cause") else None,
        lacks=trial.get("lacks", ""),
        skipped=trial.get("skipped", ""),
    )


def fit(results: list[TestResult]) -> list[TestResult]:
    """Drop transcripts until the results fit MAX_RUN: those of passed trials first, the longest
    first.
    """
    trials = [trial for result in results for trial in result.trials]
    if len(json.dumps([trial["calls"] for trial in trials])) <= MAX_RUN:
        return results
    sizes = [(trial, len(json.dumps(trial["calls"]))) for trial in trials]
    total = sum(size for _trial, size in sizes)
    for trial, size in sorted(sizes, key=lambda t: (not t[0]["passed"], -t[1])):
        if total <= MAX_RUN:
            break
        trial["calls"], trial["has_transcript"] = [], False
        trial["dropped"] = f"The transcript of {size} characters was over the run's {MAX_RUN}."
        total -= size
    return results
