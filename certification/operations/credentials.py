"""New credentials: tried before workers take them, put in place at once, proven by the next runs;
and how old every other secret is.

Workers read a shared file of credentials again when it has changed, so a file that is renamed into
its place needs no restart. What comes from the environment does.
"""

from __future__ import annotations

import configparser
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from certification.bedrock import connection
from certification.bedrock.catalogue import order_of_trial
from certification.bedrock.connection import BEARER_VARIABLE
from certification.bedrock.errors import BedrockError
from certification.engine import backend, evidence
from certification.inference import Request, RouteTarget, user
from certification.lib import clock, event_loop
from certification.models import (
    AIModel,
    ApiKey,
    AuditEntry,
    Backend,
    CertificateKey,
    CertificationRun,
    ModelKind,
    State,
)
from certification.operations import backup_key
from certification.reasons import ErrorCategory

if TYPE_CHECKING:
    from certification.bedrock.client import Bedrock

ROTATE_AFTER = timedelta(days=365)
AWS_ROTATE_AFTER = timedelta(days=90)
ACTION = "rotate_credentials"  # of the audit trail
MAX_FILE = 100_000  # bytes
PROBE, CALL_S = Request((user("Answer with one word: are you there?"),), max_tokens=20), 20.0
MAX_MODELS = 3  # that are called in a region until one answers


@dataclass(frozen=True)
class RegionCheck:
    """What one region says to the credentials: models listed, and whether the smallest call was
    answered (None: not made). `fault` is empty when all is well.
    """

    region: str
    models: int
    called: bool | None
    fault: str = ""


@dataclass(frozen=True)
class Verification:
    """Who calls, and what each region says. On the emulator every key is taken, and nothing is
    proven: `note` says so. `fault` is why nobody could be asked.
    """

    backend: str
    caller: str = ""
    key_preview: str = ""
    source: str = ""
    regions: tuple[RegionCheck, ...] = ()
    fault: str = ""
    note: str = ""

    @property
    def is_well(self) -> bool:
        return not self.fault and not any(region.fault for region in self.regions)


@dataclass(frozen=True)
class Secret:
    """Something that is to be changed once in a while. `since` is None where nobody knows."""

    name: str
    source: str
    since: datetime | None
    rotate_after: timedelta = ROTATE_AFTER
    note: str = ""

    @property
    def age(self) -> timedelta | None:
        return clock.now() - self.since if self.since else None

    @property
    def is_due(self) -> bool:
        return self.age is not None and self.age > self.rotate_after


def verify(regions: Iterable[str], file: str = "", *, calls: bool = True) -> Verification:
    """Try credentials, those of `file` or the current ones: who they are (STS), and in each region
    a listing and the smallest call. Never raises for what AWS refuses.
    """
    from certification.bedrock import identity  # noqa: PLC0415, slow to import
    from certification.bedrock.client import Bedrock  # noqa: PLC0415

    try:
        used, target = backend.name(), backend.bedrock().connection
        is_emulator = used == Backend.EMULATOR
        with closing(Bedrock(replace(target, credentials_file=file))) as bedrock:
            who = identity.Caller("", "", "emulator", "")
            if not is_emulator and os.environ.get(BEARER_VARIABLE, "").strip():
                who = identity.Caller("a Bedrock API key", "", BEARER_VARIABLE, "")
            elif not is_emulator:
                who = identity.caller_of(bedrock.credentials, target.home_region)
            checked = tuple(try_region(bedrock, region, calls=calls) for region in regions)
    except BedrockError as error:
        return Verification(str(settings.BEDROCK_BACKEND), fault=evidence.cut(error.message)[:500])
    note = "The emulator takes any key: nothing is proven of AWS's." if is_emulator else ""
    return Verification(used, who.arn, who.key_preview, who.method, checked, note=note)


def try_region(bedrock: Bedrock, region: str, *, calls: bool) -> RegionCheck:
    """List a region's models, and call the cheapest that it is known to have: one that answers is
    enough, for a model may be closed to this account.
    """
    try:
        models = len(bedrock.foundation_models(region))
    except BedrockError as error:
        return RegionCheck(region, 0, None, f"its listing failed: {error.reason}")
    reason = ""
    for target in cheapest_targets(region) if calls else ():
        try:
            event_loop.run(bedrock.send(region, target, PROBE, remaining_s=CALL_S))
        except BedrockError as error:
            reason = reason or str(error.reason)
        else:
            return RegionCheck(region, models, called=True)
    return RegionCheck(region, models, False if reason else None, reason and f"no call: {reason}")


def cheapest_targets(region: str) -> list[RouteTarget]:
    """Return the first route of each of the cheapest models that are offered in a region."""
    models = AIModel.objects.active().filter(kind=ModelKind.TEXT, output_price__gt=0)
    offered = models.filter(routes__region=region).distinct().order_by("output_price", "pk")
    return [
        min((route.target() for route in model.routes.filter(region=region)), key=order_of_trial)
        for model in offered[:MAX_MODELS]
    ]


