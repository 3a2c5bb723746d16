"""A Valkey with a replica and three Sentinels, for tests of what happens when the master dies."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis
from celery import current_app

from certification.lib import redis_address
from certification.stack.embedded import valkey
from certification.stack.processes import Processes, Program
from tests.processes import wait_until

SERVICE, PASSWORD, SENTINEL_PASSWORD = "main", "of-the-servers", "of-the-sentinels"
SERVER = """\
port {port}
bind 127.0.0.1
requirepass {password}
masterauth {password}
appendonly no
save ""
"""
SENTINEL = """\
port {port}
bind 127.0.0.1
requirepass {sentinel_password}
sentinel sentinel-pass {sentinel_password}
sentinel monitor {service} 127.0.0.1 {master} 2
sentinel auth-pass {service} {password}
sentinel down-after-milliseconds {service} 1500
sentinel failover-timeout {service} 6000
"""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody used a moment ago."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Replicated(Processes):
    """Two servers and three Sentinels that agree on the first as the master."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "logs")
        self.folder = folder
        self.ports = free_ports(5)
        self.master_port, self.replica_port, *self.sentinel_ports = self.ports
        self.master = self.server("master", self.master_port)
        self.server("replica", self.replica_port, f"replicaof 127.0.0.1 {self.master_port}\n")
        wait_until(lambda: self.replication(self.replica_port)["master_link_status"] == "up", "up")
        for number, port in enumerate(self.sentinel_ports, 1):
            text = SENTINEL.format(
                port=port,
                master=self.master_port,
                service=SERVICE,
                password=PASSWORD,
                sentinel_password=SENTINEL_PASSWORD,
            )
            self.server(f"sentinel-{number}", port, text, "--sentinel")
        wait_until(self.is_known, "the Sentinels know each other and the replica")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return (
            f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}?sentinel_password={SENTINEL_PASSWORD}"
        )

    def server(
        self, name: str, port: int, text: str = "", *options: str
    ) -> subprocess.Popen[bytes]:
        """Start a server; one that is no Sentinel has the password."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        config = folder / "valkey.conf"
        if not options:
            text = SERVER.format(port=port, password=PASSWORD) + text
        config.write_text(f"{text}dir {folder}\n")
        return self.start(Program(name, (valkey.program(), str(config), *options)))

    def replication(self, port: int) -> dict[str, str]:
        with redis.Redis(port=port, password=PASSWORD, socket_timeout=5) as client:
            return dict(client.info("replication"))

    def master_of(self, port: int) -> dict[str, str]:
        """Return what a Sentinel knows of the master."""
        with redis.Redis(port=port, password=SENTINEL_PASSWORD, socket_timeout=5) as client:
            return dict(client.sentinel_master(SERVICE))

    def is_known(self) -> bool:
        known = [self.master_of(port) for port in self.sentinel_ports]
        return all(
            int(each["num-slaves"]) == 1 and int(each["num-other-sentinels"]) == 2 for each in known
        )


@contextlib.contextmanager
def broker(url: str) -> Iterator[None]:
    """Have this process send its messages to another broker for the block."""
    conf = current_app.conf
    before = conf.broker_url, conf.broker_transport_options
    conf.broker_url, options = redis_address.for_kombu(url)
    conf.broker_transport_options = {**before[1], **options}
    current_app._after_fork()  # the pools of the other broker
    try:
        yield
    finally:
        current_app.pool.force_close_all()
        conf.broker_url, conf.broker_transport_options = before
        current_app._after_fork()
