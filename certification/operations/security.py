"""The security audit of an installation: what others could read, reach, guess or still use.

Each part looks as an attacker would, not at what was intended: modes of files, sockets that listen,
headers as the web answers them, who may still log in. A part that cannot be looked at says so and
is no finding. The report is the result of its task, and is compared with the one before.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.core.checks import run_checks
from django.core.management.base import CommandError
from django.db.models import Q
from django_celery_results.models import TaskResult

from certification.lib import clock, redis_address
from certification.models import ApiKey, User, sql
from certification.monitoring import doctor
from certification.monitoring.checks import FAILURES, sentence
from certification.monitoring.findings import Finding
from certification.operations import archive, backups, packages
from certification.operations.archive import BackupFault
from certification.operations.packages import Unchecked
from certification.operations.retention import AUDIT_TASK
from certification.operations.site import Answer, NotAnswered, Site
from certification.stack import control

IDLE = timedelta(days=90)  # without a login, or a use of a key
MAX_NAMED = 5  # paths in one finding
MAX_GUESSED = 10  # accounts whose passwords are guessed; each guess costs a hash
MIN_SECRET, MIN_SECRET_KEY = 16, 50  # characters
LOCAL_ONLY = ("worker", "flower", "emulator", "postgres", "valkey")
SECRET_NAMES = re.compile(
    r"(^|[._-])(env|secrets?|credentials?|passwords?|token|id_(rsa|ed25519))($|[._-])"
    r"|\.(pem|key|p12|pfx|backup|pgpass)$",
    re.IGNORECASE,
)
LEFT_OUT = frozenset({".git", ".venv", "node_modules", "__pycache__", "tests", "docs"})
SOURCE_FOLDERS = frozenset({
    "bench", "certification", "deploy", "myia", "requirements", "scripts", "static", "templates",
})  # fmt: skip
SHARED_SECRETS = ("changeme", "change-me", "secret", "password", "admin", "example", "insecure")


def dependencies() -> Iterator[Finding]:
    """Look for packages with known faults, and those not installed as locked."""
    lock = packages.locked()
    for row in packages.differences(lock, packages.installed()):
        what = f"{row.package} {row.locked} is locked, installed is {row.installed or 'none'}."
        yield Finding(what, "Nobody tested it with this version.", "make setup")
    for fault in packages.vulnerabilities(packages.advisories()):
        why, fix = "Its fault is public.", "Install the fixed version."
        yield Finding(f"{fault.sentence}.", why, fix)


# Files


def files() -> Iterator[Finding]:
    """Look at the modes of our program and of our data."""
    folders = {Path(settings.BASE_DIR), Path(settings.MYIA_DIR), Path(settings.BACKUP_DIR)}
    outermost = [f for f in folders if not any(f.is_relative_to(o) for o in folders - {f})]
    paths = [path for folder in sorted(outermost) for path in walk(folder)]
    writable = [path for path, mode in paths if mode & 0o002 and not mode & stat.S_ISVTX]
    yield from about(
        writable,
        "may be written by everybody on this machine.",
        "They could run code as us.",
        "o-w",
    )
    secret = {path for path in doctor.private_files() if mode_of(path) & 0o077}
    secret |= {path for path, mode in paths if mode & 0o007 and is_secret(path, mode)}
    secret |= {path for path in named_files() if mode_of(path) & 0o077}
    yield from about(sorted(secret), "can be read by others.", "Secrets are in it.", "go-rwx")


def walk(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield what a folder holds, with modes; neither links nor what is no part of the product."""
    if not folder.is_dir():
        return
    for root, names, files_of in os.walk(folder, onerror=None):
        names[:] = [name for name in names if name not in LEFT_OUT]
        for name in (*names, *files_of):
            path = Path(root, name)
            if mode := mode_of(path):
                yield path, mode


