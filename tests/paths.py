"""Folders that tests read."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
# Everything that tests store; MYIA_TEST_ROOT moves it, so that two test runs can share a machine.
TEST_ROOT = Path(os.environ.get("MYIA_TEST_ROOT", PROJECT / ".myia" / "test"))
RECORDINGS = PROJECT.parent / "shared" / "recordings"
