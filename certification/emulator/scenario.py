"""Faults on request: a scenario file is a list of rules, each with its calls and their faults."""

from __future__ import annotations

import time
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from certification.emulator import refusals
from certification.inference import Endpoint
from certification.suite.case import Category

SCENARIOS = Path(__file__).parent / "scenarios"
# The operations that run models, by the names that `operation` of a rule has.
INFERENCE = frozenset((
    "Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream",
    "ChatCompletions", "ChatCompletionsStream", "Responses", "ResponsesStream", "Messages",
    "MessagesStream",
))  # fmt: skip
ENDPOINTS = tuple(endpoint.value for endpoint in Endpoint)
STREAM_FAULTS = ("truncated", "mid_stream_error", "corrupted_frame", "stall")
STREAM_ERRORS = (
    "modelStreamErrorException", "throttlingException", "internalServerException",
    "serviceUnavailableException", "validationException",
)  # fmt: skip
BROKEN_TOOLS = ("bad_json", "text")


class ScenarioError(ValueError):
    """A scenario file is wrong; the message names the file, the key and what is allowed."""


@dataclass(frozen=True, slots=True)
class Weak:
    """The share of trials of a category, or of one case, with a correct answer, not a near miss."""

    category: str
    accuracy: float
    case: str = "*"

    def concerns(self, category: str, case: str) -> bool:
        return self.category in ("*", category) and self.case in ("*", case)


@dataclass(frozen=True, slots=True)
class Faults:
    """Everything that is wrong with one call. The defaults are a healthy service."""

    access: str = ""
    legacy: bool = False
    end_of_life: bool = False
    not_in_region: bool = False
    needs_profile: bool = False
    throttle: str = ""
    error: int = 0
    retry_after: int = 0
    failed: bool = False
    slow: float = 1.0
    stream: str = ""
    stream_error: str = "modelStreamErrorException"
    hang: bool = False
    reset: bool = False
    reset_after_bytes: int | None = None
    html_503: bool = False
    empty_200: bool = False
    tools_broken_streaming: str = ""
    weak: tuple[Weak, ...] = ()
    expired_credentials: bool = False
    invalid_credentials: bool = False
    clock_skew: bool = False
    no_stop_sequences: bool = False
    ignores_stop_sequences: bool = False
    leaks_template_tokens: bool = False
    ignores_max_tokens: bool = False
    ignores_system: bool = False
    extra_input_tokens: int = 0


HEALTHY = Faults()
# Effects that end the call: the first rule with one decides, later rules are not read.
ENDING = frozenset((
    "access", "legacy", "end_of_life", "not_in_region", "needs_profile", "throttle", "error",
    "hang", "reset", "html_503", "empty_200", "expired_credentials", "invalid_credentials",
    "clock_skew",
))  # fmt: skip
_EVERYWHERE = frozenset(("expired_credentials", "invalid_credentials", "clock_skew"))


@dataclass(frozen=True)
class FaultRule:
    """Which calls are hit (globs), how often, and by which effects.

    `times` and `after` count calls of one model in one region.
    """

    number: int
    model: str = "*"
    region: str = "*"
    operation: str = ""
    route: str = "*"
    endpoint: str = ""
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    tokens_per_minute: int = 0
    effects: Mapping[str, Any] = field(default_factory=dict)

    def hits(self, call: Call) -> bool:
        """Tell whether the rule's globs fit a call."""
        if self.operation:
            if not fnmatchcase(call.operation, self.operation):
                return False
        elif call.operation not in INFERENCE and not (_EVERYWHERE & self.effects.keys()):
            return False
        return (
            self.endpoint in ("", call.endpoint)
            and fnmatchcase(call.model, self.model)
            and fnmatchcase(call.region, self.region)
            and (fnmatchcase(call.route, self.route) or fnmatchcase(call.called, self.route))
        )

    @property
    def ends(self) -> bool:
        return bool(ENDING & self.effects.keys())


@dataclass(frozen=True)
class Call:
    """What the rules read of a call.

    `model` is the catalogue's id, `called` the id or profile as the client wrote it.
    """

    operation: str
    model: str
    region: str
    route: str
    called: str
    endpoint: Endpoint = Endpoint.RUNTIME


@dataclass(frozen=True)
class Scenario:
    """A named list of rules, and which credentials are refused.

    Those are globs of access key ids, or the texts of bearer tokens.
    """

    name: str
    rules: tuple[FaultRule, ...] = ()
    description: str = ""
    expired_keys: tuple[str, ...] = ()
    invalid_keys: tuple[str, ...] = ()


