"""Look the locked packages up among known vulnerabilities: `make audit`.

Exit code 1 for a vulnerability. Without access to advisories it says so, and how many packages are
therefore unchecked, and ends with 0: a machine without network shall still be able to test.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from certification.operations import packages  # noqa: E402

LOCKS = [PROJECT / "requirements" / name for name in ("base.txt", "dev.txt")]


def report(entries: Sequence[Mapping[str, Any]], day: str) -> tuple[str, int]:
    """Return the sentences to print and the exit code; `day` is when the advisories were read."""
    skipped = packages.not_audited(entries)
    if len(skipped) == len(entries):
        return (
            f"WARNING: no advisories could be read on {day}, so no locked package was checked for "
            "known vulnerabilities. Run `make audit` again where the advisories can be reached.",
            0,
        )
    faults = list(packages.vulnerabilities(entries))
    lines = [fault.sentence for fault in faults]
    if skipped:
        lines.append(f"WARNING: not among the advisories, unchecked: {', '.join(skipped)}")
    lines.append(
        f"{len(entries) - len(skipped)} locked packages checked against the advisories of {day}: "
        f"{len({fault.package for fault in faults})} with known vulnerabilities."
    )
    return "\n".join(lines), 1 if faults else 0


def main() -> int:
    try:
        entries = packages.advisories(LOCKS)
    except packages.Unchecked:
        entries = []
    text, code = report(entries, datetime.now(UTC).date().isoformat())
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
