"""The emulator as one object: authorise, route, apply the scenario, answer, count."""

from __future__ import annotations

import heapq
import hmac
import json
import logging
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any, NamedTuple, TextIO
from urllib.parse import parse_qsl, unquote

from certification.bedrock import catalogue
from certification.bedrock.catalogue import INFERENCE_PROFILE, CatalogueModel
from certification.emulator import (
    addresses,
    body_schema,
    control,
    converse,
    envelopes,
    invoke,
    refusals,
    validation,
    wire,
)
from certification.emulator.addresses import Address
from certification.emulator.calls import (
    EVENT_STREAM,
    CallRecord,
    EmulatorOptions,
    Invocation,
    check_service,
    streamed,
)
from certification.emulator.chat_completions import ChatCompletions
from certification.emulator.dialect import ApiDialect, paced, read_and_answer
from certification.emulator.http import (
    MARK,
    ConnectionDropped,
    FullResponse,
    HttpRequest,
    HttpResponse,
    NoResponse,
    duration_s,
    reset_after,
)
from certification.emulator.messages import Messages
from certification.emulator.model_directory import ModelDirectory, ResolvedModel
from certification.emulator.refusals import Refusal
from certification.emulator.responses import Responses
from certification.emulator.scenario import (
    Call,
    FaultInjector,
    Faults,
    Scenario,
    ScenarioError,
    load_shipped,
    parse,
)
from certification.inference import API, Endpoint

log = logging.getLogger(__name__)

OPERATIONS = {
    "converse": "Converse", "converse-stream": "ConverseStream", "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream", "count-tokens": "CountTokens",
}  # fmt: skip


class SharedAPI(NamedTuple):
    """An API that both endpoints have, with the name of its operation."""

    api: API
    operation: str
    dialect: ApiDialect


CHAT = SharedAPI(API.CHAT_COMPLETIONS, "ChatCompletions", ChatCompletions())
RESPONSES = SharedAPI(API.RESPONSES, "Responses", Responses())
MESSAGES = SharedAPI(API.MESSAGES, "Messages", Messages())
RUNTIME_PATHS = {
    "/openai/v1/chat/completions": CHAT,
    "/openai/v1/responses": RESPONSES,
    "/anthropic/v1/messages": MESSAGES,
}
PATHS = {
    Endpoint.RUNTIME: RUNTIME_PATHS,
    Endpoint.MANTLE: RUNTIME_PATHS | {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES},
}
MESSAGES_COUNT = "/anthropic/v1/messages/count_tokens"  # bedrock-mantle only
CONTROL_PAGES = ("/_emulator/reset", "/_emulator/scenario")
LATELY_S = 60.0
EXPIRED_KEYS = ("ASIAEXPIRED*",)
INVALID_KEYS = ("AKIAINVALID*",)
HTML_503 = (
    b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n"
    b"<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"
)
EMPTY_200 = (
    b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
)


@dataclass(frozen=True, slots=True)
class Authority:
    """What a signature is scoped to, or what to refuse it with."""

    region: str = ""
    service: str = ""
    refusal: Callable[[], Refusal] | None = None


