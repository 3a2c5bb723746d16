"""One call on its way through the emulator, and what every runtime operation does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from certification.emulator import answers, refusals, wire
from certification.emulator.http import MARK, HttpRequest, HttpResponse, StreamResponse
from certification.emulator.latency import Latency, Pace
from certification.emulator.model_directory import ResolvedModel
from certification.emulator.scenario import Call, Faults, chance
from certification.inference import Endpoint

Headers = tuple[tuple[str, str], ...]
EXPOSED = (
    "access-control-expose-headers",
    "x-amzn-requestid,x-request-id,date,x-amzn-usage-reservation-quota,"
    "x-amzn-usage-reservation-remaining-quota,x-amzn-usage-reservation-spillover",
)


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How the emulator runs.

    `region` is for calls that name none: bearer tokens on a bare host name. Without a
    `control_secret` nobody can switch the scenario while it runs.
    """

    seed: int = 0
    latency: Latency = field(default_factory=Latency)
    region: str = "us-east-1"
    control_secret: str = field(default="", repr=False)


@dataclass(slots=True)
class CallRecord:
    """What is known of a call so far, for the counts and the access log.

    A call with an empty operation is not counted. `endpoint` and `path` are those it was sent to.
    """

    request: HttpRequest
    request_id: str
    endpoint: Endpoint = Endpoint.RUNTIME
    path: str = ""
    operation: str = "Unknown"
    region: str = ""
    model: str = ""
    outcome: str = "ok"
    reset_after: int | None = None  # bytes of the response's body

    @property
    def headers(self) -> Headers:
        if self.endpoint is Endpoint.MANTLE:
            return (
                ("x-amzn-RequestId", self.request_id),
                ("x-request-id", self.request_id),
                EXPOSED,
                *MARK,
            )
        return (("x-amzn-RequestId", self.request_id), *MARK)


@dataclass(frozen=True, slots=True)
class Invocation:
    """An accepted runtime call: the model is there and may be called."""

    record: CallRecord
    call: Call
    target: ResolvedModel
    body: Any
    faults: Faults
    fingerprint: int
    options: EmulatorOptions

    @property
    def dice(self) -> float:
        """The call's own random number in [0, 1): how fast it is."""
        return chance("pace", self.fingerprint)

    @property
    def pace(self) -> Pace:
        """How fast the model writes this answer."""
        return self.options.latency.pace(self.call.model, self.dice, self.faults.slow)

    def check_service(self) -> None:
        """Refuse the call if it is throttled or the service fails.

        Comes after the request was found valid.
        """
        check_service(self.faults, self.call)

    def answer(self, request: answers.ParsedRequest) -> answers.ModelAnswer:
        """Return the model's answer in this region."""
        region, seed = self.call.region, self.options.seed
        return answers.compose(request, self.target, region, self.faults, seed)

    def check_window(self, tokens: int) -> None:
        """Refuse more input tokens than the model can read."""
        window = self.target.model.context_window
        if window and tokens > window:
            raise refusals.model_says(f"prompt is too long: {tokens} tokens > {window} maximum")


def check_service(faults: Faults, call: Call) -> None:
    """Refuse the call if it is throttled or the service fails."""
    if faults.throttle:
        refusal = refusals.throttled(faults.throttle)
    elif faults.error:
        refusal = refusals.service_error(faults.error, call.model)
    else:
        return
    refusal.retry_after = faults.retry_after
    raise refusal


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How an API streams, and how the faults of a stream look there.

    `failure` returns the event of a failure from the name of Bedrock's exception, the call, and how
    many events were sent before. `ending` follows the last event of an unbroken stream.
    """

    content_type: str
    corrupted: Callable[[bytes], bytes]
    failure: Callable[[str, Invocation, int], bytes]
    ending: bytes = b""


def streamed(
    parts: list[tuple[float, bytes]],
    invocation: Invocation,
    format: StreamFormat,
    headers: Headers = (),
) -> HttpResponse:
    """Return a stream, with the fault that the scenario gives it."""
    fault, record = invocation.faults.stream, invocation.record
    middle = max(1, len(parts) // 2)
    if fault:
        record.outcome = fault
    if fault == "corrupted_frame":
        due, event = parts[middle]
        parts[middle] = (due, format.corrupted(event))
    elif fault:
        parts = parts[:middle]
    if fault == "mid_stream_error":
        failure = format.failure(invocation.faults.stream_error, invocation, len(parts))
        parts.append((parts[-1][0], failure))
    elif not fault and format.ending:
        parts.append((parts[-1][0], format.ending))
    return StreamResponse(
        parts, (*record.headers, *headers), format.content_type, stalls=fault == "stall"
    )


def exception_frame(name: str, invocation: Invocation, sent: int) -> bytes:
    """Return the frame of a failure in the middle of a native stream."""
    payload: dict[str, Any] = {"message": STREAM_MESSAGES[name]}
    if name == "modelStreamErrorException":
        if "toolConfig" not in invocation.body:
            payload["message"] = (
                "An error occurred while streaming the response. Retry your request."
            )
        payload |= {"originalStatusCode": 424, "originalMessage": payload["message"]}
    return wire.exception(name, payload)


EVENT_STREAM = StreamFormat("application/vnd.amazon.eventstream", wire.corrupted, exception_frame)
STREAM_MESSAGES = {
    "modelStreamErrorException": "Model produced invalid sequence as part of ToolUse. Please refer "
    "to the model tool use troubleshooting guide.",
    "throttlingException": "Too many requests, please wait before trying again. You have sent too "
    "many requests. Wait before trying again.",
    "internalServerException": "The system encountered an unexpected error during processing. Try "
    "your request again.",
    "serviceUnavailableException": "Bedrock is unable to process your request.",
    "validationException": "The model returned the following errors: Input is too long for "
    "requested model.",
}
