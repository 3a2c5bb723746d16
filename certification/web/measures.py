"""What a cell of the matrix can show, parameter `show`, besides the status."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy, pgettext_lazy

STEPS = 5  # of a quantity's colours
STATUS = "status"


@dataclass(frozen=True)
class Measure:
    """A quantity of a run. With `places` decimals, and `more_is` better, worse, or "" (neither)."""

    label: str | Promise
    field: str  # of a cell
    unit: str | Promise = ""
    places: int = 0
    more_is: str = ""

    def value(self, cell: object) -> float | None:
        value = getattr(cell, self.field)
        return None if value is None else float(value)

    def text(self, value: float) -> str:
        return str(number_format(round(value, self.places), self.places))


MEASURES: dict[str, Measure] = {
    "score": Measure(gettext_lazy("score"), "score", more_is="better"),
    "ttft": Measure(gettext_lazy("time to first token"), "ttft_ms", "ms", more_is="worse"),
    "tps": Measure(gettext_lazy("output tokens per second"), "output_tps", "/s", more_is="better"),
    "cost": Measure(gettext_lazy("cost of the run"), "cost_usd", "US$", 4, "worse"),
    "age": Measure(gettext_lazy("days since it was tested"), "age_days", gettext_lazy("d")),
}
ROUTE, RESIDENCY = "route", "residency"
# What a run has to show of a capability, by the category of the cases that test it.
CAPABILITIES: dict[str, str | Promise] = {
    "tools": gettext_lazy("tools"),
    "streaming": gettext_lazy("streaming"),
    "vision": gettext_lazy("vision"),
}
SHOWS: dict[str, str | Promise] = {
    STATUS: gettext_lazy("status"),
    **{key: measure.label for key, measure in MEASURES.items()},
    ROUTE: gettext_lazy("route"),
    RESIDENCY: gettext_lazy("where data may go"),
    **CAPABILITIES,
}
RESIDENCIES: dict[str, tuple[str, str | Promise]] = {
    "region": ("R", pgettext_lazy("residency", "stays in the region")),
    "geography": ("G", pgettext_lazy("residency", "may go to other regions of the geography")),
    "global": ("W", pgettext_lazy("residency", "may go anywhere in the world")),
}
ROUTES: dict[str, tuple[str, str | Promise]] = {
    "ON_DEMAND": ("D", gettext_lazy("on demand")),
    "INFERENCE_PROFILE": ("P", gettext_lazy("inference profile")),
    "PROVISIONED": ("C", gettext_lazy("provisioned")),
}


def residency(route_kind: str, target_id: str) -> str:
    """Return where a call by this route may be answered: a key of RESIDENCIES, "" without one.

    A cross-region profile is named by its geography, one for all by "global"; the bare id and
    provisioned capacity are answered where they are called.
    """
    if not route_kind:
        return ""
    if route_kind != "INFERENCE_PROFILE":
        return "region"
    return "global" if target_id.startswith("global.") else "geography"


@dataclass(frozen=True)
class Scale:
    """The bounds between the steps of a quantity's colours, from the values that are shown."""

    measure: Measure
    bounds: Sequence[float]
    smallest: float | None
    largest: float | None

    @classmethod
    def of(cls, measure: Measure, cells: Iterable[object]) -> Scale:
        values = sorted(v for cell in cells if (v := measure.value(cell)) is not None)
        bounds = [values[len(values) * step // STEPS] for step in range(1, STEPS)] if values else []
        ends = (values[0], values[-1]) if values else (None, None)
        return cls(measure, bounds, *ends)

    def step(self, value: float) -> int:
        """Return 1 to STEPS: a fifth of the values is in each step, as far as they differ."""
        return bisect_right(self.bounds, value) + 1
