"""Packages against the lock file, advisories and newer releases, whatever others answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from packaging.requirements import Requirement

from certification.operations import packages
from certification.operations.packages import Difference, Outdated, Unchecked, Vulnerability

Answers = Callable[[dict[str, Any]], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Have a module of Python print this; nothing stands for one without network."""

    def set_answers(texts: dict[str, Any]) -> None:
        def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
            answer = texts.get(command[2], "")
            text = answer if isinstance(answer, str) else json.dumps(answer)
            return subprocess.CompletedProcess(command, 1, text, "")

        monkeypatch.setattr(packages.subprocess, "run", run)

    return set_answers


def test_a_lock_file_names_versions_of_what_this_machine_needs(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "# made by uv\n"
        "Some_Package==1.0 \\\n    --hash=sha256:00\n"
        "psycopg[binary]==3.2 ; python_version >= '3.8' \\\n"
        "old==0.1 ; python_version < '3.0'\n"
    )
    assert packages.locked(lock) == {"some-package": "1.0", "psycopg": "3.2"}
    present = {"some-package": "1.1"}
    assert packages.differences(packages.locked(lock), present) == [
        Difference("psycopg", "3.2", ""),
        Difference("some-package", "1.0", "1.1"),
    ]
    with pytest.raises(Unchecked, match="cannot be read"):
        packages.locked(tmp_path / "none")


def test_our_lock_file_is_read() -> None:
    lock = packages.locked()
    assert {"django", "celery", "psycopg"} <= lock.keys()
    assert packages.differences(lock, packages.installed()) == []


AUDIT = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2", "3"]}]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not there"},
        {"name": "d", "version": "1", "vulns": ["x", {"id": None, "fix_versions": 3}]},
        "nonsense",
    ]
}


def test_advisories_of_any_shape_are_read(answers: Answers) -> None:
    answers({"pip_audit": AUDIT})
    entries = packages.advisories()
    assert list(packages.vulnerabilities(entries)) == [
        Vulnerability("a", "1", "CVE-1", ("2", "3")),
        Vulnerability("d", "1", "None", ()),
    ]
    assert packages.not_audited(entries) == ["c"]


@pytest.mark.parametrize("answer", ["", "no json", [], {"dependencies": 3}, {"dependencies": [{}]}])
def test_without_an_answer_nothing_is_checked(answers: Answers, answer: Any) -> None:
    answers({"pip_audit": answer, "pip": answer or {}})
    with pytest.raises(Unchecked):
        packages.advisories()


def test_a_newer_release_says_who_does_not_take_it(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = [
        ("kombu", Requirement("redis<6,>=4")),
        ("rq", Requirement("Redis")),
        ("x", Requirement("y")),
    ]
    monkeypatch.setattr(packages, "requirements", lambda: iter(needs))
    row = {"name": "redis", "version": "5.0", "latest_version": "6.1"}
    answers({"pip": [row, {"name": "other", "version": "1", "latest_version": "2"}, 7, {}]})
    assert packages.outdated(["redis"]) == [
        Outdated("redis", "5.0", "6.1", ("kombu requires <6,>=4",))
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = 0
    try:
        call_command("dependencies", "--json", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_the_command_ends_with_what_it_found(
    answers: Answers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers({})
    code, report = run(capsys)
    assert (code, sorted(report["unchecked"])) == (2, ["newer releases", "vulnerabilities"])
    code, report = run(capsys, "--offline")
    assert (code, report["unchecked"], report["different"]) == (0, {}, [])
    answers({"pip_audit": AUDIT, "pip": []})
    code, report = run(capsys)
    assert (code, [row["package"] for row in report["vulnerable"]]) == (1, ["a", "d"])
    monkeypatch.setattr(packages, "installed", dict)
    code, report = run(capsys, "--offline")
    assert (code, len(report["different"])) == (1, report["locked"])
