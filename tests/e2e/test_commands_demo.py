"""`manage.py demo`: everything from nothing, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certification.management.commands import demo
from certification.models import CertificationJob, State
from certification.stack import embedded
from tests.integration.test_commands_jobs import job
from tests.paths import PROJECT

pytestmark = pytest.mark.processes


def test_the_demo_runs_from_nothing_alone_and_leaves_nothing_running(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    inherited = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("AWS_", "BEDROCK_", "CERTIFICATION_", "DATABASE_"))
    }
    environment = inherited | {
        "MYIA_ROOT": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "myia.settings",
    }
    command = [sys.executable, "manage.py", "demo", "--regions", "sa-east-1", "--time-scale", "0"]
    try:
        with subprocess.Popen(
            [*command, "--json"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as first:
            # the demo prints its progress on standard error where standard output is JSON
            assert first.stderr
            next(line for line in first.stderr if "recorded latencies" in line)
            first.send_signal(signal.SIGSTOP)  # so that it does not end meanwhile
            second = subprocess.run(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert first.poll() is None
            first.send_signal(signal.SIGCONT)
            output, errors = first.communicate(timeout=300)
        assert second.returncode == 1
        assert second.stderr.startswith("CommandError: A demo is already running here.")
        assert second.stdout == ""
        assert first.returncode == 0, errors
        assert "Traceback" not in errors
        report = json.loads(output)
        assert report["status"] == "COMPLETED"
        assert report["backend"] == "emulator"
        assert len(report["runs"]) == sum(report["verdicts"].values()) > 30
        assert report["verdicts"]["certified"] > 10
        assert not embedded.running(tmp_path, redis=False)
        assert not embedded.running(tmp_path, database=False)
        assert not processes_of(tmp_path)
    finally:
        embedded.discard(tmp_path)


def processes_of(root: Path) -> list[bytes]:
    """Command lines of the processes of the installation at `root`."""
    commands = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MYIA_ROOT={root}\0".encode() in entry.read_bytes():
                commands.append((entry.parent / "cmdline").read_bytes())
        except OSError:
            continue
    return commands


@pytest.mark.django_db
def test_the_demo_cancels_the_job_of_a_killed_demo_and_no_other(
    catalogue: None, settings: Any
) -> None:
    settings.CERTIFICATION_QUEUE_NAME = "demo-9"  # nobody listens at port 9
    left = job("amazon.nova-lite-v1:0")
    settings.CERTIFICATION_QUEUE_NAME = "model-certification"
    other = job("amazon.nova-pro-v1:0")
    demo.cancel_abandoned_demos()
    states = dict(CertificationJob.objects.values_list("pk", "status"))
    assert states[left.pk] == State.CANCELLED
    assert states[other.pk] in (State.PENDING, State.QUEUED)
