"""The refusals of Bedrock, word for word: one constructor for each real message."""

from __future__ import annotations

BEDROCK = "http://internal.amazon.com/coral/com.amazon.bedrock/"
FRONT_DOOR = "http://internal.amazon.com/coral/com.amazon.coral.service/"
ACCOUNT = "123456789012"
CALLER = f"arn:aws:sts::{ACCOUNT}:assumed-role/emulator/session"

STATUS = {
    "AccessDeniedException": 403, "ExpiredTokenException": 403, "UnrecognizedClientException": 403,
    "InvalidSignatureException": 403, "IncompleteSignatureException": 403,
    "MissingAuthenticationTokenException": 403, "ResourceNotFoundException": 404,
    "UnknownOperationException": 404, "ValidationException": 400,
    "ServiceQuotaExceededException": 400, "ModelTimeoutException": 408, "ModelErrorException": 424,
    "ModelStreamErrorException": 424,
    "ThrottlingException": 429, "ModelNotReadyException": 429, "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}  # fmt: skip


# Codes for credentials that are missing, malformed, expired or unknown.
AUTHENTICATION = frozenset((
    "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException",
    "IncompleteSignatureException", "MissingAuthenticationTokenException",
))  # fmt: skip


class Refusal(Exception):
    """A refused call, by the code of the native APIs; `envelopes` writes it for every API.

    `layer` is the URI tail of x-amzn-ErrorType. `capital`: the member is `Message`, as in the
    authorisation layer, and not `message`, as in the service. `openai_code` and `param` are members
    of the OpenAI shape. `credentials`: the call is refused for its credentials. `overloaded`: the
    Messages API answers 529. `retry_after` is in seconds, 0 for no such header.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        layer: str = BEDROCK,
        capital: bool = False,
        extra: dict[str, object] | None = None,
        openai_code: str = "",
        param: str | None = None,
        credentials: bool = False,
        overloaded: bool = False,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.layer = layer
        self.capital = capital
        self.extra = extra or {}
        self.openai_code = openai_code
        self.param = param
        self.credentials = credentials or code in AUTHENTICATION
        self.overloaded = overloaded
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status of the native APIs."""
        return STATUS[self.code]


def invalid(message: str) -> Refusal:
    """A ValidationException of the service."""
    return Refusal("ValidationException", message)


def malformed(path: str, what: str) -> Refusal:
    """A request body that does not fit the model's schema; `path` is a JSON pointer such as
    `#/messages/0`.
    """
    return invalid(
        f"Malformed input request: {path}: {what}, please reformat your input and try again."
    )


def model_says(message: str) -> Refusal:
    """A refusal by the model's own API, passed on by Converse."""
    return invalid(f"The model returned the following errors: {message}")


def reasoning_config() -> Refusal:
    """Nova's refusal of a reasoningConfig that it does not take."""
    return model_says(
        "Malformed input request: the provided reasoning config value is invalid, please reformat "
        "your input and try again."
    )


def unknown_model() -> Refusal:
    return invalid("The provided model identifier is invalid.")


def end_of_life() -> Refusal:
    return Refusal(
        "ResourceNotFoundException",
        "This model version has reached the end of its life. Please refer to the AWS "
        "documentation for more details.",
    )


def legacy() -> Refusal:
    return Refusal(
        "ResourceNotFoundException",
        "Access denied. This Model is marked by provider as Legacy and you have not been actively "
        "using the model in the last 30 days. Please upgrade to an active model on Amazon Bedrock",
    )


def needs_profile(model_id: str) -> Refusal:
    return invalid(
        f"Invocation of model ID {model_id} with on-demand throughput isn’t supported. Retry your "
        "request with the ID or ARN of an inference profile that contains this model."
    )


def not_a_chat_model() -> Refusal:
    return invalid(
        "This action doesn't support the model that you provided. Try again with a supported text "
        "or chat model."
    )


def must_start_with_user() -> Refusal:
    return invalid(
        "A conversation must start with a user message. Try again with a conversation that starts "
        "with a user message."
    )


def too_many_output_tokens(limit: int) -> Refusal:
    return invalid(
        f"The maximum tokens you requested exceeds the model limit of {limit}. Try again with a "
        f"maximum tokens value that is lower than {limit}."
    )


def not_streaming() -> Refusal:
    return invalid("The model is unsupported for streaming.")


def field_not_supported(name: str) -> Refusal:
    return invalid(f"This model doesn't support the {name} field. Remove {name} and try again.")


def constraint(value: object, path: str, rule: str) -> Refusal:
    """A value that the operation's model does not allow, in the validator's words."""
    return invalid(
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
        f"{rule}"
    )


def unsupported_parameter(name: str, advice: str = "") -> Refusal:
    """A parameter that the model does not take, in the words of the OpenAI APIs."""
    message = f"Unsupported parameter: '{name}' is not supported with this model.{advice}"
    return Refusal("ValidationException", message, openai_code="unsupported_parameter", param=name)


def unsupported_value(name: str, message: str) -> Refusal:
    """A value that the model does not take, in the words of the OpenAI APIs."""
    return Refusal("ValidationException", message, param=name)


def model_without_api() -> Refusal:
    """An id that bedrock-runtime knows, on a path whose API the model does not speak there."""
    return Refusal(
        "ResourceNotFoundException",
        "The model doesn't exist or doesn't support this API. Retry your request with a different "
        "model ID.",
        openai_code="model_not_found",
    )


def absent_from_mantle(model_id: str) -> Refusal:
    return Refusal("ResourceNotFoundException", f"The model '{model_id}' does not exist")


def api_not_supported(model_id: str, path: str) -> Refusal:
    """A model of bedrock-mantle on the path of an API that it does not speak."""
    return invalid(f"The model '{model_id}' does not support the '{path}' API")


def wrong_prefix(model_id: str) -> Refusal:
    """A model of bedrock-mantle on the right API below the wrong path prefix."""
    return invalid(f"model `{model_id}` isn't supported on this route")


def unknown_operation(path: str) -> Refusal:
    return Refusal(
        "UnknownOperationException", f"There is no operation at {path}.", layer=FRONT_DOOR
    )


def no_such_path(method: str, path: str) -> Refusal:
    """A path that bedrock-mantle does not have."""
    return Refusal("ResourceNotFoundException", f"Invalid URL ({method} {path})")


def missing_model(by_messages: bool) -> Refusal:
    """A body without a model, in the words of Messages or of the OpenAI APIs."""
    message = "model: Field required" if by_messages else "you must provide a model parameter"
    return Refusal("ValidationException", message, param=None if by_messages else "model")


def wrong_service(service: str) -> Refusal:
    """A signature for another service than the endpoint's."""
    return Refusal(
        "InvalidSignatureException",
        f"Credential should be scoped to correct service: '{service}'.",
        layer=FRONT_DOOR,
    )


def wrong_region(region: str) -> Refusal:
    """A signature for another region than the host's."""
    return Refusal(
        "InvalidSignatureException",
        f"Credential should be scoped to a valid region, not '{region}'. ",
        layer=FRONT_DOOR,
    )


def missing_token() -> Refusal:
    return Refusal(
        "MissingAuthenticationTokenException", "Missing Authentication Token", layer=FRONT_DOOR
    )


def incomplete_signature(header: str) -> Refusal:
    return Refusal(
        "IncompleteSignatureException",
        "Authorization header requires 'Credential' parameter. Authorization header requires "
        "'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. "
        f"Authorization={header[:40]}",
        layer=FRONT_DOOR,
    )


def invalid_credentials() -> Refusal:
    return Refusal(
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        layer=FRONT_DOOR,
    )


def expired_credentials() -> Refusal:
    return Refusal(
        "ExpiredTokenException",
        "The security token included in the request is expired",
        layer=FRONT_DOOR,
    )


def clock_skew(signed_at: str, now: str) -> Refusal:
    return Refusal(
        "InvalidSignatureException",
        f"Signature expired: {signed_at} is now earlier than {now} (- 5 min.)",
        layer=FRONT_DOOR,
    )


def invalid_api_key() -> Refusal:
    return Refusal(
        "AccessDeniedException",
        "Authentication failed: Please make sure your API Key is valid.",
        capital=True,
        openai_code="invalid_api_key",
        credentials=True,
    )


def expired_api_key() -> Refusal:
    return Refusal(
        "AccessDeniedException",
        "Bearer Token has expired",
        capital=True,
        openai_code="invalid_api_key",
        credentials=True,
    )


def _denied(message: str, *, capital: bool = False) -> Refusal:
    return Refusal("AccessDeniedException", message, capital=capital)


def access(kind: str, action: str, resource: str) -> Refusal:
    """Return one of the ways in which Bedrock says that the account may not use a model.

    `action` is the IAM action that the call needs, such as `bedrock:InvokeModel`.
    """
    service = action.partition(":")[0]
    denial = f"User: {CALLER} is not authorized to perform: {action} on resource: {resource}"
    subscription = (
        "Your AWS Marketplace subscription for this model cannot be completed at this time."
    )
    variants = {
        "iam": lambda: _denied(
            f"{denial} because no identity-based policy allows the {action} action",
            capital=True,
        ),
        "iam_deny": lambda: _denied(
            f"{denial} with an explicit deny in an identity-based policy", capital=True
        ),
        "scp": lambda: _denied(
            f"{denial} with an explicit deny in a service control policy: "
            "arn:aws:organizations::210987654321:policy/o-emulator01/service_control_policy/p-emulator1",
            capital=True,
        ),
        "api_key": lambda: _denied(
            f"User: {CALLER} is not authorized to perform: {service}:CallWithBearerToken on "
            "resource: * because no identity-based policy allows the "
            f"{service}:CallWithBearerToken action",
            capital=True,
        ),
        "marketplace": lambda: _denied(
            "Model access is denied due to IAM user or service role is not authorized to perform "
            "the required AWS Marketplace actions (aws-marketplace:ViewSubscriptions, "
            "aws-marketplace:Subscribe) to enable access to this model. Refer to the Amazon "
            f"Bedrock documentation for further details. {subscription} If you recently fixed "
            "this issue, try again after 2 minutes."
        ),
        "payment": lambda: _denied(
            "Model access is denied due to INVALID_PAYMENT_INSTRUMENT:A valid payment instrument "
            f"must be provided.. {subscription} If you recently fixed this issue, try again after "
            "2 minutes."
        ),
        "use_case_form": lambda: Refusal(
            "ResourceNotFoundException",
            "Model use case details have not been submitted for this account. Fill out the "
            "Anthropic use case details form before using the model. If you have already filled "
            "out the form, try again in 15 minutes.",
        ),
        "not_granted": lambda: _denied(
            "You don't have access to the model with the specified model ID."
        ),
        "agreement": lambda: _denied(" Your account does not have an agreement to this model."),
        "account_blocked": lambda: invalid("Operation not allowed"),
        "country": lambda: invalid(
            "Access to Anthropic models is not allowed from unsupported countries, regions, or "
            "territories. Please refer to https://www.anthropic.com/supported-countries for more "
            "information on the countries and regions Anthropic currently supports."
        ),
        "data_retention": lambda: invalid(
            "data retention mode 'default' is not available for this model"
        ),
    }
    return variants[kind]()


ACCESS_KINDS = (
    "iam", "iam_deny", "scp", "api_key", "marketplace", "payment", "use_case_form", "not_granted",
    "agreement", "account_blocked", "country", "data_retention",
)  # fmt: skip

_THROTTLED = {
    "requests": "Too many requests, please wait before trying again. You have sent too many "
    "requests. Wait before trying again.",
    "tokens": "Too many tokens, please wait before trying again.",
    "daily": "Too many tokens per day, please wait before trying again.",
    "zero_quota": "Too many tokens per day, please wait before trying again.",
    "connections": "Too many connections, please wait before trying again.",
}
THROTTLE_KINDS = tuple(_THROTTLED)


def throttled(kind: str) -> Refusal:
    """A throttle; too many connections come as a 503, all others as 429."""
    code = "ServiceUnavailableException" if kind == "connections" else "ThrottlingException"
    return Refusal(code, _THROTTLED[kind])


def service_error(status: int, model_id: str) -> Refusal:
    """A failure of the service or the model: 408, 424, 429 (the model is not ready), 500, 503 or
    529 (overloaded: a 503 of every API but Messages).
    """
    if status == 529:
        return Refusal("ServiceUnavailableException", "Overloaded", overloaded=True)
    if status == 424:
        return Refusal(
            "ModelErrorException",
            "Model produced invalid sequence as part of ToolUse. Please refer to the model tool "
            "use troubleshooting guide.",
            extra={"originalStatusCode": 424, "resourceName": model_id},
        )
    code, message = {
        408: (
            "ModelTimeoutException",
            "Model has timed out in processing the request. Try your request again.",
        ),
        429: (
            "ModelNotReadyException",
            "Model is not ready for inference. Wait and try your request again.",
        ),
        500: (
            "InternalServerException",
            "The system encountered an unexpected error during processing. Try your request again.",
        ),
        503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
    }[status]
    return Refusal(code, message)


def stream_failure(name: str, message: str) -> Refusal:
    """A failure in the middle of a stream, from the name that the native streams give it."""
    return Refusal(name[0].upper() + name[1:], message)


ERROR_STATUSES = (408, 424, 429, 500, 503, 529)
