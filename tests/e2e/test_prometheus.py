"""A real Prometheus scrapes us and evaluates our rules; its Alertmanager notifies a receiver."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from pytest_django.live_server_helper import LiveServer

from certification.models import AIModel, AlertEpisode
from certification.monitoring import prometheus_files, queue_stats
from tests.factories import start_job
from tests.integration.test_web_worker import free_port
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
PROGRAMS = ("prometheus", "prometheus-alertmanager")
SECRET = "a-secret-of-alertmanager-and-nobody-else"


class Page(BaseHTTPRequestHandler):
    """Keeps what Alertmanager says of alerts, as (name, severity, status)."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            labels = alert["labels"]
            server.received.append((labels["alertname"], labels["severity"], alert["status"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.received = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def write_files(folder: Path, web: str, alertmanager: int, receiver: int) -> None:
    """Write our files as they are, but for addresses, and intervals of a second."""
    ours = {"prometheus.yml": (prometheus_files.FOLDER / "prometheus.yml").read_text()}
    documents = {
        name: yaml.safe_load(text)
        for name, text in (ours | prometheus_files.files()).items()
        if name.endswith(".yml")
    }
    scraping = documents["prometheus.yml"]
    scraping["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scraping["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
        f"127.0.0.1:{alertmanager}"
    ]
    scraping["scrape_configs"] = scraping["scrape_configs"][:1]  # the web: no worker runs
    scraping["scrape_configs"][0]["static_configs"][0]["targets"] = [web]
    documents["rules.yml"]["groups"][0]["interval"] = "1s"
    route = documents["alertmanager.yml"]["route"]
    for part in (route, *route["routes"]):
        part.update(group_wait="0s", group_interval="1s")
    secret = folder / "secret"
    secret.write_text(SECRET)
    for target in documents["alertmanager.yml"]["receivers"]:
        people, ourselves = target["webhook_configs"]
        people["url"] = f"http://127.0.0.1:{receiver}/"
        ourselves["url"] = f"http://{web}/maintenance/alerts"
        ourselves["http_config"]["authorization"]["credentials_file"] = str(secret)
    for name, document in documents.items():
        (folder / name).write_text(yaml.safe_dump(document))


@pytest.fixture
def prometheus(
    tmp_path: Path, live_server: LiveServer, receiver: Any, settings: Any
) -> Iterator[None]:
    """Prometheus and Alertmanager, which begin with a queue of no run as too long."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    settings.ALERT_LIMITS = {"queue_waiting": (0.0,)}
    settings.MAINTENANCE_SECRET = SECRET
    ports = {name: free_port() for name in PROGRAMS}
    web = live_server.url.removeprefix("http://")
    write_files(tmp_path, web, ports["prometheus-alertmanager"], receiver.server_port)
    options = {
        "prometheus": ["--config.file=prometheus.yml", "--storage.tsdb.path=metrics"],
        "prometheus-alertmanager": [
            *("--config.file=alertmanager.yml", "--storage.path=alerts"),
            "--cluster.listen-address=",
        ],
    }
    processes = []
    try:
        for name, port in ports.items():
            command = [name, *options[name], f"--web.listen-address=127.0.0.1:{port}"]
            with (tmp_path / f"{name}.log").open("w") as log:
                processes.append(
                    subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
                )
        for name, port in ports.items():
            wait_until(lambda port=port: is_ready(port), f"{name} is ready")
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_queue_that_is_too_long_arrives_as_an_alert_and_ends(
    catalogue: None, prometheus: None, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a worker is believed to be there: without one, the queue would follow from another alert
    monkeypatch.setattr(queue_stats.workers, "get_soon", lambda: 1)
    job = start_job([AIModel.objects.get(api_model_id="amazon.nova-lite-v1:0")], ["us-east-1"])
    alert = ("queue_waiting", "warning")
    wait_until(lambda: (*alert, "firing") in receiver.received, "Alertmanager notifies")
    waiting = AlertEpisode.objects.filter(rule="queue_waiting")
    wait_until(lambda: waiting.open().exists(), "it is in our list too")
    job.cancel()
    wait_until(lambda: (*alert, "resolved") in receiver.received, "Alertmanager says that it ended")
    wait_until(lambda: not waiting.open().exists(), "it has ended in our list too")
