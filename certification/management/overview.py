"""What `manage.py help` prints: every command in a group, with the first sentence of its help."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from django.core.management import get_commands, load_command_class

WIDTH, INDENT = 100, 24
# By what people want to do. A command that no group names is listed under MORE.
GROUPS = {
    "Run the stack": (
        "up", "status", "restart", "down", "run", "demo", "bedrock_emulator",
    ),
    "Certify": (
        "certify", "job", "list_uncertified", "recertify_stale", "rescore", "suite", "diagnose",
    ),
    "Catalogue and certificates": (
        "load_catalogue", "sync_catalogue", "certificate_key", "verify_certificate",
    ),
    "See how it is": (
        "doctor", "health_monitor", "alerts", "queue", "logs", "analyze_performance",
        "redis_report", "capacity_report", "smoke",
    ),
    "Look after it": (
        "reconcile", "cleanup", "backup", "restore", "routine", "readonly", "dependencies",
        "security_audit", "rotate_credentials", "upgrade", "loadtest", "db_maintenance",
        "practice",
    ),
}  # fmt: skip
MORE, DJANGO = "More", "Of Django and its applications"


def text() -> str:
    """Return all commands in their groups."""
    applications = get_commands()
    ours = sorted(name for name, app in applications.items() if app == "certification")
    named = {name for names in GROUPS.values() for name in names}
    groups = GROUPS | {MORE: tuple(name for name in ours if name not in named)}
    lines = ["manage.py COMMAND; manage.py COMMAND --help says more about one."]
    for title, names in groups.items():
        entries = [entry for name in names if name in ours for entry in entries_of(name)]
        lines += ["", title, *entries] if entries else []
    others = ", ".join(sorted(set(applications) - set(ours)))
    lines += ["", DJANGO, *textwrap.wrap(others, WIDTH, initial_indent="  ",
                                         subsequent_indent="  ")]  # fmt: skip
    return "\n".join(lines)


def entries_of(name: str) -> Iterator[str]:
    """Yield the lines of one command."""
    words = str(load_command_class("certification", name).help)
    sentence = re.split(r"(?<=\.)\s", words, maxsplit=1)[0]
    first = f"  {name:<{INDENT - 3}} "
    yield from textwrap.wrap(sentence, WIDTH, initial_indent=first, subsequent_indent=" " * INDENT)
