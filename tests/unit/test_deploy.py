"""What deploy/ says of ports, commands, variables and times is what the code does."""

from __future__ import annotations

import ast
import fnmatch
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from django.conf import settings

from certification.engine import consumer, queue
from certification.models import Priority
from certification.operations import backup_key
from certification.stack import probe, programs
from certification.stack.processes import Program
from tests import keda
from tests.paths import PROJECT

DEPLOY = PROJECT / "deploy"
SYSTEMD = DEPLOY / "systemd"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
PROCESSES = ("web", "worker", "worker-bulk", "beat", "flower")
SETTINGS = (PROJECT / "myia" / "settings.py").read_text()
FROM_FILES = ("secret", "address", "redis")
SECRET = re.compile(r"(_KEY|_KEY_FALLBACKS|_TOKEN|_SECRET|_AUTH|_PASSWORD|_DSN|_URLS?)$")
# read by others: gunicorn and Python, AWS's SDK, Django
OTHERS = re.compile(r"AWS_\w+|PYTHON\w+|DJANGO_SETTINGS_MODULE|PATH")


def variables() -> dict[str, tuple[str, Any]]:
    """Return every variable that the settings read: by which reader, and the default where the
    call has one that is written down.
    """
    names: dict[str, tuple[str, Any]] = {}
    for call in ast.walk(ast.parse(SETTINGS)):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env"), attr=reader),
                args=[ast.Constant(value=str(name)), *_],
                keywords=options,
            ) if not name.endswith("_"):  # a prefix of many
                values = [o.value for o in options if o.arg == "default"]
                default = [v.value for v in values if isinstance(v, ast.Constant)]
                names.setdefault(name, (reader, default[0] if default else None))
    return names


VARIABLES = variables()


def is_variable(name: str) -> bool:
    """Whether a process reads this variable; <secret>_FILE of a secret is one too."""
    return (
        name in VARIABLES
        or VARIABLES.get(name.removesuffix("_FILE"), ("",))[0] in FROM_FILES
        or bool(OTHERS.fullmatch(name))
    )


def program(name: str) -> Program:
    return next(each for each in programs.programs() if each.name == name)


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m|h)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, None: 1}[unit]


# Settings


def test_what_may_hold_a_secret_can_come_from_a_file() -> None:
    plain = {name for name, (reader, _) in VARIABLES.items() if reader not in FROM_FILES}
    # keys whose file is read, more strictly, where they are used
    exceptions = {name for name in plain if f"{name}_FILE" in VARIABLES}
    assert {name for name in plain if SECRET.search(name)} == exceptions


def test_every_variable_is_documented_with_its_default() -> None:
    """A new one needs a row in the table of docs/deployment.md."""
    page = (PROJECT / "docs" / "deployment.md").read_text()
    table = page.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| (.*?) ?\|$", table, flags=re.MULTILINE)
    names = [name for name, _, _ in rows]
    assert names == sorted(VARIABLES)
    for name, shown, text in rows:
        reader, default = VARIABLES[name]
        if default not in (None, ""):
            written = f"{default:g}" if isinstance(default, float) else str(default)
            written = str(int(default)) if isinstance(default, bool) else written
            assert shown.strip("`") == written, name
        assert text.startswith("f: ") == (reader in FROM_FILES or f"{name}_FILE" in VARIABLES), name


@pytest.mark.parametrize("name", ["development", "production"])
def test_the_recommended_settings_are_valid_and_hold_no_secret(name: str) -> None:
    lines = (DEPLOY / f"environment.{name}").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert [variable for variable in values if not is_variable(variable)] == []
    assert {name for name in values if SECRET.search(name)} <= {"PUBLIC_URL"}
    environment = {**os.environ, "SECRET_KEY": "x" * 64, "MYIA_ROOT": str(PROJECT / ".myia")}
    environment |= {**values, "DATABASE_URL": "postgres://a:b@h/d", "REDIS_URL": "redis://:b@h"}
    environment["LOG_DIR"] = ""
    script = "from django.conf import settings; print(settings.DEBUG, settings.SECURE_SSL_REDIRECT)"
    printed = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=environment | {"DJANGO_SETTINGS_MODULE": "myia.settings"},
    )
    expected = "False True" if name == "production" else "True False"
    assert (printed.stdout.strip(), printed.stderr) == (expected, "")