def mode_of(path: Path) -> int:
    """Return a file's or folder's mode; 0 of what is gone, a link, or neither."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return 0
    return mode if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else 0


def is_secret(path: Path, mode: int) -> bool:
    """Whether a file looks as if it held secrets; our own source and examples do not."""
    program = Path(settings.BASE_DIR)
    is_source = path.suffix in (".py", ".pyc", ".md", ".html", ".css", ".js", ".svg")
    if path.is_relative_to(program):
        is_source |= path.relative_to(program).parts[0] in SOURCE_FOLDERS
    return stat.S_ISREG(mode) and not is_source and bool(SECRET_NAMES.search(path.name))


def named_files() -> Iterator[Path]:
    """Yield the files that variables name as holding secrets, and AWS's own."""
    for name, value in os.environ.items():
        if name.endswith("_FILE") and os.path.isfile(value) and not value.startswith("/etc/ssl"):
            yield Path(value)
    for name in ("credentials", "config"):
        path = Path("~/.aws").expanduser() / name
        if path.is_file():
            yield path


def about(paths: list[Path], what: str, why: str, change: str) -> Iterator[Finding]:
    """Yield one finding of these paths, of which a few are named."""
    if paths:
        names = ", ".join(map(str, paths[:MAX_NAMED]))
        more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
        yield Finding(f"{names}{more} {what}", why, f"chmod {change} {paths[0]}")


# Processes and ports


