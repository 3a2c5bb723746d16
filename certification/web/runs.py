"""Load one run with its cases, and the trials of the case that is open: what was asked, what came,
and how it was judged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from django.http import QueryDict
from django.utils import translation
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from certification import labels, statements
from certification.models import CertificationRun, TestResult
from certification.statements import Statement
from certification.suite import registry
from certification.suite.case import Category
from certification.web import charts, differences, reproduce, run_log
from certification.web.differences import Piece
from certification.web.reproduce import Copy

CASES_NAMED = 3  # in the sentence about a run
WORST_FIRST = ("failed", "flaky", "invalid", "passed", "skipped")
MAX_EVIDENCE = 1_000  # characters shown of one piece
# Evidence of which each piece was meant to be like the other, by its stored names.
COMPARED = (
    ("expected", "found"), ("wanted", "arguments"), ("first", "second"), ("converse", "stream"),
)  # fmt: skip
FOLD_LINES, FOLD_CODE_LINES, FOLD_CHARACTERS = 40, 14, 3_000  # longer texts are shown folded


class Part(NamedTuple):
    """One piece of a request or a reply: who or what, and its text. `is_code` is JSON."""

    label: str
    text: str
    is_code: bool = False

    @property
    def is_long(self) -> bool:
        lines = FOLD_CODE_LINES if self.is_code else FOLD_LINES
        return len(self.text) > FOLD_CHARACTERS or self.text.count("\n") > lines


@dataclass(frozen=True)
class Call:
    """One call of a trial as stored: the route, the request, and the reply or the failure."""

    stored: Mapping[str, Any]
    region: str = ""

    @property
    def copies(self) -> list[Copy]:
        """The call as somebody can make it again."""
        return reproduce.copies(self.stored, self.region)

    @property
    def is_incomplete(self) -> bool:
        return reproduce.is_incomplete(self.stored)

    @property
    def api(self) -> str:
        name = text_of(self.stored.get("api"))
        return labels.APIS.get(name, name)

    @property
    def is_stream(self) -> bool:
        request = mapping(self.stored.get("request"))
        return "stream" in text_of(request.get("operation")).lower()

    @property
    def timing(self) -> list[tuple[str, str]]:
        """(what, milliseconds) of each measured time."""
        names = {
            "ttft": _("first token"),
            "total": _("total"),
            "max_gap": _("longest gap"),
            "server": _("by the server's clock"),
        }
        times = mapping(self.stored.get("timing"))
        return [
            (words, f"{number_format(round(times[key]), 0)} ms")
            for key, words in names.items()
            if is_number(times.get(key))
        ]

    @property
    def stream_chart(self) -> SafeString | str:
        """When the events of a stream came; "" where that was not stored."""
        arrivals = [at for at in sequence(self.stored.get("arrivals")) if is_number(at)]
        if len(arrivals) < 2:
            return ""
        total = mapping(self.stored.get("timing")).get("total")
        title = _("Arrival of %(n)d events of the stream") % {"n": len(arrivals)}
        end = float(total) if isinstance(total, int | float) else float(arrivals[-1])
        return charts.arrivals(title, arrivals, end)

    @property
    def reply(self) -> Mapping[str, Any]:
        """The reply, or what of it had arrived before the call failed."""
        return mapping(self.stored.get("reply") or self.stored.get("partial"))

    @property
    def usage(self) -> Mapping[str, Any]:
        return mapping(self.reply.get("usage"))

    @property
    def events(self) -> str:
        return ", ".join(text_of(name) for name in sequence(self.reply.get("events")))

    @property
    def failure(self) -> Mapping[str, Any]:
        return mapping(self.stored.get("failure"))

    @property
    def request_parts(self) -> list[Part]:
        """The system prompt, the messages and the texts of the request, then everything else."""
        request = dict(mapping(self.stored.get("request")))
        request.pop("operation", None)
        parts = [Part(_("system"), text_of(request.pop("system")))] if "system" in request else []
        for message in sequence(request.pop("messages", ())):
            role = text_of(mapping(message).get("role"))
            parts += blocks(mapping(message).get("content"), role)
        parts += [Part(_("text"), text_of(text)) for text in sequence(request.pop("texts", ()))]
        tools = sequence(request.pop("tools", ()))
        parts += [
            Part(_("tool %s") % text_of(mapping(tool).get("name")), as_json(tool), is_code=True)
            for tool in tools
        ]
        if request:
            parts.append(Part(_("options"), as_json(request), is_code=True))
        return parts

    @property
    def reply_parts(self) -> list[Part]:
        reply = self.reply
        if "dimensions" in reply:  # of an embedding model
            return [Part(_("vectors"), as_json(reply), is_code=True)]
        return blocks(reply.get("content"), _("answer"))


@dataclass(frozen=True)
class Trial:
    """One trial of a case as stored, and the region that was called."""

    stored: Mapping[str, Any]
    region: str = ""

    @property
    def number(self) -> int:
        number = self.stored.get("trial")
        return number + 1 if isinstance(number, int) else 1

    @property
    def verdict(self) -> str:
        if self.stored.get("skipped"):
            return "skipped"
        if not self.stored.get("valid", True):
            return "invalid"
        return "passed" if self.stored.get("passed") else "failed"

    @property
    def statement(self) -> Statement:
        """Why it passed or failed."""
        return statements.of_trial(self.stored)

    @property
    def evidence(self) -> list[tuple[str, Sequence[Piece]]]:
        """What was expected and what came, by name, with their differences marked."""
        texts = {
            name: (value if isinstance(value, str) else as_json(value))[:MAX_EVIDENCE]
            for name, value in mapping(self.stored.get("evidence")).items()
            if value not in ("", None, [], {})
        }
        pieces: dict[str, Sequence[Piece]] = {name: [Piece(t)] for name, t in texts.items()}
        for a, b in COMPARED if self.verdict == "failed" else ():
            if marked := a in texts and b in texts and differences.mark(texts[a], texts[b]):
                pieces[a], pieces[b] = marked
        return [(statements.evidence_name(name), pieces[name]) for name in texts]

    @property
    def calls(self) -> list[Call]:
        return [Call(mapping(call), self.region) for call in sequence(self.stored.get("calls"))]

    @property
    def answer(self) -> str:
        """The text of the last answer."""
        parts = self.calls[-1].reply_parts if self.calls else []
        return "\n".join(part.text for part in parts if not part.is_code)

    @property
    def transcript_removed(self) -> bool:
        """Whether there was a transcript that is no longer stored."""
        return bool(self.stored.get("has_transcript")) and not self.calls


@dataclass(frozen=True)
class RunDetail:
    """A run, its cases that pass the filters (without trials), and the case that is open."""

    run: CertificationRun
    results: Sequence[TestResult]
    verdict: str
    category: str
    search: str
    open_result: TestResult | None
    with_text: frozenset[str] = frozenset()  # cases with the searched text in requests or replies
    min_ms: int | None = None
    slow: frozenset[str] = frozenset()  # cases with a call that took `min_ms`

    @cached_property
    def log(self) -> list[run_log.Entry]:
        """What happened to the run, the oldest first."""
        return run_log.of_run(self.run.events.all())

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(result.verdict for result in self.results)

    @property
    def verdict_counts(self) -> list[tuple[str, int]]:
        return [(name, self.counts[name]) for name in WORST_FIRST if self.counts[name]]

    @property
    def categories(self) -> list[str]:
        """The categories that occur, in the suite's order."""
        present = {result.category for result in self.results}
        return [c.value for c in Category if c.value in present]

    @cached_property
    def shown(self) -> list[TestResult]:
        """The cases that pass the filters, worst first."""
        words = self.search.casefold().split()
        return [
            result
            for result in sorted(self.results, key=order_of)
            if self.verdict in ("", result.verdict)
            and self.category in ("", result.category)
            and (self.min_ms is None or result.case_id in self.slow)
            and (
                result.case_id in self.with_text
                or all(word in searched_text(result) for word in words)
            )
        ]

    @property
    def trials(self) -> list[Trial]:
        """The trials of the case that is open."""
        stored = self.open_result.trials if self.open_result else ()
        return [Trial(mapping(trial), self.run.region_id) for trial in sequence(stored)]

    @property
    def previous_failed(self) -> str:
        """The failed case before the one that is open, "" where there is none."""
        return self.failed_beside(-1)

    @property
    def next_failed(self) -> str:
        return self.failed_beside(1)

    def failed_beside(self, step: int) -> str:
        """Return the id of the next failed case in a direction, as listed. With no case open, the
        first or last one.
        """
        ids = [r.case_id for r in self.shown]
        failed = [r.case_id for r in self.shown if r.verdict in ("failed", "flaky")]
        current = self.open_result.case_id if self.open_result else ""
        at = ids.index(current) if current in ids else (-1 if step > 0 else len(ids))
        beyond = [case for case in failed if (ids.index(case) - at) * step > 0]
        return (beyond[0] if step > 0 else beyond[-1]) if beyond else ""

    @property
    def sentence(self) -> str:
        """What came out, in a sentence."""
        judged = len(self.results) - self.counts["skipped"]
        if not judged:
            return ""
        parts = [
            _("%(passed)d of %(judged)d cases passed.")
            % {"passed": self.counts["passed"], "judged": judged}
        ]
        bad = [r for r in sorted(self.results, key=order_of) if r.verdict in ("failed", "flaky")]
        parts += [
            _("%(case)s failed %(failed)d of %(trials)d.")
            % {"case": r.case_id, "failed": r.trials_valid - r.passes, "trials": r.trials_valid}
            for r in bad[:CASES_NAMED]
        ]
        return " ".join(parts)


