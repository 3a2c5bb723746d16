"""What `manage.py help` prints."""

from __future__ import annotations

import re
import subprocess

from django.core.management import get_commands

from certification.management import overview
from tests.paths import PROJECT
from tests.processes import management_command

OURS = {name for name, app in get_commands().items() if app == "certification"}


def test_every_command_is_listed_once_with_what_it_does() -> None:
    text = overview.text()
    listed = re.findall(r"^  (\w+)  +([A-Z].+)$", text, flags=re.MULTILINE)
    assert sorted(name for name, _sentence in listed) == sorted(OURS)
    assert max(map(len, text.splitlines())) <= overview.WIDTH
    assert "migrate" in text.rpartition(overview.DJANGO)[2]


def test_no_command_is_in_two_groups() -> None:
    names = [name for group in overview.GROUPS.values() for name in group]
    assert len(names) == len(set(names))


def test_help_prints_it() -> None:
    done = subprocess.run(
        management_command("help"), cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{overview.text()}\n"
