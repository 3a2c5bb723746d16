"""The log of runs as the pages show it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certification import labels
from certification.models import CertificationRun, RunEvent, State

RETURNED: dict[str, str | Promise] = {
    RunEvent.HANDED_BACK: gettext_lazy(
        "handed back by its worker, which stopped; the attempt does not count"
    ),
    RunEvent.WORKER_LOST: gettext_lazy("taken from its worker, which gave no sign of life"),
    RunEvent.PROGRAM_ERROR: gettext_lazy("handed back: an error in our own program"),
}


class Entry(NamedTuple):
    """A line of the log. `quoted` are words that were stored, in English."""

    at: datetime
    run: UUID
    name: str
    sign: labels.Sign
    sentence: str
    worker: str
    attempt: int
    quoted: str


def of_run(events: Iterable[RunEvent]) -> list[Entry]:
    """Return the log of one run, the oldest first."""
    return [entry(event, "") for event in events]


def of_runs(runs: Iterable[CertificationRun]) -> list[Entry]:
    """Return the log of several runs, the newest first. They come with `stored_events`, as
    `RunEvent.objects.of_outer_run` gives them.
    """
    events = [
        event for run in runs for event in RunEvent.objects.read(run, run.__dict__["stored_events"])
    ]
    newest = sorted(events, key=lambda event: event.pk, reverse=True)
    return [entry(event, f"{event.run.model.name}, {event.run.region_id}") for event in newest]


def entry(event: RunEvent, name: str) -> Entry:
    return Entry(
        at=event.at,
        run=event.run_id,
        name=name,
        sign=labels.RUN_STATES[event.after],
        sentence=sentence_of(event),
        worker="" if event.after in (State.QUEUED, State.CANCELLED) else event.worker,
        attempt=0 if event.after == State.QUEUED else event.attempt,
        quoted=event.message if event.after in (State.CANCELLED, State.FAILED) else "",
    )


def sentence_of(event: RunEvent) -> str:
    """Return what happened, in a few words."""
    if event.after == State.QUEUED:
        return _("queued")
    if event.after == State.PROCESSING:
        return _("started")
    if event.after == State.PENDING:
        return str(RETURNED.get(event.reason, _("waits again")))
    if event.after == State.CANCELLED:
        return _("cancelled")
    known = labels.STATUSES.get(event.reason)
    what = known.label if known else labels.REASONS.get(event.reason, event.reason)
    if event.after == State.FAILED:
        return _("ended without a verdict: %s") % what if what else _("ended without a verdict")
    return _("finished: %s") % what if what else _("finished")