def load(run: CertificationRun, query: QueryDict) -> RunDetail:
    """Return a run's cases, filtered by the GET parameters `verdict`, `category`, `q` and `min_ms`
    (the time that a call took at least), and the trials of the `case` that is open; unknown values
    are ignored. One query, and one each for `case`, `q`, `min_ms` and the log.
    """
    results = list(run.results.without_transcripts().order_by("pk"))
    verdict, category = query.get("verdict", ""), query.get("category", "")
    case_id = query.get("case", "")
    is_known = any(result.case_id == case_id for result in results)
    search = query.get("q", "").strip()[:200]
    is_text = bool(search) and search.isprintable()
    min_ms = milliseconds(query.get("min_ms", ""))
    slow = run.results.none() if min_ms is None else run.results.with_call_lasting(min_ms)
    with_text = run.results.filter(trials__icontains=search) if is_text else run.results.none()
    return RunDetail(
        run=run,
        results=results,
        verdict=verdict if verdict in WORST_FIRST else "",
        category=category if category in {c.value for c in Category} else "",
        search=search,
        open_result=run.results.get(case_id=case_id) if is_known else None,
        with_text=frozenset(with_text.values_list("case_id", flat=True)),
        min_ms=min_ms,
        slow=frozenset(slow.values_list("case_id", flat=True)),
    )


