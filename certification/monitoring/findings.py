"""What checks find: what is wrong, why it matters, what to do, and what can be done at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Repair:
    """Something that loses nothing, changes no setting of the operator's own, and can be repeated.
    `what` says what it does; `run` does it and returns how it went, in a sentence.
    """

    what: str
    run: Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """What is wrong, why it matters, and what to do; `repair` where a command can do it."""

    what: str
    why: str
    fix: str
    repair: Repair | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, str | None]:
        repair = self.repair.what if self.repair else None
        return {"what": self.what, "why": self.why, "fix": self.fix, "repair": repair}
