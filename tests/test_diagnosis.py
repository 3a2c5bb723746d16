"""What AWS says, wrapped in what others make of it, comes out with its true cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certification.bedrock.diagnosis import diagnose

GIVEN = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "bedrock_errors.jsonl"


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.skipif(not GIVEN.exists(), reason="the collected messages are not beside this checkout")
def test_every_given_message_gets_its_true_category():
    wrong = [
        (row["category"], told.category.value, row["message"])
        for row in rows(GIVEN)
        if (told := diagnose(row["message"], row.get("code"), row.get("http_status"), row.get("operation"))).category
        != row["category"]
    ]
    assert wrong == []