class Emulator:
    """Answer HTTP requests as Bedrock would.

    One thread, no waiting: delays are part of the response.
    """

    def __init__(
        self,
        scenario: Scenario,
        options: EmulatorOptions | None = None,
        access_log: TextIO | None = None,
    ) -> None:
        self.options = options or EmulatorOptions()
        self.directory = ModelDirectory(catalogue.load())
        self.listings = control.Listings(self.directory.catalogue)
        self.injector = FaultInjector(scenario, self.options.seed)
        self.stats: Counter[tuple[str, str, str, str]] = Counter()
        # a heap of the calls in flight, and of those that ended lately: when each ends and began,
        # on the monotonic clock, which is the machine's
        self.lately: list[tuple[float, float]] = []
        self._access_log = access_log
        self._authority = lru_cache(maxsize=4096)(self.read_authority)

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request; never raises."""
        record = CallRecord(request, str(uuid.UUID(int=uuid.uuid4().int)))
        response: HttpResponse
        try:
            response = self.route(record)
        except Refusal as refusal:
            record.outcome = refusal.code
            response = envelopes.response(refusal, record)
        except RecursionError:
            record.outcome = "ValidationException"
            response = envelopes.response(refusals.malformed("#", "nested too deeply"), record)
        # the outer edge: a fault of the emulator must look like a fault, not like Bedrock
        except Exception:
            log.exception("emulator_fault")
            record.outcome = "emulator_fault"
            body = wire.dumps({"message": "The emulator itself failed; its log has the traceback."})
            response = FullResponse(500, body, record.headers)
        if record.reset_after is not None:
            record.outcome = "reset"
            response = reset_after(response, record.reset_after)
        if record.operation:
            self.stats[record.operation, record.model, record.region, record.outcome] += 1
            now = time.monotonic()
            heapq.heappush(self.lately, (now + duration_s(response), now))
            while self.lately[0][0] < now - LATELY_S:
                heapq.heappop(self.lately)
        if self._access_log:
            line = (record.operation, record.model or "-", record.region or "-", record.outcome)
            print(*line, file=self._access_log, flush=True)
        return response

    # routing

    def route(self, record: CallRecord) -> HttpResponse:
        address = addresses.locate(record.request)
        record.endpoint, record.path = address.endpoint, address.path
        path, method = address.path, record.request.method
        if (path == "/" or path.startswith("/_emulator/")) and not address.named:
            return self.own_page(record, path)
        if path.startswith("/model/") and address.endpoint is Endpoint.RUNTIME:
            called, _, verb = path[7:].rpartition("/")
            operation = OPERATIONS.get(verb)
            if operation and called and method == "POST":
                return self.call_native(record, address, operation, unquote(called))
        shared = PATHS[address.endpoint].get(path)
        if shared is not None and method == "POST":
            return self.call_shared(record, address, shared)
        if path == MESSAGES_COUNT and method == "POST" and address.endpoint is Endpoint.MANTLE:
            return self.count_messages(record, address)
        region = record.region = self.authorise(record.request, address)
        if address.endpoint is Endpoint.MANTLE:
            return self.list_or_get_on_mantle(record, region)
        response = self.list_or_get(record, region, path, dict(parse_qsl(address.query)))
        if response is not None:
            return response
        if method == "GET" and not address.named and "/v1/" not in path:  # the control plane
            raise refusals.unknown_operation(path)
        # bedrock-runtime answers 200 to a path that it does not have
        record.outcome = "UnknownOperationException"
        return FullResponse(200, EMPTY_200, record.headers)

    def list_or_get(
        self, record: CallRecord, region: str, path: str, query: dict[str, str]
    ) -> HttpResponse | None:
        """Answer a call of the control plane; None when the path is none of its operations."""
        first, _, rest = path[1:].partition("/")
        rest = unquote(rest)
        listings = self.listings
        operations: dict[tuple[str, bool], tuple[str, Callable[[], bytes]]] = {
            ("foundation-models", False): (
                "ListFoundationModels",
                lambda: listings.foundation_models(region, query, self.legacy_models(region)),
            ),
            ("foundation-models", True): (
                "GetFoundationModel",
                lambda: listings.foundation_model(region, rest, self.legacy_models(region)),
            ),
            ("inference-profiles", False): (
                "ListInferenceProfiles",
                lambda: listings.inference_profiles(region, query),
            ),
            ("inference-profiles", True): (
                "GetInferenceProfile",
                lambda: listings.inference_profile(region, rest),
            ),
            ("foundation-model-availability", True): (
                "GetFoundationModelAvailability",
                lambda: listings.availability(region, rest, self.converse_faults(rest, region)),
            ),
        }
        match = operations.get((first, bool(rest)))
        if match is None or record.request.method != "GET":
            return None
        record.operation, body = match
        call = Call(record.operation, rest, region, "", rest)
        faults = self.injector.faults(call, zlib.crc32(record.request.target))
        early = self.early_response(faults, record)
        check_service(faults, call)
        return early or FullResponse(200, body(), record.headers)

    def converse_faults(self, model_id: str, region: str) -> Faults:
        """Return what a Converse call of the model would meet."""
        return self.injector.faults(Call("Converse", model_id, region, "", model_id), 0)

    def legacy_models(self, region: str) -> frozenset[str]:
        """Return the models that the scenario treats as LEGACY in a region."""
        if not any("legacy" in rule.effects for rule in self.injector.scenario.rules):
            return frozenset()
        models = self.directory.catalogue.models
        return frozenset(m for m in models if self.converse_faults(m, region).legacy)

    def list_or_get_on_mantle(self, record: CallRecord, region: str) -> HttpResponse:
        """Answer GET /v1/models and /v1/models/{id}. Refuses every other path with 404."""
        if region not in self.directory.mantle_regions:
            record.outcome = "no_mantle"
            return ConnectionDropped()
        first, _, called = record.path.removeprefix("/v1/").partition("/")
        known = record.path.startswith("/v1/models") and first == "models"
        if not known or record.request.method != "GET":
            raise refusals.no_such_path(record.request.method, record.path)
        called = unquote(called)
        record.operation = "GetModel" if called else "ListModels"
        call = Call(record.operation, called, region, "", called, Endpoint.MANTLE)
        faults = self.injector.faults(call, zlib.crc32(record.request.target))
        early = self.early_response(faults, record)
        if early is not None:
            return early
        if faults.access:
            resource = f"arn:aws:bedrock-mantle:{region}:{refusals.ACCOUNT}:project/default"
            raise refusals.access(faults.access, f"bedrock-mantle:{record.operation}", resource)
        check_service(faults, call)
        if called:
            models = [self.directory.find_on_mantle(called, region).model]
        else:
            models = self.directory.mantle_models(region)
        items = [control.mantle_model(model, self.mantle_faults(model, region)) for model in models]
        body = {**items[0], "id": called} if called else {"data": items, "object": "list"}
        return FullResponse(200, wire.dumps(body), record.headers)

    def mantle_faults(self, model: CatalogueModel, region: str) -> Faults:
        """Return what a call of the model on bedrock-mantle would meet."""
        model_id = model.api_model_id
        call = Call("Messages", model_id, region, "", model_id, Endpoint.MANTLE)
        return self.injector.faults(call, 0)

    # authorisation

    def authorise(self, request: HttpRequest, address: Address) -> str:
        """Return the region of a call. Refuses missing or bad credentials, and a signature for
        another service or region than the address names.
        """
        header = request.header(b"authorization")
        if header.startswith("AWS4-"):
            authority = self._authority(header.partition(", SignedHeaders")[0])
            if authority.refusal is not None:
                raise authority.refusal()
            services: tuple[str, ...] = ("bedrock",)
            if address.endpoint is Endpoint.MANTLE:
                services = ("bedrock-mantle", "bedrock")
            if authority.service not in services and address.path != "/":
                raise refusals.wrong_service(services[0])
            if address.region not in ("", authority.region):
                raise refusals.wrong_region(authority.region)
            return authority.region
        key = request.header(b"x-api-key") if address.path.startswith("/anthropic/") else ""
        if header.startswith("Bearer ") or key:
            self.check_api_key(key or header[7:])
            return address.region or self.options.region
        if not header:
            raise refusals.missing_token()
        raise refusals.incomplete_signature(header)

    def read_authority(self, header: str) -> Authority:
        """Return what a signature is scoped to, or what to refuse it with."""
        match = addresses.CREDENTIAL.search(header)
        if match is None:
            return Authority(refusal=lambda: refusals.incomplete_signature(header))
        scenario = self.injector.scenario
        if any(fnmatchcase(match[1], glob) for glob in (*EXPIRED_KEYS, *scenario.expired_keys)):
            return Authority(refusal=refusals.expired_credentials)
        if any(fnmatchcase(match[1], glob) for glob in (*INVALID_KEYS, *scenario.invalid_keys)):
            return Authority(refusal=refusals.invalid_credentials)
        return Authority(match[3], match[4])

    def check_api_key(self, token: str) -> None:
        """Refuse an API key that is expired or not valid."""
        scenario = self.injector.scenario
        if token.startswith("expired") or any(fnmatchcase(token, g) for g in scenario.expired_keys):
            raise refusals.expired_api_key()
        invalid = not token or token.startswith("invalid")
        if invalid or any(fnmatchcase(token, glob) for glob in scenario.invalid_keys):
            raise refusals.invalid_api_key()

    # calls of models

    def call_native(
        self, record: CallRecord, address: Address, operation: str, called: str
    ) -> HttpResponse:
        """Answer Converse, InvokeModel, their streams, and CountTokens."""
        record.operation, record.model = operation, called
        region = record.region = self.authorise(record.request, address)
        counts = operation == "CountTokens"
        resolve = self.directory.resolve_to_count if counts else self.directory.resolve
        invocation = self.accept(
            record, called, lambda: resolve(called, region), lambda: parse_body(record.request.body)
        )
        if not isinstance(invocation, Invocation):
            return invocation
        match operation:
            case "Converse" | "ConverseStream":
                return respond_to_converse(invocation)
            case "InvokeModel":
                return invoke.whole(invocation)
            case "InvokeModelWithResponseStream":
                return invoke.stream(invocation)
        return invoke.count_tokens(invocation)

    def call_shared(self, record: CallRecord, address: Address, shared: SharedAPI) -> HttpResponse:
        """Answer an API that both endpoints have."""
        record.operation = shared.operation
        invocation = self.accept_shared(record, address, shared.api)
        if not isinstance(invocation, Invocation):
            return invocation
        return respond_by(shared.dialect, invocation)

    def count_messages(self, record: CallRecord, address: Address) -> HttpResponse:
        """Count the tokens of a Messages body. Refuses models of earlier generations."""
        record.operation = "CountTokens"
        invocation = self.accept_shared(record, address, API.MESSAGES)
        if not isinstance(invocation, Invocation):
            return invocation
        if not invocation.target.traits.counts_on_mantle:
            raise refusals.api_not_supported(invocation.call.called, MESSAGES_COUNT)
        _, count = Messages().read({"max_tokens": 1, **invocation.body}, invocation)
        return FullResponse(200, wire.dumps({"input_tokens": count}), record.headers)

    def accept_shared(
        self, record: CallRecord, address: Address, api: API
    ) -> Invocation | HttpResponse:
        """Return a call whose body names its model, or the response of an early fault."""
        region = record.region = self.authorise(record.request, address)
        endpoint, directory = address.endpoint, self.directory
        if endpoint is Endpoint.MANTLE and region not in directory.mantle_regions:
            record.outcome = "no_mantle"
            return ConnectionDropped()
        body = parse_body(record.request.body)
        called = body.get("model") if isinstance(body, dict) else None
        if not isinstance(called, str):
            raise refusals.missing_model(api is API.MESSAGES)
        record.model = called
        if body.get("stream") is True:
            record.operation += "Stream"
        if endpoint is Endpoint.MANTLE:
            path = address.path.removesuffix("/count_tokens")
            resolve = partial(directory.resolve_on_mantle, called, region, api, path)
        else:
            resolve = partial(directory.resolve_for_api, called, region, api)
        return self.accept(record, called, resolve, lambda: body)

    def accept(
        self,
        record: CallRecord,
        called: str,
        resolve: Callable[[], ResolvedModel],
        parse: Callable[[], Any],
    ) -> Invocation | HttpResponse:
        """Return a call whose model is there and may be called, or the response of an early fault.

        Refuses what the account or the endpoint does not have.
        """
        operation, region, endpoint = record.operation, record.region, record.endpoint
        identity = f"{operation}/{called}/{region}".encode("utf-8", "surrogatepass")
        fingerprint = zlib.crc32(record.request.body, zlib.crc32(identity))
        try:
            target = resolve()
        except Refusal:
            call = Call(operation, called, region, "", called, endpoint)
            early = self.early_response(self.injector.faults(call, fingerprint), record)
            if early is None:
                raise
            return early
        record.model = target.model.api_model_id
        call = Call(operation, record.model, region, target.route, target.called, endpoint)
        body = parse()
        cost = token_cost(body, operation) if self.injector.meters else 0
        faults = self.injector.faults(call, fingerprint, cost)
        early = self.early_response(faults, record)
        if early is not None:
            return early
        check_access(faults, call)
        return Invocation(record, call, target, body, faults, fingerprint, self.options)

    def early_response(self, faults: Faults, record: CallRecord) -> HttpResponse | None:
        """Apply the faults that come before Bedrock reads a call.

        They are those of the network, of the front door and of the credentials.
        """
        if faults.reset:
            record.outcome = "reset"
            return ConnectionDropped()
        record.reset_after = faults.reset_after_bytes
        if faults.hang:
            record.outcome = "hang"
            return NoResponse()
        if faults.html_503:
            record.outcome = "html_503"
            return FullResponse(503, HTML_503, MARK, content_type="text/html")
        if faults.empty_200:
            record.outcome = "empty_200"
            return FullResponse(200, EMPTY_200, record.headers)
        if faults.expired_credentials:
            raise refusals.expired_credentials()
        if faults.invalid_credentials:
            raise refusals.invalid_credentials()
        if faults.clock_skew:
            raise refusals.clock_skew("20260101T000000Z", "20260101T010000Z")
        return None

    # the emulator's own pages

    def own_page(self, record: CallRecord, path: str) -> HttpResponse:
        """Answer STS, and the pages under /_emulator/."""
        method = record.request.method
        record.operation = ""
        if path == "/" and method == "POST":
            return self.caller_identity(record)
        if method == "GET" and path in ("/", "/_emulator/health"):
            return FullResponse(200, wire.dumps(self.health()), record.headers)
        if method == "GET" and path == "/_emulator/stats":
            query = dict(parse_qsl(record.request.target.partition(b"?")[2].decode("latin-1")))
            return FullResponse(200, wire.dumps(self.statistics(query.get("at"))), record.headers)
        if method == "POST" and path in CONTROL_PAGES:
            if refusal := self.control_refusal(record.request):
                return FullResponse(403, wire.dumps({"message": refusal}), record.headers)
            if path == "/_emulator/scenario":
                return self.switch_scenario(record)
            self.reset(self.injector.scenario)
            return FullResponse(200, wire.dumps(self.health()), record.headers)
        body = wire.dumps({"message": f"The emulator has no page {path}."})
        return FullResponse(404, body, record.headers)

    def control_refusal(self, request: HttpRequest) -> str:
        """Say why a request may not control the emulator; "" if it may.

        A page in a developer's browser can send any request here: browsers name the page that they
        send for.
        """
        if request.header(b"origin") or request.header(b"sec-fetch-site"):
            return "Browsers may not control the emulator. Use curl, for example."
        if not self.options.control_secret:
            return (
                "The emulator cannot be controlled while it runs. To allow it, start it with "
                "EMULATOR_CONTROL_SECRET set, and send that in the header X-Emulator-Secret."
            )
        secret = request.header(b"x-emulator-secret").encode("latin-1")
        if not hmac.compare_digest(secret, self.options.control_secret.encode()):
            return "Send the value of EMULATOR_CONTROL_SECRET in the header X-Emulator-Secret."
        return ""

    def caller_identity(self, record: CallRecord) -> HttpResponse:
        """STS GetCallerIdentity: the query protocol, for health checks."""
        record.operation = "GetCallerIdentity"
        if b"Action=GetCallerIdentity" not in record.request.body:
            raise refusals.unknown_operation("/ but GetCallerIdentity")
        try:
            record.region = self.authorise(record.request, addresses.locate(record.request))
            call = Call("GetCallerIdentity", "", record.region, "", "")
            early = self.early_response(self.injector.faults(call, 0), record)
        except Refusal as refusal:
            record.outcome = refusal.code
            error = control.sts_error(refusal, record.request_id)
            return FullResponse(403, error, record.headers, content_type="text/xml")
        body = control.CALLER_IDENTITY.replace("{request_id}", record.request_id).encode()
        return early or FullResponse(200, body, record.headers, content_type="text/xml")

    def switch_scenario(self, record: CallRecord) -> HttpResponse:
        """Use another scenario from now on.

        The body is {"name": ...} of a shipped one, or the TOML text itself.
        """
        try:
            text = record.request.body.decode("utf-8")
            if text.lstrip().startswith("{"):
                scenario = load_shipped(json.loads(text)["name"])
            else:
                scenario = parse(text, "request body")
        except (ScenarioError, ValueError, KeyError, TypeError) as error:
            return FullResponse(400, wire.dumps({"message": str(error)}), record.headers)
        self.reset(scenario)
        return FullResponse(200, wire.dumps(self.health()), record.headers)

    def reset(self, scenario: Scenario) -> None:
        """Start over: counts, token buckets and `times` of rules at zero."""
        self.injector = FaultInjector(scenario, self.options.seed)
        self.stats.clear()
        self.lately.clear()
        self._authority.cache_clear()

    def health(self) -> dict[str, Any]:
        """Describe what answers here, for people and health checks."""
        return {
            "status": "ok",
            "backend": "emulator",
            "what": "The local Bedrock emulator of MyIA Certification. No model is called.",
            "scenario": self.injector.scenario.name,
            "rules": len(self.injector.scenario.rules),
            "seed": self.options.seed,
            "timeScale": self.options.latency.scale,
            "fixedLatencyMs": self.options.latency.fixed_ms,
            "catalogueAsOf": self.directory.catalogue.as_of,
            "models": len(self.directory.catalogue.models),
            "regions": len(self.directory.catalogue.regions),
        }

    def statistics(self, at: str | None) -> dict[str, Any]:
        """Count calls by operation, model, region and outcome, and those in flight now, or `at` a
        moment of the last LATELY_S on the monotonic clock.
        """
        try:
            moment = float(at or "now")
        except ValueError:
            moment = time.monotonic()
        calls = [
            {
                "operation": operation,
                "model": model,
                "region": region,
                "outcome": outcome,
                "calls": n,
            }
            for (operation, model, region, outcome), n in sorted(self.stats.items())
        ]
        by_outcome: Counter[str] = Counter()
        for (_, _, _, outcome), n in self.stats.items():
            by_outcome[outcome] += n
        return {
            "total": sum(self.stats.values()),
            "inFlight": sum(began <= moment < end for end, began in self.lately),
            "byOutcome": dict(by_outcome),
            "calls": calls,
        }


def respond_to_converse(invocation: Invocation) -> HttpResponse:
    """Answer Converse and ConverseStream. Refuses the request, then for the service."""
    body, faults = invocation.body, invocation.faults
    streaming = invocation.call.operation == "ConverseStream"
    validation.check_converse(body, invocation.target, streaming=streaming)
    if faults.no_stop_sequences and (body.get("inferenceConfig") or {}).get("stopSequences"):
        raise refusals.field_not_supported("stopSequences")
    invocation.check_service()
    prompt_tokens = converse.input_tokens(body) + faults.extra_input_tokens
    invocation.check_window(prompt_tokens)
    request = converse.parse_request(body, invocation.target, streaming=streaming)
    answer = invocation.answer(request)
    if answer.input_tokens is not None:
        prompt_tokens = answer.input_tokens
    pace = invocation.pace
    if streaming:
        frames = converse.frames(answer, prompt_tokens, pace, invocation.fingerprint, faults)
        return streamed(frames, invocation, EVENT_STREAM)
    delay = pace.total(answer.output_tokens)
    content = converse.body(answer, prompt_tokens, max(1, round(delay * 1000)))
    return FullResponse(200, content, invocation.record.headers, delay)


def respond_by(dialect: ApiDialect, invocation: Invocation) -> HttpResponse:
    """Answer by Chat Completions, Responses or Messages. Refuses the request, then for the
    service.
    """
    answer, prompt_tokens = read_and_answer(invocation, dialect, invocation.body)
    pace = invocation.pace
    if invocation.call.operation.endswith("Stream"):
        events = dialect.events(answer, prompt_tokens, invocation)
        parts = [(due, dialect.encode(event, invocation)) for due, event in paced(events, pace)]
        return streamed(parts, invocation, dialect.format)
    content = wire.dumps(dialect.write(answer, prompt_tokens, invocation))
    delay = pace.total(answer.output_tokens)
    return FullResponse(200, content, invocation.record.headers, delay)


def check_access(faults: Faults, call: Call) -> None:
    """Refuse a call of a model that the account may not use, or that is not there."""
    on_mantle = call.endpoint is Endpoint.MANTLE
    if faults.access:
        raise refusals.access(faults.access, *required_permission(call))
    if faults.legacy:
        raise refusals.legacy()
    if faults.end_of_life:
        raise refusals.end_of_life()
    if faults.not_in_region:
        raise refusals.absent_from_mantle(call.called) if on_mantle else refusals.unknown_model()
    if faults.needs_profile and not on_mantle and call.route != INFERENCE_PROFILE:
        raise refusals.needs_profile(call.model)


def required_permission(call: Call) -> tuple[str, str]:
    """Return the IAM action that a call needs, and the resource that its refusal names."""
    account = refusals.ACCOUNT
    if call.endpoint is Endpoint.MANTLE:
        resource = f"arn:aws:bedrock-mantle:{call.region}:{account}:project/default"
        return "bedrock-mantle:CreateInference", resource
    streams = call.operation.endswith("Stream")
    action = "InvokeModelWithResponseStream" if streams else "InvokeModel"
    resource = f"arn:aws:bedrock:{call.region}::foundation-model/{call.model}"
    if call.route == INFERENCE_PROFILE:
        resource = f"arn:aws:bedrock:{call.region}:{account}:inference-profile/{call.called}"
    return f"bedrock:{action}", resource


def parse_body(body: bytes) -> Any:
    """Parse a request's JSON. Refuses what is not JSON."""
    try:
        parsed = json.loads(body) if body else {}
        return body_schema.without_nulls(parsed) if b"null" in body else parsed
    except (ValueError, RecursionError):
        raise refusals.invalid(invoke.MALFORMED) from None


def token_cost(body: Any, operation: str) -> int:
    """Return what a call takes from a token quota: its tokens and the output it reserves."""
    if not isinstance(body, dict) or operation.startswith(("InvokeModel", "CountTokens")):
        return 100
    config = body.get("inferenceConfig")
    reserved = config.get("maxTokens", 0) if isinstance(config, dict) else 0
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        reserved = body.get(name, reserved)
    size = len(json.dumps(body.get("messages", body.get("input", "")))) // 4
    return size + (reserved if isinstance(reserved, int) else 0)
