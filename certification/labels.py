"""Labels for people: a symbol, a colour and a label for each status, labels for all else."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from certification.reasons import ErrorCategory, Owner, Reason, Status


@dataclass(frozen=True)
class Sign:
    """How a status is shown: on pages, on badges, in the terminal.

    `colour` is one of `badges.svg.PAINTS`. It is never the only sign: the symbol alone must do.
    """

    symbol: str
    colour: str
    label: str | Promise


STATUSES: dict[str, Sign] = {
    Status.CERTIFIED: Sign("✓", "green", pgettext_lazy("status", "certified")),
    Status.QUALITY_WARNING: Sign("!", "yellow", pgettext_lazy("status", "quality warning")),
    Status.FAILED: Sign("✕", "red", pgettext_lazy("status", "failed")),
    Status.PERMISSION_REQUIRED: Sign("⊘", "orange", pgettext_lazy("status", "permission required")),
    Status.CONFIGURATION_REQUIRED: Sign(
        "◇", "orange", pgettext_lazy("status", "configuration required")
    ),
    Status.PENDING: Sign("…", "blue", pgettext_lazy("status", "pending")),
    Status.NOT_TESTED: Sign("○", "grey", pgettext_lazy("status", "not tested")),
}
RUNNING = Sign("↻", "blue", pgettext_lazy("status", "running"))
EXPIRED = Sign("◷", "grey", pgettext_lazy("status", "expired"))
EXPIRING = Sign("◷", "grey", pgettext_lazy("status", "expires within 7 days"))

SEVERITIES: dict[str, Sign] = {
    "critical": Sign("✕", "red", pgettext_lazy("severity", "critical")),
    "warning": Sign("!", "yellow", pgettext_lazy("severity", "warning")),
    "info": Sign("i", "blue", pgettext_lazy("severity", "info")),
}

# The months as they are written within a date. Django takes its own from the same texts, whose
# Portuguese would begin with a capital.
MONTHS: tuple[str | Promise, ...] = (
    _("January"), _("February"), _("March"), _("April"), _("May"), _("June"), _("July"),
    _("August"), _("September"), _("October"), _("November"), _("December"),
)  # fmt: skip

# A run without a verdict, by its state.
RUN_STATES: dict[str, Sign] = {
    "PENDING": Sign("…", "blue", pgettext_lazy("run", "waiting")),
    "QUEUED": Sign("…", "blue", pgettext_lazy("run", "waiting")),
    "PROCESSING": Sign("↻", "blue", pgettext_lazy("run", "running")),
    "COMPLETED": Sign("✓", "grey", pgettext_lazy("run", "finished")),
    "FAILED": Sign("✕", "red", pgettext_lazy("run", "no verdict")),
    "CANCELLED": Sign("–", "grey", pgettext_lazy("run", "cancelled")),
}

# Proper names, the same in every language.
APIS: dict[str, str] = {
    "converse": "Converse",
    "invoke": "InvokeModel",
    "chat_completions": "Chat Completions",
    "responses": "Responses",
    "messages": "Messages",
}

CASE_VERDICTS: dict[str, Sign] = {
    "passed": Sign("✓", "green", pgettext_lazy("case", "passed")),
    "failed": Sign("✕", "red", pgettext_lazy("case", "failed")),
    "flaky": Sign("!", "yellow", pgettext_lazy("case", "flaky")),
    "invalid": Sign("…", "grey", pgettext_lazy("case", "invalid")),
    "skipped": Sign("○", "grey", pgettext_lazy("case", "skipped")),
}

CASE_CATEGORIES: dict[str, str | Promise] = {
    "tools": _("tools"),
    "json": "JSON",
    "instructions": _("instructions"),
    "portuguese": _("Portuguese"),
    "streaming": _("streaming"),
    "context": _("long context"),
    "reasoning": _("reasoning"),
    "vision": _("vision"),
    "contract": _("gates"),
    "latency": _("speed"),
    "determinism": _("same answer again"),
    "embedding": _("embeddings"),
}

# The parts of a score, by the names of the judgement's figures.
SCORE_PARTS: dict[str, str | Promise] = {
    "quality": _("quality of answers"),
    "contract": _("gates"),
    "performance": _("speed"),
    "reliability": _("reliability"),
}

CAPABILITIES: dict[str, str | Promise] = {
    "chat": _("chat"),
    "system": _("system prompts"),
    "tools": _("tools"),
    "streaming": _("streaming"),
    "streaming_tools": _("tools while streaming"),
    "vision": _("images"),
    "documents": _("documents"),
    "reasoning": _("reasoning"),
    "stop_sequences": _("stop sequences"),
    "structured_output": _("structured output"),
    "embedding": _("embeddings"),
}

# What people outside are told of a status, by the names of `web.public_model.PublicState`.
PUBLIC_STATES: dict[str, Sign] = {
    "works": Sign("✓", "green", pgettext_lazy("public", "works")),
    "limited": Sign("!", "yellow", pgettext_lazy("public", "works, with weaknesses")),
    "unavailable": Sign("✕", "red", pgettext_lazy("public", "not available here")),
    "unknown": Sign("○", "grey", pgettext_lazy("public", "not known yet")),
}

SPEEDS: dict[str, str | Promise] = {
    "fast": pgettext_lazy("speed", "fast"),
    "moderate": pgettext_lazy("speed", "of moderate speed"),
    "slow": pgettext_lazy("speed", "slow"),
}

# Where a route's answers come from.
RESIDENCIES: dict[str, str | Promise] = {
    "in_region": _("in the region"),
    "in_geography": _("in the geography"),
    "global": _("anywhere in the world"),
}

# Where points of a score are lost, by the names of `suite.losses`; categories are above.
LOSSES: dict[str, str | Promise] = {
    "gates": _("gates"),
    "ttft_ms": _("time to the first token"),
    "tokens_per_second": _("output speed"),
    "calls": _("failed calls"),
}
CAPS: dict[str, str | Promise] = {
    "quick_tier": _("a quick run gives at most %(limit)d"),
    "flaky_gate": _("at most %(limit)d where a gate needs a second try"),
    "parity": _("at most %(limit)d where another region can do more"),
    "failed_gate": _("at most %(limit)d where a gate failed"),
    "whole_points": _("scores are whole points, never rounded up"),
}
CONDITIONS: dict[str, str | Promise] = {
    "judged": _("Enough of what was planned could be judged"),
    "gates": _("No gate failed"),
    "score": _("The score reaches the line"),
    "lower_bound": _("The quality is certain enough: its lower bound reaches the line"),
    "category": _("Enough trials pass in: %(subject)s"),
    "flaky_gates": _("Gates pass at the first try, but for the few allowed"),
    "parity": _("It can do here what it can do in other regions"),
    "declared": _("It can do here what the catalogue says that it can"),
    "usable_quality": _("The quality is high enough for any use at all"),
    "usable_category": _("Enough for any use at all: %(subject)s"),
}

# The same where they are not met: why there is no certificate.
UNMET: dict[str, str | Promise] = {
    "judged": _("Only %(figure)s of the planned trials could be judged; %(line)s are needed."),
    "gates": _("Gates that failed: %(cases)s."),
    "score": _("The score %(figure)s is below %(line)s."),
    "lower_bound": _("The lower bound %(figure)s of the quality is below %(line)s."),
    "category": _("Of the trials in %(subject)s, %(figure)s pass; %(line)s are needed."),
    "flaky_gates": _("Gates that passed only on a second try: %(cases)s."),
    "parity": _("It can do less here than in a reference region. %(subject)s"),
    "declared": _(
        "The catalogue says that it can do this, and the service refused it: %(subject)s."
    ),
    "usable_quality": _("The quality %(figure)s is below %(line)s, too low for any use."),
    "usable_category": _(
        "Of the trials in %(subject)s, %(figure)s pass: below %(line)s, too few for any use."
    ),
}

OWNERS: dict[str, str | Promise] = {
    Owner.OURS: _("us"),
    Owner.ACCOUNT: _("the AWS account"),
    Owner.GATEWAY: _("the gateway's owner"),
    Owner.AWS: _("AWS"),
    Owner.MODEL: _("the model"),
}

# Who must act on a fix, by the word that is stored with it (see `bedrock.fixes`).
DOERS: dict[str, str | Promise] = {
    "operator": _("operator"),
    "AWS account administrator": _("AWS account administrator"),
    "AWS organization administrator": _("AWS organization administrator"),
    "network administrator": _("network administrator"),
    "gateway owner": _("gateway owner"),
    "AWS Support, asked by the account administrator": _(
        "AWS Support, asked by the account administrator"
    ),
    "nobody": _("nobody"),
}

CATEGORIES: dict[str, str | Promise] = {
    ErrorCategory.UNAVAILABLE: _("unavailable"),
    ErrorCategory.PERMISSION_ERROR: _("permission"),
    ErrorCategory.MODEL_ACCESS: _("model access"),
    ErrorCategory.AUTHENTICATION_ERROR: _("authentication"),
    ErrorCategory.CONFIGURATION_ERROR: _("configuration"),
    ErrorCategory.PROVISIONING_REQUIRED: _("provisioning required"),
    ErrorCategory.RATE_LIMIT: _("rate limit"),
    ErrorCategory.QUOTA_EXCEEDED: _("quota exceeded"),
    ErrorCategory.TIMEOUT: _("timeout"),
    ErrorCategory.NETWORK_ERROR: _("network"),
    ErrorCategory.SERVICE_ERROR: _("service error"),
    ErrorCategory.GATEWAY_ERROR: _("gateway"),
    ErrorCategory.CONTENT_BLOCKED: _("content blocked"),
    ErrorCategory.QUALITY_ISSUE: _("quality"),
    ErrorCategory.INTERNAL_ERROR: _("internal error"),
    ErrorCategory.UNKNOWN_ERROR: _("unknown error"),
}

REASONS: dict[str, str | Promise] = {
    Reason.IAM_DENIED: _("denied by an IAM policy"),
    Reason.SCP_DENIED: _("denied by an organization policy"),
    Reason.API_KEY_DENIED: _("API key denied"),
    Reason.MARKETPLACE_SUBSCRIPTION: _("Marketplace subscription missing"),
    Reason.PAYMENT_INSTRUMENT: _("payment method missing or refused"),
    Reason.USE_CASE_FORM: _("use case form not submitted"),
    Reason.MODEL_ACCESS_NOT_GRANTED: _("model access not granted"),
    Reason.ENTITLEMENT_MISMATCH: _("account not entitled to the model"),
    Reason.ACCOUNT_BLOCKED: _("account blocked"),
    Reason.COUNTRY_NOT_SUPPORTED: _("country not supported"),
    Reason.LEGACY_BLOCKED: _("legacy model, blocked for this account"),
    Reason.END_OF_LIFE: _("model retired"),
    Reason.NOT_IN_REGION: _("not available in this region"),
    Reason.UNKNOWN_MODEL: _("model unknown to Bedrock"),
    Reason.API_NOT_SUPPORTED: _("not served by this API"),
    Reason.WRONG_ROUTE: _("called by a wrong route"),
    Reason.DATA_RETENTION_REQUIRED: _("needs another data retention mode"),
    Reason.REGION_NOT_ENABLED: _("region not enabled in the account"),
    Reason.NEEDS_INFERENCE_PROFILE: _("needs an inference profile"),
    Reason.NEEDS_PROVISIONED_THROUGHPUT: _("needs provisioned throughput"),
    Reason.PARAMETER_NOT_SUPPORTED: _("parameter not supported"),
    Reason.MODALITY_NOT_SUPPORTED: _("modality not supported"),
    Reason.MALFORMED_REQUEST: _("malformed request"),
    Reason.CLIENT_MISCONFIGURED: _("our client is misconfigured"),
    Reason.THROTTLED_REQUESTS: _("too many requests"),
    Reason.THROTTLED_TOKENS: _("too many tokens"),
    Reason.DAILY_TOKENS: _("daily token quota used up"),
    Reason.ZERO_QUOTA: _("quota is zero"),
    Reason.CREDENTIALS_MISSING: _("AWS credentials missing"),
    Reason.CREDENTIALS_INVALID: _("AWS credentials invalid"),
    Reason.CREDENTIALS_EXPIRED: _("AWS credentials expired"),
    Reason.CLOCK_SKEW: _("wrong system clock"),
    Reason.READ_TIMEOUT: _("no answer in time"),
    Reason.CONNECT_TIMEOUT: _("no connection in time"),
    Reason.MODEL_TIMEOUT: _("model took too long"),
    Reason.DEADLINE: _("the run's time limit was reached"),
    Reason.DNS: _("host name not found"),
    Reason.CONNECTION_REFUSED: _("connection refused"),
    Reason.TLS: _("TLS failure"),
    Reason.PROXY: _("proxy failure"),
    Reason.GATEWAY_REFUSED: _("refused by a gateway before AWS"),
    Reason.GATEWAY_THROTTLED: _("a gateway's own limit reached"),
    Reason.INTERNAL_ERROR: _("internal AWS error"),
    Reason.SERVICE_UNAVAILABLE: _("service unavailable"),
    Reason.MODEL_NOT_READY: _("model not ready"),
    Reason.MODEL_ERROR: _("model error"),
    Reason.STREAM_ERROR: _("error inside the stream"),
    Reason.STREAM_TRUNCATED: _("stream cut short"),
    Reason.STREAM_CORRUPT: _("stream corrupted"),
    Reason.BAD_RESPONSE: _("unreadable response"),
    Reason.GUARDRAIL: _("blocked by a guardrail"),
    Reason.CONTENT_FILTER: _("blocked by a content filter"),
    Reason.CONTEXT_TOO_LONG: _("context too long"),
    Reason.GATE_FAILED: _("a gate failed"),
    Reason.QUALITY_BELOW_LINE: _("quality below the requirement"),
    Reason.UNEXPECTED_EXCEPTION: _("fault in our own program"),
    Reason.UNKNOWN: _("unknown cause"),
}


def of_choice(choices: type[TextChoices], value: str) -> str:
    """Return the label of a stored value; the value itself where it is none of the choices."""
    return str(choices(value).label) if value in choices.values else value


def counted(status: str, n: int) -> str:
    """Say how many have a status: "3 certified". The label has no plural form; a language that
    needs one sets the number apart.
    """
    return gettext("%(n)d %(status)s") % {"n": n, "status": STATUSES[status].label}
