"""The versions stored with each run: a number for people, and a digest of the suite and the policy.

`scripts/versions.py` writes them; a test fails when they do not fit the code.
"""

from __future__ import annotations

from collections.abc import Iterable

from certification.suite import custom

SUITE_VERSION = "1-dea426c02447"  # what is asked and how it is graded: suite_digest.py
POLICY_VERSION = "1-5f575db1130f"  # how a run is planned and judged: policy_digest.py


def suite_version_with(specs: Iterable[custom.Spec]) -> str:
    """Return the suite's version including operators' own cases."""
    mark = custom.fingerprint(specs)
    return f"{SUITE_VERSION}+{mark}" if mark else SUITE_VERSION