def milliseconds(text: str) -> int | None:
    """Return the number that an address gives; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def order_of(result: TestResult) -> tuple[int, int]:
    """Return a case's place in the list: worst first, then as they ran."""
    known = result.verdict in WORST_FIRST
    return (WORST_FIRST.index(result.verdict) if known else len(WORST_FIRST), result.pk)


def searched_text(result: TestResult) -> str:
    case = registry.BY_ID.get(result.case_id)
    title = f"{case.title} {translation.gettext(case.title)}" if case else ""
    statement = statements.of_result(result).text
    return f"{result.case_id} {title} {result.sentence} {statement}".casefold()


def blocks(content: Any, label: str) -> list[Part]:
    """Return the parts of a message or an answer: texts as they are, all else as JSON."""
    names = {
        "reasoning": _("reasoning"),
        "tool_use": _("tool call"),
        "tool_result": _("tool result"),
        "image": _("picture"),
        "document": _("document"),
    }
    parts = []
    for block in sequence(content):
        for kind, value in mapping(block).items():
            if kind == "text":
                parts.append(Part(label, text_of(value)))
            elif kind == "reasoning":
                parts.append(Part(names[kind], text_of(value)))
            else:
                parts.append(Part(names.get(kind, kind), as_json(value), is_code=True))
    return parts


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a stored object, {} for anything else: older versions may have stored another form."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else as_json(value)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
