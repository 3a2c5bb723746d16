"""What the world is told after a run: at once, or only when a second run agrees; and until when it
is believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from certification.reasons import Status
from certification.suite import statistics

MIN_GAP = timedelta(
    hours=1
)  # two runs closer than this may have met the same bad quarter of an hour
SIGNIFICANCE = 0.01
TTL = timedelta(days=30)
TTL_ALIAS = timedelta(days=7)


@dataclass(frozen=True)
class Finished:
    """A finished run as publishing sees it. `trials` maps (case id, trial) to passed:
    `parity.trials_of`.
    """

    verdict: Status
    tier: str
    completed_at: datetime
    trials: Mapping[tuple[str, int], bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Whether the run's verdict becomes the certification's status, and why. `confirm_after`: when
    another run may settle it.

    `publish` False leaves status, score, run and expiry as they are.
    """

    publish: bool
    sentence: str
    confirm_after: datetime | None = None


def publish(
    certified: Finished | None, since: Sequence[Finished], run: Finished, now: datetime
) -> Decision:
    """Whether to publish `run`, given the run that the standing certificate rests on and those that
    finished `since`.

    `certified` is None where no certificate stands (never certified, expired at `now`, or
    replaced): then every verdict is news. `since` may hold runs of any verdict, `run` itself is
    ignored there; times are aware.
    """
    if run.verdict in (Status.PENDING, Status.NOT_TESTED):
        return Decision(
            False, "The run reached no verdict about the model, so what was known stands."
        )
    if certified is None:
        return Decision(True, "No certificate stands, so the run's verdict is published at once.")
    if run.verdict == Status.CERTIFIED:
        if run.tier == "quick" and certified.tier != "quick":
            return Decision(
                False,
                "The quick run agrees with the full certificate, which stands until it expires.",
            )
        return Decision(True, "The run confirms the certificate.")
    if run.verdict != Status.QUALITY_WARNING:
        return Decision(True, f"{_SAID[run.verdict]} is published at once.")
    return _warning(certified, since, run, now)


_SAID = {
    Status.FAILED: "A failed gate, or quality far below what can be used,",
    Status.PERMISSION_REQUIRED: "An error of access",
    Status.CONFIGURATION_REQUIRED: "An error of access",
}


def _warning(
    certified: Finished, since: Sequence[Finished], run: Finished, now: datetime
) -> Decision:
    """`certified` -> `quality_warning`: two runs an hour apart, or a paired test with p < 0.01."""
    pairs = statistics.pair(certified.trials, run.trials)
    if pairs.p_value < SIGNIFICANCE:
        evidence = f"{len(pairs.losses)} of {pairs.compared} trials that passed when it was certified fail now"
        return Decision(
            True, f"The warning is clear: {evidence}, {len(pairs.gains)} the other way round."
        )
    earlier = [
        r.completed_at
        for r in since
        if r is not run and certified.completed_at < r.completed_at and _is_bad(r)
    ]
    if any(run.completed_at - at >= MIN_GAP for at in earlier):
        return Decision(True, "Two runs an hour or more apart agree on the warning.")
    first = min((*earlier, run.completed_at))
    sentence = (
        "The certificate stands: one run below the line may be luck "
        f"(paired test with the certified run: p = {pairs.p_value:.2g}). "
        f"A second such run from {first + MIN_GAP:%Y-%m-%d %H:%M} UTC on decides."
    )
    return Decision(False, sentence, max(now, first + MIN_GAP))


def _is_bad(run: Finished) -> bool:
    return run.verdict in (Status.QUALITY_WARNING, Status.FAILED)


# Until when a certification is believed.

_VERSION = re.compile(r"(?:-v\d+(?:[.-]\d+)*(?::\d+)?|[a-z0-9-]:\d+)(?::\d+k|:mm)?$")
_DAY = re.compile(r"(?<!\d)20\d\d(-?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
_MONTH = re.compile(r"-[2-9]\d(?:0[1-9]|1[0-2])$")  # mistral's 2509


def is_alias(api_model_id: str) -> bool:
    """Whether a model id names whatever the vendor serves under it today, so that its content may
    move.

    Bedrock ids that are pinned say so in their ending: a version (`-v1`, `-v1:0`, `-1:0`,
    `:0:200k`) or a date (20250929, 2026-03-05, or year and month as in -2509). Everything else is
    an alias: `claude-opus-4-7`, `deepseek.v3.2`, `gpt-5.5`, `-latest`. A generation in the name
    (`-4-7`, `3-8b`) is not a version of what is served. A date counts anywhere, since
    `claude-3-haiku-20240307-v1:0` has it in the middle.
    """
    name = api_model_id.lower().rpartition("/")[2]
    return not (_VERSION.search(name) or _DAY.search(name) or _MONTH.search(name))


def expires_at(
    completed_at: datetime,
    api_model_id: str,
    *,
    lifecycle: str = "",
    end_of_life_on: date | None = None,
    ttl: timedelta = TTL,
) -> datetime:
    """When a verdict of this run stops to be believed: after `ttl`, 7 days for what moves, at the
    end of life at the latest.

    What moves are aliases (`is_alias`) and models in PREVIEW, LEGACY or past their end of life: the
    former change, the latter are switched off account by account. The end of life is that day's
    first moment, UTC.
    """
    end_of_life = None if end_of_life_on is None else datetime.combine(end_of_life_on, time(), UTC)
    over = end_of_life is not None and end_of_life <= completed_at
    moves = over or is_alias(api_model_id) or lifecycle in ("PREVIEW", "LEGACY", "EOL")
    end = completed_at + (min(ttl, TTL_ALIAS) if moves else ttl)
    return end if over or end_of_life is None else min(end, end_of_life)
