"""A service that answers with hostile text, through the whole stack: no run is lost, and nothing
that acts or is markup reaches a terminal, a page, the API, a badge or a webhook.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

import pytest
from django.core.management import call_command
from django.test import Client

from certification.engine import backend, calls, dispatch, queue, runner, sync
from certification.engine.worker import get_worker, reset_worker
from certification.lib import foreign_text
from certification.management import terminal
from certification.models import (
    AIModel,
    CertificationRun,
    User,
    WebhookDelivery,
    WebhookEvent,
    WebhookSubscription,
)
from tests.api import Api
from tests.factories import start_job

NOVA = "amazon.nova-lite-v1:0"
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066\u200b\ud83d\0\r\nFAKE 2026-01-01 certified "
    "[/red][link=file:///etc/passwd]x[/link] =cmd|' /C calc'!A0 '\"><script>fuzz()</script>{{7*7}}"
)
TEXT = json.dumps(HOSTILE)
CONTENT = {"role": "assistant", "content": [{"text": HOSTILE}, {"toolUse": {
    "toolUseId": HOSTILE, "name": HOSTILE, "input": {HOSTILE: HOSTILE}}}]}  # fmt: skip
ANSWERS: dict[str, tuple[int, bytes]] = {
    "refusal": (400, f'{{"message": {TEXT}, "__type": {TEXT}, "code": {TEXT}}}'.encode()),
    "denial": (403, f'{{"Message": {TEXT}}}'.encode()),
    "page": (404, b"<html><script>fuzz()</script>\x1b[2J\xff\x9b</html>"),
    "answer": (
        200,
        json.dumps(
            {"output": {"message": CONTENT}, "stopReason": HOSTILE,
             "usage": {"inputTokens": 1, "outputTokens": 1}, "metrics": {"latencyMs": 1}}
        ).encode(),
    ),
    "deep": (200, b"[" * 50_000),
}  # fmt: skip
LISTING = {
    "modelSummaries": [
        {"modelId": HOSTILE, "modelName": "x"},
        {"modelId": "x" * 201, "modelName": "x"},
        {"modelId": "evil.model-v1:0", "modelName": HOSTILE, "providerName": HOSTILE,
         "inputModalities": ["TEXT"], "outputModalities": ["TEXT"],
         "inferenceTypesSupported": ["ON_DEMAND"]},
    ],
    "inferenceProfileSummaries": [],
}  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer = ANSWERS["refusal"]

    def reply(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_listing = self.path.startswith(("/foundation-models", "/inference-profiles"))
        status, body = (200, json.dumps(LISTING).encode()) if is_listing else type(self).answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("x-amzn-RequestId", "\x1b[31m\x9b<script>fuzz()</script>")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = reply

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def service(catalogue: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    settings.BEDROCK_ENDPOINT_URL = f"http://127.0.0.1:{server.server_port}"
    settings.CERTIFICATION_MAX_RETRIES = 0
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    monkeypatch.setattr(calls, "BACKOFF_S", (0.0,))
    reset_worker()
    yield Service
    reset_worker()
    backend.name.cache_clear()
    server.shutdown()
    thread.join()
    server.server_close()


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from (name, *texts(member))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def is_clean(text: str) -> bool:
    return not foreign_text.UNSAFE.search(text)


def certify() -> CertificationRun:
    model = AIModel.objects.get(api_model_id=NOVA)
    run = start_job([model], ["us-east-1"]).runs.get()
    assert runner.run(run.pk, get_worker())
    return CertificationRun.objects.select_related("job", "model").get(pk=run.pk)


@pytest.mark.parametrize("name", ANSWERS)
def test_hostile_answers_reach_nobody(
    service: type[Service], viewer: User, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    WebhookSubscription.objects.create(url="https://example.org/", events=WebhookEvent.values)
    service.answer = ANSWERS[name]
    run = certify()
    assert run.is_finished

    capsys.readouterr()
    call_command("job", "show", str(run.job_id))
    call_command("job", "show", str(run.job_id), "--json")
    terminal.console().print(terminal.diagnoses([run]))
    assert is_clean(capsys.readouterr().out)

    client = Client()
    client.force_login(viewer)
    pages = ["/", "/matrix/", f"/jobs/{run.job_id}/", f"/runs/{run.pk}/"]
    pages.append(f"/certifications/{run.model_id}/us-east-1/")
    for address in pages:
        html = client.get(address).content.decode()
        assert "<script>fuzz" not in html, address
        assert is_clean(html), address

    api = Api(viewer)
    address = f"certification-queue/certifications/{run.model_id}:us-east-1"
    for path in (address, f"certification-queue/jobs/{run.job_id}"):
        assert all(map(is_clean, texts(api.get(path)))), path
    badge = client.get(f"/badges/{NOVA}/us-east-1.svg").content
    ElementTree.fromstring(badge)
    assert is_clean(badge.decode())
    payloads = list(WebhookDelivery.objects.values_list("payload", flat=True))
    assert payloads
    assert all(map(is_clean, texts(payloads)))
    trials = list(run.results.values_list("trials", "sentence"))
    assert all(map(is_clean, texts(json.loads(json.dumps(trials)))))


def test_hostile_listings_reach_nobody(
    service: type[Service], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = sync.apply([sync.fetch_listing(get_worker().bedrock, "us-east-1")])
    assert all(is_clean(str(problem)) for problem in changes.problems)
    [model_id] = changes.new_models
    model = AIModel.objects.get(api_model_id=model_id)
    assert model_id == "evil.model-v1:0"
    assert all(map(is_clean, (model.name, model.vendor)))
    call_command("list_uncertified", "--all")
    assert is_clean(capsys.readouterr().out)
    assert dispatch.find_models([model_id]) == [model]
