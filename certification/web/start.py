"""Choose what to certify, and show what the choice takes before it starts."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.http import QueryDict
from django.utils.formats import sanitize_separators
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from certification.engine import backend, dispatch, schedules
from certification.engine.dispatch import CertifyOptions, DispatchResult
from certification.engine.estimate import JobEstimate, estimate_pairs
from certification.engine.schedules import Repeat
from certification.lib import foreign_text
from certification.models import (
    AIModel,
    CertificationRun,
    ModelCertification,
    Priority,
    QueuePause,
    Region,
    Tier,
    User,
)
from certification.models.jobs import MAX_NOTE
from certification.monitoring import queue_stats
from certification.reasons import Status
from certification.suite import registry

PAIRS_IN_ADDRESS = 30
GRID_CELLS = 600  # of the drawn plan; a larger one is counted by vendor
GEOGRAPHIES: dict[str, str | Promise] = {
    "us": gettext_lazy("United States"),
    "us-gov": gettext_lazy("US government"),
    "ca": gettext_lazy("Canada"),
    "mx": gettext_lazy("Mexico"),
    "sa": gettext_lazy("South America"),
    "eu": gettext_lazy("Europe"),
    "ap": gettext_lazy("Asia Pacific"),
    "me": gettext_lazy("Middle East"),
    "il": gettext_lazy("Israel"),
    "af": gettext_lazy("Africa"),
}
PRESETS: dict[str, str | Promise] = {
    "all": gettext_lazy("all active models"),
    "never": gettext_lazy("never tested"),
    "failed": pgettext_lazy("status", "failed"),
    "pending": gettext_lazy("no verdict yet"),
    "expired": pgettext_lazy("status", "expired"),
}

Pair = tuple[AIModel, Region]


def geography(region: str) -> str:
    """Return the part of the world of a region's code: "sa" of sa-east-1, "us-gov" of
    us-gov-west-1.
    """
    return "us-gov" if region.startswith("us-gov-") else region.partition("-")[0]


@dataclass(frozen=True)
class Choice:
    """What the page's address or form says, unchecked. Names that the catalogue does not have are
    left out of the plan, which names them.
    """

    models: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    preset: str = ""
    pairs: tuple[str, ...] = ()  # "model@region"
    regions: tuple[str, ...] = ()
    geographies: tuple[str, ...] = ()
    anywhere: bool = False  # also where the catalogue knows no route
    tier: str = Tier.FULL
    priority: str = ""
    max_cost: str = ""
    note: str = ""
    repeat: str = ""

    @classmethod
    def from_query(cls, query: QueryDict) -> Choice:
        """Read the choice from GET or POST parameters; unknown values of a list are dropped."""
        names = ("tier", "priority", "preset", "repeat")
        tier, priority, preset, repeat = (query.get(name, "") for name in names)
        return cls(
            models=tuple(query.getlist("model")),
            vendors=tuple(query.getlist("vendor")),
            preset=preset if preset in PRESETS else "",
            pairs=tuple(query.getlist("pair")) + tuple(query.get("pairs", "").split()),
            regions=tuple(query.getlist("region")),
            geographies=tuple(query.getlist("geo")),
            anywhere=query.get("where") == "anywhere",
            tier=tier if tier in Tier.values else Tier.FULL,
            priority=priority if priority in Priority.values else "",
            max_cost=query.get("max_cost", "").strip()[:20],
            note=" ".join(foreign_text.clean(query.get("note", "")).split())[:MAX_NOTE],
            repeat=repeat if repeat in Repeat.values else "",
        )

    @property
    def is_long(self) -> bool:
        """Whether it is sent in a body, since servers cut long addresses."""
        return len(self.pairs) > PAIRS_IN_ADDRESS

    @property
    def names_models(self) -> bool:
        return bool(self.models or self.vendors or self.preset or self.pairs)

    def cost_limit(self) -> float | None:
        """Return the cost limit in USD, None without one. Raise BadOption for no number."""
        if not self.max_cost:
            return None
        try:
            return float(str(sanitize_separators(self.max_cost)))
        except ValueError:
            raise dispatch.BadOption(
                _("The cost limit “%s” is not a number.") % self.max_cost, ["max_cost"]
            ) from None


class Tick(NamedTuple):
    """A box to tick: value, label, and whether it is ticked."""

    value: str
    label: str | Promise
    checked: bool
    detail: str = ""


class Cell(NamedTuple):
    """A pair in the drawn plan: `state` is "run", "running", "no-suite", or "" where it is not
    offered.
    """

    region: str
    state: str


@dataclass(frozen=True)
class Plan:
    """What a choice comes to: the pairs that will run, and those that will not and why. `models`
    and `all_regions` are what there is to choose from.
    """

    choice: Choice
    models: Sequence[AIModel]
    all_regions: Sequence[Region]
    pairs: Sequence[Pair]
    running: Sequence[Pair]  # they have an active run already
    not_offered: int
    without_suite: int
    unknown: Sequence[str]
    estimate: JobEstimate
    seconds: float | None
    wait_seconds: float | None
    obstacles: Sequence[str]
    error: str = ""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def text(self) -> str:
        """The pairs as the form sends them back: what was shown is what is started."""
        return "\n".join(f"{model.api_model_id}@{region.code}" for model, region in self.pairs)

    @property
    def start_label(self) -> str:
        """What the button does."""
        runs = len(self.pairs)
        return ngettext("Start %(runs)d run", "Start %(runs)d runs", runs) % {"runs": runs}

    @cached_property
    def regions(self) -> list[str]:
        """The regions of the drawn plan, in the catalogue's order."""
        return sorted({region.code for _model, region in (*self.pairs, *self.running)})

    @cached_property
    def rows(self) -> list[tuple[AIModel, list[Cell]]]:
        """The drawn plan: a model, and a cell for each region. Empty when it has too many cells."""
        states = {(m.pk, r.code): "run" for m, r in self.pairs}
        states |= {(m.pk, r.code): "running" for m, r in self.running}
        models = list(dict.fromkeys(model for model, _region in (*self.pairs, *self.running)))
        if len(models) * len(self.regions) > GRID_CELLS:
            return []
        return [
            (model, [Cell(code, states.get((model.pk, code), "")) for code in self.regions])
            for model in models
        ]

    @cached_property
    def by_vendor(self) -> list[tuple[str, int]]:
        """The runs to start of each vendor, for a plan too large to draw."""
        return sorted(Counter(model.vendor for model, _region in self.pairs).items())


