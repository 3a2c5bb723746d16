"""Who calls: the credentials of the AWS SDK's own chain, and the headers that prove them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import botocore.session
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.utils import normalize_url_path

from certification.bedrock import errors
from certification.bedrock.connection import BEARER_VARIABLE
from certification.bedrock.credentials import Credential, credential_of
from certification.inference import Endpoint
from certification.reasons import Reason

# What a signature is made for: "bedrock-runtime" is refused as a name.
SERVICES = {Endpoint.RUNTIME: "bedrock", Endpoint.MANTLE: "bedrock-mantle"}
# The emulator takes any key, and a wrong address must not receive the user's own.
EMULATOR_KEY = ReadOnlyCredentials("EMULATOR", "emulator", None, None)
MANDATORY_REFRESH_S = 10 * 60  # botocore's: with less left, calls wait for new credentials
RENEWAL_PAUSE_S = 10.0  # between attempts to renew credentials that are still good
LOOK_EVERY_S = 5.0  # at the files that credentials come from
FILES = ("credentials_file", "config_file")  # as botocore's session calls them


class Credentials:
    """The credentials of a session, which is created at first use. Read on the event loop, loaded
    and renewed in a thread: the chain may ask an instance's metadata service or STS. `file` is read
    instead of the user's own.
    """

    def __init__(self, *, isolated: bool, file: str = "") -> None:
        self.isolated, self.file = isolated, file
        self._files: Mapping[str, FileState] = {}  # as they were when the session was new
        self._next_look = 0.0
        self._session: botocore.session.Session | None = None
        self._loaded: Any = None  # what the chain found in this session
        self._lock = threading.Lock()  # sessions are not for several threads at once
        self._renewal: asyncio.Future[Any] | None = None
        self._next_renewal = 0.0

    def session(self) -> botocore.session.Session:
        """Return the session; it reads files when it is new. Safe to call from any thread."""
        with self._lock:
            if self._session is None:
                self._session = isolated_session() if self.isolated else own_session(self.file)
                self._files = states_of(self._session)
                self._next_look = time.monotonic() + LOOK_EVERY_S
            return self._session

    def are_outdated(self) -> bool:
        """Whether somebody has written the files that the credentials come from since they were
        read: botocore reads them once. Looks every LOOK_EVERY_S at most, and blocks for no more
        than a look at two files.
        """
        now, session = time.monotonic(), self._session
        if self.isolated or session is None or now < self._next_look:
            return False
        self._next_look = now + LOOK_EVERY_S
        return states_of(session) != self._files

    def forget(self) -> None:
        """Let the next call read the credentials again."""
        with self._lock:
            self._session = self._loaded = None

    def load(self) -> ReadOnlyCredentials:
        """Return what the chain finds, renewed where due; may block.

        Raises botocore's errors, NoCredentialsError among them.
        """
        session = self.session()
        with self._lock:
            if self._loaded is None or self._session is not session:
                self._loaded = session.get_credentials()
            loaded = self._loaded
        if loaded is None:
            raise NoCredentialsError
        frozen: ReadOnlyCredentials = loaded.get_frozen_credentials()
        return frozen

    def kind(self) -> Credential | None:
        """Return the kind of the credentials that were last loaded, None before."""
        loaded = self._loaded
        if loaded is None:
            return None
        return credential_of(
            str(getattr(loaded, "method", "")), is_temporary=bool(getattr(loaded, "token", None))
        )

    async def current(self) -> ReadOnlyCredentials:
        """Return the credentials to sign with now, without blocking the loop.

        Raises what `load` raises.
        """
        if self.isolated:
            return EMULATOR_KEY
        loaded = self._loaded
        if loaded is None:
            return await asyncio.to_thread(self.load)
        if isinstance(loaded, RefreshableCredentials):
            if loaded.refresh_needed(MANDATORY_REFRESH_S):
                return await asyncio.to_thread(self.load)
            if loaded.refresh_needed():
                self.renew()
            frozen: ReadOnlyCredentials = loaded._frozen_credentials
            return frozen
        return loaded.get_frozen_credentials()

    def renew(self) -> None:
        """Renew credentials that are good for some minutes yet, while calls go on with them."""
        now = time.monotonic()
        if now >= self._next_renewal and (self._renewal is None or self._renewal.done()):
            self._next_renewal = now + RENEWAL_PAUSE_S
            self._renewal = asyncio.ensure_future(asyncio.to_thread(self.load))
            self._renewal.add_done_callback(lambda done: done.exception())  # calls will meet it


FileState = tuple[int, int, int] | None  # time of the last change, inode, size; None: no file


def states_of(session: botocore.session.Session) -> dict[str, FileState]:
    """Return how the files of a session are now."""
    states: dict[str, FileState] = {}
    for name in FILES:
        path = os.path.expanduser(session.get_config_variable(name) or "")
        try:
            status = os.stat(path)
            states[path] = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            states[path] = None
    return states


def own_session(file: str = "") -> botocore.session.Session:
    """Return a session of the user's own configuration, with another file of credentials."""
    if not file:
        return botocore.session.Session()
    return botocore.session.Session(session_vars={"credentials_file": (None, None, file, None)})


def isolated_session() -> botocore.session.Session:
    """Return a session that reads no profile, so that a broken one of the user's does no harm."""
    unset = (None, None, None, None)
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return botocore.session.Session(session_vars={"profile": unset, **files})


def has_bearer_token() -> bool:
    """Tell whether calls are made with a Bedrock API key of the environment."""
    return bool(os.environ.get(BEARER_VARIABLE, "").strip())


def bearer_token(url: str) -> str:
    """Return the Bedrock API key of the environment for calls to `url`; "" without one.

    Raises BedrockError where it would go over the network unencrypted.
    """
    token = os.environ.get(BEARER_VARIABLE, "").strip()
    if token and not url.startswith("https:"):
        raise errors.error(
            Reason.CLIENT_MISCONFIGURED,
            f"{BEARER_VARIABLE} is a bearer token, which may only be sent over https, and the "
            f"address is {url}. Use an https address, or unset the variable.",
        )
    return token


def signature_headers(
    credentials: ReadOnlyCredentials,
    *,
    service: str,
    region: str,
    method: str,
    host: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    at: datetime | None = None,
) -> dict[str, str]:
    """Return the headers that sign a request by Signature Version 4, the same as botocore's
    SigV4Auth makes (a test compares them), at a quarter of its cost.

    `path` is encoded as it goes on the wire and has no query. All of `headers` are signed.
    """
    timestamp = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    date = timestamp[:8]
    added = {"X-Amz-Date": timestamp}
    if credentials.token:
        added["X-Amz-Security-Token"] = credentials.token
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed |= {name.lower(): value for name, value in added.items()} | {"host": host}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        (
            method,
            quote(normalize_url_path(path), safe="/~"),
            "",  # the query
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = signing_key(credentials.secret_key, date, region, service)
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    added["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return added


@lru_cache(maxsize=256)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the key that is good for a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
