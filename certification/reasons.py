"""The closed vocabulary of causes: what can be wrong, whose problem it is, whether a retry helps,
which status follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorCategory(StrEnum):
    """The coarse kind of a failure: what the frontends colour by."""

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
    CONTENT_BLOCKED = "CONTENT_BLOCKED"
    QUALITY_ISSUE = "QUALITY_ISSUE"
    UNKNOWN_ERROR = "UNKNOWN_ERROR"


class Owner(StrEnum):
    """Whose problem it is, hence who must act."""

    OURS = "ours"
    ACCOUNT = "account"
    AWS = "aws"
    MODEL = "model"


class Status(StrEnum):
    """The certification statuses, which are the verdicts of a run."""

    NOT_TESTED = "not_tested"
    PENDING = "pending"
    CERTIFIED = "certified"
    QUALITY_WARNING = "quality_warning"
    FAILED = "failed"
    PERMISSION_REQUIRED = "permission_required"
    CONFIGURATION_REQUIRED = "configuration_required"


@dataclass(frozen=True)
class ReasonFacts:
    """What is fixed for a reason. `status` is what a refused access gate leads to; PENDING means no
    verdict about the model.
    """

    category: ErrorCategory
    retryable: bool
    owner: Owner
    status: Status

    @property
    def is_infrastructure(self) -> bool:
        """A trial that ended so says nothing about the model."""
        return self.status == Status.PENDING


class Reason(StrEnum):
    """Why a call brought no usable answer."""

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
    LEGACY_BLOCKED = "legacy_blocked"
    END_OF_LIFE = "end_of_life"
    NOT_IN_REGION = "not_in_region"
    UNKNOWN_MODEL = "unknown_model"
    NOT_ON_BEDROCK_RUNTIME = "not_on_bedrock_runtime"
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


def _facts() -> dict[Reason, ReasonFacts]:
    c, s, o, r = ErrorCategory, Status, Owner, Reason
    table: dict[Reason, ReasonFacts] = {}

    def put(
        category: ErrorCategory,
        owner: Owner,
        status: Status,
        *reasons: Reason,
        retryable: bool = False,
    ) -> None:
        table.update(
            {reason: ReasonFacts(category, retryable, owner, status) for reason in reasons}
        )

    put(
        c.PERMISSION_ERROR,
        o.ACCOUNT,
        s.PERMISSION_REQUIRED,
        r.IAM_DENIED,
        r.SCP_DENIED,
        r.API_KEY_DENIED,
    )
    put(
        c.MODEL_ACCESS,
        o.ACCOUNT,
        s.PERMISSION_REQUIRED,
        r.MARKETPLACE_SUBSCRIPTION,
        r.PAYMENT_INSTRUMENT,
        r.USE_CASE_FORM,
        r.MODEL_ACCESS_NOT_GRANTED,
        r.ENTITLEMENT_MISMATCH,
        r.ACCOUNT_BLOCKED,
        r.COUNTRY_NOT_SUPPORTED,
    )
    put(
        c.UNAVAILABLE,
        o.AWS,
        s.CONFIGURATION_REQUIRED,
        r.LEGACY_BLOCKED,
        r.END_OF_LIFE,
        r.NOT_IN_REGION,
        r.UNKNOWN_MODEL,
        r.NOT_ON_BEDROCK_RUNTIME,
    )
    put(c.UNAVAILABLE, o.ACCOUNT, s.CONFIGURATION_REQUIRED, r.REGION_NOT_ENABLED)
    put(
        c.CONFIGURATION_ERROR,
        o.OURS,
        s.CONFIGURATION_REQUIRED,
        r.NEEDS_INFERENCE_PROFILE,
        r.PARAMETER_NOT_SUPPORTED,
        r.MODALITY_NOT_SUPPORTED,
        r.MALFORMED_REQUEST,
    )
    # our own set-up: no word about the model
    put(c.CONFIGURATION_ERROR, o.OURS, s.PENDING, r.CLIENT_MISCONFIGURED)
    put(
        c.PROVISIONING_REQUIRED, o.ACCOUNT, s.CONFIGURATION_REQUIRED, r.NEEDS_PROVISIONED_THROUGHPUT
    )
    put(
        c.RATE_LIMIT, o.ACCOUNT, s.PENDING, r.THROTTLED_REQUESTS, r.THROTTLED_TOKENS, retryable=True
    )
    put(c.QUOTA_EXCEEDED, o.ACCOUNT, s.PENDING, r.DAILY_TOKENS, r.ZERO_QUOTA)
    put(
        c.AUTHENTICATION_ERROR,
        o.OURS,
        s.PENDING,
        r.CREDENTIALS_MISSING,
        r.CREDENTIALS_INVALID,
        r.CREDENTIALS_EXPIRED,
        r.CLOCK_SKEW,
    )
    put(c.TIMEOUT, o.AWS, s.PENDING, r.READ_TIMEOUT, r.MODEL_TIMEOUT, retryable=True)
    put(c.TIMEOUT, o.OURS, s.PENDING, r.DEADLINE)
    put(c.NETWORK_ERROR, o.OURS, s.PENDING, r.CONNECT_TIMEOUT, r.CONNECTION_REFUSED, retryable=True)
    put(c.NETWORK_ERROR, o.OURS, s.PENDING, r.DNS, r.TLS, r.PROXY)
    put(
        c.SERVICE_ERROR,
        o.AWS,
        s.PENDING,
        r.INTERNAL_ERROR,
        r.SERVICE_UNAVAILABLE,
        r.MODEL_NOT_READY,
        retryable=True,
    )
    put(
        c.SERVICE_ERROR, o.AWS, s.PENDING, r.BAD_RESPONSE, retryable=True
    )  # mostly a proxy's page: no word about the model
    put(
        c.SERVICE_ERROR,
        o.AWS,
        s.FAILED,
        r.MODEL_ERROR,
        r.STREAM_ERROR,
        r.STREAM_TRUNCATED,
        r.STREAM_CORRUPT,
        retryable=True,
    )
    put(c.CONTENT_BLOCKED, o.MODEL, s.FAILED, r.GUARDRAIL, r.CONTENT_FILTER, r.CONTEXT_TOO_LONG)
    put(c.QUALITY_ISSUE, o.MODEL, s.FAILED, r.GATE_FAILED)
    put(c.QUALITY_ISSUE, o.MODEL, s.QUALITY_WARNING, r.QUALITY_BELOW_LINE)
    put(c.UNKNOWN_ERROR, o.OURS, s.PENDING, r.UNKNOWN)
    return table


FACTS = _facts()
