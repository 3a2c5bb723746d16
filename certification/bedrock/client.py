"""The calls to AWS Bedrock. Plain types in and out; everything that goes wrong is a BedrockError; nothing is retried here."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from certification.bedrock import converse as converse_wire
from certification.bedrock import embeddings, errors
from certification.exchange import EmbedReply, EmbedRequest, Operation, Reply, Request, Timing, Usage
from certification.reasons import Reason

AWS = "aws"
EMULATOR = "emulator"
# A client's timeouts are fixed, so a few clients per region cover what a deadline may leave (seconds).
READ_TIMEOUTS = (2, 5, 10, 20, 40, 60)
CANARY_MODEL = "amazon.nova-micro-v1:0"


@dataclass(frozen=True)
class Connection:
    """How to reach Bedrock. An empty `endpoint_url` means AWS's own hosts. Proxies come from the usual variables."""

    backend: str = AWS
    endpoint_url: str = ""
    max_connections: int = 64
    connect_timeout_s: float = 5.0
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
    """What the AWS SDK's own chain finds, without calling AWS. BedrockError when the chain itself fails."""
    session = botocore.session.get_session()
    with errors.translated("GetCredentials"):
        if os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            return Identity(True, "bearer token")
        found = session.get_credentials()
    return Identity(True, found.method, (found.access_key or "")[:4]) if found else Identity(False)