def test_the_web_server_and_flower_listen_where_they_should(settings: Any) -> None:
    settings.WEB_HOST = settings.FLOWER_HOST = "0.0.0.0"
    settings.WEB_PROCESSES = 3
    web = " ".join(program("web").argv)
    assert f"--bind 0.0.0.0:{settings.PORT} --workers 3 " in web
    assert "--address=0.0.0.0 " in " ".join(program("flower").argv)


def test_the_probe_says_whether_an_address_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.fault("http://127.0.0.1:9/live").startswith("http://127.0.0.1:9/live cannot be")
    assert probe.fault("nonsense").startswith("nonsense cannot be reached")


# Image


def test_the_image_gets_what_the_processes_need_and_nothing_else() -> None:
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line]
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    included = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert all((PROJECT / path).exists() for path in included)
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {path.split("/", 1)[0] for path in tracked}
    left_out = {
        *(".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "Makefile", "Procfile"),
        *("README.md", "SECURITY.md", "bench", "deploy", "pyproject.toml", "scripts", "tests"),
    }
    assert top - {path.split("/", 1)[0] for path in included} <= left_out
    for secret in (".myia", ".env", "deploy/secrets", ".venv", ".git"):
        assert not any(fnmatch.fnmatch(secret, path) for path in included)
    assert "certification/locale/pt_BR/LC_MESSAGES/django.mo" in tracked


def test_the_image_is_built_in_stages_of_locked_wheels_and_runs_as_nobody_else() -> None:
    stages = DOCKERFILE.split("\nFROM ")
    assert len(stages) == 3
    assert "--require-hashes --only-binary :all: -r requirements/base.txt" in stages[1]
    assert "collectstatic" in stages[1]
    copied = re.findall(r"^COPY (.+)$", stages[2], flags=re.MULTILINE)
    assert copied == [
        "--from=build /opt/myia /opt/myia",
        "--from=build /srv/myia /srv/myia",
    ]
    assert re.search(r"^USER 10001:10001$", stages[2], flags=re.MULTILINE)
    assert 'ENTRYPOINT ["python", "manage.py"]' in stages[2]
    assert not re.search(r"^(ARG|ENV) .*(KEY|TOKEN|SECRET|PASSWORD)", DOCKERFILE, re.MULTILINE)
    [exposed] = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert exposed.split() == [
        str(program(name).port) for name in ("web", "worker", "worker-bulk", "flower")
    ]
    environment = re.findall(r"^ +([A-Z_]+)=", stages[2], flags=re.MULTILINE)
    assert all(is_variable(name) for name in environment)


def test_the_dockerfile_pleases_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this machine")
    run = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "")


# Compose


def test_the_compose_file_follows_its_schema() -> None:
    package = importlib.resources.files("check_jsonschema")
    schema = package / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_service_runs_its_process_as_the_code_does(name: str) -> None:
    service, process = SERVICES[name], program(name)
    assert service["command"] == ["run", name]
    assert seconds(service["stop_grace_period"]) >= process.drain_seconds + 5
    if process.health:
        address = f"http://127.0.0.1:{process.port}{process.health}"
        assert service["healthcheck"]["test"] == [
            *("CMD", "python", "-m", "certification.stack.probe"),
            address,
        ]
    else:
        assert service["healthcheck"] == {"disable": True}
    assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for server in ("postgres", "redis"):
        assert service["depends_on"][server] == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[server]


