"""Compute how long a call takes: the recorded speed of its model, varied at random per call, then
scaled.
"""

from __future__ import annotations

from dataclasses import dataclass

from certification.bedrock import catalogue


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds until the first token and per token after it."""

    first: float
    per_token: float

    def total(self, tokens: int) -> float:
        """Return the seconds for an answer of so many tokens."""
        return self.first + self.per_token * max(0, tokens - 1)


@dataclass(frozen=True, slots=True)
class Latency:
    """`scale` 1 is real speed, 0 answers at once.

    `fixed_ms` makes every runtime call answer after exactly that time, whatever the scale.
    """

    scale: float = 0.0
    fixed_ms: float | None = None

    def pace(self, model_id: str, dice: float, slow: float) -> Pace:
        """Return the pace of one call.

        `dice` in [0, 1) says where it lies between the model's fast and slow calls.
        """
        if self.fixed_ms is not None:
            return Pace(self.fixed_ms / 1000, 0.0)
        if self.scale <= 0:
            return INSTANT
        profile = catalogue.latency(model_id)
        low, middle, high = profile.total_ms
        # Between p10 and p90, on the side of the median that the dice chose.
        spread = (
            low + (middle - low) * dice * 2
            if dice < 0.5
            else middle + (high - middle) * (dice * 2 - 1)
        )
        factor = self.scale * slow * spread / middle / 1000
        return Pace(profile.ttft_ms * factor, factor * 1000 / profile.output_tps)

    def whole(self, model_id: str, dice: float, slow: float) -> float:
        """Return the seconds for a call without output tokens: embeddings."""
        if self.fixed_ms is not None or self.scale <= 0:
            return self.pace(model_id, dice, slow).first
        low, _, high = catalogue.latency(model_id).total_ms
        return self.scale * slow * (low + (high - low) * dice) / 1000


INSTANT = Pace(0.0, 0.0)
