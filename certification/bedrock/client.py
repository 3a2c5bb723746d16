"""The calls to AWS Bedrock. Plain types in and out; everything that goes wrong is a BedrockError;
nothing is retried here.
"""

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
# Given whole: botocore puts its own together from a dozen parts twice for every call, a fifth of
# the call's CPU.
USER_AGENT = f"myia-certification Boto3/{boto3.__version__} Botocore/{botocore.__version__} Python/{platform.python_version()}"
CREDENTIALS_REREAD_S = 5.0  # refused ones are not read more often
CANARY_MODEL = "amazon.nova-micro-v1:0"


@dataclass(frozen=True)
class Connection:
    """How to reach Bedrock. An empty `endpoint_url` means AWS's own hosts.

    `read_timeout_s` is the longest silence; less where a deadline leaves less. Of `max_connections`
    per region so many are kept open; calls beyond them open their own. Proxies come from the usual
    variables, but never lead to an emulator or to this machine itself.
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


@dataclass(frozen=True)
class ListedProfile:
    """One entry of ListInferenceProfiles. `model_ids` are the foundation models behind it, bare."""

    profile_id: str
    name: str
    model_ids: tuple[str, ...]
    status: str


@dataclass(frozen=True)
class Identity:
    """Which credentials are in use: only the first four characters of a key are ever kept."""

    configured: bool
    method: str = ""
    key_preview: str = ""


def find_credentials() -> Identity:
    """What the AWS SDK's own chain finds, without calling AWS. BedrockError when the chain itself
    fails.
    """
    session = botocore.session.get_session()
    with errors.translated("GetCredentials"):
        if os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            return Identity(True, "bearer token")
        found = session.get_credentials()
    return Identity(True, found.method, (found.access_key or "")[:4]) if found else Identity(False)


class Bedrock:
    """Keeps one boto3 session and one client per region (one more for calls in haste). Safe to use
    from many threads.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._clients: dict[tuple[str, str, float], Any] = {}
        self._session: Any = None
        self._may_read_again_at = 0.0
        self._call = threading.local()  # .read_timeout of the call that this thread is making
        self._cutoff = Cutoff()

    # -- runtime -----------------------------------------------------------------------------------

    def converse(
        self, region: str, target_id: str, request: Request, remaining_s: float = 60
    ) -> Reply:
        """One Converse call. `remaining_s` is how much of the deadline is left. Raises
        BedrockError.
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
        """One ConverseStream call, read to its end or to the deadline.

        Raises BedrockError; what had arrived by then is its `partial`. A stream that just ends is
        StreamBroken.
        """
        reader = converse_wire.StreamReader(time.perf_counter())
        try:
            with self._calling(Operation.STREAM, target_id, region):
                client = self._client("bedrock-runtime", region, remaining_s)
                reader.started = reader.last = time.perf_counter()
                response = client.converse_stream(**converse_wire.to_wire(request, target_id))
                reader.request_id = converse_wire.request_id_of(response)
                if not _is_event_stream(response):
                    response["stream"].close()
                    raise _bad_response(
                        Operation.STREAM, response, "something else than an event stream"
                    )
                self._read(response["stream"], reader, remaining_s)
            if not reader.complete:
                raise _truncated(reader)
        except errors.BedrockError as error:
            if reader.events:
                error.partial = reader.reply()
            error.request_id = error.request_id or reader.request_id
            raise
        return reader.reply()

    def _read(self, stream: Any, reader: converse_wire.StreamReader, remaining_s: float) -> None:
        """Feed the reader until the stream ends. Raises what the stream raises, or READ_TIMEOUT or
        DEADLINE in time.
        """
        deadline = reader.started + remaining_s
        shutdown = getattr(getattr(stream, "_raw_stream", None), "shutdown", stream.close)
        with self._cutoff.at(deadline, shutdown) as watched:
            try:
                for event in stream:
                    reader.feed(event)
                    if reader.last > deadline + GRACE_S:  # more keeps coming all the same
                        break
            except _FAULTS:
                if not watched.fired:  # else the stream broke because we cut it
                    raise
            finally:
                # a whole stream gave its connection back already; of a broken one none is left over
                stream.close()
        if not reader.complete and time.perf_counter() >= deadline:
            raise _out_of_time(reader, remaining_s)

    def embed(
        self, region: str, target_id: str, request: EmbedRequest, remaining_s: float = 60
    ) -> EmbedReply:
        """Vectors for the texts, in order, in as few InvokeModel calls as the vendor allows. Raises
        BedrockError.
        """
        started = time.perf_counter()
        vectors: list[tuple[float, ...]] = []
        counts: list[int | None] = []
        request_id = ""
        for texts in embeddings.groups(target_id, request.texts):
            left_s = remaining_s - (time.perf_counter() - started)
            payload, response = self._invoke(region, target_id, texts, request, left_s)
            found = embeddings.vectors_from(payload)
            if len(found) != len(texts):
                raise _bad_response(
                    Operation.EMBED, response, f"{len(found)} vectors for {len(texts)} texts"
                )
            vectors += found
            counts.append(
                embeddings.tokens_from(
                    payload, response["ResponseMetadata"].get("HTTPHeaders") or {}
                )
            )
            request_id = converse_wire.request_id_of(response)
        tokens = [count for count in counts if count is not None]
        usage = Usage(sum(tokens), 0, sum(tokens)) if tokens else None
        return EmbedReply(tuple(vectors), usage, Timing(_ms_since(started)), request_id=request_id)

    def _invoke(
        self,
        region: str,
        target_id: str,
        texts: tuple[str, ...],
        request: EmbedRequest,
        remaining_s: float,
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        body = embeddings.body(target_id, texts, request.dimensions)
        with self._calling(Operation.EMBED, target_id, region):
            client = self._client("bedrock-runtime", region, remaining_s)
            response = client.invoke_model(
                modelId=target_id,
                body=body,
                contentType="application/json",
                accept="application/json",
            )
            with closing(response["body"]) as answer:
                raw = answer.read()
        try:
            payload = json.loads(raw)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            raise _bad_response(Operation.EMBED, response, "a body that is not a JSON object")
        return payload, response

    # -- control plane -----------------------------------------------------------------------------

    def foundation_models(self, region: str, remaining_s: float = 20) -> tuple[ListedModel, ...]:
        """ListFoundationModels of a region. Raises BedrockError."""
        operation = "ListFoundationModels"
        with self._calling(operation, region=region):
            answer = self._client("bedrock", region, remaining_s).list_foundation_models()
        listed = _entries(operation, answer, "modelSummaries")
        return tuple(_listed_model(raw) for raw in listed if raw.get("modelId"))

    def inference_profiles(self, region: str, remaining_s: float = 20) -> tuple[ListedProfile, ...]:
        """ListInferenceProfiles of a region, every page. Raises BedrockError."""
        return tuple(self._profiles(region, time.perf_counter() + remaining_s))

    def _profiles(self, region: str, deadline: float) -> Iterator[ListedProfile]:
        operation = "ListInferenceProfiles"
        token: dict[str, str] = {}
        while True:
            with self._calling(operation, region=region):
                client = self._client("bedrock", region, deadline - time.perf_counter())
                page = client.list_inference_profiles(maxResults=100, **token)
            listed = _entries(operation, page, "inferenceProfileSummaries")
            yield from (_listed_profile(raw) for raw in listed if raw.get("inferenceProfileId"))
            following = {"nextToken": page["nextToken"]} if page.get("nextToken") else {}
            if following == token and token:
                raise _bad_response(operation, page, "the same page token again")
            if not following:
                return
            token = following

    def close(self) -> None:
        """Close the connections of every client."""
        with _creation_lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    # -- clients -----------------------------------------------------------------------------------

    @contextmanager
    def _calling(self, operation: str, model_id: str = "", region: str = "") -> Iterator[None]:
        try:
            with _told(operation, model_id, region):
                yield
        except errors.NotAuthenticated:
            self._read_credentials_again()
            raise

    def _read_credentials_again(self) -> None:
        """For the next call: somebody may renew them in a file while we run, and boto3 reads that
        once.
        """
        with _creation_lock:
            now = time.monotonic()
            if self.connection.backend == AWS and now >= self._may_read_again_at:
                self._may_read_again_at = now + CREDENTIALS_REREAD_S
                self._session = None
                self._clients.clear()  # calls under way keep theirs until they end

    def _client(self, service: str, region: str, remaining_s: float) -> Any:
        """The kept client; the next call of this thread waits for data no longer than remains."""
        if remaining_s <= 0:
            raise errors.error(
                Reason.DEADLINE, "The run's deadline passed before the call could be made."
            )
        self._call.read_timeout = min(self.connection.read_timeout_s, remaining_s)
        connect_s = self.connection.connect_timeout_s
        key = (service, region, connect_s if connect_s <= remaining_s else LAST_CONNECT_TIMEOUT_S)
        client = self._clients.get(key)
        if client is None:
            with _creation_lock:
                client = self._clients.get(key) or self._make(*key)
                self._clients[key] = client
        return client

    def _make(self, service: str, region: str, connect_s: float) -> Any:
        connection = self.connection
        settings: dict[str, Any] = {
            # the engine owns the one retry loop
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": connect_s,
            "read_timeout": connection.read_timeout_s,
            "max_pool_connections": connection.max_connections,
            "parameter_validation": False,  # the service shall say what it thinks of a request
            "tcp_keepalive": True,
            "user_agent": USER_AGENT,
        }
        options: dict[str, Any] = {"region_name": region}
        if connection.endpoint_url:
            options["endpoint_url"] = connection.endpoint_url
        if connection.backend == EMULATOR or _is_loopback(connection.endpoint_url):
            settings["proxies"] = {}
        if connection.backend == EMULATOR:
            if not connection.endpoint_url:
                raise errors.error(
                    Reason.CLIENT_MISCONFIGURED,
                    "The emulator needs an address: none is configured.",
                )
            settings |= _ISOLATED_CONFIG
            options |= {"aws_access_key_id": "EMULATOR", "aws_secret_access_key": "emulator"}
        if self._session is None:
            self._session = (
                _session_without_profile() if connection.backend == EMULATOR else boto3.Session()
            )
        try:
            client = self._session.client(service, config=Config(**settings), **options)
        except ValueError as exc:  # boto3 says so of an address that is none
            raise errors.error(Reason.CLIENT_MISCONFIGURED, str(exc)) from exc
        client.meta.events.register(f"before-call.{service}", self._limit_reading)
        return client

    def _limit_reading(self, context: dict[str, Any], **_: Any) -> None:
        """A client's own timeouts are fixed; botocore takes the read timeout of a single call from
        its context.
        """
        context["read_timeout"] = self._call.read_timeout


# The user's token, key and set-up are for AWS: the emulator takes any, and a wrong address must not
# learn them.
_ISOLATED_CONFIG = {
    "signature_version": "v4",  # else AWS_BEARER_TOKEN_BEDROCK would win
    "use_fips_endpoint": False,
    "use_dualstack_endpoint": False,
    "defaults_mode": "legacy",
}

_creation_lock = threading.Lock()  # boto3's sessions are not for several threads at once

# What botocore's own code raises when an answer or a request is not shaped as it takes for granted.
_PARSER_ERRORS = (AttributeError, TypeError, LookupError, ValueError, RecursionError, struct.error)
_FAULTS: tuple[type[Exception], ...] = errors.FOREIGN + _PARSER_ERRORS


@cache
def _session_without_profile() -> Any:
    """A session that reads no profile, so that a broken one of the user's does not matter either."""
    unset = (None, None, None, None)
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return boto3.Session(
        botocore_session=botocore.session.Session(session_vars={"profile": unset, **files})
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _told(operation: str, model_id: str = "", region: str = "") -> Iterator[None]:
    """As `errors.translated`, and also where botocore stumbles over an answer or a request instead
    of refusing it.
    """
    with errors.translated(operation, model_id=model_id, region=region):
        try:
            yield
        except errors.FOREIGN:
            raise
        except _PARSER_ERRORS as exc:
            reason = _classify_parser_error(exc.__traceback__)
            if reason is None:
                raise  # our own defect
            raise errors.error(reason, f"{type(exc).__name__}: {exc}", operation=operation) from exc


def _classify_parser_error(traceback: TracebackType | None) -> Reason | None:
    """What it means that an exception came out of these modules; None when botocore had no part in
    it.
    """
    modules = set()
    while traceback is not None:
        modules.add(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    if "botocore.parsers" in modules:
        return Reason.BAD_RESPONSE
    if "botocore.eventstream" in modules:
        return Reason.STREAM_CORRUPT
    return Reason.MALFORMED_REQUEST if "botocore.client" in modules else None


def _is_event_stream(response: Mapping[str, Any]) -> bool:
    """Whether the answer can be one: botocore reads a JSON or HTML page as a corrupt frame."""
    kind = str((response["ResponseMetadata"].get("HTTPHeaders") or {}).get("content-type", ""))
    return not kind.startswith(("text/", "application/json"))


def _truncated(reader: converse_wire.StreamReader) -> errors.BedrockError:
    return errors.error(
        Reason.STREAM_TRUNCATED,
        f"The stream ended after {len(reader.events)} events without messageStop and metadata.",
        operation=Operation.STREAM,
        request_id=reader.request_id,
    )


def _out_of_time(reader: converse_wire.StreamReader, remaining_s: float) -> errors.BedrockError:
    """Mostly silent: the stream hung. Else it was only too long for what was left."""
    silent_s = time.perf_counter() - reader.last
    if silent_s >= remaining_s / 2:
        reason, message = (
            Reason.READ_TIMEOUT,
            f"The stream fell silent for {silent_s:.1f} s, and the deadline passed.",
        )
    else:
        reason, message = (
            Reason.DEADLINE,
            "The deadline passed while the answer was still streaming.",
        )
    return errors.error(reason, message, operation=Operation.STREAM, request_id=reader.request_id)


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


def _entries(operation: str, answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The entries of a listing. An answer without the list is none: taken for empty, every model
    would have vanished.
    """
    found = answer.get(name)
    if not isinstance(found, list):
        raise _bad_response(operation, answer, f"no {name}")
    return [entry for entry in found if isinstance(entry, Mapping)]


def _listed_model(raw: Mapping[str, Any]) -> ListedModel:
    lifecycle = raw.get("modelLifecycle") or {}
    return ListedModel(
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


def _listed_profile(raw: Mapping[str, Any]) -> ListedProfile:
    arns = [str(model.get("modelArn") or "") for model in raw.get("models") or () if model]
    models = dict.fromkeys(arn.rsplit("/", 1)[-1] for arn in arns if arn)
    return ListedProfile(
        raw["inferenceProfileId"],
        raw.get("inferenceProfileName") or "",
        tuple(models),
        raw.get("status") or "",
    )
