"""The emulator as one object: authorises, routes, applies the scenario, answers, counts."""

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
    answers,
    body_schema,
    control,
    converse,
    invoke,
    refusals,
    validation,
    wire,
)
from certification.emulator.calls import Exchange, Job, Options, check_service, streamed
from certification.emulator.http import (
    MARK,
    ConnectionDropped,
    FullResponse,
    NoResponse,
    Reply,
    Request,
)
from certification.emulator.model_directory import INFERENCE_PROFILE, World
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
    b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n<center><h1>503 Service "
    b"Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"
)
EMPTY_200 = (
    b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
)


class Emulator:
    """Answers HTTP requests as Bedrock would. One thread, no waiting: delays are part of the reply."""

    def __init__(
        self, scenario: Scenario, options: Options | None = None, access_log: TextIO | None = None
    ) -> None:
        self.options = options or Options()
        self.world = World(catalogue.load())
        self.listings = control.Listings(self.world.catalogue)
        self.director = FaultInjector(scenario, self.options.seed)
        self.stats: Counter[tuple[str, str, str, str]] = Counter()
        self._access_log = access_log
        self._authority = lru_cache(maxsize=4096)(self._read_authority)

    def handle(self, request: Request) -> Reply:
        """The reply to a request; never raises."""
        exchange = Exchange(request, str(uuid.UUID(int=uuid.uuid4().int)))
        try:
            reply = self._route(exchange)
        except Refusal as refusal:
            exchange.outcome = refusal.code
            reply = refusal.reply(exchange.headers)
        except RecursionError:
            exchange.outcome = "ValidationException"
            reply = refusals.malformed("#", "nested too deeply").reply(exchange.headers)
        # the outer edge: a fault of the emulator must look like a fault, not like Bedrock
        except Exception:
            log.exception("emulator_fault")
            exchange.outcome = "emulator_fault"
            body = wire.dumps({"message": "The emulator itself failed; its log has the traceback."})
            reply = FullResponse(500, body, exchange.headers)
        if exchange.operation:
            self.stats[exchange.operation, exchange.model, exchange.region, exchange.outcome] += 1
        if self._access_log:
            line = f"{exchange.operation} {exchange.model or '-'} {exchange.region or '-'} {exchange.outcome}"
            print(line, file=self._access_log, flush=True)
        return reply

    # routing

    def _route(self, exchange: Exchange) -> Reply:
        path, _, query = exchange.request.target.decode("latin-1").partition("?")
        if path.startswith("/model/"):
            called, _, verb = path[7:].rpartition("/")
            operation = OPERATIONS.get(verb)
            if operation and called and exchange.request.method == "POST":
                return self._runtime(exchange, operation, unquote(called))
        elif path == "/" or path.startswith("/_emulator/"):
            return self._own(exchange, path)
        else:
            found = self._control(exchange, path, dict(parse_qsl(query)))
            if found is not None:
                return found
        raise Refusal(
            "UnknownOperationException",
            f"There is no operation at {path}.",
            layer=refusals.FRONT_DOOR,
        )

    def _control(self, exchange: Exchange, path: str, query: dict[str, str]) -> Reply | None:
        first, _, rest = path[1:].partition("/")
        rest = unquote(rest)
        region = exchange.region = self._authorise(exchange.request)
        listings = self.listings
        actions: dict[tuple[str, bool], tuple[str, Callable[[], bytes]]] = {
            ("foundation-models", False): (
                "ListFoundationModels",
                lambda: listings.foundation_models(region, query, self._aged(region)),
            ),
            ("foundation-models", True): (
                "GetFoundationModel",
                lambda: listings.foundation_model(region, rest, self._aged(region)),
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
                lambda: listings.availability(region, rest, self._troubles_of(rest, region)),
            ),
        }
        found = actions.get((first, bool(rest)))
        if found is None or exchange.request.method != "GET":
            return None
        exchange.operation, answer = found
        call = Call(exchange.operation, rest, region, "", rest)
        troubles = self.director.troubles(call, zlib.crc32(exchange.request.target))
        ended = self._ended_early(troubles, exchange)
        check_service(troubles, call)
        return ended or FullResponse(200, answer(), exchange.headers)

    def _troubles_of(self, model_id: str, region: str) -> Faults:
        """What a Converse call of the model would meet, for the availability verdicts."""
        return self.director.troubles(Call("Converse", model_id, region, "", model_id), 0)

    def _aged(self, region: str) -> frozenset[str]:
        """The models that the scenario treats as LEGACY in a region."""
        if not any("legacy" in rule.effects for rule in self.director.scenario.rules):
            return frozenset()
        return frozenset(
            m for m in self.world.catalogue.models if self._troubles_of(m, region).legacy
        )

    # authorisation

    def _authorise(self, request: Request) -> str:
        """The region a request is signed for. Refusal: no, bad or expired credentials."""
        header = request.header(b"authorization")
        if header.startswith("AWS4-"):
            region, refusal = self._authority(header.partition(", SignedHeaders")[0])
            if refusal is not None:
                raise refusal()
            return region
        if header.startswith("Bearer "):
            return self._bearer_region(header[7:], request)
        if not header:
            raise refusals.missing_token()
        raise refusals.incomplete_signature(header)

    def _read_authority(self, header: str) -> tuple[str, Callable[[], Refusal] | None]:
        match = CREDENTIAL.search(header)
        if match is None:
            return "", lambda: refusals.incomplete_signature(header)
        scenario = self.director.scenario
        if any(fnmatchcase(match[1], glob) for glob in (*EXPIRED_KEYS, *scenario.expired_keys)):
            return "", refusals.expired_credentials
        if any(fnmatchcase(match[1], glob) for glob in (*INVALID_KEYS, *scenario.invalid_keys)):
            return "", refusals.invalid_credentials
        return match[3], None

    def _bearer_region(self, token: str, request: Request) -> str:
        scenario = self.director.scenario
        if token.startswith("expired") or any(
            fnmatchcase(token, glob) for glob in scenario.expired_keys
        ):
            raise refusals.expired_api_key()
        if (
            not token
            or token.startswith("invalid")
            or any(fnmatchcase(token, g) for g in scenario.invalid_keys)
        ):
            raise refusals.invalid_api_key()
        found = REGION_IN_HOST.search(request.header(b"host"))
        return found[1] if found else self.options.region

    # the runtime

    def _runtime(self, exchange: Exchange, operation: str, called: str) -> Reply:
        exchange.operation, exchange.model = operation, called
        region = exchange.region = self._authorise(exchange.request)
        body = exchange.request.body
        fingerprint = zlib.crc32(body, zlib.crc32(f"{operation}/{called}/{region}".encode()))
        try:
            resolve = (
                self.world.resolve_to_count if operation == "CountTokens" else self.world.resolve
            )
            target = resolve(called, region)
        except Refusal:
            call = Call(operation, called, region, "", called)
            ended = self._ended_early(self.director.troubles(call, fingerprint), exchange)
            if ended is None:
                raise
            return ended
        exchange.model = target.model.api_model_id
        call = Call(operation, exchange.model, region, target.route, target.called)
        parsed = _parse(body)
        appetite = _token_cost(parsed, operation) if self.director.meters else 0
        troubles = self.director.troubles(call, fingerprint, appetite)
        ended = self._ended_early(troubles, exchange)
        if ended is not None:
            return ended
        self._check_access(troubles, call)
        return self._work(Job(exchange, call, target, parsed, troubles, fingerprint, self.options))

    def _work(self, job: Job) -> Reply:
        match job.call.operation:
            case "Converse":
                return self._converse(job)
            case "ConverseStream":
                return self._converse_stream(job)
            case "InvokeModel":
                return invoke.whole(job)
            case "InvokeModelWithResponseStream":
                return invoke.stream(job)
        return invoke.count_tokens(job)

    def _ended_early(self, troubles: Faults, exchange: Exchange) -> Reply | None:
        """The troubles that come before Bedrock looks at a call: the network's, the front door's,
        the credentials'.
        """
        if troubles.reset:
            exchange.outcome = "reset"
            return ConnectionDropped()
        if troubles.hang:
            exchange.outcome = "hang"
            return NoResponse()
        if troubles.html_503:
            exchange.outcome = "html_503"
            return FullResponse(503, HTML_503, MARK, content_type="text/html")
        if troubles.empty_200:
            exchange.outcome = "empty_200"
            return FullResponse(200, EMPTY_200, exchange.headers)
        if troubles.expired_credentials:
            raise refusals.expired_credentials()
        if troubles.invalid_credentials:
            raise refusals.invalid_credentials()
        if troubles.clock_skew:
            raise refusals.clock_skew("20260101T000000Z", "20260101T010000Z")
        return None

    def _check_access(self, troubles: Faults, call: Call) -> None:
        if troubles.access:
            action = (
                "InvokeModelWithResponseStream"
                if call.operation.endswith("Stream")
                else "InvokeModel"
            )
            raise refusals.access(troubles.access, action, _resource(call))
        if troubles.legacy:
            raise refusals.legacy()
        if troubles.end_of_life:
            raise refusals.end_of_life()
        if troubles.not_in_region:
            raise refusals.unknown_model()
        if troubles.needs_profile and call.route != INFERENCE_PROFILE:
            raise refusals.needs_profile(call.model)

    def _converse(self, job: Job) -> Reply:
        said, given = self._say(job, streaming=False)
        delay = job.pace.total(said.output_tokens)
        return FullResponse(
            200,
            converse.body(said, given, max(1, round(delay * 1000))),
            job.exchange.headers,
            delay,
        )

    def _converse_stream(self, job: Job) -> Reply:
        said, given = self._say(job, streaming=True)
        return streamed(converse.frames(said, given, job.pace, job.fingerprint, job.troubles), job)

    def _say(self, job: Job, *, streaming: bool) -> tuple[answers.ModelAnswer, int]:
        """A valid Converse call's answer and its input tokens. Refusal: the request, then the
        service.
        """
        validation.check_converse(job.body, job.target, streaming=streaming)
        if job.troubles.no_stop_sequences and (job.body.get("inferenceConfig") or {}).get(
            "stopSequences"
        ):
            raise refusals.field_not_supported("stopSequences")
        job.check_service()
        given = converse.input_tokens(job.body) + job.troubles.extra_input_tokens
        job.check_window(given)
        said = job.say(converse.asked(job.body, job.target, streaming=streaming))
        return said, given if said.input_tokens is None else said.input_tokens

    # the emulator's own pages

    def _own(self, exchange: Exchange, path: str) -> Reply:
        request = exchange.request
        exchange.operation = ""
        if path == "/" and request.method == "POST":
            return self._caller_identity(exchange)
        if request.method == "GET" and path in ("/", "/_emulator/health"):
            return FullResponse(200, wire.dumps(self.health()), exchange.headers)
        if request.method == "GET" and path == "/_emulator/stats":
            return FullResponse(200, wire.dumps(self.statistics()), exchange.headers)
        if request.method == "POST" and path == "/_emulator/reset":
            self.reset(self.director.scenario)
            return FullResponse(200, wire.dumps(self.health()), exchange.headers)
        if request.method == "POST" and path == "/_emulator/scenario":
            return self._switch(exchange)
        return FullResponse(
            404, wire.dumps({"message": f"The emulator has no page {path}."}), exchange.headers
        )

    def _caller_identity(self, exchange: Exchange) -> Reply:
        """STS GetCallerIdentity: the query protocol, for health checks."""
        exchange.operation = "GetCallerIdentity"
        if b"Action=GetCallerIdentity" not in exchange.request.body:
            raise Refusal(
                "UnknownOperationException",
                "Only GetCallerIdentity is answered.",
                layer=refusals.FRONT_DOOR,
            )
        try:
            exchange.region = self._authorise(exchange.request)
            call = Call("GetCallerIdentity", "", exchange.region, "", "")
            ended = self._ended_early(self.director.troubles(call, 0), exchange)
        except Refusal as refusal:
            exchange.outcome = refusal.code
            return FullResponse(
                403,
                control.sts_error(refusal, exchange.request_id),
                exchange.headers,
                content_type="text/xml",
            )
        body = control.CALLER_IDENTITY.replace("{request_id}", exchange.request_id).encode()
        return ended or FullResponse(200, body, exchange.headers, content_type="text/xml")

    def _switch(self, exchange: Exchange) -> Reply:
        """Another scenario from now on: {"name": ...} of a shipped one or a path, or the TOML text
        itself.
        """
        try:
            text = exchange.request.body.decode("utf-8")
            scenario = (
                load(json.loads(text)["name"])
                if text.lstrip().startswith("{")
                else parse(text, "request body")
            )
        except (ScenarioError, ValueError, KeyError, TypeError) as error:
            return FullResponse(400, wire.dumps({"message": str(error)}), exchange.headers)
        self.reset(scenario)
        return FullResponse(200, wire.dumps(self.health()), exchange.headers)

    def reset(self, scenario: Scenario) -> None:
        """Starts over: counts, token buckets and `times` of rules at zero."""
        self.director = FaultInjector(scenario, self.options.seed)
        self.stats.clear()
        self._authority.cache_clear()

    def health(self) -> dict[str, Any]:
        """What answers here, for people and health checks."""
        return {
            "status": "ok",
            "backend": "emulator",
            "what": "The local Bedrock emulator of MyIA Certification. No model is called.",
            "scenario": self.director.scenario.name,
            "rules": len(self.director.scenario.rules),
            "seed": self.options.seed,
            "timeScale": self.options.timing.scale,
            "fixedLatencyMs": self.options.timing.fixed_ms,
            "catalogueAsOf": self.world.catalogue.as_of,
            "models": len(self.world.catalogue.models),
            "regions": len(self.world.catalogue.regions),
        }

    def statistics(self) -> dict[str, Any]:
        """Calls by operation, model, region and outcome."""
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


def _parse(body: bytes) -> Any:
    try:
        parsed = json.loads(body) if body else {}
        return body_schema.without_nulls(parsed) if b"null" in body else parsed
    except (ValueError, RecursionError):
        raise refusals.invalid(
            "Malformed input request, please reformat your input and try again."
        ) from None


def _token_cost(body: Any, operation: str) -> int:
    """What a call takes from a token quota: its size in tokens and the output it reserves."""
    if not isinstance(body, dict) or operation not in ("Converse", "ConverseStream"):
        return 100
    config = body.get("inferenceConfig")
    reserved = config.get("maxTokens", 0) if isinstance(config, dict) else 0
    return len(json.dumps(body.get("messages", ""))) // 4 + (
        reserved if isinstance(reserved, int) else 0
    )


def _resource(call: Call) -> str:
    if call.route == INFERENCE_PROFILE:
        return f"arn:aws:bedrock:{call.region}:{refusals.ACCOUNT}:inference-profile/{call.called}"
    return f"arn:aws:bedrock:{call.region}::foundation-model/{call.model}"
