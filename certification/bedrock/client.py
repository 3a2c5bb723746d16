"""Call AWS Bedrock: plain types in and out, every failure a BedrockError, no retries here."""

from __future__ import annotations

import asyncio
import json
import platform
import re
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import boto3
import botocore
import botocore.session
from botocore.config import Config

from certification.bedrock import dialects, embeddings, endpoints, errors
from certification.bedrock.connection import AWS, EMULATOR, Connection
from certification.bedrock.credentials import Credential
from certification.bedrock.dialects import invoke
from certification.bedrock.dialects.dialect import (
    Dialect,
    NotExpressible,
    StreamReader,
    WireRequest,
    WireResponse,
)
from certification.bedrock.dialects.quirks import Quirks, learn, quirks_of
from certification.bedrock.endpoints import is_loopback
from certification.bedrock.signing import (
    EMULATOR_KEY,
    SERVICES,
    Credentials,
    bearer_token,
    has_bearer_token,
    signature_headers,
)
from certification.bedrock.transport import Host, Response, Transport, host_of
from certification.inference import (
    API,
    AnyRequest,
    EmbedReply,
    EmbedRequest,
    Endpoint,
    Operation,
    Reply,
    Request,
    RouteTarget,
    Timing,
    Usage,
)
from certification.lib import event_loop, foreign_text
from certification.reasons import Reason

LAST_CONNECT_TIMEOUT_S = 1.0  # when less is left of a deadline than a connection may normally take
USER_AGENT = (
    f"myia-certification Boto3/{boto3.__version__} Botocore/{botocore.__version__} "
    f"Python/{platform.python_version()}"
)
# What a model or profile can be called by; a listing's other entries are left out.
LISTED_ID = re.compile(r"[\w.:/-]{1,200}", re.ASCII)
MAX_NAME, MAX_VENDOR = 200, 100  # characters, as the catalogue stores them
CREDENTIALS_REREAD_S = 5.0  # refused credentials are not read more often
T = TypeVar("T")
MAX_ARN = 2048
SENT = "EntriesAsSent"  # where `keep_as_sent` puts the entries of a listing
CANARY_MODEL = "amazon.nova-micro-v1:0"
NOT_EXPRESSIBLE = NotExpressible.__name__  # the code of a failure for which nothing was called


class Listing(tuple[T, ...]):
    """The entries of a listing that could be read; `unreadable` shows the others."""

    unreadable: tuple[str, ...]

    def __new__(cls, entries: Iterable[T], unreadable: Iterable[str] = ()) -> Self:
        listing = super().__new__(cls, entries)
        listing.unreadable = tuple(unreadable)
        return listing


@dataclass(frozen=True)
class ListedModel:
    """One entry of ListFoundationModels."""

    model_id: str
    name: str
    vendor: str
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    streaming: bool
    inference_types: tuple[str, ...]
    lifecycle: str
    end_of_life: str

    @classmethod
    def from_wire(cls, raw: Mapping[str, Any]) -> ListedModel:
        """Read an entry. Raises ValueError where it is of another shape."""
        lifecycle = raw.get("modelLifecycle") or {}
        if not isinstance(lifecycle, dict):
            raise ValueError("modelLifecycle is no object")
        return cls(
            model_id=raw["modelId"],
            name=str(raw.get("modelName") or "")[:MAX_NAME],
            vendor=str(raw.get("providerName") or "")[:MAX_VENDOR],
            input_modalities=texts_of(raw, "inputModalities"),
            output_modalities=texts_of(raw, "outputModalities"),
            streaming=bool(raw.get("responseStreamingSupported")),
            inference_types=texts_of(raw, "inferenceTypesSupported"),
            lifecycle=text_of(lifecycle, "status", MAX_VENDOR),
            end_of_life=str(lifecycle.get("endOfLifeTime") or "")[:10],
        )