@pytest.mark.parametrize("name", ["migrate", "backup", *PROCESSES])
def test_a_service_has_no_powers_and_no_default_secret(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(is_variable(variable) for variable in service["environment"])
    secrets = [f"/run/secrets/{name}" for name in service["secrets"] if name in COMPOSE["secrets"]]
    named = {v for v in service["environment"].values() if str(v).startswith("/run/secrets/")}
    assert named == set(secrets)


def test_every_service_has_limits_and_databases_are_not_published() -> None:
    for name, service in SERVICES.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in ("postgres", "redis"):
        assert "ports" not in SERVICES[name]
        assert SERVICES[name]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert "maxmemory-policy noeviction" in (DEPLOY / "valkey.conf").read_text()


def test_the_secrets_of_the_compose_file_are_made(tmp_path: Path) -> None:
    if not shutil.which("openssl") or os.geteuid():
        pytest.skip("make-secrets.sh needs openssl and root")
    for _ in range(2):  # again changes nothing
        command = [DEPLOY / "make-secrets.sh", tmp_path / "secrets"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    files = {secret["file"].removeprefix("secrets/") for secret in COMPOSE["secrets"].values()}
    assert set(made) == files
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert made["database_password"] in made["database_url"]
    assert made["redis_password"] in made["redis_url"]
    assert len(made["secret_key"]) == 64
    assert not any(text and text in printed for text in made.values())
    for name in ("certificate_key", "backup_key"):
        key = (tmp_path / "secrets" / name).stat()
        assert (key.st_uid, key.st_mode & 0o777) == (10001, 0o400)
    assert backup_key.decode(made["backup_key"], "it")


# systemd


def unit(name: str) -> dict[str, list[str]]:
    """Return the lines of a unit with those that all services have in common."""
    common = (SYSTEMD / "myia-.service.d" / "10-common.conf").read_text()
    text = (SYSTEMD / f"myia-{name}.service").read_text() + common
    lines: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, flags=re.MULTILINE):
        lines.setdefault(key, []).append(value)
    return lines


@pytest.mark.parametrize("name", PROCESSES)
def test_a_unit_runs_its_process_as_the_code_does(name: str) -> None:
    lines, process = unit(name), program(name)
    assert lines["ExecStart"] == [f"/opt/myia/.venv/bin/python manage.py run {name}"]
    assert seconds(lines["TimeoutStopSec"][0]) >= process.drain_seconds + 5
    assert lines["Restart"] == ["always"]
    if name.startswith("worker"):
        assert seconds(lines["WatchdogSec"][0]) >= consumer.SILENT_S
    if process.reload:
        signal = process.reload.removeprefix("SIG")
        assert lines["ExecReload"] == [f"/bin/kill -{signal} $MAINPID"]
    for option in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "ProtectKernelTunables"):
        assert lines[option] == ["yes"]
    assert lines["ProtectSystem"] == ["strict"]
    assert lines["CapabilityBoundingSet"] == [""]
    assigned = [word.split("=")[0] for line in lines["Environment"] for word in line.split()]
    assert all(is_variable(variable) for variable in assigned)
    example = (SYSTEMD / "environment.example").read_text()
    assert all(is_variable(n) for n in re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    target = (SYSTEMD / "myia.target").read_text()
    assert f"myia-{name}.service" in target.split()[3] or f"myia-{name}.service" in target


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    shutil.copytree(SYSTEMD, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.rglob("*.service"):
        text = file.read_text()
        file.write_text(text.replace("/opt/myia/.venv/bin/python", "/bin/true"))
    units = [str(path) for path in (*tmp_path.glob("*.service"), *tmp_path.glob("*.target"))]
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    complaints = [line for line in run.stderr.splitlines() if "myia" in line]
    assert (run.returncode, complaints) == (0, [])


# Logs


def test_logrotate_accepts_its_configuration(tmp_path: Path) -> None:
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        pytest.skip("there is no logrotate here")
    text = (DEPLOY / "logging" / "logrotate").read_text()
    file = tmp_path / "logrotate"
    file.write_text(text.replace("su myia myia", "").replace("/var/log", str(tmp_path)))
    file.chmod(0o644)
    run = subprocess.run(
        [program, "--debug", "--state", tmp_path / "state", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, re.findall(r"error.*", run.stderr)) == (0, [])
    folder = re.search(r"^LOG_DIR=(.*)$", (SYSTEMD / "environment.example").read_text(), re.M)
    assert folder
    assert f"\n{folder[1]}/*.log {{" in text


def test_the_example_of_vector_reads_the_file_that_has_every_line() -> None:
    vector = yaml.safe_load((DEPLOY / "logging" / "vector.yaml").read_text())
    assert vector["sources"]["files"]["include"] == ["/var/log/myia/combined.log"]
    steps = {*vector["sources"], *vector["transforms"]}
    for step in (*vector["transforms"].values(), *vector["sinks"].values()):
        assert set(step["inputs"]) <= steps


# Proxy


def test_the_proxy_is_valid_and_hides_the_metrics(tmp_path: Path) -> None:
    text = (DEPLOY / "Caddyfile").read_text()
    assert "@inside path /metrics" in text
    assert "flush_interval -1" in text
    [megabytes] = re.findall(r"max_size (\d+)MB", text)
    assert int(megabytes) * 1_000_000 >= settings.API_MAX_BODY_BYTES
    caddy = Path(sys.executable).with_name("caddy")
    if not caddy.exists():
        pytest.skip("Caddy has no wheel for this machine")
    run = subprocess.run(
        [caddy, "adapt", "--validate", "--config", DEPLOY / "Caddyfile", "--adapter", "caddyfile"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "DOMAIN": "certification.example.org",
            "UPSTREAM": "127.0.0.1:3001",
            "HOME": str(tmp_path),
        },
    )
    assert run.returncode == 0, run.stderr


# Kubernetes

MANIFESTS = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
OBJECTS = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((MANIFESTS / name).read_text())
]


def manifest(kind: str, name: str) -> dict[str, Any]:
    [result] = [o for o in OBJECTS if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return result


def pods() -> list[dict[str, Any]]:
    return [o["spec"]["template"]["spec"] for o in OBJECTS if o["kind"] in ("Deployment", "Job")]


def containers() -> list[dict[str, Any]]:
    return [c for pod in pods() for c in (*pod.get("initContainers", ()), *pod["containers"])]


def test_the_kustomization_has_every_file() -> None:
    files = {path.name for path in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])


@pytest.mark.parametrize(
    "document",
    [pytest.param(o, id=f"{o['kind']}-{o['metadata']['name']}") for o in OBJECTS],
)
def test_a_manifest_follows_its_schema(document: dict[str, Any]) -> None:
    if document["kind"] in keda.SPECS:
        keda.validate(document)
        return
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    "change",
    [
        {"maxReplicas": 8},
        {"triggers": []},
        {"minReplicaCount": "2"},
        {"triggers": [{"type": "redis", "metadata": {"listName": "a", "listLength": 16}}]},
    ],
)
def test_an_object_of_keda_with_a_slip_is_refused(change: dict[str, Any]) -> None:
    document = manifest("ScaledObject", "worker")
    with pytest.raises(jsonschema.ValidationError):
        keda.validate({**document, "spec": {**document["spec"], **change}})


@pytest.mark.parametrize("name", PROCESSES)
def test_a_deployment_runs_its_process_as_the_code_does(name: str) -> None:
    process = program(name)
    pod = manifest("Deployment", name)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["args"] == ["run", name]
    pause = 0
    if "lifecycle" in container:
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] >= process.drain_seconds + pause + 5
    if not process.health:
        assert "livenessProbe" not in container
        return
    assert container["ports"] == [{"name": "http", "containerPort": process.port}]
    for probe_name in ("startupProbe", "livenessProbe"):
        assert container[probe_name]["httpGet"] == {"path": process.health, "port": "http"}
    assert "readinessProbe" in container


