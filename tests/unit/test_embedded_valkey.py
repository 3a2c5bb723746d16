"""The start of the embedded Valkey, with its program and its socket replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from certification.stack.embedded import valkey
from certification.stack.embedded.errors import EmbeddedError


def test_a_server_that_ends_while_it_reads_its_data_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".myia" / "valkey"
    folder.mkdir(parents=True)
    log = folder / "valkey.log"
    log.write_text("Fatal error of an earlier start\n")

    def send(*_: Any) -> bytes:
        """Answer once that data are read; the server ends right after that."""
        with log.open("a") as file:
            file.write("Bad file format reading the append only file\n")
        monkeypatch.setattr(valkey, "send", lambda *_: b"")
        return b"+OK\r\n-LOADING Valkey is loading the dataset in memory\r\n"

    monkeypatch.setattr(valkey, "run", lambda *_: (0, ""))
    monkeypatch.setattr(valkey, "send", send)
    monkeypatch.setattr(valkey, "wait_until", without_waiting)
    with pytest.raises(EmbeddedError, match="Bad file format"):
        valkey.launch(tmp_path, "valkey-server", {})  # type: ignore[typeddict-item]


def without_waiting(condition: Any, *_: Any, **__: Any) -> None:
    """Ask three times, as `wait_until` does in 60 ms."""
    assert any(condition() for _ in range(3)), "never ready"
