"""Folders that tests read."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
RECORDINGS = PROJECT.parent / "shared" / "recordings"
