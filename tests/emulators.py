"""What the tests of the emulator share: a process of their own, boto3 clients for it, scenarios at
run time.
"""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
US_SONNET = f"us.{SONNET}"
MICRO = "amazon.nova-micro-v1:0"
KEY = "AKIATEST"


CONTROL = {"X-Emulator-Secret": os.environ["EMULATOR_CONTROL_SECRET"]}


class Probe:
    """One emulator under test: clients by service and region, and its own pages."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rsplit(":", 1)[1])
        self._clients: dict[tuple[Any, ...], Any] = {}
        self._session = boto3.Session()

    def client(
        self,
        service: str = "bedrock-runtime",
        region: str = "us-east-1",
        key: str = KEY,
        **config: Any,
    ) -> Any:
        """A boto3 client that tries once and lets every request through as it is."""
        name = (service, region, key, *sorted(config.items()))
        if name not in self._clients:
            options = {
                "retries": {"total_max_attempts": 1},
                "parameter_validation": False,
                **config,
            }
            self._clients[name] = self._session.client(
                service,
                region_name=region,
                endpoint_url=self.url,
                config=Config(**options),
                aws_access_key_id=key,
                aws_secret_access_key="secret",
            )
        return self._clients[name]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def page(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        """Return one of the emulator's own pages, as JSON."""
        request = urllib.request.Request(self.url + path, data=body, headers=CONTROL)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def scenario(self, toml: str) -> None:
        """Use another scenario from now on; counts start over."""
        self.page("/_emulator/scenario", toml.encode())

    def raw(self, data: bytes, timeout: float = 5.0) -> bytes:
        """Send raw bytes; return what comes until the connection closes or is silent a moment."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            connection.settimeout(0.5)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except TimeoutError:
                pass
            return received


def user_messages(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"text": text}]}]


def call_converse(
    probe: Probe, text: str = "Hello", model: str = MICRO, region: str = "us-east-1", **more: Any
) -> dict[str, Any]:
    return probe.client(region=region).converse(modelId=model, messages=user_messages(text), **more)


def stream(
    probe: Probe, text: str = "Hello", model: str = MICRO, region: str = "us-east-1", **more: Any
) -> list[Any]:
    """Return every event of a ConverseStream call."""
    answer = probe.client(region=region).converse_stream(
        modelId=model, messages=user_messages(text), **more
    )
    return list(answer["stream"])


def text_of(answer: Mapping[str, Any]) -> str:
    return "".join(block.get("text", "") for block in answer["output"]["message"]["content"])


def streamed_text(events: list[Any]) -> str:
    deltas = [
        event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event
    ]
    return "".join(delta.get("text", "") for delta in deltas)


def post(
    body: bytes, path: str = "/model/amazon.nova-micro-v1%3A0/converse", headers: str = ""
) -> bytes:
    """Return a raw signed POST with a length."""
    return head(path, f"Content-Length: {len(body)}\r\n{headers}") + body


def head(path: str, headers: str = "", region: str = "us-east-1") -> bytes:
    credential = (
        f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/{region}/bedrock/aws4_request, "
        "SignedHeaders=host, Signature=0"
    )
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credential}\r\n{headers}\r\n"
    ).encode()
