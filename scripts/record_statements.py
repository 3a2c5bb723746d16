"""Record what this release sends to the database into tests/data: `make statements`.

Run it when a release is cut, on that release, and commit the file with it. From then on every
migration is held to it (tests/integration/test_release_before.py).
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# tests that make web server, workers and routines send all that they send
FILES = (
    *("dispatch", "reconcile", "run_events", "saved_views", "login", "jobs_page", "matrix_page"),
    *("run_page", "certification_page", "pauses", "routines", "cleanup", "change_feed"),
    *("api_history", "api_jobs", "api_matrix", "api_usable", "operations_page", "webhooks"),
    *("overview_page", "audit", "alerts"),
)

if __name__ == "__main__":
    folder = ROOT / "tests" / "integration"
    files = [str(folder / f"test_{name}.py") for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.release_statements", *files]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)
