"""Other programs that make the same calls, measured in the same run: aiobotocore, and BullMQ with
the JavaScript SDK.

Each has an environment of its own, made at its first use in a folder of the benchmarks. Where that
cannot be (no network, no Node), the peer is left out with the reason.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.connection

from bench.boto3_baseline import MODEL
from bench.environment import ROOT
from certification.stack import embedded

HERE = Path(__file__).parent
PATIENCE_S = 300


class Missing(Exception):
    """A peer cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Peer:
    """`prepare` returns the command that makes the calls. Raises Missing."""

    name: str
    prepare: Callable[[], list[str]]


def aiobotocore() -> list[str]:
    """Return the command of aiobotocore, in a virtual environment."""
    folder = ROOT / "peers" / "aiobotocore"
    python = folder / "bin" / "python"
    requirements = (HERE / "requirements.txt").read_text()
    if not is_prepared(folder, requirements):
        venv.create(folder, with_pip=True, clear=True)
        install([str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")])
        (folder / "prepared").write_text(requirements)
    return [str(python), str(HERE / "aiobotocore_calls.py")]


def bullmq() -> list[str]:
    """Return the command of BullMQ with the JavaScript SDK."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise Missing("Node is not installed")
    folder = ROOT / "peers" / "bullmq"
    requirements = (HERE / "package.json").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    if not is_prepared(folder, requirements):
        (folder / "package.json").write_text(requirements)
        install([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder)])
        (folder / "prepared").write_text(requirements)
    shutil.copy(HERE / "bullmq.mjs", folder)  # Node looks for packages beside the script
    return [node, str(folder / "bullmq.mjs")]


def is_prepared(folder: Path, requirements: str) -> bool:
    mark = folder / "prepared"
    return mark.is_file() and mark.read_text() == requirements


def install(command: Sequence[str]) -> None:
    """Run an installation. Raises Missing when it fails."""
    print(f"Installing once: {' '.join(command)}", file=sys.stderr)
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise Missing(f"it cannot be installed here ({type(error).__name__})") from error


PEERS = (Peer("aiobotocore", aiobotocore), Peer("BullMQ + JS SDK", bullmq))


def redis_address() -> dict[str, Any]:
    """Return where our Redis is, in the words that ioredis shares with redis-py: path or host and
    port, password, db.
    """
    parts = redis.connection.parse_url(embedded.urls(ROOT).redis_url)
    return {name: value for name, value in parts.items() if isinstance(value, str | int)}


def measure(
    command: Sequence[str], url: str, in_flight: int, texts: Sequence[str]
) -> dict[str, float]:
    """Have a peer make a call with each text. Returns seconds, cpuSeconds and calls."""
    options = {
        "url": url,
        "inFlight": in_flight,
        "texts": list(texts),
        "model": MODEL,
        "redis": redis_address(),
    }
    done = subprocess.run(
        command,
        input=json.dumps(options),
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result