@dataclass(frozen=True)
class ListedProfile:
    """One entry of ListInferenceProfiles. `model_ids` are the foundation models behind it, bare."""

    profile_id: str
    name: str
    model_ids: tuple[str, ...]
    status: str

    @classmethod
    def from_wire(cls, raw: Mapping[str, Any]) -> ListedProfile:
        """Read an entry. Raises ValueError where it is of another shape."""
        models = raw.get("models") or []
        if not isinstance(models, list) or not all(isinstance(m, dict) for m in models if m):
            raise ValueError("models is no list of objects")
        arns = [text_of(model, "modelArn", MAX_ARN) for model in models if model]
        return cls(
            profile_id=raw["inferenceProfileId"],
            name=str(raw.get("inferenceProfileName") or "")[:MAX_NAME],
            model_ids=tuple(dict.fromkeys(arn.rsplit("/", 1)[-1] for arn in arns if arn)),
            status=text_of(raw, "status", MAX_VENDOR),
        )

    @staticmethod
    def is_of_an_application(raw: Mapping[str, Any]) -> bool:
        """Tell a profile that somebody made for the costs of an application, which leads to no
        other place, from a geographic one.
        """
        arn = str(raw.get("inferenceProfileArn") or "")
        return raw.get("type") == "APPLICATION" or ":application-inference-profile/" in arn


@dataclass(frozen=True)
class MantleModel:
    """One entry of GET /v1/models of bedrock-mantle, which says nothing about APIs and paths.

    `unavailable` is why the account cannot call it, such as its data retention mode; "" when it
    can. `retention_modes` are those that the model allows.
    """

    model_id: str
    unavailable: str = ""
    retention_modes: tuple[str, ...] = ()

    @classmethod
    def from_wire(cls, raw: Mapping[str, Any]) -> MantleModel:
        status, reason = raw.get("status"), raw.get("status_reason")
        retention = raw.get("data_retention")
        modes = retention.get("allowed_modes") if isinstance(retention, dict) else None
        return cls(
            model_id=str(raw["id"]),
            unavailable="" if status in (None, "available") else str(reason or status),
            retention_modes=tuple(str(mode) for mode in modes) if isinstance(modes, list) else (),
        )


@dataclass(eq=False, slots=True)
class Call:
    """One call under way. Times are on the clock of time.perf_counter.

    `started` is when its request was sent, `received_at` when the service last sent something: a
    byte of a whole response, an event of a stream.
    """

    region: str
    target: RouteTarget
    operation: str
    deadline: float
    started: float = field(default_factory=time.perf_counter)
    received_at: float = field(default_factory=time.perf_counter)
    request_id: str = ""

    @asynccontextmanager
    async def until_deadline(self) -> AsyncIterator[None]:
        """Cut the block at the deadline. Raises BedrockError then."""
        try:
            async with asyncio.timeout(self.deadline - time.perf_counter()) as limit:
                yield
        except TimeoutError as exc:
            if not limit.expired():
                raise  # a timeout of the connection's own
            raise self.overdue() from exc

    def translate(self, exc: BaseException) -> errors.BedrockError:
        return errors.translate(
            exc, self.operation, model_id=self.target.target_id, region=self.region
        )

    def refusal(self, response: WireResponse) -> errors.BedrockError:
        """Return the error that a response other than 2xx reports."""
        return errors.from_response(
            response, self.operation, model_id=self.target.target_id, region=self.region
        )

    def overdue(self) -> errors.BedrockError:
        """Return the error for a call that was cut: by silence, or in the midst of the response."""
        silent_s = time.perf_counter() - self.received_at
        if silent_s >= (self.deadline - self.started) / 2:
            reason = Reason.READ_TIMEOUT
            message = f"The service sent nothing for {silent_s:.1f} s, and the deadline passed."
        else:
            reason = Reason.DEADLINE
            message = "The deadline passed while the response was still arriving."
        return errors.error(reason, message, operation=self.operation)


