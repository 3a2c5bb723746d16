"""The packages that we run with: against the lock file, known vulnerabilities, and newer releases.

Knows no Django, so that `make audit` needs none. What is asked of others (advisories, newer
releases) goes through pip and pip-audit, in processes of their own; without network they say so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PROJECT = Path(__file__).resolve().parents[2]
LOCK = PROJECT / "requirements" / "base.txt"
TIMEOUT_S, ASK_S = 120, 10  # for all; for one answer of the network
LOCKED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^\s;\\]+)\s*(?:;\s*([^\\]*))?")


class Unchecked(Exception):
    """Something could not be looked at; the text says why and what to do."""


@dataclass(frozen=True)
class Vulnerability:
    """A known fault of a package in the version that is locked; `fixed_in` may be empty."""

    package: str
    version: str
    id: str
    fixed_in: tuple[str, ...]

    @property
    def sentence(self) -> str:
        fixed = ", ".join(self.fixed_in) or "no version yet"
        return f"{self.package} {self.version}: {self.id}, fixed in {fixed}"


@dataclass(frozen=True)
class Outdated:
    """A package with a newer release. `breaks`: which installed packages do not take that one."""

    package: str
    version: str
    latest: str
    breaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A package that is not installed as it is locked; `installed` is "" where it is missing."""

    package: str
    locked: str
    installed: str


def locked(path: Path = LOCK) -> dict[str, str]:
    """Return the versions that a lock file names, of the packages that this machine needs. Raises
    Unchecked where it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise Unchecked(f"The lock file {path} cannot be read: {reason}.") from None
    return {
        canonicalize_name(match[1]): match[2]
        for line in lines
        if (match := LOCKED.match(line)) and is_needed(match[1], match[3])
    }


def is_needed(name: str, marker: str | None) -> bool:
    try:
        condition = Requirement(f"{name}; {marker}").marker if marker and marker.strip() else None
    except InvalidRequirement:
        return True
    return condition is None or condition.evaluate()


def installed() -> dict[str, str]:
    """Return the versions of the packages that this Python imports."""
    rows = ((each.metadata["Name"], each.version) for each in metadata.distributions())
    return {canonicalize_name(name): version for name, version in rows if name}


def differences(lock: Mapping[str, str], present: Mapping[str, str]) -> list[Difference]:
    """Return what is missing or has another version than the lock file says."""
    return [
        Difference(name, version, present.get(name, ""))
        for name, version in sorted(lock.items())
        if present.get(name) != version
    ]


def advisories(locks: Sequence[Path] = (LOCK,)) -> list[Mapping[str, Any]]:
    """Return pip-audit's entry for each locked package. Raises Unchecked where no advisory could be
    read.
    """
    if find_spec("pip_audit") is None:
        raise Unchecked("pip-audit is not installed. Install it: pip install pip-audit")
    arguments = ["pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    arguments += ["--progress-spinner", "off", "--timeout", str(ASK_S)]
    for lock in locks:
        arguments += ["--requirement", str(lock)]
    document = run(arguments)
    entries = document.get("dependencies") if isinstance(document, dict) else None
    rows: list[Mapping[str, Any]] = [
        row for row in (entries if isinstance(entries, list) else ()) if isinstance(row, dict)
    ]
    if not any(isinstance(row.get("vulns"), list) for row in rows):
        raise Unchecked("No advisories could be read. Ask again where they can be reached.")
    return rows


def vulnerabilities(entries: Iterable[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    """Yield each known fault of pip-audit's entries, whatever their shape."""
    for entry in entries:
        faults = entry.get("vulns")
        for fault in faults if isinstance(faults, list) else ():
            if isinstance(fault, dict):
                fixed = fault.get("fix_versions")
                versions = map(str, fixed) if isinstance(fixed, list) else ()
                yield Vulnerability(
                    str(entry.get("name")),
                    str(entry.get("version")),
                    str(fault.get("id")),
                    tuple(versions),
                )


def not_audited(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the packages that the advisories do not know."""
    return sorted({str(row.get("name")) for row in entries if "skip_reason" in row})


def outdated(names: Iterable[str]) -> list[Outdated]:
    """Return which of these packages have a newer release, by pip's own index. Raises Unchecked."""
    if find_spec("pip") is None:
        raise Unchecked("pip is not installed here. Install it: python -m ensurepip")
    arguments = ["pip", "list", "--outdated", "--format", "json", "--disable-pip-version-check"]
    document = run([*arguments, "--no-input", "--retries", "0", "--timeout", str(ASK_S)])
    if not isinstance(document, list):
        raise Unchecked("pip did not answer with a list of packages.")
    chosen, needs = set(names), list(requirements())
    rows = []
    for row in document:
        values = row if isinstance(row, dict) else {}
        name, version, latest = (values.get(k) for k in ("name", "version", "latest_version"))
        if isinstance(name, str) and isinstance(version, str) and isinstance(latest, str):
            package = canonicalize_name(name)
            if package in chosen:
                rows.append(Outdated(package, version, latest, breaking(package, latest, needs)))
    return rows


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Yield what each installed package requires, with its name."""
    for distribution in metadata.distributions():
        for text in distribution.requires or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield str(distribution.metadata["Name"]), requirement


def breaking(
    package: str, latest: str, needs: Iterable[tuple[str, Requirement]]
) -> tuple[str, ...]:
    """Return which packages do not take this version of another one, with what they take."""
    try:
        version = Version(latest)
    except InvalidVersion:
        return ()
    return tuple(
        f"{by} requires {requirement.specifier}"
        for by, requirement in needs
        if canonicalize_name(requirement.name) == package
        and not requirement.specifier.contains(version, prereleases=True)
    )


def run(arguments: Sequence[str]) -> Any:
    """Run a module of this Python and return the JSON that it prints, whatever its exit code.
    Raises Unchecked.
    """
    try:
        result = subprocess.run(  # noqa: S603 - a module of our own Python
            [sys.executable, "-m", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return json.loads(result.stdout)
    except subprocess.TimeoutExpired:
        raise Unchecked(f"{arguments[0]} did not end within {TIMEOUT_S} s.") from None
    except (ValueError, RecursionError, OSError):
        raise Unchecked(
            f"{arguments[0]} could not ask its servers. Ask again where they can be reached."
        ) from None