def test_pods_have_no_powers_and_no_default_secret() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
    for container in containers():
        assert container["image"] == "myia-certification"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert all("value" not in each for each in container["env"])
    [config] = KUSTOMIZATION["configMapGenerator"]
    literals = dict(literal.split("=", 1) for literal in config["literals"])
    assert all(is_variable(name) for name in literals)


def test_workers_are_scaled_by_their_own_queue(settings: Any) -> None:
    for name, priority in (("worker", Priority.INTERACTIVE), ("worker-bulk", Priority.BULK)):
        scaled = manifest("ScaledObject", name)["spec"]
        assert scaled["scaleTargetRef"] == {"name": name}
        assert "replicas" not in manifest("Deployment", name)["spec"]
        [trigger] = scaled["triggers"]
        assert trigger["metadata"]["listName"] == queue.name_for(priority)
        assert manifest("PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        assert scaled["minReplicaCount"] >= 1
    assert "replicas" not in manifest("Deployment", "web")["spec"]
    target = manifest("HorizontalPodAutoscaler", "web")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "web")


def test_only_the_ports_of_processes_are_reached() -> None:
    assert manifest("NetworkPolicy", "nobody")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    for policy, names in (("web", ["web"]), ("workers", ["worker", "worker-bulk"])):
        [rule] = manifest("NetworkPolicy", policy)["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == [program(n).port for n in names]
    rules = manifest("Ingress", "web")["spec"]["rules"]
    [metrics] = [p for rule in rules for p in rule["http"]["paths"] if p["path"] == "/metrics"]
    assert metrics["pathType"] == "Exact"
    assert metrics["backend"]["service"]["name"] == "nobody"


def test_kustomize_builds_the_manifests() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("there is no kubectl here")
    built = subprocess.run(
        ["kubectl", "kustomize", MANIFESTS], capture_output=True, text=True, check=True
    ).stdout
    objects = list(yaml.safe_load_all(built))
    assert len(objects) == len(OBJECTS) + 1  # and the ConfigMap
    assert {o["metadata"].get("namespace") for o in objects if o["kind"] != "Namespace"} == {"myia"}