class Bedrock:
    """Keeps one boto3 session and one client per region (and timeout). Safe to use from many threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._lock = threading.Lock()
        self._session: Any = None

    # -- runtime ----------------------------------------------------------------------------------------------------

    def converse(self, region: str, target_id: str, request: Request, remaining_s: float = 60) -> Reply:
        """One Converse call. `remaining_s` is how much of the deadline is left. Raises BedrockError."""
        with errors.translated(Operation.CONVERSE, model_id=target_id, region=region):
            client = self._client("bedrock-runtime", region, remaining_s)
            started = time.perf_counter()
            response = client.converse(**converse_wire.to_wire(request, target_id))
            reply = converse_wire.reply_from(response, _ms_since(started))
        if reply is None:
            raise _bad_response(Operation.CONVERSE, response, "neither message nor stop reason")
        return reply

    def stream(self, region: str, target_id: str, request: Request, remaining_s: float = 60) -> Reply:
        """One ConverseStream call, read to its end. A stream that just ends raises StreamBroken with the partial reply."""
        deadline = time.perf_counter() + remaining_s
        started = time.perf_counter()
        reader = converse_wire.StreamReader(started)
        try:
            with errors.translated(Operation.STREAM, model_id=target_id, region=region):
                client = self._client("bedrock-runtime", region, remaining_s)
                reader.started = reader.last = time.perf_counter()
                response = client.converse_stream(**converse_wire.to_wire(request, target_id))
                reader.request_id = converse_wire.request_id_of(response)
                for event in response["stream"]:
                    reader.feed(event)
                    if time.perf_counter() > deadline:
                        response["stream"].close()
                        raise errors.error(
                            Reason.DEADLINE, "The deadline passed while the answer was still streaming.",
                            operation=Operation.STREAM, request_id=reader.request_id,
                        )  # fmt: skip
        except errors.BedrockError as error:
            if reader.events:
                error.partial = reader.reply()
            error.request_id = error.request_id or reader.request_id
            raise
        reply = reader.reply()
        if not reply.complete:
            broken = errors.error(
                Reason.STREAM_TRUNCATED,
                f"The stream ended after {len(reply.events)} events without messageStop and metadata.",
                operation=Operation.STREAM, request_id=reply.request_id,
            )  # fmt: skip
            broken.partial = reply
            raise broken
        return reply

    def embed(self, region: str, target_id: str, request: EmbedRequest, remaining_s: float = 60) -> EmbedReply:
        """Vectors for the texts, in order: one InvokeModel call, or one per text where the vendor takes no batches."""
        texts = request.texts
        groups = [texts] if embeddings.takes_batches(target_id) else [(text,) for text in texts]
        deadline = time.perf_counter() + remaining_s
        started = time.perf_counter()
        vectors: list[tuple[float, ...]] = []
        tokens, counted, request_id = 0, False, ""
        for group in groups:
            payload, response = self._invoke(region, target_id, group, request, deadline - time.perf_counter())
            found = embeddings.vectors_from(payload)
            if len(found) != len(group):
                raise _bad_response(Operation.EMBED, response, f"{len(found)} vectors for {len(group)} texts")
            vectors += found
            request_id = converse_wire.request_id_of(response)
            headers = response["ResponseMetadata"].get("HTTPHeaders") or {}
            count = payload.get("inputTextTokenCount") or headers.get("x-amzn-bedrock-input-token-count")
            if count is not None:
                tokens, counted = tokens + int(count), True
        usage = Usage(tokens, 0, tokens) if counted else None
        return EmbedReply(tuple(vectors), usage, Timing(_ms_since(started)), request_id=request_id)

    def _invoke(
        self, region: str, target_id: str, texts: tuple[str, ...], request: EmbedRequest, remaining_s: float
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        with errors.translated(Operation.EMBED, model_id=target_id, region=region):
            client = self._client("bedrock-runtime", region, remaining_s)
            response = client.invoke_model(
                modelId=target_id,
                body=embeddings.body(target_id, texts, request.dimensions),
                contentType="application/json",
                accept="application/json",
            )
            raw = response["body"].read()
        try:
            payload = json.loads(raw)
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            raise _bad_response(Operation.EMBED, response, "a body that is not a JSON object")
        return payload, response

    # -- control plane ----------------------------------------------------------------------------------------------

    def foundation_models(self, region: str, remaining_s: float = 20) -> tuple[ListedModel, ...]:
        """ListFoundationModels of a region. Raises BedrockError."""
        with errors.translated("ListFoundationModels", region=region):
            answer = self._client("bedrock", region, remaining_s).list_foundation_models()
        return tuple(_listed_model(raw) for raw in answer.get("modelSummaries") or ())

    def inference_profiles(self, region: str, remaining_s: float = 20) -> tuple[ListedProfile, ...]:
        """ListInferenceProfiles of a region, every page. Raises BedrockError."""
        return tuple(self._profiles(region, remaining_s))

    def _profiles(self, region: str, remaining_s: float) -> Iterator[ListedProfile]:
        token: dict[str, str] = {}
        while True:
            with errors.translated("ListInferenceProfiles", region=region):
                client = self._client("bedrock", region, remaining_s)
                page = client.list_inference_profiles(maxResults=100, **token)
            for raw in page.get("inferenceProfileSummaries") or ():
                models = tuple(m["modelArn"].rsplit("/", 1)[-1] for m in raw.get("models") or ())
                yield ListedProfile(
                    raw["inferenceProfileId"], raw.get("inferenceProfileName", ""),
                    tuple(dict.fromkeys(models)), raw.get("status", ""),
                )  # fmt: skip
            if not page.get("nextToken"):
                return
            token = {"nextToken": page["nextToken"]}

    def close(self) -> None:
        """Close the connections of every client."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    # -- clients ----------------------------------------------------------------------------------------------------

    def _client(self, service: str, region: str, remaining_s: float) -> Any:
        if remaining_s <= 0:
            raise errors.error(Reason.DEADLINE, "The run's deadline passed before the call could be made.")
        timeout = max((t for t in READ_TIMEOUTS if t <= remaining_s), default=READ_TIMEOUTS[0])
        key = (service, region, timeout)
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key) or self._make(*key)
                self._clients[key] = client
        return client

    def _make(self, service: str, region: str, timeout: int) -> Any:
        connection = self.connection
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},  # the engine owns the one retry loop
            connect_timeout=min(connection.connect_timeout_s, timeout),
            read_timeout=timeout,
            max_pool_connections=connection.max_connections,
            parameter_validation=False,  # the service shall say what it thinks of a request
            tcp_keepalive=True,
            user_agent_extra="myia-certification",
        )
        options: dict[str, Any] = {"region_name": region, "config": config}
        if connection.endpoint_url:
            options["endpoint_url"] = connection.endpoint_url
        if connection.backend == EMULATOR:
            # Never the user's own keys: the emulator takes any, and a wrong address must not learn them.
            options |= {"aws_access_key_id": "EMULATOR", "aws_secret_access_key": "emulator"}
        if self._session is None:
            self._session = boto3.Session()
        return self._session.client(service, **options)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _bad_response(operation: str, response: Mapping[str, Any], what: str) -> errors.BedrockError:
    meta = response.get("ResponseMetadata") or {}
    return errors.error(
        Reason.BAD_RESPONSE, f"The service answered {meta.get('HTTPStatusCode')} with {what}.",
        operation=operation, http_status=meta.get("HTTPStatusCode"), request_id=meta.get("RequestId") or "",
    )  # fmt: skip


def _listed_model(raw: Mapping[str, Any]) -> ListedModel:
    lifecycle = raw.get("modelLifecycle") or {}
    return ListedModel(
        model_id=raw["modelId"],
        name=raw.get("modelName", ""),
        vendor=raw.get("providerName", ""),
        input_modalities=tuple(raw.get("inputModalities") or ()),
        output_modalities=tuple(raw.get("outputModalities") or ()),
        streaming=bool(raw.get("responseStreamingSupported")),
        inference_types=tuple(raw.get("inferenceTypesSupported") or ()),
        lifecycle=lifecycle.get("status", ""),
        end_of_life=str(lifecycle.get("endOfLifeTime") or "")[:10],
    )
