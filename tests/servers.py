"""A pytest plugin: the tests' own PostgreSQL and Valkey, up before Django reads its settings, down when the tests end.

MYIA_TEST_ROOT moves them to another folder, so that two test runs can share a machine.
"""

from __future__ import annotations

import os
from pathlib import Path

from certification.ops import embedded

PROJECT = Path(__file__).resolve().parent.parent
ROOT = Path(os.environ.get("MYIA_TEST_ROOT", PROJECT / ".myia" / "test"))

for name in list(os.environ):
    # Nothing of the developer's own environment may decide what a test sees.
    if name.startswith(("AWS_", "BEDROCK_", "CERTIFICATION_", "EMULATOR_", "DATABASE_URL", "REDIS_")):
        del os.environ[name]
os.environ |= {
    "MYIA_ROOT": str(ROOT),
    "BEDROCK_BACKEND": "emulator",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "LOG_FORMAT": "json",
}
ROOT.mkdir(parents=True, exist_ok=True)
embedded.ensure(ROOT)


def pytest_unconfigure() -> None:
    embedded.stop(ROOT)
