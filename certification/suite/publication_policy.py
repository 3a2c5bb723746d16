"""When a run's verdict replaces the current status, and until when a certification is valid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from certification.reasons import Status
from certification.suite import statistics

# two runs closer than this may have met the same bad quarter of an hour
MIN_GAP = timedelta(hours=1)
SIGNIFICANCE = 0.01
TTL = timedelta(days=30)
TTL_ALIAS = timedelta(days=7)


@dataclass(frozen=True)
class Finished:
    """A finished run as the publication policy sees it. `trials` maps (case id, trial) to passed:
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


def decide(
    certified: Finished | None, since: Sequence[Finished], run: Finished, now: datetime
) -> Decision:
    """Decide whether to publish `run`, given the run behind the current certificate and those that
    finished `since`.

    `certified` is None where there is no current certificate (never certified, expired at `now`, or
    replaced): then every verdict is news. `since` may hold runs of any verdict, `run` itself is
    ignored there; times are aware. `certified` becomes `quality_warning` by two runs an hour apart
    or by a paired test with p < 0.01.
    """
    if run.verdict in (Status.PENDING, Status.NOT_TESTED):
        return Decision(False, "The run reached no verdict about the model, so nothing changes.")
    if certified is None:
        return Decision(
            True, "There is no current certification, so the run's verdict is published at once."
        )
    if run.verdict == Status.CERTIFIED:
        if run.tier == "quick" and certified.tier != "quick":
            return Decision(
                False,
                "The quick run agrees with the full certification, which is valid until it "
                "expires.",
            )
        return Decision(True, "The run confirms the certification.")
    if run.verdict == Status.FAILED:
        return Decision(
            True, "A failed gate, or quality too low for any use, is published at once."
        )
    if run.verdict != Status.QUALITY_WARNING:
        return Decision(True, "An access error is published at once.")
    pairs = statistics.pair(certified.trials, run.trials)
    if pairs.p_value < SIGNIFICANCE:
        sentence = (
            f"The warning is clear: {len(pairs.losses)} of {pairs.compared} trials that passed "
            f"when it was certified fail now, {len(pairs.gains)} the other way round."
        )
        return Decision(True, sentence)
    earlier = [
        r.completed_at
        for r in since
        if r is not run
        and certified.completed_at < r.completed_at
        and r.verdict in (Status.QUALITY_WARNING, Status.FAILED)
    ]
    if any(run.completed_at - at >= MIN_GAP for at in earlier):
        return Decision(True, "Two runs an hour or more apart agree on the warning.")
    second = min((*earlier, run.completed_at)) + MIN_GAP
    sentence = (
        "The certification remains valid: one run below the required quality may be chance (paired "
        f"test with the certified run: p = {pairs.p_value:.2g}). A second such run after "
        f"{second:%Y-%m-%d %H:%M} UTC decides."
    )
    return Decision(False, sentence, max(now, second))


_VERSION = re.compile(r"(?:-v\d+(?:[.-]\d+)*(?::\d+)?|[a-z0-9-]:\d+)(?::\d+k|:mm)?$")
_DAY = re.compile(r"(?<!\d)20\d\d(-?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
_MONTH = re.compile(r"-[2-9]\d(?:0[1-9]|1[0-2])$")  # mistral's 2509


def is_alias(api_model_id: str) -> bool:
    """Check whether a model id names whatever the vendor serves under it today.

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
    """Return when a verdict of this run stops being valid: after `ttl`, after 7 days for what
    moves, at the end of life at the latest.

    What moves are aliases (`is_alias`) and models in PREVIEW, LEGACY or past their end of life: the
    former change, the latter are switched off account by account. The end of life is that day's
    first moment, UTC.
    """
    end_of_life = None if end_of_life_on is None else datetime.combine(end_of_life_on, time(), UTC)
    over = end_of_life is not None and end_of_life <= completed_at
    moves = over or is_alias(api_model_id) or lifecycle in ("PREVIEW", "LEGACY", "EOL")
    end = completed_at + (min(ttl, TTL_ALIAS) if moves else ttl)
    return end if over or end_of_life is None else min(end, end_of_life)