class Bedrock:
    """All calls of a process to Bedrock.

    `send` runs on the process's event loop and never blocks it. The control plane is boto3's and
    blocks: call it from threads, as many as you like.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.credentials = Credentials(
            isolated=connection.backend == EMULATOR, file=connection.credentials_file
        )
        self._transport = Transport(connection.read_timeout_s)
        self._hosts: dict[tuple[Endpoint, str], Host] = {}
        self._resolving = asyncio.Lock()
        self._quirks: dict[tuple[str, API], Quirks] = {}  # by id, what refusals taught
        self._clients: dict[tuple[str, float], Any] = {}
        self._next_credentials_read = 0.0
        self._call = threading.local()  # .read_timeout of the call that this thread is making

    # -- inference ---------------------------------------------------------------------------------

    async def send(
        self, region: str, target: RouteTarget, request: AnyRequest, remaining_s: float = 60
    ) -> Reply | EmbedReply:
        """Make one call by a route. `remaining_s` is how much of the deadline is left.

        Raises BedrockError; for a stream its `partial` is what had arrived by then.
        """
        if self.credentials.are_outdated():
            self.forget_credentials()
        call = Call(region, target, request.operation, time.perf_counter() + remaining_s)
        try:
            with errors.translated(request.operation, model_id=target.target_id, region=region):
                if isinstance(request, EmbedRequest):
                    return await self._embed(call, request)
                if target.api is API.INVOKE:
                    raise errors.error(Reason.API_NOT_SUPPORTED, NO_TEXT_BY_INVOKE)
                return await self._converse(call, request)
        except errors.BedrockError as error:
            if isinstance(error, errors.NotAuthenticated):
                error.credential = self.credential_kind()
                self.forget_credentials()
            error.request_id = error.request_id or call.request_id
            raise

    async def _converse(self, call: Call, request: Request) -> Reply:
        """Make a call in the words of the route's API; in others where a refusal names them.

        What a refusal teaches is stored for the later calls of the route.
        """
        target = call.target
        dialect, key = dialects.dialect_for(target.api), (target.target_id, target.api)
        known = self._quirks.get(key) or quirks_of(target.target_id)
        sent = [encoded(dialect, request, target, known)]
        while True:
            try:
                if request.operation is Operation.STREAM:
                    return await self._stream(call, dialect, sent[-1])
                response = await self._exchange(call, sent[-1])
                return dialect.decode(response, Timing(ms_since(call.started)))
            except errors.BedrockError as error:
                error.fill_fix(target.target_id, call.region)
                learned = learn(error.message, known) if error.http_status == 400 else None
                if learned is None:
                    raise
                self._quirks[key] = known = learned
                wire = encoded(dialect, request, target, known)
                if wire in sent:
                    raise
                sent.append(wire)

    async def _exchange(self, call: Call, wire: WireRequest) -> WireResponse:
        """Send a request and read its whole response. Raises BedrockError for a refusal, and when
        it does not end in time.
        """
        async with call.until_deadline():
            response = await self._post(call, wire)
            try:
                body = await response.read()
            finally:
                call.received_at = response.received_at
                response.close()
        whole = WireResponse(response.status, response.headers, body)
        if not 200 <= whole.status < 300:
            raise call.refusal(whole)
        return whole

    async def _stream(self, call: Call, dialect: Dialect, wire: WireRequest) -> Reply:
        """Send a request and read its stream to the end or to the deadline."""
        reader: StreamReader | None = None
        response: Response | None = None
        try:
            async with call.until_deadline():
                response = await self._post(call, wire)
                if not 200 <= response.status < 300:
                    body = await response.read()
                    raise call.refusal(WireResponse(response.status, response.headers, body))
                reader = dialect.stream_reader(call.started, response.headers)
                while data := await response.next():
                    feed(call, reader, data)
                reader.end()
            return reader.reply(time.perf_counter())
        except errors.FOREIGN as exc:
            error = call.translate(exc)
            error.partial = partial_of(reader)
            raise error from exc
        except errors.BedrockError as error:
            error.partial = partial_of(reader)
            raise
        finally:
            if response is not None:
                response.close()

    async def _embed(self, call: Call, request: EmbedRequest) -> EmbedReply:
        """Return vectors for the texts, in order, in as few calls as the vendor allows."""
        target_id = call.target.target_id
        vectors: list[tuple[float, ...]] = []
        counts: list[int] = []
        began = time.perf_counter()
        for texts in embeddings.groups(target_id, request.texts):
            wire = invoke.encode(target_id, texts, request.dimensions)
            response = await self._exchange(call, wire)
            embedded = invoke.decode(response, len(texts))
            vectors += embedded.vectors
            if embedded.tokens is not None:
                counts.append(embedded.tokens)
        usage = Usage(sum(counts), 0, sum(counts)) if counts else None
        timing = Timing(ms_since(began))
        return EmbedReply(tuple(vectors), usage, timing, request_id=call.request_id)

    async def _post(self, call: Call, wire: WireRequest) -> Response:
        """Sign a request and send it; the head of the response is there. Raises BedrockError when
        no time is left, and aiohttp's and botocore's errors.
        """
        remaining_s = call.deadline - time.perf_counter()
        if remaining_s <= 0:
            raise errors.error(Reason.DEADLINE, TOO_LATE)
        host = await self._host(call.target.endpoint, call.region)
        headers = await self._authorization(call, host, wire)
        headers |= {**wire.headers, "User-Agent": USER_AGENT, "Host": host.authority}
        call.started = call.received_at = time.perf_counter()
        connect_s = min(self.connection.connect_timeout_s, remaining_s)
        response = await self._transport.request(
            wire.method, host, wire.path, headers=headers, body=wire.body, connect_s=connect_s
        )
        call.request_id = errors.request_id_in(response.headers)
        return response

    async def _authorization(self, call: Call, host: Host, wire: WireRequest) -> dict[str, str]:
        """Return the headers that say who calls: an API key, or a signature."""
        if self.connection.backend != EMULATOR and (token := bearer_token(host.url)):
            return {"Authorization": f"Bearer {token}"}
        return signature_headers(
            await self.credentials.current(),
            service=SERVICES[call.target.endpoint],
            region=call.region,
            method=wire.method,
            host=host.authority,
            path=wire.path,
            headers=wire.headers,
            body=wire.body,
        )

    async def _host(self, endpoint: Endpoint, region: str) -> Host:
        """Return where an endpoint is in a region; the first time it is resolved in a thread."""
        host = self._hosts.get((endpoint, region))
        if host is None:
            async with self._resolving:  # calls that come together resolve it once
                host = self._hosts.get((endpoint, region))
                if host is None:
                    host = await asyncio.to_thread(self.resolve, endpoint, region)
                    self._hosts[endpoint, region] = host
        return host

    def resolve(self, endpoint: Endpoint, region: str) -> Host:
        """Return where an endpoint is in a region. Raises BedrockError and botocore's errors."""
        connection = self.connection
        if connection.backend == EMULATOR and not connection.endpoint_url:
            raise errors.error(Reason.CLIENT_MISCONFIGURED, NO_EMULATOR)
        session = self.credentials.session()
        url = endpoints.base_url(session, endpoint, region, connection.endpoint_url)
        return host_of(session, url, use_proxies=connection.backend != EMULATOR)

    # -- control plane -----------------------------------------------------------------------------

    def foundation_models(self, region: str, remaining_s: float = 20) -> Listing[ListedModel]:
        """List the foundation models of a region. Raises BedrockError."""
        operation = "ListFoundationModels"
        with self._calling(operation, region=region):
            response = self._client(region, remaining_s).list_foundation_models()
        entries = _entries(operation, response, "modelSummaries")
        return read_entries(entries, ListedModel.from_wire, "modelId")

    def inference_profiles(self, region: str, remaining_s: float = 20) -> Listing[ListedProfile]:
        """List the geographic inference profiles of a region, every page. Raises BedrockError."""
        operation = "ListInferenceProfiles"
        deadline = time.perf_counter() + remaining_s
        entries: list[Any] = []
        token: dict[str, str] = {}
        while True:
            with self._calling(operation, region=region):
                client = self._client(region, deadline - time.perf_counter())
                page = client.list_inference_profiles(maxResults=100, **token)
            entries += _entries(operation, page, "inferenceProfileSummaries")
            if not page.get("nextToken"):
                geographic = [
                    raw
                    for raw in entries
                    if not (isinstance(raw, dict) and ListedProfile.is_of_an_application(raw))
                ]
                return read_entries(geographic, ListedProfile.from_wire, "inferenceProfileId")
            if token == {"nextToken": page["nextToken"]}:
                raise _bad_response(operation, page, "the same page token again")
            token = {"nextToken": page["nextToken"]}

    def mantle_models(self, region: str, remaining_s: float = 20) -> Listing[MantleModel] | None:
        """List the models that bedrock-mantle has in a region; None where the region has no
        bedrock-mantle, whose host then has no name. Raises BedrockError.
        """
        operation = "ListModels"
        target = RouteTarget("", "", Endpoint.MANTLE, API.CHAT_COMPLETIONS)
        call = Call(region, target, operation, time.perf_counter() + remaining_s)
        try:
            with self._calling(operation, region=region):
                response = event_loop.run(self._exchange(call, LIST_MANTLE_MODELS))
        except errors.BedrockError as error:
            if error.reason in self._no_such_host:
                return None
            raise
        try:
            body = json.loads(response.body)
        except (ValueError, RecursionError):
            body = None
        entries = body.get("data") if isinstance(body, dict) else None
        if not isinstance(entries, list):
            message = f"The service answered {response.status} without a list of models."
            raise errors.error(Reason.BAD_RESPONSE, message, operation=operation)
        cleaned = (foreign_text.clean_values(raw) for raw in entries)
        return read_entries(cleaned, MantleModel.from_wire, "id")

    @property
    def _no_such_host(self) -> frozenset[Reason]:
        """What a call meets where an endpoint does not exist. The emulator is one host for all
        regions, and drops the connection.
        """
        dropped = [Reason.CONNECTION_REFUSED] if self.connection.backend == EMULATOR else []
        return frozenset([Reason.DNS, *dropped])

    def close(self) -> None:
        """Close every connection. Call it from a thread, not from the event loop."""
        event_loop.run(self._transport.close())
        with CREATION_LOCK:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    # -- clients -----------------------------------------------------------------------------------

    @contextmanager
    def _calling(self, operation: str, model_id: str = "", region: str = "") -> Iterator[None]:
        """Raise whatever goes wrong inside as a BedrockError; let a defect of our own pass."""
        try:
            with errors.translated(operation, model_id=model_id, region=region):
                try:
                    yield
                except errors.FOREIGN:
                    raise
                except PARSER_ERRORS as exc:
                    reason = classify_parser_error(exc.__traceback__)
                    if reason is None:
                        raise
                    message = f"{type(exc).__name__}: {exc}"
                    raise errors.error(reason, message, operation=operation) from exc
        except errors.NotAuthenticated:
            self.forget_credentials()
            raise

    def credential_kind(self) -> Credential | None:
        """Return the kind of credentials that calls are made with, None where it is not known."""
        if self.connection.backend == EMULATOR:
            return None
        return Credential.API_KEY if has_bearer_token() else self.credentials.kind()

    def forget_credentials(self) -> None:
        """Let the next call read the credentials again, at most once in CREDENTIALS_REREAD_S.

        Somebody may renew them in a file while we run, and botocore reads that once.
        """
        with CREATION_LOCK:
            now = time.monotonic()
            if self.connection.backend == AWS and now >= self._next_credentials_read:
                self._next_credentials_read = now + CREDENTIALS_REREAD_S
                self.credentials.forget()
                self._hosts.clear()
                self._clients.clear()  # calls under way keep theirs until they end

    def _client(self, region: str, remaining_s: float) -> Any:
        """Return the control plane's client, and limit how long this thread's next call waits for
        data.

        Raises BedrockError when no time is left.
        """
        if remaining_s <= 0:
            raise errors.error(Reason.DEADLINE, TOO_LATE)
        self._call.read_timeout = min(self.connection.read_timeout_s, remaining_s)
        connect_s = self.connection.connect_timeout_s
        key = (region, connect_s if connect_s <= remaining_s else LAST_CONNECT_TIMEOUT_S)
        client = self._clients.get(key)
        if client is None:
            with CREATION_LOCK:
                client = self._clients.get(key) or self.create_client(*key)
                self._clients[key] = client
        return client

    def create_client(self, region: str, connect_s: float) -> Any:
        """Create a boto3 client. The caller holds CREATION_LOCK. Raises BedrockError."""
        connection = self.connection
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1, "mode": "standard"},  # the engine retries
            "connect_timeout": connect_s,
            "read_timeout": connection.read_timeout_s,
            "parameter_validation": False,  # the service shall judge a request, not botocore
            "tcp_keepalive": True,
            "user_agent": USER_AGENT,
        }
        options: dict[str, Any] = {"region_name": region}
        if connection.endpoint_url:
            options["endpoint_url"] = connection.endpoint_url
        if connection.backend == EMULATOR or is_loopback(connection.endpoint_url):
            settings["proxies"] = {}
        if connection.backend == EMULATOR:
            if not connection.endpoint_url:
                raise errors.error(Reason.CLIENT_MISCONFIGURED, NO_EMULATOR)
            settings |= ISOLATED_CONFIG
            options |= {
                "aws_access_key_id": EMULATOR_KEY.access_key,
                "aws_secret_access_key": EMULATOR_KEY.secret_key,
            }
        session = boto3.Session(botocore_session=self.credentials.session())
        try:
            client = session.client("bedrock", config=Config(**settings), **options)
        except ValueError as exc:  # boto3 raises it for an invalid address
            raise errors.error(Reason.CLIENT_MISCONFIGURED, str(exc)) from exc
        client.meta.events.register("before-call.bedrock", self._limit_reading)
        client.meta.events.register("before-parse.bedrock", keep_as_sent)
        return client

    def _limit_reading(self, context: dict[str, Any], **_: Any) -> None:
        """Set this call's read timeout: botocore takes it from the context of a single call."""
        context["read_timeout"] = self._call.read_timeout


