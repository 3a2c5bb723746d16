"""The environment of the benchmarks: importing this starts servers with the catalogue in an empty
folder and sets Django up.

Import it before anything that reads Django's settings. The servers end with the process, and the
folder is removed; MYIA_ROOT names another folder, which stays. Nothing else of the environment
influences what is measured.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import django
from django.db import connections

from certification.stack import embedded

FOREIGN = (
    "AWS_",
    "BEDROCK_",
    "CERTIFICATION_",
    "EMULATOR_",
    "DATABASE_",
    "REDIS_",
    "DJANGO_SETTINGS_MODULE",
)
QUEUE = "bench"
PROJECT = Path(__file__).resolve().parents[1]


def leave() -> None:
    """End the servers and remove the folder if it is ours."""
    connections.close_all()
    embedded.discard(ROOT)
    if IS_TEMPORARY:
        shutil.rmtree(ROOT, ignore_errors=True)


IS_TEMPORARY = "MYIA_ROOT" not in os.environ
ROOT = Path(tempfile.mkdtemp(prefix="myia-bench-") if IS_TEMPORARY else os.environ["MYIA_ROOT"])
ROOT.mkdir(parents=True, exist_ok=True)
# Exists in folders that a benchmark created: only there may what is stored be replaced.
MARK = ROOT / ".myia" / "bench"
is_new = not (ROOT / ".myia" / "postgres").exists()
for name in list(os.environ):
    if name.startswith(FOREIGN):
        del os.environ[name]
os.environ |= {
    "MYIA_ROOT": str(ROOT),
    "BEDROCK_BACKEND": "emulator",
    "CERTIFICATION_QUEUE_NAME": QUEUE,
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "WARNING",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "DJANGO_SETTINGS_MODULE": "myia.settings",
}
try:
    embedded.ensure(ROOT)
except embedded.EmbeddedError as error:
    sys.exit(str(error))
if is_new:
    MARK.touch()
atexit.register(leave)
# so that what was started ends, too
signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
django.setup()