def make_plan(choice: Choice) -> Plan:
    """Return what a choice comes to, in at most eight queries."""
    models = list(AIModel.objects.active().with_offered_in())
    regions = list(Region.objects.enabled())
    chosen, unknown = resolve(choice, models, regions)
    offered = [(m, r) for m, r in chosen if choice.anywhere or r.code in m.offered_in]  # type: ignore[attr-defined]
    with_suite = [pair for pair in offered if registry.all_cases(pair[0].kind, choice.tier)]
    active = set(CertificationRun.objects.active().order_by().values_list("model_id", "region_id"))
    pairs = [(m, r) for m, r in with_suite if (m.pk, r.code) not in active]
    estimate = estimate_pairs(pairs, choice.tier)
    is_bulk = (choice.priority or priority_of(len(pairs))) == Priority.BULK
    slots = settings.CERTIFICATION_CONCURRENCY * (
        settings.CERTIFICATION_BULK_WORKERS if is_bulk else 1
    )
    waiting = len(active)
    mean = estimate.seconds / len(pairs) if estimate.seconds and pairs else None
    error = ""
    try:
        options = CertifyOptions(tier=choice.tier, max_cost_usd=choice.cost_limit())
        options.check()
        options.check_cost(estimate, len(pairs))
    except dispatch.DispatchError as problem:
        error = str(problem)
    return Plan(
        choice=choice,
        models=models,
        all_regions=regions,
        pairs=pairs,
        running=[(m, r) for m, r in with_suite if (m.pk, r.code) in active],
        not_offered=len(chosen) - len(offered),
        without_suite=len(offered) - len(with_suite),
        unknown=unknown,
        estimate=estimate,
        seconds=estimate.seconds_with(slots),
        wait_seconds=waiting * mean / slots if mean and waiting else None,
        obstacles=obstacles(is_bulk=is_bulk) if pairs else (),
        error=error,
    )


def resolve(
    choice: Choice, models: Sequence[AIModel], regions: Sequence[Region]
) -> tuple[list[Pair], list[str]]:
    """Return the pairs that a choice names, models first, and the names that are not known."""
    by_code = {region.code: region for region in regions}
    named = model_names(choice)
    by_name = AIModel.objects.active().named(named) if named else {}
    # the rows that know where they are offered
    with_routes = {model.pk: model for model in models}
    by_name = {name: with_routes[row.pk] for name, row in by_name.items() if row.pk in with_routes}
    unknown = [name for name in named if name not in by_name]

    named_pairs = [tuple(pair.rpartition("@")[::2]) for pair in choice.pairs]
    unknown += [
        code for code in (*choice.regions, *(r for _m, r in named_pairs)) if code not in by_code
    ]
    if named_pairs:
        pairs = [(by_name[m], by_code[r]) for m, r in named_pairs if m in by_name and r in by_code]
        return list(dict.fromkeys(pairs)), list(dict.fromkeys(unknown))

    codes = set(choice.regions)
    codes |= {code for code in by_code if geography(code) in choice.geographies}
    chosen_regions = [region for region in regions if region.code in codes] or list(regions)
    picked = {by_name[name].pk for name in choice.models if name in by_name}
    everything = bool(choice.preset) and not (choice.models or choice.vendors)
    chosen_models = [
        model
        for model in models
        if everything or model.pk in picked or model.vendor in choice.vendors
    ]
    if not codes:  # no region chosen: wherever it is offered
        pairs = [
            (m, r)
            for m in chosen_models
            for r in chosen_regions
            if r.code in m.offered_in  # type: ignore[attr-defined]
        ]
    else:
        pairs = dispatch.pairs_of(chosen_models, chosen_regions)
    if choice.preset not in ("", "all"):
        pairs = narrowed(pairs, choice.preset)
    return pairs, list(dict.fromkeys(unknown))