@dataclass(frozen=True)
class Listener:
    """A socket of one of our processes. `reachable`: from where."""

    process: str
    address: str
    port: int

    @property
    def is_local(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def reachable(self) -> str:
        if self.is_local:
            return "this machine"
        is_any = ipaddress.ip_address(self.address).is_unspecified
        return "every network of this machine" if is_any else f"the network of {self.address}"

    def to_json(self) -> dict[str, Any]:
        return {
            "process": self.process,
            "address": self.address,
            "port": self.port,
            "reachable": self.reachable,
        }


def own_processes() -> list[tuple[str, psutil.Process]]:
    """Return the processes of this machine's stack with their children, each once, by the program's
    name. Those of the supervisor are the other programs.
    """
    members: dict[int, tuple[str, psutil.Process]] = {}
    for status in control.status():
        with suppress(psutil.Error):
            if status.pid:
                process = psutil.Process(status.pid)
                for member in (process, *process.children(recursive=True)):
                    members[member.pid] = (status.name, member)
    return list(members.values())


def processes() -> Iterator[Finding]:
    """Look whom our processes belong to."""
    for name in sorted({name for name, process in own_processes() if is_root(process)}):
        why, fix = "A fault in it owns the machine.", "Start it as an account of its own."
        if name != "supervisor":  # which gives the others to an account
            yield Finding(f"{name} runs as root.", why, fix)


def is_root(process: psutil.Process) -> bool:
    try:
        return bool(process.uids().effective == 0)
    except psutil.Error:
        return False


def listeners() -> list[Listener]:
    """Return what our processes listen on, each once."""
    rows = set()
    for name, process in own_processes():
        with suppress(psutil.Error):
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr:
                    rows.add(Listener(name, connection.laddr.ip, connection.laddr.port))
    return sorted(rows, key=lambda row: (row.process, row.port, row.address))


def ports() -> Iterator[Finding]:
    """Look who can reach what listens."""
    for row in listeners():
        where = f"{row.process} listens on port {row.port} for {row.reachable}."
        if row.is_local:
            continue
        if row.process.startswith(LOCAL_ONLY):
            yield Finding(where, "Only this machine needs it.", "Let it listen on 127.0.0.1.")
        elif not settings.HTTPS:
            why = "Passwords and tokens cross the network in the clear."
            yield Finding(where, why, "Put TLS before it and set HTTPS=1.")


# Settings


def configuration() -> Iterator[Finding]:
    """Look at the settings by Django's own deployment checks, and at secrets that can be guessed.
    Whether there is TLS matters where others than this machine call us.
    """
    is_public = not is_loopback(urlsplit(settings.PUBLIC_URL).hostname or "")
    of_tls = {f"security.W{number:03}" for number in (4, 5, 8, 10, 11, 12, 16, 21)}
    for issue in run_checks(tags=["security"], include_deployment_checks=True):
        if is_public or issue.id not in of_tls:
            yield Finding(
                str(issue.msg).split("\n")[0], f"{issue.id}", str(issue.hint or "Set it.")
            )
    if "*" in settings.ALLOWED_HOSTS:
        yield Finding("ALLOWED_HOSTS is *.", "Any name is believed.", "Name your hosts.")
    for network in settings.METRICS_NETWORKS:
        with suppress(ValueError):
            if ipaddress.ip_network(network, strict=False).prefixlen == 0:
                yield Finding("METRICS_NETWORKS lets everybody read.", "", "Name your scrapers.")
    if settings.WEBHOOK_ALLOW_HTTP:
        why = "Webhooks cross the network in the clear."
        yield Finding("WEBHOOK_ALLOW_HTTP is on.", why, "WEBHOOK_ALLOW_HTTP=0")
    for name, value in secrets_of_settings().items():
        if value and is_guessable(name, value):
            yield Finding(
                f"{name} can be guessed.", "It is short or well known.", "Draw a new one."
            )


def secrets_of_settings() -> dict[str, str]:
    """Return the settings whose worth is that nobody knows them."""
    names = ("SECRET_KEY", "MAINTENANCE_SECRET", "METRICS_TOKEN")
    values = {name: str(getattr(settings, name)) for name in names}
    values |= {
        f"SECRET_KEY_FALLBACKS {number}": key
        for number, key in enumerate(settings.SECRET_KEY_FALLBACKS, start=1)
    }
    flower = settings.FLOWER_BASIC_AUTH.partition(":")[2]
    return values | {"FLOWER_BASIC_AUTH": flower}


def is_guessable(name: str, value: str) -> bool:
    least = MIN_SECRET_KEY if name.startswith("SECRET_KEY") else MIN_SECRET
    lowered = value.lower()
    is_known = any(word in lowered for word in SHARED_SECRETS)
    return len(value) < least or len(set(value)) < 5 or is_known


# Answers of the web


def headers() -> Iterator[Finding]:
    """Look at the page of the login as it is really answered, through whatever is before it."""
    try:
        site = Site(settings.PUBLIC_URL)
        answer = site.get("/login/")
        if answer.status in (301, 302, 307, 308):
            raise Unchecked(f"{settings.PUBLIC_URL}/login/ leads elsewhere ({answer.status}).")
    except (NotAnswered, CommandError) as fault:
        raise Unchecked(f"PUBLIC_URL {settings.PUBLIC_URL}: {fault}") from None
    yield from header_faults(answer, is_https=settings.PUBLIC_URL.startswith("https:"))


EXPECTED_HEADERS = {
    "x-content-type-options": ("nosniff", "Browsers guess types, and run what is no script."),
    "x-frame-options": ("deny|sameorigin", "Others can show our pages inside theirs."),
    "referrer-policy": ("no-referrer|same-origin|strict-origin.*", "Addresses leak to others."),
    "cross-origin-opener-policy": ("same-origin.*", "Other windows can act on ours."),
}


def header_faults(answer: Answer, *, is_https: bool) -> Iterator[Finding]:
    for name, (pattern, why) in EXPECTED_HEADERS.items():
        if not re.fullmatch(pattern, answer.headers.get(name, "").strip(), re.IGNORECASE):
            yield Finding(f"The web answers without a safe {name}.", why, "Is a proxy changing it?")
    policy = answer.headers.get("content-security-policy", "")
    if "default-src" not in policy or re.search(r"'unsafe-(inline|eval)'|(?<!\S)\*(?!\S)", policy):
        why = "A script that was put into a page would run."
        yield Finding("The web answers without a strict Content-Security-Policy.", why,
                      "Is a proxy changing it?")  # fmt: skip
    if is_https and "max-age=" not in answer.headers.get("strict-transport-security", ""):
        why = "The first call of a browser can be led elsewhere."
        yield Finding("The web answers without Strict-Transport-Security.", why, "HTTPS=1")
    cookies = answer.headers.get("set-cookie", "")
    if is_https and cookies and "secure" not in cookies.lower():
        yield Finding("A cookie is sent without TLS too.", "It can be read.", "HTTPS=1")
    if re.search(r"\d+\.\d+", answer.headers.get("server", "")):
        why = "It says which known faults to try."
        yield Finding("The web tells the version of its server.", why, "Hide it in the proxy.")


# People and keys


def users() -> Iterator[Finding]:
    """Look for accounts that nobody needs, and for passwords that anybody would guess."""
    limit = clock.now() - IDLE
    active = User.objects.filter(is_active=True)
    uses_keys = Q(api_keys__last_used_at__gt=limit)
    idle = active.filter(date_joined__lt=limit).exclude(last_login__gt=limit).exclude(uses_keys)
    yield from people(idle, f"have not logged in for {IDLE.days} days.", "Nobody would notice.")
    powerful = active.filter(is_superuser=True)
    yield from people(
        powerful.filter(last_login=None), "are superusers and never logged in.", "Nobody needs it."
    )
    if (number := powerful.count()) > 1:
        what = f"{number} accounts are superusers."
        yield Finding(what, "One is enough for an emergency.", "Give the others a role.")
    strongest = active.filter(Q(is_superuser=True) | Q(is_staff=True)).order_by("-is_superuser")
    for user in strongest[:MAX_GUESSED]:
        if has_known_password(user):
            what = f"The password of {user.email} is one that everybody tries."
            yield Finding(what, "Anybody can log in.", "manage.py changepassword")


def people(rows: Any, what: str, why: str) -> Iterator[Finding]:
    names = list(rows.order_by("email").values_list("email", flat=True).distinct())
    if names:
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        shown = ", ".join(names[:MAX_NAMED])
        yield Finding(f"{shown}{more} {what}", why, "Deactivate them in the admin.")


def has_known_password(user: User) -> bool:
    """Whether the password is the account's own name, or one of three that everybody tries."""
    name = user.email.partition("@")[0]
    guesses = dict.fromkeys((name, user.email, "admin", "password", "changeme"))
    return any(check_password(guess, user.password) for guess in guesses)


def keys() -> Iterator[Finding]:
    """Look for API keys that work and that nobody uses, or that never end."""
    now = clock.now()
    working = ApiKey.objects.filter(revoked_at=None, user__is_active=True)
    working = working.filter(Q(expires_at=None) | Q(expires_at__gt=now))
    idle = working.filter(created_at__lt=now - IDLE).exclude(last_used_at__gt=now - IDLE)
    for key in idle:
        what = f"The API key {key} was not used for {IDLE.days} days and works."
        yield Finding(what, "Nobody would miss it, or notice its use.", "Revoke it in the admin.")
    for key in working.filter(expires_at=None):
        yield Finding(f"The API key {key} never expires.", "A leak lasts.", "Give it an end.")


# Connections and backups


def connections() -> Iterator[Finding]:
    """Look whether what leaves this machine is encrypted, as the server itself says."""
    options = settings.DATABASES["default"]
    host = str(options.get("HOST") or "")
    row = sql.fetch_one(sql.IS_ENCRYPTED)
    if not is_own_machine(host) and not (row and row["encrypted"]):
        what = "The connection to the database has no TLS."
        yield Finding(what, "Everything crosses the network in the clear.", "sslmode=verify-full")
    elif not is_own_machine(host) and options["OPTIONS"].get("sslmode") != "verify-full":
        what = "The database's certificate is not verified."
        yield Finding(what, "Another server can pose as it.", "sslmode=verify-full")
    for name in ("REDIS_URL", "CACHE_URL"):
        url = getattr(settings, name)
        if (
            url
            and not url.startswith(("rediss", "unix"))
            and not all(map(is_own_machine, hosts_of(url)))
        ):
            what = f"{name} ({redis_address.shown(url)}) has no TLS."
            yield Finding(what, "Passwords cross the network in the clear.", "rediss://")


def hosts_of(url: str) -> list[str]:
    """Return the hosts of an address, which may name several."""
    places = urlsplit(url).netloc.rpartition("@")[2].split(",")
    return [urlsplit(f"//{place}").hostname or "" for place in places]


def is_own_machine(host: str) -> bool:
    return not host or host.startswith("/") or is_loopback(host)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sealed_backups() -> Iterator[Finding]:
    """Look for backups that anybody who has them can read."""
    try:
        rows = backups.stored()
    except BackupFault as fault:
        raise Unchecked(str(fault)) from None
    plain = [row.path for row in rows if row.header.encryption == archive.PLAIN]
    yield from about(
        plain, "is a backup without encryption.", "It holds the whole database.", "600"
    )
    if not settings.BACKUP_ENCRYPT:
        why = "They hold password hashes and webhooks."
        yield Finding("BACKUP_ENCRYPT is off.", why, "BACKUP_ENCRYPT=1, then manage.py backup")
    name, folder = settings.BACKUP_KEY_FILE, Path(settings.BACKUP_DIR)
    if name and Path(name).resolve().is_relative_to(folder.resolve()):
        what = "The key of the backups lies among them."
        yield Finding(what, "It protects nothing there.", "Move BACKUP_KEY_FILE elsewhere.")


PARTS: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "dependencies": dependencies,
    "files": files,
    "processes": processes,
    "ports": ports,
    "settings": configuration,
    "headers": headers,
    "users": users,
    "keys": keys,
    "connections": connections,
    "backups": sealed_backups,
}


