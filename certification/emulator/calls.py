"""One call on its way through the emulator, and what every runtime operation does with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from certification.emulator import answers, refusals, wire
from certification.emulator.http import MARK, HttpRequest, HttpResponse, StreamResponse
from certification.emulator.latency import Latency, Pace
from certification.emulator.model_directory import ResolvedModel
from certification.emulator.scenario import Call, Faults, chance

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How the emulator runs.

    `region` is for calls that name none: bearer tokens on a bare host name.
    """

    seed: int = 0
    latency: Latency = field(default_factory=Latency)
    region: str = "us-east-1"


@dataclass(slots=True)
class CallRecord:
    """What is known of a call so far, for the counts and the access log.

    A call with an empty operation is not counted.
    """

    request: HttpRequest
    request_id: str
    operation: str = "Unknown"
    region: str = ""
    model: str = ""
    outcome: str = "ok"

    @property
    def headers(self) -> Headers:
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
        raise refusals.throttled(faults.throttle)
    if faults.error:
        raise refusals.service_error(faults.error, call.model)


def streamed(
    parts: list[tuple[float, bytes]], invocation: Invocation, headers: Headers = ()
) -> HttpResponse:
    """Return an event stream, with the fault that the scenario gives it."""
    fault, record = invocation.faults.stream, invocation.record
    middle = max(1, len(parts) // 2)
    if fault:
        record.outcome = fault
    if fault == "corrupted_frame":
        due, frame = parts[middle]
        parts[middle] = (due, wire.corrupted(frame))
    elif fault:
        parts = parts[:middle]
    if fault == "mid_stream_error":
        name = invocation.faults.stream_error
        payload: dict[str, Any] = {"message": STREAM_MESSAGES[name]}
        if name == "modelStreamErrorException":
            if "toolConfig" not in invocation.body:
                payload["message"] = (
                    "An error occurred while streaming the response. Retry your request."
                )
            payload |= {"originalStatusCode": 424, "originalMessage": payload["message"]}
        parts.append((parts[-1][0], wire.exception(name, payload)))
    return StreamResponse(parts, (*record.headers, *headers), stalls=fault == "stall")


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
