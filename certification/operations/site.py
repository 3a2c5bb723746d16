"""Ask an installation over HTTP, as its users do: what it answers is data of any shape."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from django.core.management.base import CommandError
from urllib3.exceptions import HTTPError

from certification.lib import foreign_text

CONNECT_S, ANSWER_S = 1.0, 5.0
MAX_BODY = 2_000_000  # bytes of an answer; the rest is not read


class NotAnswered(Exception):
    """There was no answer that can be used; the text says why, without the address."""


@dataclass(frozen=True)
class Answer:
    """A response; names of `headers` are in lower case."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return foreign_text.clean(self.body.decode(errors="replace"))

    def json(self) -> Any:
        """Return the body as JSON. Raises NotAnswered."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise NotAnswered(f"It answered {self.status} with a body that is no JSON.") from None


class Site:
    """An installation at an address; `key` is an API key, sent with the calls that ask for it."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url, self.key = checked(url), key
        self._pool = urllib3.PoolManager(retries=False)

    def get(self, path: str, *, signed: bool = False, answer_s: float = ANSWER_S) -> Answer:
        return self.call("GET", path, signed=signed, answer_s=answer_s)

    def post(self, path: str, body: Any) -> Answer:
        return self.call("POST", path, json.dumps(body).encode(), signed=True)

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        signed: bool = False,
        answer_s: float = ANSWER_S,
    ) -> Answer:
        """Call once, within `answer_s`. Follows no redirect. Raises NotAnswered."""
        headers = {"User-Agent": "MyIA-Certification-Tools/1"}
        if body:
            headers["Content-Type"] = "application/json"
        if signed and self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        deadline = time.monotonic() + answer_s
        try:
            with contextlib.closing(
                self._pool.request(
                    method,
                    self.url + path,
                    body=body or None,
                    headers=headers,
                    redirect=False,
                    preload_content=False,
                    timeout=urllib3.Timeout(connect=CONNECT_S, read=answer_s),
                )
            ) as response:
                data = b""
                for part in response.stream(65_536):
                    data += part
                    if len(data) > MAX_BODY or time.monotonic() > deadline:
                        raise NotAnswered("Its answer did not end.")
                content_type = response.headers.get("Content-Type", "")
                names = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, content_type.partition(";")[0].strip(), data, names)
        except (HTTPError, OSError, ValueError) as error:
            raise NotAnswered(f"It does not answer ({type(error).__name__}).") from None


def checked(url: str) -> str:
    """Return an address of http or https without a slash at its end. Raises CommandError, which
    does not repeat it: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_plain = not (parts.username or parts.password or parts.query or parts.fragment)
        parts.port  # noqa: B018 - raises for an invalid port
    except ValueError:
        is_usable = is_plain = False
    if not is_usable or not is_plain or not url.isprintable():
        raise CommandError(
            "--url is an address such as https://certification.example.org, without user, password "
            "and query."
        )
    return url.rstrip("/")