class FaultInjector:
    """Apply a scenario: count what `times`, `after`, `probability` and token buckets need."""

    def __init__(
        self, scenario: Scenario, seed: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scenario = scenario
        self._seed = seed
        self._clock = clock
        self._calls: Counter[tuple[int, str, str]] = Counter()
        self._tries: Counter[tuple[int, int]] = Counter()
        self._buckets: dict[tuple[int, str, str], tuple[float, float]] = {}
        self._matching = lru_cache(maxsize=65536)(self.match)
        self.meters = any(rule.tokens_per_minute for rule in scenario.rules)

    def match(self, call: Call) -> tuple[tuple[FaultRule, ...], Faults | None]:
        """Return the rules that fit a call; and their faults, where none depends on counts."""
        rules = tuple(rule for rule in self.scenario.rules if rule.hits(call))
        counted = any(
            r.times is not None or r.after or r.probability < 1 or r.tokens_per_minute
            for r in rules
        )
        return rules, None if counted else combine(rules)

    def faults(self, call: Call, fingerprint: int, tokens: int = 0) -> Faults:
        """Return what is wrong with this call.

        `tokens` is what a token bucket takes: the input and the output that the call reserves.
        """
        rules, constant = self._matching(call)
        if constant is not None:
            return constant
        active = []
        for rule in rules:
            if self.applies(rule, call, fingerprint, tokens):
                active.append(rule)
                if rule.ends or rule.tokens_per_minute:
                    break
        return combine(tuple(active))

    def applies(self, rule: FaultRule, call: Call, fingerprint: int, tokens: int) -> bool:
        """Count the call for a rule that fits it, and tell whether the rule hits it this time."""
        if rule.times is not None or rule.after:
            where = (rule.number, call.model, call.region)
            earlier = self._calls[where]
            self._calls[where] += 1
            if earlier < rule.after:
                return False
            if rule.times is not None and earlier >= rule.after + rule.times:
                return False
        if rule.probability < 1:
            # Per try of the same request, so that a retry draws anew whatever else runs meanwhile.
            key = (rule.number, fingerprint)
            attempt = self._tries[key]
            self._tries[key] += 1
            if chance(self._seed, rule.number, fingerprint, attempt) >= rule.probability:
                return False
        if not rule.tokens_per_minute:
            return True
        # A token bucket for each model, region and route: the rule hits when it has too few.
        bucket = (rule.number, call.region, call.called)
        now, capacity = self._clock(), float(rule.tokens_per_minute)
        level, then = self._buckets.get(bucket, (capacity, now))
        level = min(capacity, level + (now - then) * capacity / 60)
        enough = tokens <= level
        self._buckets[bucket] = (level - tokens if enough else level, now)
        return not enough


def chance(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone."""
    return zlib.crc32(repr(parts).encode()) * 2654435761 % 2**32 / 2**32


def combine(rules: tuple[FaultRule, ...]) -> Faults:
    """Return the effects of several rules together.

    Slowness multiplies, weaknesses add up, the first ending effect ends.
    """
    faults = HEALTHY
    for rule in rules:
        changes = dict(rule.effects)
        if "slow" in changes:
            changes["slow"] *= faults.slow
        if "weak" in changes:
            changes["weak"] = faults.weak + changes["weak"]
        if rule.tokens_per_minute:
            changes.setdefault("throttle", "tokens")
        faults = replace(faults, **changes)
        if rule.ends or rule.tokens_per_minute:
            break
    return faults


# Reading scenario files


def find(name_or_path: str) -> Path:
    """Return the file of a scenario: a path, or the name of one that ships with the emulator.

    Raises ScenarioError.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        return path
    names = shipped_names()
    if name_or_path in names:
        return SCENARIOS / f"{name_or_path}.toml"
    raise ScenarioError(
        f"There is no scenario file {name_or_path!r}. Give the path of a .toml file, or one of: "
        f"{', '.join(names)}."
    )


def shipped_names() -> list[str]:
    return sorted(path.stem for path in SCENARIOS.glob("*.toml"))


def load_shipped(name: object) -> Scenario:
    """Load a shipped scenario by its name, which comes from outside. Raises ScenarioError."""
    names = shipped_names()
    if name not in names:
        raise ScenarioError(f"There is no scenario {name!r}. Choose one of: {', '.join(names)}.")
    return load(str(name))


def load(name_or_path: str) -> Scenario:
    """Load a scenario by name or path. ScenarioError says what to correct."""
    path = find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    return parse(text, str(path), path.stem)


def parse(text: str, source: str = "scenario", name: str = "") -> Scenario:
    """Parse a scenario from TOML text; messages call it `source`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source}: not valid TOML: {error}") from error
    reader = ScenarioReader(source)
    reader.known(raw, ("name", "description", "credentials", "rule"), "the file")
    keys = reader.table(raw.get("credentials", {}), "credentials")
    reader.known(keys, ("expired", "invalid"), "[credentials]")
    rules = raw.get("rule", [])
    if not isinstance(rules, list):
        raise ScenarioError(f"{source}: `rule` must be an array of tables: write [[rule]].")
    return Scenario(
        name=reader.text(raw.get("name", name), "name"),
        description=reader.text(raw.get("description", ""), "description"),
        rules=tuple(reader.rule(rule, number) for number, rule in enumerate(rules, 1)),
        expired_keys=reader.texts(keys.get("expired", []), "credentials.expired"),
        invalid_keys=reader.texts(keys.get("invalid", []), "credentials.invalid"),
    )


class ScenarioReader:
    """Check values; a ScenarioError says which key is wrong and what is allowed."""

    def __init__(self, source: str) -> None:
        self._source = source

    def _fail(self, key: str, allowed: str, value: object) -> ScenarioError:
        return ScenarioError(f"{self._source}: `{key}` is {value!r}; allowed: {allowed}.")

    def known(self, table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in allowed:
                raise ScenarioError(
                    f"{self._source}: unknown key `{key}` in {where}; allowed: "
                    f"{', '.join(allowed)}."
                )

    def table(self, value: Any, key: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._fail(key, "a table", value)
        return value

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str):
            raise self._fail(key, "a text", value)
        return value

    def texts(self, value: Any, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self._fail(key, "a list of texts", value)
        return tuple(value)

    def number(
        self, value: Any, key: str, low: float, high: float | None, *, whole: bool = False
    ) -> Any:
        kinds = (int,) if whole else (int, float)
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        if not fits or value < low or (high is not None and value > high):
            kind = "a whole number" if whole else "a number"
            limit = f" to {high:g}" if high is not None else " or more"
            raise self._fail(key, f"{kind} from {low:g}{limit}", value)
        return value

    def choice(self, value: Any, key: str, allowed: tuple[Any, ...]) -> Any:
        if isinstance(value, bool) or value not in allowed:
            raise self._fail(key, ", ".join(map(str, allowed)), value)
        return value

    def flag(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            raise self._fail(key, "true, false", value)
        return value

    def rule(self, raw: Any, number: int) -> FaultRule:
        where = f"rule {number}"
        table = self.table(raw, where)
        effects = {f.name for f in fields(Faults)}
        allowed = (
            "model", "region", "operation", "route", "endpoint", "times", "after", "probability",
            "tokens_per_minute", "note",
        )  # fmt: skip
        self.known(table, (*allowed, *sorted(effects)), where)
        rule = FaultRule(
            number=number,
            model=self.text(table.get("model", "*"), f"{where}: model"),
            region=self.text(table.get("region", "*"), f"{where}: region"),
            operation=self.text(table.get("operation", ""), f"{where}: operation"),
            route=self.text(table.get("route", "*"), f"{where}: route"),
            endpoint=self.choice(table["endpoint"], f"{where}: endpoint", ENDPOINTS)
            if "endpoint" in table
            else "",
            times=self.number(table["times"], f"{where}: times", 1, None, whole=True)
            if "times" in table
            else None,
            after=self.number(table.get("after", 0), f"{where}: after", 0, None, whole=True),
            probability=self.number(table.get("probability", 1.0), f"{where}: probability", 0, 1),
            tokens_per_minute=self.number(
                table.get("tokens_per_minute", 0),
                f"{where}: tokens_per_minute",
                0,
                None,
                whole=True,
            ),
            effects=self.effects({k: v for k, v in table.items() if k in effects}, where),
        )
        if not rule.effects and not rule.tokens_per_minute:
            raise ScenarioError(
                f"{self._source}: {where} has no effect; add one of: {', '.join(sorted(effects))}."
            )
        return rule

    def effects(self, raw: Mapping[str, Any], where: str) -> dict[str, Any]:
        effects: dict[str, Any] = {}
        choices: dict[str, tuple[Any, ...]] = {
            "access": refusals.ACCESS_KINDS,
            "throttle": refusals.THROTTLE_KINDS,
            "error": refusals.ERROR_STATUSES,
            "stream": STREAM_FAULTS,
            "stream_error": STREAM_ERRORS,
            "tools_broken_streaming": BROKEN_TOOLS,
        }
        for name, value in raw.items():
            key = f"{where}: {name}"
            if name == "tools_broken_streaming" and value is True:
                effects[name] = "bad_json"
            elif name in choices:
                effects[name] = self.choice(value, key, choices[name])
            elif name == "slow":
                effects[name] = float(self.number(value, key, 0.01, 10_000))
            elif name == "retry_after":
                effects[name] = self.number(value, key, 1, 3600, whole=True)
            elif name in ("extra_input_tokens", "reset_after_bytes"):
                effects[name] = self.number(value, key, 0, 100_000, whole=True)
            elif name == "weak":
                effects[name] = self.weaknesses(value, key)
            elif self.flag(value, key):
                effects[name] = True
        return effects

    def weaknesses(self, value: Any, key: str) -> tuple[Weak, ...]:
        weaknesses = []
        for raw in value if isinstance(value, list) else [value]:
            table = self.table(raw, key)
            self.known(table, ("category", "case", "accuracy"), key)
            categories = ("*", *(c.value for c in Category))
            category = self.choice(table.get("category", "*"), f"{key}.category", categories)
            case = self.text(table.get("case", "*"), f"{key}.case")
            accuracy = self.number(table.get("accuracy", 0.5), f"{key}.accuracy", 0, 1)
            weaknesses.append(Weak(category, float(accuracy), case))
        return tuple(weaknesses)