LIST_MANTLE_MODELS = WireRequest("/v1/models", b"", "GET", {"Accept": "application/json"})
NO_TEXT_BY_INVOKE = "InvokeModel is called for embeddings only. Call the model by another API."
TOO_LATE = "The run's deadline passed before the call could be made."
NO_EMULATOR = "No address is configured for the emulator. Set BEDROCK_ENDPOINT_URL."
# The user's token, key and configuration are for AWS: the emulator takes any, and a wrong address
# must not receive them.
ISOLATED_CONFIG = {
    "signature_version": "v4",  # else AWS_BEARER_TOKEN_BEDROCK would win
    "use_fips_endpoint": False,
    "use_dualstack_endpoint": False,
    "defaults_mode": "legacy",
}

CREATION_LOCK = threading.Lock()  # boto3's sessions are not for several threads at once

# What botocore's own code raises when a response or a request has not the shape it expects.
PARSER_ERRORS = (AttributeError, TypeError, LookupError, ValueError, RecursionError, struct.error)


def encoded(dialect: Dialect, request: Request, target: RouteTarget, quirks: Quirks) -> WireRequest:
    """Return the HTTP request. Raises BedrockError for what the API has no words for, and for what
    cannot be written as JSON.
    """
    try:
        return dialect.encode(request, target, quirks)
    except NotExpressible as exc:
        reason, message = Reason.PARAMETER_NOT_SUPPORTED, str(exc)
        raise errors.error(
            reason, message, code=NOT_EXPRESSIBLE, operation=request.operation
        ) from exc
    except (TypeError, ValueError, RecursionError) as exc:
        message = f"The request cannot be written as JSON: {exc}"
        raise errors.error(Reason.MALFORMED_REQUEST, message, operation=request.operation) from exc


