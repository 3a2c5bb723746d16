"""The guides: both languages have the same commands, each of which is run here or by the test that
is named, and each address in them leads to a page.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import resolve

from certification.operations.documents import CHECKLISTS, TRAINING
from tests.paths import PROJECT
from tests.unit.test_seed_coverage import is_command

pytestmark = pytest.mark.django_db
GUIDES = ("guide-user", "guide-operations")
# What other tests run, because it needs processes of its own.
ELSEWHERE = {
    "manage.py restart worker": "tests/e2e/test_stack.py:restart",
    "manage.py health_monitor --once": "tests/integration/test_health_monitor.py:--once",
    "manage.py doctor": "tests/integration/test_operations_commands.py:doctor",
}


def text_of(name: str) -> str:
    return (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def commands_in(text: str) -> list[str]:
    """The commands in blocks and between words."""
    pairs = re.findall(r"^(manage\.py .+)$|`(manage\.py [^`]+)`", text, flags=re.MULTILINE)
    return [block or between for block, between in pairs]


COMMANDS = sorted({command for name in GUIDES for command in commands_in(text_of(name))})
ITEMS = [
    item.command
    for group in (*(c.items for c in CHECKLISTS.values()), *(day.steps for day in TRAINING))
    for item in group
    if item.command.startswith("manage.py ")
]


@pytest.mark.parametrize("name", GUIDES)
def test_both_languages_have_the_same_sections_and_commands(name: str) -> None:
    english, portuguese = text_of(name), text_of(f"{name}.pt")
    assert commands_in(english) == commands_in(portuguese)
    assert english.count("\n## ") == portuguese.count("\n## ")
    assert english.count("```") == portuguese.count("```")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ELSEWHERE])
def test_each_command_of_the_guides_runs(
    command: str, capsys: pytest.CaptureFixture[str], settings: Any, tmp_path: Path
) -> None:
    """It ends with an exit code of ours, and says something."""
    settings.BACKUP_DIR, settings.LOG_DIR = tmp_path, str(tmp_path)
    (tmp_path / "combined.log").write_text("")
    _program, name, *arguments = shlex.split(command)
    code, sentence = 0, ""
    try:
        call_command(name, *arguments)
    except CommandError as fault:
        code, sentence = fault.returncode, str(fault)
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    assert code in (0, 1, 2)
    assert printed.out or printed.err or sentence


def test_what_others_run_is_run_there() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
    for command, where in ELSEWHERE.items():
        path, _, word = where.partition(":")
        assert word in (PROJECT / path).read_text(encoding="utf-8"), command


@pytest.mark.parametrize("command", sorted(set(ITEMS)))
def test_each_command_of_checklists_and_training_exists(command: str) -> None:
    words = [word for word in shlex.split(command)[1:] if not re.fullmatch(r"\d+|.+\..+", word)]
    assert is_command(" ".join(without_values(words))), command


def without_values(words: list[str]) -> list[str]:
    """Drop what belongs to an option or names a row."""
    values = {"daily", "weekly", "reason", "24h", "worker", "10m", "1h"}
    return [word for word in words if word not in values]


@pytest.mark.parametrize("name", GUIDES)
def test_each_address_of_a_guide_is_one(name: str) -> None:
    for text in (text_of(name), text_of(f"{name}.pt")):
        for address in re.findall(r"`(/[a-z/]+)`", text):
            resolve(address)


@pytest.mark.parametrize("name", ["user", "operations"])
def test_a_guide_is_a_page_in_the_readers_language(as_viewer: Client, name: str) -> None:
    path = f"/operations/guides/{name}/"
    assert "<h2>" in as_viewer.get(path).content.decode()
    html = as_viewer.get(path, headers={"Accept-Language": "pt-br"}).content.decode()
    assert "<h1>Guia " in html
    assert 'lang="pt-br">' in html
    assert as_viewer.get("/operations/guides/none/").status_code == 404
