"""Look the locked packages up among known vulnerabilities: `make audit`.

Exit code 1 for a vulnerability. Without access to advisories it says so, and how many packages are
therefore unchecked, and ends with 0: a machine without network shall still be able to test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements/base.txt", "requirements/dev.txt")
TIMEOUT_S = 300


def audit() -> list[dict[str, Any]] | None:
    """Return pip-audit's entry for each locked package; None when it did not come to an end."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    for lock in LOCKS:
        command += ["--requirement", str(PROJECT / lock)]
    try:
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        dependencies: list[dict[str, Any]] = json.loads(result.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return dependencies


def report(dependencies: list[dict[str, Any]] | None, day: str) -> tuple[str, int]:
    """Return the sentences to print and the exit code; `day` is when the advisories were read."""
    audited = [entry for entry in dependencies or () if "skip_reason" not in entry]
    if not dependencies or not audited:
        return (
            f"WARNING: no advisories could be read on {day}, so no locked package was checked for "
            "known vulnerabilities. Run `make audit` again where the advisories can be reached.",
            0,
        )
    lines = [
        f"{entry['name']} {entry['version']}: {fault['id']}, fixed in "
        f"{', '.join(fault.get('fix_versions', ())) or 'no version yet'}"
        for entry in audited
        for fault in entry["vulns"]
    ]
    unchecked = sorted({e["name"] for e in dependencies if "skip_reason" in e})
    if unchecked:
        lines.append(f"WARNING: not among the advisories, unchecked: {', '.join(unchecked)}")
    vulnerable = sum(bool(entry["vulns"]) for entry in audited)
    lines.append(
        f"{len(audited)} locked packages checked against the advisories of {day}: "
        f"{vulnerable} with known vulnerabilities."
    )
    return "\n".join(lines), 1 if vulnerable else 0


def main() -> int:
    text, code = report(audit(), datetime.now(UTC).date().isoformat())
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