def partial_of(reader: StreamReader | None) -> Reply | None:
    """Return what a broken stream had delivered; None when it had no event."""
    return reader.reply(time.perf_counter()) if reader is not None and reader.events else None


def feed(call: Call, reader: StreamReader, data: bytes) -> None:
    """Give a stream's bytes to its reader; note when it had a new event."""
    now, before = time.perf_counter(), len(reader.events)
    reader.feed(data, now)
    if len(reader.events) > before:
        call.received_at = now


def ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def classify_parser_error(traceback: TracebackType | None) -> Reason | None:
    """Return why botocore's own code stumbled; None when botocore had no part in the error."""
    modules = set()
    while traceback is not None:
        modules.add(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    if "botocore.parsers" in modules:
        return Reason.BAD_RESPONSE
    return Reason.MALFORMED_REQUEST if "botocore.client" in modules else None


def is_id(value: object) -> bool:
    """Return whether a listing's value is an id that calls can name."""
    return isinstance(value, str) and LISTED_ID.fullmatch(value) is not None


def _bad_response(operation: str, response: Mapping[str, Any], what: str) -> errors.BedrockError:
    meta = response.get("ResponseMetadata") or {}
    return errors.error(
        Reason.BAD_RESPONSE,
        f"The service answered {meta.get('HTTPStatusCode')} with {what}.",
        operation=operation,
        http_status=meta.get("HTTPStatusCode"),
        request_id=meta.get("RequestId") or "",
    )


def read_entries(
    entries: Iterable[Any], read: Callable[[Mapping[str, Any]], T], id_name: str
) -> Listing[T]:
    """Read each entry of a listing; one that cannot be read, or called by its id, costs only
    itself.
    """
    result: list[T] = []
    unreadable: list[str] = []
    for raw in entries:
        try:
            if not isinstance(raw, dict):
                raise ValueError("no object")
            if not is_id(raw.get(id_name)):
                raise ValueError(f"{id_name} is no id")
            result.append(read(raw))
        except (ValueError, TypeError, AttributeError) as error:
            unreadable.append(f"{error}: {str(raw)[:200]}")
    return Listing(result, unreadable)


def text_of(raw: Mapping[str, Any], name: str, limit: int) -> str:
    """Return a text of an entry, "" without one. ValueError where it is none or too long."""
    value = raw.get(name) or ""
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"{name} is no text of up to {limit} characters")
    return value


def texts_of(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts of an entry. ValueError where it is none."""
    values = raw.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} is no list of texts")
    return tuple(values)


def _entries(operation: str, response: Mapping[str, Any], name: str) -> list[Any]:
    """Return the entries of a listing, as they were sent.

    Raises BedrockError for a response without the list: read as empty, every model would vanish.
    """
    entries = response.get(SENT, {}).get(name, response.get(name))
    if not isinstance(entries, list):
        raise _bad_response(operation, response, f"no {name}")
    return [foreign_text.clean_values(entry) for entry in entries]


def keep_as_sent(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Take the entries of a listing out of a response before botocore parses it: it fails on the
    whole list for one entry of another shape.
    """
    try:
        body = json.loads(response_dict["body"])
    except (ValueError, RecursionError):
        return
    for name in ("modelSummaries", "inferenceProfileSummaries"):
        if isinstance(body, dict) and isinstance(body.get(name), list):
            customized_response_dict.setdefault(SENT, {})[name] = body[name]
            body[name] = []
            response_dict["body"] = json.dumps(body).encode()