def workers_file() -> Path:
    """Return the shared file of credentials that workers read. Raises CommandError where they do
    not read any.
    """
    from certification.bedrock import identity, signing  # noqa: PLC0415, slow to import

    if os.environ.get(BEARER_VARIABLE, "").strip():
        source = BEARER_VARIABLE
    elif connection.find_credentials().method == identity.ENVIRONMENT:
        source = "AWS_ACCESS_KEY_ID"
    else:
        return identity.file_of(signing.Credentials(isolated=False))
    raise CommandError(
        f"Workers take their credentials from {source} of their environment: change it there and "
        "restart them (manage.py restart worker). From a file (AWS_SHARED_CREDENTIALS_FILE) they "
        "would take new ones without a restart."
    )


def read_file(path: Path) -> bytes:
    """Return the content of a file of credentials. Raises CommandError for one that has none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE)
        parser = configparser.RawConfigParser()
        parser.read_string(content.decode())
        profile = os.environ.get("AWS_PROFILE") or "default"
        keys = dict(parser[profile]) if parser.has_section(profile) else {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = getattr(error, "strerror", None) or "it is no file of credentials"
        raise CommandError(f"{path} cannot be read: {reason}.") from None
    if not {"aws_access_key_id", "aws_secret_access_key"} <= keys.keys():
        raise CommandError(
            f"{path} has no keys in the profile [{profile}]: write aws_access_key_id and "
            "aws_secret_access_key there."
        )
    return content


def put_in_place(content: bytes, target: Path) -> None:
    """Replace the workers' file at once: whoever reads it reads the old one or the new one. Raises
    CommandError, with the old one in place.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists() and os.geteuid() == 0:
            shutil.chown(draft, target.stat().st_uid, target.stat().st_gid)
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise CommandError(
            f"{target} cannot be written ({error.strerror}): the old credentials are in place."
        ) from None


@dataclass(frozen=True)
class Proof:
    """The runs on AWS that ended since the last rotation, and how many failed by credentials."""

    since: datetime
    runs: int
    refused: int


def proof() -> Proof | None:
    """Return what runs say of the last rotation; None when there was none."""
    entry = AuditEntry.objects.filter(action=ACTION).order_by("-at").first()
    if entry is None:
        return None
    ended = CertificationRun.objects.filter(backend=Backend.AWS, completed_at__gt=entry.at)
    refused = ended.filter(error_category=ErrorCategory.AUTHENTICATION_ERROR).count()
    return Proof(entry.at, ended.filter(status=State.COMPLETED).count(), refused)


def secrets() -> Iterator[Secret]:
    """Yield every secret that is set, with its age where its file or row knows it."""
    own = Path(settings.MYIA_DIR) / "secret_key"
    yield from of_setting("SECRET_KEY", own if settings.EMBEDDED_POSTGRES else None)
    if number := len(settings.SECRET_KEY_FALLBACKS):
        note = (
            f"{number} old keys verify: remove them {settings.API_LOGIN_DAYS:g} days (logins of "
            "the API), two weeks (sessions) after the change, when webhooks have new secrets."
        )
        yield from of_setting("SECRET_KEY_FALLBACKS", note=note)
    for name in ("MAINTENANCE_SECRET", "METRICS_TOKEN", "FLOWER_BASIC_AUTH", "DATABASE_URL"):
        if getattr(settings, name) and not (name == "DATABASE_URL" and settings.EMBEDDED_POSTGRES):
            yield from of_setting(name)
    key_file = Path(settings.BACKUP_KEY_FILE or backup_key.own_file())
    if settings.BACKUP_KEY or key_file.exists():
        note = "Older backups need the old key: store it with them."
        source = None if settings.BACKUP_KEY else key_file
        yield from of_setting("BACKUP_KEY", source, note=note)
    if key := CertificateKey.objects.order_by("-first_used_at").first():
        yield Secret("CERTIFICATE_KEY", "database", key.first_used_at)
    for row in ApiKey.objects.filter(revoked_at=None, user__is_active=True):
        if row.is_working:
            yield Secret(f"API key {row.name} ({row.shown}…)", "database", row.created_at)
    if backend.name() == Backend.AWS:
        with suppress(CommandError):
            file = workers_file()
            yield Secret("AWS credentials", str(file), changed_at(file), AWS_ROTATE_AFTER)


def of_setting(name: str, file: Path | None = None, note: str = "") -> Iterator[Secret]:
    """Yield a setting's secret; it is as old as its file. Of the environment nobody knows."""
    named = os.environ.get(f"{name}_FILE", "")
    path = file or (Path(named) if named and not os.environ.get(name) else None)
    if path is None or not path.exists():
        yield Secret(name, "environment", None, note=note)
    else:
        yield Secret(name, str(path), changed_at(path), note=note)


def changed_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def to_json(value: Verification) -> dict[str, Any]:
    return {
        "backend": value.backend,
        "caller": value.caller,
        "keyPreview": value.key_preview,
        "source": value.source,
        "well": value.is_well,
        "fault": value.fault,
        "note": value.note,
        "regions": [
            {"region": r.region, "models": r.models, "called": r.called, "fault": r.fault}
            for r in value.regions
        ],
    }
