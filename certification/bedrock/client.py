"""Call AWS Bedrock: plain types in and out, every failure a BedrockError, no retries here."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore
import botocore.session
from botocore.config import Config

from certification.bedrock import converse as converse_wire
from certification.bedrock import embeddings, errors
from certification.inference import (
    EmbedReply,
    EmbedRequest,
    Operation,
    Reply,
    Request,
    Timing,
    Usage,
)
from certification.lib.deadlines import Cutoff
from certification.reasons import Reason

AWS = "aws"
EMULATOR = "emulator"
GRACE_S = 0.2  # to read what had arrived when a stream was cut at its deadline
LAST_CONNECT_TIMEOUT_S = 1.0  # when less is left of a deadline than a connection may normally take
# Complete, because botocore builds its own from a dozen parts twice for every call: a fifth of the
# call's CPU.
USER_AGENT = (
    f"myia-certification Boto3/{boto3.__version__} Botocore/{botocore.__version__} "
    f"Python/{platform.python_version()}"
)
CREDENTIALS_REREAD_S = 5.0  # refused credentials are not read more often
CANARY_MODEL = "amazon.nova-micro-v1:0"


@dataclass(frozen=True)
class Connection:
    """How to reach Bedrock. An empty `endpoint_url` means AWS's own hosts.

    `read_timeout_s` is the longest silence; less where a deadline leaves less. Up to
    `max_connections` per region stay open; calls beyond them open their own. Proxies come from the
    usual variables, but are never used for an emulator or for this machine itself.
    """

    backend: str = AWS
    endpoint_url: str = ""
    max_connections: int = 64
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    home_region: str = "us-east-1"


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
        lifecycle = raw.get("modelLifecycle") or {}
        return cls(
            model_id=raw["modelId"],
            name=raw.get("modelName") or "",
            vendor=raw.get("providerName") or "",
            input_modalities=tuple(raw.get("inputModalities") or ()),
            output_modalities=tuple(raw.get("outputModalities") or ()),
            streaming=bool(raw.get("responseStreamingSupported")),
            inference_types=tuple(raw.get("inferenceTypesSupported") or ()),
            lifecycle=lifecycle.get("status") or "",
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
        arns = [str(model.get("modelArn") or "") for model in raw.get("models") or () if model]
        return cls(
            profile_id=raw["inferenceProfileId"],
            name=raw.get("inferenceProfileName") or "",
            model_ids=tuple(dict.fromkeys(arn.rsplit("/", 1)[-1] for arn in arns if arn)),
            status=raw.get("status") or "",
        )


@dataclass(frozen=True)
class Identity:
    """Which credentials are in use, with no more than the first four characters of a key."""

    configured: bool
    method: str = ""
    key_preview: str = ""


def find_credentials() -> Identity:
    """Return what the AWS SDK's own chain finds, without calling AWS.

    Raises BedrockError when the chain itself fails.
    """
    session = botocore.session.get_session()
    with errors.translated("GetCredentials"):
        if os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            return Identity(True, "bearer token")
        credentials = session.get_credentials()
    if credentials is None:
        return Identity(False)
    return Identity(True, credentials.method, (credentials.access_key or "")[:4])


class Bedrock:
    """Hold one boto3 session and, per region, one client and one for calls short of time.

    Safe to use from many threads.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._clients: dict[tuple[str, str, float], Any] = {}
        self._session: Any = None
        self._next_credentials_read = 0.0
        self._call = threading.local()  # .read_timeout of the call that this thread is making
        self._cutoff = Cutoff()

    # -- runtime -----------------------------------------------------------------------------------

    def converse(
        self, region: str, target_id: str, request: Request, remaining_s: float = 60
    ) -> Reply:
        """Make one Converse call. `remaining_s` is how much of the deadline is left.

        Raises BedrockError.
        """
        with self._calling(Operation.CONVERSE, target_id, region):
            client = self._client("bedrock-runtime", region, remaining_s)
            started = time.perf_counter()
            response = client.converse(**converse_wire.to_wire(request, target_id))
            reply = converse_wire.reply_from(response, _ms_since(started))
        if reply is None:
            raise _bad_response(Operation.CONVERSE, response, "neither message nor stop reason")
        return reply

    def stream(
        self, region: str, target_id: str, request: Request, remaining_s: float = 60
    ) -> Reply:
        """Make one ConverseStream call and read it to its end or to the deadline.

        Raises BedrockError, whose `partial` is what had arrived by then; StreamBroken for a stream
        that just ends.
        """
        reader = converse_wire.StreamReader(time.perf_counter())
        try:
            with self._calling(Operation.STREAM, target_id, region):
                client = self._client("bedrock-runtime", region, remaining_s)
                reader.started = reader.last = time.perf_counter()
                response = client.converse_stream(**converse_wire.to_wire(request, target_id))
                reader.request_id = converse_wire.request_id_of(response)
                headers = response["ResponseMetadata"].get("HTTPHeaders") or {}
                # botocore would read a JSON or HTML page as a corrupt frame
                content_type = str(headers.get("content-type", ""))
                if content_type.startswith(("text/", "application/json")):
                    response["stream"].close()
                    raise _bad_response(
                        Operation.STREAM, response, "something other than an event stream"
                    )
                self._read_stream(response["stream"], reader, remaining_s)
            if not reader.complete:
                raise errors.error(
                    Reason.STREAM_TRUNCATED,
                    f"The stream ended after {len(reader.events)} events without messageStop and "
                    "metadata.",
                    operation=Operation.STREAM,
                )
        except errors.BedrockError as error:
            if reader.events:
                error.partial = reader.reply()
            error.request_id = error.request_id or reader.request_id
            raise
        return reader.reply()

    def _read_stream(
        self, stream: Any, reader: converse_wire.StreamReader, remaining_s: float
    ) -> None:
        """Feed the reader until the stream ends, at the latest at the deadline."""
        # Four endings:
        # 1. the stream ends by itself: the loop runs out; `stream` asks whether it was complete;
        # 2. it breaks: botocore or urllib3 raises, and `_calling` translates;
        # 3. it is silent at the deadline: the cutoff shuts the socket down from its own thread,
        #    which looks like a break (`timer.fired` tells them apart);
        # 4. it still sends after the deadline, because data had arrived before the cut: break.
        # After 3 and 4 the time says that it was us: READ_TIMEOUT or DEADLINE.
        deadline = reader.started + remaining_s
        shutdown = getattr(getattr(stream, "_raw_stream", None), "shutdown", stream.close)
        with self._cutoff.at(deadline, shutdown) as timer:
            try:
                for event in stream:
                    reader.feed(event)
                    if reader.last > deadline + GRACE_S:
                        break
            except STREAM_ERRORS:
                if not timer.fired:
                    raise
            finally:
                # a complete stream returned its connection already; a broken one's is of no use
                stream.close()
        if reader.complete or time.perf_counter() < deadline:
            return
        silent_s = time.perf_counter() - reader.last
        if silent_s >= remaining_s / 2:
            reason = Reason.READ_TIMEOUT
            message = f"The stream sent nothing for {silent_s:.1f} s, and the deadline passed."
        else:
            reason = Reason.DEADLINE
            message = "The deadline passed while the answer was still streaming."
        raise errors.error(reason, message, operation=Operation.STREAM)

    def embed(
        self, region: str, target_id: str, request: EmbedRequest, remaining_s: float = 60
    ) -> EmbedReply:
        """Return vectors for the texts, in order, in as few InvokeModel calls as the vendor allows.

        Raises BedrockError.
        """
        started = time.perf_counter()
        vectors: list[tuple[float, ...]] = []
        counts: list[int] = []
        request_id = ""
        for texts in embeddings.groups(target_id, request.texts):
            body = embeddings.body(target_id, texts, request.dimensions)
            left_s = remaining_s - (time.perf_counter() - started)
            payload, response = self.invoke_model(region, target_id, body, left_s)
            batch = embeddings.vectors_from(payload)
            if len(batch) != len(texts):
                raise _bad_response(
                    Operation.EMBED, response, f"{len(batch)} vectors for {len(texts)} texts"
                )
            vectors += batch
            headers = response["ResponseMetadata"].get("HTTPHeaders") or {}
            tokens = embeddings.tokens_from(payload, headers)
            if tokens is not None:
                counts.append(tokens)
            request_id = converse_wire.request_id_of(response)
        usage = Usage(sum(counts), 0, sum(counts)) if counts else None
        return EmbedReply(tuple(vectors), usage, Timing(_ms_since(started)), request_id=request_id)

    def invoke_model(
        self, region: str, target_id: str, body: str, remaining_s: float
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Make one InvokeModel call; return the JSON object of its body and boto3's response.

        Raises BedrockError.
        """
        with self._calling(Operation.EMBED, target_id, region):
            client = self._client("bedrock-runtime", region, remaining_s)
            response = client.invoke_model(
                modelId=target_id,
                body=body,
                contentType="application/json",
                accept="application/json",
            )
            with closing(response["body"]) as stream:
                raw = stream.read()
        try:
            payload = json.loads(raw)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            raise _bad_response(Operation.EMBED, response, "a body that is not a JSON object")
        return payload, response

    # -- control plane -----------------------------------------------------------------------------

    def foundation_models(self, region: str, remaining_s: float = 20) -> tuple[ListedModel, ...]:
        """List the foundation models of a region. Raises BedrockError."""
        operation = "ListFoundationModels"
        with self._calling(operation, region=region):
            response = self._client("bedrock", region, remaining_s).list_foundation_models()
        entries = _entries(operation, response, "modelSummaries")
        return tuple(ListedModel.from_wire(raw) for raw in entries if raw.get("modelId"))

    def inference_profiles(self, region: str, remaining_s: float = 20) -> tuple[ListedProfile, ...]:
        """List the inference profiles of a region, every page. Raises BedrockError."""
        operation = "ListInferenceProfiles"
        deadline = time.perf_counter() + remaining_s
        profiles: list[ListedProfile] = []
        token: dict[str, str] = {}
        while True:
            with self._calling(operation, region=region):
                client = self._client("bedrock", region, deadline - time.perf_counter())
                page = client.list_inference_profiles(maxResults=100, **token)
            entries = _entries(operation, page, "inferenceProfileSummaries")
            profiles += (
                ListedProfile.from_wire(raw) for raw in entries if raw.get("inferenceProfileId")
            )
            if not page.get("nextToken"):
                return tuple(profiles)
            if token == {"nextToken": page["nextToken"]}:
                raise _bad_response(operation, page, "the same page token again")
            token = {"nextToken": page["nextToken"]}

    def close(self) -> None:
        """Close the connections of every client."""
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

    def forget_credentials(self) -> None:
        """Let the next call read the credentials again, at most once in CREDENTIALS_REREAD_S.

        Somebody may renew them in a file while we run, and boto3 reads that once.
        """
        with CREATION_LOCK:
            now = time.monotonic()
            if self.connection.backend == AWS and now >= self._next_credentials_read:
                self._next_credentials_read = now + CREDENTIALS_REREAD_S
                self._session = None
                self._clients.clear()  # calls under way keep theirs until they end

    def _client(self, service: str, region: str, remaining_s: float) -> Any:
        """Return the client for a call, and limit how long this thread's next call waits for data.

        Raises BedrockError when no time is left.
        """
        if remaining_s <= 0:
            raise errors.error(
                Reason.DEADLINE, "The run's deadline passed before the call could be made."
            )
        self._call.read_timeout = min(self.connection.read_timeout_s, remaining_s)
        connect_s = self.connection.connect_timeout_s
        key = (service, region, connect_s if connect_s <= remaining_s else LAST_CONNECT_TIMEOUT_S)
        client = self._clients.get(key)
        if client is None:
            with CREATION_LOCK:
                client = self._clients.get(key) or self.create_client(*key)
                self._clients[key] = client
        return client

    def create_client(self, service: str, region: str, connect_s: float) -> Any:
        """Create a boto3 client. The caller holds CREATION_LOCK. Raises BedrockError."""
        connection = self.connection
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1, "mode": "standard"},  # the engine retries
            "connect_timeout": connect_s,
            "read_timeout": connection.read_timeout_s,
            "max_pool_connections": connection.max_connections,
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
                raise errors.error(
                    Reason.CLIENT_MISCONFIGURED,
                    "No address is configured for the emulator. Set BEDROCK_ENDPOINT_URL.",
                )
            settings |= ISOLATED_CONFIG
            options |= {"aws_access_key_id": "EMULATOR", "aws_secret_access_key": "emulator"}
        if self._session is None:
            isolated = connection.backend == EMULATOR
            self._session = session_without_profile() if isolated else boto3.Session()
        try:
            client = self._session.client(service, config=Config(**settings), **options)
        except ValueError as exc:  # boto3 raises it for an invalid address
            raise errors.error(Reason.CLIENT_MISCONFIGURED, str(exc)) from exc
        client.meta.events.register(f"before-call.{service}", self._limit_reading)
        return client

    def _limit_reading(self, context: dict[str, Any], **_: Any) -> None:
        """Set this call's read timeout: botocore takes it from the context of a single call."""
        context["read_timeout"] = self._call.read_timeout


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
STREAM_ERRORS: tuple[type[Exception], ...] = errors.FOREIGN + PARSER_ERRORS


@cache
def session_without_profile() -> Any:
    """Return a session that reads no profile, so that a broken one of the user's does no harm."""
    unset = (None, None, None, None)
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return boto3.Session(
        botocore_session=botocore.session.Session(session_vars={"profile": unset, **files})
    )


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def classify_parser_error(traceback: TracebackType | None) -> Reason | None:
    """Return why botocore's own code stumbled; None when botocore had no part in the error."""
    modules = set()
    while traceback is not None:
        modules.add(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    if "botocore.parsers" in modules:
        return Reason.BAD_RESPONSE
    if "botocore.eventstream" in modules:
        return Reason.STREAM_CORRUPT
    return Reason.MALFORMED_REQUEST if "botocore.client" in modules else None


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _bad_response(operation: str, response: Mapping[str, Any], what: str) -> errors.BedrockError:
    meta = response.get("ResponseMetadata") or {}
    return errors.error(
        Reason.BAD_RESPONSE,
        f"The service answered {meta.get('HTTPStatusCode')} with {what}.",
        operation=operation,
        http_status=meta.get("HTTPStatusCode"),
        request_id=meta.get("RequestId") or "",
    )


def _entries(operation: str, response: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the entries of a listing.

    Raises BedrockError for a response without the list: read as empty, every model would vanish.
    """
    entries = response.get(name)
    if not isinstance(entries, list):
        raise _bad_response(operation, response, f"no {name}")
    return [entry for entry in entries if isinstance(entry, Mapping)]