def audit(names: Iterable[str] = ()) -> dict[str, Any]:
    """Look at every part (or those named), compare with the report before, and return the report:
    JSON. `new` and `gone` are findings by what they say; of the parts that both looked at.
    """
    chosen = list(names)
    sections = [look_at(name, part) for name, part in PARTS.items() if not chosen or name in chosen]
    before = last_report()
    report: dict[str, Any] = {
        "at": clock.now().isoformat(timespec="seconds"),
        "well": not any(section["findings"] for section in sections),
        "sections": sections,
        "listeners": [row.to_json() for row in listeners()],
    }
    earlier, now = texts_of(before or {}), texts_of(report)
    both = earlier.keys() & now.keys()
    report["comparedWith"] = before["at"] if before else None
    report["new"] = sorted(text for name in both for text in now[name] - earlier[name])
    report["gone"] = sorted(text for name in both for text in earlier[name] - now[name])
    return report


def look_at(name: str, part: Callable[[], Iterator[Finding]]) -> dict[str, Any]:
    """Return what a part finds, or why it could not look."""
    findings, why = [], ""
    try:
        for finding in part():
            findings.append(finding.to_json())
    except Unchecked as fault:
        why = str(fault)
    except FAILURES as error:
        why = f"A server does not answer ({sentence(error)})."
    return {"name": name, "findings": findings, "unchecked": why}


def texts_of(report: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return what each part that could look said, of a stored report of any release."""
    sections = report.get("sections")
    result = {}
    for section in sections if isinstance(sections, list) else ():
        with suppress(KeyError, TypeError):
            if not section["unchecked"]:
                result[str(section["name"])] = {str(row["what"]) for row in section["findings"]}
    return result


def last_report() -> dict[str, Any] | None:
    """Return the newest stored report; None without one that can be read."""
    rows = TaskResult.objects.filter(task_name=AUDIT_TASK, status="SUCCESS").order_by("-date_done")
    for row in rows[:1]:
        with suppress(ValueError):
            document = json.loads(row.result or "")
            if isinstance(document, dict) and isinstance(document.get("at"), str):
                return document
    return None
