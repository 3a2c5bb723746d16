"""A caller of the JSON API, as the frontends are: literal paths, a token in the header, the
envelope checked every time.
"""

from __future__ import annotations

import json
from typing import Any

from django.test import Client
from django.test.utils import CaptureQueriesContext

from certification.api import tokens
from certification.models import User

__all__ = ["Api", "CaptureQueriesContext"]


class Api:
    """Calls below /api/. Every answer's envelope, request id and content type are checked on the
    way.
    """

    def __init__(self, user: User | None = None, credential: str = "") -> None:
        token = credential or (tokens.issue(user) if user else "")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = Client(raise_request_exception=False)

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        return self.call("GET", path, status=status, **headers)

    def post(self, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        return self.call("POST", path, body, status=status, **headers)

    def put(self, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        return self.call("PUT", path, body, status=status, **headers)

    def delete(self, path: str, status: int = 200, **headers: str) -> Any:
        return self.call("DELETE", path, status=status, **headers)

    def call(self, method: str, path: str, body: Any = None, *, status: int, **headers: str) -> Any:
        """The answer's `data`, or the whole body of a refusal. `headers` names use underscores for
        dashes.
        """
        sent = {
            **self.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        data = body if isinstance(body, str | bytes) else "" if body is None else json.dumps(body)
        self.response = self.client.generic(
            method, f"/api/{path}", data, "application/json", headers=sent
        )
        assert self.response.status_code == status, self.response.content[:2000]
        return enveloped(self.response)


def enveloped(response: Any) -> Any:
    """The data of a success, the body of a refusal; whatever it is, in its envelope."""
    assert response["X-Request-Id"]
    if response.status_code in (204, 304):
        assert response.content == b""
        return None
    assert response["Content-Type"] == "application/json"
    body = response.json()
    if response.status_code < 400:
        assert body.keys() == {"status", "data"}
        assert body["status"] == "success"
        return body["data"]
    assert body["code"] == response.status_code
    assert body["message"].strip().endswith((".", ")", "…")) or ": " in body["message"]
    if response.status_code < 500:
        assert body.keys() == {"status", "message", "code", "errorCode", "data"}
        assert body["status"] == "fail"
        assert body["errorCode"].replace("_", "").isalnum()
    else:
        assert body.keys() == {"status", "message", "code", "requestId"}
        assert body["status"] == "error"
        assert body["requestId"] == response["X-Request-Id"]
    return body
