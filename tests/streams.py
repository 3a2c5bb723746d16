"""A listener to server-sent events over a real socket, and the web server as in production."""

from __future__ import annotations

import http.client
import json
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import connection

from certification.stack import programs
from certification.stack.processes import Processes
from tests import database

PATIENCE_S = 30


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: Any


class Listener:
    """One open stream, or the refusal of one."""

    opened: ClassVar[list[Listener]] = []

    def __init__(self, port: int, path: str, token: str = "", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        self.connection.request("GET", path, headers=sent)
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.opened.append(self)
        self.comments = 0
        self.retry_ms = 0

    def next(self) -> Event | None:
        """The next event; None when the stream is over."""
        name = last_id = data = ""
        deadline = time.monotonic() + PATIENCE_S
        while line := self.response.readline().decode():
            assert time.monotonic() < deadline, "Nothing but signs of life."
            field, _colon, value = line.rstrip("\n").partition(": ")
            match field:
                case "event":
                    name = value
                case "id":
                    last_id = value
                case "data":
                    data = value
                case "retry":
                    self.retry_ms = int(value)
                case "" if line != "\n":
                    self.comments += 1
                case "" if name:
                    return Event(name, last_id, json.loads(data))
        return None

    def until(self, name: str) -> list[Event]:
        """The events up to the first of this name."""
        events: list[Event] = []
        while not events or events[-1].name != name:
            event = self.next()
            assert event is not None, f"The stream ended before {name}: {events}"
            events.append(event)
        return events

    def rest(self) -> list[Event]:
        events = []
        while event := self.next():
            events.append(event)
        return events

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Web:
    """The web server of the stack, on the tests' own database."""

    def __init__(self, port: int, log: Path, workers: int = 2, **environment: str) -> None:
        self.port, self.log = port, log
        env = {
            "DATABASE_URL": database.url(connection.settings_dict["NAME"]),
            "REDIS_URL": settings.REDIS_URL,
            "SECRET_KEY": settings.SECRET_KEY,
            **environment,
        }
        program = replace(programs.web(port, workers), name=log.stem)
        self.process = Processes(log.parent, env).start(program)
        self._until_it_answers()

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.get("/api/auth/me")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self.log.read_text())

    def get(self, path: str, token: str = "") -> tuple[int, Any]:
        """One ordinary request on a connection of its own: status and body."""
        listener = Listener(self.port, path, token)
        try:
            return listener.status, json.loads(listener.response.read() or "null")
        finally:
            listener.close()

    def workers(self) -> list[int]:
        """The process ids of the web processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> float:
        """SIGTERM. The seconds until everything was over."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)
        return time.monotonic() - began
