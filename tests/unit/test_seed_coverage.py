"""docs/seed-coverage.md answers each promise of the original documents; what it names exists."""

from __future__ import annotations

import argparse
import re
import uuid
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.urls import Resolver404, resolve

from certification.monitoring.alert_rules import RULES
from tests.paths import PROJECT

PAGE = (PROJECT / "docs" / "seed-coverage.md").read_text(encoding="utf-8")
STATES = ("yes", "partly", "not yet", "no")
COUNTING = (
    "monitoring/metrics.py",
    "lib/process_counts.py",
    "lib/request_metrics.py",
    "lib/slow_log.py",
    "engine/calls.py",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Promise(NamedTuple):
    area: str
    number: int
    promised: str
    state: str
    answer: str

    @property
    def names(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.answer)


def read_promises() -> list[Promise]:
    """Return the rows of the page. Raises ValueError for one with another form."""
    promises, area = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ")
        elif area and line.startswith("|") and not line.startswith(("| nr ", "|---")):
            number, promised, state, answer = line.strip("| ").split(" | ")
            promises.append(Promise(area, int(number), promised, state, answer))
    return promises


PROMISES = read_promises()
NAMES = sorted({name for promise in PROMISES for name in promise.names})


def counts() -> list[str]:
    """Return the table of counts as the page must have it."""
    areas = dict.fromkeys(promise.area for promise in PROMISES)
    rows = []
    for area in (*areas, "together"):
        states = [p.state for p in PROMISES if area in (p.area, "together")]
        numbers = [len(states), *(Counter(states)[state] for state in STATES)]
        rows.append(f"| {area} | {' | '.join(map(str, numbers))} |")
    return rows


def source(path: str) -> str:
    return (PROJECT / "certification" / path).read_text(encoding="utf-8")


@cache
def parsers_of(command: str) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a command by subcommand, its own as ""; none for no command."""
    app = get_commands().get(command)
    if app is None:
        return {}
    parser: Any = load_command_class(str(app), command).create_parser("manage.py", command)
    subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return {"": parser} | {name: one for a in subparsers for name, one in a.choices.items()}


def is_command(text: str) -> bool:
    command, *words = text.split(" ")
    parsers = parsers_of(command)
    options = {option for p in parsers.values() for option in p._option_string_actions}
    subcommands = set(parsers) - {""}
    return bool(
        parsers
        and all(word in options for word in words if word.startswith("--"))
        and (not subcommands or {w for w in words if not w.startswith("--")} <= subcommands)
    )


def is_endpoint(method: str, address: str) -> bool:
    """Whether the address leads to a view that takes the method."""
    try:
        view: Any = resolve(re.sub(r"\bID\b", str(uuid.UUID(int=0)), address)).func
    except Resolver404:
        return False
    view_class = getattr(view, "cls", getattr(view, "view_class", None))
    return view_class is None or hasattr(view_class, method.lower())


def is_file(text: str) -> bool:
    """Whether a path, or `path:word`, is a file of the project (with the word in it)."""
    path, _, word = text.partition(":")
    file = PROJECT / path
    if not file.is_file():
        return False
    return not word or bool(re.search(rf"\b{re.escape(word)}\b", file.read_text(encoding="utf-8")))


def exists(name: str) -> bool:
    """Whether there is what a name of the page's notation names."""
    kind, _, rest = name.partition(" ")
    match kind:
        case "manage.py":
            return is_command(rest)
        case "make":
            makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
            return bool(re.search(rf"^{re.escape(rest)}:", makefile, flags=re.MULTILINE))
        case "worker":
            return f'"{rest}"' in source("monitoring/worker_health.py")
        case "metric":
            return any(f'"{rest}"' in source(path) for path in COUNTING)
        case "setting":
            return hasattr(settings, rest)
        case "alert":
            return rest in {rule.name for rule in RULES}
        case _ if kind in METHODS:
            return is_endpoint(kind, rest)
        case _:
            return is_file(name)


def test_every_promise_is_answered_once() -> None:
    assert [promise.number for promise in PROMISES] == list(range(1, 358))
    assert {promise.state for promise in PROMISES} <= set(STATES)
    assert not [p.number for p in PROMISES if not p.promised or not p.answer or "`" in p.promised]


def test_what_is_there_is_named() -> None:
    there = [p for p in PROMISES if p.state in ("yes", "partly")]
    assert not [p.number for p in there if not p.names]


def test_what_is_not_there_whole_has_its_reason() -> None:
    """A sentence of words besides names."""
    others = [p for p in PROMISES if p.state != "yes"]
    assert not [p.number for p in others if not re.search(r"\w{3}", re.sub("`.*?`", "", p.answer))]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_named_exists(name: str) -> None:
    numbers = [promise.number for promise in PROMISES if name in promise.names]
    assert exists(name), f"{name} of the rows {numbers} does not exist"


@pytest.mark.parametrize(
    "name",
    [
        "docs/no-such-page.md",
        "README.md:nosuchword",
        "manage.py nosuchcommand",
        "manage.py job nosuchverb",
        "manage.py cleanup --nosuchoption",
        "make nosuchtarget",
        "GET /api/nosuchaddress",
        "POST /api/certification-queue/stats",
        "worker /nosuchpage",
        "metric nosuchmetric",
        "setting NO_SUCH_SETTING",
        "alert nosuchrule",
    ],
)
def test_what_does_not_exist_is_noticed(name: str) -> None:
    assert not exists(name)


def test_the_counts_are_those_of_the_rows() -> None:
    head = PAGE.split("\n## ")[0].splitlines()
    rows = [line for line in head if line.startswith("|")]
    assert rows[2:] == counts(), "Write these rows at the top of docs/seed-coverage.md"
