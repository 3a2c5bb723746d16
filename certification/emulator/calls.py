"""One call on its way through the emulator, and what every runtime operation does with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from certification.emulator import answers, refusals, wire
from certification.emulator.http import MARK, Reply, Request, StreamResponse
from certification.emulator.latency import Pace, Timing
from certification.emulator.model_directory import Target
from certification.emulator.scenario import Call, Faults, chance

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How the emulator runs. `region` is for calls that name none: bearer tokens on a bare host
    name.
    """

    seed: int = 0
    timing: Timing = field(default_factory=Timing)
    region: str = "us-east-1"


@dataclass(slots=True)
class Exchange:
    """What is known of a call so far, for the counts and the access log. An empty operation is not
    counted.
    """

    request: Request
    request_id: str
    operation: str = "Unknown"
    region: str = ""
    model: str = ""
    outcome: str = "ok"

    @property
    def headers(self) -> Headers:
        return (("x-amzn-RequestId", self.request_id), *MARK)


@dataclass(frozen=True, slots=True)
class Job:
    """An accepted runtime call: the model is there and may be called."""

    exchange: Exchange
    call: Call
    target: Target
    body: Any
    troubles: Faults
    fingerprint: int
    options: Options

    @property
    def dice(self) -> float:
        """The call's own luck in [0, 1): how fast it is."""
        return chance("pace", self.fingerprint)

    @property
    def pace(self) -> Pace:
        """How fast the model writes this answer."""
        return self.options.timing.pace(self.call.model, self.dice, self.troubles.slow)

    def check_service(self) -> None:
        """Refusal: throttled, or a failure of the service. Comes after the request was found valid."""
        check_service(self.troubles, self.call)

    def say(self, asked: answers.ParsedRequest) -> answers.ModelAnswer:
        """The model's answer in this region."""
        return answers.say(asked, self.target, self.call.region, self.troubles, self.options.seed)

    def check_window(self, given: int) -> None:
        """Refusal: more input tokens than the model can read."""
        window = self.target.model.context_window
        if window and given > window:
            raise refusals.model_says(f"prompt is too long: {given} tokens > {window} maximum")


def check_service(troubles: Faults, call: Call) -> None:
    """Refusal: throttled, or a failure of the service."""
    if troubles.throttle:
        raise refusals.throttled(troubles.throttle)
    if troubles.error:
        raise refusals.service_error(troubles.error, call.model)


def streamed(parts: list[tuple[float, bytes]], job: Job, headers: Headers = ()) -> Reply:
    """An event stream as the scenario lets it through."""
    trouble, exchange = job.troubles.stream, job.exchange
    middle = max(1, len(parts) // 2)
    if trouble:
        exchange.outcome = trouble
    if trouble == "corrupted_frame":
        due, frame = parts[middle]
        parts[middle] = (due, wire.corrupted(frame))
    elif trouble:
        parts = parts[:middle]
    if trouble == "mid_stream_error":
        parts.append((parts[-1][0], _mid_stream_error(job)))
    return StreamResponse(parts, (*exchange.headers, *headers), stalls=trouble == "stall")


_STREAM_MESSAGES = {
    "modelStreamErrorException": "Model produced invalid sequence as part of ToolUse. Please refer to the model tool use "
    "troubleshooting guide.",
    "throttlingException": "Too many requests, please wait before trying again. You have sent too many requests. Wait "
    "before trying again.",
    "internalServerException": "The system encountered an unexpected error during processing. Try your request again.",
    "serviceUnavailableException": "Bedrock is unable to process your request.",
    "validationException": "The model returned the following errors: Input is too long for requested model.",
}


def _mid_stream_error(job: Job) -> bytes:
    name = job.troubles.stream_error
    payload: dict[str, Any] = {"message": _STREAM_MESSAGES[name]}
    if name == "modelStreamErrorException":
        if "toolConfig" not in job.body:
            payload["message"] = (
                "An error occurred while streaming the response. Retry your request."
            )
        payload |= {"originalStatusCode": 424, "originalMessage": payload["message"]}
    return wire.exception(name, payload)
