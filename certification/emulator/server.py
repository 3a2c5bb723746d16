"""The emulator as one object: authorise, route, apply the scenario, answer, count."""

from __future__ import annotations

import json
import logging
import re
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import parse_qsl, unquote

from certification.bedrock import catalogue
from certification.emulator import (
    body_schema,
    control,
    converse,
    invoke,
    refusals,
    validation,
    wire,
)
from certification.emulator.calls import (
    CallRecord,
    EmulatorOptions,
    Invocation,
    check_service,
    streamed,
)
from certification.emulator.http import (
    MARK,
    ConnectionDropped,
    FullResponse,
    HttpRequest,
    HttpResponse,
    NoResponse,
)
from certification.emulator.model_directory import INFERENCE_PROFILE, ModelDirectory
from certification.emulator.refusals import Refusal
from certification.emulator.scenario import (
    Call,
    FaultInjector,
    Faults,
    Scenario,
    ScenarioError,
    load,
    parse,
)

log = logging.getLogger(__name__)

CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
REGION_IN_HOST = re.compile(r"\b([a-z]{2}(?:-[a-z]+)+-\d)\b")
OPERATIONS = {
    "converse": "Converse", "converse-stream": "ConverseStream", "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream", "count-tokens": "CountTokens",
}  # fmt: skip
EXPIRED_KEYS = ("ASIAEXPIRED*",)
INVALID_KEYS = ("AKIAINVALID*",)
HTML_503 = (
    b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n"
    b"<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"
)
EMPTY_200 = (
    b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
)


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
            response = refusal.response(record.headers)
        except RecursionError:
            record.outcome = "ValidationException"
            response = refusals.malformed("#", "nested too deeply").response(record.headers)
        # the outer edge: a fault of the emulator must look like a fault, not like Bedrock
        except Exception:
            log.exception("emulator_fault")
            record.outcome = "emulator_fault"
            body = wire.dumps({"message": "The emulator itself failed; its log has the traceback."})
            response = FullResponse(500, body, record.headers)
        if record.operation:
            self.stats[record.operation, record.model, record.region, record.outcome] += 1
        if self._access_log:
            line = (record.operation, record.model or "-", record.region or "-", record.outcome)
            print(*line, file=self._access_log, flush=True)
        return response

    # routing

    def route(self, record: CallRecord) -> HttpResponse:
        path, _, query = record.request.target.decode("latin-1").partition("?")
        if path.startswith("/model/"):
            called, _, verb = path[7:].rpartition("/")
            operation = OPERATIONS.get(verb)
            if operation and called and record.request.method == "POST":
                return self.call_runtime(record, operation, unquote(called))
        elif path == "/" or path.startswith("/_emulator/"):
            return self.own_page(record, path)
        else:
            response = self.list_or_get(record, path, dict(parse_qsl(query)))
            if response is not None:
                return response
        raise Refusal(
            "UnknownOperationException",
            f"There is no operation at {path}.",
            layer=refusals.FRONT_DOOR,
        )

    def list_or_get(
        self, record: CallRecord, path: str, query: dict[str, str]
    ) -> HttpResponse | None:
        """Answer a call of the control plane; None when the path is none of its operations."""
        first, _, rest = path[1:].partition("/")
        rest = unquote(rest)
        region = record.region = self.authorise(record.request)
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

    # authorisation

    def authorise(self, request: HttpRequest) -> str:
        """Return the region a request is signed for. Refuses missing or bad credentials."""
        header = request.header(b"authorization")
        if header.startswith("AWS4-"):
            region, refusal = self._authority(header.partition(", SignedHeaders")[0])
            if refusal is not None:
                raise refusal()
            return region
        if header.startswith("Bearer "):
            return self.bearer_region(header[7:], request)
        if not header:
            raise refusals.missing_token()
        raise refusals.incomplete_signature(header)

    def read_authority(self, header: str) -> tuple[str, Callable[[], Refusal] | None]:
        """Return the region of a signature, or what to refuse it with."""
        match = CREDENTIAL.search(header)
        if match is None:
            return "", lambda: refusals.incomplete_signature(header)
        scenario = self.injector.scenario
        if any(fnmatchcase(match[1], glob) for glob in (*EXPIRED_KEYS, *scenario.expired_keys)):
            return "", refusals.expired_credentials
        if any(fnmatchcase(match[1], glob) for glob in (*INVALID_KEYS, *scenario.invalid_keys)):
            return "", refusals.invalid_credentials
        return match[3], None

    def bearer_region(self, token: str, request: HttpRequest) -> str:
        """Return the region in the host name, else the emulator's own. Refuses bad tokens."""
        scenario = self.injector.scenario
        if token.startswith("expired") or any(fnmatchcase(token, g) for g in scenario.expired_keys):
            raise refusals.expired_api_key()
        invalid = not token or token.startswith("invalid")
        if invalid or any(fnmatchcase(token, glob) for glob in scenario.invalid_keys):
            raise refusals.invalid_api_key()
        match = REGION_IN_HOST.search(request.header(b"host"))
        return match[1] if match else self.options.region

    # the runtime

    def call_runtime(self, record: CallRecord, operation: str, called: str) -> HttpResponse:
        """Answer a runtime call: find the model, apply the scenario, then do the operation."""
        record.operation, record.model = operation, called
        region = record.region = self.authorise(record.request)
        body = record.request.body
        fingerprint = zlib.crc32(body, zlib.crc32(f"{operation}/{called}/{region}".encode()))
        directory = self.directory
        try:
            counts = operation == "CountTokens"
            resolve = directory.resolve_to_count if counts else directory.resolve
            target = resolve(called, region)
        except Refusal:
            call = Call(operation, called, region, "", called)
            early = self.early_response(self.injector.faults(call, fingerprint), record)
            if early is None:
                raise
            return early
        record.model = target.model.api_model_id
        call = Call(operation, record.model, region, target.route, target.called)
        parsed = parse_body(body)
        cost = token_cost(parsed, operation) if self.injector.meters else 0
        faults = self.injector.faults(call, fingerprint, cost)
        early = self.early_response(faults, record)
        if early is not None:
            return early
        check_access(faults, call)
        invocation = Invocation(record, call, target, parsed, faults, fingerprint, self.options)
        match operation:
            case "Converse" | "ConverseStream":
                return respond_to_converse(invocation)
            case "InvokeModel":
                return invoke.whole(invocation)
            case "InvokeModelWithResponseStream":
                return invoke.stream(invocation)
        return invoke.count_tokens(invocation)

    def early_response(self, faults: Faults, record: CallRecord) -> HttpResponse | None:
        """Apply the faults that come before Bedrock reads a call.

        They are those of the network, of the front door and of the credentials.
        """
        if faults.reset:
            record.outcome = "reset"
            return ConnectionDropped()
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
            return FullResponse(200, wire.dumps(self.statistics()), record.headers)
        if method == "POST" and path == "/_emulator/reset":
            self.reset(self.injector.scenario)
            return FullResponse(200, wire.dumps(self.health()), record.headers)
        if method == "POST" and path == "/_emulator/scenario":
            return self.switch_scenario(record)
        body = wire.dumps({"message": f"The emulator has no page {path}."})
        return FullResponse(404, body, record.headers)

    def caller_identity(self, record: CallRecord) -> HttpResponse:
        """STS GetCallerIdentity: the query protocol, for health checks."""
        record.operation = "GetCallerIdentity"
        if b"Action=GetCallerIdentity" not in record.request.body:
            raise Refusal(
                "UnknownOperationException",
                "Only GetCallerIdentity is answered.",
                layer=refusals.FRONT_DOOR,
            )
        try:
            record.region = self.authorise(record.request)
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

        The body is {"name": ...} of a shipped one or a path, or the TOML text itself.
        """
        try:
            text = record.request.body.decode("utf-8")
            if text.lstrip().startswith("{"):
                scenario = load(json.loads(text)["name"])
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

    def statistics(self) -> dict[str, Any]:
        """Count calls by operation, model, region and outcome."""
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
        return {"total": sum(self.stats.values()), "byOutcome": dict(by_outcome), "calls": calls}


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
        return streamed(frames, invocation)
    delay = pace.total(answer.output_tokens)
    content = converse.body(answer, prompt_tokens, max(1, round(delay * 1000)))
    return FullResponse(200, content, invocation.record.headers, delay)


def check_access(faults: Faults, call: Call) -> None:
    """Refuse a call of a model that the account may not use, or that is not there."""
    if faults.access:
        streams = call.operation.endswith("Stream")
        action = "InvokeModelWithResponseStream" if streams else "InvokeModel"
        resource = f"arn:aws:bedrock:{call.region}::foundation-model/{call.model}"
        if call.route == INFERENCE_PROFILE:
            account = refusals.ACCOUNT
            resource = f"arn:aws:bedrock:{call.region}:{account}:inference-profile/{call.called}"
        raise refusals.access(faults.access, action, resource)
    if faults.legacy:
        raise refusals.legacy()
    if faults.end_of_life:
        raise refusals.end_of_life()
    if faults.not_in_region:
        raise refusals.unknown_model()
    if faults.needs_profile and call.route != INFERENCE_PROFILE:
        raise refusals.needs_profile(call.model)


def parse_body(body: bytes) -> Any:
    """Parse a request's JSON. Refuses what is not JSON."""
    try:
        parsed = json.loads(body) if body else {}
        return body_schema.without_nulls(parsed) if b"null" in body else parsed
    except (ValueError, RecursionError):
        raise refusals.invalid(invoke.MALFORMED) from None


def token_cost(body: Any, operation: str) -> int:
    """Return what a call takes from a token quota: its tokens and the output it reserves."""
    if not isinstance(body, dict) or operation not in ("Converse", "ConverseStream"):
        return 100
    config = body.get("inferenceConfig")
    reserved = config.get("maxTokens", 0) if isinstance(config, dict) else 0
    size = len(json.dumps(body.get("messages", ""))) // 4
    return size + (reserved if isinstance(reserved, int) else 0)