def model_names(choice: Choice) -> list[str]:
    """Return the names of models in a choice, each once, without what no name can hold."""
    names = (*choice.models, *(pair.rpartition("@")[0] for pair in choice.pairs))
    return [name for name in dict.fromkeys(names) if name.isprintable()]


def narrowed(pairs: Sequence[Pair], preset: str) -> list[Pair]:
    """Return the pairs whose certification stands as the preset says."""
    rows = ModelCertification.objects.all()
    keys = {
        "never": rows.exclude(status=Status.NOT_TESTED),
        "failed": rows.failed(),
        "pending": rows.filter(status=Status.PENDING),
        "expired": rows.expired(),
    }[preset].values_list("model_id", "region_id")
    result = set(keys)
    return [pair for pair in pairs if ((pair[0].pk, pair[1].code) in result) != (preset == "never")]


def priority_of(runs: int) -> str:
    """Return the priority that a job of this size gets when none is chosen."""
    return Priority.BULK if runs > settings.CERTIFICATION_BULK_RUNS else Priority.INTERACTIVE


def obstacles(*, is_bulk: bool) -> list[str]:
    """Return what would keep the job waiting, each a sentence that says what to do."""
    result = []
    workers = queue_stats.workers.get()
    if workers is None:
        result.append(
            _(
                "Redis cannot be reached: the job would wait in the database and be sent once "
                "Redis is back."
            )
        )
    elif workers == 0:
        result.append(_("No worker is running: the job would wait. Start one with: manage.py up"))
    pause = QueuePause.objects.current(backend.name())
    if pause and not pause.is_by_itself:
        result.append(pause.sentence)
    elif pause and is_bulk:
        result.append(
            _(
                "The queue is paused because AWS refused the credentials: the job would wait until "
                "they work again."
            )
        )
    return result


def start(data: QueryDict, user: User | None) -> DispatchResult:
    """Start the pairs that the plan listed. Raise DispatchError; then nothing is written."""
    choice = Choice.from_query(data)
    names = [pair.rpartition("@")[::2] for pair in choice.pairs]
    models = {m.api_model_id: m for m in dispatch.find_models(model for model, _region in names)}
    regions = {r.code: r for r in dispatch.find_regions(region for _model, region in names)}
    options = CertifyOptions(
        tier=choice.tier,
        by=user,
        priority=choice.priority,
        idempotency_key=data.get("key", "")[: dispatch.MAX_IDEMPOTENCY_KEY],
        max_cost_usd=choice.cost_limit(),
        config={"concurrency": settings.CERTIFICATION_CONCURRENCY},
        note=choice.note,
    )
    pairs = [(models[m], regions[r]) for m, r in names]
    with transaction.atomic():
        result = dispatch.certify(pairs, options)
        if choice.repeat and result.created:
            schedules.repeat_job(result.job, pairs, options, choice.repeat)
    return result


def boxes(plan: Plan) -> dict[str, Any]:
    """Return the form's boxes: models by vendor, regions by geography, presets, tiers."""
    choice = plan.choice
    vendors = [
        (
            Tick(vendor, vendor, vendor in choice.vendors),
            [
                Tick(row.api_model_id, row.name, row.api_model_id in choice.models, row.kind)
                for row in rows
            ],
        )
        for vendor, rows in groupby(plan.models, key=lambda row: row.vendor)
    ]
    regions = sorted(plan.all_regions, key=lambda region: order_of(region.code))
    geographies = [
        (
            Tick(key, GEOGRAPHIES.get(key, key), key in choice.geographies),
            [Tick(row.code, row.code, row.code in choice.regions, row.name) for row in rows],
        )
        for key, rows in groupby(regions, key=lambda region: geography(region.code))
    ]
    calls: Mapping[str, int] = {tier: registry.estimate("text", tier).calls for tier in Tier.values}
    return {
        "vendors": vendors,
        "geographies": geographies,
        "presets": [Tick(key, label, key == choice.preset) for key, label in PRESETS.items()],
        "tiers": [
            (tier, label, calls[tier], TIER_PROVES[tier], tier == choice.tier)
            for tier, label in Tier.choices
        ],
        "priorities": [Tick(*item, item[0] == choice.priority) for item in Priority.choices],
        "repeats": [Tick(*item, item[0] == choice.repeat) for item in Repeat.choices],
        "max_note": MAX_NOTE,
    }


TIER_PROVES: dict[str, str | Promise] = {
    Tier.QUICK: gettext_lazy("the gates: access, answers, streaming, tools, vision"),
    Tier.FULL: gettext_lazy("the gates and the quality of answers; what a certificate rests on"),
    Tier.DEEP: gettext_lazy("all of it, and whether regions answer alike"),
}


def order_of(region: str) -> tuple[int, str]:
    """Return the place of a region in the form: geographies in the order above, then its code."""
    keys = list(GEOGRAPHIES)
    key = geography(region)
    return (keys.index(key) if key in keys else len(keys), region)
