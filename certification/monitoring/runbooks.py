"""The runbooks: what to do when something is wrong. docs/runbooks.md is their only text; pages and
commands show parts of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings

FILE = "docs/runbooks.md"
SECTION = re.compile(r"^## (?P<name>\w+)\n+(?P<text>.+?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Runbook:
    """What to do: `text` is Markdown and begins with the time that it may take."""

    name: str
    text: str

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()


@cache
def all_runbooks() -> dict[str, Runbook]:
    """Return the runbooks by name: that of an alert has the name of its rule."""
    text = (Path(settings.BASE_DIR) / FILE).read_text(encoding="utf-8")
    return {m["name"]: Runbook(m["name"], m["text"].strip()) for m in SECTION.finditer(text)}
