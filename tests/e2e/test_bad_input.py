"""What a person sees after a mistake or when a server is away: one sentence that says what to do,
and nothing is lost.

The real commands as processes, on PostgreSQL and Valkey of this module's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psycopg
import pytest

from certification.stack import embedded, programs
from certification.stack.processes import Processes, is_free
from tests import seed
from tests.emulators import CONTROL
from tests.paths import PROJECT
from tests.processes import management_command

pytestmark = pytest.mark.processes

NOVA = "amazon.nova-lite-v1:0"
QUICK = (NOVA, "--regions", "us-east-1", "--tier", "quick")
SECRET = {"SECRET_KEY": "a-secret-key-for-tests-" + "x" * 40}
NOWHERE = "127.0.0.1:9"  # nobody listens at the discard port


@dataclass
class Home:
    """An installation in a folder of its own, with an emulator and, once asked for, a worker that
    uses it.
    """

    root: Path
    url: str
    emulator: subprocess.Popen[bytes]
    processes: Processes
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def environment(self, **changes: str) -> dict[str, str]:
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("AWS_", "BEDROCK_", "CERTIFICATION_"))
        }
        first = self.first_port()
        free = next(port for port in range(first, first + 500) if is_free(port))
        return inherited | {
            "MYIA_ROOT": str(self.root),
            "DJANGO_SETTINGS_MODULE": "myia.settings",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "BEDROCK_BACKEND": "emulator",
            "BEDROCK_ENDPOINT_URL": self.url,
            "EMULATOR_PORT": str(free),
            "CERTIFICATION_RESEND_AFTER": "1",
            "LOG_FORMAT": "json",
            "HTTPS": "1",
            **changes,
        }

    def first_port(self) -> int:
        return 30_000 + os.getpid() % 2000

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command to its end. `env` replaces variables."""
        return subprocess.run(
            management_command(*arguments),
            cwd=PROJECT,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def begin(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """A command that goes on beside the test."""
        process = subprocess.Popen(
            management_command(*arguments),
            cwd=PROJECT,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def worker(self) -> None:
        """A worker for both queues, for the rest of the module; commands find it and start none of
        their own.
        """
        queues = ["model-certification", "model-certification.bulk", "maintenance"]
        self.processes.start(
            programs.worker("worker", queues, concurrency=4, env=self.environment())
        )

    def scenario(self, toml: str) -> None:
        with urlopen(Request(f"{self.url}/_emulator/scenario", toml.encode(), CONTROL), timeout=10):
            pass

    def calls(self) -> int:
        with urlopen(f"{self.url}/_emulator/stats", timeout=10) as answer:
            return sum(
                c["calls"]
                for c in json.loads(answer.read())["calls"]
                if c["operation"].startswith("Converse")
            )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read the database without starting another process."""
        with psycopg.connect(embedded.urls(self.root).database_url) as connection:
            return connection.execute(query).fetchall()

    def jobs(self) -> list[dict[str, Any]]:
        """Every job, the newest first."""
        rows = self.rows(
            "SELECT id, status FROM certification_certificationjob ORDER BY created_at DESC"
        )
        return [{"id": str(job), "status": status} for job, status in rows]

    def statuses(self) -> dict[str, str]:
        """Status of each certified model in us-east-1."""
        return dict(
            self.rows(
                "SELECT m.api_model_id, c.status FROM certification_modelcertification c "
                "JOIN certification_aimodel m ON m.id = c.model_id WHERE c.region_id = 'us-east-1'"
            )
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("home")
    root.chmod(0o755)
    seed.plant(root)
    try:
        with Processes(root) as processes:
            url, emulator = processes.start_emulator(fixed_latency_ms=100)
            ours = Home(root, url, emulator, processes)
            assert ours.run("migrate").returncode == 0
            try:
                yield ours
            finally:
                for started in ours.started:
                    if started.poll() is None:
                        started.terminate()
                for started in ours.started:
                    started.wait(60)
    finally:
        embedded.discard(root)


def assert_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It failed, said so in one line that contains these words, and showed no traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last, done.stderr
    assert not any(line.startswith("{") for line in done.stderr.splitlines()), (
        "log lines between the sentences"
    )


# Arguments and settings


def test_certify_refuses_unknown_models_and_regions_and_writes_nothing(home: Home) -> None:
    done = home.run(
        "certify", "no.such-model", "\udcff", "--regions", "us-east-1", "--wait", "--json"
    )
    assert_sentence(done, "Unknown model: no.such-model", "sync_catalogue")
    assert done.stdout == ""
    assert_sentence(
        home.run("certify", NOVA, "--regions", "xx-nowhere-9"),
        "Unknown region: xx-nowhere-9",
        "us-east-1",
    )
    assert home.jobs() == []


def test_a_malformed_scenario_is_named_with_what_is_allowed(home: Home, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('[[rule]]\nacess = "iam"\n')
    assert_sentence(
        home.run("demo", "--scenario", str(bad)), str(bad), "unknown key `acess`", "access"
    )
    assert_sentence(
        home.run("bedrock_emulator", "--scenario", str(bad), "--port", "0"), "unknown key `acess`"
    )
    assert_sentence(
        home.run("demo", "--scenario", "no-such"), "no scenario file 'no-such'", "healthy"
    )


def test_settings_that_cannot_work_are_named(home: Home) -> None:
    done = home.run("certify", *QUICK, BEDROCK_BACKEND="azure")
    assert done.returncode != 0
    assert "BEDROCK_BACKEND is 'azure'; it must be auto, aws or emulator." in done.stderr
    assert "Traceback" not in done.stderr
    done = home.run("certify", *QUICK, BEDROCK_ENDPOINT_URL="nonsense")
    assert "BEDROCK_ENDPOINT_URL is 'nonsense'" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("list_uncertified", "--json"),
        ("list_uncertified",),
        ("job", "list"),
        ("suite", "list"),
        ("status",),
    ],
    ids=" ".join,
)
def test_a_closed_output_is_no_error(home: Home, command: tuple[str, ...]) -> None:
    process = home.begin(*command)
    assert process.stdout
    process.stdout.close()  # as `| head` does, only earlier
    assert process.wait(60) == 141
    with process.stderr:  # type: ignore[union-attr]
        assert process.stderr.read() == ""  # type: ignore[union-attr]


# Servers that are away


def database(home: Home, **parts: str) -> str:
    """The address of the module's database with some parts replaced."""
    url = urlsplit(embedded.urls(home.root).database_url)
    password = parts.get("password") or url.password
    if "address" in parts:
        return f"postgres://myia:{password}@{parts['address']}/myia"
    path = f"/{parts.get('name', 'myia')}"
    return url._replace(netloc=f"myia:{password}@", path=path).geturl()


@pytest.mark.flaky(reruns=1)  # measures time
@pytest.mark.parametrize(
    "command", [("certify", *QUICK, "--wait"), ("job", "list"), ("reconcile",)], ids=lambda c: c[0]
)
def test_a_database_that_is_down_is_reported_with_its_cause(
    home: Home, command: tuple[str, ...]
) -> None:
    started = time.monotonic()
    done = home.run(*command, DATABASE_URL=database(home, address=NOWHERE), **SECRET)
    assert_sentence(
        done, "The database cannot be reached", "Connection refused", "correct DATABASE_URL"
    )
    assert time.monotonic() - started < 25  # not the half minute that the pool would wait


@pytest.mark.parametrize(
    "command", [("migrate",), ("check", "--database", "default"), ("up",)], ids=lambda c: c[0]
)
def test_commands_of_django_and_the_stack_report_it_too(
    home: Home, command: tuple[str, ...]
) -> None:
    done = home.run(*command, DATABASE_URL=database(home, address=NOWHERE), **SECRET)
    assert_sentence(
        done, "The database cannot be reached", "Connection refused", "correct DATABASE_URL"
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_password_and_a_missing_database_have_different_messages(home: Home) -> None:
    done = home.run("job", "list", DATABASE_URL=database(home, password="wrong"), **SECRET)
    assert_sentence(done, "password authentication failed")
    done = home.run("job", "list", DATABASE_URL=database(home, name="nothing_here"), **SECRET)
    assert_sentence(done, '"nothing_here" does not exist')


@pytest.mark.parametrize(
    "command", [("certify", *QUICK, "--wait"), ("job", "list"), ("reconcile",)], ids=lambda c: c[0]
)
def test_a_database_without_tables_asks_for_migrations(
    home: Home, command: tuple[str, ...]
) -> None:
    done = home.run(*command, DATABASE_URL=database(home, name="postgres"), **SECRET)
    assert_sentence(done, "tables", "manage.py migrate")


def test_without_redis_a_job_that_is_waited_for_is_not_written(home: Home) -> None:
    done = home.run("certify", *QUICK, "--wait", "--json", REDIS_URL=f"redis://{NOWHERE}/0")
    assert_sentence(done, "Redis cannot be reached", "correct REDIS_URL")
    assert done.stdout == ""
    assert home.jobs() == []


def test_without_redis_a_job_waits_in_the_database(home: Home) -> None:
    away = {"REDIS_URL": f"redis://{NOWHERE}/0"}
    done = home.run("certify", *QUICK, **away)
    assert done.returncode == 0
    assert "the job waits in the database" in done.stdout
    [job] = home.jobs()
    assert job["status"] == "PENDING"
    done = home.run("reconcile", **away)
    assert "Redis cannot be reached" in done.stdout
    time.sleep(1.1)
    assert "Sent again: 1" in home.run("reconcile").stdout
    assert home.jobs()[0]["status"] == "QUEUED"
    assert home.run("job", "cancel", job["id"]).returncode == 0


def test_a_full_disk_is_reported_and_nothing_stored_is_lost(home: Home, tmp_path: Path) -> None:
    """A small file system of its own, filled to the last byte under running servers."""
    full = tmp_path / "full"
    full.mkdir(mode=0o755)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(full)],
        check=False,
        capture_output=True,
    )
    if mount.returncode:
        pytest.skip("mounting a small file system needs rights that this user does not have")
    try:
        room = {"MYIA_ROOT": str(full)}
        assert home.run("migrate", **room).returncode == 0
        assert home.run("certify", *QUICK, "--idempotency-key", "before", **room).returncode == 0
        with pytest.raises(OSError, match="No space"):
            (full / "fill").write_bytes(bytes(200_000_000))
        for _ in range(2):  # with servers that still run, then with servers that gave up
            done = home.run("certify", NOVA, "--regions", "us-west-2", "--wait", **room)
            assert_sentence(done, "full", "Free some space")
        assert_sentence(home.run("job", "list", **room), "full", "Free some space")
        (full / "fill").unlink()
        listed = home.run("job", "list", "--json", **room)
        jobs = json.loads(listed.stdout)
        assert any(job["status"] == "QUEUED" and job["total_runs"] == 1 for job in jobs)
    finally:
        embedded.discard(full)
        subprocess.run(["umount", str(full)], check=True)


# Credentials and endpoints


def test_missing_credentials_are_reported_and_change_no_certification(home: Home) -> None:
    done = home.run(
        "certify", *QUICK, "--wait", "--json", BEDROCK_BACKEND="aws", BEDROCK_ENDPOINT_URL=""
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [run] = json.loads(done.stdout)["runs"]
    assert (run["status"], run["verdict"], run["errorReason"]) == (
        "FAILED",
        None,
        "credentials_missing",
    )
    assert "AWS_BEARER_TOKEN_BEDROCK" in run["fix"]["text"]
    assert not set(home.statuses().values()) - {"not_tested"}
    done = home.run(
        "sync_catalogue", "--region", "us-east-1", BEDROCK_BACKEND="aws", BEDROCK_ENDPOINT_URL=""
    )
    assert done.returncode == 1
    assert "credentials_missing" in done.stdout
    assert "nothing was changed" in done.stdout


def test_an_unknown_access_key_changes_no_certification(home: Home) -> None:
    home.scenario("[[rule]]\ninvalid_credentials = true")
    key = {
        "BEDROCK_BACKEND": "aws",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    }
    done = home.run("certify", *QUICK, "--wait", **key)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no verdict" in done.stdout
    assert "The security token included in the request is invalid." in done.stdout
    assert "enter them again" in done.stdout
    assert "wJalrX" not in done.stdout + done.stderr
    assert not set(home.statuses().values()) - {"not_tested"}
    done = home.run("sync_catalogue", "--region", "us-east-1", **key)
    assert done.returncode == 1
    assert "credentials_invalid" in done.stdout
    home.scenario('name = "healthy"')


def test_a_command_that_is_told_to_end_cancels_its_job_and_leaves_no_process(home: Home) -> None:
    command = home.begin("certify", *QUICK, "--wait")
    assert command.stdout
    for line in command.stdout:
        if line.startswith("No worker is running"):
            break
    command.send_signal(signal.SIGTERM)
    assert command.wait(90) == 130
    assert "Traceback" not in command.stderr.read()  # type: ignore[union-attr]
    command.stdout.close()
    command.stderr.close()  # type: ignore[union-attr]
    assert home.jobs()[0]["status"] == "CANCELLED"
    assert not worker_pids(home)


def worker_pids(home: Home) -> list[int]:
    """Return the worker processes of this installation."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            environ, command = entry.read_bytes(), (entry.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if f"MYIA_ROOT={home.root}\0".encode() in environ and b"celery" in command:
            pids.append(int(entry.parent.name))
    return pids


# From here on a worker runs


def test_certify_json_has_the_agreed_shape_and_require_decides_the_exit_code(
    home: Home,
) -> None:
    home.worker()
    done = home.run(
        "certify",
        NOVA,
        "amazon.nova-pro-v1:0",
        "--regions",
        "us-east-1",
        "--tier",
        "quick",
        "--wait",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"jobId", "status", "seconds", "calls", "retries", "costUsd", "runs"} <= report.keys()
    assert (report["status"], len(report["runs"])) == ("COMPLETED", 2)
    assert report["seconds"] > 0
    assert report["costUsd"] > 0
    for run in report["runs"]:
        assert {
            "model",
            "region",
            "status",
            "verdict",
            "score",
            "rating",
            "route",
            "errorCategory",
            "errorReason",
            "errorMessage",
        } <= run.keys()
        assert (run["status"], run["verdict"], run["score"], run["errorReason"]) == (
            "COMPLETED",
            "certified",
            89,
            None,
        )
    home.scenario('[[rule]]\nmodel = "amazon.nova-lite-v1:0"\naccess = "iam"')
    done = home.run("certify", *QUICK, "--require", "certified", "--json")
    assert done.returncode == 1
    [run] = json.loads(done.stdout)["runs"]
    assert (run["verdict"], run["errorCategory"], run["errorReason"]) == (
        "permission_required",
        "PERMISSION_ERROR",
        "iam_denied",
    )
    assert home.run("certify", *QUICK, "--wait", "--json").returncode == 0  # a verdict was reached
    home.scenario('name = "healthy"')


def test_wrong_credentials_pause_bulk_jobs_only_and_correct_ones_resume_them(
    home: Home,
) -> None:
    home.scenario("[[rule]]\ninvalid_credentials = true")
    sweep = home.run("certify", *QUICK, "--priority", "bulk", "--wait", "--json")
    assert_sentence(sweep, "The queue is paused", "credentials", "manage.py job cancel")
    assert home.jobs()[0]["status"] in ("QUEUED", "PROCESSING")
    click = home.run(
        "certify", NOVA, "--regions", "us-west-2", "--tier", "quick", "--wait", "--json"
    )
    assert json.loads(click.stdout)["runs"][0]["errorReason"] == "credentials_invalid"
    home.scenario('name = "healthy"')
    time.sleep(1.1)
    assert json.loads(home.run("reconcile", "--json").stdout)["paused"] is False
    job = home.jobs()[1]["id"]
    deadline = time.monotonic() + 180
    while (shown := json.loads(home.run("job", "show", job, "--json").stdout))[
        "status"
    ] != "COMPLETED":
        assert time.monotonic() < deadline
        home.run("reconcile")  # as beat does; the first one may come before the run is due again
    assert shown["runs"][0]["verdict"] == "certified"


def test_an_emulator_killed_mid_run_changes_no_certification(home: Home) -> None:
    assert home.statuses()[NOVA] == "certified"
    before = home.calls()
    command = home.begin("certify", *QUICK, "--wait", "--json")
    deadline = time.monotonic() + 60
    while home.calls() < before + 3:
        assert time.monotonic() < deadline
    home.emulator.kill()
    out, err = command.communicate(timeout=120)
    assert command.returncode == 1
    assert "Traceback" not in err
    [run] = json.loads(out)["runs"]
    assert (run["status"], run["verdict"], run["errorCategory"]) == (
        "FAILED",
        "pending",
        "NETWORK_ERROR",
    )
    assert "nothing about the model" in run["errorMessage"]
    assert "endpoint" in run["fix"]["text"]
    assert home.statuses()[NOVA] == "certified"
    done = home.run("sync_catalogue", "--region", "us-east-1")
    assert done.returncode == 1
    assert "connection_refused" in done.stdout
    assert "nothing was changed" in done.stdout
