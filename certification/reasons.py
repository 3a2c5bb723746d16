"""The closed vocabulary of causes: what can be wrong, who must act, whether a retry helps, and the
status that follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class ErrorCategory(StrEnum):
    """The coarse kind of a failure, by which frontends choose colours."""

    UNAVAILABLE = "UNAVAILABLE"
    PERMISSION_ERROR = "PERMISSION_ERROR"
    MODEL_ACCESS = "MODEL_ACCESS"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    CONFIGURATION_ERROR = "CONFIGURATION_ERROR"
    PROVISIONING_REQUIRED = "PROVISIONING_REQUIRED"
    RATE_LIMIT = "RATE_LIMIT"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    TIMEOUT = "TIMEOUT"
    NETWORK_ERROR = "NETWORK_ERROR"
    SERVICE_ERROR = "SERVICE_ERROR"
    GATEWAY_ERROR = "GATEWAY_ERROR"
    CONTENT_BLOCKED = "CONTENT_BLOCKED"
    QUALITY_ISSUE = "QUALITY_ISSUE"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    UNKNOWN_ERROR = "UNKNOWN_ERROR"


class Owner(StrEnum):
    """Who must act."""

    OURS = "ours"
    ACCOUNT = "account"
    GATEWAY = "gateway"
    AWS = "aws"
    MODEL = "model"


class Status(StrEnum):
    """The certification statuses, which are also the verdicts of a run."""

    NOT_TESTED = "not_tested"
    PENDING = "pending"
    CERTIFIED = "certified"
    QUALITY_WARNING = "quality_warning"
    FAILED = "failed"
    PERMISSION_REQUIRED = "permission_required"
    CONFIGURATION_REQUIRED = "configuration_required"


@dataclass(frozen=True)
class ReasonFacts:
    """What follows from a reason.

    `status` is the verdict when an access gate ends so; PENDING means no verdict about the model.
    """

    category: ErrorCategory
    retryable: bool
    owner: Owner
    status: Status

    @property
    def is_infrastructure(self) -> bool:
        """Tell whether a trial that ended so is no evidence about the model."""
        return self.status == Status.PENDING


class Reason(StrEnum):
    """Why a call brought no usable response."""

    IAM_DENIED = "iam_denied"
    SCP_DENIED = "scp_denied"
    API_KEY_DENIED = "api_key_denied"
    MARKETPLACE_SUBSCRIPTION = "marketplace_subscription"
    PAYMENT_INSTRUMENT = "payment_instrument"
    USE_CASE_FORM = "use_case_form"
    MODEL_ACCESS_NOT_GRANTED = "model_access_not_granted"
    ENTITLEMENT_MISMATCH = "entitlement_mismatch"
    ACCOUNT_BLOCKED = "account_blocked"
    COUNTRY_NOT_SUPPORTED = "country_not_supported"
    DATA_RETENTION_REQUIRED = "data_retention_required"
    LEGACY_BLOCKED = "legacy_blocked"
    END_OF_LIFE = "end_of_life"
    NOT_IN_REGION = "not_in_region"
    UNKNOWN_MODEL = "unknown_model"
    API_NOT_SUPPORTED = "api_not_supported"
    WRONG_ROUTE = "wrong_route"
    REGION_NOT_ENABLED = "region_not_enabled"
    NEEDS_INFERENCE_PROFILE = "needs_inference_profile"
    NEEDS_PROVISIONED_THROUGHPUT = "needs_provisioned_throughput"
    PARAMETER_NOT_SUPPORTED = "parameter_not_supported"
    MODALITY_NOT_SUPPORTED = "modality_not_supported"
    MALFORMED_REQUEST = "malformed_request"
    CLIENT_MISCONFIGURED = "client_misconfigured"
    THROTTLED_REQUESTS = "throttled_requests"
    THROTTLED_TOKENS = "throttled_tokens"
    DAILY_TOKENS = "daily_tokens"
    ZERO_QUOTA = "zero_quota"
    CREDENTIALS_MISSING = "credentials_missing"
    CREDENTIALS_INVALID = "credentials_invalid"
    CREDENTIALS_EXPIRED = "credentials_expired"
    CLOCK_SKEW = "clock_skew"
    READ_TIMEOUT = "read_timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    MODEL_TIMEOUT = "model_timeout"
    DEADLINE = "deadline"
    DNS = "dns"
    CONNECTION_REFUSED = "connection_refused"
    TLS = "tls"
    PROXY = "proxy"
    GATEWAY_REFUSED = "gateway_refused"
    GATEWAY_THROTTLED = "gateway_throttled"
    INTERNAL_ERROR = "internal_error"
    SERVICE_UNAVAILABLE = "service_unavailable"
    MODEL_NOT_READY = "model_not_ready"
    MODEL_ERROR = "model_error"
    STREAM_ERROR = "stream_error"
    STREAM_TRUNCATED = "stream_truncated"
    STREAM_CORRUPT = "stream_corrupt"
    BAD_RESPONSE = "bad_response"
    GUARDRAIL = "guardrail"
    CONTENT_FILTER = "content_filter"
    CONTEXT_TOO_LONG = "context_too_long"
    GATE_FAILED = "gate_failed"
    QUALITY_BELOW_LINE = "quality_below_line"
    UNEXPECTED_EXCEPTION = "unexpected_exception"
    UNKNOWN = "unknown"

    @property
    def facts(self) -> ReasonFacts:
        return FACTS[self]

    @property
    def category(self) -> ErrorCategory:
        return FACTS[self].category

    @property
    def retryable(self) -> bool:
        return FACTS[self].retryable


_ROWS: tuple[tuple[ErrorCategory, Owner, Status, bool, tuple[Reason, ...]], ...] = (
    (
        ErrorCategory.PERMISSION_ERROR, Owner.ACCOUNT, Status.PERMISSION_REQUIRED, False,
        (Reason.IAM_DENIED, Reason.SCP_DENIED, Reason.API_KEY_DENIED),
    ),
    (
        ErrorCategory.MODEL_ACCESS, Owner.ACCOUNT, Status.PERMISSION_REQUIRED, False,
        (
            Reason.MARKETPLACE_SUBSCRIPTION, Reason.PAYMENT_INSTRUMENT, Reason.USE_CASE_FORM,
            Reason.MODEL_ACCESS_NOT_GRANTED, Reason.ENTITLEMENT_MISMATCH, Reason.ACCOUNT_BLOCKED,
            Reason.COUNTRY_NOT_SUPPORTED, Reason.DATA_RETENTION_REQUIRED,
        ),
    ),
    (
        ErrorCategory.UNAVAILABLE, Owner.AWS, Status.CONFIGURATION_REQUIRED, False,
        (
            Reason.LEGACY_BLOCKED, Reason.END_OF_LIFE, Reason.NOT_IN_REGION, Reason.UNKNOWN_MODEL,
        ),
    ),
    (
        ErrorCategory.UNAVAILABLE, Owner.ACCOUNT, Status.CONFIGURATION_REQUIRED, False,
        (Reason.REGION_NOT_ENABLED,),
    ),
    (
        ErrorCategory.CONFIGURATION_ERROR, Owner.OURS, Status.CONFIGURATION_REQUIRED, False,
        (
            Reason.NEEDS_INFERENCE_PROFILE, Reason.PARAMETER_NOT_SUPPORTED,
            Reason.MODALITY_NOT_SUPPORTED, Reason.MALFORMED_REQUEST, Reason.API_NOT_SUPPORTED,
        ),
    ),
    (  # our own configuration or choice of a route: no verdict about the model
        ErrorCategory.CONFIGURATION_ERROR, Owner.OURS, Status.PENDING, False,
        (Reason.CLIENT_MISCONFIGURED, Reason.WRONG_ROUTE),
    ),
    (
        ErrorCategory.PROVISIONING_REQUIRED, Owner.ACCOUNT, Status.CONFIGURATION_REQUIRED, False,
        (Reason.NEEDS_PROVISIONED_THROUGHPUT,),
    ),
    (
        ErrorCategory.RATE_LIMIT, Owner.ACCOUNT, Status.PENDING, True,
        (Reason.THROTTLED_REQUESTS, Reason.THROTTLED_TOKENS),
    ),
    (
        ErrorCategory.QUOTA_EXCEEDED, Owner.ACCOUNT, Status.PENDING, False,
        (Reason.DAILY_TOKENS, Reason.ZERO_QUOTA),
    ),
    (
        ErrorCategory.AUTHENTICATION_ERROR, Owner.OURS, Status.PENDING, False,
        (
            Reason.CREDENTIALS_MISSING, Reason.CREDENTIALS_INVALID, Reason.CREDENTIALS_EXPIRED,
            Reason.CLOCK_SKEW,
        ),
    ),
    (
        ErrorCategory.TIMEOUT, Owner.AWS, Status.PENDING, True,
        (Reason.READ_TIMEOUT, Reason.MODEL_TIMEOUT),
    ),
    (ErrorCategory.TIMEOUT, Owner.OURS, Status.PENDING, False, (Reason.DEADLINE,)),
    (
        ErrorCategory.NETWORK_ERROR, Owner.OURS, Status.PENDING, True,
        (Reason.CONNECT_TIMEOUT, Reason.CONNECTION_REFUSED),
    ),
    (
        ErrorCategory.NETWORK_ERROR, Owner.OURS, Status.PENDING, False,
        (Reason.DNS, Reason.TLS, Reason.PROXY),
    ),
    (  # something between us and AWS answered in its place: no verdict about the model
        ErrorCategory.GATEWAY_ERROR, Owner.GATEWAY, Status.PENDING, False,
        (Reason.GATEWAY_REFUSED,),
    ),
    (
        ErrorCategory.GATEWAY_ERROR, Owner.GATEWAY, Status.PENDING, True,
        (Reason.GATEWAY_THROTTLED,),
    ),
    (  # BAD_RESPONSE is mostly a proxy's page: no verdict about the model
        ErrorCategory.SERVICE_ERROR, Owner.AWS, Status.PENDING, True,
        (
            Reason.INTERNAL_ERROR, Reason.SERVICE_UNAVAILABLE, Reason.MODEL_NOT_READY,
            Reason.BAD_RESPONSE,
        ),
    ),
    (
        ErrorCategory.SERVICE_ERROR, Owner.AWS, Status.FAILED, True,
        (
            Reason.MODEL_ERROR, Reason.STREAM_ERROR, Reason.STREAM_TRUNCATED,
            Reason.STREAM_CORRUPT,
        ),
    ),
    (
        ErrorCategory.CONTENT_BLOCKED, Owner.MODEL, Status.FAILED, False,
        (Reason.CONTENT_FILTER, Reason.CONTEXT_TOO_LONG),
    ),
    (  # the account's or its organization's: it blocks every model alike
        ErrorCategory.CONTENT_BLOCKED, Owner.ACCOUNT, Status.CONFIGURATION_REQUIRED, False,
        (Reason.GUARDRAIL,),
    ),
    (ErrorCategory.QUALITY_ISSUE, Owner.MODEL, Status.FAILED, False, (Reason.GATE_FAILED,)),
    (
        ErrorCategory.QUALITY_ISSUE, Owner.MODEL, Status.QUALITY_WARNING, False,
        (Reason.QUALITY_BELOW_LINE,),
    ),
    (  # our own program failed
        ErrorCategory.INTERNAL_ERROR, Owner.OURS, Status.PENDING, False,
        (Reason.UNEXPECTED_EXCEPTION,),
    ),
    (ErrorCategory.UNKNOWN_ERROR, Owner.OURS, Status.PENDING, False, (Reason.UNKNOWN,)),
)  # fmt: skip

FACTS: dict[Reason, ReasonFacts] = {
    reason: ReasonFacts(category, retryable, owner, status)
    for category, owner, status, retryable, reasons in _ROWS
    for reason in reasons
}

# How an answer ends whose model was not hindered, in Converse's words; Messages pauses for a tool
# of the service.
ORDINARY_STOPS = frozenset({"end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn"})
# What the words of any other stop reason say, the first that matches. Those of Bedrock:
# guardrail_intervened, content_filtered, refusal, malformed_tool_use, malformed_model_output,
# model_context_window_exceeded; vendors bring their own (safety, recitation, error, overloaded).
_STOP_WORDS: tuple[tuple[str, Reason], ...] = (
    (r"guardrail", Reason.GUARDRAIL),
    (
        r"filter|refus|safety|sensitive|prohibit|block|toxic|recitation|moderat|polic|spii",
        Reason.CONTENT_FILTER,
    ),
    (r"context|window|too_long", Reason.CONTEXT_TOO_LONG),
    (r"overload|unavailab|insufficient|resource|capacity", Reason.SERVICE_UNAVAILABLE),
    (r"time_?d?_?out|deadline", Reason.MODEL_TIMEOUT),
    (r"malformed|invalid|error|abort", Reason.MODEL_ERROR),
)


def stop_cause(stop_reason: str) -> Reason | None:
    """Return what hindered an answer that ended for this reason; None for an ordinary end.

    A name that says nothing to us is UNKNOWN, never a guess.
    """
    if not stop_reason or stop_reason in ORDINARY_STOPS:
        return None
    named = (reason for words, reason in _STOP_WORDS if re.search(words, stop_reason.lower()))
    return next(named, Reason.UNKNOWN)
